//! Runs one seed: the loop that a driver is, and the checks between its turns.

use crate::sim::client::Client;
use crate::sim::judge::Case;
use crate::sim::net::{Broken, SimNet, found};
use crate::sim::tokens::{self, Tokens};
use crate::sim::upstream::{Execution, Fate, Server};
use crate::sim::{Profile, Random};
use patchbay::config::{
    ClientKey, Config, Credential, Limits, Provider, Route, Timeouts, UpstreamTls, Url, Variables,
};
use patchbay::dialect;
use patchbay::dialect::quirks::Quirks;
use patchbay::proxy::limit::LimitTable;
use patchbay::proxy::net::Lookup;
use patchbay::proxy::shared::Now;
use patchbay::proxy::transport::TlsTable;
use patchbay::proxy::worker::{Counts, Worker};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Turns in a row that change nothing, before that counts as spinning.
const IDLE_TURNS_MAX: u32 = 100;
/// Steps of one run, before that counts as never ending.
const STEPS_MAX: u64 = 400_000;
/// How late something may happen, in microseconds.
const SLACK_US: u64 = 1_000_000;

/// What a run did, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) requests: usize,
    pub(crate) whole: usize,
    pub(crate) executions: usize,
    pub(crate) retried: usize,
    pub(crate) uploads: usize,
    /// Requests that named a file which was gone.
    pub(crate) forgotten: usize,
    /// Served with another token than the one that was refused.
    pub(crate) renewed: usize,
    pub(crate) turns: u64,
    pub(crate) virtual_s: u64,
}

struct Run {
    base: Instant,
    unix_s: u64,
    config: Arc<Config>,
    profile: Profile,
    worker: Worker<SimNet>,
    limits: Arc<LimitTable>,
    clients: Vec<Client>,
    server: Server,
    deadline: Option<Instant>,
    drained_us: Option<u64>,
    idle_turns: u32,
    turns: u64,
    jump_us: Option<u64>,
}

pub(crate) fn provider(
    name: &str,
    dialect: &'static str,
    port: u16,
    path: &str,
) -> Result<Provider, String> {
    Ok(Provider {
        exec: None,
        name: name.to_owned(),
        dialect: dialect::by_name(dialect).ok_or(format!("no dialect {dialect}"))?,
        url: Url { tls: false, host: format!("{name}.sim"), port, path: path.to_owned() },
        credential: Credential::Key("sim-key".to_owned()),
        callers: None,
        headers: Vec::new(),
        tls: UpstreamTls::default(),
        delay_acks: false,
        list_models: false,
        embeddings_model: None,
        quirks: Quirks::default(),
        models: Vec::new(),
        allow: Vec::new(),
        bridge: None,
        instructions: None,
    })
}

pub(crate) fn config(random: &mut Random) -> Result<Config, String> {
    let high = *random.pick(&[1 << 10, 8 << 10, 64 << 10]);
    let seconds = Duration::from_secs;
    let route = |pattern: &str, provider: usize| Route {
        pattern: pattern.to_owned(),
        provider,
        model: Some("up-model".to_owned()),
        defaults: patchbay::config::Defaults::default(),
    };
    Ok(Config {
        listen: Vec::new(),
        workers: 1,
        providers: vec![
            provider("chat", "chat", 80, "/v1/chat/completions")?,
            provider("resp", "responses", 81, "/v1/responses")?,
            provider("giga", "gigachat", 82, "/v1/chat/completions")?,
        ],
        routes: vec![route("chat-*", 0), route("resp-*", 1), route("giga-*", 2)],
        client_keys: Vec::new(),
        hosts: Vec::new(),
        origins: Vec::new(),
        limits: Limits {
            inline_bytes_max: *random.pick(&[0, 400, 1 << 20]),
            pending_high_bytes: high,
            pending_low_bytes: high / 4,
            pool_idle_max: *random.pick(&[1, 64]),
            pool_uses_max: *random.pick(&[2, 1000]),
            connecting_max: *random.pick(&[1, 2, 256]),
            ..Limits::default()
        },
        timeouts: Timeouts {
            client_head: seconds(10),
            client_idle: seconds(20),
            client_body: seconds(20),
            client_write: seconds(12),
            connect: seconds(5),
            tls: seconds(5),
            upstream_write: seconds(10),
            upstream_head: seconds(25),
            upstream_idle: seconds(15),
            pool_idle: seconds(8),
            keep_alive: seconds(3),
            drain: seconds(90),
        },
        strict: false,
        retry_stale: true,
        http_shutdown: false,
        server_info: None,
        tls: None,
        address_rate: None,
        capture: None,
        log_level: None,
        variables: Variables::default(),
    })
}

