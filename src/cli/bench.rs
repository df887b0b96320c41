//! `patchbay bench`: load on a server, with a check of every answer.

mod children;

use super::common::say;
use children::Children;
use patchbay::bench::{
    self, Amount, Dialect, Load, Outcome, Plan, RequestText, SHAPES, Shape, Status, Target, report,
};
use patchbay::mock::script::{PREFIX, Script};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rounds when several servers are compared.
const ROUNDS: u32 = 5;

/// What a server is asked that follows no script: it may be one that is paid for.
const UNSCRIPTED_REQUESTS: u64 = 10;

const HELP: &str = "\
Examples:
  patchbay bench --shape c2
  patchbay bench --target http://127.0.0.1:8787 --pid 4711 --script deltas=200,pace=20ms,stamp=true \\
      -c 100 -n 100
  patchbay bench --shape d --report d.html --compare nginx=http://127.0.0.1:8080,4712,chat \\
      --compare patchbay=http://127.0.0.1:8787,4711
  patchbay bench --target https://api.example.com/v1/chat/completions --api-key-env KEY \\
      --model vendor-small -n 5

Without a target, `patchbay mock` and `patchbay serve` (one worker) are started on free ports and
compared: the mock alone (Chat), and through the proxy (Responses).

What is checked:
  Status, content type, framing; the text, the reasoning and the calls' arguments to the byte, since
  the model's name holds the script (`patchbay mock --help`); that no delta is missing, repeated,
  moved, merged or split; sequence numbers; that whole texts told at the end are those streamed;
  exactly one end; token counts. A server that follows no script (--model) is checked against
  itself alone. Exit code 1 when an answer was wrong, 2 for wrong usage.

Limits of the method:
  * Loopback: no network, no loss, and the kernel's work for one end is partly charged to the other.
  * The generator shares the machine's cores with the servers. Trust ratios of one interleaved run,
    and CPU for each unit of work; rates and times move with whatever else runs.
  * Unpaced answers in many writes (--script frames=1) do not rank proxies: one that falls behind
    reads more at once and looks cheaper. Take one write, or a pace.
  * Each connection asks when it has its answer, so a slow server is asked less and its queue does
    not show: --rate begins requests on time and counts their waiting too.
  * Stamps are whole microseconds of one clock, read on the same machine; a clock that is set while
    it runs spoils them. A delta is received when its read returns, with all that came with it.
  * CPU is that of the process and its living descendants (--pid: of nginx, its master), in
    nanoseconds where /proc/PID/task/TID/schedstat can be read, else in hundredths of a second.
    Work of the kernel in interrupts goes to whoever runs.
  * Memory is resident pages, shared ones once for each process. Bytes for each connection are of
    the first round, as freed memory stays with the process.
  * Linux gives about 28,000 connections to one address of a target, and `ulimit -n` descriptors to
    each process.";

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    output: Output,
}

/// Which servers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Servers")]
struct Whom {
    /// The server: a base URL (http://host:port) or the whole URL of the operation.
    #[arg(long, value_name = "URL", env = "PATCHBAY_BENCH_TARGET", conflicts_with = "compare")]
    target: Option<String>,

    /// What is spoken to it, or to the own proxy: chat or responses [default: as the URL ends, else
    /// responses].
    #[arg(long, value_name = "NAME", env = "PATCHBAY_BENCH_DIALECT", conflicts_with = "compare")]
    dialect: Option<Dialect>,

    /// The server's process, for its CPU and memory; descendants are included.
    #[arg(long, value_name = "PID", env = "PATCHBAY_BENCH_PID", requires = "target")]
    pid: Option<u32>,

    /// A server to compare, name=url[,pid[,dialect]]; may be repeated, and the first is what the
    /// others are compared with (in the environment: separated by `;`).
    #[arg(long, value_name = "SERVER", env = "PATCHBAY_BENCH_COMPARE", value_delimiter = ';')]
    compare: Vec<Target>,

    /// How often each server gets its turn [default: 5 when there are several].
    #[arg(long, value_name = "N", env = "PATCHBAY_BENCH_ROUNDS")]
    rounds: Option<u32>,

