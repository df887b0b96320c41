//! Requests from one dialect into another: valid JSON, the same every time, in the order that
//! upstreams enforce, and nothing lost in silence.

use super::gigachat;
use super::readers::{self, End, Seen, strict};
use crate::dialect::event::{Event, Part, Stop};
use crate::dialect::ids::Ids;
use crate::dialect::peek::Peek;
use crate::dialect::quirks::{
    EffortStyle, Quirks, ReasoningBack, ReasoningField, SystemRole, TokenLimit,
};
use crate::dialect::request::{Content, Item, Request, Role};
use crate::dialect::tools::NAME_BYTES_MAX;
use crate::dialect::{self, Dialect, Reply, Sent, Target, soften};
use crate::fault::{Failure, Side};
use crate::wire::json::{Cursor, Escaped};
use serde_json::Value;
use std::collections::HashSet;

/// What one byte of a request may become at most, and what any request may have besides. An empty
/// call takes three bytes and is written with its tool, its id and the note of its missing output.
const GROWTH_MAX: usize = 100;
const BESIDES_BYTES_MAX: usize = 16 << 10;

/// The model as the upstream names it.
const MODEL: &str = "some-model";

/// From whom to whom a request goes.
#[derive(Clone, Debug)]
pub struct Way {
    /// The client's dialect.
    pub client: &'static dyn Dialect,
    /// The upstream's dialect.
    pub upstream: &'static dyn Dialect,
    /// The upstream's habits; `None` = the request is relayed.
    pub quirks: Option<Quirks>,
    /// Refuse what would be dropped.
    pub strict: bool,
}

impl Way {
    /// What the proxy does with a whole body: the upstream's request, and what is kept of it.
    ///
    /// # Errors
    /// The body is no request, or cannot be said in the upstream's dialect.
    pub fn translate(&self, body: &[u8]) -> Result<(Vec<u8>, Sent), Failure> {
        let text = std::str::from_utf8(body)
            .map_err(|_| Failure::bad_request("the request body is not UTF-8"))?;
        let mut decoded = self.client.decode_request(text);
        let peek = match decoded.as_ref().ok().and_then(|request| Peek::of(request, text)) {
            Some(peek) => peek,
            None => Peek::read(text).map_err(|bad| Failure::bad_request(bad.to_string()))?,
        };
        let mut out = Vec::with_capacity(text.len() + text.len() / 16 + 1024);
        let Some(quirks) = &self.quirks else {
            // Read all the same, for what its answer repeats of it.
            let _: Request<'_> = decoded.unwrap_or_default();
            out.extend_from_slice(text.as_bytes());
            return Ok((out, Sent::default()));
        };
        let bare = (quirks.plain_input && decoded.is_err())
            .then(|| self.client.without_references(text))
            .flatten();
        if let Some(bare) = &bare {
            decoded = self.client.decode_request(bare);
        }
        let request = decoded?;
        let target = Target {
            model: MODEL,
            quirks,
            provider: "p",
            strict: self.strict,
            stream: peek.stream || quirks.forced_stream,
        };
        let mut sent = self.upstream.encode_request(&request, &target, &mut out)?;
        // What the client is told of.
        let dropped = request.dropped.iter().map(|name| name.clone().into_owned());
        sent.dropped.splice(0..0, dropped);
        Ok((out, sent))
    }

    fn chosen(by: u8, habit: u8) -> Option<Self> {
        let side = |bit: u8| if by & bit == 0 { "chat" } else { "responses" };
        let upstream = if by & 4 == 0 { side(2) } else { "gigachat" };
        Some(Self {
            client: dialect::by_name(side(1))?,
            upstream: dialect::by_name(upstream)?,
            quirks: Some(habits(habit)),
            strict: false,
        })
    }
}

