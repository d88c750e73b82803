use std::thread;
use std::time::{Duration, Instant};

/// Monotonic time and sleeping, so that tests can wait hours in no time. Not part of the API.
#[doc(hidden)]
pub trait Clock: Send + Sync {
    /// The time since some fixed point.
    fn now(&self) -> Duration;
    /// Returns after this long.
    fn sleep(&self, time: Duration);
}

pub(crate) struct SystemClock(Instant);

impl SystemClock {
    pub fn new() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}
