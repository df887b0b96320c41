//! The thread that starts the workers, hears of signals, and ends them in order.

use super::capture::Scribe;
use super::children::{self, Children};
use super::drive::{Drive, seed};
use super::poll::{self, MioNet};
use super::resolve::Resolver;
use super::tokens::Tokens;
use super::wake::Wake;
use crate::config::Config;
use crate::proxy::limit::LimitTable;
use crate::proxy::transport::TlsTable;
use crate::proxy::worker::Worker;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long after `timeouts.drain` a worker that cannot even cut its exchanges is left behind.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the keeper is told.
#[derive(Debug)]
pub enum Notice {
    /// A signal arrived.
    Signal(i32),
    /// SIGHUP, where it stands for reading files again.
    Reload,
    /// A client asked for the end (`GET /shutdown`).
    Shutdown,
    /// A worker ended; not in order when there are words.
    Worker(Option<String>),
}

/// How a proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything under way was finished, or cut after the drain time.
    Drained,
    /// A second signal, this one, asked not to wait.
    Signal(i32),
    /// A worker failed.
    Failed,
}

/// A running proxy: its workers, and the mailbox of the thread that keeps them.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    wakes: Vec<Arc<Wake>>,
    running: usize,
    drain: Duration,
    sender: Sender<Notice>,
    mailbox: Receiver<Notice>,
    scribe: Option<Scribe>,
    children: Children,
}

