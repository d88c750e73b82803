//! A media file to the service's storage: what is sent, and what is retried.

use bithuman::ErrorKind::*;
use bithuman::serde_json::{Value, json};
use bithuman::{Billing, Event, GenerateRequest, Media, Wait};

use crate::calls::does;
use crate::harness::{Service, *};
use crate::mock_server::{ApiVersion, MockServer};

const URL: &str = "https://files.example/a.jpg";

fn uploaded() -> Reply {
    Reply::json(200, json!({"success": true, "data": {"file_url": URL}}))
}

/// A media file of 13 MB, which no socket buffers take in.
fn large() -> Media {
    Media::bytes(vec![7; 10 << 20])
}

#[test]
fn every_form_of_media_is_sent_under_its_name_and_the_url_is_returned() {
    let file = TempFile::new(b"\x00\x01\xfe\xff");
    let link = "https://example.com/a.jpg";
    let named = |data: &str| json!({"file_name": "ü.jpg", "file_data": data});
    let rows: [(Media, Value); 5] = [
        (Media::file(&file.0), named("AAH+/w==")),
        (Media::bytes(*b"\x00\x01\xfe\xff"), named("AAH+/w==")),
        (Media::base64("AAH+/w=="), named("AAH+/w==")),
        (Media::url(link), json!({"file_url": link})),
        (large(), Value::Null),
    ];
    for (media, expected) in rows {
        let service = Service::new([uploaded()]);
        let is_large = expected.is_null();
        assert_eq!(service.api().upload("ü.jpg", media).unwrap(), URL);
        let request = service.request();
        assert_eq!(
            (&*request.method, &*request.target),
            ("POST", "/v1/files/upload")
        );
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("idempotency-key"), None);
        assert_eq!(request.content_length(), request.body.len());
        assert_eq!(service.preflights(), usize::from(is_large));
        assert!(is_large || request.json() == expected);
    }
}

#[test]
fn what_cannot_be_sent_is_refused_without_a_request() {
    let api = api("https://service.test").build().unwrap();
    for (media, what) in [
        (
            Media::file("portrait.jpg"),
            "upload: file_data: no such file: portrait.jpg",
        ),
        (
            Media::bytes(*b""),
            "upload: file_data: the media file is empty",
        ),
        (
            Media::url("portrait.jpg"),
            "upload: file_url: a media URL begins with http",
        ),
        (
            Media::url("http://localhost/a"),
            "upload: file_url: the service cannot fetch",
        ),
    ] {
        let error = api.upload("a.jpg", media).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (InvalidInput, 0));
        assert_says(&error, what);
    }
}

/// What the service does => the kind, and whether the upload is retried.
const OUTCOMES: &str = "
    408 page => Service true
    425 page => Service true
    429 RATE_LIMITED => RateLimited true
    500 INTERNAL_ERROR => Service true
    502 page => Service true
    503 page => Service true
    504 page => Service true
    200 INTERNAL_ERROR => Service true
    cut before the body => Network true
    cut in the body => Network true
    cut without a length => UnexpectedResponse true
    resets => Network true
    stalls => Timeout true
    200 page => UnexpectedResponse false
    200 DOWNLOAD_FAILED => Rejected false
    400 DOWNLOAD_FAILED => Rejected false
    401 UNAUTHORIZED => Unauthorized false
    403 PLAN_REQUIRED => PlanLimit false
    413 FILE_TOO_LARGE => Rejected false
    415 UNSUPPORTED_TYPE => Rejected false";

#[test]
fn an_upload_is_free_and_retried_through_every_transient_error() {
    let script = Script::new();
    for (text, expected) in table(OUTCOMES) {
        let mut builder = script.builder(false).max_retries(2);
        if text == "stalls" {
            builder = builder.response_timeout(ms(150));
        }
        let api = builder.build().unwrap();
        let upload = || api.upload("a.jpg", Media::bytes(*b"a"));
        let run = script.run([does(text)], upload);
        let error = run.result.unwrap_err();
        let facts = format!("{:?} {}", error.kind(), error.is_retryable());
        assert_eq!(facts, expected, "{error}");
        let attempts = if error.is_retryable() { 3 } else { 1 };
        assert_eq!(run.sleeps.len() + 1, attempts, "{error}");
        assert_eq!(error.attempts() as usize, attempts, "{error}");
        assert_eq!(error.billing(), Billing::NotBilled);
        assert_says(&error, "upload: ");

        let run = script.run([does(text), does(text), uploaded().into()], upload);
        assert_eq!(run.result.is_ok(), error.is_retryable());
        let last = run.requests.last().unwrap().json();
        assert_eq!(last, json!({"file_name": "a.jpg", "file_data": "YQ=="}));
    }
}

