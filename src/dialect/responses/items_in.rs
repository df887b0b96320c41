//! The items of `input` as conversation items.

use super::compact;
use super::request_in::{Place, Reader, Seen};
use super::tools_in::plain_namespace;
use crate::dialect::event::CallKind;
use crate::dialect::request::{Content, Item, Role, ToolName};
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw, Why};
use std::borrow::Cow;

/// The members of an item whose value decides something.
const KEYS: &[&str] = &[
    "type",
    "id",
    "role",
    "content",
    "summary",
    "encrypted_content",
    "call_id",
    "name",
    "namespace",
    "arguments",
    "input",
    "output",
    "tools",
    "execution",
    "author",
    "reasoning",
    "text",
];

/// The members of a content part whose value decides something.
const PART_KEYS: &[&str] = &[
    "type",
    "text",
    "refusal",
    "image_url",
    "detail",
    "file_id",
    "file_data",
    "file_url",
    "filename",
    "input_audio",
    "audio_url",
];

/// One item's members, before its type is known to the reader.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Escaped<'a>>,
    id: Option<Escaped<'a>>,
    role: Option<Escaped<'a>>,
    content: Vec<Content<'a>>,
    summary: Vec<Content<'a>>,
    output: Vec<Content<'a>>,
    sealed: Option<Escaped<'a>>,
    call_id: Option<Escaped<'a>>,
    name: Option<Escaped<'a>>,
    namespace: Option<Escaped<'a>>,
    arguments: Option<Cow<'a, str>>,
    input: Option<Escaped<'a>>,
    tools: Option<Raw<'a>>,
    execution: Option<Escaped<'a>>,
    author: Option<Escaped<'a>>,
    reasoning: Option<Raw<'a>>,
    text: Option<Raw<'a>>,
    /// The first member with a value of another type than the known items have: an error only if
    /// the item turns out to be a known one.
    odd: Option<Place<'a>>,
}

/// One content part's members.
#[derive(Default)]
struct PartFields<'a> {
    kind: Option<Escaped<'a>>,
    text: Option<Escaped<'a>>,
    refusal: Option<Escaped<'a>>,
    url: Option<Escaped<'a>>,
    detail: Option<Escaped<'a>>,
    file_id: Option<Escaped<'a>>,
    file_data: Option<Escaped<'a>>,
    file_url: Option<Escaped<'a>>,
    filename: Option<Escaped<'a>>,
    audio: Option<(Escaped<'a>, Escaped<'a>)>,
}

impl<'a> Reader<'a> {
    /// Reads `input`.
    pub(super) fn input(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        if cursor.kind()? == Kind::String {
            let content = vec![Content::Text(cursor.string()?)];
            self.request.items.push(Item::Message { role: Role::User, content });
            return Ok(());
        }
        let mut index = 0;
        cursor.array(|cursor| {
            self.place = Place { top: "input", index: Some(index), ..Place::default() };
            index += 1;
            let start = cursor.position();
            let fields = self.fields(cursor)?;
            let raw = Raw::trusted(&self.body[start..cursor.position()]);
            self.place = Place { field: "", part: None, leaf: "", ..self.place };
            self.item(fields, raw, cursor)
        })
    }

