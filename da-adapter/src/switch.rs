//! Which backend the next batch goes through: the first of the list that takes it, and stays for a while.
//!
//! A backend is away after it failed several times in a row, or said that another should be used; it is tried again after a pause, which doubles. What is
//! switched to for whatever reason is used for a number of batches at least, so that a backend that comes and goes does not take the batches with it.

use std::time::Duration;

use alloy::primitives::U256;
use millrace_proto::DaKind;
use tokio::time::Instant;

/// When backends are switched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SwitchRules {
    /// Batches that go through a backend at least, as long as it takes them.
    pub(crate) sticky_batches: u64,
    /// Failures in a row after which a backend is away.
    pub(crate) failures: u32,
    /// How long it is left alone then, the first time, and at most.
    pub(crate) pause: Duration,
    pub(crate) max_pause: Duration,
    /// How much cheaper than the one in use another has to be, in hundredths, to be switched to for its price. `None`: prices do not count.
    pub(crate) cheaper_percent: Option<u8>,
}

/// Why a backend did not take a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may take it the next time.
    Retry,
    /// Not before somebody mends it.
    Refused,
    /// Never, as it is set up.
    Fatal,
    /// Its batches have this many bytes at most.
    TooLarge(usize),
}

/// A backend, as far as choosing goes.
#[derive(Debug, Clone)]
struct Candidate {
    kind: DaKind,
    max_size: usize,
    /// A smaller size that it has named, and until when that is believed.
    named: Option<(usize, Instant)>,
    failures: u32,
    pause: Duration,
    away_until: Option<Instant>,
}

impl Candidate {
    fn takes(&self, size: usize, now: Instant) -> bool {
        let named = self.named.filter(|(_, until)| now < *until);
        size <= self.max_size && named.is_none_or(|(max, _)| size <= max)
    }

    fn is_away(&self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }
}

/// Chooses.
#[derive(Debug)]
pub(crate) struct Switch {
    rules: SwitchRules,
    candidates: Vec<Candidate>,
    current: usize,
    /// Batches that went through the current one in a row.
    posted: u64,
}

impl Switch {
    /// Begins with the first of the list; there is at least one.
    pub(crate) fn new(
        rules: SwitchRules,
        backends: impl IntoIterator<Item = (DaKind, usize)>,
    ) -> Self {
        let candidate = |(kind, max_size)| Candidate {
            kind,
            max_size,
            named: None,
            failures: 0,
            pause: rules.pause,
            away_until: None,
        };
        let candidates = backends.into_iter().map(candidate).collect();
        // What was used before a restart is not known: switching back and forth costs more than beginning anew.
        Self { rules, candidates, current: 0, posted: 0 }
    }

    /// The position of the backend in use.
    pub(crate) const fn current(&self) -> usize {
        self.current
    }

    /// Whether costs make a difference.
    pub(crate) const fn follows_prices(&self) -> bool {
        self.rules.cheaper_percent.is_some()
    }

    /// Uses a backend whatever its health, as somebody asks for it. `false` if it does not take as many bytes.
    pub(crate) fn use_asked(&mut self, at: usize, size: usize, now: Instant) -> bool {
        if at != self.current {
            self.current = at;
            self.posted = 0;
        }
        self.candidates[at].takes(size, now)
    }

    /// The position of the backend for a batch of `size` bytes; `None` if none takes as many, but for those that were `tried`. `costs` are what
    /// each would cost, in wei, where that is known.
    pub(crate) fn choose(
        &mut self,
        size: usize,
        costs: &[Option<U256>],
        tried: &[usize],
        now: Instant,
    ) -> Option<usize> {
        let fits = |at: usize| self.candidates[at].takes(size, now);
        let left: Vec<usize> =
            (0..self.candidates.len()).filter(|at| fits(*at) && !tried.contains(at)).collect();
        let there: Vec<usize> =
            left.iter().copied().filter(|at| !self.candidates[*at].is_away(now)).collect();
        if there.is_empty() {
            // All are away: the one whose pause ends first, without waiting for that.
            return left.into_iter().min_by_key(|at| self.candidates[*at].away_until);
        }
        if !fits(self.current) {
            // For this batch alone.
            return self.best(&there, None, costs);
        }
        let stays = there.contains(&self.current);
        if stays && self.posted < self.rules.sticky_batches {
            return Some(self.current);
        }
        let best = self.best(&there, stays.then_some(self.current), costs)?;
        if best != self.current {
            self.current = best;
            self.posted = 0;
        }
        Some(best)
    }

