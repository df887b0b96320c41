//! Writing an exchange down: where the pieces come from. Without a tape every one of these is a
//! single branch.

use super::Exchange;
use crate::config::{Capture, Limits};
use crate::proxy::capture::{Facts, Place, Tape};
use crate::proxy::net::Net;
use crate::proxy::shared::{Now, Shared};
use crate::wire::coding;
use std::time::Instant;

impl Exchange {
    /// Begins to write down, with the head of the client's request.
    pub(crate) fn begin_tape(&mut self, capture: &Capture, head: &[u8], now: Now) {
        self.tape = Some(Box::new(Tape::new(capture.side_bytes_max, now.unix_s, head)));
    }

    /// Notes more of a body.
    pub(super) fn tape_body(&mut self, place: Place, bytes: &[u8]) {
        if let Some(tape) = &mut self.tape {
            tape.body(place, bytes);
        }
    }

    /// Notes the whole body of the client's request, without its content coding where it can be
    /// undone.
    pub(super) fn tape_content(&mut self, content: &[u8], limits: &Limits) {
        let Some(tape) = &mut self.tape else { return };
        let coding = self.intake.coding.as_deref();
        match coding.map(|coding| coding::decode(coding, content, limits.body_bytes_max)) {
            Some(Ok(decoded)) => tape.body(Place::ClientRequest, &decoded),
            Some(Err(_)) | None => tape.body(Place::ClientRequest, content),
        }
    }

    /// Notes the head of the upstream's reply.
    pub(super) fn tape_reply_head(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.head(Place::UpstreamReply, &std::mem::take(&mut self.head.raw));
        }
    }

    /// The upstream is asked again.
    pub(super) fn tape_again(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.again();
        }
    }

    /// Hands over what was written down, at the end of the exchange, whichever it is.
    pub(crate) fn record<N: Net>(&mut self, shared: &mut Shared<N>, now: Instant, result: &str) {
        let Some(mut tape) = self.tape.take() else { return };
        // What came of a body that was not whole.
        tape.body(Place::ClientRequest, self.content.as_bytes());
        let ms = |at: Instant| {
            u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
        };
        let provider = self.provider.and_then(|provider| shared.config.providers.get(provider));
        let facts = Facts {
            id: self.ids.make("req_"),
            result: result.to_owned(),
            status: self.status,
            upstream_status: self.head.status,
            model: self.model.clone(),
            provider: provider.map_or(String::new(), |provider| provider.name.clone()),
            first_ms: self.first.map(ms),
            ms: ms(now),
            client_tls: shared.config.tls.is_some(),
            upstream_tls: provider.is_some_and(|provider| provider.url.tls),
        };
        shared.net.record(tape.end(facts));
    }
}
