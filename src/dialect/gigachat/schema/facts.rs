//! What is said about one value: by its schema, by those that it refers to, by all of `allOf`, and by
//! the alternative that was chosen.

use super::Normaliser;
use super::report::{Loss, shown};
use super::tree::{Members, Node};
use std::collections::{HashMap, HashSet};

/// Bytes of a remark, and of all remarks of one description.
const REMARK_BYTES_MAX: usize = 80;
const REMARKS_BYTES_MAX: usize = 240;

/// Members looked at, to find one, in the time of a step.
const FINDS_PER_STEP: usize = 16;

/// Keywords that say nothing about values, and those that are read where they are used.
const SILENT: &[&str] =
    &["title", "$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "$vocabulary"];

/// Rules that are dropped, and too long to be told.
const DROPPED: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "patternProperties",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
];

/// Rules that a description can tell, and the types that each is about; none = any.
const TOLD: &[(&str, &[Kind])] = &[
    ("minimum", &[Kind::Number, Kind::Integer]),
    ("maximum", &[Kind::Number, Kind::Integer]),
    ("exclusiveMinimum", &[Kind::Number, Kind::Integer]),
    ("exclusiveMaximum", &[Kind::Number, Kind::Integer]),
    ("multipleOf", &[Kind::Number, Kind::Integer]),
    ("minLength", &[Kind::String]),
    ("maxLength", &[Kind::String]),
    ("pattern", &[Kind::String]),
    ("contentEncoding", &[Kind::String]),
    ("contentMediaType", &[Kind::String]),
    ("minItems", &[Kind::Array]),
    ("maxItems", &[Kind::Array]),
    ("uniqueItems", &[Kind::Array]),
    ("minProperties", &[Kind::Object]),
    ("maxProperties", &[Kind::Object]),
    ("default", &[]),
    ("examples", &[]),
];

/// The types of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// The type by its name, or by one that programmers write in its place.
    fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "null" | "none" => Self::Null,
            "boolean" | "bool" => Self::Boolean,
            "integer" | "int" | "long" => Self::Integer,
            "number" | "float" | "double" => Self::Number,
            "string" | "str" => Self::String,
            "array" | "list" => Self::Array,
            "object" | "dict" => Self::Object,
            _ => return None,
        })
    }

    /// The type's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// The narrowest type of a value.
    pub(super) fn of_value(value: &Node<'_>) -> Self {
        match value {
            Node::Null => Self::Null,
            Node::Bool(_) => Self::Boolean,
            Node::Number(text) => {
                let whole = text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0);
                if whole { Self::Integer } else { Self::Number }
            }
            Node::Text(_) => Self::String,
            Node::List(_) => Self::Array,
            Node::Object(_) => Self::Object,
        }
    }

    /// Whether a value is of this type.
    pub(super) fn takes(self, value: &Node<'_>) -> bool {
        let kind = Self::of_value(value);
        kind == self || (kind, self) == (Self::Integer, Self::Number)
    }
}

/// What a description says besides: rules that have no place of their own.
#[derive(Debug, Default)]
pub(super) struct Remarks(String);

impl Remarks {
    /// Adds a remark, if it is short.
    pub(super) fn add(&mut self, text: &str) -> bool {
        let fits = !text.is_empty()
            && text.len() <= REMARK_BYTES_MAX
            && self.0.len() + text.len() <= REMARKS_BYTES_MAX;
        if fits {
            self.0.push_str(if self.0.is_empty() { "" } else { "; " });
            self.0.push_str(text);
        }
        fits
    }

    /// A value as a remark shows it.
    pub(super) fn value(value: &Node<'_>) -> Option<String> {
        value.json(REMARK_BYTES_MAX)
    }

    /// The description with the remarks behind it.
    pub(super) fn describe(&self, description: &str) -> String {
        match (description, self.0.as_str()) {
            (_, "") => description.to_owned(),
            ("", remarks) => format!("({remarks})"),
            (_, remarks) => format!("{description} ({remarks})"),
        }
    }
}

