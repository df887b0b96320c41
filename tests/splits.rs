//! A stream means the same however the network cuts it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use patchbay::fuzzing::sse::{OwnedFrame, frames, frames_slowly};
use patchbay::fuzzing::transcode::Setup;

/// Streams with every form of line end, comments, marks, text beyond ASCII and broken ends.
const STREAMS: &[&[u8]] = &[
    b"",
    b"data: one\n\ndata: two\n\n",
    b"data: one\r\n\r\ndata: two\r\n\r\n",
    b"data: one\r\rdata: two\r\r",
    b"data: one\r\n\ndata: two\n\r\ndata: three\r\r\ndata: four\n\r\r\n",
    b"\xef\xbb\xbfdata: one\n\n\xef\xbb\xbfdata: two\n\ndata: three\n\n",
    b"\xef\xbbdata: no mark\n\n",
    b": ping\n\n: ping\r\n\r\n:\r\rdata: one\n\n: ping",
    b"event: a\ndata: 1\n\nevent: b\r\ndata: 2\r\n\r\nevent:c\rdata:3\r\r",
    b"data: first\ndata: second\r\ndata:third\rdata\n\n",
    b"data\n\ndata:\n\ndata: \n\ndata:  \n\n",
    b"id: 7\nretry: 10\nfoo: bar\nbaz\ndata: x\n\nid: 8\n\n",
    b"data: {\"a\":\"\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80\"}\n\ndata: \xff\xfe\x00\n\n",
    b"data: [DONE]\n\n",
    b"data: without a blank line\n",
    b"data: without a line end",
    b"data: one\n\ndata: cut in two\r",
    b"\n\n\r\n\r\r\n\ndata: after blank lines\n\n\n\n",
    b"data: a\n\rdata: b\n\r",
];

#[test]
fn every_cut_in_two_gives_the_same_frames() {
    for stream in STREAMS {
        let expected = frames_slowly(stream);
        for at in 0..=stream.len() {
            let (front, back) = stream.split_at(at);
            assert_eq!(
                frames(&[front, back]),
                expected,
                "{:?} cut at {at}",
                stream.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn every_cut_in_three_gives_the_same_frames() {
    for stream in STREAMS {
        let expected = frames_slowly(stream);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(frames(&pieces), expected, "cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same_frames() {
    for stream in STREAMS {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes), frames_slowly(stream));
    }
}

#[test]
fn the_slow_reader_itself_is_right() {
    let frame = |name: &str, data: &str| OwnedFrame {
        name: name.as_bytes().to_vec(),
        data: data.as_bytes().to_vec(),
    };
    let cases: [(&str, Vec<OwnedFrame>); 5] = [
        ("data: a\n\ndata:b\r\n\r\n", vec![frame("", "a"), frame("", "b")]),
        ("event: x\r\ndata: a\rdata: b\n\r", vec![frame("x", "a\nb")]),
        ("data\n\ndata", vec![frame("", ""), frame("", "")]),
        (": a\n\nevent: x\n\ndata: y\n\n", vec![frame("", "y")]),
        ("data: a\r\n\r\n\r\n", vec![frame("", "a")]),
    ];
    for (stream, expected) in cases {
        assert_eq!(frames_slowly(stream.as_bytes()), expected, "{stream:?}");
    }
}

/// Whole replies with text, reasoning and calls: the fuzz targets' seeds without their first two
/// bytes, which choose the set-up there.
const REPLIES: &[(&str, &[u8])] = &[
    ("chat", include_bytes!("../fuzz/seeds/chat_stream/text")),
    ("chat", include_bytes!("../fuzz/seeds/chat_stream/text-crlf")),
    ("chat", include_bytes!("../fuzz/seeds/chat_stream/calls")),
    ("chat", include_bytes!("../fuzz/seeds/chat_stream/think")),
    ("chat", include_bytes!("../fuzz/seeds/chat_stream/error")),
    ("responses", include_bytes!("../fuzz/seeds/responses_stream/all")),
];

/// Every reply with every client, and its bytes.
fn each_reply(mut each: impl FnMut(&Setup, &[u8])) {
    for (upstream, seed) in REPLIES {
        for client in ["chat", "responses"] {
            each(&Setup::streams(upstream, client).unwrap(), &seed[2..]);
        }
    }
}

#[test]
fn every_cut_in_two_gives_the_same_translation() {
    each_reply(|setup, stream| {
        let expected = setup.run(&[stream]);
        assert!(expected.0.len() > 100, "something was translated");
        for at in 0..=stream.len() {
            let (front, back) = stream.split_at(at);
            assert!(setup.run(&[front, back]) == expected, "{setup:?} cut at {at}");
        }
    });
}

#[test]
fn byte_by_byte_gives_the_same_translation() {
    each_reply(|setup, stream| {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert!(setup.run(&bytes) == setup.run(&[stream]), "{setup:?}");
    });
}
