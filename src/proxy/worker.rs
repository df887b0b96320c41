//! One worker: every connection of one thread, advanced by [`Worker::turn`].

use crate::config::{Config, Url};
use crate::dialect::ids::Ids;
use crate::proxy::client::Client;
use crate::proxy::exchange::{Held, Parked};
use crate::proxy::limit::LimitTable;
use crate::proxy::meter::Meter;
use crate::proxy::net::{Net, Ready, SocketId};
use crate::proxy::pool::Pool;
use crate::proxy::shared::{Now, Shared};
use crate::proxy::timer::Timers;
use crate::proxy::transport::TlsTable;
use crate::proxy::upstream::{Phase, Upstream};
use slab::Slab;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections taken from one listener in one turn.
const ACCEPTS_MAX: u32 = 64;
/// How long nothing is accepted after the process ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a worker holds at the moment. All are zero after a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Client connections.
    pub clients: usize,
    /// Upstream connections, those in the pool included.
    pub upstreams: usize,
    /// Of those, idle in the pool.
    pub pooled: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Of those, with a seat among the ones that their client key may have at once.
    pub seated: usize,
    /// Exchanges waiting for a translation, a connect slot, a name or a token.
    pub waiting: usize,
    /// Armed timers.
    pub timers: usize,
    /// Buffers in use.
    pub buffers: usize,
}

/// Who a socket belongs to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Nobody,
    Listener { index: usize, generation: u32 },
    Conn { slot: usize, generation: u32 },
}

#[derive(Debug)]
enum Conn {
    Client(Box<Client>),
    Upstream(Box<Upstream>),
    /// Being worked on.
    Taken,
}

#[derive(Debug)]
struct Slot {
    /// Tells this use of the slot from others.
    serial: u32,
    queued: bool,
    conn: Conn,
}

#[derive(Debug)]
struct Listener {
    socket: SocketId,
    ready: bool,
}

/// All connections of one thread.
#[derive(Debug)]
pub struct Worker<N: Net> {
    pub(crate) shared: Shared<N>,
    pub(crate) ids: Ids,
    pub(crate) shutdown: bool,
    pub(crate) timers: Timers,
    listeners: Vec<Listener>,
    conns: Slab<Slot>,
    owners: Vec<Owner>,
    /// Connections with something to do.
    queue: VecDeque<(usize, u32)>,
    serial: u32,
    pool: Pool,
    clients: usize,
    connecting: usize,
    /// When a connect last succeeded.
    connected_at: Instant,
    /// Exchanges that wait for a connect slot, in their order.
    for_slot: VecDeque<(usize, u32)>,
    for_name: Vec<(usize, u32)>,
    for_order: Vec<(usize, u32)>,
    for_token: Vec<(usize, u32)>,
    for_launch: Vec<(usize, u32)>,
    accept_at: Option<Instant>,
    drain_until: Option<Instant>,
}

impl<N: Net> Worker<N> {
    /// A worker that accepts from `listeners`, under `limits` that it shares with its likes. The
    /// same `seed` gives the same ids.
    pub fn new(
        net: N,
        config: Arc<Config>,
        tls: Arc<TlsTable>,
        limits: Arc<LimitTable>,
        listeners: Vec<SocketId>,
        seed: u64,
        now: Now,
    ) -> Self {
        let mut worker = Self {
            shared: Shared::new(net, config, tls, limits, now),
            ids: Ids::new(seed),
            shutdown: false,
            timers: Timers::default(),
            listeners: Vec::new(),
            conns: Slab::new(),
            owners: Vec::new(),
            queue: VecDeque::new(),
            serial: 0,
            pool: Pool::default(),
            clients: 0,
            connecting: 0,
            connected_at: now.instant,
            for_slot: VecDeque::new(),
            for_name: Vec::new(),
            for_order: Vec::new(),
            for_token: Vec::new(),
            for_launch: Vec::new(),
            accept_at: None,
            drain_until: None,
        };
        for (index, socket) in listeners.into_iter().enumerate() {
            let generation = socket.generation;
            worker.set_owner(socket, Owner::Listener { index, generation });
            worker.listeners.push(Listener { socket, ready: true });
        }
        worker
    }

