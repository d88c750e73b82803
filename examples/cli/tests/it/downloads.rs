//! `download`, and `create --download`, whose agent is paid for whatever becomes of its file.

use std::fs;

use bithuman::serde_json::json;

use crate::harness::{ID, Reply, Server, TempDir, accepted, act, ms, replies, secs, service_error};
use crate::harness::{agent, ready};
use crate::mock_server::{ApiVersion::Current, MockServer, Settings};
use crate::{run_in, with_mock, with_url};

const CREATE: &str = "create --prompt x --model essence-2 --interval 0.01";

#[test]
fn a_download_is_a_file_and_its_path() {
    let service = MockServer::start(Current);
    let folder = TempDir::new();
    let mut create = with_mock(&format!("{CREATE} --download a.imx --json"), &service);
    let ended = run_in(&folder, &mut create);
    assert_eq!(ended.json()["agent_id"], "A01XMB7113", "{ended:?}");
    assert_eq!(ended.json()["file"]["length"], 65536);
    assert_eq!(fs::read(folder.path("a.imx")).unwrap(), [7; 65536]);

    let mut download = with_mock("download A01XMB7113", &service);
    let ended = run_in(&folder, &mut download);
    let path = folder.path("A01XMB7113.imx").display().to_string();
    assert_eq!(
        (ended.code, ended.stdout.trim_end()),
        (Some(0), &*path),
        "{}",
        ended.stderr
    );
    assert_eq!(folder.names(), ["A01XMB7113.imx", "a.imx"]);
    let progress = ended.lines("downloading, ");
    assert_eq!(progress.last(), Some(&"100% of 64.0 KiB"), "{ended:?}");

    // It was created with another model.
    let mut other = with_mock("download A01XMB7113 --model expression-2", &service);
    let ended = run_in(&folder, &mut other);
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

/// A code that says that nothing is billed would let a script pay again. The command that resumes is
/// there where it can help.
#[test]
fn an_agent_whose_file_is_missing_is_printed_all_the_same() {
    let plain = |status, code| service_error(status, code);
    let reason = json!({"error": {"code": "X", "reason": "DEVICE_BUILD_FAILED"}});
    for (kind, can_help, reply) in [
        ("Rejected", false, plain(400, "MODEL_NOT_DOWNLOADABLE")),
        ("NotFound", false, plain(404, "AGENT_NOT_FOUND")),
        ("NotFound", false, plain(410, "AGENT_DELETED")),
        ("Service", false, Reply::json(500, reason)),
        ("PlanLimit", true, plain(403, "PLAN_REQUIRED")),
        ("Unauthorized", true, plain(401, "UNAUTHORIZED")),
    ] {
        for json in ["", "--json"] {
            let script = [accepted(), ready(), reply.clone()].map(Reply::close);
            let server = Server::new(replies(script));
            let folder = TempDir::new();
            let args = format!("{CREATE} --download a.imx {json}");
            let ended = run_in(&folder, with_url(&args, &server.url));
            assert_eq!(ended.code, Some(75), "{ended:?}");
            let line = ended.lines("error: ")[0];
            let start = format!("agent {ID} is ready and paid for; only its file is missing: ");
            assert!(
                line.starts_with(&start) && line.matches(ID).count() == 1,
                "{line}"
            );
            let command = format!("bithuman-agent download {ID} a.imx");
            let resume = can_help.then_some(&*command);
            assert_eq!(
                ended.lines("to resume: "),
                Vec::from_iter(resume),
                "{ended:?}"
            );
            if json.is_empty() {
                assert_eq!(ended.stdout, format!("{ID}\n"));
                continue;
            }
            let object = ended.failure();
            assert_eq!(
                (&object["kind"], &object["agent_id"]),
                (&json!(kind), &json!(ID))
            );
            assert_eq!(object["agent"]["status"], "ready");
            assert_eq!(object["billing"], "Billed");
            assert_eq!(object["resume"].as_str(), resume);
        }
    }
}

/// The check before the request cannot know what another program does in the hours after it.
#[test]
fn a_file_that_can_no_longer_be_written_can_be_downloaded_later() {
    let folder = TempDir::new();
    let part = folder.path("a.imx.part");
    let server = Server::new([
        act(|c| {
            c.request();
            c.send(accepted().close());
        }),
        act(move |c| {
            c.request();
            fs::create_dir(&part).unwrap();
            c.send(ready().close());
        }),
    ]);
    let args = format!("{CREATE} --download a.imx");
    let ended = run_in(&folder, with_url(&args, &server.url));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(75), &*format!("{ID}\n")),
        "{ended:?}"
    );
    let command = format!("bithuman-agent download {ID} a.imx");
    assert_eq!(ended.lines("to resume: "), [command]);
    // The same of `download`, which has not been paid for: another path is the way.
    let ended = run_in(
        &folder,
        with_url(&format!("download {ID} a.imx"), &server.url),
    );
    assert_eq!(
        (ended.code, ended.lines("to resume: ")),
        (Some(2), vec![]),
        "{ended:?}"
    );
}

