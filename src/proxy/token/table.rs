//! The access tokens of the server and of callers: what is known of each, and which is to be fetched
//! next. The time is an argument, fetching is somebody else's.

use super::caller::Caller;
use super::grant::{Ends, Reply};
use crate::config::{Callers, Config, Credential, Grant};
use crate::fault::{Failure, Fault, Kind, Retry};
use crate::proxy::net::{Token, TokenState};
use log::Level;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A token is fetched anew so long before its end, or a tenth of its life if that is less.
const EARLY_MAX: Duration = Duration::from_secs(60);
/// The life of a token whose end is not told, or cannot be true.
const LIFE_USUAL: Duration = Duration::from_secs(5 * 60);
/// No token is told to live longer; a clock that says so is wrong.
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The first pause between two tries that failed, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The first pause after a secret was refused: it will be again.
const REFUSED_PAUSE_MIN: Duration = Duration::from_secs(5);
/// A `Retry-After` is heeded up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// So many callers' tokens are fetched at once. The server's own never wait for them.
const CALLERS_AT_ONCE: usize = 8;
/// How long a token is kept for the caller that it was fetched for, before another may take its
/// place.
const HELD: Duration = Duration::from_secs(5);

/// Whose token, and where for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    provider: usize,
    /// `None` is the server itself.
    caller: Option<Arc<Caller>>,
}

/// A token to fetch. Give what came of it to [`Table::settle`].
pub struct Job {
    key: Key,
    /// With what, and where.
    pub grant: Arc<Grant>,
}

impl std::fmt::Debug for Job {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("provider", &self.key.provider).finish_non_exhaustive()
    }
}

impl Job {
    /// Index of the provider, whose TLS settings the token endpoint is asked with.
    #[must_use]
    pub fn provider(&self) -> usize {
        self.key.provider
    }

    /// The server asks for itself, and for no caller.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.key.caller.is_none()
    }
}

/// A line for the log. Not written here, because whoever holds the table is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How important.
    pub level: Level,
    /// Without a secret.
    pub words: String,
}

#[derive(Debug)]
enum Known {
    /// Nothing was fetched yet.
    Nothing,
    Ready {
        token: Arc<Token>,
        minted: Instant,
        /// When another is wanted.
        renew: Instant,
        /// From when on this one is of no use.
        ends: Instant,
        /// Another is not fetched before this.
        not_before: Instant,
    },
    Failed {
        failure: Arc<Failure>,
        /// When to try again.
        until: Instant,
    },
}

#[derive(Debug)]
struct Entry {
    grant: Arc<Grant>,
    known: Known,
    /// Another is being fetched, or will be.
    asked: bool,
    /// An upstream refused the token that is known.
    refused: bool,
    /// Tokens in a row that an upstream refused long before their end.
    strikes: u32,
    /// Tries in a row that failed.
    failures: u32,
    /// Nobody has come for what was fetched at this time.
    held: Option<Instant>,
    /// The larger, the later it was asked for.
    used: u64,
    /// The failure that was logged last; nothing is said twice.
    told: String,
}

/// The tokens of one process.
#[derive(Debug)]
pub struct Table {
    /// Name, and how callers bring their own; by provider.
    providers: Vec<(String, Option<Callers>)>,
    entries: HashMap<Key, Entry>,
    /// Who is to be fetched for, in their order.
    queue: VecDeque<Key>,
    /// Callers that are being fetched for.
    fetching: usize,
    uses: u64,
    /// Somebody found no place.
    crowded: bool,
    /// A wrong clock was told of.
    clock_told: bool,
}

impl std::fmt::Debug for Key {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, {:?})", self.provider, self.caller)
    }
}

