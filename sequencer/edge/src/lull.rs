//! Whether a connection has a call open, and since when it has not.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{config::Limits, metrics::Closed};

/// A connection's calls, as its timeouts see them.
#[derive(Debug)]
pub(crate) struct Lull {
    header: Duration,
    idle: Duration,
    /// A reply that is not taken in this time, or in twice this time, is overdue: calls are counted by the period that they began in.
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: usize,
    /// Since when the present number of calls is none, or the connection stands.
    since: Instant,
    /// Since when something of a request's head is here, over HTTP/1.
    head_since: Option<Instant>,
    had_call: bool,
    /// It has become a WebSocket, which other rules are for.
    upgraded: bool,
    /// Calls with a deadline that are open, by the parity of the period that they began in.
    timed: [usize; 2],
    parity: usize,
    period_began: Instant,
}

/// What a look at the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    LookAgain(Instant),
    Close(Closed),
}

impl Lull {
    pub(crate) fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            period: limits.call_timeout * 2,
            state: Mutex::new(State {
                open: 0,
                since: now,
                head_since: None,
                had_call: false,
                upgraded: false,
                timed: [0; 2],
                parity: 0,
                period_began: now,
            }),
        }
    }

    /// A call begins. What it returns is for [`Self::ended`].
    pub(crate) fn began(&self, timed: bool) -> Option<usize> {
        let mut state = self.state.lock();
        state.open += 1;
        state.had_call = true;
        state.head_since = None;
        timed.then(|| {
            let parity = state.parity;
            state.timed[parity] += 1;
            parity
        })
    }

    pub(crate) fn ended(&self, timed: Option<usize>) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
        if let Some(count) = timed.and_then(|parity| state.timed.get_mut(parity)) {
            *count = count.saturating_sub(1);
        }
        if state.open == 0 {
            state.since = Instant::now();
        }
    }

    pub(crate) fn upgraded(&self) {
        self.state.lock().upgraded = true;
    }

    /// Bytes have arrived over HTTP/1. Between requests they are the head of the next one: when it has to be whole, if these are its first.
    pub(crate) fn arrived(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        if !state.had_call || state.open > 0 || state.upgraded || state.head_since.is_some() {
            return None;
        }
        let now = Instant::now();
        state.head_since = Some(now);
        Some(now + self.header)
    }

    /// What the clock says now.
    pub(crate) fn look(&self, now: Instant) -> Verdict {
        let mut state = self.state.lock();
        if state.upgraded {
            return Verdict::LookAgain(now + self.idle);
        }
        if now >= state.period_began + self.period {
            let before = 1 - state.parity;
            if state.timed[before] > 0 {
                return Verdict::Close(Closed::ReplyNotTaken);
            }
            state.parity = before;
            state.period_began = now;
        }
        if state.open > 0 {
            return Verdict::LookAgain(now + self.idle.min(self.period));
        }
        let head = match (state.had_call, state.head_since) {
            (false, _) => Some(state.since),
            (true, since) => since,
        };
        let head = head.map(|since| (since + self.header, Closed::HeaderTimeout));
        let idle = (state.since + self.idle, Closed::Idle);
        let (deadline, why) = head.filter(|head| head.0 < idle.0).unwrap_or(idle);
        if now >= deadline { Verdict::Close(why) } else { Verdict::LookAgain(deadline) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lull() -> Lull {
        Lull::new(&Limits {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            call_timeout: Duration::from_secs(20),
            ..Limits::default()
        })
    }

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_request_has_the_header_timeout_and_what_follows_the_idle_timeout() {
        let lull = lull();
        assert_eq!(lull.look(after(9)), Verdict::LookAgain(after(10)));
        assert_eq!(lull.look(after(10)), Verdict::Close(Closed::HeaderTimeout));
        let call = lull.began(false);
        assert!(matches!(lull.look(after(1_000)), Verdict::LookAgain(_)));
        lull.ended(call);
        assert_eq!(lull.look(after(99)), Verdict::LookAgain(after(100)));
        assert_eq!(lull.look(after(100)), Verdict::Close(Closed::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_that_comes_slowly_has_the_header_timeout() {
        let lull = lull();
        lull.ended(lull.began(false));
        lull.arrived();
        tokio::time::advance(Duration::from_secs(5)).await;
        lull.arrived();
        assert_eq!(lull.look(after(4)), Verdict::LookAgain(after(5)));
        assert_eq!(lull.look(after(5)), Verdict::Close(Closed::HeaderTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_nobody_takes_is_overdue() {
        let lull = lull();
        let _call = lull.began(true);
        assert!(matches!(lull.look(after(40)), Verdict::LookAgain(_)));
        assert_eq!(lull.look(after(80)), Verdict::Close(Closed::ReplyNotTaken));
    }

    #[tokio::test(start_paused = true)]
    async fn replies_that_are_taken_are_not_overdue_and_waits_never_are() {
        let lull = lull();
        let _wait = lull.began(false);
        let mut previous = lull.began(true);
        for _ in 0..10 {
            let next = lull.began(true);
            lull.ended(previous);
            previous = next;
            tokio::time::advance(Duration::from_secs(40)).await;
            assert!(matches!(lull.look(Instant::now()), Verdict::LookAgain(_)));
        }
    }
}
