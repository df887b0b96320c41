//! A request as a GigaChat body (API v1).
//!
//! The members come in a fixed order and nothing in them depends on time, so that the upstream's
//! prompt cache sees the same prefix on every turn.

mod functions;
mod images;
mod messages;
mod objects;
mod settings;

use crate::dialect::order;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::Request;
use crate::dialect::tools::ToolTable;
use crate::dialect::{Sent, Target};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Raw};

/// Most names noted as dropped: they end up in a response header.
const DROPPED_MAX: usize = 32;

/// The upstream's own functions; a client's tool of such a name goes under another.
const BUILT_IN: &[&str] = &["text2image", "text2model3d", "get_file_content", "web_search"];

/// Appends the body for `request`.
///
/// # Errors
/// What has no form upstream and changes the meaning; with [`Target::strict`] also what would only
/// be dropped.
pub(super) fn encode(
    request: &Request<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
) -> Result<Sent, Failure> {
    let start = out.len();
    let mut body = Body {
        request,
        target,
        quirks: target.quirks,
        tools: ToolTable::reserving(BUILT_IN),
        answer: None,
        images: images::Images::default(),
        dropped: Vec::new(),
        scratch: String::new(),
    };
    if let (true, Some(name)) = (target.strict, request.dropped.first()) {
        return Err(refused(name));
    }
    let declared = body.declare()?;
    let order = order::order(&request.items, target.strict)?;
    for name in &order.dropped {
        body.drop(name)?;
    }
    out.push(b'{');
    json::member("model", target.model, out);
    body.messages_with_images(&order, out)?;
    body.functions(&declared, out)?;
    body.settings(out)?;
    out.push(b'}');
    // A conversation only grows, so its length tells its turns apart.
    let size = (out.len() - start) as u64;
    let seed = size.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ request.items.len() as u64;
    let (images, places) = body.images.read(target.quirks.image_urls)?;
    Ok(Sent {
        images,
        places,
        tools: body.tools,
        provider: target.provider.to_owned(),
        answer: body.answer,
        dropped: body.dropped,
        seed,
        ..Sent::default()
    })
}

/// One body in the making.
struct Body<'b, 'a> {
    request: &'b Request<'a>,
    target: &'b Target<'b>,
    quirks: &'b Quirks,
    tools: ToolTable,
    /// The function that stands for the answer's schema.
    answer: Option<String>,
    images: images::Images<'b>,
    dropped: Vec<String>,
    /// For texts with a lone surrogate, which strict readers refuse.
    scratch: String,
}

impl<'b> Body<'b, '_> {
    /// Notes what is left out and matters.
    ///
    /// # Errors
    /// When the client wants to hear of it by a 400.
    fn drop(&mut self, name: &str) -> Result<(), Failure> {
        if self.target.strict {
            return Err(refused(name));
        }
        // Names go into a header field, and some are the client's own words.
        let legal = |c: &char| c.is_ascii_alphanumeric() || "_-.[]() ".contains(*c);
        let name: String = name.chars().filter(legal).take(64).collect();
        let room = self.dropped.len() < DROPPED_MAX;
        if room && !name.is_empty() && !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
        Ok(())
    }

    /// A text of the request with its surrogate pairs whole.
    fn paired<'t>(&'t mut self, text: Escaped<'t>) -> Escaped<'t> {
        if self.request.halves { text.paired(&mut self.scratch) } else { text }
    }

    /// Appends `"name":"text"`.
    fn text(&mut self, name: &str, text: Escaped<'_>, out: &mut Vec<u8>) {
        json::member_quoted(name, self.paired(text), out);
    }

    /// Appends the inside of a string.
    fn inside(&mut self, text: Escaped<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.paired(text).raw().as_bytes());
    }

    /// Appends `"name":value`.
    fn raw(&mut self, name: &str, value: Raw<'_>, out: &mut Vec<u8>) {
        if self.request.halves {
            json::member_raw(name, value.paired(&mut self.scratch).text(), out);
        } else {
            json::member_raw(name, value.text(), out);
        }
    }
}

fn refused(name: &str) -> Failure {
    let message = format!("`{name}` has no form in GigaChat's API (strict mode)");
    Failure::unsupported(name, message)
}
