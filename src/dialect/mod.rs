//! Ring 1: structure to meaning and back. A dialect is one wire API in both directions; the table
//! [`DIALECTS`] is the only place that lists them.

pub mod chat;
pub mod codex;
pub mod effort;
pub mod embeddings;
pub mod event;
pub mod exec;
pub mod faults;
pub mod fold;
pub mod gigachat;
pub mod ids;
pub mod image;
pub mod instruct;
mod keys;
pub mod lanes;
pub mod mend;
pub mod models;
mod order;
pub mod pattern;
pub mod peek;
pub mod quirks;
pub mod request;
pub mod responses;
pub mod soften;
pub mod stops;
pub mod tools;
mod upstream_only;

use crate::fault::Failure;
use crate::wire::json::{Bad, Escaped};
use crate::wire::sse::Frame;
use embeddings::Embeddings;
use event::{Event, Sink};
use fold::Answer;
use ids::Ids;
use pattern::Pattern;
use quirks::Quirks;
use request::Request;
use tools::ToolTable;

/// Every dialect.
pub static DIALECTS: &[&dyn Dialect] =
    &[&chat::Chat, &responses::Responses, &gigachat::GigaChat, &exec::CodexExec];

/// The dialect whose errors are those of all other operations of OpenAI's API.
pub static OPENAI: &dyn Dialect = &chat::Chat;

/// Finds a dialect by its [`Dialect::name`].
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}

/// Finds the dialect that a client speaks by posting to `path` (no query, `/v1` already taken off,
/// no trailing slash: `/responses`). One that only upstreams speak is never found.
#[must_use]
pub fn by_path(path: &str) -> Option<&'static dyn Dialect> {
    for_clients().find(|dialect| dialect.path() == path)
}

/// The dialects that clients may speak. No two of them have the same path.
pub fn for_clients() -> impl Iterator<Item = &'static dyn Dialect> {
    DIALECTS.iter().copied().filter(|dialect| dialect.serves_clients())
}

/// One wire API, both directions.
///
/// All methods are pure: the same arguments give the same bytes.
pub trait Dialect: Sync + std::fmt::Debug {
    /// The name used in configuration, logs and metrics (`chat`).
    fn name(&self) -> &'static str;

    /// The path of its operation below an API's base URL (`/chat/completions`).
    fn path(&self) -> &'static str;

    /// Where its operations are on a host of which only the name is known.
    fn base_path(&self, host: &str) -> &'static str {
        let _ = host;
        "/v1"
    }

    /// Whether it is the only dialect that this host speaks.
    fn is_home(&self, host: &str) -> bool {
        let _ = host;
        false
    }

    /// Lays what all of its upstreams have in common, whatever their hosts are, over what is known of
    /// a host.
    fn settle(&self, quirks: &mut Quirks) {
        let _ = quirks;
    }

    /// Whether this key of a provider, which means nothing elsewhere, means something here.
    fn has_key(&self, key: &str) -> bool {
        let _ = key;
        false
    }

    /// Whether clients may speak it. If not, it is never found by its path, and its client half
    /// ([`Dialect::decode_request`], [`Dialect::encoder`]) refuses.
    fn serves_clients(&self) -> bool {
        true
    }

    /// Reads a client's request.
    ///
    /// # Errors
    /// A failure of the client's (400 ...) that names the parameter.
    fn decode_request<'a>(&self, body: &'a str) -> Result<Request<'a>, Failure>;

    /// Appends the upstream's request body to `out`.
    ///
    /// # Errors
    /// A failure of the client's when something that changes the meaning has no form upstream.
    fn encode_request(
        &self,
        request: &Request<'_>,
        target: &Target<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Sent, Failure>;

    /// A decoder for the reply to a request that [`Dialect::encode_request`] wrote.
    fn decoder(&self, sent: Sent, quirks: &Quirks) -> Box<dyn Decode>;

    /// An encoder for the reply to `request`.
    fn encoder(&self, request: &Request<'_>, reply: Reply) -> Box<dyn Encode>;

    /// Reads an upstream's error reply, whatever its body is. `fault` and `status` follow the HTTP
    /// status, refined by what the body says; the message is cut to a few hundred characters and
    /// never holds HTML.
    fn decode_fault(&self, status: u16, body: &[u8]) -> Failure;

    /// Who issues the certificates of its own hosts, where browsers do not know that issuer, and
    /// where to get the root: a sentence for people.
    fn issuer(&self) -> Option<&'static str> {
        None
    }

    /// The parameters of its requests that only tune an answer, so that a request which an upstream
    /// refused because of one can go once more without it.
    fn optional_parameters(&self) -> &'static [soften::Optional] {
        &[]
    }

    /// The header fields of a client, in lower case, that its upstreams take whatever dialect the
    /// client speaks. Never one with a credential. By default OpenAI's, which choose who pays.
    fn client_fields(&self) -> &'static [&'static str] {
        &["openai-organization", "openai-project"]
    }

    /// The header field by which its upstreams know the requests of one session, if that is no
    /// parameter of the body: for prompt caches.
    fn session_field(&self) -> Option<&'static str> {
        None
    }

    /// Whether its requests name images by the ids of files that were uploaded before
    /// ([`Sent::images`]), where its upstream takes images ([`Quirks::images`]).
    fn uploads_images(&self) -> bool {
        false
    }

    /// Whether its requests can say where the text is to stop; if not, [`stops`] cuts it.
    fn takes_stop(&self) -> bool {
        true
    }

    /// Whether its requests can ask for summaries of reasoning. Where they cannot, the summary that a
    /// [`Request`] asks for is a guess.
    fn asks_for_summaries(&self) -> bool {
        false
    }

    /// Whether its answers may hold sealed reasoning, which is of use only if the client of a request
    /// that did not ask for it gets it too, to give it back.
    fn seals_reasoning(&self) -> bool {
        false
    }

    /// A client's request without references to what some upstream kept of earlier ones, for an
    /// upstream that keeps nothing; `None` when there are none.
    fn without_references(&self, body: &str) -> Option<String> {
        let _ = body;
        None
    }

    /// How its upstreams make embeddings, if not in the form of OpenAI's API.
    fn embeddings(&self) -> Option<&'static dyn Embeddings> {
        None
    }

    /// Appends the error envelope that tells a client of `failure`.
    fn encode_fault(&self, failure: &Failure, out: &mut Vec<u8>);
}

