//! Sequencing slows down while what it makes cannot be posted: better than to promise blocks that the contract would take no more.
//!
//! The pressure is between 0 (no throttle) and 1, the larger one of two:
//!
//! * of bytes: 0 up to `lower_bytes` that are not posted, 1 from `upper_bytes` on, in between in proportion;
//! * of time: 0 while more than half of the sequencing window is left, 1 when nothing is, in between in proportion.
//!
//! With a pressure, blocks take as many bytes of transactions a second as would fill one block each block time, times (1 - pressure)², and never less than
//! `min_bytes_per_second`. So intake falls faster than the backlog grows, and rises slower than it drains. What is not taken waits in the
//! pool, and when that is full, it is refused. Deposits and forced transactions are not held back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use millrace_proto::{DaAdapter, DaStatus, DataPrice, ErrorChain, MAX_BLOCK_TX_BYTES};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::shared::Shared;

/// When sequencing slows down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleConfig {
    /// Bytes that are not posted from which on sequencing slows down.
    pub lower_bytes: u64,
    /// Bytes that are not posted at which it is slowest.
    pub upper_bytes: u64,
    /// Bytes of transactions a second that blocks always take.
    pub min_bytes_per_second: u64,
    /// How often the DA adapter is asked.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            lower_bytes: 64 << 20,
            upper_bytes: 512 << 20,
            min_bytes_per_second: 16 << 10,
            poll_interval: Duration::from_secs(1),
        }
    }
}

/// For how long the DA layer's price counts that was told last.
const PRICE_KEPT: Duration = Duration::from_secs(600);

/// Bytes that one block may take at most: what also is saved up at most.
const BLOCK: f64 = MAX_BLOCK_TX_BYTES as f64;

/// Lets bytes of transactions into blocks.
#[derive(Debug)]
pub(crate) struct Throttle {
    config: ThrottleConfig,
    /// Bytes a second without pressure.
    full_rate: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Not posted, as the DA adapter last said.
    backlog: u64,
    /// Put into blocks since the DA adapter last closed a batch. It may be in the backlog, too; it errs on the safe side, and for a moment.
    since: u64,
    /// The last block that the DA adapter has put into a batch.
    batched: u64,
    /// When the sequencing window ends, and how long it is, in seconds.
    window: Option<(Instant, f64)>,
    /// Bytes that may be taken now.
    credit: f64,
    at: Instant,
}

impl Throttle {
    pub(crate) fn new(config: ThrottleConfig, block_time: Duration, now: Instant) -> Self {
        let full_rate = BLOCK / block_time.as_secs_f64().max(0.001);
        let state =
            State { backlog: 0, since: 0, batched: 0, window: None, credit: BLOCK, at: now };
        Self { config, full_rate, state: Mutex::new(state) }
    }

    /// Takes over what the DA adapter says.
    fn see(&self, status: &DaStatus, now: Instant) {
        let mut state = self.state.lock();
        state.backlog = status.backlog_bytes;
        // One that has halted answers, but closes none.
        if state.batched != status.batched_block {
            state.batched = status.batched_block;
            state.since = 0;
        }
        if let Some(window) = status.window.filter(|window| window.whole > 0) {
            let ends = now.checked_add(Duration::from_secs(window.seconds));
            state.window = ends.map(|ends| (ends, window.whole as f64));
        }
    }

    /// Between 0 and 1.
    pub(crate) fn pressure(&self, now: Instant) -> f64 {
        self.pressure_of(&self.state.lock(), now)
    }

    fn pressure_of(&self, state: &State, now: Instant) -> f64 {
        let ThrottleConfig { lower_bytes, upper_bytes, .. } = self.config;
        let unposted = state.backlog.saturating_add(state.since);
        let span = upper_bytes.saturating_sub(lower_bytes).max(1) as f64;
        let of_bytes = unposted.saturating_sub(lower_bytes) as f64 / span;
        // The window runs on while nobody tells how much is left.
        let left = state
            .window
            .map_or(1.0, |(ends, whole)| ends.saturating_duration_since(now).as_secs_f64() / whole);
        let of_time = (0.5 - left) / 0.5;
        of_bytes.max(of_time).clamp(0.0, 1.0)
    }

    /// Bytes of transactions that may be put into the open block now.
    pub(crate) fn allows(&self, now: Instant) -> usize {
        let mut state = self.state.lock();
        let pressure = self.pressure_of(&state, now);
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.at = now;
        if pressure == 0.0 {
            state.credit = BLOCK;
            return usize::MAX;
        }
        let least = self.config.min_bytes_per_second as f64;
        let rate = (self.full_rate * (1.0 - pressure).powi(2)).max(least);
        state.credit = (state.credit + rate * passed).min(BLOCK);
        state.credit as usize
    }

    /// Notes that bytes were put into the open block.
    pub(crate) fn took(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.since = state.since.saturating_add(bytes as u64);
        state.credit = (state.credit - bytes as f64).max(0.0);
    }
}

