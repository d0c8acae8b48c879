//! Whether running ahead pays, decided as the block goes.

use std::time::Instant;

use super::front::Ahead;

/// Watches how runs ahead of the front fare, and what they bring. Where many fail, it asks for a pause, in which transactions are run
/// in order, and compares the gas a second of both: if running ahead was slower, the next pause is longer, else the next comes later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    /// Share of runs that held, of late, in 1/256.
    held: u32,
    /// Share of runs that needed values which were not committed, of late, in 1/65,536.
    early: u32,
    /// Length of the next pause, in transactions.
    pause: u32,
    /// For so many transactions running ahead is not questioned, unless hardly any run holds.
    trust: u32,
    /// Gas a second before the pause; `None` if running ahead was hopeless.
    before: Option<f64>,
    phase: Phase,
}

/// What is measured now.
#[derive(Debug, Clone, Copy)]
struct Phase {
    paused: bool,
    /// When it began; `None` until the first transaction that counts.
    began: Option<Instant>,
    gas: u64,
    count: u32,
}

impl Gauge {
    /// Below this share of runs that hold, running ahead is given up at once.
    const HOPELESS: u32 = 256 * 3 / 10;
    /// Below this share it is questioned.
    const DOUBTFUL: u32 = 256 * 15 / 16;
    /// Transactions between two looks at the clock.
    const WINDOW: u32 = 64;
    const SHORTEST: u32 = 16;
    const LONGEST: u32 = 2048;
    /// Below this share runs hardly ever need values that are not committed.
    const RARE: u32 = 65_536 / 64;

    /// Tells how the next transaction fared and what gas it used. The answer is how many transactions to pass before the next is run
    /// ahead.
    pub(super) fn tell(
        &mut self,
        ahead: Ahead,
        gas: u64,
        clock: impl Fn() -> Instant,
    ) -> Option<usize> {
        if self.phase.paused {
            self.measure_pause(ahead, gas, clock);
            return None;
        }
        match ahead {
            Ahead::Not => {}
            Ahead::Held { .. } => self.held += (256 - self.held) / 8,
            Ahead::Failed => self.held -= self.held / 8,
        }
        match ahead {
            Ahead::Not => {}
            Ahead::Held { early: false } => self.early -= self.early / 256,
            Ahead::Held { early: true } | Ahead::Failed => {
                self.early += (65_536 - self.early) / 256
            }
        }
        if self.phase.began.is_none() {
            self.phase.began = Some(clock());
        } else {
            self.phase.gas += gas;
        }
        self.phase.count += 1;
        let hopeless = self.held < Self::HOPELESS;
        if self.phase.count < Self::WINDOW && !hopeless {
            return None;
        }
        let doubtful = self.held < Self::DOUBTFUL && self.trust == 0;
        self.trust = self.trust.saturating_sub(self.phase.count);
        let now = clock();
        if !doubtful && !hopeless {
            self.phase = Phase::new(false, Some(now));
            return None;
        }
        self.before = (!hopeless).then(|| self.phase.rate(now));
        self.phase = Phase::new(true, None);
        Some(self.pause as usize)
    }

    fn measure_pause(&mut self, ahead: Ahead, gas: u64, clock: impl Fn() -> Instant) {
        let phase = &mut self.phase;
        phase.count += 1;
        // What was run ahead before the pause comes first, and says nothing of it.
        if phase.began.is_some() {
            phase.gas += gas;
        } else if ahead == Ahead::Not {
            phase.began = Some(clock());
        }
        if phase.count < self.pause {
            return;
        }
        let now = clock();
        match self.before {
            // All was run ahead before the pause, so that nothing was measured in it: the question comes again soon.
            Some(_) if phase.gas == 0 => {}
            Some(before) if phase.rate(now) <= before => {
                self.pause = Self::SHORTEST;
                self.trust = Self::WINDOW * 32;
            }
            _ => {
                self.pause = (self.pause * 2).min(Self::LONGEST);
                self.trust = 0;
            }
        }
        // What follows decides soon.
        self.held = self.held.clamp(Self::HOPELESS + 16, Self::DOUBTFUL);
        self.phase = Phase::new(false, Some(now));
    }