    /// A field of every request, `name: value`; may be repeated (in the environment: separated by
    /// `;`).
    #[arg(long, value_name = "FIELD", env = "PATCHBAY_BENCH_HEADER", value_delimiter = ';')]
    header: Vec<String>,

    /// Name of the environment variable with the key that is sent as `Authorization: Bearer`.
    #[arg(long, value_name = "NAME", env = "PATCHBAY_BENCH_API_KEY_ENV", hide_env_values = true)]
    api_key_env: Option<String>,

    /// Certificates (PEM) to trust next to the built-in roots.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_BENCH_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// What is asked.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
struct What {
    /// A ready-made load, which the flags below change; `list` explains each [default: a2].
    #[arg(long, value_name = "NAME", env = "PATCHBAY_BENCH_SHAPE")]
    shape: Option<String>,

    /// Keys of the script, over those of the shape: deltas=200,pace=20ms (see `patchbay mock`).
    #[arg(long, value_name = "SCRIPT", env = "PATCHBAY_BENCH_SCRIPT")]
    script: Option<String>,

    /// The model to ask for, of a server that follows no script; with --script, one whose answers
    /// are the script's all the same.
    #[arg(long, value_name = "NAME", env = "PATCHBAY_BENCH_MODEL")]
    model: Option<String>,

    /// Ask for whole documents instead of streams.
    #[arg(
        long,
        value_name = "BOOL",
        env = "PATCHBAY_BENCH_NO_STREAM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    no_stream: Option<bool>,

    /// Bytes of a request's body, about: a conversation with tool outputs.
    #[arg(long, value_name = "N", env = "PATCHBAY_BENCH_REQUEST_BYTES")]
    request_bytes: Option<usize>,

    /// What those bytes are: code, dense (an escape every few bytes) or image (base64).
    #[arg(long, value_name = "KIND", env = "PATCHBAY_BENCH_REQUEST_TEXT")]
    request_text: Option<RequestText>,

    /// Take merged and split deltas for right, as long as the text is.
    #[arg(long, env = "PATCHBAY_BENCH_LENIENT")]
    lenient: bool,
}

/// How it is asked.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
struct How {
    /// Connections, and so requests at once.
    #[arg(short, long, value_name = "N", env = "PATCHBAY_BENCH_CONNECTIONS")]
    connections: Option<usize>,

    /// A connection for each request.
    #[arg(
        long,
        value_name = "BOOL",
        env = "PATCHBAY_BENCH_CHURN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    churn: Option<bool>,

    /// Requests to measure, in each round.
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        env = "PATCHBAY_BENCH_REQUESTS",
        conflicts_with = "duration"
    )]
    requests: Option<u64>,

    /// How long to measure in each round (3s, 500ms); answers under way then may end.
    #[arg(
        short,
        long,
        value_name = "TIME",
        env = "PATCHBAY_BENCH_DURATION",
        value_parser = bench::duration
    )]
    duration: Option<Duration>,

    /// Requests (100) or time (1s) before that; 0 for none.
    #[arg(long, value_name = "AMOUNT", env = "PATCHBAY_BENCH_WARMUP")]
    warmup: Option<Amount>,

    /// Begin so many requests a second, whether earlier ones have ended or not; --connections is
    /// then the most at once, and what waits for a free one counts from when it was due.
    #[arg(long, value_name = "N", env = "PATCHBAY_BENCH_RATE")]
    rate: Option<f64>,

    /// Spread the first requests of all connections over this time.
    #[arg(
        long,
        value_name = "TIME",
        env = "PATCHBAY_BENCH_RAMP",
        value_parser = bench::duration,
        conflicts_with = "burst"
    )]
    ramp: Option<Duration>,

    /// Begin all connections at once, however many connects are under way then.
    #[arg(long, env = "PATCHBAY_BENCH_BURST")]
    burst: bool,

    /// Connects under way at once; 0 for any number [default: 256].
    #[arg(long, value_name = "N", env = "PATCHBAY_BENCH_CONNECTS_MAX")]
    connects_max: Option<usize>,

    /// Bytes that each connection reads a second, at most.
    #[arg(long, value_name = "N", env = "PATCHBAY_BENCH_READ_RATE")]
    read_rate: Option<u64>,

    /// Longest silence of a server before its answer counts as lost [default: 30s].
    #[arg(
        long,
        value_name = "TIME",
        env = "PATCHBAY_BENCH_TIMEOUT",
        value_parser = bench::duration
    )]
    timeout: Option<Duration>,

    /// Threads that make the load.
    #[arg(long, value_name = "N", env = "PATCHBAY_BENCH_THREADS", default_value_t = 1)]
    threads: usize,
}

