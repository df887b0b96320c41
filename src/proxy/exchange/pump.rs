//! The answer on its way: one read after the other into one chunk, held back until its status is
//! known to be a good one.

use super::{Exchange, Parked, Stage, Step};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::capture::Place;
use crate::proxy::client::Client;
use crate::proxy::net::Net;
use crate::proxy::reply;
use crate::proxy::shared::{Now, Shared};
use crate::proxy::upstream::{Head, Read, Upstream};
use crate::proxy::worker::Worker;
use crate::transcode::{Form, Transcoder};
use crate::wire::http1::{BodyLength, chunk_begin, chunk_end, last_chunk, write_reply_head};

/// Reads of one connection in one turn.
const TURN_READS_MAX: u32 = 16;
/// Bytes read of one connection in one turn.
const TURN_BYTES_MAX: u64 = 256 << 10;

/// Why [`Exchange::transcode`] stopped.
enum Pumped {
    Blocked,
    /// The budget of this turn is spent.
    Spent,
    /// The client has enough to take.
    Full,
    /// The answer's end is written.
    Whole,
    /// The connection failed before it.
    Broken,
}

impl<N: Net> Worker<N> {
    /// Moves the answer: what the client did not take yet comes first.
    pub(super) fn pump(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        upstream: &mut Upstream,
        now: Now,
    ) -> Step {
        let limits = self.shared.config.limits;
        let pending = client.out.len();
        if upstream.paused {
            if pending > limits.pending_low_bytes {
                return Step::Wait;
            }
            upstream.paused = false;
            upstream.since = now.instant;
        } else if pending > limits.pending_high_bytes {
            upstream.paused = true;
            return Step::Wait;
        }
        let room = limits.pending_high_bytes.saturating_sub(pending).max(1);
        let pumped = if exchange.committed {
            client.out.rent(&mut self.shared.buffers);
            let chunks = exchange.intake.chunks;
            client.out.append(|out| {
                let mark = chunks.then(|| chunk_begin(out));
                let start = out.len();
                let pumped = exchange.transcode(&mut self.shared, upstream, out, room, now);
                exchange.tape_body(Place::ClientReply, out.get(start..).unwrap_or_default());
                if let Some(mark) = mark {
                    chunk_end(mark, out);
                }
                pumped
            })
        } else {
            let mut staged = self.shared.stage(&mut exchange.staged);
            let pumped = exchange.transcode(&mut self.shared, upstream, &mut staged, room, now);
            exchange.staged = staged;
            pumped
        };
        if client.out.len() > pending {
            exchange.heard = now.instant;
        }
        let whole = matches!(pumped, Pumped::Whole | Pumped::Broken);
        exchange.broken |= matches!(pumped, Pumped::Broken);
        exchange.cut |= exchange.broken;
        if !exchange.committed {
            self.commit(client, exchange, whole, now);
        } else if whole {
            self.end_stream(client, exchange);
        }
        // How a command ended is told a moment after its output did.
        exchange.parked = upstream.is_parting().then_some(Parked::Launch);
        match pumped {
            Pumped::Blocked => Step::Wait,
            Pumped::Spent | Pumped::Full => Step::More,
            Pumped::Whole | Pumped::Broken => Step::Again,
        }
    }