#[test]
fn a_download_out_of_time_says_how_to_resume() {
    let service = MockServer::start(Settings {
        file_delay: usize::MAX,
        ..Current.into()
    });
    let folder = TempDir::new();
    let args = format!("{CREATE} --receipt a.receipt");
    assert_eq!(run_in(&folder, with_mock(&args, &service)).code, Some(0));

    let args = format!("{args} --timeout 0.3 --download a.imx");
    let ended = run_in(&folder, with_mock(&args, &service));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(75), "A01XMB7113\n"),
        "{ended:?}"
    );
    assert_eq!(ended.lines("to resume: "), ["the same command again"]);
    // It gets what is left of the time.
    assert!(
        ended.lines("error: ")[0].contains("fits into 0.2 s"),
        "{ended:?}"
    );

    let again = with_mock("download A01XMB7113 a.imx --timeout 0.1", &service);
    let ended = run_in(&folder, again);
    assert_eq!(
        (ended.code, ended.lines("to resume: ")),
        (Some(75), vec!["bithuman-agent download A01XMB7113 a.imx"])
    );
}

#[test]
fn an_agent_that_is_not_ready_in_time_is_waited_for_before_its_download() {
    let service = MockServer::start(Settings {
        generation_time: Some(secs(3600)),
        ..Current.into()
    });
    let folder = TempDir::new();
    let args = format!("{CREATE} --timeout 0.1 --download 'a.imx");
    let ended = run_in(&folder, with_mock(&args, &service));
    assert_eq!((ended.code, &*ended.stdout), (Some(75), ""), "{ended:?}");
    let wait = "bithuman-agent wait A01XMB7113";
    let download = "bithuman-agent download A01XMB7113 ''\\''a.imx'";
    assert_eq!(
        ended.lines("to resume: "),
        [format!("{wait} && {download}")]
    );
}

/// After a failed generation there is nothing to wait for.
#[test]
fn a_failed_generation_has_no_file() {
    let failed = agent(json!({"status": "failed"}));
    let server = Server::new(replies([accepted().close(), failed.close()]));
    let folder = TempDir::new();
    let args = format!("{CREATE} --download a.imx");
    let ended = run_in(&folder, with_url(&args, &server.url));
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.lines("to resume: "), [""; 0]);
    assert_eq!(folder.names(), [""; 0]);
}

/// A file that is not there yet could be waited for, in vain.
#[test]
fn a_download_of_a_failed_agent_ends_at_once() {
    let service = MockServer::start(Settings {
        fail_all: true,
        ..Current.into()
    });
    let folder = TempDir::new();
    let created = run_in(&folder, with_mock(CREATE, &service));
    assert_eq!(created.code, Some(1), "{created:?}");
    let args = "download A01XMB7113 a.imx --json";
    let ended = run_in(&folder, with_mock(args, &service));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.failure()["kind"], "GenerationFailed");
    assert_eq!(ended.lines("to resume: "), [""; 0]);
    // It asks nothing about a file that is there.
    fs::write(folder.path("a.imx"), "old").unwrap();
    let args = "download A01XMB7113 a.imx --if-missing";
    let server = Server::new(replies([ready().close()]));
    let kept = run_in(&folder, with_url(args, &server.url));
    assert_eq!((kept.code, server.connections()), (Some(0), 0), "{kept:?}");
}

/// The words of a shell can be any bytes.
#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf_8_is_a_path() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"\xff.imx");
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..Current.into()
    });
    let folder = TempDir::new();
    let mut create = with_mock(&format!("{CREATE} --download"), &service);
    assert_eq!(run_in(&folder, create.arg(name)).code, Some(0));
    assert!(folder.0.join(name).exists());

    let mut download = with_url("download A1 --timeout 0.1", "http://127.0.0.1:1");
    let ended = run_in(&folder, download.arg(name));
    let resume = "bithuman-agent download A1 $'\\xff.imx'";
    assert_eq!(ended.lines("to resume: "), [resume], "{ended:?}");

    let mut prompt = with_mock("create --prompt", &service);
    let ended = run_in(&folder, prompt.arg(name));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.lines("error: ")[0].starts_with("$'\\xff.imx' is not UTF-8"),
        "{ended:?}"
    );
}
