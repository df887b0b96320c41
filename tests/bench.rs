//! `patchbay bench`: a right answer is found right in every form, each damage is found and named,
//! and what it writes is whole. Nothing is said of speed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod support;

use patchbay::bench::{
    Amount, Defect, Dialect, Figure, Load, Outcome, Plan, RequestText, Target, Tree, report, run,
};
use patchbay::mock::script::Script;
use patchbay::mock::{Options, Server};
use patchbay::proxy::transport::TlsTable;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use support::{Patchbay, Received, Then, Upstream, Wire, wait_for};

fn mock() -> Server {
    Server::start(&Options::default()).unwrap()
}

fn target(address: SocketAddr, dialect: Dialect) -> Target {
    Target::new("it", &format!("http://{address}"), Some(dialect), None).unwrap()
}

/// A load of a few requests on two connections.
fn load(script: &str) -> Load {
    Load {
        script: Some(script.parse().unwrap()),
        connections: 2,
        amount: Amount::Requests(6),
        warmup: Amount::Requests(0),
        timeout: support::PATIENCE,
        ..Load::default()
    }
}

fn plan(targets: Vec<Target>, load: Load) -> Plan {
    let title = "a test".to_owned();
    Plan { title, load, targets, rounds: 1, headers: vec![], api_key: None, ca_pem: vec![] }
}

fn outcome(target: Target, load: Load) -> Outcome {
    run(&plan(vec![target], load)).unwrap()
}

/// The kinds of defect that were found.
fn kinds(outcome: &Outcome) -> Vec<Defect> {
    outcome.targets[0].defects().into_iter().map(|(defect, ..)| defect).collect()
}

/// What was found, for messages.
fn told(outcome: &Outcome) -> String {
    outcome
        .targets
        .iter()
        .flat_map(patchbay::bench::TargetOutcome::defects)
        .map(|(defect, count, example)| {
            let (expected, came) = (&example.expected, &example.came);
            format!("{count} x {defect:?}\n  expected {expected}\n  came {came}\n")
        })
        .collect()
}

#[track_caller]
fn assert_right(outcome: &Outcome, answers: u64) {
    assert!(outcome.is_right(), "{}", told(outcome));
    assert_eq!(outcome.targets[0].total().answers, answers);
}

/// Scripts with everything that an answer can have.
const SCRIPTS: [&str; 8] = [
    "",
    "deltas=40,frames=0,bytes=33",
    "deltas=9,bytes=30,stamp=true,pace=1ms",
    "deltas=7,bytes=17,text=code,reasoning=5,calls=2,call_deltas=3",
    "deltas=7,bytes=16,text=cjk,slice=5",
    "deltas=0,calls=1,call_deltas=20",
    "deltas=3,reasoning=3,frames=4,slice=50",
    "deltas=1,bytes=100000",
];

#[test]
fn a_right_answer_is_found_right_direct_and_through_the_proxy() {
    let mock = mock();
    let url = format!("http://{}/v1/chat/completions", mock.address());
    let proxy = Patchbay::for_upstream(&url, &[]);
    for script in SCRIPTS {
        for stream in [true, false] {
            for dialect in [Dialect::Chat, Dialect::Responses] {
                for address in [mock.address(), proxy.address] {
                    let load = Load { stream, ..load(script) };
                    let outcome = outcome(target(address, dialect), load);
                    assert_right(&outcome, 6);
                    let total = outcome.targets[0].total();
                    let deltas = script.parse::<Script>().unwrap().deltas;
                    let seen = if stream { u64::from(deltas) * 6 } else { 0 };
                    assert_eq!(total.deltas, seen, "{script} {dialect:?}");
                    let stamped = stream && script.contains("stamp");
                    assert_eq!(total.delta.count(), if stamped { seen } else { 0 });
                    assert_eq!(total.opened, 2, "kept alive");
                }
            }
        }
    }
}

#[test]
fn a_responses_upstream_is_found_right_too() {
    let mock = mock();
    let url = format!("http://{}/v1/responses", mock.address());
    let proxy = Patchbay::for_upstream(&url, &["--upstream-dialect", "responses"]);
    for script in SCRIPTS {
        for dialect in [Dialect::Chat, Dialect::Responses] {
            assert_right(&outcome(target(proxy.address, dialect), load(script)), 6);
        }
    }
    let codex = format!("http://{}/backend-api/codex/responses", mock.address());
    let codex = Target::new("codex", &codex, None, None).unwrap();
    assert_right(&outcome(codex, load("deltas=4")), 6);
}

