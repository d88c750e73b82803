//! The canary sweep: the secret, a proxy's password and the content of media are in nothing that
//! anyone can print, not even where the service repeats them in every way it can.

use std::fmt::Debug;

use bithuman::serde_json::{Value, json};
use bithuman::{Api, ApiBuilder, Error, ErrorKind, Event, GenerateRequest, Media, Wait};

use crate::harness::*;
use crate::server::*;

const MEDIA: &str = "canary-medium";

#[track_caller]
fn assert_clean(text: &str) {
    for canary in [SECRET, PASSWORD, CREDENTIALS, MEDIA] {
        assert!(!text.contains(canary), "{text}");
    }
}

#[track_caller]
fn assert_debug_clean(value: &impl Debug) {
    assert_clean(&format!("{value:?} {value:#?}"));
}

#[track_caller]
fn assert_kind(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_clean(&printed(error));
    assert_debug_clean(&(error.code(), error.message(), error.details()));
    assert_debug_clean(&(error.help_url(), error.request_id()));
}

/// The errors of a status request and of a generate request.
fn both(builder: ApiBuilder) -> [Error; 2] {
    let api = builder.build().unwrap();
    [
        api.status(ID).unwrap_err(),
        api.generate(&request()).unwrap_err(),
    ]
}

/// The secret in some words more, as a field of a response has it.
fn echo() -> String {
    format!("you sent api-secret: {SECRET}!")
}

/// A response that repeats the secret wherever there is room, and this body.
fn echoing(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::new(status, body)
        .header("x-request-id", echo())
        .header("retry-after", SECRET)
        .header("location", format!("https://a.example/?q={SECRET}"))
        .close()
}

/// Every shape of an error, each with the secret in every field; and what is not the service's.
fn errors() -> Vec<String> {
    let echo = echo();
    let shapes = [
        json!({"error": echo, "code": echo, "details": echo, "upgrade_url": echo}),
        json!({"success": false, "error": echo, "message": echo}),
        json!({"success": false, "error": {"code": echo, "message": echo, "topup_url": echo}}),
        json!({"error": "x", "details": {"headers": [echo, {SECRET: echo}]}}),
        json!([echo]),
        json!(echo),
        json!({"success": true, SECRET: echo, "data": {SECRET: echo}}),
    ];
    let mut bodies = shapes.map(|shape| shape.to_string()).to_vec();
    bodies.push(format!("<pre>api-secret: {SECRET}</pre>"));
    bodies.push(format!("<title>{SECRET}</title>"));
    bodies
}

#[test]
fn no_setting_and_no_request_shows_a_canary() {
    let proxy = format!("http://user:{PASSWORD}@127.0.0.1:1");
    let builder = client("https://service.example").proxy(proxy);
    assert_debug_clean(&builder);
    let api = builder.build().unwrap();
    assert_debug_clean(&api);
    assert_debug_clean(&api.watch(ID, &Wait::new()));
    for media in [
        Media::bytes(MEDIA),
        Media::base64(MEDIA),
        Media::url(format!("https://user:{PASSWORD}@a.example/{MEDIA}")),
    ] {
        assert_debug_clean(&media);
        let request = GenerateRequest::new().image(media.clone()).audio(media);
        assert_debug_clean(&request);
    }
}

#[test]
fn no_setting_that_cannot_be_used_shows_a_canary() {
    let builder = || Api::builder().secret(SECRET);
    for builder in [
        Api::builder().secret(format!("{SECRET}\u{200b}")),
        Api::builder().secret(format!("\"{SECRET}\"")),
        Api::builder().secret(format!("{SECRET} {SECRET}")),
        builder().base_url(SECRET),
        builder().base_url(format!("https://user:{PASSWORD}@a.example")),
        builder().base_url(format!("https://a.example/?s={SECRET}")),
        builder().base_url(format!("ftp://{SECRET}")),
        builder().user_agent(format!("{SECRET}\n{SECRET}")),
        builder().root_certificates_pem(SECRET),
    ] {
        assert_debug_clean(&builder);
        assert_kind(&builder.build().unwrap_err(), ErrorKind::InvalidInput);
    }
    for proxy in [
        format!("ftp://user:{PASSWORD}@127.0.0.1:1"),
        format!("nonsense://user:{PASSWORD}@x"),
        format!("http://user:{PASSWORD}@x:port"),
    ] {
        let builder = client("https://service.example").proxy(proxy);
        assert_debug_clean(&builder);
        let error = builder.build().unwrap().status(ID).unwrap_err();
        assert_kind(&error, ErrorKind::InvalidInput);
    }
}

