//! The accounts of a hard block, and the block they meet in.

use std::sync::LazyLock;

use alloy::{
    eips::{
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    },
    signers::local::PrivateKeySigner,
};
use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use millrace_executor::EvmEnv;
use rand::{Rng, RngExt, seq::IndexedRandom};
use rand_distr::{Distribution, Zipf};
use revm::{
    context::BlockEnv, context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};

use super::{
    child::{init, proxy},
    interpreter::machine,
    machine::Program,
    program,
    scene::Origin,
};

pub(super) const CHAIN_ID: u64 = 7357;

/// Who signs; the keys are 1, 2, and so on.
static KEYS: LazyLock<Vec<PrivateKeySigner>> = LazyLock::new(|| {
    let key = |number: u64| PrivateKeySigner::from_bytes(&B256::from(U256::from(number)));
    (1..=10).filter_map(|number| key(number).ok()).collect()
});

/// Addresses of machines. The second and the third differ from the first at one end only.
const MACHINES: [Address; 4] = [
    address!("0a00000000000000000000000000000000000001"),
    address!("0a000000000000000000000000000000000000ff"),
    address!("ff00000000000000000000000000000000000001"),
    address!("0000000000000000000000000000000000c0ffee"),
];

/// Of EIP-7002 and EIP-7251.
const SYSTEM_CONTRACTS: [Address; 2] =
    [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS];

/// Everything that transactions are drawn from.
pub(super) struct Cast {
    pub(super) spec: SpecId,
    pub(super) rollup: bool,
    pub(super) base_fee: u64,
    pub(super) beneficiary: Address,
    /// Those of them that take part.
    pub(super) signers: &'static [PrivateKeySigner],
    /// Hold the machine's code, and cannot be destroyed through another account.
    pub(super) machines: Vec<Address>,
    /// Hand their call data to a machine, and can destroy themselves; some exist before the block, some never.
    pub(super) children: Vec<Address>,
    /// What the children are created by, with `create2`.
    pub(super) inits: Vec<Bytes>,
    /// How the children are created, where they can be.
    pub(super) origins: Vec<Origin>,
    /// Balances are often near the limit, and so is what is sent.
    pub(super) huge: bool,
    /// Called at the block's end, and by transactions as the children are.
    pub(super) system_contracts: Vec<Address>,
    /// Without code: empty, absent, rich, poor, precompiles.
    pub(super) strangers: Vec<Address>,
    /// Addresses that transactions of the block create at, or might.
    pub(super) fresh: Vec<Address>,
    pub(super) slots: Vec<U256>,
}

impl Cast {
    pub(super) fn new(random: &mut impl Rng) -> Self {
        let spec = fork(random);
        let rollup = spec.is_enabled_in(SpecId::SHANGHAI) && random.random_bool(0.3);
        let signers = &KEYS[..random.random_range(3..=KEYS.len())];
        let base_fee = if spec.is_enabled_in(SpecId::LONDON) {
            *[0, 7, 1_000].choose(random).unwrap_or(&7)
        } else {
            0
        };
        let mut cast = Self {
            spec,
            rollup,
            base_fee,
            beneficiary: Address::ZERO,
            signers,
            machines: MACHINES[..random.random_range(1..=MACHINES.len())].to_vec(),
            children: Vec::new(),
            inits: Vec::new(),
            origins: Vec::new(),
            huge: random.random_bool(0.05),
            system_contracts: Vec::new(),
            strangers: strangers(),
            fresh: Vec::new(),
            slots: slots(random),
        };
        cast.beneficiary = cast.choose_beneficiary(random);
        cast.strangers.push(cast.beneficiary);
        for _ in 0..random.random_range(1..=3) {
            let init = cast.init(random);
            for creator in cast.machines.clone().into_iter().take(2) {
                for salt in 0..2_u64 {
                    let child = creator.create2(B256::from(U256::from(salt)), keccak256(&init));
                    cast.children.push(child);
                    if spec.is_enabled_in(SpecId::PETERSBURG) {
                        cast.origins.push(Origin { child, creator, salt, init: init.clone() });
                    }
                }
            }
            cast.inits.push(init);
        }
        if spec.is_enabled_in(SpecId::PRAGUE) && random.random_bool(0.3) {
            cast.system_contracts = SYSTEM_CONTRACTS.to_vec();
            cast.children.extend(SYSTEM_CONTRACTS);
        }
        cast
    }

    fn choose_beneficiary(&self, random: &mut impl Rng) -> Address {
        match random.random_range(0..8) {
            0 | 1 => self.signer(random).address(),
            2 => self.machine(random),
            3 => address!("0000000000000000000000000000000000000004"),
            4 => address!("00000000000000000000000000000000000e0001"),
            5 => address!("00000000000000000000000000000000000e0003"),
            _ => address!("00000000000000000000000000000000000000fe"),
        }
    }

    pub(super) fn enabled(&self, spec: SpecId) -> bool {
        self.spec.is_enabled_in(spec)
    }

