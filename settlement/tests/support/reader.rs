//! Batches' bytes, by digest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use alloy::primitives::{B256, Bytes};
use async_trait::async_trait;
use millrace_proto::{DaReadError, DaReader, PostedBatch, batch_digest};
use tokio::sync::watch;

/// Holds batches' bytes in memory. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct TestReader {
    batches: Arc<Mutex<HashMap<B256, Bytes>>>,
    /// Reads that found nothing.
    misses: Arc<watch::Sender<u64>>,
}

impl TestReader {
    pub(crate) fn new() -> Self {
        Self { batches: Arc::default(), misses: Arc::new(watch::Sender::new(0)) }
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
        let found = self.batches.lock().expect("not poisoned").get(&batch.header.digest).cloned();
        found.ok_or_else(|| {
            self.misses.send_modify(|misses| *misses += 1);
            DaReadError::Unavailable { batch: batch.header.number, source: "not published".into() }
        })
    }
}