    /// Handles what is ready, then everything that can go on. Returns when to be called again at
    /// the latest: `now` or earlier means at once, `None` means only when something is ready.
    pub fn turn(&mut self, ready: &[Ready], now: Now) -> Option<Instant> {
        self.shared.unix_s = now.unix_s;
        for ready in ready {
            self.note(ready);
        }
        self.accept(now);
        for _ in 0..self.queue.len() {
            let Some((slot, serial)) = self.queue.pop_front() else { break };
            let current = self.conns.get_mut(slot).filter(|held| held.serial == serial);
            if let Some(held) = current {
                held.queued = false;
                self.run(slot, false, now);
            }
        }
        while let Some(slot) = self.timers.pop(now.instant) {
            self.run(slot, true, now);
        }
        if self.drain_until.is_some_and(|until| until <= now.instant) {
            self.cut_all(now);
        }
        self.call_waiting();
        if !self.queue.is_empty()
            || self.listeners.iter().any(|one| one.ready && self.accept_at.is_none())
        {
            return Some(now.instant);
        }
        let drain = self.drain_until.filter(|_| !self.conns.is_empty());
        [self.timers.next(), self.accept_at, drain].into_iter().flatten().min()
    }

    /// Answers of the resolver arrived: exchanges that wait for a name go on in the next turn.
    pub fn names_changed(&mut self) {
        for (slot, serial) in std::mem::take(&mut self.for_name) {
            self.call(slot, serial, Parked::Name);
        }
    }

    /// Requests were translated elsewhere: their exchanges go on in the next turn.
    pub fn orders_changed(&mut self) {
        let mut waiting = std::mem::take(&mut self.for_order);
        waiting.retain(|&(slot, serial)| {
            let held = self.conns.get(slot).filter(|held| held.serial == serial);
            let Some(Conn::Client(client)) = held.map(|held| &held.conn) else { return false };
            let exchange = client.exchange.as_ref();
            let waits = exchange.is_some_and(|it| it.parked == Some(Parked::Order));
            if waits && exchange.is_some_and(|it| it.has_order()) {
                self.call(slot, serial, Parked::Order);
                return false;
            }
            waits
        });
        self.for_order = waiting;
    }

    /// Tokens came, or cannot come: exchanges that wait for one go on in the next turn.
    pub fn tokens_changed(&mut self) {
        for (slot, serial) in std::mem::take(&mut self.for_token) {
            self.call(slot, serial, Parked::Token);
        }
    }

    /// Runs of commands started, failed to, or ended: exchanges that wait for that go on in the next
    /// turn.
    pub fn launches_changed(&mut self) {
        for (slot, serial) in std::mem::take(&mut self.for_launch) {
            self.call(slot, serial, Parked::Launch);
        }
    }

