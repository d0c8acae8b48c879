//! The blocks.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, TxKind, U256};
use millrace_executor::{EvmEnv, MemoryState};
use millrace_proto::RecoveredTx;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Zipf};

use super::{
    ArtifactError, Artifacts, Contracts, Scenario, World,
    contracts::Pool,
    world::{ETHER, account},
};

type Transactions = Vec<Arc<RecoveredTx>>;

/// Where tokens are swapped.
#[derive(Debug, Clone, Copy)]
enum Exchange {
    V2,
    V3,
}

/// Makes blocks on one state.
pub(super) struct Builder {
    size: Scenario,
    pub(super) world: World,
    pub(super) contracts: Contracts,
    pub(super) accounts: Vec<Address>,
    pub(super) pools: Vec<Pool>,
    pools_v3: Vec<Pool>,
    pub(super) random: StdRng,
}

const TRANSFER_GAS: u64 = 21_000;
pub(super) const TOKEN_GAS: u64 = 100_000;
pub(super) const SWAP_GAS: u64 = 300_000;
/// How many senders `transfers_from_few` has.
const FEW: usize = 8;
/// How fast the frequency of the next most frequent choice falls.
const ZIPF: f64 = 1.0;

impl Builder {
    pub(super) fn new(size: Scenario, artifacts: &Artifacts) -> Result<Self, ArtifactError> {
        let mut world = World::new();
        let mut contracts = Contracts::new(&mut world, artifacts)?;
        let accounts: Vec<_> = (0..size.accounts).map(|index| account("user", index)).collect();
        accounts.iter().for_each(|account| world.fund(*account));
        let random = StdRng::seed_from_u64(size.seed);
        let pools = contracts.pools(&mut world, size.swaps)?;
        let pools_v3 = contracts.pools_v3(&mut world, size.swaps)?;
        for holder in accounts.iter().take(size.tokens.max(size.swaps)) {
            contracts.give(&mut world, contracts.token, *holder);
            for token in pools[0].tokens {
                contracts.give(&mut world, token, *holder);
            }
            for token in pools_v3[0].tokens {
                contracts.give_v3(&mut world, token, *holder);
            }
        }
        for (index, holder) in accounts.iter().enumerate().take(size.swaps) {
            contracts.give(&mut world, pools[index].tokens[0], *holder);
            contracts.give_v3(&mut world, pools_v3[index].tokens[0], *holder);
        }
        Ok(Self { size, world, contracts, accounts, pools, pools_v3, random })
    }

    pub(super) fn into_state(self) -> MemoryState {
        self.world.state
    }

    /// Between accounts that appear once, spread over all of them.
    pub(super) fn transfers(&mut self) -> (EvmEnv, Transactions) {
        let step = (self.accounts.len() / (2 * self.size.transfers)).max(1);
        let of = |index: usize| (index * step) % self.accounts.len();
        let pairs: Vec<_> = (0..self.size.transfers)
            .map(|index| (self.accounts[of(2 * index)], self.accounts[of(2 * index + 1)]))
            .collect();
        self.payments(pairs)
    }

    /// From many to one.
    pub(super) fn transfers_to_one(&mut self) -> (EvmEnv, Transactions) {
        let one = account("hot", 0);
        let pairs = self.accounts.iter().take(self.size.transfers).map(|from| (*from, one));
        let pairs = pairs.collect();
        self.payments(pairs)
    }

    /// From a few to many.
    pub(super) fn transfers_from_few(&mut self) -> (EvmEnv, Transactions) {
        let of = |index: usize| self.accounts[index % self.accounts.len()];
        let pairs = (0..self.size.transfers).map(|index| (of(index % FEW), of(FEW + index)));
        let pairs = pairs.collect();
        self.payments(pairs)
    }

    /// Of one token, between accounts that appear once.
    pub(super) fn erc20(&mut self) -> (EvmEnv, Transactions) {
        let pairs = (0..self.size.tokens).map(|index| (index, account("receiver", index)));
        let pairs = pairs.collect();
        self.token_transfers(pairs)
    }

    /// Of one token, from many to one.
    pub(super) fn erc20_to_one(&mut self) -> (EvmEnv, Transactions) {
        let one = account("hot", 0);
        self.token_transfers((0..self.size.tokens).map(|index| (index, one)).collect())
    }

