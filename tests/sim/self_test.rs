//! A checker that cannot fail checks nothing: each is shown what it must find.

use crate::sim::Random;
use crate::sim::check::{self, End, Seen};
use crate::sim::http::{Reader, Side};
use crate::sim::net::{Got, Rates, SimNet};
use crate::sim::script::{self, Api, Content};
use patchbay::proxy::net::{Net, Ready};
use std::io::ErrorKind;

fn content() -> Content {
    Content {
        reasoning: "thinking it over".to_owned(),
        text: "Привет \"world\"\n😀".to_owned(),
        calls: vec![("lookup".into(), "{\"a\":1}".into()), ("lookup".into(), "{}".into())],
        finish: "tool_calls",
    }
}

fn expected(content: &Content) -> Seen {
    Seen {
        text: content.text.clone(),
        reasoning: content.reasoning.clone(),
        calls: content.calls.clone(),
        end: End::Whole(content.finish.to_owned()),
    }
}

fn stream(api: Api, fault: bool) -> String {
    let mut random = Random::new(11);
    let body = script::body(api, true, "mk_00000001", &content(), fault, &mut random);
    String::from_utf8(body.bytes).unwrap().replace("\r\n", "\n").replace(": a comment\n\n", "")
}

fn read(api: Api, body: &str) -> Result<Seen, String> {
    match api {
        Api::Chat | Api::Giga => check::chat_stream(body, true),
        Api::Responses => check::responses_stream(body, true),
    }
}

#[test]
fn scripted_replies_are_legal_and_say_what_they_should() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let content = script::content("mk_0000000a", &mut random);
        for api in [Api::Chat, Api::Responses] {
            let mut body = |stream| {
                let body = script::body(api, stream, "mk_0000000a", &content, false, &mut random);
                String::from_utf8(body.bytes).unwrap().replace("\r\n", "\n")
            };
            assert_eq!(read(api, &body(true)).unwrap(), expected(&content), "{api:?} {seed}");
            let seen = match api {
                Api::Chat | Api::Giga => check::chat_document(&body(false)).unwrap(),
                Api::Responses => check::responses_document(&body(false)).unwrap(),
            };
            assert_eq!(seen, expected(&content), "{api:?} {seed}");
        }
    }
}

#[test]
fn a_missing_event_is_found_wherever_it_is_missing() {
    for api in [Api::Chat, Api::Responses] {
        let whole = stream(api, false);
        let events: Vec<&str> = whole.split_inclusive("\n\n").collect();
        let good = read(api, &whole).unwrap();
        for gap in 0..events.len() {
            let mut kept = events.clone();
            let gone = kept.remove(gap);
            if gone.contains("[DONE]") || gone.contains("\"choices\":[]") {
                continue;
            }
            let found = read(api, &kept.concat()).is_ok_and(|seen| seen == good);
            assert!(!found, "{api:?}: nobody misses {gone}");
        }
    }
}

#[test]
fn a_repeated_or_swapped_event_is_found() {
    for api in [Api::Chat, Api::Responses] {
        let whole = stream(api, false);
        let events: Vec<&str> = whole.split_inclusive("\n\n").collect();
        let good = read(api, &whole).unwrap();
        for at in 0..events.len() {
            let mut doubled = events.clone();
            doubled.insert(at, events[at]);
            let same = read(api, &doubled.concat()).is_ok_and(|seen| seen == good);
            assert!(!same, "{api:?}: twice {}", events[at]);
            let mut swapped = events.clone();
            if at > 0 && api == Api::Responses {
                swapped.swap(at - 1, at);
                assert!(read(api, &swapped.concat()).is_err(), "swapped {}", events[at]);
            }
        }
    }
}

#[test]
fn every_cut_of_a_stream_lacks_its_end() {
    for api in [Api::Chat, Api::Responses] {
        let whole = stream(api, false);
        let last = whole.rfind("finish_reason\":\"").or(whole.rfind("event: ")).unwrap();
        for cut in (0..last).filter(|cut| whole.is_char_boundary(*cut)) {
            let seen = match api {
                Api::Chat | Api::Giga => check::chat_stream(&whole[..cut], false),
                Api::Responses => check::responses_stream(&whole[..cut], false),
            };
            assert_eq!(seen.unwrap().end, End::Missing, "{api:?} cut at {cut}");
        }
    }
}

#[test]
fn a_failure_is_no_success() {
    for api in [Api::Chat, Api::Responses] {
        let end = read(api, &stream(api, true)).unwrap().end;
        assert_eq!(end, End::Failed("server_error".to_owned()), "{api:?}");
    }
}

