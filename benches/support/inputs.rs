//! Texts made from a seed: the same bytes on every machine.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

/// A small generator of random numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).unwrap_or(0) % limit
    }

    pub(crate) fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from[self.below(from.len())]
    }
}

fn fill(random: &mut Random, bytes: usize, words: &[&str], line: usize) -> String {
    let (mut text, mut column) = (String::with_capacity(bytes + 20), 0);
    while text.len() < bytes {
        let word = random.pick(words);
        text.push_str(word);
        column += word.len() + 1;
        if column > line {
            text.push('\n');
            column = 0;
        } else {
            text.push(' ');
        }
    }
    text
}

/// Program text: a quote or a tab now and then, and short lines.
pub(crate) fn code(random: &mut Random, bytes: usize) -> String {
    let words = [
        "let",
        "value",
        "=",
        "self.table",
        "match",
        "{",
        "}",
        "=>",
        "Some(found)",
        "return",
        ";",
        "\"name\"",
        "\tif",
        "for",
        "in",
        "0..length",
        "&mut",
        "->",
        "Result<u64,",
        "Error>",
        "//",
    ];
    fill(random, bytes, &words, 60)
}

/// Prose in several scripts, long lines, no quotes.
pub(crate) fn prose(random: &mut Random, bytes: usize) -> String {
    let words = [
        "the",
        "answer",
        "depends",
        "on",
        "what",
        "was",
        "asked",
        "größer",
        "als",
        "vorher",
        "и",
        "потом",
        "漢字",
        "and",
        "so",
        "it",
        "goes.",
    ];
    fill(random, bytes, &words, 400)
}

/// JSON inside a string: every few bytes an escape.
pub(crate) fn dense(random: &mut Random, bytes: usize) -> String {
    let words = ["\"id\":", "\"a\\n\"", "{", "}", ",", "\"path\\\\to\"", "1", "\n", "\t\"x\""];
    fill(random, bytes, &words, 40)
}

/// Base64, as in the data URL of an image: one long run without escapes.
pub(crate) fn base64(random: &mut Random, bytes: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..bytes).map(|_| char::from(DIGITS[random.below(64)])).collect()
}
