//! How long a row takes: about three seconds.

use criterion::Criterion;
use std::time::Duration;

/// Criterion with short times, for rows that are many.
pub(crate) fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .sample_size(40)
}
