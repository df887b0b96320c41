//! The names of tools between a client, which may use namespaces and any characters, and an
//! upstream, which wants unique names of `[a-zA-Z0-9_-]{1,64}`. Reversible for the whole exchange.

use crate::dialect::event::CallKind;
use crate::dialect::request::ToolName;
use crate::wire::json::Escaped;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};

/// Longest tool name that strict upstreams take.
pub const NAME_BYTES_MAX: usize = 64;

/// Tables up to this size are searched from end to end, which is faster than hashing.
const SEARCHED_MAX: usize = 48;

/// What each upstream tool name stands for.
#[derive(Clone, Debug, Default)]
pub struct ToolTable {
    entries: Vec<Entry>,
    /// Where the entries of a large table are, by the hashes of their two names.
    places: HashMap<u64, Vec<usize>>,
    /// Names are a peer's, so the hashes have a secret.
    secret: RandomState,
    /// What no tool may be called upstream.
    reserved: &'static [&'static str],
}

/// One tool under both names. `namespace` and `name` are escaped JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name upstream: plain ASCII.
    pub upstream: String,
    /// How the client declared it.
    pub kind: CallKind,
    /// True when a custom tool was declared upstream as a function with one string `input`.
    pub wrapped: bool,
    /// The client's namespace, or empty.
    pub namespace: String,
    /// The client's name.
    pub name: String,
}

impl Entry {
    /// The client's name.
    #[must_use]
    pub fn tool(&self) -> ToolName<'_> {
        ToolName {
            namespace: Escaped::trusted(&self.namespace),
            name: Escaped::trusted(&self.name),
        }
    }
}

impl ToolTable {
    /// An empty table that gives no tool one of these names: the upstream's own tools have them.
    #[must_use]
    pub fn reserving(reserved: &'static [&'static str]) -> Self {
        Self { reserved, ..Self::default() }
    }

    /// Adds a tool, or finds it when it is there. Returns its upstream name: the client's own where
    /// it is legal (`namespace__name` inside a namespace), else a legal prefix and eight hexadecimal
    /// digits of a hash, so that the same tool has the same name on every turn.
    pub fn add(&mut self, kind: CallKind, wrapped: bool, tool: ToolName<'_>) -> &str {
        let at = self.place(kind, wrapped, tool);
        &self.entries[at].upstream
    }

    /// [`ToolTable::add`], but returns where the tool stands in [`ToolTable::entries`].
    pub fn place(&mut self, kind: CallKind, wrapped: bool, tool: ToolName<'_>) -> usize {
        let same = |entry: &Entry| entry.kind == kind && entry.tool() == tool;
        if let Some(at) = self.find((kind, tool), same) {
            return at;
        }
        let taken = |name: &str| {
            self.reserved.contains(&name)
                || self.find(name, |entry| entry.upstream == name).is_some()
        };
        let upstream = upstream_name(kind, tool, taken);
        self.entries.push(Entry {
            upstream,
            kind,
            wrapped,
            namespace: tool.namespace.raw().to_owned(),
            name: tool.name.raw().to_owned(),
        });
        let last = self.entries.len() - 1;
        if last >= SEARCHED_MAX {
            let first = if last == SEARCHED_MAX { 0 } else { last };
            for (entry, at) in self.entries[first..].iter().zip(first..) {
                let client = self.secret.hash_one((entry.kind, entry.tool()));
                let upstream = self.secret.hash_one(entry.upstream.as_str());
                self.places.entry(client).or_default().push(at);
                self.places.entry(upstream).or_default().push(at);
            }
        }
        last
    }

    fn find(&self, key: impl Hash, same: impl Fn(&Entry) -> bool) -> Option<usize> {
        if self.entries.len() <= SEARCHED_MAX {
            return self.entries.iter().position(same);
        }
        let places = self.places.get(&self.secret.hash_one(key))?;
        places.iter().copied().find(|&at| same(&self.entries[at]))
    }

    /// Finds a tool by its upstream name.
    #[must_use]
    pub fn by_upstream(&self, name: Escaped<'_>) -> Option<&Entry> {
        self.entries.iter().find(|entry| name.is(&entry.upstream))
    }

    /// All tools, in the order added.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn upstream_name(kind: CallKind, tool: ToolName<'_>, taken: impl Fn(&str) -> bool) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_legal =
        |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal);
    // A backslash is not legal, so what is legal stands for itself.
    let mut plain = joined(tool.namespace.raw(), tool.name.raw());
    if !is_legal(&plain) {
        plain = joined(&tool.namespace.decode(), &tool.name.decode());
    }
    if is_legal(&plain) && !taken(&plain) {
        return plain;
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let prefix: String = plain.chars().map(|c| if legal(c) { c } else { '_' }).collect();
    let mut salt = 0u64;
    loop {
        let key = format!("{kind:?}\n{}\n{}\n{salt}", tool.namespace.raw(), tool.name.raw());
        let hash = fnv1a(key.as_bytes());
        let keep = prefix.len().min(NAME_BYTES_MAX - 9);
        let name = format!("{}_{:08x}", &prefix[..keep], hash & 0xffff_ffff);
        if !taken(&name) {
            return name;
        }
        salt += 1;
    }
}