impl Proxy {
    /// Binds every address and starts the workers. Clients can connect when this returns.
    ///
    /// # Errors
    /// What could not be set up, in words for people.
    pub fn start(config: &Arc<Config>, tls: &Arc<TlsTable>) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot start: {error}");
        Children::prepare(config)?;
        let (recorder, scribe) = Scribe::start(config)?.unzip();
        let mut addresses = Vec::new();
        let mut listeners: Vec<Vec<_>> = (0..config.workers).map(|_| Vec::new()).collect();
        for address in &config.listen {
            let (bound, all) = match poll::bind(*address, config.workers) {
                Ok(bound) => bound,
                Err(error) if is_spare(*address, &config.listen) && !is_refused(&error) => {
                    log::info!("this machine has no {address}: {error}");
                    continue;
                }
                Err(error) => return Err(format!("cannot listen on {address}: {error}")),
            };
            addresses.push(bound);
            for (mine, listener) in listeners.iter_mut().zip(all) {
                mine.push(listener);
            }
        }
        let drives = (0..config.workers).map(|_| Drive::new()).collect::<io::Result<Vec<_>>>();
        let drives = drives.map_err(failed)?;
        let wakes: Vec<_> = drives.iter().map(Drive::wake).collect();
        let resolver = Resolver::start(wakes.clone()).map_err(failed)?;
        let strangers = config.providers.iter().any(|provider| provider.quirks.image_urls);
        let strangers = strangers.then(|| Resolver::start_for_strangers(wakes.clone()));
        let strangers = strangers.transpose().map_err(failed)?;
        let tokens = Tokens::start(config, tls, &wakes)?;
        let children = Children::new(Arc::clone(config));
        let (sender, mailbox) = channel();
        let (running, drain) = (0, config.timeouts.drain);
        let mut proxy =
            Self { addresses, wakes, running, drain, sender, mailbox, scribe, children };
        let children = proxy.children.clone();
        let limits = Arc::new(LimitTable::new(config, Instant::now(), seed()));
        children::discover(config, limits.models(), &children).map_err(failed)?;
        for (index, (drive, listeners)) in drives.into_iter().zip(listeners).enumerate() {
            let (config, tls) = (Arc::clone(config), Arc::clone(tls));
            let launcher = children.launcher(drive.wake());
            let (limits, resolver, tokens) =
                (Arc::clone(&limits), resolver.clone(), tokens.clone());
            let worker = drive.worker(config, tls, limits, listeners, resolver, tokens);
            let mut worker = worker.map_err(failed)?;
            worker.net_mut().record_with(recorder.clone());
            worker.net_mut().resolve_strangers_with(strangers.clone());
            worker.net_mut().run_with(launcher);
            let keeper = proxy.mailbox();
            let run = move || run(drive, worker, &keeper);
            let name = format!("worker-{index}");
            if let Err(error) = thread::Builder::new().name(name).spawn(run) {
                proxy.wakes.iter().for_each(|wake| wake.stop());
                return Err(failed(error));
            }
            proxy.running += 1;
        }
        Ok(proxy)
    }

    /// The addresses that it listens on, with the ports that were free.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A way to leave a notice for [`Proxy::wait`] and [`Proxy::keep`].
    #[must_use]
    pub fn mailbox(&self) -> Sender<Notice> {
        self.sender.clone()
    }

    /// Waits for a notice other than the orderly end of a worker.
    pub fn wait(&mut self) -> Notice {
        loop {
            match self.mailbox.recv() {
                Ok(Notice::Worker(words)) => {
                    self.running = self.running.saturating_sub(1);
                    if words.is_some() {
                        return Notice::Worker(words);
                    }
                }
                Ok(notice) => return notice,
                // Cannot be: this struct holds a sender itself.
                Err(_) => return Notice::Worker(Some("the mailbox is gone".to_owned())),
            }
        }
    }

    /// Runs until a signal, a shutdown request or a failure, then drains. Calls `reload` for every
    /// [`Notice::Reload`] until then.
    pub fn keep(mut self, mut reload: impl FnMut()) -> Ending {
        let notice = loop {
            match self.wait() {
                Notice::Reload => reload(),
                notice => break notice,
            }
        };
        let failed = match notice {
            Notice::Reload => false,
            Notice::Signal(signal) => {
                log::info!("signal {signal}: draining");
                false
            }
            Notice::Shutdown => {
                log::info!("shutdown requested: draining");
                false
            }
            Notice::Worker(words) => {
                log::error!("a worker ended: {}", words.unwrap_or_default());
                true
            }
        };
        match self.drain() {
            Ending::Drained if failed => Ending::Failed,
            ending => ending,
        }
    }

    /// Ends every worker at once, whatever it does.
    pub fn stop(mut self) {
        self.wakes.iter().for_each(|wake| wake.stop());
        while self.running > 0 {
            match self.mailbox.recv_timeout(PATIENCE) {
                Ok(Notice::Worker(_)) => self.running -= 1,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        self.finish();
    }

    /// The workers are gone: waits for the processes that they ran to end, and for what they left to
    /// be written down.
    fn finish(&self) {
        self.children.finish(PATIENCE);
        if let Some(scribe) = &self.scribe {
            scribe.finish(PATIENCE);
        }
    }

    /// Takes nothing new and waits for what runs, at most `timeouts.drain` (the workers cut the
    /// rest themselves). A signal meanwhile ends the waiting at once.
    pub fn drain(mut self) -> Ending {
        self.wakes.iter().for_each(|wake| wake.drain());
        let deadline = Instant::now() + self.drain + PATIENCE;
        let mut failed = false;
        while self.running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.mailbox.recv_timeout(left) {
                Ok(Notice::Signal(signal)) => {
                    self.wakes.iter().for_each(|wake| wake.stop());
                    self.children.finish(PATIENCE);
                    return Ending::Signal(signal);
                }
                Ok(Notice::Worker(words)) => {
                    self.running -= 1;
                    if let Some(words) = words {
                        log::error!("a worker ended: {words}");
                        failed = true;
                    }
                }
                Ok(Notice::Shutdown | Notice::Reload) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    log::error!("{} workers did not drain in time", self.running);
                    self.wakes.iter().for_each(|wake| wake.stop());
                    return Ending::Failed;
                }
            }
        }
        self.finish();
        if failed { Ending::Failed } else { Ending::Drained }
    }
}

/// Runs a worker to its end and tells the keeper how it was, also when it panics: a process that
/// goes on with fewer workers than it was told to have hides its trouble.
fn run(drive: Drive, mut worker: Worker<MioNet>, keeper: &Sender<Notice>) {
    // Sending fails only when the keeper is gone and the process about to end.
    let tell = || drop(keeper.send(Notice::Shutdown));
    let words = match catch_unwind(AssertUnwindSafe(|| drive.run(&mut worker, tell))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("it panicked".to_owned()),
    };
    // Whoever hears of the end finds its port free.
    drop(worker);
    drop(keeper.send(Notice::Worker(words)));
}

