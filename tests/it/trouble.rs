//! When the network or the other side breaks.

use std::error::Error as _;
use std::io;
use std::sync::mpsc;
use std::time::Instant;
use std::{fs, thread};

use bithuman::ErrorKind::{Network, Timeout, Unauthorized, UnexpectedAnswer, WaitTimedOut};
use bithuman::serde_json::json;
use bithuman::{GenerateRequest, Media, Wait};

use crate::support::{
    ID, Service, TempFile, alone, api_to, content_length, listen, ms, read_head, say, secs, started, unused_port,
};

/// A base URL whose every connection gets these bytes for an answer and is then closed.
fn saying(answer: &'static str) -> String {
    listen(move |_, mut stream| say(&mut stream, answer))
}

/// A base URL whose every connection gets these bytes for an answer and then nothing.
fn stalling_after(answer: &'static str) -> String {
    listen(move |_, mut stream| {
        thread::spawn(move || {
            say(&mut stream, answer);
            // The connection stays open until the client gives up, and not for ever if it does not.
            stream.set_read_timeout(Some(secs(3))).unwrap();
            read_head(&mut stream);
        });
    })
}

const OK_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

#[test]
fn a_refused_connection_names_the_host_and_keeps_its_cause() {
    let host = format!("127.0.0.1:{}", unused_port());
    let api = api_to(&format!("http://{host}")).build().unwrap();
    let generate = api.generate(&GenerateRequest::new()).unwrap_err();
    let status = api.status(ID).unwrap_err();
    let what = format!("nothing accepts connections at {host} (is the base URL right?)");
    assert_eq!(generate.to_string(), format!("generate: {what}; it was not taken: send it again later"));
    assert_eq!(status.to_string(), format!("status: agent {ID}: {what}; this may pass: ask again later"));
    for error in [&generate, &status] {
        assert_eq!((error.kind(), error.http_status(), error.attempts()), (Network, None, 1));
        let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
        assert!(!error.to_string().contains(&cause.to_string()), "{error}");
        assert_eq!(format!("{error:?}"), format!("{error}: {cause}"));
        // Nothing was handed over.
        assert!(error.is_retryable() && !error.outcome_unknown());
    }
    assert!(generate.idempotency_key().is_some());
}

#[test]
fn a_host_that_cannot_be_looked_up_is_named() {
    // No look-up of a label this long leaves the machine; an environment's proxy would be asked.
    alone("trouble::a_host_that_cannot_be_looked_up_is_named", &[], || {
        let host = format!("{}.invalid", "a".repeat(64));
        let api = api_to(&format!("http://{host}")).allow_plain_http(true).build().unwrap();
        let error = api.generate(&GenerateRequest::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "generate: the host {host} cannot be looked up (is it right, and this machine online?); it was not taken: send it again later"
            )
        );
        assert_eq!((error.kind(), error.http_status()), (Network, None));
        assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()));
        assert!(error.is_retryable() && !error.outcome_unknown());
    });
}

#[cfg(feature = "_tls")]
#[test]
fn https_to_a_server_without_tls_is_a_tls_error_and_sends_nothing() {
    let service = Service::new([started()]);
    let api = service.builder().base_url(format!("https://{}", service.host())).build().unwrap();
    let errors = [
        api.generate(&GenerateRequest::new()).unwrap_err(),
        api.status(ID).unwrap_err(),
        // Where TLS never worked, waiting does not help.
        api.wait(ID, &Wait::new()).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), bithuman::ErrorKind::Tls, "{error:?}");
        let what =
            format!("no trusted TLS connection to {}: it does not speak TLS; is the base URL right?", service.host());
        assert!(error.to_string().ends_with(&what), "{error}");
        assert!(error.source().is_some());
        assert!(!error.outcome_unknown() && !error.is_retryable());
    }
    assert_eq!((service.hits(), service.clock.sleeps().len()), (0, 0));
}

