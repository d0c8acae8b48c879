//! How many blocks one log query covers: fewer where the node says that it is too much, more again where it takes them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloy::transports::{RpcError, TransportErrorKind};

use crate::L1Error;

/// So many whole ranges in a row must have been taken before a longer one is tried.
const GROW_AFTER: u32 = 8;

/// Blocks in one `eth_getLogs`, at least one. Concurrent readers may share it: a race between them costs a query at most.
#[derive(Debug)]
pub(super) struct LogRange {
    /// As configured.
    most: u64,
    now: AtomicU64,
    /// Whole ranges that the node has taken since the last change.
    taken: AtomicU32,
}

impl LogRange {
    pub(super) fn new(most: u64) -> Self {
        let most = most.max(1);
        Self { most, now: AtomicU64::new(most), taken: AtomicU32::new(0) }
    }

    /// Blocks to ask for now.
    pub(super) fn blocks(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The node found so many blocks too much. Returns how many to ask for next.
    pub(super) fn refused(&self, blocks: u64) -> u64 {
        let half = (blocks / 2).max(1);
        self.taken.store(0, Ordering::Relaxed);
        self.now.fetch_min(half, Ordering::Relaxed).min(half)
    }

    /// The node took so many blocks. A query that ended before the range did says nothing about a longer one.
    pub(super) fn taken(&self, blocks: u64) {
        let now = self.blocks();
        if now >= self.most || blocks < now {
            return;
        }
        if self.taken.fetch_add(1, Ordering::Relaxed) + 1 >= GROW_AFTER {
            self.taken.store(0, Ordering::Relaxed);
            self.now.fetch_max(now.saturating_mul(2).min(self.most), Ordering::Relaxed);
        }
    }
}

/// Whether a node says that a log query covers too many blocks or has too many results. Codes tell little (`-32005` is a
/// rate limit as well), so the words decide: those of the nodes and providers in use, and this workspace's own.
pub(super) fn is_too_much(error: &L1Error) -> bool {
    let L1Error::Rpc { source, .. } = error else { return false };
    match source {
        RpcError::ErrorResp(payload) => {
            let data = payload.data.as_ref().map_or("", |data| data.get());
            says_too_much(&payload.message) || says_too_much(data)
        }
        // Content too large: some providers put the words into this reply's body.
        RpcError::Transport(TransportErrorKind::HttpError(http)) => {
            http.status == 413 || (http.status == 400 && says_too_much(&http.body))
        }
        _ => false,
    }
}

fn says_too_much(text: &str) -> bool {
    const FREQUENCY: [&str; 11] = [
        "rate limit",
        "rate-limit",
        "rate exceeded",
        "request rate",
        "request limit",
        "request count",
        "too many requests",
        "per second",
        "concurrent",
        "credits",
        "compute unit",
    ];
    const SUBJECT: [&str; 5] = ["range", "result", "logs", "response", "blocks"];
    const TOO_MUCH: [&str; 13] = [
        "exceed",
        "limit",
        "too large",
        "too big",
        "too wide",
        "too many",
        "more than",
        "larger than",
        "greater than",
        "bigger than",
        "maximum",
        "max ",
        "not supported",
    ];
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // A query that takes the node too long is too much of it, too.
    !says(&FREQUENCY) && (text.contains("query timeout") || (says(&SUBJECT) && says(&TOO_MUCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_for_size_are_told_from_others() {
        for size in [
            "query returned more than 10000 results",
            "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
            "query exceeds max block range 100000",
            "query exceeds max results 20000, retry with the range 1-2",
            "exceed maximum block range: 5000",
            "eth_getLogs is limited to a 10,000 range",
            "range 1000000 exceeds limit of 10000",
            "range 9009594 is bigger than range limit 2000",
            "block range is too wide",
            "block range is larger than max block range, block range = 5120",
            "block range too large, max range: 1000",
            "Too many logs requested. Max logs per response is 20000.",
            "requested too many blocks from 1 to 9000, maximum is set to 2048",
            "ranges over 10000 blocks are not supported on freetier",
            "logs matched by query exceeds limit of 10000",
            "backend response too large",
            "Response is too big",
            "query timeout exceeded",
            "a range of 20000 blocks is over the limit of 10000; ask for a shorter one",
            "number of logs is over the limit of 10000; ask for less",
        ] {
            assert!(says_too_much(size), "{size}");
        }
        for other in [
            "daily request count exceeded, request rate limited",
            "exceeded project rate limit",
            "too many requests for eth_getLogs: 100/second request limit reached",
            "your app has exceeded its compute units per second capacity",
            "header not found",
            "block range extends beyond current head block",
            "invalid block range params",
            "One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found.",
            "the method eth_getLogs does not exist/is not available",
            "Server is busy, try again later",
            "internal error",
            "",
        ] {
            assert!(!says_too_much(other), "{other}");
        }
    }

    #[test]
    fn a_range_shrinks_to_one_block_and_grows_back_to_what_is_configured() {
        let range = LogRange::new(100);
        assert_eq!(range.refused(100), 50);
        assert_eq!(range.refused(50), 25);
        for _ in 0..GROW_AFTER - 1 {
            range.taken(25);
        }
        // Less than a range shows nothing; a refusal starts the count again.
        range.taken(24);
        assert_eq!(range.blocks(), 25);
        assert_eq!(range.refused(25), 12);
        for expected in [24, 48, 96, 100, 100] {
            for _ in 0..GROW_AFTER {
                range.taken(range.blocks());
            }
            assert_eq!(range.blocks(), expected);
        }
        for _ in 0..10 {
            range.refused(range.blocks());
        }
        assert_eq!(range.blocks(), 1);
    }
}
