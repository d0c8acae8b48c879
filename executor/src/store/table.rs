//! The tables and how RocksDB keeps them. Their contents: `docs/db.md`.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, Options, SliceTransform,
};

use super::keys;

/// A table, which is a column family of RocksDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Meta,
    Headers,
    BlockNumbers,
    Bodies,
    Receipts,
    Transactions,
    Accounts,
    Storage,
    Code,
    AccountNodes,
    StorageNodes,
    AccountHistory,
    StorageHistory,
    AccountNodeHistory,
    StorageNodeHistory,
    Diffs,
    NodeChanges,
}

/// How a table's keys are looked up.
enum Lookup {
    /// Whole keys only.
    Key,
    /// Whole keys, and all keys that begin with as many bytes.
    Prefix(usize),
    /// The first entry of a key's history from a block on.
    History,
}

impl Table {
    pub(crate) const ALL: [Self; 17] = [
        Self::Meta,
        Self::Headers,
        Self::BlockNumbers,
        Self::Bodies,
        Self::Receipts,
        Self::Transactions,
        Self::Accounts,
        Self::Storage,
        Self::Code,
        Self::AccountNodes,
        Self::StorageNodes,
        Self::AccountHistory,
        Self::StorageHistory,
        Self::AccountNodeHistory,
        Self::StorageNodeHistory,
        Self::Diffs,
        Self::NodeChanges,
    ];

    /// The column family's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Headers => "headers",
            Self::BlockNumbers => "block_numbers",
            Self::Bodies => "bodies",
            Self::Receipts => "receipts",
            Self::Transactions => "transactions",
            Self::Accounts => "accounts",
            Self::Storage => "storage",
            Self::Code => "code",
            Self::AccountNodes => "account_nodes",
            Self::StorageNodes => "storage_nodes",
            Self::AccountHistory => "account_history",
            Self::StorageHistory => "storage_history",
            Self::AccountNodeHistory => "account_node_history",
            Self::StorageNodeHistory => "storage_node_history",
            Self::Diffs => "diffs",
            Self::NodeChanges => "node_changes",
        }
    }

    /// The table that holds this table's earlier values.
    pub(crate) const fn history(self) -> Option<Self> {
        match self {
            Self::Accounts => Some(Self::AccountHistory),
            Self::Storage => Some(Self::StorageHistory),
            Self::AccountNodes => Some(Self::AccountNodeHistory),
            Self::StorageNodes => Some(Self::StorageNodeHistory),
            _ => None,
        }
    }

    const fn lookup(self) -> Lookup {
        match self {
            Self::Storage => Lookup::Prefix(20),
            Self::AccountHistory
            | Self::StorageHistory
            | Self::AccountNodeHistory
            | Self::StorageNodeHistory => Lookup::History,
            _ => Lookup::Key,
        }
    }

    /// What a read mostly costs is one block; blocks that are read whole (bodies, diffs) can be larger.
    const fn block_size(self) -> usize {
        match self {
            Self::Bodies | Self::Receipts | Self::Diffs | Self::NodeChanges => 64 << 10,
            _ => 8 << 10,
        }
    }

    pub(crate) fn descriptor(
        self,
        cache: &Cache,
    ) -> Result<ColumnFamilyDescriptor, rocksdb::Error> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_block_size(self.block_size());
        blocks.set_bloom_filter(10.0, false);
        // Inside the cache, so that the configured budget holds; first in line to stay there.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);

        // Blocks write each table in the order of its keys: the place of the next key in memory is looked for from the last one's.
        let mut options = Options::default()
            .get_options_from_string("memtable_insert_with_hint_prefix_extractor=fixed:0")?;
        match self.lookup() {
            Lookup::Key => {}
            Lookup::Prefix(bytes) => {
                options.set_prefix_extractor(SliceTransform::create_fixed_prefix(bytes));
                options.set_memtable_prefix_bloom_ratio(0.05);
            }
            Lookup::History => {
                options.set_prefix_extractor(SliceTransform::create(
                    "millrace.history_owner",
                    keys::history_owner,
                    None,
                ));
                options.set_memtable_prefix_bloom_ratio(0.05);
            }
        }
        options.set_block_based_table_factory(&blocks);
        options.set_level_compaction_dynamic_level_bytes(true);
        // New files are rewritten soon: cheap compression there, small files where data stays.
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        Ok(ColumnFamilyDescriptor::new(self.name(), options))
    }
}
