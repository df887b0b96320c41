//! The wire APIs that are spoken, and what of a request decides its answer.

use super::gigachat::answer;
use super::scene::Line;
use super::script::Script;
use crate::dialect::request::{Request, Settings};
use crate::dialect::{self, Dialect, Encode, Reply};
use crate::fault::Failure;
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Why};
use std::str::FromStr;

/// The model name in every answer: a script in each chunk would distort its size.
pub const MODEL: &str = "mock-model";

/// The tool that is called when a request declares none.
pub const TOOL: &str = "tool_0";

/// Parameters that the Codex backend refuses.
const CODEX_REFUSED: [&str; 12] = [
    "temperature",
    "top_p",
    "max_output_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "metadata",
    "top_logprobs",
    "truncation",
    "service_tier",
    "user",
    "previous_response_id",
];

/// One wire API of a model server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
    /// The Codex backend of ChatGPT: Responses, always a stream, and rules of its own.
    Codex,
    /// GigaChat's Chat Completions.
    GigaChat,
}

impl Wire {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Responses, Self::Codex, Self::GigaChat];

    /// The name, as `--dialect` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Codex => "codex",
            Self::GigaChat => "gigachat",
        }
    }

    /// The path of its operation.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Codex => "/backend-api/codex/responses",
            Self::GigaChat => "/api/v1/chat/completions",
        }
    }

    /// The proxy's dialect that writes its answers; `None` where they are written here.
    fn dialect(self) -> Option<&'static dyn Dialect> {
        match self {
            Self::Chat => dialect::by_name("chat"),
            Self::Responses | Self::Codex => dialect::by_name("responses"),
            Self::GigaChat => None,
        }
    }

    /// What writes the answer to a request of this form.
    pub(super) fn encoder(self, form: &Form, reply: Reply) -> Box<dyn Encode> {
        let Some(dialect) = self.dialect() else {
            return Box::new(answer::Encoder::new(reply));
        };
        let settings = Settings { legacy_functions: form.legacy, ..Settings::default() };
        let request = Request {
            model: Escaped::trusted(MODEL),
            stream: form.stream,
            include_usage: form.include_usage,
            settings,
            ..Request::default()
        };
        // The backend of Codex ends its streams without a marker.
        let reply = Reply { done_marker: self != Self::Codex, ..reply };
        dialect.encoder(&request, reply)
    }

    /// Appends the envelope of an error.
    pub(super) fn envelope(self, failure: &Failure, out: &mut Vec<u8>) {
        match (self, self.dialect()) {
            (Self::Codex, _) => {
                out.push(b'{');
                json::member("detail", &failure.message, out);
                out.push(b'}');
            }
            (_, Some(dialect)) => dialect.encode_fault(failure, out),
            (_, None) => answer::envelope(failure, out),
        }
    }

    /// The failure that a status without further words is.
    pub(super) fn failure(self, status: u16) -> Failure {
        // Any dialect reads a bare status the same way.
        let read = self.dialect().or_else(|| Self::Chat.dialect());
        let failure = read.map(|dialect| dialect.decode_fault(status, b""));
        let mut failure = failure.unwrap_or_else(|| Failure::bad_request(""));
        failure.message = format!("the script says status={status}");
        failure.status = Some(status);
        failure
    }
}

impl FromStr for Wire {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|wire| wire.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("no dialect is named {name:?}; there are {known}")
        })
    }
}

/// What of a request, besides the script, decides the bytes of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// A stream is wanted.
    pub(super) stream: bool,
    /// A Chat stream is to end in a usage chunk.
    pub(super) include_usage: bool,
    /// The client declared `functions`, and gets one `function_call`.
    pub(super) legacy: bool,
    /// The first tool's name, escaped; empty when it is of no matter.
    pub(super) tool: String,
    /// What a scene says in place of the script.
    pub(super) line: Option<Line>,
}

