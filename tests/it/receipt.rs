//! A receipt: one generate is billed, whatever happens in between, and what cannot be is said before
//! anything is sent.

use std::env;
use std::error::Error as _;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use bithuman::serde_json::{self, Value, json as value};
use bithuman::{Api, ApiBuilder, Clock, Error, ErrorKind, Event, GenerateRequest, Media, Wait};

use crate::fault::*;
use crate::mock_server::{self, ApiVersion, MockServer};
use crate::script::*;
use crate::support::{
    Answer, FakeClock, ID, SECRET, Service, TODAY, TempDir, TempFile, agent, alone_by, api_to, ms, printed, secs,
    started, status, unused_port,
};

/// What a receipt says of the prompt of [`small`].
const PROMPT: &str = "json 2d6abb40c011a5db6bdb2c07df6c1df9";

/// How long a key without an agent may be another process's, which is still at it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A receipt in a folder of its own.
struct Desk {
    folder: TempDir,
    path: PathBuf,
}

/// The folder of a receipt, in a process of its own.
const FOLDER: &str = "TEST_FOLDER";

impl Desk {
    fn new() -> Self {
        Desk::of(TempDir::new())
    }

    fn of(folder: TempDir) -> Self {
        Desk { path: folder.0.join("agent.json"), folder }
    }

    /// One for this test and the process it runs by [`alone`](Desk::alone).
    fn shared() -> Self {
        env::var_os(FOLDER).map_or_else(Desk::new, |folder| Desk::of(TempDir(folder.into())))
    }

    /// Runs the test of that name in a process of its own.
    fn alone(&self, command: Command, name: &str, child: impl FnOnce()) {
        alone_by(command, &format!("receipt::{name}"), &[(FOLDER, self.folder.0.to_str().unwrap())], child);
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    fn read(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    fn write(&self, receipt: &Value) {
        fs::write(&self.path, format!("{receipt:#}")).unwrap();
    }

    /// There is the receipt, and nothing else.
    #[track_caller]
    fn assert_tidy(&self) {
        assert_eq!(self.folder.names(), ["agent.json"]);
    }

    #[track_caller]
    fn assert_empty(&self) {
        assert_eq!(self.folder.names(), [""; 0]);
    }

    /// This fails for the receipt's sake, and leaves it as it is.
    #[track_caller]
    fn fails<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Error {
        let before = self.text();
        let error = call().err().expect("it is not refused");
        assert_eq!(error.kind(), ErrorKind::Receipt, "{error:?}");
        assert!(error.to_string().contains(&self.path.display().to_string()), "{error}");
        assert_eq!(self.text(), before, "{error}");
        self.assert_tidy();
        error
    }
}

/// What a call for [`small`] has written that crashed so many seconds ago.
fn pending(url: &str, age: i64) -> Value {
    value!({
        "format": 1,
        "base_url": url,
        "idempotency_key": "first",
        "first_sent_unix": TODAY.checked_add_signed(-age).unwrap(),
        "calls": 1,
        "request": {"prompt": PROMPT},
    })
}

fn with(mut receipt: Value, fields: Value) -> Value {
    receipt.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    receipt
}

/// The same, with the service's answer.
fn generated(url: &str) -> Value {
    let generation = value!({"agent_id": ID, "status": "processing", "idempotency_key": "first", "replayed": false});
    with(pending(url, 60), value!({"generation": generation}))
}

/// The same, with the agent when it was last seen.
fn seen(url: &str, status: &str) -> Value {
    with(generated(url), value!({"agent": {"agent_id": ID, "status": status, "model_url": "https://m.invalid/"}}))
}

fn honored(service: &Service) -> Api {
    service.builder().idempotency_honored(true).build().unwrap()
}

/// The keys of all generates, in their order.
fn keys(service: &Service) -> Vec<String> {
    let posts = service.requests().into_iter().filter(|request| request.method == "POST");
    posts.map(|post| post.header("idempotency-key").unwrap().to_owned()).collect()
}

/// Another process: nothing is left in memory of what the first did.
fn to_mock_server(service: &MockServer) -> Api {
    let builder = api_to(&service.base_url()).secret(mock_server::SECRET);
    builder.idempotency_honored(true).build().unwrap()
}

/// What happens after a sleep. It is told the time.
type Then = Box<dyn FnMut(Duration) + Send>;

/// Time that passes only when somebody sleeps, and what happens then.
#[derive(Default)]
struct Meanwhile {
    clock: FakeClock,
    then: Mutex<Option<Then>>,
}

impl Meanwhile {
    fn set(&self, then: impl FnMut(Duration) + Send + 'static) {
        *self.then.lock().unwrap() = Some(Box::new(then));
    }
}

impl Clock for Meanwhile {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn wall_time(&self) -> SystemTime {
        self.clock.wall_time()
    }

    fn sleep(&self, time: Duration) {
        self.clock.sleep(time);
        if let Some(then) = &mut *self.then.lock().unwrap() {
            then(self.clock.now());
        }
    }
}

#[test]
fn the_receipt_is_on_disk_before_the_first_byte_with_neither_secret_nor_media() {
    let desk = Desk::new();
    let found = Arc::new(Mutex::new((Vec::new(), String::new())));
    let (noted, folder, path) = (found.clone(), desk.folder.0.clone(), desk.path.clone());
    let said = json(200, value!({"success": true, "agent_id": ID, "status": "processing", "note": SECRET}));
    let script = Script::new([act(move |c| {
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        *noted.lock().unwrap() = (names.collect(), fs::read_to_string(&path).unwrap());
        c.request();
        c.send(&said);
    })]);
    let file = TempFile::new(b"the content of a file");
    let request = GenerateRequest::new()
        .prompt("a prompt of several words")
        .image(Media::file(&file.0))
        .audio(Media::bytes(*b"the content in bytes"))
        .field("voice", value!({"pitch": "a low one"}));
    let api = api_to(&script.url).build().unwrap();
    let started = api.generate_once(&desk.path, &request).unwrap();

    let (names, text) = found.lock().unwrap().clone();
    assert_eq!(names, ["agent.json"]);
    let receipt: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = receipt.as_object().unwrap().keys().map(|name| &**name).collect();
    assert_eq!(names, ["base_url", "calls", "first_sent_unix", "format", "idempotency_key", "request"]);
    assert_eq!(receipt["base_url"], script.url);
    assert_eq!(receipt["first_sent_unix"], TODAY);
    assert_eq!(receipt["format"], 1);
    assert_eq!([receipt["idempotency_key"].as_str().unwrap()], script.keys()[..]);
    assert_eq!(started.idempotency_key, receipt["idempotency_key"]);
    let fields: Vec<_> = receipt["request"].as_object().unwrap().keys().map(|name| &**name).collect();
    assert_eq!(fields, ["audio", "image", "prompt", "voice"]);

    let sent = String::from_utf8(script.heard().remove(0).body).unwrap();
    let sent: Value = serde_json::from_str(&sent).unwrap();
    for text in [text, desk.text()] {
        for media in [&sent["image"], &sent["audio"]] {
            assert!(!text.contains(media.as_str().unwrap()), "{text}");
        }
        for hidden in [SECRET, "the content", "several words", "a low one", &file.0.display().to_string()] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
    desk.assert_tidy();
}

#[test]
fn a_later_call_returns_what_the_receipt_says_and_sends_nothing() {
    for own_key in [None, Some("mine")] {
        let desk = Desk::new();
        let service = Service::new([started()]);
        let request = own_key.map_or(small(), |key| small().idempotency_key(key));
        let first = service.api().generate_once(&desk.path, &request).unwrap();
        assert!(!first.replayed);
        let text = desk.text();
        for request in [&request, &small()] {
            let mut later = service.api().generate_once(&desk.path, request).unwrap();
            assert!(later.replayed);
            later.replayed = false;
            assert_eq!(later, first);
        }
        assert_eq!((service.hits(), keys(&service)), (1, vec![first.idempotency_key]));
        assert_eq!(desk.text(), text);
        desk.assert_tidy();
    }
}

#[test]
fn an_agent_that_is_ready_needs_no_network() {
    let desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let ready =
            value!({"status": "success", "progress": 1.0, "model_url": "https://m.invalid/", "else": [0.1, -1e-9]});
        for answer in [with_header(accepted(), "connection", "close"), polled(ready)] {
            let answer = String::from_utf8(answer).unwrap();
            crate::support::say(&mut listener.accept().unwrap().0, &answer);
        }
    });
    let ensure = || api_to(&url).build().unwrap().ensure_agent(&desk.path, &small(), &Wait::new());
    let agent = ensure().unwrap();
    server.join().unwrap();
    assert!(agent.is_ready());
    let text = desk.text();
    assert_eq!((ensure().unwrap(), ensure().unwrap()), (agent.clone(), agent));
    let started = api_to(&url).build().unwrap().generate_once(&desk.path, &small()).unwrap();
    assert_eq!((started.agent_id.as_str(), started.replayed), (ID, true));
    assert_eq!(desk.text(), text);
    desk.assert_tidy();
}

#[test]
fn a_wait_that_timed_out_goes_on_at_the_next_call() {
    let desk = Desk::new();
    let service = Service::new([started(), status("generating"), status("ready")]);
    let ensure = |wait| service.api().ensure_agent(&desk.path, &small(), &wait);
    let error = ensure(Wait::new().interval(secs(5)).timeout(ms(5_500))).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::WaitTimedOut, Some(ID)));
    assert_eq!(error.idempotency_key(), Some(&*keys(&service)[0]));
    assert_eq!(desk.read()["agent"]["status"], "generating");
    let before = service.clock.now();
    assert!(ensure(Wait::new()).unwrap().is_ready());
    assert_eq!(service.clock.now(), before, "the first poll comes at once");
    let methods: Vec<_> = service.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["POST", "GET", "GET"]);
    assert_eq!(desk.read()["agent"]["status"], "ready");
    desk.assert_tidy();
}

