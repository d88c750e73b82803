//! The examples, run the way a newcomer runs them.

use std::process::{Command, Output};

use bithuman::{Api, GenerateRequest};

use crate::stand_in::{Form, SECRET, StandIn};
use crate::support::TempFile;

fn run(example: &str, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--example", example, "--"]).args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["BITHUMAN_API_SECRET", "BITHUMAN_API_URL", "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let Output { status, stdout, stderr } = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn to(service: &StandIn) -> [(&'static str, String); 2] {
    [("BITHUMAN_API_URL", service.base_url()), ("BITHUMAN_API_SECRET", SECRET.to_owned())]
}

#[test]
fn without_a_secret_it_is_a_demonstration_and_says_so() {
    for args in [&["--interval", "0.01"][..], &["--interval=0.01", "--prompt", "x", "--video", "https://a/b.mp4"]] {
        let (code, stdout, stderr) = run("create_agent", args, &[]);
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(stdout, "https://stand-in.invalid/A01XMB7113/model.imx\n");
        // cargo may have waited for another one, and said so.
        let lines: Vec<_> = stderr.lines().filter(|line| !line.starts_with("    Blocking")).collect();
        assert!(lines.first().unwrap().contains("stand-in") && lines.last().unwrap().contains("stand-in"), "{stderr}");
        for told in ["idempotency key: ", "agent: A01XMB7113", "processing"] {
            assert!(stderr.contains(told), "{stderr}");
        }
    }
}

#[test]
fn nobody_pays_by_accident() {
    let secret = ("BITHUMAN_API_SECRET", SECRET);
    // The port is closed: a request would end with exit code 1.
    let nowhere = ("BITHUMAN_API_URL", "http://127.0.0.1:1");
    type Usage<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let usages: [Usage; 13] = [
        (&[], &[secret, nowhere], "nothing to create"),
        (&["--model", "auto"], &[secret, nowhere], "nothing to create"),
        (&["--prompt", "x"], &[nowhere], "BITHUMAN_API_SECRET is not"),
        (&["--prompt", "x"], &[("BITHUMAN_API_SECRET", ""), nowhere], "BITHUMAN_API_SECRET"),
        (&["--promt", "x"], &[secret, nowhere], "--promt"),
        (&["--prompt"], &[secret, nowhere], "--prompt needs a value"),
        (&["--prompt", "x", "extra"], &[secret, nowhere], "extra"),
        (&["--prompt", "x", "--image", "no-such.jpg"], &[secret, nowhere], "no such file: no-such.jpg"),
        (&["--prompt", "x", "--interval", "0"], &[secret, nowhere], "--interval"),
        (&["--prompt", "x", "--timeout", "soon"], &[secret, nowhere], "--timeout"),
        (&["--prompt", "x", "--idempotency-key", "a b"], &[secret, nowhere], "idempotency key"),
        (&["--prompt", "x"], &[secret, ("BITHUMAN_API_URL", "http://example.com")], "allow_plain_http"),
        (&["--prompt", "x", "--receipt", "agent.json"], &[], "--receipt needs a service that stays"),
    ];
    for (args, variables, told) in usages {
        let (code, stdout, stderr) = run("create_agent", args, variables);
        let error: Vec<_> =
            stderr.lines().filter(|line| line.starts_with("create_agent: ") || line.starts_with("error: ")).collect();
        assert_eq!((code, stdout.as_str(), error.len()), (Some(2), "", 1), "{args:?}: {stderr}");
        assert!(error[0].contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn the_variables_point_it_at_any_server() {
    let service = StandIn::start(Form::Of2025);
    let variables = to(&service);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();

    let (code, stdout, stderr) = run("create_agent", &["--prompt", "x", "--interval", "0.01", "--json"], &variables);
    assert_eq!(code, Some(0), "{stderr}");
    let agent: bithuman::Agent = bithuman::serde_json::from_str(&stdout).unwrap();
    assert!(agent.is_ready());
    assert_eq!(service.billed(), 1);
    assert!(!stderr.contains("stand-in"), "{stderr}");

    let (code, stdout, stderr) = run("status", &[&agent.agent_id], &variables);
    assert_eq!((code, stdout), (Some(0), format!("{}\n", agent.model_url.unwrap())), "{stderr}");
}

#[test]
fn any_end_but_ready_tells_how_to_go_on() {
    let service = StandIn::start(Form::Of2026);
    let variables = to(&service);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let go_on = |id: &str| format!("cargo run --example status -- {id} --wait\n");

    let (code, stdout, stderr) = run("create_agent", &["--prompt", "[fail]", "--interval", "0.01"], &variables);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("the prompt asked for a failure") && stderr.ends_with(&go_on("A01XMB7113")), "{stderr}");

    let args = ["--prompt", "x", "--agent-id", "mine", "--interval", "9", "--timeout", "0.2"];
    let (code, stdout, stderr) = run("create_agent", &args, &variables);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("agent mine: not ready after") && stderr.ends_with(&go_on("mine")), "{stderr}");

    let (code, stdout, stderr) = run("status", &["mine", "--wait", "--interval", "0.01"], &variables);
    assert_eq!((code, stdout.as_str()), (Some(0), "https://stand-in.invalid/mine/model.imx\n"), "{stderr}");
    let (code, _, stderr) = run("status", &["nobody"], &variables);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("status: agent nobody: the service knows no such agent (404 NOT_FOUND)"), "{stderr}");
}

#[test]
fn with_a_receipt_the_same_command_pays_once() {
    let service = StandIn::start(Form::Of2026);
    let variables = to(&service);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let receipt = TempFile::new(b"");
    std::fs::remove_file(&receipt.0).unwrap();
    let receipt = receipt.0.to_str().unwrap();
    let create = |prompt: &str, interval: &str, more: &[&str]| {
        let args = [&["--prompt", prompt, "--receipt", receipt, "--interval", interval], more].concat();
        run("create_agent", &args, &variables)
    };

    // Paid for before, and its program ended.
    let api = Api::builder().secret(SECRET).base_url(service.base_url()).build().unwrap();
    api.generate_once(receipt, &GenerateRequest::new().prompt("x")).unwrap();
    let (code, stdout, stderr) = create("x", "9", &["--timeout", "0.2"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("to go on with this agent: the same command again, or cargo run"), "{stderr}");
    for again in [false, true] {
        let (code, stdout, stderr) = create("x", "0.01", &[]);
        assert_eq!((code, stdout.as_str()), (Some(0), "https://stand-in.invalid/A01XMB7113/model.imx\n"), "{stderr}");
        assert_eq!(!stderr.contains("generating"), again, "{stderr}");
    }
    let (code, stdout, stderr) = create("y", "0.01", &[]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains(&format!("{receipt} is the receipt of a request with another prompt")), "{stderr}");
    assert_eq!(service.billed(), 1);

    std::fs::remove_file(receipt).unwrap();
    let (code, stdout, stderr) = create("[fail]", "0.01", &["--json"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(bithuman::serde_json::from_str::<bithuman::Agent>(&stdout).unwrap().is_failed(), "{stdout}");
    assert!(stderr.contains("the prompt asked for a failure") && stderr.contains("pays for another try"), "{stderr}");
}
