//! Replies that are read whole: embeddings and lists of models; and the requests for the former.

use super::readers::strict;
use crate::dialect;
use crate::dialect::embeddings::{Asked, Wanted};
use crate::dialect::models::{Entry, Listed, list};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The first byte chooses what the others are: a request for embeddings, a reply to one (as numbers
/// or as base64) or a list of models.
///
/// # Panics
/// When what is written is no JSON, or says something else than what was read.
pub fn lists(bytes: &[u8]) {
    let Some((&by, body)) = bytes.split_first() else { return };
    match by % 4 {
        0 => request(body),
        1 => reply(body, false),
        2 => reply(body, true),
        _ => models(body),
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        value => value.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    }
}

fn written(out: &[u8]) -> Value {
    strict(out).unwrap_or_else(|| panic!("no JSON: {}", out.escape_ascii()))
}

fn request(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let wanted = match Wanted::read(text) {
        Ok(wanted) => wanted,
        Err(failure) => {
            assert_eq!(failure.status(), 400, "{failure:?}");
            return;
        }
    };
    assert!(wanted.texts.iter().all(|text| !text.is_empty()) && !wanted.texts.is_empty());
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    assert!(wanted.dropped.iter().all(|name| name.len() <= 64 && name.bytes().all(legal)));
    for dialect in dialect::DIALECTS {
        let Some(embeddings) = dialect.embeddings() else { continue };
        let mut out = Vec::new();
        embeddings.encode(&wanted, "some \"model\"", &mut out);
        let sent = written(&out);
        assert_eq!(sent["model"], "some \"model\"");
        let sent = texts(&sent["input"]);
        assert_eq!(sent.len(), wanted.texts.len());
        // A tree has no words for halves of surrogate pairs.
        if let Ok(tree) = serde_json::from_slice::<Value>(body) {
            assert_eq!(sent, texts(&tree["input"]));
        }
    }
}

fn reply(body: &[u8], base64: bool) {
    for dialect in dialect::DIALECTS {
        let Some(embeddings) = dialect.embeddings() else { continue };
        for texts in [1, 2] {
            let asked = Asked { model: "m".to_owned(), texts, base64 };
            let mut out = Vec::new();
            if let Err(failure) = embeddings.decode(body, &asked, &mut out) {
                assert_eq!(failure.status(), 502, "{failure:?}");
                continue;
            }
            let told = written(&out);
            let data = told["data"].as_array().map_or(0, Vec::len);
            assert_eq!((data, &told["model"]), (texts, &Value::from("m")));
            if let Ok(tree) = serde_json::from_slice::<Value>(body) {
                for at in 0..texts {
                    same(&told["data"][at]["embedding"], &tree["data"][at]["embedding"]);
                }
            }
        }
    }
}

/// The vector says the numbers that came.
fn same(told: &Value, came: &Value) {
    let Some(coded) = told.as_str() else {
        assert_eq!(told, came);
        return;
    };
    let bytes = STANDARD.decode(coded).unwrap_or_else(|bad| panic!("{bad}: {coded}"));
    let numbers: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect();
    let came = came.as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!((bytes.len(), numbers.len()), (4 * came.len(), came.len()));
    for (number, came) in numbers.iter().zip(came) {
        let parsed: Option<f32> = came.to_string().parse().ok();
        let near = parsed.is_some_and(|it| (it - number).abs() <= it.abs() * f32::EPSILON);
        assert!(near, "{came} became {number}");
    }
}

fn models(body: &[u8]) {
    let Ok(models) = Listed::read(body) else { return };
    let mut out = Vec::new();
    list(models.iter().map(Entry::from), &mut out);
    written(&out);
    let again = Listed::read(&out).unwrap_or_else(|failure| panic!("{failure}"));
    let names = |models: &[Listed]| -> Vec<(String, u64)> {
        models.iter().map(|model| (model.id.clone(), model.created_s)).collect()
    };
    assert_eq!(names(&again), names(&models), "{}", out.escape_ascii());
}
