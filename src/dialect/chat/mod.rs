//! Chat Completions (`POST /v1/chat/completions`), as client and as upstream.

mod decode;
mod encode;
mod order;
mod request_out;
mod sealed;

use crate::dialect::faults;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::Request;
use crate::dialect::{Decode, Dialect, Encode, Reply, Sent, Target};
use crate::fault::Failure;

/// Chat Completions.
#[derive(Debug)]
pub struct Chat;

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn decode_request<'a>(&self, _: &'a str) -> Result<Request<'a>, Failure> {
        unimplemented!()
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

    fn decode_fault(&self, status: u16, body: &[u8]) -> Failure {
        faults::from_body(status, body)
    }

    fn encode_fault(&self, failure: &Failure, out: &mut Vec<u8>) {
        faults::envelope(failure, out);
    }
}