    /// On Uniswap v2, a pool each.
    pub(super) fn swaps(&mut self) -> (EvmEnv, Transactions) {
        self.swap_on(Exchange::V2, (0..self.size.swaps).collect())
    }

    /// On Uniswap v2, all on the same pool: each depends on the one before.
    pub(super) fn swaps_one_pool(&mut self) -> (EvmEnv, Transactions) {
        self.swap_on(Exchange::V2, vec![0; self.size.swaps])
    }

    /// On Uniswap v3, a pool each.
    pub(super) fn swaps_v3(&mut self) -> (EvmEnv, Transactions) {
        self.swap_on(Exchange::V3, (0..self.size.swaps).collect())
    }

    /// On Uniswap v3, all on the same pool: each depends on the one before.
    pub(super) fn swaps_v3_one_pool(&mut self) -> (EvmEnv, Transactions) {
        self.swap_on(Exchange::V3, vec![0; self.size.swaps])
    }

    /// Transfers, token transfers, and swaps on either exchange, with popular senders, recipients and pools.
    pub(super) fn zipf_mix(&mut self) -> (EvmEnv, Transactions) {
        let holders = self.size.tokens.min(self.accounts.len());
        let popular_account = Zipf::new(holders as f32, ZIPF as f32).expect("sizes are positive");
        let popular_pool =
            Zipf::new(self.pools.len() as f32, ZIPF as f32).expect("sizes are positive");
        let mut transactions = Vec::new();
        for _ in 0..self.size.swaps {
            let from = self.random.random_range(0..holders);
            let popular = popular_account.sample(&mut self.random) as usize - 1;
            let from_account = self.accounts[from];
            let popular_account = self.accounts[popular];
            let tx = match self.random.random_range(0..10) {
                0..4 => {
                    let to = TxKind::Call(popular_account);
                    self.world.send(from_account, to, 1, TRANSFER_GAS, Bytes::new())
                }
                4..8 => {
                    let to = TxKind::Call(self.contracts.token);
                    let input = Contracts::transfer(popular_account, U256::from(ETHER));
                    self.world.send(from_account, to, 0, TOKEN_GAS, input)
                }
                choice => {
                    let exchange = if choice == 8 { Exchange::V2 } else { Exchange::V3 };
                    let pool = popular_pool.sample(&mut self.random) as usize - 1;
                    self.swap(exchange, pool, pool)
                }
            };
            transactions.push(tx);
        }
        self.world.rewind();
        (self.world.env.clone(), transactions)
    }

    fn payments(&mut self, pairs: Vec<(Address, Address)>) -> (EvmEnv, Transactions) {
        let send =
            |(from, to)| self.world.send(from, TxKind::Call(to), 1, TRANSFER_GAS, Bytes::new());
        let transactions = pairs.into_iter().map(send).collect();
        self.world.rewind();
        (self.world.env.clone(), transactions)
    }

    fn token_transfers(&mut self, pairs: Vec<(usize, Address)>) -> (EvmEnv, Transactions) {
        let token = TxKind::Call(self.contracts.token);
        let send = |(from, to): (usize, Address)| {
            let input = Contracts::transfer(to, U256::from(ETHER));
            self.world.send(self.accounts[from], token, 0, TOKEN_GAS, input)
        };
        let transactions = pairs.into_iter().map(send).collect();
        self.world.rewind();
        (self.world.env.clone(), transactions)
    }

    fn swap_on(&mut self, exchange: Exchange, pools: Vec<usize>) -> (EvmEnv, Transactions) {
        let mut transactions = Vec::with_capacity(pools.len());
        for (index, pool) in pools.into_iter().enumerate() {
            let trader = if pool == 0 { index } else { pool };
            transactions.push(self.swap(exchange, trader, pool));
        }
        self.world.rewind();
        (self.world.env.clone(), transactions)
    }

    fn swap(&mut self, exchange: Exchange, trader: usize, pool: usize) -> Arc<RecoveredTx> {
        let trader = self.accounts[trader];
        let (router, input) = match exchange {
            Exchange::V2 => self.contracts.swap(self.pools[pool].tokens, trader, U256::from(ETHER)),
            Exchange::V3 => self.contracts.v3.swap(self.pools_v3[pool].tokens, trader),
        };
        self.world.send(trader, TxKind::Call(router), 0, SWAP_GAS, input)
    }
}
