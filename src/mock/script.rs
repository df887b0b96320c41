//! What a scripted answer is made of. Whoever knows the script knows the answer to the byte, so a
//! load generator can tell a whole answer from a damaged one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a model name that holds a script begins: `mock:deltas=200,pace=20ms`.
pub const PREFIX: &str = "mock:";

/// Bytes that a send-time stamp takes at the front of a text delta: `@`, sixteen digits of
/// microseconds since 1970, a space.
pub const STAMP_BYTES: usize = 18;

/// The stamp before somebody writes the time into it.
pub(super) const STAMP_BLANK: &str = "@0000000000000000 ";

/// Most deltas of one kind, and most bytes of one delta.
const COUNT_MAX: u32 = 10_000_000;
const BYTES_MAX: u32 = 1 << 20;

/// What the text of an answer looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Words in ASCII.
    #[default]
    Plain,
    /// Program text: quotes, backslashes and line ends, each an escape in JSON.
    Code,
    /// Three bytes a character.
    Cjk,
}

/// One answer. Written as `key=value` pairs behind [`PREFIX`]; what is not named has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    /// Text deltas.
    pub deltas: u32,
    /// Bytes of text in each of them.
    pub bytes: u32,
    /// Reasoning deltas before the text, of as many bytes.
    pub reasoning: u32,
    /// Calls of the request's first tool behind the text.
    pub calls: u32,
    /// Argument deltas of each call.
    pub call_deltas: u32,
    /// What the text looks like.
    pub text: Flavour,
    /// Begin every text delta with the time at which it is sent ([`STAMP_BYTES`]).
    pub stamp: bool,
    /// Between the request and the first byte.
    pub first: Duration,
    /// Between two writes.
    pub pace: Duration,
    /// Frames in one write; 0 puts all of them into one.
    pub frames: u32,
    /// Bytes in one write at most, wherever that cuts; 0 cuts nowhere.
    pub slice: u32,
    /// Answer with this HTTP status and an error instead; 0 for none.
    pub status: u16,
    /// End with an error event behind so many text deltas.
    pub fail_after: Option<u32>,
    /// Close the connection behind so many text deltas.
    pub cut_after: Option<u32>,
    /// Chooses the words.
    pub seed: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            deltas: 16,
            bytes: 6,
            reasoning: 0,
            calls: 0,
            call_deltas: 4,
            text: Flavour::Plain,
            stamp: false,
            first: Duration::ZERO,
            pace: Duration::ZERO,
            frames: 1,
            slice: 0,
            status: 0,
            fail_after: None,
            cut_after: None,
            seed: 1,
        }
    }
}

impl Script {
    /// Every key, for messages and help.
    pub const KEYS: [&'static str; 15] = [
        "deltas",
        "bytes",
        "reasoning",
        "calls",
        "call_deltas",
        "text",
        "stamp",
        "first",
        "pace",
        "frames",
        "slice",
        "status",
        "fail_after",
        "cut_after",
        "seed",
    ];

    /// The script that a model name holds; `None` for a name that does not begin with [`PREFIX`].
    ///
    /// # Errors
    /// Which key or value is wrong, in words for people.
    pub fn of_model(model: &str) -> Option<Result<Self, String>> {
        model.strip_prefix(PREFIX).map(str::parse)
    }

    /// The model name that holds this script.
    #[must_use]
    pub fn model(&self) -> String {
        format!("{PREFIX}{self}")
    }

