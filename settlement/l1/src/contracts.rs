//! Bindings to the contracts, generated from the committed artifacts, and conversions into domain types.

use alloy::sol;
use millrace_proto::{BatchHeader, Commitment, DaKind, Deposit, L1Ref, UnknownDaKind};

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    Rollup,
    "../contracts/artifacts/Rollup.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    TokenBridge,
    "../contracts/artifacts/TokenBridge.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    ChallengeWindow,
    "../contracts/artifacts/ChallengeWindow.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    Attestation,
    "../contracts/artifacts/Attestation.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    TimelockController,
    "../contracts/artifacts/TimelockController.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    TransparentUpgradeableProxy,
    "../contracts/artifacts/TransparentUpgradeableProxy.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    MessagePasser,
    "../contracts/artifacts/MessagePasser.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    L2TokenBridge,
    "../contracts/artifacts/L2TokenBridge.json"
);

sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    BridgedToken,
    "../contracts/artifacts/BridgedToken.json"
);

impl From<&BatchHeader> for Rollup::BatchHeader {
    fn from(header: &BatchHeader) -> Self {
        Self {
            number: header.number,
            firstBlock: header.first_block,
            lastBlock: header.last_block,
            depositsEnd: header.deposits_end,
            depositsHash: header.deposits_hash,
            digest: header.digest,
            daKind: header.da_kind as u8,
        }
    }
}

impl TryFrom<&Rollup::BatchHeader> for BatchHeader {
    type Error = UnknownDaKind;

    fn try_from(header: &Rollup::BatchHeader) -> Result<Self, UnknownDaKind> {
        Ok(Self {
            number: header.number,
            first_block: header.firstBlock,
            last_block: header.lastBlock,
            deposits_end: header.depositsEnd,
            deposits_hash: header.depositsHash,
            digest: header.digest,
            da_kind: DaKind::try_from(header.daKind)?,
        })
    }
}

impl From<&Commitment> for Rollup::Commitment {
    fn from(commitment: &Commitment) -> Self {
        Self {
            number: commitment.batch,
            previous: commitment.previous,
            batchHash: commitment.batch_hash,
            firstBlock: commitment.first_block,
            lastBlock: commitment.last_block,
            lastBlockHash: commitment.last_block_hash,
            stateRoot: commitment.state_root,
            messageRoot: commitment.message_root,
            committedAt: commitment.committed_at,
            finalAt: commitment.final_at,
        }
    }
}

/// The domain type of a commitment that the given transaction made.
pub(crate) const fn commitment(event: &Rollup::Commitment, l1: L1Ref) -> Commitment {
    Commitment {
        batch: event.number,
        previous: event.previous,
        batch_hash: event.batchHash,
        first_block: event.firstBlock,
        last_block: event.lastBlock,
        last_block_hash: event.lastBlockHash,
        state_root: event.stateRoot,
        message_root: event.messageRoot,
        committed_at: event.committedAt,
        final_at: event.finalAt,
        l1,
    }
}

/// The domain type of a queued deposit.
pub(crate) fn deposit(event: Rollup::DepositQueued) -> Deposit {
    Deposit {
        index: event.index,
        from: event.from,
        to: event.to,
        value: event.value,
        gas_limit: event.gasLimit,
        data: event.data,
    }
}
