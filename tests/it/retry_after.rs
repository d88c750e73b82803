//! `Retry-After` is obeyed where it makes sense, told to the caller, and never slept in vain.

use std::error::Error as _;
use std::time::Duration;

use bithuman::serde_json::json as value;
use bithuman::{Api, Error, ErrorKind, Wait};

use crate::fault::*;
use crate::script::*;
use crate::support::*;

/// The delay before the first resend is at most this where the service asks for nothing.
const BACKOFF: Duration = Duration::from_millis(500);

/// What the header may say, and what that means.
fn forms() -> Vec<(String, Option<Duration>)> {
    let mut forms: Vec<_> = [("20", 20.0), ("0", 0.0), ("1.5", 1.5), ("0.25", 0.25), (" 7 ", 7.0), ("59", 59.0)]
        .map(|(text, seconds)| (text.to_string(), Some(Duration::from_secs_f64(seconds))))
        .into();
    let (long, longer, longest) = ("9".repeat(20), "9".repeat(35), "9".repeat(400));
    let nonsense = ["-10", "", "nan", "NaN", "inf", "-inf", "1e3", "+5", "0x10", "1.2.3", ".", "20s", "1,5", "\u{e9}"];
    let date = "Wed, 21 Oct 2026 07:28:00 GMT";
    forms.extend(nonsense.into_iter().chain([date, &long, &longer, &longest]).map(|text| (text.into(), None)));
    forms
}

/// A call that is sent again, and a good answer to it.
struct Verb {
    name: &'static str,
    call: fn(&Api) -> Result<String, Error>,
    good: Vec<u8>,
}

fn verbs() -> [Verb; 2] {
    [
        Verb { name: "generate", call: |api| api.generate(&small()).map(|started| started.agent_id), good: accepted() },
        Verb {
            name: "status",
            call: |api| api.status(ID).map(|agent| agent.agent_id),
            good: polled(value!({"status": "ready"})),
        },
    ]
}

/// The answers that may ask to come again later.
fn later() -> Vec<Vec<u8>> {
    let mut all = vec![busy(), gateway(429), http(429, "", "")];
    all.extend(own(429, "RATE_LIMITED"));
    all.into_iter().map(|answer| with_header(answer, "connection", "close")).collect()
}

/// What comes of a call whose first answer has this header.
fn after(verb: &Verb, answer: &[u8], text: &str) -> (Trial, Result<String, Error>) {
    let trial = Trial::new(answers([with_header(answer, "retry-after", text), verb.good.clone()]));
    let result = (verb.call)(&trial.api(false));
    (trial, result)
}

#[test]
fn seconds_are_slept_and_nonsense_is_backed_off_from() {
    for verb in verbs() {
        for (text, asked) in forms() {
            let (trial, result) = after(&verb, &later()[0], &text);
            assert_eq!(result.unwrap(), ID);
            let [slept] = trial.clock.sleeps()[..] else { panic!("{} after {text:?}", verb.name) };
            match asked {
                Some(asked) if asked > BACKOFF => assert_eq!(slept, asked, "{} after {text:?}", verb.name),
                _ => assert!(asked.unwrap_or_default() <= slept && slept <= BACKOFF, "{} after {text:?}", verb.name),
            }
            assert_eq!(trial.resends().1, [slept]);
        }
    }
}

#[test]
fn the_error_tells_what_the_service_asks_for_and_nothing_for_nonsense() {
    for verb in verbs() {
        for (text, asked) in forms() {
            let trial = Trial::new([answer(with_header(&later()[0], "retry-after", &text))]);
            let error = (verb.call)(&trial.noting(trial.builder().retries(0))).unwrap_err();
            assert_eq!(error.retry_after(), asked, "{} after {text:?}", verb.name);
            assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![], 1));
        }
    }
}

#[test]
fn a_gateways_html_is_obeyed_like_the_services_own_words() {
    for verb in verbs() {
        for answer in later() {
            let (trial, result) = after(&verb, &answer, "20");
            assert_eq!(result.unwrap(), ID);
            assert_eq!(trial.clock.sleeps(), [secs(20)], "{}", verb.name);
        }
    }
}

#[test]
fn more_than_a_minute_without_a_deadline_returns_at_once_with_the_value() {
    for verb in verbs() {
        for (text, asked) in [("61", 61), ("3600", 3600), ("4294967296", 4_294_967_296)] {
            for answer in later() {
                let (trial, result) = after(&verb, &answer, text);
                let error = result.unwrap_err();
                assert_eq!(error.retry_after(), Some(secs(asked)), "{}", verb.name);
                assert_eq!((error.attempts(), error.outcome_unknown()), (1, false), "{}: {error:?}", verb.name);
                assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![], 1), "{}", verb.name);
                assert!(error.to_string().contains(&format!("{asked} s")), "{error}");
            }
        }
    }
}

#[test]
fn the_longest_delays_there_are_do_no_harm() {
    for verb in verbs() {
        for text in [u64::MAX.to_string(), "18446744073709549568".into(), format!("{}.999999999", u64::MAX)] {
            let (trial, result) = after(&verb, &later()[0], &text);
            let slept = trial.clock.sleeps();
            assert!(slept.iter().all(|slept| *slept <= BACKOFF), "{}: {slept:?}", verb.name);
            assert_eq!(result.is_ok(), slept.len() == 1, "{}: {result:?}", verb.name);
        }
    }
}

