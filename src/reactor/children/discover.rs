//! Which models the Codex CLI has, asked of it at the start and now and then, in a thread of its own
//! for each provider.

use super::conduct;
use super::home;
use super::{Asking, Children};
use crate::config::Config;
use crate::config::exec::Exec;
use crate::dialect::models::Listed;
use crate::proxy::models::ModelBoard;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(300);
/// How long the CLI may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at it while it does.
const LOOK: Duration = Duration::from_millis(20);
/// Its answer holds each model's prompt.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Begins to ask.
///
/// # Errors
/// There can be no thread.
pub(in crate::reactor) fn discover(
    config: &Arc<Config>,
    board: &Arc<ModelBoard>,
    children: &Children,
) -> io::Result<()> {
    for (index, provider) in config.providers.iter().enumerate() {
        if provider.exec.is_none() || !provider.list_models {
            continue;
        }
        let (config, board, children) = (Arc::clone(config), Arc::clone(board), children.clone());
        let ask = move || {
            let Some(provider) = config.providers.get(index) else { return };
            let Some(exec) = &provider.exec else { return };
            loop {
                // The proxy may have come to its end.
                let Some(asking) = children.ask() else { return };
                let found = models(exec, &asking);
                drop(asking);
                match found {
                    Ok(list) => board.pin(index, &list),
                    Err(why) => {
                        log::warn!("provider {}: its models are not known: {why}", provider.name);
                    }
                }
                thread::sleep(PAUSE);
            }
        };
        thread::Builder::new().name("models".to_owned()).spawn(ask)?;
    }
    Ok(())
}

/// The models of the CLI's own configuration, and behind them those that it lists.
fn models(exec: &Exec, asking: &Asking) -> Result<Arc<[Listed]>, String> {
    let listed = ask(exec, asking).and_then(|answer| read(&answer));
    let own = home::read(exec);
    let mut names: Vec<String> = Vec::new();
    if let Ok(home) = &own {
        names.extend(home.models().map(str::to_owned));
    }
    match (listed, own) {
        (Ok(listed), _) => names.extend(listed),
        (Err(why), Ok(_)) if !names.is_empty() => log::warn!("{why}"),
        (Err(why), _) => return Err(why),
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let listed = |id| Listed { id, owned_by: Some("codex".to_owned()), ..Listed::default() };
    Ok(names.into_iter().map(listed).collect())
}

/// What `codex debug models` says.
fn ask(exec: &Exec, asking: &Asking) -> Result<Vec<u8>, String> {
    let failed = |why: io::Error| format!("`{} debug models`: {why}", exec.command.display());
    let mut command = conduct::command(exec);
    command
        .args(["debug", "models"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let reader = child.stdout.take().map(|stdout| {
        thread::spawn(move || {
            let mut answer = Vec::new();
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map(|_| answer)
        })
    });
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() > until || asking.is_over(LOOK) => {
                conduct::signal_group(&child, "KILL");
                // It may be gone by now, which is what is wanted.
                let _ = child.wait();
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            None => {}
        }
    };
    // What it left behind would hold its output open.
    conduct::signal_group(&child, "KILL");
    let answer = reader.and_then(|reader| reader.join().ok());
    match answer {
        Some(Ok(answer)) if status.success() => Ok(answer),
        Some(Err(why)) => Err(failed(why)),
        _ => Err(failed(io::Error::other(format!("it ended with {status}")))),
    }
}

/// The names in the CLI's list: those that people can choose.
fn read(answer: &[u8]) -> Result<Vec<String>, String> {
    let wrong = || "the Codex CLI's list of models cannot be read".to_owned();
    let answer: Value = serde_json::from_slice(answer).map_err(|_| wrong())?;
    let models = answer.get("models").and_then(Value::as_array).ok_or_else(wrong)?;
    let shown = |model: &&Value| model.get("visibility").is_none_or(|it| it == "list");
    let name = |model: &Value| model.get("slug")?.as_str().map(str::to_owned);
    Ok(models.iter().filter(shown).filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_that_people_can_choose_are_listed() {
        let answer = br#"{"models":[{"slug":"a","visibility":"list"},{"slug":"b"},
            {"slug":"c","visibility":"hide"},{"no":1}]}"#;
        assert_eq!(read(answer).unwrap(), ["a", "b"]);
        assert!(read(b"[]").is_err() && read(b"{").is_err());
    }
}
