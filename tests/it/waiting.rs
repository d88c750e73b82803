//! Waiting, on a clock that does not wait.

use std::error::Error as _;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use bithuman::ErrorKind::{self, *};
use bithuman::serde_json::json;
use bithuman::{Agent, Error, GenerateRequest, Status, Wait, Watch};

use crate::support::{
    Answer, FakeClock, ID, Service, agent, api_to, listen, ms, say, secs, started, status, unused_port,
};

fn processing() -> Answer {
    status("processing")
}

fn error(http: u16) -> Answer {
    Answer::new(http, "")
}

/// These answers, and then this one for ever.
fn script(answers: impl IntoIterator<Item = Answer>, then: Answer) -> Service {
    Service::new(answers.into_iter().chain([then]))
}

/// An error of a wait always says which agent, and what was last seen of it.
fn assert_tells(error: &Error, kind: ErrorKind, last_seen: Option<&str>) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.agent_id(), Some(ID), "{error:?}");
    assert_eq!(error.last_seen().map(|agent| agent.status.as_str()), last_seen, "{error:?}");
    assert!(error.to_string().starts_with(&format!("wait: agent {ID}: ")), "{error}");
    assert!(!error.outcome_unknown(), "{error:?}");
}

#[test]
fn wait_polls_at_once() {
    let service = script([], status("ready"));
    assert!(service.api().wait(ID, &Wait::new()).unwrap().is_ready());
    assert_eq!((service.clock.sleeps(), service.hits()), (vec![], 1));
    assert_eq!(service.request().target, format!("/v1/agent/status/{ID}"));
}

#[test]
fn generate_and_wait_polls_after_one_interval() {
    for (wait, interval) in [(Wait::new(), secs(5)), (Wait::new().interval(secs(9)), secs(9))] {
        let service = script([started()], status("ready"));
        let agent = service.api().generate_and_wait(&GenerateRequest::new(), &wait).unwrap();
        assert!(agent.is_ready());
        assert_eq!(service.clock.sleeps(), [interval]);
        let targets: Vec<_> = service.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, ["/v1/agent/generate".to_owned(), format!("/v1/agent/status/{ID}")]);
    }
}

#[test]
fn polls_are_one_interval_apart() {
    for (wait, interval) in [(Wait::new(), secs(5)), (Wait::new().interval(ms(1_500)), ms(1_500))] {
        let service = script([processing(), processing(), status("generating")], status("ready"));
        service.api().wait(ID, &wait).unwrap();
        assert_eq!(service.clock.sleeps(), [interval; 3]);
        assert_eq!(service.hits(), 4);
    }
}

#[test]
fn the_defaults_are_five_seconds_two_hours_and_fifteen_minutes() {
    let plain = Wait::new().interval(secs(5)).timeout(secs(2 * 60 * 60)).outage(secs(15 * 60));
    assert_eq!(Wait::new(), plain);
    assert_eq!(Wait::default(), plain);
    // What two hours are, seen from outside.
    let service = script([], processing());
    let error = service.api().wait(ID, &Wait::new().interval(secs(30 * 60))).unwrap_err();
    assert_tells(&error, WaitTimedOut, Some("processing"));
    assert_eq!(service.clock.sleeps(), [secs(1_800), secs(1_800), secs(1_800), secs(1_799)]);
}

