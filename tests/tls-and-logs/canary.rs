//! The canary sweep: the secret and a proxy's password are in nothing that anyone can print, not even
//! when the service says them back wherever it can.

use std::error::Error as _;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::thread;

use bithuman::serde_json::{self, Value, json as value};
use bithuman::{Agent, Api, ApiBuilder, Error, ErrorKind, Event, GenerateRequest, Generation, Media, Status, Wait};

use crate::script::{Act, Script, act, http};
use crate::server::*;

/// What is kept secret, and what is shown only by its length.
const CANARIES: [&str; 4] = [SECRET, PASSWORD, CREDENTIALS, MEDIA];

const MEDIA: &str = "canary-medium";

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{what}: {text}");
    }
}

#[track_caller]
fn assert_debug_clean(value: &impl Debug) {
    assert_clean("{:?}", &format!("{value:?}"));
    assert_clean("{:#?}", &format!("{value:#?}"));
}

#[track_caller]
fn assert_error_clean(error: &Error) {
    assert_debug_clean(error);
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        assert_clean("a cause", &format!("{error} {error:?} {error:#?}"));
        cause = error.source();
    }
}

/// A field of an answer that says the secret, in some words more.
fn echo() -> String {
    format!("you sent api-secret: {SECRET}!")
}

/// Headers that say it.
fn headers() -> String {
    format!("x-request-id: {}\r\nretry-after: {SECRET}\r\nlocation: https://a.example/?q={SECRET}\r\n{CLOSE}", echo())
}

fn echoing(status: u16, body: Value) -> Act {
    let answer = http(status, &headers(), body.to_string());
    act(move |c| {
        c.request();
        c.send(&answer);
    })
}

/// An agent each of whose fields says it, but for its id and for what decides.
fn agent(fields: Value) -> Value {
    let mut all = value!({"agent_id": ID, "progress": echo(), "supported_models": [echo(), echo()], "extra": {"a": [echo(), {"b": echo()}]}});
    let texts = [
        "event_type",
        "error_message",
        "created_at",
        "updated_at",
        "system_prompt",
        "image_url",
        "video_url",
        "name",
        "model_url",
        "progress_msg",
        "current_step",
        "voice_id",
        "description",
        "new_in_2027",
    ];
    let object = all.as_object_mut().unwrap();
    object.extend(texts.map(|name| (name.to_owned(), echo().into())));
    object.extend(fields.as_object().unwrap().clone());
    value!({"success": true, "message": echo(), "data": all})
}

fn refusal() -> Value {
    value!({"success": false, "error": {"code": echo(), "message": echo()}, "details": [echo(), {"a": echo()}]})
}

#[test]
fn no_setting_shows_a_canary() {
    let builder = api_to("https://service.example").proxy(format!("http://user:{PASSWORD}@127.0.0.1:1"));
    assert_debug_clean(&builder);
    let api = builder.build().unwrap();
    assert_debug_clean(&api);
    assert_debug_clean(&api.watch(ID, &Wait::new()));
    assert_debug_clean(&Wait::new());
}

#[test]
fn no_medium_shows_its_content() {
    let media =
        [Media::bytes(MEDIA), Media::base64(MEDIA), Media::url(format!("https://user:{PASSWORD}@a.example/{MEDIA}"))];
    for medium in media {
        assert_debug_clean(&medium);
        assert_debug_clean(
            &GenerateRequest::new().prompt("p").image(medium.clone()).video(medium.clone()).audio(medium),
        );
    }
}

#[test]
fn no_answer_shows_a_canary() {
    let started = value!({"success": true, "agent_id": ID, "status": echo(), "message": echo(), "more": [echo()]});
    let server = Script::new([echoing(200, started), echoing(200, agent(value!({"status": echo()})))]);
    let api = api_to(&server.url).build().unwrap();
    let generation: Generation = api.generate(&request()).unwrap();
    assert_debug_clean(&generation);
    assert_clean("JSON", &serde_json::to_string(&generation).unwrap());
    let agent: Agent = api.status(ID).unwrap();
    assert_debug_clean(&agent);
    assert_clean("JSON", &serde_json::to_string(&agent).unwrap());
    assert_debug_clean(&agent.status);
    assert_clean("Display", &agent.status.to_string());
    assert!(matches!(&agent.status, Status::Unknown(word) if word.contains("[secret]")), "{:?}", agent.status);
    // What was masked is there to be seen, and the rest of it is as it was.
    assert_eq!(agent.name.as_deref(), Some("you sent api-secret: [secret]!"));
}

