//! Why TLS with an upstream failed, in words for people: what is wrong, and which key mends it.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::io;

/// How the library for certificates calls one of an authority where a server's is needed.
const AUTHORITY: &str = "CaUsedAsEndEntity";

/// What is known of the other side.
#[derive(Debug)]
pub(super) struct Peer {
    /// The name that its certificate has to be for.
    pub(super) host: String,
    /// Certificates are trusted next to the built-in roots.
    pub(super) has_roots: bool,
    /// We have a certificate to show.
    pub(super) has_identity: bool,
    /// Who issues its certificates, and where to get that root.
    pub(super) issuer: Option<&'static str>,
}

/// The words for an error; `None` when it is none of TLS, or its own words say as much.
pub(super) fn explain(why: &io::Error, peer: &Peer) -> Option<String> {
    match why.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(why) => Some(certificate(why, peer)),
        Error::AlertReceived(alert) => refusal(*alert, peer),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("it does not speak TLS there: is http:// meant, or another port?".to_owned())
        }
        Error::PeerIncompatible(_) => Some(
            "it speaks neither TLS 1.2 nor TLS 1.3 with a cipher that is still thought safe"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What we find wrong with its certificate.
fn certificate(why: &CertificateError, peer: &Peer) -> String {
    const CLOCK: &str = "if that cannot be, look at the clock of this machine";
    const DAY_S: u64 = 24 * 60 * 60;
    match why {
        CertificateError::UnknownIssuer => unknown_issuer(peer),
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / DAY_S;
            format!("its certificate expired {days} days ago; {CLOCK}")
        }
        CertificateError::Expired => format!("its certificate has expired; {CLOCK}"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet; {CLOCK}")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            // Each is written as `DnsName("a.example")`.
            let names = presented.iter().filter_map(|name| name.split('"').nth(1)).take(4);
            let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
            let names = match names.is_empty() {
                true => "no name that could be this one".to_owned(),
                false => names.join(", "),
            };
            format!("its certificate is not for \"{}\" but for {names}", peer.host)
        }
        CertificateError::Other(other) if other.to_string().contains(AUTHORITY) => {
            "its certificate is an authority's own, with which no server may speak: it needs one \
             without CA:TRUE (openssl req -x509 -addext basicConstraints=critical,CA:FALSE ...)"
                .to_owned()
        }
        CertificateError::NotValidForName => {
            format!("its certificate is not for \"{}\"", peer.host)
        }
        other => format!("its certificate cannot be used: {other}"),
    }
}

fn unknown_issuer(peer: &Peer) -> String {
    let mut words = "its certificate is issued by nobody whom the built-in roots".to_owned();
    words.push_str(if peer.has_roots { " and those of the CA file know" } else { " know" });
    if let Some(issuer) = peer.issuer {
        words.push_str(". ");
        words.push_str(issuer);
    }
    words.push_str(". Name the issuer's root certificate (PEM) with `ca_file` or --ca-file");
    words
}

/// What it does not like of us. In TLS 1.3 this comes behind the handshake, with the first read.
fn refusal(alert: AlertDescription, peer: &Peer) -> Option<String> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::CertificateRequired => {
            "it wants a client certificate: set `client_certificate`".to_owned()
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError
            if peer.has_identity =>
        {
            format!("it refuses our client certificate (`client_certificate`): {alert:?}")
        }
        // What TLS 1.2 has for a missing certificate, and for much else.
        Alert::HandshakeFailure | Alert::BadCertificate | Alert::AccessDenied
            if !peer.has_identity =>
        {
            format!(
                "it refuses the handshake ({alert:?}): perhaps it wants a client certificate \
                 (`client_certificate`)"
            )
        }
        Alert::ProtocolVersion => "it speaks neither TLS 1.2 nor TLS 1.3".to_owned(),
        Alert::UnrecognisedName => format!("it serves no host of the name \"{}\"", peer.host),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        why: Error,
        has_roots: bool,
        has_identity: bool,
        issuer: Option<&'static str>,
    ) -> String {
        let peer = Peer { host: "a.example".to_owned(), has_roots, has_identity, issuer };
        explain(&io::Error::other(why), &peer).unwrap_or_default()
    }

    #[test]
    fn an_unknown_issuer_is_told_with_the_remedy() {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let words = told(unknown(), false, false, None);
        assert!(
            words.ends_with(
                "roots know. Name the issuer's root certificate (PEM) with `ca_file` or --ca-file"
            ),
            "{words}"
        );
        let words = told(unknown(), true, false, Some("They come from X: https://x.example"));
        assert!(
            words.contains("those of the CA file know. They come from X: https://x.example. Name"),
            "{words}"
        );
    }

    #[test]
    fn alerts_say_what_to_do_where_that_is_known() {
        use AlertDescription as Alert;
        for (alert, has_identity, words) in [
            (Alert::CertificateRequired, false, "set `client_certificate`"),
            (Alert::CertificateRequired, true, "set `client_certificate`"),
            (Alert::HandshakeFailure, false, "perhaps it wants a client certificate"),
            (Alert::HandshakeFailure, true, ""),
            (Alert::UnknownCA, true, "it refuses our client certificate"),
            (Alert::UnknownCA, false, ""),
            (Alert::BadCertificate, false, "perhaps"),
            (Alert::ProtocolVersion, false, "neither TLS 1.2 nor TLS 1.3"),
            (Alert::InternalError, false, ""),
        ] {
            let told = told(Error::AlertReceived(alert), false, has_identity, None);
            assert_eq!(told.is_empty(), words.is_empty(), "{alert:?}: {told}");
            assert!(told.contains(words), "{alert:?}: {told}");
        }
    }

    #[test]
    fn what_is_no_error_of_tls_has_its_own_words() {
        let peer =
            Peer { host: String::new(), has_roots: false, has_identity: false, issuer: None };
        assert_eq!(explain(&io::ErrorKind::UnexpectedEof.into(), &peer), None);
        assert_eq!(explain(&io::Error::other("else"), &peer), None);
    }
}
