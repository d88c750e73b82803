//! The agent that a response names is in the result of the call, whatever is wrong with it.

use std::sync::{Arc, OnceLock};

use bithuman::serde_json::json;
use bithuman::{Api, Billing, ErrorKind, Event, Generation, Result, Wait};

use crate::harness::*;

const NUMBER: &str = "7712";

/// Bodies that name an agent, and what can be wrong with them. `@` is a field with its id, `%` one
/// with a number.
const SHAPES: [&str; 36] = [
    "{@}",
    r#"{@, "message": "m", "status": "processing"}"#,
    r#"{"data": {@}}"#,
    r#"{"agent_id": null, "data": {@}}"#,
    "\r\n {\n\t\"agent_id\"\n :\r\n \"A91XMB7113\"\n}\n ",
    r#"{"error": {"code": "E", "message": "m"}, @}"#,
    "{%}",
    r#"{"data": {%}}"#,
    r#"{"x": NaN, %}"#,
    r#"{"message": "\ud83d", @}"#,
    r#"{@, "message": "\ud83d"}"#,
    r#"{"\ud83d": 1, @}"#,
    r#"{"cost": 1e400, @}"#,
    r#"{@, "cost": -1e400}"#,
    r#"{"tree": NESTED, @}"#,
    r#"{@, "tree": NESTED}"#,
    r#"{"message": "INVALID", @}"#,
    r#"{@, "message": "INVALID"}"#,
    "\u{feff}{@}",
    "{@}\r\n0\r\n\r\n{}",
    "{}{@}",
    r#"{"message": "LONG", @}"#,
    r#"{"message": "LONG\x", @}"#,
    r#"{"progress": NaN, @}"#,
    r#"{@, "progress": NaN}"#,
    r#"{"progress": -Infinity, @}"#,
    "{\"message\": \"a\nb\u{1}\", @}",
    "{@, \"message\": \"a\nb\u{0}\"}",
    r#"{"data": {"message": NaN, @}}"#,
    "[{@}]",
    "[[[[{@}]]]]",
    "<html><body><pre>{@}</pre></body></html>",
    "callback({@});",
    "{@,}",
    r#"{@, "mess"#,
    r#"'{@}'"#,
];

