//! Bodies of type `multipart/form-data` (RFC 7578): a form with one file.

/// A form with one file behind its fields.
#[derive(Clone, Copy, Debug)]
pub struct Form<'f> {
    /// Names and values of the fields; plain ASCII without quotes and line ends.
    pub fields: &'f [(&'f str, &'f str)],
    /// The name of the file's field.
    pub name: &'f str,
    /// The file's own name; plain ASCII without quotes and line ends.
    pub file_name: &'f str,
    /// The file's media type.
    pub media: &'f str,
    /// The file.
    pub content: &'f [u8],
}

impl Form<'_> {
    /// The value of `Content-Type` that belongs to [`Form::write`] with this boundary.
    #[must_use]
    pub fn content_type(boundary: &str) -> String {
        format!("multipart/form-data; boundary={boundary}")
    }

    /// The body. The `boundary` (RFC 2046, section 5.1.1: at most 70 letters, digits and a few
    /// signs) must not occur in the content.
    #[must_use]
    pub fn write(&self, boundary: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.content.len() + 1024);
        let mut put = |parts: &[&str]| {
            parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        };
        for (name, value) in self.fields {
            put(&["--", boundary, "\r\ncontent-disposition: form-data; name=\"", name]);
            put(&["\"\r\n\r\n", value, "\r\n"]);
        }
        put(&["--", boundary, "\r\ncontent-disposition: form-data; name=\"", self.name]);
        put(&["\"; filename=\"", self.file_name, "\"\r\ncontent-type: ", self.media]);
        put(&["\r\n\r\n"]);
        out.extend_from_slice(self.content);
        for part in ["\r\n--", boundary, "--\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_fields_and_a_file_between_boundaries() {
        let form = Form {
            fields: &[("purpose", "general")],
            name: "file",
            file_name: "a.png",
            media: "image/png",
            content: b"\x89PNG\r\n--\0",
        };
        let expected: &[u8] = b"--b1\r\n\
            content-disposition: form-data; name=\"purpose\"\r\n\r\n\
            general\r\n\
            --b1\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
            content-type: image/png\r\n\r\n\
            \x89PNG\r\n--\0\r\n\
            --b1--\r\n";
        assert_eq!(form.write("b1"), expected);
        assert_eq!(Form::content_type("b1"), "multipart/form-data; boundary=b1");
    }
}