/// What is told.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Write everything as JSON to this file; `-` is stdout, and the table then goes to stderr.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_BENCH_JSON")]
    json: Option<PathBuf>,

    /// Write a page (HTML, with pictures and without anything from elsewhere) to this file.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_BENCH_REPORT")]
    report: Option<PathBuf>,

    /// Tell nothing on the way.
    #[arg(short, long, env = "PATCHBAY_BENCH_QUIET")]
    quiet: bool,
}

/// Runs the benchmark.
pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    if args.what.shape.as_deref() == Some("list") {
        return list().map(|()| ExitCode::SUCCESS).map_err(|why| unwritable("stdout", &why));
    }
    let mut plan = plan(args)?;
    let stop = watch_signals()?;
    // Held to the end: they go when this goes.
    let _children = if plan.targets.is_empty() {
        let children = Children::start(plan.load.connections)?;
        plan.targets = children.targets(args.whom.dialect)?;
        plan.rounds = args.whom.rounds.unwrap_or(ROUNDS);
        Some(children)
    } else {
        None
    };
    let mut progress = Progress::new(args.output.quiet);
    let outcome = bench::run_watched(&plan, &stop, &mut |status| progress.tell(&status));
    progress.end();
    let outcome = outcome?;
    write(&outcome, &args.output)?;
    Ok(if outcome.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains the shapes.
fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for shape in SHAPES {
        writeln!(out, "{:6} {}\n       shows {}", shape.name, shape.what, shape.shows)?;
        writeln!(out, "       {}", report::load_line(&shape.load()))?;
    }
    Ok(())
}

fn unwritable(what: &str, why: &io::Error) -> String {
    format!("cannot write {what}: {why}")
}

fn plan(args: &Args) -> Result<Plan, String> {
    let shape = Shape::find(args.what.shape.as_deref().unwrap_or("a2"))?;
    let load = load(args, shape.load())?;
    let title = if load == shape.load() {
        format!("{}: {}", shape.name, shape.what)
    } else {
        format!("{}, as the flags change it", shape.name)
    };
    let whom = &args.whom;
    let mut targets = whom.compare.clone();
    if let Some(url) = &whom.target {
        targets.push(Target::new("target", url, whom.dialect, whom.pid)?);
    }
    let usual = if targets.len() > 1 { ROUNDS } else { 1 };
    let headers = whom.header.iter().map(|field| header(field)).collect::<Result<_, _>>()?;
    let api_key = match &whom.api_key_env {
        None => None,
        Some(name) => match std::env::var(name) {
            Ok(key) if !key.is_empty() => Some(key),
            _ => return Err(format!("--api-key-env: the variable {name} is not set, or empty")),
        },
    };
    let ca_pem = match &whom.ca_file {
        None => Vec::new(),
        Some(path) => fs::read(path)
            .map_err(|why| format!("cannot read the CA file {}: {why}", path.display()))?,
    };
    let rounds = whom.rounds.unwrap_or(usual);
    Ok(Plan { title, load, targets, rounds, headers, api_key, ca_pem })
}

