//! Upstream URLs, read strictly: what cannot be meant is an error, nothing is repaired.

use super::Url;

/// Longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

impl Url {
    /// Reads `http://` and `https://` URLs. The path of `https://host` is `/`.
    ///
    /// # Errors
    /// What is wrong with which part, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: &str| Err(format!("the URL `{}` {why}", redacted(text)));
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let (tls, rest) = if lower.starts_with("https://") {
            (true, &text[8..])
        } else if lower.starts_with("http://") {
            (false, &text[7..])
        } else {
            return fail("must start with https:// or http://");
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return fail("holds a user name or password: give the key with a credential instead");
        }
        let (host, port) = match split_port(authority) {
            Ok(parts) => parts,
            Err(why) => return fail(why),
        };
        if let Err(why) = check_host(&host) {
            return fail(why);
        }
        let port = match port {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
                _ => return fail("needs a port from 1 to 65535 behind the colon"),
            },
        };
        if let Err(why) = check_path(path) {
            return fail(why);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { tls, host, port, path: format!("{slash}{path}") })
    }

    /// Completes a base URL to the URL of one operation: `https://host` and `https://host/v1` and
    /// `https://host/v1/chat/completions` are all the same for `/chat/completions`. A query is kept.
    #[must_use]
    pub fn with_operation(mut self, operation: &str) -> Self {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        let path = path.trim_end_matches('/');
        let mut whole = match path {
            _ if path.ends_with(operation) => path.to_owned(),
            "" => format!("/v1{operation}"),
            _ => format!("{path}{operation}"),
        };
        if let Some(query) = query {
            whole.push('?');
            whole.push_str(query);
        }
        self.path = whole;
        self
    }

    /// The URL of another operation of the same API: `https://host/v1/files` is beside
    /// `https://host/v1/chat/completions`. A query is kept.
    #[must_use]
    pub fn beside(&self, operation: &str, other: &str) -> Self {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        let path = path.trim_end_matches('/');
        let base = path.strip_suffix(operation).unwrap_or(path);
        let mut whole = format!("{base}{other}");
        if let Some(query) = query {
            whole.push('?');
            whole.push_str(query);
        }
        Self { tls: self.tls, host: self.host.clone(), port: self.port, path: whole }
    }

    /// Completes a URL whose path is only a beginning of `base`, in whole segments, to `base`: with
    /// `/api/v1`, `https://host` and `https://host/api` are the same. Any other path is meant as it
    /// is. A query is kept.
    #[must_use]
    pub(super) fn with_usual_base(mut self, base: &str) -> Self {
        let (path, query) = self.path.split_at(self.path.find('?').unwrap_or(self.path.len()));
        let path = path.trim_end_matches('/');
        if base.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')) {
            self.path = format!("{base}{query}");
        }
        self
    }

    /// Completes a URL that does not name the `operation` with `base`, of which the path may hold
    /// the beginning already: with `/backend-api/codex`, `https://host` and
    /// `https://host/backend-api` are the same. A query is kept.
    ///
    /// # Errors
    /// `base` is no path.
    pub(super) fn with_base(mut self, base: &str, operation: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("base_path: `{base}` {why}");
        if !base.starts_with('/') || base.contains('?') {
            return Err(wrong("must begin with a slash and has no query"));
        }
        check_path(base).map_err(wrong)?;
        if self.has_operation(operation) {
            return Ok(self);
        }
        let base = base.trim_end_matches('/');
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        let path = path.trim_end_matches('/');
        // The longest beginning of the base, in whole segments, that ends the path.
        let ends = base.match_indices('/').map(|(at, _)| at).chain([base.len()]);
        let known = ends.rev().find(|end| path.ends_with(&base[..*end])).unwrap_or(0);
        let mut whole = format!("{path}{}", &base[known..]);
        if let Some(query) = query {
            whole.push('?');
            whole.push_str(query);
        }
        self.path = whole;
        Ok(self)
    }

    /// Whether the path (without its query) ends in `operation` already.
    #[must_use]
    pub fn has_operation(&self, operation: &str) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        path.trim_end_matches('/').ends_with(operation)
    }
}

/// The text for an error message: without what may be a secret.
fn redacted(text: &str) -> String {
    match text.split_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => text.split('?').next().unwrap_or_default().chars().take(200).collect(),
    }
}

