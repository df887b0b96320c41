//! The conversation as messages.

use super::Body;
use crate::dialect::chat::sealed::{self, Opened};
use crate::dialect::event::CallKind;
use crate::dialect::order::{Order, Planned, Step, Turn};
use crate::dialect::quirks::{ReasoningBack, ReasoningField, SystemRole};
use crate::dialect::request::{Content, Item, Role};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Raw};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Longest call id that `OpenAI` and Azure take.
const ID_BYTES_MAX_OPENAI: usize = 40;
/// Longest call id that others are asked to take.
const ID_BYTES_MAX: usize = 64;

const GAP: &[u8] = b"\\n\\n";

/// Most calls of one step whose ids are compared one by one.
const COMPARED_MAX: usize = 16;

/// What has to be known of the whole conversation before its first message is written.
struct Plan<'o, 'r> {
    order: &'o Order<'r>,
    /// What calls have to bring back, by their ids, out of every envelope of the conversation.
    extras: HashMap<String, String>,
}

impl Body<'_, '_> {
    /// Appends `messages`.
    pub(super) fn messages(&mut self, order: &Order<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        json::key("messages", out);
        out.push(b'[');
        let start = out.len();
        let mut turns = order.turns.as_slice();
        let mut first = 0;
        if self.quirks.one_system_message || self.schema_in_text() {
            let leading = turns.iter().take_while(|turn| is_system(turn)).count();
            let (system, rest) = turns.split_at(leading);
            self.one_system(system, out)?;
            (turns, first) = (rest, leading);
        } else if let Some(text) = self.request.instructions.filter(|text| !text.is_empty()) {
            self.system(out);
            self.text("content", text, out);
            out.push(b'}');
        }
        let plan = Plan { order, extras: self.extras() };
        for (turn, at) in turns.iter().zip(first..) {
            self.turn(turn, at, &plan, out)?;
        }
        if out.len() == start {
            return Err(Failure::bad_request(
                "the request has no message for the model: add some input",
            ));
        }
        out.push(b']');
        Ok(())
    }

    /// The first envelope that tells of a call counts.
    fn extras(&self) -> HashMap<String, String> {
        let sealed = self.request.items.iter().filter_map(|item| match item {
            Item::Reasoning { sealed, .. } => *sealed,
            _ => None,
        });
        let opened = sealed.filter_map(|sealed| sealed::open(sealed, self.target.provider));
        let mut extras = HashMap::new();
        for (id, extra) in opened.flat_map(|opened| opened.extras) {
            extras.entry(id).or_insert(extra);
        }
        extras
    }

    fn turn(
        &mut self,
        turn: &Turn<'_>,
        at: usize,
        plan: &Plan<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match turn {
            Turn::Message { role: Role::User, content } => self.user(None, content, out),
            Turn::Message { role: Role::Assistant, .. } => Ok(()),
            Turn::Message { content, .. } if self.quirks.one_system_message => {
                self.user(Some("[system]\\n"), content, out)
            }
            Turn::Message { content, .. } => {
                if content.iter().any(is_words) {
                    self.system(out);
                    json::key("content", out);
                    out.push(b'"');
                    self.joined(content, GAP, out);
                    out.extend_from_slice(b"\"}");
                }
                // System messages take text only.
                if content.iter().all(is_words) { Ok(()) } else { self.rest(None, content, out) }
            }
            Turn::Summary { text } => {
                json::comma(out);
                out.extend_from_slice(b"{\"role\":\"user\"");
                self.text("content", Escaped::trusted(text), out);
                out.push(b'}');
                Ok(())
            }
            Turn::Assistant(step) => self.assistant(step, at, plan, out),
            Turn::Orphan { id, content } => {
                let id = Escaped::trusted(id).paired(&mut self.scratch).raw();
                let label = format!("[tool result {id}]\\n");
                self.user(Some(&label), content, out)
            }
        }
    }

    fn system(&mut self, out: &mut Vec<u8>) {
        json::comma(out);
        out.extend_from_slice(match self.quirks.system_role {
            SystemRole::System => b"{\"role\":\"system\"".as_slice(),
            SystemRole::Developer => b"{\"role\":\"developer\"".as_slice(),
        });
    }