impl Table {
    /// A table in which the server's own tokens are asked for already, so that mistakes show early.
    /// `None` where no token will ever be fetched.
    #[must_use]
    pub fn new(config: &Config) -> Option<Self> {
        let mut table = Self {
            providers: Vec::new(),
            entries: HashMap::new(),
            queue: VecDeque::new(),
            fetching: 0,
            uses: 0,
            crowded: false,
            clock_told: false,
        };
        for (provider, it) in config.providers.iter().enumerate() {
            table.providers.push((it.name.clone(), it.callers.clone()));
            if let Credential::Grant(grant) = &it.credential {
                let key = Key { provider, caller: None };
                table.queue.push_back(key.clone());
                let entry = Entry { asked: true, ..Entry::new(Arc::clone(grant)) };
                table.entries.insert(key, entry);
            }
        }
        let any = !table.entries.is_empty() || table.providers.iter().any(|it| it.1.is_some());
        any.then_some(table)
    }

    /// The token of a caller, or of the server itself; asks for another when it is too old.
    pub fn token(
        &mut self,
        provider: usize,
        caller: Option<&Arc<Caller>>,
        now: Instant,
    ) -> TokenState {
        let key = Key { provider, caller: caller.cloned() };
        match self.make_place(&key, now) {
            Ok(true) => {}
            Ok(false) => {
                self.crowded = true;
                return TokenState::Pending;
            }
            Err(failure) => return TokenState::Failed(Arc::new(failure)),
        }
        self.uses += 1;
        let Some(entry) = self.entries.get_mut(&key) else { return TokenState::Pending };
        entry.used = self.uses;
        entry.held = None;
        if !entry.asked && entry.is_due(now) {
            entry.asked = true;
            self.queue.push_back(key);
        }
        entry.state(now)
    }

    /// An upstream refused this token. One that is not the current one any more was replaced
    /// already. One that is new is kept for a while, longer each time: an upstream that refuses
    /// everything must not cost a token for each request.
    pub fn refuse(
        &mut self,
        provider: usize,
        caller: Option<&Arc<Caller>>,
        refused: &Arc<Token>,
        now: Instant,
    ) {
        let key = Key { provider, caller: caller.cloned() };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Known::Ready { token, minted, renew, .. } = &entry.known else { return };
        if token != refused {
            return;
        }
        if now < *renew {
            let pause =
                entry.strikes.checked_sub(1).map_or(Duration::ZERO, |n| doubled(PAUSE_MIN, n));
            if now < *minted + pause {
                return;
            }
            entry.strikes = entry.strikes.saturating_add(1);
        }
        entry.refused = true;
        if !entry.asked {
            entry.asked = true;
            self.queue.push_back(key);
        }
    }

    /// Whom to fetch a token for next: the server first, and not too many callers at once.
    pub fn due(&mut self) -> Option<Job> {
        let own = self.queue.iter().position(|key| key.caller.is_none());
        let at = own.or((self.fetching < CALLERS_AT_ONCE && !self.queue.is_empty()).then_some(0))?;
        let key = self.queue.remove(at)?;
        let grant = Arc::clone(&self.entries.get(&key)?.grant);
        self.fetching += usize::from(key.caller.is_some());
        Some(Job { key, grant })
    }

