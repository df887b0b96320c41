//! Log lines: when, how bad, where, what.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Starts logging to stderr, or to a file. `level` beats `RUST_LOG`, which beats `usual`.
pub(super) fn start(level: Option<&str>, usual: &str, file: Option<File>) {
    let said = level.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(said.as_deref().unwrap_or(usual));
    builder.format(|out, record| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let place = record.target().trim_start_matches("patchbay::");
        writeln!(out, "{} {:5} {place}: {}", stamp(now), record.level(), record.args())
    });
    if let Some(file) = file {
        builder.target(env_logger::Target::Pipe(Box::new(file)));
    }
    // A second logger in one process is the only way to fail.
    let _ = builder.try_init();
}

/// The time since 1970 as RFC 3339 in UTC, with milliseconds.
fn stamp(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millisecond = since_1970.subsec_millis();
    // Years that begin in March put the leap day last; a 400-year cycle has 146,097 days, and
    // 719,468 days lie between its start in the year 0 and 1970.
    let days = seconds / 86_400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = cycle * 400 + year + next;
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_dates() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(Duration::from_millis(ms)), expected);
        }
    }
}