    /// Decides whether what is staged can be sent: as an answer, or as an error with its status.
    fn commit(&mut self, client: &mut Client, exchange: &mut Exchange, whole: bool, now: Now) {
        let early = exchange.transcoder.as_ref().and_then(Transcoder::early_failure).cloned();
        if let Some(failure) = early {
            self.refuse(client, exchange, &failure, now);
            return;
        }
        let streams = exchange.streams();
        if (exchange.staged.is_empty() || !streams) && !whole {
            return;
        }
        exchange.committed = true;
        exchange.heard = now.instant;
        exchange.status = 200;
        self.shared.meter.reply(200);
        let staged = std::mem::take(&mut exchange.staged);
        let chunks = exchange.intake.chunks;
        exchange.keep_alive &= !self.is_draining() && (chunks || !streams);
        let length = match (streams, chunks) {
            (false, _) => BodyLength::Known(staged.len() as u64),
            (true, true) => BodyLength::Chunked,
            (true, false) => BodyLength::UntilClose,
        };
        client.out.rent(&mut self.shared.buffers);
        client.out.append(|out| {
            let start = out.len();
            exchange.write_head(length, out);
            if let Some(tape) = &mut exchange.tape {
                tape.head(Place::ClientReply, out.get(start..).unwrap_or_default());
                tape.body(Place::ClientReply, &staged);
            }
            let mark = (streams && chunks).then(|| chunk_begin(out));
            out.extend_from_slice(&staged);
            if let Some(mark) = mark {
                chunk_end(mark, out);
            }
        });
        self.shared.buffers.give_back(staged);
        if whole {
            self.end_stream(client, exchange);
        }
    }

    /// The last byte of the answer is written: ends the framing, unless the answer broke off.
    pub(super) fn end_stream(&mut self, client: &mut Client, exchange: &mut Exchange) {
        exchange.stage = Stage::Over;
        let failed = exchange.transcoder.as_ref().and_then(|t| t.outcome().failure.as_ref());
        exchange.label = failed.map(|failure| failure.fault.code());
        if exchange.label.is_none() {
            // The terminal event came before the connection failed: the answer is whole.
            exchange.cut = false;
        } else {
            self.shared.meter.broken += 1;
        }
        if exchange.cut {
            exchange.keep_alive = false;
        } else if exchange.streams() && exchange.intake.chunks {
            client.out.append(last_chunk);
        }
    }

    /// The client waits in silence: gives its timer something, where there is a stream.
    pub(crate) fn keep_alive(&mut self, client: &mut Client, exchange: &mut Exchange, now: Now) {
        exchange.heard = now.instant;
        let mut staged = self.shared.stage(&mut exchange.staged);
        if exchange.transcoder.is_none() {
            // The reply's head is here, and not a byte of its body: it is what its head says.
            exchange.begin_transcoder(exchange.head.form.unwrap_or(Form::Stream), &self.shared);
        }
        if let Some(transcoder) = &mut exchange.transcoder {
            transcoder.keep_alive(&mut staged);
        }
        exchange.staged = staged;
        if !exchange.committed {
            self.commit(client, exchange, false, now);
            return;
        }
        let staged = std::mem::take(&mut exchange.staged);
        exchange.tape_body(Place::ClientReply, &staged);
        client.out.rent(&mut self.shared.buffers);
        let chunks = exchange.intake.chunks;
        client.out.append(|out| {
            let mark = chunks.then(|| chunk_begin(out));
            out.extend_from_slice(&staged);
            if let Some(mark) = mark {
                chunk_end(mark, out);
            }
        });
        self.shared.buffers.give_back(staged);
    }
}

