//! Streamed answers of upstreams, made from a seed: one text in the two dialects, in frames as real
//! servers send them.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use super::inputs::Random;
use patchbay::wire::json;

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Words, a few with an escape.
    Text,
    /// An escape or more in each delta: code that is quoted.
    Escapes,
    /// One CJK character or two a delta.
    Cjk,
    /// The arguments of a call: JSON inside a string.
    Arguments,
    /// Reasoning.
    Reasoning,
    /// Words in frames that differ in more than their delta: other ids, padding of random length.
    Varied,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Text, Self::Escapes, Self::Cjk, Self::Arguments, Self::Reasoning, Self::Varied];

    /// Its name in a row.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Escapes => "escapes",
            Self::Cjk => "cjk",
            Self::Arguments => "arguments",
            Self::Reasoning => "reasoning",
            Self::Varied => "varied",
        }
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Text | Self::Reasoning | Self::Varied => {
                &[" the", " answer", " is", " depends", "\n", " a", " on", ".", " größer", " (see"]
            }
            Self::Escapes => {
                &["\"", "\n", "\t", "\\n", "\"name\":", "\n    ", "\\", " \"x\"", "\u{1}"]
            }
            Self::Cjk => &["漢", "字", "答え", "です", "问题", "的", "。", "가", "나다"],
            Self::Arguments => {
                &["{\"", "path", "\":", " \"src/", "main", ".rs", "\",", "\\n", "}", "1"]
            }
        }
    }
}

/// A stream and how many deltas are in it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) deltas: u64,
}

/// An answer with `deltas` deltas in the frames of a Chat Completions server.
pub(crate) fn chat(kind: Kind, deltas: u64) -> Stream {
    let mut bytes = Vec::new();
    let mut random = Random::new(11);
    let call = "\"tool_calls\":[{\"index\":0,";
    let first = match kind {
        Kind::Arguments => format!(
            "\"role\":\"assistant\",\"content\":null,{call}\"id\":\"call_Xy12ab34Cd56ef78\",\
             \"type\":\"function\",\"function\":{{\"name\":\"shell\",\"arguments\":\"\"}}}}]"
        ),
        _ => "\"role\":\"assistant\",\"content\":\"\"".to_owned(),
    };
    chat_frame(&first, "null", &mut bytes);
    for count in 0..deltas {
        let word = random.pick(kind.words());
        let mut delta = Vec::new();
        match kind {
            Kind::Arguments => {
                delta.extend_from_slice(call.as_bytes());
                delta.extend_from_slice(b"\"function\":{");
                json::member("arguments", word, &mut delta);
                delta.extend_from_slice(b"}}]");
            }
            Kind::Reasoning => json::member("reasoning_content", word, &mut delta),
            _ => json::member("content", word, &mut delta),
        }
        let delta = String::from_utf8(delta).unwrap_or_default();
        if kind == Kind::Varied {
            varied_chat_frame(count, &delta, &mut random, &mut bytes);
        } else {
            chat_frame(&delta, "null", &mut bytes);
        }
    }
    let reason = if kind == Kind::Arguments { "\"tool_calls\"" } else { "\"stop\"" };
    chat_frame("", reason, &mut bytes);
    bytes.extend_from_slice(
        format!(
            "data: {CHAT_HEAD},\"choices\":[],\"usage\":{{\"prompt_tokens\":9000,\
             \"completion_tokens\":{deltas},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
            9000 + deltas
        )
        .as_bytes(),
    );
    Stream { bytes, deltas }
}

const CHAT_HEAD: &str = "{\"id\":\"chatcmpl-9zX2bq8Rk1\",\"object\":\"chat.completion.chunk\",\
     \"created\":1764000000,\"model\":\"some-model-2026-01-01\",\"service_tier\":\"default\",\
     \"system_fingerprint\":\"fp_0123456789\"";

/// The data of a chunk with this inside of its `delta`.
pub(crate) fn chat_chunk(delta: &str, reason: &str) -> String {
    format!(
        "{CHAT_HEAD},\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"logprobs\":null,\
         \"finish_reason\":{reason}}}],\"usage\":null}}"
    )
}