/// The bodies with what their words stand for, and the agent's id.
fn shapes() -> Vec<(Vec<u8>, &'static str)> {
    let mut shapes = Vec::new();
    for shape in SHAPES {
        let text = shape
            .replace('@', &format!(r#""agent_id": "{ID}""#))
            .replace('%', &format!(r#""agent_id": {NUMBER}"#))
            .replace("NESTED", &["[".repeat(300), "]".repeat(300)].concat())
            .replace("LONG", &"a".repeat(100_000));
        let parts: Vec<_> = text.split("INVALID").map(str::as_bytes).collect();
        let id = if shape.contains('%') { NUMBER } else { ID };
        shapes.push((parts.join(&b"\xff\xc3"[..]), id));
    }
    shapes
}

/// The body with `"success": false` in it, where it is an object whose fields can be read.
fn unsuccessful(body: &[u8]) -> Option<Vec<u8>> {
    let (before, fields) = body.split_at(body.iter().position(|b| *b == b'{')? + 1);
    let is_object = matches!(before.trim_ascii(), b"{" | b"\xef\xbb\xbf{");
    let is_empty = fields.starts_with(b"}");
    (is_object && !is_empty).then(|| [before, br#""success": false, "#, fields].concat())
}

/// What a generate request that names this agent, or none, comes to where keys are honored.
fn generate(script: &Script, reply: Reply, own_id: Option<&str>) -> Run<Result<Generation>> {
    let api = script.builder(true).max_retries(2).build().unwrap();
    let request = match own_id {
        Some(id) => small().agent_id(id),
        None => small(),
    };
    script.run([reply], || api.generate(&request))
}

/// Checks that the result has the agent, after so many requests, and whether it was billed.
#[track_caller]
fn check(run: &Run<Result<Generation>>, id: &str, billing: Billing, posts: usize, what: &str) {
    assert_eq!(run.requests.len(), posts, "{what}: {:?}", run.result);
    let key = run.requests[0].header("idempotency-key");
    match &run.result {
        Ok(generation) => {
            assert_eq!(
                (&*generation.agent_id, billing),
                (id, Billing::Billed),
                "{what}"
            );
            assert_eq!(Some(&*generation.idempotency_key), key, "{what}");
        }
        Err(error) => {
            let found = (error.agent_id(), error.billing(), error.idempotency_key());
            assert_eq!(found, (Some(id), billing, key), "{what}: {error:?}");
            assert!(
                error.to_string().contains(&format!("agent {id}: ")),
                "{what}: {error}"
            );
            assert!(
                !error.is_retryable() || billing == Billing::NotBilled,
                "{what}"
            );
        }
    }
}

#[test]
fn an_accepted_agent_is_never_lost_whatever_is_wrong_with_the_response() {
    let script = Script::new();
    for (body, id) in shapes() {
        for status in [200, 202, 299] {
            for own_id in [None, Some("A00OTHER"), Some(id)] {
                let run = generate(&script, Reply::new(status, body.clone()), own_id);
                let what = format!("{status}, own: {own_id:?}, {:.200?}", run.result);
                check(&run, id, Billing::Billed, 1, &what);
            }
        }
    }
}

#[test]
fn an_error_that_names_an_agent_carries_it_with_the_billing_of_its_status() {
    let script = Script::new();
    for (body, id) in shapes() {
        for (status, billing, posts) in [
            (302, Billing::NotBilled, 1),
            (400, Billing::NotBilled, 1),
            (402, Billing::NotBilled, 1),
            (408, Billing::Unknown, 3),
            (429, Billing::NotBilled, 3),
            (500, Billing::Unknown, 3),
            (503, Billing::Unknown, 3),
        ] {
            let own_id = (status < 500).then_some("A00OTHER");
            let run = generate(&script, Reply::new(status, body.clone()), own_id);
            check(&run, id, billing, posts, &status.to_string());
        }
        // With a new agent in it, "not accepted" is hard to believe.
        if let Some(body) = unsuccessful(&body) {
            let run = generate(&script, Reply::new(200, body), None);
            check(&run, id, Billing::Unknown, 1, "unsuccessful");
        }
    }
    let published = json!({"agent_id": ID, "code": "NO_AVAILABLE_WORKERS", "error": "m"});
    let run = generate(&script, Reply::json(503, published), None);
    check(&run, ID, Billing::NotBilled, 3, "published");
}

#[test]
fn the_agent_that_the_request_itself_named_proves_nothing_in_an_error() {
    let script = Script::new();
    for (body, id) in shapes() {
        let mut replies = vec![
            (Reply::new(400, body.clone()), Billing::NotBilled),
            (Reply::new(429, body.clone()), Billing::NotBilled),
            (Reply::new(500, body.clone()), Billing::Unknown),
            (Reply::new(503, body.clone()), Billing::Unknown),
        ];
        let refusal = unsuccessful(&body).map(|body| Reply::new(200, body));
        replies.extend(refusal.map(|reply| (reply, Billing::NotBilled)));
        for (reply, billing) in replies {
            let error = generate(&script, reply, Some(id)).result.unwrap_err();
            let found = (error.agent_id(), error.billing());
            assert_eq!(found, (None, billing), "{error:?}");
        }
    }
}

#[test]
fn an_agent_named_once_stays_with_the_call_whatever_a_retry_says() {
    let script = Script::new();
    for later in [
        gateway(500).into(),
        gateway(401).into(),
        gateway(429).header("retry-after", "3600").into(),
        service_error(503, "NO_AVAILABLE_WORKERS").into(),
        Reply::json(200, json!({"success": false})).into(),
        Reply::json(200, json!({"success": true})).into(),
        Does::Reset,
    ] {
        let named = Reply::json(500, json!({"error": "m", "agent_id": ID}));
        let run = script.generate(true, [named.into(), later]);
        check(&run, ID, Billing::Unknown, run.requests.len(), "later");
        assert!(run.requests.len() > 1);
    }
}

#[test]
fn what_names_no_agent_gives_none() {
    let script = Script::new();
    for body in [
        r#"{"message": "the field \"agent_id\": \"A1\" is missing"}"#,
        r#"{"fields": ["agent_id", "A1"]}"#,
        r#"{"agent_id": ""}"#,
        r#"{"agent_id": {}}"#,
        r#"{"x": NaN, "agent_id": "#,
        r#"{"x": NaN, "agent_id": "A9"#,
        r#"{"x": NaN, "agent_id": 77"#,
        r#"{"agent_ids": "A1", "my_agent_id": "A1"}"#,
    ] {
        for (status, posts) in [(200, 1), (500, 3)] {
            let run = generate(&script, Reply::new(status, body), None);
            let error = run.result.unwrap_err();
            let found = (error.agent_id(), error.billing(), run.requests.len());
            assert_eq!(found, (None, Billing::Unknown, posts), "{error:?}");
        }
    }
}

#[test]
fn a_failure_of_something_else_does_not_make_a_broken_response_unbilled() {
    let script = Script::new();
    for body in [
        r#"{"success":true,"score":NaN,"notify":{"success":false}}"#,
        r#"{"success":true,"error":{"code":"RATE_LIMITED"},"notify":{"success":false},"agent"#,
        r#"{"code":"SERVICE_UNAVAILABLE","steps":[{"success":false}],"agent"#,
        r#"[{"success":false}]"#,
    ] {
        let run = generate(&script, Reply::new(200, body), None);
        let error = run.result.unwrap_err();
        let found = (error.billing(), error.is_retryable(), run.requests.len());
        assert_eq!(found, (Billing::Unknown, false, 1), "{error:?}");
    }
}

#[test]
fn a_failure_is_believed_in_a_response_that_cannot_be_read() {
    let script = Script::new();
    for body in [
        r#"{"x": NaN, "success": false, "agent_id": "A91XMB7113"}"#,
        r#"[{"success":false, "agent_id": "A91XMB7113"}]"#,
    ] {
        let error = generate(&script, Reply::new(200, body), None)
            .result
            .unwrap_err();
        let found = (error.agent_id(), error.billing());
        assert_eq!(found, (Some(ID), Billing::Unknown), "{error:?}");
    }
}

#[test]
fn a_failure_deeper_down_does_not_hide_an_agent_that_the_response_names() {
    let script = Script::new();
    let body = r#"{"agent_id": "A91XMB7113", "steps": [{"success": false}]}"#;
    let run = generate(&script, Reply::new(200, body), None);
    assert_eq!(run.result.unwrap().agent_id, ID);
}

/// What ends a wait after a good poll, and whether a repeat may help.
fn ends() -> Vec<(ErrorKind, bool, Does)> {
    use ErrorKind as Kind;
    let senseless = Reply::json(200, json!({"data": {"agent_id": "A00OTHER"}}));
    let failed = agent(json!({"status": "failed", "error_message": "m"}));
    let later = gateway(429).header("retry-after", "3600");
    vec![
        (Kind::Unauthorized, false, gateway(401).into()),
        (Kind::Unauthorized, false, gateway(403).into()),
        (
            Kind::PlanLimit,
            false,
            service_error(403, "PLAN_REQUIRED").into(),
        ),
        (Kind::InsufficientBalance, false, gateway(402).into()),
        (Kind::NotFound, false, gateway(404).into()),
        (
            Kind::NotFound,
            false,
            service_error(410, "AGENT_DELETED").into(),
        ),
        (Kind::NotFound, false, status("deleted").into()),
        (Kind::Rejected, false, gateway(302).into()),
        (Kind::RateLimited, true, later.into()),
        (Kind::Service, true, gateway(500).into()),
        (Kind::UnexpectedResponse, true, gateway(200).into()),
        (Kind::UnexpectedResponse, true, senseless.into()),
        (Kind::WaitTimedOut, true, status("generating").into()),
        (Kind::ShutDown, false, status("generating").into()),
        (Kind::GenerationFailed, false, failed.into()),
        (Kind::Network, true, Does::Reset),
        (Kind::Timeout, true, Does::Stall(Vec::new())),
    ]
}

#[test]
fn every_end_of_a_wait_has_the_agent_and_whether_it_was_billed() {
    let wait = Wait::new().timeout(secs(60)).outage(secs(8));
    for (kind, is_transient, does) in ends() {
        // `wait` is free. The call that creates the agent would pay again, but for the same key.
        for (creates, key, honored, is_free) in [
            (false, "", true, true),
            (true, "", true, false),
            (true, "my-key", true, true),
            (true, "my-key", false, false),
        ] {
            let what = format!("{creates}, {key}, {honored}, {does:?}");
            let script = Script::new();
            let timeout = if kind == ErrorKind::Timeout {
                ms(250)
            } else {
                secs(60)
            };
            let builder = script.builder(honored).response_timeout(timeout);
            let api = builder.build().unwrap();
            let (stopped, clock) = (api.clone(), script.server.clock.clone());
            script.server.clock.on_sleep(move || {
                if kind == ErrorKind::ShutDown && clock.sleeps().len() > 1 {
                    stopped.shutdown();
                }
            });
            let request = match key {
                "" => small(),
                key => small().idempotency_key(key),
            };
            let good = agent(json!({"status": "generating", "progress": 0.5}));
            let turns = [accepted().into(), good.into(), does.clone()];
            let turns = turns.into_iter().skip(usize::from(!creates));
            let run = script.run(turns, || match creates {
                true => api.generate_and_wait(&request, &wait),
                false => api.wait(ID, &wait),
            });
            let error = run.result.unwrap_err();
            let billing = match kind {
                ErrorKind::GenerationFailed => Billing::Refunded,
                _ => Billing::Billed,
            };
            let found = (error.kind(), error.billing(), error.agent_id());
            assert_eq!(found, (kind, billing, Some(ID)), "{what}: {error:?}");
            let line = error.to_string();
            assert!(line.starts_with("wait: agent A91XMB7113: "), "{line}");
            let sent = run.requests[0].header("idempotency-key");
            assert_eq!(error.idempotency_key(), sent, "{what}");
            assert_eq!(sent.is_some(), creates, "{what}");
            let seen = error.last_seen().expect(&what);
            let is_last = seen.is_finished() || seen.status.as_str() == "generating";
            assert!(is_last, "{what}: {seen:?}");
            assert_eq!(error.is_retryable(), is_transient && is_free, "{what}");
        }
    }
}

#[test]
fn a_paid_agent_whose_id_no_url_can_carry_is_not_lost() {
    let script = Script::new();
    let api = script.builder(false).build().unwrap();
    for id in [".", "..", "A91 ", "A9\u{200b}1", "A9\n1"] {
        let turns = [Reply::json(200, json!({"agent_id": id}))];
        let run = script.run(turns, || api.generate_and_wait(&small(), &Wait::new()));
        let error = run.result.unwrap_err();
        let found = (error.agent_id(), error.billing());
        assert_eq!(found, (Some(id), Billing::Billed), "{error:?}");
        assert!(error.idempotency_key().is_some());
    }
}

#[test]
fn an_accepted_agent_is_reported_once_before_anything_else_can_fail() {
    let script = Script::new();
    let busy = || service_error(503, "NO_AVAILABLE_WORKERS");
    let replayed = || accepted().header("idempotency-replayed", "True");
    let doubtful = Reply::json(200, json!({"success": false, "agent_id": ID}));
    let warned = Reply::json(200, json!({"agent_id": ID, "warnings": ["W"]}));
    let warnings = json!({"warnings": ["W"]});
    for (turns, expected) in [
        (vec![warned, gateway(401)], Some((false, warnings))),
        (
            vec![busy(), gateway(429), replayed(), gateway(401)],
            Some((true, json!({}))),
        ),
        (vec![gateway(401)], None),
        (vec![doubtful], None),
    ] {
        let events = Events::default();
        let api = events.record(script.builder(false));
        let run = script.run(turns, || api.generate_and_wait(&small(), &Wait::new()));
        let error = run.result.unwrap_err();
        let is_accepted = |event: &Event| matches!(event, Event::Accepted { .. });
        let mut found = events.all();
        found.retain(is_accepted);
        let accepted = expected.map(|(replayed, extra)| Event::Accepted {
            agent_id: ID.into(),
            idempotency_key: error.idempotency_key().unwrap().into(),
            replayed,
            extra: extra.as_object().unwrap().clone(),
        });
        assert_eq!(found, accepted.into_iter().collect::<Vec<_>>());
    }

    let shared: Arc<OnceLock<Api>> = Arc::default();
    let of_hook = shared.clone();
    let api = script.builder(false).build().unwrap();
    let api = api.on_event(move |event| {
        if let Event::Accepted { .. } = event {
            of_hook.get().unwrap().shutdown();
        }
    });
    let api = shared.get_or_init(|| api);
    let call = || api.generate_and_wait(&small(), &Wait::new());
    let run = script.run([accepted()], call);
    let error = run.result.unwrap_err();
    let found = (error.kind(), error.agent_id(), error.billing());
    assert_eq!(found, (ErrorKind::ShutDown, Some(ID), Billing::Billed));
}
