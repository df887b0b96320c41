//! A local `codex exec` as an upstream: how it is run.

use super::build::{World, file_of, path_of};
use super::file;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Efforts that the CLI knows (`model_reasoning_effort`).
pub const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"];
/// A whole run, unless the file says otherwise, in seconds.
const TIMEOUT_S: u32 = 120;
/// Runs at once.
const PROCESSES_MAX: u32 = 2;
/// How long a request waits for its run to begin, in seconds.
const QUEUE_S: u32 = 30;

/// How the runs of one provider are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The Codex CLI: a path, or a name that `PATH` leads to.
    pub command: PathBuf,
    /// Where it works; made when it is not there.
    pub workdir: PathBuf,
    /// `CODEX_HOME` of its process; `None` leaves the environment's.
    pub home: Option<PathBuf>,
    /// The sandbox of requests that name none.
    pub sandbox: Sandbox,
    /// Whether the sandbox `workspace-write` has the network, where a request does not say.
    pub network_access: bool,
    /// The effort of requests that name none; `None` leaves it to the CLI's own configuration.
    pub effort: Option<String>,
    /// Leave the model's reasoning out, where a request does not say.
    pub hide_reasoning: bool,
    /// Tell of commands, changes, calls and searches as reasoning, where a request does not say.
    pub show_activity: bool,
    /// Refuse to run while the CLI's provider is not on this machine.
    pub local_only: bool,
    /// Whether a request may ask for [`Sandbox::DangerFullAccess`].
    pub allow_danger: bool,
    /// A whole run.
    pub timeout: Duration,
    /// Variables of this process's environment that a run does not see: among them all that hold keys of
    /// the configuration.
    pub unset: Vec<String>,
    /// Runs at once.
    pub processes_max: usize,
    /// How long a request waits for its run to begin.
    pub queue: Duration,
}

/// What the commands that a model runs may touch (`sandbox_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Read files.
    #[default]
    ReadOnly,
    /// Write below the working directory.
    WorkspaceWrite,
    /// Everything that the process may.
    DangerFullAccess,
}

impl Sandbox {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::ReadOnly, Self::WorkspaceWrite, Self::DangerFullAccess];

    /// The CLI's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::DangerFullAccess => "danger-full-access",
        }
    }

    /// Finds a mode by the CLI's name for it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Reads the `exec` table of a provider.
///
/// # Errors
/// Which key is wrong, and what it may be.
pub(super) fn exec(written: file::Exec, folder: &Path, world: World<'_>) -> Result<Exec, String> {
    let path = |path| file_of(path, folder, world);
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let command = match written.command.filter(|path| !path.as_os_str().is_empty()) {
        None => PathBuf::from("codex"),
        // A name alone is looked for in `PATH`.
        Some(name) if name.components().count() == 1 && !name.starts_with("~") => name,
        Some(command) => path_of(&command, folder, world)?,
    };
    let sandbox = match text(written.sandbox) {
        None => Sandbox::default(),
        Some(name) => Sandbox::by_name(&name).ok_or_else(|| {
            let known = Sandbox::ALL.map(Sandbox::name).join(", ");
            format!("exec: the sandbox `{name}` is unknown; known: {known}")
        })?,
    };
    let allow_danger = written.allow_danger_full_access.is_some_and(|it| it.0);
    if sandbox == Sandbox::DangerFullAccess && !allow_danger {
        return Err(
            "exec: the sandbox `danger-full-access` needs `allow_danger_full_access`, or the \
                    variable CODEX_ALLOW_DANGER_FULL_ACCESS=1 with the preset"
                .to_owned(),
        );
    }
    let effort = text(written.effort);
    if let Some(effort) = effort.as_deref().filter(|it| !EFFORTS.contains(it)) {
        let known = EFFORTS.join(", ");
        return Err(format!("exec: the effort `{effort}` is unknown; known: {known}"));
    }
    let number = |written: Option<super::value::Number>, usual: u32, name: &str| match written
        .and_then(|it| it.0)
        .unwrap_or(usual)
    {
        0 => Err(format!("exec: {name} must be at least 1")),
        number => Ok(number),
    };
    let seconds = |number: u32| Duration::from_secs(u64::from(number));
    Ok(Exec {
        command,
        workdir: path(written.workdir)?.unwrap_or_else(|| folder.to_owned()),
        home: path(written.home)?,
        sandbox,
        network_access: written.network_access.is_some_and(|it| it.0),
        effort,
        hide_reasoning: written.hide_reasoning.is_some_and(|it| it.0),
        show_activity: written.show_activity.is_some_and(|it| it.0),
        local_only: written.local_only.is_some_and(|it| it.0),
        allow_danger,
        unset: written.unset.0,
        timeout: seconds(number(written.timeout_s, TIMEOUT_S, "timeout_s")?),
        processes_max: number(written.processes_max, PROCESSES_MAX, "processes_max")? as usize,
        queue: seconds(number(written.queue_s, QUEUE_S, "queue_s")?),
    })
}
