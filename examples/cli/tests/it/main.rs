//! The built program, run as a person or a script runs it.

#[path = "../../../../tests/harness/mod.rs"]
mod harness;
#[path = "../../../../tests/mock_server/mod.rs"]
mod mock_server;

#[cfg(unix)]
mod ctrl_c;
mod downloads;
mod ends;
mod files;
mod mock;
mod streams;
mod usage;

use std::borrow::BorrowMut;
use std::env;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use bithuman::serde_json::{self, Value};

use harness::{TempDir, ms, secs, unless_it_hangs};
use mock_server::MockServer;

/// What the program left behind.
#[derive(Debug)]
struct Ended {
    /// `None` if a signal killed it.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        let ended = Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        for secret in [harness::SECRET, mock_server::SECRET] {
            let all = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!all.contains(secret), "the secret is shown: {ended:?}");
        }
        // A panic, and what a person at a shell cannot know.
        for name in [
            "panicked",
            "::",
            "ensure_agent",
            "generate_once",
            "(os error",
            "generate:",
            "setter",
        ] {
            assert!(!ended.stderr.contains(name), "{name}: {ended:?}");
        }
        ended
    }

    /// The one object on stdout.
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        let json: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(json.is_object(), "{self:?}");
        json
    }

    /// The one object on stdout, which has the fields of every failure.
    #[track_caller]
    fn failure(&self) -> Value {
        let json = self.json();
        assert_eq!(json["exit_code"].as_i64(), self.code.map(i64::from));
        assert!(json["kind"].is_string(), "{self:?}");
        let [line] = self.lines("error: ")[..] else {
            panic!("not one line: {self:?}");
        };
        let error = json["error"].as_str();
        assert!(
            error.is_some_and(|error| line.starts_with(error)),
            "{self:?}"
        );
        json
    }

    /// The lines of stderr that begin so, without that.
    fn lines(&self, start: &str) -> Vec<&str> {
        let lines = self.stderr.lines();
        lines.filter_map(|line| line.strip_prefix(start)).collect()
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_bithuman-agent");

/// The program with these arguments, separated by blanks, and no variable that it reads.
fn program(args: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args.split_whitespace());
    without_variables(command)
}

fn without_variables(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("BITHUMAN_") || upper.ends_with("_PROXY") || upper == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

/// The program with a service of the harness.
fn with_url(args: &str, url: &str) -> Command {
    let mut command = program(args);
    command.env("BITHUMAN_API_BASE", url);
    command.env("BITHUMAN_API_SECRET", harness::SECRET);
    command
}

/// The program with the mock server.
fn with_mock(args: &str, service: &MockServer) -> Command {
    let mut command = with_url(args, &service.base_url());
    command.env("BITHUMAN_API_SECRET", mock_server::SECRET);
    command
}

fn run(mut command: impl BorrowMut<Command>) -> Ended {
    let command = command.borrow_mut().stdin(Stdio::null());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Ended::new(unless_it_hangs(move || child?.wait_with_output()).unwrap())
}

fn run_in(folder: &TempDir, mut command: impl BorrowMut<Command>) -> Ended {
    run(command.borrow_mut().current_dir(&folder.0))
}

/// Waits until this is so.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < secs(20), "it never is");
        thread::sleep(ms(5));
    }
}
