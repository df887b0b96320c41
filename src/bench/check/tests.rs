//! Whole answers, right and damaged.

use super::*;
use crate::wire::sse::{Decoder, Step};
use serde_json::{Value, json};

/// An answer of `script` in Responses, as a proxy would write it.
fn responses(script: &str) -> Vec<Value> {
    let script: crate::mock::script::Script = script.parse().unwrap();
    let mut events = vec![json!({"type": "response.created", "response": {"output": []}})];
    let mut output = Vec::new();
    let texts = |count: u32, piece: &dyn Fn(u32, &mut String)| -> Vec<String> {
        let text = |index| {
            let mut text = String::new();
            piece(index, &mut text);
            text
        };
        (0..count).map(text).collect()
    };
    let thoughts = texts(script.reasoning, &|at, out| script.reasoning_delta(at, out));
    if !thoughts.is_empty() {
        for text in &thoughts {
            events.push(json!({"type": "response.reasoning_summary_text.delta",
                "output_index": 0, "summary_index": 0, "delta": text}));
        }
        let whole = thoughts.concat();
        events.push(json!({"type": "response.reasoning_summary_text.done",
            "output_index": 0, "summary_index": 0, "text": whole}));
        output.push(json!({"type": "reasoning",
            "summary": [{"type": "summary_text", "text": whole}]}));
    }
    let index = output.len();
    let pieces = texts(script.deltas, &|at, out| script.delta(at, out));
    for text in &pieces {
        events.push(json!({"type": "response.output_text.delta", "item_id": "msg_1",
            "output_index": index, "content_index": 0, "delta": text, "logprobs": []}));
    }
    let whole = pieces.concat();
    events.push(json!({"type": "response.output_text.done", "output_index": index,
        "content_index": 0, "text": whole}));
    let part = json!({"type": "output_text", "text": whole});
    events.push(json!({"type": "response.content_part.done", "output_index": index,
        "content_index": 0, "part": part}));
    let item = json!({"type": "message", "content": [part]});
    events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    output.push(item);
    for call in 0..script.calls {
        let index = output.len();
        let head = json!({"type": "function_call", "call_id": "call_1", "name": "read_file",
            "arguments": ""});
        events.push(json!({"type": "response.output_item.added", "output_index": index,
            "item": head}));
        let pieces = script.arguments(call);
        for piece in &pieces {
            events.push(json!({"type": "response.function_call_arguments.delta",
                "output_index": index, "delta": piece}));
        }
        let mut item = head;
        item["arguments"] = pieces.concat().into();
        events.push(json!({"type": "response.function_call_arguments.done",
            "output_index": index, "arguments": pieces.concat()}));
        events.push(json!({"type": "response.output_item.done", "output_index": index,
            "item": item}));
        output.push(item);
    }
    let usage = json!({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3});
    events.push(json!({"type": "response.completed",
        "response": {"status": "completed", "output": output, "usage": usage}}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    events
}

/// An answer of `script` in Chat, without its `[DONE]`.
fn chat(script: &str) -> Vec<Value> {
    let script: crate::mock::script::Script = script.parse().unwrap();
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null})
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    for index in 0..script.reasoning {
        let mut text = String::new();
        script.reasoning_delta(index, &mut text);
        chunks.push(chunk(json!({"reasoning_content": text}), Value::Null));
    }
    for index in 0..script.deltas {
        let mut text = String::new();
        script.delta(index, &mut text);
        chunks.push(chunk(json!({"content": text}), Value::Null));
    }
    for call in 0..script.calls {
        let head = json!({"index": call, "id": "call_1", "type": "function",
            "function": {"name": "read_file", "arguments": ""}});
        chunks.push(chunk(json!({"tool_calls": [head]}), Value::Null));
        for piece in script.arguments(call) {
            let delta = json!({"tool_calls": [{"index": call, "function": {"arguments": piece}}]});
            chunks.push(chunk(delta, Value::Null));
        }
    }
    let finish = if script.calls > 0 { "tool_calls" } else { "stop" };
    chunks.push(chunk(json!({}), finish.into()));
    chunks.push(json!({"choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}));
    chunks
}

fn framed(dialect: Dialect, events: &[Value]) -> String {
    let frame = |event: &Value| match dialect {
        Dialect::Chat => format!("data: {event}\n\n"),
        Dialect::Responses => {
            format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("x"))
        }
    };
    events.iter().map(frame).collect()
}

fn rules(dialect: Dialect, script: Option<&str>) -> Rules {
    let expected = script.map(|script| Expected::of(&script.parse().unwrap()).unwrap());
    Rules { dialect, stream: true, expected, tool: "read_file", exact: true }
}

/// Runs a stream through a check; returns the kinds of defect, and the deltas that were counted.
fn judged(rules: &Rules, check: &mut Check, stream: &str) -> (Vec<Defect>, u64) {
    check.begin();
    check.end.status = 200;
    let (mut decoder, mut rest) = (Decoder::default(), stream.as_bytes());
    loop {
        let (step, used) = decoder.step(rest);
        match step {
            Step::Frame(frame) => check.frame(rules, &frame),
            Step::Skip => {}
            Step::NeedMore => break,
        }
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    check.finish(rules);
    let kinds = Defect::ALL.into_iter().filter(|defect| check.found.has(*defect)).collect();
    (kinds, check.deltas)
}

const SCRIPTS: [&str; 6] = [
    "deltas=8,bytes=20",
    "deltas=8,bytes=40,stamp=true",
    "deltas=8,bytes=20,text=code,reasoning=3",
    "deltas=8,bytes=21,text=cjk,calls=2",
    "deltas=0,calls=1",
    "deltas=1",
];

#[test]
fn a_right_answer_has_no_defect_with_and_without_the_script() {
    let mut check = Check::default();
    for script in SCRIPTS {
        let count = script.parse::<crate::mock::script::Script>().unwrap().deltas;
        for known in [Some(script), None] {
            let stream = framed(Dialect::Chat, &chat(script)) + "data: [DONE]\n\n";
            let judged_chat = judged(&rules(Dialect::Chat, known), &mut check, &stream);
            assert_eq!(judged_chat, (vec![], u64::from(count)), "{script}: {:?}", check.found);
            let mut events = responses(script);
            if count == 0 {
                events.retain(|event| event["part"].is_null() && event["text"].is_null());
                for (number, event) in events.iter_mut().enumerate() {
                    event["sequence_number"] = number.into();
                }
            }
            let stream = framed(Dialect::Responses, &events);
            for marker in ["", "data: [DONE]\n\n"] {
                let stream = stream.clone() + marker;
                let found = judged(&rules(Dialect::Responses, known), &mut check, &stream);
                assert_eq!(found, (vec![], u64::from(count)), "{script}: {:?}", check.found);
            }
        }
    }
}

/// The position of the delta events of text.
fn deltas(events: &[Value]) -> Vec<usize> {
    let is_text = |event: &Value| {
        event["type"] == "response.output_text.delta"
            || event["choices"][0]["delta"]["content"].as_str().is_some_and(|it| !it.is_empty())
    };
    (0..events.len()).filter(|at| is_text(&events[*at])).collect()
}

fn renumber(events: &mut [Value]) {
    for (number, event) in events.iter_mut().enumerate() {
        if event["choices"].is_null() {
            event["sequence_number"] = number.into();
        }
    }
}

#[test]
fn damage_in_the_text_is_told_by_its_kind() {
    let mut check = Check::default();
    type Damage = fn(&mut Vec<Value>, usize);
    let kinds: [(Damage, Defect); 4] = [
        (|events, at| drop(events.remove(at)), Defect::MissingDelta),
        (|events, at| events.insert(at, events[at].clone()), Defect::RepeatedDelta),
        (|events, at| events.swap(at, at + 1), Defect::SwappedDeltas),
        (
            |events, at| {
                let text = match &mut events[at] {
                    event if event["choices"].is_null() => &mut event["delta"],
                    event => &mut event["choices"][0]["delta"]["content"],
                };
                *text = text.as_str().unwrap().replace(|c: char| c.is_alphabetic(), "#").into();
            },
            Defect::ChangedText,
        ),
    ];
    for script in ["deltas=8,bytes=40", "deltas=8,bytes=60,stamp=true"] {
        for (dialect, events) in
            [(Dialect::Chat, chat(script)), (Dialect::Responses, responses(script))]
        {
            for (damage, kind) in kinds {
                let mut damaged = events.clone();
                let at = deltas(&events)[3];
                damage(&mut damaged, at);
                renumber(&mut damaged);
                let end = if dialect == Dialect::Chat { "data: [DONE]\n\n" } else { "" };
                let stream = framed(dialect, &damaged) + end;
                let (found, _) = judged(&rules(dialect, Some(script)), &mut check, &stream);
                assert!(found.contains(&kind), "{dialect:?} {kind:?}: {:?}", check.found);
                let whole = dialect == Dialect::Responses;
                assert_eq!(found.contains(&Defect::WholeText), whole, "{:?}", check.found);
                assert_eq!(found.len(), 1 + usize::from(whole), "{:?}", check.found);
            }
        }
    }
}

#[test]
fn a_stream_that_does_not_agree_with_itself_is_wrong_for_any_server() {
    let mut check = Check::default();
    let script = "deltas=4,reasoning=2,calls=1";
    type Damage = fn(&mut Vec<Value>);
    let responses_damage: [(Damage, Defect); 12] = [
        (|events| drop(events.pop()), Defect::NoEnd),
        (|events| events.push(events[events.len() - 1].clone()), Defect::ManyEnds),
        (|events| events.push(events[1].clone()), Defect::AfterEnd),
        (|events| drop(events.remove(0)), Defect::Order),
        (|events| drop(events.remove(deltas(events)[1])), Defect::WholeText),
        (
            |events| {
                let last = events.len() - 1;
                events[last]["response"]["output"][1]["content"][0]["text"] = "other".into();
            },
            Defect::WholeText,
        ),
        (
            |events| {
                let last = events.len() - 1;
                events[last]["response"]["output"].as_array_mut().unwrap().truncate(1);
            },
            Defect::WholeText,
        ),
        (
            |events| {
                let last = events.len() - 1;
                events[last]["response"]["status"] = "incomplete".into();
            },
            Defect::WrongEnd,
        ),
        (
            |events| {
                let last = events.len() - 1;
                events[last]["type"] = "response.failed".into();
            },
            Defect::Failure,
        ),
        (|events| events[2] = json!({"type": "error", "code": "x"}), Defect::Failure),
        (|events| events[2] = json!({"delta": "no type"}), Defect::Malformed),
        (|events| events[1]["delta"] = json!({"not": "a string"}), Defect::Malformed),
    ];
    for (at, (damage, kind)) in responses_damage.into_iter().enumerate() {
        let mut events = responses(script);
        damage(&mut events);
        renumber(&mut events);
        for known in [Some(script), None] {
            let stream = framed(Dialect::Responses, &events);
            let (found, _) = judged(&rules(Dialect::Responses, known), &mut check, &stream);
            assert!(found.contains(&kind), "{at} {kind:?} {known:?}: {:?}", check.found);
        }
    }
    let mut events = responses(script);
    events[4]["sequence_number"] = 9.into();
    let stream = framed(Dialect::Responses, &events);
    let (found, _) = judged(&rules(Dialect::Responses, None), &mut check, &stream);
    assert_eq!(found, [Defect::Sequence]);
    let misnamed = framed(Dialect::Responses, &responses(script)).replacen(
        "event: response.output_text.delta",
        "event: response.other",
        1,
    );
    let (found, _) = judged(&rules(Dialect::Responses, None), &mut check, &misnamed);
    assert_eq!(found, [Defect::Malformed]);
}

#[test]
fn a_chat_stream_must_end_once_and_have_what_was_promised() {
    let mut check = Check::default();
    let script = "deltas=4,calls=1";
    let good = framed(Dialect::Chat, &chat(script)) + "data: [DONE]\n\n";
    let finish = good.find("\"finish_reason\":\"tool_calls\"").unwrap();
    let chunk = good[..finish].rfind("data: ").unwrap();
    let chunk_end = finish + good[finish..].find("\n\n").unwrap() + 2;
    let cases = [
        (good.replace("data: [DONE]\n\n", ""), Defect::NoEnd),
        (good.clone() + "data: [DONE]\n\n", Defect::ManyEnds),
        (good.replace("\"tool_calls\",\"index\"", "null,\"index\""), Defect::NoEnd),
        (
            good.replace("\"finish_reason\":\"tool_calls\"", "\"finish_reason\":\"stop\""),
            Defect::WrongEnd,
        ),
        (good[..chunk_end].to_owned() + &good[chunk..], Defect::ManyEnds),
        (good.replace("\"prompt_tokens\"", "\"tokens\""), Defect::NoUsage),
        (good.replace("\"name\":\"read_file\"", "\"name\":\"write_file\""), Defect::Call),
        (good.replace("\"id\":\"call_1\"", "\"id\":\"\""), Defect::Call),
        (good.replacen("data: {", "data: {,", 1), Defect::Malformed),
        (good.replacen("data: {", "data: {\"error\":{\"message\":\"x\"},", 1), Defect::Failure),
        (good.clone() + &good[..good.find("\n\n").unwrap() + 2], Defect::AfterEnd),
    ];
    for (at, (stream, kind)) in cases.into_iter().enumerate() {
        let (found, _) = judged(&rules(Dialect::Chat, Some(script)), &mut check, &stream);
        assert!(found.contains(&kind), "{at} {kind:?}: {:?}", check.found);
    }
    for (other, kind) in [
        ("deltas=4", Defect::Parts),
        ("deltas=4,calls=2", Defect::Parts),
        ("deltas=4,calls=1,reasoning=1", Defect::Parts),
        ("deltas=5,calls=1", Defect::MissingDelta),
        ("deltas=4,calls=1,call_deltas=9,bytes=6,seed=2", Defect::ChangedText),
    ] {
        let (found, _) = judged(&rules(Dialect::Chat, Some(other)), &mut check, &good);
        assert!(found.contains(&kind), "{other} {kind:?}: {:?}", check.found);
    }
}

#[test]
fn order_matters() {
    let mut check = Check::default();
    let script = "deltas=3,bytes=20,reasoning=3";
    let rules = rules(Dialect::Chat, Some(script));
    let mut chunks = chat(script);
    // Role, three of reasoning, three of text: the text comes first now.
    chunks.splice(1..7, [4, 5, 6, 1, 2, 3].map(|at| chat(script)[at].clone()));
    let stream = framed(Dialect::Chat, &chunks) + "data: [DONE]\n\n";
    assert_eq!(judged(&rules, &mut check, &stream).0, [Defect::Order]);
    // The last delta behind the marker, and the finish_reason left out: its frame is a learned one.
    let mut chunks = chat(script);
    let last = chunks.remove(6);
    chunks.remove(6);
    let front = framed(Dialect::Chat, &chunks) + "data: [DONE]\n\n";
    let stream = front + &framed(Dialect::Chat, &[last]);
    assert!(judged(&rules, &mut check, &stream).0.contains(&Defect::AfterEnd));
}

#[test]
fn a_failure_that_is_awaited_must_be_told() {
    let mut check = Check::default();
    let script = "deltas=8,fail_after=3";
    let cut = "deltas=3";
    let whole = framed(Dialect::Chat, &chat(cut)) + "data: [DONE]\n\n";
    let chat_rules = rules(Dialect::Chat, Some(script));
    assert_eq!(judged(&chat_rules, &mut check, &whole).0, [Defect::FalseSuccess]);
    let mut events = chat(cut);
    events.truncate(4);
    events.push(json!({"error": {"message": "broken"}}));
    let failed = framed(Dialect::Chat, &events);
    assert_eq!(judged(&chat_rules, &mut check, &failed).0, [], "{:?}", check.found);
    events.remove(2);
    let failed = framed(Dialect::Chat, &events);
    assert_eq!(judged(&chat_rules, &mut check, &failed).0, [Defect::MissingDelta]);
    let mut events = responses(cut);
    let last = events.len() - 1;
    events[last]["type"] = "response.failed".into();
    let failed = framed(Dialect::Responses, &events);
    assert_eq!(judged(&rules(Dialect::Responses, Some(script)), &mut check, &failed).0, []);
}

/// What a document's check finds.
fn document(dialect: Dialect, script: Option<&str>, body: &Value) -> Vec<Defect> {
    let rules = Rules { stream: false, ..rules(dialect, script) };
    let mut check = Check::default();
    check.end.status = 200;
    check.document(&rules, body.to_string().as_bytes());
    check.finish(&rules);
    Defect::ALL.into_iter().filter(|defect| check.found.has(*defect)).collect()
}

#[test]
fn documents_are_checked_too() {
    for script in SCRIPTS {
        let it: crate::mock::script::Script = script.parse().unwrap();
        let completed = responses(script).pop().unwrap()["response"].clone();
        let calls: Vec<Value> = (0..it.calls)
            .map(|call| {
                json!({"id": "call_1", "type": "function", "function":
                    {"name": "read_file", "arguments": it.arguments(call).concat()}})
            })
            .collect();
        let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
        let chat = json!({"choices": [{"index": 0, "finish_reason": finish,
            "message": {"content": it.whole_text(), "tool_calls": calls,
                "reasoning_content": it.whole_reasoning()}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
        for (dialect, body) in [(Dialect::Responses, completed), (Dialect::Chat, chat)] {
            assert_eq!(document(dialect, Some(script), &body), [], "{script}");
            assert_eq!(document(dialect, None, &body), [], "{script}");
            if it.deltas > 0 {
                let text = body.to_string();
                let other: Value =
                    serde_json::from_str(&text.replacen("an", "na", 1).replacen('回', "囘", 1))
                        .unwrap();
                if other != body {
                    assert!(!document(dialect, Some(script), &other).is_empty(), "{script}");
                }
            }
            let mut silent = body.clone();
            silent["usage"] = Value::Null;
            assert_eq!(document(dialect, Some(script), &silent), [Defect::NoUsage]);
        }
    }
    assert_eq!(document(Dialect::Chat, None, &json!({"choices": []})), [Defect::NoEnd]);
    assert_eq!(
        document(Dialect::Responses, None, &json!({"status": "x"})),
        [Defect::Malformed, Defect::WrongEnd]
    );
}

#[test]
fn the_learned_way_and_the_full_way_see_the_same() {
    let mut check = Check::default();
    for script in SCRIPTS {
        let stream = framed(Dialect::Responses, &responses(script));
        let by_rule = |exact| Rules { exact, ..rules(Dialect::Responses, Some(script)) };
        let learned = judged(&by_rule(true), &mut check, &stream);
        // White space that changes with every frame keeps the check from learning.
        let mut spaces = 0;
        let unusual: String = stream
            .split_inclusive("data: {")
            .map(|piece| {
                spaces += 1;
                if piece.ends_with('{') {
                    piece.to_owned() + &" ".repeat(spaces % 3)
                } else {
                    piece.to_owned()
                }
            })
            .collect();
        let full = judged(&by_rule(true), &mut check, &unusual);
        assert_eq!(learned, full, "{script}");
    }
}