/// What is said about one value.
#[derive(Debug, Default)]
pub(super) struct Facts<'t> {
    /// The types that everybody allows; `None` = nobody says.
    pub(super) types: Option<Vec<Kind>>,
    /// The types that keywords hint at.
    pub(super) hints: Vec<Kind>,
    /// `null` is a value too.
    pub(super) nullable: bool,
    /// No value is valid.
    pub(super) impossible: bool,
    /// A reference led to nothing, or to where it came from.
    pub(super) cut: bool,
    /// Each list of values that the value must be in.
    pub(super) enums: Vec<Vec<&'t Node<'t>>>,
    pub(super) description: &'t str,
    pub(super) formats: Vec<&'t str>,
    /// Properties by name, each with all that is said about it.
    pub(super) properties: Vec<(&'t str, Vec<&'t Node<'t>>)>,
    places: HashMap<&'t str, usize>,
    pub(super) required: Vec<&'t str>,
    /// For objects that allow no more properties, how many they have.
    pub(super) closed: Vec<usize>,
    pub(super) items: Vec<&'t Node<'t>>,
    /// Schemas of the first elements.
    pub(super) tuple: &'t [Node<'t>],
    /// Rules of [`TOLD`].
    pub(super) told: Vec<(&'static str, &'static [Kind], &'t Node<'t>)>,
    pub(super) remarks: Remarks,
    /// The schemas read, so that none is read twice.
    seen: HashSet<*const Node<'t>>,
    /// An alternative was chosen.
    chosen: bool,
    /// No schema before this one, nor beside it, was about the value.
    alone: bool,
}

impl<'t> Facts<'t> {
    /// Leaves of the types only these.
    fn only(&mut self, kinds: &[Kind]) -> bool {
        let both = match &self.types {
            None => kinds.to_vec(),
            Some(old) => meet(old, kinds),
        };
        let some = !both.is_empty();
        if some {
            self.types = Some(both);
        }
        some
    }

    fn hint(&mut self, kind: Kind) {
        if !self.hints.contains(&kind) {
            self.hints.push(kind);
        }
    }
}

/// The types in both lists. An integer is a number.
fn meet(one: &[Kind], other: &[Kind]) -> Vec<Kind> {
    let mut both = Vec::new();
    for kind in one {
        let narrow = match kind {
            kind if other.contains(kind) => *kind,
            Kind::Integer if other.contains(&Kind::Number) => Kind::Integer,
            Kind::Number if other.contains(&Kind::Integer) => Kind::Integer,
            _ => continue,
        };
        if !both.contains(&narrow) {
            both.push(narrow);
        }
    }
    both
}

