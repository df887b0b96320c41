//! What the Codex CLI's own configuration (`$CODEX_HOME/config.toml`) says of its models and of where
//! it would send a conversation. Only texts are read here; what is not understood is not guessed.

use super::Url;
use toml::{Table, Value};

/// The built-in providers that run on this machine, with where they are unless told otherwise.
const LOCAL_BUILT_IN: &[(&str, &str)] =
    &[("ollama", "http://localhost:11434/v1"), ("lmstudio", "http://localhost:1234/v1")];
/// The variable that tells otherwise.
const LOCAL_URL: &str = "CODEX_OSS_BASE_URL";
/// The variable that leads the built-in provider elsewhere.
const OPENAI_URL_VARIABLE: &str = "OPENAI_BASE_URL";
/// The provider of a configuration that names none.
const OPENAI: &str = "openai";
/// Where that is.
const OPENAI_URL: &str = "https://api.openai.com/v1";

/// The CLI's configuration, as far as it was there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CodexHome {
    main: Table,
    /// The file of the profile that is in use (`NAME.config.toml`).
    profile: Table,
}

impl CodexHome {
    /// Reads `config.toml`, and gets the text of the profile that it names, if there is a file of its
    /// own, from `profile` (a name without path).
    ///
    /// # Errors
    /// A text is not TOML, in words.
    pub fn read(main: &str, profile: impl FnOnce(&str) -> Option<String>) -> Result<Self, String> {
        let table = |text: &str| {
            text.parse::<Table>().map_err(|why| format!("it is not TOML: {}", why.message()))
        };
        let main = table(main)?;
        let name = main.get("profile").and_then(Value::as_str);
        let plain = |name: &&str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let own = match name.filter(plain).and_then(profile) {
            Some(text) => table(&text).map_err(|why| format!("its profile: {why}"))?,
            None => Table::new(),
        };
        let inside = name.and_then(|name| main.get("profiles")?.as_table()?.get(name)?.as_table());
        let mut profile = inside.cloned().unwrap_or_default();
        profile.extend(own);
        Ok(Self { main, profile })
    }

    /// Where a conversation would go. `var` looks a variable of the CLI's environment up.
    ///
    /// # Errors
    /// It cannot be told, and why.
    pub fn base_url(&self, var: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let provider = self.text("model_provider").unwrap_or(OPENAI);
        let defined = self.main.get("model_providers").and_then(Value::as_table);
        let own = defined.and_then(|all| all.get(provider)).and_then(Value::as_table);
        let built_in = LOCAL_BUILT_IN.iter().find(|(name, _)| *name == provider);
        if let Some(url) = own.and_then(|own| own.get("base_url")).and_then(Value::as_str) {
            return Ok(url.to_owned());
        }
        match built_in {
            Some((_, url)) if own.is_none() => {
                Ok(var(LOCAL_URL).unwrap_or_else(|| (*url).to_owned()))
            }
            _ if provider == OPENAI => {
                let set = self.text("openai_base_url").map(str::to_owned);
                let set = set.or_else(|| var(OPENAI_URL_VARIABLE));
                Ok(set.unwrap_or_else(|| OPENAI_URL.to_owned()))
            }
            _ => Err(format!("the provider \"{provider}\" has no base_url in config.toml")),
        }
    }

    /// The models that it names: the one in use, and those of its profiles.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        let profiles = self.main.get("profiles").and_then(Value::as_table);
        let of_profiles = profiles
            .into_iter()
            .flat_map(|all| all.values())
            .filter_map(|profile| profile.get("model")?.as_str());
        self.text("model").into_iter().chain(of_profiles)
    }

    /// A text of the profile in use, else of the file.
    fn text(&self, name: &str) -> Option<&str> {
        let of = |table: &'_ Table| table.get(name).is_some_and(Value::is_str);
        let table = if of(&self.profile) { &self.profile } else { &self.main };
        table.get(name).and_then(Value::as_str)
    }
}

/// Whether a base URL leads nowhere but to this machine.
#[must_use]
pub fn is_local(base_url: &str) -> bool {
    if base_url.starts_with("unix://") {
        return true;
    }
    Url::parse(base_url).is_ok_and(|url| {
        url.host == "localhost"
            || url.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_url(
        main: &str,
        profile: Option<&str>,
        variable: Option<&str>,
    ) -> Result<String, String> {
        let var = |name: &str| variable.filter(|_| name.ends_with("BASE_URL")).map(str::to_owned);
        CodexHome::read(main, |_| profile.map(str::to_owned))?.base_url(&var)
    }

    #[test]
    fn the_provider_in_use_is_found() {
        let own = "model_provider = 'mine'\n[model_providers.mine]\nbase_url = 'http://[::1]:9/v1'";
        let other = "profile = 'p'\nmodel_provider = 'x'\n[model_providers.mine]\n\
                     base_url = 'http://127.0.0.1/'\n";
        let inside = format!("{other}[profiles.p]\nmodel_provider = 'mine'");
        for (main, profile, variable, url) in [
            ("", None, None, OPENAI_URL),
            ("", None, Some(""), OPENAI_URL),
            ("", None, Some("http://localhost:1/v1"), "http://localhost:1/v1"),
            ("openai_base_url = 'http://a/v1'", None, Some("http://b/v1"), "http://a/v1"),
            (own, None, None, "http://[::1]:9/v1"),
            (inside.as_str(), None, None, "http://127.0.0.1/"),
            (other, Some("model_provider = 'mine'"), None, "http://127.0.0.1/"),
            ("model_provider = 'ollama'", None, None, "http://localhost:11434/v1"),
            ("model_provider = 'ollama'", None, Some("http://c/v1"), "http://c/v1"),
        ] {
            assert_eq!(base_url(main, profile, variable).as_deref(), Ok(url), "{main}");
        }
        for (main, words) in [
            ("model_provider = 'gone'", "\"gone\" has no base_url"),
            ("model_provider = 'amazon-bedrock'", "has no base_url"),
            ("model_provider = 'ollama'\n[model_providers.ollama]\nname = 'x'", "has no base_url"),
            ("model_provider = ", "not TOML"),
        ] {
            assert!(base_url(main, None, None).unwrap_err().contains(words), "{main}");
        }
    }

    #[test]
    fn a_profile_is_named_by_a_plain_name() {
        let main = "profile = '../../etc/x'";
        let home = CodexHome::read(main, |name| panic!("asked for {name}"));
        assert_eq!(home.unwrap().base_url(&|_| None).as_deref(), Ok(OPENAI_URL));
    }

    #[test]
    fn only_this_machine_is_local() {
        for (url, local) in [
            ("http://localhost:11434/v1", true),
            ("http://LOCALHOST/v1", true),
            ("https://127.0.0.1:8443", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:1/v1", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("unix:///run/model.sock", true),
            ("http://localhost.evil.example/v1", false),
            ("http://localhost@evil.example/v1", false),
            ("http://0.0.0.0/", false),
            ("http://192.168.0.2/", false),
            ("https://api.openai.com/v1", false),
            ("localhost", false),
            ("", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }

    #[test]
    fn models_are_those_in_use_and_of_profiles() {
        let text = "model = 'a'\n[profiles.x]\nmodel = 'b'\n[profiles.y]\nmodel_provider = 'z'";
        let home = CodexHome::read(text, |_| None).unwrap();
        assert_eq!(home.models().collect::<Vec<_>>(), ["a", "b"]);
    }
}
