//! Messages into the flat list of items.

use super::members::{Members, Path, Refusal, missing, refused, wrong};
use super::{Parameter, Top, content, dropped};
use crate::dialect::event::CallKind;
use crate::dialect::keys::{Key as _, keys};
use crate::dialect::request::{Content, Contents, Item, Request, Role, ToolName};
use crate::fault::Failure;
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw};
use std::borrow::Cow;
use std::collections::HashMap;

keys!(MessageKey {
    Role = "role",
    Content = "content",
    Name = "name",
    ToolCalls = "tool_calls",
    ToolCallId = "tool_call_id",
    FunctionCall = "function_call",
    Refusal = "refusal",
    ReasoningContent = "reasoning_content",
    Reasoning = "reasoning",
    ReasoningDetails = "reasoning_details",
    Audio = "audio",
});

keys!(CallKey { Id = "id", Type = "type", Function = "function", Custom = "custom", });
keys!(CalledKey { Name = "name", Arguments = "arguments", Input = "input", });
keys!(DetailKey { Type = "type", Data = "data", Summary = "summary", Id = "id", });

/// One message, whatever its role.
struct Message<'p, 'a> {
    members: Members<'p, 'a, MessageKey>,
    content: Option<Result<Contents<'a>, Failure>>,
    calls: Option<Result<(), Failure>>,
    details: Option<Result<Details<'a>, Failure>>,
}

impl<'a> Message<'_, 'a> {
    fn content(&mut self) -> Result<Option<Contents<'a>>, Failure> {
        self.content.take().transpose()
    }
}

/// What `reasoning_details` hold.
#[derive(Default)]
struct Details<'a> {
    summary: Vec<Escaped<'a>>,
    /// Opaque reasoning and its id.
    sealed: Vec<(Option<Raw<'a>>, Escaped<'a>)>,
}

/// The conversation as far as it was read.
#[derive(Default)]
pub(super) struct History<'a> {
    items: Vec<Item<'a>>,
    /// Calls of the message that is being read.
    calls: Vec<Item<'a>>,
    /// The calls so far that were not of functions, by id.
    kinds: HashMap<&'a str, CallKind>,
    /// The id made for the last legacy call of a function, by its name.
    legacy: HashMap<&'a str, String>,
    count: usize,
    /// The client keeps opaque reasoning.
    sealed: bool,
    dropped: Vec<&'static str>,
}

/// Reads `messages`.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>, refusal: &mut Refusal) -> Result<History<'a>, Bad> {
    let mut history = History::default();
    let list = Path::Body.member(Parameter::Messages.text());
    cursor.array(|cursor| {
        let path = list.element(history.count);
        history.count += 1;
        history.message(cursor, path, refusal)
    })?;
    Ok(history)
}

impl<'a> History<'a> {
    /// Gives the request its items.
    pub(super) fn finish(self, top: &Top<'a>, request: &mut Request<'a>) -> Result<(), Failure> {
        if self.count == 0 {
            return Err(Failure::bad_request("'messages' is empty: add at least one message.")
                .with_param(top.path(Parameter::Messages).to_string()));
        }
        request.items = self.items;
        request.settings.include_sealed |= self.sealed;
        for name in self.dropped {
            dropped(request, name);
        }
        Ok(())
    }

