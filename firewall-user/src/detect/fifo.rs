//! A map of bounded size in which the oldest entry makes room for the newest.

use std::collections::VecDeque;
use std::hash::Hash;

use super::hashed::HashMap;

/// Entries by key, in the order in which they were entered.
#[derive(Debug)]
pub(super) struct Fifo<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    /// Keys with the number of their entry; those of entries that are gone stay until they reach the
    /// front, or are too many.
    order: VecDeque<(u64, K)>,
    next: u64,
}

impl<K: Copy + Eq + Hash, V> Fifo<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            entries: HashMap::default(),
            order: VecDeque::new(),
            next: 0,
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Enters a value as the newest one, in place of the one that the key had. The oldest is forgotten
    /// when there is no room.
    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.pop_if(|_| true);
        }
        if self.order.len() >= self.capacity * 2 {
            let entries = &self.entries;
            self.order
                .retain(|(number, key)| entries.get(key).is_some_and(|(own, _)| own == number));
        }
        self.next += 1;
        self.entries.insert(key, (self.next, value));
        self.order.push_back((self.next, key));
    }

    /// Takes out the oldest entry if it is `over`.
    pub fn pop_if(&mut self, over: impl FnOnce(&V) -> bool) -> Option<(K, V)> {
        while let Some(&(number, key)) = self.order.front() {
            match self.entries.get(&key) {
                Some((own, value)) if *own == number => {
                    if !over(value) {
                        return None;
                    }
                    self.order.pop_front();
                    return self.entries.remove(&key).map(|(_, value)| (key, value));
                }
                _ => {
                    self.order.pop_front();
                }
            }
        }
        None
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let mut fifo = Fifo::new(3);
        for key in 0..5 {
            fifo.insert(key, key * 10);
        }
        assert_eq!(fifo.len(), 3);
        assert_eq!((fifo.get(&1), fifo.get(&2)), (None, Some(&20)));
        assert_eq!(fifo.pop_if(|_| true), Some((2, 20)));
        assert_eq!(fifo.pop_if(|value| *value == 40), None);
    }

    #[test]
    fn an_entry_that_was_replaced_or_removed_is_not_taken_for_the_oldest() {
        let mut fifo = Fifo::new(3);
        for key in 0..3 {
            fifo.insert(key, key);
        }
        fifo.remove(&0);
        fifo.insert(1, 11);
        assert_eq!(fifo.pop_if(|_| true), Some((2, 2)));
        assert_eq!(fifo.pop_if(|_| true), Some((1, 11)));
        assert_eq!(fifo.pop_if(|_| true), None);
    }

    #[test]
    fn memory_stays_bounded_however_often_keys_come_and_go() {
        let mut fifo = Fifo::new(8);
        for round in 0..10_000_u32 {
            fifo.insert(round % 4, round);
            fifo.remove(&(round % 4));
            assert!(fifo.order.len() <= 16);
        }
    }
}