/// What is read of a request's body.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    model: Option<Escaped<'a>>,
    stream: Option<bool>,
    include_usage: bool,
    function: Option<Escaped<'a>>,
    tool: Option<Escaped<'a>>,
    store: Option<bool>,
    instructed: bool,
    refused: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Walks a body once. Its grammar is checked, its other members are passed over.
    pub(super) fn read(wire: Wire, body: &'a str) -> Result<Self, Bad> {
        let mut asked = Self::default();
        json::document(body, |cursor| {
            cursor.object(|key, cursor| match key {
                "model" => json::once(&mut asked.model, cursor.string()?),
                "stream" if cursor.null()? => Ok(()),
                "stream" => json::once(&mut asked.stream, cursor.boolean()?),
                "stream_options" if cursor.kind()? == Kind::Object => {
                    cursor.object(|key, cursor| {
                        if key == "include_usage" && cursor.kind()? == Kind::Bool {
                            asked.include_usage = cursor.boolean()?;
                        }
                        Ok(())
                    })
                }
                "tools" if cursor.kind()? == Kind::Array => first_tool(cursor, &mut asked.tool),
                "functions" if cursor.kind()? == Kind::Array => {
                    first_function(cursor, &mut asked.function)
                }
                "store" if cursor.kind()? == Kind::Bool => {
                    asked.store = Some(cursor.boolean()?);
                    Ok(())
                }
                "instructions" if cursor.kind()? == Kind::String => {
                    asked.instructed = !cursor.string()?.is_empty();
                    Ok(())
                }
                _ => {
                    if wire == Wire::Codex && CODEX_REFUSED.contains(&key) && !cursor.null()? {
                        asked.refused.get_or_insert(key);
                    }
                    Ok(())
                }
            })
        })?;
        Ok(asked)
    }

    /// The script that answers it: the server's, or the whole one in the model's name, and over
    /// either the keys of the field `x-mock-script`.
    pub(super) fn script(&self, usual: &Script, field: Option<&str>) -> Result<Script, Failure> {
        let Some(model) = self.model else {
            return Err(Failure::bad_request("the request names no model")
                .with_code("missing_required_parameter")
                .with_param("model"));
        };
        let wrong = |why: String, place: &str| {
            Failure::bad_request(format!("the script in {place} is wrong: {why}")).with_param(place)
        };
        let mut script = match Script::of_model(&model.decode()) {
            None => *usual,
            Some(script) => script.map_err(|why| wrong(why, "model"))?,
        };
        script.apply(field.unwrap_or_default()).map_err(|why| wrong(why, "x-mock-script"))?;
        Ok(script)
    }

    /// What the wire API forbids.
    pub(super) fn complaint(&self, wire: Wire) -> Option<Failure> {
        if wire != Wire::Codex {
            return None;
        }
        let why = match (self.refused, self.stream, self.store, self.instructed) {
            (Some(key), ..) => format!("Unsupported parameter: {key}"),
            (_, Some(true), Some(false), true) => return None,
            (_, Some(true), Some(false), false) => "Instructions are required".to_owned(),
            (_, Some(true), ..) => "Store must be set to false".to_owned(),
            _ => "Stream must be set to true".to_owned(),
        };
        Some(Failure::bad_request(why))
    }

    /// The rest of what decides the answer's bytes.
    pub(super) fn form(&self, wire: Wire, script: &Script) -> Form {
        let legacy = self.tool.is_none() && self.function.is_some();
        let tool = match script.calls {
            0 => String::new(),
            _ => self.tool.or(self.function).map_or(TOOL, Escaped::raw).to_owned(),
        };
        Form {
            stream: self.stream.unwrap_or(false),
            include_usage: wire == Wire::Chat && self.include_usage,
            legacy: wire == Wire::Chat && legacy && script.calls > 0,
            tool,
            line: None,
        }
    }
}

/// Finds the first function tool: `{"type":"function","function":{"name":..}}` of Chat, or
/// `{"type":"function","name":..}` of Responses.
fn first_tool<'a>(cursor: &mut Cursor<'a>, found: &mut Option<Escaped<'a>>) -> Result<(), Bad> {
    cursor.array(|cursor| {
        if found.is_some() || cursor.kind()? != Kind::Object {
            return Ok(());
        }
        let (mut function, mut name) = (false, None);
        cursor.object(|key, cursor| {
            match key {
                "type" if cursor.kind()? == Kind::String => {
                    function = cursor.string()?.is("function");
                }
                "function" if cursor.kind()? == Kind::Object => name = name_in(cursor)?,
                "name" if cursor.kind()? == Kind::String => name = Some(cursor.string()?),
                _ => {}
            }
            Ok(())
        })?;
        *found = name.filter(|name| function && !name.is_empty());
        Ok(())
    })
}

/// Finds the first of `[{"name":..}]`.
fn first_function<'a>(cursor: &mut Cursor<'a>, found: &mut Option<Escaped<'a>>) -> Result<(), Bad> {
    cursor.array(|cursor| {
        if found.is_none() && cursor.kind()? == Kind::Object {
            *found = name_in(cursor)?.filter(|name| !name.is_empty());
        }
        Ok(())
    })
}

