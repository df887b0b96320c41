//! Files: `multipart/form-data` (RFC 7578) in, ids out. What is in them is not kept.

use super::service::{File, Service, now_ms};
use super::{Refusal, Shown};
use crate::wire::json;
use memchr::memmem;

/// The largest image, sound and other file, in bytes.
const IMAGE_BYTES_MAX: usize = 15 << 20;
const AUDIO_BYTES_MAX: usize = 35 << 20;
const OTHER_BYTES_MAX: usize = 40 << 20;

/// A part of a form.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part<'b> {
    name: &'b str,
    file_name: Option<&'b str>,
    content_type: Option<&'b str>,
    content: &'b [u8],
}

impl Service {
    /// Takes the fields `file` and `purpose`.
    pub(super) fn upload(
        &self,
        account: &str,
        shown: &Shown,
        body: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let bad = |message: &str| Refusal::new(400, "upload", message);
        let boundary = shown.content_type.as_deref().and_then(boundary);
        let boundary = boundary.ok_or_else(|| bad("the body is no multipart/form-data"))?;
        let parts = parts(body, boundary).ok_or_else(|| bad("the form is broken"))?;
        let named = |name| parts.iter().find(|part| part.name == name);
        let file = named("file").ok_or_else(|| bad("the field file is missing"))?;
        let purpose = named("purpose").ok_or_else(|| bad("the field purpose is missing"))?;
        if purpose.content != b"general" {
            return Err(bad("purpose must be general"));
        }
        let (Some(name), Some(kind)) = (file.file_name, file.content_type) else {
            return Err(bad("the file has no name or no type"));
        };
        if name.is_empty() || file.content.is_empty() {
            return Err(bad("the file is empty, or its name is"));
        }
        let (image, audio) = (kind.starts_with("image/"), kind.starts_with("audio/"));
        let bytes_max = match (image, audio) {
            (true, _) => IMAGE_BYTES_MAX,
            (_, true) => AUDIO_BYTES_MAX,
            _ => OTHER_BYTES_MAX,
        };
        if file.content.len() > bytes_max {
            let message = format!("the file is larger than {} MB", bytes_max >> 20);
            return Err(Refusal::new(413, "upload", message));
        }
        let file = File {
            name: name.to_owned(),
            bytes: file.content.len() as u64,
            image,
            created_s: now_ms() / 1000,
        };
        let id = self.keep(account, file.clone());
        let mut out = Vec::new();
        write(&id, &file, &mut out);
        Ok(out)
    }

    /// A list of the account's files.
    pub(super) fn files(&self, account: &str) -> Vec<u8> {
        let mut out = b"{\"data\":[".to_vec();
        for (id, file) in self.all_files(account) {
            write(&id, &file, &mut out);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// One of them.
    pub(super) fn file(&self, account: &str, id: &str) -> Result<Vec<u8>, Refusal> {
        let file = self.look_up(account, id).ok_or_else(no_file)?;
        let mut out = Vec::new();
        write(id, &file, &mut out);
        Ok(out)
    }

    /// Ends one of them.
    pub(super) fn delete(&self, account: &str, id: &str) -> Result<Vec<u8>, Refusal> {
        if !self.forget(account, id) {
            return Err(no_file());
        }
        let mut out = vec![b'{'];
        json::member("id", id, &mut out);
        json::member_raw("deleted", "true", &mut out);
        out.push(b'}');
        Ok(out)
    }
}

fn no_file() -> Refusal {
    Refusal::new(404, "unknown_file", "No such file")
}

fn write(id: &str, file: &File, out: &mut Vec<u8>) {
    json::comma(out);
    out.push(b'{');
    json::member("id", id, out);
    json::member("object", "file", out);
    json::member_number("bytes", file.bytes, out);
    json::member_number("created_at", file.created_s, out);
    json::member("filename", &file.name, out);
    json::member("purpose", "general", out);
    json::member("access_policy", "private", out);
    out.push(b'}');
}

/// The boundary that a `multipart/form-data` names.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    let form = kind.trim().eq_ignore_ascii_case("multipart/form-data");
    let named = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    });
    named.filter(|boundary| form && (1..=70).contains(&boundary.len()))
}

/// The parts of a form (RFC 2046, section 5.1.1); `None` when it is not well-formed.
fn parts<'b>(body: &'b [u8], boundary: &str) -> Option<Vec<Part<'b>>> {
    let mark = format!("\r\n--{boundary}");
    let mark = mark.as_bytes();
    let mut rest = body.strip_prefix(mark.get(2..)?)?;
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n")?;
        let end = memmem::find(rest, mark)?;
        parts.push(part(rest.get(..end)?)?);
        rest = rest.get(end + mark.len()..)?;
    }
    Some(parts)
}

fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let gap = memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..gap)?).ok()?;
    let mut part = Part { content: bytes.get(gap + 4..)?, ..Part::default() };
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-type") {
            part.content_type = Some(value);
        } else if name.eq_ignore_ascii_case("content-disposition") {
            let parameters = value.strip_prefix("form-data")?;
            part.name = parameter(parameters, "; name=\"")?;
            part.file_name = parameter(parameters, "; filename=\"");
        }
    }
    (!part.name.is_empty()).then_some(part)
}

fn parameter<'p>(parameters: &'p str, opening: &str) -> Option<&'p str> {
    let (_, behind) = parameters.split_once(opening)?;
    behind.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        for (kind, found) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data; charset=x; Boundary=\"a b\"", Some("a b")),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data", None),
        ] {
            assert_eq!(boundary(kind), found, "{kind}");
        }
    }

    #[test]
    fn a_form_is_cut_at_its_marks_and_nowhere_else() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
            content-type: image/png\r\n\r\n\r\n--y\0\r\n\r\n--x\r\n\
            content-disposition: form-data; name=\"purpose\"\r\n\r\ngeneral\r\n--x--\r\n";
        let found = parts(body, "x").unwrap();
        let file = Part {
            name: "file",
            file_name: Some("a.png"),
            content_type: Some("image/png"),
            content: b"\r\n--y\0\r\n",
        };
        let purpose = Part { name: "purpose", content: b"general", ..Part::default() };
        assert_eq!(found, [file, purpose]);
        for broken in [
            &body[1..],
            &body[..body.len() - 6],
            b"--x\r\n\r\n--x--",
            b"--x\r\nname: x\r\n\r\n\r\n--x--",
            b"",
        ] {
            assert_eq!(parts(broken, "x"), None, "{}", String::from_utf8_lossy(broken));
        }
    }
}
