//! The state before a hard block.

use std::sync::Arc;

use alloy_primitives::{Address, U256};
use millrace_executor::MemoryState;
use millrace_proto::AccountInfo;
use rand::{Rng, RngExt};
use revm::primitives::hardfork::SpecId;

use super::{
    cast::Cast,
    child::{proxy, system_contract},
    interpreter::machine,
};

impl Cast {
    /// The state before the block.
    pub(super) fn state(&self, random: &mut impl Rng) -> Arc<MemoryState> {
        let mut state = MemoryState::default();
        let machine = state.add_code(machine());
        let delegates = self.enabled(SpecId::HOMESTEAD);
        let child = state.add_code(proxy(self.machines[0], delegates).into());
        let system = state.add_code(system_contract(self.machines[0]).into());
        let delegation =
            state.add_code([&[0xef, 0x01, 0x00], self.machines[0].as_slice()].concat().into());
        let mut put = |address: Address, info: AccountInfo, slots: bool, random: &mut _| {
            state.set_account(address, Some(info));
            for slot in self.slots.iter().filter(|_| slots) {
                if RngExt::random_bool(random, 0.5) {
                    state.set_slot(
                        address,
                        *slot,
                        U256::from(RngExt::random_range(random, 1..4_u64)),
                    );
                }
            }
        };
        for address in &self.strangers {
            let balance = match random.random_range(0..6) {
                0 => U256::MAX - U256::from(random.random_range(0..3_u64)),
                1 => U256::from(random.random_range(1..1_000_000_u64)),
                2 if !self.enabled(SpecId::SPURIOUS_DRAGON) => U256::ZERO,
                _ => continue,
            };
            put(*address, AccountInfo { balance, ..AccountInfo::default() }, false, random);
        }
        for signer in self.signers {
            let delegated = self.enabled(SpecId::PRAGUE) && random.random_bool(0.2);
            let mut info =
                AccountInfo { balance: balance(self.huge, random), ..AccountInfo::default() };
            info.nonce = match random.random_range(0..30) {
                0 => u64::MAX - random.random_range(0..3),
                1..10 => random.random_range(1..100),
                _ => u64::from(delegated),
            };
            if delegated {
                info.code_hash = delegation;
            }
            put(signer.address(), info, delegated, random);
        }
        for address in &self.machines {
            let most: u64 = if random.random_bool(0.5) { 4 } else { 1_000 };
            let balance = U256::from(random.random_range(0..most));
            let info = AccountInfo { balance, nonce: 1, code_hash: machine };
            put(*address, info, true, random);
        }
        for address in &self.system_contracts {
            put(
                *address,
                AccountInfo { nonce: 1, code_hash: system, ..AccountInfo::default() },
                true,
                random,
            );
        }
        for address in self.children.iter().filter(|child| !self.system_contracts.contains(child)) {
            if random.random_bool(0.4) {
                let balance = U256::from(random.random_range(0..10_u64));
                put(*address, AccountInfo { balance, nonce: 1, code_hash: child }, true, random);
            } else if random.random_bool(0.2) {
                let balance = U256::from(random.random_range(1..10_u64));
                put(*address, AccountInfo { balance, ..AccountInfo::default() }, false, random);
            }
        }
        Arc::new(state)
    }
}

/// What a sender has: mostly plenty.
fn balance(huge: bool, random: &mut impl Rng) -> U256 {
    if huge && random.random_bool(0.4) {
        return U256::MAX - U256::from(random.random_range(0..1_000_u64));
    }
    match random.random_range(0..12) {
        0 if random.random_bool(0.5) => U256::from(random.random_range(0..3_000_000_u64)),
        0 | 1 => U256::from(random.random_range(0..600_000_000_u64)),
        2 => U256::MAX - U256::from(random.random_range(0..1_000_u64)),
        _ => U256::from(10_u128.pow(21)),
    }
}
