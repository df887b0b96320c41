//! Header fields: what bytes they may have, and how to walk them.

use super::scan;

/// Bytes of a token (RFC 9110 section 5.6.2): methods, field names.
pub(crate) const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Bytes of a field value (RFC 9110 section 5.5): HTAB, SP, visible ASCII, and above 0x7f.
pub(crate) const VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = byte == 0x09;
        byte += 1;
    }
    table[0x7f] = false;
    table
};

/// Whether `bytes` is a token.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// Whether `bytes` may stand as a field value.
#[must_use]
pub fn is_value(bytes: &[u8]) -> bool {
    scan::visible(bytes) == bytes.len() || bytes.iter().all(|&byte| VALUE[usize::from(byte)])
}

/// Without the SP and HTAB around it (OWS, RFC 9110 section 5.6.3). Nothing else is white space:
/// a VT or a no-break space in front of `chunked` is what smuggling is made of.
#[must_use]
pub fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn trim_ows_start(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

/// What follows `part` in `bytes`, if it stands there at the front: not an equal one, these bytes.
/// An empty part may stand anywhere.
fn split_same<'b>(bytes: &'b [u8], part: &[u8]) -> Option<&'b [u8]> {
    let (start, rest) = bytes.split_at_checked(part.len())?;
    (part.is_empty() || std::ptr::eq(start, part)).then_some(rest)
}

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// The name, in the sender's spelling.
    pub name: &'b str,
    /// The value without white space around it. May have bytes above 0x7f.
    pub value: &'b [u8],
}

impl<'b> Field<'b> {
    /// Whether this is its name, in any case.
    #[must_use]
    pub const fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value when it is ASCII.
    #[must_use]
    pub fn text(&self) -> Option<&'b str> {
        if self.value.is_ascii() { std::str::from_utf8(self.value).ok() } else { None }
    }

    /// Splits a line without its CRLF. Its bytes are not looked at: whoever made the [`Fields`] has
    /// seen to it that they are those of a field.
    fn split(line: &'b [u8]) -> Option<Self> {
        let (name, value) = line.split_at_checked(name_length(line)?)?;
        Some(Self { name: std::str::from_utf8(name).ok()?, value: trim_ows(value.get(1..)?) })
    }
}

/// Where the colon is.
fn name_length(line: &[u8]) -> Option<usize> {
    scan::find(line, b':')
}

/// The fields of a head, in their order; repeated ones come repeatedly.
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    /// Checked lines, each with its CRLF.
    lines: &'b [u8],
}

impl<'b> Fields<'b> {
    /// Walks lines, each ended by CRLF. The caller compares what comes out with what another reader
    /// makes of the same lines, before anybody trusts it.
    pub(crate) const fn new(lines: &'b [u8]) -> Self {
        Self { lines }
    }

    /// The first field of this name, in any case. Other lines are only stepped over.
    #[must_use]
    pub fn named(mut self, name: &str) -> Option<Field<'b>> {
        while let Some(line) = self.line() {
            if let Some((start, [b':', ..])) = line.split_at_checked(name.len())
                && start.eq_ignore_ascii_case(name.as_bytes())
            {
                return Field::split(line);
            }
        }
        None
    }

    /// The fields whose name is wanted. Other lines are only stepped over.
    pub fn wanted(
        mut self,
        mut is_wanted: impl FnMut(&[u8]) -> bool,
    ) -> impl Iterator<Item = Field<'b>> {
        std::iter::from_fn(move || {
            loop {
                let line = self.line()?;
                let name = line.get(..name_length(line)?)?;
                if is_wanted(name) {
                    return Field::split(line);
                }
            }
        })
    }

    /// Steps over the next line, if `field`, which another reader found, is that very line.
    pub(crate) fn agree(&mut self, field: Field<'b>) -> bool {
        let rest = split_same(self.lines, field.name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b":"))
            .and_then(|rest| split_same(trim_ows_start(rest), field.value))
            .and_then(|rest| trim_ows_start(rest).strip_prefix(b"\r\n"));
        self.lines = rest.unwrap_or_default();
        rest.is_some()
    }

    /// Whether no line is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The next line, without its CRLF.
    fn line(&mut self) -> Option<&'b [u8]> {
        let end = scan::find(self.lines, b'\n')?;
        let (line, rest) = self.lines.split_at(end + 1);
        self.lines = rest;
        line.strip_suffix(b"\r\n")
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Field<'b>;

    fn next(&mut self) -> Option<Field<'b>> {
        self.line().and_then(Field::split)
    }
}