/// Where a request goes: the upstream's model name and habits.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The model as the upstream names it.
    pub model: &'t str,
    /// What the upstream can and cannot do.
    pub quirks: &'t Quirks,
    /// The provider's name in the configuration: marks the opaque state that it may see again.
    pub provider: &'t str,
    /// Refuse with a 400 what would be dropped with a note.
    pub strict: bool,
    /// Ask the upstream for a stream. May differ from what the client asked for.
    pub stream: bool,
}

/// What has to be remembered of a sent request to understand its reply.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// How the tools were named upstream.
    pub tools: ToolTable,
    /// The provider's name, for opaque state.
    pub provider: String,
    /// The function whose arguments are the answer itself, where a schema of the answer went as
    /// that of a function: its name upstream.
    pub answer: Option<String>,
    /// Names of what was dropped on the way and matters (`x-patchbay-dropped`).
    pub dropped: Vec<String>,
    /// Images that the upstream has to be given before the request.
    pub images: Vec<image::Image>,
    /// Where the ids of these images belong in the body, first to last.
    pub places: Vec<image::Place>,
    /// Seed for the ids of calls that the upstream gives none: another one for every turn of a
    /// conversation, so that no id repeats in it.
    pub seed: u64,
    /// The run, where the upstream is a local `codex exec`.
    pub run: Option<Box<exec::Run>>,
}

/// What an encoder needs besides the request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Makes the ids of the answer.
    pub ids: Ids,
    /// Unix time in seconds at which the answer began.
    pub created_at: u64,
    /// The client is the Codex CLI: the deviations that it needs.
    pub codex: bool,
    /// Write `data: [DONE]` behind a Responses stream too.
    pub done_marker: bool,
}

/// Reads one reply: a stream frame by frame, or a whole document.
pub trait Decode: Send {
    /// Takes one frame. A frame that is not understood is skipped; a frame that ends the stream
    /// in failure is an [`Event::Fail`].
    ///
    /// # Errors
    /// The frame is not JSON in UTF-8. The caller goes on, and fails only if nothing better follows.
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) -> Result<(), Bad>;

    /// Takes a whole document (a reply that is not a stream) and pushes the events of a stream,
    /// from `Start` to `Stop` or `Fail`.
    ///
    /// # Errors
    /// The document is not JSON in UTF-8.
    fn document(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Bad>;

    /// The stream's bytes ended: closes what is open and pushes `Stop`, or `Fail` when the stream
    /// broke off before its terminal event. Does nothing when the terminal event was pushed.
    fn finish(&mut self, sink: &mut Sink<'_>);

    /// True once `Stop` or `Fail` was pushed and nothing more will be.
    fn is_done(&self) -> bool;

    /// What the last frame looked like, if it brought one piece of text and did nothing else, so
    /// that [`Decode::again`] may take the place of [`Decode::frame`] for one that is the same but
    /// for its text. The places are those in the frame's data.
    fn pattern(&self) -> Option<&Pattern> {
        None
    }

    /// Takes the text, not empty, of a frame that is like the last one ([`Decode::pattern`]): the
    /// same as taking the frame. The pattern stays valid for the next one.
    fn again(&mut self, text: Escaped<'_>, sink: &mut Sink<'_>) {
        let _ = (text, sink);
    }
}

/// Writes one answer for a client. Cannot fail. `now_s` is Unix time in seconds.
pub trait Encode: Send {
    /// Appends what `event` is in the client's stream: zero or more whole SSE frames.
    fn event(&mut self, event: Event<'_>, now_s: u64, out: &mut Vec<u8>);

    /// Appends a whole answer as one document.
    fn answer(&mut self, answer: &Answer, now_s: u64, out: &mut Vec<u8>);

    /// The client got `frames` frames of an answer with this id from somebody else (a relayed
    /// stream); what follows must fit behind them. Of no matter where frames are not numbered.
    fn resume(&mut self, frames: u64, id: Escaped<'_>) {
        let _ = (frames, id);
    }

    /// Appends something that a client's idle timer counts and its application ignores.
    fn keep_alive(&mut self, out: &mut Vec<u8>);
}
