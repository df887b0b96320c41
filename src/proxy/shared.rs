//! What both halves of an exchange use: the network, the configuration, buffers, the time.

use crate::config::Config;
use crate::proxy::limit::LimitTable;
use crate::proxy::meter::Meter;
use crate::proxy::net::Net;
use crate::proxy::transport::TlsTable;
use crate::wire::buffer;
use std::sync::Arc;
use std::time::Instant;

/// Most bytes of one read.
const READ_BYTES_MAX: usize = 16 << 10;
/// Buffers kept for use again, their usual size, and the size above which they are not kept.
const BUFFERS_KEPT: usize = 256;
const BUFFER_BYTES: usize = 4 << 10;
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// Memory of large request bodies kept for use again: fresh memory costs more than what is done in
/// it. Enough for a body as it came and as it goes on, of the size that is translated in a turn.
const BODIES_KEPT: usize = 4;
const BODY_BYTES_MAX: usize = (1 << 20) + (128 << 10);
/// Smaller bodies get memory of their own size.
const BODY_BYTES_MIN: usize = 64 << 10;

/// The time, as the driver read it once for a whole turn.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// Unix time in seconds, for what is shown to people.
    pub unix_s: u64,
}

/// What both halves of an exchange use.
#[derive(Debug)]
pub(crate) struct Shared<N: Net> {
    pub(crate) net: N,
    pub(crate) config: Arc<Config>,
    pub(crate) tls: Arc<TlsTable>,
    pub(crate) limits: Arc<LimitTable>,
    pub(crate) buffers: buffer::Pool,
    bodies: buffer::Pool,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) meter: Meter,
    pub(crate) unix_s: u64,
}

impl<N: Net> Shared<N> {
    pub(crate) fn new(
        net: N,
        config: Arc<Config>,
        tls: Arc<TlsTable>,
        limits: Arc<LimitTable>,
        now: Now,
    ) -> Self {
        let buffers = buffer::Pool::new(BUFFERS_KEPT, BUFFER_BYTES, BUFFER_BYTES_MAX);
        let bodies = buffer::Pool::new(BODIES_KEPT, 0, BODY_BYTES_MAX);
        let scratch = vec![0; READ_BYTES_MAX].into_boxed_slice();
        let (meter, unix_s) = (Meter::default(), now.unix_s);
        Self { net, config, tls, limits, buffers, bodies, scratch, meter, unix_s }
    }

    /// The vector itself if it owns memory, else one from the pool.
    pub(crate) fn stage(&mut self, staged: &mut Vec<u8>) -> Vec<u8> {
        if staged.capacity() > 0 { std::mem::take(staged) } else { self.buffers.lease() }
    }

    /// Memory for a request body of about so many bytes.
    pub(crate) fn lease_body(&mut self, bytes: usize) -> Vec<u8> {
        if (BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&bytes) {
            self.bodies.lease()
        } else {
            Vec::new()
        }
    }

    /// Takes the memory of a request body back.
    pub(crate) fn give_back_body(&mut self, body: Vec<u8>) {
        if body.capacity() >= BODY_BYTES_MIN {
            self.bodies.give_back(body);
        }
    }
}
