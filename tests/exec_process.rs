//! The life of a run's process: it ends with its answer, its time, its client or the proxy, and takes
//! with it whatever it started. The CLI is a script.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::thread;
use support::codex::{
    ANSWER, HANG, Place, TEXT, children, descriptors, group, send_signal, wait_until_gone,
};
use support::{Client, Patchbay, Reply, wait_for};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

/// Says one message, and then nothing.
const BEGIN: &str = r#"cat >"$run/stdin"
echo '{"type":"thread.started","thread_id":"thread-1"}'
echo '{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"One."}}'
echo '{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"x"}}'
"#;

fn request(path: &str, text: &str, stream: bool) -> String {
    match path {
        RESPONSES => json!({"model": "m", "input": text, "stream": stream}).to_string(),
        _ => {
            json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]})
                .to_string()
        }
    }
}

/// Posts, and leaves the reply to come.
fn begin(proxy: &Patchbay, path: &str, stream: bool) -> Client {
    let mut client = proxy.connect();
    client.send_post(path, &[], &request(path, "hello", stream));
    client
}

fn is_answer(reply: &Reply) -> bool {
    reply.status == 200 && reply.complete && reply.text().contains("größe")
}

fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a proxy has no child, dead or alive, and no temporary file.
fn wait_until_clear(place: &Place, proxy: &Patchbay) {
    let pid = proxy.child.id();
    wait_for("the end of the last child and of its files", || {
        (children(pid).is_empty() && place.leftovers().is_empty()).then_some(())
    });
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_its_client_told() {
    let place = Place::new(&format!("cat >\"$run/stdin\"\n{HANG}"));
    let proxy = place.start(&[("CODEX_TIMEOUT", "1"), ("CODEX_MAX_PARALLEL_REQUESTS", "8")]);
    let cases = [(CHAT, false), (CHAT, true), (RESPONSES, false), (RESPONSES, true)];
    let mut clients = cases.map(|(path, stream)| begin(&proxy, path, stream));
    for (client, (path, stream)) in clients.iter_mut().zip(cases) {
        let reply = client.reply();
        assert_eq!(reply.status, 504, "{path} {stream}: {reply:?}");
        assert!(message(&reply).contains("not over in 1 s"), "{reply:?}");
    }
    // Behind the first words there is no status any more.
    place.behave(&format!("{BEGIN}{HANG}"));
    let mut clients = [CHAT, RESPONSES].map(|path| begin(&proxy, path, true));
    let replies = clients.each_mut().map(Client::reply);
    for reply in &replies {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.text().contains("One.") && reply.text().contains("not over in 1 s"));
    }
    assert!(!replies[0].text().contains("\"finish_reason\":\"stop\""), "{}", replies[0].text());
    assert!(replies[1].text().contains("response.failed"), "{}", replies[1].text());
    assert!(!replies[1].text().contains("response.completed"), "{}", replies[1].text());
    let reply = begin(&proxy, RESPONSES, false).reply();
    assert_eq!(reply.status, 504, "{reply:?}");
    (0..7).map(|_| place.next_run()).for_each(|run| wait_until_gone(&run));
    wait_until_clear(&place, &proxy);
}

#[test]
fn the_whole_group_ends_with_its_client_even_if_it_heeds_no_signal() {
    let grandchild = "sleep 1000 & echo $! >\"$run/grandchild\"\n";
    for (what, behave) in [
        ("hangs", format!("{BEGIN}{grandchild}{HANG}")),
        ("heeds no signal", format!("trap '' TERM INT HUP\n{BEGIN}{grandchild}{HANG}")),
        (
            "ends, its child does not",
            format!("trap 'exit 3' TERM\n{BEGIN}(trap '' TERM; {grandchild}{HANG}) & wait\n"),
        ),
        ("never reads", format!("{grandchild}{HANG}")),
        ("is silent", format!("exec 2>&-\n{BEGIN}{grandchild}{HANG}")),
        ("stopped", format!("{BEGIN}{grandchild}kill -s STOP 0\n")),
    ] {
        for (path, stream) in [(CHAT, true), (RESPONSES, false)] {
            let place = Place::new(&behave);
            let proxy = place.start(&[]);
            let client = begin(&proxy, path, stream);
            let run = place.next_run();
            let grandchild: u32 = run.wait_for("grandchild").trim().parse().unwrap();
            assert!(group(run.pid).contains(&grandchild), "{what}");
            drop(client);
            wait_until_gone(&run);
            wait_until_clear(&place, &proxy);
            // And there is room for the next one.
            place.behave(ANSWER);
            assert!(is_answer(&proxy.post(path, &request(path, "x", stream))), "{what}");
        }
    }
}

