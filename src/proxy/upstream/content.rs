//! The content of a reply's body, without its framing.

use crate::wire::buffer::{Buffer, Pool};
use crate::wire::http1::{BodyDecoder, BodyFault, BodyStep};

/// What [`decode`] found.
pub(super) enum Found {
    Content,
    /// No content; more has to come.
    Nothing,
    End,
    Fault(BodyFault),
}

/// Moves content from `bytes` into `payload`; also returns how many bytes were used. What came
/// before an end or a fault counts first, and either comes again.
pub(super) fn decode(
    body: &mut BodyDecoder,
    bytes: &[u8],
    payload: &mut Buffer,
    buffers: &mut Pool,
) -> (Found, usize) {
    if !bytes.is_empty() {
        payload.rent(buffers);
    }
    let (before, mut used) = (payload.len(), 0);
    let last = payload.append(|payload| {
        loop {
            match body.decode(bytes.get(used..).unwrap_or_default()) {
                Ok((BodyStep::Data(data), count)) => {
                    payload.extend_from_slice(data);
                    used += count;
                }
                Ok((step, count)) => {
                    used += count;
                    break if step == BodyStep::End { Found::End } else { Found::Nothing };
                }
                Err(why) => break Found::Fault(why),
            }
        }
    });
    (if payload.len() > before { Found::Content } else { last }, used)
}
