//! Deadlines: at most one for each connection, in a heap that knows where each one stands, so that
//! a closed connection leaves nothing behind.

use std::time::Instant;

/// Not in the heap.
const NOWHERE: u32 = u32::MAX;

/// One entry of the heap.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    slot: u32,
}

/// A binary heap of deadlines, the earliest first, indexed by connection slot.
///
/// Arming is lazy: a deadline that moves to later leaves its entry where it is. The entry comes up
/// early, the caller computes the deadline again and arms it for the rest. So a connection that
/// makes progress all the time touches the heap once in a timeout, not once in a read.
#[derive(Debug, Default)]
pub struct Timers {
    heap: Vec<Entry>,
    /// By slot: the position in the heap, or [`NOWHERE`].
    places: Vec<u32>,
}

impl Timers {
    /// Makes sure that `slot` comes up at `deadline` or earlier.
    pub fn arm(&mut self, slot: usize, deadline: Instant) {
        let Ok(slot) = u32::try_from(slot) else { return };
        let index = slot as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, NOWHERE);
        }
        match self.places[index] {
            NOWHERE => {
                self.heap.push(Entry { at: deadline, slot });
                self.rise(self.heap.len() - 1);
            }
            place => {
                let place = place as usize;
                if deadline < self.heap[place].at {
                    self.heap[place].at = deadline;
                    self.rise(place);
                }
            }
        }
    }

    /// Forgets the deadline of `slot`.
    pub fn disarm(&mut self, slot: usize) {
        match self.places.get(slot) {
            None | Some(&NOWHERE) => {}
            Some(&place) => self.remove(place as usize),
        }
    }

    /// Takes out a slot whose entry is due.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.remove(0);
        Some(first.slot as usize)
    }

    /// When the earliest entry is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// How many slots have an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True when no slot has an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn remove(&mut self, place: usize) {
        let removed = self.heap.swap_remove(place);
        self.places[removed.slot as usize] = NOWHERE;
        if place < self.heap.len() {
            self.rise(place);
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= self.heap[place].at {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
        self.note(place);
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let right = left + 1;
            let mut least = place;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].at < self.heap[least].at {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.swap(least, place);
            place = least;
        }
        self.note(place);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, place: usize) {
        if let Some(entry) = self.heap.get(place) {
            // The heap holds one entry a slot, and slots fit into 32 bits.
            self.places[entry.slot as usize] = u32::try_from(place).unwrap_or(NOWHERE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn a_later_deadline_leaves_the_entry_and_an_earlier_one_moves_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.arm(3, at(50));
        timers.arm(3, at(90));
        assert_eq!(timers.next(), Some(at(50)));
        timers.arm(3, at(20));
        assert_eq!((timers.next(), timers.len()), (Some(at(20)), 1));
        assert_eq!(timers.pop(at(19)), None);
        assert_eq!(timers.pop(at(20)), Some(3));
        assert!(timers.is_empty());
    }

    proptest! {
        #[test]
        fn equals_a_sorted_map(ops in proptest::collection::vec((0u8..3, 0usize..12, 0u64..500), 0..200)) {
            let start = Instant::now();
            let mut timers = Timers::default();
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            for (op, slot, ms) in ops {
                let at = start + Duration::from_millis(ms);
                match op {
                    0 => {
                        timers.arm(slot, at);
                        model.entry(slot).and_modify(|old| *old = ms.min(*old)).or_insert(ms);
                    }
                    1 => {
                        timers.disarm(slot);
                        model.remove(&slot);
                    }
                    _ => while let Some(popped) = timers.pop(at) {
                        let due = model.remove(&popped);
                        prop_assert!(due.is_some_and(|due| due <= ms), "{popped} {due:?} {ms}");
                    },
                }
                if op == 2 {
                    prop_assert!(model.values().all(|&due| due > ms));
                }
                prop_assert_eq!(timers.len(), model.len());
                let next = model.values().min().map(|&ms| start + Duration::from_millis(ms));
                prop_assert_eq!(timers.next(), next);
            }
        }
    }
}