/// A key under which exchanges are counted, and none is refused.
fn client_key() -> ClientKey {
    ClientKey {
        name: "sim".to_owned(),
        secret: "sim-client".to_owned(),
        rate: None,
        exchanges_max: Some(u32::MAX),
        models: Vec::new(),
    }
}

/// The names of all providers, maybe with trouble.
fn plan_names(net: &mut SimNet, profile: &Profile, random: &mut Random) {
    for (host, port) in [("chat.sim", 80), ("resp.sim", 81), ("giga.sim", 82)] {
        let (first, second) = (format!("10.1.0.1:{port}"), format!("10.1.0.2:{port}"));
        let good = found(&[&first]);
        let states = match random.below(if profile.names { 4 } else { 1 }) {
            0 => vec![(0, good)],
            1 => vec![(0, Lookup::Pending), (random.below(2_000_000), good)],
            2 => {
                let failed = Lookup::Failed("no answer".to_owned());
                vec![(0, failed), (random.below(1_000_000), good)]
            }
            _ => vec![(0, good), (random.below(2_000_000), found(&[&second, &first]))],
        };
        net.plan_name(host, states);
    }
}

/// Runs a seed to its end. The error says what went wrong.
pub(crate) fn run(seed: u64, trace: bool, broken: Broken) -> Result<Stats, String> {
    let mut random = Random::new(seed);
    let mut profile = Profile::of(&mut random);
    profile.accounts = seed.is_multiple_of(3) || broken == Broken::Accounts;
    if trace {
        println!("{profile:#?}");
    }
    let mut config = config(&mut random)?;
    if seed.is_multiple_of(2) {
        config.client_keys.push(client_key());
    }
    if profile.accounts {
        tokens::configure(&mut config);
    }
    let config = Arc::new(config);
    let mut net = SimNet::new(random.next(), profile.rates);
    (net.trace, net.broken) = (trace, broken);
    plan_names(&mut net, &profile, &mut random);
    if profile.starve {
        let from = random.below(2_000_000);
        net.starve(from, from + random.below(700_000));
    }
    let listener = net.listen();
    let base = Instant::now();
    net.tokens = Tokens::new(&config, base, seed, profile.trouble);
    let now = Now { instant: base, unix_s: 1_800_000_000 };
    let tls = Arc::new(TlsTable::new(&[])?);
    let limits = Arc::new(LimitTable::new(&config, base, 1));
    let (shared, seed) = (limits.clone(), random.next());
    let worker = Worker::new(net, config.clone(), tls, shared, vec![listener], seed, now);
    let clients = (0..profile.clients).map(|n| Client::new(n, &profile, &mut random)).collect();
    let jump_us = profile.jump.then(|| random.below(3_000_000));
    let mut run = Run {
        base,
        unix_s: now.unix_s,
        config,
        server: Server::new(random.next(), profile.clone()),
        profile,
        worker,
        limits,
        clients,
        deadline: Some(base),
        drained_us: None,
        idle_turns: 0,
        turns: 0,
        jump_us,
    };
    run.finish()?;
    run.lie(broken);
    run.judge()
}

