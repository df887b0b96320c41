//! Ring 3: what an exchange is. Generic over [`net::Net`], takes `now`.

pub mod auth;
pub mod meter;
pub mod net;
pub mod pool;
pub mod route;
pub mod timer;
pub mod transport;
pub mod worker;
