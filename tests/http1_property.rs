//! The HTTP/1.1 parsers on damaged messages: no cut changes the verdict, and whatever they accept,
//! an independent reader understands in the same way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile_cases;

use hostile_cases::{replies, requests};
use patchbay::wire::http1::{BodyDecoder, BodyFraming, BodyLimits, BodyStep, Fields};
use patchbay::wire::http1::{HeadLimits, HeadSearch};
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::LazyLock;

const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 4096, request_line_bytes_max: 512, headers_max: 40 };
const BODY: BodyLimits = BodyLimits { body_bytes_max: 4096, overhead_bytes_max: 256 };

/// Bytes that mean something in a head or in chunk framing.
const TELLING: &[u8] = b"\r\n\r\n :,;=\t\0\"\\019afx-/\x7f\x80\xff";

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let requests = requests().into_iter().map(|case| case.bytes);
    let replies = replies::replies().into_iter().map(|case| case.bytes);
    requests.chain(replies).filter(|bytes| bytes.len() < 2000).collect()
});

/// A change at a place: a byte replaced, inserted or removed, or a piece of another seed put in.
type Damage = (u8, Index, Index);

fn damaged(seed: &Index, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = seed.get(&SEEDS).clone();
    for (kind, place, with) in damages {
        let at = place.index(bytes.len() + 1);
        let byte = *with.get(TELLING);
        match kind {
            0 if at < bytes.len() => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => {
                let other = with.get(&SEEDS);
                let from = place.index(other.len() + 1);
                let piece = &other[from..other.len().min(from + 40)];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec((0..5_u8, any::<Index>(), any::<Index>()), 0..4)
}

/// The line and the framing, the bytes used, and the content with how it ended; or the fault.
fn read(requests: bool, pieces: &[&[u8]]) -> (String, usize, Vec<u8>) {
    let mut buffer = Vec::new();
    let mut search = HeadSearch::default();
    let mut body = None;
    let (mut verdict, mut taken, mut content) = (String::from("head"), 0, Vec::new());
    'pieces: for piece in pieces {
        buffer.extend_from_slice(piece);
        let decoder = match &mut body {
            Some(decoder) => decoder,
            None => {
                let found = if requests {
                    search.request(&buffer, &HEAD).map(|found| {
                        found.map(|(head, used)| (format!("{head:?}"), head.framing, used))
                    })
                } else {
                    search.reply(&buffer, &HEAD, false).map(|found| {
                        found.map(|(head, used)| (format!("{head:?}"), head.framing, used))
                    })
                };
                match found {
                    Ok(None) => continue,
                    Err(fault) => return (fault.to_string(), 0, content),
                    Ok(Some((head, framing, used))) => {
                        (verdict, taken) = (head, used);
                        buffer.drain(..used);
                        match BodyDecoder::new(framing, BODY) {
                            Ok(decoder) => body.insert(decoder),
                            Err(fault) => return (fault.to_string(), taken, content),
                        }
                    }
                }
            }
        };
        loop {
            match decoder.decode(&buffer) {
                Ok((step, used)) => {
                    taken += used;
                    let more = matches!(step, BodyStep::Data(_));
                    let end = step == BodyStep::End;
                    if let BodyStep::Data(data) = step {
                        content.extend_from_slice(data);
                    }
                    buffer.drain(..used);
                    if end {
                        break 'pieces;
                    }
                    if !more {
                        break;
                    }
                }
                Err(fault) => return (format!("{verdict} {fault}"), 0, content),
            }
        }
    }
    let whole = body.is_some_and(|body| body.finish().is_ok());
    (format!("{verdict} {whole}"), taken, content)
}

/// A head as the slow reader understands it.
struct Reference {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
}

/// A slow reader after the letter of the standard: the first line and the fields of a head, or
/// `None` unless every line is clean.
fn reference(head: &[u8]) -> Option<Reference> {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let text = text.trim_start_matches("\r\n").strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let first = lines.next()?.to_owned();
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let value = |c: char| c == '\t' || (c >= ' ' && c != '\x7f');
    let mut fields = Vec::new();
    for line in lines {
        let (name, content) = line.split_once(':')?;
        if name.is_empty() || !name.chars().all(token) || !content.chars().all(value) {
            return None;
        }
        let content = content.trim_matches([' ', '\t']).chars();
        let bytes = content.map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        fields.push((name.to_owned(), bytes));
    }
    first.chars().all(value).then_some(Reference { line: first, fields })
}

fn owned(fields: Fields<'_>) -> Vec<(String, Vec<u8>)> {
    fields.map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_cut_changes_the_verdict(
        seed: Index,
        damages in damage(),
        at: (Index, Index),
        requests: bool,
    ) {
        let bytes = damaged(&seed, &damages);
        let whole = read(requests, &[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(requests, &single), &whole);
        let (a, b) = (at.0.index(bytes.len() + 1), at.1.index(bytes.len() + 1));
        let (a, b) = (a.min(b), a.max(b));
        prop_assert_eq!(&read(requests, &[&bytes[..a], &bytes[a..b], &bytes[b..]]), &whole);
    }

    #[test]
    fn accepted_requests_are_read_alike(seed: Index, damages in damage()) {
        let bytes = damaged(&seed, &damages);
        let Ok(Some((head, used))) = HeadSearch::default().request(&bytes, &HEAD) else {
            return Ok(());
        };
        let Reference { line, fields } = reference(&bytes[..used]).unwrap();
        prop_assert_eq!(line.split(' ').next(), Some(head.method.name()));
        prop_assert!(line.contains(head.query.unwrap_or(head.path)));
        prop_assert_eq!(owned(head.fields()), fields);
        // What decides the body's end must not have another reading.
        let named = |name: &str| head.fields().filter(|field| field.is(name)).count();
        match head.framing {
            BodyFraming::None => prop_assert_eq!(
                named("content-length") + named("transfer-encoding"), 0),
            BodyFraming::Length(_) => prop_assert_eq!(
                (named("content-length"), named("transfer-encoding")), (1, 0)),
            BodyFraming::Chunked => prop_assert_eq!(
                (named("content-length"), named("transfer-encoding")), (0, 1)),
            BodyFraming::UntilClose => prop_assert!(false, "a request until the end"),
        }
    }

    #[test]
    fn accepted_replies_are_read_alike(seed: Index, damages in damage()) {
        let bytes = damaged(&seed, &damages);
        let Ok(Some((head, used))) = HeadSearch::default().reply(&bytes, &HEAD, false) else {
            return Ok(());
        };
        let Reference { line, fields } = reference(&bytes[..used]).unwrap();
        prop_assert_eq!(line[9..12].parse(), Ok(head.status));
        prop_assert_eq!(owned(head.fields()), fields);
    }

    #[test]
    fn any_bytes_end_in_a_verdict(bytes: Vec<u8>, requests: bool) {
        read(requests, &[&bytes]);
        let mut body = BodyDecoder::new(BodyFraming::Chunked, BODY).unwrap();
        let mut at = 0;
        for _ in 0..=bytes.len() {
            match body.decode(&bytes[at..]) {
                Ok((BodyStep::Data(_), used)) => at += used,
                _ => return Ok(()),
            }
        }
        prop_assert!(false, "the decoder makes no progress");
    }
}
