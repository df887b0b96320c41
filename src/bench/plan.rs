//! What is to be measured: a load, and the servers that it is put on.

use crate::config::Url;
use crate::mock::script::Script;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The wire API that the bench speaks to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
}

impl Dialect {
    /// The path of its operation, behind a base URL.
    #[must_use]
    pub const fn operation(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Responses => "/responses",
        }
    }

    /// The dialect that a URL's end names, else Responses.
    #[must_use]
    pub fn of_url(url: &Url) -> Self {
        if url.has_operation(Self::Chat.operation()) { Self::Chat } else { Self::Responses }
    }

    /// Its name in flags and in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
        }
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "chat" => Ok(Self::Chat),
            "responses" => Ok(Self::Responses),
            _ => Err(format!("{text:?} is no dialect that the bench speaks: chat or responses")),
        }
    }
}

/// How many requests, or for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many requests in all.
    Requests(u64),
    /// New requests for so long; those under way then may end.
    Time(Duration),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(1) => f.write_str("1 request"),
            Self::Requests(count) => write!(f, "{count} requests"),
            Self::Time(time) => write!(f, "{} s", time.as_secs_f64()),
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    /// Reads a number of requests, or a time with its unit.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Requests(count));
        }
        duration(text).map(Self::Time).map_err(|_| {
            format!("{text:?} is neither a number of requests nor a time such as 500ms or 2s")
        })
    }
}

/// Reads `500us`, `20ms`, `1.5s` or `2m`.
///
/// # Errors
/// What it should have been, in words for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    if (0.0..=1e6).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!("{text:?} is no time: a number with us, ms, s or m"))
}

/// What the words in a request's body are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestText {
    /// Tool outputs with source code: an escape every few dozen bytes.
    #[default]
    Code,
    /// Tool outputs with JSON in JSON: an escape every few bytes.
    Dense,
    /// A picture as a data URL: base64, no escapes at all.
    Image,
}

impl RequestText {
    /// Its name in flags and in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Dense => "dense",
            Self::Image => "image",
        }
    }
}

impl FromStr for RequestText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "code" => Ok(Self::Code),
            "dense" => Ok(Self::Dense),
            "image" => Ok(Self::Image),
            _ => Err(format!("{text:?} is no text for requests: code, dense or image")),
        }
    }
}

/// What is asked, how often, and over how many connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What the answers must be; `None` for a server that follows no script.
    pub script: Option<Script>,
    /// The model that is asked for, if it is not the script's own name.
    pub model: Option<String>,
    /// Ask for a stream; else for one document.
    pub stream: bool,
    /// Connections, and so requests at once.
    pub connections: usize,
    /// Close each connection after its answer.
    pub churn: bool,
    /// What is measured.
    pub amount: Amount,
    /// What is asked before that, of the same servers.
    pub warmup: Amount,
    /// Requests begun a second, whether earlier ones have ended or not; `None`: each connection
    /// asks again when it has its answer.
    pub rate: Option<f64>,
    /// Over how long the first requests of all connections are spread.
    pub ramp: Duration,
    /// Connects under way at once; 0 for any number.
    pub connects_max: usize,
    /// Bytes that each connection reads a second; `None`: all it can.
    pub read_rate: Option<u64>,
    /// Bytes of a request's body, about; 0: one short question.
    pub request_bytes: usize,
    /// What those bytes are.
    pub request_text: RequestText,
    /// Longest silence of a server before its answer counts as lost.
    pub timeout: Duration,
    /// Take merged and split deltas for right, as long as their text is.
    pub lenient: bool,
    /// Threads that make the load.
    pub threads: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            script: Some(Script::default()),
            model: None,
            stream: true,
            connections: 16,
            churn: false,
            amount: Amount::Time(Duration::from_secs(3)),
            warmup: Amount::Time(Duration::from_millis(500)),
            rate: None,
            ramp: Duration::ZERO,
            connects_max: 256,
            read_rate: None,
            request_bytes: 0,
            request_text: RequestText::Code,
            timeout: Duration::from_secs(30),
            lenient: false,
            threads: 1,
        }
    }
}

impl Load {
    /// The model that requests name.
    #[must_use]
    pub fn model_name(&self) -> String {
        match (&self.model, &self.script) {
            (Some(model), _) => model.clone(),
            (None, Some(script)) => script.model(),
            (None, None) => Script::default().model(),
        }
    }

    /// The load of the warm-up: the same, but a paced stream is cut to its first deltas.
    #[must_use]
    pub(super) fn for_warmup(&self) -> Self {
        const DELTAS: u32 = 2;
        let mut load = self.clone();
        if let (Some(script), None) = (&mut load.script, &self.model)
            && script.pace > Duration::ZERO
        {
            script.deltas = script.deltas.min(DELTAS);
            script.reasoning = script.reasoning.min(DELTAS);
            script.pace = Duration::ZERO;
        }
        load.read_rate = None;
        load.ramp = Duration::ZERO;
        load
    }

    /// Looks for what cannot be meant.
    ///
    /// # Errors
    /// Which setting, and what it may be.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.connections == 0 {
            return Err("--connections 0: at least one is needed".to_owned());
        }
        if !(1..=256).contains(&self.threads) {
            return Err(format!("--threads {}: takes 1 to 256", self.threads));
        }
        if self.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            return Err("--rate: takes a number of requests a second above 0".to_owned());
        }
        if self.read_rate.is_some_and(|rate| rate < READ_RATE_MIN) {
            return Err(format!("--read-rate: takes at least {READ_RATE_MIN} bytes a second"));
        }
        if matches!(self.amount, Amount::Requests(0)) || self.amount == Amount::Time(Duration::ZERO)
        {
            return Err("nothing to measure: give --requests or --duration".to_owned());
        }
        if self.timeout.is_zero() {
            return Err("--timeout 0: every answer would be late".to_owned());
        }
        Ok(())
    }
}

