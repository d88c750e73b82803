//! What all tests share: a scripted service, a scripted TCP server, a clock that skips sleeps, and
//! values to test with.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test crate uses its part of it"
)]

mod clock;
mod message;
mod script;
mod server;
mod service;

use std::env;
use std::error::Error as _;
use std::fs;
use std::net::TcpListener;
use std::path::{self, Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bithuman::{Api, ApiBuilder, Error, Event, GenerateRequest, Media};

pub use clock::FakeClock;
pub use message::*;
pub use script::{Does, Run, Script};
pub use server::*;
pub use service::Service;

pub const SECRET: &str = "sk-test-0123456789abcdef";

/// The agent every test asks for.
pub const ID: &str = "A91XMB7113";

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A request whose body fits into one packet.
pub fn small() -> GenerateRequest {
    GenerateRequest::new().prompt("p")
}

/// A request of 26 MB, which no socket buffers take in: a preflight comes before it.
pub fn large() -> GenerateRequest {
    static LARGE: LazyLock<GenerateRequest> = LazyLock::new(|| {
        // Not a power of two, so that no two of its pages are alike.
        let block: Vec<u8> = (0..65_521_u32).map(|n| (n % 251) as u8).collect();
        GenerateRequest::new().image(Media::bytes(block.repeat(300)))
    });
    LARGE.clone()
}

/// A client on the system's clock, with the default number of retries.
pub fn real_api(url: &str) -> ApiBuilder {
    Api::builder().secret(SECRET).base_url(url)
}

/// A client on a fake clock that sends each request once: enough to see what a call sends.
pub fn api(url: &str) -> ApiBuilder {
    real_api(url).clock(FakeClock::new()).max_retries(0)
}

/// The events of a client, as they come.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// Returns the client of this builder, recorded.
    pub fn record(&self, builder: ApiBuilder) -> Api {
        let events = self.0.clone();
        let api = builder.build().unwrap();
        api.on_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// The failed attempts and the delay of each `Retrying`.
    pub fn retries(&self) -> Vec<(u32, Duration)> {
        let mut retries = Vec::new();
        for event in self.all() {
            if let Event::Retrying {
                attempts, delay, ..
            } = event
            {
                retries.push((attempts, delay));
            }
        }
        retries
    }
}

/// The rows of a table in text: what comes before `=>` in a line, and after it.
pub fn table(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|line| line.contains("=>"));
    let row = |line| {
        let (left, right) = str::split_once(line, "=>").unwrap();
        (left.trim(), right.trim())
    };
    lines.map(row).collect()
}

/// A port nobody listens on.
pub fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A path nobody else has.
fn temp_path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{count}", process::id()));
    // Made on Unix, it has no drive for Windows.
    path::absolute(path).unwrap()
}

/// A file that is removed with this value.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(content: impl AsRef<[u8]>) -> Self {
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

/// A folder that is removed with this value, with everything in it.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        let path = temp_path();
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of what is in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `child` in a process of its own, with these environment variables and none that this crate
/// or ureq reads: variables belong to a whole process, and the other tests run in this one.
///
/// `name` is the full name of the test that calls this. In the other process the test ends here.
pub fn alone(name: &str, variables: &[(&str, &str)], child: impl FnOnce()) {
    let program = Command::new(env::current_exe().unwrap());
    alone_by(program, name, variables, child);
}

/// As [`alone`], with a command that runs this program with the arguments added to it.
pub fn alone_by(command: Command, name: &str, variables: &[(&str, &str)], child: impl FnOnce()) {
    const IN_CHILD: &str = "TEST_IN_CHILD";
    const DONE: &str = "the child is done";
    if env::var_os(IN_CHILD).is_some() {
        child();
        println!("{DONE}");
        process::exit(0);
    }
    let mut command = only_this_test(command, name);
    command.envs(variables.iter().copied()).env(IN_CHILD, "1");
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let is_done = output.status.success() && out.contains(DONE);
    assert!(is_done, "{out}\n{err}");
}

/// A process in which only this test runs, by its full name, without the variables that this crate
/// or ureq reads.
pub fn this_test_alone(name: &str) -> Command {
    only_this_test(Command::new(env::current_exe().unwrap()), name)
}

fn only_this_test(mut command: Command, name: &str) -> Command {
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

/// The error's line says this.
#[track_caller]
pub fn assert_says(error: &Error, text: &str) {
    let line = error.to_string();
    assert!(line.contains(text), "{line}\ndoes not say: {text}");
}

/// Runs this on a thread of its own, and fails after 60 s.
pub fn unless_it_hangs<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(f()).unwrap());
    match result.recv_timeout(secs(60)) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(_) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}