#[test]
fn wrong_values_are_found() {
    let whole = stream(Api::Responses, false);
    let changes = [
        ("\"status\":\"completed\"", "\"status\":\"incomplete\""),
        ("\"item_id\":\"msg_", "\"item_id\":\"xsg_"),
        ("\"delta\":\"", "\"delta\":\"x"),
        ("\"sequence_number\":3", "\"sequence_number\":4"),
        ("\"output_index\":1", "\"output_index\":2"),
        ("event: response.completed", "event: response.done"),
        ("\"call_id\":\"call_", "\"call_id\":\"cal_"),
    ];
    for (from, to) in changes {
        assert!(whole.contains(from), "{from}");
        assert!(read(Api::Responses, &whole.replacen(from, to, 1)).is_err(), "{from} -> {to}");
    }
}

#[test]
fn markers_are_found_in_any_bytes() {
    let found = check::markers(b"x mk_0000000a\xff mk_zz mk_0000000b");
    assert_eq!(found, ["mk_0000000a", "mk_0000000b"]);
}

#[test]
fn messages_are_read_from_any_cut() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n\
                HTTP/1.1 404 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    for cut in 0..text.len() {
        let (mut reader, mut list) = (Reader::new(Side::Replies), Vec::new());
        for part in [&text[..cut], &text[cut..]] {
            reader.feed(part.as_bytes());
            while let Some(message) = reader.next().unwrap() {
                list.push((message.status(), message.body));
            }
        }
        assert_eq!(list, [(200, b"abc0123456789".to_vec()), (404, b"hi".to_vec())], "at {cut}");
        assert!(reader.is_between());
    }
}

fn edges(net: &mut SimNet) -> Vec<(bool, bool, bool)> {
    net.advance();
    let flags = |ready: &Ready| (ready.readable, ready.writable, ready.read_closed);
    net.take_ready().iter().map(flags).collect()
}

#[test]
fn an_edge_comes_once_and_an_end_rides_on_it() {
    let mut net = SimNet::new(1, Rates::default());
    let listener = net.listen();
    let conn = net.peer_connect().unwrap();
    assert_eq!(edges(&mut net), [(true, false, false)], "the listener");
    let (socket, _) = net.accept(listener).unwrap();
    assert_eq!(net.accept(listener).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(edges(&mut net), [(false, true, false)], "a fresh socket can be written");
    assert_eq!(edges(&mut net), [], "and says so once");
    net.peer_send(conn, b"hello");
    assert_eq!(edges(&mut net), [(true, false, false)]);
    assert_eq!(edges(&mut net), [], "what lies there makes no edge");
    net.peer_send(conn, b"!");
    net.peer_fin(conn);
    assert_eq!(edges(&mut net), [(true, false, true)], "bytes and the end in one edge");
    let mut bytes = [0; 16];
    assert_eq!(net.read(socket, &mut bytes).unwrap(), 6);
    assert_eq!(net.read(socket, &mut bytes).unwrap(), 0);
    net.close(socket);
    assert_eq!(net.open_sockets(), 1);
    assert!(net.violations.is_empty());
    assert!(net.read(socket, &mut bytes).is_err());
    assert_eq!(net.violations.len(), 1, "a read behind the close is told");
}

#[test]
fn room_makes_an_edge_only_after_a_refused_write() {
    let mut net = SimNet::new(2, Rates::default());
    let listener = net.listen();
    let conn = net.peer_connect().unwrap();
    let (socket, _) = net.accept(listener).unwrap();
    edges(&mut net);
    let mut written = 0;
    while let Ok(count) = net.write(socket, &[b'x'; 1000]) {
        written += count;
    }
    assert!(net.is_blocked(conn));
    assert_eq!(edges(&mut net), []);
    assert!(matches!(net.peer_recv(conn, 10), Got::Bytes(bytes) if bytes.len() == 10));
    assert_eq!(edges(&mut net), [(false, true, false)]);
    assert!(
        matches!(net.peer_recv(conn, written), Got::Bytes(bytes) if bytes.len() == written - 10)
    );
    assert_eq!(edges(&mut net), [], "nobody was refused since");
    net.peer_send(conn, b"unread");
    net.advance();
    net.close(socket);
    assert_eq!(net.peer_recv(conn, 1), Got::Rst, "closing on unread bytes is a reset");
}

#[test]
fn a_short_read_is_followed_by_an_edge() {
    let mut net = SimNet::new(3, Rates { short: 1000, ..Rates::default() });
    let listener = net.listen();
    let conn = net.peer_connect().unwrap();
    let (socket, _) = net.accept(listener).unwrap();
    net.peer_send(conn, b"0123456789");
    edges(&mut net);
    let count = net.read(socket, &mut [0; 10]).unwrap();
    assert!(count < 10);
    assert_eq!(edges(&mut net), [(true, false, false)]);
}
