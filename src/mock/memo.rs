//! Bodies that came lately and what they asked for: load comes as the same few requests again and
//! again, and to see that costs much less than to read one.

use super::reply::Reply;
use super::script::Script;
use super::wire::Wire;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bodies that are kept.
const KNOWN_MAX: usize = 8;
/// The largest body, and the largest answer, that are kept.
const BODY_BYTES_MAX: usize = 2 << 20;
const REPLY_BYTES_MAX: usize = 4 << 20;

/// What a request is, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen<'r> {
    pub(super) wire: Wire,
    /// The field `x-mock-script`.
    pub(super) field: Option<&'r str>,
    pub(super) body: &'r [u8],
}

#[derive(Debug)]
struct Known {
    wire: Wire,
    field: Option<String>,
    body: Vec<u8>,
    script: Script,
    reply: Arc<Reply>,
}

/// The requests that came lately.
#[derive(Debug, Default)]
pub(super) struct Memo(VecDeque<Known>);

impl Memo {
    /// What a request like this one asked for.
    pub(super) fn find(&self, seen: Seen<'_>) -> Option<(Script, Arc<Reply>)> {
        let known = self.0.iter().find(|known| {
            seen == Seen { wire: known.wire, field: known.field.as_deref(), body: &known.body }
        });
        known.map(|known| (known.script, Arc::clone(&known.reply)))
    }

    /// Keeps what a request asked for.
    pub(super) fn keep(&mut self, seen: Seen<'_>, script: &Script, reply: &Arc<Reply>) {
        if seen.body.len() > BODY_BYTES_MAX || reply.bytes.len() > REPLY_BYTES_MAX {
            return;
        }
        let mut body = Vec::new();
        if self.0.len() >= KNOWN_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            body = oldest.body;
            body.clear();
        }
        body.extend_from_slice(seen.body);
        let (wire, field) = (seen.wire, seen.field.map(str::to_owned));
        self.0.push_back(Known { wire, field, body, script: *script, reply: Arc::clone(reply) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::reply::Key;
    use crate::mock::wire::Form;

    #[test]
    fn a_request_is_known_by_all_that_decides_its_answer() {
        let mut memo = Memo::default();
        let script: Script = "deltas=1".parse().unwrap();
        let key = Key::new(Wire::Chat, Form::default(), &script);
        let reply = Arc::new(Reply::new(&key, 1 << 20).unwrap());
        let seen = Seen { wire: Wire::Chat, field: None, body: b"one" };
        assert!(memo.find(seen).is_none());
        memo.keep(seen, &script, &reply);
        assert!(memo.find(seen).is_some_and(|(found, _)| found == script));
        for other in [
            Seen { wire: Wire::GigaChat, ..seen },
            Seen { field: Some("deltas=2"), ..seen },
            Seen { body: b"two", ..seen },
        ] {
            assert!(memo.find(other).is_none());
            memo.keep(other, &script, &reply);
        }
        for number in 0..KNOWN_MAX {
            memo.keep(Seen { body: format!("{number}").as_bytes(), ..seen }, &script, &reply);
        }
        assert!(memo.find(seen).is_none() && memo.0.len() == KNOWN_MAX, "the oldest go");
        memo.keep(Seen { body: &vec![0; BODY_BYTES_MAX + 1], ..seen }, &script, &reply);
        assert!(memo.find(Seen { body: b"0", ..seen }).is_some(), "too large to be kept");
    }
}
