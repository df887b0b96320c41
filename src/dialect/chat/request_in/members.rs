//! The members of one object by name, and the failures that name a wrong one by its path.

use crate::fault::Failure;
use crate::wire::json::{Bad, Escaped, Kind, Raw, Why};

/// The members of an object that decide something. `null` counts as absent.
pub(super) struct Members<'a> {
    /// The path of the object, empty for the body.
    place: String,
    known: Vec<(&'static str, Raw<'a>)>,
    /// Names of all others whose value is not null.
    pub(super) unknown: Vec<&'a str>,
}

impl<'a> Members<'a> {
    /// Reads an object, whose JSON was checked with the whole body.
    ///
    /// # Errors
    /// The value is no object, or one of `names` stands in it twice.
    pub(super) fn read(
        object: Raw<'a>,
        place: &str,
        names: &'static [&'static str],
    ) -> Result<Self, Failure> {
        let mut members = Self { place: place.to_owned(), known: Vec::new(), unknown: Vec::new() };
        let mut twice = None;
        let read = object.cursor().object(|key, cursor| {
            let value = cursor.skip()?;
            match names.iter().find(|name| **name == key) {
                Some(name) if members.known.iter().any(|(known, _)| known == name) => {
                    twice = Some(*name);
                    return Err(cursor.bad(Why::Duplicate));
                }
                Some(name) => members.known.push((name, value)),
                None if value.is_null() => {}
                None => members.unknown.push(key),
            }
            Ok(())
        });
        match (read, twice) {
            (Ok(()), _) => Ok(members),
            (Err(_), Some(name)) => {
                let path = members.path(name);
                Err(Failure::bad_request(format!("The parameter '{path}' is given twice."))
                    .with_param(path)
                    .with_code("duplicate_parameter"))
            }
            (Err(bad), None) => Err(unreadable(bad, place)),
        }
    }

    /// The path of a member.
    pub(super) fn path(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// Any value.
    pub(super) fn value(&self, name: &str) -> Option<Raw<'a>> {
        let found = self.known.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).filter(|value| !value.is_null())
    }

    /// A string.
    pub(super) fn string(&self, name: &str) -> Result<Option<Escaped<'a>>, Failure> {
        match self.of_kind(name, Kind::String, "a string")? {
            Some(value) => Ok(value.string()),
            None => Ok(None),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        let value = self.of_kind(name, Kind::Bool, "true or false")?;
        Ok(value.map(|value| value.text() == "true"))
    }

    /// A number, as the client wrote it.
    pub(super) fn number(&self, name: &str) -> Result<Option<Raw<'a>>, Failure> {
        self.of_kind(name, Kind::Number, "a number")
    }

    /// An integer that is not negative.
    pub(super) fn unsigned(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.number(name)? else { return Ok(None) };
        let read = value.cursor().unsigned();
        read.map(Some).map_err(|_| wrong(&self.path(name), "a whole number that is not negative"))
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Result<Option<Raw<'a>>, Failure> {
        self.of_kind(name, Kind::Object, "an object")
    }

    /// An array.
    pub(super) fn array(&self, name: &str) -> Result<Option<Raw<'a>>, Failure> {
        self.of_kind(name, Kind::Array, "an array")
    }

    fn of_kind(&self, name: &str, kind: Kind, what: &str) -> Result<Option<Raw<'a>>, Failure> {
        match self.value(name) {
            Some(value) if value.kind() != kind => Err(wrong(&self.path(name), what)),
            value => Ok(value),
        }
    }
}

/// Walks an array that was checked with the whole body; `each` gets every element and its path.
pub(super) fn each<'a>(
    list: Raw<'a>,
    place: &str,
    mut each: impl FnMut(Raw<'a>, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut failure = None;
    let mut index = 0;
    let read = list.cursor().array(|cursor| {
        let element = cursor.skip()?;
        let path = format!("{place}[{index}]");
        index += 1;
        each(element, &path).map_err(|error| {
            failure = Some(error);
            cursor.bad(Why::Type)
        })
    });
    match read {
        Ok(()) => Ok(()),
        Err(bad) => Err(failure.unwrap_or_else(|| unreadable(bad, place))),
    }
}

/// An object that cannot be walked: the only reason left is a key in disguise.
fn unreadable(bad: Bad, place: &str) -> Failure {
    let place = if place.is_empty() { "The request body" } else { place };
    Failure::bad_request(format!("{place} cannot be read: {bad}."))
}

/// A value of the wrong type.
pub(super) fn wrong(place: &str, what: &str) -> Failure {
    Failure::bad_request(format!("Invalid type for '{place}': it must be {what}."))
        .with_param(place)
        .with_code("invalid_type")
}

/// A parameter that has to be there.
pub(super) fn missing(place: &str) -> Failure {
    Failure::bad_request(format!("Missing required parameter: '{place}'."))
        .with_param(place)
        .with_code("missing_required_parameter")
}

/// A value that no upstream could be asked for.
pub(super) fn refused(place: &str, why: &str) -> Failure {
    Failure::unsupported(place, format!("Unsupported value for '{place}': {why}."))
        .with_code("unsupported_value")
}