#[test]
fn the_deadline_is_kept_and_its_last_look_comes_a_second_before_it() {
    let (s, m) = (secs, ms);
    let rows = [
        (s(5), s(21), vec![s(5), s(5), s(5), s(5)]),
        (s(5), s(23), vec![s(5), s(5), s(5), s(5), s(2)]),
        (s(5), s(20), vec![s(5), s(5), s(5), s(4)]),
        (s(7), m(14_500), vec![s(7), s(7)]),
        (s(7), s(14), vec![s(7), s(6)]),
        (s(60), s(30), vec![s(29)]),
        (s(3_600), s(30), vec![s(29)]),
        (s(5), m(1_500), vec![m(500)]),
    ];
    for (interval, timeout, sleeps) in rows {
        let service = script([], processing());
        let wait = Wait::new().interval(interval).timeout(timeout);
        let error = service.api().wait(ID, &wait).unwrap_err();
        assert_tells(&error, WaitTimedOut, Some("processing"));
        assert_eq!(service.clock.sleeps(), sleeps);
        assert_eq!(service.hits(), sleeps.len() + 1, "one poll at once and one after each sleep");
        assert!(sleeps.iter().sum::<Duration>() < timeout);
        assert_eq!((error.retry_after(), error.http_status()), (None, None));
        assert!(error.is_retryable());
    }
}

#[test]
fn the_deadline_counts_what_the_service_takes() {
    // Each poll takes 4 s: two intervals and three polls, and the last one cannot be begun.
    let service = script([], processing().takes(secs(4)));
    let error = service.api().wait(ID, &Wait::new().timeout(secs(22))).unwrap_err();
    assert_tells(&error, WaitTimedOut, Some("processing"));
    assert_eq!(service.clock.sleeps(), [secs(5), secs(5)]);
    assert_eq!(service.hits(), 3);
}

#[test]
fn generate_and_wait_has_one_deadline_over_both() {
    let service = script([started().takes(secs(30))], processing());
    let request = GenerateRequest::new().idempotency_key("k");
    let error = service.api().generate_and_wait(&request, &Wait::new().timeout(secs(43))).unwrap_err();
    assert_tells(&error, WaitTimedOut, Some("processing"));
    assert_eq!(service.clock.sleeps(), [secs(5), secs(5), secs(2)]);
    // It is paid: to call it again would pay again.
    assert!(!error.is_retryable());
    assert_eq!(error.idempotency_key(), Some("k"));

    let service = script([started().takes(secs(30))], processing());
    let error = service.api().generate_and_wait(&request, &Wait::new().timeout(secs(30))).unwrap_err();
    assert_tells(&error, WaitTimedOut, None);
    assert!(error.to_string().contains("not ready after 30.0 s of 30s: not seen yet"), "{error}");
    assert_eq!((service.hits(), service.clock.sleeps()), (1, vec![]));
}

#[test]
fn no_time_at_all_is_no_poll_and_no_payment() {
    let service = script([started()], status("ready"));
    let wait = Wait::new().timeout(Duration::ZERO);
    assert_tells(&service.api().wait(ID, &wait).unwrap_err(), WaitTimedOut, None);
    let error = service.api().generate_and_wait(&GenerateRequest::new(), &wait).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (WaitTimedOut, None));
    assert!(!error.outcome_unknown(), "{error}");
    assert_eq!(service.hits(), 0);
}

#[test]
fn running_out_of_time_says_how_far_it_was_and_is_no_failure() {
    let rows = [
        (processing(), "processing"),
        (agent(json!({"status": "generating", "progress": 0.25})), "generating, 25 %"),
        (agent(json!({"status": "success", "progress": 0.5, "current_step": "lip_sync"})), "success, 50 %, lip_sync"),
        (
            agent(json!({"status": "generating", "current_step": "awaiting_face_marking"})),
            "generating, awaiting_face_marking (the service waits for a person to mark the face)",
        ),
        (agent(json!({"status": "generating", "progress": 1e300, "current_step": "done"})), "generating, 100 %, done"),
        (status("a\nb"), "a\\nb"),
    ];
    for (answer, what) in rows {
        let error = script([], answer).api().wait(ID, &Wait::new().timeout(secs(1))).unwrap_err();
        assert_eq!(error.kind(), WaitTimedOut);
        let line = format!(
            "wait: agent {ID}: not ready after 0.0 s of 1s (too little is left to ask again): {what}; \
             this is no failure, wait for it again"
        );
        assert_eq!(error.to_string(), line);
    }
}

