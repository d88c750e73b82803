//! What the modules share: a scripted service, a clock that does not wait, and a bare listener.

use std::collections::VecDeque;
use std::env;
use std::error::Error as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bithuman::serde_json::{self, Value, json};
use bithuman::{Api, ApiBuilder, Clock, Error};
use httpmock::{HttpMockRequest, HttpMockResponse, Mock, MockServer};

pub const SECRET: &str = "sk-test-0123456789abcdef";

/// The agent every test asks for.
pub const ID: &str = "A91XMB7113";

/// The time of day when a [`FakeClock`] begins, in Unix seconds.
pub const TODAY: u64 = 1_800_000_000;

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Time that passes only when somebody sleeps or a scripted answer takes some.
#[derive(Default)]
pub struct FakeClock(Mutex<Times>);

#[derive(Default)]
struct Times {
    now: Duration,
    sleeps: Vec<Duration>,
}

impl FakeClock {
    pub fn sleeps(&self) -> Vec<Duration> {
        self.0.lock().unwrap().sleeps.clone()
    }

    fn pass(&self, time: Duration) {
        self.0.lock().unwrap().now += time;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    fn wall_time(&self) -> SystemTime {
        UNIX_EPOCH + secs(TODAY) + self.now()
    }

    fn sleep(&self, time: Duration) {
        let mut times = self.0.lock().unwrap();
        times.now += time;
        times.sleeps.push(time);
    }
}

/// One answer of the scripted service.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    takes: Duration,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Answer { status, headers: Vec::new(), body: body.into(), takes: Duration::ZERO }
    }

    pub fn json(status: u16, body: Value) -> Self {
        Answer::new(status, body.to_string()).header("content-type", "application/json")
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long the answer takes on the fake clock.
    pub fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }
}

/// A good answer to a generate.
pub fn started() -> Answer {
    Answer::json(200, json!({"success": true, "message": "m", "agent_id": ID, "status": "processing"}))
}

/// A good answer to a status: these fields, besides the id.
pub fn agent(fields: Value) -> Answer {
    let mut data = json!({"agent_id": ID});
    data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Answer::json(200, json!({"success": true, "data": data}))
}

pub fn status(word: &str) -> Answer {
    agent(json!({"status": word}))
}

/// A request as the service received it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The one header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} was sent twice");
        value
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// A service on this machine that answers from a script and remembers what it was asked.
pub struct Service {
    server: MockServer,
    mock: usize,
    state: Arc<Mutex<State>>,
    pub clock: Arc<FakeClock>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Answer>,
    seen: Vec<Request>,
}

impl Service {
    /// Answers with these one after the other; the last one stays.
    pub fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        let state = Arc::new(Mutex::new(State { script: script.into_iter().collect(), seen: Vec::new() }));
        let clock = Arc::new(FakeClock::default());
        let server = MockServer::start();
        let (shared, time) = (state.clone(), clock.clone());
        let mock = server
            .mock(|when, then| {
                when.any_request();
                then.respond_with(move |request: &HttpMockRequest| respond(&shared, &time, request));
            })
            .id();
        Service { server, mock, state, clock }
    }

    pub fn url(&self) -> String {
        self.server.base_url()
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub fn builder(&self) -> ApiBuilder {
        // Once is enough to see what a call sends, but for the tests of resending.
        Api::builder().secret(SECRET).base_url(self.url()).clock(self.clock.clone()).retries(0)
    }

    pub fn api(&self) -> Api {
        self.builder().build().unwrap()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The one request there was.
    pub fn request(&self) -> Request {
        let [request] = &self.requests()[..] else {
            panic!("{} requests instead of one", self.hits());
        };
        request.clone()
    }

    pub fn hits(&self) -> usize {
        Mock::new(self.mock, &self.server).calls()
    }
}

fn respond(state: &Mutex<State>, clock: &FakeClock, request: &HttpMockRequest) -> HttpMockResponse {
    let uri = request.uri_str();
    let origin_end = uri.find("://").and_then(|at| uri[at + 3..].find('/').map(|slash| at + 3 + slash));
    let seen = Request {
        method: request.method_str().into(),
        target: uri[origin_end.unwrap_or_default()..].into(),
        headers: request.headers_vec().clone(),
        body: request.body_vec(),
    };
    let mut state = state.lock().unwrap();
    state.seen.push(seen);
    let answer = if state.script.len() > 1 { state.script.pop_front() } else { state.script.front().cloned() };
    let answer = answer.unwrap_or_else(|| Answer::new(500, "nobody should have asked"));
    clock.pass(answer.takes);
    HttpMockResponse::builder().status(answer.status).headers(answer.headers).body(answer.body).build()
}

/// For what httpmock cannot do: stall, break off, talk nonsense. Calls `serve` with the number of
/// each connection, from 0; returns the base URL.
pub fn listen(serve: impl Fn(usize, TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            serve(n, stream.unwrap());
        }
    });
    url
}