#[test]
fn the_first_poll_of_an_agent_just_begun_comes_after_an_interval() {
    let desk = Desk::new();
    let service = Service::new([started(), status("ready")]);
    service.api().ensure_agent(&desk.path, &small(), &Wait::new().interval(secs(7))).unwrap();
    assert_eq!(service.clock.sleeps(), [secs(7)]);
}

#[test]
fn one_deadline_is_over_the_generate_and_the_wait() {
    let desk = Desk::new();
    let service = Service::new([started().takes(secs(8)), status("processing")]);
    let wait = Wait::new().timeout(secs(10));
    let error = service.api().ensure_agent(&desk.path, &small(), &wait).unwrap_err();
    assert_eq!((error.kind(), service.clock.now()), (ErrorKind::WaitTimedOut, secs(9)));
}

#[test]
fn the_agent_of_a_receipt_is_made_once_and_waited_for() {
    for version in [ApiVersion::V2025, ApiVersion::Current] {
        let desk = Desk::new();
        let service = MockServer::start(version);
        let started = to_mock_server(&service).generate_once(&desk.path, &small()).unwrap();
        let agent = to_mock_server(&service).ensure_agent(&desk.path, &small(), &Wait::new()).unwrap();
        assert_eq!(to_mock_server(&service).ensure_agent(&desk.path, &small(), &Wait::new()).unwrap(), agent);
        assert_eq!((agent.agent_id, service.billed()), (started.agent_id, 1));
    }
}

#[test]
fn a_request_that_differs_is_told_from_the_receipts_and_sends_nothing() {
    let service = Service::new([]);
    let rows: [(GenerateRequest, &str); 7] = [
        (small().prompt("q"), "another prompt:"),
        (small().model("essence-2"), "another model:"),
        (small().field("voice", 1), "another voice:"),
        (small().image(Media::url("https://example.com/a")), "another image:"),
        (GenerateRequest::new(), "another prompt:"),
        (GenerateRequest::new().model("m"), "another model, prompt:"),
        (small().idempotency_key("mine"), "another idempotency key:"),
    ];
    for receipt in [pending(&service.url(), 0), generated(&service.url()), seen(&service.url(), "ready")] {
        let desk = Desk::new();
        desk.write(&receipt);
        for (request, differs) in &rows {
            for api in [service.api(), honored(&service)] {
                let errors = [
                    desk.fails(|| api.generate_once(&desk.path, request)),
                    desk.fails(|| api.ensure_agent(&desk.path, request, &Wait::new())),
                ];
                for error in errors {
                    assert!(error.to_string().contains(differs), "{error}");
                    assert!(!error.outcome_unknown() && !error.is_retryable(), "{error}");
                }
            }
        }
        let elsewhere = api_to(&format!("{}/v2", service.url())).build().unwrap();
        let error = desk.fails(|| elsewhere.generate_once(&desk.path, &small()));
        assert!(error.to_string().contains(&format!("another base URL ({}):", service.url())), "{error}");
    }
    assert_eq!((service.hits(), service.clock.now()), (0, Duration::ZERO));
}

#[test]
fn a_medium_is_told_by_its_content_and_not_by_its_path() {
    let desk = Desk::new();
    let service = Service::new([started()]);
    let once = |image| service.api().generate_once(&desk.path, &small().image(image));
    let (file, moved) = (TempFile::new(b"a face"), TempFile::new(b"another"));
    let first = once(Media::file(&file.0)).unwrap();
    fs::rename(&file.0, &moved.0).unwrap();
    for same in [Media::file(&moved.0), Media::bytes(*b"a face")] {
        assert_eq!(once(same).unwrap().idempotency_key, first.idempotency_key);
    }
    fs::write(&moved.0, "A face").unwrap();
    for other in [Media::file(&moved.0), Media::bytes(*b"a fac"), Media::base64("YSBmYWNl")] {
        let error = desk.fails(|| once(other));
        assert!(error.to_string().contains("another image:"), "{error}");
    }
    assert_eq!(service.hits(), 1);
}

