//! Any answer that GigaChat can give arrives at clients of both APIs as it was meant, streamed or
//! whole, however it is cut; and what is cut off never looks whole. The writer here is one of its own:
//! it knows nothing of the decoder's.

#![allow(clippy::unwrap_used, reason = "a test")]

use patchbay::fuzzing::readers::{self, End, Seen};
use patchbay::fuzzing::transcode::Setup;
use patchbay::transcode::Form;
use proptest::prelude::*;
use serde_json::{Value, json};

const STATE: &str = "77d3fb14-457a-46ba-937e-8d856156d003";

/// An answer to be told.
#[derive(Clone, Debug)]
struct Plan {
    /// Pieces of reasoning, then of text.
    reasoning: Vec<String>,
    text: Vec<String>,
    call: Option<CallPlan>,
    cached: Option<u64>,
    end: &'static str,
}

#[derive(Clone, Debug)]
struct CallPlan {
    /// The call of a custom tool, which has one text.
    custom: bool,
    argument: String,
    /// The chunks, counted from the call's, in which its state comes; none if that is no chunk.
    state: Option<i32>,
}

fn pieces() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("(?s).{1,6}|[a-z \"\\\\\n]{1,12}|[😀語é]{1,3}", 0..5)
}

fn plan() -> impl Strategy<Value = Plan> {
    let call = (any::<bool>(), "(?s).{0,9}", prop::option::of(-1..2))
        .prop_map(|(custom, argument, state)| CallPlan { custom, argument, state });
    let end = prop_oneof![4 => Just("stop"), 1 => Just("length"), 1 => Just("blacklist")];
    (pieces(), pieces(), prop::option::of(call), prop::option::of(0..9000_u64), end).prop_map(
        |(reasoning, text, call, cached, end)| {
            let end = if call.is_some() { "function_call" } else { end };
            Plan { reasoning, text, call, cached, end }
        },
    )
}

impl CallPlan {
    fn name(&self) -> &str {
        if self.custom { "apply_patch" } else { "shell" }
    }

    fn arguments(&self) -> Value {
        let name = if self.custom { "input" } else { "cmd" };
        json!({name: self.argument})
    }

    /// What a client is to be told. One of Chat that declared no custom tool gets a function.
    fn told(&self, client: &str) -> String {
        match self.custom && client == "responses" {
            true => self.argument.clone(),
            false => self.arguments().to_string(),
        }
    }
}

impl Plan {
    /// The deltas of a stream.
    fn deltas(&self) -> Vec<Value> {
        let words = |name: &'static str, pieces: &[String]| -> Vec<Value> {
            pieces.iter().map(|piece| json!({name: piece})).collect()
        };
        let mut deltas = words("reasoning_content", &self.reasoning);
        deltas.extend(words("content", &self.text));
        if let Some(call) = &self.call {
            let made = json!({"name": call.name(), "arguments": call.arguments()});
            // In front of it there is a chunk of nothing, and one behind it.
            let at = deltas.len() + 1;
            deltas.push(json!({"content": ""}));
            deltas.push(json!({"content": "", "function_call": made}));
            deltas.push(json!({"content": ""}));
            if let Some(state) = call.state {
                let at = at.saturating_add_signed(state as isize);
                deltas[at]["functions_state_id"] = STATE.into();
            }
        }
        deltas
    }

    fn usage(&self) -> Value {
        let mut usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
        if let Some(cached) = self.cached {
            usage["precached_prompt_tokens"] = cached.into();
        }
        usage
    }

    fn stream(&self) -> Vec<u8> {
        let mut stream = String::new();
        let mut send = |chunk: &Value| stream += &format!("data: {chunk}\n\n");
        for delta in self.deltas() {
            send(&json!({"choices": [{"delta": delta, "index": 0}], "created": 1, "model": "G"}));
        }
        let last = json!({"delta": {"content": ""}, "index": 0, "finish_reason": self.end});
        send(&json!({"choices": [last], "created": 1, "model": "G", "usage": self.usage()}));
        (stream + "data: [DONE]\n\n").into_bytes()
    }

    fn document(&self) -> Vec<u8> {
        let mut message = json!({"role": "assistant", "content": self.text.concat()});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.concat().into();
        }
        if let Some(call) = &self.call {
            message["function_call"] = json!({"name": call.name(), "arguments": call.arguments()});
            if call.state.is_some() {
                message["functions_state_id"] = STATE.into();
            }
        }
        let choice = json!({"message": message, "index": 0, "finish_reason": self.end});
        json!({"choices": [choice], "model": "G", "usage": self.usage()}).to_string().into_bytes()
    }

    fn expected(&self, client: &str) -> Seen {
        Seen {
            text: self.text.concat(),
            reasoning: self.reasoning.concat(),
            calls: self.call.iter().map(|call| call.told(client)).collect(),
            end: End::Whole,
        }
    }
}

/// What a client's reader makes of it, its functions' arguments written as ours.
fn seen(client: &str, out: &[u8], plan: &Plan) -> Seen {
    let read = if client == "chat" { readers::chat(out) } else { readers::responses(out) };
    let mut seen = read.unwrap();
    let free = client == "responses" && plan.call.as_ref().is_some_and(|call| call.custom);
    for call in seen.calls.iter_mut().filter(|_| !free) {
        if let Ok(object @ Value::Object(_)) = serde_json::from_str(call) {
            *call = object.to_string();
        }
    }
    seen
}

fn translated(client: &str, from: Form, body: &[u8], piece: usize) -> Vec<u8> {
    let setup = Setup { from, ..Setup::streams("gigachat", client).unwrap() };
    setup.run(&body.chunks(piece).collect::<Vec<_>>()).0
}

fn told_usage(client: &str, out: &str) -> Option<u64> {
    let name = if client == "chat" { "\"prompt_tokens\":" } else { "\"input_tokens\":" };
    let behind = &out[out.rfind(name)? + name.len()..];
    behind.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_told_as_it_was_meant(plan in plan(), piece in 1..60_usize) {
        for client in ["chat", "responses"] {
            for (from, body) in [(Form::Stream, plan.stream()), (Form::Document, plan.document())] {
                let out = translated(client, from, &body, piece);
                let shown = String::from_utf8(out.clone()).unwrap();
                let expected = plan.expected(client);
                prop_assert_eq!(seen(client, &out, &plan), expected, "{} {:?}: {}", client, from, shown);
                // The cache's tokens are a part of the prompt's.
                let prompt = 7 + plan.cached.unwrap_or(0);
                prop_assert_eq!(told_usage(client, &shown), Some(prompt), "{}", shown);
                let carried = plan.call.as_ref().is_some_and(|call| call.state.is_some());
                prop_assert_eq!(shown.contains(&format!("_{STATE}")), carried, "{}", shown);
            }
        }
    }

    #[test]
    fn what_is_cut_off_never_looks_whole(plan in plan(), at in any::<prop::sample::Index>()) {
        let mut stream = plan.stream();
        let end = stream.windows(15).rposition(|it| it == b"\"finish_reason\"").unwrap();
        stream.truncate(at.index(end));
        for client in ["chat", "responses"] {
            let out = translated(client, Form::Stream, &stream, 64);
            let shown = String::from_utf8(out.clone()).unwrap();
            prop_assert_eq!(seen(client, &out, &plan).end, End::Failed, "{}: {}", client, shown);
        }
    }
}
