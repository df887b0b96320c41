//! The outcome of a benchmark in words, in JSON and as a page.

mod html;
mod json;
mod table;

pub use html::html;
pub use json::json;
pub use table::{load_line, table};

use super::outcome::{Figure, Outcome, Round, Spread};

/// From here on the generator is taken for the bottleneck.
const BUSY_MAX: f64 = 0.9;

/// A whole number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with three digits that count.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 999.5 => grouped(whole(number.abs())),
        size if size >= 99.95 => format!("{number:.0}"),
        size if size >= 9.995 => format!("{number:.1}"),
        size if size >= 0.9995 => format!("{number:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{number:.3}"),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, not negative")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// A time in microseconds with its unit.
fn time(micros: f64) -> String {
    match micros {
        less if less < 999.5 => format!("{less:.0} us"),
        less if less < 999_500.0 => format!("{} ms", short(less / 1e3)),
        more => format!("{} s", short(more / 1e6)),
    }
}

/// Bytes with their unit (powers of 1,000).
fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = bytes as f64;
    match bytes {
        0..10_000 => format!("{} B", grouped(bytes)),
        10_000..1_000_000 => format!("{} KB", short(number / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", short(number / 1e6)),
        _ => format!("{} GB", short(number / 1e9)),
    }
}

/// A figure as it is called on paper, with its unit.
fn label(figure: Figure) -> &'static str {
    match figure {
        Figure::Requests => "requests/s",
        Figure::Deltas => "deltas/s",
        Figure::Megabytes => "MB/s",
        Figure::CpuRequest => "CPU us/request",
        Figure::CpuDelta => "CPU us/delta",
        Figure::CpuMegabyte => "CPU us/MB",
        Figure::Cores => "cores in use",
        Figure::FirstByteMedian => "first byte p50",
        Figure::FirstByteTail => "first byte p99",
        Figure::FirstDeltaMedian => "first delta p50",
        Figure::FirstDeltaTail => "first delta p99",
        Figure::DeltaMedian => "delta p50",
        Figure::DeltaTail => "delta p99",
        Figure::WholeMedian => "whole answer p50",
        Figure::WholeTail => "whole answer p99",
        Figure::GeneratorDelta => "generator us/delta",
        Figure::GeneratorRequest => "generator us/request",
    }
}

/// A median and, of several rounds, the smallest and largest.
fn spread(spread: Spread, write: &dyn Fn(f64) -> String) -> String {
    let (median, min, max) = (write(spread.median), write(spread.min), write(spread.max));
    match () {
        () if min == max => median,
        () if spread.min < 0.0 || min.contains(' ') => format!("{median} ({min} to {max})"),
        () => format!("{median} ({min}-{max})"),
    }
}

/// With fewer connections, what the process does at its first request counts for more than they.
const CONNECTIONS_MIN: usize = 100;

/// Bytes that one connection took, by the first round: later ones find memory that is there
/// already. `None` when that is not known.
fn bytes_each(outcome: &Outcome, target: usize, of: impl Fn(&Round) -> Option<u64>) -> Option<u64> {
    if outcome.plan.load.connections < CONNECTIONS_MIN {
        return None;
    }
    let round = outcome.targets.get(target)?.rounds.first()?;
    let before = round.memory?.before;
    Some(of(round)?.saturating_sub(before) / outcome.plan.load.connections.max(1) as u64)
}

/// What one idle connection took.
fn idle_bytes(outcome: &Outcome, target: usize) -> Option<u64> {
    let load = &outcome.plan.load;
    let warm = load.warmup != super::Amount::Requests(0) && !load.churn;
    bytes_each(outcome, target, |round| round.memory.map(|it| it.idle)).filter(|_| warm)
}

/// What one connection with an answer under way took, at most.
fn active_bytes(outcome: &Outcome, target: usize) -> Option<u64> {
    bytes_each(outcome, target, |round| round.memory.map(|it| it.peak))
}

/// What a reader should know before the figures are believed.
fn warnings(outcome: &Outcome) -> Vec<String> {
    let mut list = Vec::new();
    let busy = outcome.generator_busy();
    if busy > BUSY_MAX {
        list.push(format!(
            "the generator itself was the bottleneck (a thread {:.0} % busy): rates and times are \
             its own; the servers' CPU for each unit of work still counts (--threads N takes more)",
            busy * 100.0
        ));
    }
    if outcome.stopped {
        list.push("stopped before its end: the last round is a part of one".to_owned());
    }
    let abandoned: u64 = outcome.targets.iter().map(|target| target.total().abandoned).sum();
    if abandoned > 0 {
        list.push(format!("{} answers under way were given up", grouped(abandoned)));
    }
    let coarse = outcome.targets.iter().any(|target| {
        let cpu: f64 =
            target.rounds.iter().filter_map(|it| it.cpu).map(|it| it.as_secs_f64()).sum();
        target.target.pid.is_some() && cpu < 0.05
    });
    if coarse {
        list.push("a server ran for less than 50 ms in all: too little for its CPU figures".into());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_three_digits() {
        for (number, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (999.7, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(short(number), text);
        }
        for (micros, text) in
            [(0.0, "0 us"), (65.2, "65 us"), (1234.0, "1.23 ms"), (2_500_000.0, "2.50 s")]
        {
            assert_eq!(time(micros), text);
        }
        for (bytes, text) in
            [(12, "12 B"), (9_999, "9,999 B"), (12_345, "12.3 KB"), (8_100_000, "8.10 MB")]
        {
            assert_eq!(size(bytes), text);
        }
        let spread_of = |min, median, max| spread(Spread { median, min, max }, &short);
        assert_eq!(spread_of(1.0, 1.5, 2.0), "1.50 (1.00-2.00)");
        assert_eq!(spread_of(2.0, 2.0, 2.0), "2.00");
        assert_eq!(spread_of(2.001, 2.001, 2.002), "2.00");
        assert_eq!(spread_of(-1.0, 1.0, 2.0), "1.00 (-1.00 to 2.00)");
    }
}
