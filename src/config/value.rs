//! Values that can be written in more than one way, above all as text: `${NAME}` is always text.

use super::file::{Credential, Credentials, Key, KeyTable, Model, ModelTable};
use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use std::fmt;

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

/// `["a", "b"]` or `"a, b"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(pub(super) Vec<String>);

/// What a text says as a switch; empty is off, as with a variable that is not set.
fn switch(text: &str) -> Option<bool> {
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
    let text: String = text.chars().take(40).collect();
    format!("`{text}` is no whole number from 0 to 4294967295")
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Wording::deserialize(from)? {
            Wording::Switch(on) => Ok(Self(on)),
            Wording::Text(_) => Err(D::Error::custom("neither true nor false")),
        }
    }
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
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(str::to_owned).collect();
                // A slip must not open what a list was meant to close.
                if names.is_empty() && !text.trim().is_empty() {
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
    fn names_may_be_one_text() {
        for (text, expected) in [
            ("['a', ' b ']", Some(&["a", "b"][..])),
            ("'a,b , c,'", Some(&["a", "b", "c"])),
            ("[]", Some(&[])),
            ("''", Some(&[])),
            ("','", None),
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
