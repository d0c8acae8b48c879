//! Preconfirmations: what a frame came to is told as soon as the frame is both on disk and executed, whichever is later; and so far the open block can be read.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_proto::{FrameFeed, Noting, OpenPoint, Preconfirmation};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::metrics::SequencerMetrics;

/// Frames between the disk, the executor and the subscribers.
#[derive(Debug)]
pub(crate) struct Preconfirmer {
    feed: FrameFeed,
    frames: Mutex<Frames>,
    /// How far the open block is told; `None` if all that was told is sealed.
    reached: watch::Sender<Option<Reached>>,
    /// When somebody last asked to read it.
    asked: Mutex<Option<Instant>>,
    metrics: SequencerMetrics,
}

/// For so long after somebody has read the open block, what its frames change is kept to be read.
const KEEPS: Duration = Duration::from_secs(30);

/// A frame that is on disk and executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) point: OpenPoint,
    /// Whether the executor can show the block as it was after it.
    pub(crate) kept: bool,
}

/// What there is to say of an executed frame.
#[derive(Debug)]
pub(crate) struct FrameEnd {
    pub(crate) reached: Reached,
    /// For subscribers, if there are any.
    pub(crate) told: Option<Preconfirmation>,
}

/// Frames have tickets, in the order in which they are written and executed.
#[derive(Debug, Default)]
struct Frames {
    issued: u64,
    /// The frames up to this one are on disk.
    written: u64,
    /// Executed, and not on disk yet.
    executed: VecDeque<(Ticket, FrameEnd)>,
}

/// A frame's place in the order of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    number: u64,
    issued_at: Instant,
}

impl Preconfirmer {
    pub(crate) fn new(metrics: SequencerMetrics) -> Self {
        Self {
            feed: FrameFeed::default(),
            frames: Mutex::default(),
            reached: watch::Sender::new(None),
            asked: Mutex::new(None),
            metrics,
        }
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
        while let Some((ticket, end)) = frames.executed.pop_front_if(is_written) {
            self.tell(ticket, end);
        }
    }

    /// A frame is executed. Those before it are, or never will be.
    pub(crate) fn executed(&self, ticket: Ticket, end: FrameEnd) {
        let mut frames = self.frames.lock();
        if ticket.number <= frames.written {
            self.tell(ticket, end);
        } else {
            frames.executed.push_back((ticket, end));
        }
    }

    /// The executor keeps what was changed up to the frame that was executed last.
    pub(crate) fn kept(&self) {
        let mut frames = self.frames.lock();
        match frames.executed.back_mut() {
            Some((_, end)) => end.reached.kept = true,
            None => self.reached.send_modify(|reached| {
                if let Some(reached) = reached {
                    reached.kept = true;
                }
            }),
        }
    }

    /// A block is sealed, and can be read as such.
    pub(crate) fn sealed(&self, number: u64) {
        self.reached.send_if_modified(|reached| {
            reached.take_if(|reached| reached.point.number <= number).is_some()
        });
    }

    /// What was told does not come to be: blocks are taken back.
    pub(crate) fn forget(&self) {
        self.reached.send_replace(None);
    }

    /// Follows how far the open block is told. Somebody reads it.
    pub(crate) fn read(&self) -> watch::Receiver<Option<Reached>> {
        *self.asked.lock() = Some(Instant::now());
        self.reached.subscribe()
    }

    /// What is to be noted of the state while frames are executed from now on.
    pub(crate) fn noting(&self) -> Noting {
        let is_read = || self.asked.lock().is_some_and(|asked| asked.elapsed() < KEEPS);
        match self.feed.wants_diffs() {
            true => Noting::Told,
            false if is_read() => Noting::Kept,
            false => Noting::Nothing,
        }
    }

    /// Where frames are told.
    pub(crate) const fn feed(&self) -> &FrameFeed {
        &self.feed
    }

    // Under the lock, so that frames stay in order.
    fn tell(&self, ticket: Ticket, FrameEnd { reached, told }: FrameEnd) {
        self.metrics.preconfirm_seconds.record(ticket.issued_at.elapsed());
        // Whoever is told finds it there.
        self.reached.send_replace(Some(reached));
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

    fn point(frame: u64) -> OpenPoint {
        OpenPoint { number: 1, parent: B256::ZERO, last: B256::with_last_byte(frame as u8) }
    }

    fn frame(frame: u64) -> FrameEnd {
        let told = Preconfirmation {
            block: 1,
            parent_hash: B256::ZERO,
            timestamp: 0,
            base_fee: 0,
            frame,
            start: FrameStart::default(),
            transactions: Vec::new(),
            receipts: Vec::new(),
            diff: None,
        };
        FrameEnd { reached: Reached { point: point(frame), kept: false }, told: Some(told) }
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
        preconfirmer.executed(tickets[0], frame(0));
        assert_eq!(told(&mut frames), Some(0));
        // The executor is first, by two; one write brings both.
        preconfirmer.executed(tickets[1], frame(1));
        preconfirmer.executed(tickets[2], frame(2));
        assert_eq!(told(&mut frames), None);
        preconfirmer.written(tickets[2]);
        assert_eq!([told(&mut frames), told(&mut frames)], [Some(1), Some(2)]);
        assert_eq!(told(&mut frames), None);
        preconfirmer.executed(tickets[3], frame(3));
        preconfirmer.written(tickets[3]);
        assert_eq!(told(&mut frames), Some(3));
    }

    #[test]
    fn the_open_block_is_read_as_far_as_it_is_told() {
        let preconfirmer = Preconfirmer::new(SequencerMetrics::new());
        assert_eq!(preconfirmer.noting(), Noting::Nothing);
        let reached = preconfirmer.read();
        assert_eq!(preconfirmer.noting(), Noting::Kept);
        let at = |frame, kept| Some(Reached { point: point(frame), kept });
        let tickets = [(); 2].map(|()| preconfirmer.ticket());
        preconfirmer.executed(tickets[0], frame(0));
        assert_eq!(*reached.borrow(), None, "it is not on disk");
        preconfirmer.written(tickets[0]);
        assert_eq!(*reached.borrow(), at(0, false));
        preconfirmer.executed(tickets[1], frame(1));
        // As far as it is executed, not as far as it is told.
        preconfirmer.kept();
        assert_eq!(*reached.borrow(), at(0, false));
        preconfirmer.written(tickets[1]);
        assert_eq!(*reached.borrow(), at(1, true));
        preconfirmer.sealed(0);
        assert_eq!(*reached.borrow(), at(1, true));
        preconfirmer.sealed(1);
        assert_eq!(*reached.borrow(), None);
    }
}
