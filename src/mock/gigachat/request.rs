//! A request for an answer, and all for which it is refused.

use super::schema::accepted;
use super::service::Service;
use super::{REQUEST_BYTES_MAX, Refusal, chats, no_model, text_of, unreadable};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Images of one message, and of a request.
const MESSAGE_IMAGES_MAX: usize = 1;
const REQUEST_IMAGES_MAX: usize = 10;
/// Bytes of a function's name.
const NAME_BYTES_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "of some members only the type is looked at")]
struct Request {
    model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u64>,
    repetition_penalty: Option<f64>,
    update_interval: Option<f64>,
    profanity_check: Option<bool>,
    functions: Option<Vec<Function>>,
    function_call: Option<Value>,
    response_format: Option<Format>,
    reasoning_effort: Option<String>,
    function_ranker: Option<Ranker>,
    flags: Option<Vec<String>>,
    storage: Option<Storage>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Role {
    System,
    User,
    Assistant,
    Function,
    FunctionInProgress,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "of some members only the type is looked at")]
struct Message {
    role: Role,
    content: Option<String>,
    function_call: Option<Call>,
    name: Option<String>,
    functions_state_id: Option<String>,
    attachments: Option<Vec<String>>,
    reasoning_content: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that the arguments are an object is all that counts")]
struct Call {
    name: String,
    arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "of some members only the type is looked at")]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    few_shot_examples: Option<Vec<Example>>,
    return_parameters: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only their types are looked at")]
struct Example {
    request: String,
    params: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "of some members only the type is looked at")]
struct Format {
    r#type: String,
    schema: Option<Map<String, Value>>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only their types are looked at")]
struct Ranker {
    enabled: Option<bool>,
    top_n: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only their types are looked at")]
struct Storage {
    is_stateful: Option<bool>,
    thread_id: Option<String>,
    assistant_id: Option<String>,
    limit: Option<u64>,
}

/// What decides the answer to a request that is taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::mock) struct Facts {
    /// Functions that may be called: the one that must be, or all with `auto`.
    pub(in crate::mock) callable: Vec<String>,
    /// One must be called.
    pub(in crate::mock) forced: bool,
    /// What the user said last.
    pub(in crate::mock) said: String,
    /// What functions gave since then.
    pub(in crate::mock) results: Vec<String>,
    /// Files of all messages.
    pub(in crate::mock) attachments: usize,
}

fn invalid(reason: &'static str, message: &str) -> Refusal {
    Refusal::new(422, reason, format!("Invalid params: {message}"))
}

fn bad(reason: &'static str, message: &str) -> Refusal {
    Refusal::new(400, reason, format!("Bad request: {message}"))
}

/// Whether the body of a request for an answer is taken, whatever models and files there are.
///
/// # Errors
/// For what it is refused.
pub fn judge(body: &str) -> Result<(), String> {
    let checked = Request::read(body).and_then(|request| request.check());
    checked.map(drop).map_err(|refusal| refusal.message)
}

impl Service {
    /// Reads a request of the account.
    ///
    /// # Errors
    /// What the real one refuses.
    pub(super) fn facts(&self, account: &str, body: &[u8]) -> Result<Facts, Refusal> {
        if body.len() > REQUEST_BYTES_MAX {
            let message = format!("the request is larger than {} MB", REQUEST_BYTES_MAX >> 20);
            return Err(Refusal::new(413, "too_large", message));
        }
        let request = Request::read(text_of(body)?)?;
        if !chats(&request.model) {
            return Err(no_model());
        }
        let (callable, forced) = request.check()?;
        let attachments = self.attached(account, &request.messages)?;
        let (said, results) = request.last_words();
        self.count_attachments(attachments as u64);
        Ok(Facts { callable, forced, said, results, attachments })
    }

    /// How many files are attached, all known.
    fn attached(&self, account: &str, messages: &[Message]) -> Result<usize, Refusal> {
        let (mut files, mut images) = (0, 0);
        for message in messages {
            let mut here = 0;
            for id in message.attachments.iter().flatten() {
                let Some(file) = self.look_up(account, id) else {
                    return Err(Refusal::new(404, "unknown_file", format!("No such file: {id}")));
                };
                files += 1;
                here += usize::from(file.image);
            }
            images += here;
            if here > MESSAGE_IMAGES_MAX || images > REQUEST_IMAGES_MAX {
                let message = "at most 1 image in a message, and 10 in a request";
                return Err(bad("images", message));
            }
        }
        Ok(files)
    }
}

impl Request {
    fn read(body: &str) -> Result<Self, Refusal> {
        serde_json::from_str(body).map_err(|why| unreadable(&why))
    }

    /// All that can be said of it alone; gives what [`Request::functions`] gives.
    fn check(&self) -> Result<(Vec<String>, bool), Refusal> {
        self.settings()?;
        self.conversation()?;
        self.functions()
    }

