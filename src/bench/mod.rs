//! Load on any server of the Responses or Chat Completions API, with a check of every answer and
//! figures of what the answers cost.
//!
//! ```text
//! plan        what is asked of whom            shape      ready-made loads
//! generator   one thread: when to ask          connection one request and its answer
//! check       is the answer right, to the byte expect     what the script says
//! tally       what was counted                 process    what the server's processes cost
//! outcome     rounds, medians, ratios          report     for people, for programs
//! ```

mod check;
mod connection;
mod defect;
mod expect;
mod generator;
mod net;
mod outcome;
mod plan;
mod process;
pub mod report;
mod request;
mod run;
mod shape;
mod tally;

pub use defect::{Defect, Defects, Example};
pub use outcome::{Figure, Outcome, Round, RoundMemory, Spread, TargetOutcome};
pub use plan::{Amount, Dialect, Load, Plan, RequestText, Target, duration};
pub use process::{Memory, Tree};
pub use run::{Status, run, run_watched};
pub use shape::{SHAPES, Shape};
pub use tally::{Tally, Times};
