//! How a command ends: its exit code, its result and its error, as text and as JSON.

use std::fs;

use crate::harness::{ID, Server, TempDir, agent, gateway, ms, replies, secs, service_error};
use crate::harness::{Reply, SECRET, accepted, act, status};
use crate::mock_server::{ApiVersion::Current, MockServer, Settings};
use crate::{Ended, program, run, run_in, with_mock, with_url};
use bithuman::serde_json::json;

const CREATE: &str = "create --prompt x --interval 0.01";

/// Runs the command as it is and with `--json`, against these replies, and returns both ends.
fn ends(args: &str, script: &[Reply]) -> [Ended; 2] {
    ["", "--json"].map(|json| {
        let script = script.iter().map(|reply| reply.clone().close());
        let server = Server::new(replies(script));
        run(with_url(&format!("{args} {json}"), &server.url))
    })
}

/// Each reason for an end, as the exit code that a script sees.
#[test]
fn the_exit_code_says_what_to_do_next_and_the_json_says_the_same() {
    let failed = agent(json!({"status": "failed", "error_message": "no face"}));
    let limited = service_error(429, "RATE_LIMITED").header("retry-after", "9999");
    let plain = |status, code| vec![service_error(status, code)];
    let wait = &format!("wait {ID} --interval 0.01");
    let in_vain = &format!("wait {ID} --interval 9 --timeout 0.1");
    let download = &format!("download {ID} absent.imx");
    let status_of = &format!("status {ID}");
    let rows = [
        (1, "Refunded", CREATE, vec![accepted(), failed.clone()]),
        (1, "", wait, vec![failed]),
        (1, "NotBilled", CREATE, plain(422, "IMAGE_FACE_UNSUITABLE")),
        (3, "Unknown", CREATE, plain(500, "INTERNAL_ERROR")),
        (3, "Unknown", CREATE, vec![gateway(502)]),
        (
            3,
            "Unknown",
            CREATE,
            vec![Reply::json(200, json!({"ok": 1}))],
        ),
        (66, "", status_of, plain(404, "AGENT_NOT_FOUND")),
        (66, "", wait, plain(410, "AGENT_DELETED")),
        (69, "", status_of, vec![limited]),
        (75, "", in_vain, vec![status("generating")]),
        (
            75,
            "Billed",
            CREATE,
            vec![accepted(), service_error(401, "UNAUTHORIZED")],
        ),
        (
            75,
            "Billed",
            CREATE,
            vec![accepted(), plain(410, "X")[0].clone()],
        ),
        (
            3,
            "Unknown",
            "call POST /v1/x {}",
            plain(500, "INTERNAL_ERROR"),
        ),
        (1, "NotBilled", "call GET /v1/x", plain(404, "NOT_FOUND")),
        (1, "NotBilled", CREATE, plain(404, "NOT_FOUND")),
        (66, "NotBilled", "call GET /v1/agent/A1", plain(404, "X")),
        (1, "", download, plain(400, "MODEL_NOT_DOWNLOADABLE")),
        (66, "", download, plain(410, "AGENT_DELETED")),
        (77, "", download, plain(403, "PLAN_REQUIRED")),
        (77, "NotBilled", CREATE, plain(401, "UNAUTHORIZED")),
        (77, "NotBilled", CREATE, plain(402, "INSUFFICIENT_BALANCE")),
        (77, "", status_of, plain(403, "PLAN_REQUIRED")),
    ];
    for (code, billing, args, script) in rows {
        let [text, json] = ends(args, &script);
        assert_eq!(
            (text.code, &*text.stdout),
            (Some(code), ""),
            "{args}: {text:?}"
        );
        let object = json.failure();
        assert_eq!(object["exit_code"], code, "{json:?}");
        let expected = Some(billing).filter(|billing| !billing.is_empty());
        assert_eq!(object["billing"].as_str(), expected, "{json:?}");
    }
}

#[test]
fn a_status_that_is_an_end_is_the_agent_and_a_failure() {
    for (code, word, kind) in [
        (1, "failed", "GenerationFailed"),
        (66, "deleted", "NotFound"),
    ] {
        let [text, json] = ends(
            &format!("status {ID}"),
            &[agent(json!({"status": word, "error_message": "no face"}))],
        );
        assert!(text.stdout.starts_with(word), "{text:?}");
        let json = json.json();
        assert_eq!(text.code, Some(code));
        assert_eq!(
            (&json["exit_code"], &json["kind"]),
            (&json!(code), &json!(kind))
        );
        assert_eq!(
            (&json["status"], &json["agent_id"]),
            (&json!(word), &json!(ID))
        );
        assert!(json["error"].as_str().unwrap().contains(word), "{json}");
    }
}

