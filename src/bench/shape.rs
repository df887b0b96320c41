//! Ready-made loads, each for one question about a server.

use super::plan::{Amount, Load};
use crate::mock::script::Script;
use std::time::Duration;

/// A load with a name. Its settings are defaults that others may be laid over.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What it shows.
    pub shows: &'static str,
    load: fn() -> Load,
}

/// Bytes of a delta that is a stamp and six letters.
const STAMPED_BYTES: u32 = 24;

/// All shapes.
pub static SHAPES: &[Shape] = &[
    Shape {
        name: "a2",
        what: "16 deltas in one write, 16 connections that ask again at once",
        shows: "what an answer costs besides its deltas",
        load: || burst(16),
    },
    Shape {
        name: "c2",
        what: "2,000 deltas in one write, 4 connections",
        shows: "what a delta costs when many come at once",
        load: || Load { connections: 4, ..burst(2000) },
    },
    Shape {
        name: "burst",
        what: "200 deltas in one write, 8 connections",
        shows: "the same for a usual answer",
        load: || Load { connections: 8, ..burst(200) },
    },
    Shape {
        name: "d",
        what: "1,000 streams at once of 50 stamped deltas a second each, 8 s",
        shows: "what a delta costs that comes alone, and how late it is",
        load: || paced(1000, 400),
    },
    Shape {
        name: "dl",
        what: "50 streams at once of 50 stamped deltas a second each, 8 s",
        shows: "the same on a server with little to do",
        load: || paced(50, 400),
    },
    Shape {
        name: "e1",
        what: "requests of 200 KB (a conversation with tool outputs), 16 deltas, 4 connections",
        shows: "what a large request costs",
        load: || Load { connections: 4, request_bytes: 200_000, ..burst(16) },
    },
    Shape {
        name: "e2",
        what: "requests of 1 MB, 16 deltas, 2 connections",
        shows: "the same for a very large one",
        load: || Load { connections: 2, request_bytes: 1_000_000, ..burst(16) },
    },
    Shape {
        name: "f",
        what: "answers of 6 KB as one document, 16 connections",
        shows: "what an answer costs that is not streamed",
        load: || Load { stream: false, ..burst(1000) },
    },
    Shape {
        name: "g",
        what: "a connection for each request, 16 deltas in one write, 16 at once",
        shows: "what a connection costs",
        load: || Load { churn: true, ..burst(16) },
    },
    Shape {
        name: "start",
        what: "9,000 streams that begin at once, 5 stamped deltas a second apart (raise ulimit -n)",
        shows: "how soon a crowd gets its first delta, and what a stream takes of memory",
        load: || {
            let script = Script { deltas: 5, pace: Duration::from_secs(1), ..stamped() };
            Load {
                script: Some(script),
                connections: 9000,
                amount: Amount::Requests(9000),
                warmup: Amount::Requests(0),
                connects_max: 0,
                ..Load::default()
            }
        },
    },
    Shape {
        name: "slow",
        what: "one stream of 20 MB for a reader of 4 MB a second",
        shows: "whether a slow reader holds the server back, or fills its memory",
        load: || {
            let script = Script { deltas: 20_000, bytes: 1000, frames: 16, ..Script::default() };
            Load {
                script: Some(script),
                connections: 1,
                amount: Amount::Requests(1),
                warmup: Amount::Requests(0),
                read_rate: Some(4_000_000),
                ..Load::default()
            }
        },
    },
];

impl Shape {
    /// The shape of this name.
    ///
    /// # Errors
    /// There is none; the message names those that there are.
    pub fn find(name: &str) -> Result<&'static Self, String> {
        SHAPES.iter().find(|shape| shape.name == name).ok_or_else(|| {
            let names: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
            format!("there is no shape {name:?}, but {} (--shape list)", names.join(", "))
        })
    }

    /// Its load.
    #[must_use]
    pub fn load(&self) -> Load {
        (self.load)()
    }
}

/// Whole answers in one write, asked for over and over.
fn burst(deltas: u32) -> Load {
    Load { script: Some(Script { deltas, frames: 0, ..Script::default() }), ..Load::default() }
}

fn stamped() -> Script {
    Script { bytes: STAMPED_BYTES, stamp: true, ..Script::default() }
}

/// So many streams at once, a delta every 20 ms, begun over one second so that they do not beat
/// in time.
fn paced(streams: usize, deltas: u32) -> Load {
    let script = Script { deltas, pace: Duration::from_millis(20), ..stamped() };
    Load {
        script: Some(script),
        connections: streams,
        amount: Amount::Requests(streams as u64),
        warmup: Amount::Requests(streams as u64),
        ramp: Duration::from_secs(1),
        ..Load::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_can_be_run() {
        for shape in SHAPES {
            let load = shape.load();
            assert_eq!(load.check(), Ok(()), "{}", shape.name);
            assert!(std::ptr::eq(Shape::find(shape.name).unwrap(), shape));
            let script = load.script.unwrap();
            assert_eq!(Script::of_model(&load.model_name()), Some(Ok(script)), "{}", shape.name);
            assert!(!shape.what.is_empty() && !shape.shows.is_empty());
        }
        let why = Shape::find("z").unwrap_err();
        assert!(why.contains("a2, c2") && why.contains("--shape list"), "{why}");
    }
}
