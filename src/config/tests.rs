//! Tests of [`load`](super::load): file, flags and what is refused.

use super::*;
use crate::config::{Credential, Limits, Timeouts};
use crate::dialect::quirks::{Quirks, SystemRole};
use std::time::Duration;

fn var(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-openai".to_owned()),
        "LAB_KEY" => Some(" sk-lab\n".to_owned()),
        "EMPTY" => Some(String::new()),
        "TWO_LINES" => Some("a\r\nb: c".to_owned()),
        _ => None,
    }
}

fn world() -> World<'static> {
    World { var: &var, cores: 4 }
}

fn from_flags(overrides: &Overrides) -> Result<Config, String> {
    load(None, overrides, world())
}

fn from_file(text: &str) -> Result<Config, String> {
    load(Some((Path::new("/etc/patchbay.toml"), text)), &Overrides::default(), world())
}

fn routes(config: &Config) -> Vec<(&str, &str, Option<&str>)> {
    config
        .routes
        .iter()
        .map(|route| {
            let provider = config.providers[route.provider].name.as_str();
            (route.pattern.as_str(), provider, route.model.as_deref())
        })
        .collect()
}

#[test]
fn nothing_typed_is_openai_on_a_free_loopback_port() {
    let config = from_flags(&Overrides::default()).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert_eq!(config.workers, 4);
    assert_eq!(routes(&config), [("*", "upstream", None)]);
    let provider = &config.providers[0];
    assert_eq!(provider.url, Url::parse("https://api.openai.com/v1/chat/completions").unwrap());
    assert_eq!(provider.dialect.name(), "chat");
    assert_eq!(provider.credential, Credential::Key("sk-openai".to_owned()));
    assert_eq!(provider.quirks, Quirks::for_host("api.openai.com"));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.timeouts, Timeouts::default());
    assert!(config.retry_stale && !config.strict && !config.http_shutdown);
}

#[test]
fn the_default_key_does_not_go_to_another_host() {
    let url = Some("https://other.example/v1".to_owned());
    let config = from_flags(&Overrides { upstream_url: url, ..Overrides::default() }).unwrap();
    assert_eq!(config.providers[0].credential, Credential::None);
}

#[test]
fn the_tokens_of_codex_login_have_usual_places() {
    for (written, home, expected) in [
        ("", "", Err("name the `path`")),
        ("", "HOME", Ok(("/h/.codex/auth.json", "auth.openai.com"))),
        ("", "CODEX_HOME", Ok(("/h/auth.json", "auth.openai.com"))),
        (", path = 'a.json', token_url = 'http://t'", "", Ok(("/etc/a.json", "t"))),
        (", token_url = 'nowhere'", "HOME", Err("must start with")),
    ] {
        let text = format!(
            "[providers.x]\nurl = 'https://x'\ncredential = {{ kind = 'codex-auth'{written} }}\n"
        );
        let var = |name: &str| (name == home).then(|| "/h".to_owned());
        let file = Some((Path::new("/etc/patchbay.toml"), text.as_str()));
        let config = load(file, &Overrides::default(), World { var: &var, cores: 1 });
        match (config.map(|config| config.providers[0].credential.clone()), expected) {
            (Ok(Credential::CodexAuth(it)), Ok((path, host))) => {
                assert_eq!(it.path, Path::new(path));
                assert_eq!(it.token_url.host, host);
                let key_url = Url::parse("https://api.openai.com/v1/chat/completions").unwrap();
                assert_eq!(it.key_url, key_url);
            }
            (Err(why), Err(words)) => assert!(why.contains(words), "{why}"),
            (got, expected) => panic!("{written}: {got:?}, not {expected:?}"),
        }
    }
}

