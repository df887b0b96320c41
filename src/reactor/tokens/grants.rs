//! Tokens that endpoints give for a secret. One thread waits for what is to be fetched, and each
//! fetch has a thread of its own: an endpoint that is slow to one caller keeps no other waiting.

use super::{post, unix, unix_s};
use crate::config::{Config, Url};
use crate::proxy::net::{Token, TokenState};
use crate::proxy::token::{Caller, Job, Reply, Table, request};
use crate::proxy::transport::TlsTable;
use crate::reactor::drive::seed;
use crate::reactor::wake::Wake;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often those who found no place in the table try again.
const CROWDED_WAIT: Duration = Duration::from_secs(1);

/// A handle to the table; the threads end after the last.
#[derive(Clone, Debug)]
pub(super) struct Grants(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.asked.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    tls: Arc<TlsTable>,
    wakes: Vec<Arc<Wake>>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// The last handle is gone.
    closed: bool,
}

impl Grants {
    /// Starts the thread, if there is a provider that needs it.
    ///
    /// # Errors
    /// No thread is to be had.
    pub(super) fn start(
        config: &Config,
        tls: &Arc<TlsTable>,
        wakes: Vec<Arc<Wake>>,
    ) -> Result<Option<Self>, String> {
        let Some(table) = Table::new(config) else { return Ok(None) };
        let state = Mutex::new(State { table, closed: false });
        let (asked, tls) = (Condvar::new(), Arc::clone(tls));
        let shared = Arc::new(Shared { state, asked, tls, wakes });
        let theirs = Arc::clone(&shared);
        let spawned = thread::Builder::new().name("grants".to_owned()).spawn(move || theirs.run());
        spawned.map_err(|why| format!("cannot start: {why}"))?;
        Ok(Some(Self(Arc::new(Owner(shared)))))
    }

    /// The token of a caller, or of the server itself; asks for another when it is too old.
    pub(super) fn token(&self, provider: usize, caller: Option<&Arc<Caller>>) -> TokenState {
        let mut state = self.0.0.lock();
        let found = state.table.token(provider, caller, Instant::now());
        if state.table.is_waiting() {
            self.0.0.asked.notify_one();
        }
        found
    }

    /// Asks for another token than this one.
    pub(super) fn refused(
        &self,
        provider: usize,
        caller: Option<&Arc<Caller>>,
        token: &Arc<Token>,
    ) {
        self.0.0.lock().table.refuse(provider, caller, token, Instant::now());
        self.0.0.asked.notify_one();
    }
}

impl Shared {
    /// A panic while the table was locked left no half-made entry behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>) {
        while let Some(job) = self.wait() {
            let job = Arc::new(job);
            let (theirs, its) = (Arc::clone(self), Arc::clone(&job));
            let run = move || theirs.fetch(&its);
            if let Err(why) = thread::Builder::new().name("grant".to_owned()).spawn(run) {
                let why = format!("there is no thread for it: {why}");
                self.settle(&job, Reply::Later { why, after_s: None });
            }
        }
    }

    /// Waits for a token to fetch; `None` at the end.
    fn wait(&self) -> Option<Job> {
        let mut state = self.lock();
        let mut wake_at = None;
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.table.due() {
                return Some(job);
            }
            if !state.table.is_crowded() {
                wake_at = None;
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let at = *wake_at.get_or_insert(now + CROWDED_WAIT);
            if at <= now {
                let _ = state.table.take_crowded();
                drop(state);
                self.wake();
                state = self.lock();
                continue;
            }
            let result = self.asked.wait_timeout(state, at.saturating_duration_since(now));
            state = result.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn fetch(&self, job: &Job) {
        let fetched = catch_unwind(AssertUnwindSafe(|| self.ask(job)));
        let reply = fetched.unwrap_or_else(|_| {
            log::error!("a token was not fetched after a panic: this is a defect of patchbay");
            Reply::Later { why: "patchbay itself failed".to_owned(), after_s: None }
        });
        self.settle(job, reply);
    }

    fn ask(&self, job: &Job) -> Reply {
        let random = u128::from(seed()) << 64 | u128::from(seed());
        let asked = request(&job.grant, random);
        let fields: Vec<_> = asked.headers.iter().map(|(name, it)| (*name, it.as_str())).collect();
        let url: &Url = &job.grant.token_url;
        match post::post(url, &self.tls, job.provider(), &fields, asked.body.as_bytes()) {
            Ok(got) => {
                let after_s = got.retry_after_s(unix_s());
                Reply::decode(&job.grant, job.is_own(), got.status, after_s, &got.body)
            }
            Err(why) => Reply::Unreachable(why),
        }
    }

    fn settle(&self, job: &Job, reply: Reply) {
        let unix_ms = u64::try_from(unix().as_millis()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        let notes = state.table.settle(job, reply, Instant::now(), unix_ms);
        let _ = state.table.take_crowded();
        drop(state);
        for note in notes {
            log::log!(note.level, "{}", note.words);
        }
        self.asked.notify_one();
        self.wake();
    }

    fn wake(&self) {
        self.wakes.iter().for_each(|wake| wake.tokens());
    }
}
