//! Ids for answers, items and calls: unguessable enough to be unique, reproducible from a seed.

use std::fmt::Write as _;

/// A source of ids. Clones continue from the same point, so give every exchange its own.
#[derive(Clone, Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// Starts from a seed; the same seed gives the same ids.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A seed for another source.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// A fresh id: the prefix (`resp_`) and 32 hexadecimal digits.
    pub fn make(&mut self, prefix: &str) -> String {
        let mut id = String::with_capacity(prefix.len() + 32);
        id.push_str(prefix);
        let (high, low) = (self.next(), self.next());
        // Writing to a String cannot fail.
        let _ = write!(id, "{high:016x}{low:016x}");
        id
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): a bijection of a counter, so no id of one source
    /// repeats.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