#[test]
fn no_event_shows_a_canary() {
    let acts = [
        echoing(503, refusal()),
        echoing(200, value!({"success": true, "agent_id": ID})),
        echoing(500, refusal()),
        echoing(200, agent(value!({"status": "generating"}))),
        echoing(302, value!(echo())),
    ];
    let server = Script::new(acts);
    let events = Arc::new(Mutex::new(Vec::new()));
    let noted = events.clone();
    let api = api_to(&server.url).retries(1).idempotency_honored(true).build().unwrap();
    let api = api.on_event(move |event| noted.lock().unwrap().push(event.clone()));
    assert_debug_clean(&api);
    let error = api.generate_and_wait(&request(), &Wait::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error:?}");
    assert_error_clean(&error);
    let events = events.lock().unwrap();
    for (kind, count) in [("Uploaded", 1), ("Resending", 2), ("Polled", 1)] {
        let told = events.iter().filter(|event| format!("{event:?}").starts_with(kind)).count();
        assert!(told >= count, "{kind}: {events:?}");
    }
    for event in events.iter() {
        assert_debug_clean(event);
        if let Event::Resending { reason, .. } = event {
            assert!(reason.contains("[secret]") && !reason.contains('\n'), "{reason}");
        }
    }
}

/// An error of this kind from each call that can have one.
fn provoke(acts: impl IntoIterator<Item = Act>, call: impl FnOnce(Api) -> Error) -> Error {
    let server = Script::new(acts);
    call(api_to(&server.url).answer_timeout(ms(20_000)).build().unwrap())
}

#[track_caller]
fn assert_kind(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_error_clean(error);
    assert_debug_clean(&error.kind());
}

#[test]
fn no_refusal_shows_a_canary() {
    use ErrorKind::{InsufficientBalance, NotFound, RateLimited, Rejected, Service, Unauthorized, UnexpectedAnswer};
    let words = value!({"error": echo(), "code": echo(), "details": echo()});
    let old = value!({"success": false, "error": echo(), "message": echo()});
    for (status, kind) in [
        (200, Rejected),
        (302, Rejected),
        (400, Rejected),
        (401, Unauthorized),
        (402, InsufficientBalance),
        (403, Unauthorized),
        (404, NotFound),
        (408, Service),
        (429, RateLimited),
        (500, Service),
        (503, Service),
    ] {
        for body in [refusal(), old.clone()] {
            assert_kind(&provoke([echoing(status, body.clone())], |api| api.status(ID).unwrap_err()), kind);
            let error = provoke([echoing(status, body)], |api| api.generate(&request()).unwrap_err());
            assert_kind(&error, kind);
            assert_eq!(error.idempotency_key().map(|key| key.contains(SECRET)), Some(false));
        }
        let kind = if status == 200 { UnexpectedAnswer } else { kind };
        for body in [words.clone(), value!([echo()]), value!({"a": echo()})] {
            assert_kind(&provoke([echoing(status, body.clone())], |api| api.status(ID).unwrap_err()), kind);
            assert_kind(&provoke([echoing(status, body)], |api| api.generate(&request()).unwrap_err()), kind);
        }
    }
}

