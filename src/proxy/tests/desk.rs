//! Requests that are translated beside the worker.

use super::*;

/// A stage with a desk, where everything of more than 100 bytes is long.
fn stage() -> Stage {
    let mut stage = Stage::new("chat", |config| config.limits.inline_bytes_max = 100);
    stage.worker.net_mut().desk = Some(Vec::new());
    stage
}

/// A request of more than 100 bytes.
fn long(text: &str) -> String {
    let filler = "x".repeat(100);
    post("/v1/responses", &REQUEST.replace("hi", &format!("{text} {filler}")))
}

fn desk(stage: &mut Stage) -> Vec<Job> {
    std::mem::take(stage.worker.net_mut().desk.as_mut().unwrap())
}

/// Says that jobs were run.
fn tell(stage: &mut Stage) {
    stage.worker.orders_changed();
    stage.turn(&[]);
}

#[test]
fn a_long_request_keeps_nobody_else_waiting() {
    let mut stage = stage();
    let (slow, quick) = (stage.client(), stage.client());
    let sockets = stage.sockets();
    stage.give(slow, &long("first"));
    assert_eq!((stage.sockets(), stage.worker.counts().waiting), (sockets, 1));
    let served = stage.ask(quick, &post("/v1/responses", REQUEST));
    assert!(stage.take(served).contains("\"hi\""));

    // Nothing was run yet, whoever says so.
    tell(&mut stage);
    assert_eq!(stage.worker.counts().waiting, 1);
    let jobs = desk(&mut stage);
    assert_eq!(jobs.len(), 1);
    assert!(!format!("{jobs:?}").contains("first"), "{jobs:?}");
    jobs.into_iter().for_each(Job::run);
    tell(&mut stage);
    let upstream = stage.sockets();
    stage.give(upstream, "");
    assert!(stage.take(upstream).contains("first xxx"));
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    assert!(stage.take(slow).contains("event: response.completed\n"));
    assert_eq!(stage.worker.counts().waiting, 0);
}

#[test]
fn jobs_may_end_in_any_order() {
    let mut stage = stage();
    let clients: Vec<_> = (0..3).map(|_| stage.client()).collect();
    for client in &clients {
        stage.give(*client, &long(&format!("number {client}")));
    }
    for (job, client) in desk(&mut stage).into_iter().rev().zip(clients.iter().rev()) {
        let upstream = stage.sockets() + 1;
        job.run();
        tell(&mut stage);
        stage.give(upstream, "");
        assert!(stage.take(upstream).contains(&format!("number {client}")));
    }
}

#[test]
fn what_cannot_be_translated_is_told_and_the_connection_stays() {
    let mut stage = stage();
    let client = stage.client();
    stage.give(client, &long("x").replace("\"stream\"", "stream\"\""));
    assert_eq!(stage.take(client), "");
    desk(&mut stage).into_iter().for_each(Job::run);
    tell(&mut stage);
    let answer = stage.take(client);
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("connection: close"));
    stage.ask(client, &post("/v1/responses", REQUEST));
    assert_eq!(stage.worker.counts().exchanges, 1);
}

