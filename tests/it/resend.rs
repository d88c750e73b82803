//! A generate is sent again only where that cannot be a second one.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bithuman::serde_json::json as value;
use bithuman::{Error, ErrorKind, Event, GenerateRequest, Media};

use crate::fault::*;
use crate::script::*;
use crate::support::*;

/// Longer than a key is good for.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Takes the whole request, and resets the connection instead of answering.
fn reset() -> Act {
    act(Connection::all_but_the_last_byte)
}

/// Resets the connection while a large request is still coming.
fn reset_in_mid_upload() -> Act {
    act(|c| take_some(c, 100_000))
}

/// What leaves the outcome unknown, each with the kind of its error.
fn unknowns() -> Vec<(&'static str, Act, ErrorKind)> {
    use ErrorKind::{Network, Service, UnexpectedAnswer};
    let html = "content-type: text/html\r\n";
    let mut all = vec![
        ("reset", reset(), Network),
        ("ended", act(|c| drop(c.request())), Network),
        ("truncated 200", answer(&accepted()[..accepted().len() - 1]), Network),
        ("200 without an id", answer(json(200, value!({"success": true, "status": "processing"}))), UnexpectedAnswer),
        ("200 with an empty id", answer(json(200, value!({"success": true, "agent_id": ""}))), UnexpectedAnswer),
        ("200 with a number for an id", answer(json(200, value!({"agent_id": 7}))), UnexpectedAnswer),
        ("200 that is no object", answer(json(200, value!([ID]))), UnexpectedAnswer),
        ("200 of a portal", answer(http(200, html, "<html>Log in")), UnexpectedAnswer),
        ("empty 200", answer(http(200, "", "")), UnexpectedAnswer),
        ("204", answer("HTTP/1.1 204 No Content\r\n\r\n"), UnexpectedAnswer),
        ("no HTTP", answer("SSH-2.0-OpenSSH_9.6\r\n\r\n"), UnexpectedAnswer),
        ("503 with nothing", answer(http(503, "", "")), Service),
        ("503 with text", answer(http(503, "", "upstream connect error")), Service),
        ("503 without a code", answer(json(503, value!({"message": "Service Unavailable"}))), Service),
    ];
    for status in [408, 500, 502, 503, 504, 507, 599] {
        all.push(("gateway", answer(gateway(status)), Service));
    }
    for internal in own(500, "INTERNAL_ERROR") {
        all.push(("the service's 500", answer(internal), Service));
    }
    all
}

/// What says that nothing was taken, and may pass.
fn not_now() -> Vec<Vec<u8>> {
    let mut all = vec![gateway(429), http(429, "", ""), json(200, value!({"success": false, "code": "RATE_LIMITED"}))];
    all.extend(own(503, "NO_AVAILABLE_WORKERS"));
    all.extend(own(503, "MODEL_NOT_YET_AVAILABLE"));
    all.extend(own(429, "RATE_LIMITED"));
    all
}

/// The error of a small generate.
fn refused(trial: &Trial, honored: bool) -> Error {
    trial.api(honored).generate(&small()).unwrap_err()
}

#[test]
fn a_refused_connection_is_tried_again_until_the_service_is_up() {
    for honored in [true, false] {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server: Arc<Mutex<Option<Script>>> = Arc::default();
        let starting = server.clone();
        // Should somebody else have the port for a moment, it is up at a later resend.
        let api = api_to(&format!("http://{address}")).idempotency_honored(honored).retries(30).build().unwrap();
        let api = when_resending(&api, move || {
            if let Ok(listener) = TcpListener::bind(address) {
                *starting.lock().unwrap() = Some(Script::on(listener, [answer(accepted())]));
            }
        });
        assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
        assert_eq!(server.lock().unwrap().as_ref().unwrap().connections(), 1);
    }
}

#[test]
fn a_connection_refused_for_ever_is_known_to_have_taken_nothing() {
    let api = api_to(&format!("http://127.0.0.1:{}", unused_port())).retries(3).build().unwrap();
    let error = api.generate(&small()).unwrap_err();
    assert_outcome(&error, ErrorKind::Network, false);
    assert_eq!(error.attempts(), 4);
    assert!(error.is_retryable());
}

