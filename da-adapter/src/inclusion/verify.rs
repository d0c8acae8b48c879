//! Checking an inclusion proof, without asking anyone.

use alloy::{
    consensus::Header,
    eips::{BlockNumHash, Encodable2718},
    primitives::{Address, B256, TxHash, keccak256},
    rlp,
};
use millrace_l1::{RollupEvent, verify_entry};
use millrace_proto::{BatchLimits, Commitment, DecodedBatch, PostedBatch, batch_digest};

use super::{INCLUSION_PROOF_VERSION, InclusionProof, InclusionProofError, da};

/// What a proof shows, given that the L1 blocks which it names are L1's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The L1's chain id.
    pub l1_chain_id: u64,
    /// The rollup contract.
    pub rollup: Address,
    /// The rollup's chain id.
    pub chain_id: u64,
    /// The transaction.
    pub transaction: TxHash,
    /// The block that holds it.
    pub block: BlockNumHash,
    /// Its index there.
    pub index: u64,
    /// The state root after that block.
    pub state_root: B256,
    /// How the batch holds it.
    pub holding: Holding,
    /// The batch, as the contract recorded it.
    pub batch: PostedBatch,
    /// The batch's commitment, as the contract recorded it.
    pub commitment: Option<Commitment>,
}

/// How a batch holds a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// It is one of the batch's own signed transactions: whoever derives the chain executes it, if the batch is valid.
    Bytes,
    /// It comes from L1's queue (a deposit or a forced transaction), which batches do not repeat. The batch holds the hash of a block that descends from its block.
    Queue,
    /// The batch holds what its blocks changed, and not their transactions; and the header of its last block, which descends from the transaction's.
    StateDiffs,
}

impl Holding {
    /// Its name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Queue => "queue",
            Self::StateDiffs => "state_diffs",
        }
    }
}