fn name_in<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Escaped<'a>>, Bad> {
    let mut name = None;
    cursor.object(|key, cursor| match key {
        "name" if cursor.kind()? != Kind::String => Err(cursor.bad(Why::Type)),
        "name" => json::once(&mut name, cursor.string()?),
        _ => Ok(()),
    })?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(wire: Wire, body: &str) -> Form {
        let script = Script { calls: 1, ..Script::default() };
        Asked::read(wire, body).unwrap().form(wire, &script)
    }

    #[test]
    fn the_first_function_is_called_by_its_name() {
        for (wire, body, tool, legacy) in [
            (Wire::Chat, r#"{"tools":[{"type":"function","function":{"name":"a"}}]}"#, "a", false),
            (
                Wire::Responses,
                r#"{"tools":[{"type":"web_search"},{"name":"b\"","type":"function"},{"name":"c"}]}"#,
                r#"b\""#,
                false,
            ),
            (Wire::GigaChat, r#"{"functions":[{"name":"d","parameters":{}}]}"#, "d", false),
            (Wire::Chat, r#"{"functions":[{"name":"d"}]}"#, "d", true),
            (Wire::Chat, r#"{"tools":[{"type":"custom","custom":{"name":"e"}}]}"#, TOOL, false),
            (Wire::Chat, r#"{"tools":null}"#, TOOL, false),
        ] {
            let form = form(wire, body);
            assert_eq!((form.tool.as_str(), form.legacy), (tool, legacy), "{body}");
        }
    }

    #[test]
    fn stream_and_usage_are_as_asked_for() {
        let body = r#"{"stream":true,"stream_options":{"include_usage":true,"x":[]}}"#;
        let asked = form(Wire::Chat, body);
        assert!(asked.stream && asked.include_usage);
        let asked = form(Wire::Responses, r#"{"stream":null,"stream_options":null}"#);
        assert!(!asked.stream && !asked.include_usage);
    }

    #[test]
    fn the_field_beats_the_model_which_beats_the_server() {
        let usual: Script = "deltas=1,bytes=9,pace=1ms".parse().unwrap();
        let read = |body, field| Asked::read(Wire::Chat, body).unwrap().script(&usual, field);
        assert_eq!(read(r#"{"model":"gpt"}"#, None), Ok(usual));
        let all = read(r#"{"model":"mock:deltas=2"}"#, Some("bytes=3")).unwrap();
        assert_eq!(all, "deltas=2,bytes=3".parse().unwrap(), "no pace from the server's script");
        let one = read(r#"{"model":"gpt"}"#, Some("deltas=3")).unwrap();
        assert_eq!(one, "deltas=3,bytes=9,pace=1ms".parse().unwrap());
        for (body, field, param, part) in [
            (r#"{"model":"mock:delta=2"}"#, None, "model", "no key \"delta\""),
            (r#"{"model":"gpt"}"#, Some("pace=9"), "x-mock-script", "pace=9"),
            ("{}", None, "model", "names no model"),
        ] {
            let failure = read(body, field).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(param));
            assert!(failure.message.contains(part), "{failure}");
        }
    }

    #[test]
    fn the_codex_backend_keeps_its_rules() {
        for (body, why) in [
            (r#"{"store":false,"instructions":"x"}"#, "Stream must be set to true"),
            (r#"{"stream":true,"instructions":"x"}"#, "Store must be set to false"),
            (r#"{"stream":true,"store":false,"instructions":""}"#, "Instructions are required"),
            (
                r#"{"stream":true,"store":false,"instructions":"x","top_p":1}"#,
                "Unsupported parameter: top_p",
            ),
        ] {
            let asked = Asked::read(Wire::Codex, body).unwrap();
            assert_eq!(asked.complaint(Wire::Codex).unwrap().message, why);
            assert!(asked.complaint(Wire::Responses).is_none());
        }
        let fine = r#"{"stream":true,"store":false,"instructions":"x","seed":null}"#;
        assert!(Asked::read(Wire::Codex, fine).unwrap().complaint(Wire::Codex).is_none());
    }

    #[test]
    fn names_find_their_wire() {
        for wire in Wire::ALL {
            assert_eq!(wire.name().parse(), Ok(wire));
        }
        let why = "gemini".parse::<Wire>().unwrap_err();
        assert_eq!(
            why,
            "no dialect is named \"gemini\"; there are chat, responses, codex, gigachat"
        );
    }
}
