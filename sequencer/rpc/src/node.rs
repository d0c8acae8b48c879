//! What this node is and has: `eth_capabilities`, `eth_coinbase`, `debug_getBadBlocks`; and several slots at once.

use std::collections::BTreeMap;

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, U64, U256},
};
use futures::{StreamExt, TryStreamExt, stream};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use millrace_proto::{BlockSelector, ExecutorError, SealedHeader};
use serde::Serialize;

use crate::{api::Api, context::Context, error::CallError, json::SlotKey};

/// Slots that are read at the same time.
const READS: usize = 16;

#[rpc(server)]
pub(crate) trait MoreApi {
    #[method(name = "eth_baseFee")]
    async fn base_fee(&self) -> Result<Option<U256>, CallError>;

    #[method(name = "eth_coinbase")]
    async fn coinbase(&self) -> Result<Address, CallError>;

    #[method(name = "eth_capabilities")]
    async fn capabilities(&self) -> Result<Capabilities, CallError>;

    #[method(name = "eth_getStorageValues")]
    async fn storage_values(
        &self,
        requests: BTreeMap<Address, Vec<SlotKey>>,
        block: Option<BlockId>,
    ) -> Result<BTreeMap<Address, Vec<B256>>, CallError>;

    #[method(name = "debug_getBadBlocks")]
    async fn bad_blocks(&self) -> Result<Vec<U64>, CallError>;
}

/// What of the chain can be asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Capabilities {
    head: Head,
    state: Resource,
    tx: Resource,
    logs: Resource,
    receipts: Resource,
    blocks: Resource,
    stateproofs: Resource,
}

#[derive(Debug, Clone, Serialize)]
struct Head {
    number: U64,
    hash: B256,
}

/// From which block on something is there.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    disabled: bool,
    oldest_block: U64,
}

impl Resource {
    fn from(block: u64) -> Self {
        Self { disabled: false, oldest_block: U64::from(block) }
    }
}

#[async_trait]
impl MoreApiServer for Api {
    /// Of the next block.
    async fn base_fee(&self) -> Result<Option<U256>, CallError> {
        let head = self.0.executor.head().await?;
        Ok(self.0.spec.next_base_fee(&head).map(U256::from))
    }

    async fn coinbase(&self) -> Result<Address, CallError> {
        Ok(self.0.executor.head().await?.beneficiary)
    }

    async fn capabilities(&self) -> Result<Capabilities, CallError> {
        let head = self.0.executor.head().await?;
        let state = self.0.oldest_state().await?;
        Ok(Capabilities {
            head: Head { number: U64::from(head.number), hash: head.seal() },
            state: Resource::from(state),
            tx: Resource::from(0),
            logs: Resource::from(0),
            receipts: Resource::from(0),
            blocks: Resource::from(0),
            stateproofs: Resource::from(state),
        })
    }

    async fn storage_values(
        &self,
        requests: BTreeMap<Address, Vec<SlotKey>>,
        block: Option<BlockId>,
    ) -> Result<BTreeMap<Address, Vec<B256>>, CallError> {
        self.0.storage_values(requests, block).await
    }

    /// This node makes its blocks or refuses them before they are any.
    async fn bad_blocks(&self) -> Result<Vec<U64>, CallError> {
        Ok(Vec::new())
    }
}

/// Whether a header is that of an open block: without roots.
fn is_open(header: Option<SealedHeader>) -> bool {
    header.is_some_and(|header| header.state_root.is_zero())
}

impl Context {
    /// The oldest block whose state is kept.
    async fn oldest_state(&self) -> Result<u64, CallError> {
        let genesis = BlockSelector::Number(0);
        match self.executor.accounts(&[Address::ZERO], genesis).await {
            Ok(_) => Ok(0),
            Err(ExecutorError::StatePruned { oldest, .. }) => Ok(oldest),
            Err(error) => Err(error.into()),
        }
    }

    /// Slots of several accounts, all as of one block.
    async fn storage_values(
        &self,
        requests: BTreeMap<Address, Vec<SlotKey>>,
        block: Option<BlockId>,
    ) -> Result<BTreeMap<Address, Vec<B256>>, CallError> {
        let limit = self.config.limits.max_proof_keys as usize;
        let count: usize = requests.values().map(Vec::len).sum();
        if count == 0 {
            return Err(CallError::InvalidParams("empty request".to_owned()));
        }
        if count > limit {
            return Err(CallError::Limit(format!(
                "{count} storage keys are over the limit of {limit}; ask for less"
            )));
        }
        let keys: Vec<_> = requests
            .iter()
            .flat_map(|(address, slots)| {
                slots.iter().map(|SlotKey(slot)| (*address, slot.as_b256()))
            })
            .collect();
        let read = self.read(block, |named| self.slots(&keys, named)).await?;
        let mut values: BTreeMap<Address, Vec<B256>> =
            requests.into_keys().map(|address| (address, Vec::new())).collect();
        for ((address, _), value) in keys.iter().zip(read) {
            values.entry(*address).or_default().push(value.into());
        }
        Ok(values)
    }

    /// Slots as of one block.
    async fn slots(
        &self,
        keys: &[(Address, B256)],
        named: BlockSelector,
    ) -> Result<Vec<U256>, ExecutorError> {
        // The head may move on between two reads. That of an open block stays what it was, or becomes a sealed one's.
        let header = self.executor.header(named).await?;
        let header = header.ok_or(ExecutorError::UnknownBlock(named))?;
        let at = match named {
            BlockSelector::Open(_) if is_open(Some(header.clone())) => named,
            _ => BlockSelector::Hash(header.seal()),
        };
        let reads: Vec<_> =
            keys.iter().map(|(address, slot)| self.executor.storage(*address, *slot, at)).collect();
        let values = stream::iter(reads).buffered(READS).try_collect().await?;
        let open = matches!(at, BlockSelector::Open(_));
        if open && !is_open(self.executor.header(named).await?) {
            // It was sealed between two reads.
            return Err(ExecutorError::BuildDiscarded);
        }
        Ok(values)
    }
}