#[test]
fn a_reset_in_mid_upload_is_resent_everywhere_with_the_same_key_and_bytes() {
    for honored in [true, false] {
        let trial = Trial::new([reset_in_mid_upload(), accept_large()]);
        let started = trial.api(honored).generate(&large()).unwrap();
        assert_eq!(started.idempotency_key, trial.key());
        assert_eq!(trial.resends().0, [1]);
        let heard = trial.script.heard();
        assert_eq!(heard.iter().map(|h| h.body.len()).collect::<Vec<_>>(), [100_000, heard[1].content_length()]);
    }
}

#[test]
fn resets_in_mid_upload_for_ever_are_bounded_and_known_to_have_taken_nothing() {
    let trial = Trial::new([reset_in_mid_upload()]);
    let error = trial.api(false).generate(&large()).unwrap_err();
    assert_outcome(&error, ErrorKind::Network, false);
    assert_eq!((error.attempts(), trial.script.connections()), (4, 4));
    assert_eq!(error.idempotency_key(), Some(&*trial.key()));
}

#[test]
fn a_small_upload_broken_off_is_sent_once_more_with_the_same_key_and_asks_first() {
    let (under_way, broken) = (Signal::default(), Signal::default());
    let (upload, closed) = (under_way.clone(), broken.clone());
    let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
    let noted = heard.clone();
    let url = listen(move |n, mut stream| {
        let heard = Heard { connection: n, head: read_head(&mut stream), ..Heard::default() };
        noted.lock().unwrap().push(heard.clone());
        if n == 0 {
            upload.wait();
            drop(stream);
            closed.raise();
        } else {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            stream.read_exact(&mut vec![0; heard.content_length()]).unwrap();
            stream.write_all(&accepted()).unwrap();
        }
    });
    let chunks = Mutex::new(0);
    let api = api_to(&url).idempotency_honored(false).build().unwrap().on_event(move |event| match event {
        Event::Uploaded { .. } => {
            let mut chunks = chunks.lock().unwrap();
            *chunks += 1;
            // The first chunk is on its way now, and the server does not read it.
            if *chunks == 2 {
                under_way.raise();
                broken.wait();
            }
        }
        other => panic!("{other:?}"),
    });
    let request = GenerateRequest::new().image(Media::base64("a".repeat(900_000)));
    assert_eq!(api.generate(&request).unwrap().agent_id, ID);
    let [first, second] = &heard.lock().unwrap()[..] else { panic!("not two requests") };
    assert_eq!((first.header("expect"), second.header("expect")), (None, Some("100-continue")));
    assert_eq!(first.header("idempotency-key"), second.header("idempotency-key"));
}

#[test]
fn an_acceptance_broken_off_by_a_reset_leaves_the_outcome_unknown() {
    for headers in ["", "content-length: 60\r\n", "transfer-encoding: chunked\r\n"] {
        let trial = Trial::new([act(move |c| {
            c.all_but_the_last_byte();
            c.send(format!("HTTP/1.1 200 OK\r\n{headers}\r\n{{\"success\": true, \"agent_id\": \"A"));
        })]);
        let error = refused(&trial, false);
        assert_outcome(&error, error.kind(), true);
        assert_eq!(trial.script.connections(), 1);
    }
}

#[test]
fn what_leaves_the_outcome_unknown_is_not_resent_where_keys_are_not_honored() {
    for (name, act, kind) in unknowns() {
        let trial = Trial::new([act, answer(accepted())]);
        let error = refused(&trial, false);
        assert_outcome(&error, kind, true);
        assert_eq!((error.attempts(), trial.script.connections()), (1, 1), "{name}");
        assert_eq!(error.idempotency_key(), Some(&*trial.key()), "{name}");
        assert_eq!(trial.clock.sleeps(), [], "{name}");
        assert!(!error.is_retryable(), "{name}");
    }
}

#[test]
fn what_leaves_the_outcome_unknown_is_resent_with_the_same_key_where_keys_are_honored() {
    for (name, act, _) in unknowns() {
        let trial = Trial::new([act, answer(accepted())]);
        let started = trial.api(true).generate(&small()).unwrap();
        assert_eq!(started.idempotency_key, trial.key(), "{name}");
        assert_eq!((trial.script.heard().len(), trial.resends().0), (2, vec![1]), "{name}");
    }
}

