//! Responses.
use super::*;
/// Responses.
#[derive(Debug)]
pub struct Responses;
impl Dialect for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }
    fn path(&self) -> &'static str {
        "/responses"
    }
    fn decode_request<'a>(&self, _: &'a str) -> Result<Request<'a>, Failure> {
        unimplemented!()
    }
    fn encode_request(
        &self,
        _: &Request<'_>,
        _: &Target<'_>,
        _: &mut Vec<u8>,
    ) -> Result<Sent, Failure> {
        unimplemented!()
    }
    fn decoder(&self, _: Sent, _: &Quirks) -> Box<dyn Decode> {
        unimplemented!()
    }
    fn encoder(&self, _: &Request<'_>, _: Reply) -> Box<dyn Encode> {
        unimplemented!()
    }
    fn decode_fault(&self, _: u16, _: &[u8]) -> Failure {
        unimplemented!()
    }
    fn encode_fault(&self, _: &Failure, _: &mut Vec<u8>) {
        unimplemented!()
    }
}
