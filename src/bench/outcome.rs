//! What a benchmark brought: its rounds, and the figures that are made of them.

use super::defect::{Defect, Defects, Example};
use super::plan::{Plan, Target};
use super::tally::{Tally, Times};
use std::time::Duration;

/// Resident memory of a target's processes in one round, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundMemory {
    /// Before the round's connections.
    pub before: u64,
    /// After the warm-up, when its connections are open and idle.
    pub idle: u64,
    /// At most while it was measured.
    pub peak: u64,
    /// At most since the processes began.
    pub high_water: u64,
}

/// One target's turn in one round.
#[derive(Clone, Debug)]
pub struct Round {
    /// Which round, from 1 on.
    pub number: u32,
    /// How long it was measured.
    pub wall: Duration,
    /// What was counted.
    pub tally: Tally,
    /// What was counted in the warm-up before.
    pub warmup: Tally,
    /// The target's processor time, if its process is known.
    pub cpu: Option<Duration>,
    /// The target's memory, if its process is known.
    pub memory: Option<RoundMemory>,
    /// Processor time of the generator's threads.
    pub generator_cpu: Duration,
    /// The share of its time (0 to 1) that the busiest of them was running.
    pub generator_busy: f64,
    /// It was stopped before its end.
    pub stopped: bool,
}

/// One figure of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Answers a second.
    Requests,
    /// Text deltas a second.
    Deltas,
    /// Megabytes (10^6) a second, both ways.
    Megabytes,
    /// The target's processor time for each answer, in microseconds.
    CpuRequest,
    /// The same for each text delta.
    CpuDelta,
    /// The same for each megabyte.
    CpuMegabyte,
    /// The target's processors in use on average.
    Cores,
    /// Time to the first byte, in microseconds: median and 99 %.
    FirstByteMedian,
    /// The same, of the slowest hundredth.
    FirstByteTail,
    /// Time to the first delta of text.
    FirstDeltaMedian,
    /// The same, of the slowest hundredth.
    FirstDeltaTail,
    /// From a delta's stamp to its receipt.
    DeltaMedian,
    /// The same, of the slowest hundredth.
    DeltaTail,
    /// Time to the answer's end.
    WholeMedian,
    /// The same, of the slowest hundredth.
    WholeTail,
    /// The generator's processor time for each text delta, in microseconds.
    GeneratorDelta,
    /// The same for each answer.
    GeneratorRequest,
}

impl Figure {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 17] = [
        Self::Requests,
        Self::Deltas,
        Self::Megabytes,
        Self::CpuRequest,
        Self::CpuDelta,
        Self::CpuMegabyte,
        Self::Cores,
        Self::FirstByteMedian,
        Self::FirstByteTail,
        Self::FirstDeltaMedian,
        Self::FirstDeltaTail,
        Self::DeltaMedian,
        Self::DeltaTail,
        Self::WholeMedian,
        Self::WholeTail,
        Self::GeneratorDelta,
        Self::GeneratorRequest,
    ];

    /// A short name that does not change: the key in JSON output. Its end is the unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_s",
            Self::Deltas => "deltas_per_s",
            Self::Megabytes => "mb_per_s",
            Self::CpuRequest => "cpu_per_request_us",
            Self::CpuDelta => "cpu_per_delta_us",
            Self::CpuMegabyte => "cpu_per_mb_us",
            Self::Cores => "cores",
            Self::FirstByteMedian => "first_byte_p50_us",
            Self::FirstByteTail => "first_byte_p99_us",
            Self::FirstDeltaMedian => "first_delta_p50_us",
            Self::FirstDeltaTail => "first_delta_p99_us",
            Self::DeltaMedian => "delta_p50_us",
            Self::DeltaTail => "delta_p99_us",
            Self::WholeMedian => "whole_p50_us",
            Self::WholeTail => "whole_p99_us",
            Self::GeneratorDelta => "generator_cpu_per_delta_us",
            Self::GeneratorRequest => "generator_cpu_per_request_us",
        }
    }
}

impl Figure {
    /// Whether it is how long something took, in microseconds.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(
            self,
            Self::FirstByteMedian
                | Self::FirstByteTail
                | Self::FirstDeltaMedian
                | Self::FirstDeltaTail
                | Self::DeltaMedian
                | Self::DeltaTail
                | Self::WholeMedian
                | Self::WholeTail
        )
    }
}

