//! Transactions, at random.

use std::sync::Arc;

use alloy::{
    consensus::{Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy},
    eips::{
        eip2930::{AccessList, AccessListItem},
        eip7702::{Authorization, SignedAuthorization},
    },
    primitives::Signature,
    signers::SignerSync,
};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use millrace_proto::{RecoveredTx, TxDeposit, TxEnvelope};
use rand::{Rng, RngExt, seq::IndexedRandom};
use revm::primitives::hardfork::SpecId;

use super::{
    cast::{CHAIN_ID, Cast},
    machine::{Op, Program},
    program,
};

/// A transaction of any type, before it is one.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) from: Address,
    pub(super) nonce: u64,
    pub(super) to: TxKind,
    pub(super) value: U256,
    pub(super) gas_limit: u64,
    pub(super) input: Bytes,
    pub(super) ty: u8,
    pub(super) chain_id: u64,
    pub(super) max_fee: u128,
    pub(super) tip: u128,
    pub(super) access_list: AccessList,
    pub(super) authorizations: Vec<SignedAuthorization>,
}

impl Draft {
    /// A transaction that is valid, as far as `nonce` is right and the sender can pay.
    pub(super) fn new(
        cast: &Cast,
        random: &mut impl Rng,
        mut nonce_of: impl FnMut(Address) -> u64,
    ) -> Self {
        let from = cast.signer(random).address();
        let mut draft = Self {
            from,
            nonce: nonce_of(from),
            to: TxKind::Call(from),
            value: U256::ZERO,
            gas_limit: gas_limit(random),
            input: Bytes::new(),
            ty: ty(cast, random),
            chain_id: CHAIN_ID,
            max_fee: u128::from(cast.base_fee) + random.random_range(0..4),
            tip: 0,
            access_list: AccessList::default(),
            authorizations: Vec::new(),
        };
        draft.tip = random.random_range(0..=draft.max_fee.min(3));
        draft.fill(cast, random);
        if draft.ty == 4 {
            draft.authorize(cast, random, &mut nonce_of);
        }
        if draft.gas_limit > 21_000 && draft.ty != 0 && random.random_bool(0.4) {
            draft.access_list = access_list(cast, random);
        }
        draft
    }

    fn fill(&mut self, cast: &Cast, random: &mut impl Rng) {
        match random.random_range(0..100) {
            0..22 => {
                self.to = TxKind::Call(cast.account(random));
                self.value = program::value(cast, random);
                if self.ty < 4 && random.random_bool(0.7) {
                    self.gas_limit = 21_000;
                }
            }
            22..30 if self.ty < 3 => {
                self.to = TxKind::Create;
                self.value = U256::from(random.random_range(0..8_u64) / 6);
                self.input = cast.init(random);
            }
            30..36 => {
                let mut program = Program::default();
                let slot = cast.slot(random);
                program.op(Op::Increase, slot, U256::ONE).op(Op::Stop, U256::ZERO, U256::ZERO);
                self.to = TxKind::Call(cast.machines[0]);
                self.input = program.into_bytes().into();
            }
            36..42 => {
                let mut program = Program::default();
                let heir = program::operand(cast.account(random));
                program.op(Op::SelfDestruct, heir, U256::ZERO);
                self.to = TxKind::Call(cast.children.choose(random).copied().unwrap_or_default());
                self.value = U256::from(random.random_range(0..2_u64));
                self.input = program.into_bytes().into();
            }
            42..50 if cast.enabled(SpecId::PETERSBURG) => {
                let mut program = Program::default();
                let salt = U256::from(random.random_range(0..2_u64));
                let init = cast.inits.choose(random).cloned().unwrap_or_default();
                program.with(Op::Create2, salt, U256::ZERO, &init);
                program.op(Op::StoreAcc, cast.slot(random), U256::ZERO);
                program.op(Op::Stop, U256::ZERO, U256::ZERO);
                self.to = TxKind::Call(cast.machine(random));
                self.input = program.into_bytes().into();
            }
            _ => {
                self.to = TxKind::Call(cast.runner(random));
                self.value = U256::from(random.random_range(0..9_u64) / 6);
                self.input = program::random(cast, random, 0).into();
            }
        }
    }

    fn authorize(
        &mut self,
        cast: &Cast,
        random: &mut impl Rng,
        mut nonce_of: impl FnMut(Address) -> u64,
    ) {
        let mut bumped = vec![self.from];
        for _ in 0..random.random_range(1..=3) {
            let authority = cast.signer(random);
            let before = bumped.iter().filter(|bumped| **bumped == authority.address()).count();
            let odd = random.random_range(0..10);
            let authorization = Authorization {
                chain_id: U256::from(
                    *[0, CHAIN_ID].choose(random).unwrap_or(&0) + u64::from(odd == 0),
                ),
                address: match random.random_range(0..8) {
                    0 | 1 => Address::ZERO,
                    2 => cast.account(random),
                    3 => cast.runner(random),
                    _ => cast.machine(random),
                },
                nonce: nonce_of(authority.address())
                    .wrapping_add(before as u64 + u64::from(odd == 1)),
            };
            if odd > 1 {
                bumped.push(authority.address());
            }
            if let Ok(signature) = authority.sign_hash_sync(&authorization.signature_hash()) {
                self.authorizations.push(authorization.into_signed(signature));
            }
        }
        if random.random_range(0..10) == 0 {
            self.authorizations.clear();
        }
    }

