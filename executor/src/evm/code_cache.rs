//! Code with its jump table, kept across blocks.

use std::{collections::VecDeque, fmt};

use alloy_primitives::{B256, Bytes, map::B256Map};
use parking_lot::RwLock;
use revm::bytecode::Bytecode;

use super::{StateReadError, StateReader};

/// Analysed code by hash, bounded in bytes; the oldest leaves first. Shared by everything that executes.
///
/// Code is named by its content, so an entry can never be stale.
pub struct CodeCache {
    limit: usize,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    code: B256Map<Bytecode>,
    order: VecDeque<B256>,
    bytes: usize,
}

impl CodeCache {
    /// Room for about ten thousand contracts of the largest size.
    const DEFAULT_BYTES: usize = 256 << 20;

    /// A cache that holds up to `limit` bytes of code.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, inner: RwLock::default() }
    }

    /// Code from the cache, or from the state.
    pub(super) fn read(
        &self,
        hash: B256,
        reader: &(impl StateReader + ?Sized),
    ) -> Result<Bytecode, StateReadError> {
        if let Some(code) = self.get(hash) {
            return Ok(code);
        }
        let raw = reader.code(hash)?.ok_or(StateReadError::MissingCode(hash))?;
        let code = analyse(raw);
        self.insert(hash, code.clone());
        Ok(code)
    }

    fn get(&self, hash: B256) -> Option<Bytecode> {
        self.inner.read().code.get(&hash).cloned()
    }

    fn insert(&self, hash: B256, code: Bytecode) {
        let size = code.len();
        if size > self.limit {
            return;
        }
        let mut inner = self.inner.write();
        if inner.code.insert(hash, code).is_some() {
            return;
        }
        inner.order.push_back(hash);
        inner.bytes += size;
        while inner.bytes > self.limit {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some(code) = inner.code.remove(&oldest) {
                inner.bytes -= code.len();
            }
        }
    }
}

/// Code as the EVM takes it: a delegation (EIP-7702) if it has the form of one. Code from before EIP-3541 may begin as one does.
pub(super) fn analyse(raw: Bytes) -> Bytecode {
    Bytecode::new_eip7702_raw(raw.clone()).unwrap_or_else(|_| Bytecode::new_legacy(raw))
}

impl Default for CodeCache {
    fn default() -> Self {
        Self::with_limit(Self::DEFAULT_BYTES)
    }
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.read();
        f.debug_struct("CodeCache")
            .field("limit", &self.limit)
            .field("entries", &inner.code.len())
            .field("bytes", &inner.bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_code_leaves_first() {
        let cache = CodeCache::with_limit(100);
        let code = |byte: u8| Bytecode::new_legacy(Bytes::from(vec![byte; 40]));
        for byte in 1..=3 {
            cache.insert(B256::repeat_byte(byte), code(byte));
        }
        assert!(cache.get(B256::repeat_byte(1)).is_none());
        assert!(cache.get(B256::repeat_byte(2)).is_some());
        assert!(cache.get(B256::repeat_byte(3)).is_some());
    }
}
