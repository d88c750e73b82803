//! Time and sleeping, so that tests can wait for hours in no time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A source of time. Not part of the API.
#[doc(hidden)]
pub trait Clock: Send + Sync {
    /// The time since some fixed point. It never goes back, and may stand still while the computer
    /// is suspended.
    fn now(&self) -> Duration;

    /// The time of day, which continues while the computer is suspended, and may be set.
    fn wall_time(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Returns after this long, or when woken.
    fn sleep(&self, time: Duration);

    /// Ends every sleep, now and from now on.
    fn wake(&self) {}
}

/// The age of something: by the clock that says more, since one stands still while the computer is
/// suspended, and the other may be set back.
pub(crate) struct Stopwatch {
    clock: Arc<dyn Clock>,
    start: Duration,
    wall_start: SystemTime,
}

impl Stopwatch {
    pub fn start(clock: &Arc<dyn Clock>) -> Self {
        Stopwatch {
            start: clock.now(),
            wall_start: clock.wall_time(),
            clock: clock.clone(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        let by_wall = self.clock.wall_time().duration_since(self.wall_start);
        let elapsed = self.clock.now().saturating_sub(self.start);
        elapsed.max(by_wall.unwrap_or_default())
    }
}

pub(crate) struct SystemClock {
    start: Instant,
    woken: Mutex<bool>,
    waking: Condvar,
}

impl SystemClock {
    pub fn new() -> Self {
        SystemClock {
            start: Instant::now(),
            woken: Mutex::new(false),
            waking: Condvar::new(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.waking.wait_timeout_while(woken, time, |woken| !*woken));
    }

    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.waking.notify_all();
    }
}
