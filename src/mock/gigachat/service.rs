//! Accounts, their tokens and files, and what was refused: shared by all workers.

use super::{Refusal, Shown};
use crate::wire::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Accounts that are counted apart; the rest is counted as one.
const ACCOUNTS_MAX: usize = 1000;
/// Tokens that are known; those that expired long ago are forgotten first.
const TOKENS_MAX: usize = 100_000;
/// How long an expired token is still called expired, in milliseconds.
const REMEMBERED_MS: u64 = 600_000;
/// The account of [`GigaChat::access_tokens`], and of those beyond [`ACCOUNTS_MAX`].
const NO_ACCOUNT: &str = "access-token";
const OTHERS: &str = "others";

/// Who may use the scripted GigaChat, and for how long.
#[derive(Clone, PartialEq, Eq)]
pub struct GigaChat {
    /// `id:secret` of each account: client id and secret, or user and password. Without one, every
    /// well-formed pair is an account.
    pub accounts: Vec<String>,
    /// The scope of all accounts; without one, every scope that there is.
    pub scope: Option<String>,
    /// Tokens that pass besides those that are handed out, and do not expire.
    pub access_tokens: Vec<String>,
    /// How long a token lives, whole milliseconds.
    pub token_lifetime: Duration,
}

impl std::fmt::Debug for GigaChat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accounts, scope, access_tokens, token_lifetime } = self;
        f.debug_struct("GigaChat")
            .field("accounts", &accounts.len())
            .field("scope", scope)
            .field("access_tokens", &access_tokens.len())
            .field("token_lifetime", token_lifetime)
            .finish()
    }
}

impl Default for GigaChat {
    /// Any account, every scope, tokens of half an hour.
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            scope: None,
            access_tokens: Vec::new(),
            token_lifetime: Duration::from_secs(1800),
        }
    }
}

/// All that workers share.
#[derive(Debug)]
pub(in crate::mock) struct Service {
    pub(super) options: GigaChat,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last token or file.
    last: u64,
    tokens: HashMap<String, Token>,
    accounts: BTreeMap<String, Account>,
    refusals: BTreeMap<&'static str, u64>,
    embeddings: u64,
    attachments: u64,
}

#[derive(Debug)]
struct Token {
    account: String,
    /// The first millisecond since 1970 in which it is no longer taken.
    until_ms: u64,
}

/// What one account did.
#[derive(Debug, Default)]
struct Account {
    tokens: u64,
    requests: u64,
    uploads: u64,
    files: BTreeMap<String, File>,
}

/// An uploaded file; what was in it is not kept.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) image: bool,
    pub(super) created_s: u64,
}

impl Service {
    pub(in crate::mock) fn new(options: GigaChat) -> Self {
        Self { options, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account that a request for anything but a token belongs to.
    ///
    /// # Errors
    /// No token, an unknown or an expired one.
    pub(super) fn account(&self, shown: &Shown) -> Result<String, Refusal> {
        let refuse = |reason, message: &str| Refusal::new(401, reason, message);
        let Some(token) = shown.credential("bearer") else {
            return Err(refuse("no_token", "Unauthorized"));
        };
        let mut state = self.state();
        let account = match state.tokens.get(token) {
            Some(known) if known.until_ms <= now_ms() => {
                return Err(refuse("expired_token", "Token has expired"));
            }
            Some(known) => known.account.clone(),
            None if self.options.access_tokens.iter().any(|one| one == token) => {
                NO_ACCOUNT.to_owned()
            }
            None => return Err(refuse("unknown_token", "Unauthorized")),
        };
        state.account(&account).requests += 1;
        Ok(account)
    }

    /// Hands a token out; gives it and when it expires, in milliseconds since 1970.
    pub(super) fn hand_out(&self, account: &str) -> (String, u64) {
        let now_ms = now_ms();
        let lifetime = u64::try_from(self.options.token_lifetime.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms.saturating_add(lifetime);
        let mut state = self.state();
        if state.tokens.len() >= TOKENS_MAX {
            state.tokens.retain(|_, token| token.until_ms.saturating_add(REMEMBERED_MS) > now_ms);
        }
        state.last += 1;
        let token = format!("mock-token-{:016x}", state.last);
        state.account(account).tokens += 1;
        state.tokens.insert(token.clone(), Token { account: account.to_owned(), until_ms });
        (token, until_ms)
    }

    /// Counts what is refused, and gives it back.
    pub(super) fn count(&self, refusal: Refusal) -> Refusal {
        log::debug!("refused with {} ({}): {}", refusal.status, refusal.reason, refusal.message);
        *self.state().refusals.entry(refusal.reason).or_default() += 1;
        refusal
    }

    pub(super) fn count_embeddings(&self, texts: u64) {
        self.state().embeddings += texts;
    }

    pub(super) fn count_attachments(&self, attachments: u64) {
        self.state().attachments += attachments;
    }

    /// Keeps a file of the account and gives its id.
    pub(super) fn keep(&self, account: &str, file: File) -> String {
        let mut state = self.state();
        state.last += 1;
        let id = format!("6d6f636b-0000-4000-8000-{:012x}", state.last);
        let account = state.account(account);
        account.uploads += 1;
        account.files.insert(id.clone(), file);
        id
    }

    /// Takes a file off the account; whether it was there.
    pub(super) fn forget(&self, account: &str, id: &str) -> bool {
        self.state().account(account).files.remove(id).is_some()
    }

    /// A file of the account.
    pub(super) fn look_up(&self, account: &str, id: &str) -> Option<File> {
        self.state().account(account).files.get(id).cloned()
    }

    /// All files of the account.
    pub(super) fn all_files(&self, account: &str) -> Vec<(String, File)> {
        let mut state = self.state();
        let files = state.account(account).files.iter();
        files.map(|(id, file)| (id.clone(), file.clone())).collect()
    }

    /// Appends what was counted as the member `gigachat`.
    pub(in crate::mock) fn write_counters(&self, out: &mut Vec<u8>) {
        let state = self.state();
        let sum = |of: fn(&Account) -> u64| state.accounts.values().map(of).sum();
        json::key("gigachat", out);
        out.push(b'{');
        json::member_number("tokens", sum(|account| account.tokens), out);
        json::member_number("uploads", sum(|account| account.uploads), out);
        json::member_number("attachments", state.attachments, out);
        json::member_number("embeddings", state.embeddings, out);
        json::key("accounts", out);
        out.push(b'{');
        for (label, account) in &state.accounts {
            // Labels are the clients' own words.
            json::comma(out);
            json::string(label, out);
            out.extend_from_slice(b":{");
            json::member_number("tokens", account.tokens, out);
            json::member_number("requests", account.requests, out);
            json::member_number("uploads", account.uploads, out);
            out.push(b'}');
        }
        out.push(b'}');
        json::key("refusals", out);
        out.push(b'{');
        for (reason, count) in &state.refusals {
            json::member_number(reason, *count, out);
        }
        out.extend_from_slice(b"}}");
    }
}

impl State {
    fn account(&mut self, label: &str) -> &mut Account {
        let full = self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(label);
        self.accounts.entry(if full { OTHERS } else { label }.to_owned()).or_default()
    }
}

/// The time in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
