//! Bytes on a connection, in the clear or in TLS (rustls, RFC 8446). Only this file and those below it
//! name rustls, but for `digest`.

mod settings;
mod words;

pub use settings::{Identity, TlsTable, Trust};

use crate::proxy::net::{Net, Ready, SocketId};
use crate::wire::buffer::Buffer;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read as _, Write};
use std::sync::Arc;

/// Plain bytes that rustls holds for sending, at most.
const TLS_PENDING_BYTES_MAX: usize = 64 << 10;
/// Plain bytes of one TLS record (RFC 8446, section 5.1: at most 2^14).
const RECORD_BYTES_MAX: usize = 16 << 10;
/// Reads from a peer that hung up in the handshake.
const LAST_READS_MAX: u32 = 4;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes; none when only the TLS layer had something to read.
    Bytes(usize),
    /// Nothing now.
    Blocked,
    /// The peer's orderly end.
    End,
}

/// One connection: its socket, what is known of its readiness, and TLS if it has any.
///
/// Readiness is edge-triggered: a flag stays up until the socket says that it would block, or reads
/// less than was asked for.
#[derive(Debug)]
pub struct Link {
    /// The socket.
    pub socket: SocketId,
    /// A read may bring something.
    pub readable: bool,
    /// A write may take something.
    pub writable: bool,
    /// The peer has ended its sending side, or the connection is broken.
    pub read_closed: bool,
    /// TLS said that nothing follows, while bytes came with it.
    ended: bool,
    /// A client is yet to send its first byte, which tells TLS from plain HTTP.
    unheard: bool,
    misplaced: bool,
    /// Plain bytes in the record on its way, not counted as written yet.
    in_flight: usize,
    tls: Option<Box<Connection>>,
}

impl Link {
    /// A connection that is up: both directions are worth a try.
    #[must_use]
    pub fn accepted(socket: SocketId) -> Self {
        Self { readable: true, writable: true, ..Self::connecting(socket) }
    }

    /// A connection that is being made.
    #[must_use]
    pub const fn connecting(socket: SocketId) -> Self {
        Self {
            socket,
            readable: false,
            writable: false,
            read_closed: false,
            ended: false,
            unheard: false,
            misplaced: false,
            in_flight: 0,
            tls: None,
        }
    }

    /// Adds what the driver said.
    pub fn note(&mut self, ready: &Ready) {
        self.readable |= ready.readable || ready.read_closed;
        self.writable |= ready.writable;
        self.read_closed |= ready.read_closed;
    }

