//! A receipt that a transaction's outcome and its block share.

use std::{ops::Deref, sync::Arc};

use super::Receipt;

/// A receipt that is cheap to clone: one with logs is shared, and one without, as every plain transfer has, is copied, so that it
/// costs no allocation.
#[derive(Debug, Clone)]
pub struct SharedReceipt(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Bare(Receipt),
    Logged(Arc<Receipt>),
}

impl SharedReceipt {
    /// The receipt itself; copied if others have it too.
    pub fn into_inner(self) -> Receipt {
        match self.0 {
            Kind::Bare(receipt) => receipt,
            Kind::Logged(receipt) => Arc::unwrap_or_clone(receipt),
        }
    }
}

impl From<Receipt> for SharedReceipt {
    fn from(receipt: Receipt) -> Self {
        Self(if receipt.logs.is_empty() {
            Kind::Bare(receipt)
        } else {
            Kind::Logged(Arc::new(receipt))
        })
    }
}

impl Deref for SharedReceipt {
    type Target = Receipt;

    fn deref(&self) -> &Receipt {
        match &self.0 {
            Kind::Bare(receipt) => receipt,
            Kind::Logged(receipt) => receipt,
        }
    }
}

impl PartialEq for SharedReceipt {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedReceipt {}
