//! The values of the tables. Each is a version byte, then the ABI encoding of the struct below, whose fields are frozen: a
//! change takes a new version.

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, U256},
    sol,
    sol_types::{SolType, SolValue},
};
use millrace_proto::{
    BatchHeader, Commitment, DaKind, Deposit, ForcedTx, L1Ref, PostedBatch, QueueEntry,
};

use super::{Outcome, VerifiedBatch};

const VERSION: u8 = 2;

sol! {
    struct BlockRecord {
        uint64 number;
        bytes32 hash;
        uint64 timestamp;
    }

    struct PostedRecord {
        uint64 number;
        uint64 firstBlock;
        uint64 lastBlock;
        uint64 depositsEnd;
        bytes32 depositsHash;
        bytes32 digest;
        uint8 daKind;
        bytes32 batchHash;
        bytes32[] blobHashes;
        bytes daPointer;
        bytes32 l1Tx;
        uint64 l1Block;
        bytes32 l1BlockHash;
        uint64 l1Timestamp;
    }

    /// An entry of the queue; of a forced transaction, its bytes are in `data`, and what is the deposits' own is zero.
    struct DepositRecord {
        uint64 index;
        bool isForced;
        address from;
        address to;
        uint256 value;
        uint64 gasLimit;
        bytes data;
        bytes32 accumulator;
        uint64 l1Block;
    }

    struct CommitmentRecord {
        uint64 batch;
        uint64 previous;
        bytes32 batchHash;
        uint64 firstBlock;
        uint64 lastBlock;
        bytes32 lastBlockHash;
        bytes32 stateRoot;
        bytes32 messageRoot;
        uint64 committedAt;
        uint64 finalAt;
        bytes32 l1Tx;
        uint64 l1Block;
        bytes32 l1BlockHash;
    }

    struct JournalRecord {
        uint64 l1Block;
        CommitmentRecord[] added;
        CommitmentRecord[] removed;
    }

    struct OutcomeRecord {
        bytes32 batchHash;
        string skipped;
        uint64 firstBlock;
        uint64 lastBlock;
        bytes32 lastBlockHash;
        uint64 lastTimestamp;
        uint64 depositsEnd;
        bytes32 stateRoot;
        bytes32 messageRoot;
        uint64 transactions;
    }

    struct FinalizedRecord {
        uint64 batch;
        uint64 lastBlock;
        bytes32 lastBlockHash;
    }

    struct IdentityRecord {
        uint64 chainId;
        address rollup;
        bytes32 genesisHash;
    }

    struct FeeRecord {
        uint256 wei_;
    }
}

/// Version byte and ABI encoding.
pub(super) fn encode<T: SolValue>(record: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&record.abi_encode());
    out
}

/// Reads what [`encode`] wrote.
pub(super) fn decode<T>(bytes: &[u8]) -> Result<T, String>
where
    T: SolValue + From<<T::SolType as SolType>::RustType>,
{
    match bytes.split_first() {
        Some((&VERSION, rest)) => T::abi_decode_validate(rest).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("version {version}, this is {VERSION}")),
        None => Err("empty".to_owned()),
    }
}

impl From<&PostedBatch> for PostedRecord {
    fn from(batch: &PostedBatch) -> Self {
        let BatchHeader {
            number,
            first_block,
            last_block,
            deposits_end,
            deposits_hash,
            digest,
            da_kind,
        } = batch.header;
        Self {
            number,
            firstBlock: first_block,
            lastBlock: last_block,
            depositsEnd: deposits_end,
            depositsHash: deposits_hash,
            digest,
            daKind: da_kind as u8,
            batchHash: batch.batch_hash,
            blobHashes: batch.blob_hashes.clone(),
            daPointer: batch.da_pointer.clone(),
            l1Tx: batch.l1.tx_hash,
            l1Block: batch.l1.block.number,
            l1BlockHash: batch.l1.block.hash,
            l1Timestamp: batch.l1_timestamp,
        }
    }
}

impl TryFrom<PostedRecord> for PostedBatch {
    type Error = String;

