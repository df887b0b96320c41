//! Events as GigaChat's chat wire: chunks without an id, a call whole in one of them with an object
//! as its arguments, usage in the chunk that ends the answer.

use crate::dialect::event::{Event, Part, Stop, Usage};
use crate::dialect::fold::{Answer, AnswerKind};
use crate::dialect::{Encode, Reply};
use crate::fault::Failure;
use crate::mock::wire::MODEL;
use crate::wire::json::{self, Escaped, Raw};

/// Appends the envelope of an error.
pub(in crate::mock) fn envelope(failure: &Failure, out: &mut Vec<u8>) {
    out.push(b'{');
    json::member_number("status", u64::from(failure.status()), out);
    json::member("message", &failure.message, out);
    out.push(b'}');
}

/// Writes one answer.
#[derive(Debug)]
pub(in crate::mock) struct Encoder {
    created_at: u64,
    /// The id that the next turn gives back with a call's result.
    state: String,
    /// The role was written.
    begun: bool,
    /// The member that deltas go to; empty in a call.
    member: &'static str,
    /// The open call's name and arguments.
    name: String,
    arguments: String,
    calls: u32,
    usage: Option<Usage>,
}

impl Encoder {
    pub(in crate::mock) fn new(mut reply: Reply) -> Self {
        Self {
            created_at: reply.created_at,
            state: reply.ids.make("state-"),
            begun: false,
            member: "",
            name: String::new(),
            arguments: String::new(),
            calls: 0,
            usage: None,
        }
    }

    /// Writes a chunk; `delta` appends the members of its delta.
    fn chunk(&mut self, finish: Option<&str>, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(b"data: {\"choices\":[{\"delta\":{");
        delta(out);
        if !std::mem::replace(&mut self.begun, true) {
            json::member("role", "assistant", out);
        }
        out.extend_from_slice(b"},\"index\":0");
        if let Some(finish) = finish {
            json::member("finish_reason", finish, out);
        }
        out.extend_from_slice(b"}]");
        self.tail(out);
        if let Some(usage) = self.usage.filter(|_| finish.is_some()) {
            write_usage(usage, out);
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn tail(&self, out: &mut Vec<u8>) {
        json::member_number("created", self.created_at, out);
        json::member("model", MODEL, out);
        json::member("object", "chat.completion", out);
    }

    fn call(&self, name: &str, arguments: &str, out: &mut Vec<u8>) {
        json::key("function_call", out);
        out.push(b'{');
        json::member_quoted("name", Escaped::trusted(name), out);
        let plain = Escaped::trusted(arguments).decode();
        let object = Raw::check(plain.trim()).map_or("{}", Raw::text);
        json::member_raw("arguments", object, out);
        out.push(b'}');
        json::member("functions_state_id", &self.state, out);
    }
}

const fn reason(stop: Stop, calls: bool) -> &'static str {
    match stop {
        Stop::Length => "length",
        Stop::Filter => "blacklist",
        Stop::End | Stop::Tool if calls => "function_call",
        Stop::End | Stop::Tool => "stop",
    }
}

fn write_usage(usage: Usage, out: &mut Vec<u8>) {
    json::key("usage", out);
    out.push(b'{');
    // The cached ones are told beside those that are billed.
    json::member_number("prompt_tokens", usage.input.saturating_sub(usage.cached), out);
    json::member_number("completion_tokens", usage.output, out);
    json::member_number("total_tokens", usage.total.saturating_sub(usage.cached), out);
    json::member_number("precached_prompt_tokens", usage.cached, out);
    out.push(b'}');
}

impl Encode for Encoder {
    fn event(&mut self, event: Event<'_>, _: u64, out: &mut Vec<u8>) {
        match event {
            Event::Open { kind: Part::Call(call), .. } => {
                self.member = "";
                self.name = call.name.raw().to_owned();
                self.arguments.clear();
            }
            Event::Open { kind: Part::Reasoning { .. }, .. } => self.member = "reasoning_content",
            Event::Open { .. } => self.member = "content",
            Event::Delta { text, .. } if self.member.is_empty() => {
                self.arguments.push_str(text.raw());
            }
            Event::Delta { text, .. } => {
                let member = self.member;
                self.chunk(None, out, |out| json::member_quoted(member, text, out));
            }
            // One answer has one call here.
            Event::Close { .. } if self.member.is_empty() && self.calls == 0 => {
                self.calls += 1;
                let mut call = Vec::new();
                self.call(&self.name, &self.arguments, &mut call);
                self.chunk(None, out, |out| {
                    json::member("content", "", out);
                    out.extend_from_slice(b",");
                    out.extend_from_slice(&call);
                });
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => {
                let finish = reason(stop, self.calls > 0);
                self.chunk(Some(finish), out, |out| json::member("content", "", out));
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            Event::Fail(failure) => {
                out.extend_from_slice(b"data: ");
                envelope(failure, out);
                out.extend_from_slice(b"\n\n");
            }
            _ => {}
        }
    }

    fn answer(&mut self, answer: &Answer, _: u64, out: &mut Vec<u8>) {
        let text_of = |wanted: fn(&AnswerKind) -> bool| {
            let parts = answer.parts.iter().filter(|part| wanted(&part.kind));
            parts.map(|part| part.text.as_str()).collect::<String>()
        };
        let text = text_of(|kind| matches!(kind, AnswerKind::Text { .. }));
        let reasoning = text_of(|kind| matches!(kind, AnswerKind::Reasoning { .. }));
        out.extend_from_slice(b"{\"choices\":[{\"message\":{\"role\":\"assistant\"");
        json::member_quoted("content", Escaped::trusted(&text), out);
        if !reasoning.is_empty() {
            json::member_quoted("reasoning_content", Escaped::trusted(&reasoning), out);
        }
        let call = answer.parts.iter().find_map(|part| match &part.kind {
            AnswerKind::Call { name, .. } => Some((name, &part.text)),
            _ => None,
        });
        if let Some((name, arguments)) = call {
            self.call(name, arguments, out);
        }
        out.extend_from_slice(b"},\"index\":0");
        let stop = answer.stop.unwrap_or(Stop::End);
        json::member("finish_reason", reason(stop, call.is_some()), out);
        out.extend_from_slice(b"}]");
        self.tail(out);
        if let Some(usage) = answer.usage {
            write_usage(usage, out);
        }
        out.push(b'}');
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keepalive\n\n");
    }
}
