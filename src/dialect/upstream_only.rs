//! The client half of a dialect that only upstreams speak. Nothing leads a client there
//! ([`Dialect::serves_clients`](crate::dialect::Dialect::serves_clients)); who gets there all the
//! same is told so.

use crate::dialect::Encode;
use crate::dialect::event::Event;
use crate::dialect::fold::Answer;
use crate::fault::Failure;

/// The refusal of a request in such a dialect.
pub(super) fn refusal(dialect: &str) -> Failure {
    Failure::bad_request(format!(
        "{dialect} is spoken to upstreams only: send this request to /responses or \
         /chat/completions in their own form"
    ))
}

/// The encoder of such a dialect, for which there is no request to answer.
#[derive(Debug)]
pub(super) struct Mute;

impl Encode for Mute {
    fn event(&mut self, _: Event<'_>, _: u64, _: &mut Vec<u8>) {}

    fn answer(&mut self, _: &Answer, _: u64, _: &mut Vec<u8>) {}

    fn keep_alive(&mut self, _: &mut Vec<u8>) {}
}
