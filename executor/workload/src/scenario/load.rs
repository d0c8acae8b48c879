//! Chains as they are under load: blocks after blocks, executed, in which the same accounts come again and again.

use std::sync::Arc;

use alloy::consensus::{Header, Sealable};
use alloy_primitives::{B256, TxKind, U256, keccak256};
use millrace_executor::{BlockOutput, MemoryState};
use millrace_proto::{ExecutedBlock, QueueMark, RecoveredTx, StateDiff};
use rand::RngExt;

use super::{
    ArtifactError, Artifacts, Contracts, Scenario,
    blocks::{Builder, SWAP_GAS, TOKEN_GAS},
    world::CHAIN_ID,
};

/// What users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// They send each other a token.
    Erc20,
    /// They swap tokens on Uniswap v2, each on one of some pools.
    Swap {
        /// How many pools there are.
        pools: usize,
    },
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What users do.
    pub kind: LoadKind,
    /// Users. Each transaction is one's by chance.
    pub senders: usize,
    /// How many blocks.
    pub blocks: usize,
    /// Transactions a block.
    pub transactions: usize,
    /// What random choices follow from.
    pub seed: u64,
}

/// An executed chain.
#[derive(Debug)]
pub struct Loaded {
    /// The state before the first block.
    pub state: Arc<MemoryState>,
    /// The blocks, each with what it changed. Headers are those of a rollup, but for the roots, which are made up.
    pub blocks: Vec<(Arc<ExecutedBlock>, Arc<StateDiff>)>,
}

impl Load {
    /// The chain's id.
    pub const CHAIN_ID: u64 = CHAIN_ID;

    /// Makes a chain and executes it.
    ///
    /// # Errors
    /// When the contracts' published bytecode is not of the expected form, or a transaction fails.
    pub fn execute(self, artifacts: &Artifacts) -> Result<Loaded, ArtifactError> {
        let pools = match self.kind {
            LoadKind::Erc20 => 1,
            LoadKind::Swap { pools } => pools,
        };
        let size = Scenario {
            accounts: self.senders,
            transfers: 0,
            tokens: self.senders,
            swaps: pools,
            seed: self.seed,
        };
        let mut builder = Builder::new(size, artifacts)?;
        if let LoadKind::Swap { pools } = self.kind {
            builder.let_trade(pools);
        }
        let state = Arc::new(builder.world.state.clone());
        let mut blocks = Vec::with_capacity(self.blocks);
        let mut parent = B256::repeat_byte(0x11);
        for _ in 0..self.blocks {
            let transactions: Vec<_> =
                (0..self.transactions).map(|_| builder.act(self.kind)).collect();
            let block = builder.world.env.block.clone();
            let output = builder.world.execute(&transactions)?;
            builder.world.next_block();
            let diff = Arc::new(output.diff.clone());
            let block = as_rollup_block(
                block.number.saturating_to(),
                block.timestamp.saturating_to(),
                parent,
                output,
            );
            parent = block.hash();
            blocks.push((Arc::new(block), diff));
        }
        Ok(Loaded { state, blocks })
    }
}

impl Builder {
    /// Gives every account the first token of the pool that it trades on, and the router leave to take it.
    fn let_trade(&mut self, pools: usize) {
        for (index, holder) in self.accounts.iter().enumerate() {
            let token = self.pools[index % pools].tokens[0];
            self.contracts.give(&mut self.world, token, *holder);
        }
    }

    /// Something that a user does.
    fn act(&mut self, kind: LoadKind) -> Arc<RecoveredTx> {
        let from = self.random.random_range(0..self.accounts.len());
        let sender = self.accounts[from];
        let amount = U256::from(self.random.random_range(1..1_000_000_u64));
        let (to, input, gas) = match kind {
            LoadKind::Erc20 => {
                let to = self.accounts[self.random.random_range(0..self.accounts.len())];
                (self.contracts.token, Contracts::transfer(to, amount), TOKEN_GAS)
            }
            LoadKind::Swap { pools } => {
                let path = self.pools[from % pools].tokens;
                let (router, input) = self.contracts.swap(path, sender, amount);
                (router, input, SWAP_GAS)
            }
        };
        self.world.send(sender, TxKind::Call(to), 0, gas, input)
    }
}

/// A block as a rollup would have it: with a header that is one's, but for the state root, which is made up.
pub fn as_rollup_block(
    number: u64,
    timestamp: u64,
    parent_hash: B256,
    output: BlockOutput,
) -> ExecutedBlock {
    let queue = QueueMark::default();
    let header = Header {
        parent_hash,
        number,
        timestamp,
        state_root: keccak256(number.to_be_bytes()),
        transactions_root: output.transactions_root(),
        receipts_root: output.receipts_root(),
        logs_bloom: output.logs_bloom,
        gas_used: output.gas_used,
        extra_data: queue.extra_data(),
        parent_beacon_block_root: Some(queue.hash),
        // What such a header has before it.
        base_fee_per_gas: Some(0),
        withdrawals_root: Some(B256::ZERO),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        ..Header::default()
    };
    ExecutedBlock {
        header: header.seal_slow(),
        transactions: output.transactions,
        receipts: output.receipts,
    }
}
