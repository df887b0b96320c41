//! How calls begin and go on, and how calls and whole answers end.

use super::calls::{self, Balance, CALLS_MAX, OpenCall, Shape};
use super::chunk::CallDelta;
use super::unwrap::Unwrap;
use super::{Decoder, Finish, Piece};
use crate::dialect::event::{Call, CallKind, Event, Part, Sink, Stop};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Escaped, Raw};

impl Decoder {
    /// Takes an entry of `tool_calls`, or a `function_call`.
    pub(super) fn call(&mut self, delta: &CallDelta<'_>, sink: &mut Sink<'_>) {
        if delta.is_empty() || self.done {
            return;
        }
        let at = match calls::find(&self.calls, delta) {
            Some(at) => at,
            None if self.calls.len() >= CALLS_MAX => {
                let message = "the upstream's answer has more tool calls than can be";
                self.fail(&Failure::new(Fault::upstream(Kind::TooLarge), message), sink);
                return;
            }
            None => {
                self.calls.push(OpenCall {
                    index: delta.index,
                    legacy: delta.legacy,
                    ..OpenCall::default()
                });
                self.calls.len() - 1
            }
        };
        let Some(call) = self.calls.get_mut(at) else { return };
        if call.id.is_empty() {
            delta.id.raw().clone_into(&mut call.id);
        }
        if call.name.is_empty() {
            delta.name.raw().clone_into(&mut call.name);
        }
        if call.part.is_none() && !call.name.is_empty() {
            self.open_call(at, delta, sink);
        } else if let (Some(extra), Some(call)) = (delta.extra, self.calls.get(at)) {
            self.held_bytes += extra.text().len();
            self.opaque.add_extra(&call.id, extra);
        }
        match delta.text.map(|text| (text, text.string())) {
            Some((_, Some(text))) => self.feed(at, text, sink),
            Some((object, None)) => self.feed_object(at, object, sink),
            None => {}
        }
    }

    fn open_call(&mut self, at: usize, delta: &CallDelta<'_>, sink: &mut Sink<'_>) {
        let id = match (&self.calls[at].id, &mut self.ids) {
            (id, Some(ids)) if id.is_empty() => ids.make("call_"),
            (id, _) => id.clone(),
        };
        if let Some(extra) = delta.extra {
            self.held_bytes += extra.text().len();
            self.opaque.add_extra(&id, extra);
        }
        self.hush(sink);
        self.close_whole_calls(sink);
        // What the upstream wants back with the call stands before it where it can.
        if delta.extra.is_some() {
            self.seal_alone(sink);
        }
        let call = &mut self.calls[at];
        let name = Escaped::trusted(&call.name);
        let entry = self.sent.tools.by_upstream(name);
        let kind = match entry {
            Some(entry) => entry.kind,
            None if delta.custom => CallKind::Custom,
            None => CallKind::Function,
        };
        call.shape = match kind {
            CallKind::Function | CallKind::Search => Shape::Json(Balance::default()),
            CallKind::Custom if delta.custom => Shape::Free,
            CallKind::Custom => Shape::Wrapped(Unwrap::default()),
        };
        let tool = entry.map(crate::dialect::tools::Entry::tool);
        let part = self.lanes.open(
            Part::Call(Call {
                kind,
                id: Escaped::trusted(&id),
                namespace: tool.map_or(Escaped::EMPTY, |tool| tool.namespace),
                name: tool.map_or(name, |tool| tool.name),
            }),
            sink,
        );
        call.part = Some(part);
        call.id = id;
        self.spoke = true;
        let early = std::mem::take(&mut call.early);
        if !early.is_empty() {
            self.feed(at, Escaped::trusted(&early), sink);
        }
    }

    /// Arguments as an object, where the API has the object's text.
    fn feed_object(&mut self, at: usize, object: Raw<'_>, sink: &mut Sink<'_>) {
        let mut text = Vec::with_capacity(object.text().len() + 16);
        json::escape(object.text(), &mut text);
        let text = String::from_utf8_lossy(&text);
        self.feed(at, Escaped::trusted(&text), sink);
    }

    pub(super) fn feed(&mut self, at: usize, text: Escaped<'_>, sink: &mut Sink<'_>) {
        let Some(call) = self.calls.get_mut(at) else { return };
        if text.is_empty() || call.closed {
            return;
        }
        let Some(part) = call.part else {
            self.held_bytes += text.raw().len();
            call.early.push_str(text.raw());
            return;
        };
        let text = match &mut call.shape {
            Shape::Json(balance) => {
                balance.push(text.raw());
                text
            }
            Shape::Free => text,
            Shape::Wrapped(unwrap) => {
                self.unwrapped.clear();
                let before = unwrap.kept();
                let kept = unwrap.push(text, &mut self.unwrapped);
                self.held_bytes += kept.saturating_sub(before);
                Escaped::trusted(&self.unwrapped)
            }
        };
        if self.lanes.active() != Some(part) {
            self.held_bytes += text.raw().len();
        }
        self.lanes.delta(part, text, None, sink);
    }