    /// The best of those that are there; `current` is the one in use, if it is among them.
    fn best(
        &self,
        there: &[usize],
        current: Option<usize>,
        costs: &[Option<U256>],
    ) -> Option<usize> {
        let first = there.first().copied();
        let Some(percent) = self.rules.cheaper_percent else { return first };
        let cost = |at: usize| costs.get(at).copied().flatten();
        let cheapest =
            there.iter().copied().filter(|at| cost(*at).is_some()).min_by_key(|at| cost(*at));
        match (cheapest, current) {
            (None, current) => current.or(first),
            (Some(cheapest), None) => Some(cheapest),
            (Some(cheapest), Some(current)) => {
                let share = U256::from(100 - percent.min(100));
                let saves = match (cost(cheapest), cost(current)) {
                    (Some(cheap), Some(now)) => {
                        cheap.saturating_mul(U256::from(100)) <= now.saturating_mul(share)
                    }
                    _ => false,
                };
                Some(if saves { cheapest } else { current })
            }
        }
    }

    /// A backend took a batch.
    pub(crate) fn took(&mut self, at: usize) {
        let candidate = &mut self.candidates[at];
        (candidate.failures, candidate.pause, candidate.away_until) = (0, self.rules.pause, None);
    }

    /// A batch that was chosen for it went through.
    pub(crate) const fn posted(&mut self, at: usize) {
        if at == self.current {
            self.posted = self.posted.saturating_add(1);
        }
    }

    /// A batch did not go through. Returns whether the backend is away now, or does not take this batch.
    pub(crate) fn failed(&mut self, at: usize, failure: Failure, now: Instant) -> bool {
        let candidate = &mut self.candidates[at];
        candidate.failures = candidate.failures.saturating_add(1);
        match failure {
            Failure::Retry if candidate.failures < self.rules.failures => return false,
            Failure::Retry | Failure::Refused => {
                candidate.away_until = Some(now + candidate.pause);
                candidate.pause = (candidate.pause * 2).min(self.rules.max_pause);
            }
            Failure::Fatal => {
                // Somebody has to mend it.
                candidate.pause = self.rules.max_pause;
                candidate.away_until = Some(now + candidate.pause);
            }
            Failure::TooLarge(max) => candidate.named = Some((max, now + self.rules.max_pause)),
        }
        true
    }

