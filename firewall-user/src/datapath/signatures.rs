//! The places of signatures, written through the map's memory: in force with the next packet.

use std::sync::atomic::{Ordering, fence};

use anyhow::bail;
use aya::maps::Map;
use firewall_common::signature::{Conditions, SLOTS, Signature, SignatureTable};
use memmap2::MmapMut;

use super::object;

/// The table's memory.
#[derive(Debug)]
pub struct SignatureSlots(MmapMut);

impl SignatureSlots {
    pub(super) fn of(map: Map) -> anyhow::Result<Self> {
        let Map::Array(table) = map else {
            bail!("map SIGNATURES is no array");
        };
        let length = size_of::<SignatureTable>();
        Ok(Self(object::map_memory(&table, length)?))
    }

    /// What stands in the places.
    pub fn read(&self) -> SignatureTable {
        // SAFETY: the memory is as large, and any bytes are a table. The kernel does not write it.
        #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
        unsafe {
            self.0.as_ptr().cast::<SignatureTable>().read_volatile()
        }
    }

    /// Puts a signature in force until `until` on the packet clock. The place must have been empty
    /// for longer than a packet is judged, or that packet may see a mixture.
    pub fn put(&mut self, slot: usize, id: u64, conditions: Conditions, until: u64) {
        self.write(slot, |place| {
            // The time comes last: before it the place is empty.
            place(Part::Conditions(conditions));
            place(Part::Id(id));
            place(Part::Until(until));
        });
        self.note_state();
    }

    /// Changes how long a signature is in force; 0 empties its place.
    pub fn last(&mut self, slot: usize, until: u64) {
        self.write(slot, |place| place(Part::Until(until)));
        self.note_state();
    }

    /// Tells the packet path what there is to look at.
    fn note_state(&mut self) {
        let state = self.read().needed_state();
        let table = self.0.as_mut_ptr().cast::<SignatureTable>();
        fence(Ordering::SeqCst);
        // SAFETY: an aligned word of the mapped memory.
        #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
        unsafe {
            (&raw mut (*table).state).write_volatile(state);
        }
    }

    fn write(&mut self, slot: usize, parts: impl FnOnce(&dyn Fn(Part))) {
        assert!(slot < SLOTS, "a place of the table");
        let table = self.0.as_mut_ptr().cast::<SignatureTable>();
        parts(&|part| {
            fence(Ordering::SeqCst);
            // SAFETY: within the mapped memory, which is aligned to a page.
            #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
            unsafe {
                let place: *mut Signature = &raw mut (*table).slots[slot];
                match part {
                    Part::Conditions(value) => (&raw mut (*place).conditions).write_volatile(value),
                    Part::Id(value) => (&raw mut (*place).id).write_volatile(value),
                    Part::Until(value) => (&raw mut (*place).until).write_volatile(value),
                }
            }
        });
    }
}

/// A part of a place that is written at once.
enum Part {
    Conditions(Conditions),
    Id(u64),
    Until(u64),
}
