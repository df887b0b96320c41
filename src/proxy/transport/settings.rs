//! Whom we trust in TLS, and who we are: roots, certificates and keys, all read from PEM.

use super::words::{Peer, explain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore};
use rustls::{ServerConfig, SignatureScheme, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The TLS settings of every provider, and those towards clients: shared by all workers.
#[derive(Debug)]
pub struct TlsTable {
    /// By provider index; `None` for a provider that was not named.
    providers: Vec<Option<Client>>,
    /// With the built-in roots and nothing else; made when it is needed.
    public: OnceLock<Option<Arc<ClientConfig>>>,
    /// `None` while clients speak in the clear. Looked at once a connection.
    server: RwLock<Option<Arc<ServerConfig>>>,
}

/// What is needed to speak TLS to one provider, and to tell why that failed.
#[derive(Debug)]
struct Client {
    config: Arc<ClientConfig>,
    has_roots: bool,
    has_identity: bool,
    issuer: Option<&'static str>,
}

/// Whom to believe towards one provider, and who to be there.
#[derive(Default)]
pub struct Trust {
    /// Certificates (PEM, any number) trusted next to the built-in web roots; may be empty.
    pub roots: Vec<u8>,
    /// Who we are, for a provider that asks (mutual TLS).
    pub identity: Option<Identity>,
    /// Believe any certificate. The peer still has to own it.
    pub unverified: bool,
    /// What is known of the provider's issuer where the built-in roots lack it: who it is and where
    /// to get its root, in one sentence. Told when the issuer is unknown.
    pub issuer: Option<&'static str>,
}

/// A certificate with its key.
pub struct Identity {
    /// The chain in PEM, our own certificate first.
    pub certificate: Vec<u8>,
    /// The private key in PEM: PKCS#8, PKCS#1 or SEC1, not encrypted. May be the same file.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl TlsTable {
    /// Sets up TLS towards providers, by their index.
    ///
    /// # Errors
    /// As [`TlsTable::set_provider`].
    pub fn new(providers: &[(usize, Trust)]) -> Result<Self, String> {
        let (public, server) = (OnceLock::new(), RwLock::new(None));
        let mut table = Self { providers: Vec::new(), public, server };
        for (index, trust) in providers {
            table.set_provider(*index, trust)?;
        }
        Ok(table)
    }

    /// Sets up TLS towards the provider of this index.
    ///
    /// # Errors
    /// A certificate or key that is missing in its text, cannot be read or is refused, in words for
    /// people.
    pub fn set_provider(&mut self, index: usize, trust: &Trust) -> Result<(), String> {
        if self.providers.len() <= index {
            self.providers.resize_with(index + 1, || None);
        }
        let client = Client {
            config: Arc::new(client_config(trust)?),
            has_roots: !trust.roots.is_empty(),
            has_identity: trust.identity.is_some(),
            issuer: trust.issuer,
        };
        if let Some(slot) = self.providers.get_mut(index) {
            *slot = Some(client);
        }
        Ok(())
    }

    /// From now on, new connections of clients speak TLS with this certificate chain and its key,
    /// both in PEM. Those that are there keep what they began with.
    ///
    /// # Errors
    /// No certificate, no key, or a key that is not the certificate's, in words for people; what
    /// was served before stays.
    pub fn set_server(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), String> {
        self.set_server_for(certificate_pem, key_pem, None)
    }

    /// The same; with certificates of authorities (PEM) only for clients that show a certificate
    /// of one of them.
    ///
    /// # Errors
    /// As [`TlsTable::set_server`], and authorities that cannot be read.
    pub fn set_server_for(
        &self,
        certificate_pem: &[u8],
        key_pem: &[u8],
        client_ca_pem: Option<&[u8]>,
    ) -> Result<(), String> {
        let config = Arc::new(server_config(certificate_pem, key_pem, client_ca_pem)?);
        *self.server.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
        Ok(())
    }

    /// The configuration for a new connection of a client; `None` means in the clear.
    #[must_use]
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration of a provider.
    #[must_use]
    pub fn config(&self, provider: usize) -> Option<&Arc<ClientConfig>> {
        self.client(provider).map(|client| &client.config)
    }

    /// The configuration for hosts that are no provider's: whatever is configured for providers
    /// (other roots, a client certificate, no verification) is not for them.
    #[must_use]
    pub fn public(&self) -> Option<&Arc<ClientConfig>> {
        let made = || client_config(&Trust::default()).ok().map(Arc::new);
        self.public.get_or_init(made).as_ref()
    }

    /// Hosts that are no provider's are believed by these roots too.
    ///
    /// # Errors
    /// As [`TlsTable::set_provider`].
    #[cfg(test)]
    pub(crate) fn set_public(&mut self, trust: &Trust) -> Result<(), String> {
        self.public = OnceLock::from(Some(Arc::new(client_config(trust)?)));
        Ok(())
    }

    /// Why TLS with a host of this provider failed and what to do, in words for people; `None` when
    /// the error is none of TLS, or one that says nothing of certificates.
    #[must_use]
    pub fn explain(&self, provider: usize, host: &str, why: &io::Error) -> Option<String> {
        explain(why, &self.client(provider)?.peer(host))
    }

    /// TLS with the provider's settings over a stream that blocks, for what is not of an exchange.
    /// Its errors are in words for people.
    ///
    /// # Errors
    /// Nothing was set up for the provider, or the host is no name that a certificate could have.
    pub fn blocking<S: Read + Write>(
        &self,
        provider: usize,
        host: &str,
        stream: S,
    ) -> Result<impl Read + Write + use<S>, String> {
        let client = self.client(provider).ok_or("no TLS was set up for it")?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("\"{host}\" is no host name for TLS"))?;
        let tls = ClientConnection::new(Arc::clone(&client.config), name)
            .map_err(|why| format!("TLS cannot begin: {why}"))?;
        Ok(Blocking { stream: StreamOwned::new(tls, stream), peer: client.peer(host) })
    }

    fn client(&self, provider: usize) -> Option<&Client> {
        self.providers.get(provider)?.as_ref()
    }
}