fn header(field: &str) -> Result<(String, String), String> {
    let (name, value) =
        field.split_once(':').ok_or_else(|| format!("--header {field:?} is not `name: value`"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The shape's load with what the flags say over it.
fn load(args: &Args, mut load: Load) -> Result<Load, String> {
    let (what, how) = (&args.what, &args.how);
    script(what, &mut load)?;
    if load.script.is_none() {
        (load.connections, load.amount) = (1, Amount::Requests(UNSCRIPTED_REQUESTS));
        load.warmup = Amount::Requests(0);
    }
    let amount = how.requests.map(Amount::Requests).or_else(|| how.duration.map(Amount::Time));
    let connections = how.connections.unwrap_or(load.connections);
    if let Amount::Requests(count) = &mut load.amount
        && *count == load.connections as u64
    {
        // Of a shape in which each connection asks once.
        *count = connections as u64;
    }
    if let Amount::Requests(count) = &mut load.warmup
        && *count == load.connections as u64
    {
        *count = connections as u64;
    }
    load.connections = connections;
    load.amount = amount.unwrap_or(load.amount);
    load.warmup = how.warmup.unwrap_or(load.warmup);
    load.churn = how.churn.unwrap_or(load.churn);
    load.stream = what.no_stream.map_or(load.stream, |none| !none);
    load.rate = how.rate.or(load.rate);
    load.ramp = how.ramp.unwrap_or(load.ramp);
    if how.burst {
        (load.ramp, load.connects_max) = (Duration::ZERO, 0);
    }
    load.connects_max = how.connects_max.unwrap_or(load.connects_max);
    load.read_rate = how.read_rate.or(load.read_rate);
    load.request_bytes = what.request_bytes.unwrap_or(load.request_bytes);
    load.request_text = what.request_text.unwrap_or(load.request_text);
    load.timeout = how.timeout.unwrap_or(load.timeout);
    load.lenient = what.lenient;
    load.threads = how.threads;
    Ok(load)
}

/// Settles the script and the model.
fn script(what: &What, load: &mut Load) -> Result<(), String> {
    let wrong = |flag: &'static str| move |why: String| format!("{flag}: {why}");
    if let Some(keys) = &what.script {
        let script = load.script.get_or_insert_default();
        script.apply(keys).map_err(wrong("--script"))?;
    }
    match what.model.as_deref() {
        None => {}
        Some(model) if model.starts_with(PREFIX) => {
            if what.script.is_some() {
                return Err("--model holds a script: leave --script out".to_owned());
            }
            load.script = Script::of_model(model).transpose().map_err(wrong("--model"))?;
        }
        Some(model) => {
            load.model = Some(model.to_owned());
            if what.script.is_none() {
                load.script = None;
            }
        }
    }
    Ok(())
}

/// The first signal stops the load, and what there is is told; the second ends at once.
fn watch_signals() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|why| format!("cannot catch signals: {why}"))?;
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if flag.swap(true, Ordering::Relaxed) {
                // The children's shells see the end of their input and end them.
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(stop)
}

/// Writes what was asked for.
fn write(outcome: &Outcome, output: &Output) -> Result<(), String> {
    let table = report::table(outcome);
    let json = || report::json(outcome).to_string() + "\n";
    let to_stdout = output.json.as_deref() == Some(Path::new("-"));
    let printed = if to_stdout {
        say(table.trim_end());
        io::stdout().write_all(json().as_bytes())
    } else {
        io::stdout().write_all(table.as_bytes())
    };
    printed.map_err(|why| unwritable("stdout", &why))?;
    let save = |path: &Path, bytes: &str| {
        fs::write(path, bytes).map_err(|why| unwritable(&path.display().to_string(), &why))
    };
    if let Some(path) = output.json.as_deref().filter(|_| !to_stdout) {
        save(path, &json())?;
    }
    match &output.report {
        Some(path) => save(path, &report::html(outcome)),
        None => Ok(()),
    }
}

/// Tells on stderr how far it is.
struct Progress {
    quiet: bool,
    is_terminal: bool,
    every: Duration,
    told: Instant,
    /// A line stands on the terminal that the next one replaces.
    open: bool,
    /// Counts when this was last told, for rates.
    last: (u64, u64, Duration),
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let every = Duration::from_secs(if is_terminal { 1 } else { 5 });
        let last = (0, 0, Duration::ZERO);
        Self { quiet, is_terminal, every, told: Instant::now(), open: false, last }
    }

    fn tell(&mut self, status: &Status<'_>) {
        if self.quiet || self.told.elapsed() < self.every {
            return;
        }
        self.told = Instant::now();
        let (answers, deltas, elapsed) = self.last;
        let fresh = status.elapsed < elapsed;
        let (answers, deltas, elapsed) =
            if fresh { (0, 0, Duration::ZERO) } else { (answers, deltas, elapsed) };
        self.last = (status.answers, status.deltas, status.elapsed);
        let seconds = (status.elapsed - elapsed).as_secs_f64().max(1e-3);
        #[allow(clippy::cast_precision_loss, reason = "a rate for a person")]
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let line = format!(
            "round {}/{} {}{}: {:.0} s, {} answers ({:.0}/s), {:.0} deltas/s, {} under way{}",
            status.round,
            status.rounds,
            status.target,
            if status.is_warmup { " (warm-up)" } else { "" },
            status.elapsed.as_secs_f64(),
            status.answers,
            rate(status.answers, answers),
            rate(status.deltas, deltas),
            status.under_way,
            if status.wrong > 0 { format!(", {} WRONG", status.wrong) } else { String::new() }
        );
        if self.is_terminal {
            self.open = true;
            // A closed stderr is no reason to end.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        } else {
            say(&line);
        }
    }

    fn end(&mut self) {
        if self.open {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _};

    fn args(args: &[&str]) -> Args {
        let command = super::super::Cli::command().no_binary_name(true);
        let matches = command.try_get_matches_from([&["bench"], args].concat()).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        Args::from_arg_matches(matches).unwrap()
    }

    fn planned(line: &[&str]) -> Result<Plan, String> {
        plan(&args(line))
    }

    #[test]
    fn flags_are_laid_over_the_shape() {
        let plan = planned(&["--target", "http://host"]).unwrap();
        assert_eq!(plan.load, Shape::find("a2").unwrap().load());
        assert!(plan.title.starts_with("a2: 16 deltas"), "{}", plan.title);
        assert_eq!((plan.rounds, plan.targets[0].dialect), (1, Dialect::Responses));
        let plan = planned(&["--shape", "d", "-c", "10", "--script", "deltas=5", "--burst"]);
        let load = plan.unwrap().load;
        assert_eq!(load.amount, Amount::Requests(10), "each connection asks once");
        assert_eq!((load.warmup, load.ramp), (Amount::Requests(10), Duration::ZERO));
        assert_eq!(load.model_name(), "mock:deltas=5,bytes=24,stamp=true,pace=20000us");
        let load = planned(&["--shape", "f", "--no-stream=false", "-n", "7"]).unwrap().load;
        assert_eq!((load.stream, load.amount), (true, Amount::Requests(7)));
        let load = planned(&["--shape", "g", "--churn=false", "-d", "2s"]).unwrap().load;
        assert_eq!((load.churn, load.amount), (false, Amount::Time(Duration::from_secs(2))));
    }

    #[test]
    fn a_server_without_a_script_is_asked_little() {
        let load = planned(&["--target", "http://host", "--model", "gpt-5"]).unwrap().load;
        assert_eq!((load.script, load.connections), (None, 1));
        assert_eq!((load.amount, load.model_name()), (Amount::Requests(10), "gpt-5".to_owned()));
        let load = planned(&["--model", "routed", "--script", "deltas=3"]).unwrap().load;
        assert_eq!(load.script.unwrap().deltas, 3);
        assert_eq!((load.model_name(), load.connections), ("routed".to_owned(), 16));
        let load = planned(&["--model", "mock:deltas=3"]).unwrap().load;
        assert_eq!((load.model_name(), load.connections), ("mock:deltas=3".to_owned(), 16));
    }

    #[test]
    fn servers_are_compared_in_rounds() {
        let plan = planned(&[
            "--compare",
            "nginx=http://a:1,5,chat",
            "--compare",
            "patchbay=http://b:2",
            "--header",
            "x-a: b",
        ])
        .unwrap();
        assert_eq!((plan.rounds, plan.targets.len()), (ROUNDS, 2));
        assert_eq!(plan.headers, [("x-a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            (&["--shape", "z"][..], "no shape \"z\""),
            (&["--script", "delta=3"], "--script: a script has no key"),
            (&["--model", "mock:x"], "--model:"),
            (&["--model", "mock:", "--script", "deltas=1"], "leave --script out"),
            (&["--header", "x"], "name: value"),
            (&["--target", "host"], "https://"),
            (&["--api-key-env", "PATCHBAY_NO_SUCH"], "PATCHBAY_NO_SUCH is not set"),
            (&["--ca-file", "/no/such"], "/no/such"),
        ] {
            let why = planned(line).unwrap_err();
            assert!(why.contains(part), "{line:?}: {why}");
        }
    }
}
