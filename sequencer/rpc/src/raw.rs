//! Blocks, transactions and receipts as bytes: `debug_getRaw…`.

use std::sync::Arc;

use alloy::{
    consensus::{Block, BlockBody, TxReceipt},
    eips::{BlockId, Encodable2718},
    primitives::{Bytes, TxHash},
    rlp,
};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use millrace_proto::ExecutedBlock;

use crate::{api::Api, error::CallError};

#[rpc(server, namespace = "debug")]
pub(crate) trait RawApi {
    #[method(name = "getRawHeader")]
    async fn raw_header(&self, block: BlockId) -> Result<Bytes, CallError>;

    #[method(name = "getRawBlock")]
    async fn raw_block(&self, block: BlockId) -> Result<Bytes, CallError>;

    #[method(name = "getRawTransaction")]
    async fn raw_transaction(&self, hash: TxHash) -> Result<Option<Bytes>, CallError>;

    #[method(name = "getRawReceipts")]
    async fn raw_receipts(&self, block: BlockId) -> Result<Vec<Bytes>, CallError>;
}

#[async_trait]
impl RawApiServer for Api {
    async fn raw_header(&self, block: BlockId) -> Result<Bytes, CallError> {
        let header = self.0.executor.header(self.0.select(Some(block)).await?).await?;
        Ok(rlp::encode(header.ok_or_else(no_such_block)?.inner()).into())
    }

    async fn raw_block(&self, block: BlockId) -> Result<Bytes, CallError> {
        let block = self.existing(block).await?;
        let header = block.header.clone_inner();
        let body = BlockBody {
            transactions: block.transactions.iter().map(|tx| tx.tx().clone()).collect(),
            ommers: Vec::new(),
            withdrawals: header.withdrawals_root.map(|_| Default::default()),
        };
        Ok(rlp::encode(Block::new(header, body)).into())
    }

    async fn raw_transaction(&self, hash: TxHash) -> Result<Option<Bytes>, CallError> {
        self.0.raw_transaction(hash).await
    }

    async fn raw_receipts(&self, block: BlockId) -> Result<Vec<Bytes>, CallError> {
        let block = self.existing(block).await?;
        let encoded = block.receipts.iter().map(|receipt| receipt.with_bloom_ref().encoded_2718());
        Ok(encoded.map(Into::into).collect())
    }
}

impl Api {
    async fn existing(&self, block: BlockId) -> Result<Arc<ExecutedBlock>, CallError> {
        let found = self.0.executed(block).await?;
        found.ok_or_else(no_such_block)
    }
}

fn no_such_block() -> CallError {
    CallError::NotFound("no such block".to_owned())
}