    /// Begins TLS: bytes go on with [`Link::handshake`].
    ///
    /// # Errors
    /// The host is no name that a certificate could have.
    pub fn begin_tls(&mut self, config: &Arc<ClientConfig>, host: &str) -> Result<(), String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("\"{host}\" is no host name for TLS"))?;
        let mut tls = ClientConnection::new(Arc::clone(config), name)
            .map_err(|why| format!("TLS cannot begin: {why}"))?;
        tls.set_buffer_limit(Some(TLS_PENDING_BYTES_MAX));
        self.tls = Some(Box::new(tls.into()));
        Ok(())
    }

    /// Awaits TLS of a client: reading goes on with the handshake by itself.
    ///
    /// # Errors
    /// The configuration is unusable.
    pub fn accept_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), String> {
        let tls =
            ServerConnection::new(config).map_err(|why| format!("TLS cannot begin: {why}"))?;
        let mut tls = Connection::from(tls);
        tls.set_buffer_limit(Some(TLS_PENDING_BYTES_MAX));
        self.tls = Some(Box::new(tls));
        self.unheard = true;
        Ok(())
    }

    /// True where there is no TLS.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// True until the handshake is done; never without TLS.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// True when a client spoke plain HTTP where TLS was awaited. The connection is in the clear
    /// since, so that it can be told.
    #[must_use]
    pub const fn is_misplaced(&self) -> bool {
        self.misplaced
    }

    /// Goes on with the handshake; true once it is done (at once without TLS).
    ///
    /// # Errors
    /// The peer refused, broke off, or is not who it should be.
    pub fn handshake<N: Net>(
        &mut self,
        net: &mut N,
        scratch: &mut [u8],
        into: &mut Buffer,
    ) -> io::Result<bool> {
        loop {
            let got = match self.flush(net) {
                Ok(()) if !self.is_handshaking() => return Ok(true),
                Ok(()) => self.read(net, scratch, into),
                Err(why) => Err(why),
            };
            match got {
                Ok(Got::Bytes(_)) => {}
                Ok(Got::Blocked) => return Ok(false),
                Ok(Got::End) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(why) => return Err(self.last_words(why, net, scratch, into)),
            }
        }
    }

    /// The error of a handshake: a peer that hung up on us may have said why before that.
    fn last_words<N: Net>(
        &mut self,
        why: io::Error,
        net: &mut N,
        scratch: &mut [u8],
        into: &mut Buffer,
    ) -> io::Error {
        if !matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
            return why;
        }
        self.readable = true;
        for _ in 0..LAST_READS_MAX {
            match self.read(net, scratch, into) {
                Ok(Got::Blocked | Got::End) => break,
                Err(said) if said.kind() == ErrorKind::Other => return said,
                // Writing fails again, while there is more to read.
                Ok(Got::Bytes(_)) | Err(_) => {}
            }
        }
        why
    }

    /// Reads once from the socket, at most as much as `scratch` takes, and adds the plain bytes to
    /// `into`.
    ///
    /// # Errors
    /// As [`Link::receive`].
    pub fn read<N: Net>(
        &mut self,
        net: &mut N,
        scratch: &mut [u8],
        into: &mut Buffer,
    ) -> io::Result<Got> {
        let (got, plain) = self.receive(net, scratch, into)?;
        if !plain.is_empty() {
            into.extend(plain);
        }
        Ok(got)
    }

    /// Reads once from the socket, at most as much as `scratch` takes. What came in the clear is
    /// returned where it lies; what came in TLS is added to `into`.
    ///
    /// # Errors
    /// The connection is broken; `UnexpectedEof` when a TLS peer ended without saying so
    /// (RFC 8446, section 6.1), so that what came may be cut short.
    pub fn receive<'s, N: Net>(
        &mut self,
        net: &mut N,
        scratch: &'s mut [u8],
        into: &mut Buffer,
    ) -> io::Result<(Got, &'s [u8])> {
        if self.ended {
            return Ok((Got::End, &[]));
        }
        if !self.readable {
            return Ok((Got::Blocked, &[]));
        }
        let count = match net.read(self.socket, scratch) {
            Ok(count) => count.min(scratch.len()),
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok((Got::Blocked, &[]));
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => return Ok((Got::Bytes(0), &[])),
            Err(why) => return Err(why),
        };
        // A short read took all there was, and whatever comes later makes a new edge. Only an end
        // may ride on the old one.
        self.readable = count == scratch.len() || count == 0 || self.read_closed;
        let got = scratch.get(..count).unwrap_or_default();
        if self.unheard
            && let Some(first) = got.first()
        {
            self.unheard = false;
            // A method's first letter; TLS begins with the content type of a handshake, 22.
            if first.is_ascii_uppercase() {
                self.misplaced = true;
                self.tls = None;
            }
        }
        if let Some(tls) = &mut self.tls {
            let result = feed(tls, got, into);
            // What TLS has to say, an alert of a failure too.
            let flushed = self.flush(net);
            let (result, ended) = result?;
            self.ended = ended;
            // No edge will follow for an end that has come already.
            self.readable |= ended;
            flushed?;
            return Ok((result, &[]));
        }
        if count == 0 {
            return Ok((Got::End, &[]));
        }
        Ok((Got::Bytes(count), got))
    }

    /// Writes as much of `from` as the socket takes. With TLS, the bytes of a record that is not on
    /// its way whole do not count yet: the next call must begin with them, as it does when only what
    /// was taken is thrown away.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write<N: Net>(&mut self, net: &mut N, from: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < from.len() {
            let rest = from.get(taken..).unwrap_or_default();
            let count = match &mut self.tls {
                Some(_) => self.write_record(net, rest)?,
                None => self.write_socket(net, rest)?,
            };
            if count == 0 {
                break;
            }
            taken += count;
        }
        Ok(taken)
    }

    /// Sends one record, or the rest of the one on its way. One at a time, so that a slow peer's
    /// bytes wait in the buffer that back-pressure looks at and not in here.
    fn write_record<N: Net>(&mut self, net: &mut N, from: &[u8]) -> io::Result<usize> {
        self.flush(net)?;
        if self.in_flight == 0
            && self.is_flushed()
            && let Some(tls) = &mut self.tls
        {
            let record = from.get(..RECORD_BYTES_MAX).unwrap_or(from);
            self.in_flight = tls.writer().write(record)?;
            self.flush(net)?;
        }
        if !self.is_flushed() {
            return Ok(0);
        }
        Ok(std::mem::take(&mut self.in_flight).min(from.len()))
    }

    /// Sends what TLS holds, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush<N: Net>(&mut self, net: &mut N) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut pipe = Pipe { net, socket: self.socket, writable: &mut self.writable };
        while *pipe.writable && tls.wants_write() {
            match tls.write_tls(&mut pipe) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// True when TLS holds nothing that still has to be sent.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        !self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Ends the sending side: with TLS a close_notify first (RFC 8446, section 6.1). False while
    /// that still waits for the socket; to be called again then.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn finish<N: Net>(&mut self, net: &mut N) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.flush(net)?;
        if !self.is_flushed() {
            return Ok(false);
        }
        net.shutdown(self.socket);
        Ok(true)
    }

    /// Says goodbye and closes the socket. Bytes that still wait are lost: flush first.
    pub fn close<N: Net>(&mut self, net: &mut N) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // A peer that is gone need not hear it.
            let _ = self.flush(net);
        }
        net.close(self.socket);
    }

    fn write_socket<N: Net>(&mut self, net: &mut N, from: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        let mut pipe = Pipe { net, socket: self.socket, writable: &mut self.writable };
        match pipe.write(from) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(count) => Ok(count),
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(why) => Err(why),
        }
    }
}

