//! What transactions call.

use alloy::{
    primitives::{Address, Bytes, TxKind, U256, hex},
    sol,
    sol_types::{SolCall, SolValue},
};
use millrace_workload::Artifacts;

sol! {
    function transfer(address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
    function addLiquidity(address tokenA, address tokenB, uint256 amountADesired, uint256 amountBDesired,
        uint256 amountAMin, uint256 amountBMin, address to, uint256 deadline) external;
    function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to,
        uint256 deadline) external;
}

/// Counts up its slot 0: `SSTORE(0, SLOAD(0) + 1)`, deployed by a copy of itself.
const COUNTER: [u8; 22] = hex!("600a600c600039600a6000f3 60005460010160005500");

const ETHER: u128 = 1_000_000_000_000_000_000;

/// What a transaction does, whoever sends it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) to: TxKind,
    pub(super) value: U256,
    pub(super) gas: u64,
    pub(super) input: Bytes,
}

impl Call {
    fn new(to: Address, gas: u64, input: Vec<u8>) -> Self {
        Self { to: TxKind::Call(to), value: U256::ZERO, gas, input: input.into() }
    }

    /// A payment of ether.
    pub(super) fn pay(to: Address, value: U256) -> Self {
        Self { to: TxKind::Call(to), value, gas: 21_000, input: Bytes::new() }
    }

    fn deploy(code: &[u8], arguments: &[u8]) -> Self {
        let input = [code, arguments].concat().into();
        Self { to: TxKind::Create, value: U256::ZERO, gas: 6_000_000, input }
    }

    /// Deploys the counter.
    pub(super) fn deploy_counter() -> Self {
        Self { gas: 100_000, ..Self::deploy(&COUNTER, &[]) }
    }

    /// Counts up.
    pub(super) fn count(counter: Address) -> Self {
        Self::new(counter, 60_000, Vec::new())
    }

    /// Deploys a token, all of which the owner has.
    pub(super) fn deploy_token(artifacts: &Artifacts, owner: Address) -> Self {
        let supply = U256::from(ETHER) * U256::from(ETHER);
        let arguments = ("Mill".to_owned(), "MILL".to_owned(), supply, owner).abi_encode_params();
        Self::deploy(&artifacts.erc20, &arguments)
    }

    /// Moves tokens.
    pub(super) fn send_tokens(token: Address, to: Address, amount: U256) -> Self {
        Self::new(token, 100_000, transferCall { to, amount }.abi_encode())
    }

    /// Lets a spender take all tokens.
    pub(super) fn approve(token: Address, spender: Address) -> Self {
        Self::new(token, 100_000, approveCall { spender, amount: U256::MAX }.abi_encode())
    }

    /// Deploys wrapped ether, which the router wants to know.
    pub(super) fn deploy_weth(artifacts: &Artifacts) -> Self {
        Self::deploy(&artifacts.weth, &[])
    }

    /// Deploys Uniswap v2's factory.
    pub(super) fn deploy_factory(artifacts: &Artifacts, owner: Address) -> Self {
        Self::deploy(&artifacts.factory, &owner.abi_encode())
    }

    /// Deploys Uniswap v2's router.
    pub(super) fn deploy_router(artifacts: &Artifacts, factory: Address, weth: Address) -> Self {
        Self::deploy(&artifacts.router, &(factory, weth).abi_encode_params())
    }

    /// Opens a pool between two tokens, or adds to it.
    pub(super) fn add_liquidity(router: Address, pair: [Address; 2], owner: Address) -> Self {
        let amount = U256::from(1_000_000) * U256::from(ETHER);
        let call = addLiquidityCall {
            tokenA: pair[0],
            tokenB: pair[1],
            amountADesired: amount,
            amountBDesired: amount,
            amountAMin: U256::ZERO,
            amountBMin: U256::ZERO,
            to: owner,
            deadline: U256::MAX,
        };
        Self::new(router, 5_000_000, call.abi_encode())
    }

    /// Swaps the first token of a pair for the second.
    pub(super) fn swap(router: Address, pair: [Address; 2], to: Address, amount: U256) -> Self {
        let call = swapExactTokensForTokensCall {
            amountIn: amount,
            amountOutMin: U256::ZERO,
            path: pair.to_vec(),
            to,
            deadline: U256::MAX,
        };
        Self::new(router, 200_000, call.abi_encode())
    }

    /// What it can cost at most, wei.
    pub(super) fn most_cost(&self, max_fee: u128) -> U256 {
        self.value + U256::from(self.gas) * U256::from(max_fee)
    }
}
