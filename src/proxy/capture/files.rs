//! The files of a record: what an engineer reads, and what `curl` sends again.

use super::redact::{REDACTED, Secrets, is_secret_name, scheme, target};
use super::{Place, Record, SIDES, Side};

/// Characters of an id in a folder's name.
const ID_CHARS_MAX: usize = 80;

/// Fields that say how a body travelled, which is not how it is written down.
const FRAMING: [&str; 6] =
    ["content-length", "transfer-encoding", "content-encoding", "expect", "connection", "te"];
/// What `curl` says by itself, or asks for what nobody can read.
const CURLS_OWN: [&str; 2] = ["host", "accept-encoding"];

/// A head taken apart.
struct Head<'h> {
    /// The first line.
    start: &'h [u8],
    fields: Vec<(&'h str, &'h [u8])>,
}

impl<'h> Head<'h> {
    fn new(raw: &'h [u8]) -> Self {
        let mut lines = raw.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
        let start = lines.next().unwrap_or_default();
        let fields = lines.filter_map(|line| {
            let at = line.iter().position(|&byte| byte == b':')?;
            let name = std::str::from_utf8(line.get(..at)?).ok()?;
            Some((name, line.get(at + 1..)?.trim_ascii()))
        });
        Self { start, fields: fields.collect() }
    }

    fn field(&self, name: &str) -> Option<&'h [u8]> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    }

    /// The target of a request, unredacted.
    fn target(&self) -> &'h [u8] {
        self.start.split(|&byte| byte == b' ').nth(1).unwrap_or_default()
    }

    fn is_request(&self) -> bool {
        !self.start.starts_with(b"HTTP/")
    }
}

impl Record {
    /// The name of its folder: when it began, and its request id.
    #[must_use]
    pub fn folder(&self, secrets: &Secrets) -> String {
        let reply = Head::new(self.side_head(Place::ClientReply));
        let id = reply.field("x-request-id").unwrap_or(self.facts.id.as_bytes());
        let id = self.secrets(secrets).redact(id);
        let legal = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let id: String = id.into_iter().filter(legal).map(char::from).take(ID_CHARS_MAX).collect();
        format!("{}-{id}", self.began_unix_s)
    }

    /// The files by their names, without secrets; `meta.json` is the last.
    #[must_use]
    pub fn files(&self, secrets: &Secrets) -> Vec<(String, Vec<u8>)> {
        let secrets = self.secrets(secrets);
        let mut files = Vec::new();
        for (name, side) in SIDES.iter().zip(&self.sides) {
            if side.head.is_empty() {
                continue;
            }
            let head = Head::new(&side.head);
            let body = secrets.redact(&side.body);
            files.push((format!("{name}.http"), http(&head, &body, &secrets)));
            if head.is_request() {
                files.push((format!("{name}.json"), body));
            }
        }
        files.push(("replay.sh".to_owned(), self.replay(&secrets)));
        files.push(("meta.json".to_owned(), secrets.redact(self.meta().as_bytes())));
        files
    }

    /// The names of all files that a folder may hold.
    pub fn file_names() -> impl Iterator<Item = String> {
        let requests = SIDES.iter().take(2).map(|name| format!("{name}.json"));
        let all = SIDES.iter().map(|name| format!("{name}.http")).chain(requests);
        all.chain(["replay.sh".to_owned(), "meta.json".to_owned()])
    }

    fn side_head(&self, place: Place) -> &[u8] {
        self.sides.get(place as usize).map_or(&[], |side| &side.head)
    }

    /// The configuration's secrets, and those that this exchange itself shows.
    fn secrets(&self, secrets: &Secrets) -> Secrets {
        let mut secrets = secrets.clone();
        for side in &self.sides {
            let head = Head::new(&side.head);
            if head.is_request() {
                secrets.add_query(head.target());
            }
            for (name, value) in &head.fields {
                secrets.add_field(name, value);
            }
        }
        secrets
    }

    fn meta(&self) -> String {
        let facts = &self.facts;
        let side = |side: &Side| {
            serde_json::json!({"body_bytes": side.bytes, "kept_bytes": side.body.len(),
                "truncated": side.is_truncated()})
        };
        let sides: serde_json::Map<String, serde_json::Value> = SIDES
            .iter()
            .zip(&self.sides)
            .map(|(name, it)| ((*name).to_owned(), side(it)))
            .collect();
        let meta = serde_json::json!({
            "began_unix_s": self.began_unix_s,
            "first_ms": facts.first_ms,
            "ms": facts.ms,
            "result": facts.result,
            "status": facts.status,
            "upstream_status": facts.upstream_status,
            "model": facts.model,
            "provider": facts.provider,
            "attempts": self.attempts,
            "sides": sides,
        });
        format!("{meta:#}\n")
    }