impl Round {
    /// A figure of this round; `None` when nothing is known of it.
    #[must_use]
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        let tally = &self.tally;
        let wall = self.wall.as_secs_f64().max(1e-9);
        let (answers, deltas) = (count(tally.answers), count(tally.deltas));
        let megabytes = count(tally.bytes_in + tally.bytes_out) / 1e6;
        let cpu = || self.cpu.map(micros);
        let each = |cpu: f64, count: f64| (count > 0.0).then(|| cpu / count);
        let quantile =
            |times: &Times, share: f64| (times.count() > 0).then(|| count(times.quantile(share)));
        match figure {
            Figure::Requests => Some(answers / wall),
            Figure::Deltas => (deltas > 0.0).then(|| deltas / wall),
            Figure::Megabytes => Some(megabytes / wall),
            Figure::CpuRequest => each(cpu()?, answers),
            Figure::CpuDelta => each(cpu()?, deltas),
            Figure::CpuMegabyte => each(cpu()?, megabytes),
            Figure::Cores => Some(cpu()? / 1e6 / wall),
            Figure::FirstByteMedian => quantile(&tally.first_byte, 0.5),
            Figure::FirstByteTail => quantile(&tally.first_byte, 0.99),
            Figure::FirstDeltaMedian => quantile(&tally.first_delta, 0.5),
            Figure::FirstDeltaTail => quantile(&tally.first_delta, 0.99),
            Figure::DeltaMedian => quantile(&tally.delta, 0.5),
            Figure::DeltaTail => quantile(&tally.delta, 0.99),
            Figure::WholeMedian => quantile(&tally.whole, 0.5),
            Figure::WholeTail => quantile(&tally.whole, 0.99),
            Figure::GeneratorDelta => each(micros(self.generator_cpu), deltas),
            Figure::GeneratorRequest => each(micros(self.generator_cpu), answers),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures of far less than 2^53")]
fn count(count: u64) -> f64 {
    count as f64
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; `None` of none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

/// All rounds of one target.
#[derive(Clone, Debug)]
pub struct TargetOutcome {
    /// The target.
    pub target: Target,
    /// Its rounds, as far as they came.
    pub rounds: Vec<Round>,
}

impl TargetOutcome {
    /// A figure over the rounds.
    #[must_use]
    pub fn figure(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.figure(figure)))
    }

    /// What was counted in all rounds.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for round in &self.rounds {
            total.merge(&round.tally);
        }
        total
    }

    /// Wrong answers, those of warm-ups included.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.rounds.iter().map(|round| round.tally.wrong + round.warmup.wrong).sum()
    }

    /// Connections made in all rounds, also for their warm-ups.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.rounds.iter().map(|round| round.tally.opened + round.warmup.opened).sum()
    }

    /// What was wrong, in warm-ups too.
    #[must_use]
    pub fn defects(&self) -> Vec<(Defect, u64, Example)> {
        let mut all = Defects::default();
        for round in &self.rounds {
            all.merge(&round.warmup.defects);
            all.merge(&round.tally.defects);
        }
        all.kinds
    }
}

/// A whole benchmark.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was asked.
    pub plan: Plan,
    /// What each target did, in the plan's order.
    pub targets: Vec<TargetOutcome>,
    /// It was stopped before its end.
    pub stopped: bool,
}

impl Outcome {
    /// Whether every answer was right, and there were answers.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let answered = |it: &TargetOutcome| it.rounds.iter().any(|it| it.tally.answers > 0);
        self.targets.iter().all(|target| target.wrong() == 0)
            && (self.stopped || self.targets.iter().all(answered))
    }

    /// A target's figure divided by the first target's, round by round, so that what disturbs the
    /// machine for longer than a round disturbs both.
    #[must_use]
    pub fn ratio(&self, target: usize, figure: Figure) -> Option<Spread> {
        let (first, other) = (self.targets.first()?, self.targets.get(target)?);
        let pairs = first.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(first, other)| {
            let base = first.figure(figure).filter(|base| *base > 0.0)?;
            Some(other.figure(figure)? / base)
        }))
    }

    /// What a target's figure has more than the first target's, round by round.
    #[must_use]
    pub fn added(&self, target: usize, figure: Figure) -> Option<Spread> {
        let (first, other) = (self.targets.first()?, self.targets.get(target)?);
        let pairs = first.rounds.iter().zip(&other.rounds);
        Spread::of(
            pairs.filter_map(|(first, other)| Some(other.figure(figure)? - first.figure(figure)?)),
        )
    }

    /// The busiest that a generator thread was (0 to 1).
    #[must_use]
    pub fn generator_busy(&self) -> f64 {
        let rounds = self.targets.iter().flat_map(|target| &target.rounds);
        rounds.map(|round| round.generator_busy).fold(0.0, f64::max)
    }
}
