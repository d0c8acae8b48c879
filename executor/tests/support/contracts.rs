//! Small contracts, by hand.

use alloy::primitives::{Address, Bytes, address, hex, keccak256};

pub(crate) const STORE: Address = address!("00000000000000000000000000000000000a0001");
pub(crate) const LOG: Address = address!("00000000000000000000000000000000000a0002");
pub(crate) const REVERT: Address = address!("00000000000000000000000000000000000a0003");
pub(crate) const FACTORY: Address = address!("00000000000000000000000000000000000a0004");
pub(crate) const ENV: Address = address!("00000000000000000000000000000000000a0005");
pub(crate) const LOOP: Address = address!("00000000000000000000000000000000000a0006");
pub(crate) const NESTED: Address = address!("00000000000000000000000000000000000a0007");

/// All of them, for a genesis.
pub(crate) fn all() -> Vec<(Address, Bytes)> {
    [
        // sstore(0, calldataload(0))
        (STORE, hex!("60003560005500").to_vec()),
        // mstore(0, calldataload(0)); log1(0, 32, calldataload(0))
        (LOG, hex!("600035600052600035602060 00a100").to_vec()),
        // calldatacopy(0, 0, calldatasize()); revert(0, calldatasize())
        (REVERT, hex!("36600060003736 6000fd").to_vec()),
        // calldatacopy(0, 0, calldatasize()); create2(callvalue(), 0, calldatasize(), 0)
        (FACTORY, hex!("366000600037 6000 36 6000 34 f5 50 00").to_vec()),
        // Returns number, timestamp, base fee, balance of the caller, sload(0), gas price, blockhash(number - 1).
        (
            ENV,
            hex!(
                "43600052 42602052 48604052 33316060 52 600054608052 3a60a052 600143034060c052 60e06000f3"
            )
            .to_vec(),
        ),
        // for { } 1 { } { }
        (LOOP, hex!("5b600056").to_vec()),
        (NESTED, nested()),
    ]
    .map(|(address, code)| (address, code.into()))
    .to_vec()
}

/// Calls STORE with the call data's first word and all gas that EIP-150 allows, and reverts if that fails: needs more gas
/// as its limit than it uses.
fn nested() -> Vec<u8> {
    let mut code = hex!("6000356000526000600060206000600073").to_vec();
    code.extend_from_slice(STORE.as_slice());
    code.extend_from_slice(&hex!("5af1602f57600060 00fd"));
    let target = code.len() as u8;
    let jump = code.iter().position(|byte| *byte == 0x2f).expect("the placeholder is there");
    code[jump] = target;
    code.extend_from_slice(&hex!("5b00"));
    code
}

/// Init code that deploys `runtime`.
pub(crate) fn deploy(runtime: &[u8]) -> Vec<u8> {
    let size = runtime.len() as u8;
    let mut code = hex!("60ff600c60003960ff6000f3").to_vec();
    code[1] = size;
    code[8] = size;
    code.extend_from_slice(runtime);
    code
}

/// Init code that stores the block's number in slot 0, 1 in the slot of that number, and deploys code that destroys itself.
pub(crate) fn mortal() -> Vec<u8> {
    let mut code = hex!("43600055 60014355 6002601460003960026000f3").to_vec();
    assert_eq!(code.len(), 20);
    code.extend_from_slice(&hex!("33ff"));
    code
}

/// Where FACTORY puts `init_code`.
pub(crate) fn created_by_factory(init_code: &[u8]) -> Address {
    FACTORY.create2([0; 32], keccak256(init_code))
}