/// Every way a poll can fail that may pass, but for the unknown agent.
fn passing_trouble() -> Vec<(Answer, ErrorKind)> {
    let nested = json!({"error": {"code": "INTERNAL_ERROR", "message": "m"}, "status_code": 500});
    vec![
        (error(408), Service),
        (error(425), Service),
        (error(429), RateLimited),
        (error(500), Service),
        (error(502), Service),
        (error(503), Service),
        (error(504), Service),
        (Answer::json(500, nested), Service),
        (Answer::json(200, json!({"success": false, "error": "RATE_LIMITED"})), RateLimited),
        (Answer::json(200, json!({"success": false, "error": "INTERNAL_ERROR"})), Service),
        (Answer::new(200, "<html>maintenance</html>"), UnexpectedAnswer),
        (Answer::new(200, ""), UnexpectedAnswer),
        (Answer::json(200, json!([])), UnexpectedAnswer),
        (Answer::json(200, json!({"success": true, "data": null})), UnexpectedAnswer),
        (agent(json!({"status": 7})), UnexpectedAnswer),
    ]
}

#[test]
fn passing_trouble_is_no_end() {
    for (trouble, _) in passing_trouble() {
        let first = script([trouble.clone()], status("ready"));
        assert!(first.api().wait(ID, &Wait::new()).unwrap().is_ready());
        assert_eq!((first.hits(), first.clock.sleeps()), (2, vec![secs(5)]));

        let later = script([processing(), trouble.clone(), trouble], status("ready"));
        let items: Vec<_> = later.api().watch(ID, &Wait::new()).map(|item| item.unwrap().status).collect();
        assert_eq!(items, [Status::Processing, Status::Ready], "trouble that passes is not shown");
        assert_eq!(later.clock.sleeps(), [secs(5); 3]);
    }
}

#[test]
fn an_outage_runs_out_with_its_own_error() {
    for (trouble, kind) in passing_trouble() {
        for (before, last_seen) in [(vec![], None), (vec![processing()], Some("processing"))] {
            let good = before.len();
            let service = script(before, trouble.clone());
            let error = service.api().wait(ID, &Wait::new().outage(secs(60))).unwrap_err();
            assert_tells(&error, kind, last_seen);
            assert!(error.to_string().contains(" s of the 60s allowed"), "{error}");
            assert!(error.is_retryable());
            let bad = &service.clock.sleeps()[good..];
            // The last one may be cut short for a last look.
            let (_, before_last) = bad.split_last().unwrap();
            assert!(before_last.iter().all(|sleep| *sleep >= secs(5)), "{bad:?}");
            // A pause is 30 s at most, so it cannot have ended before.
            assert!(bad.iter().sum::<Duration>() >= secs(29), "{bad:?}");
        }
    }
}