    /// Whether runs hardly ever need values that are not committed.
    pub(super) const fn is_calm(&self) -> bool {
        self.early < Self::RARE
    }

    /// Turns to another stretch; the time in between does not count.
    pub(super) fn begin(&mut self) {
        self.phase.began = None;
        self.phase.gas = 0;
        if !self.phase.paused {
            self.phase.count = 0;
        }
    }

    /// How many transactions are still to pass of a pause that was asked for.
    pub(super) const fn pausing(&self) -> usize {
        if self.phase.paused { self.pause.saturating_sub(self.phase.count) as usize } else { 0 }
    }
}

impl Phase {
    const fn new(paused: bool, began: Option<Instant>) -> Self {
        Self { paused, began, gas: 0, count: 0 }
    }

    /// Gas a second.
    fn rate(&self, now: Instant) -> f64 {
        let time = self.began.map_or(0.0, |began| (now - began).as_secs_f64());
        self.gas as f64 / time.max(1e-9)
    }
}

impl Default for Gauge {
    fn default() -> Self {
        let phase = Phase::new(false, None);
        Self {
            held: 256 * 3 / 4,
            early: 4 * Self::RARE,
            pause: Self::SHORTEST,
            trust: 0,
            before: None,
            phase,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A block of transactions of 1,000 gas each, of which every `fails`th run ahead fails; one takes `ahead` microseconds where
    /// running ahead goes on, and `paused` in a pause. Gives the share that was run ahead.
    fn share(count: usize, fails: usize, ahead: u64, paused: u64) -> f64 {
        let (mut gauge, mut now) = (Gauge::default(), Instant::now());
        let (mut resume, mut tried) = (0, 0);
        for at in 0..count {
            let pauses = at < resume;
            now += Duration::from_micros(if pauses { paused } else { ahead });
            let outcome = match pauses {
                true => Ahead::Not,
                false if at % fails == 0 => Ahead::Failed,
                false => Ahead::Held { early: false },
            };
            tried += usize::from(!pauses);
            if let Some(pause) = gauge.tell(outcome, 1_000, || now) {
                resume = at + 1 + pause;
            }
        }
        tried as f64 / count as f64
    }

    #[test]
    fn what_holds_is_not_questioned() {
        assert_eq!(share(10_000, usize::MAX, 10, 1), 1.0);
    }

    #[test]
    fn what_always_fails_is_given_up() {
        let tried = share(10_000, 1, 10, 10);
        assert!(tried < 0.01, "{tried}");
    }

    #[test]
    fn what_often_fails_goes_on_if_it_pays() {
        let tried = share(20_000, 3, 10, 15);
        assert!(tried > 0.95, "{tried}");
        let tried = share(20_000, 3, 12, 10);
        assert!(tried < 0.15, "{tried}");
    }

    #[test]
    fn it_is_calm_as_long_as_runs_do_not_depend_on_each_other() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        let mut calm_after = |count, ahead| {
            for _ in 0..count {
                gauge.tell(ahead, 1_000, || now);
            }
            gauge.is_calm()
        };
        assert!(!calm_after(1, Ahead::Held { early: false }), "nothing is known yet");
        assert!(calm_after(1_000, Ahead::Held { early: false }));
        assert!(calm_after(1, Ahead::Failed), "one does not count");
        assert!(!calm_after(8, Ahead::Held { early: true }));
    }

    #[test]
    fn a_pause_goes_on_in_the_next_stretch() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        let pause = (0..100).find_map(|_| gauge.tell(Ahead::Failed, 1_000, || now));
        let pause = pause.expect("it is hopeless");
        assert_eq!(gauge.pausing(), pause);
        gauge.tell(Ahead::Failed, 1_000, || now);
        gauge.tell(Ahead::Not, 1_000, || now);
        gauge.begin();
        assert_eq!(gauge.pausing(), pause - 2);
    }
}