impl Run {
    fn now(&mut self) -> Now {
        let now_us = self.worker.net_mut().now_us;
        let instant = self.base + Duration::from_micros(now_us);
        // The wall clock runs backwards now and then, as it does in the world.
        let unix_s = self.unix_s + now_us / 1_000_000 - now_us / 777_000 % 3;
        Now { instant, unix_s }
    }

    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let before = self.worker.net_mut().moved;
            let wake = self.peers();
            self.turn(before)?;
            self.check()?;
            if self.worker.net_mut().moved != before {
                continue;
            }
            if self.is_over() {
                return Ok(());
            }
            self.sleep(wake)?;
        }
        Err("the run does not end".to_owned())
    }

    /// Peers do what they can; returns when they go on.
    fn peers(&mut self) -> Option<u64> {
        let net = self.worker.net_mut();
        let mut changed = net.advance();
        let mut wake = self.server.step(net);
        for client in &mut self.clients {
            let next = client.step(net);
            wake = [wake, next].into_iter().flatten().min();
        }
        changed |= net.advance();
        if changed {
            self.worker.names_changed();
            self.worker.orders_changed();
            self.worker.tokens_changed();
            self.deadline = Some(self.base);
        }
        wake
    }

    fn turn(&mut self, moved: u64) -> Result<(), String> {
        let now = self.now();
        let now_us = self.worker.net_mut().now_us;
        let over = self.clients.iter().all(|client| client.over);
        let drains = over || self.profile.drain_us.is_some_and(|at| at <= now_us);
        if drains && self.drained_us.is_none() {
            self.drained_us = Some(now_us);
            self.worker.drain(now);
            self.deadline = Some(now.instant);
        }
        let ready = self.worker.net_mut().take_ready();
        if ready.is_empty() && self.deadline.is_none_or(|at| at > now.instant) {
            return Ok(());
        }
        self.deadline = self.worker.turn(&ready, now);
        self.turns += 1;
        if self.worker.net_mut().broken == Broken::Turns {
            self.deadline = Some(now.instant);
        }
        let idle = ready.is_empty() && self.worker.net_mut().moved == moved;
        self.idle_turns = if idle { self.idle_turns + 1 } else { 0 };
        if self.idle_turns > IDLE_TURNS_MAX {
            let (counts, at) = (self.worker.counts(), self.deadline.map(|at| at - self.base));
            return Err(format!(
                "spins: {IDLE_TURNS_MAX} turns without any effect at {now_us}, due {at:?}, \
                 {counts:?}"
            ));
        }
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        self.drained_us.is_some()
            && self.worker.is_drained()
            && self.clients.iter().all(|client| client.over)
    }

    /// Lets time pass until something happens.
    fn sleep(&mut self, wake: Option<u64>) -> Result<(), String> {
        let now_us = self.worker.net_mut().now_us;
        let next = self.worker.net_mut().next_us();
        let base = self.base;
        let deadline = self.deadline.map(|at| {
            // A timer is never early, and its clock may be a microsecond coarse.
            at.saturating_duration_since(base).as_nanos().div_ceil(1000) as u64
        });
        let until = [wake, next, deadline].into_iter().flatten().min();
        let Some(until) = until else {
            return Err(format!("stuck for ever: nothing is due, {:?}", self.worker.counts()));
        };
        if until > now_us {
            self.stuck(next.is_none() && wake.is_none())?;
        }
        let net = self.worker.net_mut();
        net.now_us = until.max(now_us);
        if self.jump_us.is_some_and(|at| at <= net.now_us) {
            self.jump_us = None;
            net.now_us += 40_000_000;
        }
        Ok(())
    }

    /// Time is about to pass: nothing may lie around that could go on at once.
    fn stuck(&mut self, quiet: bool) -> Result<(), String> {
        let all = &self.server.executions;
        for (at, execution) in all.iter().enumerate() {
            if all[at + 1..].iter().any(|later| later.conn == execution.conn) {
                continue;
            }
            let owner = self.clients.iter().find(|client| client.owns(&execution.marker));
            let Some(client) = owner.and_then(|client| client.conn) else { continue };
            let net = self.worker.net_mut();
            let unread = net.unread(execution.conn);
            if unread > 0 && !net.is_blocked(client) && net.is_held(client) {
                return Err(format!(
                    "{unread} bytes of {} wait at the upstream's side, and its client can take \
                     more",
                    execution.marker
                ));
            }
        }
        if !quiet || self.server.deaf > 0 {
            return Ok(());
        }
        let now_us = self.worker.net_mut().now_us;
        for client in &self.clients {
            let waits = client.waits_since_us.is_some() && !client.over;
            if !waits || self.is_excused(client) {
                continue;
            }
            let soon = self
                .deadline
                .is_some_and(|at| at <= self.base + Duration::from_micros(now_us + SLACK_US));
            if !soon {
                return Err(format!("a client waits for nothing: {client:?}"));
            }
        }
        Ok(())
    }

    /// Whether somebody else's silence is what this client waits for.
    fn is_excused(&self, client: &Client) -> bool {
        let silent = self.profile.rates.silent > 0;
        let stalls = |execution: &&Execution| {
            client.owns(&execution.marker) && matches!(execution.reply.fate, Fate::Stall { .. })
        };
        silent || self.server.executions.iter().any(|execution| stalls(&execution))
    }

    fn check(&mut self) -> Result<(), String> {
        let now_us = self.worker.net_mut().now_us;
        if let Some(violation) = self.worker.net_mut().violations.first() {
            return Err(violation.clone());
        }
        if let Some(error) = self.server.errors.first() {
            return Err(error.clone());
        }
        let idle_us = self.config.timeouts.upstream_head.max(self.config.timeouts.upstream_idle);
        let stall_us = idle_us.as_micros() as u64 + SLACK_US;
        if self.worker.net_mut().emfile_count > 400 {
            return Err("spins on accept without descriptors".to_owned());
        }
        let seated = (self.limits.seated() as usize, self.worker.counts().seated);
        if seated.0 != seated.1 {
            return Err(format!("{} exchanges are counted, and {} run", seated.0, seated.1));
        }
        let net = self.worker.net_mut();
        for execution in self.server.executions.iter().filter(|e| e.ended_us.is_none()) {
            if !net.is_held(execution.conn) {
                continue;
            }
            let owner = self.clients.iter().find(|client| client.owns(&execution.marker));
            let Some(client) = owner else { continue };
            let gone = client.conn.and_then(|conn| net.conn(conn).gone_at_us);
            let gone = gone.map(|at| at.max(execution.began_us));
            if gone.is_some_and(|at| now_us > at + SLACK_US) {
                let marker = &execution.marker;
                return Err(format!("the client of {marker} is gone, its upstream still runs"));
            }
            let blocked = client.conn.is_some_and(|conn| net.is_blocked(conn));
            let late = execution.stalled_us.is_some_and(|at| now_us > at + stall_us);
            // A clock that jumps finds upstreams paused whose clients read slowly.
            if late && !blocked && !self.profile.jump {
                return Err(format!("no timeout for the stall of {}", execution.marker));
            }
        }
        Ok(())
    }

    /// Changes what was seen, to show that the judge notices.
    fn lie(&mut self, broken: Broken) {
        match broken {
            Broken::Ends => {
                for execution in self.server.executions.iter_mut().step_by(3) {
                    execution.sent /= 2;
                    execution.reply.fate = Fate::Cut { at: execution.sent, reset: false };
                }
            }
            Broken::Twice => {
                let first = self.server.executions.first().cloned();
                self.server.executions.extend(first);
            }
            Broken::Swapped => {
                let mut records: Vec<_> = self
                    .clients
                    .iter_mut()
                    .filter_map(|client| client.records.first_mut())
                    .collect();
                if let [first, .., last] = records.as_mut_slice() {
                    std::mem::swap(&mut first.outcome, &mut last.outcome);
                }
            }
            Broken::Edges | Broken::Closes | Broken::Bytes => {}
            Broken::Turns | Broken::Accounts | Broken::Nothing => {}
        }
    }

    fn judge(mut self) -> Result<Stats, String> {
        let counts = self.worker.counts();
        if counts != Counts::default() {
            return Err(format!("drained, but not empty: {counts:?}"));
        }
        let virtual_s = self.worker.net_mut().now_us / 1_000_000;
        let net = &*self.worker.net_mut();
        if net.open_sockets() > 0 || net.is_listening() || net.open_upstreams() > 0 {
            return Err(format!("drained, but {} sockets are open", net.open_sockets()));
        }
        let all = &self.server.executions;
        let mut stats = Stats {
            executions: all.len(),
            uploads: all.iter().filter(|execution| execution.file.is_some()).count(),
            forgotten: all.iter().filter(|execution| execution.reply.forgot).count(),
            turns: self.turns,
            virtual_s,
            ..Stats::default()
        };
        for client in &self.clients {
            for record in &client.records {
                let executions = self.server.of(&record.ask.marker);
                let refusals = self.server.unauthorized(&record.ask.marker);
                stats.requests += 1;
                let answers = executions.iter().filter(|execution| execution.file.is_none());
                stats.retried += answers.count().saturating_sub(1);
                stats.renewed += usize::from(refusals > 0 && !executions.is_empty());
                let whole = matches!(record.outcome, crate::sim::client::Outcome::Whole(_));
                stats.whole += usize::from(whole);
                let (profile, lazy, slow) = (&self.profile, client.is_lazy(), client.is_slow());
                let shared = record.ask.shared && self.server.unauthorized("") > 0;
                let excused = refusals > 0 || shared;
                let case = Case { record, executions, refusals, excused, net, profile, lazy, slow };
                case.judge().map_err(|error| format!("{}: {error}", record.ask.marker))?;
            }
        }
        Ok(stats)
    }
}
