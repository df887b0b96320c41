//! The `patchbay` command.

mod cli;

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ended = match cli::Cli::parse().command {
        cli::Command::Demo(args) => cli::demo::run(&args),
        cli::Command::Serve(args) => cli::serve::run(&args),
        cli::Command::Run(args) => cli::run::run(&args),
    };
    ended.unwrap_or_else(|why| {
        // Nobody is left to tell when this fails.
        let _ = writeln!(std::io::stderr(), "patchbay: {why}");
        ExitCode::FAILURE
    })
}
