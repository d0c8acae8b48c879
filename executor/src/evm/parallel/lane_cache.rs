//! What a thread keeps for itself, from transaction to transaction.

use alloy_primitives::{B256, Bytes, map::B256Map};
use revm::bytecode::Bytecode;

use crate::evm::{StateReadError, code_cache::analyse, hashes::Hashes};

/// What one thread keeps.
#[derive(Default)]
pub(super) struct LaneCache {
    /// Code for this thread alone: threads that share code would take turns at its reference count, which every call changes. Code that is
    /// used here and there is not worth a copy.
    code: B256Map<Bytecode>,
    bytes: usize,
    /// How often the block has used code of which there is no copy.
    uses: B256Map<u32>,
    pub(super) hashes: Hashes,
}

impl LaneCache {
    /// The most code that a thread keeps from block to block, in bytes.
    const MOST: usize = 64 << 20;
    /// So often a block uses code before it is copied.
    const OFTEN: u32 = 16;

    /// Turns to another block.
    pub(super) fn begin(&mut self) {
        self.uses.clear();
        self.hashes.clear();
    }

    pub(super) fn code(
        &mut self,
        hash: B256,
        read: impl FnOnce() -> Result<Bytecode, StateReadError>,
    ) -> Result<Bytecode, StateReadError> {
        if let Some(code) = self.code.get(&hash) {
            return Ok(code.clone());
        }
        let shared = read()?;
        let uses = self.uses.entry(hash).or_default();
        *uses += 1;
        if *uses < Self::OFTEN {
            return Ok(shared);
        }
        let raw = Bytes::copy_from_slice(shared.original_byte_slice());
        let raw_len = raw.len();
        let own = if shared.is_eip7702() { analyse(raw) } else { Bytecode::new_legacy(raw) };
        if self.bytes > Self::MOST {
            self.code.clear();
            self.bytes = 0;
        }
        self.bytes += raw_len;
        self.code.insert(hash, own.clone());
        Ok(own)
    }
}
