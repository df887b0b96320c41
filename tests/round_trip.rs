//! Is the intermediate representation complete? Any legal answer, written by a dialect's encoder
//! and read back by its decoder, says the same, as a stream and as a document.
//!
//! What each dialect cannot say is written down in [`Normal`]: everything else must survive.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use patchbay::dialect::event::{Call, CallKind, Event, Grammar, Part, Stop, Usage};
use patchbay::dialect::fold::{Answer, AnswerKind};
use patchbay::dialect::ids::Ids;
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::{Decode, Dialect, Encode, Reply, Sent, by_name};
use patchbay::fault::{Failure, Fault, Kind};
use patchbay::transcode::{Form, Transcoder};
use patchbay::wire::json::{self, Escaped, Raw};
use patchbay::wire::sse::{self, Step};
use proptest::prelude::*;
use serde_json::Value;

/// A part to be generated.
#[derive(Clone, Debug)]
enum Piece {
    Text { new_message: bool, deltas: Vec<String>, link: Option<String> },
    Refusal { deltas: Vec<String> },
    Reasoning { deltas: Vec<String>, seal: Option<String> },
    Call { custom: bool, namespace: bool, deltas: Vec<String> },
}

/// An answer to be generated.
#[derive(Clone, Debug)]
struct Plan {
    pieces: Vec<Piece>,
    usage: Option<Usage>,
    end: Ending,
}

#[derive(Clone, Debug)]
enum Ending {
    Done,
    Length,
    Filter,
    Fail(String),
}

fn deltas() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("(?s).{1,6}|[a-z \"\\\\\n]{1,12}|[😀語é]{1,3}", 0..5)
}

