//! Uploads over real sockets: refused early, broken off, stalled, watched; and what they need.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::serde_json::json;
use bithuman::{Api, Clock, Error, ErrorKind, Event, GenerateRequest, Media, Wait};

use crate::support::*;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// More than the sockets of one machine take in by themselves.
const LARGE: u64 = 64 * MIB;

/// Nothing here takes this long but what is broken.
const TOO_LONG: Duration = Duration::from_secs(60);

/// An accepted generate.
const ACCEPTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n\
    {\"success\":true,\"agent_id\":\"A1\",\"status\":\"processing\"}";

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 23\r\n\r\n{\"code\":\"UNAUTHORIZED\"}";

const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig";

/// What a server does with a connection once it has read the head of the request.
#[derive(Clone, Copy)]
enum Do {
    /// Takes the whole body, after a `100 Continue` if it is asked for one, and accepts.
    Accept,
    /// The same, but never says `100 Continue`.
    AcceptUnasked,
    /// Says this, if anything, and closes.
    Say(&'static str),
    /// Says this, closes its side, and goes on reading until the client closes.
    SayAndLinger(&'static str),
    /// Says this and closes nothing before the client does, whatever was asked for.
    SayAndKeep(&'static str),
    /// Takes so much of the body and breaks the connection.
    BreakAfter(u64),
    /// Takes nothing of the body and keeps the connection.
    Stall,
}

/// What a connection was.
#[derive(Clone)]
struct Seen {
    head: String,
    /// The bytes of body that came.
    body: u64,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn content_length(&self) -> u64 {
        self.header("content-length").unwrap().parse().unwrap()
    }

    fn key(&self) -> &str {
        self.header("idempotency-key").unwrap()
    }

    fn expects(&self) -> bool {
        self.header("expect") == Some("100-continue")
    }
}

/// A server with a script for each connection it will have. After the last it is gone.
#[derive(Clone)]
struct Server {
    url: String,
    connections: usize,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    stalled: Vec<TcpStream>,
}

impl Server {
    fn new(script: &[Do]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let server = Server { url, connections: script.len(), state: state.clone() };
        let script = script.to_owned();
        thread::spawn(move || {
            for todo in script {
                let (seen, stalled) = serve(listener.accept().unwrap().0, todo);
                let mut shared = state.0.lock().unwrap();
                shared.seen.push(seen);
                shared.stalled.extend(stalled);
                state.1.notify_all();
            }
        });
        server
    }

    fn api(&self) -> Api {
        api_to(&self.url).answer_timeout(TOO_LONG).build().unwrap()
    }

    /// The first connections, once they are over.
    fn first(&self, n: usize) -> Vec<Seen> {
        let (state, changed) = &*self.state;
        let state =
            changed.wait_timeout_while(state.lock().unwrap(), TOO_LONG, |state| state.seen.len() < n).unwrap().0;
        assert!(state.seen.len() >= n, "{} connections instead of {n}", state.seen.len());
        state.seen.clone()
    }

    /// All connections of the script.
    fn seen(&self) -> Vec<Seen> {
        self.first(self.connections)
    }
}

fn serve(mut stream: TcpStream, todo: Do) -> (Seen, Option<TcpStream>) {
    let mut seen = Seen { head: read_head(&mut stream), body: 0 };
    let go_on = |stream: &mut TcpStream| {
        if seen.expects() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        }
    };
    match todo {
        Do::Accept | Do::AcceptUnasked => {
            if matches!(todo, Do::Accept) {
                go_on(&mut stream);
            }
            seen.body = sink(&mut stream, seen.content_length());
            stream.write_all(ACCEPTED.as_bytes()).unwrap();
        }
        Do::Say(answer) => stream.write_all(answer.as_bytes()).unwrap(),
        Do::SayAndLinger(answer) | Do::SayAndKeep(answer) => {
            stream.write_all(answer.as_bytes()).unwrap();
            if matches!(todo, Do::SayAndLinger(_)) {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            seen.body = sink(&mut stream, u64::MAX);
        }
        Do::BreakAfter(len) => {
            go_on(&mut stream);
            seen.body = sink(&mut stream, len);
        }
        Do::Stall => {
            go_on(&mut stream);
            return (seen, Some(stream));
        }
    }
    (seen, None)
}

/// Reads so much, or to the end; returns how much it was.
fn sink(stream: &mut TcpStream, len: u64) -> u64 {
    let mut buf = vec![0; 256 * 1024];
    let mut count = 0;
    while count < len {
        let most = (len - count).min(buf.len() as u64) as usize;
        match stream.read(&mut buf[..most]) {
            Ok(0) | Err(_) => break,
            Ok(n) => count += n as u64,
        }
    }
    count
}

/// A file of zeros that takes no room.
fn zeros(len: u64) -> TempFile {
    let file = TempFile::new(b"");
    File::create(&file.0).unwrap().set_len(len).unwrap();
    file
}

fn image(image: Media) -> GenerateRequest {
    GenerateRequest::new().image(image)
}

/// The length of the body of [`image`], and the longest medium whose body is not longer.
fn body_len(medium: u64) -> u64 {
    r#"{"image":""}"#.len() as u64 + medium.div_ceil(3) * 4
}

fn medium_of_body(len: u64) -> usize {
    ((len - body_len(0)) / 4 * 3) as usize
}

/// Calls elsewhere, so that what hangs ends the test.
fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(call()));
    result.recv_timeout(TOO_LONG).expect("an end in time")
}

/// What was reported as sent, and of how much.
type Uploaded = Arc<Mutex<Vec<(u64, u64)>>>;

/// A handle that writes down what it reports.
fn watched(api: &Api) -> (Api, Uploaded) {
    let events = Uploaded::default();
    let list = events.clone();
    let api = api.on_event(move |event| {
        if let Event::Uploaded { sent, total } = event {
            list.lock().unwrap().push((*sent, *total));
        }
    });
    (api, events)
}

/// "after N of M bytes" of an error's text.
fn told(error: &Error) -> (u64, u64) {
    let text = error.to_string();
    let parse = || {
        let (sent, rest) = text.split_once(" after ")?.1.split_once(" of ")?;
        Some((sent.parse().ok()?, rest.split_once(" bytes")?.0.parse().ok()?))
    };
    parse().unwrap_or_else(|| panic!("it does not say how much went: {text}"))
}

#[test]
fn a_refusal_before_the_upload_arrives_as_itself_and_nothing_is_uploaded() {
    const BARE: &str = "HTTP/1.1 413 Payload Too Large\r\n\r\n";
    let rows = [
        (Do::Say(UNAUTHORIZED), ErrorKind::Unauthorized, 401),
        (Do::SayAndLinger(UNAUTHORIZED), ErrorKind::Unauthorized, 401),
        (Do::Say(TOO_LARGE), ErrorKind::Rejected, 413),
        (Do::SayAndLinger(TOO_LARGE), ErrorKind::Rejected, 413),
        (Do::SayAndLinger(BARE), ErrorKind::Rejected, 413),
    ];
    let file = zeros(50_000_000);
    for (todo, kind, status) in rows {
        let server = Server::new(&[todo]);
        let (api, events) = watched(&server.api());
        let error = api.generate(&image(Media::file(&file.0))).unwrap_err();
        assert_eq!((error.kind(), error.http_status()), (kind, Some(status)), "{error:?}");
        assert_eq!((error.attempts(), error.outcome_unknown()), (1, false), "{error}");
        let [seen] = &server.seen()[..] else { panic!("more than one connection") };
        assert_eq!((seen.content_length(), seen.body), (body_len(50_000_000), 0), "{error}");
        assert_eq!(events.lock().unwrap()[..], [], "{error}");
    }
}

/// ureq waits a second for the `100 Continue`, and that time cannot be changed: no other test here
/// takes so long.
#[test]
fn a_server_that_ignores_expect_gets_the_whole_body() {
    let server = Server::new(&[Do::AcceptUnasked]);
    server.api().generate(&image(Media::bytes(vec![0; 2_000_000]))).unwrap();
    let [seen] = &server.seen()[..] else { panic!("more than one connection") };
    assert_eq!((seen.expects(), seen.body), (true, body_len(2_000_000)));
}

#[test]
fn a_server_that_cannot_deal_with_expect_is_asked_once_more_without() {
    let request = image(Media::bytes(vec![0; 2_000_000]));
    for trouble in [
        "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 417 Expectation Failed\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nX-Gateway: 7\r\n\r\n",
        "this is no HTTP",
        "",
    ] {
        let server = Server::new(&[Do::Say(trouble), Do::Accept]);
        let generation = server.api().generate(&request).unwrap();
        let [first, second] = &server.seen()[..] else { panic!("not two connections") };
        assert_eq!((first.expects(), first.body), (true, 0), "{trouble}");
        assert_eq!((second.expects(), second.body), (false, body_len(2_000_000)), "{trouble}");
        assert_eq!(second.header("connection"), None, "{trouble}");
        assert_eq!([first.key(), second.key()], [&generation.idempotency_key; 2], "{trouble}");
    }
}

#[test]
fn a_server_that_is_of_no_use_either_way_is_asked_twice_only() {
    const FAILED: &str = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let file = zeros(LARGE);
    let rows = [
        ([Do::Say(FAILED), Do::SayAndLinger(FAILED)], ErrorKind::Rejected, "(417)"),
        ([Do::Say(FAILED), Do::BreakAfter(MIB)], ErrorKind::Network, "the service may be refusing a body this large"),
    ];
    for (script, kind, end) in rows {
        let server = Server::new(&script);
        let error = server.api().generate(&image(Media::file(&file.0))).unwrap_err();
        // Of the second connection, so there was no third.
        assert!(error.kind() == kind && error.to_string().contains(end), "{error:?}");
        assert_eq!((error.attempts(), error.outcome_unknown()), (1, false), "{error}");
        assert_eq!(error.idempotency_key(), Some(server.seen()[1].key()));
    }
}

#[test]
fn only_a_body_above_one_mib_waits_to_be_asked_for() {
    for (len, asks) in [(100, false), (MIB, false), (MIB + 4, true)] {
        let server = Server::new(&[Do::Accept]);
        server.api().generate(&image(Media::bytes(vec![0; medium_of_body(len)]))).unwrap();
        let [seen] = &server.seen()[..] else { panic!("more than one connection") };
        assert_eq!((seen.content_length(), seen.body), (len, len));
        assert_eq!(seen.header("transfer-encoding"), None);
        let expected = if asks { (Some("100-continue"), Some("close")) } else { (None, None) };
        assert_eq!((seen.header("expect"), seen.header("connection")), expected, "{len}");
    }
}

#[test]
fn what_is_uploaded_is_the_object_with_base64_of_the_whole() {
    let content: Vec<u8> =
        (0..1_500_000_u32).flat_map(|n| n.to_le_bytes().into_iter().take(1 + n as usize % 3)).collect();
    let file = TempFile::new(&content);
    let small = &content[..1000];
    for content in [&content, small] {
        fs::write(&file.0, content).unwrap();
        let service = Service::new([started()]);
        let request = image(Media::file(&file.0)).audio(Media::bytes(content)).prompt("\"é\0😀");
        service.api().generate(&request).unwrap();
        let encoded = STANDARD.encode(content);
        let expected = json!({"image": encoded, "audio": encoded, "prompt": "\"é\0😀"});
        assert!(service.request().json() == expected, "of {} bytes", content.len());
    }
}

#[test]
fn a_server_that_stops_reading_cannot_hold_the_call_up() {
    let file = zeros(LARGE);
    // On a slow machine the time may run out before the upload begins: then with more of it.
    for time in (0..5).map(|n| ms(200 << n)) {
        let server = Server::new(&[Do::Stall]);
        let (api, events) = watched(&server.api());
        let request = image(Media::file(&file.0));
        let error = in_time(move || api.generate_and_wait(&request, &Wait::new().timeout(time))).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::WaitTimedOut, 1), "{error:?}");
        assert!(!error.outcome_unknown(), "{error}");
        let reported = events.lock().unwrap().last().copied();
        if let Some((reported, _)) = reported {
            let (sent, total) = told(&error);
            assert!(total == body_len(LARGE) && (reported..total).contains(&sent), "{reported}: {error}");
            return;
        }
    }
    panic!("no upload began");
}

#[test]
fn a_medium_read_too_slowly_cannot_hold_the_call_up() {
    let server = Server::new(&[Do::Accept]);
    // As a disk that sleeps would: the function runs while the body is read.
    let api = api_to(&server.url).upload_timeout(ms(20)).build().unwrap().on_event(|_| thread::sleep(ms(100)));
    let error = api.generate(&image(Media::bytes([0; 1000]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.to_string().contains("did not read the request in time"), "{error}");
}

#[test]
fn a_large_upload_that_breaks_tells_how_much_went() {
    let server = Server::new(&[Do::BreakAfter(3 * MIB)]);
    let file = zeros(LARGE);
    let error = server.api().generate(&image(Media::file(&file.0))).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Network, 1), "{error:?}");
    assert!(!error.outcome_unknown() && error.is_retryable(), "{error}");
    let (sent, total) = told(&error);
    assert!(total == body_len(LARGE) && (3 * MIB..total).contains(&sent), "{error}");
    assert!(
        error.to_string().contains("bytes; the service may be refusing a body this large; it was not taken"),
        "{error}"
    );
    assert_eq!(error.idempotency_key(), Some(server.seen()[0].key()));
}

#[test]
fn a_small_upload_that_breaks_is_sent_once_more_after_asking() {
    let request = image(Media::bytes(vec![0; 700_000]));
    for second in [Do::Accept, Do::SayAndLinger(UNAUTHORIZED), Do::Say("")] {
        let server = Server::new(&[Do::Say(""), second]);
        let broken = server.clone();
        // The rest of the body is read only once the connection is gone.
        let result = server.api().on_event(move |_| drop(broken.first(1))).generate(&request);
        match (second, &result) {
            (Do::Accept, Ok(generation)) => assert_eq!(generation.agent_id, "A1"),
            (Do::SayAndLinger(_), Err(error)) => assert_eq!(error.kind(), ErrorKind::Unauthorized),
            // Of the second connection, so there was no third.
            (Do::Say(_), Err(error)) => assert!(error.to_string().contains("the connection to"), "{error}"),
            _ => panic!("{result:?}"),
        }
        let [first, second] = &server.seen()[..] else { panic!("not two connections") };
        assert_eq!((first.expects(), second.expects()), (false, true));
        assert_eq!(second.header("connection"), Some("close"));
        assert_eq!(first.key(), second.key());
        if let Err(error) = result {
            assert_eq!((error.attempts(), error.outcome_unknown()), (1, false), "{error}");
        }
    }
}

/// ureq reads an answer given instead of `100 Continue` only once more bytes come, or the end. The
/// `Connection: close` we send asks for the end; a server that disregards it costs the time-out.
#[test]
fn a_refusal_on_a_connection_that_is_kept_in_spite_of_close_is_bounded() {
    let server = Server::new(&[Do::SayAndKeep(UNAUTHORIZED)]);
    let file = zeros(50_000_000);
    let (api, events) = watched(&server.api());
    let wait = Wait::new().timeout(ms(200));
    let error = api.generate_and_wait(&image(Media::file(&file.0)), &wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WaitTimedOut, "{error}");
    assert!(!error.outcome_unknown() && error.is_retryable(), "{error:?}");
    assert_eq!((server.seen()[0].body, &events.lock().unwrap()[..]), (0, &[][..]));
}

/// ureq takes a `100 Continue` with headers for the final answer, and waits for more of it.
#[test]
fn a_100_with_headers_from_a_server_that_waits_for_the_body_is_sent_anew_without_asking() {
    let request = image(Media::bytes(vec![0; 2_000_000]));
    // On a slow machine the time may be too short for the second answer: then with more of it.
    for time in (0..5).map(|n| ms(200 << n)) {
        let server = Server::new(&[Do::SayAndKeep("HTTP/1.1 100 Continue\r\nX-Gateway: 7\r\n\r\n"), Do::Accept]);
        if api_to(&server.url).answer_timeout(time).build().unwrap().generate(&request).is_ok() {
            let [first, second] = &server.seen()[..] else { panic!("not two connections") };
            assert_eq!((first.body, second.body), (0, body_len(2_000_000)));
            assert_eq!((second.expects(), second.key()), (false, first.key()));
            return;
        }
    }
    panic!("it is never sent anew");
}

#[test]
fn a_file_that_changes_while_it_is_sent_ends_the_call() {
    let server = Server::new(&[Do::Accept]);
    let file = zeros(LARGE);
    let path = file.0.clone();
    let touch = move |_: &Event| File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH);
    let api = server.api().on_event(move |event| touch(event).unwrap());
    let error = api.generate(&image(Media::file(&file.0))).unwrap_err();
    let expected = format!("generate: the file changed while it was read: {}", file.0.display());
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, expected));
    assert_eq!((error.attempts(), error.outcome_unknown()), (1, false));
    let seen = &server.seen()[0];
    assert!(seen.body < seen.content_length(), "the service has the whole request");
}

