//! Ring 3: what an exchange is. Generic over [`net::Net`], takes `now`.

pub mod net;
pub mod transport;
pub mod worker;
