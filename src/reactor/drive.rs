//! One worker's loop: sleep until something is ready or due, read the clock once, advance.

use super::desk::Desk;
use super::poll::{MioNet, WAKER};
use super::resolve::Resolver;
use super::tokens::Tokens;
use super::wake::Wake;
use crate::config::Config;
use crate::proxy::limit::LimitTable;
use crate::proxy::net::Ready;
use crate::proxy::shared::Now;
use crate::proxy::transport::TlsTable;
use crate::proxy::worker::Worker;
use mio::{Events, Poll, Waker};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events taken from the system at a time; what does not fit comes with the next poll.
const EVENTS_MAX: usize = 1024;

/// How old the time in seconds may be that people are shown.
const UNIX_AGE_MAX: Duration = Duration::from_millis(100);

/// A worker's loop before it has its own thread.
#[derive(Debug)]
pub(super) struct Drive {
    poll: Poll,
    wake: Arc<Wake>,
}

impl Drive {
    /// Sets up the poll, so that others can wake the worker before it runs.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let wake = Arc::new(Wake::new(Waker::new(poll.registry(), WAKER)?));
        Ok(Self { poll, wake })
    }

    /// How to reach the worker.
    pub(super) fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Makes the worker.
    ///
    /// # Errors
    /// A listener could not be registered.
    pub(super) fn worker(
        &self,
        config: Arc<Config>,
        tls: Arc<TlsTable>,
        limits: Arc<LimitTable>,
        listeners: Vec<TcpListener>,
        resolver: Resolver,
        tokens: Tokens,
    ) -> io::Result<Worker<MioNet>> {
        let registry = self.poll.registry().try_clone()?;
        let mut net = MioNet::new(registry, resolver, tokens, Desk::new(self.wake()));
        let listeners =
            listeners.into_iter().map(|it| net.listen(it)).collect::<io::Result<Vec<_>>>()?;
        Ok(Worker::new(net, config, tls, limits, listeners, seed(), Clock::new().now()))
    }

    /// Runs until the worker is drained or told to stop. `on_shutdown` is called when a client
    /// asked for the end of the process, once.
    ///
    /// # Errors
    /// The poll itself failed: nothing can go on.
    pub(super) fn run(
        mut self,
        worker: &mut Worker<MioNet>,
        on_shutdown: impl FnOnce(),
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut ready: Vec<Ready> = Vec::with_capacity(EVENTS_MAX);
        let mut on_shutdown = Some(on_shutdown);
        let mut clock = Clock::new();
        let mut time = clock.now();
        let mut next = Some(time.instant);
        loop {
            let timeout = next.map(|at| at.saturating_duration_since(time.instant));
            worker.net_mut().polled();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            time = clock.now();
            ready.clear();
            let mut noted = false;
            for event in &events {
                if event.token() == WAKER {
                    noted = true;
                } else {
                    ready.extend(worker.net_mut().ready(event));
                }
            }
            if noted {
                let notes = self.wake.take();
                if notes.stop() {
                    return Ok(());
                }
                if notes.drain() {
                    worker.drain(time);
                }
                if notes.names() {
                    worker.names_changed();
                }
                if notes.orders() {
                    worker.orders_changed();
                }
                if notes.tokens() {
                    worker.tokens_changed();
                }
                if notes.launches() {
                    worker.launches_changed();
                }
            }
            next = worker.turn(&ready, time);
            if worker.shutdown_requested()
                && let Some(tell) = on_shutdown.take()
            {
                tell();
            }
            if worker.is_drained() {
                return Ok(());
            }
        }
    }
}

/// The hasher's keys are random: all that ids need is to differ between workers and runs, and all
/// that a table needs is to be unknown to strangers.
pub(super) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Reads the clocks: the one that deadlines go by every time, and the one that people read only
/// now and then.
#[derive(Debug)]
struct Clock {
    unix_s: u64,
    read_at: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { unix_s: unix_s(), read_at: Instant::now() }
    }

    fn now(&mut self) -> Now {
        let instant = Instant::now();
        if instant.saturating_duration_since(self.read_at) >= UNIX_AGE_MAX {
            *self = Self { unix_s: unix_s(), read_at: instant };
        }
        Now { instant, unix_s: self.unix_s }
    }
}

