//! What the modules about faults share: requests, answers, a clock that skips sleeps, and signals.

use std::sync::{Arc, Condvar, LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bithuman::serde_json::{Value, json as value};
use bithuman::{Api, ApiBuilder, Clock, Error, ErrorKind, Event, GenerateRequest, Media, Wait};

use crate::script::*;
use crate::support::*;

/// A key of the caller's, with every character one can have.
pub fn odd_key() -> String {
    (b'!'..=b'~').map(char::from).collect()
}

pub fn small() -> GenerateRequest {
    GenerateRequest::new().prompt("p")
}

/// A request that no sockets of one machine take in by themselves.
pub fn large() -> GenerateRequest {
    static LARGE: LazyLock<GenerateRequest> = LazyLock::new(|| {
        // Not a power of two, so that no two of its pages are alike.
        let block: Vec<u8> = (0..65_521_u32).map(|n| (n % 251) as u8).collect();
        GenerateRequest::new().image(Media::bytes(block.repeat(300)))
    });
    LARGE.clone()
}

/// The service has begun to make the agent.
pub fn accepted() -> Vec<u8> {
    json(200, value!({"success": true, "message": "m", "agent_id": ID, "status": "processing"}))
}

/// An answer to a status: these fields, besides the id.
pub fn polled(fields: Value) -> Vec<u8> {
    let mut data = value!({"agent_id": ID});
    data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    http(200, CLOSE, value!({"success": true, "data": data}).to_string())
}

/// Has the next request come over a connection of its own, so that an act answers one request.
pub const CLOSE: &str = "connection: close\r\n";

/// What a gateway says on behalf of the service.
pub fn gateway(status: u16) -> Vec<u8> {
    http(status, "content-type: text/html\r\n", "<html><body>This page is a gateway's</body></html>")
}

/// The service's own error, in each of the shapes it has had.
pub fn own(status: u16, code: &str) -> [Vec<u8>; 3] {
    [
        value!({"error": "Something is wrong", "code": code, "details": "d"}),
        value!({"success": false, "error": code, "message": "Something is wrong"}),
        value!({"error": {"code": code, "message": "Something is wrong", "httpStatus": status}, "status": "error"}),
    ]
    .map(|body| json(status, body))
}

/// The service's own 503, which says that nothing was charged.
pub fn busy() -> Vec<u8> {
    let [busy, ..] = own(503, "NO_AVAILABLE_WORKERS");
    busy
}

/// With one header more.
pub fn with_header(answer: impl AsRef<[u8]>, name: &str, text: &str) -> Vec<u8> {
    let answer = answer.as_ref();
    let line = answer.iter().position(|&b| b == b'\n').unwrap() + 1;
    [&answer[..line], format!("{name}: {text}\r\n").as_bytes(), &answer[line..]].concat()
}

/// Reads a request and answers it.
pub fn answer(answer: impl Into<Vec<u8>>) -> Act {
    let answer = answer.into();
    act(move |c| {
        c.request();
        c.send(&answer);
    })
}

pub fn answers<A: Into<Vec<u8>>>(all: impl IntoIterator<Item = A>) -> Vec<Act> {
    all.into_iter().map(answer).collect()
}

/// Reads a whole large request, which asks first, and accepts it.
pub fn accept_large() -> Act {
    act(|c| {
        take_some(c, usize::MAX);
        c.send(accepted());
    })
}

/// Has a large request begun, and reads so much of its body.
pub fn take_some(c: &mut Connection, bytes: usize) {
    if let Some(heard) = c.head() {
        c.send("HTTP/1.1 100 Continue\r\n\r\n");
        c.body(bytes.min(heard.content_length()));
    }
}

/// Real time, but for sleeps, which are skipped and noted.
pub struct Skipping {
    start: Instant,
    skipped: Mutex<Skipped>,
}

#[derive(Default)]
struct Skipped {
    time: Duration,
    suspended: Duration,
    set_back: Duration,
    sleeps: Vec<Duration>,
}

impl Skipping {
    pub fn new() -> Self {
        Skipping { start: Instant::now(), skipped: Mutex::default() }
    }

    pub fn sleeps(&self) -> Vec<Duration> {
        self.skipped.lock().unwrap().sleeps.clone()
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.skipped.lock().unwrap().time += time;
    }

    /// Lets time pass until this much of it has.
    pub fn pass_until(&self, time: Duration) {
        self.pass(time.saturating_sub(self.now()));
    }

    /// Lets time pass that only the time of day shows, as when the machine is suspended.
    pub fn suspend(&self, time: Duration) {
        self.skipped.lock().unwrap().suspended += time;
    }

    /// Sets the time of day back.
    pub fn set_back(&self, time: Duration) {
        self.skipped.lock().unwrap().set_back += time;
    }
}

impl Clock for Skipping {
    fn now(&self) -> Duration {
        self.start.elapsed() + self.skipped.lock().unwrap().time
    }

    fn wall_time(&self) -> SystemTime {
        let skipped = self.skipped.lock().unwrap();
        SystemTime::now() + skipped.time + skipped.suspended - skipped.set_back
    }

    fn sleep(&self, time: Duration) {
        let mut skipped = self.skipped.lock().unwrap();
        skipped.time += time;
        skipped.sleeps.push(time);
    }
}

/// A scripted server, and a client of it that sleeps in no time and notes its events.
pub struct Trial {
    pub script: Script,
    pub clock: Arc<Skipping>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Trial {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Trial::at(Arc::new(Skipping::new()), acts)
    }

    pub fn at(clock: Arc<Skipping>, acts: impl IntoIterator<Item = Act>) -> Self {
        Trial { script: Script::new(acts), clock, events: Arc::default() }
    }

    pub fn builder(&self) -> ApiBuilder {
        Api::builder().secret(SECRET).base_url(&self.script.url).clock(self.clock.clone())
    }

    /// A handle of this builder whose events are noted.
    pub fn noting(&self, builder: ApiBuilder) -> Api {
        let events = self.events.clone();
        builder.build().unwrap().on_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub fn api(&self, honored: bool) -> Api {
        self.noting(self.builder().idempotency_honored(honored))
    }

    /// How many attempts there were before each resend, and the delays.
    pub fn resends(&self) -> (Vec<u32>, Vec<Duration>) {
        let events = self.events.lock().unwrap();
        let resends = events.iter().filter_map(|event| match event {
            Event::Resending { attempts, delay, .. } => Some((*attempts, *delay)),
            _ => None,
        });
        resends.unzip()
    }

    /// The one key of all requests, after checking that all of them are one and the same request,
    /// some perhaps broken off.
    pub fn key(&self) -> String {
        let heard = self.script.heard();
        let longest = heard.iter().max_by_key(|heard| heard.body.len()).expect("no request came");
        for heard in &heard {
            assert!(longest.body.starts_with(&heard.body), "request {} has another body", heard.connection);
            assert_eq!(heard.content_length(), longest.content_length());
        }
        let [key] = &self.script.keys()[..] else {
            panic!("not one key: {:?}", self.script.keys());
        };
        key.clone()
    }
}

/// A handle with the system's clock.
pub fn waiting(url: &str) -> ApiBuilder {
    Api::builder().secret(SECRET).base_url(url)
}

/// A wait in real time.
pub fn short(timeout: Duration) -> Wait {
    Wait::new().interval(ms(10)).timeout(timeout)
}

/// Calls `f` for each resend.
pub fn when_resending(api: &Api, f: impl Fn() + Send + Sync + 'static) -> Api {
    api.on_event(move |event| {
        if let Event::Resending { .. } = event {
            f();
        }
    })
}

/// Checks what an error tells about an outcome that is known, or not.
#[track_caller]
pub fn assert_outcome(error: &Error, kind: ErrorKind, unknown: bool) {
    assert_eq!((error.kind(), error.outcome_unknown()), (kind, unknown), "{error:?}");
    let key = error.idempotency_key().unwrap_or_else(|| panic!("no key: {error:?}"));
    let shown = error.to_string();
    // A receipt has the key in it.
    assert!(!unknown || shown.contains(key) || shown.contains("receipt"), "{error}");
}

/// Something that happens once and can be waited for.
#[derive(Clone, Default)]
pub struct Signal(Arc<(Mutex<bool>, Condvar)>);

impl Signal {
    pub fn raise(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits for it, at most 20 s, and tells whether it came.
    pub fn wait(&self) -> bool {
        let (raised, changed) = &*self.0;
        *changed.wait_timeout_while(raised.lock().unwrap(), secs(20), |raised| !*raised).unwrap().0
    }
}

/// The end of a test, which lets go of the connections that its server keeps without reading.
#[derive(Default)]
pub struct Ending(Signal);

impl Ending {
    /// Keeps the connection and reads nothing.
    pub fn stall(&self) -> Act {
        self.after(|_| ())
    }

    /// Keeps the connection after this, and reads nothing any more.
    pub fn after(&self, first: impl Fn(&mut Connection) + Send + Sync + 'static) -> Act {
        let end = self.0.clone();
        act(move |c| {
            first(c);
            end.wait();
        })
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// Runs this on a thread of its own, and fails if it takes longer than anything here may.
pub fn unless_it_hangs<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(f()).unwrap());
    match result.recv_timeout(secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        result => {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.unwrap()
        }
    }
}