impl Client {
    fn peer(&self, host: &str) -> Peer {
        Peer {
            host: host.to_owned(),
            has_roots: self.has_roots,
            has_identity: self.has_identity,
            issuer: self.issuer,
        }
    }
}

/// A stream that tells why its TLS failed.
struct Blocking<S: Read + Write> {
    stream: StreamOwned<ClientConnection, S>,
    peer: Peer,
}

impl<S: Read + Write> Blocking<S> {
    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|why| match explain(&why, &self.peer) {
            Some(words) => io::Error::new(why.kind(), words),
            None => why,
        })
    }
}

impl<S: Read + Write> Read for Blocking<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let result = self.stream.read(into);
        self.told(result)
    }
}

impl<S: Read + Write> Write for Blocking<S> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let result = self.stream.write(from);
        self.told(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.flush();
        self.told(result)
    }
}

pub(super) fn client_config(trust: &Trust) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if !trust.roots.is_empty() {
        add_roots(&trust.roots, &mut roots)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS cannot be set up: {why}"))?;
    let builder = if trust.unverified {
        let anybody = Arc::new(Anybody { provider });
        builder.dangerous().with_custom_certificate_verifier(anybody)
    } else {
        builder.with_root_certificates(roots)
    };
    let Some(identity) = &trust.identity else { return Ok(builder.with_no_client_auth()) };
    let certificates = chain(&identity.certificate, "client certificate")?;
    let key = private_key(&identity.key)?;
    builder.with_client_auth_cert(certificates, key).map_err(|why| unfit(&why))
}

fn add_roots(text: &[u8], roots: &mut RootCertStore) -> Result<(), String> {
    for (number, certificate) in (1..).zip(chain(text, "CA")?) {
        roots.add(certificate).map_err(|why| {
            format!("certificate number {number} of the CA file is refused: {why}")
        })?;
    }
    Ok(())
}

