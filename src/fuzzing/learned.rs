//! Recognising frames by their bytes changes nothing: an answer that is read so equals one whose
//! every frame is read in full.

use super::transcode::Setup;
use crate::transcode::{Form, Outcome, Transcoder};

/// Unix time in seconds.
const NOW_S: u64 = 1_750_000_000;

/// Largest stream that is made of one input.
const STREAM_BYTES_MAX: usize = 64 * 1024;

/// The first byte chooses dialects, relaying and cuts. The rest is a stream: pieces of text behind
/// zero bytes are changes of the frame before them, so that frames come that are almost alike: one
/// byte says where, one how many bytes go, and what follows takes their place.
///
/// # Panics
/// When the two answers differ.
pub fn streams(bytes: &[u8]) {
    let Some((&by, rest)) = bytes.split_first() else { return };
    let side = |bit: u8| if by & bit == 0 { "chat" } else { "responses" };
    let upstream = if by & 64 == 0 { side(1) } else { "gigachat" };
    let Some(setup) = Setup::streams(upstream, side(2)) else { return };
    let relay = upstream == side(2) && by & 4 != 0;
    let model = (by & 8 != 0).then(|| "renamed".to_owned());
    let stream = unfold(rest);
    let piece = [usize::MAX, 1, 7, 300][usize::from(by >> 4 & 3)];
    let make = || {
        if relay {
            let (decoder, encoder) = (setup.decoder(), setup.encoder());
            Transcoder::relay(decoder, encoder, Form::Stream, model.clone(), 1 << 30)
        } else {
            setup.transcoder()
        }
    };
    let (fast, seen) = run(make(), &stream, piece);
    let (full, known) = run(make().without_learning(), &stream, usize::MAX);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&fast), text(&full), "the recognised frames meant something else");
    assert_eq!(seen, known);
}

fn run(mut transcoder: Transcoder, stream: &[u8], piece: usize) -> (Vec<u8>, Outcome) {
    let (mut start, mut end, mut out) = (0, 0, Vec::new());
    while end < stream.len() {
        end = end.saturating_add(piece).min(stream.len());
        match transcoder.push(&stream[start..end], NOW_S, &mut out) {
            Ok(used) => start += used,
            Err(fault) => panic!("{fault}"),
        }
    }
    transcoder.finish(&stream[start..], NOW_S, &mut out);
    (out, transcoder.outcome().clone())
}

/// Text up to the first zero byte as it is, then each changed copy of the last frame.
fn unfold(bytes: &[u8]) -> Vec<u8> {
    let mut pieces = bytes.split(|&byte| byte == 0);
    let mut stream = pieces.next().unwrap_or_default().to_vec();
    let front = stream.strip_suffix(b"\n\n").unwrap_or(&stream);
    let from = memchr::memmem::rfind(front, b"\n\n").map_or(0, |at| at + 2);
    let mut frame = stream.split_off(from);
    stream.extend_from_slice(&frame);
    for change in pieces {
        if let [at, gone, new @ ..] = change {
            let at = usize::from(*at) * frame.len() / 255;
            let end = (at + usize::from(*gone % 16)).min(frame.len());
            frame.splice(at..end, new.iter().copied());
        }
        stream.extend_from_slice(&frame);
        if stream.len() > STREAM_BYTES_MAX {
            break;
        }
    }
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_unfold_as_changes_of_the_last_one() {
        let made = unfold(b"a\n\ndata: x\n\n\x00\xaa\x01yz\x00\x1a\x01A");
        let expected = "a\n\ndata: x\n\ndata: yz\n\ndAta: yz\n\n";
        assert_eq!(String::from_utf8_lossy(&made), expected);
    }
}