    fn replay(&self, secrets: &Secrets) -> Vec<u8> {
        let mut out = b"#!/bin/sh\n\
            # Sends a request of this exchange again, from here:\n\
            #   KEY=... sh replay.sh            the client's, to the proxy (another: PATCHBAY=URL)\n\
            #   KEY=... sh replay.sh upstream   the proxy's, to the upstream (another: UPSTREAM=URL)\n\
            # Secrets were taken out: KEY is what goes to where the credential was.\n\
            cd \"$(dirname \"$0\")\" || exit 1\ncase \"${1:-client}\" in\n"
            .to_vec();
        for (place, word, base, tls) in [
            (Place::ClientRequest, "client", "PATCHBAY", self.facts.client_tls),
            (Place::UpstreamRequest, "upstream", "UPSTREAM", self.facts.upstream_tls),
        ] {
            let Some(side) = self.sides.get(place as usize) else { continue };
            if side.head.is_empty() {
                continue;
            }
            let name = SIDES.get(place as usize).copied().unwrap_or_default();
            let head = Head::new(&side.head);
            let scheme = if tls { "https" } else { "http" };
            let host = secrets.redact(head.field("host").unwrap_or(b"127.0.0.1"));
            let url = quoted(&[scheme.as_bytes(), b"://", &host].concat());
            let path = quoted(&secrets.redact(&target(head.target())));
            let mut add = |parts: &[&[u8]]| out.extend_from_slice(&parts.concat());
            add(&[word.as_bytes(), b")\n"]);
            if side.is_truncated() {
                add(&[b"# The body was longer than what is kept of it.\n"]);
            }
            let base = base.as_bytes();
            // A client may say any Host; the key is not sent wherever it likes.
            if place == Place::UpstreamRequest || is_loopback(&host) {
                add(&[b"[ -n \"$", base, b"\" ] || ", base, b"=", &url, b"\n"]);
            } else {
                add(&[b": \"${", base, b":?say where the proxy is}\"\n"]);
            }
            // A list is asked for without a body.
            let reads = head.start.starts_with(b"GET ");
            let method: &[u8] = if reads { b"GET" } else { b"POST" };
            add(&[b"curl -gsSN -X ", method, b" \"$", base, b"\"", &path]);
            for field in head.fields.iter().filter_map(|field| curl_field(*field, secrets)) {
                add(&[b" -H ", &field]);
            }
            if !reads {
                add(&[b" --data-binary @", name.as_bytes(), b".json"]);
            }
            add(&[b"\n;;\n"]);
        }
        out.extend_from_slice(b"*) echo 'there is no such request here' >&2; exit 2;;\nesac\n");
        out
    }
}

