//! The Codex CLI's own configuration, as it is at the moment.

use crate::config::codex_home::{CodexHome, is_local};
use crate::config::exec::Exec;
use crate::fault::Failure;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Reads it; one that is not there says nothing.
///
/// # Errors
/// It cannot be read, in words.
pub(super) fn read(exec: &Exec) -> Result<CodexHome, String> {
    let Some(folder) = folder(exec) else { return CodexHome::read("", |_| None) };
    let path = folder.join("config.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(why) if why.kind() == ErrorKind::NotFound => String::new(),
        Err(why) => return Err(format!("cannot read {}: {why}", path.display())),
    };
    CodexHome::read(&text, |name| {
        fs::read_to_string(folder.join(format!("{name}.config.toml"))).ok()
    })
    .map_err(|why| format!("{}: {why}", path.display()))
}

/// Where the CLI looks for it.
fn folder(exec: &Exec) -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = || var("CODEX_HOME").or_else(|| Some(var("HOME")?.join(".codex")));
    exec.home.clone().or_else(usual)
}

/// Checks that a run would send its conversation nowhere but to this machine.
///
/// # Errors
/// 400: it would, or nobody can tell.
pub(super) fn check_local(exec: &Exec) -> Result<(), Failure> {
    let url = read(exec).and_then(|home| home.base_url(&|name| std::env::var(name).ok()));
    let why = match url {
        Ok(url) if is_local(&url) => return Ok(()),
        Ok(_) => "it is not on this machine".to_owned(),
        Err(why) => {
            log::error!("where the Codex CLI's provider is cannot be told: {why}");
            "where it is cannot be told".to_owned()
        }
    };
    let message = format!(
        "only local model providers are allowed here, and the Codex CLI's is none: {why} \
         (CODEX_LOCAL_ONLY)"
    );
    Err(Failure::bad_request(message).with_code("provider_not_local"))
}