#[test]
fn an_outcome_unknown_for_ever_is_resent_so_often_and_stays_unknown() {
    for (name, act, kind) in unknowns() {
        let trial = Trial::new([act]);
        let error = trial.noting(trial.builder().idempotency_honored(true).retries(2)).generate(&small()).unwrap_err();
        assert_outcome(&error, kind, true);
        assert_eq!((error.attempts(), trial.script.heard().len()), (3, 3), "{name}");
        assert_eq!(error.idempotency_key(), Some(&*trial.key()), "{name}");
    }
}

#[test]
fn only_the_host_of_2026_is_taken_to_honor_keys_unless_told() {
    let trial = Trial::new([answer(gateway(502))]);
    let error = trial.noting(trial.builder()).generate(&small()).unwrap_err();
    assert_outcome(&error, ErrorKind::Service, true);
    assert_eq!(trial.script.connections(), 1);
}

#[test]
fn the_services_own_503_and_a_429_are_resent_everywhere() {
    for honored in [true, false] {
        for not_now in not_now() {
            let trial = Trial::new(answers([not_now.clone(), not_now, accepted()]));
            let started = trial.api(honored).generate(&small()).unwrap();
            assert_eq!(started.idempotency_key, trial.key());
            assert_eq!(trial.resends().0, [1, 2]);
        }
    }
}

#[test]
fn a_503_or_429_for_ever_is_known_to_have_taken_nothing() {
    for honored in [true, false] {
        for not_now in not_now() {
            let trial = Trial::new([answer(not_now)]);
            let error = refused(&trial, honored);
            assert!([ErrorKind::Service, ErrorKind::RateLimited].contains(&error.kind()), "{error:?}");
            assert_outcome(&error, error.kind(), false);
            assert!(error.is_retryable(), "{error:?}");
        }
    }
}

#[test]
fn a_refusal_is_sent_once_and_known_to_have_taken_nothing() {
    use ErrorKind::{InsufficientBalance, NotFound, Rejected, Unauthorized};
    let rows = [
        (400, "VALIDATION_ERROR", Rejected),
        (401, "UNAUTHORIZED", Unauthorized),
        (402, "INSUFFICIENT_BALANCE", InsufficientBalance),
        (403, "ACCOUNT_SUSPENDED", Unauthorized),
        (404, "NOT_FOUND", NotFound),
        (409, "MODEL_NOT_GENERATED", Rejected),
        (413, "FILE_TOO_LARGE", Rejected),
        (415, "UNSUPPORTED_TYPE", Rejected),
        (422, "MODEL_SUBJECT_MISMATCH", Rejected),
    ];
    for honored in [true, false] {
        for (status, code, kind) in rows {
            for refusal in own(status, code).into_iter().chain([gateway(status), http(status, "", "")]) {
                let trial = Trial::new(answers([refusal, accepted()]));
                let error = refused(&trial, honored);
                assert_outcome(&error, kind, false);
                assert_eq!((error.http_status(), error.attempts()), (Some(status), 1));
                assert_eq!((trial.script.connections(), trial.clock.sleeps()), (1, vec![]), "{error:?}");
                assert_eq!(error.idempotency_key(), Some(&*trial.key()));
                assert!(!error.is_retryable(), "{error:?}");
            }
        }
    }
}

#[test]
fn a_redirect_or_a_success_false_is_sent_once_and_known_to_have_taken_nothing() {
    let mut rows = vec![json(200, value!({"success": false, "error": "MISSING_PARAM", "message": "m"}))];
    rows.extend([301, 302, 303, 307, 308].map(|status| http(status, "location: /elsewhere\r\n", "")));
    for honored in [true, false] {
        for row in &rows {
            let trial = Trial::new(answers([row.clone(), accepted()]));
            assert_outcome(&refused(&trial, honored), ErrorKind::Rejected, false);
            assert_eq!(trial.script.connections(), 1);
        }
    }
}

