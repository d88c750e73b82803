//! Files: what is kept, what is replaced, and who waits for whom.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::SystemTime;

use crate::harness::{TempDir, TempFile, ms, secs};
use crate::mock_server::{
    ApiVersion, ApiVersion::Current, ApiVersion::V2025, MockServer, Settings,
};
use crate::{run, run_in, until, with_mock};

const CREATE: &str = "create --prompt x --model essence-2 --interval 0.01";

fn quick(version: ApiVersion, file_delay: usize) -> MockServer {
    MockServer::start(Settings {
        generation_time: Some(ms(1)),
        file_delay,
        ..version.into()
    })
}

#[test]
fn a_repeated_create_with_a_receipt_downloads_once() {
    let service = quick(Current, 0);
    let folder = TempDir::new();
    let create = |receipt: &str| {
        let args = format!("{CREATE} --receipt {receipt} --download a.imx");
        let ended = run_in(&folder, with_mock(&args, &service));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.lines("ready; model file: ").len(), 1, "{ended:?}");
        service.storage().requests().len()
    };
    assert_eq!([create("r"), create("r")], [1, 1]);
    // The file of an earlier agent is no file of this one.
    let old = File::options().write(true).open(folder.path("a.imx"));
    let day = SystemTime::now() - secs(24 * 3600);
    old.unwrap().set_modified(day).unwrap();
    assert_eq!([create("r"), create("r")], [2, 2]);
    fs::rename(folder.path("r"), folder.path("s")).unwrap();
    assert_eq!([create("s"), create("r")], [2, 3]);
}

#[test]
fn without_a_receipt_and_by_default_a_file_is_replaced() {
    let service = quick(Current, 0);
    let folder = TempDir::new();
    fs::write(folder.path("a.imx"), "old").unwrap();
    for (args, requests, length) in [
        (format!("{CREATE} --download a.imx"), 1, 65536),
        ("download A01XMB7113 a.imx".into(), 2, 65536),
        ("download A01XMB7113 a.imx --if-missing".into(), 2, 65536),
        ("download A01XMB7113 b.imx --if-missing".into(), 3, 65536),
    ] {
        let ended = run_in(&folder, with_mock(&args, &service));
        assert_eq!(ended.code, Some(0), "{args}: {ended:?}");
        assert_eq!(service.storage().requests().len(), requests, "{args}");
        assert_eq!(fs::metadata(folder.path("a.imx")).unwrap().len(), length);
    }
}

#[test]
fn a_download_that_waits_for_its_file_says_so_once() {
    for version in [Current, V2025] {
        let service = match version {
            Current => quick(Current, 3),
            V2025 => MockServer::start(V2025),
        };
        let folder = TempDir::new();
        let created = run(with_mock(
            "create --prompt x --model essence-2 --no-wait",
            &service,
        ));
        assert_eq!(created.code, Some(0), "{created:?}");
        let args = "download A01XMB7113 a.imx --interval 0.05";
        let ended = run_in(&folder, with_mock(args, &service));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines = ended.lines("the file is not published yet; ");
        assert_eq!(lines.len(), 1, "{ended:?}");
        assert!(!ended.stderr.contains("next attempt"), "{ended:?}");
    }
}

#[test]
fn a_command_that_waits_for_another_process_says_so() {
    let service = quick(Current, 0);
    assert_eq!(run(with_mock(CREATE, &service)).code, Some(0));
    let folder = TempDir::new();
    for (locked, shown, args) in [
        ("a.imx.part.json", "a.imx", "download A01XMB7113 a.imx"),
        ("r", "r", "create --prompt x --no-wait --receipt r"),
        (
            "b.imx.part.json",
            "b.imx",
            &format!("{CREATE} --download b.imx"),
        ),
    ] {
        let file = File::create(folder.path(locked)).unwrap();
        file.lock().unwrap();
        let log = TempFile::new("");
        let mut command = with_mock(args, &service);
        command.current_dir(&folder.0).stdout(Stdio::null());
        command.stderr(File::create(&log.0).unwrap());
        let mut child = command.spawn().unwrap();
        let line = format!("another process is using {shown}: waiting for it\n");
        let count = || fs::read_to_string(&log.0).unwrap().matches(&line).count();
        until(|| count() == 1);
        file.unlock().unwrap();
        assert!(child.wait().unwrap().success(), "{args}");
        assert_eq!(count(), 1, "{args}");

        let free = run_in(&folder, with_mock(args, &service));
        assert_eq!(free.lines("another process "), [""; 0], "{free:?}");
    }
}
