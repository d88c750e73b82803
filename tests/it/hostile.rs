//! Whatever a server answers: no panic, no hang, bounded memory, and an error that fits.

use std::io::Write;
use std::iter;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bithuman::serde_json::json as value;
use bithuman::{Agent, Error, ErrorKind, GenerateRequest, Generation, Media, Result};

use crate::fault::*;
use crate::script::*;
use crate::support::*;

/// What no test here comes near to.
const PATIENCE: Duration = Duration::from_secs(20);

/// A time-out that is to run out.
const SHORT: Duration = Duration::from_millis(100);

/// More than any answer is worth reading, and more than the sockets of a machine take in.
const FLOOD: usize = 256 * 1024 * 1024;

/// How much of a foreign answer an error keeps.
const EXCERPT: usize = 512;

type Asked = (Result<Agent>, Result<Generation>);

/// Asks a server that plays this act on every connection for a status, and to generate.
fn ask(answer_timeout: Duration, play: impl Fn(&mut Connection) + Send + Sync + 'static) -> Asked {
    let server = Script::new([act(play)]);
    let api = api_to(&server.url).answer_timeout(answer_timeout).retries(0).build().unwrap();
    unless_it_hangs(move || (api.status(ID), api.generate(&small())))
}

/// The same of a server that says this, and closes.
fn ask_for(bytes: impl Into<Vec<u8>>) -> Asked {
    let bytes = bytes.into();
    ask(PATIENCE, move |c| {
        c.request();
        c.send(&bytes);
    })
}

/// The errors of both calls, after checking what is so of all of them. `unknown` is the outcome of
/// the generate.
#[track_caller]
fn both_fail(case: &str, asked: Asked, kind: ErrorKind, status: Option<u16>, unknown: bool) -> [Error; 2] {
    let errors = [asked.0.expect_err(case), asked.1.expect_err(case)];
    for (error, unknown) in iter::zip(&errors, [false, unknown]) {
        let told = (error.kind(), error.http_status(), error.outcome_unknown(), error.attempts());
        assert_eq!(told, (kind, status, unknown, 1), "{case}: {error:?}");
        assert_modest(case, error);
    }
    assert_eq!(errors[0].agent_id(), Some(ID), "{case}");
    assert!(errors[1].idempotency_key().is_some(), "{case}");
    errors
}

/// One line, not too long for a log, and without the secret.
#[track_caller]
fn assert_modest(case: &str, error: &Error) {
    for line in [error.to_string(), format!("{error:?}")] {
        assert!(!line.chars().any(char::is_control), "{case}: {line:?}");
        assert!(line.len() <= 16 * EXCERPT, "{case}: {} bytes", line.len());
    }
    for text in [error.code(), error.message(), error.details()].into_iter().flatten() {
        assert!(text.chars().count() <= EXCERPT, "{case}: {} bytes kept", text.len());
    }
    assert!(!printed(error).contains(SECRET), "{case}: {error:?}");
}

/// A head of these header lines, and the body as it is.
fn raw(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body.as_ref()].concat()
}

/// An answer that is good for both calls.
fn good() -> String {
    value!({"success": true, "agent_id": ID, "status": "processing", "data": {"status": "processing"}}).to_string()
}

/// Sends `piece` again and again until the client is gone. A client that does not go is left alone
/// after a while, so that its test fails and does not hang.
fn drip(c: &mut Connection, piece: &str) {
    for _ in 0..250 {
        if c.stream.write_all(piece.as_bytes()).is_err() {
            return;
        }
        thread::sleep(ms(20));
    }
}

/// Sends as much as the client takes, and tells how much that was.
fn pour(c: &mut Connection, start: &[u8], piece: &[u8], poured: &mpsc::Sender<usize>) {
    c.request();
    c.send(start);
    let block = piece.repeat(64 * 1024 / piece.len());
    let mut sent = 0;
    while sent < FLOOD && c.stream.write_all(&block).is_ok() {
        sent += block.len();
    }
    poured.send(sent).unwrap();
}

