//! How the Codex CLI is pointed at a proxy: by `-c` overrides, without touching its files.

use patchbay::config::{Config, Credential, Model, Provider};
use patchbay::dialect::codex::catalog;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The variable that hands a client key to Codex.
pub(super) const KEY_ENV: &str = "PATCHBAY_CLIENT_KEY";

/// Whether a command is the Codex CLI.
pub(super) fn is_codex(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new("codex"))
}

/// The overrides that add the proxy as a provider and choose it. `catalog` is the path of a file
/// that [`models`] went into.
pub(super) fn overrides(config: &Config, base_url: &str, catalog: Option<&Path>) -> Vec<String> {
    let key = if config.client_keys.is_empty() {
        config.providers.iter().any(wants_a_key).then_some("OPENAI_API_KEY")
    } else {
        Some(KEY_ENV)
    };
    let key = key.map(|key| format!(",env_key=\"{key}\"")).unwrap_or_default();
    let mut all = vec![
        format!(
            "model_providers.patchbay={{name=\"patchbay\",base_url=\"{base_url}\",\
             wire_api=\"responses\"{key}}}"
        ),
        "model_provider=\"patchbay\"".to_owned(),
    ];
    if let Some(path) = catalog {
        let path = toml::Value::String(path.display().to_string());
        all.push(format!("model_catalog_json={path}"));
    }
    all
}

/// Whether a provider is of use only to clients that bring a credential for it.
fn wants_a_key(provider: &Provider) -> bool {
    match provider.credential {
        Credential::Client => true,
        Credential::None => provider.callers.is_some(),
        Credential::Key(_) | Credential::CodexAuth(_) | Credential::Grant(_) => false,
    }
}

/// The catalog of every model that the configuration names, and of the one that the user chose:
/// for a model that it does not know, Codex sends tools that few upstreams understand. `None` when
/// no model is known, because a catalog without models takes all models away.
pub(super) fn models(config: &Config, chosen: Option<&str>) -> Option<Vec<u8>> {
    let mut models: Vec<Model> = Vec::new();
    for model in config.providers.iter().flat_map(|provider| &provider.models) {
        if models.iter().all(|known| known.id != model.id) {
            models.push(model.clone());
        }
    }
    if let (Some(id), Some(provider)) = (chosen, config.providers.first())
        && models.iter().all(|known| known.id != id)
    {
        models.push(Model::guess(id.to_owned(), &provider.quirks));
    }
    if models.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    catalog(&models, &mut out);
    Some(out)
}

/// The model that Codex is going to use, if somebody said which: on its command line, else in its
/// configuration file.
pub(super) fn chosen_model(args: &[OsString]) -> Option<String> {
    let home = match std::env::var_os("CODEX_HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => std::env::home_dir().map(|home| home.join(".codex")),
    };
    typed_model(args).or_else(|| {
        let text = std::fs::read_to_string(home?.join("config.toml")).ok()?;
        configured_model(&text)
    })
}

/// The model of `-m X`, `-mX`, `--model X`, `--model=X` and `-c model="X"`.
fn typed_model(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = args.next() {
        let model = match arg {
            "--" => return None,
            "-m" | "--model" => args.next().map(str::to_owned),
            "-c" | "--config" => args.next().and_then(configured_model),
            _ => {
                let attached = arg.strip_prefix("--model=").or_else(|| arg.strip_prefix("-m"));
                attached.map(str::to_owned)
            }
        };
        if model.is_some() {
            return model;
        }
    }
    None
}

/// The top-level `model` of a TOML text; Codex takes an override that is no TOML as it stands.
fn configured_model(text: &str) -> Option<String> {
    match text.parse::<toml::Table>() {
        Ok(table) => table.get("model")?.as_str().map(str::to_owned),
        Err(_) => text.strip_prefix("model=").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay::config::{Overrides, World, load};

    #[test]
    fn codex_brings_a_key_where_nothing_else_would_do() {
        for (lines, expected) in [
            ("", false),
            ("credential = { kind = 'client' }", true),
            ("callers = {}", true),
            ("credential = { kind = 'key', env = 'K' }\ncallers = {}", false),
            ("callers = { enabled = false }", false),
            ("callers = {}\n[clients.keys]\na = 'b'", false),
        ] {
            let text = format!("[providers.a]\nurl = 'https://a.example'\n{lines}\n");
            let world = World { var: &|_| Some("key".to_owned()), cores: 1 };
            let file = Some((Path::new("p.toml"), text.as_str()));
            let config = load(file, &Overrides::default(), world).unwrap();
            let overrides = overrides(&config, "http://a", None);
            assert_eq!(overrides[0].contains("env_key=\"OPENAI_API_KEY\""), expected, "{lines}");
        }
    }

    #[test]
    fn the_typed_model_is_found() {
        for (line, expected) in [
            ("exec hi", None),
            ("exec -m big hi", Some("big")),
            ("-mbig exec", Some("big")),
            ("exec --model big", Some("big")),
            ("exec --model=big", Some("big")),
            ("-c model=\"big\" exec", Some("big")),
            ("-c model=big exec", Some("big")),
            ("--config model_provider=\"x\" -m big", Some("big")),
            ("exec -- -m big", None),
            ("exec -m", None),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(typed_model(&args).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn the_configured_model_is_found() {
        for (text, expected) in [
            ("", None),
            ("model = \"big\"\n[profiles.a]\nmodel = \"small\"", Some("big")),
            ("[profiles.a]\nmodel = \"small\"", None),
            ("model = 5", None),
            ("model=big", Some("big")),
        ] {
            assert_eq!(configured_model(text).as_deref(), expected, "{text}");
        }
    }
}