#[test]
fn a_large_file_goes_with_a_receipt() {
    let desk = Desk::new();
    let file = TempFile::new(&b"0123456789".repeat(300_000));
    let service = MockServer::start(ApiVersion::Current);
    let request = || small().image(Media::file(&file.0));
    let first = to_mock_server(&service).ensure_agent(&desk.path, &request(), &Wait::new()).unwrap();
    assert_eq!(to_mock_server(&service).ensure_agent(&desk.path, &request(), &Wait::new()).unwrap(), first);
    assert_eq!(service.billed(), 1);
}

#[test]
fn after_a_crash_the_same_key_is_sent_again_where_keys_are_honored() {
    let replayed = || started().header("idempotency-replayed", "true");
    for (age, waits) in [(0, 10), (3, 7), (10, 0), (60, 0), (22 * 60 * 60, 0)] {
        for own_key in [None, Some("first")] {
            let desk = Desk::new();
            let service = Service::new([replayed()]);
            desk.write(&pending(&service.url(), age));
            let request = own_key.map_or(small(), |key| small().idempotency_key(key));
            for _ in 0..2 {
                let started = honored(&service).generate_once(&desk.path, &request).unwrap();
                assert_eq!((started.agent_id.as_str(), started.replayed), (ID, true));
                assert_eq!(started.idempotency_key, "first");
            }
            assert_eq!(service.request().header("idempotency-key"), Some("first"));
            assert_eq!(service.clock.now(), secs(waits), "{age}");
            assert_eq!(desk.read()["first_sent_unix"], pending("", age)["first_sent_unix"]);
            desk.assert_tidy();
        }
    }
}

#[test]
fn a_key_that_comes_of_age_in_a_resend_is_not_sent_once_more() {
    const HOUR: u64 = 60 * 60;
    for (takes, sent) in [(HOUR / 2, 2), (HOUR, 1), (2 * HOUR, 1)] {
        let desk = Desk::new();
        let service = Service::new([Answer::new(500, "").takes(secs(takes)), started()]);
        desk.write(&pending(&service.url(), 22 * HOUR as i64));
        let api = service.builder().idempotency_honored(true).retries(3).build().unwrap();
        let result = api.generate_once(&desk.path, &small());
        assert_eq!((service.hits(), result.is_ok()), (sent, sent == 2), "{result:?}");
        assert!(result.err().is_none_or(|error| error.outcome_unknown() && !error.is_retryable()));
    }
}

#[test]
fn a_crash_after_which_nothing_can_be_done_is_an_unknown_outcome() {
    const HOUR: i64 = 60 * 60;
    let rows = [
        (true, 24 * HOUR, 0, "older than 23 h"),
        (true, 23 * HOUR, 0, "older than 23 h"),
        (true, -HOUR, 10, "set back"),
        (false, -HOUR, 10, "set back"),
        (false, 0, 10, "not known to honour"),
        (false, 60, 0, "not known to honour"),
        (false, 24 * HOUR, 0, "not known to honour"),
    ];
    for (honors, age, waits, why) in rows {
        for request in [small(), small().idempotency_key("first")] {
            let desk = Desk::new();
            let service = Service::new([]);
            desk.write(&pending(&service.url(), age));
            let api = service.builder().idempotency_honored(honors).build().unwrap();
            let error = desk.fails(|| api.generate_once(&desk.path, &request));
            for part in [why, "look for the agent in the account", "delete the receipt"] {
                assert!(error.to_string().contains(part), "{error}");
            }
            assert!(error.outcome_unknown() && !error.is_retryable());
            assert_eq!((error.idempotency_key(), error.attempts()), (Some("first"), 0));
            assert_eq!((service.hits(), service.clock.now()), (0, secs(waits)), "{error}");
        }
    }
}

#[test]
fn the_services_default_decides_whether_a_key_is_sent_again() {
    let desk = Desk::new();
    let service = Service::new([]);
    desk.write(&pending(&service.url(), 60));
    assert!(desk.fails(|| service.api().generate_once(&desk.path, &small())).outcome_unknown());
}

#[test]
fn an_unknown_outcome_stays_unknown_when_the_resend_is_refused() {
    let refusals = [(401, ErrorKind::Unauthorized), (402, ErrorKind::InsufficientBalance), (422, ErrorKind::Rejected)];
    for (status, kind) in refusals {
        let desk = Desk::new();
        let service = Service::new([Answer::json(status, value!({"error": "no", "code": "NO"})), started()]);
        desk.write(&pending(&service.url(), 60));
        let error = honored(&service).generate_once(&desk.path, &small()).unwrap_err();
        assert_outcome(&error, kind, true);
        assert_eq!(desk.read(), with(pending(&service.url(), 60), value!({"calls": 2})));
        assert_eq!(honored(&service).generate_once(&desk.path, &small()).unwrap().idempotency_key, "first");
        assert_eq!(keys(&service), ["first", "first"]);
        desk.assert_tidy();
    }
}

#[test]
fn a_crash_is_waited_for_as_long_as_its_upload_may_take() {
    let desk = Desk::new();
    let service = Service::new([Answer::new(500, ""), started()]);
    // 4 MiB on the wire.
    let request = || small().image(Media::bytes(vec![7; 3 * 1024 * 1024]));
    honored(&service).generate_once(&desk.path, &request()).unwrap_err();
    honored(&service).generate_once(&desk.path, &request()).unwrap();
    assert_eq!(service.clock.now(), PATIENCE + secs(4));
}

#[test]
fn what_was_certainly_not_taken_leaves_no_receipt() {
    for (status, kind) in [
        (400, ErrorKind::Rejected),
        (401, ErrorKind::Unauthorized),
        (402, ErrorKind::InsufficientBalance),
        (422, ErrorKind::Rejected),
        (429, ErrorKind::RateLimited),
    ] {
        for request in [small(), small().idempotency_key("mine")] {
            let desk = Desk::new();
            let service = Service::new([Answer::json(status, value!({"error": "no", "code": "NO"})), started()]);
            let error = service.api().generate_once(&desk.path, &request).unwrap_err();
            assert_outcome(&error, kind, false);
            desk.assert_empty();
            service.api().generate_once(&desk.path, &request).unwrap();
            let keys = keys(&service);
            assert_eq!(keys[0] == keys[1], keys[0] == "mine");
        }
    }
    let desk = Desk::new();
    let api = api_to(&format!("http://127.0.0.1:{}", unused_port())).build().unwrap();
    assert_outcome(&api.generate_once(&desk.path, &small()).unwrap_err(), ErrorKind::Network, false);
    desk.assert_empty();
}