/// The habits of known hosts, and some that no known host has.
fn habits(number: u8) -> Quirks {
    const HOSTS: [&str; 10] = [
        "unknown.example",
        "api.openai.com",
        "chatgpt.com",
        "openrouter.ai",
        "api.deepseek.com",
        "dashscope.aliyuncs.com",
        "api.groq.com",
        "api.mistral.ai",
        "api.minimax.io",
        "api.z.ai",
    ];
    let base = Quirks::default();
    match usize::from(number) % (HOSTS.len() + 5) {
        host if host < HOSTS.len() => Quirks::for_host(HOSTS[host]),
        10 => Quirks {
            one_system_message: true,
            reasoning_back: ReasoningBack::Always,
            json_schema: false,
            images: false,
            parallel_tool_calls: false,
            ..base
        },
        11 => Quirks {
            system_role: SystemRole::Developer,
            one_system_message: true,
            token_limit: TokenLimit::MaxCompletionTokens,
            reasoning_field: ReasoningField::Reasoning,
            reasoning_back: ReasoningBack::Always,
            think_tags: true,
            custom_tools: true,
            allowed_tools: true,
            effort: EffortStyle::TemplateKwargs,
            ..base
        },
        12 => Quirks {
            openai_parameters: true,
            strict_tools: true,
            reasoning_back: ReasoningBack::Always,
            raw_reasoning: true,
            include_usage: false,
            effort: EffortStyle::Passed,
            ..base
        },
        13 => Quirks {
            plain_input: true,
            forced_store_off: true,
            instructions_required: true,
            refused_parameters: vec!["temperature".to_owned(), "tools".to_owned()],
            reasoning_back: ReasoningBack::Never,
            ..base
        },
        _ => Quirks::for_host("api.giga.chat"),
    }
}

/// A request: the first byte chooses the dialects, the second the upstream's habits, the others are
/// the client's body.
///
/// # Panics
/// When the upstream would get what is no JSON, breaks the order of messages or differs from one
/// time to the next; when a request that was translated once changes its meaning when it is
/// translated again; and when something was dropped and strict mode does not say so.
pub fn request(bytes: &[u8]) {
    let Some((&[by, habit], body)) = bytes.split_first_chunk() else { return };
    let Some(way) = Way::chosen(by, habit) else { return };
    let strictly = Way { strict: true, ..way.clone() };
    let refused = strictly.translate(body).map(|(out, sent)| (out, sent.dropped));
    let (out, sent) = match way.translate(body) {
        Ok(translated) => translated,
        Err(failure) => {
            assert!(refused.is_err(), "strict mode takes more: {failure:?}");
            assert_eq!(failure.fault.side, Side::Client, "{failure:?}");
            assert!(!failure.message.is_empty() && matches!(failure.status(), 400..=499));
            return;
        }
    };
    let most = GROWTH_MAX * body.len() + BESIDES_BYTES_MAX;
    assert!(out.len() <= most, "{} bytes became {}", body.len(), out.len());
    let again = way.translate(body).map(|(out, sent)| (out, sent.dropped));
    assert_eq!(again, Ok((out.clone(), sent.dropped.clone())), "twice the same");
    // What strict mode takes loses nothing, and is written no other way.
    if let Ok((strict_out, dropped)) = refused {
        assert_eq!(dropped, [""; 0]);
        assert_eq!(strict_out, out);
        assert_eq!(sent.dropped, [""; 0], "dropped, and strict mode does not say so");
    }
    upstream_reads(&way, &out, &sent);
    stable(&way, &out);
    softened(&way, &out);
    let Ok(text) = std::str::from_utf8(body) else { return };
    if let Ok(request) = way.client.decode_request(text) {
        in_order(&way, &request, &out);
        answered(&way, request);
    }
}

/// What an upstream finds in a body.
fn upstream_reads(way: &Way, out: &[u8], sent: &Sent) {
    let Ok(text) = std::str::from_utf8(out) else { panic!("not UTF-8: {}", out.escape_ascii()) };
    let peek = Peek::read(text).unwrap_or_else(|bad| panic!("{bad}: {text}"));
    assert_eq!(peek.model.map(|model| model.decode().into_owned()).as_deref(), Some(MODEL));
    once_each(text);
    let mut names = HashSet::new();
    for entry in sent.tools.entries() {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(!entry.upstream.is_empty() && entry.upstream.len() <= NAME_BYTES_MAX, "{entry:?}");
        assert!(entry.upstream.chars().all(legal), "{entry:?}");
        assert!(names.insert(&entry.upstream), "two tools of one name: {entry:?}");
    }
    let Some(body) = strict(out) else { return };
    assert_eq!(body["stream"].as_bool().unwrap_or(false), peek.stream);
    let quirks = way.quirks.clone().unwrap_or_default();
    match way.upstream.name() {
        "chat" => chat_order(&body, &quirks),
        "gigachat" => gigachat::in_order(&body),
        _ => responses_order(&body, &quirks),
    }
}

