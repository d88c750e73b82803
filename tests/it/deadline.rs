//! One deadline from the upload to the last poll, in real time.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bithuman::serde_json::json as value;
use bithuman::{Clock, Error, ErrorKind, Event, GenerateRequest, Status, Wait};

use crate::fault::*;
use crate::script::*;
use crate::support::*;

const DEADLINE: Duration = Duration::from_millis(200);

/// One that leaves even a busy machine the time for what must go well before something gets stuck.
const AMPLE: Duration = Duration::from_millis(500);

/// One that is never reached in real time: a server lets it come near when it has done its part.
const FAR: Duration = Duration::from_secs(60);

/// What a call may take longer than its deadline.
const GRACE: Duration = Duration::from_millis(500);

/// Runs a call that cannot end well by its deadline, and checks that it ends with it.
#[track_caller]
fn runs_out<T>(clock: &dyn Clock, timeout: Duration, call: impl FnOnce() -> Result<T, Error>) -> Error {
    let deadline = clock.now() + timeout;
    let result = call();
    let now = clock.now();
    let error = result.err().expect("the agent is not ready");
    assert_eq!(error.kind(), ErrorKind::WaitTimedOut, "{error:?}");
    assert!(now <= deadline + GRACE, "it ended at {now:?} and not {deadline:?}: {error:?}");
    error
}

/// Runs a generate that gets no further, and checks what its error tells.
#[track_caller]
fn stuck(timeout: Duration, request: &GenerateRequest, act: Act, unknown: bool) -> Trial {
    let trial = Trial::new([act]);
    let api = trial.api(true);
    let error = runs_out(&*trial.clock, timeout, || api.generate_and_wait(request, &short(timeout)));
    assert_outcome(&error, ErrorKind::WaitTimedOut, unknown);
    assert_eq!((error.agent_id(), error.last_seen(), error.attempts()), (None, None, 1));
    for key in trial.script.keys() {
        assert_eq!(error.idempotency_key(), Some(&*key));
    }
    trial
}

/// Answers a request when the far deadline has come near.
fn late(clock: &Arc<Skipping>, answer: Vec<u8>) -> Act {
    let clock = clock.clone();
    act(move |c| {
        c.request();
        clock.pass_until(FAR - DEADLINE);
        c.send(with_header(&answer, "connection", "close"));
    })
}

/// Sends this one byte at a time until the client is gone, which is long before the end.
fn drip(c: &mut Connection, bytes: &[u8]) {
    for byte in bytes {
        thread::sleep(ms(20));
        if c.stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
}

/// A long head that is never complete.
fn endless_head() -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nx-padding: ", &[b'a'; 100][..]].concat()
}

/// Ways to answer a request so that the answer does not come.
const STALLS: [fn(&mut Connection); 4] = [
    Connection::hold,
    |c| drip(c, &endless_head()),
    |c| {
        c.send(&accepted()[..accepted().len() - 1]);
        c.hold();
    },
    |c| {
        c.send("HTTP/1.1 200 OK\r\n\r\n");
        drip(c, &[b' '; 100]);
    },
];

/// Has each kind of stall tried, all at a time, by an act that reads a request and then stalls.
fn each_stall(check: impl Fn(Act) + Sync) {
    thread::scope(|scope| {
        for stall in STALLS {
            let stalling = act(move |c| {
                c.request();
                stall(c);
            });
            scope.spawn(|| check(stalling));
        }
    });
}

#[test]
fn a_server_that_never_reads_a_large_request_has_not_taken_it() {
    let end = Ending::default();
    let trial = stuck(DEADLINE, &large(), end.stall(), false);
    assert_eq!(trial.script.connections(), 1);
}

#[test]
fn a_server_that_never_reads_a_small_request_may_have_taken_it() {
    let end = Ending::default();
    stuck(AMPLE, &small(), end.stall(), true);
}

#[test]
fn a_server_that_stops_reading_has_not_taken_the_request() {
    for bytes in [0, 1, 100_000] {
        let end = Ending::default();
        stuck(DEADLINE, &large(), end.after(move |c| take_some(c, bytes)), false);
    }
}

/// ureq gives each system call of a write what was left when the write began, and the system may take
/// a write in two parts: so an upload that gets stuck may end after twice the time.
#[test]
fn a_server_that_stops_reading_is_waited_for_at_most_twice() {
    let end = Ending::default();
    let trial = Trial::new([end.after(|c| take_some(c, 1))]);
    // Longer than the grace, so that three times the deadline would show.
    let timeout = GRACE + DEADLINE;
    let error = trial.api(true).generate_and_wait(&large(), &short(timeout)).unwrap_err();
    assert_outcome(&error, ErrorKind::WaitTimedOut, false);
    assert!(trial.clock.now() <= timeout * 2 + GRACE, "it ended at {:?}: {error:?}", trial.clock.now());
}

