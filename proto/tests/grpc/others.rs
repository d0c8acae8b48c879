//! The DA adapter and the settlement service.

use std::sync::Arc;

use alloy::{
    consensus::Sealable,
    primitives::{B256, Bytes, Signature, U256, keccak256},
};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use millrace_proto::{
    Attestation, BatchOutcome, BatchPoint, BatchRecord, BatchVerdict, BlockNumHash, BoxStream,
    DaAdapter, DaAdapterError, DaKind, DaStatus, DataPrice, ErrorClass, ExecutedBlock, Header,
    L1Ref, OutboxBatch, RefusedBlocks, Settlement, SettlementError, SettlementStatus, WindowLeft,
    grpc::{DaAdapterClient, DaAdapterServer, RemoteError, SettlementClient, SettlementServer},
};
use tonic::service::Routes;

use crate::net::Server;

#[derive(Debug)]
struct FixedAdapter;

#[async_trait]
impl DaAdapter for FixedAdapter {
    async fn da_status(&self) -> Result<DaStatus, DaAdapterError> {
        Ok(DaStatus {
            backend: "l1_blob".into(),
            batched_block: 1,
            batches_closed: 2,
            batches_posted: 3,
            posted_block: 4,
            backlog_bytes: 5,
            posted_bytes: 6,
            posted_transactions: 7,
            l1_fees: U256::from(10).pow(U256::from(20)),
            halted: Some("the contract reverted; look at batch 3".into()),
            chosen: Some("l1_calldata".into()),
            window: Some(WindowLeft { seconds: 8, whole: 9 }),
            refused: Some(RefusedBlocks {
                after: 0,
                last: BlockNumHash::new(11, B256::repeat_byte(12)),
                due: 10,
            }),
            data_price: DataPrice(13),
        })
    }

    async fn use_backend(&self, backend: Option<&str>) -> Result<(), DaAdapterError> {
        match backend {
            None | Some("l1_calldata") => Ok(()),
            Some(other) => Err(DaAdapterError::UnknownBackend {
                backend: other.to_owned(),
                known: "l1_blob, l1_calldata".to_owned(),
            }),
        }
    }

    async fn batch(&self, number: u64) -> Result<Option<OutboxBatch>, DaAdapterError> {
        if number == 13 {
            return Err(DaAdapterError::Outbox(Box::new(RemoteError("disk full".into()))));
        }
        Ok((number == 1).then(|| OutboxBatch {
            number,
            first_block: 1,
            last_block: 9,
            digest: keccak256(b"batch"),
            data: Bytes::from_static(b"batch"),
            posted: true,
        }))
    }
}

#[derive(Debug)]
struct FixedSettlement;

fn derived() -> Arc<ExecutedBlock> {
    let header = Header { number: 1, timestamp: 7, ..Header::default() }.seal_slow();
    Arc::new(ExecutedBlock { header, transactions: Vec::new(), receipts: Vec::new() })
}

fn place(byte: u8) -> BlockNumHash {
    BlockNumHash::new(byte.into(), B256::repeat_byte(byte))
}

#[async_trait]
impl Settlement for FixedSettlement {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        let point = |batch, last_block_hash| {
            Some(BatchPoint { batch, last_block: batch * 10, last_block_hash })
        };
        Ok(SettlementStatus {
            l1_head: place(8),
            posted: point(3, None),
            verified: point(2, Some(B256::repeat_byte(2))),
            committed: point(1, Some(B256::repeat_byte(1))),
            finalized: None,
            l1_fees: U256::from(12345),
            halted: None,
            unmatched: Some(place(20)),
        })
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        let error = SettlementError::Store(Box::new(RemoteError("disk full".into())));
        Ok(stream::iter([self.settlement_status().await, Err(error)]).boxed())
    }

    async fn batch_of_block(&self, number: u64) -> Result<Option<BatchRecord>, SettlementError> {
        let l1 = |byte| L1Ref { tx_hash: B256::repeat_byte(byte), block: place(byte) };
        Ok((number < 10).then(|| BatchRecord {
            number: 1,
            first_block: 1,
            last_block: 9,
            digest: keccak256(b"batch"),
            da_kind: DaKind::ObjectStore,
            posted: l1(5),
            committed: (number > 5).then(|| l1(6)),
            finalized: false,
        }))
    }

    async fn verdict(&self, batch: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        let end = match batch {
            1 => Ok(place(9)),
            2 => Err("it does not join".to_owned()),
            _ => return Ok(None),
        };
        Ok(Some(BatchVerdict { batch_hash: B256::repeat_byte(7), end }))
    }

    async fn derived_block(
        &self,
        number: u64,
    ) -> Result<Option<Arc<ExecutedBlock>>, SettlementError> {
        match number {
            1 => Ok(Some(derived())),
            2 => Ok(None),
            _ => Err(SettlementError::Store(Box::new(RemoteError("disk full".into())))),
        }
    }

    async fn attest(&self, batch: u64) -> Result<Option<Attestation>, SettlementError> {
        match batch {
            1 => {}
            2 => return Ok(None),
            3 => {
                return Err(SettlementError::Attest(Box::new(RemoteError("it has halted".into()))));
            }
            _ => return Err(SettlementError::NotAVerifier),
        }
        let outcome = BatchOutcome {
            batch,
            batch_hash: B256::repeat_byte(1),
            first_block: 2,
            last_block: 3,
            last_block_hash: B256::repeat_byte(4),
            state_root: B256::repeat_byte(5),
            message_root: B256::repeat_byte(6),
        };
        let signature = Signature::test_signature();
        Ok(Some(Attestation { outcome, reverts: 7, signature }))
    }
}

