//! Server-sent events beside a slow reader.

use crate::wire::sse::{Decoder, Step};

/// One event as name and data; an owned [`crate::wire::sse::Frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The `event` field.
    pub name: Vec<u8>,
    /// The `data` field.
    pub data: Vec<u8>,
}

/// The frames of a stream are those of a slow reader, however the stream is cut. `seed` chooses the
/// cuts that are tried.
///
/// # Panics
/// When they are not.
pub fn cut(bytes: &[u8], seed: u64) {
    let expected = frames_slowly(bytes);
    assert_eq!(frames(&[bytes]), expected, "whole");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(frames(&single), expected, "byte by byte");
    let mut random = seed;
    for _ in 0..4 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let at = usize::try_from(random >> 33).unwrap_or(0) % (bytes.len() + 1);
        let (front, back) = bytes.split_at(at);
        assert_eq!(frames(&[front, back]), expected, "cut at {at}");
    }
}

/// Feeds a stream piece by piece, as a connection does, up to its end.
#[must_use]
pub fn frames(pieces: &[&[u8]]) -> Vec<OwnedFrame> {
    let mut decoder = Decoder::default();
    let (mut waiting, mut frames) = (Vec::new(), Vec::new());
    let own = |step: Step<'_>| match step {
        Step::Frame(frame) => {
            Some(OwnedFrame { name: frame.name.to_vec(), data: frame.data.to_vec() })
        }
        _ => None,
    };
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let (step, used) = decoder.step(&waiting);
            assert_eq!(step == Step::NeedMore, used == 0, "a step moves on or asks for more");
            frames.extend(own(step));
            if used == 0 {
                break;
            }
            waiting.drain(..used);
        }
    }
    frames.extend(own(decoder.finish(&waiting)));
    frames
}

/// The standard's algorithm, word for word and slow: line ends made equal, then line by line. The
/// block that the end of the stream cuts is kept, as [`Decoder::finish`] does.
#[must_use]
pub fn frames_slowly(bytes: &[u8]) -> Vec<OwnedFrame> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = vec![Vec::new()];
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && bytes[at - 1] == b'\r' => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => lines.last_mut().into_iter().for_each(|line| line.push(byte)),
        }
    }
    lines.push(Vec::new());
    let (mut frames, mut name, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            let (name, mut data) = (std::mem::take(&mut name), std::mem::take(&mut data));
            if data.pop().is_some() {
                frames.push(OwnedFrame { name, data });
            }
            continue;
        }
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let field = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            _ => {}
        }
    }
    frames
}
