//! A deterministic world around one worker: everything that happens follows from one seed.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod judge;
pub(crate) mod net;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod script;
mod self_test;
pub(crate) mod tokens;
pub(crate) mod upstream;

use net::Rates;

/// A generator of our own (`SplitMix64`), so that a seed means the same for ever.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for somebody else, so that one's draws do not shift another's.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// True in so many cases of a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        let index = self.below(list.len() as u64) as usize;
        &list[index]
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            let other = self.below(index as u64 + 1) as usize;
            list.swap(index, other);
        }
    }
}

/// What kind of world a seed makes. Chances are in a thousand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) rates: Rates,
    pub(crate) clients: u64,
    /// Clients begin within this span.
    pub(crate) spread_us: u64,
    /// Clients that leave.
    pub(crate) leave: u64,
    /// Clients that read slowly.
    pub(crate) slow: u64,
    /// Requests that are broken on purpose.
    pub(crate) broken: u64,
    /// Upstream replies with some trouble.
    pub(crate) trouble: u64,
    /// Pauses between two segments of a reply.
    pub(crate) gap: u64,
    /// Upstreams that close an idle connection soon.
    pub(crate) idle_close: u64,
    /// The clock jumps ahead once.
    pub(crate) jump: bool,
    /// There are no descriptors for a while.
    pub(crate) starve: bool,
    /// Names take a while, fail first, or change.
    pub(crate) names: bool,
    /// A drain begins in the middle.
    pub(crate) drain_us: Option<u64>,
    /// Providers want tokens, and clients bring accounts of their own.
    pub(crate) accounts: bool,
}

impl Profile {
    /// The world of a seed: every fourth is calm, so that nothing hides behind an excuse.
    pub(crate) fn of(random: &mut Random) -> Self {
        let mut some = |often: u64, most: u64| {
            if random.chance(often) { 1 + random.below(most) } else { 0 }
        };
        let calm = some(250, 1) == 1;
        let fault = |value: u64| if calm { 0 } else { value };
        Self {
            rates: Rates {
                short: some(700, 500),
                block: some(600, 300),
                aborted: fault(some(200, 100)),
                refused: fault(some(250, 200)),
                silent: fault(some(150, 100)),
                level: some(500, 1000),
                delay_us_max: some(700, 3_000),
            },
            clients: 3 + some(1000, 10),
            spread_us: 1 + some(700, 2_000_000),
            leave: some(500, 400),
            slow: some(500, 500),
            broken: some(500, 200),
            trouble: fault(some(700, 400)),
            gap: some(700, 300),
            idle_close: some(500, 1000),
            jump: fault(some(120, 1)) == 1,
            starve: fault(some(120, 1)) == 1,
            names: some(200, 1) == 1,
            drain_us: Some(some(250, 3_000_000)).filter(|at| *at > 0),
            accounts: false,
        }
    }

    /// True when something other than an upstream's reply may make a request fail.
    pub(crate) fn is_rough(&self) -> bool {
        self.jump || self.starve || self.names || self.drain_us.is_some()
    }
}
