//! What is counted while a load runs.

use super::defect::{Defects, Found};
use hdrhistogram::Histogram;
use std::time::Duration;

/// Longest time that is told apart from longer ones: an hour, in microseconds.
const MICROS_MAX: u64 = 3_600_000_000;

/// How long something took, many times: microseconds with three digits that count.
#[derive(Clone, Debug, Default)]
pub struct Times(Option<Histogram<u64>>);

impl Times {
    /// Adds a time.
    pub(super) fn add(&mut self, time: Duration) {
        self.add_micros(u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX), 1);
    }

    /// Adds a time in microseconds, so many times.
    pub(super) fn add_micros(&mut self, micros: u64, count: u64) {
        if count > 0
            && let Some(times) = self.table()
        {
            times.saturating_record_n(micros.min(MICROS_MAX), count);
        }
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        if let (Some(other), Some(times)) = (&other.0, self.table()) {
            // Both have the same bounds.
            let _ = times.add(other);
        }
    }

    /// The table, which is made when it is needed: it is large. Its bounds are in order, so that
    /// it can be made.
    fn table(&mut self) -> Option<&mut Histogram<u64>> {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, MICROS_MAX, 3).ok();
        }
        self.0.as_mut()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time that this share of all (0 to 1) did not exceed, in microseconds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.as_ref().map_or(0, |times| times.value_at_quantile(share).min(times.max()))
    }

    /// The longest, in microseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::max)
    }

    /// The mean, in microseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.as_ref().map_or(0.0, Histogram::mean)
    }
}

/// What one run of a load brought.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers that are over, right or wrong.
    pub answers: u64,
    /// Those with a defect.
    pub wrong: u64,
    /// Answers given up because the bench was stopped.
    pub abandoned: u64,
    /// Text deltas.
    pub deltas: u64,
    /// Bytes read, as HTTP (without TLS).
    pub bytes_in: u64,
    /// Bytes written, as HTTP.
    pub bytes_out: u64,
    /// Connections made.
    pub opened: u64,
    /// Of these, in place of one that the server closed between two answers.
    pub reopened: u64,
    /// From the moment a request was due to the first byte of its answer.
    pub first_byte: Times,
    /// From there to the first delta of text.
    pub first_delta: Times,
    /// From there to the answer's end.
    pub whole: Times,
    /// Between two deltas of one answer, as they were read: several in one read are 0 apart.
    pub gap: Times,
    /// From the stamp in a delta to its receipt.
    pub delta: Times,
    /// What was wrong.
    pub defects: Defects,
}

impl Tally {
    /// Counts an answer that is over.
    pub(super) fn answer(&mut self, found: &mut Found) {
        self.answers += 1;
        if !found.is_empty() {
            self.wrong += 1;
            self.defects.add(self.answers, found);
        }
    }

    /// Adds what another thread counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.answers += other.answers;
        self.wrong += other.wrong;
        self.abandoned += other.abandoned;
        self.deltas += other.deltas;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.opened += other.opened;
        self.reopened += other.reopened;
        self.first_byte.merge(&other.first_byte);
        self.first_delta.merge(&other.first_delta);
        self.whole.merge(&other.whole);
        self.gap.merge(&other.gap);
        self.delta.merge(&other.delta);
        self.defects.merge(&other.defects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_microseconds() {
        let mut times = Times::default();
        for micros in 1..=1000 {
            times.add(Duration::from_micros(micros));
        }
        assert_eq!((times.count(), times.max()), (1000, 1000));
        assert_eq!((times.quantile(0.5), times.quantile(1.0)), (500, 1000));
        times.add(Duration::from_secs(100_000));
        assert!(times.max() >= MICROS_MAX, "saturates");
        let mut other = Times::default();
        other.add_micros(0, 3);
        other.merge(&times);
        assert_eq!(other.count(), 1004);
        assert_eq!(other.quantile(0.0), 0);
    }
}
