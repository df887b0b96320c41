//! Tokens of `codex login`: one thread reads, refreshes and writes them for all workers, so that a
//! refresh token is used once however many requests wait. Workers only read its table.

use super::keep::{self, Keep};
use super::unix_s;
use crate::config::{Config, Credential};
use crate::fault::Failure;
use crate::proxy::net::{Token, TokenState};
use crate::proxy::transport::TlsTable;
use crate::reactor::wake::Wake;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a file in use, or one that was of no use, is looked at for a change.
const LOOK: Duration = Duration::from_secs(1);

/// A handle to the table; the thread ends after the last.
#[derive(Clone, Debug)]
pub(super) struct Logins(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.table().closed = true;
        self.0.asked.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    asked: Condvar,
}

/// What the thread is to do next.
enum Work {
    /// Get a token for this provider, another than this one.
    Renew(usize, Option<Arc<Token>>),
    /// See whether files changed: for each provider whether that matters, and whether its token
    /// is of use.
    Look(Vec<(usize, bool)>),
    End,
}

/// What is known of a provider's token.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Ready {
        token: Arc<Token>,
        /// When to refresh it, Unix time in seconds; `None` = when it is refused.
        renew_s: Option<u64>,
        /// But not before this.
        not_before: Option<Instant>,
    },
    Failed {
        failure: Arc<Failure>,
        /// When to try again; `None` = when the file changed.
        until: Option<Instant>,
    },
}

#[derive(Debug)]
struct Entry {
    provider: usize,
    known: Known,
    /// Somebody waits for another.
    asked: bool,
    refused: Option<Arc<Token>>,
    /// Asked for since the last look at the file.
    used: bool,
}

/// The providers that have tokens. Pure: the time is an argument.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    /// The last handle is gone.
    closed: bool,
}

impl Logins {
    /// Reads the files and starts the thread, if there is a provider that needs it; `wakes` are
    /// told of every change.
    ///
    /// # Errors
    /// A file is missing or of no use, in words for people.
    pub(super) fn start(
        config: &Config,
        tls: &Arc<TlsTable>,
        wakes: Vec<Arc<Wake>>,
    ) -> Result<Self, String> {
        let (mut keeps, mut table) = (Vec::new(), Table::default());
        for (provider, it) in config.providers.iter().enumerate() {
            if let Credential::CodexAuth(auth) = &it.credential {
                let mut keep = Keep::new(provider, &it.name, auth.clone(), Arc::clone(tls));
                let known = keep.begin().map_err(|why| format!("provider {}: {why}", it.name))?;
                let (asked, refused, used) = (false, None, false);
                table.entries.push(Entry { provider, known, asked, refused, used });
                keeps.push(keep);
            }
        }
        let shared = Arc::new(Shared { table: Mutex::new(table), asked: Condvar::new() });
        if !keeps.is_empty() {
            let theirs = Arc::clone(&shared);
            let run = move || theirs.run(&mut keeps, &wakes);
            let spawned = thread::Builder::new().name("tokens".to_owned()).spawn(run);
            spawned.map_err(|why| format!("cannot start: {why}"))?;
        }
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// A table of nobody.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        let shared = Shared { table: Mutex::default(), asked: Condvar::new() };
        Self(Arc::new(Owner(Arc::new(shared))))
    }

    /// Whether it is about this provider.
    pub(super) fn has(&self, provider: usize) -> bool {
        self.0.0.table().entry(provider).is_some()
    }

    /// The token of a provider; asks for another when it is too old.
    pub(super) fn token(&self, provider: usize) -> TokenState {
        let shared = &self.0.0;
        let state = shared.table().token(provider, unix_s(), Instant::now());
        if matches!(state, TokenState::Pending) {
            shared.asked.notify_one();
        }
        state
    }

    /// Asks for another token than this one.
    pub(super) fn refused(&self, provider: usize, token: &Arc<Token>) {
        self.0.0.table().refuse(provider, token);
        self.0.0.asked.notify_one();
    }
}

