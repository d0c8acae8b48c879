//! How hard batches are compressed: as hard as is set, unless the batcher does not keep up with the chain.

use std::time::Duration;

/// The level at which zstd finds most of what higher ones find, at many times their speed.
const FASTEST: i32 = 3;

/// zstd's level for the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    level: i32,
    most: i32,
}

impl Effort {
    /// Begins with the most effort.
    pub(super) const fn new(most: i32) -> Self {
        Self { level: most, most }
    }

    pub(super) const fn level(self) -> i32 {
        self.level
    }

    /// A batch took `encoding` to encode, and its blocks had taken `collecting` to come. Blocks of a chain that is followed at its head come as they
    /// are made; of one that is caught up with, as fast as they are taken. While L1 is behind (`waiting`), bytes are what is short, and time is not.
    pub(super) fn adapt(&mut self, encoding: Duration, collecting: Duration, waiting: bool) {
        if waiting {
            self.level = self.most;
        } else if encoding > collecting / 2 {
            self.level = (self.level - 3).clamp(FASTEST.min(self.most), self.most);
        } else if encoding < collecting / 16 {
            self.level = (self.level + 1).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batcher_that_does_not_keep_up_compresses_faster_until_it_does() {
        let second = Duration::from_secs(1);
        let mut effort = Effort::new(15);
        effort.adapt(second / 10, second, false);
        assert_eq!(effort.level(), 15, "a tenth of the time is nothing");
        for level in [12, 9, 6, 3, 3] {
            effort.adapt(second, second, false);
            assert_eq!(effort.level(), level);
        }
        effort.adapt(second / 10, second, false);
        assert_eq!(effort.level(), 3, "it stays where it is enough");
        effort.adapt(second / 20, second, false);
        assert_eq!(effort.level(), 4);
        effort.adapt(second, second, true);
        assert_eq!(effort.level(), 15, "what waits for L1 may take its time");

        let mut low = Effort::new(1);
        low.adapt(second, second, false);
        assert_eq!(low.level(), 1);
    }
}
