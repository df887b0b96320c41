//! The path of a delta allocates nothing. Counted in a test binary of its own, because the counting
//! allocator is the whole binary's; `cargo test --test memory -- --nocapture` prints the figures.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]

use allocation_counter::measure;
use patchbay::fuzzing::transcode::Setup;
use patchbay::transcode::Transcoder;

/// Deltas that are sent before counting begins, and while it is done.
const WARM: usize = 100;
const COUNTED: usize = 1000;

/// A Responses client is told the whole text again when its part closes, so that text is kept. It
/// doubles its memory while it grows from `WARM` deltas to `WARM + COUNTED`: four times, and once
/// more where the first doubling lies.
const GROWTHS_MAX: u64 = 5;

/// One kind of delta between two dialects.
struct Case {
    name: &'static str,
    upstream: &'static str,
    client: &'static str,
    /// The data of the frames that open the part.
    opening: &'static [&'static str],
    /// The data of the delta frames, repeated in turn.
    deltas: &'static [&'static str],
    /// What every delta's output holds, so that nothing is counted that was not done.
    shows: &'static str,
}

const CHAT_TEXT: &[&str] = &[
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"\n\"a\" \u00e9"},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"漢字 😀"},"finish_reason":null}],"obfuscation":"xyz"}"#,
];

const CHAT_CUT_PAIRS: &[&str] = &[
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"\ude00b"}}]}"#,
];

const CHAT_REASONING: &[&str] = &[
    r#"{"id":"c","choices":[{"index":0,"delta":{"reasoning_content":" hm,\n","content":null},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"reasoning":"so"},"finish_reason":null}]}"#,
];

const CHAT_FUNCTION: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"shell","arguments":"{\"a\":\""}}]}}]}"#;

const CHAT_CUSTOM: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"apply_patch","arguments":"{\"input\":\"x"}}]}}]}"#;

const CHAT_ARGUMENTS: &[&str] = &[
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" ls -l"}}]},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\n\\\"x"}}]},"finish_reason":null}]}"#,
];

const RESPONSES_MESSAGE: &[&str] = &[
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress","model":"m","output":[]}}"#,
    r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"message","id":"i","role":"assistant","status":"in_progress","content":[]}}"#,
    r#"{"type":"response.content_part.added","sequence_number":2,"item_id":"i","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
];

const RESPONSES_TEXT: &[&str] = &[
    r#"{"type":"response.output_text.delta","sequence_number":3,"item_id":"i","output_index":0,"content_index":0,"delta":" the","logprobs":[],"obfuscation":"abc"}"#,
    r#"{"type":"response.output_text.delta","sequence_number":4,"item_id":"i","output_index":0,"content_index":0,"delta":"\n\"a\" \u00e9 漢"}"#,
];

const RESPONSES_REASONING_ITEM: &[&str] = &[
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress","model":"m","output":[]}}"#,
    r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"reasoning","id":"i","summary":[]}}"#,
    r#"{"type":"response.reasoning_summary_part.added","sequence_number":2,"item_id":"i","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}"#,
];

const RESPONSES_REASONING: &[&str] = &[
    r#"{"type":"response.reasoning_summary_text.delta","sequence_number":3,"item_id":"i","output_index":0,"summary_index":0,"delta":"so\n"}"#,
];

const RESPONSES_FUNCTION: &[&str] = &[
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress","model":"m","output":[]}}"#,
    r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"function_call","id":"i","call_id":"call_1","name":"shell","arguments":"","status":"in_progress"}}"#,
];

const RESPONSES_ARGUMENTS: &[&str] = &[
    r#"{"type":"response.function_call_arguments.delta","sequence_number":2,"item_id":"i","output_index":0,"delta":"{\"cmd\":"}"#,
];

const GIGACHAT_TEXT: &[&str] = &[
    r#"{"choices":[{"delta":{"content":" the","role":"assistant"},"index":0}],"created":1768996176,"model":"GigaChat:2.0.28.2","object":"chat.completion"}"#,
    r#"{"choices":[{"delta":{"content":"\n\"a\" \u00e9 й"},"index":0}],"created":1768996177,"model":"GigaChat:2.0.28.2","object":"chat.completion"}"#,
];

const GIGACHAT_REASONING: &[&str] = &[
    r#"{"choices":[{"delta":{"reasoning_content":" so\n"},"index":0}],"created":1768996176,"model":"GigaChat:2.0.28.2","object":"chat.completion"}"#,
];

