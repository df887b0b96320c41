//! Conversation items as an upstream's `input`.

use crate::dialect::event::CallKind;
use crate::dialect::quirks::{ReasoningBack, SystemRole};
use crate::dialect::request::{Content, Item, Request, Role};
use crate::dialect::{Sent, Target};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Raw};
use std::borrow::Cow;
use std::collections::HashMap;

/// Longest `call_id` that the API takes.
const CALL_ID_BYTES_MAX: usize = 64;
/// Of a tool's output that is told as text, so much is kept.
const ORPHAN_CHARS_MAX: usize = 16_000;

/// How the envelopes of opaque state begin that this proxy makes for other dialects: base64url of
/// `{"v":1,"p"`.
const OWN_ENVELOPE: &str = "eyJ2IjoxLCJwI";

/// Appends the array; the first `skip` items stand elsewhere.
pub(super) fn write(
    request: &Request<'_>,
    skip: usize,
    target: &Target<'_>,
    sent: &mut Sent,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut writer = Writer { target, sent, kinds: HashMap::new(), out };
    writer.out.push(b'[');
    for (index, item) in request.items.iter().enumerate().skip(skip) {
        writer.item(index, item)?;
    }
    writer.out.push(b']');
    Ok(())
}

struct Writer<'w, 'a> {
    target: &'w Target<'w>,
    sent: &'w mut Sent,
    /// What each call was, for its output.
    kinds: HashMap<&'a str, CallKind>,
    out: &'w mut Vec<u8>,
}

