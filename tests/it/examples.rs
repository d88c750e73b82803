//! The examples, run the way a newcomer runs them.

#[path = "../../examples/support/pace.rs"]
mod pace;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, Once};
use std::time::Instant;
use std::{env, fs};

use bithuman::{Api, ErrorKind, GenerateRequest, Wait};

use crate::harness::{TempDir, TempFile, ms, secs};
use crate::mock_server::{ApiVersion, MockServer, SECRET, Settings};

/// The program of an example. `cargo test` has built it, but not `cargo test --test it`.
fn program(example: &str) -> Command {
    static BUILT: Once = Once::new();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // Cargo tells a test what package it is of, and ring is built anew where that has changed.
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|start| name.to_string_lossy().starts_with(start))
            {
                cargo.env_remove(name);
            }
        }
        cargo
            .args(["build", "--quiet", "--examples", "--target-dir"])
            .arg(target);
        assert!(
            cargo
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap()
                .success()
        );
    });
    let program = target
        .join("debug/examples")
        .join(example)
        .with_extension(env::consts::EXE_EXTENSION);
    let mut command = Command::new(program);
    for name in [
        "BITHUMAN_API_SECRET",
        "BITHUMAN_API_BASE",
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
    ] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

fn run(example: &str, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(example)
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn to(service: &MockServer) -> [(&'static str, String); 2] {
    [
        ("BITHUMAN_API_BASE", service.base_url()),
        ("BITHUMAN_API_SECRET", SECRET.to_owned()),
    ]
}

#[test]
fn without_a_secret_it_is_a_demonstration_and_says_so() {
    for args in [
        &["--interval", "0.01"][..],
        &[
            "--interval=0.01",
            "--prompt",
            "x",
            "--video",
            "https://a/b.mp4",
        ],
    ] {
        let (code, stdout, stderr) = run("create_agent", args, &[]);
        assert_eq!(code, Some(0), "{stderr}");
        // Of the 2025 API, a link to the storage.
        let is_url = stdout.starts_with("http") && stdout.ends_with(".imx\n");
        assert!(is_url, "{stdout}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(
            lines.first().unwrap().contains("mock server")
                && lines.last().unwrap().contains("mock server"),
            "{stderr}"
        );
        for told in ["idempotency key: ", "agent: A01XMB7113", "processing"] {
            assert!(stderr.contains(told), "{stderr}");
        }
    }
}

#[test]
fn nobody_pays_by_accident() {
    let secret = ("BITHUMAN_API_SECRET", SECRET);
    // The port is closed: a request would end with exit code 1.
    let nowhere = ("BITHUMAN_API_BASE", "http://127.0.0.1:1");
    type Usage<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let usages: [Usage; 14] = [
        (&["--prompt", ""], &[secret, nowhere], "--prompt is empty"),
        (&[], &[secret, nowhere], "nothing to create"),
        (
            &["--model", "auto"],
            &[secret, nowhere],
            "nothing to create",
        ),
        (&["--prompt", "x"], &[nowhere], "BITHUMAN_API_SECRET is not"),
        (
            &["--prompt", "x"],
            &[("BITHUMAN_API_SECRET", ""), nowhere],
            "BITHUMAN_API_SECRET",
        ),
        (&["--promt", "x"], &[secret, nowhere], "--promt"),
        (&["--prompt"], &[secret, nowhere], "--prompt needs a value"),
        (&["--prompt", "x", "extra"], &[secret, nowhere], "extra"),
        (
            &["--prompt", "x", "--image", "no-such.jpg"],
            &[secret, nowhere],
            "no such file: no-such.jpg",
        ),
        (
            &["--prompt", "x", "--interval", "0"],
            &[secret, nowhere],
            "--interval",
        ),
        (
            &["--prompt", "x", "--timeout", "soon"],
            &[secret, nowhere],
            "--timeout",
        ),
        (
            &["--prompt", "x", "--idempotency-key", "a b"],
            &[secret, nowhere],
            "idempotency key",
        ),
        (
            &["--prompt", "x"],
            &[secret, ("BITHUMAN_API_BASE", "http://example.com")],
            "allow_plain_http",
        ),
        (
            &["--prompt", "x", "--receipt", "agent.json"],
            &[],
            "--receipt needs a service that stays",
        ),
    ];
    for (args, variables, told) in usages {
        let (code, stdout, stderr) = run("create_agent", args, variables);
        let error: Vec<_> = stderr
            .lines()
            .filter(|line| line.starts_with("create_agent: ") || line.starts_with("error: "))
            .collect();
        assert_eq!(
            (code, stdout.as_str(), error.len()),
            (Some(2), "", 1),
            "{args:?}: {stderr}"
        );
        assert!(error[0].contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn the_variables_point_it_at_any_server() {
    let service = MockServer::start(ApiVersion::V2025);
    let variables = to(&service);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();

    let (code, stdout, stderr) = run(
        "create_agent",
        &["--prompt", "x", "--interval", "0.01", "--json"],
        &variables,
    );
    assert_eq!(code, Some(0), "{stderr}");
    let agent: bithuman::Agent = bithuman::serde_json::from_str(&stdout).unwrap();
    assert!(agent.is_ready());
    assert_eq!(service.billed(), 1);
    assert!(!stderr.contains("mock server"), "{stderr}");

    let (code, stdout, stderr) = run("status", &[&agent.agent_id], &variables);
    assert_eq!(
        (code, stdout),
        (Some(0), format!("{}\n", agent.model_url.unwrap())),
        "{stderr}"
    );
}

#[test]
fn whatever_can_be_gone_on_with_tells_how() {
    let service = MockServer::start(ApiVersion::Current);
    let variables = to(&service);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let go_on = |id: &str| format!("cargo run --example status -- {id} --wait\n");

    let (code, stdout, stderr) = run(
        "create_agent",
        &["--prompt", "[fail]", "--interval", "0.01"],
        &variables,
    );
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    // Told once, while it could be interrupted: there is no going on with what has failed.
    assert_eq!(stderr.matches(&go_on("A01XMB7113")).count(), 1, "{stderr}");
    assert!(
        stderr.ends_with(
            "this failure was requested; another try is another generate, which is billed\n"
        ),
        "{stderr}"
    );

    let args = [
        "--prompt",
        "x",
        "--agent-id",
        "mine",
        "--interval",
        "9",
        "--timeout",
        "0.2",
    ];
    let (code, stdout, stderr) = run("create_agent", &args, &variables);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("agent mine: not ready within 0.2 s") && stderr.ends_with(&go_on("mine")),
        "{stderr}"
    );

    let (code, stdout, stderr) = run(
        "status",
        &["mine", "--wait", "--interval", "0.01"],
        &variables,
    );
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "https://mock-server.invalid/mine/model.imx\n"),
        "{stderr}"
    );
    let (code, _, stderr) = run("status", &["nobody"], &variables);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("status: agent nobody: the service knows no such agent (404"),
        "{stderr}"
    );
    assert!(!stderr.contains(&go_on("nobody")), "{stderr}");
}

#[test]
fn with_a_receipt_the_same_command_pays_once() {
    let service = MockServer::start(ApiVersion::Current);
    let variables = to(&service);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let receipt = TempFile::new(b"");
    std::fs::remove_file(&receipt.0).unwrap();
    let receipt = receipt.0.to_str().unwrap();
    let create = |prompt: &str, interval: &str, more: &[&str]| {
        let args = [
            &[
                "--prompt",
                prompt,
                "--receipt",
                receipt,
                "--interval",
                interval,
            ],
            more,
        ]
        .concat();
        run("create_agent", &args, &variables)
    };

    // Paid for before, and its program ended.
    let api = Api::builder()
        .secret(SECRET)
        .base_url(service.base_url())
        .build()
        .unwrap();
    api.generate_once(receipt, &GenerateRequest::new().prompt("x"))
        .unwrap();
    let (code, stdout, stderr) = create("x", "9", &["--timeout", "0.2"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("to go on with this agent: cargo run"),
        "{stderr}"
    );
    for again in [false, true] {
        let (code, stdout, stderr) = create("x", "0.01", &[]);
        assert_eq!(
            (code, stdout.as_str()),
            (
                Some(0),
                "https://mock-server.invalid/A01XMB7113/model.imx\n"
            ),
            "{stderr}"
        );
        assert_eq!(
            !stderr.contains("success (of a step, not of the agent), 95 %"),
            again,
            "{stderr}"
        );
    }
    let (code, stdout, stderr) = create("y", "0.01", &[]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains(&format!(
            "{receipt}: is for agent A01XMB7113, created with another prompt"
        )),
        "{stderr}"
    );
    assert_eq!(service.billed(), 1);

    std::fs::remove_file(receipt).unwrap();
    let (code, stdout, stderr) = create("[fail]", "0.01", &["--json"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        bithuman::serde_json::from_str::<bithuman::Agent>(&stdout)
            .unwrap()
            .is_failed(),
        "{stdout}"
    );
    assert!(
        stderr.contains("this failure was requested") && stderr.contains("pays for another try"),
        "{stderr}"
    );
}

/// Runs the batch of these prompts against a mock server, with the receipts in this folder.
fn batch(
    service: &MockServer,
    receipts: &TempDir,
    prompts: &str,
    args: &[&str],
) -> (Option<i32>, String, String) {
    let prompts = TempFile::new(prompts.as_bytes());
    let (file, receipts) = (prompts.0.to_str().unwrap(), receipts.0.join("of/agents"));
    let fixed = [
        file,
        "--receipts",
        receipts.to_str().unwrap(),
        "--interval",
        "0.01",
    ];
    let variables = to(service);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    run("batch", &[&fixed, args].concat(), &variables)
}

/// So fast that it is no pace.
const FAST: [&str; 2] = ["--per-minute", "60000"];

#[test]
fn a_batch_without_a_secret_is_a_demonstration_and_says_so() {
    let (code, stdout, stderr) = run("batch", &["--interval", "0.01", FAST[0], FAST[1]], &[]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 3), "{stderr}");
    assert!(
        stdout
            .lines()
            .all(|line| line.contains("/model.imx  You are a ")),
        "{stdout}"
    );
    for told in [
        "a demonstration against a mock server",
        "\n3 of 3 ready, 0 ended without, ",
        "That was the mock server",
    ] {
        assert!(stderr.contains(told), "{stderr}");
    }
}

#[test]
fn a_batch_run_twice_pays_once_for_each_prompt() {
    let (service, receipts) = (MockServer::start(ApiVersion::Current), TempDir::new());
    let prompts = "# A comment\n\nOne.\n  Two?  \nOne.\n\u{201c}Three\u{201d}";
    let first = batch(&service, &receipts, prompts, &FAST);
    assert_eq!(
        (first.0, first.1.lines().count()),
        (Some(0), 3),
        "{}",
        first.2
    );
    let ends: Vec<_> = first
        .1
        .lines()
        .map(|line| line.rsplit("  ").next().unwrap())
        .collect();
    assert_eq!(ends, ["One.", "Two?", "\u{201c}Three\u{201d}"]);
    let kept = fs::read_dir(receipts.0.join("of/agents")).unwrap().count();
    assert_eq!((service.billed(), kept), (3, 3));
    // What has a receipt has no need of a turn: two turns of a minute would be seen.
    let begun = Instant::now();
    let second = batch(&service, &receipts, prompts, &["--per-minute", "1"]);
    assert!(begun.elapsed() < secs(60), "{:?}", begun.elapsed());
    assert_eq!(
        (second.0, second.1, service.billed()),
        (Some(0), first.1, 3),
        "{}",
        second.2
    );
}

#[test]
fn a_batch_lists_what_failed_at_its_end() {
    let service = MockServer::start(Settings {
        rate_limit: Some(2),
        ..ApiVersion::Current.into()
    });
    let receipts = TempDir::new();
    // A minute is longer than there is time, so the refusal comes at once.
    let one_by_one = ["--per-minute", "600", "--timeout", "9"];
    let (code, stdout, stderr) = batch(
        &service,
        &receipts,
        "One.\nTwo [fail].\nThree.",
        &one_by_one,
    );
    assert_eq!((code, service.billed()), (Some(1), 2), "{stderr}");
    assert_eq!(
        stdout,
        "A01XMB7113  https://mock-server.invalid/A01XMB7113/model.imx  One.\n"
    );
    let told: Vec<_> = stderr
        .lines()
        .skip_while(|line| !line.starts_with("not ready: "))
        .collect();
    assert_eq!(told.len(), 2, "{stderr}");
    assert!(
        told[0].starts_with(
            "not ready: Two [fail].: ensure_agent: agent A02XMB7113: the generation failed"
        ),
        "{stderr}"
    );
    assert!(
        told[1].starts_with("not ready: Three.: ensure_agent: ")
            && told[1].contains("RATE_LIMITED"),
        "{stderr}"
    );
}

#[test]
fn a_batch_ends_early_where_all_would_end_alike() {
    let (service, receipts) = (MockServer::start(ApiVersion::Current), TempDir::new());
    let prompts = TempFile::new("a\nb\nc\nd\ne\nf\ng\nh\ni\nj".as_bytes());
    let args = [
        prompts.0.to_str().unwrap(),
        "--receipts",
        receipts.0.to_str().unwrap(),
        "--per-minute",
        "240",
    ];
    let variables = [
        ("BITHUMAN_API_BASE", service.base_url()),
        ("BITHUMAN_API_SECRET", "wrong".into()),
    ];
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let (code, stdout, stderr) = run("batch", &args, &variables);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("not ready: a: ensure_agent: the service rejected the API secret"),
        "{stderr}"
    );
    assert!(stderr.ends_with(" not begun\n"), "{stderr}");
}

#[test]
fn a_batch_keeps_the_rate() {
    let now = Instant::now();
    let mut pace = pace::Pace::per_minute(4);
    assert_eq!(
        [now; 3].map(|now| pace.book(now)),
        [secs(0), secs(15), secs(30)]
    );
    assert_eq!(
        [20, 50, 200, 200].map(|at| pace.book(now + secs(at))),
        [secs(25), secs(10), secs(0), secs(15)]
    );

    static GENERATES: Mutex<Vec<Instant>> = Mutex::new(Vec::new());
    let log = |line: &str| {
        if line.starts_with("POST") {
            GENERATES.lock().unwrap().push(Instant::now());
        }
    };
    let (service, receipts) = (
        MockServer::start(Settings {
            log,
            ..ApiVersion::Current.into()
        }),
        TempDir::new(),
    );
    let (code, _, stderr) = batch(
        &service,
        &receipts,
        "One.\nTwo.\nThree.",
        &["--per-minute", "600"],
    );
    let times = GENERATES.lock().unwrap();
    assert_eq!((code, times.len()), (Some(0), 3), "{stderr}");
    // It is 200 ms, but for what a busy machine takes from the first to arrive.
    assert!(times[2] - times[0] >= ms(100), "{:?}", times[2] - times[0]);
}

#[test]
fn a_batch_pays_for_nothing_by_accident() {
    let prompts = TempFile::new(b"One.");
    let empty = TempFile::new(b"\n# One.\n  \n");
    let (prompts, empty) = (prompts.0.to_str().unwrap(), empty.0.to_str().unwrap());
    let secret = ("BITHUMAN_API_SECRET", SECRET);
    let nowhere = ("BITHUMAN_API_BASE", "http://127.0.0.1:1");
    let unusable = format!("{prompts}/receipts");
    type Usage<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let usages: [Usage; 9] = [
        (&[], &[secret, nowhere], "which prompts?"),
        (
            &["no-such.txt"],
            &[secret, nowhere],
            "no-such.txt: No such file",
        ),
        (
            &[empty],
            &[secret, nowhere],
            "there is no prompt in the file",
        ),
        (&[prompts, "extra"], &[secret, nowhere], "extra"),
        (
            &[prompts, "--per-minute", "0"],
            &[secret, nowhere],
            "--per-minute needs a whole number, more than 0: 0",
        ),
        (
            &[prompts, "--receipts", &unusable],
            &[secret, nowhere],
            &unusable,
        ),
        (
            &[prompts, "--receipts", "x"],
            &[],
            "--receipts needs a service that stays",
        ),
        (&[prompts], &[nowhere], "BITHUMAN_API_SECRET is not"),
        (
            &[prompts],
            &[secret, ("BITHUMAN_API_BASE", "http://example.com")],
            "allow_plain_http",
        ),
    ];
    for (args, variables, told) in usages {
        let (code, stdout, stderr) = run("batch", args, variables);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn the_mock_server_follows_its_flags() {
    for (args, told) in [
        (
            ["--version", "2024"],
            "--version is 2025 or current, not 2024",
        ),
        (
            ["--rate-limit", "none"],
            "--rate-limit needs a whole number",
        ),
        (["--slow", "0"], "--slow needs a number of seconds"),
        (["--balance", "few"], "--balance needs a whole number"),
        (["--fail", "always"], "always"),
    ] {
        let (code, stdout, stderr) = run("mock_server", &args, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }

    let flags = [
        "--version=2025",
        "--fail",
        "--rate-limit",
        "1",
        "--slow",
        "0.05",
    ];
    let mut child = program("mock_server")
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line
        .strip_prefix("BITHUMAN_API_BASE=")
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let api = Api::builder()
        .secret(SECRET)
        .base_url(url)
        .max_retries(0)
        .build()
        .unwrap();
    let wait = Wait::new().interval(ms(10));
    let begun = Instant::now();
    let failed = api
        .generate_and_wait(&GenerateRequest::new(), &wait)
        .unwrap_err();
    let took = begun.elapsed();
    let limited = api.generate(&GenerateRequest::new()).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        (failed.kind(), limited.kind()),
        (ErrorKind::GenerationFailed, ErrorKind::RateLimited)
    );
    assert!(took >= ms(50), "{took:?}");
    // The 2025 API has no progress.
    assert_eq!(failed.last_seen().unwrap().progress, None);
}
