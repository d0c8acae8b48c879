//! What a block does besides its transactions.

use alloy::{
    eips::{
        eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE},
        eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE},
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        eip7685::{EMPTY_REQUESTS_HASH, Requests},
    },
    primitives::{U256, hex},
};

use crate::{chain::Chain, support::spec};

#[test]
fn parent_hash_and_beacon_root_are_recorded_where_the_contracts_exist() {
    let contracts = [
        (HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE.clone()),
        (BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE.clone()),
    ];
    let mut chain = Chain::new(spec("prague", false, &contracts));
    let genesis = chain.head.seal();
    let block = chain.block(&[]);
    assert_eq!(chain.slot(HISTORY_STORAGE_ADDRESS, 0), U256::from_be_bytes(genesis.0));
    let at = block.block.header.timestamp % 8191;
    let root = block.block.header.parent_beacon_block_root.expect("after Cancun");
    assert_eq!(chain.slot(BEACON_ROOTS_ADDRESS, at), U256::from(block.block.header.timestamp));
    assert_eq!(chain.slot(BEACON_ROOTS_ADDRESS, at + 8191), U256::from_be_bytes(root.0));
    assert_eq!(block.block.header.gas_used, 0);
    // The system's own address leaves no trace.
    assert_eq!(block.output.diff.accounts.len(), 2);
}

#[test]
fn without_the_contracts_nothing_happens() {
    let mut chain = Chain::new(spec("prague", false, &[]));
    let block = chain.block(&[]);
    assert!(block.output.diff.accounts.is_empty());
    assert_eq!(block.block.header.requests_hash, Some(EMPTY_REQUESTS_HASH));
}

#[test]
fn requests_of_the_system_contracts_are_hashed() {
    // A contract in the place of EIP-7002's that returns one byte, 0xab.
    let contract = (WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, hex!("60ab60005360016000f3").into());
    let mut chain = Chain::new(spec("prague", false, std::slice::from_ref(&contract)));
    let block = chain.block(&[]);
    let requests = Requests::new(vec![hex!("01ab").into()]);
    assert_eq!(block.block.header.requests_hash, Some(requests.requests_hash()));
    // A rollup has no consensus layer to ask.
    let mut chain = Chain::new(spec("prague", true, &[contract]));
    let block = chain.block(&[]);
    assert_eq!(block.block.header.requests_hash, Some(EMPTY_REQUESTS_HASH));
}

#[test]
fn headers_have_the_fields_of_their_fork() {
    for (fork, withdrawals, blobs, requests) in [
        ("shanghai", true, false, false),
        ("cancun", true, true, false),
        ("osaka", true, true, true),
    ] {
        let mut chain = Chain::new(spec(fork, false, &[]));
        let header = chain.block(&[]).block.header;
        assert_eq!(header.withdrawals_root.is_some(), withdrawals, "{fork}");
        assert_eq!(header.blob_gas_used.is_some(), blobs, "{fork}");
        assert_eq!(header.excess_blob_gas.is_some(), blobs, "{fork}");
        assert_eq!(header.parent_beacon_block_root.is_some(), blobs, "{fork}");
        assert_eq!(header.requests_hash.is_some(), requests, "{fork}");
        assert!(header.base_fee_per_gas.is_some());
    }
}
