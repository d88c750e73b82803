use super::*;
use ErrorKind::{Rejected, Service, UnexpectedResponse};
use Then::{NewUrl, Retry, Stop, Wait};

fn note() -> Note {
    Note {
        etag: Some("\"a\"".into()),
        total: Some(100),
        ..Note::default()
    }
}

/// A head from words: a status, then `etag=`, `range=`, `length=`, `html`, `encoded`, `chunked`.
fn head(text: &str) -> Head {
    let mut words = text.split(", ");
    let status = words.next().unwrap().parse().unwrap();
    let mut head = Head {
        status,
        ..Head::default()
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("etag", value) => head.etag = Some(value.into()),
            ("range", value) => head.content_range = Some(value.into()),
            ("length", value) => head.length = value.parse().ok(),
            ("html", _) => head.is_html = true,
            ("encoded", _) => head.is_encoded = true,
            ("chunked", _) => head.is_chunked = true,
            _ => panic!("{word}"),
        }
    }
    head
}

#[test]
fn a_part_is_continued_only_by_the_same_file_at_the_same_offset() {
    for (text, expected) in [
        ("206, etag=\"a\", range=bytes 40-99/100", Step::Append(100)),
        // The server may send less than it was asked for.
        ("206, etag=\"a\", range=bytes 40-49/100", Step::Append(100)),
        ("206, etag=\"b\", range=bytes 40-99/100", Step::WithoutRange),
        (
            "206, etag=W/\"a\", range=bytes 40-99/100",
            Step::WithoutRange,
        ),
        ("206, range=bytes 40-99/100", Step::WithoutRange),
        ("206, etag=\"a\", range=bytes 39-99/100", Step::WithoutRange),
        ("206, etag=\"a\", range=bytes 0-99/100", Step::WithoutRange),
        ("206, etag=\"a\", range=bytes 40-99/101", Step::WithoutRange),
        ("206, etag=\"a\", range=bytes 40-99/*", Step::WithoutRange),
        ("206, etag=\"a\", range=items 40-99/100", Step::WithoutRange),
        ("206, etag=\"a\", range=bytes=40-99/100", Step::WithoutRange),
        ("206, etag=\"a\"", Step::WithoutRange),
        (
            "206, etag=\"a\", range=bytes 40-99/100, encoded",
            Step::WithoutRange,
        ),
        (
            "206, etag=\"a\", range=bytes 40-99/100, html",
            Step::WithoutRange,
        ),
        ("416, range=bytes */100", Step::WithoutRange),
        ("416", Step::WithoutRange),
        ("200, etag=\"b\", length=90", Step::StartOver),
        ("200, length=90", Step::StartOver),
    ] {
        assert_eq!(
            next_step(&head(text), Some(40), &note()),
            expected,
            "{text}"
        );
    }
    // A chunked response had no total.
    let note = Note {
        total: None,
        ..note()
    };
    let head = head("206, etag=\"a\", range=bytes 40-99/100");
    assert_eq!(next_step(&head, Some(40), &note), Step::Append(100));
}

#[test]
fn a_response_without_the_file_never_begins_one() {
    for (text, kind, then) in [
        ("200, length=9, html", UnexpectedResponse, Retry),
        (
            "200, length=9, range=bytes 0-8/100",
            UnexpectedResponse,
            Retry,
        ),
        ("200, length=0", UnexpectedResponse, Retry),
        ("200, length=9, encoded", UnexpectedResponse, Retry),
        ("200, chunked, encoded", UnexpectedResponse, Retry),
        // Its end would be that of the connection.
        ("200", UnexpectedResponse, Retry),
        ("204", UnexpectedResponse, Retry),
        ("400", Rejected, NewUrl),
        ("401", Rejected, NewUrl),
        ("403", Rejected, NewUrl),
        ("404", Rejected, NewUrl),
        ("410", Rejected, NewUrl),
        ("408", Service, Retry),
        ("425", Service, Retry),
        ("429", Service, Retry),
        ("500", Service, Retry),
        ("503", Service, Retry),
        ("302", Rejected, Stop),
        ("304", Rejected, Stop),
        ("405", Rejected, Stop),
        ("451", Rejected, Stop),
    ] {
        for offset in [None, Some(40)] {
            match next_step(&head(text), offset, &note()) {
                Step::Fail(is_kind, is_then, _) => assert_eq!((is_kind, is_then), (kind, then)),
                step => panic!("{text}: {step:?}"),
            }
        }
    }
    // A request without a range has nothing to fall back to.
    for text in ["206, etag=\"a\", range=bytes 0-99/100", "416"] {
        let step = next_step(&head(text), None, &note());
        assert!(
            matches!(step, Step::Fail(UnexpectedResponse, Retry, _)),
            "{step:?}"
        );
    }
    assert_eq!(
        next_step(&head("200, chunked"), None, &note()),
        Step::StartOver
    );
}

#[test]
fn only_a_strong_validator_stands_for_the_same_bytes() {
    for (etag, is_strong) in [
        ("\"a\"", true),
        ("\"a-1\"", true),
        ("W/\"a\"", false),
        ("w/\"a\"", false),
        ("a", false),
        ("\"\"", false),
        ("\"", false),
        ("\"a", false),
        ("", false),
    ] {
        assert_eq!(strong(Some(etag)).is_some(), is_strong, "{etag}");
    }
    assert_eq!(strong(None), None);
}

#[test]
fn tries_end_by_their_number_and_a_file_that_is_not_there_by_time_alone() {
    let (secs, ms) = (Duration::from_secs, Duration::from_millis);
    for (then, failures, wait, expected) in [
        (Stop, 0, 0, None),
        (Retry, 0, 0, Some((ms(0), ms(500)))),
        (NewUrl, 0, 0, Some((ms(0), ms(500)))),
        (Retry, 8, 0, Some((ms(0), secs(30)))),
        (Retry, 8, 90, Some((secs(90), secs(90)))),
        (NewUrl, 8, 90, Some((secs(90), secs(90)))),
        (Retry, 9, 0, None),
        (NewUrl, 9, 90, None),
        (Wait, 0, 0, Some((secs(5), secs(5)))),
        (Wait, 10_000, 0, Some((secs(5), secs(5)))),
        (Wait, 0, 90, Some((secs(90), secs(90)))),
    ] {
        let delay = pause(then, failures, secs(5), secs(wait));
        let is_it = match (delay, expected) {
            (Some(delay), Some((least, most))) => least <= delay && delay <= most,
            (None, None) => true,
            _ => false,
        };
        assert!(is_it, "{then:?} after {failures}: {delay:?}");
    }
}
