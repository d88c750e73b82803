//! Errors as a user sees them: the line, and where there are causes the line that a failing `main` prints.
//!
//! `BLESS=1 cargo test --test it golden` writes the file anew. Then read every line of the difference: does
//! it say what failed, for which agent, what the service said, and what to do next?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::{env, fs, thread};

use bithuman::serde_json::json;
use bithuman::{Api, Error, Event, GenerateRequest, Media, Wait};

use crate::support::{
    Answer, ID, Service, TempDir, agent, alone, api_to, listen, ms, read_head, say, secs, started, status, unused_port,
};

/// A heading, and an error or nothing for a new chapter.
type Entry = (&'static str, Option<Error>);

fn request() -> GenerateRequest {
    GenerateRequest::new().prompt("You are a friendly assistant.").idempotency_key("key-1")
}

fn generate(answer: Answer) -> Option<Error> {
    Service::new([answer]).api().generate(&request()).err()
}

fn ask(answer: Answer) -> Option<Error> {
    Service::new([answer]).api().status(ID).err()
}

/// The form of the 2025 document.
fn of_2025(http: u16, code: &str, error: &str, details: &str) -> Answer {
    Answer::json(http, json!({"error": error, "code": code, "details": details}))
}

/// The form of 2026.
fn of_2026(http: u16, code: &str, message: &str) -> Answer {
    let error = json!({"code": code, "message": message, "httpStatus": http});
    Answer::json(http, json!({"error": error, "status": "error", "status_code": http})).header("x-request-id", "req-42")
}

/// A gateway's.
fn html(http: u16, title: &str) -> Answer {
    Answer::new(http, format!("<html><head><title>{title}</title></head></html>\r\n"))
}

/// A base URL where every request is read whole, and then this is done with its connection.
fn after_reading(then: impl Fn(TcpStream) + Send + Clone + 'static) -> String {
    listen(move |_, mut stream| {
        let then = then.clone();
        thread::spawn(move || {
            say(&mut stream, "");
            then(stream);
        });
    })
}

/// Waits until the client gives up.
fn hold(mut stream: TcpStream) {
    stream.set_read_timeout(Some(secs(3))).unwrap();
    read_head(&mut stream);
}

fn of_the_service() -> Vec<Entry> {
    let refused_secret = || {
        let details = "Please check your API secret from imaginex.bithuman.ai";
        of_2025(401, "UNAUTHORIZED", "Invalid API secret", details)
    };
    let busy = || of_2026(429, "RATE_LIMITED", "Rate limit exceeded").header("retry-after", "20");
    let workers = || of_2026(503, "NO_AVAILABLE_WORKERS", "All workers are busy");
    let large = "The image is larger than 10 MB";
    let subject = "essence-2 needs a picture of a person";
    vec![
        ("The service refuses", None),
        ("a wrong secret", generate(refused_secret())),
        ("a wrong secret, of a status", ask(of_2026(401, "UNAUTHORIZED", "Invalid API secret"))),
        ("an account that is suspended", generate(of_2026(403, "ACCOUNT_SUSPENDED", "This account is suspended"))),
        ("a 403 of a gateway", ask(html(403, "Forbidden"))),
        ("too few credits", generate(of_2026(402, "INSUFFICIENT_BALANCE", "You need 250 credits and have 12"))),
        ("no such agent", ask(of_2026(404, "NOT_FOUND", "Agent not found"))),
        (
            "no such agent, in the older form",
            ask(Answer::json(404, json!({"success": false, "error": "AGENT_NOT_FOUND"}))),
        ),
        ("a base URL with another service behind it", generate(html(404, "Not Found"))),
        ("the same, of a status", ask(html(404, "Not Found"))),
        (
            "a bad request",
            generate(of_2025(400, "VALIDATION_ERROR", "Invalid image", "It is neither a URL nor base64")),
        ),
        ("a video, in 2026", generate(of_2026(400, "VIDEO_INPUT_NOT_SUPPORTED", "Send an image instead"))),
        ("an agent that is not ready", ask(of_2026(409, "AGENT_NOT_READY", "The agent is still being made"))),
        ("a picture that is too large", generate(of_2026(413, "FILE_TOO_LARGE", large))),
        ("a body that is too large for a gateway", generate(html(413, "Request Entity Too Large"))),
        ("a type of file", generate(of_2026(415, "UNSUPPORTED_TYPE", "image/tiff is not supported"))),
        ("a picture that does not go with the model", generate(of_2026(422, "MODEL_SUBJECT_MISMATCH", subject))),
        ("a refusal with 200", generate(Answer::json(200, json!({"success": false, "error": "Out of luck"})))),
        ("a redirect", generate(Answer::new(308, "").header("location", "https://www.bithuman.ai/v1/agent/generate"))),
        ("too many requests", generate(busy())),
        ("too many requests, of a status", ask(busy())),
        ("The service fails", None),
        ("a 500", generate(of_2026(500, "INTERNAL_ERROR", "Something went wrong"))),
        ("a 500, of a status", ask(of_2026(500, "INTERNAL_ERROR", "Something went wrong"))),
        ("a gateway's 502", generate(html(502, "502 Bad Gateway"))),
        ("a gateway's 502, of a status", ask(html(502, "502 Bad Gateway"))),
        ("no workers", generate(workers())),
        ("a model to come", generate(of_2026(503, "MODEL_NOT_YET_AVAILABLE", "expression-3 is not available yet"))),
        ("no workers, of a status", ask(workers())),
        ("The answer makes no sense", None),
        ("an answer that is no JSON", generate(html(200, "Welcome"))),
        ("an answer that is no JSON, of a status", ask(html(200, "Welcome"))),
        ("an answer without an agent", generate(Answer::json(200, json!({"success": true})))),
        ("an answer without a status", ask(Answer::json(200, json!({"success": true, "data": {"agent_id": ID}})))),
        (
            "an answer that is no HTTP",
            api_to(&after_reading(|mut s| drop(std::io::Write::write_all(&mut s, b"SSH-2.0\r\n\r\n"))))
                .build()
                .unwrap()
                .status(ID)
                .err(),
        ),
    ]
}

fn of_the_network() -> Vec<Entry> {
    let both = |url: &str| {
        let api = api_to(url).answer_timeout(ms(100)).allow_plain_http(true).build().unwrap();
        (api.generate(&request()).err(), api.status(ID).err())
    };
    let refused = both(&format!("http://127.0.0.1:{}", unused_port()));
    // No look-up of a label this long leaves the machine.
    let nowhere = both(&format!("http://{}.invalid", "a".repeat(64)));
    let broken = both(&after_reading(drop));
    let silent = both(&after_reading(hold));
    let half = both(&after_reading(|mut stream| {
        let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"agent");
        hold(stream);
    }));
    let unread = Service::new([]);
    let early = listen(|_, mut stream| drop(read_head(&mut stream)));
    let large = request().image(Media::bytes(vec![7; 24 << 20]));
    let plain = Service::new([]);
    let tls = api_to(&format!("https://{}", plain.host())).build().unwrap();
    vec![
        ("The network", None),
        ("nobody listens", refused.0),
        ("nobody listens, of a status", refused.1),
        ("no such host", nowhere.0),
        ("no such host, of a status", nowhere.1),
        ("the connection breaks before the answer", broken.0),
        ("the connection breaks before the answer, of a status", broken.1),
        ("the connection breaks in mid-upload", api_to(&early).build().unwrap().generate(&large).err()),
        ("no answer in time", silent.0),
        ("no answer in time, of a status", silent.1),
        ("half an answer in time", half.0),
        ("half an answer in time, of a status", half.1),
        ("an upload nobody reads", unread.builder().upload_timeout(ms(0)).build().unwrap().generate(&request()).err()),
        ("https where there is none", tls.generate(&request()).err()),
        ("https where there is none, of a status", tls.status(ID).err()),
    ]
}