#[test]
fn once_unknown_always_unknown_whatever_a_later_attempt_says() {
    use ErrorKind::{InsufficientBalance, RateLimited, Rejected, Service, Unauthorized};
    let [unauthorized, ..] = own(401, "UNAUTHORIZED");
    let rows = [
        (unauthorized, Unauthorized),
        (gateway(402), InsufficientBalance),
        (gateway(409), Rejected),
        (json(200, value!({"success": false, "message": "m"})), Rejected),
        (busy(), Service),
        (gateway(429), RateLimited),
    ];
    for (later, kind) in rows {
        for (name, act, _) in unknowns() {
            let trial = Trial::new([act, answer(later.clone())]);
            let api = trial.noting(trial.builder().idempotency_honored(true).retries(1));
            let error = api.generate(&small()).unwrap_err();
            assert_outcome(&error, kind, true);
            assert_eq!((error.attempts(), trial.script.heard().len()), (2, 2), "{name}");
            assert!(!error.is_retryable(), "{name}, then {error}");
        }
    }
}

#[test]
fn an_unknown_outcome_stays_unknown_when_the_resend_does_not_even_go_out() {
    let ask_first = |c: &mut Connection| take_some(c, usize::MAX);
    let trial = Trial::new([act(ask_first), reset_in_mid_upload()]);
    let error = trial.api(true).generate(&large()).unwrap_err();
    assert_outcome(&error, ErrorKind::Network, true);
    assert_eq!((error.attempts(), error.idempotency_key()), (4, Some(&*trial.key())));
}

#[test]
fn an_accepted_answer_clears_an_unknown_outcome() {
    let replayed = with_header(accepted(), "idempotency-replayed", "true");
    let trial = Trial::new(answers([gateway(504), gateway(500), replayed]));
    let started = trial.api(true).generate(&small()).unwrap();
    assert_eq!((started.agent_id.as_str(), started.replayed), (ID, true));
    assert_eq!(started.idempotency_key, trial.key());
}

#[test]
fn the_callers_key_is_verbatim_on_every_resend_and_in_the_error() {
    let trial = Trial::new(answers([gateway(504), busy(), gateway(429), gateway(502)]));
    let error = trial.api(true).generate(&small().idempotency_key(odd_key())).unwrap_err();
    assert_outcome(&error, ErrorKind::Service, true);
    assert_eq!(error.idempotency_key(), Some(&*odd_key()));
    assert_eq!((trial.key(), trial.script.heard().len()), (odd_key(), 4));
    // The same call has the same key again, and the service knows it.
    assert!(error.is_retryable());
}

#[test]
fn the_callers_key_makes_no_difference_where_keys_are_not_honored() {
    let trial = Trial::new(answers([gateway(504), accepted()]));
    let error = trial.api(false).generate(&small().idempotency_key(odd_key())).unwrap_err();
    assert_outcome(&error, ErrorKind::Service, true);
    assert_eq!(trial.script.connections(), 1);
    assert!(!error.is_retryable());
}

#[test]
fn a_minted_key_is_one_for_all_attempts_of_a_call_and_another_for_the_next() {
    let trial = Trial::new(answers([busy(), accepted(), busy(), accepted()]));
    let api = trial.api(false);
    let keys = [(); 2].map(|()| api.generate(&small()).unwrap().idempotency_key);
    assert_ne!(keys[0], keys[1]);
    let heard = trial.script.heard();
    let heard: Vec<_> = heard.iter().map(|heard| heard.header("idempotency-key").unwrap()).collect();
    assert_eq!(heard, [&keys[0], &keys[0], &keys[1], &keys[1]]);
}

#[test]
fn retries_bound_the_attempts_and_the_error_counts_them() {
    for retries in [0, 1, 2, 7] {
        for (answered, honored) in [(busy(), false), (gateway(500), true)] {
            let trial = Trial::new([answer(answered)]);
            let api = trial.noting(trial.builder().idempotency_honored(honored).retries(retries));
            let error = api.generate(&small()).unwrap_err();
            assert_eq!(error.attempts(), retries + 1);
            assert_eq!(trial.script.heard().len(), retries as usize + 1);
            assert_eq!(trial.resends().0, (1..=retries).collect::<Vec<_>>());
        }
    }
}

