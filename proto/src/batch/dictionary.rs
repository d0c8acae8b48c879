//! What the compressor knows beforehand: a zstd dictionary that every batch may use, by its number.
//!
//! `millrace dictionary` makes one (`docs/batch-format.md`). A dictionary that batches were posted with never changes: a better one gets the next number.

use std::{
    io,
    sync::{LazyLock, OnceLock},
};

use parking_lot::Mutex;
use ruzstd::decoding::{Dictionary, FrameDecoder, errors::FrameDecoderError};
use zstd::{bulk::Compressor, dict::EncoderDictionary};

/// zstd's levels.
const LEVELS: usize = 22;
/// Compressors that are kept for the next batches: at high levels clearing a new one's tables takes as long as compressing a block of transfers.
const IDLE: usize = 2;

/// A dictionary.
pub struct BatchDictionary {
    number: u8,
    bytes: Vec<u8>,
    /// Never freed, since compressors point to them. Few dictionaries are ever made.
    encoders: [OnceLock<&'static EncoderDictionary<'static>>; LEVELS],
    /// With their levels.
    idle: Mutex<Vec<(i32, Compressor<'static>)>>,
}

impl std::fmt::Debug for BatchDictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchDictionary")
            .field("number", &self.number)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

static FIRST: LazyLock<BatchDictionary> =
    LazyLock::new(|| BatchDictionary::new(1, include_bytes!("dictionary/1.zdict").to_vec()));

impl BatchDictionary {
    /// A dictionary of these bytes, to try it. What is encoded with it can be read only with it.
    pub const fn new(number: u8, bytes: Vec<u8>) -> Self {
        let encoders = [const { OnceLock::new() }; LEVELS];
        Self { number, bytes, encoders, idle: Mutex::new(Vec::new()) }
    }

    /// The dictionary that batches are made with.
    pub fn current() -> &'static Self {
        &FIRST
    }

    /// A dictionary that batches may have been made with.
    pub(super) fn numbered(number: u8) -> Option<&'static Self> {
        (number == FIRST.number).then(|| &*FIRST)
    }

    pub(super) const fn number(&self) -> u8 {
        self.number
    }

    /// One zstd frame of `content`. The level is brought into zstd's range.
    pub(super) fn compress(&self, content: &[u8], level: i32) -> io::Result<Vec<u8>> {
        let level = level.clamp(1, LEVELS as i32);
        let kept = {
            let mut idle = self.idle.lock();
            let at = idle.iter().position(|(of, _)| *of == level);
            at.map(|at| idle.swap_remove(at).1)
        };
        let mut compressor = match kept {
            Some(compressor) => compressor,
            None => self.compressor(level)?,
        };
        let frame = compressor.compress(content)?;
        let mut idle = self.idle.lock();
        if idle.len() == IDLE {
            idle.remove(0);
        }
        idle.push((level, compressor));
        Ok(frame)
    }

    fn compressor(&self, level: i32) -> io::Result<Compressor<'static>> {
        let encoder = self.encoders[level as usize - 1]
            .get_or_init(|| Box::leak(Box::new(EncoderDictionary::copy(&self.bytes, level))));
        let mut compressor = Compressor::with_prepared_dictionary(encoder)?;
        compressor.include_dictid(false)?;
        Ok(compressor)
    }

    /// A decoder that has read the header of `frame`, whose window may have `max_window` bytes.
    pub(super) fn decoder(
        &self,
        frame: &mut &[u8],
        max_window: u64,
    ) -> Result<FrameDecoder, FrameDecoderError> {
        let dictionary = Dictionary::decode_dict(&self.bytes)
            .map_err(FrameDecoderError::DictionaryDecodeError)?;
        let id = dictionary.id;
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(max_window);
        decoder.add_dict(dictionary)?;
        decoder.init(frame)?;
        decoder.force_dict(id)?;
        Ok(decoder)
    }
}
