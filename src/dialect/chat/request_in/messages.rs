//! Messages into the flat list of items.

use super::members::{Members, each, missing, refused, wrong};
use crate::dialect::event::CallKind;
use crate::dialect::request::{Content, Contents, Item, Request, Role, ToolName};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Kind, Raw};
use std::borrow::Cow;
use std::collections::HashMap;

const MESSAGE: &[&str] = &[
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "audio",
];
const CALL: &[&str] = &["id", "type", "function", "custom"];
const PART: &[&str] = &[
    "type",
    "text",
    "refusal",
    "image_url",
    "detail",
    "input_audio",
    "file",
    "file_data",
    "file_id",
    "filename",
];

/// Reads `messages`.
pub(super) fn read<'a>(top: &Members<'a>, request: &mut Request<'a>) -> Result<(), Failure> {
    let list = top.array("messages")?.ok_or_else(|| missing("messages"))?;
    let mut history = History { request, kinds: HashMap::new(), legacy: HashMap::new(), count: 0 };
    each(list, "messages", |raw, place| history.message(raw, place))?;
    if history.count == 0 {
        return Err(Failure::bad_request("'messages' is empty: add at least one message.")
            .with_param("messages"));
    }
    Ok(())
}

struct History<'h, 'a> {
    request: &'h mut Request<'a>,
    /// How the calls so far were made, by id.
    kinds: HashMap<&'a str, CallKind>,
    /// The id made for the last legacy call of a function, by its name.
    legacy: HashMap<&'a str, String>,
    count: usize,
}

