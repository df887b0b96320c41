//! Stop sequences for upstreams that know none: the text is cut where the first of them begins, and
//! the answer ends there, as if the upstream had stopped.

use crate::dialect::Decode;
use crate::dialect::event::{Event, Part, Sink, Stop};
use crate::dialect::mend::Mend;
use crate::wire::json::{self, Bad, Escaped, Kind, Raw};
use crate::wire::sse::Frame;

/// Cuts what `decoder` pushes at the sequences of a Chat request's `stop`: a string or an array of
/// strings. A `stop` without any gives the decoder back as it is.
#[must_use]
pub fn cut_at(stop: Raw<'_>, decoder: Box<dyn Decode>) -> Box<dyn Decode> {
    let mut sequences = Vec::new();
    let mut add = |text: Escaped<'_>| sequences.push(text.decode().into_owned());
    match stop.kind() {
        Kind::String => stop.string().into_iter().for_each(&mut add),
        Kind::Array => {
            // What the request's decoder let through is an array of strings.
            let _ = stop.cursor().array(|cursor| cursor.string().map(&mut add));
        }
        _ => {}
    }
    sequences.retain(|sequence| !sequence.is_empty());
    if sequences.is_empty() {
        return decoder;
    }
    Box::new(Cut { decoder, mend: Mend::default(), text: Text { sequences, ..Text::default() } })
}

/// A decoder whose text ends at a stop sequence.
struct Cut {
    decoder: Box<dyn Decode>,
    /// Sequences are compared with whole characters.
    mend: Mend,
    text: Text,
}

/// The text part that is looked through.
#[derive(Debug, Default)]
struct Text {
    sequences: Vec<String>,
    /// The number of the open text part.
    part: Option<u32>,
    /// The end of its text that may be the beginning of a sequence.
    held: String,
    /// What goes out, escaped.
    out: Vec<u8>,
    /// A sequence came: nothing more is passed on.
    stopped: bool,
}

impl Decode for Cut {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let Self { decoder, mend, text } = self;
        decoder.frame(frame, &mut |event| mend.event(event, &mut |event| text.event(event, sink)))
    }

    fn document(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Bad> {
        let Self { decoder, mend, text } = self;
        decoder.document(body, &mut |event| mend.event(event, &mut |event| text.event(event, sink)))
    }

    fn finish(&mut self, sink: &mut Sink<'_>) {
        let Self { decoder, mend, text } = self;
        decoder.finish(&mut |event| mend.event(event, &mut |event| text.event(event, sink)));
    }

    fn is_done(&self) -> bool {
        self.text.stopped || self.decoder.is_done()
    }
}

impl Text {
    fn event(&mut self, event: Event<'_>, sink: &mut Sink<'_>) {
        if self.stopped {
            return;
        }
        match event {
            Event::Open { part, kind: Part::Text { .. } } => {
                self.part = Some(part);
                sink(event);
            }
            Event::Delta { part, text, logprobs } if self.part == Some(part) => {
                self.delta(part, text, logprobs, sink);
            }
            Event::Close { part } if self.part == Some(part) => {
                self.part = None;
                let rest = self.held.len();
                self.pass(part, rest, sink);
                sink(event);
            }
            event => sink(event),
        }
    }

