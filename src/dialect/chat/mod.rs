//! Chat Completions (`POST /v1/chat/completions`), as client and as upstream.

mod decode;
mod encode;
mod request_in;
mod request_out;
mod sealed;

use crate::dialect::faults;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::Request;
use crate::dialect::soften::Optional;
use crate::dialect::{Decode, Dialect, Encode, Reply, Sent, Target};
use crate::fault::Failure;

/// Chat Completions.
#[derive(Debug)]
pub struct Chat;

/// What only tunes an answer.
const OPTIONAL: &[Optional] = &[
    Optional::renamed("max_tokens", "max_completion_tokens"),
    Optional::renamed("max_completion_tokens", "max_tokens"),
    Optional::new("stream_options"),
    Optional::new("parallel_tool_calls"),
    Optional::new("temperature"),
    Optional::new("top_p"),
    Optional::new("presence_penalty"),
    Optional::new("frequency_penalty"),
    Optional::new("reasoning_effort"),
    Optional::new("reasoning"),
    Optional::new("thinking"),
    Optional::new("enable_thinking"),
    Optional::new("chat_template_kwargs"),
    Optional::new("verbosity"),
    Optional::new("service_tier"),
    Optional::new("prompt_cache_key"),
    Optional::new("prompt_cache_options"),
    Optional::new("prompt_cache_retention"),
    Optional::new("safety_identifier"),
    Optional::new("user"),
    Optional::new("seed"),
    Optional::new("logprobs"),
    Optional::new("top_logprobs"),
];

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn decode_request<'a>(&self, body: &'a str) -> Result<Request<'a>, Failure> {
        request_in::decode(body)
    }

    fn encode_request(
        &self,
        request: &Request<'_>,
        target: &Target<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Sent, Failure> {
        request_out::encode(request, target, out)
    }

    fn decoder(&self, sent: Sent, quirks: &Quirks) -> Box<dyn Decode> {
        Box::new(decode::Decoder::new(sent, quirks))
    }

    fn encoder(&self, request: &Request<'_>, reply: Reply) -> Box<dyn Encode> {
        Box::new(encode::Encoder::new(request, reply))
    }

    fn optional_parameters(&self) -> &'static [Optional] {
        OPTIONAL
    }

    fn decode_fault(&self, status: u16, body: &[u8]) -> Failure {
        faults::from_body(status, body)
    }

    fn encode_fault(&self, failure: &Failure, out: &mut Vec<u8>) {
        faults::envelope(failure, out);
    }
}