#[test]
fn a_receipt_that_should_be_gone_and_is_not_is_named() {
    let desk = Desk::new();
    let folder = desk.folder.0.clone();
    let script = Script::new([act(move |c| {
        c.request();
        // As good as read-only, which means nothing to root.
        fs::rename(&folder, folder.with_extension("moved")).unwrap();
        c.send(json(401, value!({"error": "no", "code": "UNAUTHORIZED"})));
    })]);
    let error = api_to(&script.url).build().unwrap().generate_once(&desk.path, &small()).unwrap_err();
    assert_outcome(&error, ErrorKind::Unauthorized, false);
    assert!(error.to_string().contains(&format!("; delete the receipt {}", desk.path.display())), "{error}");
    let moved = TempDir(desk.folder.0.with_extension("moved"));
    assert_eq!(moved.names(), ["agent.json"]);
}

#[test]
fn a_file_that_goes_bad_leaves_no_receipt() {
    let file = TempFile::new(&vec![7; 3_000_000]);
    let script = Script::new([act(|c| take_some(c, usize::MAX))]);
    let path = file.0.clone();
    let api = api_to(&script.url).build().unwrap().on_event(move |_| fs::write(&path, "gone bad").unwrap());
    let desk = Desk::new();
    let error = api.generate_once(&desk.path, &small().image(Media::file(&file.0))).unwrap_err();
    assert_outcome(&error, ErrorKind::InvalidInput, false);
    assert_eq!(script.connections(), 1);
    desk.assert_empty();

    // One that is bad before is not even begun.
    fs::remove_file(&file.0).unwrap();
    let error = api.generate_once(&desk.path, &small().image(Media::file(&file.0))).unwrap_err();
    assert_eq!((error.kind(), script.settled()), (ErrorKind::InvalidInput, 1));
    desk.assert_empty();
}

#[test]
fn an_unknown_outcome_leaves_a_receipt_and_is_paid_once() {
    for honors in [true, false] {
        let desk = Desk::new();
        let service = Service::new([Answer::new(500, ""), started()]);
        let api = service.builder().idempotency_honored(honors).build().unwrap();
        let error = api.generate_once(&desk.path, &small()).unwrap_err();
        assert_outcome(&error, ErrorKind::Service, true);
        assert_eq!(desk.read()["idempotency_key"].as_str(), error.idempotency_key());
        assert_eq!(desk.read().get("generation"), None);
        // The key is kept, so where keys are honoured the same call again is safe.
        assert_eq!(error.is_retryable(), honors);
        match honors {
            true => assert_eq!(api.generate_once(&desk.path, &small()).unwrap().agent_id, ID),
            false => assert!(desk.fails(|| api.generate_once(&desk.path, &small())).outcome_unknown()),
        }
        let keys = keys(&service);
        assert_eq!(keys.len(), if honors { 2 } else { 1 });
        assert!(keys.iter().all(|key| Some(&**key) == error.idempotency_key()));
    }
}

#[test]
fn a_failed_generation_is_recorded_and_the_next_call_begins_anew() {
    let desk = Desk::new();
    let service = MockServer::start(ApiVersion::Current);
    let request = || GenerateRequest::new().prompt("[fail]");
    let mut keys = Vec::new();
    for billed in 1..=2 {
        let error = to_mock_server(&service).ensure_agent(&desk.path, &request(), &Wait::new()).unwrap_err();
        assert_eq!((error.kind(), service.billed()), (ErrorKind::GenerationFailed, billed));
        assert!(error.to_string().contains("; the same call again pays for another try"), "{error}");
        assert!(!error.is_retryable());
        let receipt = desk.read();
        assert_eq!(receipt["agent"]["status"], "failed");
        assert_eq!((receipt["agent"]["agent_id"].as_str(), receipt["generation"]["agent_id"].as_str()), {
            (error.agent_id(), error.agent_id())
        });
        assert_eq!(receipt["idempotency_key"].as_str(), error.idempotency_key());
        keys.push(error.idempotency_key().unwrap().to_owned());
        desk.assert_tidy();
    }
    assert_ne!(keys[0], keys[1]);
    assert!(!to_mock_server(&service).generate_once(&desk.path, &request()).unwrap().replayed);
    assert_eq!(service.billed(), 3);
    assert_eq!(desk.read().get("agent"), None);
}

#[test]
fn a_failed_generation_with_the_callers_key_needs_another_key() {
    let desk = Desk::new();
    let service = MockServer::start(ApiVersion::Current);
    let request = |key| GenerateRequest::new().prompt("[fail]").idempotency_key(key);
    let ensure = |key| to_mock_server(&service).ensure_agent(&desk.path, &request(key), &Wait::new());
    for (key, billed) in [("one", 1), ("two", 2)] {
        let error = ensure(key).unwrap_err();
        assert_eq!((error.kind(), error.idempotency_key()), (ErrorKind::GenerationFailed, Some(key)));
        assert!(error.to_string().contains("; choose another idempotency key to pay for another try"), "{error}");
        let error = desk.fails(|| ensure(key));
        assert!(error.to_string().contains("choose another key"), "{error}");
        desk.fails(|| to_mock_server(&service).generate_once(&desk.path, &request(key)));
        assert_eq!(service.billed(), billed);
    }
}

#[test]
fn a_failed_generation_that_cannot_be_begun_anew_leaves_no_receipt_or_the_new_one() {
    for (status, left) in [(401, None), (500, Some(()))] {
        let desk = Desk::new();
        let service = Service::new([Answer::json(status, value!({"error": "no", "code": "INTERNAL_ERROR"}))]);
        desk.write(&seen(&service.url(), "failed"));
        service.api().generate_once(&desk.path, &small()).unwrap_err();
        assert_eq!(desk.path.exists(), left.is_some());
        if left.is_some() {
            let now = desk.read();
            assert_eq!([now["idempotency_key"].as_str().unwrap()], keys(&service)[..]);
            assert_eq!((now.get("generation"), now.get("agent")), (None, None));
        }
    }
}

#[test]
fn a_receipt_cut_anywhere_is_a_fault_and_nothing_is_sent() {
    let desk = Desk::new();
    let service = Service::new([started(), agent(value!({"status": "ready", "progress": 1.0}))]);
    service.api().ensure_agent(&desk.path, &small(), &Wait::new()).unwrap();
    let whole = desk.text();
    assert!(whole.contains("\"generation\"") && whole.contains("\"agent\""));
    let api = honored(&service);
    let file = File::options().write(true).open(&desk.path).unwrap();
    for end in (0..whole.len()).rev() {
        file.set_len(end as u64).unwrap();
        let error = match end % 2 {
            0 => desk.fails(|| api.generate_once(&desk.path, &small()).map(drop)),
            _ => desk.fails(|| api.ensure_agent(&desk.path, &small(), &Wait::new()).map(drop)),
        };
        assert!(error.to_string().contains("is damaged"), "{end}: {error}");
    }
    assert_eq!(service.hits(), 2);
}

