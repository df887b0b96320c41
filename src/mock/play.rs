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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::reply::Key;
    use crate::mock::wire::{Form, Wire};
    use std::cell::Cell;

    const CHUNKS: Manner = Manner { chunks: true, keep_alive: true };
    const PLAIN: Manner = Manner { chunks: false, keep_alive: false };

    fn begin(wire: Wire, script: &str, manner: Manner, now: Instant) -> Play {
        let script: Script = script.parse().unwrap();
        let form = Form { stream: true, tool: "look".to_owned(), ..Form::default() };
        let reply = Reply::new(&Key::new(wire, form, &script), 16 << 20).unwrap();
        Play::new(Arc::new(reply), &script, manner, 0xabc, 1_700_000_000, now)
    }

    /// Every write, and the deltas of all.
    fn writes(play: &mut Play) -> (Vec<String>, u32) {
        let (mut writes, mut deltas, clock) = (Vec::new(), 0, Cell::new(1_700_000_000_000_000));
        while !play.is_over() {
            let mut out = Vec::new();
            deltas += play.compose(|| clock.replace(clock.get() + 1000), &mut out);
            writes.push(String::from_utf8(out).unwrap());
        }
        (writes, deltas)
    }

    /// The body without head and chunks.
    fn body(writes: &[String]) -> String {
        let whole = writes.concat();
        let mut rest = whole.split_once("\r\n\r\n").unwrap().1;
        let mut body = String::new();
        while let Some((size, behind)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            body += &behind[..size];
            rest = &behind[size + 2..];
        }
        body
    }

    #[test]
    fn any_slice_gives_the_same_bytes() {
        let script = "stamp=true,bytes=24,deltas=3,calls=1,reasoning=1";
        for wire in Wire::ALL {
            let now = Instant::now();
            let (whole, deltas) = writes(&mut begin(wire, script, CHUNKS, now));
            // Each stamp is first sent in a write of its own.
            let expected = body(&whole);
            assert!(
                expected.contains("@1700000000000000 ") && expected.contains("@1700000000002000 ")
            );
            assert!(!expected.contains("4102444799") && !expected.contains("@0000"));
            for slice in 1..60 {
                let script = format!("{script},slice={slice}");
                let (cut, count) = writes(&mut begin(wire, &script, CHUNKS, now));
                assert_eq!(body(&cut), expected, "{wire:?} {slice}");
                assert_eq!(count, deltas, "{wire:?} {slice}");
            }
        }
    }

    #[test]
    fn the_head_goes_with_the_first_write_and_the_end_with_the_last() {
        let now = Instant::now();
        let (all, deltas) = writes(&mut begin(Wire::Chat, "deltas=2", CHUNKS, now));
        assert_eq!((all.len(), deltas), (5, 2));
        assert!(all[0].starts_with("HTTP/1.1 200 OK\r\n") && all[0].contains("\"role\""));
        assert!(all[0].contains("\r\nx-request-id: 0000000000000abc\r\n"));
        assert!(all[4].ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
        let (all, _) = writes(&mut begin(Wire::Chat, "frames=0", PLAIN, now));
        assert_eq!(all.len(), 1);
        assert!(all[0].contains("connection: close\r\n") && all[0].ends_with("[DONE]\n\n"));
        // Too much for one write is cut between frames.
        let mut play = begin(Wire::Chat, "frames=0,deltas=3000", CHUNKS, now);
        let (all, deltas) = writes(&mut play);
        assert_eq!((all.len(), deltas), (3, 3000));
        assert!(all[1].ends_with("\n\n\r\n") && all[1].len() <= WRITE_BYTES_MAX + 12);
        // A frame that is too much alone goes whole.
        let (all, _) = writes(&mut begin(Wire::Chat, "frames=0,bytes=300000", CHUNKS, now));
        assert_eq!(all.len(), 18);
    }

    #[test]
    fn a_late_write_keeps_the_pace_and_a_stall_moves_what_follows() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut play = begin(Wire::Chat, "first=10ms,pace=20ms", CHUNKS, start);
        assert_eq!(play.due, ms(10));
        play.advance(ms(13));
        assert_eq!(play.due, ms(30), "three milliseconds late, and none is lost");
        play.advance(ms(65));
        assert_eq!(play.due, ms(50), "one write is made up for");
        play.advance(ms(5000));
        assert_eq!(play.due, ms(5000), "a hundred are not");
        let mut play = begin(Wire::Chat, "pace=200us", CHUNKS, start);
        play.advance(ms(4));
        assert_eq!(play.due, start + Duration::from_micros(200), "the timer ticks in milliseconds");
    }
}
