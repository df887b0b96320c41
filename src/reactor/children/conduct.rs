//! One process, from its start to its end.

use super::files::Files;
use super::home;
use crate::config::exec::Exec;
use crate::dialect::exec;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::launch::{Ended, Launch};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Of standard error, so much is kept, from its end.
const WORDS_BYTES_MAX: usize = 8 << 10;
/// And so many characters are told.
const TOLD_CHARS_MAX: usize = 400;
/// How long a process may go on that nobody listens to any more, before it is told to end.
const GRACE: Duration = Duration::from_millis(300);
/// How long one may take that was told to, before it is made to.
const PATIENCE: Duration = Duration::from_millis(1200);
/// Between two looks at a process that is about to end.
const LOOK: Duration = Duration::from_millis(10);
/// Between two looks at one that is not.
const LOOK_SELDOM: Duration = Duration::from_millis(250);

/// What is known of a process while it runs.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Nobody listens any more.
    ended: bool,
    /// Standard error was closed: the process is gone, or about to go.
    silent: bool,
    /// The end of what it wrote there.
    words: Vec<u8>,
}

/// A process, and what has to be taken away behind it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    _files: Files,
}

impl Conduct {
    /// Starts the process of a run. Its standard input and output are the other end of the socket.
    ///
    /// # Errors
    /// What could not be had, in words for the client.
    pub(super) fn begin(
        exec: &Exec,
        launch: &Launch,
    ) -> Result<(Arc<Self>, UnixStream, Running), Failure> {
        let failed = |what: &str, why: &io::Error| {
            let message = format!("the Codex CLI cannot be run: {what}: {why}");
            log::error!("{message}");
            Failure::new(Fault::upstream(Kind::Unreachable), message)
        };
        if exec.local_only {
            home::check_local(exec)?;
        }
        let files = Files::write(&launch.run).map_err(|why| failed("its files", &why))?;
        let given = exec::Files { images: &files.images, schema: files.schema.as_deref() };
        let (ours, theirs) = UnixStream::pair().map_err(|why| failed("its socket", &why))?;
        ours.set_nonblocking(true).map_err(|why| failed("its socket", &why))?;
        let output = theirs.try_clone().map_err(|why| failed("its socket", &why))?;
        let mut command = command(exec);
        command
            .args(launch.run.arguments(&given))
            .current_dir(&exec.workdir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(Stdio::piped());
        let spawned = command.spawn();
        // Our copies of the other end: while they are open, no end of the output would be seen.
        drop(command);
        let name = exec.command.display().to_string();
        let mut child = spawned.map_err(|why| failed(&format!("`{name}`"), &why))?;
        let conduct = Arc::new(Self::default());
        if let Some(stderr) = child.stderr.take() {
            conduct.listen(stderr);
        }
        Ok((conduct, ours, Running { child, _files: files }))
    }

    /// Nobody listens to the process any more.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// A panic while the state was locked left nothing half-made behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the end of what the process writes to standard error, in a thread that ends with it.
    fn listen(self: &Arc<Self>, mut stderr: ChildStderr) {
        let conduct = Arc::clone(self);
        let read = move || {
            let mut buffer = [0; 4 << 10];
            loop {
                match stderr.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        let mut state = conduct.state();
                        state.words.extend_from_slice(buffer.get(..count).unwrap_or_default());
                        let over = state.words.len().saturating_sub(WORDS_BYTES_MAX);
                        state.words.drain(..over);
                    }
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            conduct.state().silent = true;
            conduct.changed.notify_all();
        };
        if let Err(why) = thread::Builder::new().name("stderr".to_owned()).spawn(read) {
            log::warn!("what the command says on standard error is lost: {why}");
        }
    }

    /// Stays with the process until it is gone, and ends it when nobody listens any more, or `lost`
    /// says that nobody ever will.
    pub(super) fn accompany(&self, mut running: Running, lost: impl Fn() -> bool) -> Ended {
        let mut told: Option<(Instant, &str)> = None;
        let status = loop {
            match running.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) => {}
                Err(why) => {
                    log::error!("lost sight of a command: {why}");
                    break None;
                }
            }
            let ended = self.wait(told.is_some()) || lost();
            told = match told {
                None if ended => Some((Instant::now() + GRACE, "TERM")),
                Some((at, name)) if at <= Instant::now() => {
                    signal_group(&running.child, name);
                    Some((Instant::now() + PATIENCE, "KILL"))
                }
                other => other,
            };
        };
        // What it started and left behind ends too; the shell that says so is quicker than any
        // reuse of the number.
        signal_group(&running.child, "KILL");
        let state = self.state();
        Ended {
            how: status.map_or_else(|| "no exit code".to_owned(), how),
            words: tail(&state.words),
        }
    }

    /// Waits for news; true when nobody listens any more.
    fn wait(&self, told: bool) -> bool {
        let state = self.state();
        let look = if told || state.silent || state.ended { LOOK } else { LOOK_SELDOM };
        let waited = self.changed.wait_timeout(state, look);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }
}

/// The CLI, without arguments.
pub(super) fn command(exec: &Exec) -> Command {
    let mut command = Command::new(&exec.command);
    // Of its own, so that whatever it starts ends with it.
    command.process_group(0);
    for name in &exec.unset {
        command.env_remove(name);
    }
    if let Some(home) = &exec.home {
        command.env("CODEX_HOME", home);
    }
    command
}

/// Sends a signal to a process and all that it started.
pub(super) fn signal_group(child: &Child, name: &str) {
    // The shell's own `kill`: without unsafe code there is no other, and every system has it.
    let script = format!("kill -s {name} -- -{} 2>/dev/null", child.id());
    let sent = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    if let Err(why) = sent {
        log::error!("cannot send the signal {name} to a command: {why}");
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

/// The last lines, without control characters.
fn tail(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(TOLD_CHARS_MAX);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().skip(skipped).map(plain).collect()
}
