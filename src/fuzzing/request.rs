//! Requests from one dialect into another.

use crate::dialect::peek::Peek;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::Request;
use crate::dialect::{Dialect, Sent, Target, responses};
use crate::fault::Failure;

/// From whom to whom a request goes.
#[derive(Clone, Debug)]
pub struct Way {
    /// The client's dialect.
    pub client: &'static dyn Dialect,
    /// The upstream's dialect.
    pub upstream: &'static dyn Dialect,
    /// The upstream's habits; `None` = the request is relayed.
    pub quirks: Option<Quirks>,
}

impl Way {
    /// What the proxy does with a whole body: the upstream's request, and what is kept of it.
    ///
    /// # Errors
    /// The body is no request, or cannot be said in the upstream's dialect.
    pub fn translate(&self, body: &[u8]) -> Result<(Vec<u8>, Sent), Failure> {
        let text = std::str::from_utf8(body)
            .map_err(|_| Failure::bad_request("the request body is not UTF-8"))?;
        let peek = Peek::read(text).map_err(|bad| Failure::bad_request(bad.to_string()))?;
        let mut out = Vec::new();
        let Some(quirks) = &self.quirks else {
            // Read all the same, for what its answer repeats of it.
            let _: Request<'_> = self.client.decode_request(text).unwrap_or_default();
            out.extend_from_slice(text.as_bytes());
            return Ok((out, Sent::default()));
        };
        let bare = quirks.plain_input.then(|| responses::without_references(text)).flatten();
        let request = self.client.decode_request(bare.as_deref().unwrap_or(text))?;
        let target = Target {
            model: "some-model",
            quirks,
            provider: "p",
            strict: false,
            stream: peek.stream || quirks.forced_stream,
        };
        let sent = self.upstream.encode_request(&request, &target, &mut out)?;
        Ok((out, sent))
    }
}
