//! TLS towards upstreams: whom the proxy believes, who it is there, and what is said when that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::Arc;
use support::{Patchbay, Reply, Then, Upstream, chat_text, reply_stream};

const ASK: &str = r#"{"model":"m","input":"hello","stream":true}"#;

/// An authority of its own, and the files of a test.
struct Place {
    folder: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate of [`Place::root`] with its key.
struct Made {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Place {
    fn new() -> Self {
        let root = root("Root of this test");
        let place = Self { folder: tempfile::tempdir().unwrap(), root };
        place.write("root.pem", place.root.pem());
        place
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Made { certificate: params.signed_by(&key, &self.root).unwrap(), key }
    }

    /// A configuration with one provider at the upstream, and these keys of it.
    fn config(&self, upstream: &Upstream, more: &str) -> String {
        let port = upstream.address.port();
        let text = format!(
            "[server]\nlisten = ['127.0.0.1:0']\nworkers = 1\n[providers.vendor]\n\
             url = 'https://127.0.0.1:{port}/v1/chat/completions'\n{more}\n"
        );
        self.write("patchbay.toml", text)
    }

    fn start(&self, upstream: &Upstream, more: &str) -> Patchbay {
        Patchbay::start(&["--config", &self.config(upstream, more)])
    }

    /// What a start that fails says.
    fn refused(&self, upstream: &Upstream, more: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.env_clear().current_dir(self.folder.path());
        let out = command.args(["serve", "--config", &self.config(upstream, more)]);
        let out = out.output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        String::from_utf8(out.stderr).unwrap()
    }
}

fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An upstream that has this certificate and answers with "in TLS".
fn upstream(
    made: &Made,
    versions: &[&'static SupportedProtocolVersion],
    clients_of: Option<&CertifiedIssuer<'static, KeyPair>>,
) -> Upstream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients_of {
        None => builder.with_no_client_auth(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(made.key.serialize_der());
    let config = builder.with_single_cert(vec![made.certificate.der().clone()], key.into());
    let config = Arc::new(config.unwrap());
    let script = |_: &support::Received, wire: &mut dyn support::Wire| {
        reply_stream(wire, &chat_text("in TLS"));
        Then::Keep
    };
    Upstream::start_wrapped(script, move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        Ok(StreamOwned::new(session, stream))
    })
}

fn ask(patchbay: &Patchbay) -> Reply {
    patchbay.post("/v1/responses", ASK)
}

fn assert_served(patchbay: &Patchbay) {
    let reply = ask(patchbay);
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    assert!(reply.text().contains("in TLS"), "{reply:?}");
}

/// The message of a request that did not get through.
fn failed(patchbay: &Patchbay) -> String {
    let reply = ask(patchbay);
    assert_eq!(reply.status, 502, "{reply:?}");
    let error = reply.json()["error"].clone();
    assert_eq!(error["code"], "upstream_unreachable", "{error}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_unknown_root_is_told_with_its_remedy_and_believed_when_it_is_named() {
    let place = Place::new();
    let upstream = upstream(&place.issue("127.0.0.1", |_| {}), &[&TLS13], None);
    let message = failed(&place.start(&upstream, ""));
    assert!(message.contains("issued by nobody whom the built-in roots know"), "{message}");
    assert!(message.contains("with `ca_file` or --ca-file"), "{message}");
    assert!(!message.contains("gosuslugi"), "{message}");
    let message = failed(&place.start(&upstream, "dialect = 'gigachat'"));
    assert!(message.contains("Russian Trusted Root CA"), "{message}");
    assert!(message.contains("https://www.gosuslugi.ru/crt"), "{message}");
    assert!(message.contains("GIGACHAT_CA_BUNDLE_FILE"), "{message}");
    assert!(upstream.received.try_recv().is_err(), "nothing is sent to a stranger");

    place.write("other.pem", root("Another root").pem());
    let message = failed(&place.start(&upstream, "ca_file = 'other.pem'"));
    assert!(message.contains("and those of the CA file know"), "{message}");

    // A bundle with others in it, by the file's key and by the flag.
    let bundle =
        place.write("bundle.pem", root("Another root").pem() + "\n# ours\n" + &place.root.pem());
    assert_served(&place.start(&upstream, "ca_file = 'bundle.pem'"));
    let config = place.config(&upstream, "");
    assert_served(&Patchbay::start(&["--config", &config, "--ca-file", &bundle]));
}

#[test]
fn a_certificate_of_another_name_or_time_is_told_of() {
    let place = Place::new();
    let others = place.issue("wrong.example", |params| {
        params.subject_alt_names.push(rcgen::SanType::DnsName("more.example".try_into().unwrap()));
    });
    let message = failed(&place.start(&upstream(&others, &[&TLS13], None), "ca_file = 'root.pem'"));
    let words = "its certificate is not for \"127.0.0.1\" but for wrong.example, more.example";
    assert!(message.contains(words), "{message}");
    let own = place.issue("127.0.0.1", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let message = failed(&place.start(&upstream(&own, &[&TLS13], None), "ca_file = 'root.pem'"));
    assert!(message.contains("it needs one without CA:TRUE"), "{message}");
    for (year, words) in [(1990, "its certificate expired "), (2990, "is not valid yet")] {
        let made = place.issue("127.0.0.1", |params| {
            params.not_before = rcgen::date_time_ymd(year, 1, 1);
            params.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
        });
        let upstream = upstream(&made, &[&TLS13], None);
        let message = failed(&place.start(&upstream, "ca_file = 'root.pem'"));
        assert!(message.contains(words), "{message}");
        assert!(message.contains("look at the clock"), "{message}");
    }
}

#[test]
fn an_upstream_without_tls_is_told_of() {
    let place = Place::new();
    // It answers with HTTP to whatever comes.
    let upstream = Upstream::start_wrapped(
        |_, _| Then::Close,
        |mut stream| {
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
            Ok(stream)
        },
    );
    let message = failed(&place.start(&upstream, ""));
    assert!(message.contains("it does not speak TLS there"), "{message}");
}

#[test]
fn checking_can_be_switched_off_for_one_provider_and_warns_at_each_start() {
    let place = Place::new();
    let upstream = upstream(&place.issue("wrong.example", |_| {}), &[&TLS12, &TLS13], None);
    let port = upstream.address.port();
    let strict = format!("[providers.strict]\nurl = 'https://127.0.0.1:{port}/v1'\nmodels = ['s']");
    let more = format!("verify_tls = false\nmodels = ['m']\n{strict}");
    for _ in 0..2 {
        // Even where nothing else is logged.
        let config = place.config(&upstream, &more);
        let patchbay = Patchbay::start(&["--config", &config, "--log-level", "off"]);
        assert_served(&patchbay);
        assert_served(&patchbay);
        let reply = patchbay.post("/v1/responses", &ASK.replace("\"m\"", "\"s\""));
        assert_eq!(reply.status, 502, "the other provider still checks: {reply:?}");
        let log = patchbay.log();
        let warnings: Vec<_> = log.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains("provider vendor are not checked"), "{log}");
        assert!(warnings[0].contains("verify_tls"), "{log}");
    }
    for (written, warns) in [("true", false), ("'False'", true), ("'${GONE:-0}'", true)] {
        let patchbay = place.start(&upstream, &format!("verify_tls = {written}"));
        assert_eq!(patchbay.log().contains("are not checked"), warns, "{written}");
    }
}

#[test]
fn a_client_certificate_is_shown_to_those_who_ask() {
    let place = Place::new();
    let made = place.issue("me", |_| {});
    place.write("me.pem", made.certificate.pem());
    place.write("me.key", made.key.serialize_pem());
    place.write("both.pem", made.key.serialize_pem() + &made.certificate.pem());
    let others = Place { folder: tempfile::tempdir().unwrap(), root: root("Another root") };
    let stranger = others.issue("me", |_| {});
    place.write("stranger.pem", stranger.key.serialize_pem() + &stranger.certificate.pem());
    for version in [&TLS12, &TLS13] {
        let server = place.issue("127.0.0.1", |_| {});
        let upstream = upstream(&server, &[version], Some(&place.root));
        for client in [
            "client_certificate = { certificate = 'me.pem', key = 'me.key' }",
            "client_certificate = { certificate = 'both.pem', key = '' }",
        ] {
            assert_served(&place.start(&upstream, &format!("ca_file = 'root.pem'\n{client}")));
        }
        for empty in ["", "client_certificate = { certificate = '', key = '' }"] {
            let message =
                failed(&place.start(&upstream, &format!("ca_file = 'root.pem'\n{empty}")));
            assert!(message.contains("wants a client certificate"), "{version:?}: {message}");
            assert!(message.contains("`client_certificate`"), "{version:?}: {message}");
        }
        let client = "ca_file = 'root.pem'\nclient_certificate = { certificate = 'stranger.pem' }";
        let message = failed(&place.start(&upstream, client));
        assert!(message.contains("refuses our client certificate"), "{version:?}: {message}");
    }
}

#[test]
fn files_of_no_use_end_the_start_with_words() {
    let place = Place::new();
    let made = place.issue("me", |_| {});
    place.write("me.pem", made.certificate.pem());
    place.write("root.der", place.root.der());
    let label = "ENCRYPTED PRIVATE KEY";
    place.write("locked.key", format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"));
    place.write("empty.pem", "");
    let upstream = Upstream::start(|_, _| Then::Close);
    for (more, words) in [
        ("ca_file = 'gone.pem'", &["cannot read the CA file ", "gone.pem: "][..]),
        ("ca_file = 'root.der'", &["is in DER", "openssl x509 -inform der", "root.der)"]),
        ("ca_file = 'locked.key'", &["holds no PEM certificate (CA file ", "locked.key)"]),
        ("ca_file = 'empty.pem'", &["the CA file is empty"]),
        (
            "client_certificate = { certificate = 'me.pem' }",
            &["the key file holds no PEM private key"],
        ),
        (
            "client_certificate = { certificate = 'me.pem', key = 'locked.key' }",
            &["is encrypted", "`openssl pkey -in KEY -out KEY.plain`", "locked.key)"],
        ),
        (
            "client_certificate = { certificate = 'gone.pem', key = 'locked.key' }",
            &["cannot read the client certificate ", "gone.pem: "],
        ),
        ("client_certificate = { key = 'me.pem' }", &["a key needs its `certificate`"]),
        ("verify_tls = 'perhaps'", &["neither true nor false"]),
    ] {
        let said = place.refused(&upstream, more);
        let general = more.starts_with("verify_tls");
        assert!(general || said.contains("[providers.vendor] "), "{more}: {said}");
        for words in words {
            assert!(said.contains(words), "{more}: {said}");
        }
    }
}
