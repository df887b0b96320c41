//! The one schema that GigaChat gets for all that is said about a value.

use super::Normaliser;
use super::facts::{Facts, Kind, Remarks};
use super::report::{Loss, shown};
use super::tree::Node;
use crate::wire::json;
use std::collections::HashSet;

/// How deep schemas nest in each other.
const DEPTH_MAX: usize = 32;

/// What a schema costs besides its texts: at least the bytes that `type` and `description` take, and
/// what others take where they are used.
const SCHEMA_BYTES: usize = 40;
const OBJECT_BYTES: usize = 32;
const ARRAY_BYTES: usize = 32;
const FORMAT_BYTES: usize = 24;
const ENUM_BYTES: usize = 12;

/// Values that a remark lists at most; more are never short.
const LISTED_MAX: usize = 40;

/// The formats that GigaChat knows.
const FORMATS: &[&str] = &["date", "date-time", "time"];

/// A schema of the kind that GigaChat takes.
#[derive(Debug)]
pub(super) struct Schema<'t> {
    kind: Kind,
    /// `null` was valid too.
    nullable: bool,
    description: String,
    format: Option<&'t str>,
    values: Vec<&'t str>,
    items: Option<Box<Schema<'t>>>,
    properties: Vec<(&'t str, Schema<'t>)>,
    required: Vec<&'t str>,
}

impl<'t> Schema<'t> {
    fn new(kind: Kind, nullable: bool) -> Self {
        Self {
            kind,
            nullable,
            description: String::new(),
            format: None,
            values: Vec::new(),
            items: None,
            properties: Vec::new(),
            required: Vec::new(),
        }
    }

    /// Appends the schema as JSON. A property has a description, even if it says nothing.
    pub(super) fn write(&self, property: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        json::member("type", self.kind.name(), out);
        if property || !self.description.is_empty() {
            json::member("description", &self.description, out);
        }
        if let Some(format) = self.format {
            json::member("format", format, out);
        }
        strings("enum", &self.values, out);
        if let Some(items) = &self.items {
            json::key("items", out);
            items.write(false, out);
        }
        if self.kind == Kind::Object {
            json::key("properties", out);
            out.push(b'{');
            for (name, schema) in &self.properties {
                json::comma(out);
                json::string(name, out);
                out.push(b':');
                schema.write(true, out);
            }
            out.push(b'}');
        }
        strings("required", &self.required, out);
        out.push(b'}');
    }
}

/// Appends a member that is a list of strings, unless it is empty.
fn strings(key: &str, list: &[&str], out: &mut Vec<u8>) {
    if list.is_empty() {
        return;
    }
    json::key(key, out);
    out.push(b'[');
    for text in list {
        json::comma(out);
        json::string(text, out);
    }
    out.push(b']');
}

