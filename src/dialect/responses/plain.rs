//! A request without references to items that the upstream does not keep.

use crate::wire::json::{Bad, Cursor, Kind, Raw};

/// The body without the `item_reference` items of its `input`; `None` when there are none.
/// References only repeat what a client shows in full beside them, or what nobody kept.
pub(super) fn without_references(body: &str) -> Option<String> {
    let mut span = None;
    let mut kept: Vec<&str> = Vec::new();
    let mut found = false;
    let mut cursor = Cursor::new(body);
    let read = cursor.object(|key, cursor| {
        if key != "input" || cursor.kind()? != Kind::Array {
            return cursor.skip().map(|_| ());
        }
        let begin = cursor.position();
        cursor.array(|cursor| {
            let item = cursor.skip()?;
            if is_reference(item)? {
                found = true;
            } else {
                kept.push(item.text());
            }
            Ok(())
        })?;
        span = Some((begin, cursor.position()));
        Ok(())
    });
    let (begin, end) = span.filter(|_| found && read.is_ok())?;
    Some(format!("{}[{}]{}", body.get(..begin)?, kept.join(","), body.get(end..)?))
}

/// An object with nothing but an id is one too.
fn is_reference(item: Raw<'_>) -> Result<bool, Bad> {
    if item.kind() != Kind::Object {
        return Ok(false);
    }
    let (mut named, mut other, mut id) = (false, false, false);
    item.cursor().object(|key, cursor| {
        let value = cursor.skip()?;
        match key {
            "type" if value.is_null() => {}
            "type" => {
                let reference = value.string().is_some_and(|kind| kind.is("item_reference"));
                named |= reference;
                other |= !reference;
            }
            "role" => other |= !value.is_null(),
            "id" => id |= !value.is_null(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(named || (id && !other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_go_and_everything_else_stays() {
        for (body, expected) in [
            (
                r#"{"a":1, "input": [ {"type":"item_reference","id":"rs_1"}, {"role":"user"} ],"b":[]}"#,
                Some(r#"{"a":1, "input":[{"role":"user"}],"b":[]}"#),
            ),
            (r#"{"input":[{"id":"x"}]}"#, Some(r#"{"input":[]}"#)),
            (r#"{"input":[{"id":"x","type":null}]}"#, Some(r#"{"input":[]}"#)),
            (r#"{"input":[{"id":"x","role":"user","content":"y"}]}"#, None),
            (r#"{"input":[{"id":"x","type":"reasoning"}, "text", {}]}"#, None),
            (r#"{"input":"item_reference"}"#, None),
            (r#"{"input":[{"id":"x"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            let got =
                without_references(body).map(|text| text.replace("\"input\": ", "\"input\":"));
            assert_eq!(got.as_deref(), expected, "{body}");
        }
    }
}