#[tokio::test]
async fn services_do_not_do_what_operators_do() {
    let adapter = DaAdapterServer::new(Arc::new(FixedAdapter));
    let server = Server::start(Routes::new(adapter.into_service()));
    let remote = DaAdapterClient::new(server.connection());
    remote.da_status().await.unwrap();
    let refused = remote.use_backend(None).await.unwrap_err();
    assert!(format!("{refused:?}").contains("admin socket"), "{refused:?}");
}

#[tokio::test]
async fn the_da_adapter_is_the_same() {
    let adapter = DaAdapterServer::for_operators(Arc::new(FixedAdapter));
    let server = Server::start(Routes::new(adapter.into_service()));
    let remote = DaAdapterClient::new(server.connection());
    assert_eq!(remote.da_status().await.unwrap(), FixedAdapter.da_status().await.unwrap());
    remote.use_backend(None).await.unwrap();
    remote.use_backend(Some("l1_calldata")).await.unwrap();
    assert!(matches!(
        remote.use_backend(Some("l3_blob")).await,
        Err(DaAdapterError::UnknownBackend { backend, known })
            if backend == "l3_blob" && known == "l1_blob, l1_calldata"
    ));
    for number in [1, 2] {
        assert_eq!(remote.batch(number).await.unwrap(), FixedAdapter.batch(number).await.unwrap());
    }
    let error = remote.batch(13).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fatal);
    assert_eq!(error.to_string(), "outbox: disk full");
}

#[tokio::test]
async fn the_settlement_service_is_the_same() {
    let settlement = SettlementServer::new(Arc::new(FixedSettlement)).into_service();
    let server = Server::start(Routes::new(settlement));
    let remote = SettlementClient::new(server.connection());
    let expected = FixedSettlement.settlement_status().await.unwrap();
    assert_eq!(remote.settlement_status().await.unwrap(), expected);
    for number in [1, 6, 10] {
        assert_eq!(
            remote.batch_of_block(number).await.unwrap(),
            FixedSettlement.batch_of_block(number).await.unwrap()
        );
    }
    for batch in [1, 2, 3] {
        assert_eq!(
            remote.verdict(batch).await.unwrap(),
            FixedSettlement.verdict(batch).await.unwrap()
        );
    }
    for number in [1, 2] {
        assert_eq!(
            remote.derived_block(number).await.unwrap(),
            FixedSettlement.derived_block(number).await.unwrap()
        );
    }
    let error = remote.derived_block(3).await.unwrap_err();
    assert_eq!(error.to_string(), "settlement storage: disk full");
    for batch in [1, 2] {
        assert_eq!(
            remote.attest(batch).await.unwrap(),
            FixedSettlement.attest(batch).await.unwrap()
        );
    }
    assert_eq!(remote.attest(3).await.unwrap_err().to_string(), "no attestation: it has halted");
    let error = remote.attest(4).await.unwrap_err();
    assert!(matches!(error, SettlementError::NotAVerifier), "{error}");
    let mut statuses = remote.subscribe_status().await.unwrap();
    assert_eq!(statuses.next().await.unwrap().unwrap(), expected);
    let error = statuses.next().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "settlement storage: disk full");
    assert!(statuses.next().await.is_none());
}
