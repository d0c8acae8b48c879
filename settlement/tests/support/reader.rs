//! Batches' bytes, by digest.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use alloy::primitives::{B256, Bytes};
use async_trait::async_trait;
use millrace_l1::BeaconError;
use millrace_proto::{DaReadError, DaReader, PostedBatch, batch_digest};
use tokio::sync::watch;

/// Holds batches' bytes in memory. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct TestReader {
    batches: Arc<Mutex<HashMap<B256, Bytes>>>,
    /// Reads that found nothing.
    misses: Arc<watch::Sender<u64>>,
    /// Whether it is no beacon API at all.
    wrong: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
}

impl TestReader {
    pub(crate) fn new() -> Self {
        Self {
            batches: Arc::default(),
            misses: Arc::new(watch::Sender::new(0)),
            wrong: Arc::default(),
            reads: Arc::default(),
        }
    }

    /// Answers as an endpoint does that is no beacon API, or as itself again.
    pub(crate) fn set_wrong(&self, wrong: bool) {
        self.wrong.store(wrong, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Makes bytes readable.
    pub(crate) fn publish(&self, bytes: Bytes) {
        self.batches.lock().expect("not poisoned").insert(batch_digest(&bytes), bytes);
    }

    /// Waits until a read has found nothing.
    pub(crate) async fn missed(&self) {
        self.misses.subscribe().wait_for(|misses| *misses > 0).await.expect("the sender lives");
    }
}

#[async_trait]
impl DaReader for TestReader {
    async fn read(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.wrong.load(Ordering::SeqCst) {
            let refusal = BeaconError::Status {
                path: "eth/v1/config/spec".to_owned(),
                status: 405,
                body: String::new(),
            };
            let (batch, source) = (batch.header.number, Box::new(refusal));
            return Err(DaReadError::Unavailable { batch, source });
        }
        let found = self.batches.lock().expect("not poisoned").get(&batch.header.digest).cloned();
        found.ok_or_else(|| {
            self.misses.send_modify(|misses| *misses += 1);
            DaReadError::Unavailable { batch: batch.header.number, source: "not published".into() }
        })
    }
}