#[test]
fn a_file_that_cannot_be_sent_is_named_before_anything_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let api = api_to(&format!("http://{}", listener.local_addr().unwrap())).build().unwrap();
    let [missing, empty, fifo] = [(); 3].map(|()| TempFile::new(b""));
    for gone in [&missing, &fifo] {
        fs::remove_file(&gone.0).unwrap();
    }
    assert!(Command::new("mkfifo").arg(&fifo.0).status().unwrap().success());
    let directory = empty.0.parent().unwrap();
    let rows = [
        (&*missing.0, "no such file"),
        (&empty.0, "the file is empty"),
        (directory, "a directory, not a file"),
        (&fifo.0, "not a regular file"),
    ];
    type Set = fn(GenerateRequest, Media) -> GenerateRequest;
    let fields: [(&str, Set); 3] =
        [("image", GenerateRequest::image), ("video", GenerateRequest::video), ("audio", GenerateRequest::audio)];
    for (path, what) in rows {
        for (name, set) in fields {
            let request = set(GenerateRequest::new().prompt("p"), Media::file(path));
            let api = api.clone();
            let error = in_time(move || api.generate(&request)).unwrap_err();
            let expected = format!("generate: {name}: {what}: {}", path.display());
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, expected));
            assert_eq!((error.attempts(), error.outcome_unknown()), (0, false));
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}