/// The system's clock. Before 1970 it shows as 1970.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, World, load};
    use crate::proxy::meter::Calls;
    use crate::proxy::net::Net as _;
    use crate::reactor::poll::bind;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};
    use std::thread::{self, JoinHandle};

    /// A worker in its own thread, and the upstream that it asks.
    struct Scene {
        address: SocketAddr,
        wake: Arc<Wake>,
        worker: JoinHandle<Calls>,
        upstream: TcpListener,
    }

    impl Scene {
        fn start() -> Self {
            let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let url = format!("http://{}", upstream.local_addr().unwrap());
            let overrides = Overrides { upstream_url: Some(url), ..Overrides::default() };
            let config = load(None, &overrides, World { var: &|_| None, cores: 1 }).unwrap();
            let tls = Arc::new(TlsTable::new(&[]).unwrap());
            let limits = Arc::new(LimitTable::new(&config, Instant::now(), 1));
            let (address, listeners) = bind((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
            let drive = Drive::new().unwrap();
            let wake = drive.wake();
            let resolver = Resolver::start(vec![drive.wake()]).unwrap();
            let worker =
                drive.worker(Arc::new(config), tls, limits, listeners, resolver, Tokens::none());
            let mut worker = worker.unwrap();
            let worker = thread::spawn(move || {
                drive.run(&mut worker, || {}).unwrap();
                worker.net_mut().calls()
            });
            Self { address, wake, worker, upstream }
        }

        /// Ends the worker, which has nothing to do, and returns the calls that it made.
        fn end(self) -> Calls {
            self.wake.stop();
            self.worker.join().unwrap()
        }
    }

    /// Reads until what came ends in `end`.
    fn until(stream: &mut TcpStream, end: &str) {
        let mut got = Vec::new();
        let mut buffer = [0; 16 << 10];
        while !got.ends_with(end.as_bytes()) {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..count]);
        }
    }

    const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
        transfer-encoding: chunked\r\n\r\n";

    fn ask(client: &mut TcpStream) {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n\
             {BODY}",
            BODY.len()
        );
        client.write_all(request.as_bytes()).unwrap();
    }

    fn chunk(content: &str, finish: &str) -> String {
        let data = format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}},\
             \"finish_reason\":{finish}}}]}}\n\n"
        );
        format!("{:x}\r\n{data}\r\n", data.len())
    }

    fn end() -> String {
        format!("{}e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", chunk("", "\"stop\""))
    }

    #[test]
    fn a_delta_is_a_poll_a_read_and_a_write() {
        const DELTAS: u64 = 50;
        let scene = Scene::start();
        let mut client = TcpStream::connect(scene.address).unwrap();
        ask(&mut client);
        let (mut upstream, _) = scene.upstream.accept().unwrap();
        until(&mut upstream, BODY);
        upstream.write_all(HEAD.as_bytes()).unwrap();
        for number in 0..DELTAS {
            let content = format!("word {number}");
            upstream.write_all(chunk(&content, "null").as_bytes()).unwrap();
            // The next one is sent when this one is here: none can join another.
            until(&mut client, &format!("{content}\"}},\"finish_reason\":null}}]}}\n\n\r\n"));
        }
        upstream.write_all(end().as_bytes()).unwrap();
        until(&mut client, "0\r\n\r\n");
        let calls = scene.end();
        println!("{DELTAS} deltas: {calls:?}");
        // A listener and two connections; never again what was registered once.
        assert_eq!((calls.registers, calls.connects), (3, 1));
        // Beside the deltas: the request, the reply's head and its end.
        assert_eq!(calls.writes, DELTAS + 2);
        assert!((DELTAS + 2..DELTAS + 10).contains(&calls.reads), "{calls:?}");
        // And the accept, the connect, and the wake that ends it.
        assert!(calls.polls < DELTAS + 10, "{calls:?}");
    }

    #[test]
    fn an_exchange_on_kept_connections_is_two_of_each() {
        const EXCHANGES: u64 = 50;
        let scene = Scene::start();
        let mut client = TcpStream::connect(scene.address).unwrap();
        let reply = format!("{HEAD}{}{}", chunk("word", "null").repeat(16), end());
        let mut upstream = None;
        for _ in 0..EXCHANGES {
            ask(&mut client);
            let upstream = upstream.get_or_insert_with(|| scene.upstream.accept().unwrap().0);
            until(upstream, BODY);
            upstream.write_all(reply.as_bytes()).unwrap();
            until(&mut client, "0\r\n\r\n");
        }
        let calls = scene.end();
        println!("{EXCHANGES} exchanges: {calls:?}");
        assert_eq!((calls.registers, calls.connects, calls.closes), (3, 1, 0));
        assert_eq!((calls.writes, calls.shutdowns), (2 * EXCHANGES, 0));
        // A reply may come in two pieces now and then, a look that asks again each time may not.
        assert!((2 * EXCHANGES..2 * EXCHANGES + 10).contains(&calls.reads), "{calls:?}");
        assert!(calls.polls < 2 * EXCHANGES + 10, "{calls:?}");
    }
}
