//! Up to which block each stage of settlement was reached, and when: a row whenever a stage gets further.

use std::time::Duration;

use millrace_proto::Stage;
use rocksdb::{AsColumnFamilyRef, DB, Direction, IteratorMode, WriteBatch};

use super::{SettledBlocks, rocks::be_u64, times::millis};

/// Rows of one database: a stage's byte and a block (`u64`, big-endian) to Unix milliseconds (`u64`, big-endian; 0 where it is not known).
pub(super) struct StageTable<'a, F> {
    pub(super) db: &'a DB,
    pub(super) family: &'a F,
}

/// The stages that are here, with their bytes.
const STAGES: [(Stage, u8); 3] = [(Stage::Posted, 1), (Stage::Committed, 2), (Stage::Finalized, 3)];

fn byte_of(stage: Stage) -> Option<u8> {
    STAGES.iter().find(|(other, _)| *other == stage).map(|(_, byte)| *byte)
}

const fn block_of(settled: SettledBlocks, stage: Stage) -> u64 {
    match stage {
        Stage::Posted => settled.posted,
        Stage::Committed => settled.committed,
        _ => settled.finalized,
    }
}

fn key(stage: u8, block: u64) -> [u8; 9] {
    let mut key = [stage; 9];
    key[1..].copy_from_slice(&block.to_be_bytes());
    key
}

impl<F: AsColumnFamilyRef> StageTable<'_, F> {
    /// Blocks are settled that were not before.
    pub(super) fn settle(
        &self,
        batch: &mut WriteBatch,
        before: SettledBlocks,
        now: SettledBlocks,
        at: Duration,
    ) -> Result<(), rocksdb::Error> {
        for (stage, byte) in STAGES {
            let (before, now) = (block_of(before, stage), block_of(now, stage));
            if now <= before {
                continue;
            }
            // An earlier version did not say when.
            if before > 0 && self.db.get_pinned_cf(self.family, key(byte, before))?.is_none() {
                batch.put_cf(self.family, key(byte, before), 0_u64.to_be_bytes());
            }
            batch.put_cf(self.family, key(byte, now), millis(at).to_be_bytes());
        }
        Ok(())
    }

    /// The blocks after `to` are not settled.
    pub(super) fn unsettle(&self, batch: &mut WriteBatch, to: u64) -> Result<(), rocksdb::Error> {
        let Some(next) = to.checked_add(1) else { return Ok(()) };
        for (_, byte) in STAGES {
            // What the first row that goes says of blocks up to `to` stays.
            if to > 0
                && let Some(at) = self.first(byte, to)?
            {
                batch.put_cf(self.family, key(byte, to), at);
            }
            batch.delete_range_cf(self.family, key(byte, next), key(byte + 1, 0));
        }
        Ok(())
    }

    /// When a block reached a stage.
    pub(super) fn reached(
        &self,
        stage: Stage,
        block: u64,
    ) -> Result<Option<Duration>, rocksdb::Error> {
        let Some(byte) = byte_of(stage) else { return Ok(None) };
        let at = self.first(byte, block)?.and_then(|at| be_u64(&at));
        Ok(at.filter(|at| *at > 0).map(Duration::from_millis))
    }

    /// The time in a stage's first row of this block or a later one.
    fn first(&self, stage: u8, block: u64) -> Result<Option<Box<[u8]>>, rocksdb::Error> {
        let from = key(stage, block);
        let mode = IteratorMode::From(&from, Direction::Forward);
        let row = self.db.iterator_cf(self.family, mode).next().transpose()?;
        Ok(row.filter(|(key, _)| key.first() == Some(&stage)).map(|(_, at)| at))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use millrace_proto::Stage;

    use super::{
        super::{OrderLog, Record, RocksOrderLog},
        *,
    };

    const fn settled(posted: u64, committed: u64, finalized: u64) -> SettledBlocks {
        SettledBlocks { posted, committed, finalized }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + second)
    }

    #[test]
    fn stages_and_their_times_are_as_they_were_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || RocksOrderLog::open(folder.path(), B256::ZERO).unwrap();
        let log = open();
        log.settle(settled(5, 0, 0), at(1)).unwrap();
        log.settle(settled(9, 5, 0), at(2)).unwrap();
        log.settle(settled(9, 9, 5), at(3)).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.settled().unwrap(), settled(9, 9, 5));
        let reached = |stage, block| log.reached(stage, block).unwrap();
        for (stage, block, expected) in [
            (Stage::Posted, 1, Some(at(1))),
            (Stage::Posted, 5, Some(at(1))),
            (Stage::Posted, 6, Some(at(2))),
            (Stage::Posted, 9, Some(at(2))),
            (Stage::Posted, 10, None),
            (Stage::Committed, 5, Some(at(2))),
            (Stage::Committed, 6, Some(at(3))),
            (Stage::Finalized, 5, Some(at(3))),
            (Stage::Finalized, 6, None),
            (Stage::Sequenced, 1, None),
        ] {
            assert_eq!(reached(stage, block), expected, "{stage} of block {block}");
        }
    }

    #[test]
    fn blocks_that_were_taken_back_are_not_settled() {
        let folder = tempfile::tempdir().unwrap();
        let log = RocksOrderLog::open(folder.path(), B256::ZERO).unwrap();
        log.settle(settled(5, 3, 2), at(1)).unwrap();
        log.settle(settled(9, 3, 2), at(2)).unwrap();
        log.unsettle(7).unwrap();
        assert_eq!(log.settled().unwrap(), settled(7, 3, 2));
        let posted = |block| log.reached(Stage::Posted, block).unwrap();
        assert_eq!((posted(5), posted(7), posted(8)), (Some(at(1)), Some(at(2)), None));
        log.settle(settled(8, 3, 2), at(4)).unwrap();
        assert_eq!((posted(7), posted(8), posted(9)), (Some(at(2)), Some(at(4)), None));
        // So it is with records, in the same write.
        let unwound = |number| Record::BlockUnwound {
            number,
            hash: None,
            txs: Vec::new(),
            accepted_at: Vec::new(),
        };
        log.append(&[unwound(8), unwound(7)]).unwrap();
        assert_eq!((posted(6), posted(7), posted(8)), (Some(at(2)), None, None));
        assert_eq!(log.settled().unwrap(), settled(6, 3, 2));
        // All of them, and nothing where there is nothing.
        log.unsettle(0).unwrap();
        log.unsettle(0).unwrap();
        assert_eq!((log.settled().unwrap(), posted(1)), (SettledBlocks::default(), None));
        log.unsettle(u64::MAX).unwrap();
    }

    #[test]
    fn of_what_was_settled_before_times_were_kept_none_is_made_up() {
        let folder = tempfile::tempdir().unwrap();
        let log = RocksOrderLog::open(folder.path(), B256::ZERO).unwrap();
        // As an earlier version leaves it.
        log.settle(settled(6, 0, 0), Duration::ZERO).unwrap();
        log.settle(settled(8, 6, 0), at(1)).unwrap();
        let posted = |block| log.reached(Stage::Posted, block).unwrap();
        assert_eq!((posted(3), posted(6), posted(7)), (None, None, Some(at(1))));
        assert_eq!(log.reached(Stage::Committed, 2).unwrap(), Some(at(1)));
    }
}
