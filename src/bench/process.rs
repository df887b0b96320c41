//! What a process costs: processor time and memory of it and its descendants, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Clock ticks of `/proc/PID/stat` in a second: fixed for what user space sees of Linux.
const TICKS_A_SECOND: u64 = 100;

/// Memory of a process tree, in bytes. Pages that its processes share count once for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at most so far, each process at its own time.
    pub high_water: u64,
}

/// A process and its descendants, as they were when it was looked at.
#[derive(Clone, Debug)]
pub struct Tree {
    pids: Vec<u32>,
}

impl Tree {
    /// Finds the descendants of a process: a server's workers are its children.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> Result<Self, String> {
        if !Path::new(&format!("/proc/{pid}/stat")).exists() {
            return Err(format!("there is no process {pid} (or no /proc to look at)"));
        }
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let child = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(child) = child
                && let Some(parent) = stat(child).and_then(|stat| stat.first().copied())
                && let Ok(parent) = u32::try_from(parent)
            {
                children.entry(parent).or_default().push(child);
            }
        }
        let mut pids = vec![pid];
        let mut at = 0;
        while let Some(parent) = pids.get(at) {
            pids.extend(children.remove(parent).unwrap_or_default());
            at += 1;
        }
        Ok(Self { pids })
    }

    /// Processor time so far: of all threads, and of children that have ended and were waited for.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Memory now.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            sum.resident += kib(&text, "VmRSS:") << 10;
            sum.high_water += kib(&text, "VmHWM:") << 10;
        }
        sum
    }
}

/// Processor time of the calling thread so far.
pub(super) fn own_thread() -> Duration {
    scheduled(Path::new("/proc/thread-self/schedstat")).unwrap_or_default()
}

/// Processor time of one process. `stat` counts in hundredths of a second, but threads that have
/// ended too; `schedstat` counts in nanoseconds, but only threads that live. Neither counts too
/// much, so the larger is the better.
fn cpu(pid: u32) -> Duration {
    let fields = stat(pid).unwrap_or_default();
    // Fields 14 to 17, counted from the first behind the name, which is number 4 here.
    let ticks = |from: usize, to: usize| -> u64 {
        fields
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .map(|it| u64::try_from(*it).unwrap_or_default())
            .sum()
    };
    let by_ticks = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_A_SECOND);
    let mut threads = Duration::ZERO;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        threads += scheduled(&entry.path().join("schedstat")).unwrap_or_default();
    }
    threads.max(by_ticks(ticks(10, 12))) + by_ticks(ticks(12, 14))
}

fn scheduled(path: &Path) -> Option<Duration> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The numbers of `/proc/PID/stat` from the parent's id on.
fn stat(pid: u32) -> Option<Vec<i64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect())
}

fn kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Descriptors that this process may have open at once; `None` when the system does not tell.
pub(super) fn descriptors_max() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
