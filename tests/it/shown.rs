//! What people see: every error on its line, the events of a job, and the public API.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it shown` writes the golden files again. Then read every line
//! that changed. The lines about settings and input are in settings.rs.

use std::collections::BTreeSet;
use std::{env, fs};

use bithuman::serde_json;
use bithuman::{Api, ApiBuilder, Download, Error, Event, GenerateRequest, Media, Method, Wait};

use crate::downloads::{Odd, broken, whole};
use crate::harness::*;
use crate::layout::sources;

/// Compares a text with its file, or writes the file.
pub fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/tests/it/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if env::var_os("UPDATE_GOLDEN").is_some_and(|update| !update.is_empty()) {
        fs::write(&path, text).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap();
    for (now, known) in text.lines().zip(known.lines()) {
        assert_eq!(now, known, "{name}: see the top of shown.rs");
    }
    assert_eq!(text.lines().count(), known.lines().count(), "{name}");
}

/// A heading for each situation, a line for each error, and below it what a failing `main` adds.
#[derive(Default)]
pub struct Golden {
    pub text: String,
    kinds: BTreeSet<String>,
}

impl Golden {
    pub fn add(&mut self, heading: &str, errors: impl IntoIterator<Item = Error>) {
        self.text += &format!("\n# {heading}\n");
        for error in errors {
            let kind = format!("{:?}", error.kind());
            let (line, with_causes) = (error.to_string(), format!("{error:?}"));
            let causes = with_causes.strip_prefix(&line).unwrap();
            let facts = format!("{line}\n    {kind}, {:?}{causes}\n", error.billing());
            self.text += &stable(&facts);
            assert_short(&error, &line);
            self.kinds.insert(kind);
        }
    }
}

/// A line is short where the service adds nothing: the ids, keys, paths, hosts and URLs aside.
fn assert_short(error: &Error, line: &str) {
    let said = [error.message(), error.details(), error.help_url()];
    let is_ours = said == [None; 3] && error.last_seen().is_none();
    let is_name = |word: &&str| {
        let is_key = |key| word.trim_matches(['(', ')', ',', ';']) == key;
        ["/", "\\", "{", "127.0.0.1", ".invalid", ID]
            .iter()
            .any(|part| word.contains(part))
            || error.idempotency_key().is_some_and(is_key)
    };
    let words: Vec<_> = line.split(' ').filter(|word| !is_name(word)).collect();
    let length = words.join(" ").chars().count();
    assert!(!is_ours || length <= 160, "{length} characters: {line}");
}

/// The text without what differs from run to run.
fn stable(text: &str) -> String {
    // What begins so, and ends before one of these, is replaced.
    let rows = [
        ("127.0.0.1:", ": )?/;\n", "127.0.0.1:PORT"),
        (" after ", ";\n", " after N of M"),
        ("the deadline is in ", ";\n", "the deadline is in T"),
        ("bithuman-", " ;\n", "KEY"),
        (concat!(env!("CARGO_TARGET_TMPDIR"), "/"), "/", "DIR"),
        ("address information: ", "]", "address information: .."),
        ("[cause: Broken pipe", "]", "[cause: .."),
        ("[cause: Connection reset", "]", "[cause: .."),
        ("[cause: Peer disconnected", "]", "[cause: .."),
    ];
    let mut text = text.to_owned();
    for (start, ends, replacement) in rows {
        let mut parts = text.split(start);
        let mut replaced = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c| ends.contains(c)).unwrap_or(part.len());
            replaced = replaced + replacement + &part[end..];
        }
        text = replaced;
    }
    text
}

/// A request that says which key it has.
fn request() -> GenerateRequest {
    small().idempotency_key("key-1")
}

/// The errors of generate, status and wait.
fn all(builder: ApiBuilder) -> Vec<Error> {
    let api = builder.build().unwrap();
    let wait = Wait::new().timeout(secs(3600)).outage(secs(60));
    let generate = api.generate(&request()).err();
    let others = [api.status(ID).err(), api.wait(ID, &wait).err()];
    generate
        .into_iter()
        .chain(others.into_iter().flatten())
        .collect()
}

