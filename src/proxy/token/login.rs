//! The file of `codex login` (`auth.json`) and the answers of its token endpoint, as meaning: what
//! is in it, whether it is still good, how it is written back. No file, no clock, no network.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// The OAuth client id of the Codex CLI, whose refresh tokens these are.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// An access token is refreshed so long before its end.
const EARLY_S: u64 = 5 * 60;
/// One whose end is not known is refreshed at this age.
const AGE_S_MAX: u64 = 8 * 24 * 60 * 60;
/// The claim that holds what OpenAI says of the account.
const CLAIM: &str = "https://api.openai.com/auth";

/// What to do about a file that is of no use, or a refresh token that is dead.
pub const ADVICE: &str = "run `codex login`";

/// An `auth.json`, every member of it kept.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthFile(Map<String, Value>);

/// What an [`AuthFile`] offers, the first that there is.
#[derive(Clone, PartialEq, Eq)]
pub enum Offer {
    /// Tokens of a ChatGPT account.
    Tokens(Tokens),
    /// An API key (`OPENAI_API_KEY`).
    Key(String),
}

/// Tokens of a ChatGPT account.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// What requests show.
    pub access: String,
    /// What gets the next access token.
    pub refresh: Option<String>,
    /// The account that the requests are for.
    pub account: Option<String>,
    /// The plan, as the id token calls it.
    pub plan: Option<String>,
    /// When the access token ends (`exp`), Unix time in seconds.
    pub expires_s: Option<u64>,
    /// When the tokens were last refreshed, Unix time in seconds.
    pub refreshed_s: Option<u64>,
}

impl std::fmt::Debug for AuthFile {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthFile(..)")
    }
}

impl std::fmt::Debug for Offer {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tokens(_) => "Tokens(..)",
            Self::Key(_) => "Key(..)",
        })
    }
}

impl std::fmt::Debug for Tokens {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}

impl AuthFile {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// They are no JSON object; the words hold nothing of the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err("it is not a JSON object".to_owned()),
            Err(why) => {
                Err(format!("it is not JSON (line {}, column {})", why.line(), why.column()))
            }
        }
    }

    /// The bytes to write back.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(&self.0).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The tokens, else the API key.
    ///
    /// # Errors
    /// There is neither, or it cannot be sent in a header field.
    pub fn offer(&self) -> Result<Offer, String> {
        if let Some(access) = self.token("access_token") {
            let of_id = self.token("id_token").and_then(claims);
            let of_access = claims(access);
            let said = |name: &str| {
                let all = [&of_id, &of_access];
                all.into_iter().flatten().find_map(|it| text(it.get(CLAIM)?.get(name)))
            };
            let account = self.token("account_id").or_else(|| said("chatgpt_account_id"));
            check(access, "the access token")?;
            account.map_or(Ok(()), |account| check(account, "the account id"))?;
            return Ok(Offer::Tokens(Tokens {
                access: access.to_owned(),
                refresh: self.token("refresh_token").map(str::to_owned),
                account: account.map(str::to_owned),
                plan: said("chatgpt_plan_type").map(str::to_owned),
                expires_s: of_access.as_ref().and_then(|it| seconds(it.get("exp")?)),
                refreshed_s: text(self.0.get("last_refresh")).and_then(unix_s),
            }));
        }
        // The flat shape has a name of its own for the key.
        let key = ["OPENAI_API_KEY", "api_key"].into_iter().find_map(|it| text(self.0.get(it)));
        match key {
            Some(key) => check(key, "the API key").map(|()| Offer::Key(key.to_owned())),
            None => Err("it holds neither tokens nor an API key".to_owned()),
        }
    }

    /// Takes over what a refresh brought, at this Unix time. Everything else stays.
    pub fn renew(&mut self, renewed: &Renewed, unix_s: u64) {
        let members = match self.0.get_mut("tokens") {
            Some(Value::Object(tokens)) => tokens,
            _ => &mut self.0,
        };
        let brought = [
            ("id_token", &renewed.id),
            ("access_token", &renewed.access),
            ("refresh_token", &renewed.refresh),
        ];
        for (name, value) in brought {
            if let Some(value) = value {
                members.insert(name.to_owned(), Value::from(value.as_str()));
            }
        }
        self.0.insert("last_refresh".to_owned(), Value::from(rfc3339(unix_s)));
    }

    /// A member of `tokens`, or of the file itself where there is no such object.
    fn token(&self, name: &str) -> Option<&str> {
        match self.0.get("tokens") {
            Some(Value::Object(tokens)) => text(tokens.get(name)),
            _ => text(self.0.get(name)),
        }
    }
}