#[test]
fn the_dialect_follows_the_url_unless_named() {
    for (url, dialect, expected) in [
        ("https://x.example", None, Ok(("chat", "/v1/chat/completions"))),
        ("https://x.example/v1/responses", None, Ok(("responses", "/v1/responses"))),
        ("https://x.example/v1", Some("responses"), Ok(("responses", "/v1/responses"))),
        ("https://x.example/v1/responses", Some("chat"), Err("change one")),
        ("https://x.example", Some("smoke"), Err("unknown; known: chat, responses, gigachat")),
        ("https://x.example/v1/chat/completions", None, Ok(("chat", "/v1/chat/completions"))),
        (
            "https://x.example/api/v1/chat/completions",
            Some("gigachat"),
            Ok(("gigachat", "/api/v1/chat/completions")),
        ),
        (
            "https://x.example/api/v1",
            Some("gigachat"),
            Ok(("gigachat", "/api/v1/chat/completions")),
        ),
        ("https://x.example/v1/responses", Some("gigachat"), Err("change one")),
        ("x.example", None, Err("must start with")),
    ] {
        let config = from_flags(&Overrides {
            upstream_url: Some(url.to_owned()),
            upstream_dialect: dialect.map(str::to_owned),
            ..Overrides::default()
        });
        match (config, expected) {
            (Ok(config), Ok((name, path))) => {
                assert_eq!(config.providers[0].dialect.name(), name, "{url}");
                assert_eq!(config.providers[0].url.path, path, "{url}");
            }
            (Err(error), Err(word)) => assert!(error.contains(word), "{url}: {error}"),
            (config, _) => panic!("{url}: {config:?}"),
        }
    }
}

#[test]
fn keys_come_from_the_environment_or_not_at_all() {
    for (name, expected) in [
        ("LAB_KEY", Ok("sk-lab")),
        ("GONE", Err("missing or empty env var: GONE")),
        ("EMPTY", Err("missing or empty env var: EMPTY")),
        ("TWO_LINES", Err("[providers.upstream] the env var TWO_LINES holds characters")),
        ("sk-real-key", Err("give the name, not the key itself")),
    ] {
        let env = Some(name.to_owned());
        let config = from_flags(&Overrides { api_key_env: env, ..Overrides::default() });
        match (config, expected) {
            (Ok(config), Ok(key)) => {
                assert_eq!(config.providers[0].credential, Credential::Key(key.to_owned()));
                assert!(!format!("{config:?}").contains(key));
            }
            (Err(error), Err(word)) => assert!(error.contains(word), "{name}: {error}"),
            (config, _) => panic!("{name}: {config:?}"),
        }
    }
}

#[test]
fn typed_models_are_routed_first_and_listed() {
    let models = ["gpt-5=big", "mini-*=openai/gpt-oss", "x=upstream/y"];
    let models = models.map(str::to_owned).to_vec();
    let config = from_flags(&Overrides { models, ..Overrides::default() }).unwrap();
    assert_eq!(
        routes(&config)[..3],
        [
            ("gpt-5", "upstream", Some("big")),
            ("mini-*", "upstream", Some("openai/gpt-oss")),
            ("x", "upstream", Some("y")),
        ]
    );
    assert_eq!(routes(&config).last(), Some(&("*", "upstream", None)));
    let ids: Vec<&str> = config.providers[0].models.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["gpt-5", "openai/gpt-oss", "x"]);
    for (typed, word) in [
        ("gpt-5", "write FROM=TO"),
        ("=a", "is empty"),
        ("a=", "is empty"),
        ("a=upstream/", "is empty"),
        ("a*b*=c", "more than one"),
    ] {
        let models = vec![typed.to_owned()];
        let error = from_flags(&Overrides { models, ..Overrides::default() }).unwrap_err();
        assert!(error.contains(word), "{typed}: {error}");
    }
}

#[test]
fn localhost_is_both_of_its_addresses_where_they_have_one_port() {
    for (listen, expected) in [
        ("['localhost:8080']", &["127.0.0.1:8080", "[::1]:8080"][..]),
        ("['localhost:8080', '[::1]:8080', '127.0.0.1:8080']", &["127.0.0.1:8080", "[::1]:8080"]),
        ("['localhost:0']", &["127.0.0.1:0"]),
        ("['[::]:8080']", &["[::]:8080"]),
    ] {
        let config = from_file(&format!("[server]\nlisten = {listen}")).unwrap();
        let expected: Vec<_> = expected.iter().map(|it| it.parse().unwrap()).collect();
        assert_eq!(config.listen, expected, "{listen}");
    }
}

