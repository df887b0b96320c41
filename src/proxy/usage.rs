//! What upstreams last told of a plan's limits, in the words of the Codex backend (`x-codex-*`).

use crate::config::Config;
use crate::wire::json::{self, Kind, Raw};
use std::sync::{Mutex, PoisonError};

/// Most bytes of a value: what is longer is none of these, and upstreams choose what stays here.
const VALUE_BYTES_MAX: usize = 64;

/// How a field's value is shown.
#[derive(Clone, Copy, Debug)]
enum Form {
    Number,
    Flag,
    Text,
}

/// Each field behind `x-codex-`, the object and the member that show it, and how. Fields of one
/// object stand together; those without an object come last.
const FIELDS: [(&str, &str, &str, Form); 10] = [
    ("primary-used-percent", "primary", "used_percent", Form::Number),
    ("primary-window-minutes", "primary", "window_minutes", Form::Number),
    ("primary-reset-at", "primary", "resets_at", Form::Number),
    ("secondary-used-percent", "secondary", "used_percent", Form::Number),
    ("secondary-window-minutes", "secondary", "window_minutes", Form::Number),
    ("secondary-reset-at", "secondary", "resets_at", Form::Number),
    ("credits-has-credits", "credits", "has_credits", Form::Flag),
    ("credits-unlimited", "credits", "unlimited", Form::Flag),
    ("credits-balance", "credits", "balance", Form::Text),
    ("limit-name", "", "limit_name", Form::Text),
];

/// What one reply told: JSON values in the order of [`FIELDS`].
#[derive(Debug, Default)]
struct Seen {
    at_s: u64,
    values: [Option<String>; FIELDS.len()],
}

/// The limits that each provider last told of. Shared by all workers.
#[derive(Debug)]
pub(crate) struct UsageBoard {
    slots: Vec<Mutex<Option<Seen>>>,
}

impl UsageBoard {
    /// A board for so many providers, with nothing seen.
    pub(crate) fn new(providers: usize) -> Self {
        Self { slots: (0..providers).map(|_| Mutex::new(None)).collect() }
    }

    /// Notes what a reply's fields, their names in lower case, tell at `unix_s`. What was told
    /// before is forgotten, so that what is shown was true at one time; a reply that tells nothing
    /// changes nothing, and takes no lock.
    pub(crate) fn note(&self, provider: usize, fields: &[(String, String)], unix_s: u64) {
        let mut seen = None;
        for (name, text) in fields {
            let Some(name) = name.strip_prefix("x-codex-") else { continue };
            let Some(index) = FIELDS.iter().position(|field| field.0 == name) else { continue };
            let Some(value) = value(FIELDS[index].3, text.trim()) else { continue };
            let seen = seen.get_or_insert_with(|| Seen { at_s: unix_s, ..Seen::default() });
            seen.values[index] = Some(value);
        }
        if let (Some(seen), Some(slot)) = (seen, self.slots.get(provider)) {
            // Written at once, so a panic elsewhere cannot have left half of it.
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
    }

    /// Appends everything that was seen as one JSON object.
    pub(crate) fn write(&self, config: &Config, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"providers\":{");
        for (provider, slot) in config.providers.iter().zip(&self.slots) {
            if let Some(seen) = &*slot.lock().unwrap_or_else(PoisonError::into_inner) {
                json::key(&provider.name, out);
                seen.write(out);
            }
        }
        out.extend_from_slice(b"}}");
    }
}

impl Seen {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        json::member_number("seen_at", self.at_s, out);
        let mut open = "";
        for ((_, object, member, _), value) in FIELDS.iter().zip(&self.values) {
            let Some(value) = value else { continue };
            if *object != open {
                if !open.is_empty() {
                    out.push(b'}');
                }
                if !object.is_empty() {
                    json::key(object, out);
                    out.push(b'{');
                }
                open = object;
            }
            json::member_raw(member, value, out);
        }
        if !open.is_empty() {
            out.push(b'}');
        }
        out.push(b'}');
    }
}

/// A field's value as JSON, if it is one.
fn value(form: Form, text: &str) -> Option<String> {
    if text.is_empty() || text.len() > VALUE_BYTES_MAX {
        return None;
    }
    match form {
        // Kept as it was written, if JSON writes numbers so and readers can hold it.
        Form::Number => {
            let is_number = Raw::check(text).is_ok_and(|raw| raw.kind() == Kind::Number)
                && text.parse::<f64>().is_ok_and(f64::is_finite);
            is_number.then(|| text.to_owned())
        }
        Form::Flag if text == "1" || text.eq_ignore_ascii_case("true") => Some("true".to_owned()),
        Form::Flag if text == "0" || text.eq_ignore_ascii_case("false") => Some("false".to_owned()),
        Form::Flag => None,
        Form::Text => {
            let mut quoted = Vec::with_capacity(text.len() + 2);
            json::string(text, &mut quoted);
            String::from_utf8(quoted).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, text)| (format!("x-codex-{name}"), (*text).to_owned())).collect()
    }

    /// What a board of one provider has of these fields.
    fn shown(board: &UsageBoard) -> Option<String> {
        let mut out = Vec::new();
        board.slots[0].lock().unwrap().as_ref()?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_was_told_is_shown_and_nothing_else() {
        let long = "9".repeat(VALUE_BYTES_MAX + 1);
        for (told, expected) in [
            (&[][..], None),
            (&[("turn-state", "x"), ("primary-used-percent", "much")], None),
            (&[("primary-used-percent", "NaN"), ("primary-reset-at", "1e999")], None),
            (&[("limit-name", &long), ("credits-balance", "")], None),
            (&[("credits-unlimited", "perhaps"), ("primary-reset-at", "[1]")], None),
            (&[("limit-name", "a\"b")], Some(r#"{"seen_at":7,"limit_name":"a\"b"}"#)),
            (
                &[("limit-name", "n"), ("secondary-used-percent", "0"), ("primary-reset-at", "5")],
                Some(concat!(
                    r#"{"seen_at":7,"primary":{"resets_at":5},"#,
                    r#""secondary":{"used_percent":0},"limit_name":"n"}"#
                )),
            ),
            (
                &[("credits-has-credits", "True"), ("credits-unlimited", "0")],
                Some(r#"{"seen_at":7,"credits":{"has_credits":true,"unlimited":false}}"#),
            ),
        ] {
            let board = UsageBoard::new(1);
            board.note(0, &fields(told), 7);
            assert_eq!(shown(&board).as_deref(), expected, "{told:?}");
        }
    }

    #[test]
    fn the_last_that_told_something_counts() {
        let board = UsageBoard::new(1);
        board.note(0, &fields(&[("primary-used-percent", "1"), ("limit-name", "n")]), 1);
        board.note(0, &fields(&[("primary-used-percent", "2.5")]), 2);
        board.note(0, &fields(&[("turn-state", "x")]), 3);
        board.note(1, &fields(&[("primary-used-percent", "9")]), 4);
        let expected = r#"{"seen_at":2,"primary":{"used_percent":2.5}}"#;
        assert_eq!(shown(&board).as_deref(), Some(expected));
    }
}
