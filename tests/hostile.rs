//! Every hostile and every odd message over real sockets, against the real binary: what reaches the
//! upstream, what the client gets, and whether the next client is served as if nothing had been.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile_cases;
mod support;

use hostile_cases::replies::{self, ReplyCase, ReplyWant};
use hostile_cases::{RequestCase, Want, good, requests};
use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use support::{Client, Patchbay, Reply, Then, Upstream};

const PATH: &str = "/v1/chat/completions";

/// The proxy in front of an upstream that answers every request with the bytes of `answer`.
struct Bench {
    proxy: Patchbay,
    answer: Arc<Mutex<Vec<u8>>>,
    /// The bodies of the requests, noted before they are answered.
    bodies: Arc<Mutex<Vec<String>>>,
    markers: usize,
}

impl Bench {
    fn start(then: Then) -> Self {
        let answer = Arc::new(Mutex::new(replies::good()));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (shared, noted) = (answer.clone(), bodies.clone());
        let upstream = Upstream::start(move |request, wire| {
            noted.lock().unwrap().push(String::from_utf8_lossy(&request.body).into_owned());
            let bytes = shared.lock().unwrap().clone();
            // The proxy may refuse the reply before it took all of it.
            let _ = wire.write_all(&bytes);
            let _ = wire.flush();
            then
        });
        let proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
        Self { proxy, answer, bodies, markers: 0 }
    }

    /// Serves a good request on a new connection, and returns how many requests reached the
    /// upstream before it.
    fn reached(&mut self) -> Result<usize, String> {
        *self.answer.lock().unwrap() = replies::good();
        self.markers += 1;
        let marker = format!("marker-{}-", self.markers);
        let body = format!(
            r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{marker}"}}]}}"#
        );
        let reply = self.proxy.post(PATH, &body);
        if !is_success(&reply) {
            return Err(format!("the next client was not served: {reply:?}"));
        }
        let mut bodies = std::mem::take(&mut *self.bodies.lock().unwrap());
        match bodies.pop() {
            Some(last) if last.contains(&marker) => Ok(bodies.len()),
            last => Err(format!("the last request at the upstream was {last:?}")),
        }
    }
}

/// A complete stream with its terminal event.
fn is_success(reply: &Reply) -> bool {
    let text = String::from_utf8_lossy(&reply.body);
    reply.status == 200 && reply.complete && text.contains("[DONE]")
}

/// The next final reply; `None` when the connection ended before one.
fn next_reply(client: &mut Client) -> Option<Reply> {
    loop {
        let reply = client.try_reply().ok()?;
        if reply.status >= 200 {
            return Some(reply);
        }
    }
}

/// Sends a case and returns the replies up to the end of the connection.
fn exchange(bench: &Bench, case: &RequestCase) -> Vec<Reply> {
    let mut client = bench.proxy.connect();
    let mut bytes = case.bytes.clone();
    if matches!(case.want, Want::Refuse(_)) {
        bytes.extend_from_slice(&good());
        bytes.extend_from_slice(&good());
    }
    // A refusal may come, and the connection end, before all of it is sent.
    let _ = client.stream.write_all(&bytes);
    let expected = match case.want {
        Want::Serve(count) => count,
        Want::Answer { after, .. } => after + 1,
        Want::Refuse(_) => 1,
        Want::Cut => 0,
    };
    let mut found = Vec::new();
    for _ in 0..expected {
        match next_reply(&mut client) {
            Some(reply) => found.push(reply),
            None => return found,
        }
    }
    // A refused connection must end by itself; the others may wait for a further request.
    if !matches!(case.want, Want::Refuse(_)) {
        let _ = client.stream.shutdown(Shutdown::Write);
    }
    while let Some(reply) = next_reply(&mut client) {
        found.push(reply);
    }
    assert!(client.is_closed(), "{}: not closed", case.name);
    found
}

