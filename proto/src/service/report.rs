//! Failures as people read them: an error with all its causes in one line, and an outage without a line at every try.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

/// An error and its causes in one line, `what: why: why`. A cause that the text before it tells already is left out, so that
/// it does not matter whether an error's own text names its cause.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(&'a (dyn Error + Send + Sync + 'a));

impl<'a> ErrorChain<'a> {
    /// The chain that begins with this error.
    pub fn new(error: &'a (dyn Error + Send + Sync + 'a)) -> Self {
        Self(error)
    }
}

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        append_causes(&mut line, Some(self.0));
        f.write_str(&line)
    }
}

/// Adds an error and its causes to a line, as far as the line does not tell them already.
pub(super) fn append_causes(line: &mut String, mut next: Option<&(dyn Error + '_)>) {
    while let Some(error) = next {
        let text = error.to_string();
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
        next = error.source();
    }
}

/// Something that fails again and again: who retries it warns of the first failure, reminds now and then, and says once that it
/// is over.
///
/// ```
/// # let mut outage = millrace_proto::Outage::new();
/// assert!(outage.failed(), "the first failure is worth a warning");
/// assert!(!outage.failed(), "the next one is not");
/// assert_eq!(outage.over().map(|past| past.failures), Some(2));
/// assert!(outage.over().is_none(), "there is nothing more to say");
/// ```
#[derive(Debug, Default)]
pub struct Outage(Option<Ongoing>);

#[derive(Debug)]
struct Ongoing {
    since: Instant,
    told: Instant,
    failures: u64,
}

/// An outage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastOutage {
    /// Tries that failed.
    pub failures: u64,
    /// From the first failure to the success.
    pub lasted: Duration,
}

impl Outage {
    /// Between two warnings of the same outage.
    pub const REMIND_EVERY: Duration = Duration::from_secs(30);

    /// Nothing has failed yet.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Notes a failure. Returns whether it is worth a warning; else it is a detail for who looks closely.
    pub fn failed(&mut self) -> bool {
        self.failed_at(Instant::now())
    }

    /// Notes a success. Returns the outage that ends with it, if there was one: worth one line.
    pub fn over(&mut self) -> Option<PastOutage> {
        self.over_at(Instant::now())
    }

    fn failed_at(&mut self, now: Instant) -> bool {
        let Some(ongoing) = &mut self.0 else {
            self.0 = Some(Ongoing { since: now, told: now, failures: 1 });
            return true;
        };
        ongoing.failures += 1;
        let remind = now.duration_since(ongoing.told) >= Self::REMIND_EVERY;
        if remind {
            ongoing.told = now;
        }
        remind
    }

    fn over_at(&mut self, now: Instant) -> Option<PastOutage> {
        self.0.take().map(|ongoing| PastOutage {
            failures: ongoing.failures,
            lasted: now.duration_since(ongoing.since),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::service::{ExecutorError, SequencerError, TransportError};

    #[test]
    fn a_cause_is_told_once() {
        let disk = io::Error::other("no space left");
        let error = SequencerError::Executor(ExecutorError::Store(Box::new(disk)));
        let told = "executor: executor storage: no space left";
        assert_eq!(error.to_string(), told);
        assert_eq!(ErrorChain::new(&error).to_string(), told);
    }

    #[test]
    fn a_cause_that_the_text_leaves_out_is_added() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start")]
        struct Quiet(#[source] ExecutorError);
        let error = Quiet(TransportError::Closed.into());
        let told = "cannot start: the peer closed the stream";
        assert_eq!(ErrorChain::new(&error).to_string(), told);
    }

    #[test]
    fn an_outage_is_told_at_its_start_then_now_and_then_and_at_its_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::new();
        assert_eq!(outage.over_at(start), None);
        let told: Vec<u64> = (0..100).filter(|second| outage.failed_at(at(*second))).collect();
        assert_eq!(told, [0, 30, 60, 90]);
        let past = PastOutage { failures: 100, lasted: Duration::from_secs(100) };
        assert_eq!(outage.over_at(at(100)), Some(past));
        assert_eq!(outage.over_at(at(101)), None);
        assert!(outage.failed_at(at(102)), "the next outage is news again");
    }
}
