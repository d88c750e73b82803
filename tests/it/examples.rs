//! The examples, run the way a newcomer runs them.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Once;
use std::time::Instant;
use std::{env, fs, io};

use bithuman::{Agent, GenerateRequest, serde_json};

use crate::harness::{self, Server, TempDir, ms, reply, secs, service_error, unless_it_hangs};
use crate::mock_server::{ApiVersion, MockServer, SECRET, Settings};

/// The program of an example. `cargo test` has built it, but not `cargo test --test it`.
fn program(example: &str) -> Command {
    static BUILT: Once = Once::new();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // Cargo says to a test which package it is of, and ring is built again where that changed.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&*name);
            }
        }
        cargo.args(["build", "--quiet", "--examples", "--target-dir"]);
        cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(cargo.status().unwrap().success());
    });
    let program = target.join("debug/examples").join(example);
    let mut command = Command::new(program.with_extension(env::consts::EXE_EXTENSION));
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("BITHUMAN_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it, and returns whether it succeeded, its stdout and its stderr.
fn run(command: &mut Command) -> (bool, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

/// The program of an example, with this service.
fn with_service(example: &str, url: &str, secret: &str) -> Command {
    let mut command = program(example);
    command.env("BITHUMAN_API_BASE", url);
    command.env("BITHUMAN_API_SECRET", secret);
    command
}

#[test]
fn without_a_secret_an_agent_is_ready_within_15_s_and_the_mock_server_is_named() {
    let mut command = program("create_agent");
    let started = Instant::now();
    let (is_success, stdout, stderr) = run(&mut command);
    assert!(started.elapsed() < secs(15), "{:?}", started.elapsed());
    assert!(is_success, "{stderr}");
    assert!(stdout.starts_with("A01XMB7113 is ready: "), "{stdout}");
    let first = stderr.lines().next().unwrap();
    assert!(first.contains("a mock server"), "{stderr}");
    assert_eq!(stderr.matches("mock server").count(), 1, "{stderr}");
}

#[test]
fn with_a_secret_it_asks_the_service_and_only_with_a_prompt() {
    let server = Server::new([reply(service_error(402, "INSUFFICIENT_BALANCE").close())]);
    let mut command = with_service("create_agent", &server.url, harness::SECRET);
    let (is_success, _, stderr) = run(&mut command);
    assert!(!is_success && stderr.contains("which prompt?"), "{stderr}");
    assert_eq!(server.connections(), 0);

    let (is_success, _, stderr) = run(command.arg("You are a gardener."));
    assert!(
        !is_success && stderr.contains("(402 INSUFFICIENT_BALANCE)"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(server.requests()[0].json()["prompt"], "You are a gardener.");
}

#[test]
fn status_prints_the_agent_as_json() {
    let service = MockServer::start(ApiVersion::V2025);
    let url = service.base_url();
    let api = bithuman::Api::builder().secret(SECRET).base_url(&*url);
    let generation = api
        .build()
        .unwrap()
        .generate(&GenerateRequest::new())
        .unwrap();
    let (_, stdout, stderr) = run(with_service("status", &url, SECRET).arg(&generation.agent_id));
    let agent: Agent = serde_json::from_str(&stdout).unwrap();
    assert_eq!(agent.agent_id, generation.agent_id, "{stderr}");
}

#[test]
fn a_blank_secret_is_none() {
    let (is_success, stdout, stderr) = run(program("create_agent").env("BITHUMAN_API_SECRET", " "));
    assert!(is_success && stdout.contains("is ready"), "{stderr}");
}

/// The program of `batch` in a folder with these prompts, each in a file with its number.
fn batch(service: &MockServer, folder: &TempDir, seconds: &str, prompts: &[&str]) -> Command {
    let mut command = with_service("batch", &service.base_url(), SECRET);
    command.arg(seconds).current_dir(&folder.0);
    for (number, prompt) in prompts.iter().enumerate() {
        let file = format!("{number}.txt");
        fs::write(folder.path(&file), prompt).unwrap();
        command.arg(file);
    }
    command
}

#[test]
fn a_batch_run_twice_pays_once_for_each_prompt_and_says_what_failed() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..ApiVersion::Current.into()
    });
    let folder = TempDir::new();
    let prompts = ["One.", "Two [fail].", "Three."];
    let first = run(&mut batch(&service, &folder, "0", &prompts));
    let agents = "A01XMB7113 0.txt\nA03XMB7113 2.txt\n";
    assert_eq!((first.0, &*first.1, service.billed()), (false, agents, 3));
    let errors: Vec<_> = first.2.lines().collect();
    assert!(errors[0].starts_with("1.txt: ensure_agent: "), "{errors:?}");
    let last = "error: prompts without an agent: 1; run this again";
    assert_eq!(errors[1..], [last]);

    // What failed is paid for again, and refunded again.
    let prompts = ["One.", "Two [fail].", "Three.", "Four."];
    let second = run(&mut batch(&service, &folder, "0", &prompts));
    let agents = "A01XMB7113 0.txt\nA03XMB7113 2.txt\nA05XMB7113 3.txt\n";
    assert_eq!((second.0, &*second.1, service.billed()), (false, agents, 5));
    assert_eq!(service.refunded(), 2);
    // What is paid for costs no pause.
    let mut last = batch(&service, &folder, "3600", &["One."]);
    last.args(["2.txt", "3.txt"]);
    assert!(unless_it_hangs(move || last
        .output()
        .unwrap()
        .status
        .success()));
}

#[test]
fn a_batch_pauses_between_two_requests_whatever_becomes_of_them() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..ApiVersion::Current.into()
    });
    for first in ["One.", "One [IMAGE_FACE_UNSUITABLE]."] {
        let folder = TempDir::new();
        let mut command = batch(&service, &folder, "1", &[first, "Two."]);
        let started = Instant::now();
        run(&mut command);
        assert!(started.elapsed() >= secs(1), "{first}");
        // Not after the last one.
        let folder = TempDir::new();
        let mut command = batch(&service, &folder, "3600", &["Three."]);
        unless_it_hangs(move || run(&mut command));
    }
}

