//! What the library and all it depends on log: nothing of the secret at DEBUG or below.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Once};

use bithuman::serde_json::json;
use bithuman::{ApiBuilder, Download, GenerateRequest, Media, Wait};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::harness::*;
use crate::server::*;

#[derive(Debug, Clone)]
struct Line {
    level: Level,
    target: String,
    text: String,
}

thread_local! {
    /// What is enabled on this thread.
    static ENABLED: Cell<LevelFilter> = const { Cell::new(LevelFilter::Off) };
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= ENABLED.get()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Line {
            level: record.level(),
            target: record.target().into(),
            text: record.args().to_string(),
        };
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// What these calls log, with this much enabled. They have no thread but this one.
fn logged(enabled: LevelFilter, calls: impl FnOnce()) -> Vec<Line> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    ENABLED.set(enabled);
    calls();
    ENABLED.set(LevelFilter::Off);
    LINES.take()
}

#[track_caller]
fn assert_clean<'a>(lines: impl IntoIterator<Item = &'a Line>) {
    for line in lines {
        for canary in [SECRET, PROMPT, PASSWORD, CREDENTIALS] {
            assert!(!line.text.contains(canary), "{line:?}");
        }
    }
}

/// Every call there is, and whatever comes of it.
fn call_all(builder: ApiBuilder) {
    let api = builder.build().unwrap().on_event(|_| {});
    let media = Media::bytes(PROMPT.repeat(27_000));
    let large = GenerateRequest::new().prompt(PROMPT).image(media);
    let wait = Wait::new().outage(ms(1));
    let _ = api.status(ID);
    let _ = api.generate(&request());
    let _ = api.generate(&large);
    let _ = api.wait(ID, &wait);
    let _ = api.generate_and_wait(&request(), &wait);
    let dir = TempDir::new();
    let _ = api.download(ID, dir.path("a.imx"), &Download::new().timeout(ms(20)));
    api.shutdown();
    let _ = api.status(ID);
}

/// Responses that are good, bad and worse, each with the secret wherever a server can put it.
fn echoes() -> Vec<Vec<u8>> {
    let headers =
        format!("x-request-id: {SECRET}\r\nset-cookie: s={SECRET}\r\nconnection: close\r\n");
    let with = |status: u16, body: String| -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {status} Odd\r\n{headers}content-length: {}",
            body.len()
        );
        format!("{head}\r\n\r\n{body}").into()
    };
    let data = json!({"status": "ready", "name": SECRET});
    let good = json!({"agent_id": ID, "message": SECRET, "data": data});
    let error = json!({"error": {"code": SECRET, "message": SECRET}, "details": SECRET});
    let mut echoes: Vec<_> = [400, 401, 429, 500, 503]
        .map(|status| with(status, error.to_string()))
        .into();
    echoes.extend([
        with(200, good.to_string()),
        with(200, SECRET.into()),
        format!("HTTP/1.1 302 Found\r\n{headers}location: https://a/{SECRET}\r\n\r\n").into(),
        format!("HTTP/1.1 200 OK\r\n{headers}transfer-encoding: chunked\r\n\r\n{SECRET}\r\n")
            .into(),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {SECRET}\r\n\r\n").into(),
        format!("{SECRET}\r\n\r\n").into(),
        Vec::new(),
    ]);
    echoes
}

#[test]
fn at_debug_nothing_of_the_secret_is_logged() {
    let lines = logged(LevelFilter::Debug, || {
        for echo in echoes() {
            let server = Server::new([reply(echo)]);
            call_all(client(&server.url).max_retries(1));
        }
        let authority = Authority::new();
        for identity in [
            authority.here(),
            authority.issue(&["service.example"], NOW),
            Authority::new().here(),
        ] {
            let server = good(identity);
            call_all(client(&https(&server)).root_certificates_pem(authority.pem()));
            let proxy = tunnel_to(&server, Arc::default());
            call_all(client_through(&proxy).root_certificates_pem(authority.pem()));
        }
        call_all(client_through(&refusing_proxy()));
        call_all(client(&format!("http://127.0.0.1:{}", unused_port())));
    });
    // The logger works, and sees the lines in which it would be.
    let is_head = |line: &Line| line.text.contains("HEADERS ARE REDACTED");
    assert!(lines.iter().any(is_head), "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.text.contains("service.example"))
    );
    assert_clean(&lines);
}