    /// All leading system text as one message.
    fn one_system(&mut self, turns: &[Turn<'_>], out: &mut Vec<u8>) -> Result<(), Failure> {
        let start = out.len();
        self.system(out);
        out.extend_from_slice(b",\"content\":\"");
        let empty = out.len();
        let gap = |out: &mut Vec<u8>| {
            if out.len() > empty {
                out.extend_from_slice(GAP);
            }
        };
        if let Some(instructions) = self.request.instructions {
            self.inside(instructions, out);
        }
        for turn in turns {
            if let Turn::Message { content, .. } = turn
                && content.iter().any(is_words)
            {
                gap(out);
                self.joined(content, GAP, out);
            }
        }
        if self.schema_in_text() {
            gap(out);
            self.schema_text(out);
        }
        if out.len() == empty {
            out.truncate(start);
        } else {
            out.extend_from_slice(b"\"}");
        }
        for turn in turns {
            if let Turn::Message { content, .. } = turn
                && !content.iter().all(is_words)
            {
                self.rest(None, content, out)?;
            }
        }
        Ok(())
    }

    /// A user message: one text as a string, else an array of parts.
    fn user(
        &mut self,
        label: Option<&str>,
        content: &[Content<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let mut words = content.iter().filter(|part| is_words(part));
        let (first, second) = (words.next(), words.next());
        json::comma(out);
        out.extend_from_slice(b"{\"role\":\"user\",\"content\":");
        if content.iter().all(|part| is_words(part) || is_empty(part)) && second.is_none() {
            out.push(b'"');
            out.extend_from_slice(label.unwrap_or_default().as_bytes());
            if let Some(Content::Text(text) | Content::Refusal(text)) = first {
                self.inside(*text, out);
            }
            out.extend_from_slice(b"\"}");
            return Ok(());
        }
        out.push(b'[');
        if let Some(label) = label {
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"");
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(b"\"}");
        }
        for part in content {
            self.part(part, out)?;
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// A user message with what a text-only message could not hold.
    fn rest(
        &mut self,
        label: Option<&str>,
        content: &[Content<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        json::comma(out);
        out.extend_from_slice(b"{\"role\":\"user\",\"content\":[");
        self.rest_parts(label, content, out)?;
        out.extend_from_slice(b"]}");
        Ok(())
    }

    fn rest_parts(
        &mut self,
        label: Option<&str>,
        content: &[Content<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if let Some(label) = label {
            json::comma(out);
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"");
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(b"\"}");
        }
        for part in content.iter().filter(|part| !is_words(part)) {
            self.part(part, out)?;
        }
        Ok(())
    }

    fn part(&mut self, part: &Content<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match part {
            Content::Text(text) | Content::Refusal(text) if text.is_empty() => {}
            Content::Text(text) | Content::Refusal(text) => {
                json::comma(out);
                out.extend_from_slice(b"{\"type\":\"text\"");
                self.text("text", *text, out);
                out.push(b'}');
            }
            Content::Image { url, detail } if self.quirks.images => {
                json::comma(out);
                out.extend_from_slice(b"{\"type\":\"image_url\",\"image_url\":{");
                self.text("url", *url, out);
                match detail {
                    Some(detail) if detail.is("original") => json::member("detail", "high", out),
                    Some(detail) => self.text("detail", *detail, out),
                    None => {}
                }
                out.extend_from_slice(b"}}");
            }
            Content::Image { .. } => {
                json::comma(out);
                out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"[image left out]\"}");
                self.drop("input_image")?;
            }
            Content::ImageFile { .. } => {
                let message = "the upstream takes images by URL or inline, not by file id";
                return Err(Failure::unsupported("input_image.file_id", message)
                    .with_code("unsupported_value"));
            }
            Content::File { data, id, url, name } => {
                self.file(*data, *id, *url, *name, out)?;
            }
            Content::Audio { data, format } => {
                json::comma(out);
                out.extend_from_slice(b"{\"type\":\"input_audio\",\"input_audio\":{");
                self.text("data", *data, out);
                self.text("format", *format, out);
                out.extend_from_slice(b"}}");
            }
            Content::Opaque(raw) => {
                let kind = kind_of(*raw);
                if kind == "input_video" {
                    let message = "the upstream takes no video";
                    return Err(
                        Failure::unsupported("input_video", message).with_code("unsupported_value")
                    );
                }
                json::comma(out);
                out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"[part left out]\"}");
                self.drop(&kind)?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        data: Option<Escaped<'_>>,
        id: Option<Escaped<'_>>,
        url: Option<Escaped<'_>>,
        name: Option<Escaped<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let refuse = |param: &str, message: &str| {
            Err(Failure::unsupported(param, message).with_code("unsupported_value"))
        };
        let (member, value) = match (data, id) {
            (Some(data), _) => ("file_data", data),
            (None, Some(id)) if self.quirks.openai_parameters => ("file_id", id),
            (None, Some(_)) => {
                return refuse(
                    "input_file.file_id",
                    "the upstream has no stored files: send file_data",
                );
            }
            (None, None) if url.is_some() => {
                return refuse(
                    "input_file.file_url",
                    "the upstream fetches no files: send file_data",
                );
            }
            (None, None) => return refuse("input_file", "a file needs file_data"),
        };
        json::comma(out);
        out.extend_from_slice(b"{\"type\":\"file\",\"file\":{");
        self.text(member, value, out);
        if let (Some(name), true) = (name, data.is_some()) {
            self.text("filename", name, out);
        }
        out.extend_from_slice(b"}}");
        Ok(())
    }

    fn assistant(
        &mut self,
        step: &Step,
        at: usize,
        plan: &Plan<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let calls = plan.order.calls(step);
        let words = |content: &&[Content<'_>]| content.iter().any(is_words);
        if calls.is_empty() && !plan.order.messages(step).iter().any(words) {
            return Ok(());
        }
        let back = match self.quirks.reasoning_back {
            ReasoningBack::Never => false,
            ReasoningBack::ToolTurns => {
                !calls.is_empty() && plan.order.last_user.is_none_or(|user| at > user)
            }
            ReasoningBack::Always => true,
        };
        let reasoning = if back { self.reasoning(step, plan) } else { Reasoning::default() };
        json::comma(out);
        out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
        self.words(step, &reasoning, plan, out);
        if !self.quirks.think_tags && !reasoning.text.is_empty() && reasoning.details.is_empty() {
            let name = match self.quirks.reasoning_field {
                ReasoningField::ReasoningContent => "reasoning_content",
                ReasoningField::Reasoning => "reasoning",
            };
            json::member_quoted(name, Escaped::trusted(&reasoning.text), out);
        }
        if !reasoning.details.is_empty() {
            json::key("reasoning_details", out);
            out.push(b'[');
            out.extend_from_slice(reasoning.details.as_bytes());
            out.push(b']');
        }
        if calls.is_empty() {
            out.push(b'}');
            return Ok(());
        }
        out.extend_from_slice(b",\"tool_calls\":[");
        let (one, more);
        let ids: &[Cow<'_, str>] = match calls {
            // Most steps.
            [call] if self.fits(call.id) => {
                one = [Cow::Borrowed(call.id)];
                &one
            }
            _ => {
                more = self.ids(calls);
                &more
            }
        };
        for (call, id) in calls.iter().zip(ids) {
            json::comma(out);
            self.call(call, id, plan, out);
        }
        out.extend_from_slice(b"]}");
        self.outputs(calls, ids, out)
    }

    /// The `content` of an assistant message: a string, or null beside calls or a refusal.
    fn words(
        &mut self,
        step: &Step,
        reasoning: &Reasoning,
        plan: &Plan<'_, '_>,
        out: &mut Vec<u8>,
    ) {
        let messages = plan.order.messages(step);
        let start = out.len();
        out.push(b'"');
        if self.quirks.think_tags && !reasoning.text.is_empty() {
            out.extend_from_slice(b"<think>\\n");
            out.extend_from_slice(reasoning.text.as_bytes());
            out.extend_from_slice(b"\\n</think>\\n\\n");
        }
        let mut first = true;
        let mut refusals = false;
        for message in messages {
            let before = out.len();
            for part in *message {
                match part {
                    Content::Refusal(words) if self.quirks.openai_parameters => {
                        refusals |= !words.is_empty();
                    }
                    Content::Text(words) | Content::Refusal(words) if !words.is_empty() => {
                        if !first && out.len() == before {
                            out.extend_from_slice(GAP);
                        }
                        self.inside(*words, out);
                    }
                    _ => {}
                }
            }
            first &= out.len() == before;
        }
        if out.len() > start + 1 {
            out.push(b'"');
        } else if refusals || !plan.order.calls(step).is_empty() {
            // Some refuse null, but beside calls all take it.
            out.truncate(start);
            out.extend_from_slice(b"null");
        } else {
            out.push(b'"');
        }
        if refusals {
            out.extend_from_slice(b",\"refusal\":\"");
            for part in messages.iter().copied().flatten() {
                if let Content::Refusal(words) = part {
                    self.inside(*words, out);
                }
            }
            out.push(b'"');
        }
    }

    /// The reasoning of a step: what its own upstream sealed, else the texts.
    fn reasoning(&mut self, step: &Step, plan: &Plan<'_, '_>) -> Reasoning {
        let mut whole = Reasoning::default();
        for item in plan.order.reasoning(step) {
            let opened = item.sealed.and_then(|s| sealed::open(s, self.target.provider));
            let Opened { reasoning, details, .. } = opened.unwrap_or_default();
            let before = whole.text.len();
            if before > 0 {
                whole.text.push_str("\\n\\n");
            }
            let begin = whole.text.len();
            if let Some(text) = reasoning {
                // Not of the request's text, so nobody has looked for halves in it.
                whole.text.push_str(Escaped::trusted(&text).paired(&mut self.scratch).raw());
            } else {
                let texts = if item.text.is_empty() { item.summary } else { item.text };
                for (count, text) in texts.iter().enumerate() {
                    whole.text.push_str(if count > 0 { "\\n\\n" } else { "" });
                    whole.text.push_str(self.paired(*text).raw());
                }
            }
            if whole.text.len() == begin {
                whole.text.truncate(before);
            }
            if !details.is_empty() {
                if !whole.details.is_empty() {
                    whole.details.push(',');
                }
                whole.details.push_str(&details);
            }
        }
        whole
    }

    fn call(&mut self, call: &Planned<'_>, id: &str, plan: &Plan<'_, '_>, out: &mut Vec<u8>) {
        let place = self.place(call.kind, call.tool);
        let text = Escaped::trusted(call.text);
        out.push(b'{');
        json::member_quoted("id", Escaped::trusted(id), out);
        if call.kind == CallKind::Custom && self.quirks.custom_tools {
            out.extend_from_slice(b",\"type\":\"custom\",\"custom\":{");
            self.name(place, out);
            self.text("input", text, out);
        } else {
            out.extend_from_slice(b",\"type\":\"function\",\"function\":{");
            self.name(place, out);
            out.extend_from_slice(b",\"arguments\":\"");
            if call.kind == CallKind::Custom {
                out.extend_from_slice(b"{\\\"input\\\":\\\"");
                json::escape_again(self.paired(text), out);
                out.extend_from_slice(b"\\\"}");
            } else if text.is_empty() {
                out.extend_from_slice(b"{}");
            } else {
                self.inside(text, out);
            }
            out.push(b'"');
        }
        out.push(b'}');
        if let Some(extra) = plan.extras.get(call.id) {
            json::member_raw("extra_content", extra, out);
        }
        out.push(b'}');
    }

    /// The tool messages of a step, and behind them what they cannot hold.
    fn outputs(
        &mut self,
        calls: &[Planned<'_>],
        ids: &[Cow<'_, str>],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        for (call, id) in calls.iter().zip(ids) {
            out.extend_from_slice(b",{\"role\":\"tool\"");
            json::member_quoted("tool_call_id", Escaped::trusted(id), out);
            out.extend_from_slice(b",\"content\":\"");
            match call.output {
                None => out.extend_from_slice(b"[no output]"),
                Some(content) if content.iter().any(is_words) => {
                    self.joined(content, b"\\n", out);
                }
                Some(content) if content.iter().all(is_empty) => {}
                Some(_) => out.extend_from_slice(b"[see next message]"),
            }
            out.extend_from_slice(b"\"}");
        }
        let mut open = false;
        for (call, id) in calls.iter().zip(ids) {
            let content = call.output.unwrap_or_default();
            if content.iter().all(|part| is_words(part) || is_empty(part)) {
                continue;
            }
            if !open {
                out.extend_from_slice(b",{\"role\":\"user\",\"content\":[");
                open = true;
            }
            self.rest_parts(Some(&format!("[image output of {id}]")), content, out)?;
        }
        if open {
            out.extend_from_slice(b"]}");
        }
        Ok(())
    }

    /// The ids of a step's calls upstream: as they are, or short and unique in the step. The same
    /// id is the same on every turn.
    fn ids<'r>(&self, calls: &[Planned<'r>]) -> Vec<Cow<'r, str>> {
        let mut ids: Vec<Cow<'r, str>> = Vec::with_capacity(calls.len());
        let mut many = (calls.len() > COMPARED_MAX).then(HashSet::<Cow<'r, str>>::new);
        for (call, at) in calls.iter().zip(0u32..) {
            let taken = |name: &str| match &many {
                Some(many) => many.contains(name),
                None => ids.iter().any(|known| known == name),
            };
            let fits = self.fits(call.id);
            let id = if fits && !taken(call.id) {
                Cow::Borrowed(call.id)
            } else {
                let twin = if fits || taken(&short(call.id, 0)) { at } else { 0 };
                Cow::Owned(short(call.id, twin))
            };
            if let Some(many) = &mut many {
                many.insert(id.clone());
            }
            ids.push(id);
        }
        ids
    }

    /// Whether the upstream takes a call's id as it is.
    fn fits(&self, id: &str) -> bool {
        let max = if self.quirks.openai_parameters { ID_BYTES_MAX_OPENAI } else { ID_BYTES_MAX };
        id.len() <= max && !id.is_empty() && !id.contains('\\')
    }

    /// The texts of a content, `gap` between them.
    fn joined(&mut self, content: &[Content<'_>], gap: &[u8], out: &mut Vec<u8>) {
        let mut first = true;
        for part in content {
            if let Content::Text(text) | Content::Refusal(text) = part
                && !text.is_empty()
            {
                if !first {
                    out.extend_from_slice(gap);
                }
                first = false;
                self.inside(*text, out);
            }
        }
    }
}

/// Reasoning to give back, escaped text and JSON elements.
#[derive(Default)]
struct Reasoning {
    text: String,
    details: String,
}

fn short(id: &str, twin: u32) -> String {
    let hash =
        id.bytes().chain(twin.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    format!("call_{hash:016x}")
}

fn is_system(turn: &Turn<'_>) -> bool {
    matches!(turn, Turn::Message { role: Role::System | Role::Developer, .. })
}

/// True for text that is not empty.
fn is_words(part: &Content<'_>) -> bool {
    matches!(part, Content::Text(text) | Content::Refusal(text) if !text.is_empty())
}

fn is_empty(part: &Content<'_>) -> bool {
    matches!(part, Content::Text(text) | Content::Refusal(text) if text.is_empty())
}

/// The `type` of a part, for people.
fn kind_of(part: Raw<'_>) -> String {
    let mut kind = String::from("content part");
    // It was read once already; what cannot be read again has no name.
    let _ = part.cursor().object(|key, value| {
        if let ("type", Some(text)) = (key, value.skip()?.string()) {
            kind = text.decode().into_owned();
        }
        Ok(())
    });
    kind
}