fn arguments() -> impl Strategy<Value = Vec<String>> {
    // A document in pieces: the decoders may check that it is one.
    ("(?s).{0,8}", any::<u32>()).prop_map(|(text, number)| {
        let whole = serde_json::json!({ "query": text, "n": number }).to_string();
        let mut list = vec![String::new()];
        for (at, letter) in whole.chars().enumerate() {
            if at % 5 == 0 {
                list.push(String::new());
            }
            list.last_mut().unwrap().push(letter);
        }
        list.retain(|delta| !delta.is_empty());
        list
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    let link = prop::option::of("[a-z]{1,8}");
    let text = (any::<bool>(), deltas(), link)
        .prop_map(|(new_message, deltas, link)| Piece::Text { new_message, deltas, link });
    let seal = prop::option::of("[A-Za-z0-9]{4,20}");
    prop_oneof![
        4 => text,
        1 => deltas().prop_map(|deltas| Piece::Refusal { deltas }),
        2 => (deltas(), seal).prop_map(|(deltas, seal)| Piece::Reasoning { deltas, seal }),
        3 => (any::<bool>(), arguments())
            .prop_map(|(namespace, deltas)| Piece::Call { custom: false, namespace, deltas }),
        1 => (any::<bool>(), deltas())
            .prop_map(|(namespace, deltas)| Piece::Call { custom: true, namespace, deltas }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let usage = (0..9000_u64, 0..5000_u64, any::<bool>()).prop_map(|(input, output, details)| {
        let (cached, reasoning) = if details { (input / 2, output / 3) } else { (0, 0) };
        Usage { input, cached, output, reasoning, total: input + output, ..Usage::default() }
    });
    let end = prop_oneof![
        6 => Just(Ending::Done),
        1 => Just(Ending::Length),
        1 => Just(Ending::Filter),
        1 => "[a-z][a-zA-Z\"é]{0,9}( [a-z]{1,9}){0,3}".prop_map(Ending::Fail),
    ];
    (prop::collection::vec(piece(), 0..6), prop::option::of(usage), end)
        .prop_map(|(pieces, usage, end)| Plan { pieces, usage, end })
}

fn escaped(text: &str) -> String {
    let mut out = Vec::new();
    json::escape(text, &mut out);
    String::from_utf8(out).unwrap()
}

/// What a dialect cannot say.
#[derive(Clone, Copy, Debug)]
struct Normal {
    dialect: &'static str,
    /// One message only: its texts run together.
    one_message: bool,
    /// No sealed reasoning, no annotations in streams, no custom calls, no namespaces.
    plain: bool,
}

const CHAT: Normal = Normal { dialect: "chat", one_message: true, plain: true };
const RESPONSES: Normal = Normal { dialect: "responses", one_message: false, plain: false };

impl Plan {
    /// Takes out what the dialect has no words for.
    fn limit(&mut self, normal: Normal) {
        if !normal.plain {
            return;
        }
        for piece in &mut self.pieces {
            match piece {
                Piece::Text { new_message, link, .. } => (*new_message, *link) = (false, None),
                Piece::Refusal { .. } => {}
                Piece::Reasoning { seal, .. } => *seal = None,
                Piece::Call { namespace, .. } => *namespace = false,
            }
        }
        self.pieces.retain(|piece| !matches!(piece, Piece::Call { custom: true, .. }));
        // A second part of reasoning stands behind a blank line.
        let mut before = false;
        self.pieces.retain(|piece| {
            let reasons = matches!(piece, Piece::Reasoning { .. });
            !(reasons && std::mem::replace(&mut before, true))
        });
    }

    /// A document cannot fail: an error envelope takes its place.
    fn never_fail(&mut self) {
        if matches!(self.end, Ending::Fail(_)) {
            self.end = Ending::Done;
        }
    }

    /// Pushes the events of the answer.
    fn events(&self, normal: Normal, sink: &mut dyn FnMut(Event<'_>)) {
        sink(Event::Start { id: Escaped::trusted("up_1"), model: Escaped::trusted("m") });
        let (mut message, mut in_message) = (0, false);
        for (part, piece) in (0..).zip(&self.pieces) {
            let is_words = matches!(piece, Piece::Text { .. } | Piece::Refusal { .. });
            let new = matches!(piece, Piece::Text { new_message: true, .. });
            if is_words && part > 0 && (!in_message || new) && !normal.one_message {
                message += 1;
            }
            in_message = is_words;
            self.part(part, message, piece, sink);
        }
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        let calls = self.pieces.iter().any(|piece| matches!(piece, Piece::Call { .. }));
        match &self.end {
            Ending::Done if calls => sink(Event::Stop(Stop::Tool)),
            Ending::Done => sink(Event::Stop(Stop::End)),
            Ending::Length => sink(Event::Stop(Stop::Length)),
            Ending::Filter => sink(Event::Stop(Stop::Filter)),
            Ending::Fail(why) => {
                let failure = Failure::new(Fault::upstream(Kind::Server), why.as_str());
                sink(Event::Fail(&failure));
            }
        }
    }

    fn part(&self, part: u32, message: u32, piece: &Piece, sink: &mut dyn FnMut(Event<'_>)) {
        let id = format!("call_{part}");
        let (kind, deltas) = match piece {
            Piece::Text { deltas, .. } => (Part::Text { message }, deltas),
            Piece::Refusal { deltas } => (Part::Refusal { message }, deltas),
            Piece::Reasoning { deltas, .. } => (Part::Reasoning { raw: false }, deltas),
            Piece::Call { custom, namespace, deltas } => {
                let call = Call {
                    kind: if *custom { CallKind::Custom } else { CallKind::Function },
                    id: Escaped::trusted(&id),
                    namespace: Escaped::trusted(if *namespace { "space" } else { "" }),
                    name: Escaped::trusted("lookup"),
                };
                (Part::Call(call), deltas)
            }
        };
        sink(Event::Open { part, kind });
        for delta in deltas {
            let text = escaped(delta);
            sink(Event::Delta { part, text: Escaped::trusted(&text), logprobs: None });
        }
        if let Piece::Text { link: Some(link), deltas, .. } = piece
            && !deltas.is_empty()
        {
            let object = format!(
                "{{\"type\":\"url_citation\",\"start_index\":0,\"end_index\":1,\
                 \"url\":\"https://{link}\",\"title\":\"{link}\"}}"
            );
            sink(Event::Annotation { part, object: Raw::trusted(&object) });
        }
        if let Piece::Reasoning { seal: Some(seal), .. } = piece {
            sink(Event::Seal { part, opaque: Escaped::trusted(seal) });
        }
        sink(Event::Close { part });
    }
}

/// An answer without what does not matter: how texts were cut and escaped, and parts that are
/// empty.
fn normalise(answer: &Answer, normal: Normal, document: bool) -> Vec<String> {
    let mut list: Vec<(String, String, String)> = Vec::new();
    let mut messages = Vec::new();
    let mut ordinal = |message: &u32| {
        // Only which parts share a message counts, not how messages are numbered.
        if normal.one_message {
            return 0;
        }
        let known = messages.iter().position(|number| number == message);
        known.unwrap_or_else(|| {
            messages.push(*message);
            messages.len() - 1
        })
    };
    for part in &answer.parts {
        let text = part.text().decode().into_owned();
        let is_call = matches!(part.kind, AnswerKind::Call { .. });
        if text.is_empty() && !is_call && part.sealed.is_none() && part.annotations.is_empty() {
            continue;
        }
        let kind = match &part.kind {
            // A document tells first the reasoning, then the message, then the calls.
            AnswerKind::Text { message } => format!("1 text {}", ordinal(message)),
            AnswerKind::Refusal { message } => format!("2 refusal {}", ordinal(message)),
            AnswerKind::Reasoning { .. } => "0 reasoning".to_owned(),
            AnswerKind::Call { kind, id, namespace, name } => {
                format!("3 {kind:?} {id} {namespace} {name}")
            }
            AnswerKind::Opaque { item, .. } => format!("4 {item}"),
        };
        let notes: Value = serde_json::from_str(&format!("[{}]", part.annotations)).unwrap();
        let mut extra = format!("{notes} {:?}", part.sealed);
        let merges = normal.one_message && !is_call;
        let same = list.iter_mut().rev().find(|(known, ..)| *known == kind);
        let last = same.filter(|_| merges && document);
        match last {
            Some((_, known, _)) => known.push_str(&text),
            None => {
                if is_call {
                    extra.clear();
                }
                list.push((kind, text, extra));
            }
        }
    }
    if normal.one_message {
        if document {
            list.sort_by(|left, right| left.0[..1].cmp(&right.0[..1]));
        } else {
            // What follows its like is one part on this wire.
            let mut merged: Vec<(String, String, String)> = Vec::new();
            for (kind, text, extra) in list {
                match merged.last_mut().filter(|last| last.0 == kind && !kind.starts_with('3')) {
                    Some(last) => last.1.push_str(&text),
                    None => merged.push((kind, text, extra)),
                }
            }
            list = merged;
        }
    }
    let mut lines: Vec<String> = list.iter().map(|part| format!("{part:?}")).collect();
    match &answer.failure {
        // A failure is told at once: usage that would come behind it is lost.
        Some(failure) => lines.push(format!("failed: {} {}", failure.code(), failure.message)),
        None => lines.push(format!("{:?} {:?}", answer.stop, answer.usage)),
    }
    lines
}

fn request(dialect: &str) -> String {
    match dialect {
        "chat" => {
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,
            "stream_options":{"include_usage":true},
            "tools":[{"type":"function","function":{"name":"lookup","parameters":{}}}]}"#
        }
        _ => {
            r#"{"model":"m","input":"hi","stream":true,
            "tools":[{"type":"function","name":"lookup","parameters":{}}]}"#
        }
    }
    .to_owned()
}

fn encoder(dialect: &dyn Dialect, body: &str) -> Box<dyn Encode> {
    let request = dialect.decode_request(body).unwrap();
    let reply = Reply { ids: Ids::new(7), created_at: 1, codex: false, done_marker: false };
    dialect.encoder(&request, reply)
}

/// Collects what a decoder pushes, and holds it to the grammar.
#[derive(Default)]
struct Collect {
    grammar: Grammar,
    answer: Answer,
    broken: Option<String>,
}

impl Collect {
    fn take(&mut self, event: Event<'_>) {
        if let Err(rule) = self.grammar.check(&event) {
            self.broken.get_or_insert(format!("{rule}: {event:?}"));
        }
        self.answer.push(event);
    }

    fn finish(self) -> Result<Answer, String> {
        match self.broken {
            Some(rule) => Err(rule),
            None if !self.grammar.is_over() => Err("no Stop and no Fail".to_owned()),
            None => Ok(self.answer),
        }
    }
}

fn read_stream(mut decoder: Box<dyn Decode>, bytes: &[u8]) -> Result<Answer, String> {
    let mut collect = Collect::default();
    let (mut frames, mut rest) = (sse::Decoder::default(), bytes);
    loop {
        let (step, used) = frames.step(rest);
        match step {
            Step::NeedMore => break,
            Step::Skip => {}
            Step::Frame(frame) => decoder
                .frame(frame, &mut |event| collect.take(event))
                .map_err(|bad| format!("{bad}: {frame:?}"))?,
        }
        rest = &rest[used..];
    }
    if !rest.is_empty() {
        return Err(format!("{} bytes behind the last event", rest.len()));
    }
    decoder.finish(&mut |event| collect.take(event));
    if !decoder.is_done() {
        return Err("the decoder is not done".to_owned());
    }
    collect.finish()
}

fn check_stream(normal: Normal, plan: &Plan) -> Result<(), TestCaseError> {
    let dialect = by_name(normal.dialect).unwrap();
    let body = request(normal.dialect);
    let mut encoder = encoder(dialect, &body);
    let (mut sent, mut bytes, mut grammar) = (Answer::default(), Vec::new(), Grammar::default());
    plan.events(normal, &mut |event| {
        grammar.check(&event).unwrap();
        sent.push(event);
        encoder.event(event, 2, &mut bytes);
    });
    let decoder = dialect.decoder(Sent::default(), &Quirks::default());
    let got = read_stream(decoder, &bytes);
    let wire = String::from_utf8_lossy(&bytes);
    let got = got.map_err(|why| TestCaseError::fail(format!("{why}\n{wire}")))?;
    let (sent, got) = (normalise(&sent, normal, false), normalise(&got, normal, false));
    prop_assert_eq!(sent, got, "{}", wire);
    Ok(())
}

fn check_document(normal: Normal, plan: &Plan) -> Result<(), TestCaseError> {
    let dialect = by_name(normal.dialect).unwrap();
    let body = request(normal.dialect);
    let mut encoder = encoder(dialect, &body);
    let (mut sent, mut bytes) = (Answer::default(), Vec::new());
    plan.events(normal, &mut |event| sent.push(event));
    encoder.answer(&sent, 2, &mut bytes);
    let mut decoder = dialect.decoder(Sent::default(), &Quirks::default());
    let mut collect = Collect::default();
    let wire = String::from_utf8_lossy(&bytes);
    let read = decoder.document(&bytes, &mut |event| collect.take(event));
    read.map_err(|bad| TestCaseError::fail(format!("{bad}\n{wire}")))?;
    let got = collect.finish().map_err(|why| TestCaseError::fail(format!("{why}\n{wire}")))?;
    let (sent, got) = (normalise(&sent, normal, true), normalise(&got, normal, true));
    prop_assert_eq!(sent, got, "{}", wire);
    Ok(())
}

/// From one dialect's wire to the other's, and read there.
fn check_across(from: Normal, to: Normal, plan: &Plan) -> Result<(), TestCaseError> {
    let (source, target) = (by_name(from.dialect).unwrap(), by_name(to.dialect).unwrap());
    let mut writer = encoder(source, &request(from.dialect));
    let (mut sent, mut bytes) = (Answer::default(), Vec::new());
    plan.events(CHAT, &mut |event| {
        sent.push(event);
        writer.event(event, 2, &mut bytes);
    });
    let decoder = source.decoder(Sent::default(), &Quirks::default());
    let encoder = encoder(target, &request(to.dialect));
    let mut transcoder = Transcoder::new(decoder, encoder, Form::Stream, Form::Stream, 1 << 20);
    let mut out = Vec::new();
    let used = transcoder.push(&bytes, 2, &mut out).unwrap();
    transcoder.finish(&bytes[used..], 2, &mut out);
    let wire = String::from_utf8_lossy(&out);
    let got = read_stream(target.decoder(Sent::default(), &Quirks::default()), &out);
    let got = got.map_err(|why| TestCaseError::fail(format!("{why}\n{wire}")))?;
    // Messages that Chat puts into one are parted there by a blank line.
    let lines = |answer: &Answer| normalise(answer, CHAT, false).concat().replace("\\n", "");
    prop_assert_eq!(lines(&sent), lines(&got), "{}", wire);
    Ok(())
}

/// What may happen to the events of a stream on a bad day.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Lose(usize),
    Repeat(usize),
    Swap(usize, usize),
    Cut(usize),
    Byte(usize, u8),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let at = 0..4000_usize;
    let kind = prop_oneof![
        at.clone().prop_map(Damage::Lose),
        at.clone().prop_map(Damage::Repeat),
        (at.clone(), at.clone()).prop_map(|(one, other)| Damage::Swap(one, other)),
        at.clone().prop_map(Damage::Cut),
        (at, any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
    ];
    prop::collection::vec(kind, 1..4)
}

fn apply(bytes: &[u8], damage: &[Damage]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let split = text.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec());
    let mut events: Vec<Vec<u8>> = split.collect();
    for damage in damage {
        let count = events.len().max(1);
        match *damage {
            Damage::Lose(at) if count > 1 => drop(events.remove(at % count)),
            Damage::Repeat(at) => events.insert(at % count, events[at % count].clone()),
            Damage::Swap(one, other) => events.swap(one % count, other % count),
            Damage::Cut(at) => {
                events.truncate(at % count + 1);
                if let Some(last) = events.last_mut() {
                    last.truncate(at % (last.len() + 1));
                }
            }
            Damage::Byte(at, byte) => {
                let event = &mut events[at % count];
                let length = event.len();
                if length > 0 {
                    event[at % length] = byte;
                }
            }
            Damage::Lose(_) => {}
        }
    }
    events.concat()
}

/// Whatever comes, a decoder's events follow the grammar and come to an end.
fn check_damaged(normal: Normal, plan: &Plan, damage: &[Damage]) -> Result<(), TestCaseError> {
    let dialect = by_name(normal.dialect).unwrap();
    let mut encoder = encoder(dialect, &request(normal.dialect));
    let mut bytes = Vec::new();
    plan.events(normal, &mut |event| encoder.event(event, 2, &mut bytes));
    let bytes = apply(&bytes, damage);
    let mut decoder = dialect.decoder(Sent::default(), &Quirks::default());
    let (mut frames, mut rest) = (sse::Decoder::default(), &bytes[..]);
    let mut collect = Collect::default();
    loop {
        let (step, used) = frames.step(rest);
        match step {
            Step::NeedMore => break,
            Step::Skip => {}
            // A frame that is no JSON is passed over.
            Step::Frame(frame) => drop(decoder.frame(frame, &mut |event| collect.take(event))),
        }
        rest = &rest[used..];
    }
    decoder.finish(&mut |event| collect.take(event));
    let wire = String::from_utf8_lossy(&bytes);
    prop_assert!(decoder.is_done(), "not done: {wire}");
    if let Err(why) = collect.finish() {
        return Err(TestCaseError::fail(format!("{why}\n{wire}")));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chat_stream_says_what_it_was_given(mut plan in plan()) {
        plan.limit(CHAT);
        check_stream(CHAT, &plan)?;
    }

    #[test]
    fn a_chat_document_says_what_it_was_given(mut plan in plan()) {
        plan.limit(CHAT);
        plan.never_fail();
        check_document(CHAT, &plan)?;
    }

    #[test]
    fn a_responses_stream_says_what_it_was_given(plan in plan()) {
        check_stream(RESPONSES, &plan)?;
    }

    #[test]
    fn a_responses_document_says_what_it_was_given(mut plan in plan()) {
        plan.never_fail();
        check_document(RESPONSES, &plan)?;
    }

    #[test]
    fn a_chat_stream_survives_the_way_to_responses(mut plan in plan()) {
        plan.limit(CHAT);
        check_across(CHAT, RESPONSES, &plan)?;
    }

    #[test]
    fn a_responses_stream_survives_the_way_to_chat(mut plan in plan()) {
        plan.limit(CHAT);
        check_across(RESPONSES, CHAT, &plan)?;
    }

    #[test]
    fn a_damaged_chat_stream_is_decoded_by_the_rules(mut plan in plan(), damage in damage()) {
        plan.limit(CHAT);
        check_damaged(CHAT, &plan, &damage)?;
    }

    #[test]
    fn a_damaged_responses_stream_is_decoded_by_the_rules(plan in plan(), damage in damage()) {
        check_damaged(RESPONSES, &plan, &damage)?;
    }
}
