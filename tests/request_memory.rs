//! A request's translation takes memory for its lists, not for its texts nor for each item. Counted
//! in a test binary of its own, because the counting allocator is the whole binary's;
//! `cargo test --test request_memory -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints its figures")]

use allocation_counter::{AllocationInfo, measure};
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::{self, Target};
use serde_json::{Value, json};

/// A list may double its memory so often while twice as much goes into it, and a table of hashes
/// beside it.
const GROWTHS_MAX: u64 = 8;

/// A tool's output as agents send it: lines, quotes, now and then another script.
fn output(call: usize) -> String {
    format!("{call}\tlet name = \"größer\";\n").repeat(4000 / 26)
}

fn tools(nested: bool) -> Value {
    let tool = |number: usize| {
        let function = json!({"name": format!("tool_{number}"), "description": "Does\nthings",
            "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}});
        let mut tool = if nested { json!({"function": function}) } else { function };
        tool["type"] = "function".into();
        tool
    };
    (0..12).map(tool).collect()
}

fn responses(calls: usize) -> String {
    let mut input = vec![json!({"role": "user",
        "content": [{"type": "input_text", "text": "Fix the build"}]})];
    for call in 0..calls {
        let id = format!("call_{call}");
        input.push(json!({"type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "I look at it."}]}));
        input.push(json!({"type": "function_call", "call_id": id, "name": "tool_1",
            "arguments": "{\"a\":\"ls\"}"}));
        input.push(json!({"type": "function_call_output", "call_id": id, "output": output(call)}));
    }
    json!({"model": "m", "stream": true, "instructions": "Be\nbrief", "input": input,
        "tools": tools(false), "tool_choice": "auto", "parallel_tool_calls": true,
        "reasoning": {"effort": "medium", "summary": "auto"}, "store": false})
    .to_string()
}

fn chat(calls: usize) -> String {
    let mut messages = vec![
        json!({"role": "system", "content": "Be\nbrief"}),
        json!({"role": "user", "content": "Fix the build"}),
    ];
    for call in 0..calls {
        let id = format!("call_{call}");
        messages.push(json!({"role": "assistant", "content": "I look at it.", "tool_calls": [
            {"id": id, "type": "function",
                "function": {"name": "tool_1", "arguments": "{\"a\":\"ls\"}"}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": output(call)}));
    }
    json!({"model": "m", "stream": true, "messages": messages, "tools": tools(true)}).to_string()
}

/// Memory taken from the text of a request to the upstream's body, which has room of its own.
fn counted(client: &str, upstream: &str, body: &str) -> AllocationInfo {
    let (client, upstream) =
        (dialect::by_name(client).unwrap(), dialect::by_name(upstream).unwrap());
    let quirks = Quirks::default();
    let target =
        Target { model: "up", quirks: &quirks, provider: "p", strict: false, stream: true };
    let mut out = Vec::with_capacity(2 * body.len());
    let info = measure(|| {
        let request = client.decode_request(body).unwrap();
        upstream.encode_request(&request, &target, &mut out).unwrap();
    });
    assert!(out.len() > body.len() * 9 / 10, "it was translated");
    info
}

#[test]
fn no_item_and_no_text_has_memory_of_its_own() {
    for (client, upstream, body) in [
        ("responses", "chat", responses as fn(usize) -> String),
        ("responses", "responses", responses),
        ("chat", "responses", chat),
        ("chat", "chat", chat),
    ] {
        let (small, large) = (body(50), body(100));
        let (once, twice) = (counted(client, upstream, &small), counted(client, upstream, &large));
        println!(
            "{client} to {upstream}: {} bytes: {} allocations, {} bytes; {} bytes: {}, {}",
            small.len(),
            once.count_total,
            once.bytes_total,
            large.len(),
            twice.count_total,
            twice.bytes_total
        );
        assert!(small.len() > 200_000);
        assert!(
            twice.count_total <= once.count_total + GROWTHS_MAX,
            "{client} to {upstream}: {} allocations became {}",
            once.count_total,
            twice.count_total
        );
        assert!(
            once.bytes_max < small.len() as u64 / 2,
            "{client} to {upstream}: {} bytes at once beside the text",
            once.bytes_max
        );
    }
}
