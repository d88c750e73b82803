//! Where things are printed: a terminal, a pipe, a pipe that nobody reads, and nowhere.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write, pipe};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bithuman::serde_json::{self, Value, json};

use crate::harness::{ID, Reply, SECRET, Server, TempDir, TempFile, accepted, agent, ms, replies};
use crate::harness::{service_error, stalls};
use crate::mock_server::{self, ApiVersion::Current, MockServer, Settings, StorageSettings};
use crate::{Ended, PROGRAM, program, run, until, with_mock, with_url, without_variables};

const CREATE: &str = "create --prompt x --interval 0.01";

#[test]
fn in_a_pipe_progress_is_plain_lines_on_stderr() {
    let service = MockServer::start(Current);
    let ended = run(with_mock(CREATE, &service));
    assert_eq!(ended.stdout, "A01XMB7113\n");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(
        lines[0].starts_with("idempotency key: bithuman-agent-"),
        "{ended:?}"
    );
    assert_eq!(lines[1], "agent: A01XMB7113");
    assert!(lines[2].starts_with("warning: "), "{ended:?}");
    assert_eq!(lines[4], "generating, 2%, persona");
    // Such words do not mean that the agent is ready.
    let steps = &lines[lines.len() - 3..];
    let words = ["completed", "success"].map(|word| format!("{word} (of a step), "));
    assert!(
        steps[0].starts_with(&words[0]) && steps[1].starts_with(&words[1]),
        "{steps:?}"
    );
    assert!(!ended.stderr.contains(['\r', '\u{1b}']), "{ended:?}");
}

#[test]
fn an_upload_is_shown_in_tenths() {
    let media = TempFile::new(vec![7; 1 << 19]);
    let server = Server::new(replies([accepted().close()]));
    let mut command = with_url("create --no-wait --image", &server.url);
    command.arg(&media.0);
    let ended = run(command);
    let lines = ended.lines("uploading, ");
    assert_eq!(lines.first(), Some(&"0% of 682.7 KiB"), "{ended:?}");
    assert_eq!(lines.last(), Some(&"100% of 682.7 KiB"), "{ended:?}");
    assert!(lines.len() <= 11, "{ended:?}");
}

#[test]
fn a_retry_is_a_line_that_says_why() {
    let busy = service_error(503, "SERVICE_UNAVAILABLE");
    let server = Server::new(replies([busy.close(), accepted().close()]));
    let ended = run(with_url("create --prompt x --no-wait", &server.url));
    let line = ended.lines("create: ")[0];
    assert!(line.contains("(503 SERVICE_UNAVAILABLE)"), "{line}");
    assert!(line.contains("; next attempt in 0."), "{line}");
}

/// Each once, in few words, until the time is up.
#[test]
fn what_may_be_mistyped_is_said() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..Current.into()
    });
    let create = "create --prompt x --model essence-2 --interval 0.01";
    assert_eq!(run(with_mock(create, &service)).code, Some(0));
    for (args, line) in [
        (
            "wait A9",
            "the service does not know the agent; a new one can take a minute",
        ),
        (
            "wait A01XMB7113 --model esence-2",
            "the service does not list model esence-2 of this agent",
        ),
    ] {
        let args = format!("{args} --interval 0.01 --timeout 2");
        let ended = run(with_mock(&args, &service));
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!((ended.code, lines[0]), (Some(75), line), "{ended:?}");
        assert!(lines[1].starts_with("error: "), "{ended:?}");
    }
    let listed = "wait A01XMB7113 --model essence-2";
    let ended = run(with_mock(listed, &service));
    assert_eq!((ended.code, ended.lines("the service")), (Some(0), vec![]));
}

#[test]
fn a_warning_of_the_service_is_shown() {
    let service = MockServer::start(Current);
    for (args, warnings) in [
        ("--no-wait", 1),
        ("--interval 0.01 --json", 1),
        ("--no-wait --receipt r", 1),
        ("--no-wait -q", 0),
        ("--no-wait --model essence-2", 0),
    ] {
        let folder = TempDir::new();
        let mut command = with_mock(&format!("create --prompt x {args}"), &service);
        command.current_dir(&folder.0);
        let ended = run(command);
        let lines = ended.lines("warning: MODEL_DEFAULT_DEPRECATED: ");
        assert_eq!(lines.len(), warnings, "{args}: {ended:?}");
    }
}