#[test]
fn urls_of_gigachat_are_completed_as_its_hosts_want_it() {
    let old = "/api/v1/chat/completions";
    for (url, dialect, path) in [
        ("https://api.giga.chat", None, "/v1/chat/completions"),
        ("https://api.giga.chat/", None, "/v1/chat/completions"),
        ("https://api.giga.chat/v1", None, "/v1/chat/completions"),
        ("https://api.giga.chat/v1/chat/completions", None, "/v1/chat/completions"),
        ("https://gigachat.devices.sberbank.ru", None, old),
        ("https://gigachat.devices.sberbank.ru/", None, old),
        ("https://gigachat.devices.sberbank.ru/api", None, old),
        ("https://gigachat.devices.sberbank.ru/api/v1", None, old),
        ("https://gigachat.devices.sberbank.ru/api/v1/", None, old),
        ("https://gigachat.devices.sberbank.ru/api/v1/chat/completions", None, old),
        ("https://gigachat-preview.devices.sberbank.ru", None, old),
        ("http://127.0.0.1:8099", Some("gigachat"), old),
        ("http://127.0.0.1:8099/api/v1/", Some("gigachat"), old),
        ("http://127.0.0.1:8099/v1", Some("gigachat"), "/v1/chat/completions"),
        ("http://127.0.0.1:8099/giga/", Some("gigachat"), "/giga/chat/completions"),
        ("https://notgiga.chat", Some("gigachat"), old),
    ] {
        let overrides = Overrides {
            upstream_url: Some(url.to_owned()),
            upstream_dialect: dialect.map(str::to_owned),
            ..Overrides::default()
        };
        let provider = from_flags(&overrides).unwrap().providers.remove(0);
        assert_eq!(
            (provider.dialect.name(), provider.url.path.as_str()),
            ("gigachat", path),
            "{url}"
        );
        // An answer's schema goes as a function's whatever the host is.
        assert!(!provider.quirks.json_schema && provider.quirks.images, "{url}");
    }
    for url in ["https://notgiga.chat", "https://giga.chat.example", "https://sberbank.ru"] {
        let overrides = Overrides { upstream_url: Some(url.to_owned()), ..Overrides::default() };
        let provider = from_flags(&overrides).unwrap().providers.remove(0);
        assert_eq!(
            (provider.dialect.name(), provider.quirks),
            ("chat", Quirks::default()),
            "{url}"
        );
    }
}

const WHOLE: &str = r#"
[server]
listen = ["localhost:8080", "[::1]:8080"]
workers = 2
hosts = ["Proxy.Example"]
origins = ["https://app.example:8443"]
http_shutdown = true
server_info = "info.json"
strict = true
retry_stale = false

[clients.keys]
alice = "${LAB_KEY:-x}-a"

[limits]
pending_high_bytes = 131072
headers_max = 50

[timeouts]
drain_ms = 0
connect_ms = 1500

[providers.lab]
url = "https://lab.example/v1"
credential = { kind = "key", env = "LAB_KEY" }
headers = { X-Title = "patchbay" }
ca_file = "lab.pem"
delay_acks = true
quirks_profile = "api.openai.com"
quirks = { system_role = "system" }
models = ["small", { id = "large", context_window = 1000000, images = false }]

[providers.far]
url = "https://far.example/v1/responses"
credential = { kind = "client" }

[[routes]]
model = "far-*"
provider = "far"
upstream_model = "m"
"#;