    pub(super) fn signer(&self, random: &mut impl Rng) -> &'static PrivateKeySigner {
        &self.signers[zipf(random, self.signers.len())]
    }

    pub(super) fn machine(&self, random: &mut impl Rng) -> Address {
        self.machines[zipf(random, self.machines.len())]
    }

    pub(super) fn slot(&self, random: &mut impl Rng) -> U256 {
        self.slots[zipf(random, self.slots.len())]
    }

    /// An account that might run a program that it is called with.
    pub(super) fn runner(&self, random: &mut impl Rng) -> Address {
        match random.random_range(0..10) {
            0..4 => self.machine(random),
            4..7 => {
                let child = self.children.get(zipf(random, self.children.len()));
                child.copied().unwrap_or(self.machines[0])
            }
            7 => self.fresh.choose(random).copied().unwrap_or(self.machines[0]),
            _ => self.signer(random).address(),
        }
    }

    /// Any account.
    pub(super) fn account(&self, random: &mut impl Rng) -> Address {
        match random.random_range(0..10) {
            0..5 => self.runner(random),
            5..7 => self.signer(random).address(),
            7 => self.beneficiary,
            _ => self.strangers.choose(random).copied().unwrap_or_default(),
        }
    }

    /// Init code: of a child, or of something that is none.
    pub(super) fn init(&self, random: &mut impl Rng) -> Bytes {
        let delegates = self.enabled(SpecId::HOMESTEAD);
        let target = self.machines[0];
        let program = match random.random_range(0..4) {
            0 => Vec::new(),
            1 => {
                let mut program = Program::default();
                program::one(self, random, 1, &mut program);
                program.into_bytes()
            }
            _ => program::random(self, random, 1),
        };
        let runtime = match random.random_range(0..12) {
            0 => Vec::new(),
            1 => vec![0xef, 1],
            2 => machine().to_vec(),
            _ => proxy(target, delegates),
        };
        init(target, &program, &runtime, delegates).into()
    }

    /// The block that they meet in.
    pub(super) fn env(&self, random: &mut impl Rng) -> EvmEnv {
        let tight = random.random_bool(0.25);
        let gas_limit = if tight { random.random_range(1_000_000..8_000_000) } else { 1 << 34 };
        let block = BlockEnv {
            number: U256::from(100),
            beneficiary: self.beneficiary,
            timestamp: U256::from(1_700_000_000),
            gas_limit,
            basefee: self.base_fee,
            difficulty: U256::ONE,
            prevrandao: self.enabled(SpecId::MERGE).then(|| B256::repeat_byte(7)),
            blob_excess_gas_and_price: self
                .enabled(SpecId::CANCUN)
                .then_some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
            slot_num: 0,
        };
        let mut env = EvmEnv::ethereum(self.spec, CHAIN_ID, block);
        env.rollup = self.rollup;
        env
    }
}

fn fork(random: &mut impl Rng) -> SpecId {
    match random.random_range(0..100) {
        0..3 => SpecId::FRONTIER,
        3..6 => SpecId::HOMESTEAD,
        6..8 => SpecId::TANGERINE,
        8..10 => SpecId::SPURIOUS_DRAGON,
        10..12 => SpecId::BYZANTIUM,
        12..15 => SpecId::PETERSBURG,
        15..18 => SpecId::ISTANBUL,
        18..22 => SpecId::BERLIN,
        22..32 => SpecId::LONDON,
        32..37 => SpecId::MERGE,
        37..52 => SpecId::SHANGHAI,
        52..67 => SpecId::CANCUN,
        67..87 => SpecId::PRAGUE,
        _ => SpecId::OSAKA,
    }
}

fn strangers() -> Vec<Address> {
    let mut all: Vec<Address> = (0..6_u64)
        .map(|number| Address::from_word(B256::from(U256::from(0x0e_0000 + number))))
        .collect();
    all.extend(
        [1_u64, 2, 3, 4, 5, 6, 9].map(|number| Address::from_word(B256::from(U256::from(number)))),
    );
    all
}

/// Slots that look alike, in an order that makes other ones hot in other blocks.
fn slots(random: &mut impl Rng) -> Vec<U256> {
    use rand::seq::SliceRandom;
    let hashed = U256::from_be_bytes(keccak256([0; 64]).0);
    let mut slots: Vec<U256> = [0, 64, 128, 192, 255].map(|bits| U256::ONE << bits).to_vec();
    slots.extend([U256::ZERO, U256::MAX, U256::MAX - U256::ONE, hashed, hashed + U256::ONE]);
    slots.extend([U256::from(2), U256::from(3), (U256::ONE << 255) | U256::ONE]);
    slots.shuffle(random);
    slots
}

/// An index below `count`; small ones are drawn much more often.
pub(super) fn zipf(random: &mut impl Rng, count: usize) -> usize {
    match Zipf::new(count as f64, 1.1) {
        Ok(zipf) => (zipf.sample(random) as usize).clamp(1, count) - 1,
        Err(_) => 0,
    }
}