/// The elements of a comma list (RFC 9110 section 5.6.1), trimmed, without the empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// Whether a `Content-Type` value names this media type, whatever its parameters.
#[must_use]
pub fn is_media_type(value: &str, media_type: &str) -> bool {
    let essence = value.split(';').next().unwrap_or_default();
    trim_ows(essence.as_bytes()).eq_ignore_ascii_case(media_type.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\x0bchunked"), b"\x0bchunked");
        assert_eq!(trim_ows(b"\xa0chunked"), b"\xa0chunked");
        assert_eq!(trim_ows(b" \t"), b"");
    }

    #[test]
    fn field_lines() {
        let lines = b"A:b\r\na-b:\t b \t\r\nx:\r\nX:a:b\r\nu: \xc3\xa9\r\n";
        let expected: &[(&str, &[u8])] =
            &[("A", b"b"), ("a-b", b"b"), ("x", b""), ("X", b"a:b"), ("u", b"\xc3\xa9")];
        let found: Vec<_> = Fields::new(lines).map(|field| (field.name, field.value)).collect();
        assert_eq!(found, expected);
        for (name, value) in [("A-B", Some("b")), ("X", Some("")), ("", None), ("a-", None)] {
            let found = Fields::new(lines).named(name).and_then(|field| field.text());
            assert_eq!(found, value, "{name}");
        }
        let wanted = Fields::new(lines).wanted(|name| name.eq_ignore_ascii_case(b"x"));
        assert_eq!(wanted.map(|field| field.value).collect::<Vec<_>>(), [&b""[..], b"a:b"]);
        for line in [&b"a"[..], b"", b"\xe9:a"] {
            assert_eq!(Field::split(line), None, "{:?}", line.escape_ascii().to_string());
        }
    }

    #[test]
    fn another_reader_agrees_only_about_the_same_bytes() {
        let lines = b"A:b\r\nx: \r\ny:\tc d \r\n";
        let all: Vec<_> = Fields::new(lines).collect();
        let mut fields = Fields::new(lines);
        assert!(all.iter().all(|field| fields.agree(*field)) && fields.is_empty());
        let [first, empty, last] = all[..] else { panic!("{all:?}") };
        let part = |range| std::str::from_utf8(&lines[range]).unwrap();
        for wrong in [
            empty,
            last,
            Field { name: "A", value: first.value },
            Field { name: first.name, value: b"b" },
            Field { name: first.name, value: b"" },
            Field { name: part(0..2), value: first.value },
            Field { name: part(0..3), value: b"" },
            Field { name: "", value: &lines[..3] },
        ] {
            let mut fields = Fields::new(lines);
            assert!(!fields.agree(wrong) && fields.is_empty(), "{wrong:?}");
        }
        let mut fields = Fields::new(lines);
        assert!(fields.agree(first) && !fields.agree(last));
    }

    #[test]
    fn media_types_ignore_case_and_parameters() {
        assert!(is_media_type("Text/Event-Stream; charset=utf-8", "text/event-stream"));
        assert!(is_media_type(" application/json ", "application/json"));
        assert!(!is_media_type("application/jsonp", "application/json"));
        assert!(!is_media_type("", "application/json"));
    }

    #[test]
    fn lists_skip_empty_elements() {
        let found: Vec<&[u8]> = list(b", close ,,\tUpgrade").collect();
        assert_eq!(found, [&b"close"[..], b"Upgrade"]);
    }
}
