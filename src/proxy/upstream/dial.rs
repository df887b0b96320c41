//! The way to an upstream: one address after the other, then TLS.

use super::words::{unreachable, unreachable_for};
use super::{Phase, Upstream};
use crate::config::Url;
use crate::fault::Failure;
use crate::proxy::net::{Net, SocketId};
use crate::proxy::shared::Shared;
use crate::proxy::transport::Link;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

impl Upstream {
    /// Begins to connect to the first address that can be tried.
    pub(crate) fn dial<N: Net>(
        shared: &mut Shared<N>,
        provider: usize,
        detour: Option<Url>,
        addresses: Arc<[SocketAddr]>,
        now: Instant,
    ) -> Result<Self, Failure> {
        let mut tried = 0;
        let socket = connect(shared, &addresses, &mut tried);
        let socket = socket.map_err(|why| unreachable(&shared.config, provider, &why))?;
        let dial_until = now + shared.config.timeouts.connect;
        let fresh = Self::fresh(Link::connecting(socket), provider, Phase::Dial, now);
        Ok(Self { detour, addresses, tried, dial_until, ..fresh })
    }

    /// The deadline passed. True when there is another address, which is tried now.
    pub(crate) fn expire<N: Net>(&mut self, shared: &mut Shared<N>, now: Instant) -> bool {
        self.phase == Phase::Dial && self.dial_next(shared, now).is_ok()
    }

    pub(super) fn dialled<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        now: Instant,
    ) -> Result<bool, Failure> {
        while self.link.writable {
            match shared.net.connected(self.link.socket) {
                Ok(()) => {
                    self.link.readable = true;
                    return Ok(true);
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => self.link.writable = false,
                Err(why) => {
                    let failed = unreachable(&shared.config, self.provider, &why);
                    self.dial_next(shared, now).map_err(|()| failed)?;
                }
            }
        }
        Ok(false)
    }

    fn dial_next<N: Net>(&mut self, shared: &mut Shared<N>, now: Instant) -> Result<(), ()> {
        if self.tried >= self.addresses.len() || now >= self.dial_until {
            return Err(());
        }
        let socket = connect(shared, &self.addresses, &mut self.tried).map_err(|_| ())?;
        shared.net.close(self.link.socket);
        self.link = Link::connecting(socket);
        self.since = now;
        Ok(())
    }

    /// Where the connection leads.
    fn url<'s, N: Net>(&'s self, shared: &'s Shared<N>) -> Option<&'s Url> {
        let url = shared.config.providers.get(self.provider).map(|provider| &provider.url);
        self.detour.as_ref().or(url)
    }

    /// Why TLS failed, as far as more can be said than the error says itself.
    pub(super) fn explain<N: Net>(&self, shared: &Shared<N>, why: &io::Error) -> Option<String> {
        if self.stranger {
            // What mends a provider's TLS is not for other hosts.
            return None;
        }
        shared.tls.explain(self.provider, &self.url(shared)?.host, why)
    }

    pub(super) fn begin_tls<N: Net>(&mut self, shared: &Shared<N>) -> Result<(), Failure> {
        let url = self.url(shared).filter(|url| url.tls).cloned();
        let Some(url) = url else { return Ok(()) };
        let config = match self.stranger {
            true => shared.tls.public(),
            false => shared.tls.config(self.provider),
        };
        let begun = match config {
            Some(config) => self.link.begin_tls(config, &url.host),
            None => Err("no TLS was set up for it".to_owned()),
        };
        begun.map_err(|why| unreachable_for(&shared.config, self.provider, &why))
    }
}

fn connect<N: Net>(
    shared: &mut Shared<N>,
    addresses: &[SocketAddr],
    tried: &mut usize,
) -> io::Result<SocketId> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    while let Some(address) = addresses.get(*tried) {
        *tried += 1;
        shared.meter.connects += 1;
        match shared.net.connect(*address) {
            Ok(socket) => return Ok(socket),
            Err(why) => last = why,
        }
    }
    Err(last)
}
