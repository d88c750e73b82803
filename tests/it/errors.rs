//! What the service's refusals become.

use std::error::Error as StdError;
use std::mem::size_of;

use bithuman::ErrorKind::{self, *};
use bithuman::serde_json::{Value, json};
use bithuman::{Error, GenerateRequest};

use crate::support::{Answer, ID, Service, ms, secs};

/// The status codes of the contract, a code the service publishes for each, and the kind.
const STATUSES: [(u16, &str, ErrorKind); 24] = [
    (400, "VALIDATION_ERROR", Rejected),
    (400, "MISSING_PARAM", Rejected),
    (400, "VIDEO_INPUT_NOT_SUPPORTED", Rejected),
    (401, "UNAUTHORIZED", Unauthorized),
    (401, "MISSING_AUTH", Unauthorized),
    (402, "INSUFFICIENT_BALANCE", InsufficientBalance),
    (403, "ACCOUNT_SUSPENDED", Unauthorized),
    (404, "NOT_FOUND", NotFound),
    (404, "AGENT_NOT_FOUND", NotFound),
    (408, "REQUEST_TIMEOUT", Service),
    (409, "AGENT_NOT_READY", Rejected),
    (409, "MODEL_NOT_GENERATED", Rejected),
    (410, "GONE", Rejected),
    (413, "FILE_TOO_LARGE", Rejected),
    (415, "UNSUPPORTED_TYPE", Rejected),
    (422, "MODEL_SUBJECT_MISMATCH", Rejected),
    (425, "TOO_EARLY", Service),
    (429, "RATE_LIMITED", RateLimited),
    (500, "INTERNAL_ERROR", Service),
    (502, "BAD_GATEWAY", Service),
    (503, "NO_AVAILABLE_WORKERS", Service),
    (503, "MODEL_NOT_YET_AVAILABLE", Service),
    (504, "GATEWAY_TIMEOUT", Service),
    (599, "X", Service),
];

/// A body, and the code, message and details that are in it.
type Shape = (String, Option<&'static str>, Option<String>, Option<&'static str>);

/// Every shape of the contract, whole and with fields missing.
fn shapes(status: u16, code: &'static str) -> Vec<Shape> {
    let ours = |body: Value, message: Option<&str>, details| {
        (body.to_string(), Some(code), message.map(str::to_owned), details)
    };
    let nested = |error: Value| json!({"error": error, "status": "error", "status_code": status});
    let gateway = |body: &str| (body.to_owned(), None, Some(body.to_owned()), None);
    vec![
        // 2025.
        ours(json!({"error": "It broke", "code": code, "details": "Do mend it"}), Some("It broke"), Some("Do mend it")),
        ours(json!({"error": "It broke", "code": code}), Some("It broke"), None),
        ours(json!({"error": "It broke", "code": code, "details": null}), Some("It broke"), None),
        ours(json!({"code": code, "details": "Do mend it"}), None, Some("Do mend it")),
        ours(json!({"code": code}), None, None),
        (json!({"error": "It broke"}).to_string(), None, Some("It broke".into()), None),
        // Older pages.
        ours(json!({"success": false, "error": code, "message": "It broke"}), Some("It broke"), None),
        ours(json!({"success": false, "error": code}), None, None),
        // 2026.
        ours(nested(json!({"code": code, "message": "It broke", "httpStatus": status})), Some("It broke"), None),
        ours(nested(json!({"code": code, "message": "It broke", "details": "d"})), Some("It broke"), Some("d")),
        ours(nested(json!({"code": code})), None, None),
        (nested(json!({"message": "It broke"})).to_string(), None, Some("It broke".into()), None),
        // A gateway's, and what nobody documents.
        gateway("<html><head><title>Bad</title></head>\r\n<body>nginx</body></html>"),
        gateway("upstream connect error"),
        gateway("{\"error\": \"cut"),
        gateway("[\"error\"]"),
        gateway("{\"error\":{}}"),
        gateway("{\"error\":7,\"code\":7}"),
        gateway("{}"),
        (String::new(), None, None, None),
        (" \r\n ".into(), None, None, None),
    ]
}

fn both(answer: Answer) -> (Error, Error) {
    let service = Service::new([answer]);
    let api = service.api();
    let generate = api.generate(&GenerateRequest::new()).unwrap_err();
    let key = service.request().header("idempotency-key").unwrap().to_owned();
    assert_eq!(generate.idempotency_key(), Some(&*key));
    let status = api.status(ID).unwrap_err();
    assert_eq!(service.hits(), 2, "each was sent once");
    (generate, status)
}

