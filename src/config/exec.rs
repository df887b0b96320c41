//! A local `codex exec` as an upstream: how it is run.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Keep the CLI's threads, so that a session can go on with one.
    pub keep_threads: bool,
    /// A whole run.
    pub timeout: Duration,
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
