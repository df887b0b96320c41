//! The outcome for a person at a terminal.

use super::{active_bytes, grouped, idle_bytes, label, short, size, spread, time, warnings};
use crate::bench::outcome::{Figure, Outcome, TargetOutcome};
use crate::bench::plan::{Amount, Load};
use crate::bench::tally::{Tally, Times};
use std::fmt::Write as _;

/// Columns of the first column, which says what a row is.
const LABEL_COLUMNS: usize = 22;

/// The load in one line.
#[must_use]
pub fn load_line(load: &Load) -> String {
    let mut out = String::new();
    out.push_str(if load.stream { "streams" } else { "documents" });
    let _ = write!(out, " of model \"{}\"", load.model_name());
    if load.request_bytes > 0 {
        let bytes = grouped(load.request_bytes as u64);
        let _ = write!(out, ", requests of {bytes} bytes ({})", load.request_text.name());
    }
    let kept = if load.churn { "one for each request" } else { "kept alive" };
    let plural = if load.connections == 1 { "" } else { "s" };
    let _ = write!(out, ", {} connection{plural}, {kept}", grouped(load.connections as u64));
    if let Some(rate) = load.rate {
        let _ = write!(out, ", {} requests begun a second", short(rate));
    }
    if !load.ramp.is_zero() {
        let _ = write!(out, ", begun over {} s", load.ramp.as_secs_f64());
    }
    if let Some(rate) = load.read_rate {
        let _ = write!(out, ", read at {}/s each", size(rate));
    }
    let _ = write!(out, ", {}", load.amount);
    if load.warmup != Amount::Requests(0) {
        let _ = write!(out, " after a warm-up of {}", load.warmup);
    }
    out
}

/// The whole outcome as lines of text.
#[must_use]
pub fn table(outcome: &Outcome) -> String {
    let mut out = format!("{}\n{}\n", outcome.plan.title, load_line(&outcome.plan.load));
    for TargetOutcome { target, rounds } in &outcome.targets {
        let scheme = if target.url.tls { "https" } else { "http" };
        let (url, dialect) = (&target.url, target.dialect.name());
        let _ = write!(
            out,
            "  {}: {scheme}://{}:{}{} ({dialect}",
            target.name, url.host, url.port, url.path
        );
        if let Some(pid) = target.pid {
            let _ = write!(out, ", pid {pid}");
        }
        let plural = if rounds.len() == 1 { "" } else { "s" };
        let _ = writeln!(out, "), {} round{plural}", rounds.len());
    }
    out.push('\n');
    out.push_str(&aligned(&rows(outcome)));
    out.push('\n');
    out.push_str(&latencies(outcome));
    out.push_str(&defects(outcome));
    for warning in warnings(outcome) {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// A row of cells, the first saying what it is.
type Row = Vec<String>;

fn rows(outcome: &Outcome) -> Vec<Row> {
    let targets = &outcome.targets;
    let totals: Vec<Tally> = targets.iter().map(TargetOutcome::total).collect();
    let mut rows = Vec::new();
    let mut row = |name: &str, cell: &dyn Fn(usize) -> Option<String>| {
        let cells: Vec<_> = (0..targets.len()).map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let mut row = vec![name.to_owned()];
            row.extend(cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())));
            rows.push(row);
        }
    };
    row("", &|at| Some(targets[at].target.name.clone()));
    row("answers", &|at| Some(grouped(totals[at].answers)));
    row("wrong", &|at| Some(grouped(targets[at].wrong())));
    let first = targets.first().map_or("", |it| it.target.name.as_str());
    let against = format!("  against {first}");
    for figure in Figure::ALL {
        // The other times stand below, with more of their distribution.
        let compared = is_cpu(figure) || figure == Figure::Requests;
        if !figure.is_time() {
            row(label(figure), &|at| targets[at].figure(figure).map(|it| spread(it, &short)));
        }
        if compared && targets.len() > 1 {
            row(&against, &|at| {
                let ratio = outcome.ratio(at, figure).filter(|_| at > 0)?;
                Some(spread(ratio, &|ratio| format!("{ratio:.2}x")))
            });
        }
    }
    if targets.len() > 1 {
        for figure in [
            Figure::FirstDeltaMedian,
            Figure::FirstDeltaTail,
            Figure::DeltaMedian,
            Figure::DeltaTail,
        ] {
            row(&format!("added {}", label(figure)), &|at| {
                let added = outcome.added(at, figure).filter(|_| at > 0)?;
                Some(spread(added, &|micros| signed(micros)))
            });
        }
    }
    row("memory before", &|at| memory(&targets[at], |it| it.before));
    row("  idle", &|at| memory(&targets[at], |it| it.idle));
    row("  at most", &|at| memory(&targets[at], |it| it.peak));
    row("  since its start", &|at| memory(&targets[at], |it| it.high_water));
    row("  idle connection", &|at| idle_bytes(outcome, at).map(size));
    row("  active stream", &|at| active_bytes(outcome, at).map(size));
    row("generator busy", &|at| {
        let busy = targets[at].rounds.iter().map(|it| it.generator_busy).fold(0.0, f64::max);
        Some(format!("{:.0} %", busy * 100.0))
    });
    row("connections made", &|at| Some(grouped(targets[at].opened())));
    row("  after the server's end", &|at| {
        Some(totals[at].reopened).filter(|count| *count > 0).map(grouped)
    });
    rows
}

