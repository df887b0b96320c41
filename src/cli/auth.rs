//! `patchbay auth`

use super::common;
use patchbay::config::{World, codex_auth_path};
use patchbay::proxy::token::{ADVICE, Offer, Tokens, rfc3339};
use patchbay::reactor::read_auth_file;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// The flags of `auth`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file that `codex login` left [default: $CODEX_HOME/auth.json, else
    /// ~/.codex/auth.json].
    #[arg(long, value_name = "FILE", env = "PATCHBAY_AUTH_PATH")]
    auth_path: Option<PathBuf>,
}

/// Says which credential the file offers, and never the credential itself.
pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let var = |name: &str| std::env::var(name).ok();
    let usual = || codex_auth_path(World { var: &var, cores: 1 });
    let path = args.auth_path.clone().or_else(usual);
    let path = path.ok_or("neither CODEX_HOME nor HOME is set: name the file (--auth-path)")?;
    let offer = read_auth_file(&path)?.offer();
    let offer = offer.map_err(|why| format!("cannot use {}: {why}; {ADVICE}", path.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = describe(&path, &offer, now);
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|why| format!("cannot write: {why}"))?;
    if dead(&offer, now) {
        common::say(&format!("patchbay: the token has ended and cannot be refreshed: {ADVICE}"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(path: &Path, offer: &Offer, now: u64) -> String {
    let mut text = format!("file: {}\n", path.display());
    let tokens = match offer {
        Offer::Key(_) => return text + "credential: API key\n",
        Offer::Tokens(tokens) => tokens,
    };
    let or = |value: &Option<String>, none: &str| {
        // Whatever a file says must not move the cursor of a terminal.
        let shown = value.as_deref().unwrap_or(none);
        shown.chars().filter(|c| !c.is_control()).collect::<String>()
    };
    text += "credential: ChatGPT tokens\n";
    text += &format!("account: {}\n", or(&tokens.account, "not said"));
    text += &format!("plan: {}\n", or(&tokens.plan, "not said"));
    text += &format!("expires: {}\n", expiry(tokens, now));
    if let Some(at) = tokens.refreshed_s {
        text += &format!("refreshed: {}\n", rfc3339(at));
    }
    text
}

fn expiry(tokens: &Tokens, now: u64) -> String {
    let next = match (tokens.is_stale(now), tokens.refresh.is_some()) {
        (true, true) => ", refreshed at the next request",
        (_, false) => ", cannot be refreshed",
        (false, true) => "",
    };
    match tokens.expires_s {
        None => format!("not said{next}"),
        Some(at) if at <= now => format!("{} (over{next})", rfc3339(at)),
        Some(at) => format!("{} (in {} min{next})", rfc3339(at), at.saturating_sub(now) / 60),
    }
}

/// Whether nothing can come of the offer any more.
fn dead(offer: &Offer, now: u64) -> bool {
    matches!(offer, Offer::Tokens(tokens) if tokens.is_expired(now) && tokens.refresh.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_described_without_its_secrets() {
        let tokens = Tokens {
            access: "hush".to_owned(),
            refresh: Some("hush".to_owned()),
            account: Some("acc\u{1b}[2J".to_owned()),
            plan: None,
            expires_s: Some(3_600),
            refreshed_s: Some(0),
        };
        let path = Path::new("/a.json");
        let text = describe(path, &Offer::Tokens(tokens.clone()), 0);
        let expected = "file: /a.json\ncredential: ChatGPT tokens\naccount: acc[2J\n\
            plan: not said\nexpires: 1970-01-01T01:00:00Z (in 60 min)\n\
            refreshed: 1970-01-01T00:00:00Z\n";
        assert_eq!(text, expected);
        assert!(!describe(path, &Offer::Key("hush".to_owned()), 0).contains("hush"));
        for (refresh, now, words, is_dead) in [
            (true, 3_500, "(in 1 min, refreshed at the next request)", false),
            (true, 3_600, "(over, refreshed at the next request)", false),
            (false, 3_500, "(in 1 min, cannot be refreshed)", false),
            (false, 3_600, "(over, cannot be refreshed)", true),
        ] {
            let refresh = refresh.then(|| "hush".to_owned());
            let offer = Offer::Tokens(Tokens { refresh, ..tokens.clone() });
            let text = describe(path, &offer, now);
            assert!(text.contains(words) && !text.contains("hush"), "{text}");
            assert_eq!(dead(&offer, now), is_dead, "{text}");
        }
    }
}
