//! `functions_state_id`, which the upstream wants back beside the call that it came with. It travels
//! inside of the call's id, which every client gives back: `fs_`, eight hexadecimal digits that make
//! the id one of its own, four that stand for the provider, `_` and the state.

use crate::dialect::ids::Ids;

const PREFIX: &str = "fs_";
const DIGITS: usize = 8;
const MARK: usize = 4;

/// Longest state that is carried. Today's are UUIDs, and the id stays below the 64 bytes that some
/// clients take.
const STATE_BYTES_MAX: usize = 200;

/// The id of a call that came with this state (escaped text); a made one where there is none to
/// carry.
pub(super) fn call_id(state: &str, provider: &str, ids: &mut Ids) -> String {
    let fits = (1..=STATE_BYTES_MAX).contains(&state.len()) && state.bytes().all(is_plain);
    if !fits {
        return ids.make("call_");
    }
    let fresh = ids.make("");
    let digits = fresh.get(..DIGITS).unwrap_or_default();
    format!("{PREFIX}{digits}{}_{state}", mark(provider))
}

/// The state in an id that [`call_id`] made for this provider.
pub(super) fn of_call<'i>(id: &'i str, provider: &str) -> Option<&'i str> {
    let (head, state) = id.strip_prefix(PREFIX)?.split_at_checked(DIGITS + MARK)?;
    let (digits, own) = head.split_at_checked(DIGITS)?;
    let state = state.strip_prefix('_')?;
    let ours = digits.bytes().all(|b| b.is_ascii_hexdigit()) && own == mark(provider);
    let plain = !state.is_empty() && state.bytes().all(is_plain);
    (ours && plain).then_some(state)
}

/// What stands unchanged in an id and in JSON.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// Another provider must not see the state, and has no use for it. FNV-1a, folded to 16 bits.
fn mark(provider: &str) -> String {
    let hash = provider
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{:04x}", (hash >> 16) ^ (hash & 0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_to_its_provider_only() {
        let state = "77d3fb14-457a-46ba-937e-8d856156d003";
        let mut ids = Ids::new(1);
        let (one, two) = (call_id(state, "giga", &mut ids), call_id(state, "giga", &mut ids));
        assert_ne!(one, two, "calls of one state have ids of their own");
        assert!(one.len() <= 64, "{one}");
        for id in [&one, &two] {
            assert_eq!(of_call(id, "giga"), Some(state));
            assert_eq!(of_call(id, "other"), None);
        }
    }

    #[test]
    fn what_no_id_can_carry_is_left_out() {
        let mut ids = Ids::new(1);
        for state in ["", "a b", "\\u0041", "ä", &"x".repeat(STATE_BYTES_MAX + 1)] {
            let id = call_id(state, "p", &mut ids);
            assert!(id.starts_with("call_"), "{state}: {id}");
            assert_eq!(of_call(&id, "p"), None);
        }
        let good = call_id("s", "p", &mut ids);
        for id in ["", "fs_", "fs_0123456789ab", "fs_0123456789ab_", "call_1", "fs_01234567ä12_s"]
        {
            assert_eq!(of_call(id, "p"), None, "{id}");
        }
        assert_eq!(of_call(&good.replace("_s", "_s\\n"), "p"), None);
        assert_eq!(of_call(&good, "p"), Some("s"));
    }
}