#[test]
fn every_key_of_a_file_arrives() {
    let text = WHOLE.replace("${LAB_KEY:-x}", "${GONE:-x}");
    let config = from_file(&text).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:8080", "[::1]:8080"].map(|it| it.parse().unwrap()));
    assert_eq!(config.workers, 2);
    assert_eq!(config.hosts, ["proxy.example"]);
    assert_eq!(config.origins, ["https://app.example:8443"]);
    assert!(config.http_shutdown && config.strict && !config.retry_stale);
    assert_eq!(config.server_info.as_deref(), Some(Path::new("/etc/info.json")));
    assert_eq!(config.client_keys[0].name, "alice");
    assert_eq!(config.client_keys[0].secret, "x-a");
    assert_eq!(config.limits.pending_high_bytes, 131_072);
    assert_eq!(config.limits.headers_max, 50);
    assert_eq!(config.limits.head_bytes_max, Limits::default().head_bytes_max);
    assert_eq!(config.timeouts.drain, Duration::ZERO);
    assert_eq!(config.timeouts.connect, Duration::from_millis(1500));
    let [far, lab] = config.providers.as_slice() else { panic!("{config:?}") };
    assert_eq!(far.dialect.name(), "responses");
    assert_eq!(far.credential, Credential::Client);
    assert_eq!(lab.credential, Credential::Key("sk-lab".to_owned()));
    assert_eq!(lab.headers, [("x-title".to_owned(), "patchbay".to_owned())]);
    assert_eq!(lab.tls.ca_file.as_deref(), Some(Path::new("/etc/lab.pem")));
    assert_eq!((lab.delay_acks, far.delay_acks), (true, false));
    let expected = Quirks { system_role: SystemRole::System, ..Quirks::for_host("api.openai.com") };
    assert_eq!(lab.quirks, expected);
    assert_eq!(lab.models[0].context_window, 128_000);
    assert!(lab.models[0].images && lab.models[0].reasoning);
    assert_eq!(lab.models[1].context_window, 1_000_000);
    assert!(!lab.models[1].images);
    assert_eq!(
        routes(&config),
        [("far-*", "far", Some("m")), ("small", "lab", None), ("large", "lab", None)]
    );
}

#[test]
fn images_are_uploaded_where_they_can_be_and_fetched_where_that_is_allowed() {
    let quirks = |keys: &str| {
        let url = "https://gigachat.devices.sberbank.ru/api/v1";
        let text = format!("[providers.up]\nurl = \"{url}\"\ndialect = \"gigachat\"\n{keys}");
        let quirks = from_file(&text).unwrap().providers[0].quirks.clone();
        (quirks.images, quirks.image_urls)
    };
    for (keys, expected) in [
        ("", (true, false)),
        ("upload_images = \"0\"", (false, false)),
        ("image_urls = \"True\"", (true, true)),
        ("quirks = { images = false }", (false, false)),
        ("upload_images = true\nquirks = { images = false, image_urls = true }", (true, true)),
    ] {
        assert_eq!(quirks(keys), expected, "{keys}");
    }
    for key in ["upload_images", "image_urls"] {
        let text = format!("[providers.up]\nurl = \"https://x.example/v1\"\n{key} = true");
        let error = from_file(&text).unwrap_err();
        assert!(error.contains(key) && error.contains("`chat`"), "{error}");
    }
}

#[test]
fn flags_beat_the_file() {
    let text = "[server]\nlisten = ['127.0.0.1:1']\nworkers = 9\n\
                [providers.lab]\nurl = 'https://lab.example'\n";
    let overrides = Overrides {
        listen: vec!["127.0.0.1:2".parse().unwrap()],
        workers: Some(1),
        upstream_url: Some("http://other.example/v1".to_owned()),
        api_key_env: Some("LAB_KEY".to_owned()),
        server_info: Some(PathBuf::from("here.json")),
        http_shutdown: true,
        ..Overrides::default()
    };
    let config = load(Some((Path::new("/etc/p.toml"), text)), &overrides, world()).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:2".parse().unwrap()]);
    assert_eq!(config.workers, 1);
    assert_eq!(config.providers[0].url.host, "other.example");
    assert_eq!(config.providers[0].credential, Credential::Key("sk-lab".to_owned()));
    assert_eq!(config.server_info.as_deref(), Some(Path::new("here.json")));
    assert!(config.http_shutdown);

    let two = format!("{text}[providers.b]\nurl = 'https://b.example'\n");
    let error = load(Some((Path::new("p.toml"), &two)), &overrides, world()).unwrap_err();
    assert!(error.contains("--upstream-url describes the only provider"), "{error}");
}

