//! The schemas of functions' arguments, as far as GigaChat understands them.
//!
//! It takes `type`, `description`, `format` (three of them), `enum` (strings), `items`, `properties`
//! and `required`, and answers 422 to a request with anything that it does not know. Clients send
//! the whole of JSON Schema: references, alternatives, constants, bounds. What has no place becomes
//! the nearest thing that has one, so that what the model then says is valid for the tool wherever
//! that is possible, and the [`Report`] names what changed.
//!
//! | written | becomes |
//! |---|---|
//! | `$ref` into the schema | what it points at; an object without properties where it leads back into itself |
//! | `allOf`, and keywords beside `$ref` | one schema: types and constants in common, all properties |
//! | `anyOf`, `oneOf` of one schema and `null` | the schema; `null` is lost if the property is required |
//! | `anyOf`, `oneOf` of string constants | one `enum` |
//! | other `anyOf`, `oneOf`, and lists of types | the first, the others named in the description |
//! | `const` | an `enum` of one |
//! | `enum` of strings | itself; of others: the type, and the values in the description |
//! | elements by their place | the first one's schema, the others named in the description |
//! | no type | the type that the other keywords are about, or a string |
//! | bounds, patterns, defaults, formats | in the description, if they are short |
//! | `additionalProperties: false` | nothing: the model sends the properties that it is told of |
//! | conditions (`if`, `not`, `dependentRequired` ...) | nothing, and the report says so |
//!
//! Nothing grows out of hand: a reference is followed once within itself, schemas nest 32 deep, and both
//! the result and the work have bounds in proportion to the text.

mod build;
mod facts;
mod report;
mod tree;

pub(crate) use report::{Loss, Report};

use std::collections::HashMap;
use tree::Node;

/// A schema that any arguments fit.
const EMPTY: &[u8] = br#"{"type":"object","properties":{}}"#;

/// What one byte of a schema may become at most, and what any schema may become besides.
pub(crate) const GROWTH_MAX: usize = 8;
pub(crate) const BESIDES_BYTES_MAX: usize = 16 << 10;

/// Steps of work (a member of a schema read) per byte of text, and for any text.
const STEPS_PER_BYTE: usize = 4;
const STEPS_BESIDES: usize = 1 << 17;

/// Appends `parameters`, the JSON Schema of a function's arguments, in the form that GigaChat takes.
/// Never fails: what is no schema becomes one of an object without properties.
pub(crate) fn normalise(parameters: &str, out: &mut Vec<u8>) -> Report {
    let tree = tree::read(parameters);
    let Some(root @ (Node::Object(_) | Node::Bool(true))) = &tree else {
        out.extend_from_slice(EMPTY);
        let mut report = Report::default();
        if tree != Some(Node::Null) {
            report.add("", "what is no schema replaced by an empty object", Loss::Lost);
        }
        return report;
    };
    let mut normaliser = Normaliser {
        root,
        resolved: HashMap::new(),
        active: Vec::new(),
        path: String::new(),
        report: Report::default(),
        // The rest is for what is begun when it ends.
        bytes_left: parameters.len() * GROWTH_MAX + BESIDES_BYTES_MAX / 4 * 3,
        steps_left: parameters.len() * STEPS_PER_BYTE + STEPS_BESIDES,
    };
    match normaliser.build(&[root], 0) {
        Some(schema) => schema.write(false, out),
        None => out.extend_from_slice(EMPTY),
    }
    normaliser.report
}

/// One schema on its way.
struct Normaliser<'t> {
    root: &'t Node<'t>,
    /// What references point at.
    resolved: HashMap<&'t str, Option<&'t Node<'t>>>,
    /// What the references led to that are being followed.
    active: Vec<*const Node<'t>>,
    /// Where in the result.
    path: String,
    report: Report,
    bytes_left: usize,
    steps_left: usize,
}

impl Normaliser<'_> {
    fn note(&mut self, rule: &str, loss: Loss) {
        self.report.add(&self.path, rule, loss);
    }

    /// Takes from what may be written.
    fn pay(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or(0);
        if left.is_none() {
            self.note("too large, cut here", Loss::Lost);
        }
        left.is_some()
    }

    /// Takes from what may be read.
    fn spend(&mut self, steps: usize) -> bool {
        let left = self.steps_left.checked_sub(steps);
        self.steps_left = left.unwrap_or(0);
        if left.is_none() {
            self.note("too much to read, cut here", Loss::Lost);
        }
        left.is_some()
    }

    /// Goes down to a place, and returns what [`Normaliser::leave`] needs to go up again.
    fn enter(&mut self, keyword: &str, name: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(keyword);
        self.path.push_str(name);
        before
    }

    fn leave(&mut self, before: usize) {
        self.path.truncate(before);
    }
}
