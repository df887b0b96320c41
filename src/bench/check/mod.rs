//! One answer, checked whole while it comes: a fast wrong answer must not look like a good one.
//!
//! With a script every byte of text is known in advance and compared as it comes. Without one the
//! answer must agree with itself: what is told at the end is what was streamed, and there is one end.

mod chat;
mod lane;
mod learned;
mod parts;
mod responses;
#[cfg(test)]
mod tests;

use super::defect::{Defect, Found, shown};
use super::expect::{Expected, Failing};
use super::plan::Dialect;
use crate::wire::http1::ReplyHead;
use crate::wire::json::{self, Bad, Cursor, Escaped, Raw};
use crate::wire::sse::Frame;
use learned::Learned;
use parts::{Desk, Parts};
use std::ops::Range;

/// What the answers to one request must be like.
#[derive(Debug)]
pub(super) struct Rules {
    /// The API that is spoken.
    pub(super) dialect: Dialect,
    /// An event stream; else one document.
    pub(super) stream: bool,
    /// What the script says; `None` when the server follows none.
    pub(super) expected: Option<Expected>,
    /// The name that calls must have.
    pub(super) tool: &'static str,
    /// Deltas must be the script's own, not merged or split.
    pub(super) exact: bool,
}

impl Rules {
    fn is_failing(&self) -> bool {
        self.failing().is_some()
    }

    fn failing(&self) -> Option<Failing> {
        self.expected.as_ref().and_then(|expected| expected.failing)
    }

    /// The status that must come.
    fn status(&self) -> u16 {
        match self.failing() {
            Some(Failing::Status(status)) => status,
            _ => 200,
        }
    }

    /// Whether a failure may still be told with a status, as nothing had to be sent before it.
    fn may_fail_at_once(&self) -> bool {
        let silent = self.expected.as_ref().is_some_and(|expected| {
            expected.text.text().is_empty() && expected.reasoning.text().is_empty()
        });
        self.failing() == Some(Failing::Midway) && (silent || !self.stream)
    }
}

/// How the answer's end was told.
#[derive(Debug, Default)]
struct End {
    /// Frames so far.
    frames: u64,
    /// Terminal events: of Responses, or `finish_reason`s.
    terminals: u32,
    /// `[DONE]` markers.
    markers: u32,
    /// The server told of a failure.
    failed: bool,
    /// Token counts came.
    usage: bool,
    /// The number that the next frame must have, once the first is known.
    sequence: Option<u64>,
    /// Another status than 200, as it was.
    status: u16,
}

/// The check of one answer; used again for the next one on its connection.
#[derive(Debug, Default)]
pub(super) struct Check {
    parts: Parts,
    learned: Learned,
    end: End,
    scratch: String,
    /// Deltas of text since this was last emptied.
    pub(super) deltas: u64,
    /// Their stamps, in microseconds since 1970.
    pub(super) stamps: Vec<u64>,
    /// What is wrong so far.
    pub(super) found: Found,
}

impl Check {
    /// Gets ready for the next answer.
    pub(super) fn begin(&mut self) {
        self.parts.clear();
        self.learned.clear();
        self.end = End::default();
        self.deltas = 0;
        self.stamps.clear();
        self.found.clear();
    }

    /// Looks at the head. False when the body is no answer: it is to be collected for
    /// [`Check::refusal`].
    pub(super) fn head(&mut self, rules: &Rules, head: &ReplyHead<'_>) -> bool {
        self.end.status = head.status;
        if head.status != 200 || rules.status() != 200 {
            return false;
        }
        let expected = if rules.stream { "text/event-stream" } else { "application/json" };
        let came = head.content_type.unwrap_or_default();
        let essence = came.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(expected) {
            self.found.add(Defect::ContentType, expected, shown(came.as_bytes()));
        }
        if let Some(coding) = head.content_encoding {
            self.found.add(Defect::Framing, "no content coding", coding);
        }
        true
    }

    /// Takes the body of an answer that is none.
    pub(super) fn refusal(&mut self, rules: &Rules, body: &[u8]) {
        let (status, expected) = (self.end.status, rules.status());
        let is_fault = (400..600).contains(&status);
        if status != expected && !(is_fault && rules.may_fail_at_once()) {
            let came = format!("{status}: {}", shown(body));
            return self.found.add(Defect::Status, expected.to_string(), came);
        }
        let is_error = json::utf8(body).is_ok_and(|text| {
            let mut error = false;
            json::document(text, |cursor| {
                cursor.object(|key, value| {
                    error |= key == "error" && !value.null()?;
                    Ok(())
                })
            })
            .is_ok_and(|()| error)
        });
        if !is_error {
            self.found.add(Defect::Malformed, "a JSON object with an error", shown(body));
        }
    }

    /// Takes one event of the stream.
    pub(super) fn frame(&mut self, rules: &Rules, frame: &Frame<'_>) {
        self.end.frames += 1;
        let may_follow = self.end.terminals == 0 && self.end.markers == 0;
        if may_follow && self.is_learned(rules, frame) {
            return;
        }
        let result = match json::utf8(frame.data) {
            Ok(_) if frame.data == b"[DONE]" => return self.marker(rules),
            Ok(text) => match rules.dialect {
                Dialect::Chat => self.chat_frame(rules, frame, text),
                Dialect::Responses => self.responses_frame(rules, frame, text),
            },
            Err(bad) => Err(bad),
        };
        if let Err(bad) = result {
            let came = format!("{bad}: {}", shown(frame.data));
            self.found.add(Defect::Malformed, "an event of the API", came);
        }
    }