pub(super) fn server_config(
    certificate: &[u8],
    key: &[u8],
    client_roots: Option<&[u8]>,
) -> Result<ServerConfig, String> {
    let certificates = chain(certificate, "certificate")?;
    let key = private_key(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match client_roots {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(text) => {
            let mut roots = RootCertStore::empty();
            add_roots(text, &mut roots)?;
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|why| format!("clients' certificates cannot be checked: {why}"))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS cannot be set up: {why}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|why| unfit(&why))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a PEM text, at least one. `what` names the file.
fn chain(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut all = Vec::new();
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(text)) {
        let wrong =
            |why| format!("certificate number {number} of the {what} file is broken: {why}");
        all.push(certificate.map_err(wrong)?);
    }
    if !all.is_empty() {
        return Ok(all);
    }
    Err(if is_der(text) {
        format!(
            "the {what} file is in DER, and PEM is needed: make it with \
             `openssl x509 -inform der -in FILE -out FILE.pem`"
        )
    } else {
        format!("the {what} file holds no PEM certificate")
    })
}

/// The first private key of a PEM text.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // Before parsing: the header lines of the older form are no legal base64.
    if is_encrypted(text) {
        return Err(
            "the private key is encrypted, and no password is taken for it: decrypt it with \
                    `openssl pkey -in KEY -out KEY.plain`, which asks for the password, and name \
                    the new file, readable for its owner alone"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|why| match why {
        pem::Error::NoItemsFound if is_der(text) => {
            "the key file is in DER, and PEM is needed: make it with \
             `openssl pkey -inform der -in FILE -out FILE.pem`"
                .to_owned()
        }
        pem::Error::NoItemsFound => "the key file holds no PEM private key".to_owned(),
        why => format!("the private key cannot be read: {why}"),
    })
}

/// Whether the first key is an encrypted one, of PKCS#8 or of the older form (RFC 1421).
fn is_encrypted(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let is_key = |line: &&[u8]| line.starts_with(b"-----BEGIN") && line.ends_with(b"KEY-----");
    let first = lines.by_ref().find(is_key);
    first.is_some_and(|line| line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || lines.next().is_some_and(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"))
}

/// Whether a text begins as a DER sequence of more than 255 bytes does (X.690, section 8.1).
fn is_der(text: &[u8]) -> bool {
    text.starts_with(&[0x30, 0x82])
}

fn unfit(why: &rustls::Error) -> String {
    match why {
        rustls::Error::InconsistentKeys(_) => {
            "the private key does not belong to the certificate".to_owned()
        }
        why => format!("the certificate or its key is refused: {why}"),
    }
}

/// Believes any certificate, of which the peer still has to prove that it owns the key.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (pem, der) = (made.cert.pem().into_bytes(), made.cert.der().to_vec());
        (pem, made.signing_key.serialize_pem().into_bytes(), der)
    }

    #[test]
    fn a_bundle_may_hold_many_certificates_and_words_between_them() {
        let (first, key, _) = made("a.example");
        let (second, ..) = made("b.example");
        let text = [&b"The roots:\n"[..], &first, b"\n# another\n\r\n", &key, &second].concat();
        assert_eq!(chain(&text, "CA").unwrap().len(), 2);
        let trust = Trust { roots: text, ..Trust::default() };
        client_config(&trust).unwrap();
    }

    #[test]
    fn files_of_no_use_are_told_of() {
        let (certificate, key, der) = made("a.example");
        let (other, ..) = made("b.example");
        let broken = [&certificate[..], b"-----BEGIN CERTIFICATE-----\n?\n"].concat();
        let marked = |label: &str| {
            format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n").into_bytes()
        };
        let empty = marked("CERTIFICATE");
        for (roots, words) in [
            (&b"hello"[..], "the CA file holds no PEM certificate"),
            (&key, "the CA file holds no PEM certificate"),
            (&der, "the CA file is in DER, and PEM is needed: make it with `openssl x509 -inform"),
            (&broken, "certificate number 2 of the CA file is broken: "),
            (&empty, "certificate number 1 of the CA file is refused: "),
        ] {
            let error = client_config(&Trust { roots: roots.to_vec(), ..Trust::default() });
            let error = error.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let old = b"-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: A\r\n";
        for (certificate, key, words) in [
            (&key, &key, "the client certificate file holds no PEM certificate"),
            (&der, &key, "the client certificate file is in DER"),
            (&certificate, &certificate, "the key file holds no PEM private key"),
            (&certificate, &der, "the key file is in DER"),
            (&certificate, &marked("ENCRYPTED PRIVATE KEY"), "decrypt it with `openssl pkey -in"),
            (&certificate, &old.to_vec(), "the private key is encrypted"),
            (&certificate, &marked("PRIVATE KEY"), "its key is refused"),
            (&other, &key, "the private key does not belong to the certificate"),
        ] {
            let identity = Identity { certificate: certificate.clone(), key: key.clone() };
            let error = client_config(&Trust { identity: Some(identity), ..Trust::default() });
            let error = error.unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn certificate_and_key_may_be_in_one_file() {
        let (certificate, key, _) = made("a.example");
        for both in [[&certificate[..], &key], [&key, &certificate]] {
            let both = both.concat();
            let identity = Identity { certificate: both.clone(), key: both };
            client_config(&Trust { identity: Some(identity), ..Trust::default() }).unwrap();
        }
    }
}
