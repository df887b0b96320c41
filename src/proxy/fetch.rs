//! Images behind `https` URLs that a client names: fetched from their hosts, which get nothing of
//! the provider's or the client's, and then uploaded.
//!
//! Where the connection may go is decided when the name was resolved ([`public`](super::public));
//! here is what the URL may be, and where a redirect may lead.

use crate::config::{Provider, Url};
use crate::dialect::image;
use crate::fault::{Failure, Kind, Side};
use crate::proxy::call::{Call, Place};
use crate::proxy::errand::{Errand, Next, Purpose, Reply, Setting};
use crate::proxy::order::Intake;
use crate::proxy::upload::{self, Aim};

/// What images are asked for as.
const ACCEPT: &str = "image/jpeg, image/png, image/tiff, image/bmp";
/// Redirects that are followed.
const REDIRECTS_MAX: u32 = 5;

/// The errand that fetches an image.
///
/// # Errors
/// 400: the URL cannot be used.
pub(crate) fn errand(
    provider: &Provider,
    intake: &Intake,
    url: &str,
    aim: Aim,
) -> Result<Errand, Failure> {
    let parsed = image::fetchable(url).map_err(|why| refused(aim.number, url, &why))?;
    step(provider, intake, parsed, aim, REDIRECTS_MAX)
}

fn step(
    provider: &Provider,
    intake: &Intake,
    url: Url,
    aim: Aim,
    redirects_left: u32,
) -> Result<Errand, Failure> {
    let index = aim.provider();
    let mut call = Call::get(index, Place::Stranger(Box::new(url.clone()))).accepting(ACCEPT);
    call.write(provider, intake, Vec::new())?;
    let purpose = Box::new(Fetch { url, aim, redirects_left });
    Ok(Errand { call, reply_bytes_max: image::BYTES_MAX, purpose })
}

/// An image is fetched.
struct Fetch {
    url: Url,
    aim: Aim,
    redirects_left: u32,
}

impl std::fmt::Debug for Fetch {
    /// Never shows a query, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetch({})", self.shown())
    }
}

impl Fetch {
    /// The URL for people.
    fn shown(&self) -> String {
        let Url { host, path, .. } = &self.url;
        image::shown(&format!("https://{host}{path}"))
    }

    /// Where a reply redirects to.
    fn redirected(&self, reply: &Reply<'_>) -> Result<Url, Failure> {
        let location = reply.head.location().unwrap_or_default();
        let next = match self.redirects_left {
            0 => Err(format!("it is redirected more than {REDIRECTS_MAX} times")),
            _ => follow(&self.url, location)
                .map_err(|why| format!("it is redirected to what cannot be followed: {why}")),
        };
        next.map_err(|why| refused(self.aim.number, &self.shown(), &why))
    }
}

impl Purpose for Fetch {
    fn done(self: Box<Self>, reply: &Reply<'_>, mut setting: Setting<'_>) -> Result<Next, Failure> {
        let read = match reply.head.status {
            300.. => self.redirected(reply).map(Err),
            _ => {
                let media = reply.head.media().unwrap_or_default();
                image::check(reply.body, media, self.aim.number).map(Ok)
            }
        };
        match read {
            Ok(Ok(format)) => upload::fetched(format, reply.body, self.aim, &mut setting),
            Ok(Err(next)) => {
                let left = self.redirects_left.saturating_sub(1);
                let errand = step(setting.provider, setting.intake, next, self.aim, left)?;
                Ok(Next::Errands(vec![errand]))
            }
            Err(failure) => upload::without(&self.aim, failure, setting),
        }
    }

    fn takes_redirects(&self) -> bool {
        true
    }

    fn recover(
        self: Box<Self>,
        failure: Failure,
        mut setting: Setting<'_>,
    ) -> Result<Next, Failure> {
        if failure.fault.side == Side::Upstream && upload::kept(&self.aim, &mut setting) {
            return Ok(Next::GoOn);
        }
        let own = failure.fault.side != Side::Upstream;
        let failure = self.failed(failure);
        if own { Err(failure) } else { upload::without(&self.aim, failure, setting) }
    }

    fn failed(&self, failure: Failure) -> Failure {
        if failure.fault.side != Side::Upstream {
            return failure;
        }
        // The host is the client's choice, so it is the request that cannot be served. Of what
        // happened with the host no more is told than the client needs.
        let why = match failure.fault.kind {
            Kind::TooLarge => return image::too_large(self.aim.number),
            Kind::Unreachable => "its host cannot be reached",
            Kind::Truncated => "its host broke off",
            Kind::BadReply => "its host's reply cannot be used",
            Kind::Timeout => "its host takes too long",
            _ => failure.message.as_str(),
        };
        refused(self.aim.number, &self.shown(), why)
    }
}

fn refused(number: usize, url: &str, why: &str) -> Failure {
    let why = format!("cannot be fetched from `{}`: {why}", image::shown(url));
    image::refused(number, Kind::BadRequest, &why).with_code(image::URL_CODE)
}

/// Where a redirect leads (RFC 9110, section 10.2.2; RFC 3986, section 5.2).
fn follow(from: &Url, location: &str) -> Result<Url, String> {
    let host = match from.host.contains(':') {
        true => format!("[{}]", from.host),
        false => from.host.clone(),
    };
    let base = format!("https://{host}:{}", from.port);
    let path = from.path.split('?').next().unwrap_or_default();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    let has_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    image::fetchable(&match location {
        "" => return Err("the redirect names no place".to_owned()),
        _ if has_scheme => location.to_owned(),
        _ if location.starts_with("//") => format!("https:{location}"),
        _ if location.starts_with('/') => format!("{base}{location}"),
        _ if location.starts_with('?') => format!("{base}{path}{location}"),
        _ => format!("{base}{folder}/{location}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::fetchable;

    #[test]
    fn redirects_lead_where_they_say_and_stay_in_tls() {
        let from = fetchable("https://a.example:8443/x/y?z=1#f").unwrap();
        for (location, expected) in [
            ("https://b.example/i.png", Some("b.example:443/i.png")),
            ("//b.example/i.png", Some("b.example:443/i.png")),
            ("/i.png#f", Some("a.example:8443/i.png")),
            ("i.png", Some("a.example:8443/x/i.png")),
            ("?q", Some("a.example:8443/x/y?q")),
            ("i:1.png", None),
            ("./i.png", None),
            ("../i.png", None),
            ("http://b.example/i.png", None),
            ("file:///etc/passwd", None),
            ("https://user@b.example/", None),
            ("https:i.png", None),
            ("", None),
        ] {
            let found = follow(&from, location).ok();
            let found = found.map(|url| format!("{}:{}{}", url.host, url.port, url.path));
            assert_eq!(found.as_deref(), expected, "{location}");
        }
        let six = fetchable("https://[2001:db8::1]/a/b").unwrap();
        assert_eq!(follow(&six, "c").unwrap().path, "/a/c");
    }
}
