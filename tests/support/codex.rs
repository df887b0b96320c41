//! A Codex CLI that does what a test says: a shell script that leaves what it was given in files.

use super::{Patchbay, wait_for};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Reads the prompt, and answers.
pub(crate) const ANSWER: &str = "cat >\"$run/stdin\"\n. \"$place/answer\"\n";
/// What [`ANSWER`] says.
pub(crate) const TEXT: &str = "Hello \"you\" \\ größe\nthere";
/// Until the process is ended, or a test says `go`.
pub(crate) const HANG: &str = "while [ ! -e \"$place/go\" ]; do sleep 0.02; done\n";

const LINES: &str = r#"cat <<'END'
{"type":"thread.started","thread_id":"thread-1"}
{"type":"turn.started"}
{"type":"item.completed","item":{"id":"item_0","type":"reasoning","text":"Hm."}}
{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"Hello \"you\" \\ größe\nthere"}}
{"type":"turn.completed","usage":{"input_tokens":12,"cached_input_tokens":4,"output_tokens":5,"reasoning_output_tokens":1}}
END
"#;

const HEAD: &str = r#"#!/bin/sh
place=PLACE
if [ "$1" = debug ]; then
  echo "$$" >>"$place/asked"
  . "$place/models"
  exit
fi
run="$place/runs/$$"
mkdir "$run" || exit 9
printf '%s\0' "$@" >"$run/argv"
env -0 >"$run/env"
pwd >"$run/cwd"
: >"$run/ready"
. "$place/behave"
"#;

const MODELS: &str = r#"echo '{"models":[{"slug":"m","visibility":"list"},{"slug":"gpt-5","visibility":"list"},{"slug":"hidden","visibility":"hide"}]}'
"#;

/// Where such a CLI lives and works.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    taken: Mutex<Vec<u32>>,
}

/// One run of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    folder: PathBuf,
}

impl Place {
    /// One whose CLI goes on as `behave` says, in the language of `sh`.
    pub(crate) fn new(behave: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), taken: Mutex::default() };
        for folder in ["runs", "tmp", "home", "start"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        let root = place.path("");
        let script = HEAD.replace("PLACE", root.to_str().unwrap().trim_end_matches('/'));
        fs::write(place.path("codex"), script).unwrap();
        fs::set_permissions(place.path("codex"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(place.path("models"), MODELS).unwrap();
        fs::write(place.path("answer"), LINES).unwrap();
        place.behave(behave);
        place
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes one of its files.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let new = self.path(&format!("{}.new", name.replace('/', "-")));
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    /// What the CLI does from now on.
    pub(crate) fn behave(&self, script: &str) {
        self.write("behave", script);
    }

    /// `serve` with the preset and these variables. Nothing else is in its environment.
    pub(crate) fn command(&self, variables: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.args(["serve", "--preset", "codex-exec", "--workers", "2"]).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("TMPDIR", self.path("tmp")).env("HOME", self.path("home"));
        command.env("CODEX_HOME", self.path("home")).env("CODEX_PATH", self.path("codex"));
        command.env("CODEX_WORKDIR", self.path("work")).env("RATE_LIMIT_PER_MINUTE", "0");
        command.envs(variables.iter().copied()).current_dir(self.path("start"));
        command
    }

    /// Starts that, and waits until it listens.
    pub(crate) fn start(&self, variables: &[(&str, &str)]) -> Patchbay {
        Patchbay::spawn(self.command(variables, &[]))
    }

    /// Starts it, and waits until it knows the models.
    pub(crate) fn start_with_models(&self, variables: &[(&str, &str)]) -> Patchbay {
        let proxy = self.start(variables);
        wait_for("the list of models", || {
            let mut client = proxy.connect();
            let key = variables.iter().find(|(name, _)| *name == "PROXY_API_KEY");
            let key = key.map_or("none", |(_, key)| key);
            client.send(
                format!(
                    "GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\
                     authorization: Bearer {key}\r\n\r\n"
                )
                .as_bytes(),
            );
            let list = client.reply().json();
            list["data"].as_array().filter(|list| !list.is_empty()).map(|_| ())
        });
        proxy
    }

    /// Every run that has begun.
    pub(crate) fn runs(&self) -> Vec<Seen> {
        let entries = fs::read_dir(self.path("runs")).unwrap().map(|entry| entry.unwrap().path());
        let begun = entries.filter(|folder| folder.join("ready").exists());
        begun
            .map(|folder| {
                let name = folder.file_name().unwrap().to_str().unwrap();
                Seen { pid: name.parse().unwrap(), folder }
            })
            .collect()
    }

    /// Waits for a run to begin that this was not told of before.
    pub(crate) fn next_run(&self) -> Seen {
        let mut taken = self.taken.lock().unwrap();
        let seen =
            wait_for("a run", || self.runs().into_iter().find(|run| !taken.contains(&run.pid)));
        taken.push(seen.pid);
        seen
    }

    /// Names of temporary files that are left.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("tmp")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Seen {
    /// A file that the script wrote.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// Waits until the script has written it.
    pub(crate) fn wait_for(&self, name: &str) -> String {
        let path = self.folder.join(name);
        wait_for(name, || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')))
    }

    /// The arguments behind the command's name.
    pub(crate) fn argv(&self) -> Vec<String> {
        let mut list: Vec<String> = texts(&self.file("argv"));
        assert_eq!(list.remove(0), "exec");
        list
    }

    /// A variable of its environment.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        texts(&self.file("env")).iter().find_map(|it| it.strip_prefix(&prefix).map(str::to_owned))
    }

    /// The prompt.
    pub(crate) fn prompt(&self) -> String {
        String::from_utf8(self.file("stdin")).unwrap()
    }
}

fn texts(bytes: &[u8]) -> Vec<String> {
    let list = bytes.strip_suffix(b"\0").unwrap_or(bytes).split(|byte| *byte == 0);
    list.map(|text| String::from_utf8(text.to_owned()).unwrap()).collect()
}

/// A process as `/proc` tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// `Z` is a zombie.
    pub(crate) state: char,
}

/// Every process of this machine.
pub(crate) fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid| read_stat(pid).ok().flatten()).collect()
}

fn read_stat(pid: u32) -> io::Result<Option<Process>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name stands in brackets, and may hold anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return Ok(None) };
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
    let state = fields.first().and_then(|field| field.chars().next());
    Ok(match (state, number(1), number(2)) {
        (Some(state), Some(parent), Some(group)) => Some(Process { pid, parent, group, state }),
        _ => None,
    })
}

/// The processes of a group that live. One that ended and that nobody has reaped yet does not.
pub(crate) fn group(pid: u32) -> Vec<u32> {
    let alive = processes().into_iter().filter(|it| it.group == pid && it.state != 'Z');
    alive.map(|it| it.pid).collect()
}

/// Waits until nothing of a run is left.
pub(crate) fn wait_until_gone(run: &Seen) {
    wait_for(&format!("the end of the group {}", run.pid), || {
        group(run.pid).is_empty().then_some(())
    });
}

/// Children of a process, dead or alive.
pub(crate) fn children(pid: u32) -> Vec<Process> {
    processes().into_iter().filter(|it| it.parent == pid).collect()
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap().count()
}

/// Sends a signal.
pub(crate) fn send_signal(name: &str, pid: u32) {
    let pid = pid.to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}
