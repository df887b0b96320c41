//! GigaChat (`POST /api/v1/chat/completions`), as upstream only.
//!
//! It looks like Chat Completions from before tools: one call an answer, its arguments an object,
//! its result a JSON object in a message of role `function`. Parallel calls of other upstreams go
//! into its history one behind the other.
//!
//! Source: <https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-chat>.

mod chunk;
mod decode;
mod embeddings;
mod fault;
mod request;
pub(crate) mod schema;
mod state;

use crate::dialect::embeddings::Embeddings;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::Request;
use crate::dialect::soften::Optional;
use crate::dialect::{Decode, Dialect, Encode, Reply, Sent, Target, faults, upstream_only};
use crate::fault::Failure;

/// GigaChat.
#[derive(Debug)]
pub struct GigaChat;

/// The domain of its newer host, `https://api.giga.chat/v1`.
const HOST: &str = "giga.chat";
/// The domain of the older ones, `https://gigachat.devices.sberbank.ru/api/v1`.
const OLDER_HOST: &str = "devices.sberbank.ru";

fn is_in(host: &str, domain: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What only tunes an answer.
const OPTIONAL: &[Optional] = &[
    Optional::new("temperature"),
    Optional::new("top_p"),
    Optional::new("reasoning_effort"),
    Optional::new("max_tokens"),
];

/// What ties a request to a session, and tells whose it is in the logs of either side.
const CLIENT_FIELDS: &[&str] = &[
    SESSION_FIELD,
    "x-request-id",
    "x-client-id",
    "x-service-id",
    "x-operation-id",
    "x-trace-id",
    "x-agent-id",
];
/// Keeps the requests of a session at the same prompt cache.
const SESSION_FIELD: &str = "x-session-id";

impl Dialect for GigaChat {
    fn name(&self) -> &'static str {
        "gigachat"
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    /// Its newer host leaves `/api` out. Of others the older one's path is the one to guess: it is in
    /// the reference, and what stands in for it inside of a company imitates it.
    fn base_path(&self, host: &str) -> &'static str {
        if is_in(host, HOST) { "/v1" } else { "/api/v1" }
    }

    fn is_home(&self, host: &str) -> bool {
        is_in(host, HOST) || is_in(host, OLDER_HOST)
    }

    /// A schema of the answer goes as that of a function: all models take functions, but only newer
    /// ones a schema of its own.
    fn settle(&self, quirks: &mut Quirks) {
        quirks.parallel_tool_calls = false;
        quirks.json_schema = false;
    }

    fn has_key(&self, key: &str) -> bool {
        matches!(key, "structured_output" | "profanity_check")
    }

    fn serves_clients(&self) -> bool {
        false
    }

    fn decode_request<'a>(&self, _: &'a str) -> Result<Request<'a>, Failure> {
        Err(upstream_only::refusal("GigaChat's API"))
    }

    fn encode_request(
        &self,
        request: &Request<'_>,
        target: &Target<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Sent, Failure> {
        request::encode(request, target, out)
    }

    fn decoder(&self, sent: Sent, quirks: &Quirks) -> Box<dyn Decode> {
        Box::new(decode::Decoder::new(sent, quirks))
    }

    fn encoder(&self, _: &Request<'_>, _: Reply) -> Box<dyn Encode> {
        Box::new(upstream_only::Mute)
    }

    fn takes_stop(&self) -> bool {
        false
    }

    fn uploads_images(&self) -> bool {
        true
    }

    fn issuer(&self) -> Option<&'static str> {
        Some(
            "GigaChat's hosts have certificates of the Russian Trusted Root CA, which browsers do \
             not know: its root is at https://www.gosuslugi.ru/crt, and with the preset its file \
             is named in GIGACHAT_CA_BUNDLE_FILE",
        )
    }

    fn optional_parameters(&self) -> &'static [Optional] {
        OPTIONAL
    }

    fn client_fields(&self) -> &'static [&'static str] {
        CLIENT_FIELDS
    }

    fn session_field(&self) -> Option<&'static str> {
        Some(SESSION_FIELD)
    }

    fn embeddings(&self) -> Option<&'static dyn Embeddings> {
        Some(&embeddings::GigaChatEmbeddings)
    }

    fn decode_fault(&self, status: u16, body: &[u8]) -> Failure {
        fault::read(status, body)
    }

    fn encode_fault(&self, failure: &Failure, out: &mut Vec<u8>) {
        faults::envelope(failure, out);
    }
}