#[test]
fn a_failure_that_the_script_orders_is_no_defect() {
    let mock = mock();
    let url = format!("http://{}/v1/chat/completions", mock.address());
    let proxy = Patchbay::for_upstream(&url, &[]);
    for script in [
        "status=429",
        "status=500",
        "deltas=9,bytes=20,fail_after=4",
        "deltas=9,bytes=20,cut_after=4",
        "deltas=9,fail_after=0",
        "deltas=9,cut_after=20",
    ] {
        for stream in [true, false] {
            for dialect in [Dialect::Chat, Dialect::Responses] {
                for address in [mock.address(), proxy.address] {
                    let load = Load { stream, ..load(script) };
                    let outcome = outcome(target(address, dialect), load);
                    assert!(
                        outcome.is_right(),
                        "{script} {stream} {dialect:?} {}: {}",
                        address == proxy.address,
                        told(&outcome)
                    );
                }
            }
        }
    }
}

/// What a bad proxy does to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    None,
    Drop,
    Repeat,
    Change,
    Swap,
    Merge,
    NoEnd,
    TwoEnds,
    Cut,
    HalfChunk,
    Status,
    ContentType,
    Garbage,
}

/// A bad proxy in front of the mock. It answers `good` requests rightly first.
fn relay(mock: SocketAddr, damage: Damage, good: u64) -> Upstream {
    let count = Arc::new(AtomicU64::new(0));
    Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        let path = request.line.split(' ').nth(1).unwrap();
        let mut client = support::Client::connect(mock);
        client.send_post(path, &[], std::str::from_utf8(&request.body).unwrap());
        let reply = client.reply();
        let right = count.fetch_add(1, Ordering::SeqCst) < good;
        let damage = if right { Damage::None } else { damage };
        damaged(reply.status, &reply.text(), damage, wire)
    })
}

/// Where the deltas of text stand.
fn deltas(frames: &[String]) -> Vec<usize> {
    let is_delta = |frame: &String| {
        frame.contains("\"content\":\"@")
            || frame.contains("\"content\":\" ")
            || frame.contains("response.output_text.delta")
    };
    (0..frames.len()).filter(|at| is_delta(&frames[*at])).collect()
}

