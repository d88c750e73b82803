//! Whatever bytes a server sends: no panic, no hang, and an error on one line.

use std::time::Duration;

use bithuman::serde_json::json;
use bithuman::{Agent, Billing, Error, ErrorKind, Generation, Result};

use crate::harness::*;

/// How much of a foreign response an error keeps, in characters.
const EXCERPT: usize = 512;

/// What a status request and a generate request make of a server.
pub type Asked = (Result<Agent>, Result<Generation>);

/// Asks a server that does this on each connection.
pub fn ask(timeout: Duration, play: impl Fn(&mut Connection) + Send + Sync + 'static) -> Asked {
    let server = Server::new([act(play)]);
    // A client each: the connection may be closed just when the next request comes.
    let client = || api(&server.url).response_timeout(timeout).build().unwrap();
    let [one, other] = [client(), client()];
    unless_it_hangs(move || (one.status(ID), other.generate(&small())))
}

/// Asks a server that replies with these bytes and closes the connection.
pub fn ask_for(bytes: impl Into<Vec<u8>>) -> Asked {
    let bytes = bytes.into();
    ask(secs(20), move |c| {
        c.request();
        c.send(&*bytes);
    })
}

/// The errors of both requests. The billing is that of the generate request.
#[track_caller]
pub fn both_fail(
    case: impl AsRef<[u8]>,
    asked: Asked,
    kind: ErrorKind,
    status: Option<u16>,
    billing: Billing,
) -> [Error; 2] {
    let mut case = case.as_ref().escape_ascii().to_string();
    case.truncate(300);
    let errors = [asked.0.expect_err(&case), asked.1.expect_err(&case)];
    for (error, billing) in errors.iter().zip([Billing::Billed, billing]) {
        let facts = (error.kind(), error.http_status(), error.billing());
        assert_eq!(facts, (kind, status, billing), "{case}: {error:?}");
        assert_eq!(error.attempts(), 1, "{case}");
        assert_modest(error);
    }
    assert_eq!(errors[0].agent_id(), Some(ID), "{case}");
    assert!(errors[1].idempotency_key().is_some(), "{case}");
    errors
}

#[track_caller]
fn all_fail(bytes: &[u8], kind: ErrorKind, status: Option<u16>, billing: Billing) -> [Error; 2] {
    both_fail(bytes, ask_for(bytes), kind, status, billing)
}

/// One line, not too long for a log, and without the secret.
#[track_caller]
fn assert_modest(error: &Error) {
    for line in [error.to_string(), format!("{error:?}")] {
        let is_odd = |c: char| c.is_control() || "\u{2028}\u{202e}\u{2066}\u{200b}".contains(c);
        assert!(!line.contains(is_odd), "{line:?}");
        assert!(line.chars().count() <= 8 * EXCERPT, "{line}");
    }
    for text in [error.code(), error.message(), error.details()]
        .into_iter()
        .flatten()
    {
        assert!(text.chars().count() <= EXCERPT, "{text}");
    }
    assert!(!printed(error).contains(SECRET), "{error:?}");
}

/// A head with these headers, each with its line end, and this body.
fn raw(headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}").into()
}

/// A body that is good for both requests.
fn good() -> String {
    json!({"success": true, "agent_id": ID, "data": {"status": "processing"}}).to_string()
}

#[test]
fn what_is_not_http_is_no_response() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\n\r\n",
        b"HTTP/1.1 1000 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n{}",
        b"\x15\x03\x01\x00\x02\x02\x46",
        &[0; 64],
    ] {
        all_fail(bytes, ErrorKind::UnexpectedResponse, None, Billing::Unknown);
    }
    for length in [
        "2\r\ncontent-length: 3",
        "2, 3",
        "-2",
        "+2",
        "two",
        "",
        "99999999999999999999999",
    ] {
        let bytes = raw(&format!("content-length: {length}\r\n"), "{}");
        all_fail(
            &bytes,
            ErrorKind::UnexpectedResponse,
            None,
            Billing::Unknown,
        );
    }
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "2\r\n{} and more\r\n0\r\n\r\n",
        "11111111111111111111111111111111\r\n{}\r\n0\r\n\r\n",
    ] {
        let bytes = raw("transfer-encoding: chunked\r\n", chunks);
        all_fail(
            &bytes,
            ErrorKind::UnexpectedResponse,
            Some(200),
            Billing::Unknown,
        );
    }
}

