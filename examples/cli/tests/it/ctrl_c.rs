//! Ctrl-C in each phase of a command, and the other signals that end it.

use std::fs::{self, File};
use std::io::{Write, pipe};
use std::mem;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::harness::{ID, Server, TempDir, TempFile, accepted, ms, replies, secs, stalls};
use crate::harness::{status, unless_it_hangs};
use crate::mock_server::{ApiVersion::Current, MockServer, Settings, StorageSettings};
use crate::{Ended, until, with_mock, with_url};

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn press_ctrl_c(child: &Child) {
    send(&["INT"], child);
}

/// Sends the signals as fast as a shell can.
fn send(signals: &[&str], child: &Child) {
    let id = child.id();
    let kills: Vec<_> = signals
        .iter()
        .map(|signal| format!("kill -s {signal} {id}"))
        .collect();
    let mut shell = Command::new("sh");
    assert!(
        shell
            .args(["-c", &kills.join("; ")])
            .status()
            .unwrap()
            .success()
    );
}

fn stop(child: Child) -> Ended {
    press_ctrl_c(&child);
    Ended::new(child.wait_with_output().unwrap())
}

#[test]
fn while_the_request_is_on_its_way_it_is_perhaps_billed() {
    for json in ["", "--json"] {
        let server = Server::new([stalls()]);
        let child = start(with_url(&format!("create --prompt x {json}"), &server.url));
        // Its head comes before its body.
        until(|| {
            server
                .requests()
                .iter()
                .any(|request| !request.body.is_empty())
        });
        let ended = stop(child);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        // The key is printed before the request, and not again.
        let key = &*server.keys()[0];
        assert_eq!(ended.lines("idempotency key: "), [key], "{ended:?}");
        let line = "create: interrupted; the request may have been billed";
        assert_eq!(ended.lines("error: "), [line]);
        let look = "bithuman-agent call GET '/v1/agents?limit=5'";
        assert_eq!(ended.lines("to look: "), [look]);
        assert_eq!(ended.lines("to retry: "), [""; 0]);
        if !json.is_empty() {
            let object = ended.failure();
            assert_eq!(object["kind"], "Interrupted");
            assert_eq!(object["look"], look);
            assert_eq!(object["idempotency_key"], key);
        }
    }
}

#[test]
fn while_it_waits_the_agent_is_kept_and_the_line_says_how_to_resume() {
    let service = MockServer::start(Settings {
        generation_time: Some(secs(3600)),
        ..Current.into()
    });
    let log = TempFile::new("");
    let mut command = with_mock("create --prompt x", &service);
    command
        .stdout(Stdio::null())
        .stderr(File::create(&log.0).unwrap());
    let child = command.spawn().unwrap();
    let read = || fs::read_to_string(&log.0).unwrap();
    until(|| read().contains("agent: A01XMB7113\n"));
    assert_eq!(stop(child).code, Some(130), "{}", read());
    assert!(
        read().ends_with("to resume: bithuman-agent wait A01XMB7113\n"),
        "{}",
        read()
    );
}