fn damaged(status: u16, body: &str, damage: Damage, wire: &mut dyn Wire) -> Then {
    let mut frames: Vec<String> = body.split_inclusive("\n\n").map(str::to_owned).collect();
    let is_chat = body.contains("chat.completion.chunk");
    let deltas = deltas(&frames);
    let at = deltas[deltas.len() / 2];
    let last = frames.len() - 1;
    let (mut status, mut kind) = (status, "text/event-stream");
    match damage {
        Damage::None | Damage::Cut | Damage::HalfChunk => {}
        Damage::Drop => drop(frames.remove(at)),
        Damage::Repeat => frames.insert(at, frames[at].clone()),
        Damage::Change => frames[at] = frames[at].replacen("the", "teh", 1),
        Damage::Swap => frames.swap(at, at + 1),
        Damage::Merge => {
            let text = |frame: &str, from: &str| {
                let start = frame.find(from).unwrap() + from.len();
                frame[start..start + frame[start..].find('"').unwrap()].to_owned()
            };
            let key = if is_chat { "\"content\":\"" } else { "\"delta\":\"" };
            let second = text(&frames.remove(at + 1), key);
            let first = text(&frames[at], key);
            frames[at] = frames[at].replace(&first, &(first.clone() + &second));
        }
        Damage::NoEnd => {
            let is_end = |frame: &&mut String| {
                frame.contains("[DONE]")
                    || frame.contains("response.completed")
                    || frame.contains("\"finish_reason\":\"")
            };
            frames.iter_mut().filter(is_end).for_each(String::clear);
            frames.retain(|frame| !frame.is_empty());
        }
        Damage::TwoEnds => frames.push(frames[last].clone()),
        Damage::Status => status = 503,
        Damage::ContentType => kind = "text/plain",
        Damage::Garbage => frames[at] = frames[at].replacen("data: {", "data: {{", 1),
    }
    if damage == Damage::Status {
        support::reply(wire, &format!("{status} x"), "application/json", r#"{"error":{}}"#);
        return Then::Keep;
    }
    let head = format!(
        "HTTP/1.1 {status} OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut sent = wire.write_all(head.as_bytes());
    for (index, frame) in frames.iter().enumerate() {
        let chunk = format!("{:x}\r\n{frame}\r\n", frame.len());
        if damage == Damage::Cut && index == at {
            return Then::Close;
        }
        if damage == Damage::HalfChunk && index == at {
            let _ = wire.write_all(&chunk.as_bytes()[..chunk.len() / 2]);
            return Then::Close;
        }
        sent = sent.and_then(|()| wire.write_all(chunk.as_bytes()));
    }
    match sent.and_then(|()| wire.write_all(b"0\r\n\r\n")) {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

/// A damage; what it is called in Chat and in Responses; and what, when it was done to the upstream
/// of a proxy that translates. What stands first says what happened, the rest follows from it.
type Case = (Damage, &'static [Defect], &'static [Defect], &'static [Defect]);

const CASES: [Case; 13] = [
    (Damage::None, &[], &[], &[]),
    (
        Damage::Drop,
        &[Defect::MissingDelta],
        &[Defect::MissingDelta, Defect::Sequence, Defect::WholeText],
        &[Defect::MissingDelta],
    ),
    (
        Damage::Repeat,
        &[Defect::RepeatedDelta],
        &[Defect::RepeatedDelta, Defect::Sequence, Defect::WholeText],
        &[Defect::RepeatedDelta],
    ),
    (
        Damage::Change,
        &[Defect::ChangedText],
        &[Defect::ChangedText, Defect::WholeText],
        &[Defect::ChangedText],
    ),
    (
        Damage::Swap,
        &[Defect::SwappedDeltas],
        &[Defect::SwappedDeltas, Defect::Sequence, Defect::WholeText],
        &[Defect::SwappedDeltas],
    ),
    (
        Damage::Merge,
        &[Defect::DeltaCount],
        &[Defect::DeltaCount, Defect::Sequence],
        &[Defect::DeltaCount],
    ),
    (Damage::NoEnd, &[Defect::NoEnd], &[Defect::NoEnd], &[Defect::Failure]),
    (Damage::TwoEnds, &[Defect::ManyEnds], &[Defect::ManyEnds], &[]),
    (Damage::Cut, &[Defect::Cut], &[Defect::Cut], &[Defect::Failure]),
    (Damage::HalfChunk, &[Defect::Cut], &[Defect::Cut], &[Defect::Failure]),
    (Damage::Status, &[Defect::Status], &[Defect::Status], &[Defect::Status]),
    (Damage::ContentType, &[Defect::ContentType], &[Defect::ContentType], &[]),
    (Damage::Garbage, &[Defect::Malformed], &[Defect::Malformed], &[Defect::MissingDelta]),
];

#[test]
fn each_damage_is_found_and_named() {
    let mock = mock();
    for script in ["deltas=12,bytes=60", "deltas=12,bytes=80,stamp=true"] {
        for (damage, chat, responses, translated) in CASES {
            let bad = relay(mock.address(), damage, 2);
            let check = |target: Target, expected: &[Defect]| {
                let outcome = outcome(target, load(script));
                let found = kinds(&outcome);
                let words = format!("{damage:?} {script}: {}", told(&outcome));
                let first = expected.first().copied();
                assert!(first.is_none_or(|first| found.contains(&first)), "{words}");
                let mut wanted = expected.to_vec();
                wanted.sort();
                // A frame that cannot be read hides the delta that was in it.
                let more = [Defect::MissingDelta, Defect::Sequence, Defect::WholeText];
                let extra = |it: &Defect| damage == Damage::Garbage && more.contains(it);
                let found: Vec<_> =
                    found.into_iter().filter(|it| expected.contains(it) || !extra(it)).collect();
                assert_eq!(found, wanted, "{words}");
                assert_eq!(outcome.is_right(), expected.is_empty(), "{words}");
                outcome.targets[0].total()
            };
            let total = check(target(bad.address, Dialect::Chat), chat);
            if !chat.is_empty() {
                assert_eq!((total.answers, total.wrong), (6, 4), "{damage:?}: two were right");
            }
            check(target(relay(mock.address(), damage, 0).address, Dialect::Responses), responses);
            let bad = relay(mock.address(), damage, 0);
            let proxy = Patchbay::for_upstream(&bad.chat_url(), &[]);
            check(target(proxy.address, Dialect::Responses), translated);
        }
    }
}

#[test]
fn merged_deltas_are_right_when_that_is_asked() {
    let mock = mock();
    let bad = relay(mock.address(), Damage::Merge, 0);
    let lenient = Load { lenient: true, ..load("deltas=12,bytes=60") };
    assert_right(&outcome(target(bad.address, Dialect::Chat), lenient.clone()), 6);
    let bad = relay(mock.address(), Damage::Change, 0);
    let outcome = outcome(target(bad.address, Dialect::Chat), lenient);
    assert_eq!(kinds(&outcome), [Defect::ChangedText]);
}

#[test]
fn a_server_without_a_script_is_checked_against_itself() {
    let text = support::chat_text("whatever it says");
    let server = Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        support::reply_stream(wire, &text);
        Then::Keep
    });
    let unscripted = Load { script: None, model: Some("m".to_owned()), ..load("") };
    let chat = target(server.address, Dialect::Chat);
    assert_right(&outcome(chat.clone(), unscripted.clone()), 6);
    let proxy = Patchbay::for_upstream(&server.chat_url(), &[]);
    assert_right(&outcome(target(proxy.address, Dialect::Responses), unscripted), 6);
    let outcome = outcome(chat, load("deltas=2"));
    assert_eq!(kinds(&outcome), [Defect::ChangedText], "{}", told(&outcome));
}

#[test]
fn a_connection_that_was_closed_between_two_answers_is_made_anew() {
    let mock = mock();
    let address = mock.address();
    let server = Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        let mut client = support::Client::connect(address);
        let body = std::str::from_utf8(&request.body).unwrap();
        client.send_post("/v1/chat/completions", &[], body);
        damaged(200, &client.reply().text(), Damage::None, wire);
        Then::Close
    });
    let load = Load { connections: 1, ..load("deltas=12,bytes=60") };
    let outcome = outcome(target(server.address, Dialect::Chat), load);
    assert_right(&outcome, 6);
    assert_eq!(outcome.targets[0].opened(), 6);
}

#[test]
fn silence_and_refusal_are_told() {
    let server = Upstream::start(|_: &Received, wire: &mut dyn Wire| {
        // Returns when the bench has lost its patience and closes.
        let _ = wire.read(&mut [0]);
        Then::Close
    });
    let impatient =
        Load { timeout: Duration::from_millis(100), amount: Amount::Requests(2), ..load("") };
    let outcome = outcome(target(server.address, Dialect::Chat), impatient);
    assert_eq!(kinds(&outcome), [Defect::Silence], "{}", told(&outcome));
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let why = run(&plan(vec![target(address, Dialect::Chat)], load(""))).unwrap_err();
    assert!(why.contains("cannot connect to 127.0.0.1:"), "{why}");
    let gone = Target { pid: Some(u32::MAX), ..target(mock().address(), Dialect::Chat) };
    assert!(run(&plan(vec![gone], load(""))).is_err());
}

#[test]
fn loads_of_all_kinds_do_what_they_say() {
    let mock = mock();
    let it = || target(mock.address(), Dialect::Responses);
    let churn = outcome(it(), Load { churn: true, ..load("frames=0") });
    assert_right(&churn, 6);
    assert_eq!(churn.targets[0].opened(), 6, "a connection for each request");

    let warm = Load { warmup: Amount::Requests(2), ..load("deltas=50,pace=1ms") };
    let warm = outcome(it(), warm);
    assert_right(&warm, 6);
    let round = &warm.targets[0].rounds[0];
    assert_eq!((round.warmup.answers, round.warmup.deltas), (2, 4), "cut to two deltas");
    assert_eq!((round.tally.opened, round.warmup.opened), (0, 2));

    let crowd = Load {
        connections: 64,
        amount: Amount::Requests(64),
        ramp: Duration::from_millis(50),
        connects_max: 3,
        ..load("deltas=3,pace=20ms")
    };
    let crowd = outcome(it(), crowd);
    assert_right(&crowd, 64);
    assert_eq!(crowd.targets[0].opened(), 64, "each asks once");

    let rate = Load {
        rate: Some(1000.0),
        amount: Amount::Requests(40),
        connections: 8,
        threads: 2,
        ..load("")
    };
    assert_right(&outcome(it(), rate), 40);

    let slow = Load {
        connections: 1,
        amount: Amount::Requests(1),
        read_rate: Some(2_000_000),
        ..load("deltas=200,bytes=500,frames=0")
    };
    let slow = outcome(it(), slow);
    assert_right(&slow, 1);

    for text in [RequestText::Code, RequestText::Dense, RequestText::Image] {
        let load = Load { request_bytes: 300_000, request_text: text, ..load("") };
        let large = outcome(it(), load);
        assert_right(&large, 6);
        assert!(large.targets[0].total().bytes_out > 6 * 270_000);
    }
}

#[test]
fn tls_is_spoken_where_the_url_says_so() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = TlsTable::new(&[]).unwrap();
    tls.set_server(certificate.as_bytes(), key.as_bytes()).unwrap();
    let options = Options { tls: Some(Arc::new(tls)), ..Options::default() };
    let mock = Server::start(&options).unwrap();
    let url = format!("https://localhost:{}", mock.address().port());
    let target = Target::new("tls", &url, None, None).unwrap();
    let mut plan = plan(vec![target], load("deltas=300,bytes=300,frames=0"));
    plan.ca_pem = certificate.into_bytes();
    assert_right(&run(&plan).unwrap(), 6);
    plan.load.churn = true;
    assert_right(&run(&plan).unwrap(), 6);
    plan.ca_pem = Vec::new();
    plan.load.amount = Amount::Requests(2);
    let outcome = run(&plan).unwrap();
    assert_eq!(kinds(&outcome), [Defect::Connect], "{}", told(&outcome));
}