#[test]
fn a_server_that_reads_ever_so_slowly_has_not_taken_the_request() {
    let crawl = act(|c| {
        take_some(c, 0);
        while c.body(4 * 1024).len() == 4 * 1024 {
            thread::sleep(ms(20));
        }
    });
    stuck(DEADLINE, &large(), crawl, false);
}

#[test]
fn a_server_that_reads_all_and_does_not_answer_may_have_taken_the_request() {
    each_stall(|stalling| {
        let trial = stuck(AMPLE, &small(), stalling, true);
        assert_eq!(trial.script.connections(), 1);
    });
}

#[test]
fn a_poll_without_an_answer_ends_with_the_id_and_the_key_and_nothing_seen() {
    each_stall(|stalling| {
        let clock = Arc::new(Skipping::new());
        let trial = Trial::at(clock.clone(), [late(&clock, accepted()), stalling]);
        let api = trial.api(true);
        let error = runs_out(&*clock, FAR, || api.generate_and_wait(&small(), &short(FAR)));
        assert_outcome(&error, ErrorKind::WaitTimedOut, false);
        assert_eq!((error.agent_id(), error.last_seen()), (Some(ID), None));
        assert_eq!(error.idempotency_key(), Some(&*trial.script.keys()[0]));
    });
}

#[test]
fn a_poll_without_an_answer_after_a_good_one_ends_with_what_was_last_seen() {
    each_stall(|stalling| {
        let clock = Arc::new(Skipping::new());
        let accepted = answer(with_header(accepted(), "connection", "close"));
        let seen = polled(value!({"status": "generating", "progress": 0.5}));
        let trial = Trial::at(clock.clone(), [accepted, late(&clock, seen), stalling]);
        let api = trial.api(true);
        let error = runs_out(&*clock, FAR, || api.generate_and_wait(&small(), &short(FAR)));
        assert_outcome(&error, ErrorKind::WaitTimedOut, false);
        assert_eq!(error.agent_id(), Some(ID));
        assert_eq!(error.last_seen().and_then(|agent| agent.progress), Some(0.5));
        assert_eq!(error.idempotency_key(), Some(&*trial.script.keys()[0]));
    });
}

#[test]
fn a_wait_of_its_own_ends_in_time_too() {
    each_stall(|stalling| {
        let trial = Trial::new([stalling]);
        let error = runs_out(&*trial.clock, DEADLINE, || trial.api(true).wait(ID, &short(DEADLINE)));
        assert_eq!((error.agent_id(), error.outcome_unknown()), (Some(ID), false));
    });
}

#[test]
fn a_wait_ends_in_time_by_the_systems_clock_too() {
    each_stall(|stalling| {
        let script = Script::new([stalling]);
        let api = waiting(&script.url).build().unwrap();
        let error = runs_out(&Skipping::new(), DEADLINE, || api.wait(ID, &short(DEADLINE)));
        assert_eq!(error.agent_id(), Some(ID));
    });
    let script = Script::new([answer(polled(value!({"status": "processing"})))]);
    let api = waiting(&script.url).build().unwrap();
    runs_out(&Skipping::new(), DEADLINE, || api.wait(ID, &short(DEADLINE)));
}

#[test]
fn a_watch_ends_in_time_too_with_one_error() {
    each_stall(|stalling| {
        let clock = Arc::new(Skipping::new());
        let trial = Trial::at(clock.clone(), [late(&clock, polled(value!({"status": "processing"}))), stalling]);
        let mut watch = trial.api(true).watch(ID, &short(FAR));
        let error = runs_out(&*clock, FAR, || {
            assert_eq!(watch.next().unwrap().unwrap().status, Status::Processing);
            watch.next().unwrap()
        });
        assert_eq!(error.last_seen().map(|agent| &agent.status), Some(&Status::Processing));
        assert!(watch.next().is_none());
    });
}

#[test]
fn an_agent_that_stays_under_way_is_not_a_failed_one() {
    let trial = Trial::new([answer(polled(value!({"status": "generating", "progress": 0.9})))]);
    let error = runs_out(&*trial.clock, FAR, || trial.api(true).wait(ID, &Wait::new().timeout(FAR)));
    assert_eq!(error.last_seen().and_then(|agent| agent.progress), Some(0.9));
    assert!(error.is_retryable());
}

#[test]
fn a_wait_for_a_person_says_so() {
    let step = value!({"status": "generating", "current_step": "awaiting_face_marking"});
    let trial = Trial::new([answer(polled(step))]);
    let error = runs_out(&*trial.clock, FAR, || trial.api(true).wait(ID, &Wait::new().timeout(FAR)));
    assert!(error.to_string().contains("waits for a person"), "{error}");
}