#[test]
fn a_response_that_breaks_off_is_no_response() {
    use ErrorKind::{Network, UnexpectedResponse};
    let start = "{\"success\": true, \"agent_id\": \"A9";
    let chunk = format!("ff\r\n{start}");
    for (bytes, kind, status) in [
        (Vec::new(), Network, None),
        (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), Network, None),
        (raw("content-length: 99\r\n", start), Network, Some(200)),
        (
            raw("transfer-encoding: chunked\r\n", &chunk),
            Network,
            Some(200),
        ),
        // Nothing but the JSON says that this is not the end.
        (raw("", start), UnexpectedResponse, Some(200)),
    ] {
        all_fail(&bytes, kind, status, Billing::Unknown);
    }
    // Where the connection is reset, the system may drop what came before.
    for bytes in [raw("content-length: 99\r\n", start), raw("", start)] {
        let server = Server::new([act(move |c| {
            c.all_but_the_last_byte();
            c.send(&*bytes);
        })]);
        let error = api(&server.url)
            .build()
            .unwrap()
            .generate(&small())
            .unwrap_err();
        assert!(
            matches!(error.kind(), Network | UnexpectedResponse),
            "{error:?}"
        );
        assert_eq!(error.billing(), Billing::Unknown);
        assert_modest(&error);
    }
    for rest in [
        "content-length: 100\r\n\r\n<html>",
        "transfer-encoding: chunked\r\n\r\nff\r\n<html>",
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        for (status, kind) in [
            (302, ErrorKind::Rejected),
            (401, ErrorKind::Unauthorized),
            (422, ErrorKind::Rejected),
        ] {
            let bytes = format!("HTTP/1.1 {status} No\r\n{rest}");
            all_fail(bytes.as_bytes(), kind, Some(status), Billing::NotBilled);
        }
    }
}

#[test]
fn a_response_of_another_kind_is_no_response() {
    use ErrorKind::{Service, UnexpectedResponse};
    for status in [101, 204, 205] {
        let bytes = format!("HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n");
        all_fail(
            bytes.as_bytes(),
            UnexpectedResponse,
            Some(status),
            Billing::Unknown,
        );
    }
    for status in [600, 999] {
        let bytes = format!("HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n");
        all_fail(bytes.as_bytes(), Service, Some(status), Billing::Unknown);
    }
    let nested = "[".repeat(100_000);
    let objects = "{\"data\":".repeat(100_000);
    for body in [
        &b""[..],
        b" \r\n",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00\x00",
        b"[1, 2, 3]",
        b"null",
        b"{\"status\": 1, \"status\": 2",
        b"{\"success\": true, \"\xff\xfe\": \"\xc3\x28\"}",
        b"<!doctype html>\n<html>\n\t<title>Welcome to the airport</title>",
        nested.as_bytes(),
        objects.as_bytes(),
    ] {
        let bytes: Vec<u8> = Reply::new(200, body).into();
        all_fail(&bytes, UnexpectedResponse, Some(200), Billing::Unknown);
        let bytes: Vec<u8> = Reply::new(500, body).into();
        all_fail(&bytes, Service, Some(500), Billing::Unknown);
    }
}

#[test]
fn a_good_response_in_an_odd_form_is_read() {
    let good = good();
    let plain: Vec<u8> = Reply::new(200, &*good).into();
    let length = format!("content-length: {}\r\n", good.len());
    let chunks = format!(
        "{:x};extension=1\r\n{good}\r\n0\r\ntrailer: 1\r\n\r\n",
        good.len()
    );
    let interim = b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n";
    let head = raw(&length, "");
    for bytes in [
        Reply::new(200, &*good)
            .header("content-encoding", "gzip")
            .into(),
        Reply::new(200, &*good)
            .header("content-type", "text/html")
            .into(),
        raw("transfer-encoding: chunked\r\n", &chunks),
        raw("", &good),
        format!("HTTP/1.0 200 OK\r\n\r\n{good}").into(),
        raw(&length.repeat(2), &good),
        String::from_utf8(plain.clone())
            .unwrap()
            .replace('\r', "")
            .into(),
        [&interim[..], &plain].concat(),
        [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], &plain].concat(),
        [&plain[..], b"HTTP/1.1 500 Odd\r\n\r\n"].concat(),
        // Bytes beyond ASCII in the headers that are looked at.
        [
            &head[..head.len() - 2],
            b"x-request-id: \xff\xfe\r\nidempotency-replayed: \xff\r\nretry-after: \x80\r\n\r\n",
            good.as_bytes(),
        ]
        .concat(),
    ] {
        let case = bytes.escape_ascii().to_string();
        let (status, generation) = ask_for(bytes);
        assert_eq!(status.expect(&case).agent_id, ID, "{case}");
        let generation = generation.expect(&case);
        assert!(generation.agent_id == ID && !generation.replayed, "{case}");
    }
}