    /// Stops accepting, closes idle connections, and lets exchanges finish with
    /// `Connection: close`. What still runs after `timeouts.drain` is cut.
    pub fn drain(&mut self, now: Now) {
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(now.instant + self.shared.config.timeouts.drain);
        self.accept_waiting(now);
        for listener in std::mem::take(&mut self.listeners) {
            self.set_owner(listener.socket, Owner::Nobody);
            self.shared.net.close(listener.socket);
        }
        self.accept_at = None;
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            match self.conns.get_mut(slot).map(|held| &mut held.conn) {
                Some(Conn::Upstream(upstream)) if upstream.owner.is_none() => self.close(slot),
                // Closes in its turn, unless a request is there that nobody was told of yet.
                Some(Conn::Client(client)) if client.is_unused() => {
                    client.link.readable = true;
                    self.enqueue(slot);
                }
                _ => {}
            }
        }
    }

    /// Takes every connection that waits: the system resets those that a closed listener leaves.
    fn accept_waiting(&mut self, now: Now) {
        self.accept_at = None;
        self.listeners.iter_mut().for_each(|listener| listener.ready = true);
        while self.accept_at.is_none() && self.listeners.iter().any(|listener| listener.ready) {
            self.accept(now);
        }
    }

    /// True once [`Worker::drain`] was called and nothing is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.conns.is_empty()
    }

    /// True once `GET /shutdown` was answered.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        self.shutdown
    }

    /// What happened since the worker began.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// What is held at the moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts =
            Counts { pooled: self.pool.len(), timers: self.timers.len(), ..Counts::default() };
        for (_, held) in &self.conns {
            match &held.conn {
                Conn::Client(client) => {
                    counts.clients += 1;
                    counts.buffers += client.buffers();
                    let exchange = client.exchange.as_ref();
                    counts.exchanges += usize::from(exchange.is_some());
                    counts.seated += usize::from(exchange.is_some_and(|x| x.seat.is_some()));
                    counts.waiting += usize::from(exchange.is_some_and(|x| x.parked.is_some()));
                }
                Conn::Upstream(upstream) => {
                    counts.upstreams += 1;
                    counts.buffers += upstream.buffers();
                }
                Conn::Taken => {}
            }
        }
        counts
    }

    /// The network, for the driver.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.shared.net
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_until.is_some()
    }

    fn note(&mut self, ready: &Ready) {
        let place = usize::try_from(ready.socket.slot).unwrap_or(usize::MAX);
        let (slot, generation) = match self.owners.get(place) {
            Some(Owner::Listener { index, generation })
                if *generation == ready.socket.generation =>
            {
                if let Some(listener) = self.listeners.get_mut(*index) {
                    listener.ready = true;
                }
                return;
            }
            Some(Owner::Conn { slot, generation }) => (*slot, *generation),
            _ => return,
        };
        if generation != ready.socket.generation {
            return;
        }
        let run = match self.conns.get_mut(slot).map(|held| &mut held.conn) {
            Some(Conn::Client(client)) => {
                client.link.note(ready);
                slot
            }
            Some(Conn::Upstream(upstream)) => {
                upstream.link.note(ready);
                upstream.owner.unwrap_or(slot)
            }
            _ => return,
        };
        self.enqueue(run);
    }

    fn run(&mut self, slot: usize, due: bool, now: Now) {
        match self.conns.get(slot).map(|held| &held.conn) {
            Some(Conn::Client(_)) => self.run_client(slot, due, now),
            Some(Conn::Upstream(upstream)) => match upstream.owner {
                Some(owner) => self.run_client(owner, due, now),
                None => self.run_upstream(slot, now),
            },
            _ => {}
        }
    }

    /// An upstream connection that works for nobody: in the pool, or on its way there.
    fn run_upstream(&mut self, slot: usize, now: Now) {
        let Some(mut held) = self.take_upstream(slot) else { return };
        let due = held.upstream.deadline(&self.shared.config.timeouts);
        let due = due.is_some_and(|at| at <= now.instant);
        match held.upstream.phase {
            Phase::Idle if !due => {
                if held.upstream.is_silent(&mut self.shared) {
                    self.put_upstream(held, now);
                } else {
                    self.close_held(held);
                }
            }
            Phase::Rest if !due => match held.upstream.read_rest(&mut self.shared, now.instant) {
                None => self.put_upstream(held, now),
                Some(true) => self.keep(held, now),
                Some(false) => self.close_held(held),
            },
            _ => self.close_held(held),
        }
    }

    fn accept(&mut self, now: Now) {
        if self.accept_at.is_some_and(|at| at > now.instant) {
            return;
        }
        self.accept_at = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_MAX {
                let Some(listener) = self.listeners.get_mut(index) else { return };
                if !listener.ready {
                    break;
                }
                match self.shared.net.accept(listener.socket) {
                    Ok((socket, peer)) => self.accepted(socket, peer, now),
                    Err(why) => match why.kind() {
                        ErrorKind::WouldBlock => listener.ready = false,
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        _ => {
                            log::warn!("accepting pauses: {why}");
                            self.accept_at = Some(now.instant + ACCEPT_PAUSE);
                            return;
                        }
                    },
                }
            }
        }
    }

    fn accepted(&mut self, socket: SocketId, peer: std::net::SocketAddr, now: Now) {
        self.shared.meter.accepted += 1;
        if self.clients >= self.shared.config.limits.clients_max {
            Client::turn_away(&mut self.shared, socket);
            return;
        }
        let Some(client) = Client::accepted(&mut self.shared, socket, peer, now.instant) else {
            return;
        };
        self.clients += 1;
        let client = Box::new(client);
        let slot = self.insert(Conn::Client(client));
        let generation = socket.generation;
        self.set_owner(socket, Owner::Conn { slot, generation });
        self.enqueue(slot);
    }

    /// The grace is over: what still runs is cut, visibly.
    fn cut_all(&mut self, now: Now) {
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if matches!(self.conns.get(slot).map(|held| &held.conn), Some(Conn::Client(_))) {
                self.cut_client(slot, now);
            }
        }
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.close(slot);
        }
    }

    fn insert(&mut self, conn: Conn) -> usize {
        self.serial = self.serial.wrapping_add(1);
        self.conns.insert(Slot { serial: self.serial, queued: false, conn })
    }

    fn set_owner(&mut self, socket: SocketId, owner: Owner) {
        let Ok(place) = usize::try_from(socket.slot) else { return };
        if self.owners.len() <= place {
            self.owners.resize(place + 1, Owner::Nobody);
        }
        if let Some(entry) = self.owners.get_mut(place) {
            *entry = owner;
        }
    }

    pub(crate) fn enqueue(&mut self, slot: usize) {
        if let Some(held) = self.conns.get_mut(slot)
            && !held.queued
        {
            held.queued = true;
            self.queue.push_back((slot, held.serial));
        }
    }

    pub(crate) fn take_client(&mut self, slot: usize) -> Option<Box<Client>> {
        let held = self.conns.get_mut(slot)?;
        match std::mem::replace(&mut held.conn, Conn::Taken) {
            Conn::Client(client) => Some(client),
            other => {
                held.conn = other;
                None
            }
        }
    }

    pub(crate) fn take_upstream(&mut self, slot: usize) -> Option<Held> {
        let held = self.conns.get_mut(slot)?;
        match std::mem::replace(&mut held.conn, Conn::Taken) {
            Conn::Upstream(upstream) => Some(Held { slot, upstream }),
            other => {
                held.conn = other;
                None
            }
        }
    }

    /// Puts a client back, its timer armed and its place in the waiting lines taken.
    pub(crate) fn put_client(
        &mut self,
        slot: usize,
        mut client: Box<Client>,
        parked: Option<Parked>,
        now: Now,
    ) {
        client.rest(&mut self.shared);
        self.arm(slot, client.deadline(&self.shared.config.timeouts), now);
        let Some(held) = self.conns.get_mut(slot) else { return };
        let entry = (slot, held.serial);
        if let Some(exchange) = &mut client.exchange
            && exchange.parked != parked
        {
            match exchange.parked {
                Some(Parked::Slot) if std::mem::take(&mut exchange.called) => {
                    self.for_slot.push_front(entry);
                }
                Some(Parked::Slot) => self.for_slot.push_back(entry),
                Some(Parked::Order) => self.for_order.push(entry),
                Some(Parked::Name) => self.for_name.push(entry),
                Some(Parked::Token) => self.for_token.push(entry),
                Some(Parked::Launch) => self.for_launch.push(entry),
                None => {}
            }
        }
        held.conn = Conn::Client(client);
    }

    /// Puts an upstream connection back, its timer armed.
    pub(crate) fn put_upstream(&mut self, mut held: Held, now: Now) {
        held.upstream.rest(&mut self.shared);
        if held.upstream.counted && !matches!(held.upstream.phase, Phase::Dial | Phase::Shake) {
            held.upstream.counted = false;
            self.connected_at = now.instant;
            self.connected();
        }
        let socket = held.upstream.link.socket;
        let (slot, generation) = (held.slot, socket.generation);
        self.set_owner(socket, Owner::Conn { slot, generation });
        self.arm(slot, held.upstream.deadline(&self.shared.config.timeouts), now);
        if let Some(place) = self.conns.get_mut(slot) {
            place.conn = Conn::Upstream(held.upstream);
        }
    }

    fn arm(&mut self, slot: usize, deadline: Option<Instant>, now: Now) {
        match deadline {
            // What is due was handled; a second look at the same instant would be for ever.
            Some(at) => self.timers.arm(slot, at.max(now.instant + Duration::from_millis(1))),
            None => self.timers.disarm(slot),
        }
    }

    /// A place for a new upstream connection.
    pub(crate) fn hold(&mut self, mut upstream: Box<Upstream>) -> Held {
        upstream.counted = true;
        self.connecting += 1;
        let slot = self.insert(Conn::Taken);
        Held { slot, upstream }
    }

    /// A place for a run of a command, which needs no connect.
    pub(crate) fn hold_run(&mut self, upstream: Box<Upstream>) -> Held {
        let slot = self.insert(Conn::Taken);
        Held { slot, upstream }
    }

    /// An idle connection that is still silent and leads there, the last used first.
    pub(crate) fn take_idle(&mut self, provider: usize, detour: Option<&Url>) -> Option<Held> {
        while let Some(slot) = self.pool.take(provider) {
            let Some(mut held) = self.take_upstream(slot) else { continue };
            let leads = held.upstream.detour.as_ref() == detour;
            if leads && held.upstream.is_silent(&mut self.shared) {
                return Some(held);
            }
            self.close_held(held);
        }
        None
    }

    /// Whether another connect may begin; those who were called go first.
    pub(crate) fn may_connect(&self, called: bool) -> bool {
        let free = self.connecting < self.shared.config.limits.connecting_max;
        free && (called || self.for_slot.is_empty())
    }

    /// For those who wait for a slot: when somebody last got through, if that was not too long ago.
    pub(crate) fn got_through(&self, now: Now) -> Option<Instant> {
        let until = self.connected_at + self.shared.config.timeouts.connect;
        (until > now.instant).then_some(self.connected_at)
    }

    /// A connect is over.
    fn connected(&mut self) {
        self.connecting = self.connecting.saturating_sub(1);
    }

    /// Calls as many of those who wait for a connect slot as there are free ones. Looked at in
    /// every turn, because one who was called may need no slot any more.
    fn call_waiting(&mut self) {
        let mut free = self.shared.config.limits.connecting_max.saturating_sub(self.connecting);
        while free > 0
            && let Some((slot, serial)) = self.for_slot.pop_front()
        {
            free -= usize::from(self.call(slot, serial, Parked::Slot));
        }
    }

    /// Queues a client that waits for this; false when it does not any more.
    fn call(&mut self, slot: usize, serial: u32, parked: Parked) -> bool {
        let Some(held) = self.conns.get_mut(slot) else { return false };
        let Conn::Client(client) = &mut held.conn else { return false };
        let Some(exchange) = client.exchange.as_mut() else { return false };
        if held.serial != serial || exchange.parked != Some(parked) {
            return false;
        }
        exchange.parked = None;
        exchange.called = parked == Parked::Slot;
        self.enqueue(slot);
        true
    }

    /// The exchange is over: keeps the connection if it is worth it.
    pub(crate) fn release(&mut self, mut held: Held, now: Now) {
        let limits = self.shared.config.limits;
        if held.upstream.release(&limits, now.instant) {
            self.keep(held, now);
        } else if held.upstream.is_worth_waiting() && !self.is_draining() {
            let slot = held.slot;
            self.put_upstream(held, now);
            self.enqueue(slot);
        } else {
            self.close_held(held);
        }
    }

    /// Puts a connection that is ready for another request into the pool.
    fn keep(&mut self, held: Held, now: Now) {
        if self.is_draining() {
            self.close_held(held);
            return;
        }
        let (slot, provider) = (held.slot, held.upstream.provider);
        self.put_upstream(held, now);
        let oldest = self.pool.put(provider, slot, self.shared.config.limits.pool_idle_max);
        if let Some(oldest) = oldest {
            self.close(oldest);
        }
    }

    pub(crate) fn close_held(&mut self, held: Held) {
        let Held { slot, mut upstream } = held;
        if upstream.phase == Phase::Idle {
            self.pool.remove(upstream.provider, slot);
        }
        upstream.close(&mut self.shared);
        self.forget(slot, upstream.link.socket);
        if upstream.counted {
            self.connected();
        }
    }

    /// Closes a client's connection; its exchange was taken care of.
    pub(crate) fn close_client(&mut self, slot: usize, mut client: Box<Client>) {
        client.close(&mut self.shared);
        self.forget(slot, client.link.socket);
        self.clients = self.clients.saturating_sub(1);
    }

    fn close(&mut self, slot: usize) {
        if let Some(held) = self.take_upstream(slot) {
            self.close_held(held);
        } else if let Some(client) = self.take_client(slot) {
            self.close_client(slot, client);
        }
    }

    fn forget(&mut self, slot: usize, socket: SocketId) {
        self.timers.disarm(slot);
        self.conns.try_remove(slot);
        self.set_owner(socket, Owner::Nobody);
    }
}
