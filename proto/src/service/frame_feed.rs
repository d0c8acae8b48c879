//! Frames of open blocks for any number of subscribers, in bounded memory.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{FrameDetail, Preconfirmations, SequencerError};
use crate::types::Preconfirmation;

/// Frames that are kept for subscribers that are behind, at most.
const KEPT: usize = 512;
/// Memory that they may take, about; the last frame is kept whatever its size.
const KEPT_BYTES: usize = 64 << 20;

/// Hands each frame to all who subscribe. One that falls so far behind that what it needs next is not kept any more is told so and cut off.
///
/// Clones share the subscribers.
#[derive(Debug, Clone, Default)]
pub struct FrameFeed {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    frames: VecDeque<(Arc<Preconfirmation>, usize)>,
    bytes: usize,
    /// How many frames were told in all; `None` once there will be no more.
    told: Option<watch::Sender<u64>>,
    /// Those who want state diffs hold a receiver.
    diffs: watch::Sender<()>,
}

impl Default for Kept {
    fn default() -> Self {
        let (told, diffs) = (Some(watch::Sender::new(0)), watch::Sender::new(()));
        Self { frames: VecDeque::new(), bytes: 0, told, diffs }
    }
}

impl Kept {
    fn pop(&mut self) {
        if let Some((_, bytes)) = self.frames.pop_front() {
            self.bytes -= bytes;
        }
    }
}

/// What is there for a subscriber.
enum Next {
    Frame(Arc<Preconfirmation>),
    Missed(u64),
    Nothing,
}

impl FrameFeed {
    /// Whether anybody listens.
    pub fn is_wanted(&self) -> bool {
        let kept = self.kept.lock();
        kept.told.as_ref().is_some_and(|told| told.receiver_count() > 0)
    }

    /// Whether anybody listens who wants state diffs.
    pub fn wants_diffs(&self) -> bool {
        self.kept.lock().diffs.receiver_count() > 0
    }

    /// Waits until nobody listens any more, or there are no more frames.
    pub async fn unwanted(&self) {
        let told = self.kept.lock().told.clone();
        if let Some(told) = told {
            told.closed().await;
        }
    }

    /// The next frame. Nothing is kept where nobody listens.
    pub fn tell(&self, frame: Arc<Preconfirmation>) {
        let mut kept = self.kept.lock();
        let Some(told) = kept.told.clone() else { return };
        if told.receiver_count() == 0 {
            kept.frames.clear();
            kept.bytes = 0;
        } else {
            let bytes = frame.memory();
            kept.bytes += bytes;
            kept.frames.push_back((frame, bytes));
            while kept.frames.len() > 1 && (kept.frames.len() > KEPT || kept.bytes > KEPT_BYTES) {
                kept.pop();
            }
        }
        told.send_modify(|count| *count += 1);
    }

    /// There will be no more.
    pub fn close(&self) {
        self.kept.lock().told = None;
    }

    /// Frames from now on, those without the state diffs that are wanted left out at the beginning. The last item says why there are no more: the subscriber was too
    /// slow, nobody makes the diffs, or what `ended` gives.
    pub fn subscribe(
        &self,
        detail: FrameDetail,
        ended: impl Fn() -> SequencerError + Send + Sync + 'static,
    ) -> Preconfirmations {
        let (told, diffs) = {
            let kept = self.kept.lock();
            let diffs = (detail == FrameDetail::StateDiffs).then(|| kept.diffs.subscribe());
            (kept.told.as_ref().map(watch::Sender::subscribe), diffs)
        };
        let start = told.as_ref().map_or(0, |told| *told.borrow());
        let state = Some((told, start));
        let feed = self.clone();
        let ended = Arc::new(ended);
        let frames = stream::unfold(state, move |state| {
            let (feed, ended) = (feed.clone(), ended.clone());
            async move {
                let (mut told, next) = state?;
                loop {
                    match feed.at(told.as_ref(), next) {
                        Next::Frame(frame) => return Some((Ok(frame), Some((told, next + 1)))),
                        Next::Missed(missed) => {
                            return Some((Err(SequencerError::Lagged { missed }), None));
                        }
                        Next::Nothing => {}
                    }
                    let goes_on = match &mut told {
                        Some(told) => told.changed().await.is_ok(),
                        None => false,
                    };
                    // What was told before the end is read first.
                    if !goes_on && matches!(feed.at(told.as_ref(), next), Next::Nothing) {
                        return Some((Err(ended()), None));
                    }
                }
            }
        })
        .boxed();
        match diffs {
            Some(wanted) => with_diffs(frames, wanted),
            None => frames,
        }
    }