    fn try_from(record: PostedRecord) -> Result<Self, String> {
        Ok(Self {
            header: BatchHeader {
                number: record.number,
                first_block: record.firstBlock,
                last_block: record.lastBlock,
                deposits_end: record.depositsEnd,
                deposits_hash: record.depositsHash,
                digest: record.digest,
                da_kind: DaKind::try_from(record.daKind).map_err(|error| error.to_string())?,
            },
            batch_hash: record.batchHash,
            blob_hashes: record.blobHashes,
            da_pointer: record.daPointer,
            l1: l1_ref(record.l1Tx, record.l1Block, record.l1BlockHash),
            l1_timestamp: record.l1Timestamp,
        })
    }
}

impl DepositRecord {
    pub(super) fn new(entry: &QueueEntry, accumulator: B256, l1_block: u64) -> Self {
        let blank = Self {
            index: entry.index(),
            isForced: false,
            from: Address::ZERO,
            to: Address::ZERO,
            value: U256::ZERO,
            gasLimit: 0,
            data: Bytes::new(),
            accumulator,
            l1Block: l1_block,
        };
        match entry {
            QueueEntry::Deposit(deposit) => Self {
                from: deposit.from,
                to: deposit.to,
                value: deposit.value,
                gasLimit: deposit.gas_limit,
                data: deposit.data.clone(),
                ..blank
            },
            QueueEntry::Forced(forced) => {
                Self { isForced: true, data: forced.raw.clone(), ..blank }
            }
        }
    }

    pub(super) fn into_entry(self) -> QueueEntry {
        if self.isForced {
            return QueueEntry::Forced(ForcedTx { index: self.index, raw: self.data });
        }
        QueueEntry::Deposit(Deposit {
            index: self.index,
            from: self.from,
            to: self.to,
            value: self.value,
            gas_limit: self.gasLimit,
            data: self.data,
        })
    }
}

impl From<&Commitment> for CommitmentRecord {
    fn from(commitment: &Commitment) -> Self {
        Self {
            batch: commitment.batch,
            previous: commitment.previous,
            batchHash: commitment.batch_hash,
            firstBlock: commitment.first_block,
            lastBlock: commitment.last_block,
            lastBlockHash: commitment.last_block_hash,
            stateRoot: commitment.state_root,
            messageRoot: commitment.message_root,
            committedAt: commitment.committed_at,
            finalAt: commitment.final_at,
            l1Tx: commitment.l1.tx_hash,
            l1Block: commitment.l1.block.number,
            l1BlockHash: commitment.l1.block.hash,
        }
    }
}

impl From<CommitmentRecord> for Commitment {
    fn from(record: CommitmentRecord) -> Self {
        Self {
            batch: record.batch,
            previous: record.previous,
            batch_hash: record.batchHash,
            first_block: record.firstBlock,
            last_block: record.lastBlock,
            last_block_hash: record.lastBlockHash,
            state_root: record.stateRoot,
            message_root: record.messageRoot,
            committed_at: record.committedAt,
            final_at: record.finalAt,
            l1: l1_ref(record.l1Tx, record.l1Block, record.l1BlockHash),
        }
    }
}

impl OutcomeRecord {
    pub(super) fn new(batch_hash: B256, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Verified(verified) => Self {
                batchHash: batch_hash,
                skipped: String::new(),
                firstBlock: verified.first_block,
                lastBlock: verified.last_block,
                lastBlockHash: verified.last_block_hash,
                lastTimestamp: verified.last_timestamp,
                depositsEnd: verified.deposits_end,
                stateRoot: verified.state_root,
                messageRoot: verified.message_root,
                transactions: verified.transactions,
            },
            Outcome::Skipped(reason) => Self {
                batchHash: batch_hash,
                skipped: reason.clone(),
                firstBlock: 0,
                lastBlock: 0,
                lastBlockHash: B256::ZERO,
                lastTimestamp: 0,
                depositsEnd: 0,
                stateRoot: B256::ZERO,
                messageRoot: B256::ZERO,
                transactions: 0,
            },
        }
    }

    pub(super) fn into_outcome(self, batch: u64) -> Outcome {
        if !self.skipped.is_empty() {
            return Outcome::Skipped(self.skipped);
        }
        Outcome::Verified(VerifiedBatch {
            batch,
            batch_hash: self.batchHash,
            first_block: self.firstBlock,
            last_block: self.lastBlock,
            last_block_hash: self.lastBlockHash,
            last_timestamp: self.lastTimestamp,
            deposits_end: self.depositsEnd,
            state_root: self.stateRoot,
            message_root: self.messageRoot,
            transactions: self.transactions,
        })
    }
}