#[test]
fn a_body_with_a_coding_is_never_unfolded_in_a_turn() {
    let mut stage = stage();
    let client = stage.client();
    let request = post("/v1/responses", "x").replace("host:", "content-encoding: zstd\r\nhost:");
    stage.give(client, &request);
    assert_eq!((stage.take(client), stage.worker.counts().waiting), (String::new(), 1));
    desk(&mut stage).into_iter().for_each(Job::run);
    tell(&mut stage);
    assert!(stage.take(client).starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_client_that_leaves_takes_its_job_along() {
    let mut stage = stage();
    let client = stage.client();
    stage.give(client, &long("x"));
    stage.end(client);
    assert!(stage.is_closed(client));
    let before = stage.sockets();
    // Another client gets the place of the one that left.
    let other = stage.client();
    stage.give(other, &long("y"));
    let jobs = desk(&mut stage);
    let wanted: Vec<bool> = jobs.iter().map(Job::is_wanted).collect();
    assert_eq!(wanted, [false, true]);
    let mut jobs = jobs.into_iter();
    jobs.next().unwrap().run();
    tell(&mut stage);
    assert_eq!((stage.sockets(), stage.worker.counts().waiting), (before + 1, 1));
    jobs.next().unwrap().run();
    tell(&mut stage);
    assert_eq!(stage.sockets(), before + 2);
    assert_eq!(stage.worker.meter().abandoned, 1);
}

#[test]
fn without_a_desk_the_worker_does_it_itself() {
    let mut stage = stage();
    stage.worker.net_mut().desk = None;
    let client = stage.client();
    let upstream = stage.ask(client, &long("alone"));
    assert!(stage.take(upstream).contains("alone xxx"));
}

#[test]
fn a_drain_waits_for_what_lies_at_the_desk_and_not_for_ever() {
    for is_run in [true, false] {
        let mut stage = stage();
        let client = stage.client();
        stage.give(client, &long("last"));
        stage.worker.drain(stage.now);
        stage.turn(&[]);
        assert!(!stage.is_closed(client));
        let jobs = desk(&mut stage);
        if is_run {
            jobs.into_iter().for_each(Job::run);
            tell(&mut stage);
            let upstream = stage.sockets();
            stage.give(upstream, "");
            stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
            let answer = stage.take(client);
            assert!(answer.contains("response.completed") && answer.contains("connection: close"));
        } else {
            stage.pass(Duration::from_secs(31));
            assert!(stage.take(client).starts_with("HTTP/1.1 503 "));
            assert!(stage.is_closed(client) && stage.worker.is_drained());
        }
    }
}

#[test]
fn a_desk_that_never_answers_is_no_reason_to_wait_for_ever() {
    let mut stage = stage();
    let client = stage.client();
    stage.give(client, &long("x"));
    stage.pass(Duration::from_secs(61));
    assert!(stage.take(client).starts_with("HTTP/1.1 503 "));
    desk(&mut stage).into_iter().for_each(Job::run);
    tell(&mut stage);
    assert_eq!(stage.take(client), "");
}

/// A reply with a vector, of more than 100 bytes.
fn vector() -> String {
    let body = format!(r#"{{"data":[{{"index":0,"embedding":[{}0.5]}}]}}"#, "1,".repeat(100));
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_long_reply_is_translated_at_the_desk_while_its_connection_serves_others() {
    let mut stage = Stage::new("gigachat", |config| config.limits.inline_bytes_max = 100);
    stage.worker.net_mut().desk = Some(Vec::new());
    let request = post("/v1/embeddings", r#"{"model":"mine","input":"a"}"#);
    let (slow, gone) = (stage.client(), stage.client());
    let upstream = stage.ask(slow, &request);
    assert!(stage.take(upstream).starts_with("POST /v1/embeddings HTTP/1.1\r\n"));
    stage.give(upstream, &vector());
    assert_eq!((stage.take(slow), stage.worker.counts().waiting), (String::new(), 1));
    assert_eq!(stage.worker.counts().pooled, 1);
    // The same connection, and a client that leaves.
    let sockets = stage.sockets();
    stage.give(gone, &request);
    stage.give(upstream, &vector());
    assert_eq!(stage.sockets(), sockets);
    stage.end(gone);
    let jobs = desk(&mut stage);
    let wanted: Vec<bool> = jobs.iter().map(Job::is_wanted).collect();
    assert_eq!(wanted, [true, false]);
    jobs.into_iter().for_each(Job::run);
    tell(&mut stage);
    let told = stage.take(slow);
    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("1,1,0.5]"), "{told}");
    assert!(told.contains("\"model\":\"mine\""), "{told}");
    assert_eq!((stage.worker.counts().waiting, stage.worker.counts().exchanges), (0, 0));

    // A reply that is none.
    stage.give(slow, &request);
    stage.give(upstream, &vector().replace("0.5]", "0,5x"));
    desk(&mut stage).into_iter().for_each(Job::run);
    tell(&mut stage);
    assert!(stage.take(slow).starts_with("HTTP/1.1 502 "));
}
