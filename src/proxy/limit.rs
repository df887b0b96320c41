//! How often and how much at once: the only state that workers share. Rates are cells of the
//! generic cell rate algorithm (GCRA), each one number: when the next request would arrive if all
//! came evenly. Exchanges at once are counted by `Seat`s, which give themselves back.

use crate::config::{ClientKey, Config, Rate};
use crate::fault::{Failure, Fault, Kind, Retry, Side};
use crate::proxy::models::ModelBoard;
use crate::proxy::upload::UploadTable;
use crate::proxy::usage::UsageBoard;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sets of the table of addresses, and places in each: what it holds is fixed, whoever comes.
const SETS: usize = 2048;
const PLACES: usize = 8;
/// How long a client waits that has all its exchanges under way; nobody knows when one ends.
const BUSY_S: u32 = 1;
const SECOND_NS: u64 = 1_000_000_000;

/// A rate in the numbers of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// From one request to the next, in nanoseconds.
    interval_ns: u64,
    /// How much too early a request may be, in nanoseconds.
    early_ns_max: u64,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        let interval_ns = (60 * SECOND_NS).div_ceil(u64::from(rate.per_minute.max(1)));
        let spare = u64::from(rate.burst.max(1) - 1);
        Self { interval_ns, early_ns_max: interval_ns.saturating_mul(spare) }
    }

    /// The cell's next value when a request comes at `at_ns`; the error is how long to wait, in
    /// nanoseconds, at least 1.
    fn take(self, next_ns: u64, at_ns: u64) -> Result<u64, u64> {
        let due_ns = next_ns.max(at_ns);
        match (due_ns - at_ns).saturating_sub(self.early_ns_max) {
            0 => Ok(due_ns.saturating_add(self.interval_ns)),
            wait_ns => Err(wait_ns),
        }
    }
}

/// One key's use.
#[derive(Debug)]
struct Key {
    pace: Option<Pace>,
    next_ns: AtomicU64,
    exchanges_max: Option<u32>,
    exchanges: AtomicU32,
}

impl Key {
    fn new(key: &ClientKey) -> Self {
        Self {
            pace: key.rate.map(Pace::new),
            next_ns: AtomicU64::new(0),
            exchanges_max: key.exchanges_max,
            exchanges: AtomicU32::new(0),
        }
    }

    /// Counts a request; the error is how long to wait, in nanoseconds.
    fn take(&self, at_ns: u64) -> Result<(), u64> {
        let Some(pace) = self.pace else { return Ok(()) };
        // Nothing else is published by the cell, so no order with other memory is needed.
        let mut next_ns = self.next_ns.load(Ordering::Relaxed);
        loop {
            let taken = pace.take(next_ns, at_ns)?;
            let swapped = self.next_ns.compare_exchange_weak(
                next_ns,
                taken,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Ok(()),
                Err(other) => next_ns = other,
            }
        }
    }

    /// Counts one exchange more, if that is not too many.
    fn sit(&self, max: u32) -> bool {
        let one_more = |held: u32| held.checked_add(1).filter(|held| *held <= max);
        self.exchanges.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// An address's use. A cell whose time is past is as good as none.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    address: u128,
    next_ns: u64,
}

/// The cells of addresses: a table of fixed size. An address that finds its set full takes the
/// place of the one that is nearest to have nothing held against it.
#[derive(Debug)]
struct Addresses {
    pace: Pace,
    seed: u64,
    sets: Box<[Mutex<[Place; PLACES]>]>,
}

impl Addresses {
    fn new(rate: Rate, seed: u64, sets: usize) -> Self {
        let sets = (0..sets).map(|_| Mutex::new([Place::default(); PLACES])).collect();
        Self { pace: Pace::new(rate), seed, sets }
    }

    /// Counts a request; the error is how long to wait, in nanoseconds.
    fn take(&self, address: IpAddr, at_ns: u64) -> Result<(), u64> {
        let address = network(address);
        let mut hasher = DefaultHasher::new();
        // Strangers choose their addresses, so they must not know which of them share a set.
        hasher.write_u64(self.seed);
        hasher.write_u128(address);
        let set = hasher.finish() % self.sets.len().max(1) as u64;
        let set = usize::try_from(set).ok().and_then(|set| self.sets.get(set));
        let Some(set) = set else { return Ok(()) };
        // What a panic could leave behind is whole: a place is written last and at once.
        let mut places = set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.iter_mut().find(|place| place.address == address) {
            place.next_ns = self.pace.take(place.next_ns, at_ns)?;
        } else if let Some(oldest) = places.iter_mut().min_by_key(|place| place.next_ns) {
            *oldest = Place { address, next_ns: self.pace.take(0, at_ns)? };
        }
        Ok(())
    }
}

/// What counts as one address: of IPv6 the first 64 bits (RFC 4291, section 2.5.4), because whoever
/// has one address of such a network has all of them.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        // The low halves tell the two apart, and from an empty place.
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 64) | 1,
        IpAddr::V6(address) => (address.to_bits() >> 64 << 64) | 2,
    }
}