#[test]
fn no_time_at_all_sends_nothing() {
    let trial = Trial::new([answer(accepted())]);
    let (api, none) = (trial.api(true), Duration::ZERO);
    let error = runs_out(&*trial.clock, none, || api.generate_and_wait(&small(), &short(none)));
    assert_outcome(&error, ErrorKind::WaitTimedOut, false);
    runs_out(&*trial.clock, none, || api.wait(ID, &short(none)));
    assert_eq!(trial.script.settled(), 0);
}

/// Runs out of time in a resend that gets stuck before anything of the body is asked for.
fn stuck_after(first: Vec<u8>, unknown: bool) {
    let end = Ending::default();
    let ask = act(move |c| {
        take_some(c, usize::MAX);
        c.send(&first);
    });
    let trial = Trial::new([ask, end.after(|c| drop(c.head()))]);
    let clock = trial.clock.clone();
    let api = trial.api(true).on_event(move |event| {
        if let Event::Resending { delay, .. } = event {
            clock.pass_until(FAR - DEADLINE - *delay);
        }
    });
    let error = runs_out(&*trial.clock, FAR, || api.generate_and_wait(&middling(), &short(FAR)));
    assert_outcome(&error, ErrorKind::WaitTimedOut, unknown);
    assert_eq!((error.attempts(), error.idempotency_key()), (2, Some(&*trial.key())));
}

/// A body that is asked for first, and taken in at once.
fn middling() -> GenerateRequest {
    GenerateRequest::new().prompt("a".repeat(1100 * 1024))
}

#[test]
fn an_unknown_outcome_stays_unknown_when_the_time_runs_out_in_a_resend() {
    stuck_after(gateway(500), true);
}

#[test]
fn a_refused_attempt_is_not_taken_for_unknown_when_the_time_runs_out_in_a_resend() {
    stuck_after(busy(), false);
}

#[test]
fn a_sleep_that_takes_longer_than_it_should_leaves_nothing_to_send() {
    for (first, unknown) in [(gateway(500), true), (busy(), false)] {
        let trial = Trial::new(answers([first, accepted()]));
        let clock = trial.clock.clone();
        let api = when_resending(&trial.api(true), move || clock.pass(secs(100)));
        let error = api.generate_and_wait(&small(), &Wait::new().timeout(secs(60))).unwrap_err();
        assert_outcome(&error, ErrorKind::WaitTimedOut, unknown);
        assert_eq!(trial.script.connections(), 1);
    }
}

#[test]
fn the_upload_the_resends_the_delays_and_the_polls_share_one_deadline() {
    let clock = Arc::new(Skipping::new());
    let (of_upload, of_poll) = (clock.clone(), clock.clone());
    let asking = with_header(busy(), "retry-after", "20");
    let trial = Trial::at(
        clock.clone(),
        [
            act(move |c| {
                c.request();
                of_upload.pass(secs(10));
                c.send(&asking);
            }),
            answer(with_header(accepted(), "connection", "close")),
            act(move |c| {
                c.request();
                of_poll.pass(secs(3));
                c.send(polled(value!({"status": "generating"})));
            }),
        ],
    );
    let start = clock.now();
    let error = trial.api(false).generate_and_wait(&small(), &Wait::new().timeout(secs(60))).unwrap_err();
    assert_outcome(&error, ErrorKind::WaitTimedOut, false);
    assert_eq!((error.agent_id(), error.idempotency_key()), (Some(ID), Some(&*trial.script.keys()[0])));
    assert!(error.last_seen().is_some());
    // The last poll took its three seconds past the end; no other began after it.
    assert!(clock.now() - start <= secs(60 + 3) + GRACE, "{:?}", clock.now() - start);
    // After 35 s the first poll comes, and then one every 8 s, and one before the end.
    assert_eq!(trial.script.connections(), 2 + 4, "{:?}", trial.clock.sleeps());
}

#[test]
fn an_error_that_passes_is_told_as_it_is_when_there_is_no_time_to_try_again() {
    for (first, unknown) in [(gateway(500), true), (busy(), false)] {
        let clock = Arc::new(Skipping::new());
        let of_server = clock.clone();
        let late = act(move |c| {
            c.request();
            of_server.pass(secs(100));
            c.send(&first);
        });
        let trial = Trial::at(clock, [late, answer(accepted())]);
        let error = trial.api(true).generate_and_wait(&small(), &Wait::new().timeout(secs(60))).unwrap_err();
        assert_outcome(&error, ErrorKind::Service, unknown);
        assert_eq!((trial.script.connections(), trial.clock.sleeps()), (1, vec![]));
    }
}