    /// Sets one key.
    ///
    /// # Errors
    /// Which key or value is wrong, in words for people.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "deltas" => self.deltas = count(key, value, COUNT_MAX)?,
            "bytes" => self.bytes = count(key, value, BYTES_MAX)?,
            "reasoning" => self.reasoning = count(key, value, COUNT_MAX)?,
            "calls" => self.calls = count(key, value, 1000)?,
            "call_deltas" => self.call_deltas = count(key, value, COUNT_MAX)?.max(1),
            "text" => self.text = value.parse()?,
            "stamp" => self.stamp = truth(key, value)?,
            "first" => self.first = duration(key, value)?,
            "pace" => self.pace = duration(key, value)?,
            "frames" => self.frames = count(key, value, COUNT_MAX)?,
            "slice" => self.slice = count(key, value, COUNT_MAX)?,
            "status" => self.status = status(key, value)?,
            "fail_after" => self.fail_after = Some(count(key, value, COUNT_MAX)?),
            "cut_after" => self.cut_after = Some(count(key, value, COUNT_MAX)?),
            "seed" => self.seed = count(key, value, u32::MAX)?,
            _ => {
                let known = Self::KEYS.join(", ");
                return Err(format!("a script has no key {key:?}; it has {known}"));
            }
        }
        Ok(())
    }

    /// Sets the keys that `pairs` names (`key=value` with commas between them) and leaves the others.
    ///
    /// # Errors
    /// Which key or value is wrong, in words for people.
    pub fn apply(&mut self, pairs: &str) -> Result<(), String> {
        for pair in pairs.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} in a script is no key=value"))?;
            self.set(key.trim(), value.trim())?;
        }
        Ok(())
    }

    /// Appends text delta `index`; the stamp, if there is one, is sixteen zeros.
    pub fn delta(&self, index: u32, out: &mut String) {
        let start = out.len();
        if self.stamp {
            out.push_str(STAMP_BLANK);
        }
        self.words(u64::from(index), start, self.bytes, out);
    }

    /// Appends reasoning delta `index`.
    pub fn reasoning_delta(&self, index: u32, out: &mut String) {
        self.words(u64::from(index) | 1 << 40, out.len(), self.bytes, out);
    }

    /// The whole text, stamps as zeros.
    #[must_use]
    pub fn whole_text(&self) -> String {
        (0..self.deltas).fold(String::new(), |mut text, index| {
            self.delta(index, &mut text);
            text
        })
    }

    /// The whole reasoning.
    #[must_use]
    pub fn whole_reasoning(&self) -> String {
        (0..self.reasoning).fold(String::new(), |mut text, index| {
            self.reasoning_delta(index, &mut text);
            text
        })
    }

    /// The arguments of call `call`, in [`Script::call_deltas`] pieces: a JSON object when joined.
    #[must_use]
    pub fn arguments(&self, call: u32) -> Vec<String> {
        let mut text = String::new();
        for piece in 0..self.call_deltas {
            let start = text.len();
            let index = u64::from(piece) | u64::from(call) << 20 | 1 << 41;
            self.words(index, start, self.bytes, &mut text);
        }
        let whole = serde_json::json!({ "call": call, "text": text }).to_string();
        let step = whole.len().div_ceil(self.call_deltas as usize).max(1);
        let (mut pieces, mut rest) = (Vec::new(), whole.as_str());
        for _ in 1..self.call_deltas {
            let mut end = step.min(rest.len());
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            let (piece, behind) = rest.split_at(end);
            pieces.push(piece.to_owned());
            rest = behind;
        }
        pieces.push(rest.to_owned());
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Fills `out` with words up to `bytes` behind `start`, the same for the same script and index.
    fn words(&self, index: u64, start: usize, bytes: u32, out: &mut String) {
        const PLAIN: [&str; 8] =
            [" the", " answer", " is", " made", " of", " scripted", " words", " here"];
        const CODE: [&str; 8] = ["\"id\"", ": ", "\\n", "{\n", "\t", "let x", " = ", "};\n"];
        const CJK: [&str; 8] = ["回答", "は", "台本", "通り", "です", "。", "文字", "列"];
        let words = match self.text {
            Flavour::Plain => &PLAIN,
            Flavour::Code => &CODE,
            Flavour::Cjk => &CJK,
        };
        let end = start + bytes as usize;
        // SplitMix64 (Steele, Lea, Flood 2014) over a counter.
        let mut state = u64::from(self.seed) << 48 ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        while out.len() < end {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let word = words[(mixed >> 61) as usize];
            for character in word.chars() {
                if out.len() + character.len_utf8() <= end {
                    out.push(character);
                } else if out.len() < end {
                    out.push(' ');
                }
            }
        }
    }
}

impl FromStr for Flavour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "plain" => Ok(Self::Plain),
            "code" => Ok(Self::Code),
            "cjk" => Ok(Self::Cjk),
            _ => Err(format!("text={text}: takes plain, code or cjk")),
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Code => "code",
            Self::Cjk => "cjk",
        })
    }
}

impl FromStr for Script {
    type Err = String;

    /// Reads `key=value` pairs with commas between them; the empty text is the default script.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        script.apply(text)?;
        Ok(script)
    }
}

impl fmt::Display for Script {
    /// Writes what differs from the default, so that reading it again gives the same script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let mut comma = "";
        let mut pair = |key: &str, value: &dyn fmt::Display, differs: bool| {
            if differs {
                write!(f, "{comma}{key}={value}")?;
                comma = ",";
            }
            Ok(())
        };
        let time = |time: Duration| format!("{}us", time.as_micros());
        let after = |count: Option<u32>| count.unwrap_or_default();
        pair("deltas", &self.deltas, self.deltas != usual.deltas)?;
        pair("bytes", &self.bytes, self.bytes != usual.bytes)?;
        pair("reasoning", &self.reasoning, self.reasoning != usual.reasoning)?;
        pair("calls", &self.calls, self.calls != usual.calls)?;
        pair("call_deltas", &self.call_deltas, self.call_deltas != usual.call_deltas)?;
        pair("text", &self.text, self.text != usual.text)?;
        pair("stamp", &self.stamp, self.stamp != usual.stamp)?;
        pair("first", &time(self.first), self.first != usual.first)?;
        pair("pace", &time(self.pace), self.pace != usual.pace)?;
        pair("frames", &self.frames, self.frames != usual.frames)?;
        pair("slice", &self.slice, self.slice != usual.slice)?;
        pair("status", &self.status, self.status != usual.status)?;
        pair("fail_after", &after(self.fail_after), self.fail_after != usual.fail_after)?;
        pair("cut_after", &after(self.cut_after), self.cut_after != usual.cut_after)?;
        pair("seed", &self.seed, self.seed != usual.seed)
    }
}