/// Every limit on who calls, and how much of each is used. Shared by all workers, and so the place
/// of what upstreams tell of their own limits: any worker must show what another one heard.
#[derive(Debug)]
pub struct LimitTable {
    base: Instant,
    keys: Vec<Key>,
    addresses: Option<Addresses>,
    usage: UsageBoard,
    uploads: UploadTable,
    models: Arc<ModelBoard>,
}

impl LimitTable {
    /// The limits of a configuration, all unused. Time is counted from `base`; `seed` should be
    /// what strangers cannot guess.
    #[must_use]
    pub fn new(config: &Config, base: Instant, seed: u64) -> Self {
        let rate = config.address_rate.filter(|_| config.client_keys.is_empty());
        Self {
            base,
            keys: config.client_keys.iter().map(Key::new).collect(),
            addresses: rate.map(|rate| Addresses::new(rate, seed, SETS)),
            usage: UsageBoard::new(config.providers.len()),
            uploads: UploadTable::default(),
            models: Arc::new(ModelBoard::new(config.providers.len())),
        }
    }

    /// What upstreams last told of their limits.
    pub(crate) const fn usage(&self) -> &UsageBoard {
        &self.usage
    }

    /// What was uploaded to upstreams.
    pub(crate) const fn uploads(&self) -> &UploadTable {
        &self.uploads
    }

    /// The models that upstreams listed.
    pub(crate) const fn models(&self) -> &Arc<ModelBoard> {
        &self.models
    }

    /// Exchanges under way of keys that may have so many only.
    #[must_use]
    pub fn seated(&self) -> u32 {
        self.keys.iter().map(|key| key.exchanges.load(Ordering::Relaxed)).sum()
    }

