//! Answers in words of one's own, where a script's would not do: an agent's tool must be called with
//! arguments that it can run. A scene is chosen by what the user said last, and has steps: calls, one
//! behind the other as their results come back, and then a text.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What the text of a scene may name: the results of its calls, and the number of files attached.
const RESULTS: &str = "{results}";
const ATTACHMENTS: &str = "{attachments}";

/// Least bytes of a piece, so that a character fits.
const PIECE_BYTES_MIN: usize = 4;

/// One scene.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// It answers a user whose last message holds this; empty for any.
    #[serde(default)]
    when: String,
    /// Made one after the other, the next when the result of the last is there.
    #[serde(default)]
    calls: Vec<SceneCall>,
    /// Said behind the last result.
    #[serde(default)]
    text: String,
}

/// One call of a scene.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SceneCall {
    name: String,
    arguments: Map<String, Value>,
}

/// What a scene says to one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// The text in pieces, one a delta.
    pub(super) pieces: Vec<String>,
    /// The call behind it: the function's name, and its arguments as a JSON object.
    pub(super) call: Option<(String, String)>,
}

/// Reads a list of scenes (JSON).
///
/// # Errors
/// What is wrong and where, in words for people.
pub fn read_scenes(text: &str) -> Result<Vec<Scene>, String> {
    serde_json::from_str(text).map_err(|why| why.to_string())
}

/// What is known of a request where a scene is looked for.
#[derive(Debug)]
pub(super) struct Moment<'m> {
    /// What the user said last.
    pub(super) said: &'m str,
    /// What functions gave since then.
    pub(super) results: &'m [String],
    /// The functions that may be called.
    pub(super) callable: &'m [String],
    pub(super) attachments: usize,
}

/// What the first scene that fits says, in pieces of so many bytes. A call of a function that must
/// not be called is not made; the text is said instead.
pub(super) fn line(scenes: &[Scene], moment: &Moment<'_>, bytes: usize) -> Option<Line> {
    let scene = scenes.iter().find(|scene| moment.said.contains(&scene.when))?;
    let call = scene.calls.get(moment.results.len());
    let call = call.filter(|call| moment.callable.contains(&call.name));
    if let Some(call) = call {
        let arguments = Value::Object(call.arguments.clone()).to_string();
        return Some(Line { pieces: Vec::new(), call: Some((call.name.clone(), arguments)) });
    }
    let text = scene.text.replace(ATTACHMENTS, &moment.attachments.to_string());
    let text = text.replace(RESULTS, &moment.results.join("\n"));
    Some(Line { pieces: pieces(&text, bytes.max(PIECE_BYTES_MIN)), call: None })
}

/// A text in pieces of at most so many bytes, cut between characters.
fn pieces(text: &str, bytes: usize) -> Vec<String> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let mut cut = bytes.min(rest.len());
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let (piece, behind) = rest.split_at(cut);
        pieces.push(piece.to_owned());
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenes() -> Vec<Scene> {
        read_scenes(
            r#"[{"when": "look", "calls": [{"name": "ls", "arguments": {"at": "/"}},
                {"name": "cat", "arguments": {}}], "text": "I saw {results} and {attachments}."},
                {"text": "größe"}]"#,
        )
        .unwrap()
    }

    fn told(said: &str, results: &[&str], callable: &[&str]) -> Line {
        let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let (results, callable) = (own(results), own(callable));
        let moment = Moment { said, results: &results, callable: &callable, attachments: 2 };
        line(&scenes(), &moment, 5).unwrap()
    }

    #[test]
    fn calls_come_one_behind_the_other_and_then_the_text() {
        let both = ["ls", "cat"];
        let first = told("please look", &[], &both);
        assert_eq!(first.call, Some(("ls".to_owned(), r#"{"at":"/"}"#.to_owned())));
        assert!(first.pieces.is_empty());
        assert_eq!(told("look", &["a"], &both).call.unwrap().0, "cat");
        let last = told("look", &["a", "b"], &both);
        assert_eq!((last.pieces.concat().as_str(), last.call), ("I saw a\nb and 2.", None));
        assert_eq!(told("look", &[], &["cat"]).pieces.concat(), "I saw  and 2.");
        assert_eq!(told("else", &[], &both).pieces, ["grö", "ße"]);
    }

    #[test]
    fn without_a_scene_that_fits_there_is_no_line() {
        let moment = Moment { said: "a", results: &[], callable: &[], attachments: 0 };
        assert_eq!(line(&scenes()[..1], &moment, 5), None);
    }

    #[test]
    fn wrong_scenes_are_named() {
        for (text, part) in [
            ("{}", "invalid type"),
            (r#"[{"then": 1}]"#, "unknown field `then`"),
            (r#"[{"calls": [{"name": "a", "arguments": "{}"}]}]"#, "expected a map"),
        ] {
            let why = read_scenes(text).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