fn l1_ref(tx_hash: B256, number: u64, hash: B256) -> L1Ref {
    L1Ref { tx_hash, block: BlockNumHash::new(number, hash) }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, keccak256};

    use super::*;
    use crate::testing::{deposit, l1_ref, post};

    /// Every kind of value, each field set.
    fn values() -> Vec<Vec<u8>> {
        let mut batch = post(3, (7, 9), 2, b"bytes", 11);
        batch.batch_hash = B256::repeat_byte(4);
        batch.blob_hashes = vec![B256::repeat_byte(5), B256::repeat_byte(6)];
        let commitment = Commitment {
            batch: 3,
            previous: 2,
            batch_hash: B256::repeat_byte(4),
            first_block: 7,
            last_block: 9,
            last_block_hash: B256::repeat_byte(7),
            state_root: B256::repeat_byte(8),
            message_root: B256::repeat_byte(9),
            committed_at: 12,
            final_at: 22,
            l1: l1_ref(13),
        };
        let record = CommitmentRecord::from(&commitment);
        let verified = VerifiedBatch {
            batch: 3,
            batch_hash: B256::repeat_byte(4),
            first_block: 7,
            last_block: 9,
            last_block_hash: B256::repeat_byte(7),
            last_timestamp: 14,
            deposits_end: 2,
            state_root: B256::repeat_byte(8),
            message_root: B256::repeat_byte(9),
            transactions: 15,
        };
        let number = 16;
        vec![
            encode(&number),
            encode(&BlockRecord { number, hash: B256::repeat_byte(1), timestamp: 17 }),
            encode(&PostedRecord::from(&batch)),
            encode(&DepositRecord::new(&deposit(1).into(), B256::repeat_byte(2), 18)),
            encode(&record),
            encode(&JournalRecord {
                l1Block: 19,
                added: vec![record.clone()],
                removed: vec![record],
            }),
            encode(&OutcomeRecord::new(B256::repeat_byte(4), &Outcome::Verified(verified))),
            encode(&OutcomeRecord::new(B256::ZERO, &Outcome::Skipped("why".to_owned()))),
            encode(&FinalizedRecord {
                batch: 3,
                lastBlock: 9,
                lastBlockHash: B256::repeat_byte(7),
            }),
            encode(&IdentityRecord {
                chainId: 20,
                rollup: deposit(0).to,
                genesisHash: B256::repeat_byte(3),
            }),
            encode(&FeeRecord { wei_: U256::from(21) }),
        ]
    }

    /// If this fails, the encoding has changed, and folders written before cannot be read: give it a new version.
    #[test]
    fn the_encoding_is_frozen() {
        let hash = keccak256(values().concat());
        assert_eq!(
            hash,
            alloy::primitives::b256!(
                "d7e3bbed2b2a1a39d47ab663b413cc4c1eba2d71a8f1079ed1056b630a833184"
            )
        );
    }

    #[test]
    fn other_versions_and_cut_values_are_refused() {
        let bytes = encode(&FeeRecord { wei_: U256::from(21) });
        assert!(decode::<FeeRecord>(&bytes).is_ok());
        assert!(decode::<FeeRecord>(&bytes[..20]).is_err());
        assert!(decode::<FeeRecord>(&[]).is_err());
        let mut newer = bytes;
        newer[0] = 3;
        assert!(decode::<FeeRecord>(&newer).is_err());
    }
}