#[test]
fn no_end_of_a_wait_shows_a_canary() {
    let failed = || echoing(200, agent(value!({"status": "failed"})));
    let working = || echoing(200, agent(value!({"status": "generating"})));
    let error = provoke([failed()], |api| api.wait(ID, &Wait::new()).unwrap_err());
    assert_kind(&error, ErrorKind::GenerationFailed);
    assert!(error.to_string().contains("[secret]"), "{error}");

    let patient = Wait::new().timeout(ms(60_000)).outage(ms(120_000));
    let error = provoke([working()], |api| api.wait(ID, &patient).unwrap_err());
    assert_kind(&error, ErrorKind::WaitTimedOut);
    assert_debug_clean(error.last_seen().unwrap());

    let trouble = || echoing(500, refusal());
    let error = provoke([working(), trouble()], |api| api.wait(ID, &Wait::new().outage(ms(1))).unwrap_err());
    assert_kind(&error, ErrorKind::Service);

    let error = provoke([working(), trouble()], |api| api.wait(ID, &patient).unwrap_err());
    assert_kind(&error, ErrorKind::WaitTimedOut);
    // The trouble in which the time ran out.
    assert!(error.source().is_some());

    let error = provoke([working()], |api| {
        let seen = api.watch(ID, &Wait::new()).next().unwrap().unwrap();
        assert_debug_clean(&seen);
        api.shutdown();
        api.wait(ID, &Wait::new()).unwrap_err()
    });
    assert_kind(&error, ErrorKind::ShutDown);
}

#[test]
fn no_trouble_on_the_way_shows_a_canary() {
    let authority = Authority::new();
    let fail = |builder: ApiBuilder, kind| {
        let api = builder.build().unwrap();
        assert_kind(&api.status(ID).unwrap_err(), kind);
        assert_kind(&api.generate(&request()).unwrap_err(), kind);
        assert_kind(&api.wait(ID, &Wait::new().outage(ms(1))).unwrap_err(), kind);
    };
    fail(api_to("http://127.0.0.1:1"), ErrorKind::Network);
    let odd = Script::new([act(|c| {
        c.request();
        c.send(format!("{SECRET} {PASSWORD}\r\n\r\n"));
    })]);
    fail(api_to(&odd.url), ErrorKind::UnexpectedAnswer);
    let stalls = Script::new([act(|c| {
        c.request();
        c.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\nx-echo: {SECRET}\r\n\r\n{SECRET}"));
        c.hold();
    })]);
    fail(api_to(&stalls.url).answer_timeout(ms(150)), ErrorKind::Timeout);
    let untrusted = Server::new([authority.here()]);
    fail(api_to(&untrusted.url()), ErrorKind::Tls);
    for says in [format!("HTTP/1.1 407 {CREDENTIALS}\r\nx-echo: {PASSWORD}\r\n\r\n{PASSWORD}"), String::new()] {
        let proxy = Script::new([act(move |c| {
            c.head();
            c.send(&says);
        })]);
        let url = format!("http://user:{PASSWORD}@{}", proxy.address);
        fail(api_to("https://service.example").proxy(url), ErrorKind::Network);
    }
}

#[test]
fn no_bad_setting_shows_a_canary() {
    let builder = || Api::builder().secret(SECRET);
    let odd_secret = format!("{SECRET}\n");
    for (case, builder) in [
        ("secret", Api::builder().secret(odd_secret)),
        ("secret", Api::builder().secret(format!("{SECRET} é"))),
        ("base URL", builder().base_url(SECRET)),
        ("base URL", builder().base_url(format!("https://user:{PASSWORD}@a.example"))),
        ("base URL", builder().base_url(format!("https://a.example/?s={SECRET}"))),
        ("base URL", builder().base_url(format!("ftp://{SECRET}"))),
        ("user agent", builder().user_agent(format!("{SECRET}\n"))),
        ("proxy", builder().proxy(format!("ftp://user:{PASSWORD}@127.0.0.1:1"))),
        ("proxy", builder().proxy(format!("nonsense://user:{PASSWORD}@x"))),
        ("roots", builder().root_certificates_pem(SECRET)),
    ] {
        assert_debug_clean(&builder);
        let error = builder.build().expect_err(case);
        assert_kind(&error, ErrorKind::InvalidInput);
    }
}

#[test]
fn no_shutdown_in_a_call_shows_a_canary() {
    let server = Script::new([act(|c| {
        c.request();
        c.hold();
    })]);
    let api = api_to(&server.url).build().unwrap();
    let running = {
        let api = api.clone();
        thread::spawn(move || api.generate(&request()).unwrap_err())
    };
    while server.heard().is_empty() {
        thread::sleep(ms(1));
    }
    api.shutdown();
    assert_kind(&running.join().unwrap(), ErrorKind::ShutDown);
}
