//! An upstream's Responses stream or document as events.
//!
//! Items are addressed by `output_index` alone: some upstreams change the ids between events. What
//! a closing event says more than the deltas did is passed on as one last delta.

use super::kinds::{Showing, Step, family};
use super::reply::{self, Fields, ItemFields, ResponseFields, Tracker};
use super::{NAME, fault};
use crate::dialect::event::{Call, CallKind, Event, Part, Sink, Stop};
use crate::dialect::lanes::Lanes;
use crate::dialect::pattern::Pattern;
use crate::dialect::tools::ToolTable;
use crate::dialect::{Decode, Sent};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Escaped, Raw, Why};
use crate::wire::sse::Frame;
use std::collections::BTreeMap;

/// Reads one reply.
#[derive(Debug)]
pub(super) struct Decoder {
    tools: ToolTable,
    lanes: Lanes,
    /// The items, by output index.
    slots: BTreeMap<u64, Slot>,
    /// Message items that showed something.
    messages: u32,
    /// The index that events without one mean.
    last: u64,
    called: bool,
    started: bool,
    /// What an `error` event said: `response.failed` follows it.
    error: Option<Failure>,
    done: bool,
    /// What the last frame looked like and where its text went, if it was nothing but text.
    again: Option<(Pattern, Place)>,
}

/// Where text of a delta goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The output index.
    index: u64,
    showing: Showing,
    /// The content or summary index.
    content: u64,
}

/// One output item.
#[derive(Debug, Default)]
struct Slot {
    /// Its open part.
    part: Option<u32>,
    /// What the open part is.
    kind: Showing,
    /// The content or summary index of the open part.
    content: u64,
    /// What was passed on of that index.
    sent: Tracker,
    annotations: usize,
    /// The message's ordinal.
    message: Option<u32>,
    /// Deltas that came before the call they belong to.
    early: String,
    /// Everything was said.
    whole: bool,
}

impl Decoder {
    pub(super) fn new(sent: Sent) -> Self {
        Self {
            tools: sent.tools,
            lanes: Lanes::default(),
            slots: BTreeMap::new(),
            messages: 0,
            last: 0,
            called: false,
            started: false,
            error: None,
            done: false,
            again: None,
        }
    }

    fn start(&mut self, fields: &ResponseFields<'_>, sink: &mut Sink<'_>) {
        if !self.started {
            self.started = true;
            let (id, model) = (fields.id.unwrap_or_default(), fields.model.unwrap_or_default());
            sink(Event::Start { id, model });
        }
    }

    fn fail(&mut self, failure: &Failure, sink: &mut Sink<'_>) {
        self.done = true;
        sink(Event::Fail(failure));
    }

    /// The item that an event means; one without an index means the last one.
    fn index(&mut self, index: Option<u64>) -> u64 {
        self.last = index.unwrap_or(self.last);
        self.last
    }

    fn place(&mut self, fields: &Fields<'_>, showing: Showing) -> Place {
        Place { index: self.index(fields.index), showing, content: fields.content }
    }

