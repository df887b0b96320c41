//! A plan carried out: round by round, target by target, each with fresh connections.

use super::check::Rules;
use super::connection::{Job, PAUSE};
use super::expect::Expected;
use super::generator::{Generator, Phase, Progress, Ran};
use super::outcome::{Outcome, Round, RoundMemory, TargetOutcome};
use super::plan::{Amount, Load, Plan, Target};
use super::process::{self, Tree};
use super::request;
use super::tally::Tally;
use crate::proxy::transport::{TlsTable, Trust};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for the first connection to a target.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How often memory is looked at and the watcher told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Descriptors besides those of the load's connections.
const DESCRIPTORS_SPARE: u64 = 32;

/// How far a benchmark is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status<'s> {
    /// The target that has its turn.
    pub target: &'s str,
    /// Which round this is, from 1 on.
    pub round: u32,
    /// How many there are.
    pub rounds: u32,
    /// Nothing is measured yet.
    pub is_warmup: bool,
    /// Since this phase began.
    pub elapsed: Duration,
    /// Answers of this phase that are over.
    pub answers: u64,
    /// Those with a defect.
    pub wrong: u64,
    /// Text deltas of this phase.
    pub deltas: u64,
    /// Answers under way.
    pub under_way: u64,
}

/// Carries out a plan.
///
/// # Errors
/// What cannot be meant, who cannot be reached, or what the system ran out of. A wrong answer is
/// no error but a part of the outcome.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    run_watched(plan, &Arc::default(), &mut |_| {})
}

/// [`run`], with a flag that stops it early and somebody who is told how far it is.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    watch: &mut dyn FnMut(Status<'_>),
) -> Result<Outcome, String> {
    plan.load.check()?;
    if plan.targets.is_empty() {
        return Err("no target: give --target or --compare".to_owned());
    }
    if plan.rounds == 0 {
        return Err("--rounds 0: at least one is needed".to_owned());
    }
    let wanted = plan.load.connections as u64 + DESCRIPTORS_SPARE;
    if process::descriptors_max().is_some_and(|max| max < wanted) {
        let max = process::descriptors_max().unwrap_or_default();
        return Err(format!(
            "{} connections need {wanted} file descriptors, and the limit is {max}: raise it with \
             `ulimit -n {wanted}` in this shell, and in the servers' too",
            plan.load.connections
        ));
    }
    let trust = Trust { roots: plan.ca_pem.clone(), ..Trust::default() };
    let tls = Arc::new(TlsTable::new(&[(0, trust)])?);
    let prepared = plan.targets.iter().map(|target| Prepared::new(plan, target));
    let prepared = prepared.collect::<Result<Vec<_>, String>>()?;
    let mut targets: Vec<_> = plan
        .targets
        .iter()
        .map(|target| TargetOutcome { target: target.clone(), rounds: Vec::new() })
        .collect();
    let count = plan.targets.len();
    for round in 0..plan.rounds {
        for turn in 0..count {
            // Whoever comes first may find the machine in another state: each does in its turn.
            let index = (turn + round as usize) % count;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let mut measure = Measure { plan, tls: &tls, stop, watch, round };
            targets[index].rounds.push(measure.round(&plan.targets[index], &prepared[index])?);
        }
    }
    let stopped = stop.load(Ordering::Relaxed);
    Ok(Outcome { plan: plan.clone(), targets, stopped })
}

/// What is made ready once for each target.
#[derive(Debug)]
struct Prepared {
    warmup: Job,
    measured: Job,
}

impl Prepared {
    fn new(plan: &Plan, target: &Target) -> Result<Self, String> {
        let address = reach(target)?;
        if let Some(pid) = target.pid {
            Tree::of(pid).map_err(|why| format!("{}: {why}", target.name))?;
        }
        Ok(Self {
            warmup: job(plan, target, &plan.load.for_warmup(), address)?,
            measured: job(plan, target, &plan.load, address)?,
        })
    }
}

fn job(plan: &Plan, target: &Target, load: &Load, address: SocketAddr) -> Result<Job, String> {
    let api_key = plan.api_key.as_deref();
    let expected = load.script.map(|script| Expected::of(&script)).transpose()?;
    let pauses = u64::try_from(Duration::from_secs(1).as_nanos() / PAUSE.as_nanos()).unwrap_or(1);
    let pause_bytes = load.read_rate.map(|rate| usize::try_from(rate / pauses).unwrap_or(1));
    Ok(Job {
        request: request::write(target, load, &plan.headers, api_key)?,
        rules: Rules {
            dialect: target.dialect,
            stream: load.stream,
            expected,
            tool: request::TOOL,
            exact: !load.lenient,
        },
        address,
        tls_host: target.url.tls.then(|| target.url.host.clone()),
        churn: load.churn,
        pause_bytes,
        stamped: load.stream && load.script.is_some_and(|script| script.stamp),
    })
}

/// The first address of a target that takes a connection.
fn reach(target: &Target) -> Result<SocketAddr, String> {
    let (name, host, port) = (&target.name, &target.url.host, target.url.port);
    let found = (host.as_str(), port).to_socket_addrs();
    let addresses = found.map_err(|why| format!("{name}: cannot look up {host}: {why}"))?;
    let mut last = format!("{name}: {host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(_) => return Ok(address),
            Err(why) => last = format!("{name}: cannot connect to {address}: {why}"),
        }
    }
    Err(last)
}

/// One target's turn.
struct Measure<'m> {
    plan: &'m Plan,
    tls: &'m Arc<TlsTable>,
    stop: &'m Arc<AtomicBool>,
    watch: &'m mut dyn FnMut(Status<'_>),
    round: u32,
}

