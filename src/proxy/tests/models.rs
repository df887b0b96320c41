//! Lists of models that upstreams are asked for.

use super::*;

const GET: &str = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn stage() -> Stage {
    Stage::new("chat", |config| {
        config.providers[0].list_models = true;
        config.routes[0].pattern = "*".to_owned();
    })
}

fn list(ids: &str) -> String {
    let body = format!("{{\"data\":[{ids}]}}");
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn an_upstream_that_is_silent_keeps_nobody_waiting_for_long() {
    let mut stage = stage();
    let (first, second) = (stage.client(), stage.client());
    let upstream = stage.ask(first, GET);
    assert!(stage.take(upstream).starts_with("GET /v1/models HTTP/1.1\r\nhost: up.example\r\n"));
    stage.pass(Duration::from_secs(9));
    assert_eq!(stage.take(first), "");
    stage.pass(Duration::from_secs(2));
    let told = stage.take(first);
    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("\"mine\""), "{told}");
    assert!(stage.is_closed(upstream));
    // It is left alone for a while, and then asked again.
    let sockets = stage.sockets();
    stage.give(second, GET);
    assert!(stage.take(second).contains("\"mine\""));
    assert_eq!(stage.sockets(), sockets);
    stage.now.unix_s += 60;
    let upstream = stage.ask(second, GET);
    stage.give(upstream, &list(r#"{"id":"theirs"}"#));
    let told = stage.take(second);
    assert!(told.contains("\"mine\"") && told.contains("\"theirs\""), "{told}");
    // A request on the same connection may take its time.
    let request = post("/v1/responses", REQUEST);
    assert_eq!(stage.ask(first, &request), upstream);
    let sent = stage.take(upstream);
    assert!(sent.contains("POST /v1/chat/completions "), "{sent}");
    stage.pass(Duration::from_secs(29));
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    assert!(stage.take(first).contains("response.completed"));
}

#[test]
fn a_client_that_leaves_while_upstreams_are_asked_takes_the_question_along() {
    let mut stage = stage();
    let client = stage.client();
    let upstream = stage.ask(client, GET);
    stage.end(client);
    assert!(stage.is_closed(client) && stage.is_closed(upstream));
    let counts = stage.worker.counts();
    assert_eq!((counts.clients, counts.upstreams, counts.exchanges), (0, 0, 0));
}

#[test]
fn a_drain_lets_a_list_come_and_ends_it_in_time() {
    for comes in [true, false] {
        let mut stage = stage();
        let client = stage.client();
        let upstream = stage.ask(client, GET);
        stage.worker.drain(stage.now);
        stage.turn(&[]);
        if comes {
            stage.give(upstream, &list(r#"{"id":"theirs"}"#));
        } else {
            stage.pass(Duration::from_secs(31));
        }
        let told = stage.take(client);
        assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("connection: close"), "{told}");
        assert_eq!(told.contains("\"theirs\""), comes);
        stage.end(client);
        assert!(stage.is_closed(client) && stage.worker.is_drained(), "{comes}");
    }
}
