//! What the GigaChat dialect makes of requests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test: helpers fail by panicking, and tables are long"
)]

use patchbay::dialect::quirks::{Quirks, ReasoningBack};
use patchbay::dialect::{self, Dialect, Sent, Target};
use patchbay::fault::Failure;
use patchbay::fuzzing::gigachat::in_order;
use patchbay::fuzzing::readers;
use patchbay::fuzzing::request::Way;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

fn named(dialect: &str) -> &'static dyn Dialect {
    dialect::by_name(dialect).unwrap()
}

/// Translates a client's request for GigaChat.
fn translate(
    from: &str,
    body: &str,
    quirks: &Quirks,
    strict: bool,
) -> Result<(Value, Sent), Failure> {
    let request = named(from).decode_request(body)?;
    let target =
        Target { model: "GigaChat-2-Max", quirks, provider: "up", strict, stream: request.stream };
    let mut out = Vec::new();
    let sent = named("gigachat").encode_request(&request, &target, &mut out)?;
    Ok((serde_json::from_slice(&out).unwrap(), sent))
}

/// A Chat request with these members besides the model, in GigaChat's words.
fn chat(members: &str) -> (Value, Vec<String>) {
    let (body, sent) =
        translate("chat", &format!(r#"{{"model":"m",{members}}}"#), &Quirks::default(), false)
            .unwrap();
    in_order(&body);
    (body, sent.dropped)
}

const AGENT: &str = include_str!("golden/gigachat/agent.json");
const IMAGES: &str = include_str!("golden/gigachat/images.json");
const STRUCTURED: &str = include_str!("golden/gigachat/structured.json");

/// A body as people read it, and what was dropped.
fn golden(from: &str, body: &str, quirks: &Quirks) -> String {
    let (body, sent) = translate(from, body, quirks, false).unwrap();
    in_order(&body);
    let mut told = serde_json::to_string_pretty(&body).unwrap();
    let _ = write!(told, "\ndropped: {}", sent.dropped.join(", "));
    told
}

#[test]
fn requests_are_written_as_gigachat_takes_them() {
    let host = Quirks::for_host("gigachat.devices.sberbank.ru");
    assert_eq!(host, Quirks::for_host("api.giga.chat"));
    insta::assert_snapshot!("agent", golden("responses", AGENT, &host));
    insta::assert_snapshot!("structured", golden("chat", STRUCTURED, &host));
    let forced = Quirks { json_schema: false, reasoning_back: ReasoningBack::Always, ..host };
    insta::assert_snapshot!("structured_forced", golden("chat", STRUCTURED, &forced));
}

#[test]
fn only_the_first_system_texts_are_the_system_message() {
    let (body, dropped) = chat(
        r#""messages":[{"role":"system","content":"a"},{"role":"developer","content":"b"},
            {"role":"user","content":"c"},{"role":"user","content":"d"},{"role":"system","content":"e"},
            {"role":"assistant","content":"f"},{"role":"user","content":"g"}]"#,
    );
    let expected = json!([{"role": "system", "content": "a\nb"},
        {"role": "user", "content": "c\nd\n[system]\ne"},
        {"role": "assistant", "content": "f"}, {"role": "user", "content": "g"}]);
    assert_eq!((&body["messages"], dropped.len()), (&expected, 0));
    // The items of a Responses conversation too.
    let (body, _) = translate(
        "responses",
        r#"{"model":"m","instructions":"a","input":[{"role":"developer","content":"b"},{"role":"user","content":"c"}],"text":{"verbosity":"low"}}"#,
        &Quirks::default(),
        true,
    )
    .unwrap();
    let expected = json!([{"role": "system", "content": "a\nb"}, {"role": "user", "content": "c"}]);
    assert_eq!(body["messages"], expected);
    assert!(body.get("response_format").is_none(), "{body}");
}

#[test]
fn parallel_calls_follow_one_another_and_nothing_is_lost() {
    let (body, dropped) = chat(
        r#""messages":[{"role":"user","content":"go"},{"role":"assistant","content":"ok","tool_calls":[
            {"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
            {"id":"2","type":"function","function":{"name":"g","arguments":"oops"}},
            {"id":"3","type":"function","function":{"name":"f","arguments":""}}]},
            {"role":"tool","tool_call_id":"3","content":""},
            {"role":"tool","tool_call_id":"1","content":"{\"x\":[1]}"},
            {"role":"tool","tool_call_id":"2","content":"[1,2]"}]"#,
    );
    let call = |content: &str, name: &str, arguments: Value| {
        json!({"role": "assistant", "content": content,
            "function_call": {"name": name, "arguments": arguments}})
    };
    let result =
        |name: &str, content: &str| json!({"role": "function", "name": name, "content": content});
    let expected = json!([{"role": "user", "content": "go"},
        call("ok", "f", json!({"a": 1})), result("f", r#"{"x":[1]}"#),
        call("", "g", json!({"arguments": "oops"})), result("g", r#"{"result":[1,2]}"#),
        call("", "f", json!({})), result("f", "{}")]);
    assert_eq!((&body["messages"], dropped.len()), (&expected, 0));
}

#[test]
fn a_choice_is_always_said() {
    let tools = r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]"#;
    let one = r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}]"#;
    for (members, expected, dropped) in [
        (tools.to_owned(), json!("auto"), ""),
        (format!(r#"{tools},"tool_choice":"auto""#), json!("auto"), ""),
        (
            format!(r#"{tools},"tool_choice":{{"type":"function","function":{{"name":"g"}}}}"#),
            json!({"name": "g"}),
            "",
        ),
        (format!(r#"{tools},"tool_choice":"required""#), json!("auto"), "tool_choice.required"),
        (format!(r#"{one},"tool_choice":"required""#), json!({"name": "f"}), ""),
        (format!(r#"{tools},"tool_choice":"none""#), Value::Null, ""),
    ] {
        let (body, told) = chat(&members);
        assert_eq!(
            (&body["function_call"], told.join(" ").as_str()),
            (&expected, dropped),
            "{members}"
        );
        assert_eq!(body["functions"].is_null(), expected.is_null());
        let (request, quirks) = (format!(r#"{{"model":"m",{members}}}"#), Quirks::default());
        let strictly = translate("chat", &request, &quirks, true);
        assert_eq!(strictly.is_err(), !dropped.is_empty(), "{members}");
    }
}

#[test]
fn each_setting_is_moved_or_named() {
    let hi = r#""messages":[{"role":"user","content":"x"}]"#;
    for (members, key, expected, dropped) in [
        (r#""temperature":0"#, "top_p", json!(0), ""),
        (r#""temperature":0.0,"top_p":0.3"#, "top_p", json!(0), ""),
        (r#""temperature":0"#, "temperature", Value::Null, ""),
        (r#""temperature":0.7"#, "temperature", json!(0.7), ""),
        (r#""top_p":0.5"#, "top_p", json!(0.5), ""),
        (r#""max_tokens":5"#, "max_tokens", json!(5), ""),
        (r#""max_completion_tokens":5"#, "max_tokens", json!(5), ""),
        (r#""reasoning_effort":"low""#, "reasoning_effort", json!("low"), ""),
        (r#""reasoning_effort":"none""#, "reasoning_effort", Value::Null, ""),
        (r#""reasoning_effort":"minimal""#, "reasoning_effort", json!("low"), "reasoning.effort"),
        (r#""reasoning_effort":"xhigh""#, "reasoning_effort", json!("high"), "reasoning.effort"),
        (r#""reasoning_effort":"odd""#, "reasoning_effort", Value::Null, "reasoning.effort"),
        (r#""stop":["x"]"#, "stop", Value::Null, ""),
        (r#""seed":1"#, "seed", Value::Null, "seed"),
        (r#""logit_bias":{"1":2}"#, "logit_bias", Value::Null, "logit_bias"),
        (r#""logprobs":true"#, "logprobs", Value::Null, "logprobs"),
        (r#""presence_penalty":1"#, "presence_penalty", Value::Null, "presence_penalty"),
        (r#""frequency_penalty":0.0"#, "frequency_penalty", Value::Null, ""),
        (
            r#""response_format":{"type":"json_object"}"#,
            "response_format",
            Value::Null,
            "text.format",
        ),
        (r#""response_format":{"type":"text"}"#, "response_format", Value::Null, ""),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}"#,
            "response_format",
            json!({"type": "json_schema", "schema": {"type": "object", "properties": {}}}),
            "",
        ),
        (r#""stream":true"#, "stream", json!(true), ""),
    ] {
        let (body, told) = chat(&format!("{hi},{members}"));
        assert_eq!((&body[key], told.join(" ").as_str()), (&expected, dropped), "{members}");
        let request = format!(r#"{{"model":"m",{hi},{members}}}"#);
        let strictly = translate("chat", &request, &Quirks::default(), true);
        match strictly {
            Ok(_) => assert_eq!(dropped, "", "{members}"),
            Err(failure) => assert_eq!(
                (failure.status(), failure.param.as_deref()),
                (400, Some(dropped)),
                "{members}"
            ),
        }
    }
}

#[test]
fn what_has_no_form_is_named_or_refused() {
    let message = |part: &str| {
        format!(r#""messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{part}]}}]"#)
    };
    for (part, param) in [
        (r#"{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}}"#, "input_audio"),
        (
            r#"{"type":"file","file":{"file_data":"data:a/b;base64,AA","filename":"f"}}"#,
            "input_file",
        ),
    ] {
        let request = format!(r#"{{"model":"m",{}}}"#, message(part));
        let failure = translate("chat", &request, &Quirks::default(), false).unwrap_err();
        assert_eq!((failure.status(), failure.param.as_deref()), (400, Some(param)));
    }
}

const PNG: &str = "data:image/png;base64,iVBORw0KGgoBAQE=";

/// A user's message with so many images, no two of them the same.
fn album(count: usize) -> String {
    let images: Vec<String> = (b'A'..)
        .take(count)
        .map(|at| {
            let url = format!("data:image/jpeg;base64,/9j/4AAA{}AA=", char::from(at));
            format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#)
        })
        .collect();
    format!(r#""messages":[{{"role":"user","content":[{}]}}]"#, images.join(","))
}

#[test]
fn images_become_files_and_their_ids_have_places() {
    let (body, sent) = translate("responses", IMAGES, &Quirks::default(), false).unwrap();
    in_order(&body);
    // The same image twice is one image with two places.
    let sources: Vec<String> = sent.images.iter().map(|it| format!("{:?}", it.source)).collect();
    assert_eq!(sources, ["Inline(Picture(Png, 11 bytes))", "Inline(Picture(Jpeg, 7 bytes))"]);
    let order: Vec<usize> = sent.places.iter().map(|place| place.image).collect();
    assert_eq!(order, [0, 1, 0]);
    insta::assert_snapshot!("images", golden("responses", IMAGES, &Quirks::default()));
    let blind = Quirks { images: false, ..Quirks::default() };
    insta::assert_snapshot!("images_left_out", golden("responses", IMAGES, &blind));
}

#[test]
fn the_newest_ten_images_go() {
    for (count, left_out) in [(10, 0), (12, 2)] {
        let request = format!(r#"{{"model":"m",{}}}"#, album(count));
        let (body, sent) = translate("chat", &request, &Quirks::default(), false).unwrap();
        in_order(&body);
        assert_eq!((sent.images.len(), sent.places.len()), (10, 10));
        assert_eq!(sent.images[0].number, left_out + 1);
        let first = body["messages"][0]["content"].as_str().unwrap();
        assert_eq!(first.matches("[image left out]").count(), left_out);
        assert_eq!(sent.dropped.contains(&"input_image".to_owned()), left_out > 0);
        let strict = translate("chat", &request, &Quirks::default(), true);
        assert_eq!(strict.is_err(), left_out > 0);
    }
}

#[test]
fn an_image_that_cannot_go_is_refused_and_named() {
    let fetched = Quirks { image_urls: true, ..Quirks::default() };
    for (url, quirks, status) in [
        (PNG, &fetched, 200),
        ("https://x.example/a.png", &fetched, 200),
        ("https://x.example/a.png", &Quirks::default(), 400),
        ("http://x.example/a.png", &fetched, 400),
        ("data:image/gif;base64,R0lGODlhAQ==", &fetched, 415),
        ("data:image/png;base64,iVBO*", &fetched, 400),
    ] {
        let part = |url| format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{},{}]}}]}}"#,
            part(PNG),
            part(url)
        );
        let told = translate("chat", &body, quirks, false).map_or_else(
            |failure| {
                assert!(failure.message.starts_with("image 2 of the request"), "{failure}");
                failure.status()
            },
            |_| 200,
        );
        assert_eq!(told, status, "{url}");
    }
    let body = r#"{"model":"m","input":[{"role":"user","content":[
        {"type":"input_image","file_id":"a b"}]}]}"#;
    let failure = translate("responses", body, &Quirks::default(), false).unwrap_err();
    assert_eq!(failure.status(), 400, "{failure}");
}

#[test]
fn an_image_of_a_tool_that_cannot_go_is_told_to_the_model() {
    let body = |image: &str| {
        format!(
            r#"{{"model":"m","input":[{{"role":"user","content":"x"}},
                {{"type":"function_call","call_id":"c","name":"look","arguments":"{{}}"}},
                {{"type":"function_call_output","call_id":"c","output":[{image}]}},
                {{"type":"function_call_output","call_id":"gone","output":[{image}]}}]}}"#
        )
    };
    let url = |url: &str| format!(r#"{{"type":"input_image","image_url":"{url}"}}"#);
    for (image, why) in [
        (url("data:image/webp;base64,UklGRgAAAABXRUJQ"), "it is image/webp: send it as JPEG"),
        (url("https://x.example/\\\"a.png"), "it is a URL (`https://x.example/\"a.png`)"),
        (r#"{"type":"input_image","file_id":"a b"}"#.to_owned(), "it has a file id"),
    ] {
        let (sent_body, sent) =
            translate("responses", &body(&image), &Quirks::default(), false).unwrap();
        in_order(&sent_body);
        let result = sent_body["messages"][2]["content"].as_str().unwrap();
        let result: Value = serde_json::from_str(result).unwrap();
        let result = result["result"].as_str().unwrap();
        assert!(result.starts_with("[image left out: ") && result.contains(why), "{result}");
        let orphan = sent_body["messages"][3]["content"].as_str().unwrap();
        assert!(orphan.contains("[tool result gone]\n[image left out: "), "{orphan}");
        assert_eq!(
            (sent.dropped.as_slice(), sent.images.len()),
            (&["input_image".to_owned()][..], 0)
        );
        assert!(translate("responses", &body(&image), &Quirks::default(), true).is_err());
    }
    // So is one of the user's that is not in the newest message.
    let webp = url("data:image/webp;base64,UklGRgAAAABXRUJQ");
    let body_with = |last: &str| {
        format!(
            r#"{{"model":"m","input":[{{"role":"user","content":[{webp}]}},
                {{"role":"user","content":[{last}]}}]}}"#
        )
    };
    let again = body_with(r#"{"type":"input_text","text":"go on"}"#);
    let (sent_body, _) = translate("responses", &again, &Quirks::default(), false).unwrap();
    let words = sent_body["messages"][0]["content"].as_str().unwrap();
    assert!(words.starts_with("[image left out: it is image/webp"), "{words}");
    assert!(translate("responses", &body_with(&webp), &Quirks::default(), false).is_err());
    // One that can go goes, behind both.
    let (sent_body, sent) =
        translate("responses", &body(&url(PNG)), &Quirks::default(), false).unwrap();
    in_order(&sent_body);
    assert_eq!((sent.images.len(), sent.places.len()), (1, 2));
}

#[test]
fn a_bad_request_is_the_clients_before_anything_is_sent() {
    for (body, param) in [
        (r#"{"messages":[{"role":"user","content":"x"}]}"#, "model"),
        (r#"{"model":"m","messages":"x"}"#, "messages"),
        (r#"{"model":"m"}"#, "messages"),
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"top_p":5.1}"#, "top_p"),
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"top_p":-1}"#, "top_p"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":-0.5}"#,
            "temperature",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}"#,
            "temperature",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}"#,
            "max_tokens",
        ),
    ] {
        let failure = translate("chat", body, &Quirks::default(), false).unwrap_err();
        assert_eq!((failure.status(), failure.param.as_deref()), (400, Some(param)), "{body}");
    }
}

#[test]
fn every_conversation_is_in_gigachats_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/request");
    let mut translated = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let seed = fs::read(entry.unwrap().path()).unwrap();
        for client in ["chat", "responses"] {
            for back in [ReasoningBack::Never, ReasoningBack::Always] {
                let quirks = Quirks { reasoning_back: back, ..Quirks::default() };
                let way = Way {
                    client: named(client),
                    upstream: named("gigachat"),
                    quirks: Some(quirks),
                    strict: false,
                };
                let Ok((out, sent)) = way.translate(&seed[2..]) else { continue };
                translated += 1;
                let again = way.translate(&seed[2..]).map(|(out, _)| out);
                assert_eq!(again.as_deref(), Ok(&out[..]), "twice the same");
                in_order(&readers::strict(&out).unwrap());
                let strict = Way { strict: true, ..way }.translate(&seed[2..]);
                assert!(strict.is_err() || sent.dropped.is_empty(), "{:?}", sent.dropped);
            }
        }
    }
    assert!(translated >= 20, "{translated}");
}

#[test]
fn no_path_leads_a_client_there() {
    let paths: Vec<&str> = dialect::for_clients().map(Dialect::path).collect();
    assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len(), "{paths:?}");
    assert_eq!(dialect::by_path("/chat/completions").unwrap().name(), "chat");
    assert!(!named("gigachat").serves_clients());
    let refused = named("gigachat").decode_request("{}").unwrap_err();
    assert_eq!(refused.status(), 400);
    assert!(refused.message.contains("upstreams only"), "{refused}");
}