impl Exchange {
    /// Reads from the upstream and appends what the client gets, until one of them has enough.
    fn transcode<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
        room: usize,
        now: Now,
    ) -> Pumped {
        let full = out.len().saturating_add(room);
        let bytes = shared.meter.upstream_bytes[0];
        let (stream, frame_bytes_max) = (self.streams(), shared.config.limits.frame_bytes_max);
        let (mut reads, mut ended) = (0, None);
        loop {
            if self.transcoder.is_none() && !upstream.payload.is_empty() {
                self.begin_transcoder(form(&self.head, upstream.payload.filled()), shared);
            }
            if let Some(transcoder) = &mut self.transcoder
                && !upstream.payload.is_empty()
            {
                let pushed = transcoder.push(upstream.payload.filled(), now.unix_s, out);
                let folded_max = if stream { usize::MAX } else { frame_bytes_max };
                match pushed {
                    Ok(used) if self.taken.saturating_add(used) <= folded_max => {
                        self.taken = self.taken.saturating_add(used);
                        if let Some(tape) = &mut self.tape {
                            let read = upstream.payload.filled().get(..used);
                            tape.body(Place::UpstreamReply, read.unwrap_or_default());
                        }
                        upstream.payload.consume(used);
                    }
                    Ok(_) | Err(_) => {
                        if let Some(tape) = &mut self.tape {
                            tape.body(Place::UpstreamReply, upstream.payload.filled());
                        }
                        let failure = too_large(frame_bytes_max);
                        transcoder.fail(&failure, now.unix_s, out);
                        return Pumped::Broken;
                    }
                }
                if transcoder.is_done() {
                    transcoder.finish(&[], now.unix_s, out);
                    return Pumped::Whole;
                }
            }
            if let Some(broken) = ended {
                return self.end_answer(broken, shared, upstream, out, now);
            }
            if out.len() >= full {
                return Pumped::Full;
            }
            let read_bytes = shared.meter.upstream_bytes[0].wrapping_sub(bytes);
            if reads >= TURN_READS_MAX || read_bytes >= TURN_BYTES_MAX {
                return Pumped::Spent;
            }
            reads += 1;
            // An end may come together with the last frames: those go first.
            match upstream.read_body(shared, now.instant) {
                Read::Some => {}
                Read::Blocked => return Pumped::Blocked,
                Read::End => ended = Some(None),
                Read::Broken(failure) => ended = Some(Some(failure)),
            }
        }
    }

    /// The reply's body is over, orderly or not.
    fn end_answer<N: Net>(
        &mut self,
        broken: Option<Failure>,
        shared: &Shared<N>,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Pumped {
        if self.transcoder.is_none() {
            self.begin_transcoder(form(&self.head, upstream.payload.filled()), shared);
        }
        self.tape_body(Place::UpstreamReply, upstream.payload.filled());
        let Some(transcoder) = &mut self.transcoder else { return Pumped::Broken };
        match broken {
            None => {
                transcoder.finish(upstream.payload.filled(), now.unix_s, out);
                upstream.payload.clear();
                Pumped::Whole
            }
            Some(failure) => {
                transcoder.push_last(upstream.payload.filled(), now.unix_s, out);
                transcoder.fail(&failure, now.unix_s, out);
                Pumped::Broken
            }
        }
    }

    fn begin_transcoder<N: Net>(&mut self, form: Form, shared: &Shared<N>) {
        let frame_bytes_max = shared.config.limits.frame_bytes_max;
        self.transcoder =
            self.order.as_mut().and_then(|order| order.transcoder(form, frame_bytes_max));
    }

    fn write_head(&mut self, length: BodyLength, out: &mut Vec<u8>) {
        const STREAM: &[(&str, &str)] = &[
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
        ];
        const DOCUMENT: &[(&str, &str)] = &[("content-type", "application/json")];
        let id = self.request_id();
        let dropped = self.order.as_ref().map_or("", |order| order.dropped.as_str());
        let dropped = Some(("x-patchbay-dropped", dropped)).filter(|(_, names)| !names.is_empty());
        let usual = if self.streams() { STREAM } else { DOCUMENT };
        let passed = reply::passed(&self.head, self.same());
        let headers = std::iter::once(("x-request-id", id.as_str()))
            .chain(usual.iter().copied())
            .chain(dropped)
            .chain(passed.map(|(name, value)| (name.as_str(), value.as_str())));
        if write_reply_head(200, headers, length, self.keep_alive, out).is_err() {
            // A value of the upstream's cannot be written: the answer matters more than it does.
            let kind = if self.streams() { "text/event-stream" } else { "application/json" };
            let _ = write_reply_head(200, [("content-type", kind)], length, self.keep_alive, out);
        }
    }
}

fn too_large(frame_bytes_max: usize) -> Failure {
    let message = format!(
        "the upstream's reply has an event or a document of more than {frame_bytes_max} bytes \
         (limits.frame_bytes_max)"
    );
    Failure::new(Fault::upstream(Kind::BadReply), message)
}

/// What the content type says, or what the first byte looks like.
fn form(head: &Head, payload: &[u8]) -> Form {
    head.form.unwrap_or_else(|| match payload.trim_ascii_start().first() {
        Some(b'{' | b'[') => Form::Document,
        _ => Form::Stream,
    })
}
