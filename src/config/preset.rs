//! Configurations that are built in, written as a user would write them.

use super::nearest::nearest;

/// Name and text of each.
pub const PRESETS: &[(&str, &str)] = &[
    ("chatgpt", include_str!("../presets/chatgpt.toml")),
    ("codex-backend", include_str!("../presets/codex-backend.toml")),
];

/// The preset of this name.
///
/// # Errors
/// There is none; which there are.
pub(super) fn preset(name: &str) -> Result<(&'static str, &'static str), String> {
    let names = || PRESETS.iter().map(|(name, _)| *name);
    PRESETS.iter().find(|(known, _)| *known == name).copied().ok_or_else(|| {
        let near = nearest(name, names()).map(|near| format!("; did you mean `{near}`?"));
        let known: Vec<&str> = names().collect();
        format!(
            "the preset `{name}` is unknown{} Known: {}",
            near.unwrap_or_else(|| ".".to_owned()),
            known.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Credential, Overrides, Rate, World, load};
    use std::path::{Path, PathBuf};

    /// Loads a preset with these variables, and perhaps a file over it.
    fn loaded(
        name: &str,
        variables: &[(&str, &str)],
        file: Option<&str>,
        overrides: Overrides,
    ) -> Result<Config, String> {
        let var = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let overrides = Overrides { preset: Some(name.to_owned()), ..overrides };
        let file = file.map(|text| (Path::new("/etc/p.toml"), text));
        load(file, &overrides, World { var: &var, cores: 1 })
    }

    fn ids(config: &Config) -> Vec<&str> {
        config.providers[0].models.iter().map(|it| it.id.as_str()).collect()
    }

    const HOME: (&str, &str) = ("HOME", "/home/me");
    const KEY: (&str, &str) = ("CODEX_API_KEY", "sk-third");
    const BASE: (&str, &str) = ("CODEX_BASE_URL", "https://third.example");

    #[test]
    fn chatgpt_needs_nothing_but_a_home() {
        let config = loaded("chatgpt", &[HOME], None, Overrides::default()).unwrap();
        assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert!(config.client_keys.is_empty() && config.hosts.is_empty());
        assert!(config.address_rate.is_none() && config.capture.is_none());
        let provider = &config.providers[0];
        assert_eq!(provider.dialect.name(), "responses");
        assert_eq!(provider.url.host, "chatgpt.com");
        assert_eq!(provider.url.path, "/backend-api/codex/responses");
        let Credential::CodexAuth(auth) = &provider.credential else { panic!("{config:?}") };
        assert_eq!(auth.path, Path::new("/home/me/.codex/auth.json"));
        assert_eq!(auth.token_url.path, "/oauth/token");
        assert_eq!(auth.key_url.host, "api.openai.com");
        assert_eq!(provider.allow, ["gpt-5", "gpt-5.2", "gpt-5.3-codex", "gpt-5.2-codex"]);
        assert_eq!(ids(&config), provider.allow);
        assert!(provider.instructions.is_some() && provider.bridge.is_none());
    }

    #[test]
    fn chatgpt_heeds_its_variables() {
        let variables = [
            ("CODEX_HOME", "/codex"),
            ("ALLOWED_MODELS", "a, b"),
            ("ALLOWED_HOSTS", "me.example"),
            ("PROXY_API_KEY", "client-key"),
            ("RATE_LIMIT_PER_MINUTE", "60"),
            ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://127.0.0.1:9/t"),
        ];
        let config = loaded("chatgpt", &variables, None, Overrides::default()).unwrap();
        let rate = Some(Rate { per_minute: 60, burst: 60 });
        assert_eq!(config.client_keys[0].secret, "client-key");
        assert_eq!((config.client_keys[0].rate, config.address_rate), (rate, rate));
        assert_eq!(config.hosts, ["me.example"]);
        assert_eq!(config.providers[0].allow, ["a", "b"]);
        let Credential::CodexAuth(auth) = &config.providers[0].credential else { panic!() };
        assert_eq!(auth.path, Path::new("/codex/auth.json"));
        assert_eq!((auth.token_url.port, auth.token_url.path.as_str()), (9, "/t"));

        let typed = Overrides { auth_path: Some(PathBuf::from("/x.json")), ..Overrides::default() };
        let config = loaded("chatgpt", &variables, None, typed).unwrap();
        let Credential::CodexAuth(auth) = &config.providers[0].credential else { panic!() };
        assert_eq!((auth.path.to_str(), auth.token_url.port), (Some("/x.json"), 9));
    }

    #[test]
    fn an_endpoint_and_its_key_are_all_that_codex_backend_needs() {
        let config = loaded("codex-backend", &[KEY, BASE], None, Overrides::default());
        // The captures' folder is not looked at while they are off.
        let config = config.unwrap();
        let provider = &config.providers[0];
        assert_eq!(provider.url.host, "third.example");
        assert_eq!(provider.url.path, "/backend-api/codex/responses");
        assert_eq!(provider.credential, Credential::Key("sk-third".to_owned()));
        assert!(provider.bridge.is_some() && provider.allow.is_empty());
        assert!(ids(&config).contains(&"gpt-5.1-codex-high"));
        assert_eq!(config.capture, None);
        let defaults = &config.routes[0].defaults;
        assert_eq!(config.routes[0].pattern, "*");
        assert_eq!(defaults.effort, None);
        assert_eq!(defaults.summary.as_deref(), Some("auto"));
        assert_eq!(defaults.verbosity.as_deref(), Some("medium"));

        let error = loaded("codex-backend", &[KEY], None, Overrides::default()).unwrap_err();
        assert!(error.contains("--upstream-url"), "{error}");
        let error = loaded("codex-backend", &[BASE], None, Overrides::default()).unwrap_err();
        assert_eq!(error, "missing or empty env var: CODEX_API_KEY");
    }

    #[test]
    fn codex_backend_heeds_its_variables_and_flags() {
        let variables = [
            KEY,
            BASE,
            HOME,
            ("CODEX_MODE", "0"),
            ("CODEX_REASONING_EFFORT", "high"),
            ("ENABLE_PLUGIN_REQUEST_LOGGING", "1"),
        ];
        let typed = Overrides {
            upstream_url: Some("https://flag.example/v9/responses".to_owned()),
            models: vec!["fast=gpt-5.1".to_owned()],
            ..Overrides::default()
        };
        let config = loaded("codex-backend", &variables, None, typed).unwrap();
        assert_eq!(config.providers[0].url.path, "/v9/responses");
        assert_eq!(config.providers[0].bridge, None);
        let folder = config.capture.map(|it| it.folder);
        assert_eq!(folder.as_deref(), Some(Path::new("/home/me/.patchbay/capture")));
        assert_eq!(config.routes[0].pattern, "fast");
        assert_eq!(config.routes[0].defaults.effort.as_deref(), Some("high"));

        let own = "[providers.codex]\nbridge = 'My own words'\ninstructions = false";
        let config = loaded("codex-backend", &[KEY, BASE], Some(own), Overrides::default());
        let provider = &config.unwrap().providers[0];
        assert_eq!(provider.bridge.as_deref(), Some("My own words"));
        assert_eq!(provider.instructions, None);
    }

    #[test]
    fn a_file_is_laid_over_a_preset() {
        let file = "[server]\nworkers = 3\n[providers.chatgpt]\nallow = ['only']\n\
                    credential = { kind = 'key', env = 'K' }\n[providers.chatgpt.quirks]\n\
                    think_tags = true";
        let config = loaded("chatgpt", &[("K", "sk")], Some(file), Overrides::default()).unwrap();
        assert_eq!((config.workers, config.listen.len()), (3, 1));
        let provider = &config.providers[0];
        assert_eq!(provider.allow, ["only"]);
        assert_eq!(provider.credential, Credential::Key("sk".to_owned()), "another kind");
        assert_eq!(provider.url.host, "chatgpt.com");
        assert!(provider.quirks.think_tags);
        assert!(provider.instructions.is_some());

        let file = "[providers.chatgpt.credential]\npath = '~/my.json'";
        let config = loaded("chatgpt", &[HOME], Some(file), Overrides::default()).unwrap();
        let Credential::CodexAuth(auth) = &config.providers[0].credential else { panic!() };
        assert_eq!(auth.path, Path::new("/home/me/my.json"), "the same kind");
    }

    #[test]
    fn mistakes_are_found_in_the_text_that_they_are_in() {
        for (file, words) in [
            ("\n[server]\nlisen = []", "/etc/p.toml: line 3: unknown key `lisen`; did you mean"),
            ("\n\n[server]\nworkers = 'x'", "/etc/p.toml: line 4: invalid type"),
            ("[server]\nhosts = 7", "/etc/p.toml: line 2: invalid type"),
            ("\n[clients.keys]\na = '${GONE}'", "/etc/p.toml: line 3: missing or empty env var"),
            ("\n[server", "/etc/p.toml: line 2: "),
        ] {
            let error = loaded("chatgpt", &[HOME], Some(file), Overrides::default()).unwrap_err();
            assert!(error.starts_with(words), "{file}: {error}");
        }
        let limit = ("RATE_LIMIT_PER_MINUTE", "many");
        let error = loaded("chatgpt", &[HOME, limit], None, Overrides::default()).unwrap_err();
        assert!(error.starts_with("preset chatgpt: line "), "{error}");
        assert!(error.contains("`many` is no whole number"), "{error}");
    }

    #[test]
    fn an_unknown_preset_is_answered_with_the_known_ones() {
        for (name, words) in [
            ("chatgtp", "unknown; did you mean `chatgpt`? Known: chatgpt, codex-backend"),
            ("x", "the preset `x` is unknown. Known: chatgpt, codex-backend"),
        ] {
            let error = loaded(name, &[], None, Overrides::default()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
