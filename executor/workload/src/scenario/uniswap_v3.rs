//! Uniswap v3: pools that are opened, and swaps on them.

use std::sync::Arc;

use alloy::{
    sol,
    sol_types::{SolCall, SolValue},
};
use alloy_primitives::{
    Address, Bytes, TxKind, U160, U256,
    aliases::{I24, U24},
    uint,
};
use millrace_proto::RecoveredTx;

use super::{
    ArtifactError, Artifacts,
    contracts::{DEADLINE, LIQUIDITY},
    world::{ETHER, World},
};

sol! {
    struct MintParams {
        address token0;
        address token1;
        uint24 fee;
        int24 tickLower;
        int24 tickUpper;
        uint256 amount0Desired;
        uint256 amount1Desired;
        uint256 amount0Min;
        uint256 amount1Min;
        address recipient;
        uint256 deadline;
    }
    struct ExactInputSingleParams {
        address tokenIn;
        address tokenOut;
        uint24 fee;
        address recipient;
        uint256 deadline;
        uint256 amountIn;
        uint256 amountOutMinimum;
        uint160 sqrtPriceLimitX96;
    }
    function createAndInitializePoolIfNecessary(address token0, address token1, uint24 fee,
        uint160 sqrtPriceX96) external payable;
    function mint(MintParams params) external payable;
    function exactInputSingle(ExactInputSingleParams params) external payable;
}

/// 0.3%.
const FEE: U24 = U24::from_limbs([3_000]);
/// The last tick of that fee's spacing of 60.
const LAST_TICK: i32 = 887_220;
/// A token for a token: the root of the price as a fixed-point number of 96 bits.
const ONE: U160 = uint!(0x1000000000000000000000000_U160);

/// The contracts.
#[derive(Debug, Clone, Copy)]
pub(super) struct UniswapV3 {
    /// Takes the tokens that liquidity is made of.
    pub(super) positions: Address,
    /// Takes the tokens that are swapped.
    pub(super) router: Address,
}

impl UniswapV3 {
    /// Deploys them.
    pub(super) fn new(
        world: &mut World,
        artifacts: &Artifacts,
        deployer: Address,
        weth: Address,
    ) -> Result<Self, ArtifactError> {
        let factory = world.deploy(deployer, &artifacts.v3_factory, &[])?;
        // Who draws positions is nobody: that is asked for when a wallet shows one.
        let arguments = (factory, weth, Address::ZERO).abi_encode_params();
        let positions = world.deploy(deployer, &artifacts.v3_positions, &arguments)?;
        let arguments = (factory, weth).abi_encode_params();
        let router = world.deploy(deployer, &artifacts.v3_router, &arguments)?;
        Ok(Self { positions, router })
    }

    /// Transactions that create the pool of two tokens, the lower address first, and give it liquidity at every price.
    pub(super) fn open(
        &self,
        world: &mut World,
        [token0, token1]: [Address; 2],
        owner: Address,
    ) -> [Arc<RecoveredTx>; 2] {
        let create =
            createAndInitializePoolIfNecessaryCall { token0, token1, fee: FEE, sqrtPriceX96: ONE };
        let amount = U256::from(LIQUIDITY);
        let last = I24::unchecked_from(LAST_TICK);
        let params = MintParams {
            token0,
            token1,
            fee: FEE,
            tickLower: -last,
            tickUpper: last,
            amount0Desired: amount,
            amount1Desired: amount,
            amount0Min: U256::ZERO,
            amount1Min: U256::ZERO,
            recipient: owner,
            deadline: U256::from(DEADLINE),
        };
        [create.abi_encode(), mintCall { params }.abi_encode()].map(|input| {
            world.send(owner, TxKind::Call(self.positions), 0, 10_000_000, input.into())
        })
    }

    /// The router, and a call to it that swaps one token of a pool for the other.
    pub(super) fn swap(
        &self,
        [token_in, token_out]: [Address; 2],
        to: Address,
    ) -> (Address, Bytes) {
        let params = ExactInputSingleParams {
            tokenIn: token_in,
            tokenOut: token_out,
            fee: FEE,
            recipient: to,
            deadline: U256::from(DEADLINE),
            amountIn: U256::from(ETHER),
            amountOutMinimum: U256::ZERO,
            sqrtPriceLimitX96: U160::ZERO,
        };
        (self.router, exactInputSingleCall { params }.abi_encode().into())
    }
}