    fn message(
        &mut self,
        cursor: &mut Cursor<'a>,
        path: Path<'_>,
        refusal: &mut Refusal,
    ) -> Result<(), Bad> {
        let (mut content, mut calls, mut details) = (None, None, None);
        self.calls.clear();
        let members = Members::walk(cursor, path, refusal, |key, _, cursor, refusal| {
            let key: MessageKey = match key {
                Some(key) => key,
                None => return Ok(()),
            };
            let path = path.member(key.text());
            match (key, cursor.kind()?) {
                (_, Kind::Null) => {}
                (MessageKey::Content, _) => {
                    let read = |cursor: &mut Cursor<'a>, refusal: &mut Refusal| {
                        content::read(cursor, path, refusal)
                    };
                    content = Some(refusal.attempt(cursor, read)?);
                }
                (MessageKey::ToolCalls, Kind::Array) => {
                    let list = &mut self.calls;
                    let read = |cursor: &mut Cursor<'a>, refusal: &mut Refusal| {
                        read_calls(cursor, path, refusal, list)
                    };
                    calls = Some(refusal.attempt(cursor, read)?);
                }
                (MessageKey::ReasoningDetails, Kind::Array) => {
                    let read = |cursor: &mut Cursor<'a>, refusal: &mut Refusal| {
                        read_details(cursor, path, refusal)
                    };
                    details = Some(refusal.attempt(cursor, read)?);
                }
                _ => {}
            }
            Ok(())
        })?;
        let message = Message { members, content, calls, details };
        self.add(message).map_err(|failure| refusal.keep(failure, cursor))
    }

    fn add(&mut self, message: Message<'_, 'a>) -> Result<(), Failure> {
        match message.members.needed(MessageKey::Role)?.raw() {
            "system" => self.words(Role::System, message),
            "developer" => self.words(Role::Developer, message),
            "user" => self.words(Role::User, message),
            "assistant" => self.assistant(message),
            "tool" => self.output(message),
            "function" => self.function_output(message),
            _ => Err(refused(
                message.members.path(MessageKey::Role),
                "roles are system, developer, user, assistant, tool and function",
            )),
        }
    }

    fn drop(&mut self, name: &'static str) {
        if !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
    }

    fn words(&mut self, role: Role, mut message: Message<'_, 'a>) -> Result<(), Failure> {
        if message.members.value(MessageKey::Name).is_some() {
            self.drop("messages.name");
        }
        let content = message.content()?;
        let content = content.ok_or_else(|| missing(message.members.path(MessageKey::Content)))?;
        self.items.push(Item::Message { role, content });
        Ok(())
    }

    fn assistant(&mut self, mut message: Message<'_, 'a>) -> Result<(), Failure> {
        if message.members.value(MessageKey::Audio).is_some() {
            self.drop("messages.audio");
        }
        message.members.array(MessageKey::ReasoningDetails)?;
        let details = message.details.take().transpose()?.unwrap_or_default();
        self.reasoning(&message.members, details);
        let content = message.content()?.unwrap_or_default();
        let refusal = message.members.string(MessageKey::Refusal)?.map(Content::Refusal);
        let said = |part: &Content<'a>| !matches!(part, Content::Text(text) | Content::Refusal(text) if text.is_empty());
        let content: Contents<'a> = content.iter().copied().chain(refusal).filter(said).collect();
        if !content.is_empty() {
            self.items.push(Item::Message { role: Role::Assistant, content });
        }
        message.members.array(MessageKey::ToolCalls)?;
        message.calls.take().transpose()?;
        for call in self.calls.drain(..) {
            if let Item::Call { kind, id: Cow::Borrowed(id), .. } = &call {
                match kind {
                    CallKind::Function if self.kinds.is_empty() => {}
                    CallKind::Function => drop(self.kinds.remove(id)),
                    _ => drop(self.kinds.insert(id, *kind)),
                }
            }
            self.items.push(call);
        }
        match message.members.object(MessageKey::FunctionCall)? {
            Some(call) => self.legacy_call(call, message.members.path(MessageKey::FunctionCall)),
            None => Ok(()),
        }
    }

    /// Reasoning that the client gives back: opaque state as it was given, and the text.
    fn reasoning(&mut self, message: &Members<'_, 'a, MessageKey>, details: Details<'a>) {
        let text = |key| message.value(key).and_then(Raw::string);
        let text = text(MessageKey::ReasoningContent).or_else(|| text(MessageKey::Reasoning));
        let mut text: Vec<Escaped<'a>> = text.into_iter().filter(|t| !t.is_empty()).collect();
        let Details { mut summary, sealed } = details;
        if sealed.is_empty() {
            if !text.is_empty() || !summary.is_empty() {
                self.items.push(Item::Reasoning { id: None, summary, text, sealed: None });
            }
            return;
        }
        // A client that keeps it wants the next one too.
        self.sealed = true;
        for (id, data) in sealed {
            self.items.push(Item::Reasoning {
                id: id.and_then(Raw::string),
                summary: std::mem::take(&mut summary),
                text: std::mem::take(&mut text),
                sealed: Some(data),
            });
        }
    }

    fn legacy_call(&mut self, object: Raw<'a>, path: Path<'_>) -> Result<(), Failure> {
        let called = Members::of(object, path)?;
        let name = called.needed(CalledKey::Name)?;
        // The position in the conversation makes the same id on every turn.
        let id = format!("call_function_{}", self.count);
        self.legacy.insert(name.raw(), id.clone());
        self.items.push(Item::Call {
            kind: CallKind::Function,
            id: Cow::Owned(id),
            tool: ToolName { namespace: Escaped::EMPTY, name },
            text: arguments(&called, CalledKey::Arguments)?,
        });
        Ok(())
    }

    fn output(&mut self, mut message: Message<'_, 'a>) -> Result<(), Failure> {
        let id = message.members.needed(MessageKey::ToolCallId)?.raw();
        let kind = if self.kinds.is_empty() { None } else { self.kinds.get(id).copied() };
        let kind = kind.unwrap_or(CallKind::Function);
        let content = message.content()?.unwrap_or_default();
        self.items.push(Item::Output { kind, id: Cow::Borrowed(id), content });
        Ok(())
    }

    fn function_output(&mut self, mut message: Message<'_, 'a>) -> Result<(), Failure> {
        let name = message.members.needed(MessageKey::Name)?;
        let id = match self.legacy.remove(name.raw()) {
            Some(id) => Cow::Owned(id),
            None => Cow::Borrowed(name.raw()),
        };
        let content = message.content()?.unwrap_or_default();
        self.items.push(Item::Output { kind: CallKind::Function, id, content });
        Ok(())
    }
}

