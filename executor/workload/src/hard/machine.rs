//! A contract that runs a little program from its call data.
//!
//! A program is a row of records: where the operation's code is (2 bytes), the record's length (2), operands `a` and `b` (32
//! each), and a payload. Between operations there is one value, the accumulator.

use alloy_primitives::{Address, U256};

use super::interpreter::place;

/// What the machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// `sstore(a, b)`.
    Store,
    /// `acc = sload(a)`.
    Load,
    /// `sstore(a, sload(a) + b)`.
    Increase,
    /// `sstore(a, acc)`.
    StoreAcc,
    /// `sstore(a + acc % 4, b)`.
    StoreNear,
    /// One more in the mapping at slot `b` under key `a`.
    MapIncrease,
    /// `sstore(a, gas())`.
    StoreGas,
    /// `acc = balance(a)`.
    Balance,
    /// `acc = selfbalance()`.
    SelfBalance,
    /// `acc = balance(coinbase())`.
    CoinbaseBalance,
    /// `acc = extcodehash(a)`.
    CodeHash,
    /// `acc = extcodesize(a)`.
    CodeSize,
    /// `acc` is the first word of the code at `a`.
    CodeCopy,
    /// `tstore(a, b)`.
    TransientStore,
    /// `acc = tload(a)`.
    TransientLoad,
    /// Logs `acc` under topic `a`.
    Log,
    /// Calls the low 20 bytes of `a` with the gas above them, value `b` and the payload; `acc` is whether that succeeded.
    Call,
    /// The same by `callcode`.
    CallCode,
    /// The same by `delegatecall`.
    DelegateCall,
    /// The same by `staticcall`.
    StaticCall,
    /// Calls the account `acc` with gas `b` and the payload.
    CallAcc,
    /// Pays `acc` wei to `a`, as `Call`.
    PayAcc,
    /// `acc` is the first word that a call returned.
    Result,
    /// `create(b, payload)`; `acc` is the address.
    Create,
    /// `create2(b, payload, salt a)`.
    Create2,
    /// `selfdestruct(a)`.
    SelfDestruct,
    /// Reverts with the payload.
    Revert,
    /// Reverts if `acc` is zero.
    RevertIfZero,
    /// Skips `b` bytes of program more if `acc < a`.
    SkipBelow,
    /// Returns `acc`.
    Return,
    /// Stops.
    Stop,
    /// Burns all gas at once.
    Invalid,
    /// Burns gas until there is none.
    Burn,
}

pub(super) const OPS: [Op; 33] = [
    Op::Store,
    Op::Load,
    Op::Increase,
    Op::StoreAcc,
    Op::StoreNear,
    Op::MapIncrease,
    Op::StoreGas,
    Op::Balance,
    Op::SelfBalance,
    Op::CoinbaseBalance,
    Op::CodeHash,
    Op::CodeSize,
    Op::CodeCopy,
    Op::TransientStore,
    Op::TransientLoad,
    Op::Log,
    Op::Call,
    Op::CallCode,
    Op::DelegateCall,
    Op::StaticCall,
    Op::CallAcc,
    Op::PayAcc,
    Op::Result,
    Op::Create,
    Op::Create2,
    Op::SelfDestruct,
    Op::Revert,
    Op::RevertIfZero,
    Op::SkipBelow,
    Op::Return,
    Op::Stop,
    Op::Invalid,
    Op::Burn,
];

/// Offsets in a record.
pub(super) const A: u8 = 4;
pub(super) const B: u8 = 36;
pub(super) const PAYLOAD: u8 = 68;

/// A program in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Program(Vec<u8>);

impl Program {
    /// How many bytes a record without a payload has.
    pub(super) const RECORD: usize = PAYLOAD as usize;

    pub(super) fn op(&mut self, op: Op, a: U256, b: U256) -> &mut Self {
        self.with(op, a, b, &[])
    }

    pub(super) fn with(&mut self, op: Op, a: U256, b: U256, payload: &[u8]) -> &mut Self {
        let length = (Self::RECORD + payload.len()) as u16;
        self.0.extend_from_slice(&place(op).to_be_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(&a.to_be_bytes::<32>());
        self.0.extend_from_slice(&b.to_be_bytes::<32>());
        self.0.extend_from_slice(payload);
        self
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// An operand that names an account and the gas to call it with.
pub(super) fn callee(address: Address, gas: u64) -> U256 {
    (U256::from(gas) << 160) | U256::from_be_slice(address.as_slice())
}