    fn delta(
        &mut self,
        part: u32,
        text: Escaped<'_>,
        logprobs: Option<Raw<'_>>,
        sink: &mut Sink<'_>,
    ) {
        let fresh = self.held.is_empty();
        self.held.push_str(&text.decode());
        let found = self.sequences.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.pass(part, at, sink);
            self.stopped = true;
            sink(Event::Close { part });
            sink(Event::Stop(Stop::End));
            return;
        }
        let whole = self.held.len();
        let certain = whole - self.doubtful();
        if fresh && certain == whole {
            self.held.clear();
            sink(Event::Delta { part, text, logprobs });
        } else {
            // Log probabilities belong to whole deltas, and this one is none any more.
            self.pass(part, certain, sink);
        }
    }

    /// Length of the longest end of the held text that begins a sequence.
    fn doubtful(&self) -> usize {
        let begins = |stop: &String| {
            let longest = self.held.len().min(stop.len().saturating_sub(1));
            let fits = |length: &usize| {
                stop.is_char_boundary(*length) && self.held.ends_with(&stop[..*length])
            };
            (1..=longest).rev().find(fits).unwrap_or(0)
        };
        self.sequences.iter().map(begins).max().unwrap_or(0)
    }

    /// Passes on so many bytes of the held text.
    fn pass(&mut self, part: u32, bytes: usize, sink: &mut Sink<'_>) {
        if bytes == 0 {
            return;
        }
        self.out.clear();
        json::escape(&self.held[..bytes], &mut self.out);
        // Escaping text gives text.
        let text = std::str::from_utf8(&self.out).unwrap_or_default();
        sink(Event::Delta { part, text: Escaped::trusted(text), logprobs: None });
        self.held.drain(..bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::event::Grammar;
    use crate::dialect::quirks::Quirks;
    use crate::dialect::{Sent, by_name};

    /// The text of a Responses stream of these deltas, cut at `stop`; and whether it was cut.
    fn cut(stop: &str, deltas: &[&str]) -> (String, bool) {
        let decoder = by_name("responses").unwrap().decoder(Sent::default(), &Quirks::default());
        let mut decoder = cut_at(Raw::check(stop).unwrap(), decoder);
        let (mut text, mut stops, mut grammar) = (String::new(), 0, Grammar::default());
        let mut sink = |event: Event<'_>| {
            grammar.check(&event).unwrap();
            match event {
                Event::Delta { text: delta, .. } => text.push_str(&delta.decode()),
                Event::Stop(Stop::End) => stops += 1,
                _ => {}
            }
        };
        let mut frames = vec![
            r#"{"type":"response.created","response":{"id":"r","model":"m"}}"#.to_owned(),
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"m","role":"assistant","content":[]}}"#.to_owned(),
        ];
        for delta in deltas {
            frames.push(format!(
                r#"{{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"{delta}"}}"#
            ));
        }
        let whole = deltas.concat();
        frames.push(format!(
            r#"{{"type":"response.output_item.done","output_index":0,"item":{{"type":"message","id":"m","role":"assistant","content":[{{"type":"output_text","text":"{whole}"}}]}}}}"#
        ));
        let early = frames.len();
        frames
            .push(r#"{"type":"response.completed","response":{"id":"r","output":[]}}"#.to_owned());
        let mut cut = false;
        for (number, frame) in frames.iter().enumerate() {
            decoder.frame(Frame { name: b"", data: frame.as_bytes() }, &mut sink).unwrap();
            cut |= number < early && decoder.is_done();
        }
        decoder.finish(&mut sink);
        assert!(decoder.is_done());
        drop(decoder);
        assert_eq!(stops, 1);
        (text, cut)
    }

    #[test]
    fn text_ends_where_the_first_sequence_begins() {
        for (stop, deltas, expected, stopped) in [
            (r#""four""#, &["one two three four five"][..], "one two three ", true),
            (r#""four""#, &["three fo", "ur five"], "three ", true),
            (r#""four""#, &["f", "o", "u", "r"], "", true),
            (r#""four""#, &["three fo", "x four"], "three fox ", true),
            (r#""four""#, &["three fou"], "three fou", false),
            (r#"["x","wo"]"#, &["one two x"], "one t", true),
            (r#""aab""#, &["aa", "ab!"], "a", true),
            (r#""\n\n""#, &[r"a\n", r"\nb"], "a", true),
            (r#""\u00e9\u00e8""#, &["caf\u{e9}", "\u{e8}!"], "caf", true),
            ("\"\u{1f600}\"", &[r"hi \ud83d", r"\ude00 there"], "hi ", true),
            (r#""""#, &["all"], "all", false),
            ("null", &["all"], "all", false),
            ("[]", &["all"], "all", false),
        ] {
            let found = cut(stop, deltas);
            assert_eq!(found, (expected.to_owned(), stopped), "{stop} {deltas:?}");
        }
    }
}
