//! The servers that `bench` starts for itself: a mock, and a proxy in front of it.

use super::super::common::Scratch;
use patchbay::bench::{Dialect, Target};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a server to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// Runs a server with all the descriptors that it may have, and ends it when the input ends: so it
/// goes with us, however we go, and its files too. Its own group keeps a terminal's Ctrl-C from it.
const KEEPER: &str = "ulimit -n \"$(ulimit -H -n)\" 2>/dev/null; folder=$1; name=$2; shift 2; \
     \"$@\" >/dev/null 2>\"$folder/$name.log\" </dev/null & echo $!; \
     read -r _; kill -9 $!; wait; \
     rm -f \"$folder/$name.log\" \"$folder/$name.json\"; rmdir \"$folder\" 2>/dev/null";

/// Both servers; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Children {
    mock: Server,
    proxy: Server,
    _folder: Scratch,
}

impl Children {
    /// Starts both and waits until they listen.
    pub(super) fn start(connections: usize) -> Result<Self, String> {
        let folder = Scratch::new()?;
        let mock = Server::start("mock", &[], &folder)?;
        let upstream = format!("http://127.0.0.1:{}/v1/chat/completions", mock.port);
        let proxy = Server::start(
            "serve",
            &["--workers", "1", "--log-level", "error", "--upstream-url", &upstream],
            &folder,
        )?;
        let children = Self { mock, proxy, _folder: folder };
        children.check_descriptors(connections)?;
        Ok(children)
    }

    /// The mock alone, and through the proxy.
    pub(super) fn targets(&self, dialect: Option<Dialect>) -> Result<Vec<Target>, String> {
        let url = |server: &Server| format!("http://127.0.0.1:{}", server.port);
        let (mock, proxy) = (&self.mock, &self.proxy);
        Ok(vec![
            Target::new("direct", &url(mock), Some(Dialect::Chat), Some(mock.pid))?,
            Target::new("patchbay", &url(proxy), dialect, Some(proxy.pid))?,
        ])
    }

    /// A proxy has two sockets for each stream.
    fn check_descriptors(&self, connections: usize) -> Result<(), String> {
        const SPARE: usize = 64;
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.proxy.pid));
        let Ok(limits) = limits else { return Ok(()) };
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let max = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        let wanted = 2 * connections + SPARE;
        match max {
            Some(max) if max < wanted => Err(format!(
                "{connections} connections through a proxy need {wanted} file descriptors, and \
                 the hard limit is {max}: raise it (`ulimit -H -n`), or take fewer --connections"
            )),
            _ => Ok(()),
        }
    }
}

/// One server and the shell that keeps it.
#[derive(Debug)]
struct Server {
    keeper: Child,
    pid: u32,
    port: u16,
}

impl Server {
    fn start(command: &str, args: &[&str], folder: &Scratch) -> Result<Self, String> {
        let failed =
            |why: &dyn std::fmt::Display| format!("cannot start `patchbay {command}`: {why}");
        let exe = std::env::current_exe().map_err(|why| failed(&why))?;
        let (home, info) = (folder.file(""), folder.file(&format!("{command}.json")));
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "sh"]).arg(&home).arg(command);
        shell.arg(exe).args([command, "--port", "0", "--server-info"]).arg(&info).args(args);
        // Neither a `.env` file here nor variables meant for another proxy change what is measured.
        shell.current_dir(&home);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PATCHBAY_") {
                shell.env_remove(name);
            }
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut keeper = shell.process_group(0).spawn().map_err(|why| failed(&why))?;
        let mut line = String::new();
        if let Some(out) = keeper.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut line);
        }
        let mut server = Self { keeper, pid: line.trim().parse().unwrap_or_default(), port: 0 };
        server.port = server.listening(&info).ok_or_else(|| {
            let log = folder.file(&format!("{command}.log"));
            let said = fs::read_to_string(log).unwrap_or_default();
            let said = said.trim();
            failed(&if said.is_empty() { "it does not listen" } else { said })
        })?;
        Ok(server)
    }

    /// Waits for its port.
    fn listening(&self, info: &Path) -> Option<u16> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            let told = fs::read_to_string(info).ok();
            let port = told.as_deref().and_then(|it| {
                let value: serde_json::Value = serde_json::from_str(it).ok()?;
                u16::try_from(value["port"].as_u64()?).ok()
            });
            if port.is_some() {
                return port;
            }
            if !self.is_running() {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn is_running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The state stands behind the name, which is in brackets.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input: the shell ends the server, then itself.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
