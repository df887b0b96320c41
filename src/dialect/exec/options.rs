//! How one run differs from the others: `x_codex` of a request, checked, and the command line that it
//! becomes. Everything on the command line is one of a few known words, a name that was checked, or
//! a path of our own: no text of a client's.

use super::Run;
use crate::config::exec::{EFFORTS, Exec, Sandbox};
use crate::dialect::effort;
use crate::dialect::request::Request;
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{Escaped, Kind as Json, Raw};

/// The members of `x_codex`.
const MEMBERS: &[&str] =
    &["sandbox", "reasoning_effort", "network_access", "hide_reasoning", "show_activity"];

impl Run {
    /// What a request asks for.
    ///
    /// # Errors
    /// 400 that names the member with a value that is none.
    pub(super) fn asked(request: &Request<'_>) -> Result<Self, Failure> {
        let mut run = Self::default();
        if let Some(asked) = request.settings.effort.filter(|effort| !effort.is_empty()) {
            run.effort = Some(word("reasoning.effort", asked)?);
        }
        if let Some(own) = request.settings.x_codex {
            run.read(own)?;
        }
        run.asked_effort = run.effort.is_some();
        Ok(run)
    }

    fn read(&mut self, own: Raw<'_>) -> Result<(), Failure> {
        if own.kind() != Json::Object {
            return Err(wrong("x_codex", "an object"));
        }
        let mut refused = None;
        // It was checked as a part of the body.
        let _ = own.cursor().object(|key, value| {
            let value = value.skip()?;
            if let Err(failure) = self.member(key, value) {
                refused.get_or_insert(failure);
            }
            Ok(())
        });
        refused.map_or(Ok(()), Err)
    }

    fn member(&mut self, key: &str, value: Raw<'_>) -> Result<(), Failure> {
        if value.is_null() {
            return Ok(());
        }
        let param = format!("x_codex.{key}");
        let flag = || match value.text() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(&param, "true or false")),
        };
        match key {
            "sandbox" => {
                let name = value.string().map(Escaped::decode).unwrap_or_default();
                self.sandbox = Some(Sandbox::by_name(&name).ok_or_else(|| {
                    wrong(&param, "\"read-only\", \"workspace-write\" or \"danger-full-access\"")
                })?);
            }
            "reasoning_effort" => {
                self.effort = Some(word(&param, value.string().unwrap_or_default())?);
            }
            "network_access" => self.network_access = Some(flag()?),
            "hide_reasoning" => self.hide_reasoning = Some(flag()?),
            "show_activity" => self.show_activity = Some(flag()?),
            _ => {
                let known = MEMBERS.join(", ");
                let message = format!("`x_codex` has no such member; it has {known}");
                return Err(Failure::bad_request(message).with_param(cut(&param)));
            }
        }
        Ok(())
    }
}

/// Takes what a request does not say from the configuration.
pub(super) fn settle(run: &mut Run, exec: &Exec) -> Result<(), Failure> {
    let sandbox = *run.sandbox.get_or_insert(exec.sandbox);
    run.network_access.get_or_insert(exec.network_access);
    run.hide_reasoning.get_or_insert(exec.hide_reasoning);
    run.show_activity.get_or_insert(exec.show_activity);
    run.effort = run.effort.take().or_else(|| exec.effort.clone());
    if sandbox == Sandbox::DangerFullAccess && !exec.allow_danger {
        let message = "the sandbox \"danger-full-access\" is not allowed here: whoever runs patchbay \
                       has to set CODEX_ALLOW_DANGER_FULL_ACCESS=1";
        return Err(Failure::bad_request(message)
            .with_code("sandbox_not_allowed")
            .with_param("x_codex.sandbox"));
    }
    Ok(())
}

/// One of the CLI's words for an effort.
fn word(param: &str, asked: Escaped<'_>) -> Result<String, Failure> {
    let known = EFFORTS.iter().find(|known| asked.is(known)).map(|&known| known.to_owned());
    known.ok_or_else(|| wrong(param, &format!("one of {}", EFFORTS.join(", "))))
}

fn wrong(param: &str, expected: &str) -> Failure {
    Failure::bad_request(format!("`{param}` must be {expected}")).with_param(param)
}

fn cut(name: &str) -> String {
    name.chars().take(100).collect()
}

/// The arguments behind the command's name. The prompt comes on its standard input.
pub(super) fn arguments(run: &Run, files: &Files<'_>) -> Vec<String> {
    let mut list: Vec<String> = vec!["exec".to_owned()];
    list.extend(["--json", "--skip-git-repo-check"].map(str::to_owned));
    let mut set = |key: &str, value: &str| {
        list.push("-c".to_owned());
        list.push(format!("{key}={value}"));
    };
    let quoted = |text: &str| format!("\"{text}\"");
    let told = |on| if on { "true" } else { "false" };
    let sandbox = run.sandbox.unwrap_or_default();
    set("sandbox_mode", &quoted(sandbox.name()));
    if sandbox == Sandbox::WorkspaceWrite {
        set("sandbox_workspace_write.network_access", told(run.network_access == Some(true)));
    }
    if let Some(effort) = &run.effort {
        set("model_reasoning_effort", &quoted(effort));
    }
    set("hide_agent_reasoning", told(run.hide_reasoning == Some(true)));
    // It would be sent at the end of each run, and waited for.
    set("analytics.enabled", "false");
    if !run.model.is_empty() {
        set("model", &quoted(&run.model));
    }
    list.push("--ephemeral".to_owned());
    list.extend(files.images.iter().map(|path| format!("--image={path}")));
    list.extend(files.schema.map(|path| format!("--output-schema={path}")));
    list.push("-".to_owned());
    list
}

/// See [`Run::find_model`].
pub(super) fn find_model(run: &mut Run, known: &[&str]) -> Result<(), Failure> {
    let named = |name: &str| known.contains(&name);
    let (plain, suffix) = effort::split(&run.model);
    if known.is_empty() || named(&run.model) {
        return check_name(&run.model);
    }
    if let Some(suffix) = suffix.filter(|_| named(plain)) {
        if !run.asked_effort {
            run.effort = Some(suffix.to_owned());
        }
        run.model = plain.to_owned();
        return Ok(());
    }
    let model: String = run.model.chars().take(100).collect();
    let message =
        format!("the Codex CLI has no model \"{model}\": GET /v1/models lists those it has");
    Err(Failure::new(Fault::client(Kind::ModelNotFound), message).with_param("model"))
}

fn check_name(model: &str) -> Result<(), Failure> {
    if is_name(model) {
        return Ok(());
    }
    let message = "the name of the model holds characters that no model of the CLI has";
    Err(Failure::bad_request(message).with_param("model"))
}

/// Whether a model's name can stand on the command line, between quotes of TOML.
fn is_name(model: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
    model.len() <= 200 && !model.starts_with('-') && model.bytes().all(legal)
}

/// Files of our own that a run is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// Paths of its images.
    pub images: &'a [String],
    /// Path of the schema of its answer.
    pub schema: Option<&'a str>,
}