fn of_waiting() -> Vec<Entry> {
    let wait = |script: Vec<Answer>, wait: Wait| Service::new(script).api().wait(ID, &wait).err();
    let hour = || Wait::new().timeout(secs(3600));
    let at =
        |step: &str, progress: f64| agent(json!({"status": "generating", "progress": progress, "current_step": step}));
    let failed = || agent(json!({"status": "failed", "error_message": "The picture has no face in it"}));
    let run_out = api_to(&after_reading(hold)).build().unwrap();

    let going = Service::new([at("lip_sync", 0.7)]);
    let handle = going.api();
    let polled = handle.clone().on_event(move |_| handle.shutdown());
    let sending = api_to(&after_reading(hold)).build().unwrap();
    let handle = sending.clone();
    let sending = sending.on_event(move |_| handle.shutdown());
    let stopped = Service::new([]).api();
    stopped.shutdown();
    vec![
        ("Waiting", None),
        ("the generation failed", wait(vec![failed()], hour())),
        ("the generation failed, without a reason", wait(vec![status("failed")], hour())),
        ("the time ran out", wait(vec![at("lip_sync", 0.7)], hour())),
        ("the time ran out, in 2025", wait(vec![status("processing")], hour())),
        ("the time ran out while a person is to mark the face", wait(vec![at("awaiting_face_marking", 0.35)], hour())),
        (
            "the time ran out in trouble",
            wait(vec![status("processing"), html(502, "502 Bad Gateway")], hour().outage(secs(7200))),
        ),
        (
            "the service asks for more time than there is",
            wait(vec![html(429, "Slow down").header("retry-after", "7200")], hour().outage(secs(9000))),
        ),
        (
            "the service asks for a wait longer than the outage allowed",
            wait(vec![html(429, "Slow down").header("retry-after", "1000")], hour()),
        ),
        (
            "a wrong secret, while waiting",
            wait(vec![status("processing"), of_2026(401, "UNAUTHORIZED", "Invalid API secret")], hour()),
        ),
        ("trouble that does not pass", wait(vec![at("video", 0.5), html(502, "502 Bad Gateway")], hour())),
        (
            "the time ran out before the generate was answered",
            run_out.generate_and_wait(&request(), &Wait::new().timeout(ms(100))).err(),
        ),
        ("shut down while waiting", polled.wait(ID, &hour()).err()),
        ("shut down while sending", sending.generate(&request()).err()),
        ("shut down before", stopped.generate(&request()).err()),
        ("shut down before, of a status", stopped.status(ID).err()),
    ]
}