#[test]
fn a_batch_without_a_secret_ends_at_once() {
    let service = MockServer::start(ApiVersion::Current);
    let folder = TempDir::new();
    let mut command = batch(&service, &folder, "3600", &["One.", "Two."]);
    command.env_remove("BITHUMAN_API_SECRET");
    let (is_success, _, stderr) = unless_it_hangs(move || run(&mut command));
    assert!(!is_success && stderr.starts_with("error: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn an_example_whose_pipe_closes_early_does_not_panic() {
    let service = MockServer::start(ApiVersion::Current);
    let folder = TempDir::new();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let url = service.base_url();
    let mut status = with_service("status", &url, SECRET);
    status.arg("A01XMB7113");
    for mut command in [
        batch(&service, &folder, "0", &["One.", "[INTERNAL_ERRO]"]),
        status,
        program("create_agent"),
    ] {
        command.stdout(writer.try_clone().unwrap());
        command.stderr(writer.try_clone().unwrap());
        let code = unless_it_hangs(move || command.status().unwrap().code());
        assert_eq!(code, Some(1));
    }
}

/// Each is one line for people, which names what is wrong, and nothing is sent.
#[test]
fn what_a_newcomer_does_wrong_is_one_line() {
    let server = Server::new([reply(service_error(500, "INTERNAL_ERROR"))]);
    let folder = TempDir::new();
    for (example, args, line) in [
        ("create_agent", &[][..], "which prompt? cargo run"),
        ("status", &[], "which agent? cargo run"),
        ("batch", &[], "usage: cargo run"),
        ("batch", &["-1"], "usage: cargo run"),
        ("batch", &["NaN"], "usage: cargo run"),
        ("batch", &["0.5"], "usage: cargo run"),
        ("batch", &["0", "nosuch"], "nosuch: No such file"),
    ] {
        let mut command = with_service(example, &server.url, harness::SECRET);
        let (is_success, _, stderr) = run(command.args(args).current_dir(&folder.0));
        let start = format!("error: {line}");
        assert!(
            !is_success && stderr.starts_with(&start),
            "{args:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
    assert_eq!(server.connections(), 0);
}