#[test]
fn mistakes_in_a_file_are_explained() {
    let lab = "[providers.lab]\nurl = 'https://lab.example'\n";
    for (text, words) in [
        ("[server]\nlisen = []", "line 2: unknown key `lisen`; did you mean `listen`?"),
        ("[serve]\n", "line 1: unknown key `serve`; did you mean `server`?"),
        ("[server]\nbanana = 1", "line 2: unknown key `banana`; known here: listen, workers"),
        ("[server]\nworkers = 'two'", "line 2: invalid type"),
        ("[server]\nlisten = ['8080']", "[server] listen: `8080` is no address"),
        ("[server]\nworkers = 0", "workers is 0"),
        ("[server]\ntls = { key = 'k.pem' }", "the key for clients needs its certificate"),
        ("[server]\ntls = { certificate = 'c.pem' }", "the certificate for clients needs its key"),
        ("[capture]", "[capture] needs a `folder`"),
        ("[capture]\nfolder = 'a'\nside_bytes_max = 1", "[capture] side_bytes_max is 1"),
        ("[capture]\nfolder = '~/a'", "missing or empty env var: HOME"),
        ("[server]\nhosts = ['https://a']", "[server] hosts: `https://a`"),
        ("[server]\nhosts = ['a:80']", "[server] hosts: `a:80`"),
        ("[server]\norigins = ['null']", "[server] origins: `null`"),
        ("[server]\norigins = ['https://a/']", "[server] origins"),
        ("[server\n", "line 1: "),
        ("\n\n[clients.keys]\na = '${GONE}'", "line 4: missing or empty env var: GONE"),
        ("[clients.keys]\na = ''", "[clients.keys] a: a key is made of"),
        ("[limits]\nhead_bytes_max = 1", "[limits] head_bytes_max is 1: it must be from 1024"),
        ("[limits]\npending_low_bytes = 65536", "must be below pending_high_bytes"),
        ("[limits]\nhead_bytes_max = 4096", "request_line_bytes_max (8192) must not be above"),
        ("[limits]\nframe_bytes_max = -1", "line 2: -1 is below 0"),
        ("[timeouts]\nconnect = 1", "line 2: unknown key `connect`; did you mean `connect_ms`?"),
        ("[timeouts]\nconnect_ms = 0", "[timeouts] connect_ms is 0"),
        ("[providers.lab]\ndialect = 'chat'", "[providers.lab] needs a `url`"),
        ("[providers.'a b']\nurl = 'https://lab.example'", "a provider's name"),
        ("[providers.a]\nurl = 'lab.example'", "[providers.a] the URL `lab.example`"),
        ("[[routes]]\nmodel = '*'\nprovider = 'upsteam'", "did you mean `upstream`?"),
        ("[[routes]]\nmodel = '*'\nprovider = 'upstream'\neffort = 'loud'", "effort: `loud` is"),
        ("[[routes]]\nmodel = 'a*b*'\nprovider = 'upstream'", "number 1: the model `a*b*`"),
    ] {
        let error = from_file(text).unwrap_err();
        assert!(error.starts_with("/etc/patchbay.toml: "), "{error}");
        assert!(error.contains(words), "{text}\n{error}");
    }
    for (text, words) in [
        ("credential = { kind = 'key' }", "comes from `env` or from `file`"),
        (
            "structured_output = 'native'",
            "`structured_output` means nothing for the dialect `chat`",
        ),
        ("dialect = 'gigachat'\nstructured_output = 'x'", "structured_output: `x` is unknown"),
        ("profanity_check = true", "`profanity_check` means nothing for the dialect `chat`"),
        ("credential = { kind = 'token' }", "unknown variant `token`"),
        ("credential = { kind = 'none', file = 'X' }", "unknown key `file`"),
        ("credential = { kind = 'key', env = 'GONE' }", "missing or empty env var: GONE"),
        ("headers = { Host = 'x' }", "`Host` is written by the proxy itself"),
        ("headers = { Authorization = 'x' }", "belongs into `credential`"),
        ("headers = { 'a b' = 'x' }", "no legal name"),
        ("headers = { a = \"x\\ny\" }", "not ASCII"),
        ("quirks = { think_tag = true }", "did you mean `think_tags`?"),
        ("quirks = { effort = 'loud' }", "quirks: unknown variant `loud`"),
        ("credential = { kind = 'key', file = '/no/such/key' }", "cannot read the key in /no/su"),
        ("credential = { kind = 'key', file = 'k', env = 'K' }", "write one of them"),
        ("base_path = 'a'", "base_path: `a` must begin with a slash"),
        ("allow = ','", "`,` holds no name"),
        ("bridge = 1", "true, false or a text"),
        ("models = [1]", "a model's name, or a table"),
        ("models = [{ id = '' }]", "needs an id"),
        ("models = [{ id = 'a', context_windw = 1 }]", "did you mean `context_window`?"),
    ] {
        let error = from_file(&format!("{lab}{text}")).unwrap_err();
        assert!(error.contains(words), "{text}\n{error}");
    }
}

