//! `mock`: the mock server as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Instant;

use bithuman::serde_json::{self, Value};
use bithuman::{Api, Download, ErrorKind, GenerateRequest, Method, Status, Wait};

use crate::harness::{TempDir, ms, secs, unused_port};
use crate::usage::examples;
use crate::{mock_server, program, run};

/// A running mock server, killed with this value, and its line.
struct Mock(Child, String);

impl Mock {
    fn start(args: &str) -> Self {
        let mut command = program(&format!("mock {args}"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        Mock(child, line)
    }

    /// Starts it on a port that is free, as the next one is, and returns the port, too.
    fn start_on_port(args: &str) -> (Self, u16) {
        for _ in 0..20 {
            let port = unused_port();
            let mock = Mock::start(&format!("{args} --port {port}"));
            if mock.1.contains(&format!("127.0.0.1:{port}")) {
                return (mock, port);
            }
        }
        panic!("no two free ports");
    }

    fn url(&self) -> &str {
        self.1.split([' ', '=']).nth(1).unwrap()
    }

    /// Ends it, and returns its log.
    fn end(mut self) -> String {
        self.0.kill().unwrap();
        let mut log = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(url: &str) -> Api {
    let builder = Api::builder().secret(mock_server::SECRET).base_url(url);
    builder.max_retries(0).build().unwrap()
}

#[test]
fn it_prints_the_variables_of_its_clients_and_logs_their_requests() {
    let mock = Mock::start("");
    let [url, secret] = mock.1.trim_end().split(' ').collect::<Vec<_>>()[..] else {
        panic!("{}", mock.1);
    };
    assert_eq!(secret, "BITHUMAN_API_SECRET=mock-secret");
    let api = client(url.strip_prefix("BITHUMAN_API_BASE=").unwrap());
    let wait = Wait::new().interval(ms(5));
    let request = GenerateRequest::new();
    let agent = api.generate_and_wait(&request, &wait).unwrap();
    // The current API.
    assert_eq!(agent.progress, Some(1.0));
    let log = mock.end();
    assert!(log.starts_with("POST /v1/agent/generate 200\n"), "{log}");
}

#[test]
fn it_follows_its_options() {
    let args = "--version 2025 --fail --rate-limit 1 --json --quiet";
    let (mock, port) = Mock::start_on_port(args);
    let variables: Value = serde_json::from_str(&mock.1).unwrap();
    let url = variables["base_url"].as_str().unwrap();
    assert_eq!(url, format!("http://127.0.0.1:{port}"));

    let api = client(url);
    let wait = Wait::new().interval(ms(10));
    let request = GenerateRequest::new();
    let failed = api.generate_and_wait(&request, &wait).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::GenerationFailed, "{failed}");
    // The 2025 API has no progress.
    assert_eq!(failed.last_seen().unwrap().progress, None);
    let limited = api.generate(&request).unwrap_err();
    assert_eq!(limited.kind(), ErrorKind::RateLimited, "{limited}");

    let in_use = run(program(&format!("mock --port {port}")));
    assert_eq!(in_use.code, Some(2));
    assert_eq!(in_use.stderr.lines().count(), 1, "{in_use:?}");
    assert!(
        in_use
            .stderr
            .contains(&format!("port {port} on localhost: "))
    );
    assert_eq!(mock.end(), "");
}

#[test]
fn a_chosen_port_and_the_next_one_are_all_that_its_clients_need() {
    let (mock, port) = Mock::start_on_port("--slow 0.001s");
    let api = client(mock.url());
    let request = GenerateRequest::new().model("essence-2");
    let wait = Wait::new().interval(ms(5));
    let id = api.generate_and_wait(&request, &wait).unwrap().agent_id;
    let path = format!("/v1/agent/{id}/model/download");
    let response = api.call(Method::Get, &path, None).unwrap();
    let url = response["data"]["url"].as_str().unwrap();
    let files = format!("http://127.0.0.1:{}/", port + 1);
    assert!(url.starts_with(&files), "{url}");
    let folder = TempDir::new();
    let file = api.download(&id, folder.path("a.imx"), &Download::new());
    assert_eq!(file.unwrap().length, 65536);

    // The server ends the connection, and so does the relay before it.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(secs(20))).unwrap();
    let head = "GET /v1/me HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 401 "), "{reply}");
    // Other addresses of this computer are closed to its neighbors, too.
    #[cfg(target_os = "linux")]
    for port in [port, port + 1] {
        assert!(TcpStream::connect(("127.0.0.2", port)).is_err());
    }
}

#[test]
fn a_generation_can_be_slow_and_too_expensive() {
    let mock = Mock::start("--slow 1h --balance 600");
    let api = client(mock.url());
    let request = GenerateRequest::new().model("essence-2");
    let id = api.generate(&request).unwrap().agent_id;
    for _ in 0..5 {
        assert_eq!(api.status(&id).unwrap().status, Status::Processing);
    }
    let refused = api.generate(&request).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InsufficientBalance, "{refused}");
}

