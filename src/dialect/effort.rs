//! Reasoning efforts of Codex models: an effort as a suffix of the model's name, what each model
//! takes, and what it is given when nobody says.

/// The efforts, weakest first.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// How a name may end, and the effort meant; a longer ending stands before its own end.
const SUFFIXES: [(&str, &str); 9] = [
    ("extra-high", "xhigh"),
    ("extra_high", "xhigh"),
    ("extra high", "xhigh"),
    ("xhigh", "xhigh"),
    ("minimal", "minimal"),
    ("medium", "medium"),
    ("none", "none"),
    ("high", "high"),
    ("low", "low"),
];

/// What the models of one family take.
struct Row {
    /// The model's name; a `*` stands for any text.
    pattern: &'static str,
    /// The efforts that it takes, weakest first.
    efforts: &'static [&'static str],
    /// The effort when nobody says.
    usual: &'static str,
}

/// The first row that matches counts. Models in no row take what they are given.
const ROWS: &[Row] = &[
    Row { pattern: "*codex-mini*", efforts: &["medium", "high"], usual: "medium" },
    Row { pattern: "*codex-max*", efforts: &["low", "medium", "high", "xhigh"], usual: "high" },
    Row { pattern: "gpt-5.1-codex*", efforts: &["low", "medium", "high"], usual: "medium" },
    Row { pattern: "gpt-5-codex*", efforts: &["low", "medium", "high"], usual: "medium" },
    Row { pattern: "gpt-5.*-codex*", efforts: &["low", "medium", "high", "xhigh"], usual: "high" },
    Row { pattern: "gpt-5*-mini*", efforts: &["none", "low", "medium", "high"], usual: "low" },
    Row { pattern: "gpt-5*-nano*", efforts: &["none", "low", "medium", "high"], usual: "low" },
    Row { pattern: "gpt-5.1*", efforts: &["none", "low", "medium", "high"], usual: "medium" },
    Row { pattern: "gpt-5.*", efforts: &["none", "low", "medium", "high", "xhigh"], usual: "high" },
    Row { pattern: "gpt-5*", efforts: &["none", "low", "medium", "high"], usual: "medium" },
];

/// Takes a `provider/` in front and an effort behind (`-high`, ` high`, `-extra-high`) off a model's
/// name. A name that would be empty then stays as it is.
#[must_use]
pub fn split(name: &str) -> (&str, Option<&'static str>) {
    let model = name.rsplit('/').next().filter(|rest| !rest.is_empty()).unwrap_or(name);
    for (suffix, effort) in SUFFIXES {
        let Some(at) = model.len().checked_sub(suffix.len()) else { continue };
        let (Some(head), Some(tail)) = (model.get(..at), model.get(at..)) else { continue };
        let plain = head.trim_end_matches(['-', ' ']);
        if tail.eq_ignore_ascii_case(suffix) && plain.len() < head.len() && !plain.is_empty() {
            return (plain, Some(effort));
        }
    }
    (model, None)
}

/// The effort to ask `model` for: what was asked, moved to the nearest that the model takes, or the
/// model's own when nothing was. Words that are no effort pass; `None` leaves it to the upstream.
#[must_use]
pub fn settle<'e>(model: &str, asked: Option<&'e str>) -> Option<&'e str> {
    let name = model.to_ascii_lowercase();
    let row = ROWS.iter().find(|row| matches(row.pattern, &name));
    let Some(asked) = asked else { return row.map(|row| row.usual) };
    // Codex models know no `minimal` any more.
    let asked = if asked == "minimal" { "low" } else { asked };
    let rank = |effort: &str| EFFORTS.iter().position(|known| *known == effort);
    let (Some(row), Some(wanted)) = (row, rank(asked)) else { return Some(asked) };
    // The next stronger one, or the strongest: an effort between two is none of the table's.
    let stronger = row.efforts.iter().find(|effort| rank(effort) >= Some(wanted));
    Some(stronger.or(row.efforts.last()).map_or(asked, |effort| *effort))
}

/// Whether `name` is `pattern`, in which each `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    rest.is_empty() || last == Some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effort_behind_a_name_is_taken_off() {
        for (name, model, effort) in [
            ("gpt-5.2", "gpt-5.2", None),
            ("gpt-5.2-high", "gpt-5.2", Some("high")),
            ("gpt-5.2 high", "gpt-5.2", Some("high")),
            ("GPT-5.2 High", "GPT-5.2", Some("high")),
            ("gpt-5.1-codex-max-xhigh", "gpt-5.1-codex-max", Some("xhigh")),
            ("gpt-5.1-codex-max-extra-high", "gpt-5.1-codex-max", Some("xhigh")),
            ("gpt-5.1-codex-max-extra_high", "gpt-5.1-codex-max", Some("xhigh")),
            ("gpt-5.1-codex-max extra high", "gpt-5.1-codex-max", Some("xhigh")),
            ("gpt-5.1-none", "gpt-5.1", Some("none")),
            ("gpt-5-minimal", "gpt-5", Some("minimal")),
            ("gpt-5.1-codex-mini-medium", "gpt-5.1-codex-mini", Some("medium")),
            ("openai/gpt-5.2-low", "gpt-5.2", Some("low")),
            ("openai/gpt-5.2", "gpt-5.2", None),
            ("gpt-5.1-codex-max", "gpt-5.1-codex-max", None),
            ("high", "high", None),
            ("-high", "-high", None),
            ("yellow", "yellow", None),
            ("shallow", "shallow", None),
            ("a/", "a/", None),
            ("é-low", "é", Some("low")),
            ("", "", None),
        ] {
            assert_eq!(split(name), (model, effort), "{name}");
        }
    }

    /// A file for each model: what is asked, and what goes upstream.
    #[test]
    fn every_model_gets_an_effort_that_it_takes() {
        for model in [
            "gpt-5.2",
            "gpt-5.2-codex",
            "gpt-5.3-codex",
            "gpt-5.1-codex-max",
            "gpt-5.1-codex",
            "gpt-5.1-codex-mini",
            "codex-mini-latest",
            "gpt-5.1",
            "gpt-5",
            "gpt-5-codex",
            "gpt-5-nano",
            "GPT-5.2",
            "gpt-6",
        ] {
            let asked = [None].into_iter().chain(EFFORTS.map(Some)).chain([Some("ultra")]);
            let rows: Vec<_> = asked
                .map(|asked| {
                    let given = settle(model, asked).unwrap_or("-");
                    format!("{} -> {given}", asked.unwrap_or("nothing"))
                })
                .collect();
            insta::assert_snapshot!(format!("effort_of_{model}"), rows.join("\n"));
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, expected) in [
            ("gpt-5*", "gpt-5", true),
            ("gpt-5.*-codex*", "gpt-5.3-codex-x", true),
            ("gpt-5.*-codex*", "gpt-5-codex", false),
            ("*mini*", "mini", true),
            ("a", "ab", false),
            ("a", "a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