/// A status and a body in JSON, or the title of a page; or what is said of an agent.
fn reply_from(text: &str) -> Reply {
    let Some((http, body)) = text.split_once(' ').filter(|_| !text.starts_with('{')) else {
        return agent(serde_json::from_str(text).unwrap());
    };
    let page = format!("<html><head><title>{body}</title></head></html>");
    let body = if body.starts_with('{') { body } else { &page };
    let reply = Reply::new(http.parse().unwrap(), body);
    match http {
        "308" => reply.header("location", "https://www.bithuman.ai/v1/agent"),
        "429" => reply
            .header("retry-after", "7200")
            .header("x-request-id", "req-42"),
        _ => reply,
    }
}

/// What the service says to every request.
const REPLIES: &str = r#"
    401 {"error": "Invalid API secret", "code": "UNAUTHORIZED", "details": "Check your API secret"}
    401 {"error": {"code": "UNAUTHORIZED"}}
    403 {"error": {"code": "PLAN_REQUIRED", "message": "Upgrade", "upgrade_url": "https://e/plan"}}
    403 {"error": {"code": "ACCOUNT_SUSPENDED"}}
    403 Forbidden
    402 {"error": {"code": "INSUFFICIENT_BALANCE", "message": "12 left", "topup_url": "https://e/pay"}}
    402 {"error": {"code": "INSUFFICIENT_BALANCE", "required": 500, "balance": 12}}
    402 {"error": {"code": "INSUFFICIENT_BALANCE", "required": 500, "balance": 12}, "status_code": 402}
    403 {"error": {"code": "AGENT_LIMIT_REACHED", "message": "7 of 7", "upgrade_url": "https://e/plan"}}
    404 {"success": false, "error": "AGENT_NOT_FOUND"}
    404 Not Found
    400 {"error": "Invalid image", "code": "VALIDATION_ERROR", "details": {"field": "image"}}
    410 {"error": {"code": "AGENT_DELETED"}}
    413 {"error": {"code": "FILE_TOO_LARGE", "message": "The image is larger than 10 MB"}}
    413 Request Entity Too Large
    422 {"error": {"code": "MODEL_SUBJECT_MISMATCH", "message": "essence-2 needs a person"}}
    429 {"error": {"code": "RATE_LIMITED", "message": "Slow down"}}
    200 {"success": false, "error": "Out of luck"}
    308 Moved
    500 {"error": {"code": "INTERNAL_ERROR"}}
    500 {"error": {"code": "INTERNAL_ERROR"}, "agent_id": "A91XMB7113"}
    502 502 Bad Gateway
    503 {"success": false, "error": "NO_AVAILABLE_WORKERS"}
    503 {"error": {"code": "ETIMEDOUT"}}
    600 Out of range
    200 Welcome
    200 {"success": true}
    200 {"data": {"status": "ready", "agent_id": "A0"}}
    200 {"agent_id": 12"#;

fn add_the_network(golden: &mut Golden) {
    let at = |url: &str| api(url).allow_plain_http(true);
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"data";
    let wide = Reply::new(200, "").header("x", "x".repeat(33_000));
    let many = (0..130).fold(Reply::new(200, ""), |reply, n| {
        reply.header(&format!("x{n}"), "x")
    });
    let acts = [
        (
            "the connection breaks before the response",
            act(|c| c.all_but_the_last_byte()),
        ),
        ("no response in time", act(Connection::hold)),
        (
            "half a response in time",
            act(move |c| {
                c.request();
                c.send(half);
                c.hold();
            }),
        ),
        ("not HTTP", reply("SSH-2.0\r\n\r\n")),
        ("a head that is too large", reply(wide)),
        ("too many headers", reply(many)),
    ];
    let refused = format!("http://127.0.0.1:{}", unused_port());
    golden.add("nobody listens", all(at(&refused)));
    // No lookup of a label this long leaves the computer.
    let nowhere = format!("http://{}.invalid", "a".repeat(64));
    golden.add("no such host", all(at(&nowhere)));
    for (heading, act) in acts {
        let server = Server::new([act]);
        let mut builder = at(&server.url);
        if heading.ends_with("in time") {
            builder = builder.response_timeout(ms(250));
        }
        golden.add(heading, all(builder));
    }
    let large = large().idempotency_key("key-1");
    for (heading, act) in [
        ("the upload breaks", act(|c| drop(c.head()))),
        (
            "the upload is not read",
            act(|c| {
                c.head();
                c.stall();
            }),
        ),
    ] {
        let server = Server::new([act]);
        let api = at(&server.url).response_timeout(ms(250)).build().unwrap();
        golden.add(heading, api.generate(&large).err());
    }
    for http in [407, 503] {
        let proxy = Server::new([reply(Reply::new(http, ""))]);
        let builder = at("http://service.test").proxy(&*proxy.url);
        golden.add(&format!("a {http} of the proxy"), all(builder));
    }
    let plain = Server::new([act(|c| c.send("HTTP/1.1 400 Bad Request\r\n\r\n"))]);
    golden.add(
        "https where there is none",
        all(at(&plain.url.replace("http", "https"))),
    );
}

/// What the service says to a call of another endpoint and to an upload.
const OTHERS: &str = r#"
    404 {"error": {"code": "NOT_FOUND", "message": "No such endpoint"}}
    404 Not Found
    413 {"error": {"code": "FILE_TOO_LARGE", "message": "The image is larger than 10 MB"}}
    502 502 Bad Gateway
    503 {"error": {"code": "SERVICE_UNAVAILABLE"}}
    200 Welcome
    200 {"success": true, "data": {"#;

fn add_the_other_endpoints(golden: &mut Golden) {
    let upload = |api: &Api, media| api.upload("a.jpg", media).err();
    for row in OTHERS.trim().lines().map(str::trim) {
        let api = Service::new([reply_from(row)]).api();
        let [get, post] = [Method::Get, Method::Post].map(|m| api.call(m, "/v1/me", None).err());
        let uploaded = upload(&api, Media::bytes(*b"a"));
        golden.add(row, [get, post, uploaded].into_iter().flatten());
    }
    let api = api("http://127.0.0.1:1").build().unwrap();
    let body = serde_json::json!({});
    let refused = [
        api.call(Method::Get, "v1/me", None),
        api.call(Method::Get, "/v1/../me", None),
        api.call(Method::Get, "/v1/m e", None),
        api.call(Method::Get, "/v1/me", Some(&body)),
        api.call(Method::Post, "/v1/agent/generate", Some(&body)),
    ];
    golden.add(
        "a call that is refused",
        refused.into_iter().filter_map(Result::err),
    );
    golden.add(
        "an upload of no file",
        upload(&api, Media::file("portrait.jpg")),
    );
    let server = Server::new([act(|c| drop(c.head()))]);
    let api = server.builder().build().unwrap();
    golden.add(
        "the upload breaks twice",
        upload(&api, Media::bytes(vec![7; 10 << 20])),
    );
}

/// What the service says of the agent, in turn. The last of them stays.
const WAITS: &str = r#"
    it failed => {"status": "failed", "error_message": "The picture has no face in it"}
    it failed without a reason => {"status": "failed"}
    it was deleted => {"status": "deleted"}
    a model failed => {"status": "ready", "model_status": {"essence-2": {"state": "failed", "reason": "No face"}}}
    an agent failed with its model => {"status": "failed", "model_status": {"essence-2": {"state": "failed"}}}
    time runs out for a model => {"status": "completed", "model_status": {"essence-2": {"state": "pending"}}}
    time runs out for a model of a failed agent => {"status": "failed", "model_status": {"essence-2": {"state": "pending"}}}
    time runs out for a model that is not there => {"status": "ready", "supported_models": ["essence-1"]}
    time runs out => {"status": "generating", "progress": 0.35, "current_step": "lip_sync"}
    time runs out at a person's step => {"status": "x", "current_step": "awaiting_face_marking"}
    time runs out at an unknown word => {"status": "on_hold", "error_message": "GPU lost"}
    time runs out in an outage => {"status": "generating"} ; 502 Bad Gateway
    time runs out and nothing was good => 502 Bad Gateway
    an outage => {"status": "generating"} ; 502 Bad Gateway
    the service asks for too long a wait => 429 Slow down
    the secret is withdrawn => {"status": "generating"} ; 401 {"code": "UNAUTHORIZED"}
    the agent is gone => {"status": "generating"} ; 404 {"code": "NOT_FOUND"}"#;

fn add_waiting(golden: &mut Golden) {
    for (heading, script) in table(WAITS) {
        let service = Service::new(script.split(" ; ").map(reply_from));
        let outage = if heading.starts_with("time") {
            7200
        } else {
            900
        };
        let mut wait = Wait::new().timeout(secs(3600)).outage(secs(outage));
        if heading.contains("model") {
            wait = wait.model("essence-2");
        }
        golden.add(heading, service.api().wait(ID, &wait).err());
    }
    let job = |builder: ApiBuilder, time, shut_down_after: &'static str| {
        let api = builder.build().unwrap();
        let clone = api.clone();
        let api = api.on_event(move |event| {
            let is_it = format!("{event:?}").starts_with(shut_down_after);
            if is_it && !shut_down_after.is_empty() {
                clone.shutdown();
            }
        });
        api.generate_and_wait(&request(), &Wait::new().timeout(time))
            .err()
    };
    let service = Service::new([accepted(), status("generating")]);
    let held = Server::new([act(Connection::hold)]);
    golden.add(
        "a job's time runs out",
        job(service.builder(), secs(60), ""),
    );
    golden.add(
        "a job's time runs out at once",
        job(held.builder(), ms(50), ""),
    );
    golden.add(
        "shut down while sending",
        job(held.builder(), secs(60), "Uploading"),
    );
    let service = Service::new([accepted(), status("generating")]);
    golden.add(
        "shut down while polling",
        job(service.builder(), secs(60), "Polled"),
    );
    let api = service.api();
    api.shutdown();
    let errors = [api.generate(&request()).err(), api.status(ID).err()];
    golden.add("shut down before", errors.into_iter().flatten());
}

/// What the service says to a download, and then the storage. The last of them stays.
const DOWNLOADS: &str = r#"
    the model has no file => 400 {"error": {"code": "MODEL_NOT_DOWNLOADABLE", "message": "No file"}}
    the agent lacks the model => 409 {"error": {"code": "MODEL_NOT_GENERATED"}}
    the file cannot be built => 500 {"error": {"code": "X", "reason": "DEVICE_BUILD_FAILED"}}
    the agent was deleted => 410 {"error": {"code": "AGENT_DELETED"}}
    no such agent => 404 {"error": {"code": "AGENT_NOT_FOUND"}}
    a plan without downloads => 403 {"error": {"code": "PLAN_REQUIRED", "upgrade_url": "https://e/plan"}}
    the file is not there in time => 404 {"error": {"code": "MODEL_ARTIFACT_NOT_READY"}}
    no URL => 200 {"success": true, "data": {}}
    another agent => 200 {"data": {"code": "A0", "url": "https://storage.test/file"}}
    no usable URL => 200 {"data": {"url": "models/a.imx"}}
    a URL with a user => 200 {"data": {"url": "https://user:password@storage.test/file"}}
    a URL to plain http => 200 {"data": {"url": "http://storage.test/file?signature=1"}}
    a redirect => 308 Moved
    an expired URL => URL ; 403 Forbidden
    a storage that fails => URL ; 503 Busy
    a storage without the file => URL ; 206 Part
    a storage that says no => URL ; 451 No"#;

fn add_downloads(golden: &mut Golden) {
    for (heading, turns) in table(DOWNLOADS) {
        let odd = Odd::new();
        let run = match turns.strip_prefix("URL ; ") {
            Some(storage) => odd.get([reply_from(storage).into()]),
            None => odd.run([reply_from(turns).into()]),
        };
        golden.add(heading, run.result.err());
    }
    let odd = Odd::new();
    let moved = Reply::new(302, "").header("location", "http://storage.test/x?signature=1");
    for (heading, turns) in [
        ("the storage redirects to plain http", vec![moved.into()]),
        ("the storage sends a page", vec![gateway(200).into()]),
        (
            "the storage breaks for ever",
            vec![broken(whole(), 10), Does::Reset],
        ),
    ] {
        golden.add(heading, odd.get(turns).result.err());
    }
    let api = odd.script.builder(false).build().unwrap();
    let download = Download::new().timeout(ms(150));
    let run = odd.play([odd.offer()], [Does::Stall(Vec::new())], &download);
    golden.add("the time of a download runs out", run.result.err());
    let at = |path: &str| {
        let path = odd.dir.path(path);
        api.download(ID, path, &Download::new()).err()
    };
    golden.add("a path that is a folder", at(""));
    golden.add("a path without its folder", at("missing/agent.imx"));
    golden.text = golden.text.replace(&odd.dir.0.display().to_string(), "DIR");
}

#[test]
#[cfg_attr(
    not(all(target_os = "linux", feature = "rustls")),
    ignore = "the golden file is that of Linux and rustls"
)]
fn every_error_says_on_one_line_what_failed_and_what_to_do() {
    let mut golden = Golden::default();
    for row in REPLIES.trim().lines().map(str::trim) {
        let reply = reply_from(row);
        let server = Server::new([act(move |c| c.reply_to_all(reply.clone()))]);
        golden.add(row, all(server.builder().max_retries(0)));
    }
    add_the_network(&mut golden);
    add_waiting(&mut golden);
    add_the_other_endpoints(&mut golden);
    let local = || api("http://127.0.0.1:1");
    golden.add(
        "no secret",
        all(Api::builder().base_url("http://127.0.0.1:1")),
    );
    golden.add(
        "a proxy to localhost",
        all(local().proxy("http://proxy:3128")),
    );
    let service = Service::new([service_error(404, "AGENT_NOT_FOUND")]);
    let regenerated = service.api().generate(&request().agent_id(ID));
    golden.add("an agent to regenerate is unknown", regenerated.err());
    for path in ["portrait.jpg", "Cargo.toml/portrait.jpg"] {
        let request = request().image(Media::file(path));
        golden.add("a file", local().build().unwrap().generate(&request).err());
    }
    add_downloads(&mut golden);
    assert_golden("errors.txt", golden.text.trim_start());
    // All kinds but that of receipts, whose errors are in receipts.rs.
    assert_eq!(golden.kinds.len(), 16, "{:?}", golden.kinds);
}

