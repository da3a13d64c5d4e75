//! The tables of the decision over BPF maps.

use core::ffi::c_void;

use aya_ebpf::bindings::{bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1 as Tuple};
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skb_load_bytes, bpf_skc_lookup_tcp, bpf_xdp_load_bytes,
};
use firewall_common::decide::{CLASS_SLOTS, Head, Search, Socket, Tables};
use firewall_common::fragments::DatagramSet;
use firewall_common::image::{Field, GROUPS, Image, LINE_WORDS, Line, Record};
use firewall_common::layout::{Connection, FlowKey};
use firewall_common::packet::Packet;
use firewall_common::{Address, Direction};

use crate::{cookies, maps, search, signatures};

/// The maps, the context for the socket lookup, and what a frame counts for.
pub struct Maps {
    pub context: *mut c_void,
    /// How many packets the frame becomes on the wire.
    pub packets: u32,
    /// Bytes on the wire beyond the frame's length: the headers of all packets but the first.
    pub further_bytes: u32,
    pub image: Words,
    /// A word of this CPU's scratch memory.
    pub cell: *mut u64,
    /// Whose scratch memory that is.
    pub owner: Direction,
    /// Classes of the packet's fields, likewise.
    pub classes: *mut [u32; CLASS_SLOTS],
    pub heads: *mut [Head; GROUPS],
}

impl Image for Maps {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.image.line(index)
    }

    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        self.image.word(index)
    }
}

/// The memory of the image.
#[derive(Clone, Copy)]
pub struct Words {
    first: *const u64,
    /// A number that the verifier knows.
    lines: u64,
}

impl Words {
    /// The image; there always is one.
    #[inline(always)]
    pub fn new() -> Option<Self> {
        Some(Self {
            first: maps::IMAGE.get_ptr(0)?.cast(),
            lines: maps::IMAGE_LINES.load() as u64,
        })
    }
}

impl Image for Words {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        let index = index as u64;
        if index >= self.lines {
            return None;
        }
        // SAFETY: the image has so many lines, which the verifier proves again; nobody writes it.
        Some(unsafe { &*self.first.cast::<Line>().add(index as usize) })
    }

    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        let index = index as u64;
        // Past the end the first word is read, which is 0: after the read, the verifier cannot tell one
        // from the other and follows both ways as one.
        let within = index < self.lines * LINE_WORDS as u64;
        let index = if within { index } else { 0 };
        // SAFETY: as above.
        unsafe { *self.first.add(index as usize) }
    }
}