const CASES: &[Case] = &[
    Case {
        name: "text",
        upstream: "chat",
        client: "responses",
        opening: &[],
        deltas: CHAT_TEXT,
        shows: "response.output_text.delta",
    },
    Case {
        name: "text with cut pairs",
        upstream: "chat",
        client: "responses",
        opening: &[],
        deltas: CHAT_CUT_PAIRS,
        shows: "response.output_text.delta",
    },
    Case {
        name: "reasoning",
        upstream: "chat",
        client: "responses",
        opening: &[],
        deltas: CHAT_REASONING,
        shows: "response.reasoning",
    },
    Case {
        name: "arguments",
        upstream: "chat",
        client: "responses",
        opening: &[CHAT_FUNCTION],
        deltas: CHAT_ARGUMENTS,
        shows: "response.function_call_arguments.delta",
    },
    Case {
        name: "input of a wrapped custom tool",
        upstream: "chat",
        client: "responses",
        opening: &[CHAT_CUSTOM],
        deltas: CHAT_ARGUMENTS,
        shows: "response.custom_tool_call_input.delta",
    },
    Case {
        name: "text",
        upstream: "responses",
        client: "chat",
        opening: RESPONSES_MESSAGE,
        deltas: RESPONSES_TEXT,
        shows: "\"content\":",
    },
    Case {
        name: "reasoning",
        upstream: "responses",
        client: "chat",
        opening: RESPONSES_REASONING_ITEM,
        deltas: RESPONSES_REASONING,
        shows: "\"reasoning",
    },
    Case {
        name: "arguments",
        upstream: "responses",
        client: "chat",
        opening: RESPONSES_FUNCTION,
        deltas: RESPONSES_ARGUMENTS,
        shows: "\"arguments\":",
    },
    Case {
        name: "text",
        upstream: "gigachat",
        client: "chat",
        opening: &[],
        deltas: GIGACHAT_TEXT,
        shows: "\"content\":",
    },
    Case {
        name: "text",
        upstream: "gigachat",
        client: "responses",
        opening: &[],
        deltas: GIGACHAT_TEXT,
        shows: "response.output_text.delta",
    },
    Case {
        name: "reasoning",
        upstream: "gigachat",
        client: "chat",
        opening: &[],
        deltas: GIGACHAT_REASONING,
        shows: "\"reasoning",
    },
    Case {
        name: "text",
        upstream: "chat",
        client: "chat",
        opening: &[],
        deltas: CHAT_TEXT,
        shows: "\"content\":",
    },
    Case {
        name: "text",
        upstream: "responses",
        client: "responses",
        opening: RESPONSES_MESSAGE,
        deltas: RESPONSES_TEXT,
        shows: "response.output_text.delta",
    },
];

impl Case {
    fn frame(data: &str) -> Vec<u8> {
        format!("data: {data}\n\n").into_bytes()
    }

    /// Opens the part and warms up; then calls `measured` with what is to be counted.
    fn run(&self) -> u64 {
        let setup = Setup::streams(self.upstream, self.client).expect("both dialects exist");
        let mut transcoder = setup.transcoder();
        let mut out = Vec::with_capacity(1 << 20);
        for data in self.opening {
            push(&mut transcoder, &Self::frame(data), &mut out);
        }
        let frames: Vec<Vec<u8>> = self.deltas.iter().map(|data| Self::frame(data)).collect();
        for frame in frames.iter().cycle().take(WARM) {
            push(&mut transcoder, frame, &mut out);
        }
        let mut shown = 0;
        let counted = measure(|| {
            for frame in frames.iter().cycle().take(COUNTED) {
                out.clear();
                push(&mut transcoder, frame, &mut out);
                shown += usize::from(memchr::memmem::find(&out, self.shows.as_bytes()).is_some());
            }
        });
        assert_eq!(shown, COUNTED, "{}: {}", self.title(), String::from_utf8_lossy(&out));
        counted.count_total
    }

    fn title(&self) -> String {
        format!("{} -> {}, {}", self.upstream, self.client, self.name)
    }
}

fn push(transcoder: &mut Transcoder, frame: &[u8], out: &mut Vec<u8>) {
    let used = transcoder.push(frame, 1_750_000_000, out).expect("no limit is near");
    assert_eq!(used, frame.len());
}

#[test]
fn a_delta_allocates_nothing() {
    let mut too_many = Vec::new();
    for case in CASES {
        let allowed = if case.client == "responses" { GROWTHS_MAX } else { 0 };
        let found = case.run();
        let line = format!("{found:>5} allocations in {COUNTED} deltas  {}", case.title());
        println!("{line}");
        if found > allowed {
            too_many.push(line);
        }
    }
    assert!(too_many.is_empty(), "{too_many:#?}");
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| {
        for length in 0..10usize {
            std::hint::black_box(String::from_utf8(vec![b'a'; length + 1]).expect("ASCII"));
        }
    });
    assert_eq!(counted.count_total, 10);
}
