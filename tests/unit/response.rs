use ureq::http::HeaderName;

use super::*;
use crate::config::Setting;

const SECRET: &str = "s3cret-value";

fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    Response {
        status,
        headers: map,
        body: body.into(),
        is_too_long: false,
        broken: None,
        base_url: "https://service.test".into(),
        secret: Secret::new(&Setting::new("secret", SECRET)).unwrap(),
    }
}

/// Code | message | details | help URL.
fn facts(body: &str) -> String {
    let facts = response(400, &[], body).facts();
    let texts = [facts.code, facts.message, facts.details, facts.help_url];
    texts.map(|text| text.unwrap_or("-".into())).join(" | ")
}

#[test]
fn an_error_in_any_shape_says_the_same() {
    let table = [
        // The 2025 API.
        r#"{"error":"Bad secret","code":"UNAUTHORIZED","details":"why"} => UNAUTHORIZED | Bad secret | why | -"#,
        r#"{"error":"Bad secret"} => - | Bad secret | - | -"#,
        r#"{"code":"UNAUTHORIZED"} => UNAUTHORIZED | - | - | -"#,
        // Older pages.
        r#"{"success":false,"error":"AGENT_NOT_FOUND","message":"m"} => AGENT_NOT_FOUND | m | - | -"#,
        r#"{"error":"E2_BIG"} => E2_BIG | - | - | -"#,
        r#"{"error":"Not_found"} => - | Not_found | - | -"#,
        r#"{"error":"NOT FOUND"} => - | NOT FOUND | - | -"#,
        r#"{"success":false,"message":"m"} => - | m | - | -"#,
        // The current API.
        r#"{"error":{"code":"X","message":"m","details":{"a": 1},"upgrade_url":"u"}} => X | m | {"a":1} | u"#,
        r#"{"error":{"code":"X","topup_url":"t"},"message":"m","code":"Y"} => X | m | - | t"#,
        // A gateway's.
        "<html><title>502 Bad Gateway</title></html> => - | 502 Bad Gateway | - | -",
        "upstream connect error\n => - | upstream connect error | - | -",
        r#"{"error":{"code":"ETIMEDOUT"}} => ETIMEDOUT | - | - | -"#,
        r#"{"detail":[{"loc":["x"]}]} => - | - | [{"loc":["x"]}] | -"#,
        " => - | - | - | -",
        // Damaged, or of another type.
        r#"{"code":"X","message":"a\ud83d","n":1e400} => X | a\ud83d | - | -"#,
        r#"{"code":"X","message":"cut => X | - | - | -"#,
        r#"{"code":401,"message":["a"]} => - | {"code":401,"message":["a"]} | - | -"#,
        "\u{feff}{\"code\":\"X\"} more => X | - | - | -",
    ];
    for row in table {
        let (body, expected) = row.rsplit_once(" => ").unwrap();
        assert_eq!(facts(body), expected, "{body}");
        let code = response(200, &[], body).code().unwrap_or("-".into());
        assert!(expected.starts_with(&format!("{code} |")), "{body}");
    }
}

#[test]
fn the_secret_is_masked_before_a_text_is_cut() {
    for (before, end) in [(507, "[secr"), (504, "[secret]"), (511, "["), (512, "")] {
        let masked = format!("{}{end}", "x".repeat(before));
        let long = format!("{}{SECRET} more", "x".repeat(before));
        let json = format!(r#"{{"code":"{long}","message":"{long}","details":"{long}"}}"#);
        assert_eq!(facts(&json), format!("{masked} | {masked} | {masked} | -"));
        let page = format!("<title>{long}</title>");
        for body in [long, page] {
            assert_eq!(facts(&body), format!("- | {masked} | - | -"));
            let error = response(200, &[], &body).missing("no id");
            assert_eq!(error.message(), Some(&*masked));
        }
    }
    let body = r#"{"code":"a-s3cret-value","details":{"k":"s3\u0063ret-value"},
        "upgrade_url":"https://u/?s=s3cret-value"}"#;
    let facts = r#"(302 a-[secret]) ({"k":"[secret]"}); see https://u/?s=[secret]"#;
    let headers = [("x-request-id", SECRET), ("location", SECRET)];
    let error = format!("{:?}", response(302, &headers, body).error());
    let what = ": the server redirects to [secret], which is not followed";
    let end = "is the base URL https://service.test right? [request [secret]]";
    assert_eq!(error, format!("{what} {facts}; {end}"));
}

