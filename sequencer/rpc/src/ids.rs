//! Random identifiers of filters and subscriptions.

use jsonrpsee::{
    core::{id_providers::RandomIntegerIdProvider, traits::IdProvider},
    types::SubscriptionId,
};

/// Not guessable, so that one client does not poll another's filter.
pub(crate) fn random_id() -> u64 {
    match RandomIntegerIdProvider.next_id() {
        SubscriptionId::Num(id) => id,
        SubscriptionId::Str(_) => unreachable!("the provider makes integers"),
    }
}

/// Subscription ids as Ethereum clients expect them: hex quantities.
#[derive(Debug)]
pub(crate) struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        SubscriptionId::Str(format!("{:#x}", random_id()).into())
    }
}