#[test]
fn a_receipt_that_cannot_be_used_is_a_fault_and_nothing_is_sent() {
    type Make = fn(&Path, &Value);
    let rows: [(&str, Make, &str, bool); 16] = [
        ("empty", |path, _| fs::write(path, "").unwrap(), "is damaged, or no receipt", false),
        ("not UTF-8", |path, _| fs::write(path, b"\xff\xfe").unwrap(), "is damaged, or no receipt", false),
        ("no JSON", |path, _| fs::write(path, "agent = 1").unwrap(), "is damaged, or no receipt", false),
        ("other JSON", |path, _| fs::write(path, r#"{"name": "x"}"#).unwrap(), "is damaged, or no receipt", false),
        (
            "9 MB",
            |path, r| fs::write(path, " ".repeat(9_000_000) + &r.to_string()).unwrap(),
            "is damaged, or no receipt",
            false,
        ),
        ("number", |path, r| write(path, r, value!({"base_url": 1})), "is damaged, or no receipt", false),
        ("text", |path, r| write(path, r, value!({"first_sent_unix": "1"})), "is damaged, or no receipt", false),
        ("negative", |path, r| write(path, r, value!({"first_sent_unix": -1})), "is damaged, or no receipt", false),
        ("list", |path, r| write(path, r, value!({"request": ["prompt"]})), "is damaged, or no receipt", false),
        ("no id", |path, r| write(path, r, value!({"generation": {"a": 1}})), "is damaged, or no receipt", false),
        ("newer", |path, r| write(path, r, value!({"format": 2, "x": 1})), "is of format 2", false),
        ("folder", |path, _| fs::create_dir(path).unwrap(), "cannot be read", true),
        ("FIFO", |path, _| run("mkfifo", &[path]), "cannot be read", true),
        ("device", |path, _| link("/dev/zero", path), "cannot be read", true),
        ("link to itself", |path, _| link(path, path), "cannot be read", true),
        ("link to nothing", |path, _| link("nothing", path), "something else is there", false),
    ];
    for (name, make, what, has_source) in rows {
        let desk = Desk::new();
        let service = Service::new([]);
        make(&desk.path, &generated(&service.url()));
        let is_file = desk.path.is_file();
        let before = is_file.then(|| fs::read(&desk.path).unwrap());
        let (api, honored, path) = (service.api(), honored(&service), desk.path.clone());
        let errors = unless_it_hangs(move || {
            [
                api.generate_once(&path, &small()).unwrap_err(),
                honored.ensure_agent(&path, &small(), &Wait::new()).unwrap_err(),
            ]
        });
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Receipt, "{name}: {error:?}");
            assert!(error.to_string().contains(what), "{name}: {error}");
            // A device is known by its own name.
            let shown = fs::canonicalize(&desk.path).unwrap_or_else(|_| desk.path.clone());
            assert!(error.to_string().contains(&shown.display().to_string()), "{name}: {error}");
            assert_eq!(error.source().is_some(), has_source, "{name}: {error:?}");
            assert!(!error.outcome_unknown() && !error.is_retryable(), "{name}");
        }
        assert_eq!(service.hits(), 0, "{name}");
        assert!(service.clock.now() <= PATIENCE * 2, "{name}");
        assert!(before == is_file.then(|| fs::read(&desk.path).unwrap()), "{name}");
        assert!(desk.path.symlink_metadata().is_ok(), "{name}");
        desk.assert_tidy();
    }
}

/// A receipt with these fields instead.
fn write(path: &Path, receipt: &Value, fields: Value) {
    fs::write(path, with(receipt.clone(), fields).to_string()).unwrap();
}

fn run(program: &str, arguments: &[&Path]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success());
}

/// Makes a symbolic link. A program does, so that this compiles everywhere.
fn link(to: impl AsRef<Path>, path: &Path) {
    run("ln", &[Path::new("-s"), to.as_ref(), path]);
}

#[test]
fn a_receipt_that_cannot_be_made_is_a_fault_and_nothing_is_sent() {
    let desk = Desk::new();
    let service = Service::new([]);
    fs::write(&desk.path, "a file").unwrap();
    let long = "x".repeat(300);
    for path in [desk.path.join("agent.json"), desk.folder.0.join("no/agent.json"), desk.folder.0.join(long)] {
        for api in [service.api(), honored(&service)] {
            let errors = [
                api.generate_once(&path, &small()).unwrap_err(),
                api.ensure_agent(&path, &small(), &Wait::new()).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Receipt, "{error:?}");
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                assert!(error.source().is_some(), "{error:?}");
            }
        }
    }
    assert_eq!((service.hits(), service.clock.now()), (0, Duration::ZERO));
    desk.assert_tidy();
}

#[test]
fn a_link_to_a_receipt_stays_a_link() {
    let (desk, elsewhere) = (Desk::new(), Desk::new());
    let service = Service::new([started(), status("failed"), started(), status("ready")]);
    link(&elsewhere.path, &desk.path);
    service.api().generate_once(&elsewhere.path, &small()).unwrap();
    service.api().ensure_agent(&desk.path, &small(), &Wait::new()).unwrap_err();
    service.api().ensure_agent(&desk.path, &small(), &Wait::new()).unwrap();
    assert!(desk.path.is_symlink());
    assert_eq!((service.hits(), elsewhere.read()["agent"]["status"].as_str()), (4, Some("ready")));
    desk.assert_tidy();
    elsewhere.assert_tidy();
}

/// Runs this program where files can have so many blocks, of 512 bytes or of 1024, and no more.
fn on_a_full_disk(blocks: u8) -> Command {
    let mut command = Command::new("sh");
    // Ignored, the signal leaves it to the write to fail.
    let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited]).arg(env::current_exe().unwrap());
    command
}

#[track_caller]
fn assert_full(error: &Error, desk: &Desk) {
    assert_eq!(error.kind(), ErrorKind::Receipt, "{error:?}");
    assert!(error.to_string().contains(&desk.path.display().to_string()), "{error}");
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::FileTooLarge), "{error:?}");
}

#[test]
fn a_full_disk_is_a_fault_and_nothing_is_sent() {
    let desk = Desk::shared();
    desk.alone(on_a_full_disk(0), "a_full_disk_is_a_fault_and_nothing_is_sent", || {
        let script = Script::new([answer(accepted())]);
        for honors in [true, false] {
            let api = api_to(&script.url).idempotency_honored(honors).build().unwrap();
            assert_full(&api.generate_once(&desk.path, &small()).unwrap_err(), &desk);
            assert_full(&api.ensure_agent(&desk.path, &small(), &Wait::new()).unwrap_err(), &desk);
        }
        assert_eq!(script.settled(), 0);
        desk.assert_empty();
    });
    desk.assert_empty();
}