/// No member of the body itself stands there twice.
fn once_each(text: &str) {
    let (mut seen, mut cursor) = (HashSet::new(), Cursor::new(text));
    let read = cursor.object(|key, _| {
        assert!(seen.insert(key), "`{key}` twice: {text}");
        Ok(())
    });
    assert!(read.is_ok(), "{read:?}: {text}");
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn string<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no string `{key}` in {value}"))
}

/// Every call is answered at once and once, nothing else is, and system text stands where the
/// upstream wants it.
fn chat_order(body: &Value, quirks: &Quirks) {
    let messages = list(body, "messages");
    assert!(!messages.is_empty(), "no message: {body}");
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = string(message, "role");
        if role == "tool" {
            let id = string(message, "tool_call_id");
            let place = open.iter().position(|waiting| *waiting == id);
            let place = place.unwrap_or_else(|| panic!("an answer to no call: {message}"));
            open.remove(place);
            assert!(message["content"].is_string() || !list(message, "content").is_empty());
            continue;
        }
        assert!(open.is_empty(), "calls without an answer before {message}");
        match role {
            "assistant" => {
                for call in list(message, "tool_calls") {
                    let id = string(call, "id");
                    assert!(!id.is_empty() && !open.contains(&id), "an id twice: {message}");
                    let kind = string(call, "type");
                    string(&call[kind], "name");
                    string(&call[kind], if kind == "custom" { "input" } else { "arguments" });
                    open.push(id);
                }
                let says = message["content"].is_string() || message["refusal"].is_string();
                assert!(says || !open.is_empty(), "an empty message: {message}");
                assert!(message.get("tool_calls").is_none() || !open.is_empty(), "{message}");
            }
            "user" => {
                let parts = list(message, "content");
                assert!(message["content"].is_string() || !parts.is_empty(), "{message}");
                assert!(parts.iter().all(|part| !string(part, "type").is_empty()), "{message}");
            }
            "system" | "developer" => {
                let developer = quirks.system_role == SystemRole::Developer;
                assert_eq!(role == "developer", developer, "{message}");
                assert!(!string(message, "content").is_empty(), "{message}");
                assert!(at == 0 || !quirks.one_system_message, "system text at {at}: {body}");
            }
            other => panic!("a role that nobody knows, {other}: {message}"),
        }
    }
    assert!(open.is_empty(), "calls without an answer at the end: {body}");
    assert!(list(body, "tools").len() <= 1 || quirks.takes("tools") || body["tools"].is_array());
}

/// Items have types, and where conversations go without ids, every output has its call before it.
fn responses_order(body: &Value, quirks: &Quirks) {
    let mut calls = HashSet::new();
    for item in list(body, "input") {
        match string(item, "type") {
            "function_call" | "custom_tool_call" => {
                string(item, "name");
                calls.insert(string(item, "call_id"));
            }
            "function_call_output" | "custom_tool_call_output" => {
                let called = calls.contains(string(item, "call_id"));
                assert!(called || !quirks.plain_input, "an output without call: {item}");
                let said = item["output"].is_string() || !list(item, "output").is_empty();
                assert!(said, "an output without content: {item}");
            }
            "message" => {
                string(item, "role");
                assert!(!list(item, "content").is_empty(), "a message without content: {item}");
            }
            _ => {}
        }
    }
    if quirks.forced_stream {
        assert_eq!(body["stream"], true);
    }
    if quirks.forced_store_off {
        assert_eq!(body["store"], false);
    }
    for refused in &quirks.refused_parameters {
        assert!(
            refused == "tools" || body.get(refused).is_none(),
            "`{refused}` is refused: {body}"
        );
    }
}

/// A client that sends just this body to an upstream of its own dialect gets it there unchanged, at
/// the latest the second time.
fn stable(way: &Way, out: &[u8]) {
    if !way.upstream.serves_clients() {
        return;
    }
    let same = Way { client: way.upstream, ..way.clone() };
    let once = match same.translate(out) {
        Ok((once, _)) => once,
        Err(failure) => panic!("our own request is refused: {failure:?}: {}", out.escape_ascii()),
    };
    let Ok((twice, _)) = same.translate(&once) else {
        panic!("our own request is refused: {}", once.escape_ascii());
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&twice), text(&once), "translated once more");
}

