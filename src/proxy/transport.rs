//! Bytes on a connection, in the clear or in TLS (rustls, RFC 8446). The only file that names rustls.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// The TLS settings of every provider: built once, shared by all workers.
#[derive(Debug)]
pub struct TlsTable {
    /// By provider index; `None` for a provider that was not named.
    configs: Vec<Option<Arc<ClientConfig>>>,
}

impl TlsTable {
    /// Builds a client configuration for each `(provider index, extra CA certificates in PEM)`:
    /// the built-in web roots, and the extra ones if the bytes are not empty.
    ///
    /// # Errors
    /// The PEM bytes hold no certificate, or one that cannot be read, in words for people.
    pub fn new(providers: &[(usize, Vec<u8>)]) -> Result<Self, String> {
        let mut configs = Vec::new();
        for (index, pem) in providers {
            if configs.len() <= *index {
                configs.resize(index + 1, None);
            }
            if let Some(slot) = configs.get_mut(*index) {
                *slot = Some(Arc::new(client_config(pem)?));
            }
        }
        Ok(Self { configs })
    }

    /// The configuration of a provider.
    #[must_use]
    pub fn config(&self, provider: usize) -> Option<&Arc<ClientConfig>> {
        self.configs.get(provider)?.as_ref()
    }
}

fn client_config(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if !pem.is_empty() {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|why| format!("a CA certificate cannot be read: {why}"))?;
            roots.add(certificate).map_err(|why| format!("a CA certificate is refused: {why}"))?;
            count += 1;
        }
        if count == 0 {
            return Err("the CA file holds no PEM certificate".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS cannot be set up: {why}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
