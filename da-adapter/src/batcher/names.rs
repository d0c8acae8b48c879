//! Naming accounts: those that the state before a batch has are told by the first bits of their addresses, as many as tell them apart there.

use alloy::primitives::Address;
use millrace_proto::{AccountNames, AddressPrefix, BlockSelector, ExecutorError};
use tracing::warn;

use super::Batcher;

/// Accounts that the executor is asked for at once.
const AT_ONCE: usize = 16_384;

/// Names have so many bits more than it takes to number the state's accounts: with each more, every name takes one, and half as many addresses begin as another, which
/// take 160 each. What is least is where one in 111 (160 times the logarithm of 2) does.
const SPARE_BITS: u32 = 7;
const LEAST_BITS: u32 = 8;

fn bits(accounts: u64) -> u8 {
    let bits = u64::BITS - accounts.leading_zeros() + SPARE_BITS;
    bits.clamp(LEAST_BITS, AddressPrefix::MAX_BITS.into()) as u8
}

impl Batcher {
    /// Which of these addresses can be named in the next batch. None where the executor does not know the state before it any more, or cannot be asked: the batch is
    /// larger then.
    pub(super) async fn names(&self, addresses: &[Address]) -> AccountNames {
        if addresses.is_empty() {
            return AccountNames::default();
        }
        self.find_names(addresses).await.unwrap_or_else(|error| {
            warn!(target: "millrace::da_adapter", %error, "accounts cannot be named in the batch, it will be larger");
            AccountNames::default()
        })
    }

    async fn find_names(&self, addresses: &[Address]) -> Result<AccountNames, ExecutorError> {
        let (executor, before) =
            (&self.parts.executor, BlockSelector::Hash(self.cursor.block.hash));
        let bits = bits(executor.find_accounts(&[], before).await?.total);
        let mut found = Vec::with_capacity(addresses.len());
        for addresses in addresses.chunks(AT_ONCE) {
            let prefix = |address: &Address| AddressPrefix::of(*address, bits);
            let prefixes: Vec<_> = addresses.iter().map(prefix).collect();
            found.extend(executor.find_accounts(&prefixes, before).await?.accounts);
        }
        Ok(AccountNames::new(bits, addresses, &found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_all_but_one_account_in_a_hundred_apart() {
        assert_eq!(bits(0), 8);
        assert_eq!(bits(1), 8);
        assert_eq!(bits(100_000), 24);
        assert_eq!(bits(300_000_000), 36);
        assert_eq!(bits(u64::MAX), 64);
    }
}
