//! Values of `Host` and `Origin`. The check against DNS rebinding stands on them, so what is not
//! plainly a name or an address is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A checked `Host` value (RFC 9110 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'b> {
    /// Name or address in the sender's case, IPv6 without brackets.
    pub name: &'b str,
    /// The port, when there is one.
    pub port: Option<u16>,
}

impl<'b> Host<'b> {
    /// Reads a host name, an IPv4 or a bracketed IPv6 address, with or without a port. `None` for
    /// everything else: nothing, user information, a path, `*`, percent escapes, an empty port.
    #[must_use]
    pub fn decode(value: &'b str) -> Option<Self> {
        if let Some(inner) = value.strip_prefix('[') {
            let (address, rest) = inner.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            return Some(Self { name: address, port: port(rest)? });
        }
        let end = value.find(':').unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        if !is_name(name) {
            return None;
        }
        Some(Self { name, port: port(rest)? })
    }

    /// Whether the name can only mean this machine: `localhost` and names under it (RFC 6761
    /// section 6.3), 127.0.0.0/8, ::1.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        if let Ok(address) = self.name.parse::<Ipv4Addr>() {
            return address.is_loopback();
        }
        if let Ok(address) = self.name.parse::<Ipv6Addr>() {
            return address.is_loopback();
        }
        let name = self.name.strip_suffix('.').unwrap_or(self.name);
        let last = name.rsplit('.').next().unwrap_or_default();
        last.eq_ignore_ascii_case("localhost")
    }

    /// Whether the name is this one, in any case, with or without the root's dot.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let bare = |name: &'b str| name.strip_suffix('.').unwrap_or(name);
        bare(self.name).eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name))
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 bytes, 253 in all; one final dot is fine.
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}

/// Reads nothing, or `:` and a port from 1 to 65535.
#[allow(clippy::option_option, reason = "no port and a bad port are two things")]
fn port(rest: &str) -> Option<Option<u16>> {
    if rest.is_empty() {
        return Some(None);
    }
    let digits = rest.strip_prefix(':')?;
    if !(1..=5).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&port| port != 0).map(Some)
}

/// A checked `Origin` value (RFC 6454 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'b> {
    /// `null`: a sandboxed page, a file, a redirect. Nobody in particular, so nobody trusted.
    Opaque,
    /// `scheme://host[:port]`.
    Site {
        /// The scheme.
        scheme: &'b str,
        /// Host and port.
        host: Host<'b>,
    },
}

impl<'b> Origin<'b> {
    /// Reads one origin; `None` for a list, a path, a scheme alone and other text.
    #[must_use]
    pub fn decode(value: &'b str) -> Option<Self> {
        if value == "null" {
            return Some(Self::Opaque);
        }
        let (scheme, rest) = value.split_once("://")?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(legal)
        {
            return None;
        }
        Some(Self::Site { scheme, host: Host::decode(rest)? })
    }

    /// Whether it is a page that this machine itself serves over HTTP.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Opaque => false,
            Self::Site { scheme, host } => {
                (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
                    && host.is_loopback()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are() {
        let cases: &[(&str, &str, Option<u16>)] = &[
            ("localhost", "localhost", None),
            ("LocalHost:8080", "LocalHost", Some(8080)),
            ("api.example.com.", "api.example.com.", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]", "::1", None),
            ("[::1]:65535", "::1", Some(65535)),
            ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", Some(80)),
            ("my_host-1:00080", "my_host-1", Some(80)),
        ];
        for &(value, name, port) in cases {
            assert_eq!(Host::decode(value), Some(Host { name, port }), "{value}");
        }
    }

    #[test]
    fn hosts_that_are_not() {
        let cases = [
            "",
            " ",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:-1",
            "a:8o",
            "a:80:80",
            "a:000080",
            "u@a",
            "u:p@a",
            "a/b",
            "a b",
            "a\tb",
            "a,b",
            "*",
            "a%2eb",
            "a?b",
            "a#b",
            "<script>",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]x",
            "[::1]:",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "h\u{e9}",
            "http://a",
            "'a'",
            "a\\b",
            "a;b",
        ];
        for value in cases {
            assert_eq!(Host::decode(value), None, "{value:?}");
        }
        assert!(Host::decode(&"a".repeat(64)).is_none());
        assert!(Host::decode(&"a.".repeat(128)).is_none());
    }

    #[test]
    fn loopback_names() {
        let here = ["localhost", "LOCALHOST.", "a.localhost:1", "127.9.9.9", "[::1]:80"];
        for value in here {
            assert!(Host::decode(value).unwrap().is_loopback(), "{value}");
        }
        let elsewhere = [
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "0.0.0.0",
            "[::]",
            "2130706433",
            "0x7f.1",
            "127.1",
            "[::2]",
            "10.0.0.1",
            "169.254.169.254",
        ];
        for value in elsewhere {
            assert!(!Host::decode(value).unwrap().is_loopback(), "{value}");
        }
    }

    #[test]
    fn names_compare_without_case_and_root_dot() {
        assert!(Host::decode("API.example:1").unwrap().is("api.example"));
        assert!(Host::decode("api.example.").unwrap().is("api.example"));
        assert!(!Host::decode("api.example.org").unwrap().is("api.example"));
    }

    #[test]
    fn origins() {
        assert_eq!(Origin::decode("null"), Some(Origin::Opaque));
        assert!(Origin::decode("http://localhost:3000").unwrap().is_loopback());
        assert!(Origin::decode("https://[::1]").unwrap().is_loopback());
        for value in [
            "https://evil.example",
            "http://127.0.0.1.evil.example",
            "null",
            "chrome-extension://localhost",
        ] {
            assert!(!Origin::decode(value).unwrap().is_loopback(), "{value}");
        }
        for value in [
            "",
            "localhost",
            "http://",
            "http://a/",
            "http://a http://b",
            "://a",
            "1a://b",
            "http://u@a",
            "NULL",
        ] {
            assert_eq!(Origin::decode(value), None, "{value}");
        }
    }
}
