//! What is known of transactions before they run: which of them probably depend on each other.

use std::hash::{BuildHasher, Hasher};

use alloy::consensus::Transaction;
use alloy_primitives::{
    TxKind,
    map::{DefaultHashBuilder, HashMap},
};
use millrace_proto::RecoveredTx;
use smallvec::SmallVec;

use super::{memory::Memory, state::SlotKey};

/// What transactions of a kind did in this block and in the last ones with slots that transactions contend for. Kinds and slots go by
/// hashes: taking one for another makes a transaction wait for nothing, or be run twice, and changes no result.
#[derive(Default)]
pub(super) struct Hints {
    kinds: HashMap<u64, Contacts>,
    hasher: DefaultHashBuilder,
    /// Blocks since all was forgotten.
    blocks: u32,
}

/// The contended slots that transactions of a kind come to.
#[derive(Debug, Default)]
struct Contacts {
    /// Runs failed by them.
    reads: Slots,
    writes: Slots,
}

/// Slots by the hashes of their keys.
pub(super) type Slots = SmallVec<[u64; 4]>;

/// Who depends on whom in a stretch, probably.
#[derive(Debug, Default)]
pub(super) struct Order {
    needs: Vec<Option<u32>>,
    needed_by: Vec<Option<u32>>,
}

impl Hints {
    /// With more kinds than this all is forgotten.
    const MOST: usize = 4096;
    /// After so many blocks all is forgotten: what is still true is soon learnt again.
    const BLOCKS: u32 = 64;
    /// Words of the input that are looked at.
    const WORDS: usize = 16;

    /// Turns to another block.
    pub(super) fn begin(&mut self) {
        self.blocks += 1;
        if self.blocks > Self::BLOCKS || self.kinds.len() > Self::MOST {
            self.forget();
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.kinds.clear();
        self.blocks = 0;
    }

    /// A transaction's run failed, because of these slots.
    pub(super) fn read(&mut self, tx: &RecoveredTx, slots: &[u64]) {
        self.learn(tx, slots, |contacts| &mut contacts.reads);
    }

    /// A transaction has written these contended slots.
    pub(super) fn write(&mut self, tx: &RecoveredTx, slots: &[u64]) {
        self.learn(tx, slots, |contacts| &mut contacts.writes);
    }

    fn learn(
        &mut self,
        tx: &RecoveredTx,
        slots: &[u64],
        known: impl FnOnce(&mut Contacts) -> &mut Slots,
    ) {
        if !slots.is_empty()
            && let Some(kind) = self.kind(tx)
        {
            let known = known(self.kinds.entry(kind).or_default());
            slots.iter().for_each(|slot| add(known, *slot));
        }
    }

    /// What tells where a call goes: the contract, the function, and the addresses among the arguments. The sender's own says nothing:
    /// who sends to himself meets nobody by that.
    fn kind(&self, tx: &RecoveredTx) -> Option<u64> {
        let TxKind::Call(to) = tx.tx().kind() else { return None };
        let input = tx.tx().input();
        let (selector, arguments) = input.split_at_checked(4)?;
        let mut hasher = self.hasher.build_hasher();
        hasher.write(to.as_slice());
        hasher.write(selector);
        for word in arguments.chunks_exact(32).take(Self::WORDS) {
            let (zeros, address) = word.split_at(12);
            // Numbers are small.
            let is_address = zeros == [0; 12] && address[..4] != [0; 4];
            if is_address && address != tx.sender().as_slice() {
                hasher.write(address);
            }
        }
        Some(hasher.finish())
    }

    /// Who probably depends on whom; `None` if nothing is known.
    pub(super) fn order<'a>(
        &self,
        memory: &Memory,
        transactions: impl ExactSizeIterator<Item = &'a RecoveredTx>,
    ) -> Option<Order> {
        if self.kinds.is_empty() {
            return None;
        }
        let count = transactions.len();
        let mut order = Order { needs: vec![None; count], needed_by: vec![None; count] };
        let mut writers = HashMap::<u64, u32>::default();
        for (at, tx) in transactions.enumerate() {
            let contacts = self.kind(tx).and_then(|kind| self.kinds.get(&kind));
            let (reads, writes) = match contacts {
                Some(Contacts { reads, writes }) => (reads.as_slice(), writes.as_slice()),
                None => (&[][..], &[][..]),
            };
            let known = reads.iter().chain(writes).copied();
            let listed = tx.tx().access_list().into_iter().flat_map(|list| list.iter());
            let listed = listed.flat_map(|item| {
                let slots = item.storage_keys.iter();
                slots.map(|slot| SlotKey {
                    address: item.address,
                    generation: 0,
                    slot: (*slot).into(),
                })
            });
            let listed = listed.filter_map(|key| memory.slots.contended(&key));
            let last = known.chain(listed).filter_map(|slot| writers.get(&slot).copied()).max();
            if let Some(last) = last {
                order.needs[at] = Some(last);
                order.needed_by[last as usize].get_or_insert(at as u32);
            }
            writers.extend(writes.iter().map(|slot| (*slot, at as u32)));
        }
        Some(order)
    }
}

