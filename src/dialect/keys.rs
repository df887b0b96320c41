//! The keys of an object that decide something, each known by a number: found once, then told apart
//! and remembered without looking at the text again.

use crate::wire::json::{Bad, Cursor, Why};

/// The keys of one kind of object; [`keys`] makes them.
pub(super) trait Key: Copy {
    /// Finds a key by its text.
    fn of(key: &str) -> Option<Self>;

    /// Its text.
    fn text(self) -> &'static str;

    /// Its number, below 64.
    fn number(self) -> usize;
}

/// Makes an enum of keys: variants and their texts.
macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $($variant,)*
        }

        impl $crate::dialect::keys::Key for $name {
            fn of(key: &str) -> Option<Self> {
                match key {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            fn number(self) -> usize {
                self as usize
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
    pub(super) fn mark(&mut self, key: impl Key, cursor: &Cursor<'_>) -> Result<(), Bad> {
        let bit = 1 << key.number();
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

    keys!(Number { One = "one", Two = "two", });

    #[test]
    fn a_key_is_found_by_its_text_and_refused_when_it_comes_again() {
        assert_eq!(Number::of("one"), Some(Number::One));
        assert_eq!(Number::of("two"), Some(Number::Two));
        assert_eq!(Number::of("three"), None);
        assert_eq!(Number::Two.text(), "two");
        let (mut seen, cursor) = (Seen::default(), Cursor::new(""));
        assert_eq!(seen.mark(Number::One, &cursor), Ok(()));
        assert_eq!(seen.mark(Number::Two, &cursor), Ok(()));
        assert_eq!(seen.mark(Number::One, &cursor).unwrap_err().why, Why::Duplicate);
    }
}
