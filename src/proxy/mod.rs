//! Ring 3: what an exchange is. Generic over [`net::Net`], takes `now`.

mod adapt;
mod admin;
pub mod auth;
mod call;
pub mod capture;
mod client;
mod codex_fields;
mod content;
pub mod desk;
mod digest;
mod embeddings;
mod errand;
mod exchange;
mod fetch;
mod forward;
pub mod limit;
pub mod meter;
mod models;
pub mod net;
mod operation;
mod order;
pub mod pool;
mod public;
mod reply;
pub mod route;
mod secret;
mod serve;
pub mod shared;
#[cfg(test)]
mod tests;
pub mod timer;
pub mod token;
pub mod transport;
mod upload;
pub(crate) mod upstream;
mod usage;
pub mod worker;