/// Gives TLS what was read (nothing: the socket's end) and takes the plain bytes. Also says
/// whether the peer has said that nothing follows.
fn feed(tls: &mut Connection, mut got: &[u8], into: &mut Buffer) -> io::Result<(Got, bool)> {
    let at_end = got.is_empty();
    let mut total = 0;
    loop {
        tls.read_tls(&mut got)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let mut waiting = state.plaintext_bytes_to_read();
        while waiting > 0 {
            let spare = into.spare(waiting);
            let count = tls.reader().read(spare)?;
            into.commit(count);
            total += count;
            waiting = if count == 0 { 0 } else { waiting.saturating_sub(count) };
        }
        if state.peer_has_closed() {
            let got = if total > 0 { Got::Bytes(total) } else { Got::End };
            return Ok((got, true));
        }
        if got.is_empty() {
            break;
        }
    }
    if at_end && total == 0 {
        Err(ErrorKind::UnexpectedEof.into())
    } else {
        Ok((Got::Bytes(total), false))
    }
}

/// A socket as `std::io` knows it.
struct Pipe<'p, N> {
    net: &'p mut N,
    socket: SocketId,
    writable: &'p mut bool,
}

impl<N: Net> Write for Pipe<'_, N> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if !*self.writable {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = loop {
            match self.net.write(self.socket, from) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        // A short write took all the room there was: more room makes a new edge.
        *self.writable = match &result {
            Ok(count) => *count == from.len(),
            Err(why) => why.kind() != ErrorKind::WouldBlock,
        };
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::settings::{client_config, server_config};
    use super::*;
    use crate::proxy::net::Lookup;
    use std::net::SocketAddr;

    const SOCKET: SocketId = SocketId { slot: 1, generation: 0 };

    /// One socket: what its peer sent, and each write of ours.
    #[derive(Default)]
    struct Wire {
        inbox: Vec<u8>,
        writes: Vec<Vec<u8>>,
        reads: usize,
    }

    impl Net for Wire {
        fn accept(&mut self, _: SocketId) -> io::Result<(SocketId, SocketAddr)> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn connect(&mut self, _: SocketAddr) -> io::Result<SocketId> {
            Ok(SOCKET)
        }

        fn connected(&mut self, _: SocketId) -> io::Result<()> {
            Ok(())
        }

        fn read(&mut self, _: SocketId, into: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            let count = into.len().min(self.inbox.len());
            for (to, from) in into.iter_mut().zip(self.inbox.drain(..count)) {
                *to = from;
            }
            if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn write(&mut self, _: SocketId, from: &[u8]) -> io::Result<usize> {
            self.writes.push(from.to_vec());
            Ok(from.len())
        }

        fn shutdown(&mut self, _: SocketId) {}

        fn close(&mut self, _: SocketId) {}

        fn resolve(&mut self, _: &str, _: u16) -> Lookup {
            Lookup::Pending
        }
    }

    /// A link that serves TLS, and its peer, after the handshake.
    fn pair() -> (Link, Wire, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = made.cert.pem().into_bytes();
        let key = made.signing_key.serialize_pem().into_bytes();
        let trust = Trust { roots: pem.clone(), ..Trust::default() };
        let (server, client) = (server_config(&pem, &key, None), client_config(&trust));
        let (server, client) = (Arc::new(server.unwrap()), Arc::new(client.unwrap()));
        let mut link = Link::accepted(SOCKET);
        link.accept_tls(server).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut peer = ClientConnection::new(client, name).unwrap();
        let (mut wire, mut scratch, mut plain) = (Wire::default(), [0; 16 << 10], Buffer::new());
        while peer.is_handshaking() || link.is_handshaking() {
            while peer.wants_write() {
                peer.write_tls(&mut wire.inbox).unwrap();
            }
            link.readable = true;
            link.handshake(&mut wire, &mut scratch, &mut plain).unwrap();
            let sent = std::mem::take(&mut wire.writes).concat();
            let mut sent = sent.as_slice();
            while !sent.is_empty() {
                peer.read_tls(&mut sent).unwrap();
                peer.process_new_packets().unwrap();
            }
        }
        wire.reads = 0;
        (link, wire, peer)
    }

    #[test]
    fn what_a_turn_has_to_say_is_one_record_in_one_write() {
        let (mut link, mut wire, _peer) = pair();
        for (bytes, writes) in [(300, 1), (RECORD_BYTES_MAX, 1), (RECORD_BYTES_MAX + 1, 2)] {
            assert_eq!(link.write(&mut wire, &vec![b'x'; bytes]).unwrap(), bytes);
            let sent = std::mem::take(&mut wire.writes);
            assert_eq!(sent.len(), writes, "{bytes}");
            for write in sent {
                // The content type of application data, and the record's length.
                let length = usize::from(u16::from_be_bytes([write[3], write[4]]));
                assert_eq!((write[0], write.len()), (23, 5 + length), "{bytes}");
            }
        }
    }

    #[test]
    fn records_that_come_together_are_read_together() {
        let (mut link, mut wire, mut peer) = pair();
        for number in 0..20 {
            peer.writer().write_all(format!("delta {number}\n").as_bytes()).unwrap();
            while peer.wants_write() {
                peer.write_tls(&mut wire.inbox).unwrap();
            }
        }
        let (mut scratch, mut plain) = ([0; 16 << 10], Buffer::new());
        link.readable = true;
        let got = link.read(&mut wire, &mut scratch, &mut plain).unwrap();
        assert_eq!((got, wire.reads), (Got::Bytes(plain.len()), 1));
        let text = String::from_utf8(plain.filled().to_vec()).unwrap();
        assert_eq!((text.lines().count(), text.lines().last()), (20, Some("delta 19")));
        // That was all, and no read is needed to know it.
        assert_eq!(link.read(&mut wire, &mut scratch, &mut plain).unwrap(), Got::Blocked);
        assert_eq!(wire.reads, 1);
    }
}