#[test]
fn a_response_without_a_url_is_not_retried() {
    let service = Service::new([Reply::json(200, json!({"success": true, "data": {}}))]);
    let api = service.builder().max_retries(3).build().unwrap();
    let error = api.upload("a.jpg", Media::bytes(*b"a")).unwrap_err();
    assert_eq!(error.kind(), UnexpectedResponse);
    assert_says(&error, "upload: the response names no file (200)");
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn a_server_without_uploads_is_said_to_have_none() {
    for (reply, kind) in [
        (service_error(404, "NOT_FOUND"), NotFound),
        (gateway(404), NotFound),
        (service_error(410, "ENDPOINT_RETIRED"), Rejected),
    ] {
        let service = Service::new([reply]);
        let error = service
            .api()
            .upload("a.jpg", Media::bytes(*b"a"))
            .unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        assert_says(&error, "upload: the server has no uploads (4");
        assert_says(&error, "put the media file into the generate request");
    }
}

#[test]
fn a_wrong_secret_costs_no_upload() {
    let service = Service::new([uploaded()]).preflight(service_error(401, "UNAUTHORIZED"));
    let error = service.api().upload("a.jpg", large()).unwrap_err();
    assert_eq!(error.kind(), Unauthorized);
    assert_says(&error, "upload: ");
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn a_large_upload_that_breaks_is_retried_and_one_that_is_too_slow_is_not() {
    let breaks = || act(|c| drop(c.head()));
    let client = |server: &Server| {
        let builder = real_api(&server.url).clock(FakeClock::new());
        builder.max_retries(3).build().unwrap()
    };
    let server = Server::new([breaks()]);
    let api = client(&server);
    let error = unless_it_hangs(move || api.upload("a.mp4", large())).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Network, 4), "{error}");
    assert_says(&error, "the server may be refusing a body this large; try");
    assert_says(&error, "try a smaller media file");
    assert_eq!(server.requests().len(), 4);

    let server = Server::new([breaks(), breaks(), breaks(), reply(uploaded())]);
    let api = client(&server);
    let url = unless_it_hangs(move || api.upload("a.mp4", large()));
    assert_eq!(url.unwrap(), URL);

    let server = Server::new([act(|c| {
        c.head();
        c.stall();
    })]);
    let api = server.builder().response_timeout(ms(250)).build().unwrap();
    let error = unless_it_hangs(move || api.upload("a.mp4", large())).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Timeout, 1), "{error}");
    assert_says(&error, "try a smaller media file");
}

#[test]
fn an_upload_reports_its_progress_and_its_retries() {
    let service = Service::new([gateway(502), uploaded()]);
    let events = Events::default();
    let api = events.record(service.builder().max_retries(1));
    api.upload("a.jpg", Media::bytes(vec![7; 600_000])).unwrap();
    let mut seen = Vec::new();
    for event in events.all() {
        seen.push(match event {
            Event::Uploading { sent, total } if sent == total => "sent".to_owned(),
            Event::Uploading { .. } => "sending".to_owned(),
            Event::Retrying { reason, .. } => reason,
            event => panic!("{event:?}"),
        });
    }
    seen.dedup();
    let reason = "upload: the service failed (502): A gateway's title";
    assert_eq!(seen, ["sending", "sent", reason, "sending", "sent"]);
}

#[test]
fn one_upload_serves_many_requests_and_costs_nothing() {
    let server = MockServer::start(ApiVersion::Current);
    let builder = api(&server.base_url()).secret(crate::mock_server::SECRET);
    let api = builder.build().unwrap();
    let balance = server.balance();
    let url = api
        .upload("face.jpg", Media::bytes(*b"\xff\xd8\xff"))
        .unwrap();
    assert_eq!(server.balance(), balance);
    for prompt in ["one", "two"] {
        let request = GenerateRequest::new()
            .prompt(prompt)
            .image(Media::url(&url));
        let agent = api.generate_and_wait(&request, &Wait::new()).unwrap();
        assert_eq!(agent.image_url.as_deref(), Some(&*url));
    }
    let code = |name| api.upload(name, Media::bytes(*b"a")).unwrap_err();
    assert_eq!(code("a.svg").code(), Some("UNSUPPORTED_TYPE"));
}