/// A parameter that is taken out leaves the rest whole.
fn softened(way: &Way, out: &[u8]) {
    let Ok(text) = std::str::from_utf8(out) else { return };
    for optional in way.upstream.optional_parameters() {
        let mut softer = Vec::new();
        if soften::apply(text, *optional, &mut softer) {
            once_each(&String::from_utf8_lossy(&softer));
            let (before, after) = (strict(out), strict(&softer));
            if let (Some(Value::Object(mut before)), Some(Value::Object(mut after))) =
                (before, after)
            {
                assert!(
                    before.remove(optional.name).is_some() && !after.contains_key(optional.name)
                );
                if let Some(other) = optional.other_name {
                    after.remove(other);
                    before.remove(other);
                }
                assert_eq!(before, after, "without {}", optional.name);
            }
        }
    }
}

/// Whose words, and which: words of one speaker in a row are one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words(Vec<(Speaker, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    Model,
}

impl Words {
    /// Adds words without their line ends: some are put in between.
    fn say(&mut self, speaker: Speaker, text: &str) {
        let text = text.replace('\n', "");
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some((last, words)) if *last == speaker => words.push_str(&text),
            _ => self.0.push((speaker, text)),
        }
    }

    fn say_all(&mut self, messages: &[Value]) {
        for message in messages {
            let speaker = match message["role"].as_str() {
                Some("system" | "developer") => Speaker::System,
                Some("assistant") => Speaker::Model,
                _ => Speaker::User,
            };
            self.say(speaker, message["content"].as_str().unwrap_or_default());
            for part in list(message, "content") {
                self.say(speaker, part["text"].as_str().unwrap_or_default());
            }
        }
    }
}

/// A conversation of nothing but texts keeps its words and their order.
fn in_order(way: &Way, request: &Request<'_>, out: &[u8]) {
    let quirks = way.quirks.clone().unwrap_or_default();
    let (mut before, mut after) = (Words::default(), Words::default());
    if let Some(instructions) = request.instructions {
        before.say(Speaker::System, &instructions.decode());
    }
    for item in &request.items {
        let Item::Message { role, content } = item else { return };
        let speaker = match role {
            Role::System | Role::Developer => Speaker::System,
            Role::User => Speaker::User,
            Role::Assistant => Speaker::Model,
        };
        for part in content.iter() {
            let Content::Text(text) = part else { return };
            before.say(speaker, &text.decode());
        }
    }
    let Some(body) = strict(out) else { return };
    // System text that stands later is the user's there.
    let late = request.items.iter().skip_while(|item| is_system(item)).any(is_system);
    match way.upstream.name() {
        "gigachat" if late => return,
        "gigachat" => after.say_all(list(&body, "messages")),
        // There, system text becomes something else.
        "chat" if quirks.one_system_message || !quirks.json_schema => return,
        "chat" => after.say_all(list(&body, "messages")),
        _ => {
            after.say(Speaker::System, body["instructions"].as_str().unwrap_or_default());
            after.say_all(list(&body, "input"));
        }
    }
    assert_eq!(after, before, "{}", out.escape_ascii());
}

fn is_system(item: &Item<'_>) -> bool {
    matches!(item, Item::Message { role: Role::System | Role::Developer, .. })
}

/// An answer to the request, which repeats parts of it, is one that a strict reader takes.
fn answered(way: &Way, mut request: Request<'_>) {
    request.compact = false;
    let reply = Reply { ids: Ids::new(1), created_at: 7, codex: false, done_marker: true };
    let mut encoder = way.client.encoder(&request, reply);
    let (mut out, hi) = (Vec::new(), Escaped::trusted("hi"));
    for event in [
        Event::Start { id: Escaped::EMPTY, model: Escaped::EMPTY },
        Event::Open { part: 0, kind: Part::Text { message: 0 } },
        Event::Delta { part: 0, text: hi, logprobs: None },
        Event::Close { part: 0 },
        Event::Stop(Stop::End),
    ] {
        encoder.event(event, 7, &mut out);
    }
    let seen = match way.client.name() {
        "chat" => readers::chat(&out),
        _ => readers::responses(&out),
    };
    let expected = Seen { text: "hi".to_owned(), end: End::Whole, ..Seen::default() };
    assert!(seen.is_none_or(|seen| seen == expected), "{}", out.escape_ascii());
}