/// `timeout` sends two, one right after the other.
#[test]
fn other_signals_that_end_it_lose_no_agent() {
    for signals in [["TERM", "HUP"], ["HUP", "TERM"]] {
        let server = Server::new(replies([accepted().close(), status("generating").close()]));
        let child = start(with_url("create --prompt x -q --key key-1", &server.url));
        until(|| server.requests().len() == 2);
        send(&signals, &child);
        let ended = Ended::new(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert_eq!(ended.lines("idempotency key: "), ["key-1"]);
        let resume = format!("bithuman-agent wait {ID}");
        assert_eq!(ended.lines("to resume: "), [resume]);
    }
}

#[test]
fn a_free_command_ends_at_once() {
    for (args, resumes) in [
        (
            "wait A1 --model m",
            vec!["bithuman-agent wait A1 --model m"],
        ),
        ("status A1", vec![]),
        ("call GET /v1/me", vec![]),
    ] {
        let server = Server::new([stalls()]);
        let child = start(with_url(&format!("{args} --json"), &server.url));
        until(|| server.requests().len() == 1);
        let ended = stop(child);
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert_eq!(ended.lines("to resume: "), resumes);
        ended.failure();
    }
}

#[test]
fn between_two_polls() {
    let server = Server::new(replies([status("generating").close()]));
    let child = start(with_url(&format!("wait {ID}"), &server.url));
    until(|| server.requests().len() == 1);
    let ended = stop(child);
    assert_eq!(ended.code, Some(130), "{ended:?}");
}

#[test]
fn while_it_downloads_what_came_is_kept() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        storage: StorageSettings {
            file: Arc::new(vec![7; 1 << 22]),
            pause: ms(200),
            ..Default::default()
        },
        ..Current.into()
    });
    for args in [
        "create --prompt x --model essence-2 --interval 0.01 --download a.imx",
        "download A01XMB7113 a.imx",
    ] {
        let folder = TempDir::new();
        let mut command = with_mock(args, &service);
        command.current_dir(&folder.0);
        let child = start(command);
        let part = folder.path("a.imx.part");
        until(|| fs::metadata(&part).is_ok_and(|part| part.len() > 0));
        let ended = stop(child);
        assert_eq!(ended.code, Some(130), "{ended:?}");
        let is_create = args.starts_with("create");
        assert_eq!(ended.stdout, if is_create { "A01XMB7113\n" } else { "" });
        let line = ended.lines("error: ")[0];
        assert!(
            line.contains(": interrupted; ") && line.ends_with(" KiB of the file are kept"),
            "{line}"
        );
        let command = "bithuman-agent download A01XMB7113 a.imx";
        assert_eq!(ended.lines("to resume: "), [command]);
        assert_eq!(folder.names(), ["a.imx.part", "a.imx.part.json"]);
    }
}

/// The signals that the program handles, as bits.
#[cfg(target_os = "linux")]
fn caught(child: &Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let status = fs::read_to_string(path).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(caught.unwrap().trim(), 16).unwrap()
}

/// Whether the program has set its handler.
#[cfg(target_os = "linux")]
fn catches_ctrl_c(child: &Child) -> bool {
    caught(child) & 2 != 0
}

/// The terminal may close, then.
#[cfg(target_os = "linux")]
#[test]
fn under_nohup_it_goes_on() {
    let server = Server::new([stalls()]);
    let command = with_url("status A1", &server.url);
    let mut nohup = Command::new("nohup");
    nohup.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nohup.env(name, value),
            None => nohup.env_remove(name),
        };
    }
    let child = start(nohup);
    until(|| server.requests().len() == 1);
    // SIGHUP is 1 and SIGTERM is 15.
    assert_eq!(caught(&child) & (1 | 1 << 14), 1 << 14);
    assert_eq!(stop(child).code, Some(130));
}

/// Another process may be sending its request.
#[cfg(target_os = "linux")]
#[test]
fn while_another_process_uses_the_receipt_it_is_perhaps_billed() {
    let receipt = TempFile::new("");
    let lock = File::options().append(true).open(&receipt.0).unwrap();
    lock.lock().unwrap();
    let mut command = with_url("create --prompt x --receipt", "http://127.0.0.1:1");
    command.arg(&receipt.0);
    let child = start(command);
    until(|| catches_ctrl_c(&child));
    let ended = stop(child);
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

/// Nobody reads its stderr, so that it hangs where no call of the library is.
#[cfg(target_os = "linux")]
#[test]
fn a_second_one_ends_at_once() {
    let (_reader, mut writer) = pipe().unwrap();
    let mut command = with_url("create --prompt x", "http://127.0.0.1:1");
    command.stderr(writer.try_clone().unwrap());
    let filled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&filled);
    thread::spawn(move || {
        while writer.write_all(&[b'.'; 512]).is_ok() {
            count.fetch_add(1, Relaxed);
        }
    });
    let mut before = 0;
    until(|| {
        thread::sleep(ms(50));
        let now = filled.load(Relaxed);
        now > 0 && now == mem::replace(&mut before, now)
    });
    let mut child = command.spawn().unwrap();
    until(|| catches_ctrl_c(&child));
    press_ctrl_c(&child);
    thread::sleep(ms(200));
    assert_eq!(child.try_wait().unwrap(), None);
    press_ctrl_c(&child);
    let ended = unless_it_hangs(move || child.wait().unwrap());
    assert_eq!(ended.code(), Some(130));
}
