//! RocksDB, as this workspace builds it, opens, compresses, compacts and reads back.

use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, DB, DBCompressionType, IteratorMode, Options,
    WriteBatch, WriteOptions,
};

const FAMILIES: [(&str, DBCompressionType); 2] =
    [("lz4", DBCompressionType::Lz4), ("zstd", DBCompressionType::Zstd)];
const ENTRIES: u32 = 20_000;

fn open(path: &std::path::Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.increase_parallelism(2);
    let families = FAMILIES.map(|(name, compression)| {
        let mut table = BlockBasedOptions::default();
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.set_compression_type(compression);
        options.set_bottommost_compression_type(compression);
        options.set_block_based_table_factory(&table);
        ColumnFamilyDescriptor::new(name, options)
    });
    DB::open_cf_descriptors(&options, path, families).expect("the database opens")
}

fn value(family: &str, index: u32) -> Vec<u8> {
    format!("{family}:{index}:").repeat(8).into_bytes()
}

#[test]
fn compressed_families_survive_flush_compaction_and_reopening() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    {
        let db = open(folder.path());
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let mut batch = WriteBatch::default();
        for (name, _) in FAMILIES {
            let family = db.cf_handle(name).expect("the family exists");
            for index in 0..ENTRIES {
                batch.put_cf(&family, index.to_be_bytes(), value(name, index));
            }
        }
        db.write_opt(batch, &durable).expect("the batch is written");
        for (name, _) in FAMILIES {
            let family = db.cf_handle(name).expect("the family exists");
            db.flush_cf(&family).expect("the family is flushed");
            db.delete_cf(&family, 7u32.to_be_bytes()).expect("the key is deleted");
            db.flush_cf(&family).expect("the deletion is flushed");
            db.compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
        }
    }
    let db = open(folder.path());
    for (name, _) in FAMILIES {
        let family = db.cf_handle(name).expect("the family exists");
        let entries: Vec<_> = db
            .iterator_cf(&family, IteratorMode::Start)
            .collect::<Result<_, _>>()
            .expect("every block decompresses");
        let expected: Vec<_> = (0..ENTRIES)
            .filter(|index| *index != 7)
            .map(|index| (index.to_be_bytes().into(), value(name, index).into_boxed_slice()))
            .collect();
        assert!(entries == expected, "{name} reads back what was written");
        assert_eq!(db.get_cf(&family, 7u32.to_be_bytes()).expect("the read succeeds"), None);
        let size = db
            .property_int_value_cf(&family, rocksdb::properties::TOTAL_SST_FILES_SIZE)
            .expect("the property is known")
            .expect("the property has a value");
        let raw: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(size > 0 && size < raw as u64 / 2, "{name} is compressed: {size} of {raw} bytes");
    }
}