const fn is_cpu(figure: Figure) -> bool {
    matches!(figure, Figure::CpuRequest | Figure::CpuDelta | Figure::CpuMegabyte)
}

fn signed(micros: f64) -> String {
    if micros < 0.0 { format!("-{}", time(-micros)) } else { format!("+{}", time(micros)) }
}

fn memory(
    target: &TargetOutcome,
    of: impl Fn(&crate::bench::RoundMemory) -> u64,
) -> Option<String> {
    let all = target.rounds.iter().filter_map(|round| round.memory.as_ref().map(&of));
    all.max().map(size)
}

/// The rows with their columns under each other, the first to the left, the others to the right.
fn aligned(rows: &[Row]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or_default();
        if column == 0 { widest.max(LABEL_COLUMNS) } else { widest }
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if column == 0 {
                let _ = write!(line, "{cell:<width$}");
            } else {
                let _ = write!(line, "  {cell:>width$}");
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The times of a tally, and what they are called.
pub(super) fn times(tally: &Tally) -> [(&'static str, &Times); 5] {
    [
        ("first byte", &tally.first_byte),
        ("first delta", &tally.first_delta),
        ("delta, from its stamp", &tally.delta),
        ("between deltas", &tally.gap),
        ("whole answer", &tally.whole),
    ]
}

fn latencies(outcome: &Outcome) -> String {
    let mut rows = Vec::new();
    for target in &outcome.targets {
        let total = target.total();
        let head = ["p50", "p90", "p99", "p99.9", "max"].map(str::to_owned);
        rows.push([target.target.name.clone()].into_iter().chain(head).collect());
        for (name, times) in times(&total) {
            if times.count() == 0 {
                continue;
            }
            #[allow(clippy::cast_precision_loss, reason = "at most an hour")]
            let cell = |share: f64| time(times.quantile(share) as f64);
            let cells = [0.5, 0.9, 0.99, 0.999, 1.0].map(cell);
            rows.push([format!("  {name}")].into_iter().chain(cells).collect::<Row>());
        }
    }
    aligned(&rows) + "\n"
}

fn defects(outcome: &Outcome) -> String {
    let mut out = String::new();
    for target in &outcome.targets {
        for (defect, count, example) in target.defects() {
            let _ = writeln!(
                out,
                "WRONG {}: {} answers: {} ({}), first in answer {}\n  expected  {}\n  came      {}",
                target.target.name,
                grouped(count),
                defect.meaning(),
                defect.name(),
                example.answer,
                example.expected,
                example.came
            );
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Row>();
        let text = aligned(&[row(&["", "a", "long name"]), row(&["requests/s", "1,234", "5"])]);
        assert_eq!(
            text,
            "                            a  long name\n\
             requests/s              1,234          5\n"
        );
    }

    #[test]
    fn a_load_is_told_in_one_line() {
        let load = Load { request_bytes: 200_000, rate: Some(50.0), ..Load::default() };
        assert_eq!(
            load_line(&load),
            "streams of model \"mock:\", requests of 200,000 bytes (code), 16 connections, kept \
             alive, 50.0 requests begun a second, 3 s after a warm-up of 0.5 s"
        );
    }
}
