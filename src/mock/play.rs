//! One answer under way: what the next write holds, and when it is due.

use super::reply::{Holds, Reply};
use super::script::Script;
use crate::wire::http1::{BodyLength, chunk_begin, chunk_end, last_chunk, write_reply_head};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one write when the script sets no bound, so that a slow reader's rest stays small.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// How late a write may be and still not move those behind it: the timer's own ticks, and a turn.
const LATE_MAX: Duration = Duration::from_millis(5);

/// How the client can take the reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// It knows chunks (HTTP/1.1).
    pub(super) chunks: bool,
    pub(super) keep_alive: bool,
}

/// One answer under way.
#[derive(Debug)]
pub(super) struct Play {
    reply: Arc<Reply>,
    manner: Manner,
    pace: Duration,
    frames_max: usize,
    slice: usize,
    /// When the next write is due.
    pub(super) due: Instant,
    head: bool,
    /// How far the body was sent: bytes, frames, sites.
    at: usize,
    frame: usize,
    site: usize,
    id: [u8; 16],
    created: [u8; 10],
    /// When each text delta was sent, where that is needed again; 0 while it was not.
    stamps: Vec<u64>,
}

impl Play {
    /// Begins an answer whose first byte is due a while after `now`. `id` is the answer's own
    /// number; `unix_s` is Unix time in seconds.
    pub(super) fn new(
        reply: Arc<Reply>,
        script: &Script,
        manner: Manner,
        id: u64,
        unix_s: u64,
        now: Instant,
    ) -> Self {
        let again = reply.stamps > 0 && (script.slice > 0 || reply.repeats_stamps());
        let stamps = if again { vec![0; reply.stamps as usize] } else { Vec::new() };
        Self {
            manner,
            pace: script.pace,
            frames_max: if script.frames == 0 { usize::MAX } else { script.frames as usize },
            slice: if script.slice == 0 { usize::MAX } else { script.slice as usize },
            due: now + script.first,
            head: false,
            at: 0,
            frame: 0,
            site: 0,
            id: hex(id),
            created: decimal(unix_s),
            stamps,
            reply,
        }
    }

    /// The connection stays behind this answer.
    pub(super) fn keeps_alive(&self) -> bool {
        self.manner.keep_alive
    }

    /// The connection is torn off behind this answer.
    pub(super) fn is_cut(&self) -> bool {
        self.reply.cut
    }

    /// Everything was composed.
    pub(super) fn is_over(&self) -> bool {
        self.head && self.at == self.reply.bytes.len()
    }

    /// Appends the next write and returns how many deltas are whole with it. `now_us` is asked for
    /// the time since 1970 in microseconds, if that is to be shown.
    pub(super) fn compose(&mut self, now_us: impl Fn() -> u64, out: &mut Vec<u8>) -> u32 {
        if !self.head {
            self.head = true;
            self.write_head(out);
        }
        let reply = Arc::clone(&self.reply);
        let from = self.at;
        let to = self.reach(&reply);
        let chunked = reply.stream && self.manner.chunks;
        let mark = chunked.then(|| chunk_begin(out));
        let base = out.len();
        out.extend_from_slice(reply.bytes.get(from..to).unwrap_or_default());
        self.at = to;
        if let Some(fresh) = out.get_mut(base..) {
            self.patch(&reply, from, fresh, now_us);
        }
        if let Some(mark) = mark {
            chunk_end(mark, out);
        }
        if self.is_over() && chunked && !reply.cut {
            last_chunk(out);
        }
        self.pass(&reply)
    }

    /// Says when the next write is due, after one at `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.pace.is_zero() {
            return;
        }
        self.due += self.pace;
        // Time that is lost (a reader that did not read, a machine that is too slow) is not made
        // up for, or a burst would follow.
        if now.saturating_duration_since(self.due) > LATE_MAX.max(self.pace) {
            self.due = now;
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let reply = &self.reply;
        let length = match (reply.stream, self.manner.chunks) {
            (true, true) => BodyLength::Chunked,
            (true, false) => BodyLength::UntilClose,
            (false, _) => BodyLength::Known(reply.length as u64),
        };
        let kind = if reply.stream { "text/event-stream" } else { "application/json" };
        let id = std::str::from_utf8(&self.id).unwrap_or_default();
        let fields = [("content-type", kind), ("x-request-id", id), ("retry-after", "1")];
        let count = if reply.retry_after { 3 } else { 2 };
        let fields = fields.into_iter().take(count);
        // Checked names, values and a status that the script was asked for: nothing to refuse.
        let _ = write_reply_head(reply.status, fields, length, self.manner.keep_alive, out);
    }

    /// Where the next write ends.
    fn reach(&self, reply: &Reply) -> usize {
        let end_of = |frame: usize| reply.frames.get(frame).map(|frame| frame.end as usize);
        let all = reply.bytes.len();
        let frames = match self.frames_max {
            usize::MAX => {
                let bound = self.at + WRITE_BYTES_MAX;
                let fits = reply.frames.partition_point(|frame| frame.end as usize <= bound);
                end_of(fits.max(self.frame + 1) - 1).unwrap_or(all)
            }
            count => end_of(self.frame.saturating_add(count) - 1).unwrap_or(all),
        };
        frames.min(self.at.saturating_add(self.slice))
    }

    /// Writes what differs from answer to answer into the bytes from `from` on.
    fn patch(&mut self, reply: &Reply, from: usize, fresh: &mut [u8], now_us: impl Fn() -> u64) {
        let to = from + fresh.len();
        let mut now = None;
        while let Some(site) = reply.sites.get(self.site) {
            let place = site.range();
            if place.start >= to {
                break;
            }
            let digits: [u8; 16];
            let text: &[u8] = match site.holds {
                Holds::Id => &self.id,
                Holds::Created => &self.created,
                Holds::Stamp(delta) => {
                    let mut us = || *now.get_or_insert_with(&now_us);
                    let us = match self.stamps.get_mut(delta as usize) {
                        Some(0) => {
                            let us = us();
                            self.stamps[delta as usize] = us;
                            us
                        }
                        Some(sent) => *sent,
                        None => us(),
                    };
                    digits = decimal(us);
                    &digits
                }
            };
            // A slice may end or begin inside of it.
            let (begin, end) = (place.start.max(from), place.end.min(to));
            if let (Some(into), Some(text)) = (
                fresh.get_mut(begin - from..end - from),
                text.get(begin - place.start..end - place.start),
            ) {
                into.copy_from_slice(text);
            }
            if place.end > to {
                break;
            }
            self.site += 1;
        }
    }

    /// Counts the frames that went out whole, and returns how many deltas they hold.
    fn pass(&mut self, reply: &Reply) -> u32 {
        let before = self.frame;
        while reply.frames.get(self.frame).is_some_and(|frame| frame.end as usize <= self.at) {
            self.frame += 1;
        }
        let upto = |frames: usize| {
            frames.checked_sub(1).and_then(|last| reply.frames.get(last)).map_or(0, |it| it.deltas)
        };
        upto(self.frame) - upto(before)
    }
}

/// `N` decimal digits, with zeros in front.
fn decimal<const N: usize>(mut value: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(value % 10).unwrap_or(0)];
        value /= 10;
    }
    digits
}

fn hex(value: u64) -> [u8; 16] {
    let mut digits = [b'0'; 16];
    let mut rest = &mut digits[..];
    // Sixteen digits take every value.
    let _ = write!(rest, "{value:016x}");
    digits
}