fn chat_frame(delta: &str, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(chat_chunk(delta, reason).as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// The order of members and the padding of servers that give each chunk an id of its own.
fn varied_chat_frame(count: u64, delta: &str, random: &mut Random, out: &mut Vec<u8>) {
    let padding = "x".repeat(random.below(16));
    out.extend_from_slice(
        format!(
            "data: {{\"id\":\"{count}\",\"choices\":[{{\"delta\":{{\"role\":\"assistant\",{delta}}},\
             \"finish_reason\":null,\"index\":0}}],\"obfuscation\":\"{padding}\",\
             \"object\":\"chat.completion.chunk\",\"model\":\"some-model\"}}\n\n"
        )
        .as_bytes(),
    );
}

/// An answer with `deltas` deltas in the frames of a Responses server.
pub(crate) fn responses(kind: Kind, deltas: u64) -> Stream {
    let mut writer = Writer::default();
    let mut random = Random::new(11);
    let item = Item::of(kind);
    writer.head("response.created", "in_progress", "[]", "null");
    writer.head("response.in_progress", "in_progress", "[]", "null");
    writer.frame(
        "response.output_item.added",
        &format!("\"output_index\":0,\"item\":{}", item.begun),
    );
    if let Some((name, part)) = &item.part {
        writer.frame(&format!("response.{name}.added"), &format!("{},\"part\":{part}", item.place));
    }
    let (mut whole, mut word) = (Vec::new(), Vec::new());
    for _ in 0..deltas {
        word.clear();
        json::escape(random.pick(kind.words()), &mut word);
        whole.extend_from_slice(&word);
        let word = String::from_utf8_lossy(&word);
        let mut members = format!("{},\"delta\":\"{word}\"", item.place);
        if item.part.as_ref().is_some_and(|(name, _)| *name == "content_part") {
            members.push_str(",\"logprobs\":[]");
        }
        if kind == Kind::Varied {
            let padding = "xK3v9QpLm0RtYw2Z";
            members.push_str(&format!(",\"obfuscation\":\"{}\"", &padding[..random.below(16)]));
        }
        writer.frame(&format!("{}.delta", item.event), &members);
    }
    let whole = String::from_utf8(whole).unwrap_or_default();
    let done = format!("{},\"{}\":\"{whole}\"", item.place, item.member);
    writer.frame(&format!("{}.done", item.event), &done);
    let item_done = item.done.replace("@", &whole);
    if let Some((name, part)) = &item.part {
        let part = part.replace("\"text\":\"\"", &format!("\"text\":\"{whole}\""));
        writer.frame(&format!("response.{name}.done"), &format!("{},\"part\":{part}", item.place));
    }
    writer.frame("response.output_item.done", &format!("\"output_index\":0,\"item\":{item_done}"));
    let usage = format!(
        "{{\"input_tokens\":9000,\"input_tokens_details\":{{\"cached_tokens\":8000}},\
         \"output_tokens\":{deltas},\"output_tokens_details\":{{\"reasoning_tokens\":0}},\
         \"total_tokens\":{}}}",
        9000 + deltas
    );
    writer.head("response.completed", "completed", &format!("[{item_done}]"), &usage);
    Stream { bytes: writer.out, deltas }
}

/// The data of a text delta.
pub(crate) fn responses_delta() -> String {
    let place = Item::of(Kind::Text).place;
    format!(
        "{{\"type\":\"response.output_text.delta\",\"sequence_number\":7,{place},\
         \"delta\":\" hello\",\"logprobs\":[],\"obfuscation\":\"xK3v9QpLm0\"}}"
    )
}

/// The one item of an answer, in pieces. `@` in `done` stands for its text.
struct Item {
    begun: String,
    done: String,
    /// The part that holds the text: the middle of its events' names, and itself.
    part: Option<(&'static str, String)>,
    /// The delta's event without `.delta`.
    event: &'static str,
    /// Members that say where a delta belongs.
    place: &'static str,
    /// The member of `event`.done that holds the text.
    member: &'static str,
}

impl Item {
    fn of(kind: Kind) -> Self {
        let id = "0123456789abcdef0123456789abcdef";
        match kind {
            Kind::Arguments => {
                let item = |arguments: &str, status: &str| {
                    format!(
                        "{{\"id\":\"fc_{id}\",\"type\":\"function_call\",\"status\":\"{status}\",\
                         \"arguments\":\"{arguments}\",\"call_id\":\"call_Xy12ab34Cd56ef78\",\
                         \"name\":\"shell\"}}"
                    )
                };
                Self {
                    begun: item("", "in_progress"),
                    done: item("@", "completed"),
                    part: None,
                    event: "response.function_call_arguments",
                    place: "\"item_id\":\"fc_0123456789abcdef0123456789abcdef\",\"output_index\":0",
                    member: "arguments",
                }
            }
            Kind::Reasoning => {
                let item = |summary: &str| {
                    format!("{{\"id\":\"rs_{id}\",\"type\":\"reasoning\",\"summary\":[{summary}]}}")
                };
                Self {
                    begun: item(""),
                    done: item("{\"type\":\"summary_text\",\"text\":\"@\"}"),
                    part: Some((
                        "reasoning_summary_part",
                        "{\"type\":\"summary_text\",\"text\":\"\"}".to_owned(),
                    )),
                    event: "response.reasoning_summary_text",
                    place: "\"item_id\":\"rs_0123456789abcdef0123456789abcdef\",\"output_index\":0,\
                            \"summary_index\":0",
                    member: "text",
                }
            }
            _ => {
                let item = |content: &str, status: &str| {
                    format!(
                        "{{\"id\":\"msg_{id}\",\"type\":\"message\",\"status\":\"{status}\",\
                         \"content\":[{content}],\"role\":\"assistant\"}}"
                    )
                };
                let part = |text: &str| {
                    format!(
                        "{{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\
                         \"text\":\"{text}\"}}"
                    )
                };
                Self {
                    begun: item("", "in_progress"),
                    done: item(&part("@"), "completed"),
                    part: Some(("content_part", part(""))),
                    event: "response.output_text",
                    place: "\"item_id\":\"msg_0123456789abcdef0123456789abcdef\",\"output_index\":0,\
                            \"content_index\":0",
                    member: "text",
                }
            }
        }
    }
}

/// Numbers frames as they are written.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    number: u64,
}

impl Writer {
    fn frame(&mut self, event: &str, members: &str) {
        let number = self.number;
        self.number += 1;
        self.out.extend_from_slice(
            format!(
                "event: {event}\ndata: {{\"type\":\"{event}\",\"sequence_number\":{number},\
                 {members}}}\n\n"
            )
            .as_bytes(),
        );
    }

    fn head(&mut self, event: &str, status: &str, output: &str, usage: &str) {
        let members = format!(
            "\"response\":{{\"id\":\"resp_0123456789abcdef0123456789abcdef\",\"object\":\"response\",\
             \"created_at\":1764000000,\"status\":\"{status}\",\"error\":null,\
             \"incomplete_details\":null,\"instructions\":null,\"model\":\"some-model-2026-01-01\",\
             \"output\":{output},\"parallel_tool_calls\":true,\"store\":false,\"temperature\":1.0,\
             \"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,\"usage\":{usage},\
             \"metadata\":{{}}}}"
        );
        self.frame(event, &members);
    }
}
