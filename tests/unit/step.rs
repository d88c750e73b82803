use ureq::http::header::{HeaderName, HeaderValue};
use ureq::http::{HeaderMap, Version};

use super::*;
use crate::error::Facts;
use ErrorKind::{Rejected, Service, UnexpectedResponse};

fn note() -> Note {
    Note {
        etag: Some("\"a\"".into()),
        total: Some(100),
        ..Note::default()
    }
}

/// A head from a status and headers: `206, etag: "a", content-length: 60`. That of HTTP/1.0 begins
/// with `1.0`.
fn head(text: &str) -> Head {
    let version = match text.starts_with("1.0 ") {
        true => Version::HTTP_10,
        false => Version::HTTP_11,
    };
    let mut words = text.trim_start_matches("1.0 ").split(", ");
    let status = words.next().unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for word in words {
        let (name, value) = word.split_once(": ").unwrap();
        let name: HeaderName = name.parse().unwrap();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    Head {
        status,
        version,
        headers,
    }
}

#[test]
fn a_part_is_continued_only_by_the_same_file_at_the_same_offset() {
    let same = "206, etag: \"a\", content-range: bytes";
    let other = |etag| format!("206, etag: {etag}, content-range: bytes 40-99/100");
    for (text, expected) in [
        (format!("{same} 40-99/100"), true),
        // The server may send less than it was asked for.
        (format!("{same} 40-49/100"), true),
        (format!("{same} 40-99/100, content-length: 60"), true),
        (format!("{same} 40-99/100, content-length: 61"), false),
        (format!("{same} 40-99/100, content-encoding: gzip"), false),
        (
            format!("{same} 40-99/100, transfer-encoding: Chunked"),
            true,
        ),
        (
            format!("1.0 {same} 40-99/100, transfer-encoding: chunked"),
            false,
        ),
        (format!("{same} 40-99/100, transfer-encoding: gzip"), false),
        (format!("{same} 39-99/100"), false),
        (format!("{same} 0-99/100"), false),
        (format!("{same} 40-99/101"), false),
        (format!("{same} 40-99/*"), false),
        (format!("{same} 40-100/100"), false),
        (format!("{same} 40-39/100"), false),
        (format!("{same} 40-/100"), false),
        (format!("{same}=40-99/100"), false),
        (other("\"b\""), false),
        (other("W/\"a\""), false),
        ("206, content-range: bytes 40-99/100".into(), false),
        ("206, etag: \"a\"".into(), false),
        ("416, content-range: bytes */100".into(), false),
        ("416".into(), false),
    ] {
        let step = match expected {
            true => Step::Write(40, Some(100)),
            false => Step::WithoutRange,
        };
        assert_eq!(
            next_step(&head(&text), Some(40), &note(), 0),
            step,
            "{text}"
        );
    }
    // A chunked response had no total.
    let chunked = Note {
        total: None,
        ..note()
    };
    let step = next_step(&head(&format!("{same} 40-99/100")), Some(40), &chunked, 0);
    assert_eq!(step, Step::Write(40, Some(100)));
    let step = next_step(&head(&format!("{same} 40-40/40")), Some(40), &chunked, 0);
    assert_eq!(step, Step::WithoutRange);
}

#[test]
fn a_response_without_the_file_never_begins_one() {
    let whole = [
        ("200, content-length: 90", Some(90)),
        ("200, etag: \"b\", content-length: 90", Some(90)),
        (
            "200, content-length: 9, content-encoding: identity",
            Some(9),
        ),
        ("200, transfer-encoding: chunked", None),
        // The chunks count, and not the length.
        ("200, transfer-encoding: chunked, content-length: 9", None),
        (
            "200, transfer-encoding: identity, content-length: 9",
            Some(9),
        ),
        ("1.0 200, content-length: 9", Some(9)),
        (
            "200, content-length: 9, content-type: application/octet-stream",
            Some(9),
        ),
        ("200, content-length: 9, content-type: text/plain", Some(9)),
        (
            "200, content-length: 9, content-type: model/x; a=text/json",
            Some(9),
        ),
    ];
    let fails = [
        (
            "200, content-length: 9, content-type: Text/HTML; x",
            UnexpectedResponse,
        ),
        (
            "206, etag: \"a\", content-range: bytes 40-99/100, content-type: text/html",
            UnexpectedResponse,
        ),
        (
            "200, content-length: 9, content-range: bytes 0-8/100",
            UnexpectedResponse,
        ),
        (
            "200, content-length: 9, content-encoding: gzip",
            UnexpectedResponse,
        ),
        (
            "200, transfer-encoding: chunked, content-encoding: br",
            UnexpectedResponse,
        ),
        ("200, content-length: 0", UnexpectedResponse),
        // ureq reads these until the connection is closed, which may be too early.
        ("200", UnexpectedResponse),
        ("200, transfer-encoding: identity", UnexpectedResponse),
        ("200, transfer-encoding: gzip", UnexpectedResponse),
        ("200, transfer-encoding: gzip,chunked", UnexpectedResponse),
        ("200, transfer-encoding: chunked,gzip", UnexpectedResponse),
        ("1.0 200, transfer-encoding: chunked", UnexpectedResponse),
        (
            "200, transfer-encoding: gzip, content-length: 9",
            UnexpectedResponse,
        ),
        ("204", UnexpectedResponse),
        ("302", Rejected),
        ("304", Rejected),
        ("405", Rejected),
        ("451", Rejected),
    ];
    let transient = [400, 401, 403, 404, 410, 408, 425, 429, 500, 503].map(|it| it.to_string());
    let transient = transient.iter().map(|status| (&**status, Service));
    for offset in [None, Some(40)] {
        for (text, length) in whole {
            let step = next_step(&head(text), offset, &note(), 0);
            assert_eq!(step, Step::Write(0, length), "{text}");
        }
        for (text, kind) in fails.into_iter().chain(transient.clone()) {
            for failures in [0, 8, 9] {
                let step = next_step(&head(text), offset, &note(), failures);
                // Before the call gives up, it asks for the file without a range.
                let is_it = match offset.is_some() && (kind == Rejected || failures == 9) {
                    true => step == Step::WithoutRange,
                    false => matches!(step, Step::Fail(it, _) if it == kind),
                };
                assert!(is_it, "{text}: {step:?}");
            }
        }
    }
    // A request without a range has nothing to fall back to.
    for text in ["206, etag: \"a\", content-range: bytes 0-99/100", "416"] {
        let step = next_step(&head(text), None, &note(), 0);
        assert!(
            matches!(step, Step::Fail(UnexpectedResponse, _)),
            "{step:?}"
        );
    }
}

#[test]
fn a_text_is_no_model_file() {
    let texts = "text/xml application/xml application/json application/problem+json \
        application/xhtml+xml image/svg+xml APPLICATION/JSON;charset=utf-8 multipart/byteranges;boundary=x";
    for media_type in texts.split(' ') {
        let head = head(&format!(
            "200, content-length: 9, content-type: {media_type}"
        ));
        let step = Step::Fail(UnexpectedResponse, "sent something else than a file");
        assert_eq!(next_step(&head, None, &note(), 0), step, "{media_type}");
    }
}

#[test]
fn only_a_strong_validator_stands_for_the_same_bytes() {
    for etag in ["\"a\"", "\"a-1\""] {
        let head = head(&format!("200, etag: {etag}"));
        assert_eq!(strong_etag(&head).as_deref(), Some(etag));
    }
    for etag in ["W/\"a\"", "w/\"a\"", "a", "\"\"", "\"", "\"a", ""] {
        let head = head(&format!("200, etag: {etag}"));
        assert_eq!(strong_etag(&head), None, "{etag}");
    }
    assert_eq!(strong_etag(&head("200")), None);
}

#[test]
fn tries_end_by_their_number_and_a_file_that_is_not_there_by_time_alone() {
    let (secs, ms) = (Duration::from_secs, Duration::from_millis);
    for (kind, is_pending, failures, wait, expected) in [
        (Rejected, false, 0, 0, None),
        (Service, false, 0, 0, Some((ms(0), ms(500)))),
        (Service, false, 8, 0, Some((ms(0), secs(30)))),
        (Service, false, 8, 90, Some((secs(90), secs(90)))),
        (Service, false, 9, 0, None),
        (Service, false, 9, 90, None),
        (Rejected, true, 0, 0, Some((secs(5), secs(5)))),
        (Rejected, true, 10_000, 0, Some((secs(5), secs(5)))),
        (Rejected, true, 0, 90, Some((secs(90), secs(90)))),
    ] {
        let error = Error::new(kind, "").response(Facts {
            retry_after: Some(secs(wait)),
            ..Facts::default()
        });
        let delay = pause(&Failure { error, is_pending }, failures, secs(5));
        let is_it = match (delay, expected) {
            (Some(delay), Some((least, most))) => least <= delay && delay <= most,
            (None, None) => true,
            _ => false,
        };
        assert!(is_it, "{kind:?} after {failures}: {delay:?}");
    }
}