    /// The frame with a number, for a subscriber who follows `told`.
    fn at(&self, told: Option<&watch::Receiver<u64>>, number: u64) -> Next {
        let Some(told) = told else { return Next::Nothing };
        let kept = self.kept.lock();
        // Under the lock, so that it goes with what is kept.
        let end = *told.borrow();
        let first = end - kept.frames.len() as u64;
        if number >= end {
            return Next::Nothing;
        }
        let Some(index) = number.checked_sub(first) else { return Next::Missed(first - number) };
        match usize::try_from(index).ok().and_then(|index| kept.frames.get(index)) {
            Some((frame, _)) => Next::Frame(frame.clone()),
            None => Next::Nothing,
        }
    }
}

/// The frames from the first one on that has a diff, for as long as each has one.
fn with_diffs(frames: Preconfirmations, wanted: watch::Receiver<()>) -> Preconfirmations {
    let state = Some((frames, wanted, Seen::Nothing));
    stream::unfold(state, |state| async move {
        let (mut frames, wanted, mut seen) = state?;
        loop {
            let frame = match frames.next().await? {
                Ok(frame) => frame,
                Err(error) => return Some((Err(error), None)),
            };
            if frame.diff.is_some() {
                return Some((Ok(frame), Some((frames, wanted, Seen::Diffs))));
            }
            // Frames that were under way when it was asked for have none: those of the block that was open, and of the next.
            let first = match seen {
                Seen::Diffs => return Some((Err(SequencerError::NoStateDiffs), None)),
                Seen::Nothing => frame.block,
                Seen::Without { first } => first,
            };
            if frame.block > first.saturating_add(1) {
                return Some((Err(SequencerError::NoStateDiffs), None));
            }
            seen = Seen::Without { first };
        }
    })
    .boxed()
}

/// What a subscriber who wants state diffs has seen.
enum Seen {
    Nothing,
    /// Frames without, the first of them of this block.
    Without {
        first: u64,
    },
    Diffs,
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use futures::FutureExt;

    use super::*;
    use crate::types::FrameStart;

    fn frame(frame: u64) -> Arc<Preconfirmation> {
        Arc::new(Preconfirmation {
            block: 1,
            parent_hash: B256::ZERO,
            timestamp: 0,
            base_fee: 0,
            frame,
            start: FrameStart::default(),
            transactions: Vec::new(),
            receipts: Vec::new(),
            diff: None,
        })
    }

    fn subscribe(feed: &FrameFeed) -> Preconfirmations {
        feed.subscribe(FrameDetail::Receipts, || SequencerError::Unavailable("over".into()))
    }

    fn next(frames: &mut Preconfirmations) -> Option<Result<u64, SequencerError>> {
        frames.next().now_or_never()?.map(|item| item.map(|frame| frame.frame))
    }

    #[test]
    fn each_subscriber_gets_each_frame_from_its_call_on() {
        let feed = FrameFeed::default();
        feed.tell(frame(0));
        assert!(!feed.is_wanted());
        let mut early = subscribe(&feed);
        assert!(next(&mut early).is_none());
        feed.tell(frame(1));
        let mut late = subscribe(&feed);
        feed.tell(frame(2));
        assert!(matches!(next(&mut late), Some(Ok(2))));
        assert!(matches!(next(&mut early), Some(Ok(1))));
        assert!(matches!(next(&mut early), Some(Ok(2))));
        assert!(next(&mut early).is_none() && next(&mut late).is_none());
        assert!(feed.unwanted().now_or_never().is_none());
        drop((early, late));
        assert!(!feed.is_wanted() && feed.unwanted().now_or_never().is_some());
        feed.tell(frame(3));
        assert!(feed.kept.lock().frames.is_empty(), "nothing is kept for nobody");
    }

