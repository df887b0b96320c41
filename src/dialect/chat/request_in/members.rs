//! The members of one object by key, and the failures that name a wrong one by its path.

use crate::dialect::keys::{Key, Seen};
use crate::fault::Failure;
use crate::wire::json::{Bad, Cursor, Escaped, Kind, Raw, Why};
use std::fmt;

/// Most keys of an object other than the body.
const KEYS_MAX: usize = 12;

/// Where in the body a value stands; put into words only for a failure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'p> {
    /// The body itself.
    Body,
    /// A member of an object.
    Member(&'p Path<'p>, &'p str),
    /// An element of an array.
    Element(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// The path of a member.
    pub(super) const fn member<'s>(&'s self, name: &'s str) -> Path<'s> {
        Path::Member(self, name)
    }

    /// The path of an element.
    pub(super) const fn element(&self, index: usize) -> Path<'_> {
        Path::Element(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Body => Ok(()),
            Path::Member(Path::Body, name) => f.write_str(name),
            Path::Member(outer, name) => write!(f, "{outer}.{name}"),
            Path::Element(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

/// The failure behind the [`Bad`] that is on its way up through a cursor.
#[derive(Debug, Default)]
pub(super) struct Refusal(Option<Failure>);

impl Refusal {
    /// Keeps `failure` and returns what stops the cursor.
    pub(super) fn keep(&mut self, failure: Failure, cursor: &Cursor<'_>) -> Bad {
        self.0.get_or_insert(failure);
        cursor.bad(Why::Type)
    }

    /// The failure that stopped the cursor; without one, the text is not JSON.
    pub(super) fn explain(&mut self, bad: Bad) -> Failure {
        self.0.take().unwrap_or_else(|| {
            Failure::bad_request(format!("The request body is not valid JSON: {bad}."))
        })
    }

    /// Reads a value of which nobody knows yet whether it counts. One that has to be refused is
    /// skipped, and its failure returned.
    ///
    /// # Errors
    /// The value is not JSON.
    pub(super) fn attempt<'a, T>(
        &mut self,
        cursor: &mut Cursor<'a>,
        read: impl FnOnce(&mut Cursor<'a>, &mut Self) -> Result<T, Bad>,
    ) -> Result<Result<T, Failure>, Bad> {
        let start = cursor.clone();
        let read = read(cursor, self);
        match (read, self.0.take()) {
            (Ok(value), _) => Ok(Ok(value)),
            (Err(bad), None) => Err(bad),
            (Err(_), Some(failure)) => {
                *cursor = start;
                cursor.skip()?;
                Ok(Err(failure))
            }
        }
    }
}

/// The members of an object whose keys are `K`, at most `N`. `null` counts as absent.
pub(super) struct Members<'p, 'a, K, const N: usize = KEYS_MAX> {
    path: Path<'p>,
    values: [Option<Raw<'a>>; N],
    keys: std::marker::PhantomData<K>,
}

impl<'p, 'a, K: Key> Members<'p, 'a, K> {
    /// Reads the object that stands here.
    ///
    /// # Errors
    /// As [`Members::walk`].
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        path: Path<'p>,
        refusal: &mut Refusal,
    ) -> Result<Self, Bad> {
        Self::walk(cursor, path, refusal, |_, _, _, _| Ok(()))
    }

    /// Reads an object that was checked before.
    ///
    /// # Errors
    /// As [`Members::walk`], in words.
    pub(super) fn of(object: Raw<'a>, path: Path<'p>) -> Result<Self, Failure> {
        let mut refusal = Refusal::default();
        let read = Self::read(&mut object.cursor(), path, &mut refusal);
        read.map_err(|bad| refusal.explain(bad))
    }
}

impl<'p, 'a, K: Key, const N: usize> Members<'p, 'a, K, N> {
    /// Reads the object that stands here. `each` gets every key and its text, the cursor before the
    /// value, and may read the value, which is kept all the same.
    ///
    /// # Errors
    /// The value is no object, one of the keys stands in it twice, or a key is written with escapes.
    pub(super) fn walk(
        cursor: &mut Cursor<'a>,
        path: Path<'p>,
        refusal: &mut Refusal,
        mut each: impl FnMut(Option<K>, &'a str, &mut Cursor<'a>, &mut Refusal) -> Result<(), Bad>,
    ) -> Result<Self, Bad> {
        if cursor.kind()? != Kind::Object {
            return Err(refusal.keep(wrong(path, "an object"), cursor));
        }
        let mut values = [None; N];
        let mut seen = Seen::default();
        let walked = cursor.object(|text, cursor| {
            let key = K::of(text);
            if let Some(key) = key {
                seen.mark(key, cursor)
                    .map_err(|_| refusal.keep(twice(path.member(key.text())), cursor))?;
            }
            let start = cursor.position();
            each(key, text, cursor, refusal)?;
            let Some(slot) = key.and_then(|key| values.get_mut(key.number())) else {
                return Ok(());
            };
            let value =
                if cursor.position() == start { cursor.skip()? } else { cursor.since(start) };
            *slot = Some(value).filter(|value| !value.is_null());
            Ok(())
        });
        match walked {
            Err(bad) if bad.why == Why::EscapedKey => {
                Err(refusal.keep(unreadable(path, bad), cursor))
            }
            walked => walked.map(|()| Self { path, values, keys: std::marker::PhantomData }),
        }
    }

    /// The path of a member.
    pub(super) fn path(&self, key: K) -> Path<'_> {
        self.path.member(key.text())
    }

    /// Any value.
    pub(super) fn value(&self, key: K) -> Option<Raw<'a>> {
        self.values.get(key.number()).copied().flatten()
    }

    /// A string.
    pub(super) fn string(&self, key: K) -> Result<Option<Escaped<'a>>, Failure> {
        Ok(self.of_kind(key, Kind::String, "a string")?.and_then(Raw::string))
    }

    /// A string that has to be there.
    pub(super) fn needed(&self, key: K) -> Result<Escaped<'a>, Failure> {
        self.string(key)?.ok_or_else(|| missing(self.path(key)))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: K) -> Result<Option<bool>, Failure> {
        let value = self.of_kind(key, Kind::Bool, "true or false")?;
        Ok(value.map(|value| value.text() == "true"))
    }

    /// A number, as the client wrote it.
    pub(super) fn number(&self, key: K) -> Result<Option<Raw<'a>>, Failure> {
        self.of_kind(key, Kind::Number, "a number")
    }

    /// An integer that is not negative.
    pub(super) fn unsigned(&self, key: K) -> Result<Option<u64>, Failure> {
        let Some(value) = self.number(key)? else { return Ok(None) };
        let read = value.cursor().unsigned();
        read.map(Some).map_err(|_| wrong(self.path(key), "a whole number that is not negative"))
    }

    /// An object.
    pub(super) fn object(&self, key: K) -> Result<Option<Raw<'a>>, Failure> {
        self.of_kind(key, Kind::Object, "an object")
    }

    /// An array.
    pub(super) fn array(&self, key: K) -> Result<Option<Raw<'a>>, Failure> {
        self.of_kind(key, Kind::Array, "an array")
    }

    fn of_kind(&self, key: K, kind: Kind, what: &str) -> Result<Option<Raw<'a>>, Failure> {
        match self.value(key) {
            Some(value) if value.kind() != kind => Err(wrong(self.path(key), what)),
            value => Ok(value),
        }
    }
}

/// An object that cannot be walked because of a key in disguise.
fn unreadable(path: Path<'_>, bad: Bad) -> Failure {
    let place = match path {
        Path::Body => "The request body".to_owned(),
        path => path.to_string(),
    };
    Failure::bad_request(format!("{place} cannot be read: {bad}."))
}

fn twice(path: Path<'_>) -> Failure {
    Failure::bad_request(format!("The parameter '{path}' is given twice."))
        .with_param(path.to_string())
        .with_code("duplicate_parameter")
}

/// A value of the wrong type.
pub(super) fn wrong(path: Path<'_>, what: &str) -> Failure {
    Failure::bad_request(format!("Invalid type for '{path}': it must be {what}."))
        .with_param(path.to_string())
        .with_code("invalid_type")
}

/// A parameter that has to be there.
pub(super) fn missing(path: Path<'_>) -> Failure {
    Failure::bad_request(format!("Missing required parameter: '{path}'."))
        .with_param(path.to_string())
        .with_code("missing_required_parameter")
}

/// A value that no upstream could be asked for.
pub(super) fn refused(path: Path<'_>, why: &str) -> Failure {
    Failure::unsupported(path.to_string(), format!("Unsupported value for '{path}': {why}."))
        .with_code("unsupported_value")
}
