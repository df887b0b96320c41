//! One provider's file and tokens: what to show next, and how to get it.

use super::file::{self, Stamp};
use super::login::Known;
use super::{post, unix_s};
use crate::config::CodexAuth;
use crate::fault::{Failure, Fault, Kind, Retry};
use crate::proxy::net::Token;
use crate::proxy::token::{self, ADVICE, AuthFile, Offer, Refresh, Renewed, Tokens};
use crate::proxy::transport::TlsTable;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A token that we got so short a time ago is not refreshed again, whoever refuses it: an upstream
/// that refuses everything would burn a refresh token for each request.
const YOUNG: Duration = Duration::from_secs(30);
/// The longest pause between two tries that failed.
const PAUSE_S_MAX: u32 = 60;

/// One provider's file and tokens.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) provider: usize,
    name: String,
    auth: CodexAuth,
    tls: Arc<TlsTable>,
    /// The file when it was read last.
    stamp: Option<Stamp>,
    /// When tokens were last refreshed here.
    minted: Option<Instant>,
    /// What could not be written: it replaces a file that still holds this refresh token.
    ahead: Option<(String, AuthFile)>,
    /// A refresh token that will never work again.
    dead: Option<(String, String)>,
    failures: u32,
    /// What was logged last; nothing is said twice.
    told: String,
}

impl Keep {
    pub(super) fn new(provider: usize, name: &str, auth: CodexAuth, tls: Arc<TlsTable>) -> Self {
        Self {
            provider,
            name: name.to_owned(),
            auth,
            tls,
            stamp: None,
            minted: None,
            ahead: None,
            dead: None,
            failures: 0,
            told: String::new(),
        }
    }

    /// Reads the file for the first time.
    ///
    /// # Errors
    /// It is missing or of no use, with its path and what to do.
    pub(super) fn begin(&mut self) -> Result<Known, String> {
        let (_, offer) = self.read()?;
        Ok(self.take(offer).0)
    }

    /// Gets a token that is not this one: from the file, if somebody else has refreshed it, or
    /// from the token endpoint.
    pub(super) fn renew(&mut self, refused: Option<&Token>) -> Known {
        let (file, offer) = match self.read() {
            Ok(read) => read,
            Err(why) => return self.never(&why),
        };
        let (known, tokens) = self.take(offer);
        let (Some(tokens), Known::Ready { token, .. }) = (tokens, &known) else { return known };
        let refused = refused.is_some_and(|refused| *refused == **token);
        if !refused && !tokens.is_stale(unix_s()) {
            self.succeed();
            return known;
        }
        if let Some(minted) = self.minted.filter(|at| at.elapsed() < YOUNG) {
            let (token, renew_s) = (Arc::clone(token), Some(0));
            return Known::Ready { token, renew_s, not_before: Some(minted + YOUNG) };
        }
        self.refresh(file, &tokens, Arc::clone(token), refused)
    }

    /// Looks whether the file is another than the one that was read. `ready`: there is a token
    /// that is of use, and the file had better bring another.
    pub(super) fn look(&mut self, ready: bool) -> Option<Known> {
        let stamp = file::stamp(&self.auth.path);
        if stamp == self.stamp {
            return None;
        }
        if !ready {
            return Some(self.renew(None));
        }
        self.stamp = stamp;
        let (_, offer) = self.read().ok()?;
        match &offer {
            Offer::Tokens(tokens) if tokens.is_stale(unix_s()) => None,
            _ => Some(self.take(offer).0),
        }
    }

    fn read(&mut self) -> Result<(AuthFile, Offer), String> {
        let path = self.auth.path.as_path();
        // Taken before: a change while we read is seen at the next look.
        self.stamp = file::stamp(path);
        let mut read = file::read(path)?;
        if let Some((replaced, ahead)) = &self.ahead {
            if refresh_token(&read).as_ref() == Some(replaced) {
                read = ahead.clone();
                if file::write(path, &read.encode()).is_ok() {
                    self.stamp = file::stamp(path);
                    self.ahead = None;
                }
            } else {
                self.ahead = None;
            }
        }
        let offer = read.offer();
        let offer = offer.map_err(|why| format!("cannot use {}: {why}; {ADVICE}", path.display()));
        Ok((read, offer?))
    }

    /// What an offer is for the workers, and the tokens if it is some.
    fn take(&self, offer: Offer) -> (Known, Option<Tokens>) {
        let not_before = None;
        match offer {
            Offer::Key(key) => {
                let authorization = format!("Bearer {key}");
                let url = Some(self.auth.key_url.clone());
                let token = Arc::new(Token { authorization, account: None, url });
                (Known::Ready { token, renew_s: None, not_before }, None)
            }
            Offer::Tokens(tokens) => {
                let authorization = format!("Bearer {}", tokens.access);
                let account = tokens.account.clone();
                let token = Arc::new(Token { authorization, account, url: None });
                let renew_s = tokens.renew_s();
                (Known::Ready { token, renew_s, not_before }, Some(tokens))
            }
        }
    }