/// Reads the head of a request, or what comes before the client gives up.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// How long the body of the request with this head is.
pub fn content_length(head: &str) -> u64 {
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.parse().unwrap())
}

/// Reads a whole request, answers with these bytes and leaves the connection open.
pub fn say(stream: &mut TcpStream, answer: &str) {
    let length = content_length(&read_head(stream));
    // A client that is gone already shows in what it reports, not here.
    let _ = io::copy(&mut stream.take(length), &mut io::sink());
    let _ = stream.write_all(answer.as_bytes());
}

/// A handle to a server of [`listen`], with a clock that does not wait.
pub fn api_to(url: &str) -> ApiBuilder {
    Api::builder().secret(SECRET).base_url(url).clock(Arc::new(FakeClock::default())).retries(0)
}

/// A port nobody listens on.
pub fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A file that is gone with this value.
pub struct TempFile(pub PathBuf);

/// A path nobody else has.
fn temp_path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

impl TempFile {
    pub fn new(content: &[u8]) -> Self {
        let path = temp_path();
        fs::write(&path, content).unwrap();
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A folder that is gone, with everything in it, with this value.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        let path = temp_path();
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    /// What is in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `child` in a process of its own, with these variables and none that this crate or ureq
/// would read: variables belong to the whole process, and the other tests run in it too.
///
/// `name` is the full name of the test that calls this. In the other process the test ends here.
pub fn alone(name: &str, variables: &[(&str, &str)], child: impl FnOnce()) {
    alone_by(Command::new(env::current_exe().unwrap()), name, variables, child);
}

/// [`alone`], with a command of the caller's that runs this program with the arguments it is given.
pub fn alone_by(command: Command, name: &str, variables: &[(&str, &str)], child: impl FnOnce()) {
    const IN_CHILD: &str = "TEST_IN_CHILD";
    const DONE: &str = "the child is done";
    if env::var_os(IN_CHILD).is_some() {
        child();
        println!("{DONE}");
        std::process::exit(0);
    }
    let output = alone_in(command, name).envs(variables.iter().copied()).env(IN_CHILD, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains(DONE), "{out}\n{err}");
}

/// A process in which this test, by its full name, runs alone, with no variables that this crate or
/// ureq would read.
pub fn this_test_alone(name: &str) -> Command {
    alone_in(Command::new(env::current_exe().unwrap()), name)
}

fn alone_in(mut command: Command, name: &str) -> Command {
    command.args([name, "--exact", "--nocapture"]);
    for (variable, _) in env::vars_os() {
        let upper = variable.to_string_lossy().to_uppercase();
        if upper.starts_with("BITHUMAN_") || upper.ends_with("_PROXY") {
            command.env_remove(variable);
        }
    }
    command
}

/// Every way to print an error, its causes included.
pub fn printed(error: &Error) -> String {
    let mut all = format!("{error}\n{error:?}\n{error:#?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        all += &format!("\n{error}\n{error:?}\n{error:#?}");
        cause = error.source();
    }
    all
}
