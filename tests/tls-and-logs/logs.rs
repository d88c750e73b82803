//! What the library and all it depends on log: nothing of the secret at DEBUG or below.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, Once};

use bithuman::serde_json::json as value;
use bithuman::{ApiBuilder, GenerateRequest, Media, Wait};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::script::{Act, Script, act, http, json};
use crate::server::*;

#[derive(Debug, Clone)]
struct Line {
    level: Level,
    target: String,
    text: String,
}

thread_local! {
    /// What is enabled on this thread: a test can have TRACE without the others having it.
    static ENABLED: Cell<Option<LevelFilter>> = const { Cell::new(None) };
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// The lines of all other threads: those of the other tests, and those that look up hosts for ureq.
static OTHERS: Mutex<Vec<Line>> = Mutex::new(Vec::new());

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= ENABLED.get().unwrap_or(LevelFilter::Debug)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, text) = (record.level(), record.args().to_string());
        let line = Line { level, target: record.target().into(), text };
        if ENABLED.get().is_some() {
            LINES.with_borrow_mut(|lines| lines.push(line));
        } else {
            OTHERS.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

/// What these calls log on this thread, with this much enabled.
fn logged(enabled: LevelFilter, calls: impl FnOnce()) -> Vec<Line> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    ENABLED.set(Some(enabled));
    calls();
    ENABLED.set(Some(LevelFilter::Off));
    LINES.take()
}

/// Answers that are good, bad and worse, each with the secret wherever a server can put it.
fn echoes() -> Vec<Vec<u8>> {
    let headers = format!("x-request-id: {SECRET}\r\nx-api-secret: {SECRET}\r\nset-cookie: s={SECRET}\r\n{CLOSE}");
    let fields =
        value!({"success": true, "agent_id": ID, "message": SECRET, "data": {"status": "ready", "name": SECRET}});
    let error = value!({"error": {"code": SECRET, "message": SECRET}, "details": SECRET}).to_string();
    let with = |status, body: &str| http(status, &headers, body);
    vec![
        with(200, &fields.to_string()),
        with(200, SECRET),
        with(400, &error),
        with(401, &error),
        with(429, &error),
        with(500, SECRET),
        with(503, &error),
        format!("HTTP/1.1 302 Found\r\n{headers}location: https://a.example/{SECRET}\r\n\r\n").into(),
        format!("HTTP/1.1 200 OK\r\n{headers}transfer-encoding: chunked\r\n\r\n{SECRET}\r\n").into(),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {SECRET}\r\n\r\n").into(),
        format!("{SECRET}\r\n\r\n").into(),
        Vec::new(),
    ]
}

/// Every call there is, and whatever comes of it.
fn call_all(builder: ApiBuilder) {
    let api = builder.build().unwrap().on_event(|_| {});
    let large = GenerateRequest::new().prompt(PROMPT).image(Media::bytes(PROMPT.repeat(27_000)));
    let _ = api.status(ID);
    let _ = api.generate(&request());
    let _ = api.generate(&large);
    let _ = api.wait(ID, &Wait::new().outage(ms(1)));
    let _ = api.generate_and_wait(&request(), &Wait::new().outage(ms(1)));
    api.shutdown();
    let _ = api.status(ID);
}

/// Answers one request, a large one before it is sent.
fn says(answer: Vec<u8>) -> Act {
    act(move |c| {
        if let Some(heard) = c.head() {
            if heard.header("expect").is_none() {
                c.body(heard.content_length());
            }
            c.send(&answer);
        }
    })
}

fn good() -> Act {
    says(json(200, value!({"success": true, "agent_id": ID, "data": {"status": "ready"}})))
}

/// Everything that can happen: echoes, a proxy, TLS that works and that does not.
fn try_all() {
    for echo in echoes() {
        let server = Script::new([says(echo)]);
        call_all(api_to(&server.url));
        call_all(api_to(&server.url).retries(2));
    }
    let authority = Authority::new();
    for identity in [authority.here(), authority.issue(&["service.example"], NOW), Authority::new().here()] {
        let server = Server::new([identity]);
        call_all(api_to(&server.url()).root_certificates_pem(authority.pem()));
        for sees in [tunnel_to(&server, Arc::default()), act(|c| drop(c.head())), refusal()] {
            let proxy = Script::new([sees]);
            let url = format!("http://user:{PASSWORD}@{}", proxy.address);
            let builder = api_to("https://service.example").root_certificates_pem(authority.pem());
            call_all(builder.proxy(url));
        }
    }
    call_all(api_to("http://127.0.0.1:1"));
}

fn refusal() -> Act {
    let refusal = http(407, &format!("x-echo: {CREDENTIALS}\r\n"), PASSWORD);
    act(move |c| {
        c.head();
        c.send(&refusal);
    })
}