    fn fields(&mut self, cursor: &mut Cursor<'a>) -> Result<Fields<'a>, Bad> {
        let mut fields = Fields::default();
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            self.place = Place { field: key, part: None, leaf: "", ..self.place };
            seen.mark(KEYS, key, cursor)?;
            if cursor.null()? {
                return Ok(());
            }
            match key {
                "content" => self.content(&mut fields.content, &mut fields.odd, cursor)?,
                "summary" => self.content(&mut fields.summary, &mut fields.odd, cursor)?,
                "output" => self.content(&mut fields.output, &mut fields.odd, cursor)?,
                "arguments" => fields.arguments = Some(arguments(cursor)?),
                "tools" => fields.tools = Some(cursor.skip()?),
                "reasoning" => fields.reasoning = Some(cursor.skip()?),
                "text" => fields.text = Some(cursor.skip()?),
                _ => {
                    let Some(slot) = fields.string(key) else { return Ok(()) };
                    if cursor.kind()? == Kind::String {
                        *slot = Some(cursor.string()?);
                    } else {
                        fields.odd.get_or_insert(self.place);
                    }
                }
            }
            Ok(())
        })?;
        Ok(fields)
    }

    fn item(&mut self, fields: Fields<'a>, raw: Raw<'a>, cursor: &Cursor<'a>) -> Result<(), Bad> {
        let Some(kind) = fields.kind.or(fields.role.map(|_| Escaped::trusted("message"))) else {
            // An object with nothing but an id is an item reference too.
            if fields.id.is_some() {
                return Err(self.refuse_reference(cursor));
            }
            return Err(self.refuse_missing(cursor, "type"));
        };
        if kind.is("item_reference") {
            return Err(self.refuse_reference(cursor));
        }
        match kind.raw() {
            "message"
            | "agent_message"
            | "reasoning"
            | "function_call"
            | "custom_tool_call"
            | "function_call_output"
            | "custom_tool_call_output" => {
                if let Some(place) = fields.odd {
                    self.place = place;
                    return Err(cursor.bad(Why::Type));
                }
                self.known_item(kind.raw(), fields, cursor)
            }
            "tool_search_call" if fields.is_client_run() => self.call(
                CallKind::Search,
                Fields { name: Some(Escaped::trusted("tool_search")), ..fields },
                cursor,
            ),
            "tool_search_output" => self.search_output(fields),
            "additional_tools" => self.more_tools(fields.tools),
            "configuration_update" => {
                if let Some(reasoning) = fields.reasoning {
                    self.reasoning(&mut reasoning.cursor())?;
                }
                fields.text.map_or(Ok(()), |text| self.text(&mut text.cursor()))
            }
            "compaction" | "compaction_summary" | "context_compaction" => {
                let text = fields.sealed.and_then(compact::open);
                self.request.items.push(match text {
                    Some(text) => Item::Summary { text: Cow::Owned(text) },
                    None => Item::Opaque { kind, item: raw },
                });
                Ok(())
            }
            "compaction_trigger" => {
                let content = vec![Content::Text(Escaped::trusted(compact::REQUEST))];
                self.request.items.push(Item::Message { role: Role::User, content });
                self.request.compact = true;
                Ok(())
            }
            _ => {
                self.request.items.push(Item::Opaque { kind, item: raw });
                Ok(())
            }
        }
    }

    fn known_item(
        &mut self,
        kind: &str,
        fields: Fields<'a>,
        cursor: &Cursor<'a>,
    ) -> Result<(), Bad> {
        match kind {
            "message" => {
                let Some(role) = fields.role else {
                    return Err(self.refuse_missing(cursor, "role"));
                };
                let role = match role.raw() {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" => Role::System,
                    "developer" => Role::Developer,
                    _ => {
                        self.place.field = "role";
                        let why = "a role is 'user', 'assistant', 'system' or 'developer'.";
                        return Err(self.refuse_value(cursor, why));
                    }
                };
                self.request.items.push(Item::Message { role, content: fields.content });
            }
            "agent_message" => {
                let mut content = Vec::with_capacity(fields.content.len() + 3);
                if let Some(author) = fields.author.filter(|author| !author.is_empty()) {
                    let word = |text| Content::Text(Escaped::trusted(text));
                    content.extend([word("Message from the agent "), Content::Text(author)]);
                    content.push(word(":\\n"));
                }
                content.extend(fields.content);
                self.request.items.push(Item::Message { role: Role::User, content });
            }
            "reasoning" => self.request.items.push(Item::Reasoning {
                id: fields.id,
                summary: texts(&fields.summary),
                text: texts(&fields.content),
                sealed: fields.sealed,
            }),
            "function_call" => return self.call(CallKind::Function, fields, cursor),
            "custom_tool_call" => return self.call(CallKind::Custom, fields, cursor),
            "function_call_output" => self.output(CallKind::Function, fields),
            _ => self.output(CallKind::Custom, fields),
        }
        Ok(())
    }

    fn call(&mut self, kind: CallKind, fields: Fields<'a>, cursor: &Cursor<'a>) -> Result<(), Bad> {
        let Some(id) = fields.call_id.filter(|id| !id.is_empty()) else {
            return Err(self.refuse_missing(cursor, "call_id"));
        };
        let Some(name) = fields.name.filter(|name| !name.is_empty()) else {
            return Err(self.refuse_missing(cursor, "name"));
        };
        let text = match kind {
            CallKind::Custom => fields.input.map(|input| Cow::Borrowed(input.raw())),
            _ => fields.arguments,
        };
        let namespace = plain_namespace(fields.namespace.unwrap_or_default());
        self.request.items.push(Item::Call {
            kind,
            id: Cow::Borrowed(id.raw()),
            tool: ToolName { namespace, name },
            text: text.unwrap_or_default(),
        });
        Ok(())
    }

    fn output(&mut self, kind: CallKind, fields: Fields<'a>) {
        let id = Cow::Borrowed(fields.call_id.unwrap_or_default().raw());
        self.request.items.push(Item::Output { kind, id, content: fields.output });
    }

    /// Declares the tools that a search found, and tells the model which they are.
    fn search_output(&mut self, fields: Fields<'a>) -> Result<(), Bad> {
        let before = self.request.tools.len();
        self.more_tools(fields.tools)?;
        if !fields.is_client_run() {
            return Ok(());
        }
        let word = |text| Content::Text(Escaped::trusted(text));
        let mut content = Vec::new();
        for tool in self.request.tools.iter().skip(before) {
            content.push(word(if content.is_empty() {
                "These tools are declared now and can be called: "
            } else {
                ", "
            }));
            if !tool.name.namespace.is_empty() {
                content.extend([Content::Text(tool.name.namespace), word("__")]);
            }
            content.push(Content::Text(tool.name.name));
        }
        if content.is_empty() {
            content.push(word("No further tools were found; the declared ones can be called."));
        }
        self.output(CallKind::Search, Fields { output: content, ..fields });
        Ok(())
    }

    fn more_tools(&mut self, tools: Option<Raw<'a>>) -> Result<(), Bad> {
        self.place.field = "tools";
        tools.map_or(Ok(()), |list| self.tools(list))
    }

    fn refuse_reference(&mut self, cursor: &Cursor<'_>) -> Bad {
        self.place.field = "id";
        self.refuse_value(
            cursor,
            "item references cannot be resolved, because items are not kept here; \
             send the item itself.",
        )
    }

    /// Reads content: a string, or an array of parts.
    fn content(
        &mut self,
        list: &mut Vec<Content<'a>>,
        odd: &mut Option<Place<'a>>,
        cursor: &mut Cursor<'a>,
    ) -> Result<(), Bad> {
        match cursor.kind()? {
            Kind::String => list.push(Content::Text(cursor.string()?)),
            Kind::Array => {
                let mut index = 0;
                cursor.array(|cursor| {
                    self.place.part = Some(index);
                    index += 1;
                    match cursor.kind()? {
                        Kind::String => list.push(Content::Text(cursor.string()?)),
                        Kind::Object => list.push(self.part(cursor)?),
                        _ => {
                            odd.get_or_insert(self.place);
                        }
                    }
                    Ok(())
                })?;
            }
            _ => {
                odd.get_or_insert(self.place);
            }
        }
        Ok(())
    }

    fn part(&mut self, cursor: &mut Cursor<'a>) -> Result<Content<'a>, Bad> {
        let start = cursor.position();
        let mut part = PartFields::default();
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            self.place.leaf = key;
            seen.mark(PART_KEYS, key, cursor)?;
            match (key, cursor.kind()?) {
                ("image_url", Kind::Object) => {
                    let (url, detail) = image_object(cursor)?;
                    part.url = url;
                    part.detail = part.detail.or(detail);
                }
                ("input_audio", Kind::Object) => part.audio = audio_object(cursor)?,
                ("audio_url", Kind::String) => part.audio = data_url(cursor.string()?),
                (key, Kind::String) => {
                    if let Some(slot) = part.string(key) {
                        *slot = Some(cursor.string()?);
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        self.place.leaf = "type";
        let kind = part.kind.unwrap_or_default();
        if kind.is("input_video") {
            return Err(self.refuse_value(cursor, "video cannot be passed on to the model."));
        }
        let raw = Raw::trusted(&self.body[start..cursor.position()]);
        self.place.leaf = "";
        Ok(part.content(kind).unwrap_or(Content::Opaque(raw)))
    }
}

impl<'a> Fields<'a> {
    fn string(&mut self, key: &str) -> Option<&mut Option<Escaped<'a>>> {
        Some(match key {
            "type" => &mut self.kind,
            "id" => &mut self.id,
            "role" => &mut self.role,
            "encrypted_content" => &mut self.sealed,
            "call_id" => &mut self.call_id,
            "name" => &mut self.name,
            "namespace" => &mut self.namespace,
            "input" => &mut self.input,
            "execution" => &mut self.execution,
            "author" => &mut self.author,
            _ => return None,
        })
    }

    /// A tool search that the client runs itself; the other kind runs at the upstream and leaves
    /// nothing for the model to read.
    fn is_client_run(&self) -> bool {
        !self.execution.is_some_and(|who| who.is("server")) && self.call_id.is_some()
    }
}

impl<'a> PartFields<'a> {
    fn string(&mut self, key: &str) -> Option<&mut Option<Escaped<'a>>> {
        Some(match key {
            "type" => &mut self.kind,
            "text" => &mut self.text,
            "refusal" => &mut self.refusal,
            "image_url" => &mut self.url,
            "detail" => &mut self.detail,
            "file_id" => &mut self.file_id,
            "file_data" => &mut self.file_data,
            "file_url" => &mut self.file_url,
            "filename" => &mut self.filename,
            _ => return None,
        })
    }

    /// What the part is; `None` when it is nothing known, or lacks what makes it something.
    fn content(&self, kind: Escaped<'_>) -> Option<Content<'a>> {
        match kind.raw() {
            "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
                self.text.map(Content::Text)
            }
            "refusal" => self.refusal.map(Content::Refusal),
            "input_image" | "image_url" => match (self.url, self.file_id) {
                (Some(url), _) => Some(Content::Image { url, detail: self.detail }),
                (None, Some(id)) => Some(Content::ImageFile { id, detail: self.detail }),
                (None, None) => None,
            },
            "input_file" => Some(Content::File {
                data: self.file_data,
                id: self.file_id,
                url: self.file_url,
                name: self.filename,
            }),
            "input_audio" => self.audio.map(|(data, format)| Content::Audio { data, format }),
            _ => None,
        }
    }
}

/// Reads `arguments`: the text of an object, or (as `tool_search_call` has it, and as some
/// clients send it) the object itself.
fn arguments<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, Bad> {
    if cursor.kind()? == Kind::String {
        return Ok(Cow::Borrowed(cursor.string()?.raw()));
    }
    let raw = cursor.skip()?;
    let mut text = Vec::with_capacity(raw.text().len() + 16);
    json::escape(raw.text(), &mut text);
    String::from_utf8(text).map(Cow::Owned).map_err(|_| cursor.bad(Why::Utf8))
}

fn image_object<'a>(
    cursor: &mut Cursor<'a>,
) -> Result<(Option<Escaped<'a>>, Option<Escaped<'a>>), Bad> {
    let (mut url, mut detail) = (None, None);
    cursor.object(|key, cursor| {
        match key {
            "url" => url = cursor.string_or_null()?,
            "detail" => detail = cursor.string_or_null()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((url, detail))
}

fn audio_object<'a>(cursor: &mut Cursor<'a>) -> Result<Option<(Escaped<'a>, Escaped<'a>)>, Bad> {
    let (mut data, mut format) = (None, None);
    cursor.object(|key, cursor| {
        match key {
            "data" => data = cursor.string_or_null()?,
            "format" => format = cursor.string_or_null()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(data.zip(format))
}

/// Takes `data:audio/FORMAT[;...];base64,DATA` apart. The slash may be escaped.
fn data_url(url: Escaped<'_>) -> Option<(Escaped<'_>, Escaped<'_>)> {
    let (head, data) = url.raw().strip_prefix("data:")?.split_once(";base64,")?;
    let kind = head.split(';').next().unwrap_or_default();
    let (_, format) = kind.rsplit_once('/')?;
    let format = match format {
        "x-wav" | "wave" => "wav",
        "mpeg" => "mp3",
        other => other,
    };
    Some((Escaped::trusted(data), Escaped::trusted(format)))
}

fn texts<'a>(content: &[Content<'a>]) -> Vec<Escaped<'a>> {
    let text = |part: &Content<'a>| match part {
        Content::Text(text) => Some(*text),
        _ => None,
    };
    content.iter().filter_map(text).collect()
}