/// Splits `host`, `host:port` and `[v6]:port`; the host comes back in lower case, without brackets.
fn split_port(authority: &str) -> Result<(String, Option<&str>), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return Err("has an opening bracket without a closing one");
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("has brackets around something that is no IPv6 address");
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address.to_ascii_lowercase(), Some(port))),
            None if rest.is_empty() => Ok((address.to_ascii_lowercase(), None)),
            None => Err("has text between the address and the path"),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("needs brackets around an IPv6 address"),
        Some((host, port)) => Ok((host.to_ascii_lowercase(), Some(port))),
        None => Ok((authority.to_ascii_lowercase(), None)),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err("needs a host name of 1 to 253 characters");
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| !label.is_empty() && label.bytes().all(legal);
    if !host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return Err("has a host name with characters other than letters, digits, `-`, `_` and `.`");
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.contains('#') {
        return Err("has a fragment (`#`), which servers never see: remove it");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
        return Err("has a space or another character in its path that must be percent-encoded");
    }
    let path = path.split('?').next().unwrap_or_default();
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("has `.` or `..` in its path");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url = |tls, host: &str, port, path: &str| Url {
            tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        for (text, expected) in [
            ("https://api.openai.com", url(true, "api.openai.com", 443, "/")),
            ("HTTPS://API.OpenAI.com/V1/", url(true, "api.openai.com", 443, "/V1/")),
            ("http://localhost:8000/v1", url(false, "localhost", 8000, "/v1")),
            ("http://[::1]:1/x", url(false, "::1", 1, "/x")),
            ("http://[2001:DB8::1]", url(false, "2001:db8::1", 80, "/")),
            ("http://127.0.0.1", url(false, "127.0.0.1", 80, "/")),
            ("https://x.example/a?b=c/d", url(true, "x.example", 443, "/a?b=c/d")),
            ("https://x.example?b=c", url(true, "x.example", 443, "/?b=c")),
            ("https://my_host.example./", url(true, "my_host.example.", 443, "/")),
        ] {
            assert_eq!(Url::parse(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (text, word) in [
            ("", "https://"),
            ("api.openai.com/v1", "https://"),
            ("ftp://x.example", "https://"),
            ("https://", "host name"),
            ("https:///v1", "host name"),
            ("https://:443", "host name"),
            ("https://a..b", "characters"),
            ("https://bücher.example", "characters"),
            ("https://a b", "characters"),
            ("https://x.example:", "port"),
            ("https://x.example:0", "port"),
            ("https://x.example:65536", "port"),
            ("https://x.example:+80", "port"),
            ("https://x.example:8o", "port"),
            ("http://::1/", "brackets"),
            ("http://[::1", "closing"),
            ("http://[x]/", "IPv6"),
            ("http://[::1]x", "between"),
            ("https://x.example/a#b", "fragment"),
            ("https://x.example/a b", "percent"),
            ("https://x.example/a\r\nx: y", "percent"),
            ("https://x.example/a/../b", "`..`"),
            ("https://x.example/é", "percent"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(Url::parse(&format!("https://{}", "a".repeat(254))).is_err());
    }

    #[test]
    fn a_secret_in_a_url_is_not_repeated() {
        for text in ["https://user:hunter2@x.example/", "ftp://x.example/?key=hunter2"] {
            let error = Url::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_base_path_is_added_as_far_as_it_is_missing() {
        for (text, path) in [
            ("https://x.example", "/backend-api/codex/responses"),
            ("https://x.example/", "/backend-api/codex/responses"),
            ("https://x.example/backend-api", "/backend-api/codex/responses"),
            ("https://x.example/backend-api/codex/", "/backend-api/codex/responses"),
            ("https://x.example/a", "/a/backend-api/codex/responses"),
            ("https://x.example/v1/responses", "/v1/responses"),
            ("https://x.example/a/responses?k=1", "/a/responses?k=1"),
            ("https://x.example?k=1", "/backend-api/codex/responses?k=1"),
        ] {
            let url = Url::parse(text).unwrap().with_base("/backend-api/codex", "/responses");
            assert_eq!(url.unwrap().with_operation("/responses").path, path, "{text}");
        }
        for base in ["", "a", "/a?b", "/a b", "/a/../b"] {
            let url = Url::parse("https://x.example").unwrap();
            assert!(url.with_base(base, "/responses").is_err(), "{base}");
        }
    }

    #[test]
    fn another_operation_is_beside() {
        for (text, path) in [
            ("https://x.example/v1/chat/completions", "/v1/files"),
            ("https://x.example/api/v1/chat/completions/", "/api/v1/files"),
            ("https://x.example/chat/completions", "/files"),
            ("https://x.example/o/chat/completions?api-version=1", "/o/files?api-version=1"),
            ("https://x.example/v1", "/v1/files"),
        ] {
            let url = Url::parse(text).unwrap();
            let beside = url.beside("/chat/completions", "/files");
            assert_eq!(beside, Url { path: path.to_owned(), ..url }, "{text}");
        }
    }

    #[test]
    fn a_path_that_only_begins_is_completed() {
        for (text, path) in [
            ("https://x.example", "/api/v1"),
            ("https://x.example/", "/api/v1"),
            ("https://x.example/api/", "/api/v1"),
            ("https://x.example?k=1", "/api/v1?k=1"),
            ("https://x.example/api/v1/", "/api/v1/"),
            ("https://x.example/ap", "/ap"),
            ("https://x.example/v1", "/v1"),
            ("https://x.example/api/v2", "/api/v2"),
            ("https://x.example/api/v1/chat/completions", "/api/v1/chat/completions"),
        ] {
            let url = Url::parse(text).unwrap().with_usual_base("/api/v1");
            assert_eq!(url.path, path, "{text}");
        }
    }

    #[test]
    fn a_base_url_is_completed() {
        for (text, path) in [
            ("https://x.example", "/v1/chat/completions"),
            ("https://x.example/", "/v1/chat/completions"),
            ("https://x.example/v1", "/v1/chat/completions"),
            ("https://x.example/api/v1/", "/api/v1/chat/completions"),
            ("https://x.example/v1/chat/completions", "/v1/chat/completions"),
            ("https://x.example/v1/chat/completions/", "/v1/chat/completions"),
            ("https://x.example/o?api-version=1", "/o/chat/completions?api-version=1"),
            ("https://x.example?a=b", "/v1/chat/completions?a=b"),
        ] {
            let url = Url::parse(text).unwrap().with_operation("/chat/completions");
            assert_eq!(url.path, path, "{text}");
            assert!(url.has_operation("/chat/completions"));
            assert!(!url.has_operation("/responses"));
        }
    }
}
