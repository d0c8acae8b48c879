//! Whether running ahead pays, decided as the block goes.

use super::front::Ahead;

/// Watches how runs ahead of the front fare. Where most fail, it asks for a pause, and for a longer one each time that what is tried
/// after it fails as well.
#[derive(Debug)]
pub(super) struct Gauge {
    /// Share of runs that held, of late, in 1/256.
    held: u32,
    /// Length of the next pause, in transactions.
    pause: usize,
}

impl Gauge {
    /// Below this share a pause is asked for.
    const WORTH: u32 = 256 * 3 / 10;
    /// Above this share it is clear that running ahead pays.
    const GOOD: u32 = 256 * 3 / 4;
    const SHORTEST: usize = 16;
    const LONGEST: usize = 1024;

    /// Tells how a run fared. The answer is how many transactions to pass before the next is run ahead.
    pub(super) fn tell(&mut self, ahead: Ahead) -> Option<usize> {
        match ahead {
            Ahead::Not => return None,
            Ahead::Held => {
                self.held += (256 - self.held) / 8;
                if self.held > Self::GOOD {
                    self.pause = Self::SHORTEST;
                }
            }
            Ahead::Failed => self.held -= self.held / 8,
        }
        if self.held >= Self::WORTH {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(Self::LONGEST);
        // What follows the pause decides soon.
        self.held = Self::WORTH + 16;
        Some(pause)
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self { held: Self::GOOD, pause: Self::SHORTEST }
    }
}
