//! Embeddings (`POST /api/v1/embeddings`): a list of texts, and tokens counted for each of them.
//!
//! Source: <https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-embeddings>.

use crate::dialect::embeddings::{Asked, Embeddings, Wanted};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Cursor, Kind as Json, Raw, Why};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// GigaChat's embeddings.
#[derive(Debug)]
pub(super) struct GigaChatEmbeddings;

impl Embeddings for GigaChatEmbeddings {
    fn knows(&self, model: &str) -> bool {
        // `Embeddings`, `Embeddings-2`, `EmbeddingsGigaR`, `GigaEmbeddings-3B-2025-09`.
        model.starts_with("Embeddings") || model.starts_with("GigaEmbeddings")
    }

    fn encode(&self, wanted: &Wanted<'_>, model: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        json::member("model", model, out);
        json::key("input", out);
        out.push(b'[');
        let mut scratch = String::new();
        for text in &wanted.texts {
            json::comma(out);
            json::quoted(text.paired(&mut scratch), out);
        }
        out.extend_from_slice(b"]}");
    }

    fn decode(&self, reply: &[u8], asked: &Asked, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut writer = Writer { asked, written: 0, tokens: 0, floats: Vec::new() };
        let bad = |why: String| {
            let message = format!("the upstream's embeddings cannot be read: {why}");
            Failure::new(Fault::upstream(Kind::BadReply), message)
        };
        out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        let read = json::utf8(reply).and_then(|text| writer.reply(text, out));
        read.map_err(|why| bad(why.to_string()))?;
        if writer.written != asked.texts {
            let (written, texts) = (writer.written, asked.texts);
            return Err(bad(format!("there are {written} of them for {texts} texts")));
        }
        out.push(b']');
        json::member("model", &asked.model, out);
        json::key("usage", out);
        out.push(b'{');
        json::member_number("prompt_tokens", writer.tokens, out);
        json::member_number("total_tokens", writer.tokens, out);
        out.extend_from_slice(b"}}");
        Ok(())
    }
}

/// Writes the embeddings of a reply while it is read: there may be millions of numbers.
struct Writer<'w> {
    asked: &'w Asked,
    written: usize,
    tokens: u64,
    /// The bytes of one vector.
    floats: Vec<u8>,
}

impl Writer<'_> {
    fn reply(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), Bad> {
        let (mut data, mut whole) = (None, None);
        json::document(text, |cursor| {
            cursor.object(|key, value| {
                match key {
                    "data" => {
                        json::once(&mut data, ())?;
                        value.array(|each| self.embedding(each, out))?;
                    }
                    "usage" if value.kind()? == Json::Object => whole = prompt_tokens(value)?,
                    _ => {}
                }
                Ok(())
            })
        })?;
        // A count of the whole reply would be better than the sum.
        self.tokens = whole.unwrap_or(self.tokens);
        Ok(())
    }

    fn embedding(&mut self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
        let (mut vector, mut index, mut tokens) = (None, None, None);
        cursor.object(|key, value| {
            match key {
                "index" => json::once(&mut index, value.unsigned()?)?,
                "embedding" => json::once(&mut vector, value.skip()?)?,
                "usage" if value.kind()? == Json::Object => tokens = prompt_tokens(value)?,
                _ => {}
            }
            Ok(())
        })?;
        json::comma(out);
        out.extend_from_slice(b"{\"object\":\"embedding\"");
        json::member_number("index", index.unwrap_or(self.written as u64), out);
        json::key("embedding", out);
        let numbers = vector.and_then(numbers).ok_or_else(|| cursor.bad(Why::Type))?;
        if self.asked.base64 {
            self.base64(numbers, out).ok_or_else(|| cursor.bad(Why::Range))?;
        } else {
            out.push(b'[');
            if !numbers.split(',').all(is_finite) {
                return Err(cursor.bad(Why::Range));
            }
            out.extend_from_slice(numbers.as_bytes());
            out.push(b']');
        }
        out.push(b'}');
        self.written += 1;
        self.tokens = self.tokens.saturating_add(tokens.unwrap_or(0));
        Ok(())
    }

    /// Appends the numbers as base64 of little-endian 32-bit floats; `None` when one is too large.
    fn base64(&mut self, numbers: &str, out: &mut Vec<u8>) -> Option<()> {
        self.floats.clear();
        for number in numbers.split(',') {
            let number = number.trim_ascii().parse::<f32>().ok().filter(|it| it.is_finite())?;
            self.floats.extend_from_slice(&number.to_le_bytes());
        }
        out.push(b'"');
        let start = out.len();
        out.resize(start + self.floats.len().div_ceil(3) * 4, 0);
        STANDARD.encode_slice(&self.floats, &mut out[start..]).ok()?;
        out.push(b'"');
        Some(())
    }
}

/// Whether a number is one that readers have room for. Without an exponent, a usual one is.
fn is_finite(number: &str) -> bool {
    const DIGITS_USUAL: usize = 300;
    let usual = number.len() <= DIGITS_USUAL && !number.bytes().any(|b| b == b'e' || b == b'E');
    usual || number.trim_ascii().parse::<f64>().is_ok_and(f64::is_finite)
}

