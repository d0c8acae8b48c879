//! The archive, with a real L1 and its beacon API.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use alloy::{
    consensus::Blob,
    eips::eip4844::BYTES_PER_BLOB,
    primitives::{Bytes, hex},
};
use axum::{
    Router,
    http::Uri,
    response::{IntoResponse, Redirect, Response},
};
use millrace_l1::testing::{Fault, FaultProxy};
use parking_lot::Mutex;

use super::*;
use crate::{
    BlobArchive, DaBackend, L1BlobBackend, SubmitRequest,
    served::{Served, failure},
    testing::open_outbox,
};

/// A beacon API before anvil's that fails as told.
struct Beacon {
    served: Served,
    fault: Arc<Mutex<BeaconFault>>,
}

#[derive(Debug, Clone, Copy)]
enum BeaconFault {
    None,
    /// It answers with an error.
    Down,
    /// It has no blobs.
    Empty,
    /// It does not have this one.
    Lacks(B256),
}

impl Beacon {
    async fn start(anvil: &Anvil) -> Self {
        let fault = Arc::new(Mutex::new(BeaconFault::None));
        let (told, upstream) = (fault.clone(), anvil.url().clone());
        let answer = move |uri: Uri| {
            let (fault, asked) = (*told.lock(), uri.to_string());
            let there = upstream.join(&asked).unwrap();
            async move { Self::answer(fault, &asked, &there) }
        };
        let served = Served::start(Router::new().fallback(answer)).await.unwrap();
        Self { served, fault }
    }

    fn answer(fault: BeaconFault, asked: &str, there: &Url) -> Response {
        match fault {
            BeaconFault::Down => failure(503),
            BeaconFault::Empty => failure(404),
            BeaconFault::Lacks(hash) if asked.contains(&hash.to_string()) => failure(404),
            _ => Redirect::temporary(there.as_str()).into_response(),
        }
    }

    fn set(&self, fault: BeaconFault) {
        *self.fault.lock() = fault;
    }

    fn client(&self) -> BeaconClient {
        BeaconClient::new(self.served.url(), Duration::from_secs(10), 0).unwrap()
    }
}

/// An L1 whose blocks are final when two others follow, with an archive that nobody fills but the test.
struct Case {
    world: World,
    beacon: Beacon,
    outbox: Arc<Outbox>,
}

impl Case {
    async fn new() -> Self {
        let options = AnvilOptions { slots_in_an_epoch: Some(1), ..AnvilOptions::default() };
        let world = World::on(options).await;
        let beacon = Beacon::start(&world.anvil).await;
        let outbox = open_outbox(&world.folder.path().join("outbox"));
        Self { world, beacon, outbox }
    }

    fn folder(&self) -> PathBuf {
        self.world.folder.path().join("archive")
    }

    fn archive_config(&self) -> ObjectStoreConfig {
        ObjectStoreConfig::at(Url::from_directory_path(self.folder()).unwrap())
    }

    fn archive(&self) -> BlobArchive {
        BlobArchive::open(&self.archive_config()).unwrap()
    }

    fn archiver(&self) -> Archiver {
        Archiver {
            archive: self.archive(),
            rollup: self.world.contract(),
            beacon: self.beacon.client(),
            outbox: self.outbox.clone(),
            metrics: DaMetrics::new(),
            max_retry_interval: Duration::from_secs(1),
            progress: Progress::default(),
        }
    }

    /// A reader for which the beacon node has no blobs any more.
    async fn late_reader(&self) -> (Beacon, MultiReader) {
        let beacon = Beacon::start(&self.world.anvil).await;
        beacon.set(BeaconFault::Empty);
        let archive = Some(self.archive());
        let sources = DaSources { beacon: Some(beacon.client()), archive, ..DaSources::default() };
        (beacon, MultiReader::new(sources))
    }

    /// Somebody posts the next batch in these blobs.
    async fn post(&self, folder: &str, digest: B256, blobs: Vec<Blob>) {
        let number = self.world.contract().batch_count().await.unwrap() + 1;
        let header = BatchHeader {
            number,
            first_block: number,
            last_block: number,
            deposits_end: 0,
            deposits_hash: B256::ZERO,
            digest,
            da_kind: DaKind::L1Blob,
        };
        let call =
            Rollup::postBatchCall { epoch: 0, header: (&header).into(), daPointer: Bytes::new() };
        let id = format!("theirs-{number}");
        let request = TxRequest::call(id, self.world.rollup, call.abi_encode()).with_blobs(blobs);
        self.world.manager(BATCHER, folder).await.send(request).await.unwrap();
    }

    /// Somebody posts a batch with these bytes.
    async fn post_data(&self, folder: &str, data: &Bytes) {
        let digest = batch_digest(data);
        let request = SubmitRequest { number: 1, digest, data: data.clone() };
        let blobs = L1BlobBackend::default().submit(request).await.unwrap().blobs;
        self.post(folder, digest, blobs).await;
    }

    /// What was posted becomes final.
    async fn settle(&self) {
        self.world.anvil.mine(3).await.unwrap();
    }