/// Both calls fail alike, and each has read a small part of an answer without an end.
#[track_caller]
fn assert_not_swallowed(case: &str, start: impl Into<Vec<u8>>, piece: &'static [u8], status: Option<u16>) {
    let (poured, amounts) = mpsc::channel();
    let start = start.into();
    let asked = ask(PATIENCE, move |c| pour(c, &start, piece, &poured));
    both_fail(case, asked, ErrorKind::UnexpectedAnswer, status, true);
    for _ in 0..2 {
        let amount = amounts.recv_timeout(PATIENCE).unwrap();
        assert!(amount < FLOOD / 2, "{case}: {amount} bytes went out");
    }
}

#[test]
fn what_is_not_http_is_no_answer() {
    for (case, bytes) in [
        ("another protocol", &b"SSH-2.0-OpenSSH_9.6\r\n"[..]),
        ("another version", b"HTTP/2 200\r\n\r\n"),
        ("no status", b"HTTP/1.1 OK\r\n\r\n"),
        ("a status below all", b"HTTP/1.1 099 Odd\r\n\r\n"),
        ("a status above all", b"HTTP/1.1 1000 Odd\r\n\r\n"),
        ("no header", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n{}"),
        ("TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
        ("zeros", &[0; 64]),
    ] {
        both_fail(case, ask_for(bytes), ErrorKind::UnexpectedAnswer, None, true);
    }
}

#[test]
fn a_length_that_is_none_is_no_answer() {
    for headers in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 3\r\n",
        "content-length: -2\r\n",
        "content-length: +2\r\n",
        "content-length: two\r\n",
        "content-length: \r\n",
        "content-length: 99999999999999999999999\r\n",
    ] {
        both_fail(headers, ask_for(raw(headers, "{}")), ErrorKind::UnexpectedAnswer, None, true);
    }
}

#[test]
fn a_bad_chunk_is_no_answer() {
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "2\r\n{} and more\r\n0\r\n\r\n",
        "11111111111111111111111111111111\r\n{}\r\n0\r\n\r\n",
    ] {
        let answer = raw("transfer-encoding: chunked\r\n", chunks);
        both_fail(chunks, ask_for(answer), ErrorKind::UnexpectedAnswer, Some(200), true);
    }
}

#[test]
fn a_good_answer_in_odd_clothes_is_taken() {
    let good = good();
    let plain = http(200, "", &good);
    let chunks = format!("{:x};extension=1\r\n{good}\r\n0\r\ntrailer: 1\r\n\r\n", good.len());
    let length = format!("content-length: {}\r\n", good.len());
    for (case, answer) in [
        ("labelled gzip", http(200, "content-encoding: gzip\r\n", &good)),
        ("labelled HTML", http(200, "content-type: text/html\r\n", &good)),
        ("chunks with all there is", raw("transfer-encoding: chunked\r\n", chunks)),
        ("ended by closing", raw("", &good)),
        ("HTTP/1.0", format!("HTTP/1.0 200 OK\r\n\r\n{good}").into()),
        ("the same length twice", raw(&length.repeat(2), &good)),
        ("no carriage returns", format!("HTTP/1.1 200 OK\n{length}\n{good}").replace('\r', "").into()),
        (
            "after interim answers",
            [&b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n"[..], &plain].concat(),
        ),
        ("after an unasked 100", [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], &plain].concat()),
        ("with more behind it", [&plain[..], b"HTTP/1.1 500 Odd\r\n\r\n"].concat()),
    ] {
        let (status, generate) = ask_for(answer);
        assert_eq!(status.expect(case).agent_id, ID, "{case}");
        assert_eq!(generate.expect(case).agent_id, ID, "{case}");
    }
}

