//! Bearer tokens ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)): whoever shows one that is in a file may call.

use std::path::{Path, PathBuf};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{error::EdgeError, watched::Watched};

/// The shortest token: below, it could be guessed.
const LEAST: usize = 16;

/// The tokens of a file, which is read again when it changes.
#[derive(Debug, Clone)]
pub(crate) struct Tokens(Watched<Vec<[u8; 32]>>);

impl Tokens {
    pub(crate) fn open(path: PathBuf) -> Result<Self, EdgeError> {
        let file = path.clone();
        Watched::new(vec![path], move || read(&file)).map(Self)
    }

    /// Whether a request's headers show one.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(7))
            .is_some_and(|(scheme, token)| {
                scheme.eq_ignore_ascii_case(b"bearer ") && among(&self.0.current(), token)
            })
    }
}

/// Compares digests, all of them: the time says nothing of how much of a token is right.
fn among(known: &[[u8; 32]], token: &[u8]) -> bool {
    let digest: [u8; 32] = Sha256::digest(token).into();
    let any = known.iter().fold(Choice::from(0), |any, known| any | known.ct_eq(&digest));
    any.into()
}

fn read(path: &Path) -> Result<Vec<[u8; 32]>, EdgeError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| EdgeError::Read { path: path.to_owned(), source })?;
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let token = text.trim();
        if token.is_empty() || token.starts_with('#') {
            continue;
        }
        if token.len() < LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EdgeError::Token { path: path.to_owned(), line, least: LEAST });
        }
        tokens.push(Sha256::digest(token).into());
    }
    if tokens.is_empty() {
        return Err(EdgeError::NoToken { path: path.to_owned() });
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Tokens, EdgeError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Tokens::open(file.path().to_owned())
    }

    fn admits(tokens: &Tokens, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        tokens.admit(&headers)
    }

    #[tokio::test]
    async fn only_a_whole_token_of_the_file_is_admitted() {
        let tokens = tokens("# of the exchange\n0123456789abcdef\n\nfedcba9876543210x\n").unwrap();
        assert!(admits(&tokens, "Bearer 0123456789abcdef"));
        assert!(admits(&tokens, "bearer fedcba9876543210x"));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef ",
            "Bearer fedcba9876543210",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer ",
            "Bearer",
            "Bearer # of the exchange",
        ] {
            assert!(!admits(&tokens, wrong), "{wrong}");
        }
        assert!(!tokens.admit(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_file_that_is_of_no_use_is_refused_with_the_reason() {
        for (text, wanted) in [
            ("# nothing\n", "holds no token"),
            ("short\n", "line 1 of"),
            ("0123456789abcdef\nwith a space in between\n", "line 2 of"),
        ] {
            let error = tokens(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        let missing = Tokens::open("/nonexistent/tokens".into()).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nonexistent/tokens: "), "{missing}");
    }
}