    /// The kinds, in the order of the list, and which are away.
    pub(crate) fn health(&self, now: Instant) -> impl Iterator<Item = (DaKind, bool)> + '_ {
        self.candidates.iter().map(move |candidate| (candidate.kind, candidate.is_away(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SwitchRules = SwitchRules {
        sticky_batches: 5,
        failures: 3,
        pause: Duration::from_secs(60),
        max_pause: Duration::from_secs(200),
        cheaper_percent: None,
    };
    const KINDS: [(DaKind, usize); 3] =
        [(DaKind::L1Blob, 1_000), (DaKind::AltDa, 2_000), (DaKind::L1Calldata, 100)];

    fn is_away(switch: &Switch, at: usize, now: Instant) -> bool {
        switch.health(now).nth(at).unwrap().1
    }

    fn later(now: &mut Instant, seconds: u64) -> Instant {
        *now += Duration::from_secs(seconds);
        *now
    }

    #[test]
    fn the_first_that_is_there_is_used_and_left_again_only_after_some_batches() {
        let mut switch = Switch::new(RULES, KINDS);
        let mut now = Instant::now();
        assert_eq!(switch.choose(50, &[], &[], now), Some(0));
        assert!(!switch.failed(0, Failure::Retry, now));
        assert_eq!(switch.choose(50, &[], &[], now), Some(0), "one failure is none");
        assert!(!switch.failed(0, Failure::Retry, now));
        assert!(switch.failed(0, Failure::Retry, now), "three are");
        assert_eq!(switch.choose(50, &[], &[], now), Some(1));
        let late = later(&mut now, 1_000);
        for batch in 0..5 {
            assert_eq!(switch.choose(50, &[], &[], late), Some(1), "batch {batch}");
            switch.took(1);
            switch.posted(1);
        }
        assert_eq!(switch.choose(50, &[], &[], late), Some(0));
        switch.took(0);
        switch.posted(0);
        assert_eq!(switch.choose(50, &[], &[], late), Some(0));
    }

    /// However a backend comes and goes, there are no more switches than the batches allow.
    #[test]
    fn a_backend_that_comes_and_goes_does_not_take_the_batches_with_it() {
        let mut switch = Switch::new(RULES, KINDS);
        let mut now = Instant::now();
        let (mut switches, mut last) = (0, 0);
        for batch in 0..600 {
            let at = loop {
                let at = switch.choose(50, &[], &[], later(&mut now, 30)).unwrap();
                // The first backend takes one batch in three.
                if at == 0 && batch % 3 != 0 {
                    switch.failed(0, Failure::Refused, now);
                } else {
                    break at;
                }
            };
            switch.took(at);
            switch.posted(at);
            switches += u32::from(at != last);
            last = at;
        }
        assert!((2..=2 * 600 / 6).contains(&switches), "{switches}");
    }

    #[test]
    fn pauses_double_and_when_all_are_away_the_next_to_come_back_is_tried() {
        let mut switch = Switch::new(RULES, KINDS);
        let mut now = Instant::now();
        switch.failed(0, Failure::Refused, now);
        assert!(is_away(&switch, 0, now + Duration::from_secs(59)));
        assert!(!is_away(&switch, 0, now + Duration::from_secs(60)));
        later(&mut now, 60);
        switch.failed(0, Failure::Refused, now);
        assert!(is_away(&switch, 0, now + Duration::from_secs(119)));
        switch.failed(1, Failure::Refused, now);
        switch.failed(2, Failure::Refused, later(&mut now, 1));
        assert_eq!(switch.choose(50, &[], &[], now), Some(1));
        assert_eq!(switch.choose(5_000, &[], &[], now), None, "none takes so much");
        for _ in 0..5 {
            switch.failed(0, Failure::Refused, now);
        }
        assert!(!is_away(&switch, 0, now + Duration::from_secs(200)), "not for ever");
    }

    #[test]
    fn one_that_cannot_work_is_away_for_the_longest_pause_at_once() {
        let mut switch = Switch::new(RULES, KINDS);
        let now = Instant::now();
        assert!(switch.failed(0, Failure::Fatal, now));
        assert_eq!(switch.choose(50, &[], &[], now), Some(1));
        assert!(is_away(&switch, 0, now + RULES.max_pause - Duration::from_secs(1)));
        assert!(!is_away(&switch, 0, now + RULES.max_pause));
    }

    #[test]
    fn a_batch_too_large_for_the_one_in_use_goes_elsewhere_alone() {
        let mut switch = Switch::new(RULES, KINDS);
        let now = Instant::now();
        assert_eq!(switch.choose(1_500, &[], &[], now), Some(1));
        switch.took(1);
        switch.posted(1);
        assert_eq!((switch.choose(500, &[], &[], now), switch.current()), (Some(0), 0));
        assert!(switch.failed(0, Failure::TooLarge(400), now), "it learns");
        assert_eq!(switch.choose(500, &[], &[], now), Some(1));
        assert_eq!(switch.choose(400, &[], &[], now), Some(0));
        let later = now + RULES.max_pause;
        assert_eq!(switch.choose(500, &[], &[], later), Some(0), "but not for ever");
    }

    #[test]
    fn a_price_has_to_be_much_better_to_be_followed() {
        let mut switch = Switch::new(SwitchRules { cheaper_percent: Some(30), ..RULES }, KINDS);
        let now = Instant::now();
        let costs = |all: [u64; 3]| all.map(|cost| Some(U256::from(cost)));
        let cheap = costs([100, 60, 90]);
        for _ in 0..5 {
            assert_eq!(switch.choose(50, &cheap, &[], now), Some(0), "it stays for some batches");
            switch.took(0);
            switch.posted(0);
        }
        assert_eq!(
            switch.choose(50, &costs([100, 75, 90]), &[], now),
            Some(0),
            "a quarter is too little"
        );
        assert_eq!(switch.choose(50, &cheap, &[], now), Some(1));
        for _ in 0..5 {
            switch.took(1);
            switch.posted(1);
        }
        assert_eq!(switch.choose(50, &costs([50, 60, 90]), &[], now), Some(1));
        assert_eq!(switch.choose(50, &costs([42, 60, 90]), &[], now), Some(0));
        assert_eq!(
            switch.choose(50, &[None, None, None], &[], now),
            Some(0),
            "without prices it stays"
        );
        switch.failed(0, Failure::Refused, now);
        assert_eq!(
            switch.choose(50, &costs([1, 80, 60]), &[], now),
            Some(2),
            "the cheapest that is there"
        );
    }
}