#[test]
fn no_error_of_the_services_shows_a_canary() {
    use ErrorKind::{InsufficientBalance, NotFound, RateLimited, Rejected, Service, Unauthorized};
    for (status, kind) in [
        (302, Rejected),
        (400, Rejected),
        (401, Unauthorized),
        (402, InsufficientBalance),
        (403, Unauthorized),
        (404, NotFound),
        (429, RateLimited),
        (500, Service),
        (503, Service),
    ] {
        for body in errors() {
            let server = Server::new([reply(echoing(status, body))]);
            for error in both(client(&server.url)) {
                assert_kind(&error, kind);
                assert_eq!(error.request_id(), Some("you sent api-secret: [secret]!"));
            }
        }
    }
    for body in errors() {
        let server = Server::new([reply(echoing(200, body))]);
        for error in both(client(&server.url)) {
            assert_kind(&error, error.kind());
            assert_says(&error, "[secret]");
        }
    }
    // Masked first and cut then, so that no part of it is left at the end.
    for before in 512 - SECRET.len()..=512 {
        let body = "x".repeat(before) + SECRET;
        let server = Server::new([reply(Reply::new(500, body))]);
        let error = client(&server.url).build().unwrap().status(ID).unwrap_err();
        let left = error.message().unwrap().trim_start_matches('x');
        assert!("[secret]".starts_with(left), "{before}: {left}");
    }
}

#[test]
fn a_secret_escaped_as_json_does_is_masked() {
    // What encoders escape: all of them the quote and the backslash, some the slash.
    for (secret, echoed) in [
        (r#"ab"cdefgh"#, r#"ab\"cdefgh"#),
        (r"ab\cdefgh", r"ab\\cdefgh"),
        ("ab/cdefgh", r"ab\/cdefgh"),
    ] {
        for status in [200, 500] {
            let body = format!("{{\"headers\": {{\"api-secret\": \"{echoed}\"}}}}");
            let server = Server::new([reply(Reply::new(status, body))]);
            let api = client(&server.url).secret(secret).build().unwrap();
            let shown = printed(&api.status(ID).unwrap_err());
            let is_clean = !shown.contains(secret) && !shown.contains(echoed);
            assert!(is_clean, "{shown}");
        }
    }
}

/// An agent that repeats the secret in every field that an error shows.
fn agent(status: &str) -> Reply {
    let data: Value = json!({
        "agent_id": ID, "status": status, "error_message": echo(), "current_step": echo(),
        "progress": 0.5, "event_type": echo(), SECRET: echo(),
    });
    echoing(200, json!({"success": true, "data": data}).to_string())
}

#[test]
fn no_end_of_a_wait_and_no_event_shows_a_canary() {
    let wait = Wait::new().timeout(secs(60)).outage(secs(30));
    let failing = || echoing(503, errors().remove(0));
    for (script, kind) in [
        (vec![agent("failed")], ErrorKind::GenerationFailed),
        (vec![agent("generating")], ErrorKind::WaitTimedOut),
        (vec![agent(SECRET)], ErrorKind::WaitTimedOut),
        (vec![agent("deleted")], ErrorKind::NotFound),
        (vec![agent("generating"), failing()], ErrorKind::Service),
    ] {
        let mut acts = replies([failing(), accepted().close(), failing()]);
        acts.extend(replies(script));
        let server = Server::new(acts);
        let recorded = Events::default();
        let builder = client(&server.url).max_retries(1);
        let api = recorded.record(builder.honors_idempotency_keys(true));
        let error = api.generate_and_wait(&request(), &wait).unwrap_err();
        assert_kind(&error, kind);
        let events = recorded.all();
        for event in &events {
            // What the service says of an agent is data, and stays as it is.
            if !matches!(event, Event::Polled { .. }) {
                assert_debug_clean(event);
            }
        }
        assert!(recorded.retries().len() >= 2, "{events:?}");
    }
    let server = Server::new([reply(agent("generating"))]);
    let api = client(&server.url).build().unwrap();
    let mut watch = api.watch(ID, &wait);
    assert!(watch.next().unwrap().is_ok());
    assert_debug_clean(&watch);
    api.shutdown();
    assert_kind(&watch.next().unwrap().unwrap_err(), ErrorKind::ShutDown);
}

#[test]
fn no_failure_of_the_network_shows_a_canary() {
    let fail = |builder: ApiBuilder, kind| {
        let wait = Wait::new().outage(ms(1));
        let api = builder.clone().build().unwrap();
        assert_kind(&api.wait(ID, &wait).unwrap_err(), kind);
        for error in both(builder) {
            assert_kind(&error, kind);
        }
    };
    let nobody = format!("http://127.0.0.1:{}", unused_port());
    fail(client(&nobody), ErrorKind::Network);
    let odd = Server::new([reply(format!("{SECRET} {PASSWORD}\r\n\r\n"))]);
    fail(client(&odd.url), ErrorKind::UnexpectedResponse);
    let stalls = Server::new([act(|c| {
        c.request();
        c.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 999\r\nx-echo: {SECRET}\r\n\r\n{SECRET}"
        ));
        c.hold();
    })]);
    let builder = client(&stalls.url).response_timeout(ms(150));
    fail(builder, ErrorKind::Timeout);
    let untrusted = good(Authority::new().here());
    fail(client(&https(&untrusted)), ErrorKind::Tls);
    fail(client_through(&refusing_proxy()), ErrorKind::Unauthorized);
    let closes = Server::new([act(|c| drop(c.head()))]);
    fail(client_through(&closes), ErrorKind::Network);
    let odd = Server::new([reply(format!("{CREDENTIALS} {PASSWORD}\r\n\r\n"))]);
    fail(client_through(&odd), ErrorKind::UnexpectedResponse);
}
