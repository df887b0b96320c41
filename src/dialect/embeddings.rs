//! Embeddings as OpenAI's API has them (`POST /embeddings`), and what an upstream that has them in
//! another form provides.
//!
//! Source: <https://platform.openai.com/docs/api-reference/embeddings/create>.

use crate::fault::Failure;
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind};
use std::borrow::Cow;
use std::fmt::Debug;

/// Most names noted as dropped: they end up in a response header.
const DROPPED_MAX: usize = 32;
/// Longest name that is.
const NAME_BYTES_MAX: usize = 64;

/// The embeddings of an upstream that takes and gives them in a form of its own.
pub trait Embeddings: Sync + Debug {
    /// Whether `model` is a name that the upstream gives to its models for embeddings.
    fn knows(&self, model: &str) -> bool;

    /// Appends the upstream's request body for embeddings of the `wanted` texts by this `model`.
    fn encode(&self, wanted: &Wanted<'_>, model: &str, out: &mut Vec<u8>);

    /// Appends what the client gets of the upstream's reply, in OpenAI's form.
    ///
    /// # Errors
    /// The reply is not what was asked for. What was appended is of no use then.
    fn decode(&self, reply: &[u8], asked: &Asked, out: &mut Vec<u8>) -> Result<(), Failure>;
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The texts, at least one, none of them empty.
    pub texts: Vec<Escaped<'a>>,
    /// `encoding_format` is `base64`.
    pub base64: bool,
    /// Members that other upstreams do not take: `dimensions`, and what is not known here. Only what
    /// may stand in a header field.
    pub dropped: Vec<Cow<'a, str>>,
}

/// What has to be remembered of a request for its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The model as the client names it.
    pub model: String,
    /// The number of texts.
    pub texts: usize,
    /// The vectors are wanted as base64 of little-endian 32-bit floats.
    pub base64: bool,
}

impl<'a> Wanted<'a> {
    /// Reads a client's request; its model is found by whoever decides where it goes.
    ///
    /// # Errors
    /// A 400 that names the parameter.
    pub fn read(body: &'a str) -> Result<Self, Failure> {
        let mut wanted = Self { texts: Vec::new(), base64: false, dropped: Vec::new() };
        let (mut input, mut format) = (None, None);
        let read = json::document(body, |cursor| {
            cursor.object(|key, value| {
                match key {
                    "input" => json::once(&mut input, wanted.input(value)?)?,
                    "encoding_format" => json::once(&mut format, value.string_or_null()?)?,
                    "model" | "user" => {}
                    _ if value.null()? => {}
                    _ => wanted.drop(key),
                }
                Ok(())
            })
        });
        read.map_err(|bad| {
            Failure::bad_request(format!("the request body cannot be read: {bad}"))
        })?;
        input.unwrap_or(Err(Unfit::Missing)).map_err(Unfit::failure)?;
        wanted.base64 = match format.flatten() {
            None => false,
            Some(format) if format.is("float") => false,
            Some(format) if format.is("base64") => true,
            Some(_) => {
                let message = "encoding_format is `float` or `base64`";
                return Err(Failure::bad_request(message).with_param("encoding_format"));
            }
        };
        Ok(wanted)
    }

    /// Reads `input`. What is well-formed JSON and no input is told of later, with all else read.
    fn input(&mut self, cursor: &mut Cursor<'a>) -> Result<Result<(), Unfit>, Bad> {
        let mut fits = Ok(());
        match cursor.kind()? {
            Kind::String => self.texts.push(cursor.string()?),
            Kind::Array => cursor.array(|each| {
                match each.kind()? {
                    Kind::String => self.texts.push(each.string()?),
                    Kind::Number | Kind::Array => fits = Err(Unfit::Tokens),
                    _ => fits = fits.and(Err(Unfit::Type)),
                }
                Ok(())
            })?,
            Kind::Null => return Ok(Err(Unfit::Missing)),
            _ => return Ok(Err(Unfit::Type)),
        }
        let empty = self.texts.is_empty() || self.texts.iter().any(|text| text.is_empty());
        Ok(fits.and(if empty { Err(Unfit::Empty) } else { Ok(()) }))
    }

    fn drop(&mut self, name: &'a str) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal);
        if fits && self.dropped.len() < DROPPED_MAX {
            self.dropped.push(Cow::Borrowed(name));
        }
    }
}

/// Why an `input` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    Missing,
    Empty,
    Tokens,
    Type,
}

impl Unfit {
    fn failure(self) -> Failure {
        let message = match self {
            Self::Missing => "the request has no input: give a text, or a list of texts",
            Self::Empty => "the input is empty, or one of its texts is",
            Self::Tokens => {
                "the input is a list of token ids, and the upstream has other tokens: send text \
                 (LangChain does with check_embedding_ctx_length=False)"
            }
            Self::Type => "the input is neither a text nor a list of texts",
        };
        let failure = Failure::bad_request(message).with_param("input");
        match self {
            Self::Missing => failure.with_code("missing_required_parameter"),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_alone_or_in_a_list() {
        let whole = r#"{"model":"m","input":["a\n","b"],"encoding_format":"base64","user":"u",
            "dimensions":256,"extra":{"a":[1]},"truncate":null,"b c":1}"#;
        let wanted = Wanted::read(whole).unwrap();
        let texts: Vec<&str> = wanted.texts.iter().map(|text| text.raw()).collect();
        assert_eq!((texts, wanted.base64), (vec![r"a\n", "b"], true));
        assert_eq!(wanted.dropped, ["dimensions", "extra"]);
        for format in ["", r#","encoding_format":"float""#, r#","encoding_format":null"#] {
            let body = format!(r#"{{"input":"a"{format}}}"#);
            let wanted = Wanted::read(&body).unwrap();
            assert_eq!((wanted.texts.len(), wanted.base64, wanted.dropped.len()), (1, false, 0));
        }
    }

    #[test]
    fn what_is_no_request_says_why() {
        for (body, param, told) in [
            (r#"{"model":"m"}"#, Some("input"), "has no input"),
            (r#"{"input":null}"#, Some("input"), "has no input"),
            (r#"{"input":""}"#, Some("input"), "empty"),
            (r#"{"input":[]}"#, Some("input"), "empty"),
            (r#"{"input":["a",""]}"#, Some("input"), "empty"),
            (r#"{"input":[1,2]}"#, Some("input"), "token ids"),
            (r#"{"input":[[1],[2]]}"#, Some("input"), "token ids"),
            (r#"{"input":["a",1]}"#, Some("input"), "token ids"),
            (r#"{"input":[true]}"#, Some("input"), "neither"),
            (r#"{"input":{}}"#, Some("input"), "neither"),
            (r#"{"input":7}"#, Some("input"), "neither"),
            (r#"{"input":"a","encoding_format":"hex"}"#, Some("encoding_format"), "base64"),
            (r#"{"input":"a","input":"b"}"#, None, "the same key twice"),
            (r#"{"input":"a""#, None, "ends inside"),
            (r#"["a"]"#, None, "wrong type"),
            ("", None, "ends inside"),
        ] {
            let failure = Wanted::read(body).unwrap_err();
            assert_eq!((failure.status(), failure.param.as_deref()), (400, param), "{body}");
            assert!(failure.message.contains(told), "{body}: {failure}");
        }
    }
}
