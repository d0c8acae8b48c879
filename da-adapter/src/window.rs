//! The sequencing window: how long the contract still takes what waits to be posted. It takes no batch that leaves out an entry of L1's
//! queue which is overdue.

use std::time::Duration;

use millrace_proto::WindowLeft;
use tokio::time::Instant;

/// What L1 says of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct L1Window {
    /// L1 blocks until the first entry is overdue that what waits leaves out; the whole window if there is none.
    pub(crate) left: u64,
    /// The whole window, L1 blocks.
    pub(crate) whole: u64,
    /// Time between two L1 blocks, as seen lately.
    pub(crate) block_time: Duration,
    /// How many entries, from the queue's first one, a batch has to consume that is posted within the margin that was asked for.
    pub(crate) due: u64,
}

/// The window, as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Entries of the queue that what waits consumes: a batch that consumes more moves the end.
    pub(crate) consumed: u64,
    /// How many a batch has to consume that is closed now.
    pub(crate) due: u64,
    /// Whether the contract takes nothing of what waits any more.
    pub(crate) is_over: bool,
    /// When it ends.
    ends: Instant,
    whole: Duration,
}

impl Window {
    pub(crate) fn new(consumed: u64, seen: L1Window, now: Instant) -> Self {
        let time = |blocks: u64| {
            let seconds = seen.block_time.as_secs_f64() * blocks as f64;
            // Ten years are as good as for ever.
            Duration::from_secs_f64(seconds.min(315_360_000.0))
        };
        Self {
            consumed,
            due: seen.due,
            is_over: seen.left == 0,
            ends: now + time(seen.left),
            whole: time(seen.whole),
        }
    }

    /// When a batch that moves the end has to be closed, to be posted in time.
    pub(crate) fn close_at(&self, margin: Duration) -> Option<Instant> {
        self.ends.checked_sub(margin)
    }

    pub(crate) fn left(&self, now: Instant) -> WindowLeft {
        WindowLeft {
            seconds: self.ends.saturating_duration_since(now).as_secs(),
            whole: self.whole.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_shrinks_with_time_and_ends_at_zero() {
        let now = Instant::now();
        let seen =
            L1Window { left: 100, whole: 7_200, block_time: Duration::from_secs(12), due: 3 };
        let window = Window::new(3, seen, now);
        let left = |seconds| window.left(now + Duration::from_secs(seconds)).seconds;
        assert_eq!((left(0), left(200), left(1_200), left(5_000)), (1_200, 1_000, 0, 0));
        assert_eq!(window.left(now).whole, 86_400);
        let close_at = window.close_at(Duration::from_secs(200)).expect("there is time");
        assert_eq!(close_at, now + Duration::from_secs(1_000));
        let endless = L1Window { left: u64::MAX, whole: u64::MAX, ..seen };
        assert!(Window::new(0, endless, now).left(now).seconds > 86_400);
        let is_over = |left| Window::new(3, L1Window { left, ..seen }, now).is_over;
        assert!(!is_over(1) && is_over(0));
    }
}