#[test]
fn a_200_that_is_not_the_services_keeps_an_excerpt() {
    let portal = "<!doctype html>\n<html>\n\t<title>Welcome to the airport</title>".to_owned() + &"<p>".repeat(5000);
    for (case, body) in [
        ("a captive portal", portal.as_bytes()),
        ("not UTF-8", b"{\"success\": true, \"agent_id\": \"\xff\xfe\xc3\x28\"}"),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00\x00"),
        ("a list", b"[1, 2, 3]"),
        ("null", b"null"),
        ("the start of an object", b"{\"success\": true, \"agent_id\": \"A9"),
        ("an object and more", b"{\"success\": true} trailing"),
        ("the same name twice, and open", b"{\"status\": 1, \"status\": 2"),
    ] {
        let errors = both_fail(case, ask_for(http(200, "", body)), ErrorKind::UnexpectedAnswer, Some(200), true);
        for error in errors {
            let text = String::from_utf8_lossy(body);
            let excerpt: String = text.trim().chars().take(EXCERPT).collect();
            assert_eq!(error.message(), Some(&*excerpt), "{case}");
        }
    }
}

#[test]
fn an_empty_200_is_no_answer() {
    for (case, answer, status) in [
        ("no body", http(200, "", ""), 200),
        ("white space", http(200, "", " \r\n"), 200),
        ("closed at once", raw("", ""), 200),
        ("no chunk", raw("transfer-encoding: chunked\r\n", "0\r\n\r\n"), 200),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 204),
        ("reset", http(205, "", ""), 205),
    ] {
        let errors = both_fail(case, ask_for(answer), ErrorKind::UnexpectedAnswer, Some(status), true);
        assert!(errors.iter().all(|error| error.message().is_none()), "{case}");
    }
}

#[test]
fn a_200_without_what_a_call_needs_is_no_answer() {
    for body in [
        value!({"success": true}),
        value!({"success": true, "agent_id": 7, "data": {"agent_id": ID, "status": 7}}),
        value!({"success": true, "agent_id": "", "data": {"agent_id": ID}}),
        value!({"success": true, "agent_id": null, "data": {"status": null}}),
        value!({"success": true, "agent_id": [ID], "data": {"status": ["ready"]}}),
        value!({"success": true, "agent_id": {"id": ID}, "data": [{"status": "ready"}]}),
        value!({"success": "yes", "data": "ready"}),
        value!({"success": true, "data": {}, "more": "x".repeat(5000)}),
    ] {
        let case = body.to_string();
        both_fail(&case, ask_for(json(200, body)), ErrorKind::UnexpectedAnswer, Some(200), true);
    }
}

#[test]
fn a_hundred_thousand_levels_are_no_answer() {
    for (open, close) in [("[", "]"), ("{\"data\":", "}")] {
        let body = open.repeat(100_000) + "1" + &close.repeat(100_000);
        for (status, kind) in [(200, ErrorKind::UnexpectedAnswer), (500, ErrorKind::Service)] {
            both_fail(open, ask_for(http(status, "", &body)), kind, Some(status), true);
        }
    }
}

#[test]
fn a_status_nobody_knows_is_no_answer() {
    for (status, kind) in [(101, ErrorKind::UnexpectedAnswer), (600, ErrorKind::Service), (999, ErrorKind::Service)] {
        let answer = format!("HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n");
        both_fail(&answer, ask_for(answer.as_str()), kind, Some(status), true);
    }
}

