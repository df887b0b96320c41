//! Which environment variables a configuration goes by, so that those which it cannot go by are told
//! of instead of ignored in silence.

use super::nearest::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// The variables of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// A name that begins with one of these is meant for it.
    pub(super) prefixes: Vec<String>,
    /// Those that it reads.
    pub(super) read: BTreeSet<String>,
    /// Those that have no meaning for it, and why. A name may end in `*`.
    pub(super) ignored: BTreeMap<String, String>,
}

impl Variables {
    /// What is to be said of these variables, which are set and not empty: a sentence for each that
    /// is meant for this configuration and has no effect. Values are not looked at.
    pub fn complaints<'n>(&self, set: impl Iterator<Item = &'n str>) -> Vec<String> {
        let meant = |name: &&str| self.prefixes.iter().any(|prefix| name.starts_with(prefix));
        let names: BTreeSet<&str> = set.filter(meant).collect();
        names.into_iter().filter_map(|name| self.complaint(name)).collect()
    }

    fn complaint(&self, name: &str) -> Option<String> {
        if self.read.contains(name) {
            return None;
        }
        let covers = |pattern: &str| match pattern.strip_suffix('*') {
            Some(front) => name.starts_with(front),
            None => pattern == name,
        };
        if let Some((_, why)) = self.ignored.iter().find(|(pattern, _)| covers(pattern)) {
            return Some(format!("{name} has no effect: {why}"));
        }
        let known = self.read.iter().map(String::as_str);
        let near = nearest(name, known.chain(self.ignored.keys().map(String::as_str)));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Some(format!("{name} has no effect: it is not known{near}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_effect_is_told_with_its_reason() {
        let text = |it: &str| it.to_owned();
        let variables = Variables {
            prefixes: vec![text("APP_"), text("LIB_")],
            read: ["APP_PORT", "LIB_MODEL"].map(text).into(),
            ignored: [("APP_MODE", "there is one mode"), ("APP_LOG_*", "it logs to stderr")]
                .map(|(name, why)| (text(name), text(why)))
                .into(),
        };
        let set = [
            "PATH",
            "APP_PORT",
            "LIB_MODEL",
            "APP_MODE",
            "APP_LOG_FILE",
            "APP_PROT",
            "LIB_WHATEVER",
            "APP",
        ];
        assert_eq!(
            variables.complaints(set.into_iter().chain(set)),
            [
                "APP_LOG_FILE has no effect: it logs to stderr",
                "APP_MODE has no effect: there is one mode",
                "APP_PROT has no effect: it is not known; did you mean APP_PORT?",
                "LIB_WHATEVER has no effect: it is not known",
            ]
        );
    }
}