impl<'a> History<'_, 'a> {
    fn message(&mut self, raw: Raw<'a>, place: &str) -> Result<(), Failure> {
        if raw.kind() != Kind::Object {
            return Err(wrong(place, "an object"));
        }
        self.count += 1;
        let message = Members::read(raw, place, MESSAGE)?;
        let role = message.string("role")?.ok_or_else(|| missing(&message.path("role")))?;
        match role.raw() {
            "system" => self.words(Role::System, &message),
            "developer" => self.words(Role::Developer, &message),
            "user" => self.words(Role::User, &message),
            "assistant" => self.assistant(&message),
            "tool" => self.output(&message),
            "function" => self.function_output(&message),
            _ => Err(refused(
                &message.path("role"),
                "roles are system, developer, user, assistant, tool and function",
            )),
        }
    }

    fn words(&mut self, role: Role, message: &Members<'a>) -> Result<(), Failure> {
        if message.value("name").is_some() {
            super::dropped(self.request, "messages.name");
        }
        let content = content(message)?.ok_or_else(|| missing(&message.path("content")))?;
        self.request.items.push(Item::Message { role, content });
        Ok(())
    }

    fn assistant(&mut self, message: &Members<'a>) -> Result<(), Failure> {
        if message.value("audio").is_some() {
            super::dropped(self.request, "messages.audio");
        }
        self.reasoning(message)?;
        let mut content = content(message)?.unwrap_or_default();
        if let Some(refusal) = message.string("refusal")? {
            content.push(Content::Refusal(refusal));
        }
        let empty = |part: &Content<'_>| matches!(part, Content::Text(text) | Content::Refusal(text) if text.is_empty());
        let content: Contents<'a> = content.iter().filter(|part| !empty(part)).copied().collect();
        if !content.is_empty() {
            self.request.items.push(Item::Message { role: Role::Assistant, content });
        }
        if let Some(list) = message.array("tool_calls")? {
            each(list, &message.path("tool_calls"), |raw, place| self.call(raw, place))?;
        }
        match message.object("function_call")? {
            Some(call) => self.legacy_call(call, &message.path("function_call")),
            None => Ok(()),
        }
    }

    /// Reasoning that the client gives back: opaque state as it was given, and the text.
    fn reasoning(&mut self, message: &Members<'a>) -> Result<(), Failure> {
        let text = match message.value("reasoning_content").and_then(Raw::string) {
            Some(text) => Some(text),
            None => message.value("reasoning").and_then(Raw::string),
        };
        let mut text: Vec<Escaped<'a>> = text.into_iter().filter(|t| !t.is_empty()).collect();
        let mut summary = Vec::new();
        let mut sealed = Vec::new();
        if let Some(list) = message.array("reasoning_details")? {
            each(list, &message.path("reasoning_details"), |raw, place| {
                if raw.kind() != Kind::Object {
                    return Ok(());
                }
                let names = &["type", "data", "summary", "id"];
                let detail = Members::read(raw, place, names)?;
                match detail.string("type")?.map_or("", Escaped::raw) {
                    "reasoning.encrypted" => {
                        sealed
                            .extend(detail.string("data")?.map(|data| (detail.value("id"), data)));
                    }
                    "reasoning.summary" => summary.extend(detail.string("summary")?),
                    _ => {}
                }
                Ok(())
            })?;
        }
        if sealed.is_empty() {
            if !text.is_empty() || !summary.is_empty() {
                self.request.items.push(Item::Reasoning { id: None, summary, text, sealed: None });
            }
            return Ok(());
        }
        // A client that keeps it wants the next one too.
        self.request.settings.include_sealed = true;
        for (id, data) in sealed {
            self.request.items.push(Item::Reasoning {
                id: id.and_then(Raw::string),
                summary: std::mem::take(&mut summary),
                text: std::mem::take(&mut text),
                sealed: Some(data),
            });
        }
        Ok(())
    }

    fn call(&mut self, raw: Raw<'a>, place: &str) -> Result<(), Failure> {
        if raw.kind() != Kind::Object {
            return Err(wrong(place, "an object"));
        }
        let call = Members::read(raw, place, CALL)?;
        let id = call.string("id")?.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| missing(&call.path("id")))?.raw();
        let custom = call.string("type")?.is_some_and(|kind| kind.is("custom"));
        let (kind, member, text) = if custom {
            (CallKind::Custom, "custom", "input")
        } else {
            (CallKind::Function, "function", "arguments")
        };
        let inner = call.object(member)?.ok_or_else(|| missing(&call.path(member)))?;
        let names: &'static [&'static str] =
            if custom { &["name", "input"] } else { &["name", "arguments"] };
        let inner = Members::read(inner, &call.path(member), names)?;
        let name = inner.string("name")?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| missing(&inner.path("name")))?;
        self.kinds.insert(id, kind);
        self.request.items.push(Item::Call {
            kind,
            id: Cow::Borrowed(id),
            tool: ToolName { namespace: Escaped::EMPTY, name },
            text: arguments(inner.value(text), &inner.path(text))?,
        });
        Ok(())
    }

    fn legacy_call(&mut self, raw: Raw<'a>, place: &str) -> Result<(), Failure> {
        let inner = Members::read(raw, place, &["name", "arguments"])?;
        let name = inner.string("name")?.ok_or_else(|| missing(&inner.path("name")))?;
        // The position in the conversation makes the same id on every turn.
        let id = format!("call_function_{}", self.count);
        self.legacy.insert(name.raw(), id.clone());
        self.request.items.push(Item::Call {
            kind: CallKind::Function,
            id: Cow::Owned(id),
            tool: ToolName { namespace: Escaped::EMPTY, name },
            text: arguments(inner.value("arguments"), &inner.path("arguments"))?,
        });
        Ok(())
    }

    fn output(&mut self, message: &Members<'a>) -> Result<(), Failure> {
        let id = message.string("tool_call_id")?;
        let id = id.ok_or_else(|| missing(&message.path("tool_call_id")))?.raw();
        let kind = self.kinds.get(id).copied().unwrap_or(CallKind::Function);
        let content = content(message)?.unwrap_or_default();
        self.request.items.push(Item::Output { kind, id: Cow::Borrowed(id), content });
        Ok(())
    }

    fn function_output(&mut self, message: &Members<'a>) -> Result<(), Failure> {
        let name = message.string("name")?.ok_or_else(|| missing(&message.path("name")))?;
        let id = match self.legacy.remove(name.raw()) {
            Some(id) => Cow::Owned(id),
            None => Cow::Borrowed(name.raw()),
        };
        let content = content(message)?.unwrap_or_default();
        self.request.items.push(Item::Output { kind: CallKind::Function, id, content });
        Ok(())
    }
}