fn of_the_input(dir: &Path) -> Vec<Entry> {
    let build = |set: fn(bithuman::ApiBuilder) -> bithuman::ApiBuilder| set(Api::builder().secret("s")).build().err();
    let api = Service::new([]).api();
    let send = |request: GenerateRequest| api.generate(&request.idempotency_key("key-1")).err();
    let image = |image: Media| send(GenerateRequest::new().image(image));
    fs::write(dir.join("empty.jpg"), "").unwrap();
    vec![
        ("Settings", None),
        ("no secret", Api::from_env().err()),
        ("an empty secret", Api::new("").err()),
        ("a secret with the line break of its file", Api::new("secret\n").err()),
        ("a base URL that is none", build(|api| api.base_url("not a URL"))),
        ("a base URL without a scheme", build(|api| api.base_url("api.bithuman.ai"))),
        ("a base URL with a user", build(|api| api.base_url("https://me:secret@api.bithuman.ai"))),
        ("a base URL with a query", build(|api| api.base_url("https://api.bithuman.ai/?v=1"))),
        ("a base URL with a bad port", build(|api| api.base_url("https://api.bithuman.ai:port"))),
        ("plain http to another machine", build(|api| api.base_url("http://api.bithuman.ai"))),
        ("a time-out of zero", build(|api| api.connect_timeout(ms(0)))),
        ("a proxy that is none", build(|api| api.proxy("not a proxy"))),
        ("a proxy to this machine", build(|api| api.base_url("http://localhost").proxy("http://proxy:3128"))),
        ("no certificate", build(|api| api.root_certificates_pem("none"))),
        ("a user agent with a line break", build(|api| api.user_agent("a\nb"))),
        ("Input", None),
        ("a link that is none", image(Media::url("example.com/portrait.jpg"))),
        ("a link without a host", image(Media::url("https:///portrait.jpg"))),
        ("a link with a space", image(Media::url("https://example.com/my portrait.jpg"))),
        ("no such file", image(Media::file(dir.join("no-such.jpg")))),
        ("an empty file", image(Media::file(dir.join("empty.jpg")))),
        ("a folder", image(Media::file(dir))),
        ("nothing in memory", image(Media::bytes([]))),
        ("an empty base64 text", image(Media::base64(""))),
        ("a bad agent id of one's own", send(GenerateRequest::new().agent_id(".."))),
        ("a field that has a setter", send(GenerateRequest::new().field("prompt", "x"))),
        ("a bad idempotency key", api.generate(&GenerateRequest::new().idempotency_key("a b")).err()),
        ("no agent id", api.status("").err()),
        ("an agent id with a line break", api.status("A1\n").err()),
        ("no time between two polls", api.wait(ID, &Wait::new().interval(ms(0))).err()),
    ]
}