#[test]
fn a_body_that_breaks_off_is_no_answer() {
    let start = "{\"success\": true, \"agent_id\": \"A9";
    let chunk = format!("ff\r\n{start}");
    // By its length or its chunks a body is seen to break off; without, the JSON is.
    for (case, answer, kind) in [
        ("a length", raw("content-length: 100\r\n", start), ErrorKind::Network),
        ("chunks", raw("transfer-encoding: chunked\r\n", chunk), ErrorKind::Network),
        ("neither", raw("", start), ErrorKind::UnexpectedAnswer),
    ] {
        both_fail(case, ask_for(answer.clone()), kind, Some(200), true);
        let (status, generate) = ask(PATIENCE, move |c| reset_after(c, &answer));
        let errors = [status.expect_err(case), generate.expect_err(case)];
        for error in &errors {
            // The system may drop with the connection what came before.
            assert!(matches!(error.kind(), ErrorKind::Network | ErrorKind::UnexpectedAnswer), "{case}: {error:?}");
            assert_modest(case, error);
        }
        assert!(errors[1].outcome_unknown(), "{case}");
    }
}

/// Answers, and has the connection reset: it is when something on it is not read.
fn reset_after(c: &mut Connection, answer: &[u8]) {
    let mut method = [0; 4];
    let _ = c.stream.peek(&mut method);
    if &method == b"POST" {
        c.all_but_the_last_byte();
    }
    c.send(answer);
}

#[test]
fn a_head_that_drips_runs_out_of_time() {
    for (case, start, piece) in [
        ("nothing", "", ""),
        ("a header without an end", "HTTP/1.1 200 OK\r\nx-drip: ", "x"),
        ("headers without an end", "HTTP/1.1 200 OK\r\n", "x-drip: 1\r\n"),
        ("a status line without an end", "HTTP/1.1 200 ", "O"),
    ] {
        let asked = ask(SHORT, move |c| {
            c.request();
            c.send(start);
            drip(c, piece);
        });
        both_fail(case, asked, ErrorKind::Timeout, None, true);
    }
}

#[test]
fn a_body_that_drips_runs_out_of_time() {
    for (case, headers, start, piece) in [
        ("a length", "content-length: 100000\r\n", "{", " "),
        ("neither length nor chunks", "", "{", " "),
        ("nothing of a length", "content-length: 100000\r\n", "", ""),
        ("chunks", "transfer-encoding: chunked\r\n", "1\r\n{\r\n", "1\r\n \r\n"),
        ("within a chunk", "transfer-encoding: chunked\r\n", "ffff\r\n{", " "),
        ("trailers", "transfer-encoding: chunked\r\n", "2\r\n{}\r\n0\r\n", "x-drip: 1\r\n"),
        ("the last line", "transfer-encoding: chunked\r\n", "2\r\n{}\r\n0\r\n", ""),
    ] {
        let (status, generate) = ask(SHORT, move |c| {
            c.request();
            c.send(raw(headers, start));
            drip(c, piece);
        });
        let errors = [status.expect_err(case), generate.expect_err(case)];
        for error in &errors {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{case}: {error:?}");
            assert_modest(case, error);
        }
        assert!(errors[1].outcome_unknown(), "{case}");
    }
}

#[test]
fn a_refusal_is_one_however_it_ends() {
    for (case, rest) in [
        ("broken off", "content-length: 100\r\n\r\n<html>"),
        ("in mid-chunk", "transfer-encoding: chunked\r\n\r\nff\r\n<html>"),
        ("a bad chunk", "transfer-encoding: chunked\r\n\r\nzz\r\n"),
    ] {
        for (status, kind) in [(302, ErrorKind::Rejected), (401, ErrorKind::Unauthorized), (422, ErrorKind::Rejected)] {
            let answer = format!("HTTP/1.1 {status} No\r\n{rest}");
            both_fail(case, ask_for(answer), kind, Some(status), false);
        }
    }
    // Here the head must arrive in time, and the body not.
    let asked = ask(ms(300), |c| {
        c.request();
        c.send("HTTP/1.1 401 No\r\ncontent-length: 100000\r\n\r\n");
        drip(c, " ");
    });
    both_fail("it drips", asked, ErrorKind::Unauthorized, Some(401), false);
}