#[test]
fn control_and_bidi_characters_are_escaped() {
    let nasty = "a\r\nb\t\0\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\u{2066}\u{200b}c";
    let escaped = r"a\r\nb\t\u{0}\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\u{2066}\u{200b}c";
    for reply in [
        Reply::json(
            500,
            json!({"error": nasty, "code": nasty, "details": nasty}),
        ),
        Reply::json(
            500,
            json!({"error": "CODE", "message": nasty, "details": {"why": [nasty]}}),
        ),
        Reply::json(500, json!({"error": {"code": nasty, "message": nasty}})),
        Reply::new(500, format!("<p>{nasty}</p>")),
        Reply::new(500, format!("<title>{nasty}</title>")),
    ] {
        let bytes: Vec<u8> = reply.header("x-request-id", "a\tb").into();
        for error in all_fail(&bytes, ErrorKind::Service, Some(500), Billing::Unknown) {
            assert_says(&error, escaped);
            assert_says(&error, r"[request a\tb]");
        }
    }
    let agent = json!({"status": "failed", "error_message": nasty, "current_step": nasty});
    let server = Server::new([reply(super::harness::agent(agent))]);
    let api = api(&server.url).build().unwrap();
    let error = api.wait(ID, &bithuman::Wait::new()).unwrap_err();
    assert_says(&error, escaped);
    assert_modest(&error);
}

#[test]
fn a_long_text_is_cut() {
    let long = "no ".repeat(100_000);
    for body in [
        json!({"error": long, "code": "CODE"}),
        json!({"error": "no", "code": long}),
        json!({"error": "no", "details": [long]}),
    ] {
        let bytes: Vec<u8> = Reply::json(400, body).into();
        all_fail(&bytes, ErrorKind::Rejected, Some(400), Billing::NotBilled);
    }
    let far = format!("/{}", "x".repeat(14_000));
    let bytes: Vec<u8> = Reply::new(302, "").header("location", far).into();
    all_fail(&bytes, ErrorKind::Rejected, Some(302), Billing::NotBilled);
}

/// Damages a good response again and again, always in the same ways.
#[test]
fn no_damage_to_a_response_makes_a_call_panic() {
    let good: Vec<u8> = Reply::new(200, good())
        .header("content-type", "application/json")
        .header("x-odd", "odd")
        .close()
        .into();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let mut damaged = Vec::new();
    for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_alphabetic()) {
        // In the version, the status, a header's name and value, the length, and the body.
        for place in [".1 ", "200", "odd:", " odd", "length: ", "processing"] {
            let mut windows = good.windows(place.len());
            let at = windows.position(|window| window == place.as_bytes());
            damaged.push(good.clone());
            damaged.last_mut().unwrap()[at.unwrap()] = byte;
        }
    }
    for _ in 0..300 {
        let mut response = good.clone();
        for _ in 0..1 + below(4) {
            let from = below(response.len() - 16);
            let to = from + below(16);
            match below(4) {
                0 => response[from] = below(256) as u8,
                1 => drop(response.drain(from..to)),
                2 => response.extend_from_within(from..to),
                _ => response.insert(from, b"\r\n:; 0{\""[below(8)]),
            }
        }
        damaged.push(response);
    }
    let count = damaged.len();
    let server = Server::new([act(move |c| {
        let Some(request) = c.head() else { return };
        let number = request.target.rsplit('/').next().unwrap();
        c.send(&*damaged[number.parse::<usize>().unwrap()]);
    })]);
    let api = api(&server.url).build().unwrap();
    for number in 0..count {
        let api = api.clone();
        let asked = unless_it_hangs(move || api.status(&number.to_string()));
        if let Err(error) = asked {
            assert_modest(&error);
        }
    }
}