#[test]
fn what_a_run_leaves_behind_ends_with_it() {
    // It holds both outputs open, so that neither ends with the run.
    let place = Place::new(&format!("sleep 1000 & echo $! >\"$run/grandchild\"\n{ANSWER}"));
    let proxy = place.start(&[]);
    for stream in [false, true] {
        assert!(is_answer(&proxy.post(CHAT, &request(CHAT, "x", stream))));
        wait_until_gone(&place.next_run());
    }
    wait_until_clear(&place, &proxy);
    // Nor does a run's answer wait for such a process.
    place.behave("cat >\"$run/stdin\"\necho oh, no >&2\nsleep 1000 &\nexit 3\n");
    let reply = proxy.post(CHAT, &request(CHAT, "x", false));
    assert_eq!(reply.status, 502, "{reply:?}");
    assert!(message(&reply).contains("exit code 3") && message(&reply).contains("oh, no"));
    wait_until_gone(&place.next_run());
}

#[test]
fn a_lost_run_is_a_failure_with_its_last_words() {
    let flood =
        "i=0; while [ $i -lt 3000 ]; do echo \"line $i of the flood\" >&2; i=$((i+1)); done\n";
    let place = Place::new("");
    let proxy = place.start(&[]);
    for (behave, words) in [
        (
            "echo 'Error loading config.toml: no such thing' >&2\nexit 1\n".to_owned(),
            &["exit code 1", "loading config.toml"][..],
        ),
        ("cat >/dev/null\nexit 0\n".to_owned(), &["exit code 0"]),
        ("kill -s KILL $$\n".to_owned(), &["signal 9"]),
        (
            "cat >/dev/null; echo '{\"type\":\"turn.started\"}'\nexit 7\n".to_owned(),
            &["exit code 7"],
        ),
        ("printf '{\"type\":\"turn.comp'\nexit 4\n".to_owned(), &["exit code 4"]),
        (format!("{flood}exit 5\n"), &["exit code 5", "line 2999 of the flood"]),
        ("printf 'a\\033[31mb\\n' >&2\nexit 1\n".to_owned(), &["a [31mb"]),
    ] {
        place.behave(&behave);
        for (path, stream) in [(CHAT, false), (CHAT, true), (RESPONSES, false), (RESPONSES, true)] {
            let reply = proxy.post(path, &request(path, "x", stream));
            assert_eq!(reply.status, 502, "{behave}: {reply:?}");
            let said = message(&reply);
            assert!(words.iter().all(|it| said.contains(it)) && said.len() < 1000, "{said}");
        }
    }
    place.behave(&format!("{BEGIN}echo 'out of memory' >&2\nexit 137\n"));
    for (path, end) in [(CHAT, "\"error\""), (RESPONSES, "response.failed")] {
        let text = proxy.post(path, &request(path, "x", true)).text();
        assert!(text.contains("One.") && text.contains(end), "{text}");
        assert!(text.contains("exit code 137") && text.contains("out of memory"), "{text}");
        assert_eq!(proxy.post(path, &request(path, "x", false)).status, 502);
    }
    place.behave(ANSWER);
    fs::remove_file(place.path("codex")).unwrap();
    let reply = proxy.post(CHAT, &request(CHAT, "x", false));
    assert_eq!(reply.status, 502, "{reply:?}");
    assert!(message(&reply).contains("cannot be run"), "{reply:?}");
    wait_until_clear(&place, &proxy);
}

#[test]
fn neither_side_of_the_pipes_waits_for_the_other() {
    let megabyte = "größe ".repeat(150_000);
    let lines = "i=0\nwhile [ $i -lt 600 ]; do\n\
        printf '{\"type\":\"item.updated\",\"item\":{\"type\":\"todo_list\",\"text\":\"%01000d\"}}\\n' $i\n\
        i=$((i+1)); done\n";
    for (what, behave) in [
        ("reads nothing", ". \"$place/answer\"\n".to_owned()),
        ("closes its input", "exec <&-\n. \"$place/answer\"\n".to_owned()),
        ("reads a little", "dd bs=1000 count=1 >/dev/null 2>&1\n. \"$place/answer\"\n".to_owned()),
        ("says much, then reads", format!("{lines}{ANSWER}")),
        ("says much and reads nothing", format!("{lines}. \"$place/answer\"\n")),
        (
            "says much to standard error",
            format!(
                "i=0; while [ $i -lt 600 ]; do printf '%01000d\\n' $i >&2; i=$((i+1)); done\n{ANSWER}"
            ),
        ),
    ] {
        let place = Place::new(&behave);
        let proxy = place.start(&[]);
        for (path, stream) in [(CHAT, true), (RESPONSES, false)] {
            let reply = proxy.post(path, &request(path, &megabyte, stream));
            assert!(is_answer(&reply), "{what}: {reply:?}");
        }
        wait_until_clear(&place, &proxy);
    }
}