    fn file(&self, hash: B256) -> PathBuf {
        self.folder().join(hex::encode(hash))
    }

    fn has(&self, batch: &PostedBatch) -> bool {
        batch.blob_hashes.iter().all(|hash| self.file(*hash).exists())
    }
}

/// Waits for a condition.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// From the outbox: the beacon node is away.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_posted_here_is_archived_and_read_back() {
    let mut case = Case::new().await;
    case.beacon.set(BeaconFault::Down);
    case.world.beacon_url = Some(case.beacon.served.url());
    let config = DaAdapterConfig { archive: Some(case.archive_config()), ..config() };
    let running = case.world.start(config, &case.world.folder.path().join("own")).await;
    let block = case.world.chain.block(0, &[noise(150_000, 1)]);
    case.world.executor.push(block.clone());
    running.posted(1).await;
    case.world.executor.push(case.world.chain.small());
    running.posted(2).await;
    assert_eq!(running.handle.outbox.archived().batch, 0, "they are not final");

    case.settle().await;
    let outbox = running.handle.outbox.clone();
    until("both are archived", || outbox.archived().batch == 2).await;
    until("they leave the outbox", || outbox.data(1).unwrap().is_none()).await;
    let posted = case.world.posted().await;
    let (_beacon, reader) = case.late_reader().await;
    let batch = decode(&reader.read(&posted[0]).await.unwrap());
    assert_eq!(batch.last_block_hash, block.hash());
    assert_eq!(decode(&reader.read(&posted[1]).await.unwrap()).first_block, 2);
    running.stop().await;
}