#[test]
fn the_json_of_a_failure_has_what_is_known_and_nothing_else() {
    let refused = service_error(401, "UNAUTHORIZED");
    let failed = agent(json!({"status": "failed"}));
    let always = ["error", "exit_code", "kind"];
    for (args, script, more) in [
        (
            CREATE,
            vec![refused.clone()],
            vec!["billing", "code", "http_status", "idempotency_key"],
        ),
        (
            CREATE,
            vec![accepted(), failed],
            vec!["agent", "agent_id", "billing", "idempotency_key"],
        ),
        (
            "status A1",
            vec![refused],
            vec!["agent_id", "code", "http_status"],
        ),
        (
            "call GET /v1/me",
            vec![gateway(404)],
            vec!["billing", "http_status"],
        ),
        ("status a/b", vec![], vec![]),
        ("create", vec![], vec![]),
    ] {
        let [_, json] = ends(args, &script);
        let mut expected = [&always[..], &more].concat();
        expected.sort_unstable();
        let object = json.failure();
        let names: Vec<_> = object.as_object().unwrap().keys().collect();
        assert_eq!(names, expected, "{json:?}");
    }
}

/// The commands below the line say what to do; neither the key nor the agent is printed twice.
#[test]
fn what_may_be_billed_is_named_once_and_the_commands_say_what_to_do() {
    let named = Reply::json(
        500,
        json!({"error": {"code": "INTERNAL_ERROR"}, "agent_id": ID}),
    );
    let no_longer = vec![accepted(), service_error(401, "UNAUTHORIZED")];
    let list = "bithuman-agent call GET '/v1/agents?limit=5'".to_owned();
    let status = format!("bithuman-agent status {ID}");
    let wait = format!("bithuman-agent wait {ID}");
    let again = "the same command again".to_owned();
    let silent = Reply::json(200, json!({"ok": 1}));
    for (receipt, script, steps) in [
        (false, vec![gateway(502)], vec![("look", &list)]),
        // The service would repeat its response.
        (false, vec![silent], vec![("look", &list)]),
        (false, vec![named], vec![("look", &status)]),
        (false, no_longer.clone(), vec![("resume", &wait)]),
        // The line says how to complete the receipt.
        (true, vec![gateway(502)], vec![("look", &list)]),
        (true, no_longer, vec![("resume", &again)]),
    ] {
        for options in ["", "--quiet", "--quiet --json"] {
            let folder = TempDir::new();
            let script = script.iter().map(|reply| reply.clone().close());
            let server = Server::new(replies(script));
            let receipt = if receipt { "--receipt a.receipt" } else { "" };
            // The commands name the options that they need.
            let args = format!("{CREATE} {receipt} --key key-1 {options}");
            let mut command = with_url(&args, "unused");
            fs::write(folder.path("s"), SECRET).unwrap();
            command.args(["--base-url", &server.url, "--secret-file", "s"]);
            let ended = run_in(&folder, command);
            let needed = format!(" --base-url {} --secret-file s", server.url);
            for step in ["look", "retry", "resume"] {
                let found = steps.iter().find(|(name, _)| *name == step);
                let expected = found.map(|(_, command)| match *command == &again {
                    true => again.clone(),
                    false => format!("{command}{needed}"),
                });
                let line = format!("to {step}: ");
                assert_eq!(
                    ended.lines(&line),
                    Vec::from_iter(expected.as_deref()),
                    "{ended:?}"
                );
                if options.contains("json") {
                    assert_eq!(ended.failure()[step].as_str(), expected.as_deref());
                    assert_eq!(ended.failure()["idempotency_key"], "key-1");
                }
            }
            // Before the request, or else with the error.
            assert_eq!(ended.lines("idempotency key: "), ["key-1"], "{ended:?}");
            let line = ended.lines("error: ")[0];
            assert!(!line.contains("retry") || line.ends_with("this agent before retrying"));
            assert!(
                !line.contains("call ") && !line.contains(" again"),
                "{line}"
            );
        }
    }
}

#[test]
fn what_cannot_be_reached_is_69_and_nothing_is_billed() {
    let server = Server::new([act(|connection| {
        connection.send("This is no TLS.");
        connection.hold();
    })]);
    let url = server.url.replace("http:", "https:");
    let ended = run(with_url(&format!("{CREATE} --json"), &url));
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert_eq!(ended.failure()["billing"], "NotBilled");
    assert_eq!(ended.failure()["kind"], "Tls");
}

