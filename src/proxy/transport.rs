//! Bytes on a connection, in the clear or in TLS (rustls, RFC 8446). The only file that names rustls.

use crate::proxy::net::{Net, Ready, SocketId};
use crate::wire::buffer::Buffer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, ErrorKind, Read as _, Write};
use std::sync::Arc;

/// Plain bytes that rustls holds for sending, at most.
const TLS_PENDING_BYTES_MAX: usize = 64 << 10;

/// The TLS settings of every provider: built once, shared by all workers.
#[derive(Debug)]
pub struct TlsTable {
    /// By provider index; `None` for a provider that was not named.
    configs: Vec<Option<Arc<ClientConfig>>>,
}

impl TlsTable {
    /// Builds a client configuration for each `(provider index, extra CA certificates in PEM)`:
    /// the built-in web roots, and the extra ones if the bytes are not empty.
    ///
    /// # Errors
    /// The PEM bytes hold no certificate, or one that cannot be read, in words for people.
    pub fn new(providers: &[(usize, Vec<u8>)]) -> Result<Self, String> {
        let mut configs = Vec::new();
        for (index, pem) in providers {
            if configs.len() <= *index {
                configs.resize(index + 1, None);
            }
            if let Some(slot) = configs.get_mut(*index) {
                *slot = Some(Arc::new(client_config(pem)?));
            }
        }
        Ok(Self { configs })
    }

    /// The configuration of a provider.
    #[must_use]
    pub fn config(&self, provider: usize) -> Option<&Arc<ClientConfig>> {
        self.configs.get(provider)?.as_ref()
    }

    /// TLS with the provider's settings over a stream that blocks, for what is not of an exchange.
    ///
    /// # Errors
    /// Nothing was set up for the provider, or the host is no name that a certificate could have.
    pub fn blocking<S: io::Read + Write>(
        &self,
        provider: usize,
        host: &str,
        stream: S,
    ) -> Result<impl io::Read + Write + use<S>, String> {
        let config = self.config(provider).ok_or("no TLS was set up for it")?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("\"{host}\" is no host name for TLS"))?;
        let tls = ClientConnection::new(Arc::clone(config), name)
            .map_err(|why| format!("TLS cannot begin: {why}"))?;
        Ok(rustls::StreamOwned::new(tls, stream))
    }
}

fn client_config(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if !pem.is_empty() {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|why| format!("a CA certificate cannot be read: {why}"))?;
            roots.add(certificate).map_err(|why| format!("a CA certificate is refused: {why}"))?;
            count += 1;
        }
        if count == 0 {
            return Err("the CA file holds no PEM certificate".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS cannot be set up: {why}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

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
    tls: Option<Box<ClientConnection>>,
}

impl Link {
    /// A connection that is up: both directions are worth a try.
    #[must_use]
    pub const fn accepted(socket: SocketId) -> Self {
        Self { socket, readable: true, writable: true, read_closed: false, ended: false, tls: None }
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
        self.tls = Some(Box::new(tls));
        Ok(())
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
            self.flush(net)?;
            if !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                return Ok(true);
            }
            match self.read(net, scratch, into)? {
                Got::Bytes(_) => {}
                Got::Blocked => return Ok(false),
                Got::End => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Reads once from the socket, at most as much as `scratch` takes, and adds the plain bytes to
    /// `into`.
    ///
    /// # Errors
    /// The connection is broken; `UnexpectedEof` when a TLS peer ended without saying so
    /// (RFC 8446, section 6.1), so that what came may be cut short.
    pub fn read<N: Net>(
        &mut self,
        net: &mut N,
        scratch: &mut [u8],
        into: &mut Buffer,
    ) -> io::Result<Got> {
        if self.ended {
            return Ok(Got::End);
        }
        if !self.readable {
            return Ok(Got::Blocked);
        }
        let count = match net.read(self.socket, scratch) {
            Ok(count) => count.min(scratch.len()),
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(Got::Blocked);
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => return Ok(Got::Bytes(0)),
            Err(why) => return Err(why),
        };
        // A short read took all there was, and whatever comes later makes a new edge. Only an end
        // may ride on the old one.
        self.readable = count == scratch.len() || count == 0 || self.read_closed;
        let got = scratch.get(..count).unwrap_or_default();
        if let Some(tls) = &mut self.tls {
            let result = feed(tls, got, into);
            // What TLS has to say, an alert of a failure too.
            let flushed = self.flush(net);
            let (result, ended) = result?;
            self.ended = ended;
            flushed?;
            return Ok(result);
        }
        if count == 0 {
            return Ok(Got::End);
        }
        into.extend(got);
        Ok(Got::Bytes(count))
    }

    /// Writes as much of `from` as the socket takes; with TLS, as much as may wait. See
    /// [`Link::is_flushed`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write<N: Net>(&mut self, net: &mut N, from: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < from.len() {
            let rest = from.get(taken..).unwrap_or_default();
            let count = match &mut self.tls {
                Some(tls) => {
                    let count = tls.writer().write(rest)?;
                    self.flush(net)?;
                    count
                }
                None => self.write_socket(net, rest)?,
            };
            if count == 0 {
                break;
            }
            taken += count;
        }
        Ok(taken)
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
fn feed(tls: &mut ClientConnection, mut got: &[u8], into: &mut Buffer) -> io::Result<(Got, bool)> {
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
        if matches!(&result, Err(why) if why.kind() == ErrorKind::WouldBlock) {
            *self.writable = false;
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
