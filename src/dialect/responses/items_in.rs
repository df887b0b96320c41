//! The items of `input` as conversation items.

use super::compact;
use super::request_in::{Place, Reader};
use super::tools_in::plain_namespace;
use crate::dialect::event::CallKind;
use crate::dialect::keys::{Key as _, Seen, keys};
use crate::dialect::request::{Content, Contents, Item, Role, ToolName};
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw, Why};
use std::borrow::Cow;

keys!(
    /// The members of an item whose value decides something.
    ItemKey {
        Type = "type",
        Id = "id",
        Role = "role",
        Content = "content",
        Summary = "summary",
        Sealed = "encrypted_content",
        CallId = "call_id",
        Name = "name",
        Namespace = "namespace",
        Arguments = "arguments",
        Input = "input",
        Output = "output",
        Tools = "tools",
        Execution = "execution",
        Author = "author",
        Reasoning = "reasoning",
        Text = "text",
    }
);

keys!(
    /// The members of a content part whose value decides something.
    PartKey {
        Type = "type",
        Text = "text",
        Refusal = "refusal",
        ImageUrl = "image_url",
        Detail = "detail",
        FileId = "file_id",
        FileData = "file_data",
        FileUrl = "file_url",
        Filename = "filename",
        InputAudio = "input_audio",
        AudioUrl = "audio_url",
    }
);

/// One item's members, before its type is known to the reader.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Escaped<'a>>,
    id: Option<Escaped<'a>>,
    role: Option<Escaped<'a>>,
    content: Contents<'a>,
    summary: Contents<'a>,
    output: Contents<'a>,
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
            let content = Contents::One(Content::Text(cursor.string()?));
            self.request.items.push(Item::Message { role: Role::User, content });
            return Ok(());
        }
        let mut index = 0;
        cursor.array(|cursor| {
            self.place = Place { top: "input", index: Some(index), ..Place::default() };
            index += 1;
            let start = cursor.position();
            let mut fields = Fields::default();
            self.fields(&mut fields, cursor)?;
            self.place = Place { field: "", part: None, leaf: "", ..self.place };
            self.item(&mut fields, start, cursor)
        })
    }

    fn fields(&mut self, fields: &mut Fields<'a>, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            let Some(known) = ItemKey::of(key) else { return Ok(()) };
            self.place = Place { field: key, part: None, leaf: "", ..self.place };
            seen.mark(known, cursor)?;
            if cursor.null()? {
                return Ok(());
            }
            let slot = match known {
                ItemKey::Content => {
                    return self.content(&mut fields.content, &mut fields.odd, cursor);
                }
                ItemKey::Summary => {
                    return self.content(&mut fields.summary, &mut fields.odd, cursor);
                }
                ItemKey::Output => {
                    return self.content(&mut fields.output, &mut fields.odd, cursor);
                }
                ItemKey::Arguments => {
                    fields.arguments = Some(arguments(cursor)?);
                    return Ok(());
                }
                ItemKey::Tools => &mut fields.tools,
                ItemKey::Reasoning => &mut fields.reasoning,
                ItemKey::Text => &mut fields.text,
                _ => return self.word(known, fields, cursor),
            };
            *slot = Some(cursor.skip()?);
            Ok(())
        })
    }

    /// Reads a member that is a string in all known items.
    fn word(
        &mut self,
        key: ItemKey,
        fields: &mut Fields<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<(), Bad> {
        let slot = match key {
            ItemKey::Type => &mut fields.kind,
            ItemKey::Id => &mut fields.id,
            ItemKey::Role => &mut fields.role,
            ItemKey::Sealed => &mut fields.sealed,
            ItemKey::CallId => &mut fields.call_id,
            ItemKey::Name => &mut fields.name,
            ItemKey::Namespace => &mut fields.namespace,
            ItemKey::Input => &mut fields.input,
            ItemKey::Execution => &mut fields.execution,
            ItemKey::Author => &mut fields.author,
            _ => return Ok(()),
        };
        if cursor.kind()? == Kind::String {
            *slot = Some(cursor.string()?);
        } else {
            fields.odd.get_or_insert(self.place);
        }
        Ok(())
    }

    /// Adds the item that was read from `start` on.
    fn item(
        &mut self,
        fields: &mut Fields<'a>,
        start: usize,
        cursor: &Cursor<'a>,
    ) -> Result<(), Bad> {
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
            "tool_search_call" if fields.is_client_run() => {
                fields.name = Some(Escaped::trusted("tool_search"));
                self.call(CallKind::Search, fields, cursor)
            }
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
                    None => Item::Opaque { kind, item: cursor.since(start) },
                });
                Ok(())
            }
            "compaction_trigger" => {
                let content = Contents::One(Content::Text(Escaped::trusted(compact::REQUEST)));
                self.request.items.push(Item::Message { role: Role::User, content });
                self.request.compact = true;
                Ok(())
            }
            _ => {
                let item = cursor.since(start);
                self.request.items.push(Item::Opaque { kind, item });
                Ok(())
            }
        }
    }

    fn known_item(
        &mut self,
        kind: &str,
        fields: &mut Fields<'a>,
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
                let content = std::mem::take(&mut fields.content);
                self.request.items.push(Item::Message { role, content });
            }
            "agent_message" => {
                let author = fields.author.filter(|author| !author.is_empty());
                let word = |text| Content::Text(Escaped::trusted(text));
                let intro = author.map(|author| {
                    [word("Message from the agent "), Content::Text(author), word(":\\n")]
                });
                let content = intro.into_iter().flatten().chain(fields.content.iter().copied());
                let content = content.collect();
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

    fn call(
        &mut self,
        kind: CallKind,
        fields: &mut Fields<'a>,
        cursor: &Cursor<'a>,
    ) -> Result<(), Bad> {
        let Some(id) = fields.call_id.filter(|id| !id.is_empty()) else {
            return Err(self.refuse_missing(cursor, "call_id"));
        };
        let Some(name) = fields.name.filter(|name| !name.is_empty()) else {
            return Err(self.refuse_missing(cursor, "name"));
        };
        let text = match kind {
            CallKind::Custom => fields.input.map(|input| Cow::Borrowed(input.raw())),
            _ => fields.arguments.take(),
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

    fn output(&mut self, kind: CallKind, fields: &mut Fields<'a>) {
        let id = Cow::Borrowed(fields.call_id.unwrap_or_default().raw());
        let content = std::mem::take(&mut fields.output);
        self.request.items.push(Item::Output { kind, id, content });
    }

    /// Declares the tools that a search found, and tells the model which they are.
    fn search_output(&mut self, fields: &mut Fields<'a>) -> Result<(), Bad> {
        let before = self.request.tools.len();
        self.more_tools(fields.tools)?;
        if !fields.is_client_run() {
            return Ok(());
        }
        let word = |text| Content::Text(Escaped::trusted(text));
        let mut content = Contents::NONE;
        for tool in self.request.tools.iter().skip(before) {
            content.push(word(if content.is_empty() {
                "These tools are declared now and can be called: "
            } else {
                ", "
            }));
            if !tool.name.namespace.is_empty() {
                content.push(Content::Text(tool.name.namespace));
                content.push(word("__"));
            }
            content.push(Content::Text(tool.name.name));
        }
        if content.is_empty() {
            content.push(word("No further tools were found; the declared ones can be called."));
        }
        fields.output = content;
        self.output(CallKind::Search, fields);
        Ok(())
    }

    fn more_tools(&mut self, tools: Option<Raw<'a>>) -> Result<(), Bad> {
        self.place.field = "tools";
        tools.map_or(Ok(()), |list| self.tools(&mut list.cursor()))
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
        list: &mut Contents<'a>,
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
            let Some(known) = PartKey::of(key) else { return Ok(()) };
            self.place.leaf = key;
            seen.mark(known, cursor)?;
            part.read(known, cursor)
        })?;
        let kind = part.kind.unwrap_or_default();
        if kind.is("input_video") {
            self.place.leaf = "type";
            return Err(self.refuse_value(cursor, "video cannot be passed on to the model."));
        }
        self.place.leaf = "";
        Ok(part.content(kind).unwrap_or_else(|| Content::Opaque(cursor.since(start))))
    }
}