#[test]
fn interim_answers_without_an_end_run_out_of_time() {
    for interim in ["HTTP/1.1 103 Hints\r\n\r\n", "HTTP/1.1 102 Wait\r\nx: 1\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"]
    {
        let block = interim.repeat(100);
        let asked = ask(SHORT, move |c| {
            c.request();
            drip(c, &block);
        });
        both_fail(interim, asked, ErrorKind::Timeout, None, true);
    }
}

#[test]
fn a_head_without_an_end_is_not_swallowed() {
    for (case, start, piece) in [
        ("a header", "HTTP/1.1 200 OK\r\nx: ", &b"x"[..]),
        ("headers", "HTTP/1.1 200 OK\r\n", b"x: 1\r\n"),
        ("long headers", "HTTP/1.1 200 OK\r\n", &[b'x'; 9000]),
        ("a status line", "HTTP/1.1 200 ", b"O"),
        ("empty lines", "", b"\r\n"),
    ] {
        assert_not_swallowed(case, start, piece, None);
    }
}

#[test]
fn a_body_without_an_end_is_not_swallowed() {
    for (case, headers, start, piece) in [
        ("10 GB", "content-length: 10000000000\r\n", "{\"x\": \"", &b"x"[..]),
        ("chunks", "transfer-encoding: chunked\r\n", "", b"a\r\n0123456789\r\n"),
        ("one chunk", "transfer-encoding: chunked\r\n", "ffffffffffffffff\r\n", b"x"),
        ("until it closes", "", "[", b"[],"),
    ] {
        assert_not_swallowed(case, raw(headers, start), piece, Some(200));
    }
}

#[test]
fn a_refusal_without_an_end_is_not_swallowed() {
    let (poured, amounts) = mpsc::channel();
    let start = b"HTTP/1.1 403 No\r\ncontent-length: 10000000000\r\n\r\n";
    let asked = ask(PATIENCE, move |c| pour(c, start, b"<html>", &poured));
    for error in both_fail("a refusal", asked, ErrorKind::Unauthorized, Some(403), false) {
        assert_eq!(error.message().map(str::len), Some(EXCERPT));
        assert!(amounts.recv_timeout(PATIENCE).unwrap() < FLOOD / 2);
    }
}

#[test]
fn control_characters_are_escaped() {
    let nasty = "a\r\nb\t\0\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\u{2066}c";
    let escaped = r"a\r\nb\t\u{0}\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\u{2066}c";
    for (status, body) in [
        (500, value!({"error": nasty, "code": nasty, "details": nasty})),
        (400, value!({"success": false, "error": "CODE", "message": nasty, "details": {"why": [nasty]}})),
        (409, value!({"error": {"code": nasty, "message": nasty}})),
    ] {
        let (status, generate) = ask_for(json(status, body));
        for error in [status.unwrap_err(), generate.unwrap_err()] {
            assert_modest("JSON", &error);
            assert!(error.to_string().contains(escaped), "{error}");
        }
    }
    let (status, generate) = ask_for(http(500, "x-request-id: a\tb\r\n", format!("<p>{nasty}</p>")));
    for error in [status.unwrap_err(), generate.unwrap_err()] {
        assert_modest("HTML", &error);
        assert!(error.to_string().contains(escaped), "{error}");
        assert!(error.to_string().ends_with(r"[request a\tb]"), "{error}");
    }
}