    /// Closes the calls that are whole, so that what follows need not wait for the end.
    pub(super) fn close_whole_calls(&mut self, sink: &mut Sink<'_>) {
        for at in 0..self.calls.len() {
            if self.calls[at].is_complete() {
                self.close_call(at, sink);
            }
        }
    }

    /// Closes a call; false when its text is only a part of what the model meant.
    fn close_call(&mut self, at: usize, sink: &mut Sink<'_>) -> bool {
        let call = &mut self.calls[at];
        let Some(part) = call.part.filter(|_| !call.closed) else { return true };
        let mut whole = true;
        match &mut call.shape {
            Shape::Json(balance) if !balance.has_begun() => {
                self.lanes.delta(part, Escaped::trusted("{}"), None, sink);
            }
            Shape::Wrapped(unwrap) => {
                self.unwrapped.clear();
                whole = unwrap.finish(&mut self.unwrapped);
                let rest = Escaped::trusted(&self.unwrapped);
                self.lanes.delta(part, rest, None, sink);
            }
            Shape::Json(_) | Shape::Free => {}
        }
        if !whole {
            return false;
        }
        call.closed = true;
        self.lanes.close(part, sink);
        true
    }

    /// The answer ended: with its mark (`[DONE]`, or a document's end) or only with its bytes.
    pub(super) fn conclude(&mut self, marked: bool, sink: &mut Sink<'_>) {
        if self.done {
            return;
        }
        self.start(Escaped::EMPTY, Escaped::EMPTY, sink);
        if let Some(mut think) = self.think.take() {
            think.finish(&mut |piece: Piece<'_>| self.piece(piece, sink));
        }
        let broken = |kind, message: &str| Failure::new(Fault::upstream(kind), message);
        let finish = match self.finish {
            Some(Finish::Error) => Err(broken(Kind::Server, "the upstream's model broke off")),
            Some(finish) => Ok(finish),
            None if marked && self.spoke && self.calls_are_whole() => Ok(Finish::Natural),
            None if marked && !self.spoke => {
                Err(broken(Kind::BadReply, "the upstream's answer is empty and gives no reason"))
            }
            None => Err(broken(
                Kind::Truncated,
                "the upstream's answer broke off before its end; try again",
            )),
        };
        match finish {
            Err(failure) => self.fail(&failure, sink),
            Ok(Finish::Length | Finish::Filter) => self.cut(sink),
            Ok(_) => self.complete(sink),
        }
    }

    fn complete(&mut self, sink: &mut Sink<'_>) {
        self.hush(sink);
        for at in 0..self.calls.len() {
            let message = if self.calls[at].part.is_none() {
                "the upstream called a tool without naming it"
            } else if !self.close_call(at, sink) {
                "the upstream's tool call broke off before its end; try again"
            } else {
                continue;
            };
            self.fail(&Failure::new(Fault::upstream(Kind::BadReply), message), sink);
            return;
        }
        self.stop(if self.calls.is_empty() { Stop::End } else { Stop::Tool }, sink);
    }

    /// A limit cut the answer: the last call stays open, because its arguments may look whole and
    /// not be.
    fn cut(&mut self, sink: &mut Sink<'_>) {
        self.hush(sink);
        let count = self.calls.len();
        for at in 0..count {
            let call = &self.calls[at];
            let last = at + 1 == count && !call.closed;
            if last || call.part.is_none() || !call.is_complete() || !self.close_call(at, sink) {
                break;
            }
        }
        let filtered = self.finish == Some(Finish::Filter);
        self.stop(if filtered { Stop::Filter } else { Stop::Length }, sink);
    }

    fn stop(&mut self, stop: Stop, sink: &mut Sink<'_>) {
        self.seal_alone(sink);
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        sink(Event::Stop(stop));
        self.done = true;
    }

    fn calls_are_whole(&self) -> bool {
        self.calls.iter().all(|call| match &call.shape {
            Shape::Json(balance) => !balance.has_begun() || balance.is_complete(),
            Shape::Free => true,
            Shape::Wrapped(unwrap) => unwrap.is_complete(),
        })
    }
}
