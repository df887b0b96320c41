//! The `patchbay` command.

mod cli;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ended = cli::parse().and_then(|(cli, variables)| match cli.command {
        cli::Command::Demo(args) => cli::demo::run(&args),
        cli::Command::Serve(args) => cli::serve::run(&args, &variables),
        cli::Command::Auth(args) => cli::auth::run(&args),
        cli::Command::Bench(args) => cli::bench::run(&args),
        cli::Command::Mock(args) => cli::mock::run(&args),
        cli::Command::Run(args) => cli::run::run(&args, &variables),
    });
    ended.unwrap_or_else(|why| {
        // Nobody is left to tell when this fails.
        let _ = writeln!(std::io::stderr(), "patchbay: {why}");
        ExitCode::FAILURE
    })
}