#[test]
fn the_accounts_of_a_process_go_up_when_it_works() {
    let tree = Tree::of(std::process::id()).unwrap();
    let before = tree.cpu();
    let mut sum = 0u64;
    wait_for("the processor time to go up", || {
        for number in 0..1_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        (tree.cpu() > before + Duration::from_millis(20)).then_some(())
    });
    let memory = tree.memory();
    assert!(memory.resident > 1 << 20 && memory.resident < 1 << 34, "{memory:?}");
    assert!(memory.high_water >= memory.resident);
    // A child is found, and its time is its parent's too.
    let mut child =
        Command::new("sh").args(["-c", "read _"]).stdin(Stdio::piped()).spawn().unwrap();
    let both = Tree::of(std::process::id()).unwrap();
    assert!(both.memory().resident > Tree::of(child.id()).unwrap().memory().resident);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(Tree::of(u32::MAX).is_err());
}

#[test]
fn figures_are_of_what_was_counted() {
    let mock = mock();
    let pid = Some(std::process::id());
    let targets = ["a", "b"].map(|name| {
        let url = format!("http://{}", mock.address());
        Target::new(name, &url, Some(Dialect::Chat), pid).unwrap()
    });
    let mut plan = plan(targets.to_vec(), load("deltas=50,frames=0"));
    plan.rounds = 3;
    plan.load.amount = Amount::Requests(200);
    let outcome = run(&plan).unwrap();
    assert_right(&outcome, 600);
    for target in &outcome.targets {
        assert_eq!(target.rounds.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2, 3]);
        for figure in Figure::ALL {
            let spread = target.figure(figure);
            let is_known = !matches!(figure, Figure::DeltaMedian | Figure::DeltaTail);
            assert_eq!(spread.is_some(), is_known, "{figure:?}");
            let in_order = |it: patchbay::bench::Spread| it.min <= it.median && it.median <= it.max;
            assert!(spread.is_none_or(in_order), "{figure:?}");
        }
        let each = |figure| target.rounds[0].figure(figure).unwrap();
        let by_delta = each(Figure::CpuDelta) * 50.0;
        assert!((by_delta / each(Figure::CpuRequest) - 1.0).abs() < 1e-9);
        assert!(target.rounds[0].memory.unwrap().peak > 0);
    }
    let own = outcome.ratio(0, Figure::CpuRequest).unwrap();
    assert_eq!((own.min, own.max), (1.0, 1.0), "the first is what others are compared with");
    assert!(outcome.ratio(1, Figure::CpuRequest).unwrap().median > 0.0);
    let table = report::table(&outcome);
    assert!(table.contains("against a") && table.contains("CPU us/request"), "{table}");
    let page = report::html(&outcome);
    assert!(page.contains("<svg") && page.contains("against") || page.contains(" of a"), "{page}");
    for outside in ["src=", "href=", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
}

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.arg("bench").args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ran(args: &[&str]) -> Output {
    bench(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}\n{}", text(&output.stdout), text(&output.stderr)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_tells_and_its_exit_code_says_whether_all_was_right() {
    let mock = mock();
    let url = format!("http://{}/v1/chat/completions", mock.address());
    let right = ran(&["--target", &url, "-n", "20", "-c", "2", "--warmup", "0", "--quiet"]);
    assert_eq!(right.status.code(), Some(0), "{}", text(&right.stderr));
    let table = text(&right.stdout);
    assert!(table.contains("requests/s") && table.contains("whole answer"), "{table}");
    assert_eq!(text(&right.stderr), "");

    let bad = relay(mock.address(), Damage::Drop, 0);
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let wrong =
        bench(&["--script", "deltas=12,bytes=60", "-n", "4", "--warmup", "0", "--json", "-"])
            .args(["--target", &bad.chat_url(), "--report"])
            .arg(&page)
            .output()
            .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    let value = json(&wrong);
    assert_eq!(value["is_right"], false);
    let target = &value["targets"][0];
    assert_eq!((&target["wrong"], &target["dialect"]), (&4.into(), &"chat".into()));
    assert_eq!(target["defects"][0]["kind"], "missing_delta");
    assert!(target["defects"][0]["example"]["came"].as_str().unwrap().contains("missing"));
    assert!(text(&wrong.stderr).contains("a delta is missing"), "{}", text(&wrong.stderr));
    assert!(std::fs::read_to_string(&page).unwrap().contains("4 answers wrong"));

    let usage = ran(&["--shape"]);
    assert_eq!(usage.status.code(), Some(2));
    let unknown = ran(&["--shape", "z"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("--shape list"));
    let list = text(&ran(&["--shape", "list"]).stdout);
    for shape in patchbay::bench::SHAPES {
        assert!(list.contains(shape.what), "{list}");
    }
}

/// Whether a process runs.
fn runs(pid: &Value) -> bool {
    std::path::Path::new(&format!("/proc/{}/stat", pid.as_u64().unwrap())).exists()
}

#[test]
fn without_a_target_it_starts_its_own_and_leaves_nothing_behind() {
    let output = ran(&["-n", "40", "--warmup", "4", "--rounds", "2", "--json", "-", "--quiet"]);
    let value = json(&output);
    assert_eq!(output.status.code(), Some(0), "{value}");
    let names: Vec<_> = (0..2).map(|at| value["targets"][at]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["direct", "patchbay"]);
    for target in value["targets"].as_array().unwrap() {
        assert_eq!(target["rounds"].as_array().unwrap().len(), 2);
        assert!(target["figures"]["requests_per_s"]["median"].as_f64().unwrap() > 0.0);
        assert!(!runs(&target["pid"]), "a server was left behind");
    }
    assert!(value["targets"][1]["ratios_to_first"]["requests_per_s"]["min"].is_number());
    for key in ["load", "rounds", "title", "warnings", "stopped"] {
        assert!(!value[key].is_null(), "{key}");
    }
    let quantiles = &value["targets"][1]["times_us"]["whole"]["quantiles"];
    assert!(quantiles.as_array().unwrap().len() > 5);
}

/// Starts a long benchmark of servers of its own and waits until they run; returns them.
fn long(args: &[&str]) -> (Child, Vec<u32>) {
    let mut child =
        bench(&["-d", "10m", "--warmup", "0", "--rounds", "1"]).args(args).spawn().unwrap();
    let id = child.id();
    let pids = wait_for("its servers to start", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        let all = descendants(id);
        // Two shells and what they keep.
        (all.len() == 4).then_some(all)
    });
    (child, pids)
}