/// A signed URL is a credential: at DEBUG only its host is logged, whatever the storage does.
#[test]
fn at_debug_nothing_of_a_signed_url_is_logged() {
    const SIGNATURE: &str = "X-Amz-Signature=5ca1ab1e";
    let dir = TempDir::new();
    let file = || Reply::new(200, "0123456789").header("etag", "\"a\"");
    let moved = |c: &Connection| {
        let to = format!(
            "http://{}/moved?{SIGNATURE}",
            c.stream.local_addr().unwrap()
        );
        Reply::new(307, "").header("location", to)
    };
    let storages = [
        act(move |c| c.reply_to_all(file())),
        act(move |c| {
            let moved = moved(c);
            c.reply_to_all(moved);
        }),
        act(|c| c.reply_to_all(Reply::new(403, SIGNATURE))),
        act(|c| c.all_but_the_last_byte()),
        reply(format!("{SIGNATURE}\r\n\r\n")),
    ];
    let lines = logged(LevelFilter::Debug, || {
        for storage in storages {
            let storage = Server::new([storage]);
            let url = format!("{}/a.imx?{SIGNATURE}", storage.url);
            let data = json!({"code": ID, "url": url, "expires_in": 0});
            let offer = Reply::json(200, json!({"success": true, "data": data}));
            let service = Server::new([act(move |c| c.reply_to_all(offer.clone()))]);
            let builder = client(&service.url).clock(service.clock.clone());
            let api = builder.build().unwrap().on_event(|event| {
                assert!(!format!("{event:?}").contains(SIGNATURE), "{event:?}");
            });
            let result = api.download(ID, dir.path("a.imx"), &Download::new());
            if let Err(error) = &result {
                assert!(!printed(error).contains(SIGNATURE), "{error:?}");
            }
        }
    });
    let is_request = |line: &Line| line.text.contains("/******");
    assert!(lines.iter().any(is_request), "{lines:?}");
    for line in &lines {
        assert!(!line.text.contains(SIGNATURE), "{line:?}");
    }
    assert_clean(&lines);
}

/// What the hex dump of ureq-proto shows, put together again.
fn dumped(lines: &[Line]) -> String {
    let mut bytes = Vec::new();
    for line in lines {
        if line.level != Level::Trace || !line.target.starts_with("ureq_proto") {
            continue;
        }
        // Eight pairs of bytes, then the same as text.
        for pair in line.text.split(' ').take(8) {
            let hex = |at: usize| u8::from_str_radix(pair.get(at..at + 2)?, 16).ok();
            bytes.extend([0, 2].into_iter().filter_map(hex));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The one known exception, which the crate's documentation names. If this fails, ureq-proto has
/// changed, and the documentation is to change too.
#[test]
fn at_trace_the_dump_of_a_request_has_the_secret_and_nothing_else_has() {
    let server = Server::new([act(|c| c.reply_to_all(accepted()))]);
    let lines = logged(LevelFilter::Trace, || {
        let api = client(&server.url).build().unwrap();
        api.generate(&request()).unwrap();
    });
    let dump = dumped(&lines);
    assert!(
        dump.contains(&format!("api-secret: {SECRET}\r\n")),
        "{dump}"
    );
    // Of the head, and not of what is sent.
    assert!(
        dump.contains("POST /v1/agent/generate") && !dump.contains(PROMPT),
        "{dump}"
    );

    let authority = Authority::new();
    let lines = logged(LevelFilter::Trace, || {
        let server = good(authority.here());
        call_all(client(&https(&server)).root_certificates_pem(authority.pem()));
    });
    let is_debug = |line: &&Line| line.level <= Level::Debug;
    assert!(!lines.iter().all(|line| is_debug(&line)));
    assert_clean(lines.iter().filter(is_debug));
    let is_own = |line: &Line| line.target.starts_with("bithuman");
    assert!(!lines.iter().any(is_own), "this crate itself logs nothing");

    // A proxy's password is not even there.
    let lines = logged(LevelFilter::Trace, || {
        call_all(client_through(&refusing_proxy()))
    });
    let dump = dumped(&lines);
    assert!(
        !dump.contains(PASSWORD) && !dump.contains(CREDENTIALS),
        "{dump}"
    );
    assert_clean(&lines);
}

/// Beyond this crate: a server that puts the secret into one of these headers puts it into the
/// log. If one is missing here, so much the better.
#[test]
fn ureq_logs_some_headers_of_a_response_at_debug() {
    for header in [
        "content-type",
        "server",
        "date",
        "content-encoding",
        "connection",
    ] {
        let server = Server::new([reply(Reply::new(200, "{}").header(header, SECRET))]);
        let api = client(&server.url).build().unwrap();
        let lines = logged(LevelFilter::Debug, || drop(api.status(ID)));
        let is_echo = |line: &&Line| line.text.contains(SECRET);
        let with: Vec<_> = lines.iter().filter(is_echo).collect();
        let first = with.first().map(|line| &*line.text);
        assert!(
            first.is_some_and(|text| text.starts_with("Response {")),
            "{header}: {with:?}"
        );
    }
}