/// ureq bounds a look-up with a thread, and says so at TRACE.
#[test]
fn only_what_is_looked_up_or_nearly_out_of_time_costs_a_thread() {
    let server = Script::new([act(|c| c.answer_all(json(200, value!({"data": {"status": "ready"}}))))]);
    let by_name = server.url.replace("127.0.0.1", "localhost");
    let rows = [
        (&server.url, None, false),
        (&server.url, Some(Wait::new()), false),
        // Nearer than the time-outs of a poll together.
        (&server.url, Some(Wait::new().timeout(ms(60_000))), true),
        (&by_name, None, true),
        (&by_name, Some(Wait::new()), true),
    ];
    for (url, wait, is_bounded) in rows {
        let api = api_to(url).build().unwrap();
        let lines = logged(LevelFilter::Trace, || {
            let agent = wait.as_ref().map_or_else(|| api.status(ID), |wait| api.wait(ID, wait));
            assert!(agent.unwrap().is_ready());
        });
        let is_look_up = |line: &&Line| line.text.starts_with("Resolve:") || line.text.starts_with("Resolve with");
        let look_ups: Vec<_> = lines.iter().filter(is_look_up).collect();
        assert_eq!(look_ups.len(), 1, "{url} {wait:?}: {look_ups:?}");
        assert_eq!(look_ups[0].text.starts_with("Resolve with timeout"), is_bounded, "{url} {wait:?}: {look_ups:?}");
    }
}

#[track_caller]
fn assert_none_has_a_canary<'a>(lines: impl IntoIterator<Item = &'a Line>) {
    for line in lines {
        for canary in [SECRET, PROMPT, PASSWORD, CREDENTIALS] {
            assert!(!line.text.contains(canary), "{line:?}");
        }
    }
}

#[test]
fn at_debug_nothing_of_the_secret_is_logged() {
    let lines = logged(LevelFilter::Debug, try_all);
    // The logger works, and sees the lines in which it would be.
    assert!(lines.iter().any(|line| line.target.starts_with("ureq") && line.text.contains("HEADERS ARE REDACTED")));
    assert!(lines.iter().any(|line| line.text.contains("service.example")));
    assert_none_has_a_canary(&lines);
    assert_none_has_a_canary(OTHERS.lock().unwrap().iter());
}

#[test]
fn this_crate_itself_logs_nothing() {
    let lines = logged(LevelFilter::Trace, || call_all(api_to(&Script::new([good()]).url)));
    assert!(!lines.is_empty());
    assert!(!lines.iter().any(|line| line.target.starts_with("bithuman")));
}

#[test]
fn with_trace_enabled_debug_still_has_nothing_of_the_secret() {
    let authority = Authority::new();
    let lines = logged(LevelFilter::Trace, || {
        let server = Server::new([authority.here()]);
        call_all(api_to(&server.url()).root_certificates_pem(authority.pem()));
        call_all(api_to(&Script::new([good()]).url));
        let proxy = Script::new([refusal()]);
        call_all(api_to("https://service.example").proxy(format!("http://user:{PASSWORD}@{}", proxy.address)));
    });
    assert!(lines.iter().any(|line| line.level == Level::Trace));
    assert_none_has_a_canary(lines.iter().filter(|line| line.level <= Level::Debug));
}

/// What the hex dump of ureq-proto shows, put together again.
fn dumped(lines: &[Line]) -> String {
    let dump = lines.iter().filter(|line| line.level == Level::Trace && line.target.starts_with("ureq_proto"));
    let mut bytes = Vec::new();
    for line in dump {
        // Eight pairs of bytes, then the same as text.
        for pair in line.text.split(' ').take(8) {
            let hex = |at: usize| u8::from_str_radix(pair.get(at..at + 2)?, 16).ok();
            bytes.extend([0, 2].into_iter().filter_map(hex));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn at_trace_the_dump_of_a_request_has_the_secret() {
    // The one known exception, which the documentation of the crate names. If this fails, ureq-proto
    // has changed, and the documentation is to change too.
    let server = Script::new([good()]);
    let lines = logged(LevelFilter::Trace, || drop(api_to(&server.url).build().unwrap().generate(&request())));
    let dump = dumped(&lines);
    assert!(dump.contains(&format!("api-secret: {SECRET}\r\n")), "{dump}");
    // It is of heads and answers, not of what is sent.
    assert!(dump.contains("POST /v1/agent/generate") && !dump.contains(PROMPT), "{dump}");
}

#[test]
fn at_trace_a_proxys_password_is_not_logged() {
    let proxy = Script::new([refusal()]);
    let lines = logged(LevelFilter::Trace, || {
        call_all(api_to("https://service.example").proxy(format!("http://user:{PASSWORD}@{}", proxy.address)));
    });
    let dump = dumped(&lines);
    assert!(!dump.contains(PASSWORD) && !dump.contains(CREDENTIALS), "{dump}");
    assert_none_has_a_canary(&lines);
}

#[test]
fn ureq_logs_some_headers_of_an_answer_at_debug() {
    // Beyond this crate: a server that puts the secret into one of these headers puts it into the
    // log. If one is missing here, so much the better.
    for header in ["content-type", "server", "date", "content-encoding", "connection"] {
        let answer = http(200, &format!("{header}: {SECRET}\r\n"), "{}");
        let server = Script::new([says(answer)]);
        let lines = logged(LevelFilter::Debug, || drop(api_to(&server.url).build().unwrap().status(ID)));
        let with: Vec<_> = lines.iter().filter(|line| line.text.contains(SECRET)).collect();
        assert!(with.first().is_some_and(|line| line.text.starts_with("Response {")), "{header}: {with:?}");
    }
}
