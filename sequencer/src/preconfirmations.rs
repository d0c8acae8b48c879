//! Preconfirmations: what a frame came to is told as soon as the frame is both on disk and executed, whichever is later.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use millrace_proto::{FrameFeed, Noting, Preconfirmation};
use parking_lot::Mutex;

use crate::metrics::SequencerMetrics;

/// Frames between the disk, the executor and the subscribers.
#[derive(Debug)]
pub(crate) struct Preconfirmer {
    feed: FrameFeed,
    frames: Mutex<Frames>,
    metrics: SequencerMetrics,
}

/// Frames have tickets, in the order in which they are written and executed.
#[derive(Debug, Default)]
struct Frames {
    issued: u64,
    /// The frames up to this one are on disk.
    written: u64,
    /// Executed, and not on disk yet.
    executed: VecDeque<(Ticket, Option<Preconfirmation>)>,
}

/// A frame's place in the order of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    number: u64,
    issued_at: Instant,
}

impl Preconfirmer {
    pub(crate) fn new(metrics: SequencerMetrics) -> Self {
        Self { feed: FrameFeed::default(), frames: Mutex::default(), metrics }
    }

    /// The next frame's ticket.
    pub(crate) fn ticket(&self) -> Ticket {
        let mut frames = self.frames.lock();
        frames.issued += 1;
        Ticket { number: frames.issued, issued_at: Instant::now() }
    }

    /// A frame is on disk, and with it all before it.
    pub(crate) fn written(&self, ticket: Ticket) {
        let mut frames = self.frames.lock();
        frames.written = frames.written.max(ticket.number);
        let written = frames.written;
        let is_written = |(next, _): &mut (Ticket, _)| next.number <= written;
        while let Some((ticket, told)) = frames.executed.pop_front_if(is_written) {
            self.tell(ticket, told);
        }
    }

    /// A frame is executed. Those before it are, or never will be. `told`: what to tell of it, if anything.
    pub(crate) fn executed(&self, ticket: Ticket, told: Option<Preconfirmation>) {
        let mut frames = self.frames.lock();
        if ticket.number <= frames.written {
            self.tell(ticket, told);
        } else {
            frames.executed.push_back((ticket, told));
        }
    }

    /// What is to be noted of the state while frames are executed from now on.
    pub(crate) fn noting(&self) -> Noting {
        if self.feed.wants_diffs() { Noting::Told } else { Noting::Nothing }
    }

    /// Where frames are told.
    pub(crate) const fn feed(&self) -> &FrameFeed {
        &self.feed
    }

    // Under the lock, so that frames stay in order.
    fn tell(&self, ticket: Ticket, told: Option<Preconfirmation>) {
        self.metrics.preconfirm_seconds.record(ticket.issued_at.elapsed());
        if let Some(told) = told {
            self.feed.tell(Arc::new(told));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use futures::{FutureExt, StreamExt};
    use millrace_proto::{FrameDetail, FrameStart, Preconfirmations, SequencerError};

    use super::*;

    fn frame(frame: u64) -> Preconfirmation {
        Preconfirmation {
            block: 1,
            parent_hash: B256::ZERO,
            timestamp: 0,
            base_fee: 0,
            frame,
            start: FrameStart::default(),
            transactions: Vec::new(),
            receipts: Vec::new(),
            diff: None,
        }
    }

    fn told(frames: &mut Preconfirmations) -> Option<u64> {
        let next = frames.next().now_or_never()?;
        Some(next.expect("it goes on").expect("not lagged").frame)
    }

    #[test]
    fn a_frame_is_told_once_it_is_on_disk_and_executed_and_not_before() {
        let preconfirmer = Preconfirmer::new(SequencerMetrics::new());
        let mut frames = preconfirmer
            .feed()
            .subscribe(FrameDetail::Receipts, || SequencerError::Unavailable("over".into()));
        let tickets = [(); 4].map(|()| preconfirmer.ticket());

        // The disk is first.
        preconfirmer.written(tickets[0]);
        assert_eq!(told(&mut frames), None);
        preconfirmer.executed(tickets[0], Some(frame(0)));
        assert_eq!(told(&mut frames), Some(0));
        // The executor is first, by two; one write brings both.
        preconfirmer.executed(tickets[1], Some(frame(1)));
        preconfirmer.executed(tickets[2], Some(frame(2)));
        assert_eq!(told(&mut frames), None);
        preconfirmer.written(tickets[2]);
        assert_eq!([told(&mut frames), told(&mut frames)], [Some(1), Some(2)]);
        assert_eq!(told(&mut frames), None);
        preconfirmer.executed(tickets[3], Some(frame(3)));
        preconfirmer.written(tickets[3]);
        assert_eq!(told(&mut frames), Some(3));
    }
}