#[test]
fn uploads_are_reported_often_enough_for_a_bar_and_not_for_every_read() {
    let server = Server::new(&[Do::Accept]);
    let file = zeros(LARGE);
    let (api, events) = watched(&server.api());
    api.generate(&image(Media::file(&file.0))).unwrap();
    let events = events.lock().unwrap();
    assert!((50..=110).contains(&events.len()), "{} events", events.len());
    assert!(events.iter().all(|&(_, total)| total == body_len(LARGE)));
    assert!(events.windows(2).all(|two| two[0].0 < two[1].0), "{events:?}");
    assert_eq!(events.last(), Some(&(body_len(LARGE), body_len(LARGE))));
}

#[test]
fn a_slow_upload_is_reported_ten_times_a_second() {
    let server = Server::new(&[Do::Accept; 2]);
    let clock = Arc::new(FakeClock::default());
    let api = api_to(&server.url).clock(clock.clone()).build().unwrap();
    let request = image(Media::bytes(vec![0; 12_000_000]));
    let count = |tenth: u64| {
        let (count, clock) = (Arc::new(AtomicUsize::new(0)), clock.clone());
        let counter = count.clone();
        let api = api.on_event(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            // So long does it take until the next piece is read.
            clock.sleep(ms(tenth));
        });
        api.generate(&request).unwrap();
        count.load(Ordering::Relaxed)
    };
    let (fast, slow) = (count(9), count(100));
    assert!(fast <= 110 && slow > 110, "{fast} and {slow} events");
}