impl<'t> Normaliser<'t> {
    /// Makes one schema of all that are about a value. `None` = no value is valid, or no more fits.
    pub(super) fn build(&mut self, schemas: &[&'t Node<'t>], depth: usize) -> Option<Schema<'t>> {
        let entered = self.active.len();
        let facts = self.gather(schemas, depth == 0);
        let schema = self.shape(facts, depth);
        self.active.truncate(entered);
        schema
    }

    fn shape(&mut self, mut facts: Facts<'t>, depth: usize) -> Option<Schema<'t>> {
        if facts.impossible {
            self.note("no value is valid, dropped", Loss::Lost);
            return None;
        }
        if !self.pay(SCHEMA_BYTES) {
            return None;
        }
        let values = self.values(&mut facts);
        let kind = self.kind(&values, depth == 0, &mut facts);
        let mut schema = Schema::new(kind, facts.nullable);
        self.constants(&values, &mut schema, &mut facts);
        self.formats(&mut schema, &mut facts);
        self.rules(kind, &mut facts);
        match kind {
            Kind::Array if self.pay(ARRAY_BYTES) => self.elements(&mut schema, &mut facts, depth),
            Kind::Array => schema.items = Some(Box::new(Schema::new(Kind::String, false))),
            Kind::Object if self.pay(OBJECT_BYTES) => self.members(&mut schema, &facts, depth),
            _ => {}
        }
        let description = facts.remarks.describe(facts.description);
        if self.pay(cost(&description)) {
            schema.description = description;
        }
        Some(schema)
    }

    /// The values that a value must be one of, `null` left out; empty = no such rule.
    fn values(&mut self, facts: &mut Facts<'t>) -> Vec<&'t Node<'t>> {
        let mut lists = std::mem::take(&mut facts.enums).into_iter();
        let Some(mut values) = lists.next() else { return Vec::new() };
        for other in lists {
            if self.spend(values.len().saturating_mul(other.len())) {
                values.retain(|value| other.contains(value));
            }
        }
        if let Some(types) = &facts.types {
            values.retain(|value| types.iter().any(|kind| kind.takes(value)));
        }
        let before = values.len();
        values.retain(|value| **value != Node::Null);
        let null = values.len() < before;
        facts.nullable |= null;
        if values.is_empty() && null {
            facts.types = Some(vec![Kind::Null]);
        } else if values.is_empty() {
            self.note("enum without a value of the type dropped", Loss::Lost);
        }
        values
    }

    /// The type that is kept of those that are possible.
    fn kind(&mut self, values: &[&'t Node<'t>], root: bool, facts: &mut Facts<'t>) -> Kind {
        let mut kinds = match &facts.types {
            Some(types) => types.clone(),
            None if !values.is_empty() => {
                let mut kinds = Vec::new();
                for kind in values.iter().map(|value| Kind::of_value(value)) {
                    if !kinds.contains(&kind) {
                        kinds.push(kind);
                    }
                }
                kinds
            }
            None => vec![self.guessed(root, facts)],
        };
        if !values.is_empty() {
            kinds.retain(|kind| values.iter().any(|value| kind.takes(value)));
        }
        facts.nullable |= kinds.contains(&Kind::Null);
        kinds.retain(|kind| *kind != Kind::Null);
        if kinds.contains(&Kind::Number) {
            kinds.retain(|kind| *kind != Kind::Integer);
        }
        // Strings can have constants, and the arguments are an object.
        let better = match root {
            true => Some(Kind::Object),
            false => (!values.is_empty()).then_some(Kind::String),
        };
        if let Some(at) = kinds.iter().position(|kind| Some(*kind) == better) {
            kinds[..=at].rotate_right(1);
        }
        let first = kinds.first().copied();
        let kind = if root { Kind::Object } else { first.unwrap_or(Kind::String) };
        if first != Some(kind) {
            let old = first.unwrap_or(Kind::Null).name();
            self.note(&format!("type {old:?} replaced by {:?}", kind.name()), Loss::Lost);
        } else if kinds.len() > 1 && values.is_empty() {
            let others: Vec<_> = kinds[1..].iter().map(|kind| kind.name()).collect();
            let fits = facts.remarks.add(&format!("or: {}", others.join(", ")));
            let loss = if fits { Loss::Told } else { Loss::Lost };
            self.note("only one type kept", loss);
        }
        kind
    }

    /// The type where none is named.
    fn guessed(&mut self, root: bool, facts: &Facts<'t>) -> Kind {
        let likely = [Kind::Object, Kind::Array, Kind::String, Kind::Number];
        if root || facts.cut {
            return Kind::Object;
        }
        if let Some(kind) = likely.into_iter().find(|kind| facts.hints.contains(kind)) {
            return kind;
        }
        if !facts.formats.is_empty() {
            return Kind::String;
        }
        self.note("type missing, string assumed", Loss::Lost);
        Kind::String
    }

    /// The constants: GigaChat takes strings only.
    fn constants(
        &mut self,
        values: &[&'t Node<'t>],
        schema: &mut Schema<'t>,
        facts: &mut Facts<'t>,
    ) {
        let mine = values.iter().filter(|value| schema.kind.takes(value));
        let mine: Vec<&'t Node<'t>> = mine.copied().collect();
        if mine.len() < values.len() {
            self.note("enum values of other types dropped", Loss::Lost);
        }
        if schema.kind == Kind::String {
            let mut seen = HashSet::new();
            let texts = mine.iter().filter_map(|value| value.text());
            let texts: Vec<_> = texts.filter(|text| seen.insert(*text)).collect();
            let bytes: usize = texts.iter().map(|text| cost(text)).sum();
            if !texts.is_empty() && self.pay(bytes + ENUM_BYTES) {
                schema.values = texts;
            }
            return;
        }
        let both = [true, false].iter().all(|one| mine.contains(&&Node::Bool(*one)));
        if mine.is_empty() || both {
            return;
        }
        let words = mine.iter().take(LISTED_MAX).map(|value| Remarks::value(value));
        let words = words.collect::<Option<Vec<_>>>().filter(|_| mine.len() <= LISTED_MAX);
        let text = words.map(|words| format!("one of: {}", words.join(", ")));
        self.tell("enum", text.as_deref(), facts);
    }

    fn formats(&mut self, schema: &mut Schema<'t>, facts: &mut Facts<'t>) {
        for name in std::mem::take(&mut facts.formats) {
            let string = schema.kind == Kind::String;
            if string && FORMATS.contains(&name) && schema.format.is_none_or(|old| old == name) {
                if self.pay(FORMAT_BYTES) {
                    schema.format = Some(name);
                }
            } else if string {
                let text = format!("format: {name}");
                self.tell(&format!("format {}", shown(name)), Some(&text), facts);
            } else {
                self.note(&format!("format {} dropped", shown(name)), Loss::None);
            }
        }
    }

    /// Rules that have no place but the description.
    fn rules(&mut self, kind: Kind, facts: &mut Facts<'t>) {
        for (rule, kinds, value) in std::mem::take(&mut facts.told) {
            if !kinds.is_empty() && !kinds.contains(&kind) {
                continue;
            }
            let text = match (rule, value) {
                ("pattern", Node::Text(pattern)) => Some(pattern.to_string()),
                _ => Remarks::value(value),
            };
            let text = text.map(|text| format!("{rule}: {text}"));
            self.tell(rule, text.as_deref(), facts);
        }
    }

    /// The elements of an array.
    fn elements(&mut self, schema: &mut Schema<'t>, facts: &mut Facts<'t>, depth: usize) {
        let mut schemas = std::mem::take(&mut facts.items);
        if let [first, ..] = facts.tuple {
            let words = facts.tuple.iter().take(LISTED_MAX).map(super::facts::word);
            let words = words.collect::<Option<Vec<_>>>();
            let words = words.filter(|words| words.len() == facts.tuple.len());
            let text = words.map(|words| format!("elements in this order: {}", words.join(", ")));
            self.tell("items of different places", text.as_deref(), facts);
            schemas = vec![first];
        }
        let place = self.enter("items", "");
        let built = match &schemas[..] {
            [] => {
                self.note("missing, strings assumed", Loss::Lost);
                None
            }
            schemas if depth < DEPTH_MAX => self.build(schemas, depth + 1),
            [Node::Object(only)]
                if only.len() == 1 && only.get("type").and_then(Node::text) == Some("string") =>
            {
                None
            }
            _ => {
                self.note("nested too deeply, cut here", Loss::Lost);
                None
            }
        };
        if built.as_ref().is_some_and(|items| items.nullable) {
            self.note("null dropped", Loss::Lost);
        }
        self.leave(place);
        let items = built.unwrap_or_else(|| Schema::new(Kind::String, false));
        schema.items = Some(Box::new(items));
    }

    /// The properties of an object.
    fn members(&mut self, schema: &mut Schema<'t>, facts: &Facts<'t>, depth: usize) {
        if depth >= DEPTH_MAX && !facts.properties.is_empty() {
            self.note("nested too deeply, cut here", Loss::Lost);
        } else {
            if facts.closed.iter().any(|own| *own < facts.properties.len()) {
                self.note("additionalProperties that excludes properties dropped", Loss::Lost);
            }
            self.properties(schema, facts, depth);
        }
        let known: HashSet<&str> = schema.properties.iter().map(|(name, _)| *name).collect();
        let mut seen = HashSet::new();
        for name in &facts.required {
            if !seen.insert(*name) {
                continue;
            }
            if !known.contains(name) {
                self.note(&format!("required {} is no property, dropped", shown(name)), Loss::Lost);
            } else if self.pay(cost(name)) {
                schema.required.push(name);
            }
        }
    }

    fn properties(&mut self, schema: &mut Schema<'t>, facts: &Facts<'t>, depth: usize) {
        let required: HashSet<&str> = facts.required.iter().copied().collect();
        for (name, schemas) in &facts.properties {
            if !self.pay(cost(name)) {
                return;
            }
            let place = self.enter("properties.", name);
            if schemas.iter().any(|one| **one == Node::Bool(false)) {
                self.note("never valid, dropped", Loss::None);
            } else if let Some(child) = self.build(schemas, depth + 1) {
                if child.nullable {
                    // One that may be left out needs no `null`.
                    let needed = required.contains(name);
                    self.note("null dropped", if needed { Loss::Lost } else { Loss::None });
                }
                schema.properties.push((name, child));
            }
            self.leave(place);
        }
    }
}

/// At least the bytes that a text takes as a JSON string in a list.
fn cost(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    escapes.sum::<usize>() + 4
}