#[test]
fn a_status_and_a_code_have_one_kind() {
    // The kind: statuses; codes, where `-` is none, one in lower case, and one without a rule.
    let table = "
        Unauthorized: 401; - PLAN_REQUIRED
        Unauthorized: 403; - ACCOUNT_SUSPENDED FORBIDDEN
        PlanLimit: 403; PLAN_REQUIRED AGENT_LIMIT_REACHED CONCURRENCY_LIMIT_REACHED
        InsufficientBalance: 402; - INSUFFICIENT_BALANCE
        NotFound: 404; - NOT_FOUND MODEL_ARTIFACT_NOT_READY
        NotFound: 410; AGENT_DELETED AGENT_PURGED
        RateLimited: 429; - RATE_LIMITED
        Service: 408 425 500 501 502 503 504 599; - PLAN_REQUIRED INTERNAL_ERROR NOT_FOUND
        Rejected: 300 301 304 307 399 400 405 407 409 411 413 415 422 499; - PLAN_REQUIRED
        Rejected: 410; - ENDPOINT_RETIRED
        UnexpectedResponse: 100 101 199; -
        Rejected: 200 299; - VIDEO_INPUT_NOT_SUPPORTED
        Unauthorized: 200 299; UNAUTHORIZED MISSING_AUTH ACCOUNT_SUSPENDED FORBIDDEN
        PlanLimit: 200 299; PLAN_REQUIRED AGENT_LIMIT_REACHED CONCURRENCY_LIMIT_REACHED
        InsufficientBalance: 200 299; INSUFFICIENT_BALANCE
        NotFound: 200 299; NOT_FOUND AGENT_NOT_FOUND AGENT_DELETED AGENT_PURGED
        RateLimited: 200 299; RATE_LIMITED
        Service: 200 299; INTERNAL_ERROR UPSTREAM_ERROR UPSTREAM_TIMEOUT UPSTREAM_UNAVAILABLE
        Service: 200 299; SERVICE_UNAVAILABLE NO_AVAILABLE_WORKERS MODEL_NOT_YET_AVAILABLE";
    for row in table.lines().skip(1) {
        let (kind, rest) = row.trim().split_once(": ").unwrap();
        let (statuses, codes) = rest.split_once("; ").unwrap();
        let codes = codes.replace('-', " plan_required VALIDATION_ERROR");
        for status in statuses.split(' ').map(|status| status.parse().unwrap()) {
            for code in codes.split(' ') {
                let body = format!(r#"{{"success":false,"code":"{code}"}}"#);
                let error = response(status, &[], &body).error();
                assert_eq!(format!("{:?}", error.kind()), kind, "{status} {code}");
                assert_eq!(error.http_status(), Some(status));
                assert_eq!(error.code().unwrap_or_default(), code);
            }
        }
    }
}

#[test]
fn an_error_says_what_failed_and_what_to_do() {
    let table = [
        "302  => the server redirects to nowhere, which is not followed (302); is the base URL https://service.test right?",
        "401 X => the service rejected the API secret (401 X); is it one for https://service.test?",
        "402 X => the account has too few credits (402 X); add credits",
        "403 X => the service rejected the account (403 X)",
        "403  => access denied, perhaps by a gateway (403); is the base URL https://service.test right?",
        "404  => not found (404); is the base URL https://service.test right?",
        "404 x => not found (404): x",
        "413  => the request is too large (413); use smaller media files, or Media::url",
        "422 X => the service rejected the request (422 X)",
        "429  => too many requests (429)",
        "500 X => the service failed (500 X)",
    ];
    for row in table {
        let (status, rest) = row.split_once(' ').unwrap();
        let (code, expected) = rest.split_once(" => ").unwrap();
        let body = format!(r#"{{"error":"{code}"}}"#).replace(r#"{"error":""}"#, "");
        let error = response(status.parse().unwrap(), &[], &body).error();
        let line = error.to_string();
        assert_eq!(line, format!(": {expected}"));
    }
    let headers = [("x-request-id", "r1"), ("retry-after", "1.5")];
    let error = response(429, &headers, "").error();
    assert_eq!(error.request_id(), Some("r1"));
    assert_eq!(error.retry_after().unwrap().as_millis(), 1_500);
}

#[test]
fn a_402_says_what_is_needed_and_what_is_there() {
    let table = [
        (
            r#"{"error":{"code":"X","needed":500,"left":-1.5,"httpStatus":402}}"#,
            "needed 500, left -1.5",
        ),
        (
            r#"{"error":"X","balance":7,"status_code":402,"plan":"free"}"#,
            "balance 7",
        ),
        (
            r#"{"error":{"code":"X","details":"Top up","balance":7}}"#,
            "Top up; balance 7",
        ),
        (r#"{"error":{"code":"X"},"status_code":402}"#, "-"),
    ];
    for (body, details) in table {
        let error = response(402, &[], body).error();
        assert_eq!(error.details().unwrap_or("-"), details);
        assert_eq!(
            response(400, &[], body).error().details().is_some(),
            details.starts_with("Top up")
        );
    }
}

#[test]
fn a_response_without_what_is_needed_is_quoted_or_says_why_it_broke_off() {
    let headers = [("x-request-id", "r1")];
    let error = response(200, &headers, " <title>Login</title> ").missing("no id");
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse);
    let expected = ": no id (200): Login; is the base URL https://service.test right? [request r1]";
    assert_eq!(error.to_string(), expected);
    assert_eq!(response(200, &[], " ").missing("no id").message(), None);
    // A whole response would be the same the next time.
    let whole = response(200, &[("content-length", "2")], "{}").missing("no id");
    assert!(error.is_retryable() && !whole.is_retryable());
    let unquoted = response(200, &headers, "geheim").unquoted("no URL");
    let expected = ": no URL (200); is the base URL https://service.test right?";
    assert_eq!(unquoted.to_string(), expected);

    let mut broken = response(200, &headers, r#"{"message":"half"#);
    // Without a length, the JSON says that it is cut.
    assert!(!broken.is_whole());
    let with_length = [headers[0], ("content-length", "16")];
    assert!(response(200, &with_length, &broken.body).is_whole());
    broken.broken = Some(Error::new(ErrorKind::Timeout, "no end"));
    assert!(!broken.is_whole());
    assert!(response(204, &[], "").is_whole() && !response(200, &[], "").is_whole());
    assert!(response(204, &[], "\r\n").is_empty());
    assert!(!broken.is_empty() && !response(200, &[], "x").is_empty());
    broken.body.clear();
    assert!(!broken.is_empty());
    let error = broken.missing("no id");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), ": no end (200) [request r1]");
}

#[test]
fn a_date_is_the_services_own_where_no_cache_says_its_age() {
    let (date, age) = (("date", "today"), ("age", "0"));
    assert_eq!(response(200, &[date], "").date(), Some("today"));
    assert_eq!(response(200, &[date, age], "").date(), None);
    assert_eq!(response(200, &[age], "").date(), None);
}

#[test]
fn success_is_false_only_where_the_body_says_so() {
    let yes = r#"{"success":false}|{"success" : false, "cut|{"success":true,"success":false}"#;
    let no = r#"{"success":"false"}|{"success":null}|{"data":{"success":false}}|false|"#;
    for body in yes.split('|') {
        assert!(Fields::parse(body).says_failure(), "{body}");
    }
    for body in no.split('|') {
        assert!(!Fields::parse(body).says_failure(), "{body}");
    }
    let good = [199, 200, 299, 300].map(|status| response(status, &[], "").is_success());
    assert_eq!(good, [false, true, true, false]);
}
