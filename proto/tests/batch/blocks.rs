use super::*;

/// Whoever makes transactions chooses their signatures too, and those of authorizations need not even be valid: what EIP-2718 has few bytes for, a
/// batch must not have many for. 780,284 bytes are six blobs'.
#[test]
fn the_largest_block_fits_six_blobs_whatever_it_is_made_of() {
    let mut seed = 0_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let words = (0..length.div_ceil(32)).flat_map(|_| {
            seed += 1;
            batch_digest(&seed.to_be_bytes()).0
        });
        words.take(length).collect()
    };
    for (authorizations, input, tiny) in
        [(300, 90_000, false), (0, 0, true), (0, 300, true), (1, 0, true)]
    {
        let (mut transactions, mut bytes) = (Vec::new(), 0);
        loop {
            let authorization = |address: Vec<u8>| {
                let address = Address::from_slice(&address);
                let inner = Authorization { chain_id: U256::ZERO, address, nonce: 0 };
                SignedAuthorization::new_unchecked(inner, 0, U256::ZERO, U256::ZERO)
            };
            let tx = TxEip7702 {
                chain_id: CHAIN_ID,
                nonce: bytes as u64 * 7,
                gas_limit: 21_000 + bytes as u64,
                max_fee_per_gas: 1_000_000_007 + bytes as u128,
                to: Address::from_slice(&noise(20)),
                authorization_list: (0..authorizations).map(|_| authorization(noise(20))).collect(),
                input: noise(input).into(),
                ..TxEip7702::default()
            };
            let signature = match tiny {
                true => Signature::new(U256::ONE, U256::ONE, false),
                false => Signature::new(U256::MAX, U256::MAX >> 1, true),
            };
            let tx = TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature));
            bytes += RecoveredTx::new_unchecked(tx.clone(), Address::ZERO).batch_bytes();
            if bytes > millrace_proto::MAX_BLOCK_TX_BYTES {
                break;
            }
            transactions.push(tx);
        }
        let block = BatchBlock { timestamp: 1, deposits_end: 3, transactions };
        let encoded = Batch { blocks: vec![block], ..frozen_batch() }.encode(1).unwrap();
        assert!(encoded.len() <= 780_284, "{authorizations} {input} {tiny}: {}", encoded.len());
    }
}

pub(super) fn deposit(index: u64) -> Deposit {
    let [from, to] = [1, 2].map(Address::repeat_byte);
    Deposit { index, from, to, value: U256::from(index), gas_limit: 100_000, data: Bytes::new() }
}

/// Consecutive blocks, each with some deposits and one signed transaction.
fn executed(deposits: &[u64], parent: B256) -> Vec<Arc<ExecutedBlock>> {
    let (mut parent_hash, mut deposits_end) = (parent, 10);
    deposits
        .iter()
        .enumerate()
        .map(|(index, consumed)| {
            let mut transactions: Vec<TxEnvelope> = (deposits_end..deposits_end + consumed)
                .map(|index| deposit(index).to_tx(Address::ZERO).into())
                .collect();
            transactions.push(frozen_batch().blocks[0].transactions[0].clone());
            deposits_end += consumed;
            let header = Header {
                number: 5 + index as u64,
                parent_hash,
                timestamp: 100 + index as u64 / 2,
                extra_data: QueueMark { end: deposits_end, ..QueueMark::default() }.extra_data(),
                parent_beacon_block_root: Some(B256::ZERO),
                state_root: B256::with_last_byte(index as u8),
                ..Header::default()
            }
            .seal_slow();
            parent_hash = header.seal();
            let receipt = EthereumReceipt {
                tx_type: TxType::Legacy,
                success: true,
                cumulative_gas_used: 21_000,
                logs: Vec::new(),
            };
            Arc::new(ExecutedBlock {
                header,
                receipts: vec![receipt; transactions.len()],
                transactions: transactions
                    .into_iter()
                    .map(|tx| Arc::new(RecoveredTx::new_unchecked(tx, Address::ZERO)))
                    .collect(),
            })
        })
        .collect()
}

#[test]
fn a_batch_of_executed_blocks_holds_what_l1_does_not() {
    let parent = B256::repeat_byte(7);
    let blocks = executed(&[2, 0, 1], parent);
    let batch = Batch::from_blocks(CHAIN_ID, 10, parent, &blocks).unwrap();
    assert_eq!((batch.first_block, batch.last_block()), (5, 7));
    assert_eq!((batch.deposits_start, batch.deposits_end()), (10, 13));
    assert_eq!(batch.last_block_hash, blocks[2].hash());
    assert_eq!(batch.transaction_count(), 3);
    let times: Vec<_> =
        batch.blocks.iter().map(|block| (block.timestamp, block.deposits_end)).collect();
    assert_eq!(times, [(100, 12), (100, 12), (101, 13)]);

    let refused = |start, parent, blocks: &[_]| {
        Batch::from_blocks(CHAIN_ID, start, parent, blocks).unwrap_err()
    };
    assert!(matches!(refused(10, parent, &[]), BatchEncodeError::Empty));
    assert!(matches!(refused(11, parent, &blocks), BatchEncodeError::Block { number: 5, .. }));
    assert!(matches!(refused(10, B256::ZERO, &blocks), BatchEncodeError::Block { number: 5, .. }));
    let gap = [blocks[0].clone(), blocks[2].clone()];
    assert!(matches!(refused(10, parent, &gap), BatchEncodeError::Block { number: 7, .. }));
}