impl<'t> Normaliser<'t> {
    /// Reads the schemas that all are about one value.
    pub(super) fn gather(&mut self, schemas: &[&'t Node<'t>], root: bool) -> Facts<'t> {
        let mut facts = Facts { alone: schemas.len() == 1, ..Facts::default() };
        let mut stack: Vec<&'t Node<'t>> = schemas.iter().rev().copied().collect();
        while let Some(node) = stack.pop() {
            if !facts.seen.insert(std::ptr::from_ref(node)) {
                continue;
            }
            match node {
                Node::Bool(valid) => facts.impossible |= !valid,
                Node::Object(members) => {
                    if !self.spend(members.len() + 1) {
                        facts.cut = true;
                        break;
                    }
                    if let Some(Node::Bool(false)) = members.get("additionalProperties") {
                        facts.closed.push(match members.get("properties") {
                            Some(Node::Object(own)) => own.len(),
                            _ => 0,
                        });
                    }
                    let mut next = Vec::new();
                    for (key, value) in members.iter() {
                        if !self.applicator(key, value, root, &mut facts, &mut next) {
                            self.assertion(key, value, &mut facts);
                        }
                    }
                    facts.alone = false;
                    stack.extend(next.into_iter().rev());
                }
                _ => self.note("what is no schema dropped", Loss::Lost),
            }
        }
        facts
    }

    /// A keyword whose value is about schemas; false when it is none. `next` gets the schemas that
    /// are about the same value.
    fn applicator(
        &mut self,
        key: &'t str,
        value: &'t Node<'t>,
        root: bool,
        facts: &mut Facts<'t>,
        next: &mut Vec<&'t Node<'t>>,
    ) -> bool {
        match (key, value) {
            ("$ref", Node::Text(reference)) => match self.follow(reference, facts) {
                Some(target) => next.push(target),
                None => facts.cut = true,
            },
            ("allOf", Node::List(list)) => {
                if self.spend(list.len()) {
                    next.extend(list);
                }
            }
            ("anyOf" | "oneOf", Node::List(list)) => {
                if self.spend(list.len()) {
                    self.choose(key, list, root, facts, next);
                }
            }
            ("properties", Node::Object(members)) => {
                facts.hint(Kind::Object);
                if self.spend(members.len()) {
                    add_properties(members, facts);
                }
            }
            ("additionalProperties" | "unevaluatedProperties", value) => {
                facts.hint(Kind::Object);
                self.others(key, value, facts);
            }
            ("items" | "prefixItems", Node::List(list)) => {
                facts.hint(Kind::Array);
                if facts.tuple.is_empty() {
                    facts.tuple = list;
                }
            }
            ("items", Node::Object(_) | Node::Bool(_)) => {
                facts.hint(Kind::Array);
                facts.items.push(value);
            }
            ("$ref" | "allOf" | "anyOf" | "oneOf" | "properties" | "items" | "prefixItems", _) => {
                self.note(&format!("malformed {key} dropped"), Loss::Lost);
            }
            _ => return false,
        }
        true
    }

    /// A keyword about the value itself.
    fn assertion(&mut self, key: &'t str, value: &'t Node<'t>, facts: &mut Facts<'t>) {
        match (key, value) {
            ("type", _) => self.types(value, facts),
            ("description", Node::Text(text)) => {
                if facts.description.is_empty() {
                    facts.description = text;
                }
            }
            ("format", Node::Text(name)) => facts.formats.push(name),
            ("nullable", Node::Bool(nullable)) => facts.nullable |= nullable,
            ("const", _) => facts.enums.push(vec![value]),
            ("enum", Node::List(list)) if !list.is_empty() => {
                if self.spend(list.len()) {
                    facts.enums.push(list.iter().collect());
                }
            }
            ("required", Node::List(list)) => {
                facts.hint(Kind::Object);
                if self.spend(list.len()) {
                    facts.required.extend(list.iter().filter_map(Node::text));
                }
                if list.iter().any(|name| name.text().is_none()) {
                    self.note("malformed required dropped", Loss::Lost);
                }
            }
            ("enum" | "required", _) => {
                self.note(&format!("malformed {key} dropped"), Loss::Lost);
            }
            _ => self.other(key, value, facts),
        }
    }

    /// A keyword that has no place in the result.
    fn other(&mut self, key: &str, value: &'t Node<'t>, facts: &mut Facts<'t>) {
        if let Some((key, kinds)) = TOLD.iter().find(|(told, _)| *told == key) {
            kinds.first().into_iter().for_each(|kind| facts.hint(*kind));
            let off = *key != "default" && matches!(value, Node::Bool(false));
            if !off && !matches!(value, Node::Null) {
                facts.told.push((*key, *kinds, value));
            }
        } else if DROPPED.contains(&key) {
            if key.contains("roperties") {
                facts.hint(Kind::Object);
            }
            self.note(&format!("{key} dropped"), Loss::Lost);
        } else if !SILENT.contains(&key) {
            self.note(&format!("{} dropped", shown(key)), Loss::None);
        }
    }

    fn types(&mut self, value: &'t Node<'t>, facts: &mut Facts<'t>) {
        let list = match value {
            Node::List(list) => list.as_slice(),
            _ => std::slice::from_ref(value),
        };
        let mut kinds = Vec::new();
        for name in list.iter().take(16) {
            match name.text().and_then(Kind::of) {
                Some(kind) if kinds.contains(&kind) => {}
                Some(kind) => kinds.push(kind),
                None => {
                    let name = name.text().map_or_else(|| "that is no name".to_owned(), shown);
                    self.note(&format!("type {name} dropped"), Loss::Lost);
                }
            }
        }
        if list.is_empty() {
            self.note("malformed type dropped", Loss::Lost);
        } else if !kinds.is_empty() && !facts.only(&kinds) {
            self.note("types that exclude each other, first kept", Loss::Lost);
        }
    }

    /// What is said about properties that have no schema of their own.
    fn others(&mut self, key: &str, value: &'t Node<'t>, facts: &mut Facts<'t>) {
        match value {
            Node::Bool(true) => {}
            Node::Object(members) if members.len() == 0 => {}
            Node::Bool(false) if key == "additionalProperties" || facts.alone => {}
            _ => {
                let text = Remarks::value(value).map(|text| format!("other properties: {text}"));
                self.tell(key, text.as_deref(), facts);
            }
        }
    }

    /// Chooses among alternatives.
    fn choose(
        &mut self,
        key: &str,
        list: &'t [Node<'t>],
        root: bool,
        facts: &mut Facts<'t>,
        next: &mut Vec<&'t Node<'t>>,
    ) {
        if !self.spend(list.iter().map(size).sum()) {
            facts.cut = true;
            return;
        }
        facts.chosen = true;
        let (mut open, mut null) = (Vec::new(), false);
        for alternative in list {
            match alternative {
                Node::Bool(false) => {}
                _ if is_null(alternative) => null = true,
                _ => open.push(alternative),
            }
        }
        facts.nullable |= null;
        match open[..] {
            [] if null => facts.impossible |= !facts.only(&[Kind::Null]),
            [] => facts.impossible = true,
            [only] => next.push(only),
            _ => {
                if let Some(values) = union(&open) {
                    let distinct: HashSet<_> = values.iter().filter_map(|one| one.text()).collect();
                    // With `oneOf`, a value in two of them was not valid.
                    let same = key == "anyOf" || distinct.len() == values.len();
                    let loss = if same { Loss::None } else { Loss::Lost };
                    self.note(&format!("{key} of constants joined"), loss);
                    facts.enums.push(values);
                    return;
                }
                let at = open.iter().position(|one| root && self.is_object(one)).unwrap_or(0);
                next.push(open[at]);
                let others = open.iter().enumerate().filter(|(place, _)| *place != at);
                let words: Option<Vec<_>> = others.take(8).map(|(_, one)| word(one)).collect();
                let words = words.unwrap_or_default();
                let fits = words.len() + 1 == open.len()
                    && facts.remarks.add(&format!("or: {}", words.join(", ")));
                let loss = if fits { Loss::Told } else { Loss::Lost };
                self.note(&format!("{key}: only one alternative kept"), loss);
            }
        }
    }

    /// Whether a schema looks as if it were an object's.
    fn is_object(&mut self, node: &'t Node<'t>) -> bool {
        let object = |members: &Members<'_>| {
            members.get("properties").is_some()
                || members.get("type").and_then(Node::text) == Some("object")
        };
        let Node::Object(members) = node else { return false };
        let target = members.get("$ref").and_then(Node::text);
        let target = target.and_then(|reference| self.resolve(reference));
        object(members) || matches!(target, Some(Node::Object(members)) if object(members))
    }

    /// The schema that a reference leads to, unless it leads from there to there again.
    fn follow(&mut self, reference: &'t str, facts: &Facts<'t>) -> Option<&'t Node<'t>> {
        let Some(target) = self.resolve(reference) else {
            self.note(&format!("$ref {} leads nowhere", shown(reference)), Loss::Lost);
            return None;
        };
        let place = std::ptr::from_ref(target);
        if facts.seen.contains(&place) {
            if facts.chosen {
                // An alternative of a schema that is the schema itself.
                self.note(&format!("$ref {} to itself cut", shown(reference)), Loss::Lost);
            }
            return Some(target);
        }
        if !self.spend(self.active.len() / FINDS_PER_STEP) || self.active.contains(&place) {
            self.note(&format!("$ref {} to itself cut", shown(reference)), Loss::Lost);
            return None;
        }
        self.active.push(place);
        Some(target)
    }

    /// What a reference inside of the schema points at (RFC 6901).
    fn resolve(&mut self, reference: &'t str) -> Option<&'t Node<'t>> {
        if let Some(known) = self.resolved.get(reference) {
            return *known;
        }
        let target = self.look_up(reference);
        self.resolved.insert(reference, target);
        target
    }

    fn look_up(&mut self, reference: &str) -> Option<&'t Node<'t>> {
        let pointer = reference.strip_prefix('#')?;
        let mut node = self.root;
        if pointer.is_empty() {
            return Some(node);
        }
        for token in pointer.strip_prefix('/')?.split('/') {
            let token = percent_decoded(token).replace("~1", "/").replace("~0", "~");
            node = match node {
                Node::Object(members) if self.spend(members.len() / FINDS_PER_STEP + 1) => {
                    members.get(&token)?
                }
                Node::List(list) => list.get(token.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// Puts a rule into the description, if there is a short text of it.
    pub(super) fn tell(&mut self, rule: &str, text: Option<&str>, facts: &mut Facts<'t>) {
        if text.is_some_and(|text| facts.remarks.add(text)) {
            self.note(&format!("{rule} moved to the description"), Loss::Told);
        } else {
            self.note(&format!("{rule} dropped"), Loss::Lost);
        }
    }
}

fn add_properties<'t>(members: &'t Members<'t>, facts: &mut Facts<'t>) {
    for (name, schema) in members.iter() {
        match facts.places.get(name) {
            Some(place) => facts.properties[*place].1.push(schema),
            None => {
                facts.places.insert(name, facts.properties.len());
                facts.properties.push((name, vec![schema]));
            }
        }
    }
}

/// Whether only `null` is valid.
fn is_null(node: &Node<'_>) -> bool {
    let Node::Object(members) = node else { return false };
    members.iter().any(|(key, value)| match (key, value) {
        ("type", Node::Text(name)) => name == "null",
        ("const", Node::Null) => true,
        ("enum", Node::List(list)) => matches!(list[..], [Node::Null]),
        _ => false,
    })
}

/// How long it takes to look at an alternative.
fn size(node: &Node<'_>) -> usize {
    let Node::Object(members) = node else { return 1 };
    let values = match members.get("enum") {
        Some(Node::List(list)) => list.len(),
        _ => 0,
    };
    members.len() + values + 1
}

/// The strings that the alternatives allow, if they say nothing else.
fn union<'t>(alternatives: &[&'t Node<'t>]) -> Option<Vec<&'t Node<'t>>> {
    let mut values = Vec::new();
    for node in alternatives {
        let Node::Object(members) = node else { return None };
        let before = values.len();
        for (key, value) in members.iter() {
            match (key, value) {
                ("const", Node::Text(_)) if values.len() == before => values.push(value),
                ("enum", Node::List(list)) if values.len() == before => values.extend(list),
                ("type", Node::Text(name)) if name == "string" => {}
                ("title" | "description", _) => {}
                _ => return None,
            }
        }
        if values.len() == before || values[before..].iter().any(|value| value.text().is_none()) {
            return None;
        }
    }
    Some(values)
}

/// A few words for an alternative, if there are any.
pub(super) fn word(node: &Node<'_>) -> Option<String> {
    let Node::Object(members) = node else { return Some("anything".to_owned()) };
    let text = |key: &str| members.get(key).and_then(Node::text);
    let constant = members.get("const").or_else(|| members.get("enum"));
    if let Some(constant) = constant {
        return Remarks::value(constant);
    }
    if let Some(name) = text("type").or_else(|| text("$ref")) {
        return name.rsplit('/').next().map(str::to_owned);
    }
    if members.get("properties").is_some() {
        return Some("object".to_owned());
    }
    let names = Remarks::value(members.get("required")?)?;
    Some(format!("required {names}"))
}

/// A piece of a URL as it was meant.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        if let (b'%', Some(high), Some(low)) = (byte, digit(0), digit(1)) {
            bytes.push(u8::try_from(high * 16 + low).unwrap_or(byte));
            rest = &behind[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_decoded() {
        let table =
            [("a%20b", "a b"), ("%d0%B4", "д"), ("%", "%"), ("%4", "%4"), ("%ff", "%ff"), ("", "")];
        for (text, expected) in table {
            assert_eq!(percent_decoded(text), expected, "{text}");
        }
    }

    #[test]
    fn types_meet() {
        use Kind::{Integer, Null, Number, String};
        assert_eq!(meet(&[Number, Null], &[Integer, String]), [Integer]);
        assert_eq!(meet(&[Integer], &[Null, Number]), [Integer]);
        assert_eq!(meet(&[String, Null], &[Null, String]), [String, Null]);
        assert_eq!(meet(&[String], &[Null]), []);
    }
}
