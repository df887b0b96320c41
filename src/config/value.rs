//! Values that can be written in more than one way, above all as text: `${NAME}` is always text.

use super::file::{Credential, Credentials, Key, KeyTable, Model, ModelTable};
use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::time::Duration;

/// A count: `60` or `"60"`; empty text counts as nothing said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(pub(super) Option<u32>);

/// `true`, or text that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch(pub(super) bool);

/// A switch, or the text that is wanted instead of the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wording {
    Switch(bool),
    Text(String),
}

/// A switch that may say nothing, as empty text does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice(pub(super) Option<bool>);

/// `["a", "b"]` or `"a, b"`, or the former as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(pub(super) Vec<String>);

/// What a text says as a switch; empty is off, as with a variable that is not set.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "" | "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 4294967295")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                let fits = u32::try_from(number);
                fits.map(|it| Number(Some(it))).map_err(|_| E::custom(wrong(&number.to_string())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                match text.trim() {
                    "" => Ok(Number(None)),
                    text => match text.parse() {
                        Ok(number) => Ok(Number(Some(number))),
                        Err(_) => Err(E::custom(wrong(text))),
                    },
                }
            }
        }
        from.deserialize_any(Reader)
    }
}

fn wrong(text: &str) -> String {
    let text = short(text);
    format!("`{text}` is no whole number from 0 to 4294967295")
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Wording::deserialize(from)? {
            Wording::Switch(on) => Ok(Self(on)),
            Wording::Text(text) => Err(D::Error::custom(neither(&text))),
        }
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Choice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E>(self, on: bool) -> Result<Choice, E> {
                Ok(Choice(Some(on)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Choice, E> {
                match switch(text) {
                    _ if text.trim().is_empty() => Ok(Choice(None)),
                    None => Err(E::custom(neither(text))),
                    said => Ok(Choice(said)),
                }
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Reads a size or count, as a number or as text.
pub(super) fn count<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = match Amount::deserialize(from)? {
        Amount::Number(number) => number,
        Amount::Text(text) => {
            let wrong = |_| D::Error::custom(format!("`{}` is no whole number", short(&text)));
            text.trim().parse().map_err(wrong)?
        }
    };
    T::try_from(number).map_err(|_| D::Error::custom(format!("{number} is too large")))
}

/// Reads a duration: a number of milliseconds, or text with a number of them or of a unit (`30s`,
/// `1.5s`, `200ms`).
pub(super) fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = match Amount::deserialize(from)? {
        Amount::Number(number) => return Ok(Duration::from_millis(number)),
        Amount::Text(text) => text,
    };
    let (digits, unit_s) = match text.trim() {
        it if it.ends_with("ms") => (it.trim_end_matches("ms"), 0.001),
        it if it.ends_with('s') => (it.trim_end_matches('s'), 1.0),
        it => (it, 0.001),
    };
    let seconds = digits.trim().parse::<f64>().ok().map(|number| number * unit_s);
    let whole = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    whole.ok_or_else(|| {
        let text = short(&text);
        D::Error::custom(format!("`{text}` is no duration: write milliseconds, or as `30s`"))
    })
}

/// A number, or text that may hold one.
enum Amount {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Amount, E> {
                let wrong = |_| E::custom(format!("{number} is below 0"));
                u64::try_from(number).map(Amount::Number).map_err(wrong)
            }

            fn visit_str<E>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount::Text(text.to_owned()))
            }
        }
        from.deserialize_any(Reader)
    }
}

fn neither(text: &str) -> String {
    format!("`{}` is neither true nor false", short(text))
}

/// The beginning of a text, for an error.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

