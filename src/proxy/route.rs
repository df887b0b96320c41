//! Where a request goes: the path says what is wanted, the model's name says from whom.

use crate::config::{Config, Defaults, Provider};
use crate::dialect::{self, Dialect, effort};
use crate::fault::Failure;

/// What a path stands for.
#[derive(Clone, Copy, Debug)]
pub enum Place<'p> {
    /// An operation of a dialect.
    Operation(&'static dyn Dialect),
    /// Vectors for texts.
    Embeddings,
    /// The list of models.
    Models,
    /// One model.
    Model(&'p str),
    /// The limits that upstreams last told of.
    Usage,
    /// Alive?
    Health,
    /// Able to serve?
    Ready,
    /// The end, if the configuration allows it.
    Shutdown,
    /// Nothing that is known.
    Nowhere,
}

/// The path with doubled and trailing slashes collapsed and a leading `/v1` taken off.
/// Nothing is percent-decoded: a path that hides itself matches nothing.
#[must_use]
pub fn normal_path(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        normal.push('/');
        normal.push_str(segment);
    }
    match normal.strip_prefix("/v1") {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => normal,
    }
}

/// What a [`normal_path`] stands for.
#[must_use]
pub fn place(path: &str) -> Place<'_> {
    // Clients that believe to speak to the Codex backend.
    let path = match path.strip_prefix("/backend-api/codex") {
        Some(rest @ ("/responses" | "/models")) => rest,
        _ => path,
    };
    match path {
        "/embeddings" => Place::Embeddings,
        "/models" => Place::Models,
        "/usage" => Place::Usage,
        "/health" | "/healthz" => Place::Health,
        "/readyz" => Place::Ready,
        "/shutdown" => Place::Shutdown,
        _ => match (path.strip_prefix("/models/"), dialect::by_path(path)) {
            (Some(id), _) => Place::Model(id),
            (None, Some(dialect)) => Place::Operation(dialect),
            (None, None) => Place::Nowhere,
        },
    }
}

/// True when a query has a parameter of this name.
#[must_use]
pub fn has_parameter(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

/// Where a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'c> {
    /// Index into [`Config::providers`].
    pub provider: usize,
    /// The model's name there.
    pub model: &'c str,
    /// The route names this very model, and no other.
    pub exact: bool,
    /// The effort that the name ended in, where the provider has such names.
    pub effort: Option<&'static str>,
    /// Settings for requests that do not say.
    pub defaults: &'c Defaults,
}

/// Finds a model: the first route that matches its name, or, for a provider of such names, its name
/// without an effort.
#[must_use]
pub fn target<'c>(config: &'c Config, model: &'c str) -> Option<Target<'c>> {
    let (plain, effort) = effort::split(model);
    let route = config.routes.iter().find(|route| {
        matches(&route.pattern, model)
            || (matches(&route.pattern, plain) && has_efforts(config, route.provider))
    })?;
    let (provider, defaults) = (route.provider, &route.defaults);
    config.providers.get(provider)?;
    let exact = !route.pattern.contains('*');
    if !has_efforts(config, provider) {
        let model = route.model.as_deref().unwrap_or(model);
        return Some(Target { provider, model, exact, effort: None, defaults });
    }
    let (model, own) = route.model.as_deref().map_or((plain, None), effort::split);
    Some(Target { provider, model, exact, effort: effort.or(own), defaults })
}

/// A model's name as far as it chooses a model: without an effort, where the provider has such names.
pub(crate) fn plain<'m>(config: &Config, model: &'m str) -> &'m str {
    match target(config, model) {
        Some(target) if has_efforts(config, target.provider) => effort::split(model).0,
        _ => model,
    }
}

fn has_efforts(config: &Config, provider: usize) -> bool {
    config.providers.get(provider).is_some_and(|provider| provider.quirks.effort_table)
}

