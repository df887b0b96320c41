//! A local `codex exec --json`, as upstream only: the prompt goes to its standard input, its answer
//! comes as JSON Lines.
//!
//! The agent works with tools of its own. A client's tools are left out and reported; what the agent
//! did can be told as reasoning ([`Run::show_activity`]).

mod activity;
mod decode;
mod fault;
mod images;
mod line;
mod options;
mod prompt;

pub use options::Files;

use crate::config::exec::{Exec, Sandbox};
use crate::dialect::quirks::Quirks;
use crate::dialect::request::{Format, Request};
use crate::dialect::{Decode, Dialect, Encode, Reply, Sent, Target, faults, order, upstream_only};
use crate::fault::Failure;
use crate::wire::json::{Escaped, Raw};

/// A local Codex CLI.
#[derive(Debug)]
pub struct CodexExec;

/// One run of the CLI as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// What the model's commands may touch.
    pub sandbox: Option<Sandbox>,
    /// Whether the sandbox `workspace-write` has the network.
    pub network_access: Option<bool>,
    /// One of the CLI's efforts; `None` leaves it to the CLI's own configuration.
    pub effort: Option<String>,
    /// The request itself names the effort.
    pub asked_effort: bool,
    /// Leave reasoning out.
    pub hide_reasoning: Option<bool>,
    /// Tell of commands, changes, calls and searches as reasoning.
    pub show_activity: Option<bool>,
    /// The model, not checked before [`Run::find_model`]; empty leaves it to the CLI's own
    /// configuration.
    pub model: String,
    /// The schema of the answer (JSON).
    pub schema: Option<String>,
    /// Only the last message is the answer: the client wants one document.
    pub last_message: bool,
    /// The images that the prompt speaks of, in their order.
    pub images: Vec<Image>,
}

/// An image for the CLI.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// How the names of its format's files end.
    pub extension: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} bytes of {})", self.bytes.len(), self.extension)
    }
}

impl Run {
    /// What its reply needs of it: all but the files.
    #[must_use]
    pub fn without_files(&self) -> Self {
        Self {
            images: Vec::new(),
            schema: None,
            model: self.model.clone(),
            effort: self.effort.clone(),
            ..*self
        }
    }

    /// Finds the model among those that the CLI has; a name may end in an effort (`gpt-5-high`,
    /// `gpt-5 high`), which counts where the request names none. `known` is empty when it is not known
    /// what there is.
    ///
    /// # Errors
    /// 404 `model_not_found`.
    pub fn find_model(&mut self, known: &[&str]) -> Result<(), Failure> {
        options::find_model(self, known)
    }

    /// Takes what the request does not say from the configuration.
    ///
    /// # Errors
    /// 400 for more than the configuration allows.
    pub fn settle(&mut self, exec: &Exec) -> Result<(), Failure> {
        options::settle(self, exec)
    }

    /// The arguments behind the command's name, with these files.
    #[must_use]
    pub fn arguments(&self, files: &Files<'_>) -> Vec<String> {
        options::arguments(self, files)
    }
}

/// The images of a request, in the order in which its prompt names them.
#[derive(Clone, Debug, Default)]
struct Pictures<'a>(Vec<Escaped<'a>>);

impl Dialect for CodexExec {
    fn name(&self) -> &'static str {
        "codex-exec"
    }

    /// There is no path to a process.
    fn path(&self) -> &'static str {
        ""
    }

    fn serves_clients(&self) -> bool {
        false
    }

    fn decode_request<'a>(&self, _: &'a str) -> Result<Request<'a>, Failure> {
        Err(upstream_only::refusal("the Codex CLI's interface"))
    }

    /// Appends the prompt.
    fn encode_request(
        &self,
        request: &Request<'_>,
        target: &Target<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Sent, Failure> {
        let dropped = left_out(request, target.strict)?;
        let mut run = Run::asked(request)?;
        target.model.clone_into(&mut run.model);
        if let Format::JsonSchema { schema, .. } = request.settings.format {
            run.schema = Some(schema.text().to_owned());
        }
        run.last_message = request.settings.format != Format::Text;
        let order = order::order(&request.items, target.strict)?;
        let (mut prompt, mut pictures) = (String::new(), Pictures::default());
        prompt::write(request, &order, &mut pictures, &mut prompt);
        if prompt.trim().is_empty() {
            let message = "the request has no message for the model: add some input";
            return Err(Failure::bad_request(message));
        }
        for (at, url) in pictures.0.iter().enumerate() {
            run.images.push(images::read(&url.decode(), at + 1)?);
        }
        out.extend_from_slice(prompt.as_bytes());
        let dropped = dropped.into_iter().chain(order.dropped).collect();
        let provider = target.provider.to_owned();
        Ok(Sent { provider, dropped, run: Some(Box::new(run)), ..Sent::default() })
    }

    fn decoder(&self, sent: Sent, _: &Quirks) -> Box<dyn Decode> {
        Box::new(decode::Decoder::new(sent))
    }

    fn encoder(&self, _: &Request<'_>, _: Reply) -> Box<dyn Encode> {
        Box::new(upstream_only::Mute)
    }

    fn takes_stop(&self) -> bool {
        false
    }

    fn decode_fault(&self, status: u16, body: &[u8]) -> Failure {
        faults::from_body(status, body)
    }

    fn encode_fault(&self, failure: &Failure, out: &mut Vec<u8>) {
        faults::envelope(failure, out);
    }
}

/// Names of what a run cannot be told and matters.
fn left_out(request: &Request<'_>, strict: bool) -> Result<Vec<String>, Failure> {
    let settings = &request.settings;
    let given = |value: Option<Raw<'_>>| value.is_some_and(|value| !value.is_null());
    let named = [
        ("tools", !request.tools.is_empty()),
        ("temperature", given(settings.temperature)),
        ("top_p", given(settings.top_p)),
        ("max_output_tokens", settings.output_tokens_max.is_some()),
        ("presence_penalty", given(settings.presence_penalty)),
        ("frequency_penalty", given(settings.frequency_penalty)),
        ("logit_bias", given(settings.logit_bias)),
        ("logprobs", settings.logprobs),
        ("seed", given(settings.seed)),
        ("verbosity", settings.verbosity.is_some()),
    ];
    let names: Vec<String> =
        named.into_iter().filter(|(_, given)| *given).map(|(name, _)| name.to_owned()).collect();
    let first =
        names.first().map(String::as_str).or_else(|| Some(request.dropped.first()?.as_ref()));
    match first {
        Some(name) if strict => {
            let message = format!("`{name}` cannot be told to the Codex CLI (strict mode)");
            Err(Failure::unsupported(name, message))
        }
        _ => Ok(names),
    }
}
