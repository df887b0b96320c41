//! Ring 4: system calls, the clock and threads. Everything that blocks or ticks lives here.

mod capture;
mod children;
mod desk;
mod drive;
mod keeper;
mod poll;
mod resolve;
mod tokens;
mod wake;

pub use keeper::{Ending, Notice, Proxy, watch_signals};
pub use poll::MioNet;
pub use tokens::read_auth_file;
