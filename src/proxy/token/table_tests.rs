//! Tests of the table of tokens: the time is what the test says it is.

use super::*;
use crate::config::{GrantKind, Overrides, World, load};

const UNIX_MS: u64 = 1_764_265_723_456;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn table(more: &str) -> Table {
    let text = format!(
        "[providers.giga]\nurl = 'https://giga.example/v1'\ndialect = 'gigachat'\n\
         credential = {{ kind = 'client-credentials', env = 'KEY', token_url = 'https://o' }}\n{more}"
    );
    let var = |_: &str| Some("aWQ6c2VjcmV0".to_owned());
    let file = Some((std::path::Path::new("p.toml"), text.as_str()));
    let config = load(file, &Overrides::default(), World { var: &var, cores: 1 }).unwrap();
    Table::new(&config).unwrap()
}

fn caller(secret: &str) -> Arc<Caller> {
    Arc::new(Caller::read(&format!("Bearer giga-user-{secret}:pw")).unwrap().unwrap())
}

fn token(name: &str, life_ms: u64) -> Reply {
    Reply::Token { access: name.to_owned(), ends: Ends::At(UNIX_MS + life_ms) }
}

fn later(after_s: Option<u32>) -> Reply {
    Reply::Later { why: "busy".to_owned(), after_s }
}

fn refused() -> Reply {
    Reply::Refused("no such key".to_owned())
}

/// Ready with a name, pending, or failed with a status.
fn shown(state: &TokenState) -> String {
    match state {
        TokenState::Ready(token) => token.authorization.replace("Bearer ", ""),
        TokenState::Pending => "pending".to_owned(),
        TokenState::Failed(failure) => failure.status().to_string(),
    }
}

fn own(table: &mut Table, now: Instant) -> String {
    shown(&table.token(0, None, now))
}

/// Does the next job so.
fn fetch(table: &mut Table, reply: Reply, now: Instant) -> Vec<Note> {
    let job = table.due().unwrap();
    table.settle(&job, reply, now, UNIX_MS)
}

#[test]
fn a_token_is_fetched_once_and_ahead_of_its_end_while_it_is_used_on() {
    for (life_ms, early_ms) in [(1_800_000, 60_000), (600_000, 60_000), (1_000, 100), (300, 30)] {
        let (mut table, begun) = (table(""), Instant::now());
        let job = table.due().unwrap();
        assert!(job.is_own() && job.grant.kind == GrantKind::ClientCredentials);
        for _ in 0..3 {
            assert_eq!(own(&mut table, begun), "pending");
        }
        assert!(table.due().is_none(), "one at a time");
        table.settle(&job, token("a", life_ms), begun, UNIX_MS);
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(own(&mut table, at(life_ms - early_ms - 1)), "a");
        assert!(table.due().is_none(), "too early");
        for _ in 0..3 {
            assert_eq!(own(&mut table, at(life_ms - early_ms)), "a", "nobody waits");
        }
        let job = table.due().unwrap();
        assert_eq!(own(&mut table, at(life_ms - 1)), "a");
        assert_eq!(own(&mut table, at(life_ms)), "pending", "it ended meanwhile");
        assert!(table.due().is_none(), "one at a time");
        table.settle(&job, token("b", life_ms), at(life_ms), UNIX_MS);
        assert_eq!(own(&mut table, at(life_ms)), "b");
        assert!(table.due().is_none());
    }
}

#[test]
fn a_fetch_that_fails_is_repeated_after_pauses_that_double() {
    let (mut table, mut now) = (table(""), Instant::now());
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        fetch(&mut table, later(None), now);
        assert_eq!(own(&mut table, now + seconds(pause) - Duration::from_millis(1)), "503");
        assert!(table.due().is_none());
        now += seconds(pause);
        assert_eq!(own(&mut table, now), "pending");
    }
    fetch(&mut table, later(Some(120)), now);
    let TokenState::Failed(failure) = table.token(0, None, now + seconds(119)) else { panic!() };
    assert_eq!(failure.fault.retry, Retry::After(120));
    assert!(failure.message.contains("\"giga\"") && failure.message.contains("busy"));
    now += seconds(120);
    assert_eq!(own(&mut table, now), "pending");
    // An endpoint that is not reached is told of at once, and not with a time.
    fetch(&mut table, Reply::Unreachable("no route".to_owned()), now);
    let TokenState::Failed(failure) = table.token(0, None, now) else { panic!() };
    assert_eq!((failure.status(), failure.fault.retry), (502, Retry::Later));
    now += PAUSE_MAX;
    assert_eq!(own(&mut table, now), "pending");
    fetch(&mut table, later(Some(100_000)), now);
    now += RETRY_AFTER_MAX;
    assert_eq!(own(&mut table, now), "pending", "an hour is not waited for");

    // While the old one is good, a failure is nobody's but the log's.
    let notes = fetch(&mut table, token("a", 100_000), now);
    assert_eq!(notes[0].level, Level::Info, "good news");
    assert_eq!(own(&mut table, now + seconds(95)), "a");
    let notes = fetch(&mut table, later(None), now + seconds(95));
    assert_eq!(notes[0].level, Level::Error);
    assert_eq!(own(&mut table, now + seconds(95)), "a");
    assert!(table.due().is_none(), "not at once");
    assert_eq!(own(&mut table, now + seconds(96)), "a");
    let again = fetch(&mut table, later(None), now + seconds(96));
    assert_eq!(again, [], "nothing is said twice");
    assert_eq!(own(&mut table, now + seconds(100)), "pending");
    fetch(&mut table, refused(), now + seconds(100));
    let TokenState::Failed(failure) = table.token(0, None, now + seconds(100)) else { panic!() };
    assert_eq!((failure.status(), failure.code()), (401, "upstream_unauthorized"));
}

