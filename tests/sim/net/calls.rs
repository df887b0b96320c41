//! The worker's side of the simulated network.

use super::{Broken, Conn, Connect, Edge, Segment, SimNet, What};
use patchbay::proxy::desk::Job;
use patchbay::proxy::launch::{Launch, Wanted};
use patchbay::proxy::net::{Lookup, Net, SocketId, Token, TokenState};
use patchbay::proxy::token::Caller;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where every client seems to come from.
const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 4000);

impl Net for SimNet {
    fn accept(&mut self, listener: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        if self.what(listener, "accept") != What::Listener {
            return Err(ErrorKind::InvalidInput.into());
        }
        if self.backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.starving() {
            return Err(io::Error::from_raw_os_error(24));
        }
        let Some(id) = self.backlog.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        self.moved += 1;
        if self.random.chance(self.rates.aborted) {
            self.conns[id.0].closed_at_us = Some(self.now_us);
            self.conns[id.0].reset_peer(true);
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let socket = self.open(What::Conn(id));
        let now = self.now_us;
        let conn = &mut self.conns[id.0];
        conn.socket = Some(socket);
        let ended = conn.fin_in || conn.rst_in;
        conn.edge = Edge::default();
        conn.edge.merge(!conn.inbox.is_empty() || ended, true, ended, now);
        self.log(id, format_args!("accepted as {socket:?}"));
        Ok((socket, CLIENT.into()))
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<SocketId> {
        if self.starving() {
            return Err(io::Error::from_raw_os_error(24));
        }
        self.moved += 1;
        let at_us = self.now_us + 50 + self.delay();
        let pending = match self.random.below(1000) {
            n if n < self.rates.refused => Connect::Pending { at_us: Some(at_us), ok: false },
            n if n < self.rates.refused + self.rates.silent => {
                Connect::Pending { at_us: None, ok: false }
            }
            _ => Connect::Pending { at_us: Some(at_us), ok: true },
        };
        let id = self.add(Some(address), pending);
        let socket = self.open(What::Conn(id));
        self.conns[id.0].socket = Some(socket);
        self.log(id, format_args!("connect to {address} as {socket:?}: {pending:?}"));
        Ok(socket)
    }

    fn connected(&mut self, socket: SocketId) -> io::Result<()> {
        let What::Conn(id) = self.what(socket, "connected") else {
            return Err(ErrorKind::NotConnected.into());
        };
        match self.conns[id.0].connect {
            Connect::Pending { .. } => Err(ErrorKind::WouldBlock.into()),
            Connect::Done => Ok(()),
            Connect::Failed => Err(ErrorKind::ConnectionRefused.into()),
        }
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        let id = self.stream(socket, "read")?;
        let again_us = self.now_us + self.delay();
        let conn = &mut self.conns[id.0];
        if conn.inbox.is_empty() {
            return match conn {
                Conn { rst_in: true, .. } => Err(ErrorKind::ConnectionReset.into()),
                Conn { fin_in: true, .. } => Ok(0),
                _ => Err(ErrorKind::WouldBlock.into()),
            };
        }
        if self.random.chance(self.rates.block) {
            conn.edge.merge(true, false, false, again_us);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = into.len().min(conn.inbox.len());
        if count > 1 && self.random.chance(self.rates.short) {
            count = 1 + self.random.below(count as u64 - 1) as usize;
            conn.edge.merge(true, false, false, again_us);
        }
        conn.read_total += count;
        for (to, from) in into.iter_mut().zip(conn.inbox.drain(..count)) {
            *to = from;
        }
        self.moved += 1;
        self.log(id, format_args!("read {count}"));
        Ok(count)
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        let id = self.stream(socket, "write")?;
        let again_us = self.now_us + self.delay();
        let reset_us = again_us + 100;
        if self.conns[id.0].shut {
            self.violations.push(format!("write after shutdown of {socket:?}"));
            return Err(ErrorKind::BrokenPipe.into());
        }
        let conn = &mut self.conns[id.0];
        if conn.rst_in {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if conn.peer_closed {
            conn.was_reset = true;
            conn.flying.push_back((reset_us, Segment::Rst));
            self.moved += 1;
            return Ok(from.len());
        }
        let room = conn.out_cap.saturating_sub(conn.outbox.len());
        if room == 0 {
            conn.write_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.random.chance(self.rates.block) {
            conn.edge.merge(false, true, false, again_us);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = room.min(from.len());
        if count > 1 && self.random.chance(self.rates.short) {
            count = 1 + self.random.below(count as u64 - 1) as usize;
            conn.edge.merge(false, true, false, again_us);
        } else if count < from.len() {
            conn.write_blocked = true;
        }
        let lost = self.broken == Broken::Bytes && conn.to.is_none() && self.random.chance(20);
        conn.outbox.extend(&from[..count - usize::from(lost)]);
        self.moved += 1;
        self.log(id, format_args!("write {count} of {}", from.len()));
        Ok(count)
    }

    fn shutdown(&mut self, socket: SocketId) {
        if let Ok(id) = self.stream(socket, "shutdown") {
            self.conns[id.0].shut = true;
            self.conns[id.0].fin_out = true;
            self.moved += 1;
            self.log(id, format_args!("shutdown"));
        }
    }

    fn close(&mut self, socket: SocketId) {
        let what = self.what(socket, "close");
        if let Some(slot) = self.slots.get_mut(socket.slot as usize)
            && what != What::Free
        {
            slot.what = What::Free;
            self.moved += 1;
        }
        match what {
            What::Free => {}
            What::Listener => {
                self.listener = None;
                for id in std::mem::take(&mut self.backlog) {
                    self.conns[id.0].closed_at_us = Some(self.now_us);
                    self.conns[id.0].reset_peer(true);
                }
            }
            What::Conn(id) if self.broken == Broken::Closes && self.conns[id.0].to.is_some() => {}
            What::Conn(id) => {
                let lose = self.random.chance(500);
                let now = self.now_us;
                let conn = &mut self.conns[id.0];
                conn.socket = None;
                conn.closed_at_us = Some(now);
                if !conn.inbox.is_empty() || conn.flying_bytes() > 0 {
                    // What nobody will read makes the kernel send a reset, which may overtake data.
                    conn.reset_peer(lose);
                }
                conn.fin_out = true;
                conn.flying.clear();
                self.log(id, format_args!("close"));
            }
        }
    }

    fn launch(&mut self, launch: &Arc<Launch>) {
        self.wanted.push(Wanted::new(launch));
        self.moved += 1;
    }

    fn adopt(&mut self, launch: &Launch) -> io::Result<SocketId> {
        let Some(id) = self.started.remove(&launch.id()) else {
            self.violations.push("a run that was not started is taken over".to_owned());
            return Err(ErrorKind::NotFound.into());
        };
        self.moved += 1;
        let socket = self.open(What::Conn(id));
        let now = self.now_us;
        let conn = &mut self.conns[id.0];
        conn.socket = Some(socket);
        let ended = conn.fin_in || conn.rst_in;
        conn.edge = Edge::default();
        conn.edge.merge(!conn.inbox.is_empty() || ended, true, ended, now);
        self.log(id, format_args!("taken over as {socket:?}"));
        Ok(socket)
    }

    fn translate(&mut self, job: Job) -> Option<Job> {
        if self.random.chance(100) {
            return Some(job);
        }
        let due_us = self.now_us + self.delay() + self.random.below(20_000);
        self.jobs.push((due_us, job));
        self.moved += 1;
        None
    }

    fn resolve(&mut self, host: &str, port: u16) -> Lookup {
        let Some(name) = self.names.get(host) else {
            self.violations.push(format!("resolve of {host}:{port}, which no provider has"));
            return Lookup::Failed("no such name".to_owned());
        };
        name.states.get(name.told).map_or(Lookup::Pending, |(_, lookup)| lookup.clone())
    }

    fn token(&mut self, provider: usize, caller: Option<&Arc<Caller>>) -> TokenState {
        let caller = caller.filter(|_| self.broken != Broken::Accounts);
        let now_us = self.now_us;
        let Some(tokens) = &mut self.tokens else {
            self.violations.push("a token is wanted where there are none".to_owned());
            return TokenState::Pending;
        };
        let state = tokens.token(now_us, provider, caller);
        let before = tokens.next_us();
        tokens.begin(now_us, &mut self.violations);
        self.moved += u64::from(tokens.next_us() != before);
        state
    }

    fn token_refused(&mut self, provider: usize, caller: Option<&Arc<Caller>>, token: &Arc<Token>) {
        let now_us = self.now_us;
        if let Some(tokens) = &mut self.tokens {
            tokens.refused(now_us, provider, caller, token);
            tokens.begin(now_us, &mut self.violations);
        }
    }
}