#[test]
fn every_shape_with_every_status_is_read_and_judged() {
    for (http, code_sent, kind) in STATUSES {
        for (body, code, message, details) in shapes(http, code_sent) {
            let answer = Answer::new(http, &*body).header("x-request-id", "req-42").header("retry-after", "20");
            let (generate, status) = both(answer);
            let row = format!("{http} {body}: {generate:?}");
            for error in [&generate, &status] {
                assert_eq!(error.kind(), kind, "{row}");
                assert_eq!(error.http_status(), Some(http), "{row}");
                assert_eq!(error.code(), code, "{row}");
                assert_eq!(error.message(), message.as_deref(), "{row}");
                assert_eq!(error.details(), details, "{row}");
                assert_eq!(error.request_id(), Some("req-42"), "{row}");
                assert_eq!(error.retry_after(), Some(secs(20)), "{row}");
                assert_eq!(error.attempts(), 1, "{row}");
                assert!(error.last_seen().is_none() && error.source().is_none(), "{row}");
                let line = error.to_string();
                for part in [Some(&*http.to_string()), code, Some("req-42"), Some("wait 20 s")].into_iter().flatten() {
                    assert!(line.contains(part), "{row}");
                }
                assert!(!line.contains(char::is_control), "{row}");
            }
            let unknown = matches!(http, 408 | 500 | 502 | 504 | 599) || (http == 503 && code.is_none());
            assert_eq!(generate.outcome_unknown(), unknown, "{row}");
            let passing = matches!(kind, RateLimited | Service);
            assert_eq!(generate.is_retryable(), passing && !unknown, "{row}");
            assert_eq!(generate.agent_id(), None, "{row}");
            assert!(generate.to_string().starts_with("generate: "), "{row}");
            assert_eq!(generate.to_string().contains(generate.idempotency_key().unwrap()), unknown, "{row}");
            // A status is not billed.
            assert!(!status.outcome_unknown(), "{row}");
            assert_eq!(status.is_retryable(), passing, "{row}");
            assert_eq!((status.agent_id(), status.idempotency_key()), (Some(ID), None), "{row}");
            assert!(status.to_string().starts_with(&format!("status: agent {ID}: ")), "{row}");
        }
    }
}

#[test]
fn a_success_that_is_none_is_judged_by_its_code() {
    let rows = [
        ("UNAUTHORIZED", Unauthorized),
        ("MISSING_AUTH", Unauthorized),
        ("ACCOUNT_SUSPENDED", Unauthorized),
        ("INSUFFICIENT_BALANCE", InsufficientBalance),
        ("NOT_FOUND", NotFound),
        ("AGENT_NOT_FOUND", NotFound),
        ("RATE_LIMITED", RateLimited),
        ("INTERNAL_ERROR", Service),
        ("NO_AVAILABLE_WORKERS", Service),
        ("MODEL_NOT_YET_AVAILABLE", Service),
        ("VALIDATION_ERROR", Rejected),
        ("SOMETHING_NEW", Rejected),
    ];
    for (code, kind) in rows {
        let bodies = [
            json!({"success": false, "error": code, "message": "It broke"}),
            json!({"success": false, "error": "It broke", "code": code}),
            json!({"success": false, "error": {"code": code, "message": "It broke"}}),
            json!({"success": false, "error": code, "message": "It broke", "agent_id": ID, "data": {"status": "ready"}}),
        ];
        for body in bodies {
            let (generate, status) = both(Answer::json(200, body.clone()));
            for error in [&generate, &status] {
                assert_eq!(error.kind(), kind, "{body}");
                assert_eq!((error.code(), error.message()), (Some(code), Some("It broke")), "{body}");
                assert_eq!(error.http_status(), Some(200), "{body}");
            }
            // With this code the service does not know what became of the request.
            let unknown = code == "INTERNAL_ERROR";
            assert_eq!((generate.outcome_unknown(), status.outcome_unknown()), (unknown, false), "{body}");
            assert_eq!(generate.is_retryable(), !unknown && matches!(kind, RateLimited | Service), "{body}");
            assert_eq!(status.is_retryable(), matches!(kind, RateLimited | Service), "{body}");
        }
    }
    let (generate, status) = both(Answer::json(200, json!({"success": false})));
    for error in [&generate, &status] {
        assert_eq!((error.kind(), error.code(), error.outcome_unknown()), (Rejected, None, false));
        assert_eq!(error.message(), Some("{\"success\":false}"));
    }
}