impl Tokens {
    /// Whether it is time to refresh, at this Unix time.
    #[must_use]
    pub fn is_stale(&self, unix_s: u64) -> bool {
        self.renew_s().is_some_and(|at| at <= unix_s)
    }

    /// When it is time to refresh, Unix time in seconds; `None` = not before it is refused.
    #[must_use]
    pub fn renew_s(&self) -> Option<u64> {
        match (self.expires_s, self.refreshed_s) {
            (Some(expires), _) => Some(expires.saturating_sub(EARLY_S)),
            (None, refreshed) => Some(refreshed?.saturating_add(AGE_S_MAX + 1)),
        }
    }

    /// Whether the access token is known to be of no use any more.
    #[must_use]
    pub fn is_expired(&self, unix_s: u64) -> bool {
        self.expires_s.is_some_and(|expires| expires <= unix_s)
    }
}

/// What a refresh brought; what it did not bring stays as it was.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    id: Option<String>,
    access: Option<String>,
    refresh: Option<String>,
}

impl std::fmt::Debug for Renewed {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renewed(..)")
    }
}

/// What the token endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// New tokens.
    Done(Renewed),
    /// This refresh token will never work again, and why.
    Dead(String),
    /// Nothing now, and why; later may be different.
    Later(String),
}

impl Refresh {
    /// Reads the endpoint's reply.
    #[must_use]
    pub fn decode(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if (200..300).contains(&status) {
            let member = |name: &str| text(body.get(name)).map(str::to_owned);
            let (id, refresh) = (member("id_token"), member("refresh_token"));
            return match member("access_token") {
                Some(access) if check(&access, "").is_ok() => {
                    Self::Done(Renewed { id, access: Some(access), refresh })
                }
                _ => Self::Later("the token endpoint's reply holds no access token".to_owned()),
            };
        }
        // OAuth's own form (RFC 6749 section 5.2), or the envelope of OpenAI's API.
        let error = body.get("error");
        let code = text(error)
            .or_else(|| text(error?.get("code")))
            .or_else(|| text(body.get("code")))
            .filter(|code| code.len() <= 100 && code.bytes().all(|b| b.is_ascii_graphic()));
        let said = code.map(|code| format!(" {code}")).unwrap_or_default();
        let words = format!("the token endpoint answers {status}{said}");
        let dead = match code {
            Some(
                "refresh_token_expired" | "refresh_token_reused" | "refresh_token_invalidated",
            ) => true,
            Some("invalid_grant") => status == 400 || status == 401,
            _ => status == 401,
        };
        if dead { Self::Dead(words) } else { Self::Later(words) }
    }
}

/// The body of a refresh request.
#[must_use]
pub fn refresh_request(refresh_token: &str) -> Vec<u8> {
    let body = json!({
        "client_id": CLIENT_ID,
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
    });
    body.to_string().into_bytes()
}

/// A Unix time in seconds as RFC 3339 in UTC.
#[must_use]
pub fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 0000-03-01, in eras of 400 years whose last day is the leap day.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads RFC 3339 as Unix time in seconds; fractions are left out.
fn unix_s(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let legal = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    let rest = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let part = |from: usize, to: usize| rest.get(from..to)?.parse::<i64>().ok();
            let minutes = part(1, 3)? * 60 + part(4, 6)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    u64::try_from(seconds).ok().filter(|_| legal)
}

