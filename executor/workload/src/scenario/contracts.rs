//! Contracts set up for blocks: tokens with holders, pools with liquidity.

use alloy::{
    sol,
    sol_types::{SolCall, SolValue},
};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use millrace_executor::StateReader;

use super::{
    ArtifactError, Artifacts,
    uniswap_v3::UniswapV3,
    world::{ETHER, World, account, mapping_slot},
};

sol! {
    function transfer(address to, uint256 amount) external returns (bool);
    function addLiquidity(address tokenA, address tokenB, uint256 amountADesired, uint256 amountBDesired,
        uint256 amountAMin, uint256 amountBMin, address to, uint256 deadline) external;
    function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to,
        uint256 deadline) external;
}

/// Slots of OpenZeppelin's ERC-20 (4.9): `_balances`, `_allowances`.
const BALANCES: u64 = 0;
const ALLOWANCES: u64 = 1;
const RICH: u128 = 1_000_000 * ETHER;
/// What a new pool holds of each token.
pub(super) const LIQUIDITY: u128 = 100_000 * ETHER;
pub(super) const DEADLINE: u64 = u64::MAX;

pub(super) struct Contracts {
    /// The token that every other one is a copy of.
    pub(super) token: Address,
    /// Uniswap v3.
    pub(super) v3: UniswapV3,
    router: Address,
    deployer: Address,
    tokens: usize,
}

/// Two tokens with a pool between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    pub(super) tokens: [Address; 2],
}

impl Contracts {
    pub(super) fn new(world: &mut World, artifacts: &Artifacts) -> Result<Self, ArtifactError> {
        let deployer = account("deployer", 0);
        world.fund(deployer);
        let arguments =
            ("Mill".to_owned(), "MILL".to_owned(), U256::from(RICH), deployer).abi_encode_params();
        let token = world.deploy(deployer, &artifacts.erc20, &arguments)?;
        let weth = world.deploy(deployer, &artifacts.weth, &[])?;
        let factory = world.deploy(deployer, &artifacts.factory, &deployer.abi_encode())?;
        let router =
            world.deploy(deployer, &artifacts.router, &(factory, weth).abi_encode_params())?;
        let v3 = UniswapV3::new(world, artifacts, deployer, weth)?;
        Ok(Self { token, v3, router, deployer, tokens: 0 })
    }

    /// Another token: the same code and settings at another address.
    fn new_token(&mut self, world: &mut World) -> Result<Address, ArtifactError> {
        let address = account("token", self.tokens);
        self.tokens += 1;
        let info = world.state.account(self.token).ok().flatten();
        world.state.set_account(address, info);
        let slots: Vec<_> = world.state.slots(self.token).collect();
        let small = |slot: &U256| *slot < U256::from(16);
        for (slot, value) in slots.into_iter().filter(|(slot, _)| small(slot)) {
            world.state.set_slot(address, slot, value);
        }
        Ok(address)
    }

    /// Gives a holder tokens, and Uniswap v2's router leave to take them.
    pub(super) fn give(&self, world: &mut World, token: Address, holder: Address) {
        give(world, token, holder, self.router);
    }

    /// Gives a holder tokens, and Uniswap v3's router leave to take them.
    pub(super) fn give_v3(&self, world: &mut World, token: Address, holder: Address) {
        give(world, token, holder, self.v3.router);
    }

    /// Uniswap v2's pools, each between two tokens of its own.
    pub(super) fn pools(
        &mut self,
        world: &mut World,
        count: usize,
    ) -> Result<Vec<Pool>, ArtifactError> {
        let mut pools = Vec::with_capacity(count);
        let mut transactions = Vec::with_capacity(count);
        for _ in 0..count {
            let tokens = [self.new_token(world)?, self.new_token(world)?];
            for token in tokens {
                self.give(world, token, self.deployer);
            }
            let amount = U256::from(LIQUIDITY);
            let input = addLiquidityCall {
                tokenA: tokens[0],
                tokenB: tokens[1],
                amountADesired: amount,
                amountBDesired: amount,
                amountAMin: amount,
                amountBMin: amount,
                to: self.deployer,
                deadline: U256::from(DEADLINE),
            };
            let (deployer, router) = (self.deployer, TxKind::Call(self.router));
            transactions.push(world.send(
                deployer,
                router,
                0,
                5_000_000,
                input.abi_encode().into(),
            ));
            pools.push(Pool { tokens });
        }
        world.run(&transactions)?;
        Ok(pools)
    }

    /// Uniswap v3's pools, each between two tokens of its own.
    pub(super) fn pools_v3(
        &mut self,
        world: &mut World,
        count: usize,
    ) -> Result<Vec<Pool>, ArtifactError> {
        let mut pools = Vec::with_capacity(count);
        let mut transactions = Vec::with_capacity(2 * count);
        for _ in 0..count {
            let mut tokens = [self.new_token(world)?, self.new_token(world)?];
            tokens.sort();
            for token in tokens {
                give(world, token, self.deployer, self.v3.positions);
            }
            transactions.extend(self.v3.open(world, tokens, self.deployer));
            pools.push(Pool { tokens });
        }
        world.run(&transactions)?;
        Ok(pools)
    }

    /// A call that moves tokens.
    pub(super) fn transfer(to: Address, amount: U256) -> Bytes {
        transferCall { to, amount }.abi_encode().into()
    }

    /// Uniswap v2's router, and a call to it that swaps one token of a pool for the other.
    pub(super) fn swap(&self, path: [Address; 2], to: Address, amount: U256) -> (Address, Bytes) {
        let call = swapExactTokensForTokensCall {
            amountIn: amount,
            amountOutMin: U256::ZERO,
            path: path.to_vec(),
            to,
            deadline: U256::from(DEADLINE),
        };
        (self.router, call.abi_encode().into())
    }
}

/// Gives a holder tokens, and a spender leave to take them.
fn give(world: &mut World, token: Address, holder: Address, spender: Address) {
    let slot = |number: u64| B256::from(U256::from(number));
    let balance = mapping_slot(holder.into_word(), slot(BALANCES));
    world.state.set_slot(token, balance.into(), U256::from(RICH));
    let allowances = mapping_slot(holder.into_word(), slot(ALLOWANCES));
    let allowance = mapping_slot(spender.into_word(), allowances);
    world.state.set_slot(token, allowance.into(), U256::from(RICH));
}