/// Whether a `Host` is this machine.
fn is_loopback(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn http(head: &Head<'_>, body: &[u8], secrets: &Secrets) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 1024);
    if head.is_request() {
        let mut words = head.start.split(|&byte| byte == b' ');
        out.extend_from_slice(words.next().unwrap_or_default());
        out.push(b' ');
        out.extend_from_slice(&secrets.redact(&target(head.target())));
        out.push(b' ');
        out.extend_from_slice(words.nth(1).unwrap_or_default());
    } else {
        out.extend_from_slice(&secrets.redact(head.start));
    }
    out.extend_from_slice(b"\r\n");
    for (name, value) in &head.fields {
        if FRAMING.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            continue;
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        if is_secret_name(name) {
            out.extend_from_slice(known_scheme(value));
            out.extend_from_slice(REDACTED.as_bytes());
        } else {
            out.extend_from_slice(&secrets.redact(value));
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

/// A field as an argument of `curl`: credentials become variables, other secrets are left out.
fn curl_field((name, value): (&str, &[u8]), secrets: &Secrets) -> Option<Vec<u8>> {
    let is = |own: &&str| own.eq_ignore_ascii_case(name);
    if value.is_empty() || FRAMING.iter().chain(&CURLS_OWN).any(is) {
        return None;
    }
    let variable: &[u8] = match name.to_ascii_lowercase() {
        name if !is_secret_name(&name) => {
            return Some(quoted(&[name.as_bytes(), b": ", &secrets.redact(value)].concat()));
        }
        name if name.contains("cookie") => return None,
        name if name.contains("account-id") => b"\"$ACCOUNT\"",
        _ => b"\"$KEY\"",
    };
    let start = quoted(&[name.as_bytes(), b": ", known_scheme(value)].concat());
    Some([&start, variable].concat())
}

/// The scheme of a credential, if it is a known word and not a part of the secret.
fn known_scheme(value: &[u8]) -> &[u8] {
    let (scheme, _) = scheme(value);
    let known = [&b"Bearer "[..], b"Basic "].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if known { scheme } else { &[] }
}

/// A word for the shell, whatever bytes it has.
fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::capture::{Facts, Tape};
    use crate::proxy::upstream::Outgoing;

    fn none() -> Secrets {
        let mut config = crate::config::load(
            None,
            &crate::config::Overrides {
                upstream_url: Some("http://127.0.0.1:9".to_owned()),
                ..crate::config::Overrides::default()
            },
            crate::config::World { var: &|_| None, cores: 1 },
        )
        .unwrap();
        config.client_keys.clear();
        Secrets::new(&config)
    }

    fn record(head: &str, body: &str) -> Record {
        let mut tape = Tape::new(1000, 1_800_000_000, head.as_bytes());
        tape.body(Place::ClientRequest, body.as_bytes());
        let facts = Facts { id: "req_1".to_owned(), ..Facts::default() };
        let mut outgoing = Outgoing::default();
        let sent = "POST /up?key=query-secret HTTP/1.1\r\nhost: up.example\r\n\
                    api-key: upstream-secret\r\ncontent-length: 2\r\n\r\n";
        outgoing.head.extend_from_slice(sent.as_bytes());
        outgoing.head_bytes = sent.len();
        outgoing.head.extend_from_slice(b"{}");
        tape.ask(&outgoing);
        tape.ask(&outgoing);
        tape.end(Facts { upstream_tls: true, ..facts })
    }

    fn file(record: &Record, name: &str) -> String {
        let files = record.files(&none());
        let (_, bytes) = files.into_iter().find(|(known, _)| known == name).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    const HEAD: &str = "POST /v1/responses?api_key=asked-secret&x=1 HTTP/1.1\r\nHost: a'b\r\n\
        authorization: Bearer client-secret\r\ncookie: s=cookie-secret\r\nX-One: it's\r\n\
        chatgpt-account-id: account-secret\r\ntransfer-encoding: chunked\r\n\
        content-encoding: zstd\r\n\r\n";

    #[test]
    fn a_side_is_http_without_secrets_and_framed_anew() {
        let record = record(HEAD, r#"{"a":"client-secret \u0071uery-secret"}"#);
        assert_eq!(
            file(&record, "client-request.http"),
            "POST /v1/responses?api_key=REDACTED&x=1 HTTP/1.1\r\nHost: a'b\r\n\
             authorization: Bearer [redacted]\r\ncookie: [redacted]\r\nX-One: it's\r\n\
             chatgpt-account-id: [redacted]\r\ncontent-length: 29\r\n\r\n\
             {\"a\":\"[redacted] [redacted]\"}"
        );
        assert_eq!(file(&record, "client-request.json"), r#"{"a":"[redacted] [redacted]"}"#);
        assert_eq!(record.folder(&none()), "1800000000-req_1");
        for (name, bytes) in record.files(&none()) {
            assert!(Record::file_names().any(|known| known == name), "{name}");
            assert!(!String::from_utf8(bytes).unwrap().contains("secret"), "{name}");
        }
    }

    #[test]
    fn the_script_is_safe_for_a_shell() {
        let script = file(&record(HEAD, "{}"), "replay.sh");
        for line in [
            ": \"${PATCHBAY:?say where the proxy is}\"\n",
            "curl -gsSN -X POST \"$PATCHBAY\"'/v1/responses?api_key=REDACTED&x=1' \
             -H 'authorization: Bearer '\"$KEY\" -H 'x-one: it'\\''s' \
             -H 'chatgpt-account-id: '\"$ACCOUNT\" --data-binary @client-request.json\n",
            "[ -n \"$UPSTREAM\" ] || UPSTREAM='https://up.example'\n",
            "curl -gsSN -X POST \"$UPSTREAM\"'/up?key=REDACTED' -H 'api-key: '\"$KEY\" \
             --data-binary @upstream-request.json\n",
        ] {
            assert!(script.contains(line), "{line}\n{script}");
        }
    }

    #[test]
    fn a_key_goes_to_no_host_that_only_a_client_named() {
        for (host, known) in [
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("127.0.0.1:8787", true),
            ("[::1]:8787", true),
            ("[::1]", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example:80", false),
            ("evil.example#127.0.0.1:80", false),
            ("", false),
        ] {
            let script = file(&record(&HEAD.replace("a'b", host), "{}"), "replay.sh");
            assert_eq!(script.contains(&format!("PATCHBAY='http://{host}'\n")), known, "{host}");
        }
    }

    #[test]
    fn a_hostile_id_is_a_plain_name() {
        let mut tape = Tape::new(1000, 7, b"POST / HTTP/1.1\r\nx-api-key: client-secret\r\n\r\n");
        tape.whole_reply(b"HTTP/1.1 200 OK\r\nx-request-id: ../a/b c-client-secret\r\n\r\nbody");
        let record = tape.end(Facts::default());
        assert_eq!(record.folder(&none()), "7-abc-redacted");
        assert!(file(&record, "client-reply.http").ends_with("content-length: 4\r\n\r\nbody"));
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let record = record(HEAD, &"x".repeat(1001));
        let meta: serde_json::Value = serde_json::from_str(&file(&record, "meta.json")).unwrap();
        let side = &meta["sides"]["client-request"];
        assert_eq!((&side["body_bytes"], &side["kept_bytes"]), (&1001.into(), &1000.into()));
        assert_eq!((&side["truncated"], &meta["attempts"]), (&true.into(), &1.into()));
        assert!(file(&record, "replay.sh").contains("# The body was longer"));
    }
}
