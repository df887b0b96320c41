//! What GigaChat requires of every request.

use super::schema;
use serde_json::Value;

/// Checks a request's body: its messages' order, its functions and what is said of them.
///
/// # Panics
/// When GigaChat would refuse it.
pub fn in_order(body: &Value) {
    let messages = list(body, "messages");
    assert!(!messages.is_empty(), "no message: {body}");
    let (mut called, mut last) = (None, "");
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        let Some(content) = message["content"].as_str() else { panic!("no text: {message}") };
        assert!(role != last, "two neighbours of one role: {body}");
        assert!(role != "system" || at == 0, "system text at {at}: {body}");
        if let Some(name) = called.take() {
            let named = message["name"].as_str();
            assert_eq!((role, named), ("function", Some(name)), "a call without a result: {body}");
            let result = serde_json::from_str::<Value>(content);
            assert!(result.is_ok_and(|result| result.is_object()), "no object: {message}");
        } else {
            assert!(["system", "user", "assistant"].contains(&role), "{message}");
        }
        if let Some(call) = message.get("function_call") {
            let Some(name) = call["name"].as_str() else { panic!("no name: {message}") };
            assert_eq!(role, "assistant", "{message}");
            assert!(call["arguments"].is_object(), "arguments that are no object: {message}");
            called = Some(name);
        }
        last = role;
    }
    assert_eq!(called, None, "a call without a result: {body}");
    functions(body);
    settings(body);
}

/// Functions are declared as GigaChat takes them, once each, and what is to be done with them is
/// said: left out, it is nothing.
fn functions(body: &Value) {
    assert_eq!(body.get("functions").is_some(), body.get("function_call").is_some(), "{body}");
    let functions = list(body, "functions");
    let mut names = Vec::with_capacity(functions.len());
    for function in functions {
        let Some(name) = function["name"].as_str() else { panic!("no name: {function}") };
        assert!(!names.contains(&name), "two functions of one name: {body}");
        names.push(name);
        let parameters = schema::accepted(&function["parameters"]);
        assert_eq!(parameters, Ok(()), "{function}");
    }
    if let Some(choice) = body.get("function_call") {
        let named = choice["name"].as_str().is_some_and(|name| names.contains(&name));
        assert!(choice == "auto" || named, "{choice} of {names:?}");
    }
}

fn settings(body: &Value) {
    let number = |name: &str| body[name].as_f64();
    assert!(number("temperature").is_none_or(|it| it != 0.0), "temperature 0: {body}");
    let effort = &body["reasoning_effort"];
    let known = ["low", "medium", "high"].contains(&effort.as_str().unwrap_or_default());
    assert!(effort.is_null() || known, "the effort {effort}");
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}
