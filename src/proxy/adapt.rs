//! A client's request made to fit a provider before it is written: the effort, what nobody said, and
//! `instructions`.

use crate::config::{Defaults, Provider};
use crate::dialect::effort;
use crate::dialect::instruct::{self, Instructions};
use crate::dialect::request::Request;
use crate::proxy::route::Target;
use crate::wire::json::{self, Escaped};

/// What a request is given. Texts are escaped.
#[derive(Debug, Default)]
pub(crate) struct Adapted {
    effort: Option<String>,
    summary: Option<String>,
    verbosity: Option<String>,
    output_tokens_max: Option<u64>,
    instructions: Option<Instructions>,
}

impl Adapted {
    /// What `request` needs on its way to `provider`. `shows_only` = the client's dialect has no
    /// word for a summary, so that the one in the request is a guess.
    pub(crate) fn of(
        request: &Request<'_>,
        provider: &Provider,
        target: &Target<'_>,
        codex: bool,
        shows_only: bool,
    ) -> Self {
        let Defaults { effort, summary, verbosity, output_tokens_max } = target.defaults;
        let settings = &request.settings;
        let said = settings.effort.map(Escaped::decode);
        let asked = said.as_deref().or(target.effort).or(effort.as_deref());
        let asked =
            if provider.quirks.effort_table { effort::settle(target.model, asked) } else { asked };
        // The bridge tells of a foreign harness: the Codex CLI is at home.
        let bridge = provider.bridge.as_deref().filter(|_| !codex);
        let required = provider.quirks.instructions_required;
        let usual = provider.instructions.as_deref();
        let unsaid = |own: Option<Escaped<'_>>, text: &Option<String>| {
            text.as_deref().filter(|_| own.is_none()).map(escaped)
        };
        Self {
            effort: asked.filter(|asked| said.as_deref() != Some(*asked)).map(escaped),
            summary: unsaid(settings.summary.filter(|_| !shows_only), summary),
            verbosity: unsaid(settings.verbosity, verbosity),
            output_tokens_max: *output_tokens_max,
            instructions: instruct::needed(request, bridge, usual, required),
        }
    }

    /// Puts it into the request.
    pub(crate) fn apply<'a>(&'a self, request: &mut Request<'a>) {
        let settings = &mut request.settings;
        for (slot, text) in [
            (&mut settings.effort, &self.effort),
            (&mut settings.summary, &self.summary),
            (&mut settings.verbosity, &self.verbosity),
        ] {
            if let Some(text) = text {
                *slot = Some(Escaped::trusted(text));
            }
        }
        settings.output_tokens_max = settings.output_tokens_max.or(self.output_tokens_max);
        if let Some(instructions) = &self.instructions {
            instruct::give(request, instructions);
        }
    }
}

fn escaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    json::escape(text, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}
