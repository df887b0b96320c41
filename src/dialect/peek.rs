//! What is read of a request before it is known where it goes.

use crate::dialect::request::Request;
use crate::wire::json::{self, Bad, Escaped, Why};
use std::ops::Range;

/// The two members of a request that decide where it goes, in every dialect, read without the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    /// `model`, if it is a string.
    pub model: Option<Escaped<'a>>,
    /// `stream`; false when absent or null.
    pub stream: bool,
    model_at: Range<usize>,
}

impl<'a> Peek<'a> {
    /// Checks the whole body and reads the two members.
    ///
    /// # Errors
    /// The body is not one JSON object, or names a member twice that decides something.
    pub fn read(body: &'a str) -> Result<Self, Bad> {
        let (mut model, mut stream, mut span) = (None, None, None);
        json::document(body, |cursor| {
            cursor.object(|key, cursor| match key {
                "model" if cursor.kind()? == json::Kind::String => {
                    json::once(&mut model, cursor.string()?)?;
                    let end = cursor.position() - 1;
                    let length = model.map_or(0, |name| name.raw().len());
                    json::once(&mut span, end - length..end)
                }
                "model" => Err(cursor.bad(Why::Type)),
                "stream" if cursor.null()? => json::once(&mut stream, false),
                "stream" => json::once(&mut stream, cursor.boolean()?),
                _ => Ok(()),
            })
        })?;
        let (stream, model_at) = (stream.unwrap_or(false), span.unwrap_or(0..0));
        Ok(Self { model, stream, model_at })
    }

    /// The same of a request that a decoder has read, without reading it again; `None` when the model
    /// is not a part of `body`.
    #[must_use]
    pub fn of(request: &Request<'a>, body: &str) -> Option<Self> {
        let model = request.model.raw();
        let start = model.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        let model_at = start..start.checked_add(model.len())?;
        let found = body.get(model_at.clone()) == Some(model);
        found.then_some(Self { model: Some(request.model), stream: request.stream, model_at })
    }

    /// Where the model's name stands in the body, without its quotes.
    #[must_use]
    pub fn model_at(&self) -> Range<usize> {
        self.model_at.clone()
    }
}

/// Replaces the model's name in a body, where [`Peek::model_at`] says that it is.
pub fn rename(body: &mut Vec<u8>, model_at: Range<usize>, model: &str) {
    let mut name = Vec::with_capacity(model.len());
    json::escape(model, &mut name);
    body.splice(model_at, name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peek_finds_the_model_and_replaces_only_its_name() {
        let body = r#" {"input":"\"model\":\"x\"","model" : "a\"b","stream":true} "#;
        let peek = Peek::read(body).unwrap();
        assert_eq!(peek.model.map(Escaped::raw), Some(r#"a\"b"#));
        assert!(peek.stream);
        let mut out = body.as_bytes().to_vec();
        rename(&mut out, peek.model_at(), "new");
        let expected = r#" {"input":"\"model\":\"x\"","model" : "new","stream":true} "#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_a_decoder_read_says_the_same() {
        let body =
            r#" {"stream":true,"input":[],"messages":[{"role":"user","content":"m"}],"model":"m"}"#;
        for dialect in crate::dialect::for_clients() {
            let request = dialect.decode_request(body).unwrap();
            assert_eq!(Peek::of(&request, body), Some(Peek::read(body).unwrap()));
            let copy = body.to_owned();
            assert_eq!(Peek::of(&request, &copy), None);
        }
    }

    #[test]
    fn peek_refuses_what_two_readers_could_read_differently() {
        for body in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","\u006dodel":"b"}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"{"model":1}"#,
            r#"{"model":"a"} {}"#,
            r#"["model"]"#,
            r#"{"model":"a""#,
        ] {
            assert!(Peek::read(body).is_err(), "{body}");
        }
    }
}