#[test]
fn a_full_disk_is_noticed_before_a_key_is_sent_again() {
    let desk = Desk::shared();
    let script = Script::new([answer(accepted())]);
    if env::var_os(FOLDER).is_none() {
        desk.write(&pending(&script.url, 60));
    }
    desk.alone(on_a_full_disk(0), "a_full_disk_is_noticed_before_a_key_is_sent_again", || {
        let url = desk.read()["base_url"].as_str().unwrap().to_owned();
        let api = api_to(&url).idempotency_honored(true).build().unwrap();
        assert_full(&desk.fails(|| api.generate_once(&desk.path, &small())), &desk);
    });
    assert_eq!((script.settled(), desk.read()), (0, pending(&script.url, 60)));
}

#[test]
fn a_disk_that_is_full_by_the_time_of_the_answer_loses_nothing() {
    let desk = Desk::shared();
    let message = "long".repeat(1024);
    let script = Script::new([answer(json(200, value!({"agent_id": ID, "status": "processing", "message": message})))]);
    desk.alone(on_a_full_disk(1), "a_disk_that_is_full_by_the_time_of_the_answer_loses_nothing", || {
        let api = api_to(&script.url).idempotency_honored(true).build().unwrap();
        let error = api.generate_once(&desk.path, &small()).unwrap_err();
        assert_full(&error, &desk);
        assert_eq!((error.agent_id(), error.idempotency_key()), (Some(ID), Some(&*script.keys()[0])));
        assert!(error.to_string().contains("the service has taken the request"), "{error}");
        let receipt = desk.read();
        assert_eq!((receipt["idempotency_key"].as_str(), receipt.get("generation")), (error.idempotency_key(), None));
        desk.assert_tidy();
    });
}

#[test]
fn an_answer_that_cannot_be_recorded_is_told() {
    type Change = fn(&Path, &Value);
    let changes: [(&str, Change); 6] = [
        ("folder gone", |path, _| fs::remove_dir_all(path.parent().unwrap()).unwrap()),
        ("damaged", |path, _| fs::write(path, "{").unwrap()),
        ("emptied", |path, _| fs::write(path, "").unwrap()),
        ("another's", |path, r| write(path, r, value!({"idempotency_key": "other"}))),
        ("another agent", |path, r| {
            let other = value!({"agent_id": "other", "idempotency_key": "k", "replayed": false});
            write(path, r, value!({"generation": other}));
        }),
        ("folder", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (name, change) in changes {
        let desk = Desk::new();
        let (path, changed) = (desk.path.clone(), Arc::new(Mutex::new(None)));
        let after = changed.clone();
        let script = Script::new([act(move |c| {
            c.request();
            let receipt = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            change(&path, &receipt);
            *after.lock().unwrap() = fs::read(&path).ok();
            c.send(accepted());
        })]);
        let api = api_to(&script.url).build().unwrap();
        let error = api.generate_once(&desk.path, &small()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Receipt, "{name}: {error:?}");
        assert_eq!((error.agent_id(), error.outcome_unknown()), (Some(ID), false), "{name}");
        assert_eq!([error.idempotency_key().unwrap()], script.keys()[..], "{name}");
        let shown = error.to_string();
        for part in [&*desk.path.display().to_string(), ID, "the service has taken the request"] {
            assert!(shown.contains(part), "{name}: {shown}");
        }
        assert_eq!(fs::read(&desk.path).ok(), *changed.lock().unwrap(), "{name}");
        if desk.folder.0.exists() {
            assert!(desk.folder.names().iter().all(|name| name == "agent.json"), "{name}");
        }
    }
}

#[test]
fn an_answer_whose_receipt_is_gone_gets_it_back() {
    // Another process sent the same key, and was refused; or somebody has deleted it.
    let desk = Desk::new();
    let path = desk.path.clone();
    let script = Script::new([act(move |c| {
        c.request();
        fs::remove_file(&path).unwrap();
        c.send(accepted());
    })]);
    let api = api_to(&script.url).build().unwrap();
    for _ in 0..2 {
        assert_eq!(api.generate_once(&desk.path, &small()).unwrap().agent_id, ID);
    }
    assert_eq!(script.connections(), 1);
    desk.assert_tidy();
}

#[test]
fn an_answer_that_another_process_has_recorded_is_as_good() {
    let desk = Desk::new();
    let path = desk.path.clone();
    let script = Script::new([act(move |c| {
        c.request();
        let receipt = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let same = value!({"agent_id": ID, "idempotency_key": "k", "replayed": false});
        write(&path, &receipt, value!({"generation": same}));
        c.send(accepted());
    })]);
    let api = api_to(&script.url).build().unwrap();
    assert_eq!(api.generate_once(&desk.path, &small()).unwrap().agent_id, ID);
    desk.assert_tidy();
}

#[test]
fn an_agent_that_cannot_be_recorded_is_told() {
    let desk = Desk::new();
    let folder = desk.folder.0.clone();
    let script = Script::new([
        answer(with_header(accepted(), "connection", "close")),
        act(move |c| {
            c.request();
            fs::remove_dir_all(&folder).unwrap();
            c.send(polled(value!({"status": "ready", "model_url": "https://m.invalid/"})));
        }),
    ]);
    let api = api_to(&script.url).build().unwrap();
    let error = api.ensure_agent(&desk.path, &small(), &Wait::new()).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Receipt, Some(ID)), "{error:?}");
    assert_eq!([error.idempotency_key().unwrap()], script.keys()[..]);
    assert!(error.last_seen().is_some_and(|agent| agent.is_ready() && agent.model_url.is_some()));
    assert!(error.source().is_some() && !error.outcome_unknown(), "{error:?}");
}

/// What the other process does, and what becomes of the call that waits for it.
#[test]
fn another_processs_fresh_key_is_waited_for() {
    let clock = Arc::new(Meanwhile::default());
    let service = Service::new([started()]);
    let api = service.builder().clock(clock.clone()).idempotency_honored(true).build().unwrap();
    let desk = Desk::new();
    let fresh = || with(pending(&service.url(), 0), value!({"first_sent_unix": TODAY + clock.now().as_secs()}));
    let after = |then: Box<dyn Fn(&Path) + Send>| {
        let (path, at) = (desk.path.clone(), clock.now() + secs(3));
        clock.set(move |now| {
            if now == at {
                then(&path);
            }
        });
        let before = clock.now();
        let result = api.generate_once(&desk.path, &small());
        (result, clock.now() - before)
    };

    desk.write(&fresh());
    let has_answer = generated(&service.url()).to_string();
    let (result, waited) = after(Box::new(move |path| fs::write(path, &has_answer).unwrap()));
    let found = result.unwrap();
    assert_eq!((found.agent_id.as_str(), found.replayed, service.hits()), (ID, true, 0));
    assert_eq!(waited, secs(3));

    desk.write(&fresh());
    let (result, waited) = after(Box::new(|path| fs::remove_file(path).unwrap()));
    let started = result.unwrap();
    assert!(!started.replayed && started.idempotency_key != "first", "the other was refused: {started:?}");
    assert_eq!((waited, service.hits()), (secs(3), 1));

    desk.write(&fresh());
    let (result, waited) = after(Box::new(|path| fs::write(path, "no receipt").unwrap()));
    assert_eq!((result.unwrap_err().kind(), waited), (ErrorKind::Receipt, secs(3)));

    desk.write(&fresh());
    let other = seen(&service.url(), "failed").to_string();
    let (result, _) = after(Box::new(move |path| fs::write(path, &other).unwrap()));
    assert!(!result.unwrap().replayed);
    assert_eq!(service.hits(), 2);
    desk.assert_tidy();
}