/// A word of the image, for loops: a global function, which the verifier walks through once and by
/// itself. (64 turns with the lookup written out in each came near its limit on Linux 6.1.)
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_image_word(index: u64) -> u64 {
    match Words::new() {
        Some(words) => words.word(index as u32),
        None => 0,
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn constant(&self, direction: Direction, index: usize) -> u32 {
        maps::constants(direction).get(index)
    }

    #[inline(always)]
    fn with_connection<R>(
        &mut self,
        key: &FlowKey,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Option<R> {
        let connection = maps::CONNECTION_TABLE.get_ptr_mut(key)?;
        // SAFETY: the entry's memory stays while the program runs. Another CPU may write the same
        // fields, or the table may give the entry to another connection meanwhile: each field is one
        // aligned word, and at worst a connection is taken for a little younger or older.
        Some(change(unsafe { &mut *connection }))
    }

    #[inline(always)]
    fn insert_connection(&mut self, key: &FlowKey, connection: Connection) {
        if maps::CONNECTION_TABLE.insert(key, connection, 0).is_err()
            && let Some(health) = maps::HEALTH.get_ptr_mut(0)
        {
            // SAFETY: this CPU's own entry.
            unsafe { (*health).connections_refused += 1 };
        }
    }

    #[inline(always)]
    fn datagrams(&mut self, set: u32) -> Option<&mut DatagramSet> {
        // SAFETY: the map's memory stays. Other CPUs write it as well: see `fragments::remember`.
        maps::DATAGRAMS
            .get_ptr_mut(set)
            .map(|set| unsafe { &mut *set })
    }

    #[inline(always)]
    fn socket(&self, key: &FlowKey) -> Socket {
        if maps::REPLAY.load() != 0 {
            return Socket::None;
        }
        let mut tuple: bpf_sock_tuple = empty_tuple();
        let size = if key.remote.is_v4() {
            // SAFETY: writing a union's field.
            let v4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
            v4.saddr = key.remote.as_v4().to_be();
            v4.daddr = key.local.as_v4().to_be();
            v4.sport = key.remote_port.to_be();
            v4.dport = key.local_port.to_be();
            12
        } else {
            // SAFETY: writing a union's field.
            let v6 = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
            v6.saddr = words(key.remote.high, key.remote.low);
            v6.daddr = words(key.local.high, key.local.low);
            v6.sport = key.remote_port.to_be();
            v6.dport = key.local_port.to_be();
            36
        };
        // SAFETY: the context is this program's; a socket that is found is released below.
        unsafe {
            let socket =
                bpf_skc_lookup_tcp(self.context, &raw mut tuple, size, CURRENT_NAMESPACE, 0);
            if socket.is_null() {
                return Socket::None;
            }
            let state = (*socket).state;
            bpf_sk_release(socket.cast());
            match state {
                TCP_LISTEN => cookies::standing(self.context, key.local_port),
                TCP_NEW_SYN_RECV | TCP_SYN_RECV => Socket::Opening,
                _ => Socket::Established,
            }
        }
    }

    #[inline(always)]
    fn approach(&self, index: u32) {
        let words = self.image;
        let index = index as u64;
        if index < words.lines * LINE_WORDS as u64 {
            // SAFETY: a word of the image, as in `word`; what it says does not matter.
            unsafe { words.first.add(index as usize).read_volatile() };
        }
    }

    #[inline(always)]
    fn far_word(&self, index: u32) -> u64 {
        palisade_image_word(index as u64)
    }

    #[inline(always)]
    fn far_class(&self, table: u32, v6: bool, address: Address) -> u32 {
        let which = (v6 as u64) << 32 | table as u64;
        search::palisade_class(which, address.high, address.low) as u32
    }

    #[inline(always)]
    fn rows(&self, direction: Direction, index: u32) -> u64 {
        let owner = self.owner as u64;
        search::palisade_rows(owner, direction as u64, index as u64)
    }

    #[inline(always)]
    fn meet(&mut self, search: &Search<'_>, rule: u32) -> Record {
        search::meet_apart(search, rule, self)
    }

    #[inline(always)]
    fn walk(&mut self, search: &Search<'_>) -> Record {
        search::walk_apart(search, self)
    }

    #[inline(always)]
    fn opaque(&mut self, value: u64) -> u64 {
        // SAFETY: the cell is this CPU's own, within a map's value.
        unsafe {
            self.cell.write_volatile(value);
            self.cell.read_volatile()
        }
    }

    #[inline(always)]
    fn bytes(&mut self, direction: Direction, offset: u32, length: u32) -> Option<[u64; 2]> {
        let mut bytes = [0_u64; 2];
        let buffer = (&raw mut bytes).cast::<c_void>();
        // SAFETY: the context is this program's, XDP's on the way in and tc's on the way out; at most
        // 16 bytes are written, which the verifier proves again.
        let failed = unsafe {
            match direction {
                Direction::Inbound => {
                    bpf_xdp_load_bytes(self.context.cast(), offset, buffer, length)
                }
                Direction::Outbound => bpf_skb_load_bytes(self.context, offset, buffer, length),
            }
        };
        (failed == 0).then(|| bytes.map(u64::from_be))
    }

    #[inline(always)]
    fn signatures(&self) -> u64 {
        signatures::state()
    }

    #[inline(always)]
    fn signature(&mut self, _packet: &Packet, now: u64, payload: [u64; 2], length: u32) -> u32 {
        let [first, second] = payload;
        signatures::palisade_signature(now, first, second, length as u64) as u32
    }

    #[inline(always)]
    fn set_class(&mut self, field: Field, class: u32) {
        // SAFETY: this CPU's own, within a map's value.
        unsafe { (*self.classes)[field as usize & (CLASS_SLOTS - 1)] = class };
    }

    #[inline(always)]
    fn class(&self, field: usize) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.classes)[field & (CLASS_SLOTS - 1)] }
    }

    #[inline(always)]
    fn set_head(&mut self, group: usize, head: Head) {
        // SAFETY: as above.
        unsafe { (*self.heads)[group & (GROUPS - 1)] = head };
    }

    #[inline(always)]
    fn head(&self, group: usize) -> Head {
        // SAFETY: as above.
        unsafe { (*self.heads)[group & (GROUPS - 1)] }
    }

    #[inline(always)]
    fn hit(&mut self, counter: u32, bytes: u32) {
        if let Some(entry) = maps::of_rule(&maps::RULE_HITS, counter) {
            // SAFETY: this CPU's own entry.
            let entry = unsafe { &mut *entry };
            entry.packets += self.packets as u64;
            entry.bytes += bytes as u64 + self.further_bytes as u64;
        }
    }

    #[inline(always)]
    fn over_limit(&mut self, counter: u32, bytes: u32) {
        if let Some(entry) = maps::of_rule(&maps::LIMITED, counter) {
            // SAFETY: this CPU's own entry.
            let entry = unsafe { &mut *entry };
            entry.packets += self.packets as u64;
            entry.bytes += bytes as u64 + self.further_bytes as u64;
        }
    }
}

pub const CURRENT_NAMESPACE: u64 = -1_i64 as u64;
// States of include/net/tcp_states.h.
const TCP_SYN_RECV: u32 = 3;
pub const TCP_LISTEN: u32 = 10;
const TCP_NEW_SYN_RECV: u32 = 12;

#[inline(always)]
const fn words(high: u64, low: u64) -> [u32; 4] {
    [
        ((high >> 32) as u32).to_be(),
        (high as u32).to_be(),
        ((low >> 32) as u32).to_be(),
        (low as u32).to_be(),
    ]
}

#[inline(always)]
const fn empty_tuple() -> bpf_sock_tuple {
    const ZERO: bpf_sock_tuple = bpf_sock_tuple {
        __bindgen_anon_1: Tuple {
            ipv6: aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
                saddr: [0; 4],
                daddr: [0; 4],
                sport: 0,
                dport: 0,
            },
        },
    };
    ZERO
}
