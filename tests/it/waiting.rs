//! Waiting and polling: what the service says, how the wait ends, and what it did until then.

use std::error::Error as _;
use std::time::Duration;

use bithuman::ErrorKind::{self as Kind, *};
use bithuman::serde_json::{Value, json};
use bithuman::{Agent, Api, Billing, Error, Event, Status, Wait};

use crate::harness::Service;
use crate::harness::*;

/// How a wait ends: with a ready agent, or with an error of this kind and this in its line.
type End = Result<(), (Kind, &'static str)>;

const READY: End = Ok(());

fn fails(kind: Kind, line: &'static str) -> End {
    Err((kind, line))
}

fn error(status: u16) -> Reply {
    Reply::new(status, "")
}

fn busy(retry_after: &str) -> Reply {
    error(429).header("retry-after", retry_after)
}

fn every(seconds: u64) -> Wait {
    Wait::new().interval(secs(seconds))
}

/// A row of the table: what the service says (the last reply stays), and what comes of it in a
/// `wait` and a `watch`. Sleeps are in seconds. Each request is a letter: `p` for a good poll, `r`
/// for one that failed and is retried, `x` for one that failed and ends the wait.
#[track_caller]
fn check<const N: usize>(wait: Wait, script: [Reply; N], end: End, sleeps: &[u64], polls: &str) {
    let sleeps: Vec<_> = sleeps.iter().copied().map(secs).collect();
    for call in ["wait", "watch"] {
        let service = Service::new(script.clone());
        service.clock.pass(secs(1_000));
        let events = Events::default();
        let api = events.record(service.builder());
        let found = match call {
            "wait" => api.wait(ID, &wait),
            _ => last_of_watch(&api, &wait, polls),
        };
        assert_eq!(service.clock.sleeps(), sleeps, "{call}: {found:?}");
        let (letters, last_seen) = read(&events, &sleeps);
        assert_eq!(letters, polls.trim_end_matches('x'), "{call}: {found:?}");
        assert_eq!(service.requests().len(), polls.len(), "{call}: {found:?}");
        for request in service.requests() {
            assert_eq!(request.method, "GET");
            assert_eq!(request.target, format!("/v1/agent/status/{ID}"));
            assert_eq!(request.header("cache-control"), Some("no-cache"));
        }
        match (found, end) {
            (Ok(agent), Ok(())) => assert!(agent.is_ready(), "{agent:?}"),
            // What becomes of an agent is an item of `watch`.
            (Ok(agent), Err((GenerationFailed, _))) if call == "watch" => {
                assert!(agent.is_failed(), "{agent:?}")
            }
            (Ok(agent), Err((NotFound, _))) if call == "watch" => {
                assert_eq!(agent.status, Status::Deleted)
            }
            (Err(error), Err((kind, line))) => {
                assert_eq!(error.kind(), kind, "{error:?}");
                let (shown, start) = (error.to_string(), format!("wait: agent {ID}: "));
                assert!(shown.starts_with(&start), "{shown}");
                assert!(shown.contains(line), "{shown}");
                assert_eq!(error.last_seen(), last_seen.as_ref());
                assert_eq!(error.attempts() as usize, polls.len(), "{error:?}");
                check_facts(&error);
            }
            (found, end) => panic!("{call}: {found:?} instead of {end:?}"),
        }
    }
}

/// The events as letters, and the last agent they show.
#[track_caller]
fn read(events: &Events, sleeps: &[Duration]) -> (String, Option<Agent>) {
    let (mut letters, mut last_seen) = (String::new(), None);
    for event in events.all() {
        match event {
            Event::Polled { agent } => {
                letters.push('p');
                last_seen = Some(*agent);
            }
            Event::Retrying {
                attempts, delay, ..
            } => {
                assert_eq!(sleeps.get(letters.len()), Some(&delay));
                letters.push('r');
                let in_a_row = letters.len() - letters.trim_end_matches('r').len();
                assert_eq!(attempts as usize, in_a_row);
            }
            other => panic!("{other:?}"),
        }
    }
    (letters, last_seen)
}

/// What is true of every error of a wait.
#[track_caller]
fn check_facts(error: &Error) {
    let (is_transient, billing) = match error.kind() {
        RateLimited | Kind::Service | Network => (true, Billing::Billed),
        Timeout | UnexpectedResponse | WaitTimedOut => (true, Billing::Billed),
        GenerationFailed => (false, Billing::Refunded),
        // Nothing is known of an agent that the service does not know.
        NotFound if error.http_status() == Some(404) && error.last_seen().is_none() => {
            (false, Billing::Unknown)
        }
        _ => (false, Billing::Billed),
    };
    assert_eq!(error.is_retryable(), is_transient, "{error:?}");
    assert_eq!(error.billing(), billing, "{error:?}");
    assert_eq!(error.agent_id(), Some(ID), "{error:?}");
    let says_so = error.to_string().contains("call wait again");
    assert!(says_so || !is_transient, "{error}");
}

/// The last item of a `watch`, after checking that it alone is an end.
#[track_caller]
fn last_of_watch(api: &Api, wait: &Wait, polls: &str) -> bithuman::Result<Agent> {
    let mut watch = api.watch(ID, wait);
    let mut items: Vec<_> = watch.by_ref().take(polls.len() + 2).collect();
    assert!(watch.next().is_none(), "an item after the end");
    let last = items.pop().unwrap();
    for item in &items {
        assert!(!item.as_ref().unwrap().is_finished(), "{item:?}");
    }
    assert!(last.as_ref().map_or(true, Agent::is_finished), "{last:?}");
    let good = items.len() + usize::from(last.is_ok());
    assert_eq!(good, polls.matches('p').count());
    last
}

#[test]
fn the_first_poll_is_at_once_and_the_others_are_one_interval_apart() {
    check(Wait::new(), [ready()], READY, &[], "p");
    let steps = ["processing", "generating", "completed", "ready"].map(status);
    check(Wait::new(), steps.clone(), READY, &[5, 5, 5], "pppp");
    check(every(90), steps, READY, &[90, 90, 90], "pppp");
    let slow = [processing().takes(secs(3)), ready().takes(secs(100))];
    check(Wait::new(), slow, READY, &[5], "pp");
}

#[test]
fn the_defaults_are_5_s_and_4_h_and_15_min() {
    let minutes = |minutes: u64| secs(minutes * 60);
    let defaults = every(5).timeout(minutes(4 * 60)).outage(minutes(15));
    assert_eq!(Wait::new(), defaults);
    assert_eq!(Wait::default(), defaults);
    let end = fails(WaitTimedOut, "not ready within 4 h (last seen: processing)");
    let sleeps = [[3600; 3].as_slice(), &[3599]].concat();
    check(every(3600), [processing()], end, &sleeps, "ppppp");
    let end = fails(Kind::Service, "no good response for 15 min");
    check(every(400), [error(500)], end, &[400, 400, 99], "rrrx");
}

#[test]
fn words_are_compared_without_case_and_blanks() {
    for word in ["ready", "READY", " Ready\r\n", "\treadY"] {
        check(Wait::new(), [status(word)], READY, &[], "p");
    }
    for word in ["failed", " FAILED "] {
        let end = fails(GenerationFailed, "the service does not say why");
        check(Wait::new(), [status(word)], end, &[], "p");
    }
    for word in ["deleted", "Deleted\n"] {
        let end = fails(NotFound, "the agent was deleted");
        check(Wait::new(), [status(word)], end, &[], "p");
    }
    for word in ["rea dy", "ready.", "readiness", "done", "succeeded"] {
        check(Wait::new(), [status(word), ready()], READY, &[5], "pp");
    }
}

#[test]
fn success_is_an_end_only_at_a_progress_of_exactly_one() {
    let at = |word, progress: Value| agent(json!({"status": word, "progress": progress}));
    for progress in [json!(1), json!(1.0)] {
        check(Wait::new(), [at(" Success", progress)], READY, &[], "p");
    }
    for progress in ["0", "0.999", "60", "100", "\"1.0\"", "null"] {
        let progress = progress.parse().unwrap();
        let script = [at("success", progress), ready()];
        check(Wait::new(), script, READY, &[5], "pp");
    }
    // No other word is an end at a progress of 1.
    for word in ["processing", "generating", "completed", "done"] {
        let script = [at(word, json!(1.0)), ready()];
        check(Wait::new(), script, READY, &[5], "pp");
    }
}

#[test]
fn a_failed_generation_says_why_and_is_refunded() {
    let failed = |why: &str| agent(json!({"status": "failed", "error_message": why}));
    let script = [processing(), failed("No face\nfound")];
    let line = "the generation failed: No face\\nfound; the service refunds it; \
        another try is billed again";
    check(
        Wait::new(),
        script,
        fails(GenerationFailed, line),
        &[5],
        "pp",
    );
    let end = fails(GenerationFailed, "failed: no [secret];");
    let script = [failed(&format!("no {SECRET}"))];
    check(Wait::new(), script, end, &[], "p");
}

#[test]
fn a_wait_for_a_model_ends_when_that_model_is_ready_or_failed() {
    let model = |word: &str, state: Value| {
        let states = json!({"essence-2": state, "expression-1": {"state": "ready"}});
        agent(json!({"status": word, "model_status": states}))
    };
    let pending = || model("ready", json!({"state": "pending"}));
    let service = |replies: Vec<Reply>| Service::new(replies);
    let wait = Wait::new().model("essence-2");

    let ready = model("completed", json!({"state": "ready"}));
    let run = service(vec![pending(), pending(), ready.clone()]);
    assert_eq!(run.api().wait(ID, &wait).unwrap().status, Status::Completed);
    assert_eq!(run.requests().len(), 3);
    let run = service(vec![pending(), ready]);
    assert_eq!(run.api().watch(ID, &wait).map(Result::unwrap).count(), 2);

    let failed = model(
        "ready",
        json!({"state": "failed", "reason": format!("no {SECRET}")}),
    );
    let error = service(vec![failed]).api().wait(ID, &wait).unwrap_err();
    assert_eq!(
        (error.kind(), error.billing()),
        (GenerationFailed, Billing::Billed)
    );
    let line = "the model essence-2 failed: no [secret]; the agent itself has not failed";
    assert!(error.to_string().contains(line), "{error}");

    // Where both failed, it is the generation that did.
    let both = model("failed", json!({"state": "failed", "reason": "no face"}));
    let error = service(vec![both]).api().wait(ID, &wait).unwrap_err();
    assert_eq!(error.billing(), Billing::Refunded);
    let line = "the generation failed: no face; the service refunds it";
    assert!(error.to_string().contains(line), "{error}");

    for (word, state, continues) in [
        ("ready", "pending", true),
        ("generating", "a new word", true),
        ("failed", "pending", false),
        ("ready", "a new word", false),
    ] {
        let last = model(word, json!({"state": state}));
        let error = service(vec![last]).api().wait(ID, &wait).unwrap_err();
        let says_so = error.to_string().contains("; generation continues");
        assert_eq!(says_so, continues, "{error}");
    }

    let error = service(vec![pending()]).api().wait(ID, &wait).unwrap_err();
    let line = "not ready within 4 h (last seen: ready, essence-2 pending)";
    assert!(error.to_string().contains(line), "{error}");
    let other = wait.model("essence-9");
    let error = service(vec![pending()]).api().wait(ID, &other).unwrap_err();
    assert!(
        error.to_string().contains("ready, essence-9 not listed)"),
        "{error}"
    );
}

#[test]
fn transient_errors_are_retried_through() {
    let odd = |body: &str| Reply::new(200, body);
    let mut replies: Vec<_> = [408, 425, 429, 500, 502, 503, 504, 520, 599]
        .into_iter()
        .flat_map(|status| [error(status), gateway(status)])
        .collect();
    replies.extend(service_errors(503, "SERVICE_UNAVAILABLE"));
    replies.extend(service_errors(500, "INTERNAL_ERROR"));
    replies.extend(["", "null", "[]", "\"ready\"", "<html>", "{}"].map(odd));
    replies.extend([
        error(204),
        odd(r#"{"success": true, "data": null}"#),
        odd(r#"{"success": true, "data": {"status": ""}}"#),
        odd(r#"{"success": true, "data": {"status": 1}}"#),
        odd(r#"{"success": true, "data": {"status": "ready""#),
        odd(r#"{"success": false, "error": "INTERNAL_ERROR", "message": "m"}"#),
        odd(r#"{"success": false, "error": "RATE_LIMITED", "message": "m"}"#),
    ]);
    for reply in replies {
        let script = [reply.clone(), ready()];
        check(Wait::new(), script, READY, &[5], "rp");
        let script = [processing(), reply.clone(), reply, ready()];
        check(Wait::new(), script, READY, &[5, 5, 5], "prrp");
    }
}

#[test]
fn a_status_about_another_agent_is_an_unexpected_response() {
    let other = Reply::json(
        200,
        json!({"success": true, "data": {"agent_id": "OTHER", "status": "ready"}}),
    );
    let script = [other.clone(), ready()];
    check(Wait::new(), script, READY, &[5], "rp");
    let end = fails(
        UnexpectedResponse,
        "the service described agent OTHER instead",
    );
    let wait = every(30).outage(secs(60));
    check(wait, [other], end, &[30, 29], "rrx");
}

#[test]
fn every_other_3xx_and_4xx_ends_the_wait_at_once() {
    for status in [
        300, 301, 302, 304, 307, 308, 399, 400, 401, 402, 403, 405, 406,
    ]
    .into_iter()
    .chain([
        407, 409, 410, 411, 412, 413, 414, 415, 418, 422, 424, 426, 431, 451, 499,
    ]) {
        let kind = match status {
            401 | 403 => Unauthorized,
            402 => InsufficientBalance,
            _ => Rejected,
        };
        let script = [error(status), ready()];
        check(Wait::new(), script, fails(kind, ""), &[], "x");
        let script = [processing(), gateway(status), ready()];
        check(Wait::new(), script, fails(kind, ""), &[5], "px");
    }
    for reply in service_errors(403, "PLAN_REQUIRED") {
        let end = fails(PlanLimit, "(403 PLAN_REQUIRED)");
        check(Wait::new(), [reply, ready()], end, &[], "x");
    }
    for code in ["AGENT_DELETED", "AGENT_PURGED"] {
        for deleted in service_errors(410, code) {
            let end = || fails(NotFound, "the agent was deleted (410 AGENT_");
            check(Wait::new(), [deleted.clone(), ready()], end(), &[], "x");
            check(Wait::new(), [processing(), deleted], end(), &[5], "px");
        }
    }
    let rejected = Reply::json(200, json!({"success": false, "message": "no"}));
    let end = fails(Rejected, "no");
    check(Wait::new(), [rejected, ready()], end, &[], "x");
}

#[test]
fn a_404_is_retried_through_for_60_s_before_the_first_good_response() {
    let unknown = || service_error(404, "AGENT_NOT_FOUND");
    let end = fails(NotFound, "the service knows no such agent (404 AGENT");
    check(Wait::new(), [unknown(), ready()], READY, &[5], "rp");
    check(Wait::new(), [gateway(404), ready()], READY, &[5], "rp");
    let in_a_200 = json!({"success": false, "error": "AGENT_NOT_FOUND"});
    check(
        Wait::new(),
        [Reply::json(200, in_a_200), ready()],
        READY,
        &[5],
        "rp",
    );
    check(every(30), [unknown()], end, &[30, 30], "rrx");
    check(every(61), [unknown()], end, &[61], "rx");
    let script = [unknown(), unknown(), ready()];
    check(every(29), script, READY, &[29, 29], "rrp");
    // It is time that counts, not polls.
    let slow = || unknown().takes(secs(25));
    check(every(5), [slow()], end, &[5, 5], "rrx");
    // Other errors in between do not start the time again.
    let script = [unknown(), error(503), unknown()];
    check(every(30), script, end, &[30, 30], "rrx");
    // The time starts with the first 404.
    let script = [error(503), error(503), unknown(), ready()];
    check(every(40), script, READY, &[40, 40, 40], "rrrp");
}

#[test]
fn a_404_after_a_good_response_ends_the_wait() {
    let unknown = service_error(404, "AGENT_NOT_FOUND");
    let end = fails(NotFound, "(404 AGENT_NOT_FOUND)");
    let script = [processing(), unknown.clone()];
    check(Wait::new(), script, end, &[5], "px");
    let script = [unknown.clone(), processing(), unknown];
    check(Wait::new(), script, end, &[5, 5], "rpx");
}

#[test]
fn an_outage_ends_the_wait_with_its_last_error() {
    let wait = || every(30).outage(secs(60));
    let end = fails(Kind::Service, "(502): A gateway's title");
    check(wait(), [gateway(502)], end, &[30, 29], "rrx");
    let end = fails(Kind::Service, "no good response for 1 min");
    let script = [error(429), error(500), error(502), error(503)];
    check(wait(), script, end, &[30, 29], "rrx");
    // A good response ends an outage.
    let script = [error(500), error(500), processing(), error(500)];
    check(wait(), script, end, &[30, 29, 30, 30, 29], "rrprrx");
    // Nothing of an outage is retried through.
    let none = Wait::new().outage(secs(0));
    let end = fails(Kind::Service, "");
    check(none, [error(500)], end, &[], "x");
}

#[test]
fn backoff_grows_with_the_failures_but_not_beyond_30_s() {
    let service = Service::new(vec![error(500); 40].into_iter().chain([ready()]));
    let wait = Wait::new().interval(ms(1)).outage(secs(3600));
    service.api().wait(ID, &wait).unwrap();
    let sleeps = service.clock.sleeps();
    for (failures, sleep) in sleeps.iter().enumerate() {
        let limit = ms(500 << failures.min(6)).min(secs(30));
        assert!((ms(1)..=limit).contains(sleep), "{failures}: {sleep:?}");
    }
    // 34 delays of up to 30 s at random.
    let longest = sleeps.iter().max().unwrap();
    assert!(*longest > secs(15), "{longest:?}");
}

#[test]
fn retry_after_is_a_floor() {
    let rows = [
        ("20", 20),
        ("61", 61),
        ("899", 899),
        ("2", 5),
        ("0", 5),
        ("-20", 5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 5),
    ];
    for (retry_after, sleep) in rows {
        let script = [busy(retry_after), ready()];
        check(Wait::new(), script, READY, &[sleep], "rp");
    }
    let unavailable = error(503).header("retry-after", "7");
    check(Wait::new(), [unavailable, ready()], READY, &[7], "rp");
    // It is forgotten once the service is well.
    let script = [busy("20"), processing(), ready()];
    check(Wait::new(), script, READY, &[20, 5], "rpp");
}

#[test]
fn a_retry_after_beyond_the_end_is_not_begun() {
    let end = fails(RateLimited, "the service asks to wait 15 min 1 s");
    check(Wait::new(), [busy("901")], end, &[], "x");
    let end = fails(RateLimited, "the service asks to wait");
    let longest = busy(&u64::MAX.to_string());
    check(Wait::new(), [longest], end, &[], "x");
    let wait = || Wait::new().timeout(secs(60));
    let end = fails(WaitTimedOut, "too little of 1 min remains for another poll");
    check(wait(), [busy("60")], end, &[], "x");
    check(wait(), [processing(), busy("55")], end, &[5], "px");
    let script = [processing(), busy("54"), ready()];
    check(wait(), script, READY, &[5, 54], "prp");
}

#[test]
fn the_last_poll_is_a_second_before_the_deadline() {
    let timeout = |seconds| Wait::new().timeout(secs(seconds));
    let end = |line| fails(WaitTimedOut, line);
    let line = "not ready within 12 s (last seen: processing)";
    check(timeout(12), [processing()], end(line), &[5, 5, 1], "pppp");
    let line = "not ready within 10 s (";
    check(timeout(10), [processing()], end(line), &[5, 4], "ppp");
    let script = [processing(), processing(), ready()];
    check(timeout(10), script, READY, &[5, 4], "ppp");
    let line = "not ready within 1 s (";
    check(timeout(1), [processing()], end(line), &[], "p");
    // One that takes too long is the last one.
    let slow = processing().takes(secs(59));
    let line = "not ready within 1 min (";
    check(timeout(60), [slow], end(line), &[], "p");
    // An outage does not end the wait later.
    let line = "not ready within 20 s (no good response); the last poll failed: the service failed (500); call wait again";
    let sleeps = [10, 9];
    let wait = every(10).timeout(secs(20));
    check(wait, [error(500)], end(line), &sleeps, "rrx");
    // A time that never ends is a time.
    check(timeout(u64::MAX), [ready()], READY, &[], "p");
}

#[test]
fn without_any_time_there_is_no_request() {
    let end = fails(WaitTimedOut, "not ready within 0 ms (no good response)");
    check(Wait::new().timeout(secs(0)), [ready()], end, &[], "");
}

#[test]
fn a_timeout_has_the_last_error_of_an_outage_as_its_cause() {
    let cause = |script: Vec<Reply>| {
        let service = Service::new(script);
        let wait = Wait::new().timeout(secs(10));
        let error = service.api().wait(ID, &wait).unwrap_err();
        assert_eq!(error.kind(), WaitTimedOut);
        error.source().map(|cause| cause.to_string())
    };
    let found = cause(vec![processing(), error(500), error(502)]);
    assert!(found.as_ref().unwrap().contains("(502)"), "{found:?}");
    assert_eq!(cause(vec![processing(), error(500), processing()]), None);
    let found = cause(vec![busy("10")]);
    assert!(found.as_ref().unwrap().contains("(429)"), "{found:?}");
}

#[test]
fn the_line_of_a_timeout_says_what_was_last_seen() {
    const CONTINUES: &str = "generation continues, call wait again";
    const CHECK: &str = "check the agent, or call wait again";
    let rows = [
        (json!({"status": "processing"}), "processing", CONTINUES),
        (
            json!({"status": "generating", "progress": 0.35, "current_step": "lip_sync"}),
            "generating, 35%, lip_sync",
            CONTINUES,
        ),
        (
            json!({"status": "generating", "current_step": "awaiting_face_marking"}),
            "generating, awaiting_face_marking (the service waits for a person)",
            CONTINUES,
        ),
        // It does not claim that all is well where it cannot know.
        (
            json!({"status": "on\nfire", "progress": 0.35}),
            "the unknown status \"on\\nfire\", 35%",
            CHECK,
        ),
        (
            json!({"status": "completed", "error_message": "lip_sync failed"}),
            "completed, error message: lip_sync failed",
            CHECK,
        ),
        (
            json!({"status": SECRET, "current_step": SECRET, "error_message": SECRET}),
            "the unknown status \"[secret]\", [secret], error message: [secret]",
            CHECK,
        ),
    ];
    for (fields, seen, advice) in rows {
        let service = Service::new([agent(fields)]);
        let wait = Wait::new().timeout(secs(2 * 3600)).interval(secs(3600));
        let error = service.api().wait(ID, &wait).unwrap_err();
        let line = format!("wait: agent {ID}: not ready within 2 h (last seen: {seen}); {advice}");
        assert_eq!(error.to_string(), line);
    }
    // No text of the service's makes the line longer than a screen.
    let long = "x".repeat(600);
    let service = Service::new([agent(json!({"status": long}))]);
    let wait = Wait::new().timeout(secs(5));
    let error = service.api().wait(ID, &wait).unwrap_err();
    let shown = format!("unknown status \"{}\"", &long[..512]);
    assert!(error.to_string().contains(&shown), "{error}");
}

#[test]
fn a_ready_agent_is_seen_whatever_else_is_in_its_record() {
    let deep = |open: &str, close: &str| open.repeat(300) + &close.repeat(300);
    let record = |field: &str| {
        let data = format!(r#""agent_id": "{ID}", {field}, "status": "ready""#);
        Reply::new(200, format!(r#"{{"success": true, "data": {{{data}}}}}"#))
    };
    for field in [
        r#""system_prompt": "\ud83d""#.to_owned(),
        r#""progress": 1e400"#.to_owned(),
        r#""cost": [1e400, -1e400]"#.to_owned(),
        format!(r#""tree": {}"#, deep("[", "]")),
        format!(r#""tree": {}1{}"#, r#"{"a":"#.repeat(300), "}".repeat(300)),
        format!(r#""system_prompt": "{}""#, "p".repeat(900_000)),
        r#""name": 1, "model_url": [], "supported_models": {}"#.to_owned(),
        r#""status": "processing""#.to_owned(),
    ] {
        check(Wait::new(), [record(&field)], READY, &[], "p");
    }
    let body = String::from_utf8(ready().body).unwrap();
    for body in [format!("\u{feff}{body}"), format!("{body} and more")] {
        check(Wait::new(), [Reply::new(200, body)], READY, &[], "p");
    }
}

#[test]
fn the_reason_of_a_retry_and_the_cause_of_a_timeout_name_the_call() {
    let service = Service::new([error(500)]);
    let events = Events::default();
    let api = events.record(service.builder());
    let wait = Wait::new().timeout(secs(5));
    let timed_out = api.wait(ID, &wait).unwrap_err();
    let expected = format!("wait: agent {ID}: the service failed (500)");
    assert_eq!(timed_out.source().unwrap().to_string(), expected);
    for event in events.all() {
        let Event::Retrying { reason, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(reason, expected);
    }
}

#[test]
fn an_outage_that_did_not_take_place_is_not_claimed() {
    let service = Service::new([busy("901")]);
    let line = service
        .api()
        .wait(ID, &Wait::new())
        .unwrap_err()
        .to_string();
    assert!(!line.contains("no good response for 15 min"), "{line}");
}

#[test]
fn the_line_of_a_timeout_does_not_call_60_of_100_complete() {
    let service = Service::new([agent(json!({"status": "success", "progress": 60}))]);
    let wait = Wait::new().timeout(secs(5));
    let line = service.api().wait(ID, &wait).unwrap_err().to_string();
    assert!(!line.contains("100%"), "{line}");
}

#[test]
fn watch_sleeps_between_items_and_not_before_it_gives_one() {
    let service = Service::new([processing(), ready()]);
    let mut watch = service.api().watch(ID, &Wait::new());
    assert!(service.requests().is_empty());
    for requests in [1, 2] {
        watch.next().unwrap().unwrap();
        assert_eq!(service.clock.sleeps().len(), requests - 1);
        assert_eq!(service.requests().len(), requests);
    }
    let done: Vec<_> = (0..3).filter_map(|_| watch.next()).collect();
    assert!(done.is_empty(), "{done:?}");
}

#[test]
fn what_cannot_be_waited_for_is_refused_without_a_request() {
    let service = Service::new([]);
    let api = service.api();
    let zero = every(0);
    for result in [
        api.wait(ID, &Wait::new().model("")),
        api.wait(ID, &zero),
        api.wait("", &Wait::new()),
        api.wait("..", &Wait::new()),
        api.watch(ID, &zero).next().unwrap(),
        api.generate_and_wait(&small(), &zero),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), InvalidInput, "{error:?}");
        assert_eq!(error.billing(), Billing::NotBilled, "{error:?}");
        assert_eq!(error.attempts(), 0, "{error:?}");
        assert!(error.to_string().starts_with("wait: the "), "{error}");
    }
    assert_eq!(api.watch("", &Wait::new()).take(3).count(), 1);
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn the_time_of_day_does_not_matter() {
    let service = Service::new([processing(), processing(), ready()]);
    let clock = service.clock.clone();
    let suspend = move || clock.suspend(secs(10 * 3600));
    service.clock.on_sleep(suspend);
    service.api().wait(ID, &Wait::new()).unwrap();
}