#[test]
fn an_outage_of_the_network_runs_out_with_its_own_error() {
    let host = format!("127.0.0.1:{}", unused_port());
    let clock = Arc::new(FakeClock::default());
    let api = api_to(&format!("http://{host}")).clock(clock.clone()).build().unwrap();
    let error = api.wait(ID, &Wait::new()).unwrap_err();
    assert_tells(&error, Network, None);
    let line = error.to_string();
    let start = format!(
        "wait: agent {ID}: nothing accepts connections at {host} (is the base URL right?); no good answer for "
    );
    let out = line
        .strip_prefix(&start)
        .and_then(|rest| rest.strip_suffix(" s of the 900s allowed; wait for it again, which is not billed"));
    let out: f64 = out.and_then(|out| out.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    // The backoff is random: the last poll comes in the last second, or at the very end of it.
    assert!((899.0..=900.0).contains(&out), "{line}");
    assert!(clock.sleeps().iter().sum::<Duration>() >= secs(900 - 30));
}

#[test]
fn an_outage_is_not_slept_past() {
    let rows = [
        // A pause is the interval, and the outage ends in the middle of one.
        (secs(60), secs(100)),
        (secs(60), secs(30)),
        (secs(600), secs(2)),
    ];
    for (interval, outage) in rows {
        let service = script([processing()], error(500));
        let error = service.api().wait(ID, &Wait::new().interval(interval).outage(outage)).unwrap_err();
        assert_tells(&error, Service, Some("processing"));
        let out: Duration = service.clock.sleeps()[1..].iter().sum();
        assert!(out <= outage, "out for {out:?}, allowed {outage:?}");
    }
}

#[test]
fn a_good_answer_ends_an_outage() {
    // Every trouble is 20 s long, whatever the backoff: the service asks for that.
    let trouble = || Answer::new(503, "").header("retry-after", "20");
    let twice_40_s = [trouble(), trouble(), processing(), trouble(), trouble(), processing(), trouble(), trouble()];
    let service = script(twice_40_s, status("ready"));
    assert!(service.api().wait(ID, &Wait::new().outage(secs(50))).unwrap().is_ready());
    let expected = [20, 20, 5, 20, 20, 5, 20, 20].map(secs);
    assert_eq!(service.clock.sleeps(), expected);

    let service = script([], trouble());
    let error = service.api().wait(ID, &Wait::new().outage(secs(50))).unwrap_err();
    assert_tells(&error, Service, None);
}

#[test]
fn what_outlasts_the_deadline_is_out_of_time_and_keeps_its_cause() {
    let service = script([processing()], error(502));
    let error = service.api().wait(ID, &Wait::new().timeout(secs(60))).unwrap_err();
    assert_tells(&error, WaitTimedOut, Some("processing"));
    let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!((cause.kind(), cause.http_status()), (Service, Some(502)));
    assert!(service.clock.sleeps().iter().sum::<Duration>() < secs(60));
}

#[test]
fn the_backoff_grows_and_is_never_below_the_interval() {
    let service = script(vec![error(500); 40], status("ready"));
    let wait = Wait::new().interval(secs(1)).outage(secs(24 * 60 * 60));
    service.api().wait(ID, &wait).unwrap();
    let sleeps = service.clock.sleeps();
    assert_eq!(sleeps.len(), 40);
    for (n, sleep) in sleeps.iter().enumerate() {
        let most = ms(500 << n.min(6)).min(secs(30)).max(secs(1));
        assert!((secs(1)..=most).contains(sleep), "{n}: {sleep:?}");
    }
    // Each of these is random up to 30 s.
    assert!(sleeps[6..].iter().any(|sleep| *sleep > secs(8)), "{sleeps:?}");
    assert!(sleeps[6..].iter().any(|sleep| *sleep != sleeps[39]), "{sleeps:?}");

    // After a good answer it begins anew.
    let answers = iter::repeat_n(error(500), 20).chain([processing(), error(500)]);
    let service = script(answers, status("ready"));
    service.api().wait(ID, &wait).unwrap();
    assert_eq!(service.clock.sleeps()[20..], [secs(1), secs(1)]);
}

#[test]
fn retry_after_is_a_floor() {
    for http in [429, 503, 500] {
        let rows = [("40", secs(40)), ("5.5", ms(5_500)), ("2", secs(5)), ("0", secs(5)), ("tomorrow", secs(5))];
        for (value, pause) in rows {
            let service = script([processing(), error(http).header("retry-after", value)], status("ready"));
            service.api().wait(ID, &Wait::new()).unwrap();
            assert_eq!(service.clock.sleeps(), [secs(5), pause], "{value}");
        }
    }
    // It is shorter than the time left, and longer than the outage that was to be sat out.
    let service = script([processing()], error(429).header("retry-after", "1000"));
    let error = service.api().wait(ID, &Wait::new()).unwrap_err();
    assert_tells(&error, RateLimited, Some("processing"));
    assert_eq!((error.retry_after(), service.clock.sleeps().len()), (Some(secs(1_000)), 1));
}

#[test]
fn retry_after_beyond_the_deadline_ends_the_wait_at_once() {
    for (retry_after, timeout) in [(100, 60), (60, 60), (9_000, 7_200)] {
        let service = script([], error(429).header("retry-after", retry_after.to_string()));
        let wait = Wait::new().timeout(secs(timeout)).outage(secs(100_000));
        let error = service.api().wait(ID, &wait).unwrap_err();
        assert_tells(&error, WaitTimedOut, None);
        assert_eq!(error.retry_after(), Some(secs(retry_after)));
        assert!(error.to_string().contains(&format!("asks to wait {retry_after} s")), "{error}");
        let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
        assert_eq!(cause.kind(), RateLimited);
        assert_eq!((service.hits(), service.clock.sleeps()), (1, vec![]));
    }
    // What still fits is waited for.
    let service = script([error(429).header("retry-after", "59")], status("ready"));
    assert!(service.api().wait(ID, &Wait::new().timeout(secs(60))).unwrap().is_ready());
    assert_eq!(service.clock.sleeps(), [secs(59)]);
}

#[test]
fn an_agent_not_known_yet_may_be_known_soon() {
    let not_found = || Answer::json(404, json!({"success": false, "error": "AGENT_NOT_FOUND"}));
    let rows = [
        (vec![not_found(); 3], None),
        (vec![not_found(); 4], Some((4, None))),
        (vec![not_found(), not_found(), error(500), not_found(), not_found(), not_found()], None),
        (
            vec![not_found(), not_found(), error(500), not_found(), not_found(), not_found(), not_found()],
            Some((7, None)),
        ),
        (vec![processing(), not_found()], Some((2, Some("processing")))),
        (vec![not_found(), not_found(), processing(), not_found()], Some((4, Some("processing")))),
        (vec![processing(), error(500), not_found()], Some((3, Some("processing")))),
    ];
    for (answers, end) in rows {
        let polls = answers.len();
        let service = script(answers, status("ready"));
        let result = service.api().wait(ID, &Wait::new());
        match end {
            None => {
                assert!(result.unwrap().is_ready());
                assert_eq!(service.hits(), polls + 1);
            }
            Some((hits, last_seen)) => {
                let error = result.unwrap_err();
                assert_tells(&error, NotFound, last_seen);
                assert_eq!((error.code(), error.is_retryable()), (Some("AGENT_NOT_FOUND"), false));
                assert_eq!(service.hits(), hits);
            }
        }
        assert!(service.clock.sleeps().iter().all(|sleep| *sleep >= secs(5)));
    }
}

#[test]
fn what_does_not_pass_ends_the_wait_at_once() {
    let rows = [
        (error(400), Rejected),
        (error(401), Unauthorized),
        (error(402), InsufficientBalance),
        (error(403), Unauthorized),
        (error(405), Rejected),
        (error(409), Rejected),
        (error(410), Rejected),
        (error(422), Rejected),
        (error(302).header("location", "http://127.0.0.1:9/"), Rejected),
        (error(304), Rejected),
        (Answer::json(200, json!({"success": false, "error": "no"})), Rejected),
        (Answer::json(200, json!({"success": false, "error": "UNAUTHORIZED"})), Unauthorized),
    ];
    for (answer, kind) in rows {
        let service = script([answer.clone()], status("ready"));
        let error = service.api().wait(ID, &Wait::new()).unwrap_err();
        assert_tells(&error, kind, None);
        assert_eq!((service.hits(), service.clock.sleeps()), (1, vec![]));

        let service = script([processing(), answer], status("ready"));
        let error = service.api().wait(ID, &Wait::new()).unwrap_err();
        assert_tells(&error, kind, Some("processing"));
        assert_eq!((service.hits(), error.is_retryable()), (2, false));
    }
}

#[test]
fn every_status_in_the_order_the_service_writes_them() {
    let steps = [
        json!({"status": "processing", "progress": 0.0}),
        json!({"status": "generating", "progress": 0.0, "current_step": "payment"}),
        json!({"status": "completed", "progress": 0.05, "current_step": "persona"}),
        json!({"status": "generating", "progress": 0.1, "current_step": "voice_image"}),
        json!({"status": "success", "progress": 0.2, "current_step": "voice_image"}),
        json!({"status": "generating", "progress": 0.3, "current_step": "video"}),
        json!({"status": "generating", "progress": 0.5, "current_step": "awaiting_face_marking"}),
        json!({"status": "completed", "progress": 1.0, "current_step": "lip_sync"}),
        json!({"status": "success"}),
        json!({"status": "polishing", "progress": 1.0}),
    ];
    let ends = [
        json!({"status": "ready", "progress": 1.0, "current_step": "done"}),
        json!({"status": "ready"}),
        json!({"status": "success", "progress": 1.0, "current_step": "done"}),
    ];
    for end in ends {
        let all: Vec<_> = steps.iter().chain([&end]).cloned().collect();
        let service = Service::new(all.iter().cloned().map(agent).chain([error(500)]));
        let seen: Vec<Agent> = service.api().watch(ID, &Wait::new()).map(Result::unwrap).collect();
        assert_eq!(seen.len(), all.len());
        for (agent, step) in seen.iter().zip(&all) {
            assert_eq!(agent.status.as_str(), step["status"]);
            assert_eq!(agent.progress, step["progress"].as_f64());
            assert_eq!(agent.is_finished(), *step == end);
        }
        let service = Service::new(all.into_iter().map(agent).chain([error(500)]));
        assert_eq!(service.api().wait(ID, &Wait::new()).unwrap(), *seen.last().unwrap());
        assert_eq!(service.hits(), seen.len());
    }
}

#[test]
fn a_failed_generation_is_an_error_of_wait_and_an_item_of_watch() {
    let rows = [
        (json!({"status": "failed", "error_message": "The picture\nhas no face"}), Some("The picture\nhas no face")),
        (json!({"status": "failed", "error_message": null}), None),
        (json!({"status": "failed", "progress": 1.0}), None),
    ];
    for (end, message) in rows {
        let service = script([processing()], agent(end.clone()));
        let error = service.api().wait(ID, &Wait::new()).unwrap_err();
        assert_tells(&error, GenerationFailed, Some("failed"));
        assert_eq!((error.message(), error.is_retryable()), (message, false));
        let told = message.map(|message| format!(": {}", message.replace('\n', "\\n")));
        let told = told.unwrap_or(", and the service does not say why".into());
        let line =
            format!("wait: agent {ID}: the generation failed{told}; another try is a new generate, which is billed");
        assert_eq!(error.to_string(), line);
        assert_eq!(service.hits(), 2);

        let service = script([processing()], agent(end.clone()));
        let mut watch = service.api().watch(ID, &Wait::new());
        assert_eq!(watch.next().unwrap().unwrap().status, Status::Processing);
        let failed = watch.next().unwrap().unwrap();
        assert!(failed.is_failed() && failed.error_message.as_deref() == message);
        assert!(iter::repeat_with(|| watch.next()).take(3).all(|item| item.is_none()));
        assert_eq!(service.hits(), 2);

        let service = script([started(), processing()], agent(end));
        let request = GenerateRequest::new().idempotency_key("k");
        let error = service.api().generate_and_wait(&request, &Wait::new()).unwrap_err();
        assert_tells(&error, GenerationFailed, Some("failed"));
        assert_eq!((error.idempotency_key(), error.is_retryable()), (Some("k"), false));
    }
}

#[test]
fn watch_gives_at_most_one_error_as_its_last_item() {
    let rows = [
        (vec![], error(401), 0),
        (vec![processing(), processing()], error(400), 2),
        (vec![processing()], error(500), 1),
        (vec![processing(), error(500), processing()], error(404), 2),
    ];
    for (answers, then, good) in rows {
        let service = script(answers, then);
        let mut watch = service.api().watch(ID, &Wait::new().outage(secs(30)));
        for _ in 0..good {
            assert!(watch.next().unwrap().is_ok());
        }
        assert!(watch.next().unwrap().is_err());
        let hits = service.hits();
        assert!(iter::repeat_with(|| watch.next()).take(3).all(|item| item.is_none()));
        assert_eq!(service.hits(), hits);
    }
}

#[test]
fn watch_sends_nothing_until_it_is_asked_and_needs_no_handle() {
    fn goes_anywhere<T: Send + 'static>(_: &T) {}
    let service = script([processing()], status("ready"));
    let mut watch: Watch = service.api().watch(ID, &Wait::new());
    goes_anywhere(&watch);
    assert_eq!(service.hits(), 0);
    assert!(watch.next().unwrap().is_ok());
    assert_eq!((service.hits(), service.clock.sleeps()), (1, vec![]), "the sleep comes before the next poll");
    assert!(watch.next().unwrap().unwrap().is_ready());
    assert_eq!(service.clock.sleeps(), [secs(5)]);
}

#[test]
fn a_refused_generate_is_not_waited_for() {
    let rows = [(error(401), Unauthorized, false), (error(500), Service, true), (error(200), UnexpectedAnswer, true)];
    for (answer, kind, unknown) in rows {
        let service = script([answer], status("ready"));
        let error = service.api().generate_and_wait(&GenerateRequest::new(), &Wait::new()).unwrap_err();
        assert_eq!((error.kind(), error.outcome_unknown(), error.agent_id()), (kind, unknown, None));
        assert!(error.to_string().starts_with("generate: "), "{error}");
        assert_eq!(error.idempotency_key(), service.request().header("idempotency-key"));
        assert_eq!((service.hits(), service.clock.sleeps()), (1, vec![]));
    }
}

#[test]
fn whatever_goes_wrong_after_the_payment_must_not_be_paid_again() {
    let rows =
        [(error(500), Service), (error(429), RateLimited), (error(200), UnexpectedAnswer), (error(401), Unauthorized)];
    for (answer, kind) in rows {
        let service = script([started(), processing()], answer);
        let error = service.api().generate_and_wait(&GenerateRequest::new(), &Wait::new()).unwrap_err();
        assert_tells(&error, kind, Some("processing"));
        assert!(!error.is_retryable(), "{error:?}");
        let key = service.requests()[0].header("idempotency-key").map(str::to_owned);
        assert_eq!(error.idempotency_key(), key.as_deref());
        assert!(service.requests()[1..].iter().all(|request| request.method == "GET"));
    }
}

#[test]
fn a_connection_that_breaks_is_passing_trouble() {
    let url = listen(|n, mut stream| match n {
        // One poll: the first break may be an idle connection's, and costs nothing.
        0 | 1 => say(&mut stream, ""),
        2 => say(&mut stream, "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        _ => say(&mut stream, "HTTP/1.1 200 OK\r\n\r\n{\"data\": {\"status\": \"ready\"}}"),
    });
    let clock = Arc::new(FakeClock::default());
    let api = api_to(&url).clock(clock.clone()).build().unwrap();
    assert!(api.wait(ID, &Wait::new()).unwrap().is_ready());
    assert_eq!(clock.sleeps(), [secs(5); 2]);
}

#[test]
fn attempts_count_every_request_of_the_call() {
    let rows = [
        (vec![processing(), processing()], error(401), Unauthorized, 3),
        (vec![error(500), processing()], status("failed"), GenerationFailed, 3),
        (vec![error(404), error(404), error(404)], error(404), NotFound, 4),
    ];
    for (answers, then, kind, attempts) in rows {
        let service = script(answers, then);
        let error = service.api().wait(ID, &Wait::new()).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, attempts));
    }
    let service = script([], processing());
    let error = service.api().wait(ID, &Wait::new().timeout(secs(12))).unwrap_err();
    assert_eq!((error.kind(), error.attempts() as usize), (WaitTimedOut, service.hits()));
}
