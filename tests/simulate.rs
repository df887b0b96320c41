//! Does the worker survive the world? One thread, a clock of its own, and hundreds of seeds.
//!
//! `PATCHBAY_SIM_SEEDS=N` runs more seeds, `PATCHBAY_SIM_SEED=S` replays one and prints what
//! happens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod sim;

use sim::net::Broken;
use sim::run::{Stats, run};
use sim::runs;

#[test]
fn the_worker_survives_every_seed() {
    if let Ok(seed) = std::env::var("PATCHBAY_SIM_SEED") {
        let seed = seed.parse().expect("PATCHBAY_SIM_SEED is a number");
        println!("{:?}", run(seed, true, Broken::Nothing).unwrap());
        return;
    }
    let count = std::env::var("PATCHBAY_SIM_SEEDS").map_or(256, |text| text.parse().unwrap());
    let mut total = Stats::default();
    let mut failed = Vec::new();
    for seed in 0..count {
        let result = std::panic::catch_unwind(|| run(seed, false, Broken::Nothing));
        match result {
            Ok(Ok(stats)) => {
                total.requests += stats.requests;
                total.whole += stats.whole;
                total.executions += stats.executions;
                total.retried += stats.retried;
                total.uploads += stats.uploads;
                total.forgotten += stats.forgotten;
                total.renewed += stats.renewed;
                total.turns += stats.turns;
                total.virtual_s += stats.virtual_s;
            }
            Ok(Err(error)) => failed.push(format!("seed {seed}: {error}")),
            Err(_) => failed.push(format!("seed {seed}: panicked")),
        }
    }
    println!("{total:?}");
    assert!(count < 256 || (total.uploads > 0 && total.forgotten > 0), "no errand is run");
    for line in &failed {
        println!("{}", line.chars().take(150).collect::<String>().replace('\n', " "));
    }
    let first = failed.first().map(String::as_str).unwrap_or_default();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds failed; the first:\n{first}\nReplay one with\n  \
         PATCHBAY_SIM_SEED=N cargo test --test simulate -- --nocapture",
        failed.len()
    );
}

#[test]
fn runs_of_commands_survive_every_seed() {
    let count = std::env::var("PATCHBAY_SIM_SEEDS").map_or(256, |text| text.parse().unwrap());
    let mut total = runs::Stats::default();
    for seed in 0..count {
        match runs::run(seed, false) {
            Ok(stats) => total.add(&stats),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{total:?}");
    let all = [total.whole, total.failed, total.late, total.left, total.busy];
    assert!(count < 256 || all.iter().all(|count| *count > 0), "something never happens");
    let noticed = (0..24).filter(|seed| runs::run(*seed, true).is_err()).count();
    assert!(noticed > 4, "a worker that is not told of its runs is noticed in {noticed} seeds");
}

/// A world that is broken on purpose must be noticed, or the test above proves nothing.
#[test]
fn what_is_broken_on_purpose_is_noticed() {
    const SEEDS: u64 = 24;
    for (broken, words) in [
        (Broken::Edges, &["waits for nothing", "wait at the upstream's side", "is gone"][..]),
        (Broken::Closes, &["sockets are open", "is gone", "no timeout for the stall"]),
        (Broken::Bytes, &["no HTTP", "not JSON", "the reply"]),
        (Broken::Ends, &["a success, but the upstream's reply was"]),
        (Broken::Twice, &["executed twice"]),
        (Broken::Swapped, &["of another request"]),
        (Broken::Turns, &["spins"]),
        (Broken::Accounts, &["is served with the account of", "was served"]),
    ] {
        let errors = (0..SEEDS).filter_map(|seed| run(seed, false, broken).err());
        let errors: Vec<String> = errors.collect();
        let right = errors.iter().filter(|error| words.iter().any(|word| error.contains(word)));
        let right = right.count();
        println!("{broken:?}: {} of {SEEDS} seeds failed, {right} as expected", errors.len());
        assert!(right as u64 * 3 > SEEDS, "{broken:?} goes unnoticed: {errors:#?}");
    }
}