fn count(key: &str, value: &str, max: u32) -> Result<u32, String> {
    let found = value.parse().ok().filter(|count| *count <= max);
    found.ok_or_else(|| format!("{key}={value}: takes a whole number from 0 to {max}"))
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key}={value}: takes true or false")),
    }
}

fn status(key: &str, value: &str) -> Result<u16, String> {
    let found = value.parse().ok().filter(|status| *status == 0 || (400..600).contains(status));
    found.ok_or_else(|| format!("{key}={value}: takes an HTTP status from 400 to 599, or 0"))
}

/// Reads `20ms`, `500us` or `2s`.
fn duration(key: &str, value: &str) -> Result<Duration, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let micros = match unit {
        "us" => Some(1),
        "ms" => Some(1000),
        "s" => Some(1_000_000),
        _ => None,
    };
    let found = number.parse::<u32>().ok().zip(micros);
    found
        .map(|(number, micros)| Duration::from_micros(u64::from(number) * micros))
        .ok_or_else(|| format!("{key}={value}: takes a number with us, ms or s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_its_own_writing() {
        let text = "deltas=2,bytes=40,reasoning=1,calls=2,call_deltas=3,text=code,stamp=true,\
                    first=1500us,pace=20000us,frames=0,slice=7,status=429,fail_after=0,\
                    cut_after=9,seed=5";
        let script: Script = text.parse().unwrap();
        assert_eq!(script.to_string(), text);
        assert_eq!(Script::of_model(&script.model()), Some(Ok(script)));
        assert_eq!(Script::of_model("mock:"), Some(Ok(Script::default())));
        assert_eq!(Script::of_model("gpt-5"), None);
        assert_eq!("pace=2s".parse::<Script>().unwrap().pace, Duration::from_secs(2));
    }

    #[test]
    fn every_key_is_known_and_wrong_values_are_named() {
        for key in Script::KEYS {
            let why = Script::default().set(key, "banana").unwrap_err();
            assert!(why.contains(&format!("{key}=banana")), "{why}");
        }
        for (text, part) in [
            ("delta=3", "has no key \"delta\"; it has deltas, bytes"),
            ("deltas", "\"deltas\" in a script is no key=value"),
            ("pace=20", "takes a number with us, ms or s"),
            ("status=200", "takes an HTTP status"),
            ("deltas=10000001", "from 0 to 10000000"),
        ] {
            let why = text.parse::<Script>().unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn deltas_have_the_bytes_asked_for_in_every_flavour() {
        for text in ["plain", "code", "cjk"] {
            let script: Script = format!("text={text},bytes=31").parse().unwrap();
            for index in 0..50 {
                let mut delta = String::new();
                script.delta(index, &mut delta);
                assert_eq!(delta.len(), 31, "{delta:?}");
            }
            let (mut a, mut b) = (String::new(), String::new());
            script.delta(1, &mut a);
            script.delta(2, &mut b);
            assert_ne!(a, b, "deltas differ, so that a swap is noticed");
        }
    }

    #[test]
    fn a_stamp_stands_in_front_and_counts() {
        let script: Script = "stamp=true,bytes=24,deltas=2".parse().unwrap();
        let text = script.whole_text();
        assert_eq!(text.len(), 48);
        assert!(text.starts_with(STAMP_BLANK) && text[24..].starts_with(STAMP_BLANK));
        assert_eq!(STAMP_BLANK.len(), STAMP_BYTES);
    }

    #[test]
    fn arguments_are_one_object_in_pieces() {
        for text in ["plain", "code", "cjk"] {
            let script: Script = format!("calls=2,call_deltas=7,text={text}").parse().unwrap();
            let pieces = script.arguments(1);
            assert_eq!(pieces.len(), 7);
            let value: serde_json::Value = serde_json::from_str(&pieces.concat()).unwrap();
            assert_eq!(value["call"], 1);
            assert_ne!(pieces, script.arguments(0));
        }
    }
}
