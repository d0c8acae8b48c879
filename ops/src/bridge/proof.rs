//! A withdrawal's proof as a file: all that L1 has to be shown.

use std::{fs, io::Read, path::Path};

use alloy::primitives::{Address, B256};
use eyre::{Result, WrapErr, ensure};
use millrace_l1::MessageProof;
use millrace_proto::{Commitment, L1Ref, Message};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProofFile {
    /// The contract that it is for.
    pub(super) rollup: Address,
    /// Of the message: what the commands call a withdrawal by.
    id: B256,
    message: Message,
    commitment: CommitmentFile,
    /// Siblings from below.
    path: Vec<B256>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CommitmentFile {
    batch: u64,
    previous: u64,
    batch_hash: B256,
    first_block: u64,
    last_block: u64,
    last_block_hash: B256,
    state_root: B256,
    message_root: B256,
    committed_at: u64,
    final_at: u64,
    /// The transaction that committed it.
    l1_tx: B256,
    l1_block: u64,
    l1_block_hash: B256,
}

impl ProofFile {
    pub(super) fn new(rollup: Address, proof: MessageProof) -> Self {
        let MessageProof { commitment, message, path } = proof;
        let commitment = CommitmentFile {
            batch: commitment.batch,
            previous: commitment.previous,
            batch_hash: commitment.batch_hash,
            first_block: commitment.first_block,
            last_block: commitment.last_block,
            last_block_hash: commitment.last_block_hash,
            state_root: commitment.state_root,
            message_root: commitment.message_root,
            committed_at: commitment.committed_at,
            final_at: commitment.final_at,
            l1_tx: commitment.l1.tx_hash,
            l1_block: commitment.l1.block.number,
            l1_block_hash: commitment.l1.block.hash,
        };
        Self { rollup, id: message.id(), message, commitment, path }
    }

    /// Reads a file, or standard input if it is called `-`.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin().read_to_string(&mut text).wrap_err("cannot read standard input")?;
        } else {
            text = fs::read_to_string(path)
                .wrap_err_with(|| format!("cannot read {}", path.display()))?;
        }
        let file: Self = serde_json::from_str(&text)
            .wrap_err_with(|| format!("{} is no proof of a withdrawal", path.display()))?;
        ensure!(file.id == file.message.id(), "{} names another message", path.display());
        Ok(file)
    }

    pub(super) fn proof(self) -> MessageProof {
        let Self { message, commitment, path, .. } = self;
        let commitment = Commitment {
            batch: commitment.batch,
            previous: commitment.previous,
            batch_hash: commitment.batch_hash,
            first_block: commitment.first_block,
            last_block: commitment.last_block,
            last_block_hash: commitment.last_block_hash,
            state_root: commitment.state_root,
            message_root: commitment.message_root,
            committed_at: commitment.committed_at,
            final_at: commitment.final_at,
            l1: L1Ref {
                tx_hash: commitment.l1_tx,
                block: (commitment.l1_block, commitment.l1_block_hash).into(),
            },
        };
        MessageProof { commitment, message, path }
    }
}
