//! Variables of a `.env` file: for the configuration, and as defaults of flags. They never enter the
//! environment, which the process's children inherit.

use super::{Cli, Command, Flags};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, parser::ValueSource};
use std::path::{Path, PathBuf};

/// What is read when no file is named.
const USUAL: &str = ".env";

/// The variable that names another one to users of this preset.
const NAMED: (&str, &str) = ("codex-exec", "CODEX_ENV_FILE");

/// The variables of a file, in its order.
#[derive(Debug, Default)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    /// The value of a variable; the last one of its name counts.
    pub(crate) fn find(&self, name: &str) -> Option<String> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The names of those that are not empty.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone())
    }

    fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let lines = dotenvy::from_path_iter(path)
            .map_err(|why| format!("cannot read the env file {shown}: {why}"))?;
        let mut all: Vec<(String, String)> = Vec::new();
        for line in lines {
            // The reader's own words would show the line, which may be a secret.
            all.push(line.map_err(|_| match all.last() {
                Some((name, _)) => format!("{shown}: the line behind {name} is not NAME=value"),
                None => format!("{shown}: the first line is not NAME=value"),
            })?);
        }
        Ok(Self(all))
    }
}

/// Reads the command line. What it leaves open is asked of the environment, then of the `.env` file.
/// Wrong usage ends the process.
///
/// # Errors
/// The `.env` file cannot be read.
pub(crate) fn parse() -> Result<(Cli, Variables), String> {
    let usual = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&usual).unwrap_or_else(|why| why.exit());
    let variables = match &cli.command {
        Command::Serve(args) => of_flags(args.flags(), Some(&usual_file(args.flags())))?,
        // The working directory of `run` is the client's: a stranger's repository, perhaps.
        Command::Run(args) => of_flags(args.flags(), None)?,
        Command::Demo(_) | Command::Auth(_) | Command::Bench(_) | Command::Mock(_) => {
            Variables::default()
        }
    };
    if !variables.0.iter().any(|(name, _)| name.starts_with("PATCHBAY_")) {
        return Ok((cli, variables));
    }
    let matches = with_defaults(&variables, &usual).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|why| why.exit());
    Ok((cli, variables))
}

/// The file that is read when no flag names one. One that a variable names has to be there.
fn usual_file(flags: &Flags) -> PathBuf {
    let (preset, variable) = NAMED;
    let named = std::env::var_os(variable).filter(|_| flags.preset.as_deref() == Some(preset));
    named.filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from(USUAL), PathBuf::from)
}

fn of_flags(flags: &Flags, usual: Option<&Path>) -> Result<Variables, String> {
    match (&flags.env_file, usual) {
        (Some(path), _) => Variables::read(path),
        (None, Some(path)) if path.exists() || path != Path::new(USUAL) => Variables::read(path),
        (None, _) => Ok(Variables::default()),
    }
}

/// The command line with the variables as defaults of the flags that they name.
fn with_defaults(variables: &Variables, usual: &ArgMatches) -> clap::Command {
    let typed = |flag: &str| {
        let matches = usual.subcommand().map(|(_, matches)| matches);
        matches
            .and_then(|it| it.try_contains_id(flag).ok().and_then(|_| it.value_source(flag)))
            .is_some_and(|source| source != ValueSource::DefaultValue)
    };
    // A default takes no part in conflicts, but must not stand beside what it excludes.
    let excluded = |flag: &str| match flag {
        "port" => typed("listen"),
        "listen" => typed("port"),
        "api_key_env" => typed("auth_path"),
        "auth_path" => typed("api_key_env"),
        _ => false,
    };
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|arg| {
            let name = arg.get_env().and_then(|name| name.to_str()).map(str::to_owned);
            let value = name.and_then(|name| variables.find(&name)).filter(|it| !it.is_empty());
            match value {
                Some(value) if !excluded(arg.get_id().as_str()) => {
                    let value = if arg.get_action().takes_values() {
                        value
                    } else {
                        is_on(&value).to_string()
                    };
                    // Clap keeps defaults for as long as the process lives.
                    arg.default_value(&*value.leak())
                }
                _ => arg,
            }
        })
    })
}

/// What a variable says of a flag without a value, as clap reads it from the environment.
fn is_on(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "n" | "no" | "f" | "false" | "off" | "0")
}