/// Asks the DA adapter until it is told to stop. While it does not answer, what is sequenced meanwhile counts as not posted.
pub(crate) async fn follow(shared: Arc<Shared>, da: Arc<dyn DaAdapter>, stop: CancellationToken) {
    let interval = shared.config.throttle.poll_interval;
    let (mut away, mut slow, mut told) = (false, false, None::<Instant>);
    loop {
        let asked = tokio::select! {
            asked = da.da_status() => asked,
            () = stop.cancelled() => return,
        };
        match asked {
            Ok(status) => {
                if std::mem::take(&mut away) {
                    info!(target: "millrace::sequencer", "the DA adapter answers again");
                }
                shared.own_posted.store(status.posted_block, Ordering::Relaxed);
                *shared.refused.lock() = status.refused;
                if status.refused.is_some() {
                    shared.work.notify_one();
                }
                shared.throttle.see(&status, Instant::now());
                shared.data_fees.see(status.data_price);
                shared.metrics.data_price(shared.data_fees.price());
                told = Some(Instant::now());
            }
            Err(error) if !away => {
                away = true;
                let error = ErrorChain::new(&error);
                warn!(target: "millrace::sequencer", %error, "the DA adapter does not answer ([peers] da_adapter): what is sequenced counts as not posted until it does");
            }
            Err(_) if told.is_some_and(|told| told.elapsed() > PRICE_KEPT) => {
                // It is no price of today.
                told = None;
                shared.data_fees.see(DataPrice::default());
                shared.metrics.data_price(DataPrice::default());
            }
            Err(_) => {}
        }
        let pressure = shared.throttle.pressure(Instant::now());
        shared.metrics.throttle(pressure);
        if (pressure > 0.0) != slow {
            slow = pressure > 0.0;
            if slow {
                warn!(target: "millrace::sequencer", pressure, "posting lags: sequencing slows down");
            } else {
                info!(target: "millrace::sequencer", "posting has caught up: sequencing at full speed");
            }
            shared.work.notify_one();
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_proto::WindowLeft;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn throttle(now: Instant) -> Throttle {
        let config = ThrottleConfig {
            lower_bytes: 10 * MIB,
            upper_bytes: 110 * MIB,
            min_bytes_per_second: 1_000,
            ..ThrottleConfig::default()
        };
        Throttle::new(config, Duration::from_secs(1), now)
    }

    fn status(backlog_bytes: u64, left: u64) -> DaStatus {
        let window = Some(WindowLeft { seconds: left, whole: 1_000 });
        DaStatus { backlog_bytes, window, ..DaStatus::default() }
    }

    #[test]
    fn the_larger_pressure_counts() {
        let now = Instant::now();
        let throttle = throttle(now);
        for (backlog, left, pressure) in [
            (0, 1_000, 0.0),
            (10 * MIB, 500, 0.0),
            (60 * MIB, 1_000, 0.5),
            (60 * MIB, 125, 0.75),
            (500 * MIB, 1_000, 1.0),
            (0, 0, 1.0),
        ] {
            throttle.see(&status(backlog, left), now);
            assert_eq!(throttle.pressure(now), pressure, "{backlog} {left}");
        }
        // A DA adapter that does not say how much is left changes nothing.
        throttle.see(&DaStatus::default(), now);
        assert_eq!(throttle.pressure(now), 1.0);
    }

    #[test]
    fn bytes_are_let_in_at_the_rate_of_the_pressure() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs_f64(seconds);
        let throttle = throttle(start);
        assert_eq!(throttle.allows(at(1.0)), usize::MAX);

        throttle.see(&status(60 * MIB, 1_000), at(2.0));
        let block = MAX_BLOCK_TX_BYTES;
        assert_eq!(throttle.allows(at(2.0)), block, "at most what one block takes is saved up");
        throttle.took(block);
        assert_eq!(throttle.allows(at(2.0)), 0);
        let quarter = throttle.allows(at(3.0));
        assert!(quarter.abs_diff(block / 4) < block / 50, "{quarter}");

        // Never nothing: the largest transaction gets in at last.
        throttle.see(&status(500 * MIB, 1_000), at(4_000.0));
        throttle.took(block);
        assert_eq!(throttle.allows(at(4.0)), 1_000);
        assert_eq!(throttle.allows(at(4_000.0)), block);
    }

    #[test]
    fn what_was_taken_counts_until_a_batch_holds_it() {
        let now = Instant::now();
        let throttle = throttle(now);
        let batched = |batched_block, backlog| DaStatus { batched_block, ..status(backlog, 1_000) };
        throttle.see(&batched(1, 10 * MIB), now);
        throttle.took(50 * MIB as usize);
        assert_eq!(throttle.pressure(now), 0.5);
        throttle.see(&batched(1, 10 * MIB), now);
        assert_eq!(throttle.pressure(now), 0.5, "nothing was batched");
        throttle.see(&batched(2, 20 * MIB), now);
        assert_eq!(throttle.pressure(now), 0.1);
    }

    #[test]
    fn the_window_runs_on_while_the_adapter_is_away() {
        let now = Instant::now();
        let throttle = throttle(now);
        throttle.see(&status(0, 1_000), now);
        assert_eq!(throttle.pressure(now + Duration::from_secs(500)), 0.0);
        assert_eq!(throttle.pressure(now + Duration::from_secs(750)), 0.5);
        assert_eq!(throttle.pressure(now + Duration::from_secs(5_000)), 1.0);
    }
}
