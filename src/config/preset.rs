//! Configurations that are built in, written as a user would write them.

use super::nearest::nearest;

/// Name and text of each.
pub const PRESETS: &[(&str, &str)] = &[
    ("chatgpt", include_str!("../presets/chatgpt.toml")),
    ("codex-backend", include_str!("../presets/codex-backend.toml")),
];

/// The preset of this name.
///
/// # Errors
/// There is none; which there are.
pub(super) fn preset(name: &str) -> Result<(&'static str, &'static str), String> {
    let names = || PRESETS.iter().map(|(name, _)| *name);
    PRESETS.iter().find(|(known, _)| *known == name).copied().ok_or_else(|| {
        let near = nearest(name, names()).map(|near| format!("; did you mean `{near}`?"));
        let known: Vec<&str> = names().collect();
        format!(
            "the preset `{name}` is unknown{} Known: {}",
            near.unwrap_or_else(|| ".".to_owned()),
            known.join(", ")
        )
    })
}
