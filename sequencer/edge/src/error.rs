//! Why a public port cannot be opened.

use std::{io, path::PathBuf};

use tokio_rustls::rustls;

/// Why a public port cannot be opened: each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A file is missing, or may not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not PEM, or not what it should hold.
    #[error("{} holds no {wanted} in PEM form", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key is not the certificate's.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The key or the certificate is of a kind that TLS does not take.
    #[error("the certificate in {} or the key in {} cannot be used: {source}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// No token.
    #[error("{} holds no token: one a line, lines that begin with # are comments", path.display())]
    NoToken {
        /// Which.
        path: PathBuf,
    },
    /// A token that could be guessed, or that does not fit into a header.
    #[error("line {line} of {}: a token has at least {least} visible ASCII characters and no spaces", path.display())]
    Token {
        /// Which.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// The shortest.
        least: usize,
    },
}