#[test]
fn every_delay_is_within_its_jitter_told_before_and_slept() {
    let trial = Trial::new([answer(busy())]);
    trial.noting(trial.builder().retries(9)).generate(&small()).unwrap_err();
    let (_, delays) = trial.resends();
    assert_eq!(trial.clock.sleeps(), delays);
    let limits = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000].map(ms);
    assert_eq!(delays.len(), limits.len());
    for (delay, limit) in delays.iter().zip(limits) {
        assert!(*delay <= limit, "{delay:?} of {limit:?}");
    }
    assert!(delays.windows(2).any(|two| two[0] != two[1]), "no jitter: {delays:?}");
}

#[test]
fn an_answer_before_the_time_out_is_kept_however_long_it_takes_to_end() {
    let trial = Trial::new([act(|c| {
        c.request();
        for part in accepted().chunks(60) {
            thread::sleep(ms(100));
            c.send(part);
        }
    })]);
    let api = trial.noting(trial.builder().answer_timeout(secs(5)));
    assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
    assert_eq!(trial.script.connections(), 1);
}

#[test]
fn an_answer_about_the_time_of_the_time_out_is_kept_or_unknown_but_never_lost() {
    thread::scope(|scope| {
        for delay in (60..160).step_by(10) {
            scope.spawn(move || {
                let trial = Trial::new([act(move |c| {
                    c.request();
                    thread::sleep(ms(delay));
                    c.send(accepted());
                })]);
                let api = trial.noting(trial.builder().answer_timeout(ms(110)).idempotency_honored(false));
                match api.generate(&small()) {
                    Ok(started) => assert_eq!(started.agent_id, ID),
                    Err(error) => assert_outcome(&error, ErrorKind::Timeout, true),
                }
                assert_eq!(trial.script.connections(), 1);
            });
        }
    });
}

#[test]
fn no_answer_in_time_leaves_the_outcome_unknown() {
    let trial = Trial::new([act(|c| {
        c.request();
        c.hold();
    })]);
    let error = trial.noting(trial.builder().answer_timeout(ms(150))).generate(&small()).unwrap_err();
    assert_outcome(&error, ErrorKind::Timeout, true);
    assert_eq!((error.attempts(), trial.script.connections()), (1, 1));
    assert_eq!(error.idempotency_key(), Some(&*trial.key()));
}

#[test]
fn no_answer_in_time_is_resent_with_the_same_key_where_keys_are_honored() {
    let silent = act(|c| {
        c.request();
        c.hold();
    });
    let trial = Trial::new([silent, answer(accepted())]);
    let api = trial.noting(trial.builder().answer_timeout(ms(250)).idempotency_honored(true).retries(20));
    // A busy machine may take the good answer for late as well; the key keeps that from mattering.
    assert_eq!(api.generate(&small()).unwrap().idempotency_key, trial.key());
    assert!(trial.script.connections() >= 2);
}

/// A generate of a file that something happens to between the first attempt and the second, and the
/// key it was accepted with.
fn changed_between(first: Vec<u8>, happens: impl Fn(&Path) + Send + Sync + 'static) -> (Trial, Result<String, Error>) {
    // More than is read at once.
    let content: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
    let file = TempFile::new(&content);
    let path = file.0.clone();
    let trial = Trial::new(answers([first, accepted()]));
    let api = when_resending(&trial.api(true), move || happens(&path));
    let result = api.generate(&GenerateRequest::new().image(Media::file(&file.0)));
    (trial, result.map(|started| started.idempotency_key))
}

#[test]
fn a_file_that_changes_between_two_attempts_is_not_sent_as_something_else() {
    type Change = fn(&Path);
    let later = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(file.metadata().unwrap().modified().unwrap() + secs(1)).unwrap();
    };
    let changes: [(&str, Change); 4] = [
        ("grown", |path| fs::write(path, vec![1; 150_001]).unwrap()),
        ("shrunk", |path| fs::write(path, vec![1; 149_999]).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("rewritten", later),
    ];
    for (name, change) in changes {
        for (first, unknown) in [(busy(), false), (gateway(500), true)] {
            let (trial, result) = changed_between(first, change);
            let error = result.unwrap_err();
            assert_outcome(&error, ErrorKind::InvalidInput, unknown);
            assert!(error.to_string().contains("changed"), "{name}: {error}");
            let heard = trial.script.heard();
            let broken_off = heard[1..].iter().all(|heard| heard.body.len() < heard.content_length());
            assert!(broken_off && heard.len() <= 2, "{name}");
            assert_eq!(trial.script.keys().len(), 1);
        }
    }
}