/// A service that repeats the secret in what it says of an agent. What it says is data, but stderr
/// goes into logs.
#[test]
fn the_secret_is_masked_on_stderr() {
    let url = format!("https://a.example/?k={SECRET}");
    let created = json!({"agent_id": ID, "warnings": [url]});
    let ready = agent(json!({"status": "ready", "model_url": url}));
    let waiting = agent(json!({"status": "generating", "current_step": url}));
    let script = [Reply::json(200, created), waiting, ready].map(Reply::close);
    let server = Server::new(replies(script));
    let ended = run(with_url(CREATE, &server.url));
    let expected = [
        "warning: \"https://a.example/?k=[secret]\"",
        "generating, https://a.example/?k=[secret]",
        "ready; model: https://a.example/?k=[secret]",
    ];
    let lines: Vec<_> = ended.stderr.lines().skip(2).collect();
    assert_eq!(
        (&*ended.stdout, &lines[..]),
        (&*format!("{ID}\n"), &expected[..])
    );

    let file = TempFile::new(format!("{SECRET}\n"));
    for from_file in [false, true] {
        let mut command = with_url(&format!("create --prompt x --key {SECRET}"), &server.url);
        if from_file {
            command.env_remove("BITHUMAN_API_SECRET");
            command.arg("--secret-file").arg(&file.0);
        }
        let ended = run(command);
        let line = "--key: this is the API secret";
        assert_eq!((ended.code, ended.lines("error: ")), (Some(2), vec![line]));
    }
    assert_eq!(server.keys().len(), 1);
}

/// The agent is ready at once, so that no other bar comes between the two.
#[test]
fn a_download_after_an_upload_has_a_bar_of_its_own() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..Current.into()
    });
    let image = TempFile::new(vec![7; 1 << 19]);
    let folder = TempDir::new();
    let (image, path) = (image.0.display(), folder.path("a.imx"));
    let args = format!("--image {image} --download {}", path.display());
    let args = format!("create --model essence-2 --interval 0.05 {args}");
    let Some(screen) = on_terminal(&args, &service, &[]) else {
        return;
    };
    for bar in ["uploading [", "downloading ["] {
        assert!(screen.contains(bar), "{screen}");
    }
}

#[test]
fn a_resumed_download_begins_with_what_is_there_and_shows_no_false_speed() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        storage: StorageSettings {
            file: Arc::new(vec![7; 12 << 20]),
            breaks_after: Some(3 << 20),
            ..Default::default()
        },
        ..Current.into()
    });
    let create = "create --prompt x --model essence-2 --interval 0.01";
    assert_eq!(run(with_mock(create, &service)).code, Some(0));
    let folder = TempDir::new();
    let path = folder.path("a.imx").display().to_string();
    let mut command = with_mock(&format!("download A01XMB7113 {path}"), &service);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let part = folder.path("a.imx.part");
    until(|| fs::metadata(&part).is_ok_and(|part| part.len() >= 3 << 20));
    child.kill().unwrap();
    child.wait().unwrap();
    service.storage().change(|storage| {
        storage.breaks_after = None;
        storage.pause = ms(5);
    });
    let Some(screen) = on_terminal(&format!("download A01XMB7113 {path}"), &service, &[]) else {
        return;
    };
    // No frame is empty, or without a message.
    let frames: Vec<_> = screen.split('\r').collect();
    assert!(frames[0].starts_with("downloading ["), "{screen}");
    assert!(
        frames[0].contains(".0 MiB of 12.0 MiB, 0.0 KiB/s"),
        "{screen}"
    );
    // Not more than 64 KiB in 5 ms, which is 12.5 MiB/s, and what a buffer may add.
    for frame in frames.iter().filter(|frame| frame.contains("MiB/s")) {
        let speed = frame.split(", ").nth(1).unwrap();
        let number: f64 = speed.split(' ').next().unwrap().parse().unwrap();
        assert!(number < 100.0, "{frame}");
    }
    assert!(!screen.contains("GiB/s"), "{screen}");
    // The bar is gone before the result is there.
    assert!(
        screen.ends_with(&format!("\u{1b}[2K{path}\r\n")),
        "{screen}"
    );
}

#[test]
fn quiet_is_quiet() {
    let service = MockServer::start(Current);
    let ended = run(with_mock(&format!("{CREATE} -q"), &service));
    assert_eq!((&*ended.stdout, &*ended.stderr), ("A01XMB7113\n", ""));
}

/// The program on a terminal of its own, where there is `script` of util-linux.
fn terminal(args: &str, service: &MockServer, variables: &[&str]) -> Option<Command> {
    let version = Command::new("script").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux")) {
        eprintln!("skipped: there is no `script` of util-linux");
        return None;
    }
    let mut command = without_variables(Command::new("script"));
    let variables = variables.join(" ");
    let line = format!("TERM=xterm env {variables} {PROGRAM} {args}");
    command.args(["-qec", &line, "/dev/null"]);
    command.env("BITHUMAN_API_BASE", service.base_url());
    command.env("BITHUMAN_API_SECRET", mock_server::SECRET);
    Some(command)
}

/// What is on its screen at the end.
fn on_terminal(args: &str, service: &MockServer, variables: &[&str]) -> Option<String> {
    let ended = run(terminal(args, service, variables)?);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    Some(ended.stdout)
}

