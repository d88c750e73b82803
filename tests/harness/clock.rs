//! A clock whose sleeps take no time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bithuman::Clock;

/// Time that passes only by sleeps, which are skipped and recorded, and by [`pass`](Self::pass).
pub struct FakeClock {
    /// Real time since then is added.
    start: Option<Instant>,
    state: Mutex<State>,
}

struct State {
    passed: Duration,
    /// The time of day at zero.
    wall_start: SystemTime,
    sleeps: Vec<Duration>,
    woken: bool,
    hook: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl FakeClock {
    pub fn new() -> Arc<Self> {
        FakeClock::starting(None)
    }

    /// Real time with the skipped sleeps added: for sockets that stall.
    pub fn real() -> Arc<Self> {
        FakeClock::starting(Some(Instant::now()))
    }

    fn starting(start: Option<Instant>) -> Arc<Self> {
        let state = State {
            passed: Duration::ZERO,
            wall_start: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            sleeps: Vec::new(),
            woken: false,
            hook: None,
        };
        Arc::new(FakeClock {
            start,
            state: Mutex::new(state),
        })
    }

    /// The sleeps so far, each as long as it was to be.
    pub fn sleeps(&self) -> Vec<Duration> {
        self.state.lock().unwrap().sleeps.clone()
    }

    pub fn pass(&self, time: Duration) {
        self.state.lock().unwrap().passed += time;
    }

    /// Lets only the time of day pass, as while the computer is suspended.
    pub fn suspend(&self, time: Duration) {
        self.state.lock().unwrap().wall_start += time;
    }

    /// Sets the time of day.
    pub fn set_wall(&self, time: SystemTime) {
        let now = self.now();
        self.state.lock().unwrap().wall_start = time - now;
    }

    /// Calls this during each sleep from now on. It may use the clock, and shut down the client.
    pub fn on_sleep(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.state.lock().unwrap().hook = Some(Arc::new(hook));
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        let real = self.start.map(|start| start.elapsed());
        real.unwrap_or_default() + self.state.lock().unwrap().passed
    }

    fn wall_time(&self) -> SystemTime {
        let now = self.now();
        self.state.lock().unwrap().wall_start + now
    }

    fn sleep(&self, time: Duration) {
        let hook = {
            let mut state = self.state.lock().unwrap();
            state.sleeps.push(time);
            state.hook.clone()
        };
        if let Some(hook) = hook {
            hook();
        }
        let mut state = self.state.lock().unwrap();
        if !state.woken {
            state.passed += time;
        }
    }

    fn wake(&self) {
        self.state.lock().unwrap().woken = true;
    }
}