impl Order {
    /// The last transaction before this one that writes what it needs.
    pub(super) fn needs(&self, at: usize) -> Option<usize> {
        self.needs[at].map(|other| other as usize)
    }

    /// The first transaction that needs what this one writes.
    pub(super) fn needed_by(&self, at: usize) -> Option<usize> {
        self.needed_by[at].map(|other| other as usize)
    }
}

/// The first few are enough: who meets at one slot meets at others as well.
fn add(slots: &mut Slots, slot: u64) {
    if slots.len() < slots.inline_size() && !slots.contains(&slot) {
        slots.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction, TxEip1559},
        eips::eip2930::{AccessList, AccessListItem},
    };
    use alloy_primitives::{Address, B256, Signature, U256};
    use millrace_proto::TxEnvelope;

    use super::*;

    fn address(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    /// A call of a function with addresses and a number, and an access list.
    fn call(sender: u8, arguments: &[u8], number: u64, list: &[(Address, B256)]) -> RecoveredTx {
        let words = arguments.iter().map(|argument| address(*argument).into_word());
        let words = words.chain([B256::from(U256::from(number))]);
        let input = [1, 2, 3, 4].into_iter().chain(words.flat_map(|word| word.0)).collect();
        let item = |(address, slot): &(Address, B256)| AccessListItem {
            address: *address,
            storage_keys: vec![*slot],
        };
        let access_list = AccessList(list.iter().map(item).collect());
        let to = TxKind::Call(address(0xaa));
        let tx = TxEip1559 { to, input, access_list, ..TxEip1559::default() };
        let signed = tx.into_signed(Signature::test_signature());
        RecoveredTx::new_unchecked(TxEnvelope::Eip1559(signed), address(sender))
    }

    fn needs(hints: &Hints, memory: &Memory, transactions: &[RecoveredTx]) -> Vec<Option<usize>> {
        let order = hints.order(memory, transactions.iter()).unwrap_or_default();
        (0..transactions.len())
            .map(|at| order.needs.get(at).and_then(|_| order.needs(at)))
            .collect()
    }

    #[test]
    fn who_writes_a_slot_comes_before_who_needs_it() {
        let (mut hints, memory) = (Hints::default(), Memory::default());
        // To pool 7 or 8, each from another sender who is the recipient as well, of another amount.
        let calls: Vec<_> = [(1, 7), (2, 8), (3, 7), (4, 8), (5, 7)]
            .map(|(sender, pool)| call(sender, &[pool, sender], u64::from(sender), &[]))
            .into();
        assert!(hints.order(&memory, calls.iter()).is_none());
        hints.read(&calls[2], &[70]);
        assert_eq!(needs(&hints, &memory, &calls), [None; 5], "nobody is known to write");
        hints.write(&calls[0], &[70]);
        assert_eq!(needs(&hints, &memory, &calls), [None, None, Some(0), None, Some(2)]);
        let order = hints.order(&memory, calls.iter()).expect("something is known");
        assert_eq!([0, 1, 2].map(|at| order.needed_by(at)), [Some(2), None, Some(4)]);
        // The other pool's transactions come to the same slot.
        hints.read(&calls[1], &[70]);
        assert_eq!(needs(&hints, &memory, &calls), [None, Some(0), Some(0), Some(2), Some(2)]);
        (0..=Hints::BLOCKS).for_each(|_| hints.begin());
        assert!(hints.order(&memory, calls.iter()).is_none());
    }

    #[test]
    fn an_access_list_tells_of_a_slot_that_is_contended_for() {
        let (mut hints, memory) = (Hints::default(), Memory::default());
        let key = |slot: u8| SlotKey { address: address(9), generation: 0, slot: U256::from(slot) };
        let listed = |slot: u8| (address(9), B256::from(key(slot).slot));
        let writer = call(1, &[7], 0, &[]);
        hints.write(&writer, &[memory.slots.contend(&key(1))]);
        let strange = |list| call(2, &[100], 5, list);
        let calls = [writer, strange(&[listed(2)]), strange(&[listed(2), listed(1)])];
        assert_eq!(needs(&hints, &memory, &calls), [None, None, Some(0)]);
    }
}
