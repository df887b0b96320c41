//! `<think>...</think>` at the start of a text, cut out of it as reasoning, however it is chunked.

use crate::wire::json::{Escaped, Unescaper};

/// Opening and closing tags in use.
const TAGS: &[(&str, &str)] =
    &[("<think>", "</think>"), ("<thought>", "</thought>"), ("<thinking>", "</thinking>")];

/// What a piece of text is. The texts are plain, not escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Reasoning(&'a str),
    Text(&'a str),
}

/// Splits the text of one answer.
#[derive(Debug, Default)]
pub(super) struct Think {
    state: State,
    level: Unescaper,
    /// Plain text that may be the front of a tag, or the white space before one.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing but white space or the front of a tag so far.
    #[default]
    Start,
    /// Behind the opening tag; the closing one is known.
    Inside(&'static str),
    /// Behind the closing tag: line breaks are dropped.
    Behind,
    /// Plain text from here on.
    Passing,
}

impl Think {
    /// True when texts need not come here any more.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Passing
    }

    /// Takes a text of the stream.
    pub(super) fn push(&mut self, text: Escaped<'_>, each: &mut dyn FnMut(Piece<'_>)) {
        self.level.push(text, &mut self.held);
        self.step(each);
    }

    /// Takes a text that is whole: here a closing tag without its opening one (the chat template
    /// had it in the prompt) is understood too.
    pub(super) fn whole(&mut self, text: Escaped<'_>, each: &mut dyn FnMut(Piece<'_>)) {
        let plain = text.decode();
        let opened = TAGS.iter().any(|(open, _)| plain.trim_start().starts_with(open));
        let split = TAGS.iter().find_map(|(_, close)| plain.split_once(close));
        match split {
            Some((before, after)) if !opened => {
                self.state = State::Behind;
                tell(each, Piece::Reasoning, before);
                self.held.push_str(after);
                self.step(each);
            }
            _ => self.push(text, each),
        }
        self.finish(each);
    }

    /// The text ended: what was held back is what it looks like.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        self.level.finish(&mut self.held);
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Inside(_) => tell(each, Piece::Reasoning, &rest),
            State::Start | State::Behind | State::Passing => tell(each, Piece::Text, &rest),
        }
        self.state = State::Passing;
    }

    fn step(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        if self.state == State::Start {
            let front = self.held.trim_start();
            match TAGS.iter().find(|(open, _)| front.starts_with(open)) {
                Some((open, close)) => {
                    let used = self.held.len() - front.len() + open.len();
                    self.held.drain(..used);
                    self.state = State::Inside(close);
                }
                None if TAGS.iter().any(|(open, _)| open.starts_with(front)) => return,
                None => self.state = State::Passing,
            }
        }
        if let State::Inside(close) = self.state {
            let Some(end) = self.held.find(close) else {
                let keep = tail_of(&self.held, close);
                let sure = self.held.len() - keep;
                tell(each, Piece::Reasoning, &self.held[..sure]);
                self.held.drain(..sure);
                return;
            };
            tell(each, Piece::Reasoning, &self.held[..end]);
            self.held.drain(..end + close.len());
            self.state = State::Behind;
        }
        if self.state == State::Behind {
            let front = self.held.trim_start_matches(['\n', '\r']);
            let used = self.held.len() - front.len();
            self.held.drain(..used);
            if self.held.is_empty() {
                return;
            }
            self.state = State::Passing;
        }
        tell(each, Piece::Text, &self.held);
        self.held.clear();
    }
}

fn tell<'a>(each: &mut dyn FnMut(Piece<'_>), kind: fn(&'a str) -> Piece<'a>, text: &'a str) {
    if !text.is_empty() {
        each(kind(text));
    }
}

/// Bytes at the end of `text` that may be the front of `tag`.
fn tail_of(text: &str, tag: &str) -> usize {
    (1..tag.len().min(text.len() + 1)).rev().find(|n| text.ends_with(&tag[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, size: usize) -> (String, String) {
        let (mut think, mut reasoning, mut words) =
            (Think::default(), String::new(), String::new());
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Reasoning(text) => reasoning.push_str(text),
            Piece::Text(text) => words.push_str(text),
        };
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(size) {
            let piece: String = piece.iter().collect();
            let piece = piece.replace('\n', "\\n");
            think.push(Escaped::trusted(&piece), &mut each);
        }
        think.finish(&mut each);
        (reasoning, words)
    }

    #[test]
    fn tags_are_found_across_every_cut() {
        let cases = [
            ("<think>why</think>\n\nbecause", "why", "because"),
            (" \n<think>a < b </thin k</think>x", "a < b </thin k", "x"),
            ("plain <think>no</think>", "", "plain <think>no</think>"),
            ("<thought>t</thought>u", "t", "u"),
            ("<thi", "", "<thi"),
            ("<think>never closed", "never closed", ""),
            ("<think></think>only", "", "only"),
        ];
        for (text, reasoning, words) in cases {
            for size in 1..=text.len() {
                assert_eq!(split(text, size), (reasoning.to_owned(), words.to_owned()), "{text}");
            }
        }
    }

    #[test]
    fn a_closing_tag_alone_splits_a_whole_text() {
        let (mut reasoning, mut words) = (String::new(), String::new());
        Think::default().whole(Escaped::trusted("why</think>\\nso"), &mut |piece| match piece {
            Piece::Reasoning(text) => reasoning.push_str(text),
            Piece::Text(text) => words.push_str(text),
        });
        assert_eq!((reasoning.as_str(), words.as_str()), ("why", "so"));
    }
}
