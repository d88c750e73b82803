//! A rate limit, to be kept behind a lock.

use std::thread;
use std::time::{Duration, Instant};

pub struct Pace {
    gap: Duration,
    /// When the next may go.
    next: Option<Instant>,
}

impl Pace {
    pub fn per_minute(count: usize) -> Self {
        Pace {
            gap: Duration::from_secs(60).div_f64(count as f64),
            next: None,
        }
    }

    /// Waits for a turn. Turns are evenly apart, so that no minute has more of them than are allowed,
    /// whenever the service begins to count.
    #[allow(dead_code, reason = "the test books without waiting")]
    pub fn turn(&mut self) {
        thread::sleep(self.book(Instant::now()));
    }

    /// Books the next turn, and returns how far it is from now.
    pub fn book(&mut self, now: Instant) -> Duration {
        let turn = self.next.map_or(now, |next| next.max(now));
        self.next = Some(turn + self.gap);
        turn - now
    }
}