#[test]
fn display_is_one_line_a_person_can_act_on() {
    let seed = "Please check your API secret from imaginex.bithuman.ai";
    let rows = [
        (
            Answer::json(401, json!({"error": "Invalid API secret", "code": "UNAUTHORIZED", "details": seed})),
            "generate: the service refused the API secret (401 UNAUTHORIZED): \
             Invalid API secret. Please check your API secret from imaginex.bithuman.ai",
        ),
        (
            Answer::json(401, json!({"error": {"code": "UNAUTHORIZED", "message": seed}})),
            "generate: the service refused the API secret (401 UNAUTHORIZED): \
             Please check your API secret from imaginex.bithuman.ai",
        ),
        (
            Answer::json(401, json!({"error": {"code": "UNAUTHORIZED", "message": "No"}})),
            "generate: the service refused the API secret (401 UNAUTHORIZED): No; \
             is the secret the one from imaginex.bithuman.ai?",
        ),
        (
            Answer::json(402, json!({"error": {"code": "INSUFFICIENT_BALANCE"}})),
            "generate: the account has too few credits (402 INSUFFICIENT_BALANCE); add credits",
        ),
        (
            Answer::json(402, json!({"error": {"code": "INSUFFICIENT_BALANCE", "message": "Add credits!"}})),
            "generate: the account has too few credits (402 INSUFFICIENT_BALANCE): Add credits!",
        ),
        (
            Answer::json(400, json!({"error": "No!", "code": "VALIDATION_ERROR", "details": {"field": "image"}})),
            "generate: the service refused the request (400 VALIDATION_ERROR): No! {\"field\":\"image\"}",
        ),
        (
            Answer::json(429, json!({"code": "RATE_LIMITED"})).header("retry-after", "1.5").header("x-request-id", "r"),
            "generate: too many requests (429 RATE_LIMITED); the service asks to wait 1.5 s; it was not \
             taken: send it again later [request r]",
        ),
        (
            Answer::new(404, "<html>nope</html>"),
            "generate: the service has nothing at this address; is the base URL URL right? (404): <html>nope</html>",
        ),
        (
            Answer::json(403, json!({"error": {"code": "ACCOUNT_SUSPENDED"}})),
            "generate: the service refused the account (403 ACCOUNT_SUSPENDED)",
        ),
        (
            Answer::new(403, ""),
            "generate: access is refused, by the service or by a gateway before it; is the base URL URL right? (403)",
        ),
        (
            Answer::json(503, json!({"success": false, "error": "NO_AVAILABLE_WORKERS"})),
            "generate: the service failed (503 NO_AVAILABLE_WORKERS); it was not taken: send it again later",
        ),
        (
            Answer::new(502, "Bad Gateway"),
            "generate: the service failed (502): Bad Gateway; it is not known whether the service took and billed \
             this: look for the agent in the account before sending anew, or send the same again with idempotency \
             key key-1 where keys are honoured",
        ),
    ];
    for (answer, line) in rows {
        let service = Service::new([answer]);
        let error = service.api().generate(&GenerateRequest::new().idempotency_key("key-1")).unwrap_err();
        let line = line.replace("URL URL", &format!("URL {}", service.url()));
        assert_eq!(error.to_string(), line);
        // What a failing `main` prints.
        assert_eq!(format!("{error:?}"), line);
    }
    let service = Service::new([Answer::json(404, json!({"success": false, "error": "AGENT_NOT_FOUND"}))]);
    let error = service.api().status("a b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "status: agent a b: the service knows no such agent; is the id right, and of this account? (404 AGENT_NOT_FOUND)"
    );
}