#[test]
fn each_resend_waits_for_what_the_last_answer_asks() {
    for verb in verbs() {
        let asking = ["3", "50", "2"].map(|text| with_header(&later()[0], "retry-after", text));
        let trial = Trial::new(answers(asking.into_iter().chain([verb.good])));
        assert_eq!((verb.call)(&trial.api(false)).unwrap(), ID);
        // No backoff is longer than these yet.
        assert_eq!(trial.clock.sleeps(), [secs(3), secs(50), secs(2)], "{}", verb.name);
    }
}

#[test]
fn what_is_not_resent_is_not_slept_for() {
    for (first, unknown) in [(gateway(400), false), (gateway(401), false), (gateway(503), true), (gateway(500), true)] {
        let [generate, _] = verbs();
        let (trial, result) = after(&generate, &first, "20");
        let error = result.unwrap_err();
        assert_outcome(&error, error.kind(), unknown);
        assert_eq!(error.retry_after(), Some(secs(20)), "{error:?}");
        assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![], 1), "{error:?}");
    }
}

#[test]
fn a_gateways_503_is_obeyed_where_keys_are_honored() {
    let trial = Trial::new(answers([with_header(gateway(503), "retry-after", "20"), accepted()]));
    assert_eq!(trial.api(true).generate(&small()).unwrap().idempotency_key, trial.key());
    assert_eq!(trial.clock.sleeps(), [secs(20)]);
}

#[test]
fn a_generate_does_not_begin_a_delay_that_would_pass_the_deadline() {
    for answer in later() {
        for text in ["30", "31", "59", "3600"] {
            let (asking, good) = (with_header(&answer, "retry-after", text), accepted());
            let trial = Trial::new(answers([asking, good]));
            let error = trial.api(false).generate_and_wait(&small(), &Wait::new().timeout(secs(30))).unwrap_err();
            assert_eq!(error.retry_after(), Some(secs(text.parse().unwrap())));
            assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![], 1));
            assert_outcome(&error, error.kind(), false);
            assert_ne!(error.kind(), ErrorKind::GenerationFailed);
        }
    }
}

#[test]
fn delays_count_against_the_one_deadline() {
    let asking = || with_header(&later()[0], "retry-after", "40");
    let trial = Trial::new(answers([asking(), asking(), accepted()]));
    let error = trial.api(false).generate_and_wait(&small(), &Wait::new().timeout(secs(70))).unwrap_err();
    assert_eq!((error.retry_after(), error.attempts()), (Some(secs(40)), 2));
    assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![secs(40)], 2));
}

#[test]
fn a_deadline_far_away_allows_a_delay_of_more_than_a_minute() {
    let answered = [with_header(busy(), "retry-after", "3600"), accepted(), polled(value!({"status": "ready"}))];
    let trial = Trial::new(answers(answered.map(|answer| with_header(answer, "connection", "close"))));
    assert_eq!(trial.api(false).generate_and_wait(&small(), &Wait::new()).unwrap().agent_id, ID);
    assert_eq!(trial.clock.sleeps(), [secs(3600), secs(5)]);
}

#[test]
fn a_poll_comes_no_sooner_than_asked_and_no_sooner_than_the_interval() {
    let after = |answer: &[u8], text: &str| {
        let asking = with_header(answer, "retry-after", text);
        let trial = Trial::new(answers([asking, polled(value!({"status": "ready"}))]));
        assert_eq!(trial.api(false).wait(ID, &Wait::new()).unwrap().agent_id, ID);
        trial.clock.sleeps()
    };
    for (text, asked) in forms() {
        assert_eq!(after(&busy(), &text), [asked.unwrap_or_default().max(secs(5))], "after {text:?}");
    }
    for answer in later() {
        assert_eq!(after(&answer, "20"), [secs(20)]);
    }
}

#[test]
fn a_poll_does_not_wait_past_the_deadline_and_tells_what_was_asked() {
    for answer in later() {
        let trial = Trial::new(answers([
            polled(value!({"status": "generating"})),
            with_header(&answer, "retry-after", "60"),
            polled(value!({"status": "ready"})),
        ]));
        let error = trial.api(false).wait(ID, &Wait::new().timeout(secs(30))).unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::WaitTimedOut, Some(secs(60))));
        assert_eq!(error.agent_id(), Some(ID));
        assert_eq!(error.last_seen().map(|agent| agent.status.to_string()).as_deref(), Some("generating"));
        assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![secs(5)], 2));
        assert!(error.source().is_some(), "the trouble is the cause: {error:?}");
    }
}

#[test]
fn a_poll_does_not_wait_past_the_outage_and_tells_what_was_asked() {
    for answer in later() {
        let asking = with_header(&answer, "retry-after", "1200");
        let trial = Trial::new(answers([asking, polled(value!({"status": "ready"}))]));
        let error = trial.api(false).wait(ID, &Wait::new()).unwrap_err();
        assert_eq!((error.retry_after(), error.agent_id()), (Some(secs(1200)), Some(ID)));
        assert_eq!((trial.clock.sleeps(), trial.script.connections()), (vec![], 1));
    }
}