#[test]
fn the_wait_for_another_process_ends_at_the_deadline() {
    let desk = Desk::new();
    let service = Service::new([]);
    desk.write(&pending(&service.url(), 0));
    let text = desk.text();
    let wait = Wait::new().timeout(secs(3));
    let error = honored(&service).ensure_agent(&desk.path, &small(), &wait).unwrap_err();
    assert_eq!((error.kind(), service.clock.now()), (ErrorKind::WaitTimedOut, secs(3)));
    assert!(error.to_string().contains(&desk.path.display().to_string()), "{error}");
    assert!(error.is_retryable() && !error.outcome_unknown());
    assert_eq!((desk.text(), service.hits()), (text, 0));
}

#[test]
fn threads_that_race_pay_once() {
    for version in [ApiVersion::V2025, ApiVersion::Current] {
        let desk = Desk::new();
        let service = MockServer::start(version);
        let ids: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = (0..6)
                .map(|_| {
                    let (url, path) = (service.base_url(), &desk.path);
                    scope.spawn(move || {
                        let api = waiting(&url).secret(mock_server::SECRET).build().unwrap();
                        api.generate_once(path, &small()).unwrap().agent_id
                    })
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(service.billed(), 1);
        desk.assert_tidy();
    }
}

#[test]
fn after_a_shutdown_nothing_is_begun() {
    let desk = Desk::new();
    let service = Service::new([]);
    let api = service.api();
    api.shutdown();
    let calls = || {
        [
            api.generate_once(&desk.path, &small()).unwrap_err(),
            api.ensure_agent(&desk.path, &small(), &Wait::new()).unwrap_err(),
        ]
    };
    assert!(calls().iter().all(|error| error.kind() == ErrorKind::ShutDown));
    desk.assert_empty();
    desk.write(&seen(&service.url(), "ready"));
    let text = desk.text();
    assert!(calls().iter().all(|error| error.kind() == ErrorKind::ShutDown));
    assert_eq!((desk.text(), service.hits()), (text, 0));
}

#[test]
fn a_shutdown_leaves_a_receipt_only_where_the_outcome_is_unknown() {
    // A small request is whole when it is first heard of.
    for (request, unknown) in [(large(), false), (small(), true)] {
        let desk = Desk::new();
        let script = Script::new([act(|c| {
            take_some(c, usize::MAX);
            c.hold();
        })]);
        let (api, ending) = by_itself(api_to(&script.url));
        let api = api.on_event(move |event| {
            if matches!(event, Event::Uploaded { .. }) {
                ending.shutdown();
            }
        });
        let path = desk.path.clone();
        let error = unless_it_hangs(move || api.generate_once(path, &request).unwrap_err());
        assert_outcome(&error, ErrorKind::ShutDown, unknown);
        match unknown {
            true => assert_eq!(desk.read()["idempotency_key"].as_str(), error.idempotency_key()),
            false => desk.assert_empty(),
        }
    }
}

/// A handle, and one of its clones to shut it down with.
fn by_itself(builder: ApiBuilder) -> (Api, Api) {
    let api = builder.build().unwrap();
    (api.clone(), api)
}

#[test]
fn a_shutdown_while_the_answer_is_awaited_leaves_the_receipt() {
    let desk = Desk::new();
    let ending: Arc<Mutex<Option<Api>>> = Arc::default();
    let shutting = ending.clone();
    let script = Script::new([act(move |c| {
        c.request();
        shutting.lock().unwrap().as_ref().unwrap().shutdown();
        c.hold();
    })]);
    let (api, other) = by_itself(api_to(&script.url));
    *ending.lock().unwrap() = Some(other);
    let path = desk.path.clone();
    let error = unless_it_hangs(move || api.ensure_agent(path, &small(), &Wait::new()).unwrap_err());
    assert_outcome(&error, ErrorKind::ShutDown, true);
    assert_eq!(desk.read()["idempotency_key"].as_str(), error.idempotency_key());
    desk.assert_tidy();
}

#[test]
fn a_shutdown_ends_the_wait_for_another_process() {
    let desk = Desk::new();
    let clock = Arc::new(Meanwhile::default());
    let (api, ending) = by_itself(api_to("http://127.0.0.1:9").clock(clock.clone()).idempotency_honored(true));
    desk.write(&pending("http://127.0.0.1:9", 0));
    let text = desk.text();
    clock.set(move |_| ending.shutdown());
    let error = api.generate_once(&desk.path, &small()).unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::ShutDown, false));
    assert_eq!((desk.text(), clock.now()), (text, ms(200)));
}

