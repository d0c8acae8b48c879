//! TLS: a certificate and its key from PEM files, read again when they change.

use std::{path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        Error, InconsistentKeys, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};

use crate::{config::TlsFiles, error::EdgeError, watched::Watched};

/// Makes TLS connections of TCP connections.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Shows each client the certificate that the files hold now.
#[derive(Debug)]
struct Current(Watched<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current())
    }
}

impl Tls {
    /// TLS 1.2 and 1.3 with the protocols that a client may choose from (ALPN), the preferred one first.
    pub(crate) fn open(files: TlsFiles, protocols: &[&[u8]]) -> Result<Self, EdgeError> {
        let provider = Arc::new(ring::default_provider());
        let (watch, with) = (vec![files.certificate.clone(), files.key.clone()], provider.clone());
        let key = Watched::new(watch, move || certified(&files, &with))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(EdgeError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(key)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self(Arc::new(config).into()))
    }

    pub(crate) async fn accept(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.0.accept(socket).await
    }
}

fn certified(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, EdgeError> {
    let TlsFiles { certificate, key } = files;
    let chain = parse(certificate, "certificate", |bytes| {
        CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()
    })?;
    if chain.is_empty() {
        return Err(EdgeError::Pem { path: certificate.clone(), wanted: "certificate" });
    }
    let der = parse(key, "private key", PrivateKeyDer::from_pem_slice)?;
    let (certificate, key) = (certificate.clone(), key.clone());
    CertifiedKey::from_der(chain, der, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            EdgeError::KeyMismatch { certificate, key }
        }
        source => EdgeError::Unusable { certificate, key, source },
    })
}

fn parse<T>(
    path: &Path,
    wanted: &'static str,
    from: impl FnOnce(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, EdgeError> {
    let bytes =
        std::fs::read(path).map_err(|source| EdgeError::Read { path: path.to_owned(), source })?;
    from(&bytes).map_err(|_| EdgeError::Pem { path: path.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    #[tokio::test]
    async fn each_mistake_has_one_line_that_names_it() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let pair = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (ours, other) = (pair(), pair());
        let certificate = folder.write("cert.pem", &ours.cert.pem());
        let key = folder.write("key.pem", &ours.signing_key.serialize_pem());
        let others = folder.write("other.pem", &other.signing_key.serialize_pem());
        let empty = folder.write("empty.pem", "");
        let nowhere = folder.0.path().join("nowhere.pem");
        let open = |certificate: &Path, key: &Path| {
            let (certificate, key) = (certificate.to_owned(), key.to_owned());
            Tls::open(TlsFiles { certificate, key }, &[b"h2"])
        };
        open(&certificate, &key).unwrap();
        for (certificate, key, wanted) in [
            (&certificate, &others, "does not belong to the certificate in"),
            (&nowhere, &key, "cannot read"),
            (&certificate, &nowhere, "cannot read"),
            (&empty, &key, "empty.pem holds no certificate in PEM form"),
            (&key, &key, "key.pem holds no certificate in PEM form"),
            (&certificate, &certificate, "cert.pem holds no private key in PEM form"),
        ] {
            let error = open(certificate, key).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
