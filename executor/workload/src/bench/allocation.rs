//! What is allocated while a block is executed, as the program's allocator counts it.

/// Counts what all threads of the process allocate.
pub trait AllocationMeter {
    /// Begins at zero.
    fn start(&self);

    /// What was allocated since [`Self::start`].
    fn stop(&self) -> Allocated;
}

/// What was allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocated {
    /// How often memory was asked for, reallocations included.
    pub calls: u64,
    /// The most bytes at one time beyond those of the start.
    pub peak: u64,
}

impl Allocated {
    /// Calls for each of `count` transactions.
    pub fn calls_each(&self, count: usize) -> f64 {
        self.calls as f64 / count.max(1) as f64
    }

    /// The most bytes, in MiB.
    pub fn mib(&self) -> f64 {
        self.peak as f64 / (1 << 20) as f64
    }
}

/// What is allocated while `run` runs; what it returns is freed afterwards.
pub(super) fn counted<T, E>(
    meter: &dyn AllocationMeter,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<Allocated, E> {
    meter.start();
    let result = run();
    let allocated = meter.stop();
    result.map(|_| allocated)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Whether it counts.
    #[derive(Default)]
    struct Fake(Cell<bool>);

    impl AllocationMeter for Fake {
        fn start(&self) {
            self.0.set(true);
        }

        fn stop(&self) -> Allocated {
            self.0.set(false);
            Allocated { calls: 3, peak: 4 }
        }
    }

    #[test]
    fn counting_ends_with_the_run_even_if_it_fails() {
        let meter = Fake::default();
        let run = || {
            assert!(meter.0.get());
            Ok::<_, ()>("result")
        };
        assert_eq!(counted(&meter, run), Ok(Allocated { calls: 3, peak: 4 }));
        assert!(!meter.0.get());
        assert_eq!(counted(&meter, || Err::<(), _>("failure")), Err("failure"));
        assert!(!meter.0.get());
    }
}