/// Slowest reader: one byte every ten milliseconds.
const READ_RATE_MIN: u64 = 100;

/// A server under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is called in the output.
    pub name: String,
    /// The whole URL of the operation.
    pub url: Url,
    /// What is spoken to it.
    pub dialect: Dialect,
    /// The process whose processor time and memory are told, with its descendants.
    pub pid: Option<u32>,
}

impl Target {
    /// Makes a target of a base URL or the whole URL of an operation; without a dialect it is the
    /// one that the URL's end names, else Responses.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(
        name: &str,
        url: &str,
        dialect: Option<Dialect>,
        pid: Option<u32>,
    ) -> Result<Self, String> {
        let url = Url::parse(url)?;
        let dialect = dialect.unwrap_or_else(|| Dialect::of_url(&url));
        let url = url.with_operation(dialect.operation());
        Ok(Self { name: name.to_owned(), url, dialect, pid })
    }
}

impl FromStr for Target {
    type Err = String;

    /// Reads `name=url[,pid[,dialect]]`; the pid may be left empty.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "name=url[,pid[,dialect]]";
        let (name, rest) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && !name.contains("://"))
            .ok_or_else(|| format!("{text:?} is not {form}"))?;
        let mut fields = rest.split(',');
        let url = fields.next().unwrap_or_default();
        let pid = match fields.next().unwrap_or_default() {
            "" => None,
            digits => Some(digits.parse().map_err(|_| {
                format!("{digits:?} in {text:?} is no process id; the form is {form}")
            })?),
        };
        let dialect = fields.next().map(str::parse).transpose()?;
        if fields.next().is_some() {
            return Err(format!("{text:?} has too many commas; the form is {form}"));
        }
        Self::new(name, url, dialect, pid)
    }
}

/// A whole benchmark.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name in the output.
    pub title: String,
    /// The load on each target.
    pub load: Load,
    /// The servers; the first is what the others are compared with.
    pub targets: Vec<Target>,
    /// How often each target gets its turn.
    pub rounds: u32,
    /// Fields that every request has besides the usual ones.
    pub headers: Vec<(String, String)>,
    /// Sent as `Authorization: Bearer`; never shown.
    pub api_key: Option<String>,
    /// Certificates (PEM) to trust next to the built-in roots.
    pub ca_pem: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target: Target = "nginx=http://127.0.0.1:8080/v1,77,chat".parse().unwrap();
        assert_eq!((target.name.as_str(), target.pid), ("nginx", Some(77)));
        assert_eq!(target.url.path, "/v1/chat/completions");
        let target: Target = "a=https://host/backend-api/codex/responses".parse().unwrap();
        assert_eq!((target.dialect, target.pid), (Dialect::Responses, None));
        let target: Target = "a=http://host,,chat".parse().unwrap();
        assert_eq!(target.url.path, "/v1/chat/completions");
        let target: Target = "a=http://host/v1/chat/completions".parse().unwrap();
        assert_eq!(target.dialect, Dialect::Chat);
        for (text, part) in [
            ("http://host", "name=url[,pid[,dialect]]"),
            ("http://host/?a=b", "name=url"),
            ("=http://host", "name=url"),
            ("a=http://host,x", "\"x\""),
            ("a=http://host,1,messages", "chat or responses"),
            ("a=http://host,1,chat,2", "too many commas"),
            ("a=host", "https://"),
        ] {
            let why = text.parse::<Target>().unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn amounts_and_times_are_read() {
        assert_eq!("100".parse(), Ok(Amount::Requests(100)));
        assert_eq!("1.5s".parse(), Ok(Amount::Time(Duration::from_millis(1500))));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "s", "-1s", "1h", "1", "1..2s", "inf", "1e9s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!("x".parse::<Amount>().unwrap_err().contains("neither"));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        let fine = Load::default();
        assert_eq!(fine.check(), Ok(()));
        for (load, word) in [
            (Load { connections: 0, ..fine.clone() }, "--connections"),
            (Load { threads: 0, ..fine.clone() }, "--threads"),
            (Load { rate: Some(0.0), ..fine.clone() }, "--rate"),
            (Load { read_rate: Some(1), ..fine.clone() }, "--read-rate"),
            (Load { amount: Amount::Requests(0), ..fine.clone() }, "--requests"),
            (Load { timeout: Duration::ZERO, ..fine.clone() }, "--timeout"),
        ] {
            assert!(load.check().unwrap_err().contains(word), "{word}");
        }
    }

    #[test]
    fn the_warm_up_of_a_paced_stream_is_short() {
        let script = "deltas=400,pace=20ms,stamp=true,bytes=24".parse().unwrap();
        let load = Load { script: Some(script), ..Load::default() };
        let warm = load.for_warmup();
        assert_eq!(warm.model_name(), "mock:deltas=2,bytes=24,stamp=true");
        let named = Load { model: Some("m".to_owned()), ..load.clone() };
        assert_eq!(named.for_warmup().script, named.script, "the server decides what it answers");
    }
}
