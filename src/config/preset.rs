//! Configurations that are built in, written as a user would write them.

use super::nearest::nearest;

/// Name and text of each.
pub const PRESETS: &[(&str, &str)] = &[
    ("chatgpt", include_str!("../presets/chatgpt.toml")),
    ("codex-backend", include_str!("../presets/codex-backend.toml")),
    ("codex-exec", include_str!("../presets/codex-exec.toml")),
    ("gigachat", include_str!("../presets/gigachat.toml")),
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
    use crate::config::exec::Sandbox;
    use crate::config::{
        Config, Credential, Defaults, GrantKind, Overrides, Rate, Url, World, load,
    };
    use crate::dialect::quirks::EffortStyle;
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

    const SECRET: (&str, &str) = ("GIGACHAT_CREDENTIALS", "aWQ6c2VjcmV0");

    fn gigachat(variables: &[(&str, &str)]) -> Result<Config, String> {
        loaded("gigachat", variables, None, Overrides::default())
    }

    #[test]
    fn a_key_of_gigachat_is_all_that_its_preset_needs() {
        let config = gigachat(&[SECRET]).unwrap();
        let both: Vec<_> = ["127.0.0.1:8090", "[::1]:8090"].map(|it| it.parse().unwrap()).into();
        assert_eq!(config.listen, both);
        assert!(
            config.client_keys.is_empty() && config.tls.is_none() && config.log_level.is_none()
        );
        assert_eq!(config.timeouts.drain.as_secs(), 10);
        let provider = &config.providers[0];
        assert_eq!(provider.dialect.name(), "gigachat");
        assert_eq!(provider.url, Url::parse("https://api.giga.chat/v1/chat/completions").unwrap());
        assert_eq!(provider.tls, crate::config::UpstreamTls::default());
        assert_eq!(provider.callers, None);
        let Credential::Grant(grant) = &provider.credential else { panic!("{provider:?}") };
        assert_eq!((grant.kind, grant.basic.as_str()), (GrantKind::ClientCredentials, SECRET.1));
        assert_eq!(grant.scope.as_deref(), Some("GIGACHAT_API_PERS"));
        assert_eq!((grant.token_url.host.as_str(), grant.token_url.port), (TOKEN_HOST, 9443));
        assert_eq!(ids(&config), ["GigaChat-2-Max", "GigaChat-2-Pro", "GigaChat-2"]);
        assert!(provider.models.iter().all(|model| model.context_window == 128_000));
        assert!(!provider.quirks.json_schema && provider.quirks.profanity_check.is_none());
        assert_eq!(provider.embeddings_model.as_deref(), Some("EmbeddingsGigaR"));
        assert!(provider.list_models && provider.quirks.images);
        assert_eq!(
            provider.models.iter().map(|it| it.images).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert_eq!(provider.quirks.effort, EffortStyle::LowMediumHigh);
        let route = &config.routes[0];
        assert_eq!((route.pattern.as_str(), route.model.as_deref()), ("*", None));
        assert_eq!(route.defaults, Defaults::default());
        let error = gigachat(&[]).unwrap_err();
        for name in ["GIGACHAT_ACCESS_TOKEN", "GIGACHAT_CREDENTIALS", "GIGACHAT_PASSWORD"] {
            assert!(error.contains(name), "{error}");
        }
    }

    const TOKEN_HOST: &str = "ngw.devices.sberbank.ru";

    #[test]
    fn gigachat_heeds_its_variables() {
        let config = gigachat(&[
            ("GPT2GIGA_HOST", "0.0.0.0"),
            ("GPT2GIGA_PORT", "9000"),
            ("GPT2GIGA_USE_HTTPS", "True"),
            ("GPT2GIGA_HTTPS_CERT_FILE", "cert.pem"),
            ("GPT2GIGA_HTTPS_KEY_FILE", "key.pem"),
            ("GPT2GIGA_ENABLE_API_KEY_AUTH", "True"),
            ("GPT2GIGA_API_KEY", "client-key"),
            ("GPT2GIGA_PASS_MODEL", "False"),
            ("GPT2GIGA_EMBEDDINGS", "Embeddings-2"),
            ("GPT2GIGA_ENABLE_IMAGES", "False"),
            ("GPT2GIGA_ENABLE_REASONING", "True"),
            ("GPT2GIGA_DISABLE_REASONING", "False"),
            ("GPT2GIGA_DEFAULT_MAX_TOKENS", "512"),
            ("GPT2GIGA_STRUCTURED_OUTPUT_MODE", "native"),
            ("GPT2GIGA_MAX_REQUEST_BODY_BYTES", "10485760"),
            ("GPT2GIGA_SHUTDOWN_TIMEOUT_SECONDS", "2.5"),
            ("GPT2GIGA_LOG_LEVEL", "WARNING"),
            ("GPT2GIGA_PASS_TOKEN", "True"),
            ("GPT2GIGA_PASS_TOKEN_CLIENT_CACHE_SIZE", "7"),
            ("GIGACHAT_ACCESS_TOKEN", "token"),
            ("GIGACHAT_BASE_URL", "https://gigachat.devices.sberbank.ru"),
            ("GIGACHAT_MODEL", "GigaChat-3-Ultra"),
            ("GIGACHAT_PROFANITY_CHECK", "False"),
            ("GIGACHAT_VERIFY_SSL_CERTS", "False"),
            ("GIGACHAT_CA_BUNDLE_FILE", "/etc/root.pem"),
            ("GIGACHAT_CERT_FILE", "me.pem"),
            ("GIGACHAT_TIMEOUT", "70000"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.listen, ["0.0.0.0:9000".parse().unwrap()]);
        assert_eq!(config.tls.unwrap().certificate, Path::new("cert.pem"));
        assert_eq!(config.client_keys[0].secret, "client-key");
        assert_eq!(config.limits.body_bytes_max, 10 << 20);
        assert_eq!(config.timeouts.drain.as_millis(), 2500);
        assert_eq!(config.timeouts.upstream_idle.as_secs(), 70_000);
        assert_eq!(config.log_level.as_deref(), Some("warn"));
        let provider = &config.providers[0];
        assert_eq!(provider.credential, Credential::Key("token".to_owned()));
        assert_eq!(provider.url.path, "/api/v1/chat/completions");
        assert_eq!(provider.callers.as_ref().unwrap().max, 7);
        assert!(provider.quirks.json_schema && provider.quirks.profanity_check == Some(false));
        assert!(provider.tls.unverified && provider.tls.ca_file.is_some());
        assert_eq!(provider.embeddings_model.as_deref(), Some("Embeddings-2"));
        assert!(!provider.quirks.images);
        let files = provider.tls.client_certificate.as_ref().unwrap();
        assert_eq!((&files.certificate, &files.key), (&"me.pem".into(), &"me.pem".into()));
        assert_eq!(provider.models[0].id, "GigaChat-3-Ultra");
        let route = &config.routes[0];
        assert_eq!(route.model.as_deref(), Some("GigaChat-3-Ultra"));
        assert_eq!(route.defaults.effort.as_deref(), Some("high"));
        assert_eq!(route.defaults.output_tokens_max, Some(512));

        let both = [SECRET, ("GIGACHAT_ACCESS_TOKEN", "over")];
        let credential = &gigachat(&both).unwrap().providers[0].credential;
        assert!(matches!(credential, Credential::Grant(_)), "what can be renewed comes first");
        let config = gigachat(&[SECRET, ("GPT2GIGA_DISABLE_REASONING", "1")]).unwrap();
        assert_eq!(config.providers[0].quirks.effort, EffortStyle::Omit);
        let user = [("GIGACHAT_USER", "me"), ("GIGACHAT_PASSWORD", "pass:word")];
        let config = gigachat(&user).unwrap();
        let Credential::Grant(grant) = &config.providers[0].credential else { panic!() };
        assert_eq!(grant.token_url, Url::parse("https://api.giga.chat/v1/token").unwrap());
        let config = gigachat(&[("GIGACHAT_CERT_FILE", "me.pem")]).unwrap();
        assert_eq!(config.providers[0].credential, Credential::None);
        assert!(gigachat(&[("GPT2GIGA_PASS_TOKEN", "True")]).is_ok(), "callers bring their own");
    }

    #[test]
    fn the_key_of_gigachat_clients_is_asked_for_unless_that_is_switched_off() {
        for (enabled, key, keys) in [
            ("True", "k", Some(1)),
            ("True", "", None),
            ("", "k", Some(1)),
            ("", "", Some(0)),
            ("False", "k", Some(0)),
        ] {
            let variables =
                [SECRET, ("GPT2GIGA_ENABLE_API_KEY_AUTH", enabled), ("GPT2GIGA_API_KEY", key)];
            let config = gigachat(&variables);
            let got = config.as_ref().ok().map(|config| config.client_keys.len());
            assert_eq!(got, keys, "{enabled} {key}: {config:?}");
        }
        let error = gigachat(&[SECRET, ("GPT2GIGA_USE_HTTPS", "True")]).unwrap_err();
        assert!(error.contains("[server] tls is enabled, and names no `certificate`"), "{error}");
    }

    #[test]
    fn variables_that_gigachat_cannot_heed_are_named() {
        let config = gigachat(&[SECRET]).unwrap();
        let set = [
            "GIGACHAT_CREDENTIALS",
            "GIGACHAT_USER",
            "GIGACHAT_PASSWORD",
            "GPT2GIGA_API_KEY",
            "GPT2GIGA_PASS_TOKEN",
            "GPT2GIGA_MODE",
            "GPT2GIGA_TRAFFIC_LOG_SINK",
            "GIGACHAT_KEY_FILE_PASSWORD",
            "GPT2GIGA_PROT",
            "GIGACHAT_MODEL_NAME",
            "CODEX_HOME",
        ];
        let said = config.variables.complaints(set.into_iter());
        let first: Vec<_> = said.iter().filter_map(|it| it.split(' ').next()).collect();
        assert_eq!(
            first,
            [
                "GIGACHAT_KEY_FILE_PASSWORD",
                "GIGACHAT_MODEL_NAME",
                "GPT2GIGA_MODE",
                "GPT2GIGA_PROT",
                "GPT2GIGA_TRAFFIC_LOG_SINK",
            ]
        );
        assert!(said[0].contains("openssl pkey -in KEY"), "{said:?}");
        assert!(said[1].ends_with("did you mean GIGACHAT_MODEL?"), "{said:?}");
        assert!(said[3].ends_with("did you mean GPT2GIGA_PORT?"), "{said:?}");
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
        let words = " (RATE_LIMIT_PER_MINUTE): `many` is no whole number";
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn codex_exec_needs_nothing_and_heeds_its_variables() {
        let config = loaded("codex-exec", &[], None, Overrides::default()).unwrap();
        assert_eq!(config.listen, ["127.0.0.1:8000".parse().unwrap()]);
        let rate = Some(Rate { per_minute: 60, burst: 60 });
        assert_eq!((config.client_keys.len(), config.address_rate), (0, rate));
        let exec = config.providers[0].exec.as_ref().unwrap();
        assert_eq!(exec.command, Path::new("codex"));
        assert_eq!(exec.workdir, Path::new("/workspace"));
        assert_eq!((&exec.home, exec.sandbox), (&None, Sandbox::ReadOnly));
        assert_eq!((exec.effort.as_deref(), exec.timeout.as_secs()), (Some("medium"), 120));
        assert_eq!((exec.processes_max, exec.queue.as_secs()), (2, 30));
        assert!(!exec.local_only && !exec.allow_danger && !exec.network_access);
        assert_eq!(exec.unset, ["PROXY_API_KEY"], "a model's commands see no key of clients");

        let variables = [
            HOME,
            ("CODEX_PATH", "~/bin/codex"),
            ("CODEX_WORKDIR", "/srv/work"),
            ("CODEX_CONFIG_DIR", "/srv/codex"),
            ("CODEX_SANDBOX_MODE", "danger-full-access"),
            ("CODEX_ALLOW_DANGER_FULL_ACCESS", "1"),
            ("CODEX_WORKSPACE_NETWORK_ACCESS", "true"),
            ("CODEX_REASONING_EFFORT", "high"),
            ("CODEX_HIDE_REASONING", "1"),
            ("CODEX_LOCAL_ONLY", "1"),
            ("CODEX_TIMEOUT", "7"),
            ("CODEX_MAX_PARALLEL_REQUESTS", "5"),
            ("PROXY_API_KEY", "client-key"),
            ("RATE_LIMIT_PER_MINUTE", "0"),
        ];
        let config = loaded("codex-exec", &variables, None, Overrides::default()).unwrap();
        assert_eq!(config.client_keys[0].secret, "client-key");
        assert_eq!((config.client_keys[0].rate, config.address_rate), (None, None));
        let exec = config.providers[0].exec.as_ref().unwrap();
        assert_eq!(exec.command, Path::new("/home/me/bin/codex"));
        assert_eq!(exec.home.as_deref(), Some(Path::new("/srv/codex")));
        assert_eq!(exec.sandbox, Sandbox::DangerFullAccess);
        assert!(exec.local_only && exec.hide_reasoning && exec.network_access);
        assert_eq!((exec.timeout.as_secs(), exec.processes_max), (7, 5));

        for (variable, words) in [
            (("CODEX_SANDBOX_MODE", "danger-full-access"), "CODEX_ALLOW_DANGER_FULL_ACCESS=1"),
            (("CODEX_SANDBOX_MODE", "none"), "the sandbox `none` is unknown; known: read-only"),
            (("CODEX_REASONING_EFFORT", "much"), "the effort `much` is unknown"),
            (("CODEX_TIMEOUT", "0"), "timeout_s must be at least 1"),
            (("CODEX_LOCAL_ONLY", "perhaps"), "CODEX_LOCAL_ONLY"),
        ] {
            let error = loaded("codex-exec", &[variable], None, Overrides::default()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_unknown_preset_is_answered_with_the_known_ones() {
        for (name, words) in [
            (
                "chatgtp",
                "unknown; did you mean `chatgpt`? Known: chatgpt, codex-backend, codex-exec, gigachat",
            ),
            ("x", "the preset `x` is unknown. Known: chatgpt, codex-backend, codex-exec, gigachat"),
        ] {
            let error = loaded(name, &[], None, Overrides::default()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
