//! Processes of local commands. A bounded number of them runs at once for each provider; the others
//! wait in their order. Each has a thread of its own that starts it, sees it end, and clears up.

mod conduct;
mod discover;
mod files;
mod home;

use super::wake::Wake;
use crate::config::Config;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::launch::{Launch, LaunchId, Progress, Wanted};
pub(super) use discover::discover;

use conduct::Conduct;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Every process; shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct Children(Arc<Shared>);

/// A worker's way to them.
#[derive(Debug)]
pub(super) struct Launcher {
    children: Children,
    wake: Arc<Wake>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<Config>,
    state: Mutex<State>,
    /// A process is gone, or has to go.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<usize, Queue>,
    /// Processes that no worker took over yet.
    started: HashMap<LaunchId, (UnixStream, Guard)>,
    /// Processes of all providers.
    running: usize,
    /// The proxy comes to its end: no more of them.
    ending: bool,
}

/// The runs of one provider.
#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<(Wanted, Arc<Wake>)>,
}

/// Ends a process when it is dropped.
#[derive(Debug)]
pub(super) struct Guard(Arc<Conduct>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Children {
    /// No process yet.
    pub(super) fn new(config: Arc<Config>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { config, state, changed }))
    }

    /// Makes the folders that commands work in.
    ///
    /// # Errors
    /// One cannot be made or written, in words for people.
    pub(super) fn prepare(config: &Config) -> Result<(), String> {
        for provider in &config.providers {
            let Some(exec) = &provider.exec else { continue };
            let (folder, name) = (exec.workdir.display(), &provider.name);
            fs::create_dir_all(&exec.workdir).map_err(|why| {
                format!("provider {name}: cannot make its workdir {folder}: {why}")
            })?;
            let probe = exec.workdir.join(format!(".patchbay-{}", std::process::id()));
            fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).map_err(|why| {
                format!("provider {name}: its workdir {folder} cannot be written: {why}")
            })?;
        }
        Ok(())
    }

    /// For the worker that `wake` wakes.
    pub(super) fn launcher(&self, wake: Arc<Wake>) -> Launcher {
        Launcher { children: self.clone(), wake }
    }

    /// Begins to ask a CLI something; `None` when it is too late for that.
    fn ask(&self) -> Option<Asking> {
        let mut state = self.0.state();
        if state.ending {
            return None;
        }
        state.running += 1;
        Some(Asking(self.clone()))
    }

    /// Waits until every process is gone: their connections were closed. At most so long.
    pub(super) fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.0.state();
        state.ending = true;
        state.started.clear();
        self.0.changed.notify_all();
        while state.running > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log::error!("{} processes did not end in time", state.running);
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A process that answers a question, counted among the others.
#[derive(Debug)]
struct Asking(Children);

impl Asking {
    /// Waits a moment; true when the process has to end.
    fn is_over(&self, moment: Duration) -> bool {
        let shared = &self.0.0;
        let waited = shared.changed.wait_timeout_while(shared.state(), moment, |it| !it.ending);
        waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut state = shared.state();
        state.running = state.running.saturating_sub(1);
        shared.changed.notify_all();
    }
}

impl Launcher {
    /// Starts a run when it is its turn; the worker is told of every change.
    pub(super) fn launch(&self, launch: &Arc<Launch>) {
        let (shared, provider) = (&self.children.0, launch.provider);
        let mut state = shared.state();
        let queue = state.queues.entry(provider).or_default();
        // All wait equally long: those who gave up stand in front, while no run ends.
        while queue.waiting.front().is_some_and(|(wanted, _)| wanted.get().is_none()) {
            queue.waiting.pop_front();
        }
        queue.waiting.push_back((Wanted::new(launch), Arc::clone(&self.wake)));
        shared.start_waiting(state, provider);
    }

    /// The process of a run that has started; once.
    pub(super) fn take(&self, launch: LaunchId) -> Option<(UnixStream, Guard)> {
        self.children.0.state().started.remove(&launch)
    }
}

impl Shared {
    /// A panic while the state was locked left nothing half-made behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts as many of a provider's runs as may be.
    fn start_waiting(self: &Arc<Self>, mut state: MutexGuard<'_, State>, provider: usize) {
        let exec = self.config.providers.get(provider).and_then(|it| it.exec.as_ref());
        let most = exec.map_or(0, |exec| exec.processes_max);
        loop {
            let queue = state.queues.entry(provider).or_default();
            if queue.running >= most {
                return;
            }
            let Some((wanted, wake)) = queue.waiting.pop_front() else { return };
            let Some(launch) = wanted.get() else { continue };
            queue.running += 1;
            state.running += 1;
            let theirs = Arc::clone(self);
            let (mine, woken) = (Arc::clone(&launch), Arc::clone(&wake));
            let run = move || theirs.conduct(launch, &wake);
            if let Err(why) = thread::Builder::new().name("run".to_owned()).spawn(run) {
                mine.note(Progress::Failed(Arc::new(no_thread(&why))));
                woken.launches();
                Self::count_down(&mut state, provider);
            }
        }
    }

    /// A run from its beginning to its end, in its own thread.
    fn conduct(self: &Arc<Self>, launch: Arc<Launch>, wake: &Arc<Wake>) {
        let provider = launch.provider;
        let exec = self.config.providers.get(provider).and_then(|it| it.exec.as_ref());
        let begun = match exec {
            Some(exec) => Conduct::begin(exec, &launch),
            None => Err(Failure::new(Fault::proxy(Kind::Server), "the provider runs nothing")),
        };
        match begun {
            Err(failure) => launch.note(Progress::Failed(Arc::new(failure))),
            Ok((conduct, stream, child)) => {
                let guard = Guard(Arc::clone(&conduct));
                self.state().started.insert(launch.id(), (stream, guard));
                launch.note(Progress::Started);
                wake.launches();
                let (id, wanted) = (launch.id(), Wanted::new(&launch));
                drop(launch);
                let lost = || wanted.get().is_none() && self.state().started.remove(&id).is_some();
                let ended = conduct.accompany(child, lost);
                if let Some(launch) = wanted.get() {
                    launch.note(Progress::Over(ended));
                }
            }
        }
        wake.launches();
        let mut state = self.state();
        Self::count_down(&mut state, provider);
        self.changed.notify_all();
        self.start_waiting(state, provider);
    }

    fn count_down(state: &mut State, provider: usize) {
        state.running = state.running.saturating_sub(1);
        if let Some(queue) = state.queues.get_mut(&provider) {
            queue.running = queue.running.saturating_sub(1);
        }
    }
}

fn no_thread(why: &std::io::Error) -> Failure {
    Failure::new(Fault::proxy(Kind::Overloaded), format!("the command cannot be run: {why}"))
}
