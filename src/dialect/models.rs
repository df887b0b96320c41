//! Lists of models as OpenAI's API has them (`GET /models`), read from upstreams and written for
//! clients.
//!
//! Source: <https://platform.openai.com/docs/api-reference/models/list>. GigaChat adds `type`.

use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Cursor, Kind as Json};

/// Most models that are read of one list.
const MODELS_MAX: usize = 2000;
/// Longest name of a model, owner or type.
const NAME_BYTES_MAX: usize = 200;
/// Who owns the models of a configuration.
const OWNER: &str = "patchbay";

/// A model as an upstream lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// `id`.
    pub id: String,
    /// `owned_by`, where it is told.
    pub owned_by: Option<String>,
    /// `created`, Unix time in seconds; 0 = it is not told.
    pub created_s: u64,
    /// `type`, where it is told (GigaChat: `chat`, `embedder`, `filter`, `aicheck`).
    pub kind: Option<String>,
}

impl Listed {
    /// Whether it is a model to talk with, as far as is known.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "chat")
    }

    /// Reads an upstream's list: the first two thousand models with names that can be told.
    ///
    /// # Errors
    /// The reply is no such list.
    pub fn read(reply: &[u8]) -> Result<Vec<Self>, Failure> {
        let (mut models, mut data) = (Vec::new(), None);
        let read = json::utf8(reply).and_then(|text| {
            json::document(text, |cursor| {
                cursor.object(|key, value| {
                    if key != "data" {
                        return Ok(());
                    }
                    json::once(&mut data, ())?;
                    value.array(|each| {
                        models.extend(Self::one(each)?.filter(|_| models.len() < MODELS_MAX));
                        Ok(())
                    })
                })
            })
        });
        let why = match (read, data) {
            (Ok(()), Some(())) => return Ok(models),
            (Ok(()), None) => "it has no `data`".to_owned(),
            (Err(bad), _) => bad.to_string(),
        };
        let message = format!("the upstream's list of models cannot be read: {why}");
        Err(Failure::new(Fault::upstream(Kind::BadReply), message))
    }

    fn one(cursor: &mut Cursor<'_>) -> Result<Option<Self>, Bad> {
        let mut model = Self::default();
        if cursor.kind()? != Json::Object {
            return Ok(None);
        }
        cursor.object(|key, value| {
            let raw = value.skip()?;
            let name = || {
                let name = raw.string()?.decode();
                let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
                (fits && !name.chars().any(char::is_control)).then(|| name.into_owned())
            };
            match key {
                "id" => model.id = name().unwrap_or_default(),
                "owned_by" => model.owned_by = name(),
                "type" => model.kind = name(),
                "created" => model.created_s = raw.text().parse().unwrap_or(0),
                _ => {}
            }
            Ok(())
        })?;
        Ok(Some(model).filter(|model| !model.id.is_empty()))
    }
}

/// A model as a client is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'m> {
    /// Its name.
    pub id: &'m str,
    created_s: u64,
    owned_by: &'m str,
    kind: Option<&'m str>,
}

impl<'m> Entry<'m> {
    /// A model of the configuration. `created_s` is Unix time in seconds.
    #[must_use]
    pub const fn own(id: &'m str, created_s: u64) -> Self {
        Self { id, created_s, owned_by: OWNER, kind: None }
    }

    /// Appends the answer to `GET /models/{id}`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        json::member("id", self.id, out);
        json::member("object", "model", out);
        json::member_number("created", self.created_s, out);
        json::member("owned_by", self.owned_by, out);
        if let Some(kind) = self.kind {
            // Not a member of its own: SDKs take those for OpenAI's.
            json::key("metadata", out);
            out.push(b'{');
            json::member("type", kind, out);
            out.push(b'}');
        }
        out.push(b'}');
    }
}

impl<'m> From<&'m Listed> for Entry<'m> {
    fn from(model: &'m Listed) -> Self {
        Self {
            id: &model.id,
            created_s: model.created_s,
            owned_by: model.owned_by.as_deref().unwrap_or(OWNER),
            kind: model.kind.as_deref(),
        }
    }
}

/// Appends the answer to `GET /models`.
pub fn list<'m>(entries: impl IntoIterator<Item = Entry<'m>>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for entry in entries {
        json::comma(out);
        entry.write(out);
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_upstreams_list_is_read_as_far_as_it_can_be_told() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let reply = json!({"object": "list", "extra": [1], "data": [
            {"id": "GigaChat-2", "object": "model", "owned_by": "salutedevices", "type": "chat"},
            {"id": "Embeddings", "type": "embedder"},
            {"id": "gpt \"5\"", "created": 1_700_000_000, "owned_by": "system", "permission": []},
            {"id": ""}, {"id": 7}, {"id": "a\nb"}, {"id": long}, {}, "x", null]})
        .to_string();
        let models = Listed::read(reply.as_bytes()).unwrap();
        let answers: Vec<(&str, bool)> =
            models.iter().map(|model| (model.id.as_str(), model.answers())).collect();
        assert_eq!(answers, [("GigaChat-2", true), ("Embeddings", false), ("gpt \"5\"", true)]);
        let mut out = Vec::new();
        list(models.iter().map(Entry::from).chain([Entry::own("own", 5)]), &mut out);
        let written: Value = serde_json::from_slice(&out).unwrap();
        let expected = json!({"object": "list", "data": [
            {"id": "GigaChat-2", "object": "model", "created": 0, "owned_by": "salutedevices",
                "metadata": {"type": "chat"}},
            {"id": "Embeddings", "object": "model", "created": 0, "owned_by": "patchbay",
                "metadata": {"type": "embedder"}},
            {"id": "gpt \"5\"", "object": "model", "created": 1_700_000_000, "owned_by": "system"},
            {"id": "own", "object": "model", "created": 5, "owned_by": "patchbay"}]});
        assert_eq!(written, expected);
    }

    #[test]
    fn what_is_no_list_is_the_upstreams_fault() {
        for reply in ["", "<html>", "[]", "{}", r#"{"data":{}}"#, r#"{"data":[],"data":[]}"#] {
            let failure = Listed::read(reply.as_bytes()).unwrap_err();
            assert_eq!(failure.status(), 502, "{reply}");
        }
        assert_eq!(Listed::read(br#"{"data":[]}"#).unwrap(), []);
        let many = format!(r#"{{"data":[{}]}}"#, vec![r#"{"id":"a"}"#; 3000].join(","));
        assert_eq!(Listed::read(many.as_bytes()).unwrap().len(), MODELS_MAX);
    }
}