impl<'de> Deserialize<'de> for Wording {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Wording;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a text")
            }

            fn visit_bool<E>(self, on: bool) -> Result<Wording, E> {
                Ok(Wording::Switch(on))
            }

            fn visit_str<E>(self, text: &str) -> Result<Wording, E> {
                Ok(switch(text).map_or_else(|| Wording::Text(text.to_owned()), Wording::Switch))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names: an array, or one text with commas between them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Names, E> {
                // In a `.env` file the quotes of an array go.
                let inner = text.trim().strip_prefix('[').and_then(|it| it.strip_suffix(']'));
                let names = inner.unwrap_or(text).split(',');
                let names = names.map(|name| name.trim().trim_matches(['"', '\'']).trim());
                let names = names.filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(str::to_owned).collect();
                // A slip must not open what a list was meant to close.
                if names.is_empty() && !text.trim().is_empty() && text.trim() != "[]" {
                    return Err(E::custom(format!("`{text}` holds no name")));
                }
                Ok(Names(names))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element::<String>()? {
                    if name.trim().is_empty() {
                        return Err(A::Error::custom("an empty name"));
                    }
                    names.push(name.trim().to_owned());
                }
                Ok(Names(names))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Model;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model's name, or a table with its `id`")
            }

            fn visit_str<E>(self, id: &str) -> Result<Model, E> {
                Ok(Model(ModelTable { id: id.to_owned(), ..ModelTable::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Model, A::Error> {
                ModelTable::deserialize(MapAccessDeserializer::new(map)).map(Model)
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key, or a table with its `secret`, `env` or `file`")
            }

            fn visit_str<E>(self, secret: &str) -> Result<Key, E> {
                Ok(Key(KeyTable { secret: Some(secret.to_owned()), ..KeyTable::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Key, A::Error> {
                KeyTable::deserialize(MapAccessDeserializer::new(map)).map(Key)
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Credentials;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a credential's table with its `kind`, or a list of such tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Credentials, A::Error> {
                let one = Credential::deserialize(MapAccessDeserializer::new(map));
                one.map(Credentials::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Credentials, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                if all.is_empty() {
                    return Err(A::Error::custom(
                        "an empty list: write { kind = \"none\" } for no credential",
                    ));
                }
                Ok(Credentials::First(all))
            }
        }
        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(value: &str) -> Result<T, String> {
        let table: toml::Table = format!("a = {value}").parse().unwrap();
        T::deserialize(table["a"].clone()).map_err(|why| why.message().to_owned())
    }

    #[test]
    fn numbers_may_be_text() {
        for (text, expected) in [
            ("0", Some(Some(0))),
            ("60", Some(Some(60))),
            ("'60'", Some(Some(60))),
            ("' 7 '", Some(Some(7))),
            ("''", Some(None)),
            ("-1", None),
            ("4294967296", None),
            ("'4294967296'", None),
            ("'-1'", None),
            ("'ten'", None),
            ("1.5", None),
            ("true", None),
        ] {
            assert_eq!(read::<Number>(text).ok().map(|it| it.0), expected, "{text}");
        }
    }

    #[test]
    fn switches_may_be_text() {
        for (text, expected) in [
            ("true", Some(true)),
            ("false", Some(false)),
            ("'1'", Some(true)),
            ("'On'", Some(true)),
            ("'0'", Some(false)),
            ("''", Some(false)),
            ("'perhaps'", None),
            ("1", None),
        ] {
            assert_eq!(read::<Switch>(text).ok().map(|it| it.0), expected, "{text}");
        }
        assert_eq!(read("'You are'"), Ok(Wording::Text("You are".to_owned())));
        assert_eq!(read("'0'"), Ok(Wording::Switch(false)));
    }

    #[test]
    fn choices_may_say_nothing() {
        assert_eq!(read("true"), Ok(Choice(Some(true))));
        assert_eq!(read("'False'"), Ok(Choice(Some(false))));
        assert_eq!(read("' '"), Ok(Choice(None)));
        assert!(read::<Choice>("'perhaps'").is_err());
    }

    #[test]
    fn sizes_and_durations_may_be_text() {
        #[derive(Deserialize)]
        struct Size(#[serde(deserialize_with = "count")] u32);
        #[derive(Deserialize)]
        struct Wait(#[serde(deserialize_with = "milliseconds")] Duration);
        for (text, expected) in [
            ("7", Ok(7)),
            ("' 7 '", Ok(7)),
            ("'4294967296'", Err("4294967296 is too large")),
            ("-1", Err("-1 is below 0")),
            ("'1.5'", Err("`1.5` is no whole number")),
            ("''", Err("`` is no whole number")),
        ] {
            let size = read::<Size>(text).map(|it| it.0);
            assert_eq!(size.as_ref().map_err(String::as_str), expected.as_ref().map_err(|it| *it));
        }
        for (text, expected) in [
            ("1500", Some(1500)),
            ("'1500'", Some(1500)),
            ("'30s'", Some(30_000)),
            ("'1.5 s'", Some(1500)),
            ("'200ms'", Some(200)),
            ("'70000s'", Some(70_000_000)),
            ("'s'", None),
            ("'-1s'", None),
            ("'1m'", None),
            ("'nans'", None),
            ("'1e300s'", None),
            ("true", None),
        ] {
            let wait = read::<Wait>(text).ok().map(|it| it.0.as_millis());
            assert_eq!(wait, expected, "{text}");
        }
    }

    #[test]
    fn names_may_be_one_text() {
        for (text, expected) in [
            ("['a', ' b ']", Some(&["a", "b"][..])),
            ("'a,b , c,'", Some(&["a", "b", "c"])),
            ("[]", Some(&[])),
            ("''", Some(&[])),
            ("','", None),
            ("'[\"a\", \"b\"]'", Some(&["a", "b"])),
            ("'[a,b]'", Some(&["a", "b"])),
            ("'[]'", Some(&[])),
            ("'[,]'", None),
            ("['']", None),
            ("[1]", None),
            ("1", None),
        ] {
            let names = read::<Names>(text).ok().map(|it| it.0);
            let expected = expected.map(|it| it.iter().map(|it| (*it).to_owned()).collect());
            assert_eq!(names, expected, "{text}");
        }
    }
}
