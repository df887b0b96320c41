//! One row of `transcode` or `request`, done a number of times and nothing else, so that valgrind can
//! count its instructions: the same figure in every run, however busy the machine is.
//!
//! ```text
//! cargo bench --bench instructions -- chat_text 100
//!
//! export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --tool=callgrind \
//!     --toggle-collect=*measured* --callgrind-out-file=target/callgrind.out"
//! cargo bench --bench instructions -- chat_text 10
//! callgrind_annotate target/callgrind.out
//! ```
//! The first says what is done: how often, how many events and bytes. The second prints `Collected` as
//! well: divided by the events, the instructions of one. Before the row is measured it is done once,
//! so that nothing is counted that happens once in a process.
//!
//! Rows are named as criterion names them, or in short: `chat_text` (Chat upstream, Responses client,
//! reads of 16 KB), `responses_cjk` (the other way), `request_dense` (Responses to Chat, 200 KB).
//! Without a row it lists them all; `every` does each once.
#![allow(clippy::print_stdout, reason = "what it is for")]
#![allow(clippy::panic, reason = "a broken input ends the benchmark")]

use std::process::ExitCode;

#[path = "support/cases.rs"]
mod cases;
#[path = "support/inputs.rs"]
mod inputs;
#[path = "support/requests.rs"]
mod requests;
#[path = "support/streams.rs"]
mod streams;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut all = cases::transcode();
    all.extend(cases::request());
    let Some(name) = arguments.first() else {
        all.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    };
    if name == "every" {
        for case in &mut all {
            println!("{}: {} bytes out", case.name, (case.run)());
        }
        println!("{} rows", all.len());
        return ExitCode::SUCCESS;
    }
    let times: u64 = arguments.get(1).and_then(|times| times.parse().ok()).unwrap_or(1);
    let name = long_name(name);
    let Some(case) = all.iter_mut().find(|case| case.name == name) else {
        println!("no row is called {name}: without arguments, all are listed");
        return ExitCode::FAILURE;
    };
    // What is made once (tables of the allocator, detected features) is no part of it.
    (case.run)();
    let written = measured(&mut *case.run, times);
    println!(
        "{}: {times} times, {} events, {} bytes in, {written} bytes out",
        case.name,
        times * case.events,
        times * case.bytes
    );
    ExitCode::SUCCESS
}

/// What valgrind is told to count.
#[inline(never)]
fn measured(run: &mut dyn FnMut() -> usize, times: u64) -> usize {
    (0..times).map(|_| run()).sum()
}

/// The row that a short name stands for.
fn long_name(name: &str) -> String {
    match name.split_once('_') {
        Some(("chat", kind)) => format!("transcode/chat to responses/{kind}/coalesced"),
        Some(("responses", kind)) => format!("transcode/responses to chat/{kind}/coalesced"),
        Some(("request", filling)) => format!("request/responses to chat/{filling}/200 KB"),
        _ => name.to_owned(),
    }
}