#[test]
fn events_go_to_the_clone_that_asked_on_the_thread_of_the_call() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let url = listen(move |n, mut stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        say(&mut stream, ACCEPTED);
        // The first connection stays, for whoever shares it.
        if n == 0 {
            let agent = r#"{"success":true,"data":{"agent_id":"A1","status":"processing"}}"#;
            let agent = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{agent}", agent.len());
            thread::spawn(move || (0..2).for_each(|_| say(&mut stream, &agent)));
        }
    });
    let request = GenerateRequest::new().prompt("p");
    let silent = api_to(&url).build().unwrap();
    let threads = Arc::<Mutex<Vec<_>>>::default();
    let list = threads.clone();
    let loud = silent.on_event(move |event| {
        if matches!(event, Event::Uploaded { .. }) {
            list.lock().unwrap().push(thread::current().id());
        }
    });

    silent.generate(&request).unwrap();
    assert_eq!(threads.lock().unwrap()[..], []);
    for api in [&silent, &loud] {
        api.status(ID).unwrap();
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    for api in [&loud, &loud.clone()] {
        api.generate(&request).unwrap();
    }
    assert_eq!(threads.lock().unwrap()[..], [thread::current().id(); 2]);
}

/// Counts what each thread has allocated and not freed, and the most there was of it.
struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    let live = LIVE.get() + more as i64 - less as i64;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all of it is the system's allocator, which is asked with the arguments given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// The most bytes this thread held during `f` on top of what it had before.
fn peak_of<T>(f: impl FnOnce() -> T) -> (i64, T) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = f();
    (PEAK.get() - before, result)
}

#[test]
fn the_memory_an_upload_takes_does_not_grow_with_the_medium() {
    let peak = |medium: Media| {
        let server = Server::new(&[Do::Accept]);
        let (api, request) = (server.api(), image(medium));
        let (peak, result) = peak_of(|| api.generate(&request));
        result.unwrap();
        peak
    };
    let files = [64 * KIB, LARGE].map(zeros);
    let [small, large] = files.each_ref().map(|file| peak(Media::file(&file.0)));
    let bytes = peak(Media::bytes(vec![0; 8 * MIB as usize]));
    // At the least it has the buffers of a connection, or nothing was counted.
    assert!(small > 16 * KIB as i64, "{small}");
    for more in [large, bytes] {
        assert!(more < small + 256 * KIB as i64, "{more} instead of {small}");
    }
}

#[test]
fn clones_of_a_request_share_its_media() {
    for medium in [Media::bytes(vec![0; 8 * MIB as usize]), Media::base64("A".repeat(8 * MIB as usize))] {
        let request = image(medium);
        let (peak, _clone) = peak_of(|| request.clone());
        assert!((1..64 * KIB as i64).contains(&peak), "a clone takes {peak} bytes");
    }
}