    fn refresh(
        &mut self,
        file: AuthFile,
        tokens: &Tokens,
        token: Arc<Token>,
        refused: bool,
    ) -> Known {
        // What is good until its end is used until then.
        let good = !refused && !tokens.is_expired(unix_s());
        let Some(used) = tokens.refresh.clone() else {
            let why = format!("{} holds no refresh token", self.auth.path.display());
            return self.give_up(&why, tokens, token, good);
        };
        if let Some((_, why)) = self.dead.take_if(|(dead, _)| *dead == used) {
            self.dead = Some((used, why.clone()));
            return self.give_up(&why, tokens, token, good);
        }
        let body = token::refresh_request(&used);
        let json = [("content-type", "application/json"), ("accept", "application/json")];
        let answer = post::post(&self.auth.token_url, &self.tls, self.provider, &json, &body);
        let answer = match answer {
            Ok(got) => Refresh::decode(got.status, &got.body),
            Err(why) => Refresh::Later(why),
        };
        let failed = match answer {
            Refresh::Done(renewed) => return self.save(file, &used, &renewed),
            failed => failed,
        };
        // Somebody else may have used the refresh token first: then theirs are the new tokens.
        if let Ok((_, Offer::Tokens(theirs))) = self.read()
            && theirs.access != tokens.access
            && !theirs.is_stale(unix_s())
        {
            log::info!("provider {}: another process refreshed the tokens", self.name);
            self.succeed();
            return self.take(Offer::Tokens(theirs)).0;
        }
        match failed {
            Refresh::Later(why) => self.later(&why, token, good),
            Refresh::Dead(why) => {
                self.dead = Some((used, why.clone()));
                self.give_up(&why, tokens, token, good)
            }
            Refresh::Done(_) => self.later("", token, good),
        }
    }

    /// Writes new tokens into the file as it is now.
    fn save(&mut self, file: AuthFile, used: &str, renewed: &Renewed) -> Known {
        let path = self.auth.path.as_path();
        let now = file::read(path);
        if let Ok(now) = &now
            && refresh_token(now).as_deref() != Some(used)
            && self.ahead.is_none()
            && let Ok(Offer::Tokens(theirs)) = now.offer()
            && !theirs.is_stale(unix_s())
        {
            log::info!("provider {}: another process wrote other tokens", self.name);
            self.succeed();
            return self.take(Offer::Tokens(theirs)).0;
        }
        let replaced = now.as_ref().ok().and_then(refresh_token);
        let mut file = match self.ahead {
            None => now.unwrap_or(file),
            Some(_) => file,
        };
        file.renew(renewed, unix_s());
        match file::write(path, &file.encode()) {
            Ok(()) => {
                self.ahead = None;
                log::info!("provider {}: the tokens were refreshed", self.name);
            }
            Err(why) => {
                let path = path.display();
                log::error!(
                    "provider {}: new tokens cannot be written to {path}: {why}; they are lost \
                     when this process ends",
                    self.name
                );
                self.ahead = replaced.map(|replaced| (replaced, file.clone()));
            }
        }
        self.stamp = file::stamp(path);
        self.minted = Some(Instant::now());
        self.succeed();
        match file.offer() {
            Ok(offer) => match self.take(offer).0 {
                // Whatever its end is, it is not refreshed at once.
                Known::Ready { token, renew_s, .. } => {
                    let not_before = Some(Instant::now() + YOUNG);
                    Known::Ready { token, renew_s, not_before }
                }
                failed => failed,
            },
            Err(why) => self.never(&why),
        }
    }

    fn succeed(&mut self) {
        self.failures = 0;
        self.told.clear();
    }

    /// A refresh can never work with what the file holds.
    fn give_up(&mut self, why: &str, tokens: &Tokens, token: Arc<Token>, good: bool) -> Known {
        match tokens.expires_s.filter(|_| good) {
            None => self.never(why),
            end => {
                self.tell(&format!("{why}; the token ends soon: {ADVICE}"));
                Known::Ready { token, renew_s: end, not_before: None }
            }
        }
    }

    /// There is no token until the file changes.
    fn never(&mut self, why: &str) -> Known {
        let advice = if why.contains(ADVICE) { String::new() } else { format!("; {ADVICE}") };
        self.tell(&format!("{why}{advice}"));
        let message = format!(
            "the ChatGPT login of the provider \"{}\" is of no use any more: {ADVICE} where \
             patchbay runs",
            self.name
        );
        let failure = Failure::new(Fault::upstream(Kind::Unauthorized), message);
        Known::Failed { failure: Arc::new(failure), until: None }
    }

    /// Another try may work.
    fn later(&mut self, why: &str, token: Arc<Token>, good: bool) -> Known {
        let pause_s = 1_u32.checked_shl(self.failures).map_or(PAUSE_S_MAX, |s| s.min(PAUSE_S_MAX));
        self.failures = self.failures.saturating_add(1).min(16);
        self.tell(&format!("the tokens cannot be refreshed at the moment: {why}"));
        let until = Some(Instant::now() + Duration::from_secs(u64::from(pause_s)));
        if good {
            return Known::Ready { token, renew_s: Some(0), not_before: until };
        }
        let message = format!(
            "the ChatGPT login of the provider \"{}\" cannot be refreshed at the moment: {why}",
            self.name
        );
        let mut fault = Fault::upstream(Kind::Overloaded);
        fault.retry = Retry::After(pause_s);
        Known::Failed { failure: Arc::new(Failure::new(fault, message)), until }
    }

    fn tell(&mut self, words: &str) {
        if self.told != words {
            log::error!("provider {}: {words}", self.name);
            words.clone_into(&mut self.told);
        }
    }
}

fn refresh_token(file: &AuthFile) -> Option<String> {
    match file.offer() {
        Ok(Offer::Tokens(tokens)) => tokens.refresh,
        _ => None,
    }
}

/// A provider that has no tokens at all.
pub(super) fn none(provider: usize) -> Failure {
    Failure::new(Fault::proxy(Kind::Server), format!("provider number {provider} has no tokens"))
}
