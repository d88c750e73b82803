//! Downloads under kills and full disks, their memory, and the same against nginx.

use std::env;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bithuman::serde_json::{self, Value, json};
use bithuman::{Api, Download, ErrorKind, Event};

#[cfg(target_os = "linux")]
use crate::bounded::growth;
use crate::downloads::*;
use crate::harness::*;
use crate::mock_server;
#[cfg(target_os = "linux")]
use crate::receipts::{alone_after, can, traced};

/// The variable with a child's task.
const TASK: &str = "DOWNLOAD_TASK";

/// Its memory is measured as Linux shows it.
#[cfg(target_os = "linux")]
#[test]
fn a_child_of_these_tests() {
    let Ok(task) = env::var(TASK) else { return };
    let task: Value = serde_json::from_str(&task).unwrap();
    let text = |name: &str| task[name].as_str().unwrap();
    let builder = Api::builder().secret(mock_server::SECRET);
    let api = builder
        .base_url(text("url"))
        .build()
        .unwrap()
        .on_event(|_| {});
    let mut result = None;
    let grown = growth(|| {
        result = Some(api.download(text("id"), text("path"), &Download::new()));
    });
    let said = match result.unwrap() {
        Ok(downloaded) => json!({"fetched": downloaded.fetched, "grown": grown}),
        Err(error) => json!({"error": error.to_string(), "kind": format!("{:?}", error.kind())}),
    };
    println!("\n{said}");
}

/// A process that downloads the file, run by this command.
fn child(desk: &Desk, program: &[&str]) -> Command {
    let task = json!({"url": desk.server.base_url(), "id": desk.id, "path": desk.path()});
    let name = "downloads_crash::a_child_of_these_tests";
    let mut command = match program {
        [] => this_test_alone(name),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(env::current_exe().unwrap());
            command.args([name, "--exact", "--nocapture"]);
            command
        }
    };
    command.env(TASK, task.to_string()).stdout(Stdio::piped());
    command
}

/// Runs it to its end, and returns what it says.
fn said(mut command: Command) -> Value {
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let line = out.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{out}"))).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_download_takes_at_most_4_mib_of_memory() {
    let desk = Desk::new(64 * MB);
    desk.storage().change(|settings| {
        settings.breaks_after = Some(9 * MB);
        settings.uses = Some(2);
    });
    let said = said(child(&desk, &[]));
    let grown = said["grown"].as_u64().unwrap_or_else(|| panic!("{said}"));
    assert!(grown <= 4 << 20, "{grown} bytes");
    assert_eq!(said["fetched"], 64 * MB);
    desk.assert_whole();
}