#[test]
fn what_clients_see_and_what_is_written_down_is_configured() {
    let text = "[server]\ntls = { certificate = 'c.pem', key = '/k.pem' }\n\
                [capture]\nfolder = 'captures'\nside_bytes_max = 2048\n";
    let config = from_file(text).unwrap();
    let tls = config.tls.unwrap();
    assert_eq!(tls.certificate, Path::new("/etc/c.pem"));
    assert_eq!(tls.key, Path::new("/k.pem"));
    let capture = config.capture.unwrap();
    assert_eq!(
        (capture.folder.as_path(), capture.side_bytes_max),
        (Path::new("/etc/captures"), 2048)
    );
    assert!(from_file(&format!("{text}enabled = false")).unwrap().capture.is_none());

    let typed = Overrides {
        tls_key: Some(PathBuf::from("/typed.pem")),
        capture: Some(PathBuf::from("/typed")),
        ..Overrides::default()
    };
    let file = format!("{text}enabled = '0'");
    let config = load(Some((Path::new("/etc/p.toml"), &file)), &typed, world()).unwrap();
    assert_eq!(config.tls.map(|it| it.key), Some(PathBuf::from("/typed.pem")));
    assert_eq!(config.capture.map(|it| it.folder), Some(PathBuf::from("/typed")));
    let plain = Overrides { plain: true, ..Overrides::default() };
    let config = load(Some((Path::new("/etc/p.toml"), text)), &plain, world()).unwrap();
    assert_eq!(config.tls, None);
}

#[test]
fn the_allowed_models_are_listed_and_routes_have_defaults() {
    let text = "[providers.a]\nurl = 'https://a.example'\nallow = 'x, y'\n[[routes]]\nmodel = '*'\n\
                provider = 'a'\neffort = 'high'\nsummary = 'auto'\nverbosity = ''\n";
    let models = vec!["z=x".to_owned()];
    let typed = Overrides { models, ..Overrides::default() };
    let config = load(Some((Path::new("p.toml"), text)), &typed, world()).unwrap();
    assert_eq!(config.providers[0].allow, ["x", "y"]);
    let ids: Vec<&str> = config.providers[0].models.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["x", "y", "z"]);
    let high = Defaults {
        output_tokens_max: None,
        effort: Some("high".to_owned()),
        summary: Some("auto".to_owned()),
        verbosity: None,
    };
    assert_eq!(config.routes[0].pattern, "z");
    assert_eq!((&config.routes[0].defaults, &config.routes[1].defaults), (&high, &high));
}

#[test]
fn the_tokens_of_codex_login_can_be_typed() {
    let auth_path = Some(PathBuf::from("/a/auth.json"));
    let typed = Overrides { auth_path, ..Overrides::default() };
    let config = from_flags(&typed).unwrap();
    assert_eq!(config.providers[0].url.host, "chatgpt.com");
    assert!(matches!(config.providers[0].credential, Credential::CodexAuth(_)));
    let both = Overrides { api_key_env: Some("LAB_KEY".to_owned()), ..typed };
    assert!(from_flags(&both).unwrap_err().contains("exclude each other"));
}

#[test]
fn providers_without_models_or_routes_lead_nowhere() {
    let text = "[providers.a]\nurl = 'https://a.example'\n[providers.b]\nurl = 'https://b.example'";
    let error = from_file(text).unwrap_err();
    assert!(error.contains("no model leads anywhere"), "{error}");
}