impl InclusionProof {
    /// Checks everything that follows from hashes, for the L1 and the rollup contract that the caller means. What is left to ask L1 is
    /// [`Inclusion::confirm`].
    ///
    /// Decodes the batch and makes the commitments of its blobs, some 40 ms of CPU each; call it off the async threads.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(
        &self,
        l1_chain_id: u64,
        rollup: Address,
    ) -> Result<Inclusion, InclusionProofError> {
        self.check_names(l1_chain_id, rollup)?;
        let batch = self.posted_batch()?;
        let decoded = self.decode(&batch)?;
        let (block, header, last) = self.check_headers(&decoded)?;
        self.check_transaction(header.transactions_root)?;
        let holding = self.holding(&decoded, &header)?;
        let commitment = self.commitment(&batch, block_of(&decoded), last)?;
        da::check(&batch, &self.batch)?;
        Ok(Inclusion {
            l1_chain_id,
            rollup,
            chain_id: self.chain_id,
            transaction: self.transaction_hash,
            block,
            index: self.transaction_index,
            state_root: header.state_root,
            holding,
            batch,
            commitment,
        })
    }

    fn check_names(&self, l1_chain_id: u64, rollup: Address) -> Result<(), InclusionProofError> {
        let (found, known) = (self.version, INCLUSION_PROOF_VERSION);
        if found != known {
            return Err(InclusionProofError::Version { found, known });
        }
        if self.l1_chain_id != l1_chain_id {
            let (found, expected) = (self.l1_chain_id, l1_chain_id);
            return Err(InclusionProofError::L1Chain { found, expected });
        }
        if self.rollup != rollup {
            let (found, expected) = (self.rollup, rollup);
            return Err(InclusionProofError::Rollup { found, expected });
        }
        Ok(())
    }

    fn posted_batch(&self) -> Result<PostedBatch, InclusionProofError> {
        let proven = self.posted.verify(self.rollup).map_err(InclusionProofError::Posted)?;
        match proven.event {
            RollupEvent::Posted(batch) => Ok(batch),
            _ => Err(InclusionProofError::NotPosted),
        }
    }

    /// The batch, which is the one that L1 recorded, and as it recorded it.
    fn decode(&self, batch: &PostedBatch) -> Result<DecodedBatch, InclusionProofError> {
        let limits = BatchLimits::default();
        let (size, limit) = (self.batch.len(), limits.max_encoded);
        if size > limit {
            return Err(InclusionProofError::TooLarge { size, limit });
        }
        let header = &batch.header;
        let (found, recorded) = (batch_digest(&self.batch), header.digest);
        if found != recorded {
            return Err(InclusionProofError::Digest { found, recorded });
        }
        let decoded = DecodedBatch::decode_any(&self.batch, &limits)?;
        let outline = decoded.outline();
        if outline.chain_id != self.chain_id {
            let (found, expected) = (outline.chain_id, self.chain_id);
            return Err(InclusionProofError::ChainId { found, expected });
        }
        for (field, found, recorded) in [
            ("first block", outline.first_block, header.first_block),
            ("last block", outline.last_block, header.last_block),
            ("deposits end", outline.deposits_end, header.deposits_end),
        ] {
            if found != recorded {
                return Err(InclusionProofError::Outline { field, found, recorded });
            }
        }
        Ok(decoded)
    }

    /// Follows the headers to the batch's last block: the transaction's block with its header, and the last block's header.
    fn check_headers(
        &self,
        batch: &DecodedBatch,
    ) -> Result<(BlockNumHash, Header, Header), InclusionProofError> {
        let outline = batch.outline();
        let problem =
            |position, problem: String| InclusionProofError::Headers { position, problem };
        // Grows with what is right: a header takes far more room than a few bytes that are none.
        let mut blocks: Vec<(BlockNumHash, Header)> = Vec::new();
        for (position, raw) in self.headers.iter().enumerate() {
            let header: Header = rlp::decode_exact(raw)
                .map_err(|error| problem(position, format!("does not decode: {error}")))?;
            let number = header.number;
            if let Some((parent, _)) = blocks.last()
                && (header.parent_hash != parent.hash
                    || Some(number) != parent.number.checked_add(1))
            {
                return Err(problem(position, "does not follow the one before it".to_owned()));
            }
            if !(outline.first_block..=outline.last_block).contains(&number) {
                let words = format!("is of block {number}, which the batch does not hold");
                return Err(problem(position, words));
            }
            blocks.push((BlockNumHash::new(number, keccak256(raw)), header));
        }
        let (Some((first, header)), Some((end, last))) = (blocks.first(), blocks.last()) else {
            return Err(problem(0, "is missing".to_owned()));
        };
        let (found, named) = (end.hash, outline.last_block_hash);
        if found != named {
            return Err(InclusionProofError::LastBlock { found, named });
        }
        Ok((*first, header.clone(), last.clone()))
    }

    fn check_transaction(&self, root: B256) -> Result<(), InclusionProofError> {
        let (found, expected) = (keccak256(&self.transaction), self.transaction_hash);
        if found != expected {
            return Err(InclusionProofError::TransactionHash { found, expected });
        }
        verify_entry(root, self.transaction_index, &self.transaction, &self.transaction_proof)
            .map_err(|error| InclusionProofError::Transaction(error.to_string()))
    }

    /// Finds the transaction in the batch, as far as the batch holds transactions.
    fn holding(
        &self,
        batch: &DecodedBatch,
        header: &Header,
    ) -> Result<Holding, InclusionProofError> {
        let DecodedBatch::Transactions(batch) = batch else { return Ok(Holding::StateDiffs) };
        let missing = InclusionProofError::NotInBatch { block: header.number };
        let offset = header.number.checked_sub(batch.first_block).map(usize::try_from);
        let Some(Ok(offset)) = offset else { return Err(missing) };
        let Some(block) = batch.blocks.get(offset) else { return Err(missing) };
        let before = match offset.checked_sub(1).and_then(|before| batch.blocks.get(before)) {
            Some(before) => before.deposits_end,
            None => batch.deposits_start,
        };
        // The block's first transactions are what it takes of the queue, where some forced ones may have been passed over.
        let queued = block.deposits_end.saturating_sub(before);
        let index = self.transaction_index;
        let is_it = |raw: &[u8]| raw == self.transaction.as_ref();
        let position = block.transactions.iter().position(|tx| is_it(&tx.encoded_2718()));
        match position.map(|position| position as u64) {
            Some(position) if index.checked_sub(position).is_some_and(|by| by <= queued) => {
                Ok(Holding::Bytes)
            }
            Some(position) => Err(InclusionProofError::Index { position, index }),
            None if index < queued => Ok(Holding::Queue),
            None => Err(missing),
        }
    }

    fn commitment(
        &self,
        batch: &PostedBatch,
        last_block: BlockNumHash,
        last: Header,
    ) -> Result<Option<Commitment>, InclusionProofError> {
        let Some(proof) = &self.committed else { return Ok(None) };
        let proven = proof.verify(self.rollup).map_err(InclusionProofError::Committed)?;
        let RollupEvent::Committed(commitment) = proven.event else {
            return Err(InclusionProofError::NotCommitted);
        };
        let agree = [
            ("batch", commitment.batch == batch.header.number),
            ("batch hash", commitment.batch_hash == batch.batch_hash),
            ("first block", commitment.first_block == batch.header.first_block),
            ("last block", commitment.last_block == last_block.number),
            ("last block's hash", commitment.last_block_hash == last_block.hash),
            ("state root", commitment.state_root == last.state_root),
        ];
        match agree.into_iter().find(|(_, agrees)| !agrees) {
            Some((field, _)) => Err(InclusionProofError::Commitment(field)),
            None => Ok(Some(commitment)),
        }
    }
}

/// The batch's last block.
fn block_of(batch: &DecodedBatch) -> BlockNumHash {
    let outline = batch.outline();
    BlockNumHash::new(outline.last_block, outline.last_block_hash)
}
