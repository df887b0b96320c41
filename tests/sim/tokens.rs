//! A simulated vendor's token endpoint behind the proxy's own table of tokens, and who asks with
//! which account. Tokens end, are forgotten, take a while, and are refused to some.

use crate::sim::Random;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use patchbay::config::{Callers, Config, Credential, Grant, GrantKind, Url};
use patchbay::proxy::net::{Token, TokenState};
use patchbay::proxy::token::{Caller, Ends, Job, Reply, Table};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Unix time in milliseconds when a run begins.
const UNIX_MS: u64 = 1_800_000_000_000;
/// Of these callers some find no place in the table at first.
const CALLERS_MAX: usize = 2;
/// Fetches for callers at once, at most.
const FETCHES_MAX: usize = 8;

/// Whose account a request is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// The proxy's.
    Server,
    /// The client's own.
    Own(String),
    /// A client's whose password is wrong.
    Wrong,
    /// A client's whose ready token has ended.
    Ended,
}

impl Account {
    /// The account of the request with this marker, in a world with accounts.
    pub(crate) fn of(marker: &str) -> Self {
        let number = marker.strip_prefix("mk_").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let client = (number.unwrap_or(0) ^ 0x5eed_0000) / 16;
        match client % 5 {
            0 | 1 => Self::Own(format!("bob{}", client % 7)),
            2 => Self::Wrong,
            3 => Self::Ended,
            _ => Self::Server,
        }
    }

    /// The client's header field for it, with its line end.
    pub(crate) fn field(&self) -> String {
        match self {
            Self::Server => String::new(),
            Self::Own(name) => format!("Authorization: Bearer giga-user-{name}:pw\r\n"),
            Self::Wrong => "Authorization: Bearer giga-user-eve:wrong\r\n".to_owned(),
            Self::Ended => "Authorization: Bearer giga-auth-tok-ended\r\n".to_owned(),
        }
    }

    /// The name that its tokens are given to; `None` where none is good.
    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            Self::Server => Some("server"),
            Self::Own(name) => Some(name),
            Self::Wrong | Self::Ended => None,
        }
    }
}

/// Changes a configuration so that its providers want tokens.
pub(crate) fn configure(config: &mut Config) {
    for provider in &mut config.providers {
        let url = Url { path: "/token".to_owned(), ..provider.url.clone() };
        provider.credential = Credential::Grant(Arc::new(Grant {
            kind: GrantKind::Password,
            basic: Grant::basic("server", "pw"),
            scope: None,
            token_url: url.clone(),
        }));
        provider.callers =
            Some(Callers { scope: None, token_url: None, password_url: url, max: CALLERS_MAX });
    }
}

/// A token that was given.
#[derive(Debug)]
struct Given {
    provider: usize,
    owner: String,
    until_us: u64,
}

/// What the endpoint gave, and the proxy's table in front of it.
#[derive(Debug)]
pub(crate) struct Tokens {
    table: Table,
    base: Instant,
    random: Random,
    /// Chance of trouble, in a thousand.
    trouble: u64,
    /// Fetches under way, and when they end.
    jobs: Vec<(u64, Job)>,
    given: BTreeMap<String, Given>,
    /// When those who found no place are to ask again.
    crowded_us: Option<u64>,
    /// Told to the proxy's log.
    pub(crate) notes: Vec<String>,
}

impl Tokens {
    /// `None` for a configuration that wants no tokens.
    pub(crate) fn new(config: &Config, base: Instant, seed: u64, trouble: u64) -> Option<Self> {
        Some(Self {
            table: Table::new(config)?,
            base,
            random: Random::new(seed),
            trouble,
            jobs: Vec::new(),
            given: BTreeMap::new(),
            crowded_us: None,
            notes: Vec::new(),
        })
    }