#[test]
fn a_service_that_does_not_answer_is_given_up() {
    let api = api_to(&stalling_after("")).answer_timeout(ms(100)).build().unwrap();
    let generate = api.generate(&GenerateRequest::new()).unwrap_err();
    let status = api.status(ID).unwrap_err();
    for error in [&generate, &status] {
        assert_eq!((error.kind(), error.http_status(), error.attempts()), (Timeout, None, 1));
        assert!(error.to_string().contains("no answer from 127.0.0.1:"), "{error}");
        assert!(error.to_string().contains("within 100ms"), "{error}");
    }
    assert!(generate.outcome_unknown() && !generate.is_retryable());
    assert!(!status.outcome_unknown() && status.is_retryable());
}

#[test]
fn an_answer_that_does_not_end_is_given_up() {
    let half =
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nx-request-id: r-1\r\n\r\n{\"success\": true, \"agent_id\": \"A1\"";
    let api = api_to(&stalling_after(half)).answer_timeout(ms(250)).build().unwrap();
    let generate = api.generate(&GenerateRequest::new()).unwrap_err();
    let status = api.status(ID).unwrap_err();
    for error in [&generate, &status] {
        assert_eq!((error.kind(), error.http_status(), error.request_id()), (Timeout, Some(200), Some("r-1")));
        assert!(error.to_string().contains("did not end its answer in time"), "{error}");
    }
    assert!(generate.outcome_unknown() && !generate.is_retryable());
    assert!(!status.outcome_unknown() && status.is_retryable());
}

#[test]
fn a_refusal_stays_one_though_its_body_breaks_off() {
    let half = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 100\r\n\r\n{\"error\": \"Inv";
    for url in [saying(half), stalling_after(half)] {
        let api = api_to(&url).answer_timeout(ms(250)).build().unwrap();
        for error in [api.generate(&GenerateRequest::new()).unwrap_err(), api.status(ID).unwrap_err()] {
            assert_eq!((error.kind(), error.http_status()), (Unauthorized, Some(401)), "{error:?}");
            assert_eq!(error.message(), Some("{\"error\": \"Inv"));
            assert!(!error.outcome_unknown());
        }
    }
}

#[test]
fn an_agent_that_was_named_is_not_lost_though_the_answer_breaks_off() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"agent_id\": \"A1\"}";
    for url in [saying(whole), stalling_after(whole)] {
        let api = api_to(&url).answer_timeout(ms(250)).build().unwrap();
        assert_eq!(api.generate(&GenerateRequest::new()).unwrap().agent_id, "A1");
    }
}

#[test]
fn what_breaks_after_the_upload_leaves_the_outcome_unknown() {
    let rows = [
        ("", Network, None),
        ("HTTP/1.1 200 OK\r\ncontent-le", Network, None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"agent_id\": \"A1\"", Network, Some(200)),
        ("HTTP/1.1 200 OK\r\n\r\n{\"agent_id\": \"A1\"", UnexpectedAnswer, Some(200)),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", UnexpectedAnswer, None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n", UnexpectedAnswer, Some(200)),
    ];
    for (answer, kind, http) in rows {
        let api = api_to(&saying(answer)).build().unwrap();
        let generate = api.generate(&GenerateRequest::new()).unwrap_err();
        assert_eq!((generate.kind(), generate.http_status()), (kind, http), "{answer:?}: {generate:?}");
        assert!(generate.outcome_unknown() && !generate.is_retryable(), "{answer:?}");
        let key = generate.idempotency_key().unwrap();
        assert!(generate.to_string().contains(&format!("idempotency key {key}")), "{generate}");
        let status = api.status(ID).unwrap_err();
        assert_eq!((status.kind(), status.http_status()), (kind, http), "{answer:?}: {status:?}");
        assert!(!status.outcome_unknown() && status.is_retryable(), "{answer:?}");
    }
}

#[test]
fn an_answer_without_a_length_is_read_to_its_end() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\n{\"agent_id\": \"A1\", \"data\": {\"status\": \"ready\"}}",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"agent_id\": \"A1\r\n1f\r\n\", \
         \"data\": {\"status\": \"ready\"}}\r\n0\r\n\r\n",
    ] {
        let api = api_to(&saying(answer)).build().unwrap();
        assert_eq!(api.generate(&GenerateRequest::new()).unwrap().agent_id, "A1");
        assert!(api.status(ID).unwrap().is_ready());
    }
}