#[test]
fn a_file_removed_or_replaced_between_two_attempts_is_sent_again_as_it_was() {
    let replace = |path: &Path| {
        let other = TempFile::new(b"another content");
        fs::rename(&other.0, path).unwrap();
    };
    let changes: [fn(&Path); 2] = [|path| fs::remove_file(path).unwrap(), replace];
    for change in changes {
        let (trial, result) = changed_between(busy(), change);
        assert_eq!(result.unwrap(), trial.key());
        let heard = trial.script.heard();
        assert_eq!(heard[0].body, heard[1].body);
    }
}

/// What happens to time, besides that it passes.
type Happens = fn(&Skipping);

/// A generate with these answers, where keys are honoured, and with something that happens to time
/// before the last of them comes, and in the delay after it.
fn over_time(first: &[Vec<u8>], in_answer: Happens, in_delay: Happens) -> (Trial, Result<String, Error>) {
    let last = first.len();
    let clock = Arc::new(Skipping::new());
    let acts = first.iter().cloned().enumerate().map(|(n, first)| {
        let clock = clock.clone();
        act(move |c| {
            c.request();
            if n + 1 == last {
                in_answer(&clock);
            }
            c.send(&first);
        })
    });
    let trial = Trial::at(clock.clone(), acts.chain([answer(accepted())]));
    let api = trial.api(true).on_event(move |event| {
        if matches!(event, Event::Resending { attempts, .. } if *attempts == last as u32) {
            in_delay(&clock);
        }
    });
    let result = api.generate(&small()).map(|started| started.idempotency_key);
    (trial, result)
}

fn nothing(_: &Skipping) {}

#[test]
fn a_key_is_not_resent_a_day_after_an_attempt_whose_outcome_is_unknown() {
    for late in [|clock: &Skipping| clock.pass(A_DAY), |clock: &Skipping| clock.suspend(A_DAY)] {
        let (trial, result) = over_time(&[gateway(500)], late, nothing);
        assert_outcome(&result.unwrap_err(), ErrorKind::Service, true);
        assert_eq!(trial.script.connections(), 1);
    }
}

#[test]
fn a_key_is_not_resent_when_a_day_passes_during_the_delay() {
    for late in [|clock: &Skipping| clock.pass(A_DAY), |clock: &Skipping| clock.suspend(A_DAY)] {
        let (trial, result) = over_time(&[gateway(500)], nothing, late);
        assert_eq!(trial.script.connections(), 1, "a key a day old was sent: {result:?}");
        assert_outcome(&result.unwrap_err(), ErrorKind::Service, true);
    }
}

#[test]
fn an_old_key_is_not_resent_after_an_unknown_outcome_whatever_came_in_between() {
    let late: Happens = |clock| clock.suspend(A_DAY);
    for (in_answer, in_delay) in [(late, nothing as Happens), (nothing, late)] {
        for not_now in not_now() {
            let (trial, result) = over_time(&[gateway(500), not_now], in_answer, in_delay);
            assert_eq!(trial.script.connections(), 2, "a key a day old was sent: {result:?}");
            let error = result.unwrap_err();
            assert_outcome(&error, error.kind(), true);
        }
    }
}

#[test]
fn a_key_of_22_hours_is_resent() {
    let late: Happens = |clock| clock.pass(secs(22 * 60 * 60));
    for (in_answer, in_delay) in [(late, nothing as Happens), (nothing, late)] {
        let (trial, result) = over_time(&[gateway(500)], in_answer, in_delay);
        assert_eq!(result.unwrap(), trial.key());
        assert_eq!(trial.script.connections(), 2);
    }
}

#[test]
fn a_clock_set_back_makes_no_key_younger() {
    let set_back: Happens = |clock| {
        clock.pass(A_DAY);
        clock.set_back(A_DAY * 2);
    };
    let (trial, result) = over_time(&[gateway(500)], set_back, nothing);
    assert_outcome(&result.unwrap_err(), ErrorKind::Service, true);
    assert_eq!(trial.script.connections(), 1);
}
