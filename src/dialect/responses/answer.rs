//! A whole answer as one Response document.

use super::encode::STOPPED_IN_CALL;
use super::fault;
use super::object::{Layout, Shape, Status};
use crate::dialect::event::Stop;
use crate::dialect::fold::{Answer, AnswerKind};

/// Appends the document.
pub(super) fn write(
    shape: &Shape,
    layout: &mut Layout,
    answer: &Answer,
    now_s: u64,
    out: &mut Vec<u8>,
) {
    layout.items.clear();
    for (index, part) in answer.parts.iter().enumerate() {
        layout.place(index, &part.kind);
    }
    let cut = match answer.stop {
        Some(Stop::Length) => Some("max_output_tokens"),
        Some(Stop::Filter) => Some("content_filter"),
        _ => None,
    };
    let mut in_call = false;
    if let Some(item) = layout.items.last_mut()
        && let Some(part) = answer.parts.get(item.parts.end - 1)
    {
        let call = matches!(part.kind, AnswerKind::Call { .. });
        in_call = call && !part.closed;
        if in_call || (cut.is_some() || answer.failure.is_some()) && !call {
            item.status = "incomplete";
        }
    }
    let told = answer.failure.as_ref().map(|failure| fault::told(failure, false));
    let status = match (&told, cut) {
        (Some((code, message)), _) => Status::Failed { code, message },
        (None, Some(reason)) => Status::Incomplete(reason),
        (None, None) if in_call => {
            Status::Failed { code: "server_error", message: STOPPED_IN_CALL }
        }
        (None, None) => Status::Completed,
    };
    let parts = &answer.parts;
    shape.write(status, answer.usage, now_s, out, |out| layout.write_all(parts, out));
}
