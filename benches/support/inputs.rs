//! Inputs made from a seed: the same bytes on every machine.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use patchbay::wire::json;

/// A small generator of random numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).unwrap_or(0) % limit
    }

    fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from[self.below(from.len())]
    }
}

fn fill(random: &mut Random, bytes: usize, words: &[&str], line: usize) -> String {
    let (mut text, mut column) = (String::with_capacity(bytes + 20), 0);
    while text.len() < bytes {
        let word = random.pick(words);
        text.push_str(word);
        column += word.len() + 1;
        if column > line {
            text.push('\n');
            column = 0;
        } else {
            text.push(' ');
        }
    }
    text
}

/// Program text: a quote or a tab now and then, and short lines.
pub(crate) fn code(random: &mut Random, bytes: usize) -> String {
    let words = [
        "let",
        "value",
        "=",
        "self.table",
        "match",
        "{",
        "}",
        "=>",
        "Some(found)",
        "return",
        ";",
        "\"name\"",
        "\tif",
        "for",
        "in",
        "0..length",
        "&mut",
        "->",
        "Result<u64,",
        "Error>",
        "//",
    ];
    fill(random, bytes, &words, 60)
}

/// Prose in several scripts, long lines, no quotes.
pub(crate) fn prose(random: &mut Random, bytes: usize) -> String {
    let words = [
        "the",
        "answer",
        "depends",
        "on",
        "what",
        "was",
        "asked",
        "größer",
        "als",
        "vorher",
        "и",
        "потом",
        "漢字",
        "and",
        "so",
        "it",
        "goes.",
    ];
    fill(random, bytes, &words, 400)
}

/// JSON inside a string: every few bytes an escape.
pub(crate) fn dense(random: &mut Random, bytes: usize) -> String {
    let words = ["\"id\":", "\"a\\n\"", "{", "}", ",", "\"path\\\\to\"", "1", "\n", "\t\"x\""];
    fill(random, bytes, &words, 40)
}

/// A request in the Responses shape of about `bytes` bytes: tool outputs of 4 KB each.
pub(crate) fn request(bytes: usize, text: fn(&mut Random, usize) -> String) -> String {
    let mut random = Random::new(7);
    let mut out = b"{\"model\":\"m\",\"stream\":true,\"input\":[".to_vec();
    for call in 0.. {
        if out.len() >= bytes {
            break;
        }
        json::comma(&mut out);
        out.extend_from_slice(b"{\"type\":\"function_call_output\",\"call_id\":\"call_");
        json::number(call, &mut out);
        out.extend_from_slice(b"\"");
        json::member("output", &text(&mut random, 4000), &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    String::from_utf8(out).unwrap_or_default()
}

/// A chunk of a Chat Completions stream with the usual members.
pub(crate) fn chat_chunk(content: &str) -> String {
    let mut out = Vec::new();
    out.extend_from_slice(
        b"{\"id\":\"chatcmpl-9zX2bq8Rk1\",\"object\":\"chat.completion.chunk\",\
          \"created\":1764000000,\"model\":\"some-model-2026-01-01\",\"service_tier\":\"default\",\
          \"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,\"delta\":{",
    );
    json::member("content", content, &mut out);
    out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}");
    String::from_utf8(out).unwrap_or_default()
}

/// A Chat Completions stream of `deltas` text deltas, as server-sent events.
pub(crate) fn chat_stream(deltas: usize) -> Vec<u8> {
    let mut random = Random::new(11);
    let words = [" the", " answer", " is", "\n", " \"", "größer", "漢", " fn", "(", ") {", " a+b"];
    let mut out = Vec::new();
    for _ in 0..deltas {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(chat_chunk(random.pick(&words)).as_bytes());
        out.extend_from_slice(b"\n\n");
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
    out
}

/// [`chat_stream`] from a server whose chunks differ in more than their delta: fresh ids, padding.
pub(crate) fn unusual_chat_stream(deltas: usize) -> Vec<u8> {
    let (mut random, mut out) = (Random::new(13), Vec::new());
    let words = [" the", " answer", " is", "\n", " \"", "größer", "漢", " fn", "(", ") {", " a+b"];
    for count in 0..deltas {
        out.extend_from_slice(b"data: {\"id\":\"");
        json::number(count as u64, &mut out);
        out.extend_from_slice(b"\",\"choices\":[{\"delta\":{\"role\":\"assistant\"");
        json::member("content", random.pick(&words), &mut out);
        out.extend_from_slice(b"},\"finish_reason\":null,\"index\":0}]");
        json::member("obfuscation", &"x".repeat(random.below(16)), &mut out);
        out.extend_from_slice(
            b",\"object\":\"chat.completion.chunk\",\"model\":\"some-model\"}\n\n",
        );
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
    out
}
