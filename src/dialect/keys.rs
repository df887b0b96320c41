//! The keys of an object that decide something, each known by a number: found once, then told apart
//! and remembered without looking at the text again.

use crate::wire::json::{Bad, Cursor, Why};

/// Makes an enum of keys: its variants with their texts, and `of`, which finds a key's variant.
macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum $name {
            $($variant,)*
        }

        impl $name {
            fn of(key: &str) -> Option<Self> {
                match key {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl From<$name> for u32 {
            fn from(key: $name) -> Self {
                key as Self
            }
        }
    };
}

pub(super) use keys;

/// Which keys of one object were met, so that a second value for one is refused: two readers of the
/// object could otherwise act on different halves of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen(u64);

impl Seen {
    /// Notes a key, one of at most 64.
    ///
    /// # Errors
    /// [`Why::Duplicate`] when it was met before.
    pub(super) fn mark(&mut self, key: impl Into<u32>, cursor: &Cursor<'_>) -> Result<(), Bad> {
        let bit = 1 << key.into();
        if self.0 & bit != 0 {
            return Err(cursor.bad(Why::Duplicate));
        }
        self.0 |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    keys!(Key { One = "one", Two = "two", });

    #[test]
    fn a_key_is_found_by_its_text_and_refused_when_it_comes_again() {
        assert_eq!(Key::of("one"), Some(Key::One));
        assert_eq!(Key::of("two"), Some(Key::Two));
        assert_eq!(Key::of("three"), None);
        let (mut seen, cursor) = (Seen::default(), Cursor::new(""));
        assert_eq!(seen.mark(Key::One, &cursor), Ok(()));
        assert_eq!(seen.mark(Key::Two, &cursor), Ok(()));
        assert_eq!(seen.mark(Key::One, &cursor).unwrap_err().why, Why::Duplicate);
    }
}
