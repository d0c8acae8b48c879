//! What a transaction costs before its first instruction.

use alloy::consensus::Transaction;
use millrace_proto::{Hardfork, TxEnvelope};

const BASE: u64 = 21_000;
/// EIP-2.
const CREATE: u64 = 32_000;
/// EIP-3860, per 32 bytes of init code.
const INIT_CODE_WORD: u64 = 2;
/// EIP-2930.
const ACCESS_LIST_ADDRESS: u64 = 2_400;
/// EIP-2930.
const ACCESS_LIST_KEY: u64 = 1_900;
/// EIP-7702, per authorization (`PER_EMPTY_ACCOUNT_COST`).
const AUTHORIZATION: u64 = 25_000;
/// EIP-2028.
const STANDARD_TOKEN: u64 = 4;
/// EIP-7623.
const FLOOR_TOKEN: u64 = 10;

/// The least gas limit with which a transaction is valid: its intrinsic cost, and from Prague on the floor of EIP-7623.
pub(super) fn least_gas_limit(tx: &TxEnvelope, fork: Hardfork) -> u64 {
    let input = tx.input();
    let zeros = input.iter().filter(|byte| **byte == 0).count() as u64;
    let non_zeros = input.len() as u64 - zeros;
    let non_zero_tokens = if fork >= Hardfork::Istanbul { 4 } else { 17 };
    let tokens = zeros + non_zero_tokens * non_zeros;

    let mut gas = BASE + STANDARD_TOKEN * tokens;
    if tx.is_create() && fork >= Hardfork::Homestead {
        gas += CREATE;
        if fork >= Hardfork::Shanghai {
            gas += INIT_CODE_WORD * (input.len() as u64).div_ceil(32);
        }
    }
    if let Some(list) = tx.access_list() {
        let keys: usize = list.iter().map(|item| item.storage_keys.len()).sum();
        gas += ACCESS_LIST_ADDRESS * list.len() as u64 + ACCESS_LIST_KEY * keys as u64;
    }
    gas += AUTHORIZATION * tx.authorization_count().unwrap_or(0);

    if fork >= Hardfork::Prague { gas.max(BASE + FLOOR_TOKEN * tokens) } else { gas }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction, TxEip1559},
        primitives::{Address, Bytes, Signature, TxKind},
    };

    use super::*;

    fn least(to: TxKind, input: Vec<u8>, fork: Hardfork) -> u64 {
        let tx = TxEip1559 { to, input: Bytes::from(input), ..TxEip1559::default() };
        let tx = TxEnvelope::Eip1559(tx.into_signed(Signature::test_signature()));
        least_gas_limit(&tx, fork)
    }

    #[test]
    fn plain_transfer() {
        assert_eq!(least(Address::ZERO.into(), vec![], Hardfork::Prague), 21_000);
    }

    #[test]
    fn data_pays_the_floor_from_prague_on() {
        let data = vec![0, 0, 1, 2];
        assert_eq!(least(Address::ZERO.into(), data.clone(), Hardfork::Cancun), 21_000 + 4 * 10);
        assert_eq!(least(Address::ZERO.into(), data, Hardfork::Prague), 21_000 + 10 * 10);
    }

    #[test]
    fn creation_pays_for_init_code() {
        let gas = least(TxKind::Create, vec![0; 33], Hardfork::Cancun);
        assert_eq!(gas, 21_000 + 33 * 4 + 32_000 + 2 * 2);
    }
}