/// The inside of an array of at least one number and nothing else.
fn numbers(value: Raw<'_>) -> Option<&str> {
    let inside = value.text().strip_prefix('[')?.strip_suffix(']')?;
    let number = |b: u8| b.is_ascii_digit() || b"+-.eE, \t\r\n".contains(&b);
    let any = inside.bytes().any(|byte| byte.is_ascii_digit());
    (any && inside.bytes().all(number)).then_some(inside)
}

fn prompt_tokens(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Bad> {
    let mut tokens = None;
    cursor.object(|key, value| {
        if key == "prompt_tokens" {
            // What is no count is ignored.
            tokens = value.skip()?.text().parse().ok().filter(|count| *count < 1 << 53);
        }
        Ok(())
    })?;
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asked(texts: usize, base64: bool) -> Asked {
        Asked { model: "the \"client's\"".to_owned(), texts, base64 }
    }

    fn decoded(reply: &str, asked: &Asked) -> Result<Value, Failure> {
        let mut out = Vec::new();
        GigaChatEmbeddings.decode(reply.as_bytes(), asked, &mut out)?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    const REPLY: &str = r#"{"object":"list","model":"Embeddings","data":[
        {"object":"embedding","embedding":[0.5, -1.25e0,
            3],"index":0,"usage":{"prompt_tokens":7}},
        {"usage":{"prompt_tokens":5},"index":1,"embedding":[1]}]}"#;

    #[test]
    fn a_request_is_a_list_of_texts() {
        let body = r#"{"model":"m","input":"a\nb \ud800","dimensions":3}"#;
        let mut out = Vec::new();
        GigaChatEmbeddings.encode(&Wanted::read(body).unwrap(), "Embeddings", &mut out);
        let expected = json!({"model": "Embeddings", "input": ["a\nb \u{fffd}"]});
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }

    #[test]
    fn a_reply_is_told_in_openais_form() {
        let usage = json!({"prompt_tokens": 12, "total_tokens": 12});
        let told = |first: Value, second: Value| {
            json!({"object": "list", "model": "the \"client's\"", "usage": usage, "data": [
                {"object": "embedding", "index": 0, "embedding": first},
                {"object": "embedding", "index": 1, "embedding": second}]})
        };
        let floats = decoded(REPLY, &asked(2, false)).unwrap();
        assert_eq!(floats, told(json!([0.5, -1.25, 3]), json!([1])));
        // 0.5 is 0x3f000000, -1.25 is 0xbfa00000, 3 is 0x40400000, 1 is 0x3f800000.
        let coded = decoded(REPLY, &asked(2, true)).unwrap();
        assert_eq!(coded, told(json!("AAAAPwAAoL8AAEBA"), json!("AACAPw==")));
        let whole = REPLY.replace(r#""model":"#, r#""usage":{"prompt_tokens":40},"model":"#);
        assert_eq!(decoded(&whole, &asked(2, false)).unwrap()["usage"]["total_tokens"], 40);
    }

    #[test]
    fn what_is_no_reply_is_the_upstreams_fault() {
        for (reply, told) in [
            ("<html>", "not valid JSON"),
            ("{}", "0 of them for 1"),
            (r#"{"data":[]}"#, "0 of them for 1"),
            (r#"{"data":[{"embedding":[1]},{"embedding":[1]}]}"#, "2 of them for 1"),
            (r#"{"data":[{"embedding":[]}]}"#, "wrong type"),
            (r#"{"data":[{"embedding":["1"]}]}"#, "wrong type"),
            (r#"{"data":[{"embedding":[[1]]}]}"#, "wrong type"),
            (r#"{"data":[{"embedding":"AACAPw=="}]}"#, "wrong type"),
            (r#"{"data":[{"index":0}]}"#, "wrong type"),
            (r#"{"data":[{"embedding":[1e99]}]}"#, "out of range"),
            (r#"{"data":[{"embedding":[1]}],"data":[]}"#, "the same key twice"),
            (r#"{"data":[{"embedding":[1]}"#, "ends inside"),
        ] {
            let failure = decoded(reply, &asked(1, true)).unwrap_err();
            assert_eq!(failure.status(), 502, "{reply}");
            assert!(failure.message.contains(told), "{reply}: {failure}");
        }
        // What no reader has room for is no number, whatever form was asked for.
        let digits = "4".repeat(400);
        for number in ["1e999", "-144e540", &digits] {
            let reply = format!("{{\"data\":[{{\"embedding\":[0.5, {number}]}}]}}");
            let failure = decoded(&reply, &asked(1, false)).unwrap_err();
            assert!(failure.message.contains("out of range"), "{number}: {failure}");
        }
        assert!(decoded(r#"{"data":[{"embedding":[1e-999, 1E5]}]}"#, &asked(1, false)).is_ok());
        assert!(GigaChatEmbeddings.decode(b"\xff", &asked(1, false), &mut Vec::new()).is_err());
    }

    #[test]
    fn its_own_models_are_known_by_their_names() {
        for (name, known) in [
            ("Embeddings", true),
            ("EmbeddingsGigaR", true),
            ("GigaEmbeddings-3B-2025-09", true),
            ("text-embedding-3-small", false),
            ("GigaChat-2-Max", false),
        ] {
            assert_eq!(GigaChatEmbeddings.knows(name), known, "{name}");
        }
    }
}