/// Checks a model against the list of those that may be asked of a provider: by the client's name
/// for it or by the upstream's, where the upstream knows efforts with or without one behind it.
///
/// # Errors
/// 400 `model_not_allowed` with the names that are.
pub fn check_allowed(provider: &Provider, model: &str, upstream: &str) -> Result<(), Failure> {
    let known = |name: &str| provider.allow.iter().any(|allowed| allowed == name);
    let plain = |name| provider.quirks.effort_table && known(effort::split(name).0);
    if provider.allow.is_empty() || [model, upstream].into_iter().any(|it| known(it) || plain(it)) {
        return Ok(());
    }
    let model: String = model.chars().take(100).collect();
    let message = format!(
        "the model \"{model}\" is not allowed here; allowed: {}",
        provider.allow.join(", ")
    );
    Err(Failure::bad_request(message).with_code("model_not_allowed").with_param("model"))
}

/// Whether `name` is `pattern`, whose first `*` stands for any text.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn paths_are_normal_at_the_root_and_under_v1() {
        for (path, normal) in [
            ("/responses", "/responses"),
            ("/v1/responses", "/responses"),
            ("//v1///responses//", "/responses"),
            ("/v1", "/v1"),
            ("/v1/v1/models", "/v1/models"),
            ("/v1models", "/v1models"),
            ("/", ""),
            ("/%72esponses", "/%72esponses"),
            ("/a/../responses", "/a/../responses"),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }

    #[test]
    fn a_path_stands_for_one_place() {
        let name = |path| match place(path) {
            Place::Operation(dialect) => dialect.name().to_owned(),
            Place::Model(id) => format!("model {id}"),
            other => format!("{other:?}"),
        };
        for (path, expected) in [
            ("/responses", "responses"),
            ("/chat/completions", "chat"),
            ("/embeddings", "Embeddings"),
            ("/models", "Models"),
            ("/models/openai/gpt-5", "model openai/gpt-5"),
            ("/backend-api/codex/responses", "responses"),
            ("/backend-api/codex/models", "Models"),
            ("/backend-api/codex/chat/completions", "Nowhere"),
            ("/backend-api/responses", "Nowhere"),
            ("/usage", "Usage"),
            ("/usage/x", "Nowhere"),
            ("/health", "Health"),
            ("/healthz", "Health"),
            ("/readyz", "Ready"),
            ("/shutdown", "Shutdown"),
            ("", "Nowhere"),
            ("/Responses", "Nowhere"),
            ("/%72esponses", "Nowhere"),
            ("/a/../responses", "Nowhere"),
        ] {
            assert_eq!(name(path), expected, "{path}");
        }
    }

    #[test]
    fn a_name_with_an_effort_is_its_model_where_there_are_such_names() {
        let file = r#"
            [providers.plain]
            url = "https://plain.example/v1/chat/completions"
            [providers.codex]
            url = "https://chatgpt.com/backend-api/codex/responses"
            [[routes]]
            model = "plain"
            provider = "plain"
            [[routes]]
            model = "gpt-5.2"
            provider = "codex"
            [[routes]]
            model = "deep"
            provider = "codex"
            upstream_model = "gpt-5.1-codex-max-xhigh"
            [[routes]]
            model = "*"
            provider = "plain"
        "#;
        let world = config::World { var: &|_| None, cores: 1 };
        let path = std::path::Path::new("test.toml");
        let config = config::load(Some((path, file)), &config::Overrides::default(), world);
        let config = config.unwrap();
        for (model, provider, name, effort) in [
            ("gpt-5.2", "codex", "gpt-5.2", None),
            ("gpt-5.2-high", "codex", "gpt-5.2", Some("high")),
            ("openai/gpt-5.2 low", "codex", "gpt-5.2", Some("low")),
            ("deep", "codex", "gpt-5.1-codex-max", Some("xhigh")),
            ("deep-low", "codex", "gpt-5.1-codex-max", Some("low")),
            // A plain provider has no such names.
            ("plain-high", "plain", "plain-high", None),
            ("other/x", "plain", "other/x", None),
        ] {
            let found = target(&config, model).unwrap();
            let at = config.providers[found.provider].name.as_str();
            assert_eq!((at, found.model, found.effort), (provider, name, effort), "{model}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5.1", false),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "gpt-5", true),
            ("*", "", true),
            ("*-codex", "gpt-5-codex", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b", "ab ", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        for (query, expected) in [
            ("client_version=1", true),
            ("a=1&client_version", true),
            ("xclient_version=1", false),
            ("a=client_version", false),
            ("", false),
        ] {
            assert_eq!(has_parameter(query, "client_version"), expected, "{query}");
        }
    }
}