#[test]
fn a_foreign_answer_is_cut_after_512_characters() {
    let exact = "é".repeat(512);
    let rows = [
        (exact.clone(), exact.clone()),
        (format!("{exact}x"), exact.clone()),
        (format!("\n\t{exact} tail"), exact.clone()),
        ("<p>".repeat(100_000), "<p>".repeat(171)[..512].into()),
    ];
    for (body, kept) in rows {
        for http in [200, 400, 502] {
            let (generate, status) = both(Answer::new(http, &*body));
            assert_eq!((generate.message(), status.message()), (Some(&*kept), Some(&*kept)), "{http}");
        }
    }
    // Bytes that are no text do not get in the way.
    let (_, status) = both(Answer::new(502, *b"bad \xff gateway"));
    assert_eq!(status.message(), Some("bad \u{fffd} gateway"));
    // An answer quoted for what it lacks is cut too.
    let (generate, _) = both(Answer::json(200, json!({"note": "é".repeat(1_000)})));
    assert_eq!(generate.message().unwrap().chars().count(), 512);
}

#[test]
fn retry_after_is_read_in_seconds_and_nothing_else() {
    let rows = [
        ("20", Some(secs(20))),
        ("0", Some(secs(0))),
        ("0.25", Some(ms(250))),
        ("86400", Some(secs(86_400))),
        ("-1", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("99999999999999999999999999", None),
    ];
    for (value, expected) in rows {
        for http in [429, 503] {
            let (generate, status) = both(Answer::new(http, "").header("retry-after", value));
            assert_eq!((generate.retry_after(), status.retry_after()), (expected, expected), "{value}");
        }
    }
    let (generate, status) = both(Answer::new(429, ""));
    assert_eq!((generate.retry_after(), status.retry_after()), (None, None));
}

#[test]
fn a_redirect_is_reported_and_not_followed() {
    for http in [301, 302, 303, 307, 308] {
        let elsewhere = Service::new([]);
        let location = elsewhere.url() + "/v1/agent/generate";
        let (generate, status) = both(Answer::new(http, "").header("location", &*location));
        for error in [&generate, &status] {
            assert_eq!((error.kind(), error.http_status()), (Rejected, Some(http)));
            assert!(error.to_string().contains(&format!("redirects to {location}")), "{error}");
            assert!(!error.outcome_unknown() && !error.is_retryable());
        }
        assert_eq!(elsewhere.hits(), 0);
    }
    for answer in [Answer::new(302, ""), Answer::new(304, ""), Answer::new(300, "choose")] {
        let (generate, status) = both(answer);
        assert_eq!((generate.kind(), status.kind()), (Rejected, Rejected));
        assert!(!generate.outcome_unknown());
    }
}

#[test]
fn a_redirect_to_the_same_host_is_not_followed_either() {
    let (generate, status) = both(Answer::new(307, "").header("location", "/v2/agent/generate"));
    assert_eq!((generate.http_status(), status.http_status()), (Some(307), Some(307)));
}

#[test]
fn control_characters_of_the_service_stay_on_the_line() {
    let nasty = "a\r\nb\u{1b}[31mc\u{0}\u{7}\u{85}\u{2028}\u{202e}d";
    let escaped = "a\\r\\nb\\u{1b}[31mc\\u{0}\\u{7}\\u{85}\\u{2028}\\u{202e}d";
    let answers = [
        Answer::json(400, json!({"error": nasty, "code": "X"})),
        Answer::json(400, json!({"error": "m", "code": nasty})),
        Answer::json(400, json!({"error": "m", "code": "X", "details": nasty})),
        Answer::json(400, json!({"error": {"code": "X", "message": nasty}})),
        Answer::json(200, json!({"success": false, "error": "X", "message": nasty})),
        Answer::new(502, nasty),
        Answer::new(200, nasty),
    ];
    for answer in answers {
        let (generate, status) = both(answer);
        for error in [generate, status] {
            assert!(error.to_string().contains(escaped), "{error}");
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)), "{shown:?}");
            }
        }
    }
}

#[test]
fn what_a_person_types_as_an_id_stays_on_the_line() {
    let service = Service::new([Answer::json(404, json!({"error": "AGENT_NOT_FOUND"}))]);
    let error = service.api().status("a\u{202e}b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "status: agent a\\u{202e}b: the service knows no such agent; is the id right, and of this account? (404 AGENT_NOT_FOUND)"
    );
    assert_eq!(error.agent_id(), Some("a\u{202e}b"));
}

#[test]
fn an_error_is_small_and_goes_anywhere() {
    fn goes_anywhere<T: StdError + Send + Sync + 'static>() {}
    goes_anywhere::<Error>();
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<bithuman::Result<()>>(), size_of::<usize>());
}
