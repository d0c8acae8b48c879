//! What wallets and deploy tools do, with alloy's provider as the client.

use std::sync::atomic::Ordering;

use alloy::{
    consensus::Transaction,
    eips::{BlockId, BlockNumberOrTag},
    network::TransactionBuilder,
    primitives::{Address, B256, U256, address, b256, bytes},
    providers::Provider,
    rpc::types::{
        BlockOverrides, Filter, TransactionRequest,
        state::{AccountOverride, StateOverride},
    },
};

use crate::support::{CHAIN_ID, Chain, counter};

const SOMEBODY: Address = address!("00000000000000000000000000000000000a11ce");
const TOPIC: B256 = b256!("000000000000000000000000000000000000000000000000000000000000002a");

fn transfer(wei: u64) -> TransactionRequest {
    TransactionRequest::default().with_to(SOMEBODY).with_value(U256::from(wei))
}

/// Deploys the counter.
async fn deploy(wallet: &impl Provider) -> Address {
    let deployment = TransactionRequest::default().with_deploy_code(counter());
    let pending = wallet.send_transaction(deployment).await.expect("sent");
    let receipt = pending.get_receipt().await.expect("receipt");
    receipt.contract_address.expect("a contract")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_shows_everywhere() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let pending = wallet.send_transaction(transfer(7)).await.expect("sent");
    let hash = *pending.tx_hash();
    let receipt = pending.get_receipt().await.expect("receipt");

    assert!(receipt.status());
    assert_eq!(receipt.gas_used, 21_000);
    assert_eq!(receipt.block_number, Some(1));
    assert_eq!(receipt.transaction_index, Some(0));
    assert_eq!((receipt.from, receipt.to), (chain.signer.address(), Some(SOMEBODY)));

    let block = wallet.get_block_by_number(1.into()).full().await.expect("block").expect("is");
    let tx = block.transactions.txns().next().expect("a transaction");
    assert_eq!(receipt.effective_gas_price, tx.effective_gas_price(block.header.base_fee_per_gas));
    assert_eq!(tx.inner.tx_hash(), &hash);
    assert_eq!(tx.inner.signer(), chain.signer.address());
    let by_hash = wallet.get_block_by_hash(block.header.hash).await.expect("block").expect("is");
    assert_eq!(by_hash.transactions.hashes().collect::<Vec<_>>(), [hash]);
    let found = wallet.get_transaction_by_hash(hash).await.expect("transaction").expect("is");
    assert_eq!(found.chain_id(), Some(CHAIN_ID));
    assert_eq!(found.block_hash, Some(block.header.hash));
    assert_eq!(wallet.get_balance(SOMEBODY).await.expect("balance"), U256::from(7));
    let receipts = wallet.get_block_receipts(BlockId::latest()).await.expect("receipts");
    assert_eq!(receipts.expect("is"), [receipt]);
    let raw = wallet.get_raw_transaction_by_hash(hash).await.expect("raw").expect("is");
    assert_eq!(alloy::primitives::keccak256(raw), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_is_deployed_called_and_heard() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet).await;
    assert!(!wallet.get_code_at(contract).await.expect("code").is_empty());

    let count_up = TransactionRequest::default().with_to(contract);
    for _ in 0..2 {
        let sent = wallet.send_transaction(count_up.clone()).await.expect("sent");
        assert!(sent.get_receipt().await.expect("receipt").status());
    }
    let read = count_up.clone().with_input(bytes!("01"));
    let two = B256::with_last_byte(2);
    assert_eq!(wallet.call(read.clone()).await.expect("call"), two.0[..]);
    assert_eq!(wallet.get_storage_at(contract, U256::ZERO).await.expect("slot"), U256::from(2));
    let earlier = wallet.call(read).block(BlockId::number(2)).await.expect("call");
    assert_eq!(earlier, B256::with_last_byte(1).0[..]);

    let all = Filter::new().from_block(0).address(contract).event_signature(TOPIC);
    let logs = wallet.get_logs(&all).await.expect("logs");
    assert_eq!(logs.len(), 2);
    assert_eq!(logs[1].topics(), [TOPIC, two]);
    assert_eq!(logs[1].block_number, Some(3));
    let second = wallet.get_logs(&all.clone().topic1(two)).await.expect("logs");
    assert_eq!(second, logs[1..]);
    let none = wallet.get_logs(&all.topic1(TOPIC)).await.expect("logs");
    assert!(none.is_empty());
    let at_hash = Filter::new().at_block_hash(logs[0].block_hash.expect("mined"));
    assert_eq!(wallet.get_logs(&at_hash).await.expect("logs"), logs[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_gives_its_reason() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet).await;
    let bad = TransactionRequest::default().with_to(contract).with_input(bytes!("02"));
    let estimate = wallet.estimate_gas(bad.clone()).await.expect_err("reverts");
    let call = wallet.call(bad).await.expect_err("reverts");
    for error in [estimate, call] {
        let payload = error.as_error_resp().expect("an error reply");
        assert_eq!(payload.code, 3);
        assert_eq!(payload.message, "execution reverted: not today");
        let data = payload.as_revert_data().expect("revert data");
        assert_eq!(&data[..4], [0x08, 0xc3, 0x79, 0xa0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_take_overrides() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet).await;
    let read = TransactionRequest::default().with_to(contract).with_input(bytes!("01"));
    let nine = B256::with_last_byte(9);
    let slot = AccountOverride::default().with_state_diff([(B256::ZERO, nine)]);
    let overrides: StateOverride = [(contract, slot)].into_iter().collect();
    assert_eq!(wallet.call(read).overrides(overrides).await.expect("call"), nine.0[..]);

    // NUMBER, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN
    let code = AccountOverride::default().with_code(bytes!("4360005260206000f3"));
    let overrides: StateOverride = [(SOMEBODY, code)].into_iter().collect();
    let number = wallet
        .call(TransactionRequest::default().with_to(SOMEBODY))
        .overrides(overrides)
        .with_block_overrides(BlockOverrides::default().with_number(U256::from(77)))
        .await
        .expect("call");
    assert_eq!(U256::from_be_slice(&number), U256::from(77));
}

#[tokio::test(flavor = "multi_thread")]
async fn access_lists_name_what_a_call_touches() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet).await;
    let count_up = TransactionRequest::default().with_to(contract).with_from(SOMEBODY);
    let list = wallet.create_access_list(&count_up).await.expect("list").ensure_ok().expect("ok");
    assert_eq!(list.access_list.0.len(), 1);
    assert_eq!(list.access_list.0[0].address, contract);
    assert_eq!(list.access_list.0[0].storage_keys, [B256::ZERO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fees_follow_recent_blocks() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    assert_eq!(wallet.get_max_priority_fee_per_gas().await.expect("tip"), 1_000_000);
    for tip in [3_000_000, 5_000_000] {
        let request =
            transfer(1).with_max_priority_fee_per_gas(tip).with_max_fee_per_gas(3_000_000_000);
        let sent = wallet.send_transaction(request).await.expect("sent");
        sent.get_receipt().await.expect("receipt");
    }
    let head = wallet.get_block_by_number(BlockNumberOrTag::Latest).await.expect("b").expect("is");
    let history = wallet
        .get_fee_history(2, BlockNumberOrTag::Latest, &[0.0, 50.0, 100.0])
        .await
        .expect("history");
    assert_eq!(history.oldest_block, 1);
    assert_eq!(history.base_fee_per_gas.len(), 3);
    assert_eq!(history.latest_block_base_fee(), head.header.base_fee_per_gas.map(u128::from));
    assert_eq!(history.gas_used_ratio.len(), 2);
    let reward = history.reward.expect("rewards");
    assert_eq!(reward, [[3_000_000; 3], [5_000_000; 3]]);
    let tip = wallet.get_max_priority_fee_per_gas().await.expect("tip");
    assert_eq!(tip, 3_000_000);
    let next_base_fee = *history.base_fee_per_gas.last().expect("three");
    assert_eq!(wallet.get_gas_price().await.expect("price"), next_base_fee + tip);
    assert_eq!(wallet.get_blob_base_fee().await.expect("blob fee"), 1);

    let beyond = wallet.get_fee_history(10, BlockNumberOrTag::Latest, &[]).await.expect("history");
    assert_eq!((beyond.oldest_block, beyond.gas_used_ratio.len()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_shows_in_nonce_and_transaction() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let sender = chain.signer.address();
    chain.pool.hold().await;
    let sent = wallet.send_transaction(transfer(1)).await.expect("sent");
    let hash = *sent.tx_hash();
    assert_eq!(wallet.get_transaction_count(sender).await.expect("nonce"), 0);
    assert_eq!(wallet.get_transaction_count(sender).pending().await.expect("nonce"), 1);
    let pending = wallet.get_transaction_by_hash(hash).await.expect("transaction").expect("is");
    assert_eq!((pending.block_hash, pending.transaction_index), (None, None));
    assert!(wallet.get_transaction_receipt(hash).await.expect("no error").is_none());
    assert_eq!(chain.result("txpool_status", serde_json::json!([])).await["pending"], "0x1");

    chain.pool.release().await;
    assert!(sent.get_receipt().await.expect("receipt").status());
    assert_eq!(wallet.get_transaction_count(sender).await.expect("nonce"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_name_the_heads() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    for _ in 0..4 {
        let sent = wallet.send_transaction(transfer(1)).await.expect("sent");
        sent.get_receipt().await.expect("receipt");
    }
    chain.pool.safe.store(2, Ordering::Relaxed);
    chain.pool.finalized.store(1, Ordering::Relaxed);
    let cases = [
        (BlockNumberOrTag::Latest, 4),
        (BlockNumberOrTag::Pending, 4),
        (BlockNumberOrTag::Safe, 2),
        (BlockNumberOrTag::Finalized, 1),
        (BlockNumberOrTag::Earliest, 0),
        (BlockNumberOrTag::Number(3), 3),
    ];
    for (tag, number) in cases {
        let block = wallet.get_block_by_number(tag).await.expect("block").expect("is");
        assert_eq!(block.header.number, number, "{tag}");
        let balance = wallet.get_balance(SOMEBODY).block_id(tag.into()).await.expect("balance");
        assert_eq!(balance, U256::from(number), "{tag}");
    }
    let none = wallet.get_block_by_number(5.into()).await.expect("no error");
    assert!(none.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_verify_against_the_header() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet).await;
    let count_up = TransactionRequest::default().with_to(contract);
    wallet.send_transaction(count_up).await.expect("sent").get_receipt().await.expect("receipt");
    let absent = B256::with_last_byte(5);

    let header = wallet.get_block(BlockId::latest()).await.expect("block").expect("is").header;
    let proof = wallet.get_proof(contract, vec![B256::ZERO, absent]).await.expect("proof");
    verify(header.state_root, &proof);
    assert_eq!(proof.storage_proof[0].value, U256::ONE);
    assert_eq!(proof.storage_proof[1].value, U256::ZERO);

    let before = BlockId::number(1);
    let header = wallet.get_block(before).await.expect("block").expect("is").header;
    let earlier = wallet.get_proof(contract, vec![B256::ZERO]).block_id(before).await;
    let earlier = earlier.expect("proof");
    verify(header.state_root, &earlier);
    assert_eq!(earlier.storage_proof[0].value, U256::ZERO);

    let nobody = wallet.get_proof(Address::repeat_byte(9), vec![]).await.expect("proof");
    assert!(nobody.is_empty());
}

fn verify(state_root: B256, proof: &alloy::rpc::types::EIP1186AccountProofResponse) {
    use alloy::{primitives::keccak256, rlp::encode};
    use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
    let account = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let path = Nibbles::unpack(keccak256(proof.address));
    verify_proof(state_root, path, Some(encode(account)), &proof.account_proof).expect("account");
    for slot in &proof.storage_proof {
        let path = Nibbles::unpack(keccak256(slot.key.as_b256()));
        let value = (!slot.value.is_zero()).then(|| encode(slot.value));
        verify_proof(proof.storage_hash, path, value, &slot.proof).expect("slot");
    }
}