#[test]
fn an_upstream_that_refuses_everything_costs_few_tokens() {
    let (mut table, mut now) = (table(""), Instant::now());
    fetch(&mut table, token("t0", 1_800_000), now);
    let (mut fetched, mut minted) = (0, now);
    for _ in 0..600 {
        now += Duration::from_millis(100);
        let TokenState::Ready(token_now) = table.token(0, None, now) else { panic!() };
        table.refuse(0, None, &token_now, now);
        if let Some(job) = table.due() {
            (fetched, minted) = (fetched + 1, now);
            assert_eq!(own(&mut table, now), "pending", "the refused one is not used on");
            table.settle(&job, token(&format!("t{fetched}"), 1_800_000), now, UNIX_MS);
        }
        table.refuse(0, None, &token_now, now);
        assert!(table.due().is_none(), "it was replaced already");
    }
    assert!((5..=7).contains(&fetched), "{fetched} in a minute");
    // One that was refused at its end was simply over, and the next may be refused at once.
    now = minted + seconds(1_799);
    let TokenState::Ready(old) = table.token(0, None, now) else { panic!() };
    fetch(&mut table, token("new", 1_800_000), now);
    table.refuse(0, None, &old, now);
    assert_eq!(own(&mut table, now), "new");
    let TokenState::Ready(new) = table.token(0, None, now) else { panic!() };
    table.refuse(0, None, &new, now);
    assert_eq!(own(&mut table, now), "pending");
}

#[test]
fn a_clock_that_is_wrong_is_told_of_once_and_survived() {
    let past = Reply::Token { access: "a".to_owned(), ends: Ends::At(UNIX_MS - 1) };
    let far = Reply::Token { access: "b".to_owned(), ends: Ends::At(UNIX_MS + 86_400_001) };
    let unknown = Reply::Token { access: "c".to_owned(), ends: Ends::Unknown };
    let (mut table, mut now) = (table(""), Instant::now());
    let mut warned = 0;
    for reply in [past, far, unknown] {
        let notes = fetch(&mut table, reply, now);
        warned += notes.iter().filter(|it| it.level == Level::Warn).count();
        assert_ne!(own(&mut table, now + LIFE_USUAL - seconds(31)), "pending");
        assert!(table.due().is_none());
        now += LIFE_USUAL;
        assert_eq!(own(&mut table, now), "pending");
    }
    assert_eq!(warned, 1);
    let day = Reply::Token { access: "d".to_owned(), ends: Ends::After(LIFE_MAX) };
    fetch(&mut table, day, now);
    assert_eq!(own(&mut table, now + LIFE_MAX - seconds(61)), "d");
    assert!(table.due().is_none());
}

#[test]
fn callers_have_tokens_of_their_own_and_failures_of_their_own() {
    let (mut table, now) = (table("callers = {}"), Instant::now());
    fetch(&mut table, token("server", 1_800_000), now);
    let (good, bad) = (caller("good"), caller("bad"));
    let state = |table: &mut Table, who: &Arc<Caller>, at| shown(&table.token(0, Some(who), at));
    assert_eq!(state(&mut table, &good, now), "pending");
    assert_eq!(state(&mut table, &bad, now), "pending");
    let notes = fetch(&mut table, token("theirs", 1_800_000), now);
    assert!(notes.iter().all(|it| it.level == Level::Debug), "{notes:?}");
    fetch(&mut table, refused(), now);
    assert_eq!(state(&mut table, &good, now), "theirs");
    let TokenState::Failed(failure) = table.token(0, Some(&bad), now + seconds(4)) else {
        panic!()
    };
    assert_eq!((failure.status(), failure.code()), (401, "invalid_api_key"));
    assert_eq!(failure.fault.side, crate::fault::Side::Client);
    assert!(failure.message.contains("your account") && failure.message.contains("no such key"));
    assert!(table.due().is_none(), "a bad secret is not tried at once again");
    assert_eq!(state(&mut table, &bad, now + seconds(5)), "pending");
    fetch(&mut table, later(None), now + seconds(5));
    assert_eq!(state(&mut table, &bad, now + seconds(5)), "503");
    assert_eq!(own(&mut table, now), "server");
    // Who has the same secret has the same token.
    assert_eq!(state(&mut table, &caller("good"), now), "theirs");
    let key = Arc::new(Caller::read("Bearer giga-cred-aWQ6c2VjcmV0").unwrap().unwrap());
    assert_eq!(state(&mut table, &key, now), "pending", "not the server's token");
    assert_eq!(shown(&table.token(1, Some(&good), now)), "500", "no such provider");
}

