//! Who waits for a connect slot, and how long.

use super::*;

/// Two clients that want a connection where only one connect may be under way.
fn two() -> (Stage, usize, usize) {
    let mut stage = Stage::new("chat", |config| config.limits.connecting_max = 1);
    let clients = [stage.client(), stage.client()];
    for client in clients {
        stage.give(client, &post("/v1/responses", REQUEST));
    }
    assert_eq!(stage.worker.counts().waiting, 1);
    (stage, clients[0], clients[1])
}

#[test]
fn names_and_connect_slots_are_waited_for_in_order() {
    let mut stage = Stage::new("chat", |config| config.limits.connecting_max = 1);
    stage.worker.net_mut().pending_name = true;
    let clients: Vec<usize> = (0..3).map(|_| stage.client()).collect();
    for &client in &clients {
        stage.give(client, &post("/v1/responses", REQUEST));
    }
    assert_eq!(stage.worker.counts().waiting, 3);
    stage.worker.net_mut().pending_name = false;
    stage.worker.names_changed();
    stage.turn(&[]);
    assert_eq!((stage.worker.counts().waiting, stage.worker.counts().upstreams), (2, 1));
    for waiting in [1, 0, 0] {
        let upstream = stage.sockets();
        stage.give(upstream, "");
        assert!(stage.take(upstream).starts_with("POST "));
        assert_eq!(stage.worker.counts().waiting, waiting);
    }
    assert_eq!(stage.worker.counts().upstreams, 3);
}

#[test]
fn a_connect_slot_that_its_caller_does_not_need_goes_to_the_next() {
    let mut stage = Stage::new("chat", |config| config.limits.connecting_max = 1);
    let first = stage.client();
    let busy = stage.ask(first, &post("/v1/responses", REQUEST));
    stage.give(busy, &sse(CHAT_START));
    let waiting: Vec<usize> = (0..3).map(|_| stage.client()).collect();
    for &client in &waiting {
        stage.give(client, &post("/v1/responses", REQUEST));
    }
    let dialled = stage.sockets();
    assert_eq!(stage.worker.counts().waiting, 2);
    // An answer ends and a connect succeeds at once: one waits no more for a connect.
    let end = format!("{}0\r\n\r\n", chunk(CHAT_END));
    stage.worker.net_mut().sockets[busy - 1].inbox.extend(end.as_bytes());
    let ready = [busy, dialled].map(|socket| Stage::ready(u32::try_from(socket).unwrap()));
    stage.turn(&ready);
    let counts = stage.worker.counts();
    assert_eq!((counts.waiting, counts.upstreams), (0, 3), "{counts:?}");
}

#[test]
fn a_crowd_waits_longer_than_a_connect_may_take() {
    let mut stage = Stage::new("chat", |config| config.limits.connecting_max = 1);
    let clients: Vec<usize> = (0..6).map(|_| stage.client()).collect();
    for &client in &clients {
        stage.give(client, &post("/v1/responses", REQUEST));
    }
    for left in (0..6_usize).rev() {
        stage.pass(Duration::from_secs(4));
        let dialled = stage.sockets();
        stage.give(dialled, "");
        assert!(stage.take(dialled).starts_with("POST "), "{left} are left");
        assert_eq!(stage.worker.counts().waiting, left.saturating_sub(1));
    }
    assert!(clients.iter().all(|client| stage.take(*client).is_empty()));
}

#[test]
fn who_waits_behind_a_dead_provider_is_told_in_time() {
    let (mut stage, first, second) = two();
    stage.pass(Duration::from_secs(5));
    for client in [first, second] {
        let answer = stage.take(client);
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    }
}