/// Arguments are a JSON object as text; some clients send the object itself.
fn arguments<'a>(value: Option<Raw<'a>>, place: &str) -> Result<Cow<'a, str>, Failure> {
    let Some(value) = value else { return Ok(Cow::Borrowed("")) };
    match (value.string(), value.kind()) {
        (Some(text), _) => Ok(Cow::Borrowed(text.raw())),
        (None, Kind::Object) => {
            let mut text = Vec::with_capacity(value.text().len() + 16);
            json::escape(value.text(), &mut text);
            Ok(Cow::Owned(String::from_utf8_lossy(&text).into_owned()))
        }
        (None, _) => Err(wrong(place, "a string")),
    }
}

/// `content`: a string or an array of parts.
fn content<'a>(message: &Members<'a>) -> Result<Option<Contents<'a>>, Failure> {
    let Some(value) = message.value("content") else { return Ok(None) };
    let place = message.path("content");
    match (value.string(), value.kind()) {
        (Some(text), _) => Ok(Some(Contents::One(Content::Text(text)))),
        (None, Kind::Array) => {
            let mut parts = Contents::NONE;
            each(value, &place, |raw, place| {
                parts.push(part(raw, place)?);
                Ok(())
            })?;
            Ok(Some(parts))
        }
        (None, _) => Err(wrong(&place, "a string or an array of parts")),
    }
}

fn part<'a>(raw: Raw<'a>, place: &str) -> Result<Content<'a>, Failure> {
    if let Some(text) = raw.string() {
        return Ok(Content::Text(text));
    }
    if raw.kind() != Kind::Object {
        return Err(wrong(place, "an object"));
    }
    let part = Members::read(raw, place, PART)?;
    let kind = part.string("type")?.ok_or_else(|| missing(&part.path("type")))?;
    let needed = |name: &str| part.string(name)?.ok_or_else(|| missing(&part.path(name)));
    match kind.raw() {
        "text" | "input_text" | "output_text" => needed("text").map(Content::Text),
        "refusal" => needed("refusal").map(Content::Refusal),
        "image_url" | "input_image" => image(&part),
        "input_audio" => {
            let inner = part.object("input_audio")?;
            let inner = inner.ok_or_else(|| missing(&part.path("input_audio")))?;
            let inner = Members::read(inner, &part.path("input_audio"), &["data", "format"])?;
            let needed = |name: &str| inner.string(name)?.ok_or_else(|| missing(&inner.path(name)));
            Ok(Content::Audio { data: needed("data")?, format: needed("format")? })
        }
        "file" => {
            let inner = part.object("file")?.ok_or_else(|| missing(&part.path("file")))?;
            let names = &["file_data", "file_id", "filename"];
            file(&Members::read(inner, &part.path("file"), names)?)
        }
        "input_file" => file(&part),
        _ => Ok(Content::Opaque(raw)),
    }
}

/// An image; the URL stands in an object here, and some clients leave the object out.
fn image<'a>(part: &Members<'a>) -> Result<Content<'a>, Failure> {
    let value = part.value("image_url").ok_or_else(|| missing(&part.path("image_url")))?;
    if let Some(url) = value.string() {
        return Ok(Content::Image { url, detail: part.string("detail")? });
    }
    let path = part.path("image_url");
    if value.kind() != Kind::Object {
        return Err(wrong(&path, "an object"));
    }
    let inner = Members::read(value, &path, &["url", "detail"])?;
    let url = inner.string("url")?.ok_or_else(|| missing(&inner.path("url")))?;
    Ok(Content::Image { url, detail: inner.string("detail")? })
}

fn file<'a>(members: &Members<'a>) -> Result<Content<'a>, Failure> {
    Ok(Content::File {
        data: members.string("file_data")?,
        id: members.string("file_id")?,
        url: None,
        name: members.string("filename")?,
    })
}
