//! What a client trusts, and shows, at a public port.

use std::{io, path::PathBuf};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig},
};

/// What a client trusts, and shows. By default it trusts the system's certificate authorities, and shows nothing.
#[derive(Debug, Clone, Default)]
pub struct Access {
    authority: Option<Certificate>,
    token: ShowToken,
}

/// A client's calls on the wire.
pub type Transport = InterceptedService<Channel, ShowToken>;

/// Shows a token with every call, if there is one.
#[derive(Debug, Clone, Default)]
pub struct ShowToken(Option<MetadataValue<Ascii>>);

/// Why a client has no access to give.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file is missing, or may not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a certificate.
    #[error("{} holds no certificate in PEM form", path.display())]
    Authority {
        /// Which.
        path: PathBuf,
    },
    /// Not a token.
    #[error("the token is empty, or does not fit into a header")]
    Token,
}

impl Access {
    /// Trusts only servers whose certificate one of this PEM file's has signed.
    ///
    /// # Errors
    /// When the file cannot be read, or holds none.
    pub fn trusting(mut self, path: PathBuf) -> Result<Self, AccessError> {
        let pem = match std::fs::read(&path) {
            Ok(pem) => pem,
            Err(source) => return Err(AccessError::Read { path, source }),
        };
        let begin = b"-----BEGIN CERTIFICATE-----";
        if !pem.windows(begin.len()).any(|window| window == begin) {
            return Err(AccessError::Authority { path });
        }
        self.authority = Some(Certificate::from_pem(pem));
        Ok(self)
    }

    /// Shows this token with every call.
    ///
    /// # Errors
    /// When it is none.
    pub fn showing(mut self, token: &str) -> Result<Self, AccessError> {
        let token = token.trim();
        let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| AccessError::Token)?;
        if token.is_empty() {
            return Err(AccessError::Token);
        }
        value.set_sensitive(true);
        self.token = ShowToken(Some(value));
        Ok(self)
    }

    pub(super) fn tls(&self) -> ClientTlsConfig {
        match self.authority.clone() {
            Some(authority) => ClientTlsConfig::new().ca_certificate(authority),
            None => ClientTlsConfig::new().with_native_roots(),
        }
    }

    pub(super) fn over(self, channel: Channel) -> Transport {
        InterceptedService::new(channel, self.token)
    }
}

impl Interceptor for ShowToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
