//! Chat Completions.
use super::*;
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
