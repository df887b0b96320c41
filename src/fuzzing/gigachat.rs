//! What GigaChat requires of every request, and what we promise besides.

use crate::mock::gigachat::judge;
use serde_json::Value;

/// Checks a request's body: the scripted GigaChat takes it; no two neighbours are of one role,
/// unless the first has a file, every call has its result right behind it, and nothing is said of
/// functions where there are none.
///
/// # Panics
/// When it is otherwise.
pub fn in_order(body: &Value) {
    if let Err(why) = judge(&body.to_string()) {
        panic!("{why}: {body}");
    }
    let (mut called, mut last, mut filed) = (false, "", false);
    for message in body["messages"].as_array().into_iter().flatten() {
        let role = message["role"].as_str().unwrap_or_default();
        assert!(message["content"].is_string(), "no text: {message}");
        assert!(role != last || filed, "two neighbours of one role: {body}");
        assert_eq!(role == "function", called, "a call without a result: {body}");
        called = message.get("function_call").is_some();
        filed = message.get("attachments").is_some();
        last = role;
    }
    assert!(!called, "a call without a result: {body}");
    assert_eq!(body.get("functions").is_some(), body.get("function_call").is_some(), "{body}");
}