/// What is wrong with the outcome of a request case, if anything.
fn judge(case: &RequestCase, found: &[Reply], reached: usize) -> Result<(), String> {
    let statuses: Vec<u16> = found.iter().map(|reply| reply.status).collect();
    let said = format!("got {statuses:?}, {reached} reached the upstream");
    // Over so many bytes the kernel's reset may overtake the answer.
    let large = case.bytes.len() > 60_000;
    let right = match &case.want {
        Want::Refuse(allowed) => {
            let told =
                statuses.len() == 1 && statuses.iter().all(|status| allowed.contains(status));
            reached == 0 && (told || (large && statuses.is_empty()))
        }
        Want::Serve(count) => {
            reached == *count && statuses.len() == *count && found.iter().all(is_success)
        }
        Want::Answer { statuses: allowed, after } => {
            reached <= *after
                && found.first().is_some_and(|reply| allowed.contains(&reply.status))
                && found.len() == reached + 1
                && found.iter().skip(1).all(is_success)
        }
        Want::Cut => reached == 0 && statuses.iter().all(|status| *status >= 400),
    };
    if right { Ok(()) } else { Err(format!("{}: want {:?}, {said}", case.name, case.want)) }
}

#[test]
fn hostile_requests() {
    let mut bench = Bench::start(Then::Keep);
    let mut wrong = Vec::new();
    for case in requests() {
        let found = exchange(&bench, &case);
        let verdict = bench.reached().and_then(|reached| judge(&case, &found, reached));
        wrong.extend(verdict.err().map(|words| format!("{}: {words}", case.name)));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with what a client got of a reply case, if anything.
fn judge_reply(case: &ReplyCase, reply: &Reply) -> Result<(), String> {
    let text = String::from_utf8_lossy(&reply.body);
    let failed = reply.status == 502 && reply.complete && text.contains("\"error\"");
    let right = match case.want {
        ReplyWant::BadHead => failed,
        ReplyWant::BadBody => {
            let broken = reply.status == 200
                && !text.contains("[DONE]")
                && (!reply.complete || text.contains("\"error\""));
            failed || broken
        }
        ReplyWant::Status(status @ 400..) => reply.status == status && text.contains("\"error\""),
        ReplyWant::Status(_) => failed,
        ReplyWant::Whole { .. } => is_success(reply) && text.contains("hello"),
    };
    if right { Ok(()) } else { Err(format!("want {:?}, got {reply:?}", case.want)) }
}

#[test]
fn hostile_replies() {
    let mut bench = Bench::start(Then::Close);
    let mut wrong = Vec::new();
    for case in replies::replies() {
        bench.answer.lock().unwrap().clone_from(&case.bytes);
        let reply = bench.proxy.post(PATH, hostile_cases::DOCUMENT);
        let verdict = judge_reply(&case, &reply).and_then(|()| match bench.reached()? {
            1 => Ok(()),
            count => Err(format!("was sent {count} times")),
        });
        wrong.extend(verdict.err().map(|words| format!("{}: {words}", case.name)));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_follows_a_reply_never_reaches_another_client() {
    let bench = Bench::start(Then::Keep);
    let evil = String::from_utf8(replies::good()).unwrap().replace("hello", "stray");
    let answer = [replies::good(), evil.clone().into_bytes()].concat();
    *bench.answer.lock().unwrap() = answer;
    for _ in 0..5 {
        let reply = bench.proxy.post(PATH, hostile_cases::DOCUMENT);
        assert!(is_success(&reply), "{reply:?}");
        assert!(!reply.text().contains("stray"), "{reply:?}");
    }
}

#[test]
fn endless_informational_replies_are_refused() {
    let bench = Bench::start(Then::Keep);
    let answer = [b"HTTP/1.1 102 Processing\r\n\r\n".repeat(5000), replies::good()].concat();
    *bench.answer.lock().unwrap() = answer;
    assert_eq!(bench.proxy.post(PATH, hostile_cases::DOCUMENT).status, 502);
}