#[test]
fn a_prompt_that_is_typed_has_a_line_that_says_how_to_end_it() {
    let service = MockServer::start(Current);
    for (options, says_it) in [("", true), ("-q", false)] {
        let args = format!("create --prompt - --no-wait {options}");
        let Some(mut command) = terminal(&args, &service, &[]) else {
            return;
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"You are a gardener.\n").unwrap();
        drop(stdin);
        let ended = Ended::new(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = "type the prompt; a line with Ctrl-D ends it\r\n";
        assert_eq!(ended.stdout.contains(line), says_it, "{ended:?}");
    }
}

#[test]
fn on_a_terminal_progress_is_a_bar_and_no_color_is_obeyed() {
    const GREEN: &str = "\u{1b}[32m";
    let args = "create --prompt x --interval 0.05";
    let service = MockServer::start(Current);
    let Some(screen) = on_terminal(args, &service, &[]) else {
        return;
    };
    assert!(screen.contains(&format!("[{GREEN}===")), "{screen}");
    assert!(screen.ends_with("A01XMB7113\r\n"), "{screen}");
    for (variable, has_bar) in [
        ("NO_COLOR=1", true),
        ("TERM=dumb", false),
        ("-u TERM", false),
    ] {
        let screen = on_terminal(args, &service, &[variable]).unwrap();
        assert_eq!(screen.contains("[==="), has_bar, "{screen}");
        assert!(!screen.contains("\u{1b}[3"), "{screen}");
        assert!(screen.contains("generating, 35%, voice_image"), "{screen}");
    }
    let screen = on_terminal(&format!("{args} -q"), &service, &[]).unwrap();
    assert_eq!(screen, "A05XMB7113\r\n");
}

#[test]
fn the_key_is_printed_before_the_service_responds() {
    let server = Server::new([stalls()]);
    let mut command = with_url(CREATE, &server.url);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    until(|| server.requests().len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        line.trim_end(),
        format!("idempotency key: {}", server.keys()[0])
    );
}

#[test]
fn what_a_service_says_cannot_play_tricks_on_a_terminal() {
    // Controls, others that change what is seen, and what is only another script's.
    let step = "a\nb\u{9b}c\u{202e}d\u{e0001}e\u{915}\u{94d}\u{e9}";
    let status = agent(json!({"status": "\u{1b}[2Jboo", "current_step": step}));
    let text = "\\u{1b}[2Jboo, a\\nb\\u{9b}c\\u{202e}d\\u{e0001}e\u{915}\u{94d}\u{e9}\n";
    let json = r"a\nb\u009bc\u202ed\udb40\udc01e".to_owned() + "\u{915}\u{94d}\u{e9}\"";
    let path = format!("/v1/agent/{ID}");
    for (args, expected) in [
        (format!("status {ID}"), text),
        (format!("status {ID} --json"), &json),
        (format!("call GET {path}"), &json),
        (format!("call GET {path} --json"), &json),
    ] {
        let server = Server::new(replies([status.clone().close()]));
        let ended = run(with_url(&args, &server.url));
        assert!(ended.stdout.contains(expected), "{args}: {ended:?}");
        let json = ended
            .stdout
            .starts_with('{')
            .then(|| serde_json::from_str(&ended.stdout));
        let Some(json) = json.map(Result::<Value, _>::unwrap) else {
            continue;
        };
        let agent = json.get("data").unwrap_or(&json);
        assert_eq!(agent["current_step"], step, "{args}");
    }
    let ended = run(with_url("status a\u{202e}b --quiett --json", "unused"));
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains('\u{202e}'));
}

#[test]
fn a_pipe_that_closes_early_is_no_panic_and_does_not_lose_what_is_paid() {
    let service = MockServer::start(Current);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    for args in ["--interval 0.01", "--no-wait"] {
        let mut command = with_mock(&format!("create --prompt x -q {args}"), &service);
        let ended = Ended::new(
            command
                .stdout(writer.try_clone().unwrap())
                .output()
                .unwrap(),
        );
        let id = ended.lines("agent: ");
        assert_eq!((ended.code, id.len()), (Some(0), 1), "{ended:?}");
    }
    let mut command = with_mock(CREATE, &service);
    command.stdout(writer.try_clone().unwrap());
    command.stderr(writer.try_clone().unwrap());
    // Nobody saw the id.
    assert_eq!(Ended::new(command.output().unwrap()).code, Some(75));
    let ready = run(with_mock("status A03XMB7113", &service));
    assert_eq!(ready.stdout, "ready\n");
    // The help, too.
    let ended = Ended::new(program("--help").stdout(writer).output().unwrap());
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_on_stderr() {
    let service = MockServer::start(Current);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [CREATE, "create --prompt x --no-wait"] {
        let mut command = with_mock(args, &service);
        let ended = Ended::new(command.stdout(full()).output().unwrap());
        assert_eq!(ended.code, Some(75), "{ended:?}");
        let id = ended.lines("agent: ")[0];
        let line = ended.lines("error: ")[0];
        assert!(line.contains("No space left on device"), "{line}");
        let more = "exists and is paid for: creating another is billed again";
        assert!(line.ends_with(&format!("agent {id} {more}")), "{line}");
        assert_eq!(
            ended.lines("to resume: "),
            [format!("bithuman-agent wait {id}")]
        );
    }
    let mut command = with_mock("status A01XMB7113", &service);
    let ended = Ended::new(command.stdout(full()).output().unwrap());
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.lines("error: ")[0].ends_with("the result is: ready"),
        "{ended:?}"
    );
}