    fn dispatch(
        &mut self,
        fields: &Fields<'_>,
        data: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        let kind = match (fields.kind, fields.error) {
            (Some(kind), _) => kind,
            // Gateways put a bare error object into a stream, and nothing behind it.
            (None, Some(_)) => {
                self.fail(&fault::said(fields.error, data), sink);
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        let Some((showing, step)) = family(kind.raw()) else {
            return self.of_answer(kind.raw(), fields, data, sink);
        };
        self.start(&ResponseFields::default(), sink);
        match (step, fields.item) {
            (Step::Delta, _) => {
                let place = self.place(fields, showing);
                let text = fields.delta.unwrap_or_default();
                self.delta(place, text, fields.logprobs, sink);
                if fields.logprobs.is_none() && !text.is_empty() {
                    let pattern = Pattern::of(text, &fields.unneeded, data);
                    self.again = pattern.map(|pattern| (pattern, place));
                }
            }
            (Step::Done, _) => {
                let place = self.place(fields, showing);
                if let Some(text) = fields.text {
                    self.rest(place, text, sink);
                }
            }
            (Step::Annotation, _) => {
                let index = self.index(fields.index);
                if let (Some(slot), Some(object)) = (self.slots.get_mut(&index), fields.annotation)
                {
                    slot.annotations += 1;
                    annotate(slot, &mut self.lanes, object, sink);
                }
            }
            (Step::Added, Some(item)) => {
                let next = self.slots.last_key_value().map_or(0, |(last, _)| last + 1);
                let index = self.index(fields.index.or(Some(next)));
                self.slots.entry(index).or_default();
                self.open_call(index, &ItemFields::read(item)?, sink);
            }
            (Step::ItemDone, Some(item)) => {
                let index = match fields.index {
                    None if self.slots.get(&self.last).is_some_and(|slot| slot.whole) => {
                        self.last + 1
                    }
                    index => index.unwrap_or(self.last),
                };
                self.last = index;
                self.item(index, item, sink)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes an event of the whole answer.
    fn of_answer(
        &mut self,
        kind: &str,
        fields: &Fields<'_>,
        data: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(response) = fields.response {
                    self.start(&ResponseFields::read(response)?, sink);
                }
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "response.done" => {
                let response = fields.response.map(ResponseFields::read).transpose()?;
                return self.end(kind, &response.unwrap_or_default(), sink);
            }
            "error" => self.error = Some(fault::said(fields.error, data)),
            _ => {}
        }
        Ok(())
    }

    /// Passes text of an item on, opening the part that it belongs to.
    fn delta(
        &mut self,
        place: Place,
        text: Escaped<'_>,
        logprobs: Option<Raw<'_>>,
        sink: &mut Sink<'_>,
    ) {
        let Place { index, showing, content } = place;
        if text.is_empty() {
            return;
        }
        let slot = self.slots.entry(index).or_default();
        if slot.whole {
            return;
        }
        if let (Some(part), true) = (slot.part, slot.kind == showing && slot.content == content) {
            slot.sent.add(text);
            self.lanes.delta(part, text, logprobs, sink);
            return;
        }
        if showing == Showing::Call {
            if slot.part.is_none() {
                return slot.early.push_str(text.raw());
            }
        } else if self.show(place, sink).is_none() {
            return;
        }
        if let Some(slot) = self.slots.get_mut(&index)
            && let Some(part) = slot.part
        {
            slot.sent.add(text);
            self.lanes.delta(part, text, logprobs, sink);
        }
    }

    /// Closes the open part of an item.
    fn close_part(&mut self, index: u64, sink: &mut Sink<'_>) {
        if let Some(slot) = self.slots.get_mut(&index)
            && let Some(part) = slot.part.take()
        {
            self.lanes.close(part, sink);
        }
    }

    /// The open part for text of this kind and index; `None` when the text is to be passed over:
    /// it belongs to a part that ended, or repeats in other words what is shown already.
    fn show(&mut self, place: Place, sink: &mut Sink<'_>) -> Option<u32> {
        let Place { index, showing, content } = place;
        let slot = self.slots.entry(index).or_default();
        let reasoning = matches!(showing, Showing::Summary | Showing::Raw);
        if let (Some(part), true) = (slot.part, slot.kind == showing && slot.content == content) {
            return Some(part);
        }
        if slot.kind == Showing::Call || (slot.kind != Showing::Nothing && slot.content > content) {
            return None;
        }
        if reasoning && !matches!(slot.kind, Showing::Nothing) {
            if slot.kind != showing {
                return None;
            }
            // The parts of a summary stand in one part here.
            (slot.content, slot.sent) = (content, Tracker::default());
            let part = slot.part?;
            self.lanes.delta(part, Escaped::trusted("\\n\\n"), None, sink);
            return Some(part);
        }
        let message = slot.message;
        self.close_part(index, sink);
        let message = match (reasoning, message) {
            (true, _) => 0,
            (false, Some(message)) => message,
            (false, None) => {
                self.messages += 1;
                self.messages - 1
            }
        };
        let kind = match showing {
            Showing::Refusal => Part::Refusal { message },
            Showing::Summary => Part::Reasoning { raw: false },
            Showing::Raw => Part::Reasoning { raw: true },
            _ => Part::Text { message },
        };
        let part = self.lanes.open(kind, sink);
        let message = (!reasoning).then_some(message);
        let slot = Slot { part: Some(part), kind: showing, content, message, ..Slot::default() };
        self.slots.insert(index, slot);
        Some(part)
    }

    /// Passes on what `text`, the whole of it, says more than its deltas did.
    fn rest(&mut self, place: Place, text: Escaped<'_>, sink: &mut Sink<'_>) {
        let Place { index, showing, content } = place;
        let slot = self.slots.entry(index).or_default();
        let same = slot.part.is_some() && slot.kind == showing && slot.content == content;
        if showing == Showing::Call && slot.part.is_none() {
            // Whose call it is comes later, and the text with it.
            return;
        }
        if !same {
            return self.delta(place, text, None, sink);
        }
        if let Some(more) = slot.sent.missing(text) {
            self.delta(place, more, None, sink);
        }
    }

    /// Opens the part of a call, if the item is one and says which.
    fn open_call(&mut self, index: u64, item: &ItemFields<'_>, sink: &mut Sink<'_>) {
        let Some(slot) = self.slots.get_mut(&index).filter(|slot| slot.kind == Showing::Nothing)
        else {
            return;
        };
        let (Some(kind), Some(name)) = (item.kind, item.name.filter(|name| !name.is_empty()))
        else {
            return;
        };
        let custom = kind.is("custom_tool_call");
        if !custom && !kind.is("function_call") {
            return;
        }
        let Some(id) = item.call_id.or(item.id).filter(|id| !id.is_empty()) else { return };
        let namespace = item.namespace.unwrap_or_default();
        let entry = self.tools.by_upstream(name).filter(|_| namespace.is_empty());
        if custom && entry.is_none() && !self.tools.entries().is_empty() {
            // Some upstreams report their own tools' work as calls of custom tools.
            return;
        }
        let tool = entry.map(|entry| (entry.kind, entry.tool()));
        let call = Call {
            kind: match tool {
                _ if custom => CallKind::Custom,
                Some((CallKind::Search, _)) => CallKind::Search,
                _ => CallKind::Function,
            },
            id,
            namespace: tool.map_or(namespace, |(_, tool)| tool.namespace),
            name: tool.map_or(name, |(_, tool)| tool.name),
        };
        self.called = true;
        let part = self.lanes.open(Part::Call(call), sink);
        let early = std::mem::take(&mut slot.early);
        *slot = Slot { part: Some(part), kind: Showing::Call, ..Slot::default() };
        let place = Place { index, showing: Showing::Call, content: 0 };
        self.delta(place, Escaped::trusted(&early), None, sink);
    }

    /// Takes an item that is whole, whatever came of it before.
    fn item(&mut self, index: u64, raw: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let item = ItemFields::read(raw)?;
        if self.slots.entry(index).or_default().whole {
            return Ok(());
        }
        let mut cut = false;
        match item.kind.unwrap_or_default().raw() {
            "message" => self.message(index, &item, sink)?,
            "reasoning" => self.reasoning(index, &item, sink)?,
            "function_call" | "custom_tool_call" => cut = self.call(index, &item, raw, sink),
            "tool_search_call" if item.is_client_run() => self.search(&item, sink),
            // Nobody could tell what it is.
            "" => {}
            _ => self.opaque(raw, sink),
        }
        if cut {
            // A call that was cut stays open: half a call must not be run.
            return Ok(());
        }
        self.close(index, sink);
        Ok(())
    }

    /// Takes a call that is whole. True when it is one that was cut.
    fn call(
        &mut self,
        index: u64,
        item: &ItemFields<'_>,
        raw: Raw<'_>,
        sink: &mut Sink<'_>,
    ) -> bool {
        let kind = self.slots.get(&index).map_or(Showing::Nothing, |slot| slot.kind);
        if !matches!(kind, Showing::Nothing | Showing::Call) {
            // Some servers stream a forced call as text, and know better at the end.
            self.close_part(index, sink);
            self.slots.insert(index, Slot::default());
        }
        self.open_call(index, item, sink);
        if self.slots.get(&index).is_some_and(|slot| slot.kind == Showing::Call) {
            let place = Place { index, showing: Showing::Call, content: 0 };
            self.rest(place, item.text.unwrap_or_default(), sink);
            return item.status.is_some_and(|status| status.is("incomplete"));
        }
        if item.kind.is_some_and(|kind| kind.is("custom_tool_call")) {
            self.opaque(raw, sink);
        }
        false
    }

    fn close(&mut self, index: u64, sink: &mut Sink<'_>) {
        if let Some(slot) = self.slots.get_mut(&index) {
            slot.whole = true;
            slot.early = String::new();
        }
        self.close_part(index, sink);
    }

    fn message(
        &mut self,
        index: u64,
        item: &ItemFields<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        let mut content = 0;
        reply::elements(item.content, |part| {
            let part = reply::PartFields::read(part)?;
            let refusal = part.kind.is_some_and(|kind| kind.is("refusal"));
            let showing = if refusal { Showing::Refusal } else { Showing::Text };
            let text = part.text.unwrap_or_default();
            let place = Place { index, showing, content };
            if self.slots.get(&index).is_some_and(|slot| slot.kind != Showing::Nothing) {
                self.rest(place, text, sink);
            } else {
                self.delta(place, text, part.logprobs, sink);
            }
            let slot = self.slots.entry(index).or_default();
            if slot.content == content && slot.part.is_some() {
                let mut skip = slot.annotations;
                reply::elements(part.annotations, |object| {
                    if skip == 0 {
                        annotate(slot, &mut self.lanes, object, sink);
                    }
                    skip = skip.saturating_sub(1);
                    Ok(())
                })?;
            }
            content += 1;
            Ok(())
        })
    }

    fn reasoning(
        &mut self,
        index: u64,
        item: &ItemFields<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        for (list, showing) in [(item.summary, Showing::Summary), (item.content, Showing::Raw)] {
            let mut content = 0;
            reply::elements(list, |part| {
                let text = reply::PartFields::read(part)?.text.unwrap_or_default();
                self.rest(Place { index, showing, content }, text, sink);
                content += 1;
                Ok(())
            })?;
        }
        let Some(opaque) = item.sealed.filter(|opaque| !opaque.is_empty()) else { return Ok(()) };
        let shown = self.slots.get(&index).and_then(|slot| Some((slot.part?, slot.kind)));
        let part = match shown {
            Some((part, Showing::Summary | Showing::Raw)) => Some(part),
            // An item that changed its type on the way has nothing to seal.
            Some(_) => None,
            None => self.show(Place { index, showing: Showing::Summary, content: 0 }, sink),
        };
        if let Some(part) = part {
            self.lanes.seal(part, opaque, sink);
        }
        Ok(())
    }

    fn opaque(&mut self, raw: Raw<'_>, sink: &mut Sink<'_>) {
        let part = self.lanes.open(Part::Opaque { dialect: NAME, item: raw }, sink);
        self.lanes.close(part, sink);
    }

    fn search(&mut self, item: &ItemFields<'_>, sink: &mut Sink<'_>) {
        self.called = true;
        let call = Call {
            kind: CallKind::Search,
            id: item.call_id.unwrap_or_default(),
            namespace: Escaped::EMPTY,
            name: Escaped::trusted("tool_search"),
        };
        let part = self.lanes.open(Part::Call(call), sink);
        if let Some(arguments) = item.arguments {
            let mut text = Vec::new();
            json::escape(arguments.text(), &mut text);
            let text = String::from_utf8_lossy(&text);
            self.lanes.delta(part, Escaped::trusted(&text), None, sink);
        }
        self.lanes.close(part, sink);
    }

    /// Takes the terminal event, or a whole document.
    fn end(
        &mut self,
        kind: &str,
        response: &ResponseFields<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        self.start(response, sink);
        let status = response.status.unwrap_or_default();
        let failed = kind == "response.failed"
            || kind == "response.cancelled"
            || status.is("failed")
            || status.is("cancelled");
        if failed {
            self.usage(response, sink);
            let said = response.error.map(|error| fault::said(Some(error), b""));
            let failure = said.or_else(|| self.error.take()).unwrap_or_else(|| {
                Failure::new(
                    Fault::upstream(Kind::Server),
                    "The upstream gave up its answer without saying why.",
                )
            });
            self.fail(&failure, sink);
            return Ok(());
        }
        self.output(response.output, sink)?;
        let cut = kind == "response.incomplete" || status.is("incomplete");
        let filtered = response.reason.is_some_and(|reason| reason.is("content_filter"));
        let open: Vec<u64> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.part.is_some() && !(cut && slot.kind == Showing::Call))
            .map(|(index, _)| *index)
            .collect();
        for index in open {
            self.close(index, sink);
        }
        self.usage(response, sink);
        self.done = true;
        sink(Event::Stop(match (cut, filtered) {
            (true, true) => Stop::Filter,
            (true, false) => Stop::Length,
            (false, _) if self.called => Stop::Tool,
            (false, _) => Stop::End,
        }));
        Ok(())
    }

    /// Takes from the final `output` what the stream did not say. Some upstreams send none, some
    /// count their items otherwise in the stream: then the stream counts.
    fn output(&mut self, output: Option<Raw<'_>>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let count = self.slots.len() as u64;
        let aligned = self.slots.keys().copied().eq(0..count);
        let mut index = 0;
        reply::elements(output, |item| {
            if aligned {
                self.item(index, item, sink)?;
            }
            index += 1;
            Ok(())
        })
    }

    fn usage(&mut self, response: &ResponseFields<'_>, sink: &mut Sink<'_>) {
        if let Some(usage) = response.usage {
            sink(Event::Usage(usage));
        }
    }
}

/// Passes on an annotation that both APIs know.
fn annotate(slot: &Slot, lanes: &mut Lanes, object: Raw<'_>, sink: &mut Sink<'_>) {
    if let (Some(part), Showing::Text) = (slot.part, slot.kind)
        && reply::is_citation(object)
    {
        lanes.annotate(part, object, sink);
    }
}

impl Decode for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        self.again = None;
        if self.done || frame.data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let text = utf8(frame.data)?;
        let mut fields = Fields::read(text)?;
        if fields.kind.is_none() {
            let name = std::str::from_utf8(frame.name).unwrap_or_default();
            fields.kind = Escaped::verbatim(name).filter(|name| !name.is_empty());
        }
        self.dispatch(&fields, frame.data, sink)
    }

    fn document(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Bad> {
        let text = utf8(body)?;
        let response = ResponseFields::read(Raw::check(text.trim())?)?;
        if response.output.is_none() && response.status.is_none() {
            // Whatever it is, it is no answer: an error object, or another API's document.
            let failure = match response.error {
                Some(_) => fault::said(None, body),
                None => Failure::new(
                    Fault::upstream(Kind::BadReply),
                    "The upstream's reply is no Response object: it has neither 'output' nor 'status'.",
                ),
            };
            self.fail(&failure, sink);
            return Ok(());
        }
        self.end("", &response, sink)
    }

    fn finish(&mut self, sink: &mut Sink<'_>) {
        if !self.done {
            let failure = self.error.take().unwrap_or_else(|| {
                Failure::new(
                    Fault::upstream(Kind::Truncated),
                    "The upstream's stream ended before its terminal event.",
                )
            });
            self.fail(&failure, sink);
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn pattern(&self) -> Option<&Pattern> {
        self.again.as_ref().map(|(pattern, _)| pattern)
    }

    fn again(&mut self, text: Escaped<'_>, sink: &mut Sink<'_>) {
        if let Some((_, place)) = self.again {
            self.delta(place, text, None, sink);
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(bytes).map_err(|error| Bad { at: error.valid_up_to(), why: Why::Utf8 })
}
