use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Time and sleeping, so that tests can wait hours in no time. Not part of the API.
#[doc(hidden)]
pub trait Clock: Send + Sync {
    /// The time since some fixed point. It never goes back, and may stand still while the machine
    /// is suspended.
    fn now(&self) -> Duration;

    /// The time of day, which goes on while the machine is suspended, and may be set.
    fn wall_time(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Returns after this long, or when woken.
    fn sleep(&self, time: Duration);

    /// Ends every sleep, now and from now on.
    fn wake(&self) {}
}

pub(crate) struct SystemClock {
    start: Instant,
    woken: Mutex<bool>,
    waking: Condvar,
}

impl SystemClock {
    pub fn new() -> Self {
        SystemClock { start: Instant::now(), woken: Mutex::new(false), waking: Condvar::new() }
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