/// Of three postings of others, the first holds a batch, the second no batch at all, and the third another one than it says.
#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_others_are_archived_whatever_they_hold() {
    let case = Case::new().await;
    let data = noise(150_000, 1);
    case.post_data("theirs", &data).await;
    let mut blobs = vec![Blob::ZERO];
    blobs[0][0] = 0x40;
    case.post("theirs", batch_digest(b"none"), blobs).await;
    case.post("theirs", batch_digest(b"other"), vec![Blob::ZERO]).await;
    case.settle().await;
    let mut archiver = case.archiver();
    archiver.fill().await.unwrap();
    assert_eq!(case.outbox.entries(), Vec::new());

    let posted = case.world.posted().await;
    let last = posted.last().unwrap();
    assert_eq!((posted.len(), posted[0].blob_hashes.len()), (3, 2));
    assert_eq!((case.outbox.archived().batch, case.outbox.archived().block), (3, last.l1.block));
    let expected: BTreeSet<String> =
        posted.iter().flat_map(|batch| batch.blob_hashes.iter().map(hex::encode)).collect();
    let mut found = BTreeSet::new();
    for file in fs::read_dir(case.folder()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().len(), BYTES_PER_BLOB as u64);
        found.insert(file.file_name().into_string().unwrap());
    }
    assert_eq!(found, expected);

    let (_beacon, late) = case.late_reader().await;
    let early = DaSources { beacon: Some(case.beacon.client()), ..DaSources::default() };
    let early = MultiReader::new(early);
    assert_eq!(late.read(&posted[0]).await.unwrap(), data);
    for batch in &posted[1..] {
        let (late, early) = (late.read(batch).await, early.read(batch).await);
        let (late, early) = (late.unwrap_err(), early.unwrap_err());
        assert!(matches!(late, DaReadError::Invalid { .. }), "{late}");
        assert_eq!(late.to_string(), early.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_waited_for() {
    let case = Case::new().await;
    let data = noise(100, 1);
    case.post_data("theirs", &data).await;
    case.settle().await;
    let mut archiver = case.archiver();
    // A file where the folder was.
    fs::remove_dir(case.folder()).unwrap();
    fs::write(case.folder(), b"").unwrap();
    for _ in 0..2 {
        let error = archiver.fill().await.unwrap_err().to_string();
        assert!(error.contains("the archive: object store"), "{error}");
        assert_eq!(case.outbox.archived().batch, 0);
    }
    fs::remove_file(case.folder()).unwrap();
    fs::create_dir(case.folder()).unwrap();
    archiver.fill().await.unwrap();
    assert_eq!(case.outbox.archived().batch, 1);
    let (_beacon, reader) = case.late_reader().await;
    assert_eq!(reader.read(&case.world.posted().await[0]).await.unwrap(), data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_object_in_the_archive_is_not_believed() {
    let case = Case::new().await;
    let data = noise(100, 1);
    case.post_data("theirs", &data).await;
    case.settle().await;
    case.archiver().fill().await.unwrap();
    let posted = case.world.posted().await.remove(0);
    let (beacon, reader) = case.late_reader().await;
    let file = case.file(posted.blob_hashes[0]);
    // A blob of zeros is a blob too, which holds no batch.
    for wrong in [vec![0; BYTES_PER_BLOB], vec![0; 7], vec![0xff; BYTES_PER_BLOB]] {
        fs::write(&file, wrong).unwrap();
        let error = reader.read(&posted).await.unwrap_err();
        assert!(matches!(error, DaReadError::Mismatch { batch: 1, .. }), "{error}");
        assert!(error.to_string().contains("what the archive holds under"), "{error}");
    }
    // Whoever fills it puts it right.
    let again = open_outbox(&case.world.folder.path().join("again"));
    let mut archiver = Archiver { outbox: again, ..case.archiver() };
    archiver.fill().await.unwrap();
    assert_eq!(reader.read(&posted).await.unwrap(), data);

    fs::remove_file(&file).unwrap();
    let error = reader.read(&posted).await.unwrap_err();
    assert!(matches!(error, DaReadError::Unavailable { batch: 1, .. }), "{error}");
    assert!(error.to_string().contains("; and the archive does not have blob"), "{error}");
    let none = DaSources { beacon: Some(beacon.client()), ..DaSources::default() };
    let error = MultiReader::new(none).read(&posted).await.unwrap_err();
    assert!(error.to_string().contains("`--archive`"), "{error}");
}

/// What the beacon node does not have holds up nothing else, until it is given up.
#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_not_to_be_had_are_asked_for_again() {
    let case = Case::new().await;
    for seed in 1..=2 {
        case.post_data("theirs", &noise(100, seed)).await;
    }
    case.settle().await;
    let mut archiver = case.archiver();
    let posted = case.world.posted().await;
    case.beacon.set(BeaconFault::Lacks(posted[0].blob_hashes[0]));
    for _ in 0..2 {
        let error = archiver.fill().await.unwrap_err().to_string();
        assert!(error.contains("the blobs of 1 batches, the first of them 1"), "{error}");
        assert_eq!((case.has(&posted[0]), case.has(&posted[1])), (false, true));
        assert_eq!(case.outbox.archived().batch, 0);
    }
    // Another process begins where it may have missed something.
    let mut archiver = case.archiver();
    archiver.fill().await.unwrap_err();
    case.beacon.set(BeaconFault::Down);
    case.post_data("theirs", &noise(100, 3)).await;
    case.settle().await;
    let error = archiver.fill().await.unwrap_err().to_string();
    assert!(
        error.contains("of 2 batches, the first of them 1") && error.contains("503"),
        "{error}"
    );
    case.beacon.set(BeaconFault::None);
    archiver.fill().await.unwrap();
    let posted = case.world.posted().await;
    assert!(posted.iter().all(|batch| case.has(batch)));
    assert_eq!(case.outbox.archived().batch, 3);

    case.post_data("theirs", &noise(100, 4)).await;
    let posted = case.world.posted().await;
    case.beacon.set(BeaconFault::Lacks(posted[3].blob_hashes[0]));
    case.settle().await;
    archiver.fill().await.unwrap_err();
    let days = 19 * 86_400;
    case.world.anvil.rpc("evm_increaseTime", serde_json::json!([days])).await.unwrap();
    case.settle().await;
    archiver.fill().await.unwrap();
    assert_eq!((case.has(&posted[3]), case.outbox.archived().batch), (false, 4));
}

/// L1s of tests take back what they have called final.
#[tokio::test(flavor = "multi_thread")]
async fn another_batch_in_the_place_of_an_archived_one_is_archived_too() {
    let case = Case::new().await;
    case.post_data("first", &noise(100, 1)).await;
    case.settle().await;
    let mut archiver = case.archiver();
    archiver.fill().await.unwrap();
    let first = case.world.posted().await.remove(0);
    assert_eq!(case.outbox.archived().block, first.l1.block);

    let head = case.world.anvil.client().head().await.unwrap().number;
    case.world.anvil.reorg(head - first.l1.block.number + 1).await.unwrap();
    assert_eq!(case.world.contract().batch_count().await.unwrap(), 0);
    case.post_data("second", &noise(100, 2)).await;
    case.settle().await;
    archiver.fill().await.unwrap();
    let second = case.world.posted().await.remove(0);
    assert_ne!(second.blob_hashes, first.blob_hashes);
    assert!(case.has(&second));
    assert_eq!(case.outbox.archived().block, second.l1.block);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_events_out_is_asked_again() {
    let case = Case::new().await;
    let hides = Arc::new(AtomicBool::new(true));
    let told = hides.clone();
    let node = FaultProxy::start(case.world.anvil.url().clone(), move |_, method| {
        if method == "eth_getLogs" && told.load(Ordering::SeqCst) {
            Fault::Result(serde_json::json!([]))
        } else {
            Fault::None
        }
    })
    .await;
    case.post_data("theirs", &noise(100, 1)).await;
    case.settle().await;
    let client = L1Client::new(node.url.clone(), test_patience()).unwrap();
    let rollup = RollupContract::new(client, case.world.rollup);
    let mut archiver = Archiver { rollup, ..case.archiver() };
    let error = archiver.fill().await.unwrap_err().to_string();
    assert!(error.contains("has recorded 1 batches"), "{error}");
    hides.store(false, Ordering::SeqCst);
    archiver.fill().await.unwrap();
    assert_eq!(case.outbox.archived().batch, 1);
}