#[test]
fn a_line_without_end_is_refused_and_its_run_ended() {
    let place = Place::new("cat >/dev/null\nyes '{\"a\":\"' | tr -d '\\n'\n");
    let proxy = place.start(&[]);
    let reply = proxy.post(CHAT, &request(CHAT, "x", false));
    assert_eq!(reply.status, 502, "{reply:?}");
    wait_until_gone(&place.next_run());
    wait_until_clear(&place, &proxy);
}

/// Says how many are at work, itself among them, and answers.
const COUNTED: &str = r#"mkdir "$place/live/$$"
ls "$place/live" | wc -l >>"$place/most"
cat >"$run/stdin"
for argument; do case $argument in --image=*) [ -r "${argument#--image=}" ] || exit 8 ;; esac; done
. "$place/answer"
rmdir "$place/live/$$"
"#;

const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[test]
fn any_number_of_requests_is_served_by_four_processes_and_nothing_is_left() {
    const CLIENTS: usize = 40;
    let place = Place::new(COUNTED);
    fs::create_dir(place.path("live")).unwrap();
    let mut command = place.command(&[("CODEX_MAX_PARALLEL_REQUESTS", "4")], &[]);
    command.env("CODEX_TIMEOUT", "60");
    let proxy = Patchbay::spawn(command);
    let pid = proxy.child.id();
    let url = format!("data:image/png;base64,{PIXEL}");
    let picture = json!({"model": "m", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": url}]}],
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}})
    .to_string();
    assert!(is_answer(&proxy.post(RESPONSES, &picture)));
    wait_until_clear(&place, &proxy);
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    let before = (descriptors(pid), threads());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (proxy, picture) = (&proxy, &picture);
            scope.spawn(move || {
                for turn in 0..5 {
                    let reply = match (client + turn) % 4 {
                        0 => proxy.post(RESPONSES, picture),
                        1 => proxy.post(CHAT, &request(CHAT, "x", true)),
                        2 => proxy.post(RESPONSES, &request(RESPONSES, "x", true)),
                        _ => proxy.post(CHAT, &request(CHAT, "x", false)),
                    };
                    assert!(is_answer(&reply), "{reply:?}");
                }
            });
        }
        // Some more who do not wait for their answers.
        for _ in 0..20 {
            drop(begin(&proxy, CHAT, true));
        }
    });
    wait_until_clear(&place, &proxy);
    let counts = fs::read_to_string(place.path("most")).unwrap();
    let counts: Vec<u32> = counts.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert!(counts.len() > CLIENTS * 5 && counts.iter().max() <= Some(&4), "{counts:?}");
    assert!(counts.iter().max() >= Some(&2), "never two at once: {counts:?}");
    wait_for("descriptors and threads to be what they were", || {
        let now = (descriptors(pid), threads());
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
}

#[test]
fn who_waits_too_long_for_a_turn_is_told_when_to_come_back() {
    let place = Place::new(&format!("cat >\"$run/stdin\"\n{HANG}. \"$place/answer\"\n"));
    place.write("laid-over.toml", "[providers.codex.exec]\nqueue_s = 1\nprocesses_max = 1\n");
    let file = place.path("laid-over.toml");
    let command = place.command(&[], &["--config", file.to_str().unwrap()]);
    let proxy = Patchbay::spawn(command);
    let mut first = begin(&proxy, CHAT, true);
    let run = place.next_run();
    for path in [CHAT, RESPONSES] {
        let reply = begin(&proxy, path, true).reply();
        assert_eq!(reply.status, 503, "{reply:?}");
        let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait) && message(&reply).contains("busy"), "{reply:?}");
    }
    // One that waits when its turn comes is served, and those who left take no turn.
    let mut next = begin(&proxy, CHAT, false);
    place.write("go", "");
    assert!(is_answer(&first.reply()) && is_answer(&next.reply()));
    wait_until_gone(&run);
    assert_eq!(place.runs().len(), 2);
}

