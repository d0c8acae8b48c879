//! When blocks reached their stages, as far as this process saw it lately. The order log has the rest.

use std::{collections::VecDeque, time::Duration};

use millrace_proto::Stage;

use crate::log::SettledBlocks;

const KEPT: usize = 4096;

/// For each stage: up to which block it was reached, and when. Bounded; what is older is not known any more.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    sequenced: VecDeque<(u64, Duration)>,
    posted: VecDeque<(u64, Duration)>,
    committed: VecDeque<(u64, Duration)>,
    finalized: VecDeque<(u64, Duration)>,
    /// The blocks up to here reached their stage before this process looked.
    seen_from: [u64; 4],
}

impl Timeline {
    /// Says how far each stage was reached before this process looked.
    pub(crate) fn start(&mut self, sequenced: u64, settled: SettledBlocks) {
        self.seen_from = [sequenced, settled.posted, settled.committed, settled.finalized];
    }

    /// Notes that all blocks up to `block` have reached a stage.
    pub(crate) fn mark(&mut self, stage: Stage, block: u64, at: Duration) {
        let Some((marks, _)) = self.stage_mut(stage) else { return };
        if marks.back().is_some_and(|(last, _)| *last >= block) {
            return;
        }
        marks.push_back((block, at));
        if marks.len() > KEPT
            && let Some((block, _)) = marks.pop_front()
            && let Some((_, seen_from)) = self.stage_mut(stage)
        {
            *seen_from = block;
        }
    }

    /// The blocks after `to` were taken back.
    pub(crate) fn unwind(&mut self, to: u64) {
        for stage in [Stage::Sequenced, Stage::Posted, Stage::Committed, Stage::Finalized] {
            let Some((marks, seen_from)) = self.stage_mut(stage) else { continue };
            let first = marks.partition_point(|(last, _)| *last <= to);
            let covered = first.checked_sub(1).map_or(*seen_from, |before| marks[before].0);
            let at = marks.get(first).map(|(_, at)| *at);
            marks.truncate(first);
            // What the first mark that goes says of blocks up to `to` stays.
            marks.extend(at.filter(|_| covered < to).map(|at| (to, at)));
            *seen_from = (*seen_from).min(to);
        }
    }

    /// When a block reached a stage, since the Unix epoch, if that was seen.
    pub(crate) fn reached(&self, stage: Stage, block: u64) -> Option<Duration> {
        let (marks, seen_from) = match stage {
            Stage::Sequenced => (&self.sequenced, self.seen_from[0]),
            Stage::Posted => (&self.posted, self.seen_from[1]),
            Stage::Committed => (&self.committed, self.seen_from[2]),
            Stage::Finalized => (&self.finalized, self.seen_from[3]),
            Stage::Accepted | Stage::Dropped => return None,
        };
        if block <= seen_from {
            return None;
        }
        let first = marks.partition_point(|(last, _)| *last < block);
        marks.get(first).map(|(_, at)| *at)
    }

    fn stage_mut(&mut self, stage: Stage) -> Option<(&mut VecDeque<(u64, Duration)>, &mut u64)> {
        let [sequenced, posted, committed, finalized] = &mut self.seen_from;
        Some(match stage {
            Stage::Sequenced => (&mut self.sequenced, sequenced),
            Stage::Posted => (&mut self.posted, posted),
            Stage::Committed => (&mut self.committed, committed),
            Stage::Finalized => (&mut self.finalized, finalized),
            Stage::Accepted | Stage::Dropped => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_when_a_block_reached_a_stage() {
        let second = Duration::from_secs;
        let mut timeline = Timeline::default();
        timeline.start(0, SettledBlocks { posted: 5, ..SettledBlocks::default() });
        timeline.mark(Stage::Posted, 8, second(1));
        timeline.mark(Stage::Posted, 12, second(2));
        timeline.mark(Stage::Posted, 12, second(3));
        let reached = |block| timeline.reached(Stage::Posted, block);
        assert_eq!(reached(5), None, "before this process looked");
        assert_eq!(reached(6), Some(second(1)));
        assert_eq!(reached(8), Some(second(1)));
        assert_eq!(reached(12), Some(second(2)));
        assert_eq!(reached(13), None);

        timeline.unwind(10);
        let reached = |block| timeline.reached(Stage::Posted, block);
        assert_eq!(
            (reached(8), reached(10), reached(11)),
            (Some(second(1)), Some(second(2)), None)
        );
        timeline.mark(Stage::Posted, 11, second(4));
        assert_eq!(timeline.reached(Stage::Posted, 11), Some(second(4)));
    }
}