    #[test]
    fn the_end_comes_after_what_was_told_before_it() {
        let feed = FrameFeed::default();
        let mut frames = subscribe(&feed);
        feed.tell(frame(0));
        feed.tell(frame(1));
        feed.close();
        // Nobody is told of it, and what was told stays.
        feed.tell(frame(2));
        assert!(matches!(next(&mut frames), Some(Ok(0))));
        assert!(matches!(next(&mut frames), Some(Ok(1))));
        assert!(matches!(next(&mut frames), Some(Err(SequencerError::Unavailable(_)))));
        assert!(frames.next().now_or_never().expect("ready").is_none());
        let mut too_late = subscribe(&feed);
        assert!(matches!(next(&mut too_late), Some(Err(SequencerError::Unavailable(_)))));
    }

    #[test]
    fn who_reads_too_slowly_is_told_so_and_costs_no_more_than_what_is_kept() {
        let feed = FrameFeed::default();
        let (mut slow, mut fast) = (subscribe(&feed), subscribe(&feed));
        for number in 0..KEPT as u64 + 3 {
            feed.tell(frame(number));
            assert!(matches!(next(&mut fast), Some(Ok(read)) if read == number));
        }
        assert!(matches!(next(&mut slow), Some(Err(SequencerError::Lagged { missed: 3 }))));
        assert!(slow.next().now_or_never().expect("ready").is_none(), "it has ended");
        assert_eq!(feed.kept.lock().frames.len(), KEPT);

        // By their size: a frame of a transaction of 20 MiB takes twice that.
        let huge = crate::types::Deposit {
            index: 0,
            from: Default::default(),
            to: Default::default(),
            value: Default::default(),
            gas_limit: 0,
            data: vec![0; 20 << 20].into(),
        };
        let huge = crate::types::RecoveredTx::new_unchecked(
            huge.to_tx(Default::default()).into(),
            Default::default(),
        );
        let huge = Preconfirmation {
            transactions: vec![Arc::new(huge)],
            receipts: Vec::new(),
            ..(*frame(0)).clone()
        };
        let huge = Arc::new(huge);
        for _ in 0..3 {
            feed.tell(huge.clone());
        }
        let kept = feed.kept.lock();
        assert_eq!((kept.frames.len(), kept.bytes), (1, huge.memory()));
    }

    #[test]
    fn whoever_wants_diffs_begins_with_a_frame_that_has_one_and_is_told_if_nobody_makes_them() {
        let feed = FrameFeed::default();
        let wants =
            || feed.subscribe(FrameDetail::StateDiffs, || SequencerError::Lagged { missed: 0 });
        let tell = |block, number, diff: bool| {
            let diff = diff.then(Arc::default);
            feed.tell(Arc::new(Preconfirmation { block, diff, ..(*frame(number)).clone() }));
        };
        assert!(!feed.wants_diffs());
        let (mut diffs, mut plain) = (wants(), subscribe(&feed));
        assert!(feed.wants_diffs());
        tell(1, 0, false);
        tell(2, 1, false);
        tell(2, 2, true);
        tell(2, 3, true);
        assert!(matches!([next(&mut diffs), next(&mut diffs)], [Some(Ok(2)), Some(Ok(3))]));
        assert!(next(&mut diffs).is_none());
        assert!((0..4).all(|number| matches!(next(&mut plain), Some(Ok(told)) if told == number)));
        // From then on each has one, or it is over.
        tell(2, 4, false);
        assert!(matches!(next(&mut diffs), Some(Err(SequencerError::NoStateDiffs))));
        drop(diffs);
        assert!(!feed.wants_diffs());

        let mut never = wants();
        for block in 3..6 {
            tell(block, 0, false);
        }
        assert!(matches!(next(&mut never), Some(Err(SequencerError::NoStateDiffs))));
    }
}