    /// Lets one more exchange begin; its seat is to be kept until its end, if there is one. `key`
    /// is the index of a client key.
    ///
    /// # Errors
    /// 429 with the seconds to wait.
    pub(crate) fn enter(
        self: &Arc<Self>,
        config: &Config,
        key: Option<usize>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Option<Seat>, Failure> {
        let since = now.saturating_duration_since(self.base);
        let at_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let Some(index) = key else {
            let Some(addresses) = &self.addresses else { return Ok(None) };
            return addresses.take(address, at_ns).map(|()| None).map_err(|wait_ns| {
                let rate = config.address_rate.map_or(0, |rate| rate.per_minute);
                too_often(&format!("an address may make {rate} requests a minute here"), wait_ns)
            });
        };
        let (Some(key), Some(set)) = (self.keys.get(index), config.client_keys.get(index)) else {
            return Ok(None);
        };
        // The seat comes first: a request that gets none is not held against the rate.
        let seat = match key.exchanges_max {
            Some(max) if !key.sit(max) => return Err(too_many(&set.name, max)),
            Some(_) => Some(Seat { table: Arc::clone(self), key: index }),
            None => None,
        };
        key.take(at_ns).map(|()| seat).map_err(|wait_ns| {
            let rate = set.rate.map_or(0, |rate| rate.per_minute);
            let name = &set.name;
            too_often(&format!("the key \"{name}\" may make {rate} requests a minute"), wait_ns)
        })
    }
}

/// One of the exchanges that a key may have at once. Given back when dropped: every way on which
/// an exchange can end, a panic included, drops it.
#[derive(Debug)]
pub(crate) struct Seat {
    table: Arc<LimitTable>,
    key: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(key) = self.table.keys.get(self.key) {
            key.exchanges.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The wait in whole seconds, rounded up, so that whoever waits so long gets in.
fn seconds(wait_ns: u64) -> u32 {
    u32::try_from(wait_ns.div_ceil(SECOND_NS)).unwrap_or(u32::MAX).max(1)
}

fn too_often(what: &str, wait_ns: u64) -> Failure {
    let wait_s = seconds(wait_ns);
    let plural = if wait_s == 1 { "" } else { "s" };
    limited(wait_s, format!("{what}: try again in {wait_s} second{plural}"))
}

fn too_many(name: &str, max: u32) -> Failure {
    let message = format!(
        "the key \"{name}\" has {max} requests under way, as many as it may: wait for one to end"
    );
    limited(BUSY_S, message)
}

fn limited(wait_s: u32, message: String) -> Failure {
    let retry = Retry::After(wait_s);
    Failure::new(Fault { side: Side::Client, kind: Kind::RateLimited, retry }, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const fn rate(per_minute: u32, burst: u32) -> Rate {
        Rate { per_minute, burst }
    }

    fn key(rate: Option<Rate>, exchanges_max: Option<u32>) -> Key {
        Key::new(&ClientKey {
            name: "k".to_owned(),
            secret: "s".to_owned(),
            rate,
            exchanges_max,
            models: Vec::new(),
        })
    }

    #[test]
    fn a_cell_lets_a_burst_through_and_then_a_steady_rate() {
        const MS: u64 = 1_000_000;
        // Each request: when, in milliseconds, and how long it has to wait, in milliseconds.
        let cases: &[(Rate, &[(u64, u64)])] = &[
            (rate(60, 1), &[(0, 0), (0, 1000), (999, 1), (1000, 0), (1500, 500), (9000, 0)]),
            (rate(60, 3), &[(0, 0), (0, 0), (0, 0), (0, 1000), (1000, 0), (1000, 1000)]),
            // What was not used is saved up to the burst and not beyond.
            (rate(60, 2), &[(600_000, 0), (600_000, 0), (600_000, 1000)]),
            // A refused request is not held against its client.
            (rate(60, 1), &[(0, 0), (10, 990), (20, 980), (30, 970), (1000, 0)]),
            (rate(1, 1), &[(0, 0), (1, 59_999), (60_000, 0)]),
            (rate(600, 2), &[(0, 0), (50, 0), (50, 50), (100, 0), (199, 1), (200, 0)]),
            // A worker whose clock was read a little earlier.
            (rate(60, 1), &[(1000, 0), (999, 1001), (2000, 0)]),
            // What no configuration should hold counts as one.
            (rate(0, 0), &[(0, 0), (1, 59_999)]),
        ];
        for (rate, requests) in cases {
            let key = key(Some(*rate), None);
            for (at_ms, wait_ms) in *requests {
                let waits = key.take(at_ms * MS).err().unwrap_or(0);
                assert_eq!(waits, wait_ms * MS, "{rate:?} at {at_ms}");
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_not_wrap() {
        let slowest = Pace::new(rate(1, u32::MAX));
        assert_eq!(slowest.early_ns_max, u64::MAX);
        assert_eq!(slowest.take(u64::MAX, 0), Ok(u64::MAX));
        let one = Pace::new(rate(60, 1));
        assert_eq!(one.take(u64::MAX, 0), Err(u64::MAX));
        assert_eq!(one.take(0, u64::MAX), Ok(u64::MAX));
        assert_eq!(one.take(u64::MAX, u64::MAX), Ok(u64::MAX));
        assert_eq!(Pace::new(rate(u32::MAX, 1)).interval_ns, 14);
        for (wait_ns, wait_s) in [
            (1, 1),
            (SECOND_NS, 1),
            (SECOND_NS + 1, 2),
            (59 * SECOND_NS + 1, 60),
            (u64::MAX, u32::MAX),
        ] {
            assert_eq!(seconds(wait_ns), wait_s);
        }
    }

    #[test]
    fn no_more_get_through_than_may_however_many_threads_ask() {
        let key = key(Some(rate(60, 100)), Some(7));
        let through = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        through.fetch_add(u32::from(key.take(5).is_ok()), Ordering::Relaxed);
                        key.sit(7);
                    }
                });
            }
        });
        assert_eq!(through.into_inner(), 100);
        assert_eq!(key.exchanges.into_inner(), 7);
    }

    #[test]
    fn addresses_are_told_apart_as_their_networks_are() {
        let parse = |text: &str| network(text.parse().unwrap());
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("0.0.0.0", "::", false),
            ("::1", "255.255.255.255", false),
        ] {
            assert_eq!(parse(one) == parse(other), same, "{one} {other}");
            assert_ne!(parse(one), 0);
        }
    }

    #[test]
    fn a_flood_of_addresses_takes_no_memory_and_shuts_nobody_out() {
        let table = Addresses::new(rate(1, 1), 1, SETS);
        for address in 0..100_000 {
            assert_eq!(table.take(Ipv4Addr::from_bits(address).into(), 0), Ok(()), "{address}");
        }
        // Whoever is remembered is limited, and nobody else.
        let held = table.sets.iter().flat_map(|set| *set.lock().unwrap());
        assert_eq!(held.filter(|place| place.next_ns > 0).count(), SETS * PLACES);
        let newcomer = IpAddr::from(Ipv6Addr::LOCALHOST);
        assert_eq!(table.take(newcomer, 5), Ok(()));
        assert_eq!(table.take(newcomer, 5), Err(60 * SECOND_NS));
    }

    #[test]
    fn a_newcomer_takes_the_place_of_whom_least_is_held_against() {
        let table = Addresses::new(rate(60, 8), 1, 1);
        let take = |n: u8| table.take([192, 0, 2, n].into(), 0).is_ok();
        for n in 0..8 {
            // The fourth asks once, the others until they are refused.
            while take(n) && n != 3 {}
        }
        assert!(take(8));
        for n in [0, 1, 2, 4, 5, 6, 7] {
            assert!(!take(n), "{n}");
        }
    }
}