    /// This came of a job. `unix_ms`: Unix time in milliseconds.
    pub fn settle(&mut self, job: &Job, reply: Reply, now: Instant, unix_ms: u64) -> Vec<Note> {
        let mut notes = Vec::new();
        self.fetching -= usize::from(!job.is_own());
        let name = self.providers.get(job.key.provider).map_or("", |it| it.0.as_str());
        let Some(entry) = self.entries.get_mut(&job.key) else { return notes };
        entry.held = Some(now);
        entry.asked = false;
        let refused = std::mem::take(&mut entry.refused);
        let (why, kind, after) = match reply {
            Reply::Token { access, ends } => {
                let (life, wrong) = life(ends, unix_ms);
                if wrong && !std::mem::replace(&mut self.clock_told, true) {
                    notes.push(Note { level: Level::Warn, words: clock(name, &job.grant, ends) });
                }
                if !refused {
                    entry.strikes = 0;
                }
                // The first one, and the first after trouble, is news.
                let news = matches!(entry.known, Known::Nothing) || !entry.told.is_empty();
                let level = if news && job.is_own() { Level::Info } else { Level::Debug };
                entry.failures = 0;
                entry.told.clear();
                entry.known = ready(&access, life, now);
                let whose = if job.is_own() { "a token" } else { "a caller's token" };
                let words = format!("provider {name}: {whose} came, for {} s", life.as_secs());
                notes.push(Note { level, words });
                return notes;
            }
            Reply::Refused(why) => (why, Kind::Unauthorized, None),
            Reply::Unreachable(why) => (why, Kind::Unreachable, Some(Duration::ZERO)),
            Reply::Later { why, after_s } => {
                let after = after_s.map_or(Duration::ZERO, |s| Duration::from_secs(s.into()));
                (why, Kind::Overloaded, Some(after.min(RETRY_AFTER_MAX)))
            }
        };
        let first = if after.is_none() { REFUSED_PAUSE_MIN } else { PAUSE_MIN };
        let pause = doubled(first, entry.failures).max(after.unwrap_or_default());
        entry.failures = entry.failures.saturating_add(1);
        // A caller's own trouble is the caller's to read.
        let level = if job.is_own() { Level::Error } else { Level::Debug };
        if entry.told != why {
            let whose = if job.is_own() { "no token" } else { "no token for a caller" };
            notes.push(Note { level, words: format!("provider {name}: {whose}: {why}") });
            entry.told.clone_from(&why);
        }
        let trouble = after.map(|_| (kind, pause));
        entry.fail(failure(name, job.is_own(), &why, trouble), refused, now, pause);
        notes
    }

    /// Whether a fetch may be due, or somebody waits for a place.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || self.crowded
    }

    /// Whether somebody found no place since this was asked last: they have to ask again.
    pub fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    /// Whether somebody waits for a place.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Makes sure that a key has an entry; false when there is no place for it at the moment.
    fn make_place(&mut self, key: &Key, now: Instant) -> Result<bool, Failure> {
        if self.entries.contains_key(key) {
            return Ok(true);
        }
        let found = self.providers.get(key.provider);
        let (Some((name, Some(callers))), Some(caller)) = (found, &key.caller) else {
            let words = format!("provider number {} has no tokens", key.provider);
            return Err(Failure::new(Fault::proxy(Kind::Server), words));
        };
        let Some(grant) = caller.grant(callers) else {
            let words = format!(
                "the provider \"{name}\" takes no keys (giga-cred-) of callers here: no `token_url` \
                 is configured for them"
            );
            return Err(Failure::new(Fault::client(Kind::Unauthorized), words));
        };
        let theirs = |it: &&Key| it.provider == key.provider && it.caller.is_some();
        if self.entries.keys().filter(theirs).count() >= callers.max {
            let free = self.entries.iter().filter(|(key, entry)| theirs(key) && entry.is_free(now));
            let least = free.min_by_key(|(_, entry)| entry.worth()).map(|(key, _)| key.clone());
            let Some(least) = least else { return Ok(false) };
            self.entries.remove(&least);
        }
        self.entries.insert(key.clone(), Entry::new(Arc::new(grant)));
        Ok(true)
    }
}

