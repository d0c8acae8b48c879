//! Revert data in words.

use std::fmt;

use alloy::{
    primitives::Bytes,
    sol_types::{Revert, SolError, SolInterface},
};

use crate::contracts::{
    Attestation::AttestationErrors, BridgedToken::BridgedTokenErrors,
    ChallengeWindow::ChallengeWindowErrors, L2TokenBridge::L2TokenBridgeErrors,
    MessagePasser::MessagePasserErrors, Rollup::RollupErrors, TokenBridge::TokenBridgeErrors,
};

/// The error of one of these contracts in words, as the generated `Debug` reads: `Name(Name { field: value, .. })`.
macro_rules! in_words {
    ($data:expr, $($errors:ty),+) => {
        None$(.or_else(|| Some(format!("{:?}", <$errors>::abi_decode($data).ok()?))))+
    };
}

/// Why a contract reverted.
#[derive(Clone, PartialEq, Eq)]
pub struct RevertReason {
    data: Bytes,
}

impl RevertReason {
    /// Wraps the data that the call reverted with, which may be empty.
    pub const fn new(data: Bytes) -> Self {
        Self { data }
    }

    /// The data as it came.
    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// The rollup contract's error, if it is one.
    pub fn rollup_error(&self) -> Option<RollupErrors> {
        RollupErrors::abi_decode(&self.data).ok()
    }

    /// The name of the rollup contract's error, if it is one: a stable label.
    pub fn rollup_error_name(&self) -> Option<&'static str> {
        let selector = self.data.get(..4)?.try_into().ok()?;
        RollupErrors::name_by_selector(selector)
    }
}

impl fmt::Display for RevertReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.data.is_empty() {
            return f.write_str("no reason given");
        }
        let ours = in_words!(
            &self.data,
            RollupErrors,
            AttestationErrors,
            ChallengeWindowErrors,
            TokenBridgeErrors,
            MessagePasserErrors,
            L2TokenBridgeErrors,
            BridgedTokenErrors
        );
        if let Some(error) = ours {
            return f.write_str(&error);
        }
        if let Ok(revert) = Revert::abi_decode(&self.data) {
            return write!(f, "{:?}", revert.reason);
        }
        write!(f, "data {}", self.data)
    }
}

impl fmt::Debug for RevertReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevertReason({self})")
    }
}