impl Measure<'_> {
    fn round(&mut self, target: &Target, prepared: &Prepared) -> Result<Round, String> {
        let load = &self.plan.load;
        // Its workers may have changed since the last round.
        let tree = target.pid.map(Tree::of).transpose()?;
        let before = tree.as_ref().map(Tree::memory);
        let slow = load.read_rate.is_some();
        let threads = load.threads.min(load.connections);
        let mut generators = (0..threads)
            .map(|thread| {
                let share = share(load.connections, threads, thread);
                Generator::new(share, Arc::clone(self.tls), slow)
            })
            .collect::<Result<Vec<_>, String>>()?;
        let mut warmup = Tally::default();
        if load.warmup != Amount::Requests(0) && load.warmup != Amount::Time(Duration::ZERO) {
            let warm = Load { amount: load.warmup, rate: None, ..load.for_warmup() };
            let job = &prepared.warmup;
            warmup = self.phase(target, (&warm, true), job, &mut generators, &mut || {})?.tally;
        }
        let idle = tree.as_ref().map(Tree::memory);
        let mut peak = idle.unwrap_or_default();
        let cpu = tree.as_ref().map(Tree::cpu);
        let ran =
            self.phase(target, (load, false), &prepared.measured, &mut generators, &mut || {
                if let Some(tree) = &tree {
                    let now = tree.memory();
                    peak.resident = peak.resident.max(now.resident);
                    peak.high_water = peak.high_water.max(now.high_water);
                }
            })?;
        let cpu = tree.as_ref().zip(cpu).map(|(tree, then)| tree.cpu().saturating_sub(then));
        for generator in &mut generators {
            generator.close(&prepared.measured);
        }
        let memory = before.zip(idle).map(|(before, idle)| RoundMemory {
            before: before.resident,
            idle: idle.resident,
            peak: peak.resident,
            high_water: peak.high_water,
        });
        Ok(Round {
            number: self.round + 1,
            wall: ran.wall,
            tally: ran.tally,
            warmup,
            cpu,
            memory,
            generator_cpu: ran.cpu,
            generator_busy: ran.busy,
            stopped: ran.stopped,
        })
    }

    /// Runs one phase on all threads.
    fn phase(
        &mut self,
        target: &Target,
        (load, is_warmup): (&Load, bool),
        job: &Job,
        generators: &mut [Generator],
        look: &mut dyn FnMut(),
    ) -> Result<Phased, String> {
        let progress = Progress { stop: Arc::clone(self.stop), ..Progress::default() };
        let started = Instant::now();
        let count = generators.len();
        let mut results = Vec::with_capacity(count);
        thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            for (thread, generator) in generators.iter_mut().enumerate() {
                let (send, progress) = (send.clone(), &progress);
                let phase = phase_of(load, count, thread);
                scope.spawn(move || {
                    let ran = generator.run(job, &phase, progress);
                    if ran.is_err() {
                        progress.stop.store(true, Ordering::Relaxed);
                    }
                    // Whoever waits for it is in this function.
                    let _ = send.send(ran);
                });
            }
            drop(send);
            loop {
                match receive.recv_timeout(LOOK_EVERY) {
                    Ok(ran) => results.push(ran),
                    Err(RecvTimeoutError::Timeout) => {
                        look();
                        let status = self.status(target, is_warmup, started.elapsed(), &progress);
                        (self.watch)(status);
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        look();
        Phased::of(results, count, started.elapsed())
    }

    fn status<'s>(
        &self,
        target: &'s Target,
        is_warmup: bool,
        elapsed: Duration,
        progress: &Progress,
    ) -> Status<'s> {
        Status {
            target: &target.name,
            round: self.round + 1,
            rounds: self.plan.rounds,
            is_warmup,
            elapsed,
            answers: progress.answers.load(Ordering::Relaxed),
            wrong: progress.wrong.load(Ordering::Relaxed),
            deltas: progress.deltas.load(Ordering::Relaxed),
            under_way: progress.under_way.load(Ordering::Relaxed),
        }
    }
}

/// A phase of all threads.
struct Phased {
    tally: Tally,
    wall: Duration,
    cpu: Duration,
    /// The busiest thread's share of its time.
    busy: f64,
    stopped: bool,
}

impl Phased {
    fn of(results: Vec<Result<Ran, String>>, count: usize, wall: Duration) -> Result<Self, String> {
        if results.len() < count {
            return Err("a thread of the generator has ended out of order".to_owned());
        }
        let mut sum =
            Self { tally: Tally::default(), wall, cpu: Duration::ZERO, busy: 0.0, stopped: false };
        for ran in results {
            let ran = ran?;
            sum.tally.merge(&ran.tally);
            sum.cpu += ran.cpu;
            sum.busy = sum.busy.max(ran.cpu.as_secs_f64() / ran.wall.as_secs_f64().max(1e-9));
            sum.stopped |= ran.stopped;
        }
        Ok(sum)
    }
}

/// One thread's part of a load.
fn phase_of(load: &Load, threads: usize, thread: usize) -> Phase {
    let amount = match load.amount {
        Amount::Requests(count) => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            Amount::Requests(share(count, threads, thread) as u64)
        }
        time @ Amount::Time(_) => time,
    };
    #[allow(clippy::cast_precision_loss, reason = "at most 256 threads")]
    let rate = load.rate.map(|rate| rate / threads as f64);
    let connects_max = match load.connects_max {
        0 => 0,
        max => share(max, threads, thread).max(1),
    };
    Phase { amount, rate, ramp: load.ramp, connects_max, timeout: load.timeout }
}

/// The part of `all` that falls to one thread.
fn share(all: usize, threads: usize, thread: usize) -> usize {
    all / threads + usize::from(thread < all % threads)
}