#[test]
fn the_events_of_a_whole_job_come_in_order() {
    let service = Service::new([
        service_error(503, "NO_AVAILABLE_WORKERS"),
        accepted().header("idempotency-replayed", "true"),
        status("processing"),
        gateway(502),
        status("ready"),
    ]);
    let events = Events::default();
    let api = events.record(service.builder().max_retries(1));
    let request = request().image(Media::bytes(vec![7; 600_000]));
    api.generate_and_wait(&request, &Wait::new()).unwrap();

    let length = service.requests()[0].content_length() as u64;
    let mut seen = Vec::new();
    let mut last = 0;
    for event in events.all() {
        let text = match &event {
            Event::Uploading { sent, total } => {
                assert!(*sent > last && sent <= total && *total == length);
                last = if sent == total { 0 } else { *sent };
                format!("uploading {}", sent == total)
            }
            Event::Accepted {
                agent_id,
                idempotency_key,
                replayed,
                ..
            } => {
                format!("accepted {agent_id} {idempotency_key} {replayed}")
            }
            Event::Polled { agent } => format!("polled {}", agent.status),
            Event::Retrying {
                attempts, reason, ..
            } => {
                format!("retrying {attempts} {}", reason.split_once(": ").unwrap().1)
            }
            _ => panic!("{event:?}"),
        };
        seen.push(text);
    }
    seen.dedup();
    let expected = "
        uploading false
        uploading true
        retrying 1 the service failed (503 NO_AVAILABLE_WORKERS): Something is wrong
        uploading false
        uploading true
        accepted A91XMB7113 key-1 true
        polled processing
        retrying 1 agent A91XMB7113: the service failed (502): A gateway's title
        polled ready";
    let expected: Vec<_> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_reason_of_a_retry_begins_with_the_call() {
    let busy = service_error(429, "RATE_LIMITED");
    let replies = [accepted(), status("ready"), status("ready")];
    let service = Service::new(replies.into_iter().flat_map(|reply| [busy.clone(), reply]));
    let events = Events::default();
    let api = events.record(service.builder().max_retries(1));
    api.generate(&request()).unwrap();
    api.status(ID).unwrap();
    api.wait(ID, &Wait::new()).unwrap();
    let mut calls = Vec::new();
    for event in events.all() {
        if let Event::Retrying { reason, .. } = event {
            calls.push(reason.split(':').next().unwrap().to_owned());
        }
    }
    assert_eq!(calls, ["generate", "status", "wait"]);
}

#[test]
fn a_wait_that_ends_at_once_does_not_say_that_time_has_passed() {
    let busy = service_error(429, "RATE_LIMITED").header("retry-after", "7200");
    let service = Service::new([busy]);
    let error = service.api().wait(ID, &Wait::new()).unwrap_err();
    assert!(service.clock.sleeps().is_empty());
    assert!(!error.to_string().contains("for 15 min"), "{error}");
}

/// The public items of a file, each on a line, with its attributes before it.
fn public_items(text: &str, exported: &BTreeSet<&str>) -> Vec<String> {
    let mut list = Vec::new();
    let (mut is_hidden, mut inside, mut attributes) = (false, "", Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (indent, code) = (line.len() - line.trim_start().len(), line.trim());
        is_hidden |= ["#[doc(hidden)]", "#[cfg(test)]"].contains(&code);
        if code.starts_with("#[derive") || code.starts_with("#[non_exhaustive") {
            attributes.push(code.to_owned());
        }
        if code.is_empty() || code.starts_with("//") || code.starts_with('#') {
            continue;
        }
        let is_public = code.starts_with("pub ") && !code.starts_with("pub use ");
        let is_item = indent == 0 && (is_public || code.starts_with("impl"));
        if indent == 0 && code != "}" {
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            let is_ours = is_item && !is_hidden && words.any(|word| exported.contains(word));
            inside = if is_ours { code } else { "" };
        }
        let is_variant = inside.starts_with("pub enum") && indent > 0 && !code.starts_with('}');
        if !inside.is_empty() && !is_hidden && (is_item || is_public || is_variant) {
            list.append(&mut attributes);
            let mut item = code.to_owned();
            let is_open = |item: &str| item.matches('(').count() > item.matches(')').count();
            while is_open(&item) || !item.ends_with(['{', ';', ',', '}']) {
                item = item + " " + lines.next().unwrap().trim();
            }
            list.push(" ".repeat(indent) + item.trim_end_matches(['{', '}', ';', ',', ' ']));
        }
        is_hidden = false;
        attributes.clear();
    }
    list
}

#[test]
fn the_public_api_is_as_listed() {
    let sources = sources();
    let lib = sources[0].1.replace("#[doc(hidden)]\npub use", "use");
    let mut exported = BTreeSet::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub use ")) {
        let names = line.rsplit("::").next().unwrap();
        exported.extend(
            names
                .split(['{', '}', ';', ',', ' '])
                .filter(|name| !name.is_empty()),
        );
    }
    let names: Vec<_> = exported.iter().copied().collect();
    let mut list = format!("exported: {}\n", names.join(", "));
    for (_, text) in &sources[1..] {
        for item in public_items(text, &exported) {
            list += &(item + "\n");
        }
    }
    assert_golden("public_api.txt", &list);
}
