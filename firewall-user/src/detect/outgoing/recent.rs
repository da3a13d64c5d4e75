//! A map of bounded size that forgets who has been silent.

use std::hash::Hash;

use crate::detect::Time;
use crate::detect::hashed::HashMap;

/// Values by key, with when each was touched last.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    capacity: usize,
    keep: Time,
    entries: HashMap<K, (Time, V)>,
}

impl<K: Eq + Hash, V: Default> Recent<K, V> {
    /// Room for `capacity` values, each kept for `keep` after its last touch.
    pub fn new(capacity: usize, keep: Time) -> Self {
        Self {
            capacity,
            keep,
            entries: HashMap::default(),
        }
    }

    /// The value of a key, made if it is new; `None` when there is no room until the next
    /// [`Self::forget`].
    pub fn touch(&mut self, key: K, now: Time) -> Option<&mut V> {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            return None;
        }
        let (touched, value) = self
            .entries
            .entry(key)
            .or_insert_with(|| (now, V::default()));
        *touched = now.max(*touched);
        Some(value)
    }

    /// The value of a key that is known.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Forgets who was silent for too long; when the room is nearly full, the older half.
    pub fn forget(&mut self, now: Time) {
        let oldest = now.saturating_sub(self.keep);
        let crowded = self.entries.len() > self.capacity - self.capacity / 4;
        let oldest = if crowded {
            let mut times: Vec<Time> = self.entries.values().map(|(touched, _)| *touched).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            oldest.max(*median)
        } else {
            oldest
        };
        // Of those who were touched together with the last one to go, all stay.
        self.entries.retain(|_, (touched, _)| *touched >= oldest);
        if self.entries.len() >= self.capacity {
            self.entries.clear();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries
            .iter_mut()
            .map(|(key, (_, value))| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_ones_are_forgotten_and_a_crowd_makes_room() {
        let mut recent = Recent::<u32, u32>::new(100, 50);
        *recent.touch(1, 10).expect("room") += 1;
        *recent.touch(2, 40).expect("room") += 1;
        recent.forget(70);
        assert!(recent.get(&1).is_none() && recent.get(&2).is_some());
        for key in 3..200 {
            recent.touch(key, 70 + Time::from(key));
        }
        assert!(recent.touch(500, 300).is_none());
        recent.forget(100);
        assert!(recent.touch(500, 300).is_some());
        assert!(recent.get(&100).is_some() && recent.get(&3).is_none());
    }

    #[test]
    fn a_crowd_that_came_at_once_does_not_stay_for_ever() {
        let mut recent = Recent::<u32, u32>::new(10, 1_000);
        for key in 0..20 {
            recent.touch(key, 5);
        }
        recent.forget(6);
        assert!(recent.touch(99, 6).is_some());
    }
}