impl Shared {
    /// A panic while the table was locked left no half-made entry behind.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, keeps: &mut [Keep], wakes: &[Arc<Wake>]) {
        loop {
            let mut changed = false;
            match self.wait() {
                Work::End => return,
                Work::Renew(provider, refused) => {
                    let keep = keeps.iter_mut().find(|keep| keep.provider == provider);
                    if let Some(keep) = keep {
                        let known = keep.renew(refused.as_deref());
                        self.table().settle(provider, known);
                        changed = true;
                    }
                }
                Work::Look(providers) => {
                    for (provider, ready) in providers {
                        let keep = keeps.iter_mut().find(|keep| keep.provider == provider);
                        if let Some(known) = keep.and_then(|keep| keep.look(ready)) {
                            self.table().replace(provider, known);
                            changed = true;
                        }
                    }
                }
            }
            if changed {
                wakes.iter().for_each(|wake| wake.tokens());
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> Work {
        let mut table = self.table();
        let mut look_at = Instant::now() + LOOK;
        loop {
            if table.closed {
                return Work::End;
            }
            if let Some((provider, refused)) = table.due() {
                return Work::Renew(provider, refused);
            }
            let now = Instant::now();
            if now >= look_at {
                let providers = table.looks();
                if !providers.is_empty() {
                    return Work::Look(providers);
                }
                look_at = now + LOOK;
            }
            let wait = look_at.saturating_duration_since(now);
            let result = self.asked.wait_timeout(table, wait);
            table = result.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Table {
    fn entry(&mut self, provider: usize) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.provider == provider)
    }

    fn token(&mut self, provider: usize, unix_s: u64, now: Instant) -> TokenState {
        let Some(entry) = self.entry(provider) else {
            return TokenState::Failed(Arc::new(keep::none(provider)));
        };
        entry.used = true;
        match &entry.known {
            _ if entry.asked => return TokenState::Pending,
            Known::Ready { token, renew_s, not_before } => {
                let old = renew_s.is_some_and(|at| at <= unix_s);
                if !old || not_before.is_some_and(|at| at > now) {
                    return TokenState::Ready(Arc::clone(token));
                }
            }
            Known::Failed { failure, until } => {
                if until.is_none_or(|until| until > now) {
                    return TokenState::Failed(Arc::clone(failure));
                }
            }
        }
        entry.asked = true;
        TokenState::Pending
    }

    /// A token that is not the current one any more was replaced already.
    fn refuse(&mut self, provider: usize, refused: &Arc<Token>) {
        if let Some(entry) = self.entry(provider)
            && let Known::Ready { token, .. } = &entry.known
            && token == refused
        {
            entry.asked = true;
            entry.refused = Some(Arc::clone(refused));
        }
    }

    /// Which provider needs another token, and what was refused.
    fn due(&mut self) -> Option<(usize, Option<Arc<Token>>)> {
        let entry = self.entries.iter_mut().find(|entry| entry.asked)?;
        Some((entry.provider, entry.refused.take()))
    }

    /// The providers whose file is to be looked at, and whether they have a token.
    fn looks(&mut self) -> Vec<(usize, bool)> {
        let mut looks = Vec::new();
        for entry in &mut self.entries {
            let ready = matches!(entry.known, Known::Ready { .. });
            if std::mem::take(&mut entry.used) || !ready {
                looks.push((entry.provider, ready));
            }
        }
        looks
    }

    /// What is known changed by itself; who asks for another still does.
    fn replace(&mut self, provider: usize, known: Known) {
        if let Some(entry) = self.entry(provider) {
            entry.known = known;
        }
    }

    /// This is what was asked for.
    fn settle(&mut self, provider: usize, known: Known) {
        if let Some(entry) = self.entry(provider) {
            entry.known = known;
            entry.asked = false;
            entry.refused = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(known: Known) -> Table {
        let entry = Entry { provider: 3, known, asked: false, refused: None, used: false };
        Table { entries: vec![entry], closed: false }
    }

    fn named(name: &str) -> Arc<Token> {
        Arc::new(Token { authorization: name.to_owned(), account: None, url: None })
    }

    fn ready(name: &str, renew_s: Option<u64>, not_before: Option<Instant>) -> Known {
        Known::Ready { token: named(name), renew_s, not_before }
    }

    /// Ready with a name, pending or failed.
    fn shown(state: &TokenState) -> &str {
        match state {
            TokenState::Ready(token) => &token.authorization,
            TokenState::Pending => "pending",
            TokenState::Failed(_) => "failed",
        }
    }

    #[test]
    fn an_old_token_is_asked_for_once_and_everybody_waits() {
        let now = Instant::now();
        let mut table = table(ready("a", Some(100), None));
        assert_eq!(shown(&table.token(3, 99, now)), "a");
        assert!(table.due().is_none());
        for _ in 0..2 {
            assert_eq!(shown(&table.token(3, 100, now)), "pending");
        }
        assert!(matches!(table.due(), Some((3, None))));
        table.settle(3, ready("b", Some(50), Some(now + LOOK)));
        assert!(table.due().is_none(), "asked once");
        assert_eq!(shown(&table.token(3, 100, now)), "b", "too early for another refresh");
        assert_eq!(shown(&table.token(3, 100, now + LOOK)), "pending");
        assert_eq!(shown(&table.token(4, 0, now)), "failed", "no such provider");
    }

    #[test]
    fn only_the_current_token_can_be_refused() {
        let now = Instant::now();
        let mut table = table(ready("b", None, None));
        table.refuse(3, &named("a"));
        assert_eq!(shown(&table.token(3, 0, now)), "b", "a was replaced already");
        table.refuse(3, &named("b"));
        assert_eq!(shown(&table.token(3, 0, now)), "pending");
        let (_, refused) = table.due().unwrap();
        assert_eq!(refused.unwrap().authorization, "b");
    }

    #[test]
    fn a_failure_is_told_until_its_time_or_until_the_file_changed() {
        let now = Instant::now();
        let failed = |until| Known::Failed { failure: Arc::new(keep::none(3)), until };
        let mut table = table(failed(None));
        let century = now + Duration::from_secs(3_000_000_000);
        assert_eq!(shown(&table.token(3, u64::MAX, century)), "failed");
        assert_eq!(table.looks(), [(3, false)]);
        assert_eq!(table.looks(), [(3, false)], "also while nobody asks");
        table.settle(3, failed(Some(now + LOOK)));
        assert_eq!(shown(&table.token(3, 0, now)), "failed");
        assert_eq!(shown(&table.token(3, 0, now + LOOK)), "pending");
        table.settle(3, ready("a", None, None));
        assert_eq!(table.looks(), [(3, true)]);
        assert!(table.looks().is_empty(), "not in use");
    }
}