impl<'a> Writer<'_, 'a> {
    fn item(&mut self, index: usize, item: &'a Item<'a>) -> Result<(), Failure> {
        match item {
            Item::Message { role, content } => self.message(index, *role, content)?,
            Item::Reasoning { id, summary, text, sealed } => {
                self.reasoning(*id, summary, text, *sealed);
            }
            Item::Call { kind, id, tool, text } => {
                self.kinds.insert(id, *kind);
                let custom = *kind == CallKind::Custom;
                let (word, member) = if custom {
                    ("custom_tool_call", "input")
                } else {
                    ("function_call", "arguments")
                };
                self.begin(word);
                json::member_quoted("call_id", call_id(id).as_escaped(), self.out);
                let name = self.sent.tools.add(*kind, false, *tool);
                json::member("name", name, self.out);
                let text = if text.is_empty() && !custom { "{}" } else { text };
                json::member_quoted(member, Escaped::trusted(text), self.out);
                self.out.push(b'}');
            }
            Item::Output { id, content, .. }
                if self.target.quirks.plain_input && !self.kinds.contains_key(id.as_ref()) =>
            {
                self.orphan(index, id, content);
            }
            Item::Output { kind, id, content } => {
                let kind = self.kinds.get(id.as_ref()).unwrap_or(kind);
                let custom = *kind == CallKind::Custom;
                self.begin(if custom { "custom_tool_call_output" } else { "function_call_output" });
                json::member_quoted("call_id", call_id(id).as_escaped(), self.out);
                json::key("output", self.out);
                self.output(index, content)?;
                self.out.push(b'}');
            }
            Item::Summary { text } => {
                let intro = Escaped::trusted("The conversation so far, in summary:\\n\\n");
                let content = [Content::Text(intro), Content::Text(Escaped::trusted(text))];
                self.message(index, Role::Developer, &content)?;
            }
            Item::Opaque { item, .. } => {
                json::comma(self.out);
                if self.target.quirks.plain_input {
                    without_id(*item, self.out);
                } else {
                    self.out.extend_from_slice(item.text().as_bytes());
                }
            }
        }
        Ok(())
    }

    /// A tool's output whose call the client has cut off the conversation: told as text, because
    /// the upstream refuses it in its own form.
    fn orphan(&mut self, index: usize, id: &str, content: &[Content<'_>]) {
        let mut text = format!(
            "[Result of an earlier tool call that is no longer shown; call_id={}]\n",
            call_id(id).as_escaped().decode()
        );
        let mut room = ORPHAN_CHARS_MAX;
        for (part_index, part) in content.iter().enumerate() {
            let Content::Text(more) = part else {
                self.drop_part(|| format!("input[{index}].output[{part_index}]"));
                continue;
            };
            let more = more.decode();
            text.extend(more.chars().take(room));
            let chars = more.chars().count();
            if chars > room {
                text.push_str("\n[cut]");
            }
            room = room.saturating_sub(chars);
        }
        self.begin("message");
        json::member("role", "assistant", self.out);
        json::key("content", self.out);
        self.out.push(b'[');
        self.begin("output_text");
        json::member("text", &text, self.out);
        self.out.extend_from_slice(b"}]}");
    }

    fn drop_part(&mut self, place: impl FnOnce() -> String) {
        if self.sent.dropped.len() < 32 {
            self.sent.dropped.push(place());
        }
    }

    /// Opens an item.
    fn begin(&mut self, kind: &str) {
        json::comma(self.out);
        self.out.push(b'{');
        json::member("type", kind, self.out);
    }

    fn message(
        &mut self,
        index: usize,
        role: Role,
        content: &[Content<'_>],
    ) -> Result<(), Failure> {
        let empty = |part: &Content<'_>| matches!(part, Content::Text(text) | Content::Refusal(text) if text.is_empty());
        if content.iter().all(empty) {
            return Ok(());
        }
        let name = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System | Role::Developer => match self.target.quirks.system_role {
                SystemRole::System => "system",
                SystemRole::Developer => "developer",
            },
        };
        let start = self.out.len();
        self.begin("message");
        json::member("role", name, self.out);
        json::key("content", self.out);
        self.out.push(b'[');
        for (part_index, part) in content.iter().enumerate().filter(|(_, part)| !empty(part)) {
            match part {
                Content::Text(text) if role == Role::Assistant => {
                    self.begin("output_text");
                    json::member_quoted("text", *text, self.out);
                    self.out.push(b'}');
                }
                _ => self.part(part, || format!("input[{index}].content[{part_index}]"))?,
            }
        }
        if self.out.ends_with(b"[") {
            // All of it was dropped, and the API takes no message without content.
            self.out.truncate(start);
            return Ok(());
        }
        self.out.extend_from_slice(b"]}");
        Ok(())
    }

    /// A tool's output: a string where it is nothing but text.
    fn output(&mut self, index: usize, content: &[Content<'_>]) -> Result<(), Failure> {
        if content.iter().all(|part| matches!(part, Content::Text(_))) {
            self.out.push(b'"');
            for part in content {
                if let Content::Text(text) = part {
                    self.out.extend_from_slice(text.raw().as_bytes());
                }
            }
            self.out.push(b'"');
            return Ok(());
        }
        let start = self.out.len();
        self.out.push(b'[');
        for (part_index, part) in content.iter().enumerate() {
            self.part(part, || format!("input[{index}].output[{part_index}]"))?;
        }
        if self.out.ends_with(b"[") {
            self.out.truncate(start);
            self.out.extend_from_slice(b"\"\"");
        } else {
            self.out.push(b']');
        }
        Ok(())
    }

    fn part(&mut self, part: &Content<'_>, place: impl FnOnce() -> String) -> Result<(), Failure> {
        match part {
            Content::Text(text) => {
                self.begin("input_text");
                json::member_quoted("text", *text, self.out);
            }
            Content::Refusal(text) => {
                self.begin("refusal");
                json::member_quoted("refusal", *text, self.out);
            }
            Content::Image { .. } | Content::ImageFile { .. } if !self.target.quirks.images => {
                let place = place();
                let message = format!("'{place}': this model takes no images; send text.");
                return Err(Failure::unsupported(place, message).with_code("unsupported_value"));
            }
            Content::Image { url, detail } => self.image("image_url", *url, *detail),
            Content::ImageFile { id, detail } => self.image("file_id", *id, *detail),
            Content::File { data, id, url, name } => {
                self.begin("input_file");
                let members =
                    [("file_data", data), ("file_id", id), ("file_url", url), ("filename", name)];
                for (member, value) in members {
                    if let Some(value) = value {
                        json::member_quoted(member, *value, self.out);
                    }
                }
            }
            Content::Audio { data, format } => {
                self.begin("input_audio");
                json::key("input_audio", self.out);
                self.out.push(b'{');
                json::member_quoted("data", *data, self.out);
                json::member_quoted("format", *format, self.out);
                self.out.push(b'}');
            }
            Content::Opaque(_) => {
                self.drop_part(place);
                return Ok(());
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn image(&mut self, member: &str, value: Escaped<'_>, detail: Option<Escaped<'_>>) {
        self.begin("input_image");
        json::member_quoted(member, value, self.out);
        json::member_quoted("detail", detail.unwrap_or(Escaped::trusted("auto")), self.out);
    }

    /// Earlier reasoning goes back only in a form that the upstream can use: sealed by itself, or
    /// as raw text where its habit is to want it. An id alone would name an item that it did not
    /// keep.
    fn reasoning(
        &mut self,
        id: Option<Escaped<'_>>,
        summary: &[Escaped<'_>],
        text: &[Escaped<'_>],
        sealed: Option<Escaped<'_>>,
    ) {
        let sealed = sealed.filter(|sealed| !sealed.raw().starts_with(OWN_ENVELOPE));
        let raw = self.target.quirks.reasoning_back != ReasoningBack::Never;
        let text = if raw && sealed.is_none() { text } else { &[] };
        if sealed.is_none() && text.is_empty() {
            return;
        }
        self.begin("reasoning");
        let ids = sealed.is_some() && !self.target.quirks.plain_input;
        if let Some(id) = id.filter(|id| id.raw().starts_with("rs_") && ids) {
            json::member_quoted("id", id, self.out);
        }
        self.texts("summary", "summary_text", summary);
        if !text.is_empty() {
            self.texts("content", "reasoning_text", text);
        }
        if let Some(sealed) = sealed {
            json::member_quoted("encrypted_content", sealed, self.out);
        }
        self.out.push(b'}');
    }

    fn texts(&mut self, member: &str, kind: &str, texts: &[Escaped<'_>]) {
        json::key(member, self.out);
        self.out.push(b'[');
        for text in texts {
            self.begin(kind);
            json::member_quoted("text", *text, self.out);
            self.out.push(b'}');
        }
        self.out.push(b']');
    }
}

/// Appends an item as it came, but for its own id.
fn without_id(item: Raw<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    // Items are objects that were read before.
    let _ = item.cursor().object(|key, cursor| {
        let value = cursor.skip()?;
        if key != "id" {
            json::member_raw(key, value.text(), out);
        }
        Ok(())
    });
    out.push(b'}');
}

/// A call's id as the API takes it: a longer one is named by its hash, the same for call and output
/// and on every turn.
fn call_id(id: &str) -> CallId<'_> {
    if id.len() <= CALL_ID_BYTES_MAX {
        return CallId(Cow::Borrowed(id));
    }
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    CallId(Cow::Owned(format!("call_{hash:016x}")))
}

struct CallId<'a>(Cow<'a, str>);

impl CallId<'_> {
    fn as_escaped(&self) -> Escaped<'_> {
        Escaped::trusted(&self.0)
    }
}
