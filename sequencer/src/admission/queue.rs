//! What waits to be looked at. Clients take turns, so that whoever sends much waits behind himself, and not others behind him.

use std::collections::{HashMap, VecDeque};

use millrace_proto::Peer;
use tokio::sync::oneshot;

use super::{Checked, Submitted};

/// Jobs of one client from which on those are looked for, now and then, for which nobody waits any more.
const MANY: usize = 1_024;

/// Transactions of one client that are looked at together.
#[derive(Debug)]
pub(super) struct Job {
    /// Whose they are, as far as that is known. Those of whom it is not known are one client.
    pub(super) from: Option<Peer>,
    pub(super) txs: Vec<Submitted>,
    pub(super) reply: oneshot::Sender<Checked>,
}

/// A queue a client.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// Those who have jobs here, each once. Whose turn it is comes first.
    turns: VecDeque<Option<Peer>>,
    jobs: HashMap<Option<Peer>, VecDeque<Job>>,
    len: usize,
}

impl FairQueue {
    pub(super) fn push(&mut self, job: Job) {
        let jobs = self.jobs.entry(job.from).or_default();
        if jobs.is_empty() {
            self.turns.push_back(job.from);
        }
        // Those who wait are bounded by the calls that they may have; those who do not wait any more are not.
        if jobs.len() >= MANY && jobs.len() == jobs.capacity() {
            let before = jobs.len();
            jobs.retain(|job| !job.reply.is_closed());
            self.len -= before - jobs.len();
        }
        jobs.push_back(job);
        self.len += 1;
    }

    /// The next job of the client whose turn it is, if it has no more transactions than `most`. Those for which nobody waits any more are let go.
    pub(super) fn pop(&mut self, most: usize) -> Option<Job> {
        loop {
            let job = self.pop_any(most)?;
            if !job.reply.is_closed() {
                return Some(job);
            }
        }
    }

    fn pop_any(&mut self, most: usize) -> Option<Job> {
        let from = *self.turns.front()?;
        let jobs = self.jobs.get_mut(&from)?;
        let job = jobs.pop_front_if(|job| job.txs.len() <= most)?;
        self.len -= 1;
        self.turns.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&from);
        } else {
            self.turns.push_back(from);
        }
        Some(job)
    }

    /// Jobs of all clients.
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// A job, and who waits for it.
    fn job(client: u8, txs: usize) -> (Job, oneshot::Receiver<Checked>) {
        let from = (client > 0).then(|| IpAddr::from([192, 0, 2, client]).into());
        let tx = Submitted { raw: Default::default(), source: None };
        let (reply, waits) = oneshot::channel();
        (Job { from, txs: vec![tx; txs], reply }, waits)
    }

    /// Queues jobs, each of a client and with so many transactions.
    fn push(
        queue: &mut FairQueue,
        jobs: impl IntoIterator<Item = (u8, usize)>,
    ) -> Vec<oneshot::Receiver<Checked>> {
        let push = |(client, txs)| {
            let (job, waits) = job(client, txs);
            queue.push(job);
            waits
        };
        jobs.into_iter().map(push).collect()
    }

    /// Transactions of the jobs that come out one after another.
    fn drain(queue: &mut FairQueue) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop(usize::MAX).map(|job| job.txs.len())).collect()
    }

    #[test]
    fn whoever_sends_much_waits_behind_himself() {
        let mut queue = FairQueue::default();
        let _many = push(&mut queue, (10..15).map(|txs| (1, txs)));
        assert_eq!(queue.pop(usize::MAX).map(|job| job.txs.len()), Some(10));
        let _others = push(&mut queue, [(2, 20), (2, 21), (0, 30)]);
        assert_eq!(queue.len(), 7);
        assert_eq!(drain(&mut queue), [11, 20, 30, 12, 21, 13, 14]);
        assert_eq!((queue.len(), queue.turns.len(), queue.jobs.len()), (0, 0, 0));
    }

    #[test]
    fn a_job_that_does_not_fit_keeps_its_turn() {
        let mut queue = FairQueue::default();
        let _wait = push(&mut queue, [(1, 3), (2, 1)]);
        assert!(queue.pop(2).is_none());
        assert_eq!(drain(&mut queue), [3, 1]);
    }

    #[test]
    fn jobs_that_nobody_waits_for_are_let_go() {
        let mut queue = FairQueue::default();
        let _wait = push(&mut queue, [(1, 3)]);
        drop(push(&mut queue, [(1, 4), (2, 5)]));
        assert_eq!(drain(&mut queue), [3]);
        assert_eq!((queue.len(), queue.turns.len(), queue.jobs.len()), (0, 0, 0));
        let _wait = push(&mut queue, [(1, 3)]);
        for _ in 0..100 * MANY {
            drop(push(&mut queue, [(1, 1)]));
        }
        assert!(queue.len() <= 4 * MANY, "{} are kept", queue.len());
        assert_eq!(drain(&mut queue), [3]);
        assert_eq!(queue.len(), 0);
    }
}