fn descendants(parent: u32) -> Vec<u32> {
    let children = |parent: u32| -> Vec<u32> {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let rest = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
                rest.split(' ').nth(1) == Some(&parent.to_string())
            })
            .collect()
    };
    let direct = children(parent);
    direct.iter().flat_map(|pid| children(*pid)).chain(direct.iter().copied()).collect()
}

fn send_signal(name: &str, pid: u32) {
    let script = format!("kill -s {name} {pid}");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

fn are_gone(pids: &[u32]) {
    wait_for("its servers to end", || {
        let alive = |pid: &&u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        pids.iter().find(alive).is_none().then_some(())
    });
}

#[test]
fn a_signal_stops_it_and_what_there_is_is_told() {
    let (mut child, pids) = long(&[]);
    // The first line of progress: it is measuring.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("round 1/1 direct"), "{first}");
    send_signal("INT", child.id());
    let rest = thread::spawn(move || lines.map_while(Result::ok).count());
    let output = child.wait_with_output().unwrap();
    rest.join().unwrap();
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("stopped before its end"), "{table}");
    are_gone(&pids);
}

#[test]
fn its_servers_go_even_when_it_is_killed() {
    let (mut child, pids) = long(&["--quiet"]);
    child.kill().unwrap();
    child.wait().unwrap();
    are_gone(&pids);
}