impl Entry {
    fn new(grant: Arc<Grant>) -> Self {
        Self {
            grant,
            known: Known::Nothing,
            asked: false,
            refused: false,
            strikes: 0,
            failures: 0,
            held: None,
            used: 0,
            told: String::new(),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.known {
            Known::Nothing => true,
            Known::Ready { renew, ends, not_before, .. } => {
                now >= ends || (now >= renew && now >= not_before)
            }
            Known::Failed { until, .. } => now >= until,
        }
    }

    /// What a request may show. A token is used until its end, whether another is fetched or not.
    fn state(&self, now: Instant) -> TokenState {
        match &self.known {
            Known::Ready { token, ends, .. } if now < *ends && !self.refused => {
                TokenState::Ready(Arc::clone(token))
            }
            Known::Failed { failure, .. } if !self.asked => TokenState::Failed(Arc::clone(failure)),
            _ => TokenState::Pending,
        }
    }

    /// Whether another may have its place.
    fn is_free(&self, now: Instant) -> bool {
        let held = || self.held.is_some_and(|since| now < since + HELD);
        !self.asked && (!self.is_ready() || !held())
    }

    /// The smaller, the sooner it loses its place. Who failed goes first: a stream of wrong secrets
    /// must not drive out the good ones.
    fn worth(&self) -> (bool, u64) {
        (self.is_ready(), self.used)
    }

    fn is_ready(&self) -> bool {
        matches!(self.known, Known::Ready { .. })
    }

    /// A try failed: what is good is used until its end.
    fn fail(&mut self, failure: Failure, refused: bool, now: Instant, pause: Duration) {
        let until = now + pause;
        match &mut self.known {
            Known::Ready { ends, not_before, .. } if now < *ends && !refused => *not_before = until,
            known => *known = Known::Failed { failure: Arc::new(failure), until },
        }
    }
}

fn ready(access: &str, life: Duration, now: Instant) -> Known {
    let early = EARLY_MAX.min(life / 10);
    let authorization = format!("Bearer {access}");
    let token = Arc::new(Token { authorization, account: None, url: None });
    let ends = now + life;
    Known::Ready { token, minted: now, renew: ends - early, ends, not_before: now }
}

/// How long a token lives, and whether what was said of that cannot be true.
fn life(ends: Ends, unix_ms: u64) -> (Duration, bool) {
    let life = match ends {
        Ends::Unknown => return (LIFE_USUAL, false),
        Ends::After(life) => life,
        Ends::At(at) => Duration::from_millis(at.saturating_sub(unix_ms)),
    };
    let wrong = life.is_zero() || life > LIFE_MAX;
    (if wrong { LIFE_USUAL } else { life }, wrong)
}

fn doubled(first: Duration, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    first.checked_mul(factor).map_or(PAUSE_MAX, |pause| pause.min(PAUSE_MAX))
}

fn clock(name: &str, grant: &Grant, ends: Ends) -> String {
    let said = match ends {
        Ends::At(at) => format!("at Unix time {} s", at / 1000),
        Ends::After(life) => format!("after {} s", life.as_secs()),
        Ends::Unknown => "never".to_owned(),
    };
    format!(
        "provider {name}: the token endpoint {} says that its new token ends {said}, which is past \
         or more than a day away: check this machine's clock; such tokens are fetched anew every {} s",
        grant.token_url.host,
        LIFE_USUAL.as_secs()
    )
}

/// What a client is told. `trouble`: its kind, and a pause after which the same may work.
fn failure(name: &str, own: bool, why: &str, trouble: Option<(Kind, Duration)>) -> Failure {
    let Some((kind, pause)) = trouble else {
        return if own {
            let message =
                format!("the proxy's own account at the provider \"{name}\" is of no use: {why}");
            let fault = Fault::upstream(Kind::Unauthorized);
            Failure::new(fault, message).with_code("upstream_unauthorized")
        } else {
            let message = format!("your account at the provider \"{name}\" is of no use: {why}");
            Failure::new(Fault::client(Kind::Unauthorized), message)
        };
    };
    let mut fault = Fault::upstream(kind);
    // Of an endpoint that is not reached nobody knows when it will be, and the reason is mostly one
    // that a user has to read: the Codex CLI shows it when its tries are over, which this shortens.
    if kind != Kind::Unreachable {
        fault.retry = Retry::After(u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).max(1));
    }
    let whose = if own { "a token" } else { "a token for your account" };
    let message =
        format!("{whose} at the provider \"{name}\" is not to be had at the moment: {why}");
    Failure::new(fault, message)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