#[test]
fn an_agent_that_is_ready_is_the_result() {
    let service = MockServer::start(Current);
    let ended = run(with_mock(CREATE, &service));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "A01XMB7113\n"),
        "{ended:?}"
    );
    let ended = run(with_mock(&format!("{CREATE} --json"), &service));
    assert_eq!(ended.json()["agent_id"], "A02XMB7113");
    assert_eq!(ended.json()["status"], "ready");

    for (args, line) in [
        ("wait A01XMB7113", "A01XMB7113\n"),
        ("status A01XMB7113", "ready\n"),
        ("create --prompt [fail] --no-wait", "A03XMB7113\n"),
        ("status A03XMB7113", "processing, 0%, payment\n"),
        ("status A03XMB7113", "generating, 10%, persona\n"),
    ] {
        let ended = run(with_mock(args, &service));
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(0), line),
            "{args}: {ended:?}"
        );
    }
    let ended = run(with_mock("status A03XMB7113", &service));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(1), "failed: this failure was requested\n")
    );
    let ended = run(with_mock(
        "create --prompt x --no-wait --json --key key-2",
        &service,
    ));
    assert_eq!(ended.json()["idempotency_key"], "key-2");
}

#[test]
fn the_response_to_a_call_is_the_result() {
    let service = MockServer::start(Settings {
        balance: 7,
        ..Current.into()
    });
    let ended = run(with_mock("call get /v1/me --json", &service));
    assert_eq!(ended.json()["data"]["credit_balance"], 7, "{ended:?}");
    let ended = run(with_mock("call GET /v1/me", &service));
    assert!(
        ended.stdout.contains("\n    \"credit_balance\": 7"),
        "{ended:?}"
    );

    let server = Server::new(replies([Reply::new(204, "").close()]));
    let ended = run(with_url("call POST /v1/x?y=z {\"a\":1}", &server.url));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "null\n"),
        "{ended:?}"
    );
    let request = &server.requests()[0];
    let sent = (&*request.method, &*request.target, request.json());
    assert_eq!(sent, ("POST", "/v1/x?y=z", json!({"a": 1})));
}

#[test]
fn a_wait_can_be_for_a_model() {
    let agent = agent(json!({"status": "completed", "supported_models": ["essence-2"]}));
    let server = Server::new(replies([agent.close()]));
    let ended = run(with_url(
        &format!("wait {ID} --model essence-2"),
        &server.url,
    ));
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{ID}\n")));
}

#[test]
fn every_option_is_a_field_of_the_request() {
    let folder = TempDir::new();
    fs::write(folder.path("prompt.txt"), "From a file.\n").unwrap();
    fs::write(folder.path("face.jpg"), "abc").unwrap();
    let server = Server::new(replies([accepted().close()]));
    let mut command = with_url(
        "create --prompt @prompt.txt --image face.jpg --audio https://a.example/b.mp3 --video \
         https://a.example/b.mp4 --model essence-2 --aspect-ratio 9:16 --framing portrait \
         --transparency --field a={\"b\":1} --field c=null --key key-1 --no-wait",
        &server.url,
    );
    command.current_dir(&folder.0);
    assert_eq!(run(command).code, Some(0));
    let request = &server.requests()[0];
    assert_eq!(request.header("idempotency-key"), Some("key-1"));
    assert_eq!(
        request.json(),
        json!({"prompt": "From a file.", "image": "YWJj", "audio": "https://a.example/b.mp3",
            "video": "https://a.example/b.mp4", "model": "essence-2", "aspect_ratio": "9:16",
            "framing": "portrait", "transparency": true, "a": {"b": 1}, "c": null})
    );
}

#[test]
fn with_a_receipt_the_same_command_pays_once() {
    let service = MockServer::start(Settings {
        generation_time: Some(secs(3600)),
        ..Current.into()
    });
    let folder = TempDir::new();
    let create = |more: &str| {
        let args = format!("create --prompt x --receipt agent.receipt {more}");
        let mut command = with_mock(&args, &service);
        command.current_dir(&folder.0);
        run(command)
    };
    for _ in 0..2 {
        assert_eq!(create("--no-wait").stdout, "A01XMB7113\n");
        let ended = create("--timeout 0.1");
        assert_eq!(ended.code, Some(75), "{ended:?}");
        assert_eq!(ended.lines("to resume: "), ["the same command again"]);
        assert!(!ended.lines("error: ")[0].contains("again"), "{ended:?}");
    }
    assert_eq!(service.billed(), 1);
    // For another request.
    let ended = create("--model essence-2");
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn a_finished_receipt_needs_no_secret() {
    let service = MockServer::start(Settings {
        generation_time: Some(ms(1)),
        ..Current.into()
    });
    let folder = TempDir::new();
    let args = format!("{CREATE} --receipt agent.receipt");
    let command = with_mock(&args, &service);
    assert_eq!(run_in(&folder, command).stdout, "A01XMB7113\n");
    let mut command = program(&args);
    command.env("BITHUMAN_API_BASE", service.base_url());
    let ended = run_in(&folder, command);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "A01XMB7113\n"),
        "{ended:?}"
    );
}