/// A tool's name behind its namespace.
fn joined(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { [namespace, "__", name].concat() }
}

/// FNV-1a, 64 bits: short, stable over versions and machines, and nothing here is secret.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool<'a>(namespace: &'a str, name: &'a str) -> ToolName<'a> {
        ToolName { namespace: Escaped::trusted(namespace), name: Escaped::trusted(name) }
    }

    #[test]
    fn legal_names_stay_and_namespaces_are_joined() {
        let mut table = ToolTable::default();
        assert_eq!(table.add(CallKind::Function, false, tool("", "shell")), "shell");
        assert_eq!(
            table.add(CallKind::Function, false, tool("mcp__calc", "add")),
            "mcp__calc__add"
        );
        let entry = table.by_upstream(Escaped::trusted("mcp__calc__add")).unwrap();
        assert_eq!(entry.tool(), tool("mcp__calc", "add"));
    }

    #[test]
    fn large_tables_find_what_small_ones_find() {
        let mut table = ToolTable::default();
        let names: Vec<String> = (0..200).map(|n| format!("tool {}", n % 150)).collect();
        let places: Vec<usize> = names
            .iter()
            .map(|name| table.place(CallKind::Function, false, tool("", name)))
            .collect();
        assert_eq!(table.entries().len(), 150);
        assert_eq!(places[150..], places[..50]);
        // A name that another tool has upstream is taken, however large the table is.
        let taken = table.entries()[149].upstream.clone();
        let other = table.add(CallKind::Custom, false, tool("", &taken)).to_owned();
        assert_ne!(other, taken);
        let entry = table.by_upstream(Escaped::trusted(&other)).unwrap();
        assert_eq!(entry.tool(), tool("", &taken));
    }

    #[test]
    fn reserved_names_are_given_to_no_tool() {
        let mut table = ToolTable::reserving(&["draw"]);
        let drawn = table.add(CallKind::Function, false, tool("", "draw")).to_owned();
        assert!(drawn.starts_with("draw_") && drawn.len() == 13, "{drawn}");
        assert_eq!(table.by_upstream(Escaped::trusted(&drawn)).unwrap().tool(), tool("", "draw"));
        assert!(table.by_upstream(Escaped::trusted("draw")).is_none());
        assert_eq!(table.add(CallKind::Function, false, tool("", "drawn")), "drawn");
    }

    #[test]
    fn illegal_long_and_colliding_names_get_a_stable_hash() {
        let long = "x".repeat(90);
        for name in [long.as_str(), "web.search now", "größe", ""] {
            let mut table = ToolTable::default();
            let first = table.add(CallKind::Function, false, tool("", name)).to_owned();
            assert!(first.len() <= NAME_BYTES_MAX && !first.is_empty(), "{first}");
            assert!(first.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
            assert_eq!(table.add(CallKind::Function, false, tool("", name)), first);
            assert_eq!(ToolTable::default().add(CallKind::Function, false, tool("", name)), first);
        }
        let mut table = ToolTable::default();
        let plain = table.add(CallKind::Function, false, tool("", "a__b")).to_owned();
        let joined = table.add(CallKind::Function, false, tool("a", "b")).to_owned();
        assert_ne!(plain, joined);
        assert_eq!(table.by_upstream(Escaped::trusted(&joined)).unwrap().tool(), tool("a", "b"));
    }
}