/// The claims of a JWT (RFC 7519), its signature not looked at: whoever gave us the token over TLS
/// or left it in our file vouches for it.
fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (payload, rest) = (parts.nth(1)?, parts.count());
    if rest != 1 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A time in seconds; some issuers say milliseconds.
fn seconds(value: &Value) -> Option<u64> {
    let whole = || value.as_number()?.to_string().split('.').next()?.parse().ok();
    let time: u64 = value.as_u64().or_else(whole)?;
    Some(if time > 100_000_000_000 { time / 1_000 } else { time })
}

/// A text that is not empty.
fn text(value: Option<&Value>) -> Option<&str> {
    value?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Whether a text can be sent in a header field.
fn check(secret: &str, what: &str) -> Result<(), String> {
    if secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(format!("{what} in it holds characters that none has"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn offer(file: &Value) -> Result<Offer, String> {
        AuthFile::decode(file.to_string().as_bytes())?.offer()
    }

    fn tokens(file: &Value) -> Tokens {
        match offer(file) {
            Ok(Offer::Tokens(tokens)) => tokens,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_shapes_are_read_and_tokens_come_before_the_key() {
        let access = jwt(&json!({"exp": 1_800_000_000}));
        let id = jwt(&json!({CLAIM: {"chatgpt_plan_type": "plus", "chatgpt_account_id": "of-id"}}));
        let expected = Tokens {
            access: access.clone(),
            refresh: Some("r".to_owned()),
            account: Some("acc".to_owned()),
            plan: Some("plus".to_owned()),
            expires_s: Some(1_800_000_000),
            refreshed_s: Some(1_750_000_000),
        };
        let mut inner = json!({"access_token": access, "refresh_token": "r", "id_token": id,
            "account_id": "acc"});
        let mut flat = inner.clone();
        flat["last_refresh"] = json!("2025-06-15T15:06:40Z");
        let nested = json!({"OPENAI_API_KEY": "sk-1", "tokens": inner.clone(),
            "last_refresh": "2025-06-15T15:06:40.123456Z"});
        assert_eq!(tokens(&nested), expected);
        assert_eq!(tokens(&flat), expected);
        inner["account_id"] = Value::Null;
        assert_eq!(tokens(&json!({"tokens": inner})).account.as_deref(), Some("of-id"));
        let key = json!({"OPENAI_API_KEY": "sk-1", "tokens": null});
        assert_eq!(offer(&key), Ok(Offer::Key("sk-1".to_owned())));
        let flat_key = json!({"access_token": "", "account_id": "acc", "api_key": "sk-2"});
        assert_eq!(offer(&flat_key), Ok(Offer::Key("sk-2".to_owned())));
    }

    #[test]
    fn what_is_of_no_use_is_told_without_its_secrets() {
        for (file, words) in [
            (json!({}), "neither tokens nor an API key"),
            (json!({"OPENAI_API_KEY": " ", "tokens": {"access_token": ""}}), "neither"),
            (json!({"tokens": {"access_token": "hush\r\nx: y"}}), "the access token in it"),
            (json!({"tokens": {"access_token": "a", "account_id": "hush hush"}}), "the account id"),
            (json!({"OPENAI_API_KEY": "hush\u{e9}"}), "the API key in it"),
            (json!(["hush"]), "not a JSON object"),
        ] {
            let why = offer(&file).unwrap_err();
            assert!(why.contains(words) && !why.contains("hush"), "{file}: {why}");
        }
        for torn in ["", "{\"tokens\": {\"access_token\": \"hush", "\u{0}"] {
            let why = AuthFile::decode(torn.as_bytes()).unwrap_err();
            assert!(why.contains("not JSON") && !why.contains("hush"), "{why}");
        }
        let debug = format!("{:?}", offer(&json!({"OPENAI_API_KEY": "hush"})));
        assert!(!debug.contains("hush"), "{debug}");
    }

    #[test]
    fn tokens_are_refreshed_before_they_end() {
        const NOW: u64 = 1_750_000_000;
        for (claim, last_refresh, stale, expired) in [
            (json!(NOW + 301), None, false, false),
            (json!(NOW + 300), None, true, false),
            (json!(NOW), None, true, true),
            (json!((NOW + 301) * 1000), None, false, false),
            (json!((NOW + 301) as f64 + 0.5), None, false, false),
            (json!("soon"), Some(NOW - 8 * 86_400), false, false),
            (json!("soon"), Some(NOW - 8 * 86_400 - 1), true, false),
            (Value::Null, None, false, false),
        ] {
            let mut file = json!({"tokens": {"access_token": jwt(&json!({"exp": claim}))}});
            if let Some(at) = last_refresh {
                file["last_refresh"] = rfc3339(at).into();
            }
            let tokens = tokens(&file);
            assert_eq!((tokens.is_stale(NOW), tokens.is_expired(NOW)), (stale, expired), "{file}");
        }
        for opaque in ["opaque", "a.b", "a.!!.c", "a.e30.c.d", "..", "a.bnVsbA.c"] {
            let tokens = tokens(&json!({"access_token": opaque}));
            assert_eq!(tokens.expires_s, None, "{opaque}");
        }
    }

    #[test]
    fn a_refresh_changes_what_it_brought_and_nothing_else() {
        let renewed = Refresh::decode(200, br#"{"access_token":"a2","refresh_token":"r2"}"#);
        let Refresh::Done(renewed) = renewed else { panic!("{renewed:?}") };
        let before = json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "later": [1, {"x": 2.5}],
            "tokens": {"id_token": "i", "access_token": "a", "refresh_token": "r", "new": true}});
        let mut file = AuthFile::decode(before.to_string().as_bytes()).unwrap();
        file.renew(&renewed, 1_750_000_000);
        let mut expected = before;
        expected["tokens"]["access_token"] = "a2".into();
        expected["tokens"]["refresh_token"] = "r2".into();
        expected["last_refresh"] = "2025-06-15T15:06:40Z".into();
        let after: Value = serde_json::from_slice(&file.encode()).unwrap();
        assert_eq!(after, expected);

        let mut flat = AuthFile::decode(br#"{"access_token":"a","x":1}"#).unwrap();
        flat.renew(&renewed, 0);
        let after: Value = serde_json::from_slice(&flat.encode()).unwrap();
        let expected = json!({"access_token": "a2", "refresh_token": "r2", "x": 1,
            "last_refresh": "1970-01-01T00:00:00Z"});
        assert_eq!(after, expected);
    }

    #[test]
    fn answers_are_dead_or_worth_another_try() {
        for (status, body, dead) in [
            (401, "", true),
            (401, r#"{"error":{"code":"refresh_token_expired"}}"#, true),
            (400, r#"{"error":{"code":"refresh_token_reused"}}"#, true),
            (403, r#"{"code":"refresh_token_invalidated"}"#, true),
            (400, r#"{"error":"invalid_grant","error_description":"x"}"#, true),
            (500, r#"{"error":"invalid_grant"}"#, false),
            (400, r#"{"error":"invalid_request"}"#, false),
            (403, "<html>", false),
            (429, "", false),
            (302, "", false),
            (200, "{}", false),
            (200, r#"{"access_token":"a b"}"#, false),
            (200, "[[[[", false),
        ] {
            match (Refresh::decode(status, body.as_bytes()), dead) {
                (Refresh::Dead(why), true) => assert!(why.contains(&status.to_string()), "{why}"),
                (Refresh::Later(_), false) => {}
                (other, _) => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    #[test]
    fn times_go_both_ways() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(time), text);
            assert_eq!(unix_s(text), Some(time));
        }
        assert_eq!(unix_s("1970-01-01T02:00:00.5+01:30"), Some(1_800));
        for wrong in
            ["", "2025", "2025-13-01T00:00:00Z", "2025-06-15T15:06:40", "1969-01-01T0:0:0Z"]
        {
            assert_eq!(unix_s(wrong), None, "{wrong}");
        }
    }
}
