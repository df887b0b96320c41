//! The outcome for programs.

use super::table::times;
use super::{active_bytes, idle_bytes, warnings};
use crate::bench::outcome::{Figure, Outcome, Round, Spread, TargetOutcome};
use crate::bench::plan::{Amount, Load};
use crate::bench::tally::{Tally, Times};
use serde_json::{Map, Value, json};

/// The shares of which times are told.
const SHARES: [f64; 12] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0];

/// Everything that was asked and counted, as one object. Times are in microseconds, memory in
/// bytes.
#[must_use]
pub fn json(outcome: &Outcome) -> Value {
    let targets: Vec<_> =
        outcome.targets.iter().enumerate().map(|(at, it)| target(outcome, at, it)).collect();
    json!({
        "patchbay": env!("CARGO_PKG_VERSION"),
        "title": outcome.plan.title,
        "load": load(&outcome.plan.load),
        "rounds": outcome.plan.rounds,
        "is_right": outcome.is_right(),
        "stopped": outcome.stopped,
        "warnings": warnings(outcome),
        "targets": targets,
    })
}

fn load(load: &Load) -> Value {
    json!({
        "model": load.model_name(),
        "script": load.script.map(|script| script.to_string()),
        "stream": load.stream,
        "connections": load.connections,
        "churn": load.churn,
        "amount": amount(load.amount),
        "warmup": amount(load.warmup),
        "requests_begun_per_s": load.rate,
        "ramp_s": load.ramp.as_secs_f64(),
        "connects_max": load.connects_max,
        "read_bytes_per_s": load.read_rate,
        "request_bytes": load.request_bytes,
        "request_text": load.request_text.name(),
        "timeout_s": load.timeout.as_secs_f64(),
        "lenient": load.lenient,
        "threads": load.threads,
    })
}

fn amount(amount: Amount) -> Value {
    match amount {
        Amount::Requests(count) => json!({"requests": count}),
        Amount::Time(time) => json!({"seconds": time.as_secs_f64()}),
    }
}

fn target(outcome: &Outcome, at: usize, it: &TargetOutcome) -> Value {
    let each = |figure: &dyn Fn(Figure) -> Option<Spread>| -> Map<String, Value> {
        let known = Figure::ALL.into_iter().filter_map(|it| Some((it, figure(it)?)));
        known
            .map(|(figure, it)| {
                let spread = json!({"median": it.median, "min": it.min, "max": it.max});
                (figure.name().to_owned(), spread)
            })
            .collect()
    };
    let url = &it.target.url;
    let scheme = if url.tls { "https" } else { "http" };
    let defects: Vec<_> = it
        .defects()
        .into_iter()
        .map(|(defect, count, example)| {
            json!({"kind": defect.name(), "meaning": defect.meaning(), "answers": count,
                "example": {"answer": example.answer, "expected": example.expected,
                    "came": example.came}})
        })
        .collect();
    json!({
        "name": it.target.name,
        "url": format!("{scheme}://{}:{}{}", url.host, url.port, url.path),
        "dialect": it.target.dialect.name(),
        "pid": it.target.pid,
        "wrong": it.wrong(),
        "defects": defects,
        "figures": each(&|figure| it.figure(figure)),
        "ratios_to_first": each(&|figure| outcome.ratio(at, figure)),
        "added_to_first": each(&|figure| outcome.added(at, figure)),
        "idle_connection_bytes": idle_bytes(outcome, at),
        "active_stream_bytes": active_bytes(outcome, at),
        "times_us": distributions(&it.total()),
        "rounds": it.rounds.iter().map(round).collect::<Vec<_>>(),
    })
}

fn round(round: &Round) -> Value {
    let tally = &round.tally;
    let figures: Map<String, Value> = Figure::ALL
        .into_iter()
        .filter_map(|it| Some((it.name().to_owned(), round.figure(it)?.into())))
        .collect();
    json!({
        "round": round.number,
        "wall_s": round.wall.as_secs_f64(),
        "stopped": round.stopped,
        "answers": tally.answers,
        "wrong": tally.wrong,
        "warmup_wrong": round.warmup.wrong,
        "abandoned": tally.abandoned,
        "deltas": tally.deltas,
        "bytes_in": tally.bytes_in,
        "bytes_out": tally.bytes_out,
        "connections": tally.opened + round.warmup.opened,
        "connections_reopened": tally.reopened,
        "cpu_s": round.cpu.map(|cpu| cpu.as_secs_f64()),
        "memory_bytes": round.memory.map(|it| json!({"before": it.before, "idle": it.idle,
            "peak": it.peak, "high_water": it.high_water})),
        "generator_cpu_s": round.generator_cpu.as_secs_f64(),
        "generator_busy": round.generator_busy,
        "figures": figures,
        "times_us": distributions(tally),
    })
}

fn distributions(tally: &Tally) -> Map<String, Value> {
    let keys = ["first_byte", "first_delta", "delta", "gap", "whole"];
    let all = keys.into_iter().zip(times(tally)).filter(|(_, (_, times))| times.count() > 0);
    all.map(|(key, (_, times))| (key.to_owned(), distribution(times))).collect()
}

fn distribution(times: &Times) -> Value {
    let shares: Vec<_> =
        SHARES.iter().map(|share| json!([share, times.quantile(*share)])).collect();
    json!({"count": times.count(), "mean": times.mean(), "max": times.max(), "quantiles": shares})
}
