//! The Responses API of OpenAI, as clients speak it and as upstreams do.

mod answer;
mod compact;
mod decode;
mod encode;
mod fault;
mod items_in;
mod items_out;
mod kinds;
mod object;
mod plain;
mod reply;
mod request_in;
mod request_out;
mod tools_in;

use super::{Decode, Dialect, Encode, Quirks, Reply, Request, Sent, Target, faults, soften};
use crate::fault::Failure;

/// The dialect's name, also of the opaque items that only it knows.
const NAME: &str = "responses";

/// What a request can do without.
const OPTIONAL: &[soften::Optional] = &[
    soften::Optional::new("temperature"),
    soften::Optional::new("top_p"),
    soften::Optional::new("max_output_tokens"),
    soften::Optional::new("top_logprobs"),
    soften::Optional::new("include"),
    soften::Optional::new("reasoning"),
    soften::Optional::new("service_tier"),
    soften::Optional::new("prompt_cache_key"),
    soften::Optional::new("prompt_cache_retention"),
    soften::Optional::new("prompt_cache_options"),
    soften::Optional::new("safety_identifier"),
    soften::Optional::new("user"),
    soften::Optional::new("metadata"),
    soften::Optional::new("moderation"),
    soften::Optional::new("max_tool_calls"),
    soften::Optional::new("parallel_tool_calls"),
    soften::Optional::new("stream_options"),
];

/// The Responses dialect.
#[derive(Debug)]
pub struct Responses;

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self) -> &'static str {
        "/responses"
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

    fn optional_parameters(&self) -> &'static [soften::Optional] {
        OPTIONAL
    }

    fn takes_stop(&self) -> bool {
        false
    }

    fn asks_for_summaries(&self) -> bool {
        true
    }

    fn seals_reasoning(&self) -> bool {
        true
    }

    fn without_references(&self, body: &str) -> Option<String> {
        plain::without_references(body)
    }

    fn decoder(&self, sent: Sent, _: &Quirks) -> Box<dyn Decode> {
        Box::new(decode::Decoder::new(sent))
    }

    fn encoder(&self, request: &Request<'_>, reply: Reply) -> Box<dyn Encode> {
        Box::new(encode::Encoder::new(request, reply))
    }

    fn decode_fault(&self, status: u16, body: &[u8]) -> Failure {
        faults::from_body(status, body)
    }

    fn encode_fault(&self, failure: &Failure, out: &mut Vec<u8>) {
        faults::envelope(failure, out);
    }
}

/// Appends a JSON value that came from a peer, its line ends (which can only stand between tokens)
/// as spaces: a line end inside an event would cut it in two.
fn one_line(value: &str, out: &mut Vec<u8>) {
    let mut rest = value.as_bytes();
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}
