//! What the decision asks of the tables, and what of itself it lets them have done elsewhere: the kernel
//! program has functions for what would take the verifier far if it were written out where it is asked for.

use super::{Head, Search, Socket, Step, rows};
use crate::bans::Bans;
use crate::fragments::DatagramSet;
use crate::image::{self, Image, Record};
use crate::layout::{Connection, FlowKey};
use crate::limit::Limits;
use crate::packet::Packet;
use crate::{Address, Direction};

/// What the decision reads and writes beside the packet.
pub trait Tables: Image + Bans + Limits {
    /// A constant of a direction's rule set (see [`image::constant`]); known when the program is loaded.
    fn constant(&self, direction: Direction, index: usize) -> u32;

    /// Reads and changes a connection in place.
    fn with_connection<R>(
        &mut self,
        key: &FlowKey,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Option<R>;

    /// Enters a connection.
    fn insert_connection(&mut self, key: &FlowKey, connection: Connection);

    /// What socket the host has for this TCP connection. An answer costs a lookup in the kernel's
    /// socket table.
    fn socket(&self, key: &FlowKey) -> Socket;

    /// The bytes of the frame from `offset` on, big-endian and the first uppermost; what is behind
    /// `length`, which is 1 to 16, does not matter. `None` when they are not all there. Not only the
    /// part of the frame that the parser reaches.
    fn bytes(&mut self, direction: Direction, offset: u32, length: u32) -> Option<[u64; 2]>;

    /// Keeps the class of a field of the packet in hand, for [`Self::class`].
    fn set_class(&mut self, field: image::Field, class: u32);

    /// The class of the field of this number; what it is without [`Self::set_class`] is not defined.
    fn class(&self, field: usize) -> u32;

    /// Keeps where a group of rules stands while chains are followed.
    fn set_head(&mut self, group: usize, head: Head);

    /// Where a group stands, as [`Self::set_head`] was told.
    fn head(&self, group: usize) -> Head;

    /// Datagrams of which the first fragment was let through, by the number of a set.
    fn datagrams(&mut self, set: u32) -> Option<&mut DatagramSet>;

    /// Counts a packet for a rule.
    fn hit(&mut self, counter: u32, bytes: u32);

    /// Counts a packet over a rule's limit.
    fn over_limit(&mut self, counter: u32, bytes: u32);

    /// Begins to fetch a word of the image that will be read: the processor goes on meanwhile.
    #[inline(always)]
    fn approach(&self, _index: u32) {}

    /// A word of the image, read in a loop of many turns. The kernel program asks a function for it,
    /// which the verifier walks through once; that costs a call.
    #[inline(always)]
    fn far_word(&self, index: u32) -> u64 {
        self.word(index)
    }

    /// The class of an address of a family by a table whose trees are high (see
    /// [`crate::address_table::is_high`]). The kernel program has a function for it, as above.
    #[inline(always)]
    fn far_class(&self, table: u32, v6: bool, address: Address) -> u32 {
        if v6 {
            image::row_v6(self, table, address)
        } else {
            image::row_v4(self, table, address.as_v4())
        }
    }

    /// The AND of word `index` of the rows that a bit matrix has for the packet in hand, for
    /// [`Search::walk`]: likewise.
    #[inline(always)]
    fn rows(&self, direction: Direction, index: u32) -> u64
    where
        Self: Sized,
    {
        rows(direction, index, self)
    }

    /// See [`Search::meet`]: likewise.
    #[inline(always)]
    fn meet(&mut self, search: &Search<'_>, rule: u32) -> Record
    where
        Self: Sized,
    {
        search.meet(rule, self)
    }

    /// See [`Search::look_up`]: likewise.
    #[inline(always)]
    fn look_up(&mut self, search: &Search<'_>) -> Record
    where
        Self: Sized,
    {
        search.look_up(self)
    }

    /// See [`Search::walk`]: likewise.
    #[inline(always)]
    fn walk(&mut self, search: &Search<'_>) -> Record
    where
        Self: Sized,
    {
        search.walk(self)
    }

    /// The value itself, as something that nothing is known about. The kernel program makes the
    /// verifier forget what it is, so that each turn of a loop looks the same.
    #[inline(always)]
    fn opaque(&mut self, value: u64) -> u64 {
        value
    }

    /// What there is of signatures: [`crate::signature::SignatureTable::state`].
    #[inline(always)]
    fn signatures(&self) -> u64 {
        0
    }

    /// The place of the signature that an inbound packet fits, or [`crate::signature::SLOTS`]. Of the payload,
    /// `length` bytes are at hand.
    #[inline(always)]
    fn signature(&mut self, _packet: &Packet, _now: u64, _payload: [u64; 2], _length: u32) -> u32 {
        crate::signature::SLOTS as u32
    }

    /// Told of each step, for `explain`; the kernel program leaves this empty.
    #[inline(always)]
    fn step(&mut self, _step: Step) {}
}