#[test]
fn the_secret_of_an_echo_is_masked() {
    let json_headers = format!("x-request-id: {SECRET}\r\nlocation: https://a/?s={SECRET}\r\n");
    for (case, status, body) in [
        ("every field", 400, value!({"error": SECRET, "code": SECRET, "details": SECRET}).to_string()),
        ("every old field", 401, value!({"success": false, "error": SECRET, "message": SECRET}).to_string()),
        ("every new field", 409, value!({"error": {"code": SECRET, "message": SECRET}}).to_string()),
        ("details", 400, value!({"error": "x", "details": {"headers": [SECRET, {"x": SECRET}]}}).to_string()),
        ("a place to go", 302, String::new()),
        ("a page", 500, format!("<pre>api-secret: {SECRET}</pre>")),
        ("a page that goes for good", 200, format!("<pre>api-secret: {SECRET}</pre>")),
        ("what is missing", 200, value!({"success": true, "headers": {"api-secret": SECRET}}).to_string()),
        ("a word", 500, format!("\"{SECRET}\"")),
    ] {
        let (status, generate) = ask_for(http(status, &json_headers, body));
        for error in [status.expect_err(case), generate.expect_err(case)] {
            assert_modest(case, &error);
            assert!(error.to_string().contains("[secret]"), "{case}: {error}");
            assert_eq!(error.request_id(), Some("[secret]"), "{case}");
        }
    }
}

#[test]
fn no_part_of_an_echo_is_left_where_the_excerpt_ends() {
    for before in EXCERPT - SECRET.len()..=EXCERPT {
        let (status, _) = ask_for(http(500, "", "x".repeat(before) + SECRET));
        let error = status.unwrap_err();
        let left = error.message().unwrap().trim_start_matches('x');
        assert!("[secret]".starts_with(left), "{before}: {left}");
    }
}

#[test]
fn a_word_instead_of_an_object_is_in_no_cause() {
    let asked = ask_for(http(200, "", format!("\"{SECRET}{}\"", "x".repeat(100_000))));
    both_fail("a string", asked, ErrorKind::UnexpectedAnswer, Some(200), true);
}

#[test]
fn the_name_of_a_field_can_be_an_echo() {
    let fields = value!({"success": true, "agent_id": ID, SECRET: 1, "data": {"status": "ready", SECRET: {SECRET: 1}}});
    let (status, generate) = ask_for(json(200, fields));
    let shown = format!("{:?} {:?}", status.unwrap(), generate.unwrap());
    assert!(!shown.contains(SECRET), "{shown}");
    let lacking = value!({"success": true, SECRET: 1, "data": {SECRET: 1}});
    both_fail("lacking", ask_for(json(200, lacking)), ErrorKind::UnexpectedAnswer, Some(200), true);
}