fn of_receipts(dir: &Path) -> Vec<Entry> {
    let request = GenerateRequest::new().prompt("You are a friendly assistant.");
    let path = |name: &str| dir.join(name);
    let kept = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        Service::new([]).api().generate_once(path(name), &request).err()
    };
    let service = Service::new([started(), status("processing")]);
    service.api().generate_once(path("agent.json"), &request).unwrap();
    let elsewhere = api_to("http://127.0.0.1:1").build().unwrap();
    let own_key = request.clone().idempotency_key("another");

    let lost = api_to(&after_reading(drop)).build().unwrap();
    let unknown = lost.ensure_agent(path("lost.json"), &request, &Wait::new()).err();
    let early = lost.ensure_agent(path("lost.json"), &request, &Wait::new().timeout(secs(1))).err();
    let late = lost.ensure_agent(path("lost.json"), &request, &Wait::new()).err();

    let spoilt = path("spoilt.json");
    let taking = Service::new([started()]);
    let spoiling = taking.api().on_event(move |event| {
        if matches!(event, Event::Uploaded { .. }) {
            fs::write(&spoilt, "{").unwrap();
        }
    });
    let failing = |name: &str, request: &GenerateRequest| {
        let service = Service::new([started(), agent(json!({"status": "failed", "error_message": "No face found"}))]);
        service.api().ensure_agent(path(name), request, &Wait::new()).err()
    };
    fs::create_dir(path("folder")).unwrap();
    vec![
        ("Receipts", None),
        (
            "another request",
            service.api().generate_once(path("agent.json"), &request.clone().prompt("Other.").model("auto")).err(),
        ),
        ("another base URL", elsewhere.generate_once(path("agent.json"), &request).err()),
        ("another idempotency key", service.api().generate_once(path("agent.json"), &own_key).err()),
        ("a damaged one", kept("damaged.json", "{\"format\": 1, \"base")),
        ("one of a later version", kept("later.json", "{\"format\": 2}")),
        ("a folder in its place", Service::new([]).api().generate_once(path("folder"), &request).err()),
        ("a folder that is not there", Service::new([]).api().generate_once(path("no/agent.json"), &request).err()),
        ("the connection breaks before the answer", unknown),
        ("the next call, with little time", early),
        ("the next call", late),
        ("spoilt while the request was sent", spoiling.generate_once(path("spoilt.json"), &request).err()),
        ("the generation failed", failing("failed.json", &request)),
        ("the generation failed, with a key of one's own", failing("own.json", &own_key)),
        ("and once more", failing("own.json", &own_key)),
        ("the time ran out", service.api().ensure_agent(path("agent.json"), &request, &Wait::new()).err()),
    ]
}

/// The text without what is another on every run or machine.
fn stable(text: &str, dir: &Path) -> String {
    let mut text = text.replace(&format!("{}/", dir.display()), "").replace(dir.to_str().unwrap(), "FOLDER");
    for (before, is_part, name) in [
        ("127.0.0.1:", char::is_numeric as fn(char) -> bool, "PORT"),
        ("bithuman-", |c: char| c.is_ascii_hexdigit(), "KEY"),
        ("failed after ", char::is_numeric, "N"),
        // The backoff is random.
        ("not ready after ", |c: char| c.is_numeric() || c == '.', "N"),
        ("no good answer for ", |c: char| c.is_numeric() || c == '.', "N"),
        ("os error ", char::is_numeric, "N"),
        ("failed to lookup address information: ", |c: char| c != '\n', "REASON"),
    ] {
        let mut parts = text.split(before);
        let mut replaced = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            replaced += &format!("{before}{name}{}", part.trim_start_matches(is_part));
        }
        text = replaced;
    }
    // Which of them it is, is a matter of moments.
    for gone in ["Broken pipe (os error N)", "Connection reset by peer (os error N)", "Peer disconnected"] {
        text = text.replace(gone, "THE CONNECTION IS GONE");
    }
    text
}

#[test]
fn every_error_says_what_failed_and_what_to_do() {
    let bless = env::var("BLESS").unwrap_or_default();
    alone("golden::every_error_says_what_failed_and_what_to_do", &[("BLESS", &bless)], || {
        let dir = TempDir::new();
        let input = of_the_input(&dir.0);
        let entries = [of_the_service(), of_the_network(), of_waiting(), input, of_receipts(&dir.0)];
        let (mut text, mut kinds) = (String::new(), BTreeSet::new());
        for (heading, error) in entries.into_iter().flatten() {
            let Some(error) = error else {
                writeln!(text, "{}== {heading} ==", if text.is_empty() { "" } else { "\n" }).unwrap();
                continue;
            };
            kinds.insert(format!("{:?}", error.kind()));
            let (line, chain) = (error.to_string(), format!("{error:?}"));
            writeln!(text, "\n# {heading} ({:?})\n{}", error.kind(), stable(&line, &dir.0)).unwrap();
            if chain != line {
                let causes = chain.strip_prefix(&line).unwrap();
                writeln!(text, "  and the causes{}", stable(causes, &dir.0)).unwrap();
            }
        }
        assert_eq!(kinds.len(), 15, "every kind once: {kinds:?}");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/errors.txt");
        if env::var("BLESS").is_ok_and(|bless| !bless.is_empty()) {
            fs::write(&golden, &text).unwrap();
        }
        let known = fs::read_to_string(&golden).unwrap();
        for (now, known) in text.lines().zip(known.lines()) {
            assert_eq!(now, known, "BLESS=1 writes the file anew");
        }
        assert_eq!(text.lines().count(), known.lines().count());
    });
}