#[test]
fn an_account_can_have_no_access_and_errors_another_shape() {
    for (shape, code) in [
        ("", Some("PLAN_REQUIRED")),
        ("--error-shape 2025", Some("PLAN_REQUIRED")),
        ("--error-shape older", Some("PLAN_REQUIRED")),
        ("--error-shape gateway", None),
    ] {
        let mock = Mock::start(&format!("--plan free {shape}"));
        let refused = client(mock.url()).status("A1").unwrap_err();
        assert_eq!((refused.http_status(), refused.code()), (Some(403), code));
        // Only the shape of the current API has a page.
        assert_eq!(refused.help_url().is_some(), shape.is_empty(), "{refused}");
    }
}

#[test]
fn a_model_file_can_be_late_slow_and_broken() {
    let args = "--slow 0.001s --file-size 200000 --file-delay 1 --file-pause 0.05s --file-break";
    let mock = Mock::start(&format!("{args} 150000"));
    let api = client(mock.url());
    let wait = Wait::new().interval(ms(5));
    let request = GenerateRequest::new().model("essence-2");
    let agent = api.generate_and_wait(&request, &wait).unwrap();
    let folder = TempDir::new();
    let download = Download::new().interval(ms(5));
    let started = Instant::now();
    let file = api.download(&agent.agent_id, folder.path("a.imx"), &download);
    assert_eq!(file.unwrap().length, 200_000);
    // Three pauses in the first part, one in the rest.
    assert!(started.elapsed() >= ms(200));
    let log = mock.end();
    let asked = |status| log.matches(&format!("/model/download {status}")).count();
    assert_eq!((asked(404), asked(200)), (1, 2), "{log}");
}

#[test]
fn a_prompt_can_ask_for_each_error_of_the_help_text_and_for_no_other() {
    let help = run(program("mock --help")).stdout;
    let codes = help.split_once("(current API): ").unwrap().1;
    let codes = codes.split_once('.').unwrap().0.replace(['[', ']'], "");
    let mut known = Vec::new();
    let mock = Mock::start("");
    let api = client(mock.url());
    let refusal = |prompt: &str| {
        let request = GenerateRequest::new().prompt(prompt);
        let error = api.generate(&request).unwrap_err();
        let details = format!("{:?} {:?}", error.message(), error.details());
        (error.code().unwrap_or_default().to_owned(), details)
    };
    for code in codes
        .split_whitespace()
        .map(|code| code.trim_end_matches(','))
    {
        assert_eq!(refusal(&format!("You [x] are [{code}].")).0, code);
        known.push(code);
    }
    for unknown in ["UNAUTHORIZED", "INTERNAL_ERRO"] {
        let (code, details) = refusal(&format!("[{unknown}]"));
        assert_eq!(code, "VALIDATION_ERROR");
        assert!(details.contains(&known.join(", ")), "{details}");
    }
    let request = GenerateRequest::new().prompt("[] [note] [Note]");
    api.generate(&request).unwrap();
}

#[test]
fn each_example_of_its_help_text_works() {
    let help = run(program("mock --help")).stdout;
    let examples = examples(&help);
    assert_eq!(examples.len(), 3, "{help}");
    for example in examples {
        let mock = Mock::start(example.strip_prefix("bithuman-agent mock").unwrap());
        let error = client(mock.url()).status("A1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{example}: {error}");
    }
}
