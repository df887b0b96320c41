//! Names to addresses: one thread asks the system's resolver, everybody else reads its table.
//!
//! Names come from the configuration, so the table is as small as it is, and a name in use is
//! asked for again before its answer is old: only the first exchange ever waits. Names that clients
//! choose have a table and a thread of their own: those are bounded, and may be slow on purpose.

use super::wake::Wake;
use crate::proxy::net::Lookup;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// An answer's age at which it is asked for again.
const FRESH: Duration = Duration::from_secs(60);
/// Names of a table that clients fill, at most.
const STRANGERS_MAX: usize = 256;
/// How long a failure is the answer.
const FAILED: Duration = Duration::from_secs(2);

/// A handle to the table; all handles of a process share one thread, which ends after the last.
#[derive(Clone, Debug)]
pub(super) struct Resolver(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.table().closed = true;
        self.0.asked.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    asked: Condvar,
}

/// What the thread is to do next.
enum Work {
    Ask(String, u16),
    End,
}

impl Resolver {
    /// Starts the thread; `wakes` are told of every change.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(wakes: Vec<Arc<Wake>>) -> io::Result<Self> {
        Self::start_with(wakes, usize::MAX, look_up)
    }

    /// Starts another thread, for names that clients choose.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start_for_strangers(wakes: Vec<Arc<Wake>>) -> io::Result<Self> {
        Self::start_with(wakes, STRANGERS_MAX, look_up)
    }

    /// The same over any way to look names up.
    fn start_with(
        wakes: Vec<Arc<Wake>>,
        names_max: usize,
        look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Self> {
        let table = Table { names: Vec::new(), names_max, closed: false };
        let shared = Arc::new(Shared { table: Mutex::new(table), asked: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            while let Work::Ask(host, port) = theirs.wait() {
                let answer = look_up(&host, port);
                match &answer {
                    Ok(found) => log::debug!("{host} is {found:?}"),
                    Err(error) => log::warn!("cannot resolve {host}: {error}"),
                }
                if theirs.table().settle(&host, port, answer, Instant::now()) {
                    wakes.iter().for_each(|wake| wake.names());
                }
            }
        })?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// What is known of a name; asks for it when that is nothing. An address is its own answer.
    pub(super) fn resolve(&self, host: &str, port: u16) -> Lookup {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Lookup::Found(Arc::from([SocketAddr::new(address, port)]));
        }
        let shared = &self.0.0;
        let lookup = shared.table().look(host, port, Instant::now());
        if lookup == Lookup::Pending {
            shared.asked.notify_one();
        }
        lookup
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

impl Shared {
    /// A panic while the table was locked left no half-made entry behind.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a name is due.
    fn wait(&self) -> Work {
        let mut table = self.table();
        loop {
            if table.closed {
                return Work::End;
            }
            let now = Instant::now();
            if let Some((host, port)) = table.due(now) {
                return Work::Ask(host, port);
            }
            table = match table.next(now) {
                None => self.asked.wait(table).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = at.saturating_duration_since(now);
                    let result = self.asked.wait_timeout(table, wait);
                    result.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The names that were asked for. Pure: `now` is an argument.
#[derive(Debug)]
struct Table {
    names: Vec<Name>,
    /// Names in the table, at most.
    names_max: usize,
    /// The last handle is gone.
    closed: bool,
}

#[derive(Debug)]
struct Name {
    host: String,
    port: u16,
    /// `Pending` from the first question to the first answer.
    known: Lookup,
    /// When to look it up (again), or to forget it.
    due: Instant,
    /// Asked for since the last answer.
    used: bool,
}

impl Table {
    fn look(&mut self, host: &str, port: u16, now: Instant) -> Lookup {
        let known = self.names.iter_mut().find(|name| name.port == port && name.host == host);
        let Some(name) = known else {
            if !self.make_room() {
                return Lookup::Failed("too many names are looked up at once".to_owned());
            }
            let (host, known) = (host.to_owned(), Lookup::Pending);
            self.names.push(Name { host, port, known, due: now, used: true });
            return Lookup::Pending;
        };
        name.used = true;
        if matches!(name.known, Lookup::Failed(_)) && name.due <= now {
            name.known = Lookup::Pending;
        }
        name.known.clone()
    }

    /// Makes room for a name: of those that have their answer, the oldest goes. False when all
    /// still wait for one.
    fn make_room(&mut self) -> bool {
        if self.names.len() < self.names_max {
            return true;
        }
        let answered = self.names.iter().enumerate().filter(|(_, it)| it.known != Lookup::Pending);
        let Some((oldest, _)) = answered.min_by_key(|(_, name)| name.due) else { return false };
        self.names.swap_remove(oldest);
        true
    }

    /// The next name to look up, if it is time. Forgets names that nobody asked for again.
    fn due(&mut self, now: Instant) -> Option<(String, u16)> {
        self.names.retain(|name| name.used || name.due > now);
        let ripe = |name: &&Name| name.due <= now && !matches!(name.known, Lookup::Failed(_));
        self.names.iter().find(ripe).map(|name| (name.host.clone(), name.port))
    }

    /// When the next name may be due.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.names.iter().map(|name| name.due).filter(|due| *due > now).min()
    }

    /// Enters an answer. A failed refresh keeps the old addresses: they worked a minute ago.
    /// Returns whether a reader would see a change.
    fn settle(
        &mut self,
        host: &str,
        port: u16,
        answer: io::Result<Vec<SocketAddr>>,
        now: Instant,
    ) -> bool {
        let Some(name) = self.names.iter_mut().find(|name| name.port == port && name.host == host)
        else {
            return false;
        };
        let failure = match answer {
            Ok(mut found) if !found.is_empty() => {
                let mut seen = Vec::new();
                found.retain(|address| {
                    let new = !seen.contains(address);
                    seen.push(*address);
                    new
                });
                name.used = false;
                name.due = now + FRESH;
                let known = Lookup::Found(Arc::from(found));
                let changed = name.known != known;
                name.known = known;
                return changed;
            }
            Ok(_) => "the name has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        name.due = now + FAILED;
        if matches!(name.known, Lookup::Found(_)) {
            return false;
        }
        name.used = false;
        name.known = Lookup::Failed(failure);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn table(names_max: usize) -> Table {
        Table { names: Vec::new(), names_max, closed: false }
    }

    fn found(last: &[u8]) -> Lookup {
        Lookup::Found(last.iter().map(|last| address(*last)).collect())
    }

    #[test]
    fn an_answer_is_kept_refreshed_ahead_and_forgotten_when_unused() {
        let start = Instant::now();
        let mut table = table(usize::MAX);
        assert_eq!(table.due(start), None);
        assert_eq!(table.look("a.example", 443, start), Lookup::Pending);
        assert_eq!(table.due(start), Some(("a.example".to_owned(), 443)));
        assert!(table.settle("a.example", 443, Ok(vec![address(1), address(1)]), start));
        assert_eq!(table.look("a.example", 443, start), found(&[1]));
        assert_eq!(table.due(start), None);
        assert_eq!(table.next(start), Some(start + FRESH));

        let later = start + FRESH;
        assert_eq!(table.due(later), Some(("a.example".to_owned(), 443)));
        assert_eq!(table.look("a.example", 443, later), found(&[1]), "served while refreshed");
        assert!(!table.settle("a.example", 443, Ok(vec![address(1)]), later));
        assert_eq!(table.due(later + FRESH), None);
        assert!(table.names.is_empty());
    }

    #[test]
    fn a_full_table_forgets_the_oldest_answer_and_takes_no_more_questions() {
        let start = Instant::now();
        let later = start + Duration::from_millis(1);
        let mut table = table(2);
        for host in ["a.example", "b.example"] {
            assert_eq!(table.look(host, 443, start), Lookup::Pending);
        }
        assert!(matches!(table.look("c.example", 443, start), Lookup::Failed(_)));
        table.settle("b.example", 443, Ok(vec![address(2)]), start);
        table.settle("a.example", 443, Ok(vec![address(1)]), later);
        assert_eq!(table.look("c.example", 443, later), Lookup::Pending);
        assert_eq!(table.look("a.example", 443, later), found(&[1]));
        assert_eq!(table.names.len(), 2);
    }

    #[test]
    fn a_failure_is_kept_for_a_moment_and_asked_for_again() {
        let start = Instant::now();
        let mut table = table(usize::MAX);
        table.look("a.example", 443, start);
        assert!(table.settle("a.example", 443, Err(io::Error::other("no such name")), start));
        let failed = Lookup::Failed("no such name".to_owned());
        assert_eq!(table.look("a.example", 443, start), failed);
        assert_eq!(table.due(start), None);
        let later = start + FAILED;
        assert_eq!(table.look("a.example", 443, later), Lookup::Pending);
        assert!(table.due(later).is_some());
        assert!(table.settle("a.example", 443, Ok(Vec::new()), later));
        assert_eq!(
            table.look("a.example", 443, later),
            Lookup::Failed("the name has no address".to_owned())
        );
    }

    #[test]
    fn a_failed_refresh_keeps_the_old_addresses() {
        let start = Instant::now();
        let mut table = table(usize::MAX);
        table.look("a.example", 443, start);
        table.settle("a.example", 443, Ok(vec![address(1)]), start);
        table.look("a.example", 443, start);
        let later = start + FRESH;
        assert!(!table.settle("a.example", 443, Err(io::Error::other("no")), later));
        assert_eq!(table.look("a.example", 443, later), found(&[1]));
        assert_eq!(table.next(later), Some(later + FAILED));
        assert!(table.settle("a.example", 443, Ok(vec![address(2)]), later));
        assert_eq!(table.look("a.example", 443, later), found(&[2]));
    }

    #[test]
    fn addresses_need_no_thread() {
        let refuse = |_: &str, _: u16| -> io::Result<Vec<SocketAddr>> { panic!("asked") };
        let resolver = Resolver::start_with(Vec::new(), usize::MAX, refuse).unwrap();
        for (host, port) in [("127.0.0.1", 80), ("::1", 443)] {
            let expected = SocketAddr::new(host.parse().unwrap(), port);
            assert_eq!(resolver.resolve(host, port), Lookup::Found(Arc::from([expected])));
        }
        assert!(resolver.0.0.table().names.is_empty());
    }

    #[test]
    fn the_thread_answers_a_question() {
        let (send, receive) = mpsc::channel();
        let look_up = move |host: &str, _: u16| {
            send.send(host.to_owned()).unwrap();
            Ok(vec![address(7)])
        };
        let resolver = Resolver::start_with(Vec::new(), usize::MAX, look_up).unwrap();
        resolver.resolve("a.example", 443);
        assert_eq!(receive.recv().unwrap(), "a.example");
        while resolver.resolve("a.example", 443) == Lookup::Pending {
            thread::yield_now();
        }
        assert_eq!(resolver.resolve("a.example", 443), found(&[7]));
    }
}
