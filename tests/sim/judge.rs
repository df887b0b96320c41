//! Whether what a client got follows from what the upstreams did.

use crate::sim::Profile;
use crate::sim::check::{self, End, Seen};
use crate::sim::client::{Outcome, Record};
use crate::sim::http::Message;
use crate::sim::net::SimNet;
use crate::sim::script::Api;
use crate::sim::tokens::Account;
use crate::sim::upstream::{Execution, Fate};

/// Everything needed to judge one request.
pub(crate) struct Case<'c> {
    pub(crate) record: &'c Record,
    /// What reached upstreams with its marker, in order.
    pub(crate) executions: Vec<&'c Execution>,
    /// How often it reached upstreams with a token that was no good.
    pub(crate) refusals: usize,
    /// It may have been refused with a file that other requests have too.
    pub(crate) excused: bool,
    pub(crate) net: &'c SimNet,
    pub(crate) profile: &'c Profile,
    /// The client stalls for ever: it may be cut.
    pub(crate) lazy: bool,
    /// The client reads slowly: between two requests, its connection may be closed as idle.
    pub(crate) slow: bool,
}

impl Case<'_> {
    /// Says what is wrong, if anything is.
    pub(crate) fn judge(&self) -> Result<(), String> {
        self.count()?;
        self.accounts()?;
        match &self.record.outcome {
            Outcome::Bad(error) => Err(format!("the reply is no HTTP: {error}")),
            Outcome::Left => Ok(()),
            Outcome::Refused => self.refused(),
            Outcome::Cut { message, has_head } => self.cut(message, *has_head),
            Outcome::Whole(message) => self.whole(message),
        }
    }

    /// At most one execution, and one upload of each file; a second only after a reused connection
    /// died without a byte, or because a file was gone.
    fn count(&self) -> Result<(), String> {
        if self.record.ask.broken && !self.executions.is_empty() {
            return Err("a broken request was executed".to_owned());
        }
        let mut kinds: Vec<&Option<Vec<u8>>> = self.executions.iter().map(|it| &it.file).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let alike: Vec<_> = self.executions.iter().filter(|it| it.file == *kind).collect();
            let [again @ .., _] = alike.as_slice() else { continue };
            let in_vain = |it: &&&&Execution| it.was_stale(self.net) || it.reply.forgot;
            if again.iter().filter(in_vain).count() < again.len() {
                return Err("executed twice, and the first was no stale connection".to_owned());
            }
            let forgot = alike.iter().filter(|execution| execution.reply.forgot).count();
            if again.len() > 2 || forgot > 2 {
                return Err(format!("executed {} times", alike.len()));
            }
        }
        Ok(())
    }

    /// Who has no good account is not served, and nobody asks for ever with tokens that are no good.
    fn accounts(&self) -> Result<(), String> {
        let account = &self.record.ask.account;
        if account.owner().is_none() && !self.executions.is_empty() {
            return Err(format!("{account:?} was served"));
        }
        // Each call is repeated once with another token, and once more when its connection was dead.
        let most = match account {
            Account::Wrong => 0,
            Account::Ended => 2,
            Account::Server | Account::Own(_) => 16,
        };
        if self.refusals > most {
            return Err(format!("asked {} times with a token that was refused", self.refusals));
        }
        Ok(())
    }

    fn last(&self) -> Option<&Execution> {
        self.executions.last().copied()
    }

    /// Whether nothing but success is right.
    fn must_succeed(&self) -> bool {
        let calm =
            |rates: &crate::sim::net::Rates| rates.refused + rates.silent + rates.aborted == 0;
        // A file that was taken is not the answer yet.
        let answer = self.last().filter(|last| last.file.is_none() || !last.must_succeed(self.net));
        let served = answer.map(|last| last.must_succeed(self.net));
        let quiet = calm(&self.profile.rates) && !self.profile.is_rough();
        let quiet = quiet && self.profile.trouble == 0;
        let good = self.record.ask.account.owner().is_some();
        good && !self.record.ask.broken && !self.lazy && served.unwrap_or(quiet)
    }

    fn refused(&self) -> Result<(), String> {
        let reason = self.profile.drain_us.is_some()
            || self.record.served > 0
            || self.profile.rates.aborted > 0
            || self.record.half_closed;
        if reason { Ok(()) } else { Err("refused although nothing drains".to_owned()) }
    }

    fn cut(&self, message: &Message, has_head: bool) -> Result<(), String> {
        self.markers(message)?;
        if self.record.half_closed || self.lazy {
            return Ok(());
        }
        if has_head && message.status() == 200 {
            let seen = self.read(message, false)?;
            if let End::Whole(_) = seen.end {
                self.success(&seen)?;
            }
        }
        if self.profile.jump || self.record.ask.broken {
            return Ok(());
        }
        if !has_head && self.last().is_none() && self.slow && self.record.served > 0 {
            return Ok(());
        }
        let draining = self.profile.drain_us.is_some_and(|at| at <= self.record.at_us);
        if !has_head && self.last().is_none() && (draining || self.profile.rates.aborted > 0) {
            return Ok(());
        }
        if self.must_succeed() {
            return Err(format!("cut although the upstream's reply was whole: {message:?}"));
        }
        if has_head { Ok(()) } else { Err("closed without an answer".to_owned()) }
    }

    fn whole(&self, message: &Message) -> Result<(), String> {
        self.markers(message)?;
        let status = message.status();
        if status != 200 {
            return self.refusal(message, status);
        }
        if self.record.ask.broken {
            return Err("a broken request was answered with success".to_owned());
        }
        let seen = self.read(message, true)?;
        match &seen.end {
            End::Whole(_) => self.success(&seen),
            End::Missing => Err("a clean end without a terminal event".to_owned()),
            End::Failed(code) if self.must_succeed() && !self.profile.jump => {
                Err(format!("failed with {code} although the upstream's reply was whole"))
            }
            End::Failed(_) => Ok(()),
        }
    }

    fn refusal(&self, message: &Message, status: u16) -> Result<(), String> {
        let code = check::envelope(&String::from_utf8_lossy(&message.body))?;
        if self.record.ask.broken {
            let right = (400..500).contains(&status) && self.executions.is_empty();
            return if right {
                Ok(())
            } else {
                Err(format!("{status} {code} to a broken request"))
            };
        }
        // Whoever has no account hears of that, and so may those whose tokens are refused.
        let refused = self.excused || self.record.ask.account == Account::Wrong;
        if status == 401 && refused && !self.must_succeed() {
            return if code == "invalid_api_key" || self.record.ask.account == Account::Server {
                Ok(())
            } else {
                Err(format!("a caller's own 401 looks like the proxy's: {code}"))
            };
        }
        if self.must_succeed() && !self.profile.jump {
            let body = String::from_utf8_lossy(&message.body);
            return Err(format!("{status} {code} although the upstream's reply was whole: {body}"));
        }
        let last = self.last().filter(|last| !self.net.conn(last.conn).was_reset);
        match last.map(|last| &last.reply) {
            // What follows a file that is gone may be the upload of one that many have.
            Some(reply) if reply.status != 200 && reply.fate == Fate::Whole && !reply.forgot => {
                // A clock that jumps ends every wait.
                let timed_out = self.profile.jump && status == 504;
                if status != reply.status && !timed_out {
                    return Err(format!("{status} {code} for the upstream's {}", reply.status));
                }
                if status == 429 && message.field("retry-after") != Some("7") {
                    return Err("the 429 lost its Retry-After".to_owned());
                }
                Ok(())
            }
            _ if self.profile.jump || self.record.half_closed => Ok(()),
            _ if status < 500 && self.last().is_none() && !self.record.ask.shared => {
                Err(format!("{status} {code} to a good request: {message:?}"))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, message: &Message, whole: bool) -> Result<Seen, String> {
        let body = match std::str::from_utf8(&message.body) {
            Ok(body) => body,
            // A cut may go through a character.
            Err(error) if !whole => {
                std::str::from_utf8(&message.body[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(error) => return Err(format!("the reply is not UTF-8: {error}")),
        };
        let kind = message.field("content-type").unwrap_or_default();
        let right = if self.record.ask.stream { "text/event-stream" } else { "application/json" };
        if !kind.starts_with(right) {
            return Err(format!("content-type {kind:?}"));
        }
        match (self.record.ask.api, self.record.ask.stream) {
            (Api::Responses, true) => check::responses_stream(body, whole),
            (Api::Chat | Api::Giga, true) => check::chat_stream(body, whole),
            _ if !whole => Ok(Seen::default()),
            (Api::Responses, false) => check::responses_document(body),
            (Api::Chat | Api::Giga, false) => check::chat_document(body),
        }
        .map_err(|error| format!("{error}\n--- the reply:\n{body}"))
    }

    /// A success must be the upstream's own.
    fn success(&self, seen: &Seen) -> Result<(), String> {
        let Some(last) = self.last() else {
            return Err("a success that no upstream gave".to_owned());
        };
        if last.file.is_some() {
            return Err(
                "a success, and the last that an upstream did was to take a file".to_owned()
            );
        }
        if !last.may_succeed() {
            return Err(format!("a success, but the upstream's reply was {:?}", last.reply.fate));
        }
        let content = &last.reply.content;
        let expected = Seen {
            text: content.text.clone(),
            reasoning: content.reasoning.clone(),
            calls: content.calls.clone(),
            end: End::Whole(content.finish.to_owned()),
        };
        if *seen == expected {
            return Ok(());
        }
        Err(format!("not what the upstream said:\n  got  {seen:?}\n  sent {expected:?}"))
    }

    /// Nothing of one client reaches another.
    fn markers(&self, message: &Message) -> Result<(), String> {
        let mut all = message.body.clone();
        for (name, value) in &message.fields {
            all.extend_from_slice(format!("\n{name}: {value}").as_bytes());
        }
        match check::markers(&all).into_iter().find(|marker| *marker != self.record.ask.marker) {
            Some(foreign) => Err(format!("the reply holds {foreign} of another request")),
            // What comes of a few bytes of a token is nothing.
            None if all.windows(12).any(is_token) => {
                Err(format!("the reply holds a token: {}", String::from_utf8_lossy(&all)))
            }
            None => Ok(()),
        }
    }
}

/// Whether these are the first bytes of a token.
fn is_token(bytes: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    bytes.starts_with(b"tok-") && bytes.iter().all(legal)
}