/// Sends every arrival of these signals to a mailbox. SIGHUP that is not among them leaves
/// [`Notice::Reload`] if `reload`, and is ignored otherwise: the proxy outlives its terminal.
///
/// # Errors
/// The signals could not be caught.
pub fn watch_signals(signals: &[i32], reload: bool, mailbox: Sender<Notice>) -> io::Result<()> {
    let named = signals.contains(&SIGHUP);
    let mut caught = Signals::new(signals)?;
    if reload && !named {
        caught.add_signal(SIGHUP)?;
    } else if !named {
        signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in caught.forever() {
            let notice = match signal {
                SIGHUP if !named => Notice::Reload,
                signal => Notice::Signal(signal),
            };
            if mailbox.send(notice).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Whether an address is the IPv6 one of `localhost`, where the IPv4 one is listened on too: a
/// container often has no IPv6.
fn is_spare(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let twin = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    address.ip() == Ipv6Addr::LOCALHOST && all.contains(&twin)
}

/// Whether an address is there, but not for us.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, World, load};
    use std::io::Read as _;
    use std::net::TcpStream;

    fn start(workers: usize) -> Proxy {
        let overrides = Overrides {
            upstream_url: Some("http://127.0.0.1:9".to_owned()),
            workers: Some(workers),
            ..Overrides::default()
        };
        let config = load(None, &overrides, World { var: &|_| None, cores: 1 }).unwrap();
        Proxy::start(&Arc::new(config), &Arc::new(TlsTable::new(&[]).unwrap())).unwrap()
    }

    #[test]
    fn notices_end_a_proxy_in_order_and_free_its_port() {
        for notice in [Notice::Signal(15), Notice::Shutdown] {
            let proxy = start(3);
            let address = proxy.addresses()[0];
            let mut idle = TcpStream::connect(address).unwrap();
            proxy.mailbox().send(notice).unwrap();
            assert_eq!(proxy.keep(|| {}), Ending::Drained);
            // An orderly end, or a reset when nobody had taken the connection yet.
            assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
            assert!(TcpStream::connect(address).is_err());
        }
    }

    #[test]
    fn a_failed_worker_ends_the_process_as_a_failure() {
        let proxy = start(1);
        proxy.mailbox().send(Notice::Worker(Some("out of luck".to_owned()))).unwrap();
        // The mailbox now counts one worker more as ended than there were; only the words matter.
        let ending = proxy.keep(|| {});
        assert_eq!(ending, Ending::Failed);
    }

    #[test]
    fn stopping_waits_for_nothing() {
        let proxy = start(2);
        let address = proxy.addresses()[0];
        let mut client = TcpStream::connect(address).unwrap();
        proxy.stop();
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let overrides = Overrides {
            upstream_url: Some("http://127.0.0.1:9".to_owned()),
            listen: vec!["192.0.2.1:80".parse().unwrap()],
            ..Overrides::default()
        };
        let config = load(None, &overrides, World { var: &|_| None, cores: 1 }).unwrap();
        let tls = Arc::new(TlsTable::new(&[]).unwrap());
        let error = Proxy::start(&Arc::new(config), &tls).unwrap_err();
        assert!(error.starts_with("cannot listen on 192.0.2.1:80: "), "{error}");
    }

    #[test]
    fn the_ipv6_address_of_localhost_may_be_missing_but_not_taken() {
        let all = ["127.0.0.1:80", "[::1]:80", "[::1]:81", "[::]:80"].map(|it| it.parse().unwrap());
        assert_eq!(all.map(|address| is_spare(address, &all)), [false, true, false, false]);
        assert!(is_refused(&io::ErrorKind::AddrInUse.into()));
        assert!(!is_refused(&io::ErrorKind::AddrNotAvailable.into()));
    }
}
