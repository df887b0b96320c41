//! Vectors of texts: made of the text's hash, so that the same text has the same vector.

use super::service::Service;
use super::{EMBEDDERS, Refusal, no_model, text_of, unreadable};
use crate::wire::json;
use serde::Deserialize;
use std::io::Write as _;

/// Numbers in a vector.
const DIMENSIONS: usize = 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    model: String,
    input: Vec<String>,
}

impl Service {
    /// A vector for each text of `input`.
    pub(super) fn embeddings(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let request: Request =
            serde_json::from_str(text_of(body)?).map_err(|why| unreadable(&why))?;
        if !EMBEDDERS.contains(&request.model.as_str()) {
            return Err(no_model());
        }
        if request.input.is_empty() || request.input.iter().any(String::is_empty) {
            let message = "Invalid params: input is empty, or a text in it is";
            return Err(Refusal::new(422, "no_input", message));
        }
        self.count_embeddings(request.input.len() as u64);
        let mut out = b"{\"object\":\"list\",\"data\":[".to_vec();
        for (index, text) in (0..).zip(&request.input) {
            json::comma(&mut out);
            out.extend_from_slice(b"{\"object\":\"embedding\",\"embedding\":[");
            vector(text, &mut out);
            out.push(b']');
            json::member_number("index", index, &mut out);
            json::key("usage", &mut out);
            out.push(b'{');
            json::member_number("prompt_tokens", tokens(text), &mut out);
            out.extend_from_slice(b"}}");
        }
        out.push(b']');
        json::member("model", &request.model, &mut out);
        out.push(b'}');
        Ok(out)
    }
}

/// A word counts as a token.
fn tokens(text: &str) -> u64 {
    text.split_whitespace().count().max(1) as u64
}

/// Numbers from -1 to 1, six digits each.
fn vector(text: &str, out: &mut Vec<u8>) {
    // FNV-1a, then SplitMix64 (Steele, Lea, Flood 2014) over a counter.
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    for index in 0..DIMENSIONS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let millionths = (mixed ^ (mixed >> 27)) % 1_000_000;
        let sign = if mixed >> 63 == 1 { "-" } else { "" };
        let comma = if index > 0 { "," } else { "" };
        // A vector of bytes takes every write.
        let _ = write!(out, "{comma}{sign}0.{millionths:06}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_vectors() {
        let vector = |text| {
            let mut out = b"[".to_vec();
            vector(text, &mut out);
            out.push(b']');
            serde_json::from_slice::<Vec<f32>>(&out).unwrap()
        };
        let (one, two) = (vector("a"), vector("b"));
        assert_eq!((one.len(), two.len()), (DIMENSIONS, DIMENSIONS));
        assert!(one == vector("a") && one != two);
        assert!(one.iter().all(|number| (-1.0..=1.0).contains(number)));
        assert!(one.iter().any(|number| *number < 0.0));
    }
}
