//! What is said of an upstream that failed: which one, and why, in words for people; no address.

use crate::config::Config;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::launch::Ended;
use std::io::{self, ErrorKind};

/// The provider's name, in quotes.
pub(crate) fn name(config: &Config, provider: usize) -> String {
    config
        .providers
        .get(provider)
        .map_or(String::new(), |provider| format!("\"{}\"", provider.name))
}

pub(super) fn words(why: &io::Error) -> String {
    match why.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::UnexpectedEof => "the connection ended too early".to_owned(),
        _ => why.to_string(),
    }
}

pub(super) fn unreachable(config: &Config, provider: usize, why: &io::Error) -> Failure {
    unreachable_for(config, provider, &words(why))
}

/// The upstream cannot be reached, and why.
pub(crate) fn unreachable_for(config: &Config, provider: usize, why: &str) -> Failure {
    let message = format!("the provider {} cannot be reached: {why}", name(config, provider));
    Failure::new(Fault::upstream(Kind::Unreachable), message)
}

/// The reply breaks HTTP, or is of a kind that is not understood.
pub(crate) fn bad_reply(config: &Config, provider: usize, why: &dyn std::fmt::Display) -> Failure {
    let name = name(config, provider);
    let message = format!("the reply of the provider {name} cannot be used: {why}");
    Failure::new(Fault::upstream(Kind::BadReply), message)
}

pub(super) fn truncated(config: &Config, provider: usize, why: Option<&io::Error>) -> Failure {
    let name = name(config, provider);
    let why = why.map_or(String::new(), |why| format!(": {}", words(why)));
    let message = format!("the connection to the provider {name} broke off{why}");
    Failure::new(Fault::upstream(Kind::Truncated), message)
}

/// A run of a command was not over in its time.
pub(super) fn run_too_long(config: &Config, provider: usize) -> Failure {
    let seconds = config
        .providers
        .get(provider)
        .and_then(|provider| provider.exec.as_ref())
        .map_or(0, |exec| exec.timeout.as_secs());
    let name = name(config, provider);
    let message =
        format!("the run of the provider {name} was not over in {seconds} s and was ended");
    Failure::new(Fault::upstream(Kind::Timeout), message)
}

/// A command ended before its answer did.
pub(super) fn run_ended(config: &Config, provider: usize, ended: &Ended) -> Failure {
    let (name, Ended { how, words }) = (name(config, provider), ended);
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    let message = format!("the run of the provider {name} ended before its answer ({how}){said}");
    Failure::new(Fault::upstream(Kind::Truncated), message)
}