#[test]
fn an_echo_escaped_as_json_does_is_masked() {
    // What encoders escape: all of them the quote and the backslash, some the slash.
    for (secret, echoed) in
        [(r#"ab"cdefgh"#, r#"ab\"cdefgh"#), (r"ab\cdefgh", r"ab\\cdefgh"), ("ab/cdefgh", r"ab\/cdefgh")]
    {
        for status in [200, 500] {
            let body = format!("{{\"headers\": {{\"api-secret\": \"{echoed}\"}}}}");
            let server = Script::new([act(move |c| {
                c.request();
                c.send(http(status, "", &body));
            })]);
            let api = api_to(&server.url).secret(secret).retries(0).build().unwrap();
            for error in [api.status(ID).unwrap_err(), api.generate(&small()).unwrap_err()] {
                let shown = printed(&error);
                assert!(!shown.contains(secret) && !shown.contains(echoed), "{status}: {error}");
            }
        }
    }
}

#[test]
fn a_long_message_is_cut() {
    let long = "no ".repeat(100_000);
    for (case, body) in [
        ("message", value!({"error": long, "code": "CODE"})),
        ("code", value!({"error": "no", "code": long})),
        ("details", value!({"error": "no", "details": [long]})),
    ] {
        both_fail(case, ask_for(json(400, body)), ErrorKind::Rejected, Some(400), false);
    }
    let far = format!("location: /{}\r\n", "x".repeat(14_000));
    both_fail("location", ask_for(http(302, &far, "")), ErrorKind::Rejected, Some(302), false);
}

#[test]
fn header_bytes_beyond_ascii_are_passed_over() {
    let headers = b"x-request-id: \xff\xfe\r\nretry-after: \x80\r\nlocation: \xe9\r\nidempotency-replayed: \xff\r\n";
    let head = |status: &str| [format!("HTTP/1.1 {status} \u{e9}\r\n").as_bytes(), headers].concat();
    let good = good();
    let answer = [&head("200")[..], format!("content-length: {}\r\n\r\n{good}", good.len()).as_bytes()].concat();
    let (status, generate) = ask_for(answer);
    assert_eq!(status.unwrap().agent_id, ID);
    assert!(!generate.unwrap().replayed);
    for (status, kind, unknown) in [(302, ErrorKind::Rejected, false), (500, ErrorKind::Service, true)] {
        let answer = [&head(&status.to_string())[..], b"content-length: 0\r\n\r\n"].concat();
        for error in both_fail("a header", ask_for(answer), kind, Some(status), unknown) {
            assert_eq!((error.request_id(), error.retry_after()), (None, None));
        }
    }
}

/// Answers a status with the one of these answers that its agent id names.
fn answer_by_number(answers: Vec<Vec<u8>>) {
    let count = answers.len();
    let server = Script::new([act(move |c| {
        if let Some(heard) = c.head() {
            let number = heard.head.split(['/', ' ']).find_map(|part| part.parse::<usize>().ok());
            c.send(&answers[number.unwrap()]);
        }
    })]);
    let api = api_to(&server.url).answer_timeout(PATIENCE).retries(0).build().unwrap();
    unless_it_hangs(move || {
        for number in 0..count {
            if let Err(error) = api.status(&number.to_string()) {
                assert_modest(&number.to_string(), &error);
            }
        }
    });
}

fn whole_answer() -> Vec<u8> {
    http(200, "content-type: application/json\r\nx-odd: odd\r\n", good())
}

#[test]
fn no_byte_in_an_answer_makes_a_call_panic() {
    let whole = whole_answer();
    let find = |text: &str| whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    // Within the version, the status, a header's name and its value, a length, and the body.
    let places = [".1 ", "200", "odd:", " odd", "length: ", "processing"].map(find);
    let bytes = (0..=255_u8).filter(|byte| !byte.is_ascii_alphabetic());
    let odd = bytes.flat_map(|byte| {
        places.map(|place| {
            let mut answer = whole.clone();
            answer[place] = byte;
            answer
        })
    });
    answer_by_number(odd.collect());
}

#[test]
fn no_damage_to_an_answer_makes_a_call_panic() {
    // Always the same damage: what fails here fails again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let damaged = (0..300).map(|_| {
        let mut answer = whole_answer();
        for _ in 0..1 + below(4) {
            let (from, to) = (below(answer.len()), below(answer.len()));
            let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 16));
            match below(4) {
                0 => answer[from] = below(256) as u8,
                1 => drop(answer.drain(from..to)),
                2 => answer.extend_from_within(from..to),
                _ => answer.insert(from, b"\r\n:; 0{\""[below(8)]),
            }
        }
        answer
    });
    answer_by_number(damaged.collect());
}

#[test]
fn what_follows_a_100_does_not_make_a_generate_panic() {
    // Sizes about those of the buffers, most of it to be thrown away and the rest to be kept.
    for (reason, rest) in [(0, 7000), (100, 9000), (2000, 5980), (3000, 4000), (7000, 9000), (0, 40_000)] {
        let bytes = format!("HTTP/1.1 100 {}\r\n\r\n{}", "r".repeat(reason), "x".repeat(rest));
        let server = Script::new([act(move |c| {
            c.head();
            c.send(&bytes);
            c.hold();
        })]);
        let api = api_to(&server.url).retries(0).build().unwrap();
        let large = GenerateRequest::new().image(Media::bytes(vec![1; 1_000_000]));
        let error = unless_it_hangs(move || api.generate(&large)).unwrap_err();
        assert_modest("100", &error);
    }
}