fn read_calls<'a>(
    cursor: &mut Cursor<'a>,
    path: Path<'_>,
    refusal: &mut Refusal,
    calls: &mut Vec<Item<'a>>,
) -> Result<(), Bad> {
    let mut index = 0;
    cursor.array(|cursor| {
        let path = path.element(index);
        index += 1;
        calls.push(call(cursor, path, refusal)?);
        Ok(())
    })
}

fn call<'a>(
    cursor: &mut Cursor<'a>,
    path: Path<'_>,
    refusal: &mut Refusal,
) -> Result<Item<'a>, Bad> {
    let (function_path, custom_path) = (path.member("function"), path.member("custom"));
    let (mut function, mut custom) = (None, None);
    let call = Members::walk(cursor, path, refusal, |key, _, cursor, refusal| {
        let (slot, path) = match key {
            Some(CallKey::Function) => (&mut function, function_path),
            Some(CallKey::Custom) => (&mut custom, custom_path),
            _ => return Ok(()),
        };
        if cursor.kind()? == Kind::Object {
            let read = |cursor: &mut Cursor<'a>, refusal: &mut Refusal| {
                Members::read(cursor, path, refusal)
            };
            *slot = Some(refusal.attempt(cursor, read)?);
        }
        Ok(())
    })?;
    item(&call, function, custom).map_err(|failure| refusal.keep(failure, cursor))
}

fn item<'a>(
    call: &Members<'_, 'a, CallKey>,
    function: Option<Result<Members<'_, 'a, CalledKey>, Failure>>,
    custom: Option<Result<Members<'_, 'a, CalledKey>, Failure>>,
) -> Result<Item<'a>, Failure> {
    let id = call.string(CallKey::Id)?.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| missing(call.path(CallKey::Id)))?.raw();
    let is_custom = call.string(CallKey::Type)?.is_some_and(|kind| kind.is("custom"));
    let (kind, key, called, text) = if is_custom {
        (CallKind::Custom, CallKey::Custom, custom, CalledKey::Input)
    } else {
        (CallKind::Function, CallKey::Function, function, CalledKey::Arguments)
    };
    call.object(key)?;
    let called = called.transpose()?.ok_or_else(|| missing(call.path(key)))?;
    let name = called.string(CalledKey::Name)?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing(called.path(CalledKey::Name)))?;
    let text = arguments(&called, text)?;
    let tool = ToolName { namespace: Escaped::EMPTY, name };
    Ok(Item::Call { kind, id: Cow::Borrowed(id), tool, text })
}

fn read_details<'a>(
    cursor: &mut Cursor<'a>,
    path: Path<'_>,
    refusal: &mut Refusal,
) -> Result<Details<'a>, Bad> {
    let mut details = Details::default();
    let mut index = 0;
    cursor.array(|cursor| {
        let path = path.element(index);
        index += 1;
        if cursor.kind()? != Kind::Object {
            return Ok(());
        }
        let detail = Members::read(cursor, path, refusal)?;
        details.add(&detail).map_err(|failure| refusal.keep(failure, cursor))
    })?;
    Ok(details)
}

impl<'a> Details<'a> {
    fn add(&mut self, detail: &Members<'_, 'a, DetailKey>) -> Result<(), Failure> {
        match detail.string(DetailKey::Type)?.map_or("", Escaped::raw) {
            "reasoning.encrypted" => {
                let data = detail.string(DetailKey::Data)?;
                self.sealed.extend(data.map(|data| (detail.value(DetailKey::Id), data)));
            }
            "reasoning.summary" => self.summary.extend(detail.string(DetailKey::Summary)?),
            _ => {}
        }
        Ok(())
    }
}

/// Arguments are a JSON object as text; some clients send the object itself.
fn arguments<'a>(
    called: &Members<'_, 'a, CalledKey>,
    key: CalledKey,
) -> Result<Cow<'a, str>, Failure> {
    let Some(value) = called.value(key) else { return Ok(Cow::Borrowed("")) };
    match (value.string(), value.kind()) {
        (Some(text), _) => Ok(Cow::Borrowed(text.raw())),
        (None, Kind::Object) => {
            let mut text = Vec::with_capacity(value.text().len() + 16);
            json::escape(value.text(), &mut text);
            Ok(Cow::Owned(String::from_utf8_lossy(&text).into_owned()))
        }
        (None, _) => Err(wrong(called.path(key), "a string")),
    }
}