/// More than the sockets of this machine take up while nobody reads.
const LARGE: usize = 24 << 20;

#[test]
fn what_breaks_in_mid_upload_was_not_taken() {
    let url = listen(|_, mut stream| {
        read_head(&mut stream);
    });
    let api = api_to(&url).build().unwrap();
    let error = api.generate(&GenerateRequest::new().image(Media::bytes(vec![7; LARGE]))).unwrap_err();
    assert_eq!((error.kind(), error.http_status(), error.attempts()), (Network, None, 1));
    assert!(!error.outcome_unknown() && error.is_retryable(), "{error:?}");
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_an_error_and_not_half_an_agent() {
    let file = TempFile::new(&vec![7; LARGE]);
    let path = file.0.clone();
    let (report, received) = mpsc::channel();
    let url = listen(move |_, mut stream| {
        let head = read_head(&mut stream);
        fs::File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        let length = content_length(&head);
        let read = io::copy(&mut stream, &mut io::sink()).unwrap_or_default();
        report.send((length, read)).unwrap();
    });
    let api = api_to(&url).build().unwrap();
    let error = api.generate(&GenerateRequest::new().image(Media::file(&file.0))).unwrap_err();
    assert!(error.to_string().contains(&format!("changed while it was read: {}", file.0.display())), "{error}");
    assert!(!error.outcome_unknown(), "{error:?}");
    drop(api);
    let (length, read) = received.recv().unwrap();
    assert!(read < length, "the service got {read} of {length} bytes");
}

#[test]
fn a_deadline_ends_an_upload_that_is_not_answered() {
    let api = api_to(&stalling_after("")).build().unwrap();
    let wait = Wait::new().timeout(ms(150));
    let error = api.generate_and_wait(&GenerateRequest::new(), &wait).unwrap_err();
    assert_eq!((error.kind(), error.agent_id(), error.attempts()), (WaitTimedOut, None, 1));
    assert!(error.to_string().starts_with("generate: no answer within the 150ms to wait: the time ran out"), "{error}");
    // It may be paid.
    assert!(error.outcome_unknown() && !error.is_retryable());
    assert!(error.idempotency_key().is_some());
}

#[test]
fn a_deadline_ends_a_poll_that_is_not_answered() {
    let api = api_to(&stalling_after("")).build().unwrap();
    let begun = Instant::now();
    let error = api.wait(ID, &Wait::new().timeout(ms(150))).unwrap_err();
    assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());
    assert_eq!((error.kind(), error.agent_id()), (WaitTimedOut, Some(ID)));
    assert!(
        error.to_string().contains(": not seen yet; this is no failure") && error.to_string().contains("s of 150ms"),
        "{error}"
    );
    assert!(!error.outcome_unknown());
}

#[test]
fn a_poll_on_a_connection_that_the_server_has_closed_is_no_end() {
    let ready = json!({"data": {"status": "ready"}}).to_string();
    let going = json!({"data": {"status": "processing"}}).to_string();
    let url = listen(move |n, mut stream| {
        let body = if n == 0 { &going } else { &ready };
        // The first connection promises to stay and is closed.
        let answer = format!("{OK_HEAD}content-length: {}\r\n\r\n{body}", body.len());
        say(&mut stream, &answer);
    });
    let api = api_to(&url).build().unwrap();
    assert!(api.wait(ID, &Wait::new()).unwrap().is_ready());
}

#[test]
fn an_upload_that_is_not_read_in_time_is_given_up() {
    let service = Service::new([started()]);
    let api = service.builder().upload_timeout(ms(0)).build().unwrap();
    let error = api.generate(&GenerateRequest::new().image(Media::bytes([1]))).unwrap_err();
    assert_eq!((error.kind(), error.http_status(), error.attempts()), (Timeout, None, 1));
    assert!(error.to_string().contains(&format!("{} did not read the request in time", service.host())), "{error}");
    assert!(error.idempotency_key().is_some());
}
