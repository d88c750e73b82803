//! Bad input: one line, exit code 2, and nothing is sent.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::service_error;
use crate::harness::{SECRET, Server, TempDir, TempFile, accepted, gateway, ms, replies};
use crate::mock_server::{self, ApiVersion::Current, MockServer, Settings};
use crate::{Ended, PROGRAM, program, run, run_in, with_mock, with_url, without_variables};

#[test]
fn bad_input_is_one_line_and_nothing_is_sent() {
    let server = Server::new(replies([accepted().close()]));
    let folder = TempDir::new();
    fs::write(folder.path("empty"), "\n").unwrap();
    fs::write(folder.path("quoted"), "'ab'").unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    let folder_receipt = "create --prompt x --receipt folder";
    for (args, says) in [
        (
            "create --promt x",
            "unexpected argument '--promt' found; tip: a similar",
        ),
        (
            "create --prompt",
            "a value is required for '--prompt <TEXT>'",
        ),
        ("create x", "unexpected argument 'x'"),
        ("create", "nothing to create: give --prompt"),
        ("create --model essence-2", "nothing to create"),
        ("create --prompt @empty", "--prompt: it is empty"),
        ("create --prompt @absent", "--prompt @absent: No such file"),
        ("create --prompt -", "--prompt: it is empty"),
        (
            "create --image absent.jpg",
            "for '--image <FILE|URL>': cannot read the file",
        ),
        ("create --image folder", "not a regular file"),
        (
            "create --image empty --image empty",
            "cannot be used multiple times",
        ),
        ("create --prompt x --field a", "not NAME=JSON"),
        (
            "create --prompt x --field =1",
            "there is no name before the =",
        ),
        (
            "create --prompt x --field a=b",
            "a text needs double quotes",
        ),
        (
            "create --prompt x --field prompt=1",
            "--field prompt: use --prompt",
        ),
        (
            "create --prompt x --field aspect_ratio=1",
            "use --aspect-ratio",
        ),
        ("create --prompt x --field agent_id=1", "new agents only"),
        (
            "create --image ftp://a.example/b",
            "image: a media URL begins with http:// or https://",
        ),
        (
            "create --image http://localhost:1/a.jpg --base-url https://a.example",
            "give the path of a file",
        ),
        (
            "status A1 --base-url https://a.example/v1",
            "--base-url ends in /v1",
        ),
        (
            "create --prompt x --key \u{e4}",
            "an idempotency key is 1 to 255 visible ASCII characters",
        ),
        ("create --prompt x --interval 0", "not a time above 0"),
        ("create --prompt x --timeout soon", "not a time above 0"),
        (
            "create --prompt x --base-url http://example.com",
            "the secret: use https",
        ),
        (
            "status A1 -q --secret-file quoted",
            "--secret-file: the secret has a quote",
        ),
        (
            "create --prompt x --secret-file absent",
            "secret file absent: No such file",
        ),
        (
            "create --prompt x --secret-file folder",
            "secret file folder: ",
        ),
        (
            "create --prompt x --secret-file empty",
            "secret file empty: it is empty",
        ),
        (folder_receipt, "is a folder"),
        ("wait a/b", "an id has no slash"),
        ("status ..", "id"),
        (
            "status",
            "the following required arguments were not provided: <ID>",
        ),
        ("mock --version 2024", "possible values: 2025, current"),
        ("mock --port 0", "0 is not in 1..65535"),
        ("mock --file-size 1000000001", "is not in"),
        ("mock --plan gold", "possible values: free, pro"),
        ("mock --base-url http://a", "a URL and a secret of its own"),
        ("mock --secret-file empty", "a URL and a secret of its own"),
        ("call FETCH /v1/me", "not GET, POST or DELETE"),
        ("call GET v1/me", "call: "),
        ("call POST /v1/webhooks {", "not JSON: "),
        (
            "call POST /v1/agent/generate {}",
            "to create an agent, use bithuman-agent create",
        ),
        ("download A1 folder", "not a regular file"),
        ("download A1 absent/a.imx", "its folder does not exist"),
        ("create --prompt x --download folder", "not a regular file"),
        ("create --prompt x --download a", "needs --model, and not"),
        (
            "create --prompt x --download a --model expression-1",
            "--download a: needs --model, and not expression-1",
        ),
        ("create --prompt x --download a/", "not the path of a file"),
        (
            "create --prompt x --no-wait --download a",
            "cannot be used with",
        ),
        (
            "create --prompt x --no-wait --timeout 1",
            "cannot be used with '--timeout <TIME>'",
        ),
        (
            "create --prompt x --no-wait --interval 1",
            "cannot be used with '--interval <TIME>'",
        ),
        ("frobnicate", "unrecognized subcommand 'frobnicate'"),
    ] {
        for json in ["", " --json"] {
            let mut command = with_url(&format!("{args}{json}"), &server.url);
            command.current_dir(&folder.0);
            let ended = run(command);
            assert_eq!(ended.code, Some(2), "{args}: {ended:?}");
            let lines: Vec<_> = ended.stderr.lines().collect();
            assert!(
                lines.len() == 1 && lines[0].contains(says),
                "{args}: {ended:?}"
            );
            if json.is_empty() {
                assert_eq!(ended.stdout, "", "{args}");
            } else {
                let is_receipt = args == folder_receipt;
                let kind = if is_receipt { "Receipt" } else { "Usage" };
                assert_eq!(ended.failure()["kind"], kind, "{args}");
            }
        }
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_missing_secret_is_said_before_anything_else() {
    let folder = TempDir::new();
    for args in [
        "create --prompt x",
        "create --prompt x --receipt a.receipt",
        "status A1",
    ] {
        for secret in [None, Some(" ")] {
            let mut command = program(&format!("{args} --json"));
            command.envs(secret.map(|secret| ("BITHUMAN_API_SECRET", secret)));
            let ended = run_in(&folder, command);
            let line = "no API secret: set BITHUMAN_API_SECRET, or use --secret-file";
            assert_eq!((ended.code, ended.lines("error: ")), (Some(77), vec![line]));
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
            assert_eq!(ended.failure()["kind"], "NoSecret");
        }
    }
}

#[test]
fn what_a_receipt_says_of_a_bill_matters_more_than_a_missing_secret() {
    for (code, reply) in [(3, gateway(502)), (75, accepted())] {
        let folder = TempDir::new();
        let args = "create --prompt x --receipt a.receipt --json";
        let server = Server::new(replies([reply.close()]));
        run_in(&folder, with_url(&format!("{args} --no-wait"), &server.url));
        let mut command = with_url(args, &server.url);
        let ended = run_in(&folder, command.env_remove("BITHUMAN_API_SECRET"));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        ended.failure();
    }
}

/// Most likely that of a variable which is not set.
#[test]
fn an_empty_argument_is_refused() {
    for (args, says) in [
        ("create --prompt", "it is empty"),
        ("create --prompt x --image", "it is empty"),
        ("create --prompt x --model", "it is empty"),
        ("create --prompt x --aspect-ratio", "it is empty"),
        ("create --prompt x --framing", "it is empty"),
        ("create --prompt x --key", "it is empty"),
        ("create --prompt x --download", "it is empty"),
        ("create --prompt x --base-url", "it is empty"),
        ("create --prompt x --field", "not NAME=JSON"),
        ("wait A1 --model", "it is empty"),
        ("download A1", "it is empty"),
        ("download A1 a --model", "it is empty"),
        ("status", "it is empty"),
    ] {
        for empty in ["", " "] {
            let mut command = with_url(args, "http://127.0.0.1:1");
            command.arg(empty);
            let ended = run(command);
            assert!(
                ended.code == Some(2) && ended.stderr.contains(says),
                "{args}: {ended:?}"
            );
        }
    }
    for option in ["--receipt", "--secret-file"] {
        let mut command = with_url("create --prompt x", "http://127.0.0.1:1");
        command.args([option, ""]);
        let ended = run(command);
        assert!(
            ended.code == Some(2) && ended.stderr.contains("a value is required for"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_prompt_comes_from_stdin() {
    let server = Server::new(replies([accepted().close()]));
    let mut command = with_url("create --prompt - --no-wait", &server.url);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"Two\nlines.\n").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(server.requests()[0].json()["prompt"], "Two\nlines.");
}

/// After hours and a bill it would be too late.
#[test]
fn a_download_that_cannot_be_written_is_found_before_anything_is_sent() {
    let server = Server::new(replies([accepted().close()]));
    let folder = TempDir::new();
    fs::create_dir(folder.path("a.part")).unwrap();
    fs::create_dir(folder.path("b.part.json")).unwrap();
    let long = "x".repeat(250);
    let mut paths = vec!["a", "b", &long];
    if cfg!(target_os = "linux") {
        paths.extend(["/proc/a.imx", "/dev/full"]);
    }
    for path in paths {
        let args = format!("create --prompt x --model m --download {path} --json");
        let ended = run_in(&folder, with_url(&args, &server.url));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.failure()["error"].as_str().unwrap().contains(path));
        let said = ["cannot be written: ", "not a regular file"];
        let line = ended.lines("error: ")[0];
        assert!(said.iter().any(|what| line.contains(what)), "{line}");
    }
    assert_eq!(server.connections(), 0);
    assert_eq!(folder.names(), ["a.part", "b.part.json"]);
}

/// The download would replace it, or take it for its part.
#[cfg(unix)]
#[test]
fn a_download_is_never_a_file_that_the_command_uses() {
    use std::os::unix::fs::symlink;
    let server = Server::new(replies([accepted().close()]));
    let folder = TempDir::new();
    fs::create_dir(folder.path("d")).unwrap();
    for file in ["p.jpg", "p.txt", "s", "q.part"] {
        fs::write(folder.path(file), SECRET).unwrap();
    }
    for (link, target) in [
        ("to-r", "r"),
        ("to-p", "d/../p.jpg"),
        ("to-d", "d"),
        ("to-s", "to-s2"),
        ("to-s2", "s"),
        ("astray", "nodir/x"),
        ("round", "round"),
    ] {
        symlink(target, folder.path(link)).unwrap();
    }
    for (args, says) in [
        ("--receipt r --download ./r", "r is the file of --receipt"),
        ("--receipt r --download d/../r", "is the file of --receipt"),
        (
            "--receipt r --download to-d/../r",
            "is the file of --receipt",
        ),
        ("--receipt r --download to-r", "r is the file of --receipt"),
        ("--receipt to-r --download r", "r is the file of --receipt"),
        ("--receipt z.part --download z", "z.part is the file of "),
        ("--receipt r.part --download to-r", "r.part is the file of "),
        (
            "--receipt z.part.json --download z",
            "z.part.json is the file ",
        ),
        ("--image p.jpg --download p.jpg", "is the file of --image"),
        ("--audio to-p --download p.jpg", "is the file of --audio"),
        ("--video q.part --download q", "is the file of --video"),
        (
            "--prompt @p.txt --download p.txt",
            "is the file of --prompt",
        ),
        (
            "--secret-file s --download to-s",
            "is the file of --secret-file",
        ),
        ("--download astray", "its folder does not exist"),
        ("--download round", "symbolic links"),
    ] {
        let prompt = if args.contains("--prompt") {
            ""
        } else {
            "--prompt x"
        };
        let args = format!("create {prompt} --model m {args} --json");
        let ended = run_in(&folder, with_url(&args, &server.url));
        assert_eq!(ended.code, Some(2), "{args}: {ended:?}");
        let failure = ended.failure();
        assert!(
            failure["error"].as_str().unwrap().contains(says),
            "{args}: {failure}"
        );
    }
    let args = "download A1 to-s --secret-file s";
    let ended = run_in(&folder, with_url(args, &server.url));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(server.connections(), 0);
    assert!(!folder.path("r").exists());
}

/// Through a link too.
#[cfg(unix)]
#[test]
fn the_check_leaves_what_another_process_uses() {
    let server = Server::new(replies([service_error(401, "UNAUTHORIZED").close()]));
    let folder = TempDir::new();
    std::os::unix::fs::symlink("a", folder.path("link")).unwrap();
    let note = fs::File::create(folder.path("a.part.json")).unwrap();
    note.lock().unwrap();
    let args = "create --prompt x --model m --download link";
    run_in(&folder, with_url(args, &server.url));
    assert_eq!(folder.names(), ["a.part.json", "link"]);
}

#[test]
fn what_an_earlier_download_left_is_not_touched_by_the_check() {
    let folder = TempDir::new();
    fs::write(folder.path("a.part.json"), "{}").unwrap();
    let server = Server::new(replies([service_error(401, "UNAUTHORIZED").close()]));
    for path in ["a", "b"] {
        let args = format!("create --prompt x --model m --download {path}");
        run_in(&folder, with_url(&args, &server.url));
    }
    assert_eq!(folder.names(), ["a.part.json"]);
    assert_eq!(fs::read(folder.path("a.part.json")).unwrap(), b"{}");
}

#[cfg(unix)]
#[test]
fn a_secret_file_is_used_and_one_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let file = TempFile::new(format!("{SECRET}\n"));
    for (mode, args, is_warned) in [
        (0o600, "", false),
        (0o640, "", true),
        (0o604, "", true),
        (0o644, "-q", false),
    ] {
        fs::set_permissions(&file.0, fs::Permissions::from_mode(mode)).unwrap();
        let server = Server::new(replies([accepted().close()]));
        let mut command = with_url(&format!("create --prompt x --no-wait {args}"), &server.url);
        command.env("BITHUMAN_API_SECRET", "another-secret");
        command.arg("--secret-file").arg(&file.0);
        let ended: Ended = run(command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(server.requests()[0].header("api-secret"), Some(SECRET));
        assert_eq!(
            ended.lines("warning: ").len(),
            usize::from(is_warned),
            "{ended:?}"
        );
    }
}

/// Whoever lists the processes would see it.
#[test]
fn the_secret_is_never_an_argument_and_not_shown_where_it_is_one() {
    for args in ["--secret", "--api-secret", "create --prompt x --secret"] {
        let ended = run(program(&format!("{args}={SECRET}")));
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
}

#[test]
fn the_help_lists_the_exit_codes_and_every_default() {
    let help = run(program("--help")).stdout;
    for code in ["0", "1", "2", "3", "66", "69", "75", "77", "130"] {
        let starts = |line: &str| line.trim_start().starts_with(&format!("{code} "));
        assert!(help.lines().any(starts), "{code}: {help}");
    }
    for command in ["create", "wait", "download", "mock"] {
        let help = run(program(&format!("{command} --help"))).stdout;
        let help = help.split("Examples:").next().unwrap();
        let options = help
            .split("\n")
            .filter(|line| line.starts_with("      --") || line.starts_with("  [PATH]"));
        // And -q, but not -h.
        let defaults = help.matches("[default:").count();
        assert_eq!(defaults, options.count() + 1, "{help}");
    }
}

/// Each help text, by its command.
fn helps() -> Vec<(&'static str, String)> {
    let commands = ["", "create", "status", "wait", "download", "call", "mock"];
    let help = |command| run(program(&format!("{command} --help"))).stdout;
    commands.map(|command| (command, help(command))).into()
}

#[test]
fn a_help_text_fits_a_terminal_and_breaks_no_line_early() {
    for (command, help) in helps() {
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
        let lines: Vec<_> = help.lines().collect();
        for pair in lines.windows(2) {
            // The next word would have had its place, in a paragraph.
            let word = pair[1].split(' ').next().unwrap_or_default();
            let is_early = pair[0].len() + 1 + word.len() <= 98;
            let is_text = |line: &str| line.starts_with(|c: char| c.is_alphabetic());
            let is_paragraph = is_text(pair[0]) && is_text(pair[1]) && !pair[0].ends_with(':');
            assert!(!(is_paragraph && is_early), "{command}: {pair:?}");
        }
        assert!(command.is_empty() || help.contains("\n\nExit codes: see bithuman-agent --help."));
        let names_service = help.contains("--base-url") || help.contains("--secret-file");
        assert_eq!(names_service, command != "mock", "{help}");
        let names_variables =
            help.contains("$BITHUMAN_API_BASE") && help.contains("$BITHUMAN_API_URL");
        assert_eq!(names_variables, command != "mock", "{help}");
    }
}

/// The examples of a help text. One that continues after a backslash is one line.
pub fn examples(help: &str) -> Vec<String> {
    let help = help.replace(" \\\n", " ");
    let lines = help.lines().map(str::trim_start);
    let examples = lines.filter(|line| line.starts_with("bithuman-agent "));
    examples.map(String::from).collect()
}

#[cfg(unix)]
#[test]
fn each_example_of_a_help_text_works() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..Current.into()
    });
    let folder = TempDir::new();
    fs::write(folder.path("prompt.txt"), "You are a gardener.").unwrap();
    fs::write(folder.path("portrait.jpg"), "abc").unwrap();
    fs::create_dir(folder.path("models")).unwrap();
    let first = "create --prompt x --model essence-2 --interval 0.01";
    assert_eq!(run(with_mock(first, &service)).code, Some(0));
    let mut found = 0;
    for (command, help) in helps() {
        // Those of mock run for ever.
        for line in examples(&help).iter().filter(|_| command != "mock") {
            found += 1;
            // What follows on the line, after blanks, says what it does.
            let line = line.split("   ").next().unwrap();
            let line = line.replace("A91XMB7113", "A01XMB7113");
            let line = line.replacen("bithuman-agent", &format!("'{PROGRAM}'"), 1);
            let mut shell = without_variables(Command::new("sh"));
            shell.env("BITHUMAN_API_BASE", service.base_url());
            shell.env("BITHUMAN_API_SECRET", mock_server::SECRET);
            shell.args(["-c", &line]).current_dir(&folder.0);
            let ended = run(shell);
            assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        }
    }
    assert!(found > 10, "{found}");
}