#[test]
fn a_shutdown_in_the_wait_is_gone_on_from() {
    let desk = Desk::new();
    let service = Service::new([started(), status("generating"), status("ready")]);
    let (api, ending) = by_itself(service.builder());
    let api = api.on_event(move |event| {
        if matches!(event, Event::Polled { .. }) {
            ending.shutdown();
        }
    });
    let error = api.ensure_agent(&desk.path, &small(), &Wait::new()).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::ShutDown, Some(ID)));
    assert_eq!(error.idempotency_key(), Some(&*keys(&service)[0]));
    assert!(service.api().ensure_agent(&desk.path, &small(), &Wait::new()).unwrap().is_ready());
    assert_eq!((service.hits(), keys(&service).len()), (3, 1));
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything() {
    let desk = Desk::new();
    let service = Service::new([]);
    let api = service.api();
    let never = Wait::new().interval(Duration::ZERO);
    let missing = small().image(Media::file("no such file"));
    let errors = [
        api.ensure_agent(&desk.path, &small(), &never).unwrap_err(),
        api.ensure_agent(&desk.path, &missing, &Wait::new()).unwrap_err(),
        api.generate_once(&desk.path, &missing).unwrap_err(),
        api.generate_once(&desk.path, &small().idempotency_key("not a key")).unwrap_err(),
        api.generate_once(&desk.path, &small().field("prompt", 1)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::InvalidInput, false), "{error:?}");
    }
    assert_eq!(service.hits(), 0);
    desk.assert_empty();
    // Not even where the receipt has it all.
    desk.write(&seen(&service.url(), "ready"));
    assert_eq!(api.ensure_agent(&desk.path, &small(), &never).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_path_is_relative_to_the_current_folder() {
    let desk = Desk::shared();
    let mut command = Command::new(env::current_exe().unwrap());
    command.current_dir(&desk.folder.0);
    desk.alone(command, "a_path_is_relative_to_the_current_folder", || {
        let service = MockServer::start(ApiVersion::Current);
        let ensure = |path| to_mock_server(&service).ensure_agent(path, &small(), &Wait::new());
        let first = ensure("agent.json").unwrap();
        assert_eq!(ensure("./agent.json").unwrap(), first);
        assert_eq!(service.billed(), 1);
    });
    assert_eq!(desk.read()["agent"]["status"], "ready");
    desk.assert_tidy();
}

#[test]
fn a_path_may_have_spaces_and_any_letters() {
    let desk = Desk::new();
    let folder = desk.folder.0.join("der Ordner é 漢");
    fs::create_dir(&folder).unwrap();
    let service = MockServer::start(ApiVersion::Current);
    for name in ["mein Agent ü 😀.json", "no ending", ".hidden", "a.b.c", "'\"$x`"] {
        let path = folder.join(name);
        for _ in 0..2 {
            to_mock_server(&service).ensure_agent(&path, &small(), &Wait::new()).unwrap();
        }
        let error = to_mock_server(&service).generate_once(&path, &small().prompt("q")).unwrap_err();
        assert!(printed(&error).contains(name) || name.contains('"'), "{error}");
        fs::remove_file(&path).unwrap();
    }
    assert_eq!((service.billed(), fs::read_dir(&folder).unwrap().count()), (5, 0));
}

#[test]
fn an_answer_that_would_be_long_with_indents_is_found_again() {
    let desk = Desk::new();
    let deep = (0..100).fold(value!(vec![0; 30_000]), |inner, _| value!([inner]));
    let service = Service::new([Answer::json(200, value!({"agent_id": ID, "status": "processing", "deep": deep}))]);
    let first = service.api().generate_once(&desk.path, &small()).unwrap();
    let again = service.api().generate_once(&desk.path, &small()).unwrap();
    assert!(again.extra == first.extra && service.hits() == 1);
}

#[test]
fn an_answer_too_deep_to_be_read_back_is_told() {
    let desk = Desk::new();
    let deep = (0..126).fold(value!(1), |inner, _| value!([inner]));
    let service = Service::new([Answer::json(200, value!({"agent_id": ID, "status": "processing", "deep": deep}))]);
    let error = service.api().generate_once(&desk.path, &small()).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Receipt, Some(ID)), "{error:?}");
    assert_eq!(desk.read().get("generation"), None);
}

#[test]
fn a_change_of_others_that_cannot_be_taken_away_ends_the_wait() {
    let desk = Desk::new();
    let service = Service::new([started(), status("ready")]);
    let claim = desk.path.with_file_name("agent.json.new");
    service.api().generate_once(&desk.path, &small()).unwrap();
    fs::create_dir(&claim).unwrap();
    let error = service.api().ensure_agent(&desk.path, &small(), &Wait::new()).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Receipt, Some(ID)), "{error:?}");
    assert!(error.to_string().contains("delete the file of its name and .new"), "{error}");
    assert!(error.last_seen().is_some_and(bithuman::Agent::is_ready));
    fs::remove_dir(&claim).unwrap();
}

/// A server that answers once, when it has had these fields written into the receipt.
fn meanwhile(desk: &Desk, fields: impl Fn(Value) -> Value + Send + Sync + 'static, then: Vec<u8>) -> Script {
    let path = desk.path.clone();
    Script::new([act(move |c| {
        c.request();
        let receipt: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        fs::write(&path, fields(receipt).to_string()).unwrap();
        c.send(&then);
    })])
}

#[test]
fn who_is_refused_leaves_the_receipt_to_another_that_has_sent_the_key_meanwhile() {
    let desk = Desk::new();
    let sent_again = |receipt| with(receipt, value!({"calls": 2}));
    let script = meanwhile(&desk, sent_again, json(402, value!({"error": "no", "code": "INSUFFICIENT_BALANCE"})));
    let error = api_to(&script.url).build().unwrap().generate_once(&desk.path, &small()).unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::InsufficientBalance, false), "{error:?}");
    assert_eq!(
        (desk.read()["calls"].as_u64(), desk.read()["idempotency_key"].as_str()),
        (Some(2), error.idempotency_key())
    );

    let desk = Desk::new();
    let script = meanwhile(&desk, sent_again, accepted());
    let started = api_to(&script.url).build().unwrap().generate_once(&desk.path, &small()).unwrap();
    assert_eq!(desk.read()["generation"]["agent_id"], value!(started.agent_id));
    desk.assert_tidy();
}

#[test]
fn a_key_that_comes_of_age_before_it_is_sent_is_not_sent() {
    let desk = Desk::new();
    let service = Service::new([started()]);
    desk.write(&pending(&service.url(), 23 * 60 * 60 - 5));
    // It is waited for 10 s.
    fs::write(desk.path.with_file_name("agent.json.new"), "left by a crash").unwrap();
    let error = honored(&service).generate_once(&desk.path, &small()).unwrap_err();
    assert_outcome(&error, ErrorKind::Receipt, true);
    assert!(error.to_string().contains("older than 23 h"), "{error}");
    assert_eq!(service.hits(), 0);
}

#[test]
fn an_agent_is_recorded_as_ready_though_another_call_has_seen_it_at_work() {
    let desk = Desk::new();
    let path = desk.path.clone();
    let script = Script::new([
        answer(with_header(accepted(), "connection", "close")),
        act(move |c| {
            c.request();
            let receipt = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            write(&path, &receipt, value!({"agent": {"agent_id": ID, "status": "processing"}}));
            c.send(polled(value!({"status": "ready"})));
        }),
    ]);
    let api = api_to(&script.url).build().unwrap();
    assert!(api.ensure_agent(&desk.path, &small(), &Wait::new()).unwrap().is_ready());
    assert_eq!(desk.read()["agent"]["status"], "ready");
}

#[test]
fn an_answer_that_a_crash_left_on_its_way_into_the_receipt_is_found() {
    for honors in [true, false] {
        let desk = Desk::new();
        let service = Service::new([started()]);
        desk.write(&pending(&service.url(), 60));
        let claim = desk.path.with_file_name("agent.json.new");
        fs::write(claim, generated(&service.url()).to_string()).unwrap();
        let api = service.builder().idempotency_honored(honors).build().unwrap();
        let found = api.generate_once(&desk.path, &small()).unwrap();
        assert_eq!((found.agent_id.as_str(), found.replayed, service.hits()), (ID, true, 0));
        assert_eq!(desk.read(), generated(&service.url()));
        desk.assert_tidy();
    }
}