#[test]
fn a_run_under_way_may_finish_when_the_proxy_is_told_to_end() {
    let place = Place::new(&format!("{BEGIN}{HANG}. \"$place/answer\"\n"));
    let mut proxy = place.start(&[("CODEX_MAX_PARALLEL_REQUESTS", "1")]);
    let mut client = begin(&proxy, CHAT, true);
    let run = place.next_run();
    let mut waiting = begin(&proxy, CHAT, false);
    send_signal("TERM", proxy.child.id());
    wait_for("the proxy to drain", || {
        std::net::TcpStream::connect(proxy.address).is_err().then_some(())
    });
    assert!(!group(run.pid).is_empty());
    place.write("go", "");
    let reply = client.reply();
    assert!(reply.complete && reply.text().contains("One.") && is_answer(&reply), "{reply:?}");
    assert!(is_answer(&waiting.reply()));
    assert!(proxy.child.wait().unwrap().success());
    wait_until_gone(&run);
}

#[test]
fn no_process_outlives_the_proxy() {
    let behave = format!("trap '' TERM\nsleep 1000 & echo $! >\"$run/grandchild\"\n{BEGIN}{HANG}");
    for twice in [true, false] {
        let place = Place::new(&behave);
        place.write("laid-over.toml", "[timeouts]\ndrain_ms = 200\n");
        let file = place.path("laid-over.toml");
        let args: &[&str] = if twice { &[] } else { &["--config", file.to_str().unwrap()] };
        let mut proxy =
            Patchbay::spawn(place.command(&[("CODEX_MAX_PARALLEL_REQUESTS", "1")], args));
        let _running = begin(&proxy, CHAT, true);
        let _waiting = begin(&proxy, CHAT, true);
        let run = place.next_run();
        run.wait_for("grandchild");
        send_signal("TERM", proxy.child.id());
        if twice {
            wait_for("the proxy to drain", || {
                std::net::TcpStream::connect(proxy.address).is_err().then_some(())
            });
            send_signal("TERM", proxy.child.id());
        }
        let status = proxy.child.wait().unwrap();
        // Who was killed may still be about to die.
        wait_until_gone(&run);
        assert_eq!(status.code(), Some(if twice { 143 } else { 0 }), "{}", proxy.log());
        assert_eq!((place.runs().len(), place.leftovers().len()), (1, 0));
    }
}

#[test]
fn the_question_for_models_ends_with_the_proxy_and_fails_without_harm() {
    let place = Place::new(ANSWER);
    place.write("models", "echo $$ >\"$place/asked-by\"\nsleep 1000\n");
    let mut proxy = place.start(&[]);
    let pid = wait_for("the question", || {
        fs::read_to_string(place.path("asked-by")).ok()?.trim().parse::<u32>().ok()
    });
    // Names cannot be checked, which is no reason to serve nobody.
    assert!(is_answer(&proxy.post(CHAT, &request(CHAT, "x", false))));
    send_signal("TERM", proxy.child.id());
    assert!(proxy.child.wait().unwrap().success());
    wait_for("the end of the question", || {
        let alive = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        (!alive).then_some(())
    });
    for broken in ["echo broken\n", "exit 1\n", "echo '{\"models\":3}'\n"] {
        place.write("models", broken);
        let proxy = place.start(&[]);
        wait_for("a warning", || proxy.log().contains("models").then_some(()));
        assert!(is_answer(&proxy.post(CHAT, &request(CHAT, "x", false))), "{broken}");
    }
}

#[test]
fn messages_come_while_the_run_goes_on() {
    let place = Place::new(&format!("{BEGIN}{HANG}. \"$place/answer\"\n"));
    let proxy = place.start(&[]);
    for path in [CHAT, RESPONSES] {
        let _ = fs::remove_file(place.path("go"));
        let mut client = begin(&proxy, path, true);
        while !client.line().contains("One.") {}
        place.write("go", "");
        let mut rest = String::new();
        while !rest.contains("[DONE]") {
            rest += &client.line();
        }
        assert!(rest.contains(&json!(TEXT).to_string()[1..6]), "{rest}");
        let last: Vec<Value> = rest
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
            .collect();
        assert!(!last.is_empty());
    }
}