impl Fields<'_> {
    /// A tool search that the client runs itself; the other kind runs at the upstream and leaves
    /// nothing for the model to read.
    fn is_client_run(&self) -> bool {
        !self.execution.is_some_and(|who| who.is("server")) && self.call_id.is_some()
    }
}

impl<'a> PartFields<'a> {
    /// Reads a member; one of another type than it has in the known parts counts as absent.
    fn read(&mut self, key: PartKey, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let slot = match (key, cursor.kind()?) {
            (PartKey::ImageUrl, Kind::Object) => {
                let (url, detail) = image_object(cursor)?;
                self.url = url;
                self.detail = self.detail.or(detail);
                return Ok(());
            }
            (PartKey::InputAudio, Kind::Object) => {
                self.audio = audio_object(cursor)?;
                return Ok(());
            }
            (PartKey::AudioUrl, Kind::String) => {
                self.audio = data_url(cursor.string()?);
                return Ok(());
            }
            (PartKey::Type, Kind::String) => &mut self.kind,
            (PartKey::Text, Kind::String) => &mut self.text,
            (PartKey::Refusal, Kind::String) => &mut self.refusal,
            (PartKey::ImageUrl, Kind::String) => &mut self.url,
            (PartKey::Detail, Kind::String) => &mut self.detail,
            (PartKey::FileId, Kind::String) => &mut self.file_id,
            (PartKey::FileData, Kind::String) => &mut self.file_data,
            (PartKey::FileUrl, Kind::String) => &mut self.file_url,
            (PartKey::Filename, Kind::String) => &mut self.filename,
            _ => return Ok(()),
        };
        *slot = Some(cursor.string()?);
        Ok(())
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
