//! The names of tools between a client, which may use namespaces and any characters, and an
//! upstream, which wants unique names of `[a-zA-Z0-9_-]{1,64}`. Reversible for the whole exchange.

use crate::dialect::event::CallKind;
use crate::dialect::request::ToolName;
use crate::wire::json::Escaped;

/// Longest tool name that strict upstreams take.
pub const NAME_BYTES_MAX: usize = 64;

/// What each upstream tool name stands for.
#[derive(Clone, Debug, Default)]
pub struct ToolTable {
    entries: Vec<Entry>,
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
    /// Adds a tool, or finds it when it is there. Returns its upstream name: the client's own where
    /// it is legal (`namespace__name` inside a namespace), else a legal prefix and eight hexadecimal
    /// digits of a hash, so that the same tool has the same name on every turn.
    pub fn add(&mut self, kind: CallKind, wrapped: bool, tool: ToolName<'_>) -> &str {
        let found =
            self.entries.iter().position(|entry| entry.tool() == tool && entry.kind == kind);
        let at = found.unwrap_or_else(|| {
            let taken = |name: &str| self.entries.iter().any(|entry| entry.upstream == name);
            let upstream = upstream_name(kind, tool, taken);
            self.entries.push(Entry {
                upstream,
                kind,
                wrapped,
                namespace: tool.namespace.raw().to_owned(),
                name: tool.name.raw().to_owned(),
            });
            self.entries.len() - 1
        });
        &self.entries[at].upstream
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