#[test]
fn keys_are_taken_only_where_an_endpoint_is_known() {
    let text = "[providers.giga]\nurl = 'https://giga.example/v1'\ncallers = {}";
    let file = Some((std::path::Path::new("p.toml"), text));
    let world = World { var: &|_| None, cores: 1 };
    let config = load(file, &Overrides::default(), world).unwrap();
    let mut table = Table::new(&config).unwrap();
    let key = Arc::new(Caller::read("Bearer giga-cred-aWQ6").unwrap().unwrap());
    let TokenState::Failed(failure) = table.token(0, Some(&key), Instant::now()) else { panic!() };
    assert_eq!(failure.status(), 401);
    assert!(failure.message.contains("`token_url`"), "{failure}");
    assert_eq!(shown(&table.token(0, None, Instant::now())), "500", "the server has no account");
}

#[test]
fn the_table_of_callers_is_bounded_and_the_wrong_ones_leave_first() {
    let (mut table, mut now) = (table("callers = { max = 3 }"), Instant::now());
    fetch(&mut table, token("server", 1_800_000), now);
    let ask = |table: &mut Table, name: &str, at| shown(&table.token(0, Some(&caller(name)), at));
    for name in ["a", "b", "c"] {
        assert_eq!(ask(&mut table, name, now), "pending");
    }
    assert_eq!(ask(&mut table, "d", now), "pending", "who is being fetched for keeps its place");
    assert!(table.take_crowded() && !table.take_crowded());
    for name in ["a", "b", "c"] {
        fetch(&mut table, token(name, 1_800_000), now);
    }
    assert_eq!(ask(&mut table, "d", now), "pending");
    assert!(table.is_crowded(), "and so does who has not come for it yet");
    for name in ["c", "a", "b", "a"] {
        assert_eq!(ask(&mut table, name, now), name);
    }
    // Who was asked for the longest time ago goes.
    assert_eq!(ask(&mut table, "d", now), "pending");
    fetch(&mut table, token("d", 1_800_000), now);
    assert_eq!(ask(&mut table, "a", now), "a");
    assert_eq!(ask(&mut table, "d", now), "d");
    assert_eq!(ask(&mut table, "e", now), "pending");
    fetch(&mut table, refused(), now);
    assert_eq!(ask(&mut table, "a", now), "a");
    assert_eq!(table.entries.len(), 4);
    assert_eq!(ask(&mut table, "f", now), "pending", "nobody came to hear that e failed");
    // Who never comes for a token is not waited for.
    fetch(&mut table, token("f", 1_800_000), now);
    now += HELD;
    for name in ["a", "d"] {
        assert_eq!(ask(&mut table, name, now), name);
    }
    assert_eq!(ask(&mut table, "g", now), "pending");
    assert_eq!(table.due().unwrap().grant.basic, Grant::basic("g", "pw"));
    assert_eq!(table.entries.len(), 4);
    for name in ["a", "d"] {
        assert_eq!(ask(&mut table, name, now), name);
    }
    assert_eq!(own(&mut table, now), "server");
}

#[test]
fn a_few_callers_are_fetched_for_at_once_and_the_server_waits_for_none() {
    let (mut table, now) = (table("callers = {}"), Instant::now());
    let own_job = table.due().unwrap();
    for number in 0..12 {
        table.token(0, Some(&caller(&number.to_string())), now);
    }
    let jobs: Vec<Job> = std::iter::from_fn(|| table.due()).collect();
    assert_eq!(jobs.len(), CALLERS_AT_ONCE);
    assert_eq!(jobs[0].grant.basic, Grant::basic("0", "pw"), "in their order");
    table.settle(&own_job, token("server", 1_000), now, UNIX_MS);
    table.token(0, None, now + seconds(1));
    assert!(table.due().unwrap().is_own());
    assert!(table.due().is_none());
    table.settle(&jobs[3], later(None), now, UNIX_MS);
    assert_eq!(table.due().unwrap().grant.basic, Grant::basic("8", "pw"));
    assert!(table.due().is_none());
}

#[test]
fn no_table_is_made_where_no_token_is_fetched() {
    let text = "[providers.a]\nurl = 'https://a.example/v1'";
    let file = Some((std::path::Path::new("p.toml"), text));
    let config = load(file, &Overrides::default(), World { var: &|_| None, cores: 1 }).unwrap();
    assert!(Table::new(&config).is_none());
    let table = table("callers = {}");
    assert!(!format!("{table:?}").contains("aWQ6"), "{table:?}");
}