    /// Takes the whole body of an answer that is not streamed.
    pub(super) fn document(&mut self, rules: &Rules, body: &[u8]) {
        let result = json::utf8(body).and_then(|text| match rules.dialect {
            Dialect::Chat => self.chat_document(rules, text),
            Dialect::Responses => self.responses_document(rules, text),
        });
        if let Err(bad) = result {
            let came = format!("{bad}: {}", shown(body));
            self.found.add(Defect::Malformed, "a document of the API", came);
        }
    }

    /// The body has ended as its framing says.
    pub(super) fn finish(&mut self, rules: &Rules) {
        if self.end.status != 200 {
            return;
        }
        let succeeded = self.end.terminals > 0 && !self.end.failed;
        if rules.is_failing() {
            if succeeded {
                let came = "an answer that ends as if it were whole";
                self.found.add(Defect::FalseSuccess, "a failure", came);
            }
            if rules.stream {
                self.with_desk(rules, |parts, desk| parts.verdict(true, false, desk));
            }
            return;
        }
        if self.end.failed {
            return;
        }
        match rules.dialect {
            _ if !rules.stream => {}
            Dialect::Chat if self.end.terminals == 0 => {
                self.found.add(Defect::NoEnd, "a finish_reason", "none");
            }
            Dialect::Chat if self.end.markers == 0 => {
                self.found.add(Defect::NoEnd, "[DONE]", "the end of the body");
            }
            Dialect::Responses if self.end.terminals == 0 => {
                let came = format!("{} events without it", self.end.frames);
                self.found.add(Defect::NoEnd, "response.completed", came);
            }
            _ => {}
        }
        if rules.expected.is_some() && !self.end.usage && self.end.terminals > 0 {
            self.found.add(Defect::NoUsage, "token counts", "none");
        }
        let told = rules.dialect == Dialect::Responses && self.end.terminals > 0 && rules.stream;
        self.with_desk(rules, |parts, desk| parts.verdict(rules.stream, told, desk));
    }

    /// The connection ended before the body, or broke.
    pub(super) fn broken(&mut self, rules: &Rules, defect: Defect, expected: &str, came: String) {
        let was_awaited = rules.failing() == Some(Failing::Midway) && self.end.status == 200;
        // Who tells of a failure may leave the body without its end.
        if defect == Defect::Cut && (was_awaited || self.end.failed) {
            return self.finish(rules);
        }
        self.found.add(defect, expected, came);
    }

    /// Whether the frame is the learned one around the next delta; taken then.
    #[inline]
    fn is_learned(&mut self, rules: &Rules, frame: &Frame<'_>) -> bool {
        let Some(part) = self.learned.part() else { return false };
        let mut number = itoa::Buffer::new();
        let sequence = self.end.sequence;
        let sequence_text = sequence.map_or("", |it| number.format(it)).as_bytes();
        let (parts, learned, mut desk) = self.desk(rules);
        let Some((delta, stamped)) = parts.next(part, &desk) else { return false };
        let Some(stamp) = learned.fits(frame, delta, stamped, sequence_text) else { return false };
        parts.take_next(part, stamp, &mut desk);
        if let Some(next) = sequence {
            self.end.sequence = Some(next + 1);
        }
        true
    }

    /// `[DONE]`: the end of a Chat stream, and of the Responses streams of some servers.
    fn marker(&mut self, rules: &Rules) {
        self.end.markers += 1;
        if self.end.markers > 1 {
            self.found.add(Defect::ManyEnds, "one [DONE]", "another");
        }
        if rules.dialect == Dialect::Responses && self.end.terminals == 0 {
            self.found.add(Defect::Order, "response.completed before [DONE]", "[DONE]");
        }
    }

    /// A terminal event came.
    fn terminal(&mut self, what: &str) {
        self.end.terminals += 1;
        if self.end.terminals > 1 {
            self.found.add(Defect::ManyEnds, "one terminal event", format!("one more: {what}"));
        }
    }

    /// The server says that it failed.
    fn failure(&mut self, rules: &Rules, data: &str) {
        self.end.failed = true;
        if !rules.is_failing() {
            self.found.add(Defect::Failure, "an answer", shown(data.as_bytes()));
        }
    }

    /// Says that something stands behind the end of the stream.
    fn after_end(&mut self, data: &str) {
        self.found.add(Defect::AfterEnd, "nothing", shown(data.as_bytes()));
    }

    fn desk<'d>(&'d mut self, rules: &'d Rules) -> (&'d mut Parts, &'d mut Learned, Desk<'d>) {
        let desk = Desk {
            expected: rules.expected.as_ref(),
            tool: rules.tool,
            exact: rules.exact,
            scratch: &mut self.scratch,
            deltas: &mut self.deltas,
            stamps: &mut self.stamps,
            found: &mut self.found,
        };
        (&mut self.parts, &mut self.learned, desk)
    }

    fn with_desk<R>(
        &mut self,
        rules: &Rules,
        work: impl FnOnce(&mut Parts, &mut Desk<'_>) -> R,
    ) -> R {
        let (parts, _, mut desk) = self.desk(rules);
        work(parts, &mut desk)
    }
}

/// Where `part`, which was cut out of `whole`, stands in it.
fn place_of(part: &str, whole: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    start..start.saturating_add(part.len())
}

/// A value that may be a string, `null` or something else that is of no interest.
fn text_at<'a>(value: &mut Cursor<'a>) -> Result<Option<Escaped<'a>>, Bad> {
    Ok(value.skip()?.string())
}

/// Whether `usage` is an object in which both members are counts.
fn is_usage(usage: Raw<'_>, input: &str, output: &str) -> Result<bool, Bad> {
    if usage.is_null() {
        return Ok(false);
    }
    let mut counts = 0;
    usage.cursor().object(|key, value| {
        if key == input || key == output {
            value.unsigned()?;
            counts += 1;
        }
        Ok(())
    })?;
    Ok(counts == 2)
}