    pub(crate) fn token(
        &mut self,
        now_us: u64,
        provider: usize,
        caller: Option<&Arc<Caller>>,
    ) -> TokenState {
        let now = self.base + Duration::from_micros(now_us);
        let state = self.table.token(provider, caller, now);
        if self.table.is_crowded() {
            self.crowded_us.get_or_insert(now_us + 1_000_000);
        }
        state
    }

    pub(crate) fn refused(
        &mut self,
        now_us: u64,
        provider: usize,
        caller: Option<&Arc<Caller>>,
        token: &Arc<Token>,
    ) {
        self.table.refuse(provider, caller, token, self.base + Duration::from_micros(now_us));
    }

    /// Begins what is due. The errors are what the table must not ask for.
    pub(crate) fn begin(&mut self, now_us: u64, errors: &mut Vec<String>) {
        while let Some(job) = self.table.due() {
            let same = |(_, it): &&(u64, Job)| {
                it.provider() == job.provider() && it.grant.basic == job.grant.basic
            };
            if self.jobs.iter().find(same).is_some() {
                errors.push(format!("two fetches at once for {}", owner(&job)));
            }
            let wait = if self.random.chance(300) { 2_000_000 } else { 5_000 };
            self.jobs.push((now_us + self.random.below(wait), job));
            if self.jobs.iter().filter(|(_, job)| !job.is_own()).count() > FETCHES_MAX {
                errors.push("too many fetches at once".to_owned());
            }
        }
    }

    /// When something is due.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.jobs.iter().map(|(at, _)| *at).chain(self.crowded_us).min()
    }

    /// Ends what is due; true when exchanges have to ask again.
    pub(crate) fn advance(&mut self, now_us: u64) -> bool {
        let mut changed = self.crowded_us.is_some_and(|at| at <= now_us);
        let (due, later) =
            std::mem::take(&mut self.jobs).into_iter().partition(|job| job.0 <= now_us);
        self.jobs = later;
        for (_, job) in due {
            let reply = self.reply(&job, now_us);
            let now = self.base + Duration::from_micros(now_us);
            let notes = self.table.settle(&job, reply, now, UNIX_MS + now_us / 1000);
            self.notes.extend(notes.into_iter().map(|note| note.words));
            changed = true;
        }
        if changed {
            self.crowded_us = None;
            let _ = self.table.take_crowded();
        }
        changed
    }

    fn reply(&mut self, job: &Job, now_us: u64) -> Reply {
        let owner = owner(job);
        if owner == "eve" {
            return Reply::Refused("the name or the password is wrong".to_owned());
        }
        if self.random.chance(self.trouble / 4) {
            let after_s = self.random.chance(500).then_some(2);
            return Reply::Later { why: "the endpoint is busy".to_owned(), after_s };
        }
        let access = format!("tok-{owner}-{:016}", self.given.len());
        let life_ms = *self.random.pick(&[8_000, 20_000, 1_800_000]);
        let until_us = now_us + life_ms * 1000;
        let given = Given { provider: job.provider(), owner, until_us };
        self.given.insert(access.clone(), given);
        Reply::Token { access, ends: Ends::At(UNIX_MS + until_us / 1000) }
    }

    /// Who a provider's API takes the bearer of a token for; `None` for nobody.
    pub(crate) fn owner(&mut self, provider: usize, shown: &str, now_us: u64) -> Option<String> {
        if self.random.chance(self.trouble / 16) {
            // The vendor forgot it.
            self.given.get_mut(shown)?.until_us = 0;
        }
        let given = self.given.get(shown)?;
        let good = given.provider == provider && now_us < given.until_us;
        good.then(|| given.owner.clone())
    }

    /// Whom a token was given to, good or not.
    pub(crate) fn given_to(&self, shown: &str) -> Option<&str> {
        self.given.get(shown).map(|given| given.owner.as_str())
    }
}

/// The name that a job fetches for.
fn owner(job: &Job) -> String {
    let decoded = STANDARD.decode(&job.grant.basic).unwrap_or_default();
    let text = String::from_utf8(decoded).unwrap_or_default();
    text.split(':').next().unwrap_or_default().to_owned()
}