    fn settings(&self) -> Result<(), Refusal> {
        let positive = |value: Option<f64>| value.is_none_or(|value| value > 0.0);
        if !positive(self.temperature) {
            return Err(bad("temperature", "temperature must be above 0"));
        }
        if self.top_p.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(bad("top_p", "top_p must be from 0 to 1"));
        }
        if self.max_tokens == Some(0) {
            return Err(bad("max_tokens", "max_tokens must be above 0"));
        }
        if !positive(self.repetition_penalty) {
            return Err(bad("repetition_penalty", "repetition_penalty must be above 0"));
        }
        if self.update_interval.is_some_and(|value| value < 0.0) {
            return Err(bad("update_interval", "update_interval must not be below 0"));
        }
        let effort = self.reasoning_effort.as_deref();
        if effort.is_some_and(|effort| !["low", "medium", "high"].contains(&effort)) {
            return Err(bad("effort", "reasoning_effort must be low, medium or high"));
        }
        match &self.response_format {
            Some(Format { r#type, schema: Some(_), .. }) if r#type == "json_schema" => Ok(()),
            Some(Format { r#type, schema: None, .. }) if r#type == "text" => Ok(()),
            None => Ok(()),
            Some(_) => {
                Err(invalid("format", "response_format must be text, or json_schema with a schema"))
            }
        }
    }

    fn conversation(&self) -> Result<(), Refusal> {
        if self.messages.is_empty() {
            return Err(invalid("no_messages", "messages is empty"));
        }
        let mut last: Option<&Message> = None;
        for message in &self.messages {
            if message.role == Role::System && last.is_some() {
                let message = "there is one system message at most, and it is the first";
                return Err(invalid("system_message", message));
            }
            let call = last.and_then(|last| last.function_call.as_ref());
            match message.role {
                Role::Function => result(message, call)?,
                Role::Assistant => {}
                _ if message.function_call.is_some() => {
                    return Err(invalid("call", "only the assistant has a function_call"));
                }
                _ => {}
            }
            if message.content.is_none() && message.function_call.is_none() {
                return Err(invalid("no_content", "a message has no content"));
            }
            last = Some(message);
        }
        Ok(())
    }

    /// The functions that may be called, and whether one must be.
    fn functions(&self) -> Result<(Vec<String>, bool), Refusal> {
        let functions = self.functions.as_deref().unwrap_or_default();
        for (at, function) in functions.iter().enumerate() {
            let name = &function.name;
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(legal) {
                let message = format!("functions[{at}]: the name {name:?} is not legal");
                return Err(invalid("function_name", &message));
            }
            if functions.iter().take(at).any(|other| other.name == *name) {
                let message = format!("functions[{at}]: the name {name:?} is there twice");
                return Err(invalid("function_name", &message));
            }
            if let Some(parameters) = &function.parameters {
                accepted(parameters).map_err(|why| {
                    invalid("schema", &format!("functions[{at}] ({name}): parameters: {why}"))
                })?;
            }
        }
        let names = || functions.iter().map(|function| function.name.clone()).collect();
        match &self.function_call {
            // The real one takes it for `none`, and the model never calls.
            None | Some(Value::Null) if !functions.is_empty() => {
                let message = "function_call is left out, which means none: say auto to offer them";
                Err(invalid("no_function_call", message))
            }
            None | Some(Value::Null) => Ok((Vec::new(), false)),
            Some(Value::String(word)) if word == "none" => Ok((Vec::new(), false)),
            Some(Value::String(word)) if word == "auto" => Ok((names(), false)),
            Some(Value::Object(choice)) => {
                let known = |key: &String| key == "name" || key == "partial_arguments";
                let name = choice.get("name").and_then(Value::as_str).unwrap_or_default();
                let declared = functions.iter().any(|function| function.name == name);
                if !choice.keys().all(known) || !declared {
                    return Err(invalid("function_call", "function_call names no function"));
                }
                Ok((vec![name.to_owned()], true))
            }
            Some(_) => {
                Err(invalid("function_call", "function_call must be auto, none or an object"))
            }
        }
    }

    /// What the user said last, in one message or in neighbours (images are apart), and what
    /// functions gave since then.
    fn last_words(&self) -> (String, Vec<String>) {
        let users = |message: &Message| message.role == Role::User;
        let behind = self.messages.iter().rposition(users).map_or(0, |last| last + 1);
        let (before, since) = self.messages.split_at(behind);
        let run = before.iter().rev().take_while(|message| users(message)).count();
        let text = |message: &Message| message.content.clone().unwrap_or_default();
        let said: Vec<_> = before.iter().skip(behind - run).map(text).collect();
        let results = since.iter().filter(|message| message.role == Role::Function);
        (said.join("\n"), results.map(text).collect())
    }
}

/// Checks the result of a call, which stands right behind it.
fn result(message: &Message, call: Option<&Call>) -> Result<(), Refusal> {
    let Some(call) = call else {
        return Err(invalid("result", "a function's result has no call right before it"));
    };
    if message.name.as_deref() != Some(call.name.as_str()) {
        return Err(invalid("result", "a function's result does not name the function called"));
    }
    let content = message.content.as_deref().unwrap_or_default();
    match serde_json::from_str(content) {
        Ok(Value::Object(_)) => Ok(()),
        _ => Err(invalid("result", "a function's result is no JSON object")),
    }
}