#[cfg(target_os = "linux")]
#[test]
fn a_download_that_is_killed_six_times_fetches_little_twice() {
    let desk = Desk::new(64 * MB);
    desk.storage().change(|settings| settings.pause = ms(1));
    let part = desk.dir.path("agent.imx.part");
    // What the processes wrote: the rest of what was sent was in the buffers of the system.
    let mut fetched = 0;
    for _ in 0..6 {
        let mut process = child(&desk, &[]).spawn().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let some = MB + now.subsec_nanos() as usize % (8 * MB);
        let before = desk.bytes_sent();
        while desk.bytes_sent() < before + some {
            let end = process.try_wait().unwrap();
            assert_eq!(end, None, "{:?}", desk.pieces());
            std::thread::sleep(ms(1));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(desk.dir.names(), ["agent.imx.part", "agent.imx.part.json"]);
        let (start, _) = desk.pieces().last().copied().unwrap();
        fetched += fs::metadata(&part).unwrap().len() as usize - start;
    }
    let said = said(child(&desk, &[]));
    assert!(
        said["grown"].as_u64().is_some_and(|it| it <= 4 << 20),
        "{said}"
    );
    desk.assert_whole();
    let pieces = desk.pieces();
    assert!(pieces[1..].iter().all(|piece| piece.0 > 0), "{pieces:?}");
    fetched += said["fetched"].as_u64().unwrap() as usize;
    assert!(fetched <= 64 * MB / 100 * 105, "{fetched}: {pieces:?}");
    println!("{fetched} bytes were fetched");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_leaves_the_part_and_says_how_much_is_missing() {
    let desk = Desk::new(3 * MB);
    // A write beyond this length fails, as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\"";
    let said = said(child(&desk, &["sh", "-c", script]));
    let error = said["error"].as_str().unwrap_or_else(|| panic!("{said}"));
    assert_eq!(said["kind"], "File");
    assert!(
        error.contains("agent.imx.part: cannot be written: "),
        "{error}"
    );
    assert!(
        error.contains(" of 2.8 MiB are missing; fix that"),
        "{error}"
    );
    assert_eq!(desk.dir.names(), ["agent.imx.part", "agent.imx.part.json"]);
    let downloaded = desk.download().unwrap();
    assert!(downloaded.fetched < 22 * MB as u64 / 10, "{downloaded:?}");
    desk.assert_whole();
}

/// Downloads, and does this at the last event.
fn download_and(desk: &Desk, f: impl Fn() + Send + Sync + 'static) -> Option<bithuman::Error> {
    let api = desk.builder().build().unwrap().on_event(move |event| {
        if matches!(event, Event::Downloading { received, total } if Some(*received) == *total) {
            f();
        }
    });
    api.download(&desk.id, desk.path(), &Download::new()).err()
}

#[test]
fn a_part_that_is_whole_is_put_in_place_without_a_request() {
    let desk = Desk::new(MB);
    let path = desk.path();
    let error = download_and(&desk, move || fs::create_dir(&path).unwrap()).unwrap();
    assert_eq!(error.kind(), ErrorKind::File);
    assert_says(&error, "agent.imx: cannot be put in place: ");
    fs::remove_dir(desk.path()).unwrap();
    let api = desk.builder().base_url(desk.server.base_url()).build();
    let downloaded = api
        .unwrap()
        .download(&desk.id, desk.path(), &Download::new());
    let downloaded = downloaded.unwrap();
    assert_eq!((downloaded.length, downloaded.fetched), (MB as u64, 0));
    assert_eq!(downloaded.model.as_deref(), Some("essence-2"));
    assert_eq!(desk.fetched().len(), 1);
    desk.assert_whole();
}

/// Windows lets nobody remove it.
#[cfg(unix)]
#[test]
fn a_note_that_was_removed_is_noticed_before_the_file_is_put_in_place() {
    let desk = Desk::new(MB);
    let note = desk.dir.path("agent.imx.part.json");
    let error = download_and(&desk, move || fs::remove_file(&note).unwrap()).unwrap();
    assert_says(
        &error,
        "agent.imx.part.json was deleted or replaced; call download again",
    );
    // Without its note, a part is of no use.
    assert!(desk.dir.names().is_empty());
    desk.download().unwrap();
    desk.assert_whole();
}

/// A power cut loses what is not synced: the note, without which a part is of no use, the bytes that
/// the note counts, and the name of the file after the call has returned.
#[cfg(target_os = "linux")]
#[test]
fn everything_is_synced_in_its_order() {
    if !can(&["strace", "-o", "/dev/null"]) {
        return;
    }
    let setup = "exec strace -f -y -e trace=fsync,rename,renameat,renameat2 -o $DIR/log";
    let name = "downloads_crash::everything_is_synced_in_its_order";
    let dir = alone_after(&["env"], setup, name, |dir| {
        let desk = Desk::new(35 * MB);
        fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink(dir.join("real/agent.imx"), desk.path()).unwrap();
        desk.download().unwrap();
        // A whole part that is left there.
        let path = dir.join("real/agent.imx");
        fs::remove_file(&path).unwrap();
        let at = path.clone();
        let error = download_and(&desk, move || fs::create_dir(&at).unwrap());
        assert_eq!(error.unwrap().kind(), ErrorKind::File);
        fs::remove_dir(&path).unwrap();
        desk.download().unwrap();
    });
    let Some(dir) = dir else { return };
    let fetched = ["agent.imx.part.json"]
        .into_iter()
        .chain(["agent.imx.part"; 3]);
    let fetched = fetched.map(|name| format!("sync {name}, "));
    let fetched: String = fetched.collect();
    let expected = format!(
        "{fetched}rename, sync real, {fetched}rename, sync agent.imx.part, rename, sync real"
    );
    assert_eq!(traced(&dir.path("log")).join(", "), expected);
}

/// Such as some network file systems.
#[cfg(target_os = "linux")]
#[test]
fn where_there_are_no_locks_a_download_has_a_part_of_its_own() {
    if !can(&["strace", "-o", "/dev/null"]) {
        return;
    }
    let name = "downloads_crash::where_there_are_no_locks_a_download_has_a_part_of_its_own";
    for fault in ["ENOLCK", "EOPNOTSUPP"] {
        let setup = format!("exec strace -f -qq -o $DIR/log -e inject=flock:error={fault}");
        alone_after(&["env"], &setup, name, |_| {
            let desk = Desk::new(MB);
            let dir = desk.dir.0.clone();
            let error = download_and(&desk, move || {
                let mut names = fs::read_dir(&dir).unwrap();
                let part = names.next().unwrap().unwrap().file_name();
                let part = part.to_str().unwrap();
                let number = part.strip_prefix("agent.imx.").unwrap();
                assert_eq!(number.strip_suffix(".part").unwrap().len(), 16);
                assert!(names.next().is_none());
            });
            assert!(error.is_none(), "{error:?}");
            desk.assert_whole();
            // Nothing is left for another call.
            desk.storage()
                .change(|settings| settings.breaks_after = Some(MB / 2));
            desk.storage()
                .change(|settings| settings.ignores_range = true);
            desk.download().unwrap_err();
            desk.assert_whole();
        });
    }
}

/// A running nginx with signed URLs that expire.
struct Nginx {
    process: std::process::Child,
    dir: TempDir,
    port: u16,
}

impl Nginx {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let (dir, port) = (TempDir::new(), unused_port());
        let root = dir.0.display().to_string();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp = temp
            .map(|name| format!("{name}_temp_path {root}/{name};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
            events {{}}
            http {{
                access_log off; {temp}
                server {{
                    listen 127.0.0.1:{port};
                    location /models/ {{
                        root {root};
                        limit_rate 3m;
                        secure_link $arg_md5,$arg_expires;
                        secure_link_md5 \"$secure_link_expires$uri pepper\";
                        if ($secure_link = \"\") {{ return 403; }}
                        if ($secure_link = \"0\") {{ return 410; }}
                    }}
                }}
            }}"
        );
        fs::write(dir.path("nginx.conf"), config).unwrap();
        fs::create_dir(dir.path("models")).unwrap();
        let program = ["/usr/sbin/nginx", "nginx"].into_iter().find(|program| {
            let version = Command::new(program).arg("-v").output();
            version.is_ok_and(|output| output.status.success())
        })?;
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(dir.path("nginx.conf"))
            .arg("-e")
            .arg(dir.path("error.log"));
        let process = command.spawn().unwrap();
        for _ in 0..250 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(ms(20));
        }
        Some(Nginx { process, dir, port })
    }

    /// A URL that is good for so many seconds.
    fn sign(&self, seconds: i64) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        let (expires, uri) = (now + seconds, "/models/a.imx");
        fs::write(self.dir.path("signed"), format!("{expires}{uri} pepper")).unwrap();
        let output = Command::new("md5sum")
            .arg(self.dir.path("signed"))
            .output()
            .unwrap();
        let hex = String::from_utf8(output.stdout).unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let digest: Vec<u8> = (0..16).map(|n| byte(n * 2)).collect();
        let md5 = URL_SAFE_NO_PAD.encode(digest);
        format!(
            "http://127.0.0.1:{}{uri}?md5={md5}&expires={expires}",
            self.port
        )
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The same promises, kept by a server that nobody here wrote.
#[test]
fn nginx_resumes_refuses_expired_urls_and_notices_a_changed_file() {
    let Some(nginx) = Nginx::start() else {
        println!("skipped: nginx is not installed");
        return;
    };
    let mut file = content(4 * MB);
    let served = nginx.dir.path("models/a.imx");
    fs::write(&served, &file).unwrap();
    // The URLs that the service names, one after the other.
    let urls = Arc::new(Mutex::new(Vec::new()));
    let next = urls.clone();
    let service = Server::new([act(move |c| {
        while c.request().is_some() {
            let url: String = next.lock().unwrap().remove(0);
            c.send(Vec::from(offer(&url)));
        }
    })]);
    let dir = TempDir::new();
    let path = dir.path("agent.imx");
    let name_urls = |seconds: &[i64]| {
        *urls.lock().unwrap() = seconds.iter().map(|it| nginx.sign(*it)).collect();
    };
    // Returns how much was fetched before it was shut down at this length, or to the end.
    let download = |shut_down_at: u64| {
        let api = service.builder().build().unwrap();
        let stopper = api.clone();
        let last = Arc::new(AtomicUsize::new(0));
        let seen = last.clone();
        let api = api.on_event(move |event| {
            if let Event::Downloading { received, .. } = event {
                seen.store(*received as usize, Ordering::SeqCst);
                if *received >= shut_down_at {
                    stopper.shutdown();
                }
            }
        });
        let result = api.download(ID, &path, &Download::new());
        (result, last.load(Ordering::SeqCst))
    };
    // The first URL has expired, and so has the one that the second call gets first.
    name_urls(&[-5, 60]);
    let (result, stopped_at) = download(2 * MB as u64);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ShutDown);
    name_urls(&[-5, 60]);
    let (result, _) = download(u64::MAX);
    let fetched = result.unwrap().fetched as usize;
    assert!(
        fetched <= 4 * MB - stopped_at && fetched > 0,
        "{fetched} after {stopped_at}"
    );
    assert!(fs::read(&path).unwrap() == file);
    // A part of an older version of the file is not kept.
    name_urls(&[60]);
    download(2 * MB as u64).0.unwrap_err();
    file[..MB].fill(7);
    fs::write(&served, &file).unwrap();
    let later = SystemTime::now() + Duration::from_secs(100);
    File::options()
        .append(true)
        .open(&served)
        .unwrap()
        .set_modified(later)
        .unwrap();
    name_urls(&[60]);
    let (result, _) = download(u64::MAX);
    assert_eq!(result.unwrap().fetched, 4 * MB as u64);
    assert!(fs::read(&path).unwrap() == file);
    assert_eq!(dir.names(), ["agent.imx"]);
    // A wrong signature is refused ten times.
    let wrong = nginx.sign(60).replace("md5=", "md5=x");
    *urls.lock().unwrap() = vec![wrong; 10];
    let (result, _) = download(u64::MAX);
    assert_says(&result.unwrap_err(), "refuses the signed URL (403)");
}
