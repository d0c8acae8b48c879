//! The EVM's environment of a block.

use alloy::eips::eip7840::BlobParams;
use alloy_primitives::{Address, U256};
use millrace_proto::{BlockAttributes, ChainSpec, Hardfork, Header};
use revm::{
    context::{BlockEnv, CfgEnv},
    context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};

/// A block as its transactions see it, and the rules that they run under.
#[derive(Debug, Clone)]
pub struct EvmEnv {
    /// Rules.
    pub cfg: CfgEnv,
    /// Block fields.
    pub block: BlockEnv,
    /// Blob limits, from Cancun on.
    pub blob_params: Option<BlobParams>,
    /// A rollup: deposits are taken, blob transactions are not, and the base fee goes to the fee recipient.
    pub rollup: bool,
    /// The block's access list (EIP-7928) is made while it is executed.
    pub access_list: bool,
    /// The block's rules have EIP-2935 and EIP-7685 (Prague).
    pub(super) prague: bool,
    /// The block's rules have EIP-4788 (Cancun).
    pub(super) cancun: bool,
    /// Where EIP-6110 deposits come from, if the chain has a deposit contract.
    pub(super) deposit_contract: Option<Address>,
}

impl EvmEnv {
    /// The environment of the block after `parent`.
    pub fn next(spec: &ChainSpec, parent: &Header, attributes: &BlockAttributes) -> Self {
        let blob_params = spec.blob_params(attributes.timestamp);
        let excess =
            blob_params.map(|params| parent.next_block_excess_blob_gas(params).unwrap_or(0));
        Self::new(
            spec,
            BlockEnv {
                number: U256::from(attributes.number),
                beneficiary: attributes.fee_recipient,
                timestamp: U256::from(attributes.timestamp),
                gas_limit: attributes.gas_limit,
                basefee: spec.next_base_fee(parent).unwrap_or(0),
                difficulty: U256::ZERO,
                prevrandao: Some(attributes.prev_randao),
                blob_excess_gas_and_price: None,
                slot_num: 0,
            },
            excess,
            (attributes.number, attributes.timestamp),
        )
    }

    /// The environment of a block that exists, for calls on top of its state.
    pub fn of(spec: &ChainSpec, header: &Header) -> Self {
        Self::new(
            spec,
            BlockEnv {
                number: U256::from(header.number),
                beneficiary: header.beneficiary,
                timestamp: U256::from(header.timestamp),
                gas_limit: header.gas_limit,
                basefee: header.base_fee_per_gas.unwrap_or(0),
                difficulty: header.difficulty,
                prevrandao: Some(header.mix_hash),
                blob_excess_gas_and_price: None,
                slot_num: 0,
            },
            header.excess_blob_gas,
            (header.number, header.timestamp),
        )
    }

    /// Ethereum's rules of a hardfork, in a block whose fields are given: for state tests and single blocks of Ethereum.
    pub fn ethereum(spec: SpecId, chain_id: u64, block: BlockEnv) -> Self {
        let blob_params = match spec {
            spec if spec.is_enabled_in(SpecId::OSAKA) => Some(BlobParams::osaka()),
            spec if spec.is_enabled_in(SpecId::PRAGUE) => Some(BlobParams::prague()),
            spec if spec.is_enabled_in(SpecId::CANCUN) => Some(BlobParams::cancun()),
            _ => None,
        };
        let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(chain_id);
        cfg.max_blobs_per_tx = blob_params.map(|params| params.max_blobs_per_tx);
        Self {
            cfg,
            block,
            blob_params,
            rollup: false,
            access_list: false,
            prague: spec.is_enabled_in(SpecId::PRAGUE),
            cancun: spec.is_enabled_in(SpecId::CANCUN),
            deposit_contract: None,
        }
    }

    /// The same block, with its access list (EIP-7928) made while it is executed, or not.
    #[must_use]
    pub const fn with_access_list(mut self, made: bool) -> Self {
        self.access_list = made;
        self
    }

    fn new(
        spec: &ChainSpec,
        mut block: BlockEnv,
        excess_blob_gas: Option<u64>,
        (number, timestamp): (u64, u64),
    ) -> Self {
        let fork = spec.hardfork(number, timestamp);
        let blob_params = spec.blob_params(timestamp);
        if fork < Hardfork::Paris {
            block.prevrandao = None;
        }
        block.blob_excess_gas_and_price = blob_params.map(|params| {
            let excess_blob_gas = excess_blob_gas.unwrap_or(0);
            BlobExcessGasAndPrice {
                excess_blob_gas,
                blob_gasprice: params.calc_blob_fee(excess_blob_gas),
            }
        });
        let mut cfg = CfgEnv::new_with_spec(spec_id(fork)).with_chain_id(spec.chain_id());
        cfg.max_blobs_per_tx = blob_params.map(|params| params.max_blobs_per_tx);
        Self {
            cfg,
            block,
            blob_params,
            rollup: spec.is_rollup(),
            access_list: false,
            prague: fork >= Hardfork::Prague,
            cancun: fork >= Hardfork::Cancun,
            deposit_contract: spec.config().deposit_contract_address,
        }
    }
}

/// revm's name of a hardfork.
const fn spec_id(fork: Hardfork) -> SpecId {
    match fork {
        Hardfork::Frontier => SpecId::FRONTIER,
        Hardfork::Homestead => SpecId::HOMESTEAD,
        Hardfork::TangerineWhistle => SpecId::TANGERINE,
        Hardfork::SpuriousDragon => SpecId::SPURIOUS_DRAGON,
        Hardfork::Byzantium => SpecId::BYZANTIUM,
        Hardfork::Petersburg => SpecId::PETERSBURG,
        Hardfork::Istanbul => SpecId::ISTANBUL,
        Hardfork::Berlin => SpecId::BERLIN,
        Hardfork::London => SpecId::LONDON,
        Hardfork::Paris => SpecId::MERGE,
        Hardfork::Shanghai => SpecId::SHANGHAI,
        Hardfork::Cancun => SpecId::CANCUN,
        Hardfork::Prague => SpecId::PRAGUE,
        Hardfork::Osaka => SpecId::OSAKA,
    }
}