    /// Something that will mostly be invalid, on the same accounts and slots.
    pub(super) fn spoiled(&self, cast: &Cast, random: &mut impl Rng) -> Self {
        let mut draft = self.clone();
        match random.random_range(0..10) {
            0 => draft.nonce = draft.nonce.wrapping_add(random.random_range(1..3)),
            1 => draft.nonce = draft.nonce.wrapping_sub(random.random_range(1..3)),
            2 => draft.value = U256::MAX - U256::from(random.random_range(0..10_u64)),
            3 => draft.max_fee = u128::from(cast.base_fee.saturating_sub(1)),
            4 => draft.gas_limit = random.random_range(0..22_000),
            5 => (draft.chain_id, draft.ty) = (CHAIN_ID + 1, draft.ty),
            6 => draft.from = cast.machine(random),
            7 => draft.tip = draft.max_fee + 1,
            8 => draft.gas_limit = u64::MAX >> random.random_range(0..30),
            _ => draft.ty = random.random_range(0..5),
        }
        draft
    }

    pub(super) fn into_tx(self) -> Arc<RecoveredTx> {
        // Nothing below admission looks at signatures.
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let Self { nonce, to, value, gas_limit, input, chain_id, access_list, .. } = self;
        let (max_fee_per_gas, max_priority_fee_per_gas) = (self.max_fee, self.tip);
        let called = to.to().copied().unwrap_or_default();
        let tx = match self.ty {
            0 => {
                // Without replay protection, now and then.
                let chain_id = (nonce % 8 != 3).then_some(chain_id);
                let gas_price = max_fee_per_gas;
                let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
                TxEnvelope::Legacy(Signed::new_unhashed(tx, signature))
            }
            1 => {
                let gas_price = max_fee_per_gas;
                let tx = TxEip2930 {
                    chain_id,
                    nonce,
                    gas_price,
                    gas_limit,
                    to,
                    value,
                    access_list,
                    input,
                };
                TxEnvelope::Eip2930(Signed::new_unhashed(tx, signature))
            }
            3 => {
                let hash = |index: u8| {
                    let mut hash = B256::repeat_byte(index);
                    hash.0[0] = 1;
                    hash
                };
                let tx = TxEip4844 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    to: called,
                    value,
                    access_list,
                    blob_versioned_hashes: (0..1 + (nonce % 3) as u8).map(hash).collect(),
                    max_fee_per_blob_gas: 2,
                    input,
                };
                TxEnvelope::Eip4844(Signed::new_unhashed(tx, signature))
            }
            4 => {
                let tx = TxEip7702 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    to: called,
                    value,
                    access_list,
                    authorization_list: self.authorizations,
                    input,
                };
                TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature))
            }
            _ => {
                let tx = TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    to,
                    value,
                    access_list,
                    input,
                };
                TxEnvelope::Eip1559(Signed::new_unhashed(tx, signature))
            }
        };
        Arc::new(RecoveredTx::new_unchecked(tx, self.from))
    }
}

/// A deposit, from a sender of the block or from nobody.
pub(super) fn deposit(cast: &Cast, random: &mut impl Rng) -> Arc<RecoveredTx> {
    let draft = Draft::new(cast, random, |_| 0);
    let from = if random.random_bool(0.7) { draft.from } else { cast.account(random) };
    let tx = TxDeposit {
        source_hash: B256::with_last_byte(random.random()),
        from,
        to: draft.to,
        mint: if random.random_bool(0.5) { random.random_range(0..1_000_000) } else { 0 },
        value: draft.value,
        gas_limit: if random.random_bool(0.2) { 20_000 } else { draft.gas_limit },
        is_system_transaction: false,
        input: draft.input,
    };
    Arc::new(RecoveredTx::new_unchecked(TxEnvelope::from(tx), from))
}

fn ty(cast: &Cast, random: &mut impl Rng) -> u8 {
    match random.random_range(0..100) {
        0..20 => 0,
        20..32 if cast.enabled(SpecId::BERLIN) => 1,
        32..72 if cast.enabled(SpecId::LONDON) => 2,
        72..76 if cast.enabled(SpecId::CANCUN) && !cast.rollup => 3,
        76..94 if cast.enabled(SpecId::PRAGUE) => 4,
        // Too new for the block's rules, or not.
        94 => random.random_range(0..5),
        _ if cast.enabled(SpecId::LONDON) => 2,
        _ => 0,
    }
}

fn gas_limit(random: &mut impl Rng) -> u64 {
    match random.random_range(0..10) {
        0..6 => 1_000_000,
        6 => random.random_range(25_000..120_000),
        _ => random.random_range(60_000..400_000),
    }
}

fn access_list(cast: &Cast, random: &mut impl Rng) -> AccessList {
    let item = |random: &mut _| AccessListItem {
        address: cast.account(random),
        storage_keys: vec![cast.slot(random).into(), cast.slot(random).into()],
    };
    vec![item(random), item(random)].into()
}
