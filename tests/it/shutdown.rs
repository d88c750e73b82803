//! `Api::shutdown` ends every call, at once and for good, and nothing gets lost by it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bithuman::serde_json::json as value;
use bithuman::{Agent, Api, Error, ErrorKind, Event, GenerateRequest, Media, Result, Wait};

use crate::fault::*;
use crate::script::*;
use crate::support::*;

/// What a call may take to end. By itself, each one here would go on for ten seconds and more.
const AT_ONCE: Duration = Duration::from_secs(2);

fn processing() -> Vec<u8> {
    polled(value!({"status": "processing"}))
}

/// Asks the client to come again in half a minute.
fn later(answer: Vec<u8>) -> Vec<u8> {
    with_header(with_header(answer, "retry-after", "30"), "connection", "close")
}

/// A server, and a client of it that waits in real time. The server's acts tell by the signal when
/// the client is where it is to be shut down.
struct Stage {
    script: Script,
    api: Api,
    ready: Signal,
    _end: Ending,
}

impl Stage {
    fn new(acts: impl FnOnce(&Signal, &Ending) -> Vec<Act>) -> Self {
        let (ready, end) = (Signal::default(), Ending::default());
        let script = Script::new(acts(&ready, &end));
        let api = waiting(&script.url).idempotency_honored(true).build().unwrap();
        Stage { script, api, ready, _end: end }
    }

    /// One that is ready when the client goes to sleep before it asks again.
    fn asleep(acts: impl IntoIterator<Item = Act>) -> Self {
        let mut stage = Stage::new(|_, _| acts.into_iter().collect());
        let ready = stage.ready.clone();
        stage.api = when_resending(&stage.api, move || ready.raise());
        stage
    }

    /// Shuts down while this call runs, and returns how it ends.
    #[track_caller]
    fn ends<T: Send + 'static>(&self, call: impl FnOnce(&Api) -> Result<T> + Send + 'static) -> Result<T> {
        let (done, result) = mpsc::channel();
        let api = self.api.clone();
        thread::spawn(move || done.send(call(&api)));
        assert!(self.ready.wait(), "the call does not get there");
        // What follows the signal is a matter of microseconds, and right as well if it takes longer.
        thread::sleep(ms(30));
        let start = Instant::now();
        self.api.shutdown();
        let result = result.recv_timeout(secs(15)).expect("the call goes on");
        assert!(start.elapsed() <= AT_ONCE, "it took {:?}", start.elapsed());
        result
    }

    #[track_caller]
    fn is_shut_down<T: Send + 'static>(&self, call: impl FnOnce(&Api) -> Result<T> + Send + 'static) -> Error {
        let error = self.ends(call).err().expect("a call that is shut down fails");
        assert_eq!(error.kind(), ErrorKind::ShutDown, "{error:?}");
        assert!(!error.is_retryable());
        error
    }

    /// What a shutdown leaves of a generate.
    #[track_caller]
    fn is_generate_shut_down(&self, request: GenerateRequest, unknown: bool) -> Error {
        let error = self.is_shut_down(move |api| api.generate(&request));
        assert_outcome(&error, ErrorKind::ShutDown, unknown);
        assert_eq!(error.agent_id(), None);
        assert_eq!(self.script.keys(), [error.idempotency_key().unwrap()]);
        error
    }
}

/// Reads a request, says this, and holds the connection.
fn begin(said: impl Into<Vec<u8>>, ready: &Signal) -> Act {
    let (said, ready) = (said.into(), ready.clone());
    act(move |c| {
        c.request();
        c.send(&said);
        ready.raise();
        c.hold();
    })
}

/// All but the end of an answer.
fn most_of(answer: &[u8]) -> Vec<u8> {
    answer[..answer.len() - 1].into()
}

/// Runs a call whose handle is shut down when this event comes.
fn shut_down_when<T>(
    script: &Script,
    is_time: impl Fn(&Event) -> bool + Send + Sync + 'static,
    call: impl FnOnce(&Api) -> Result<T>,
) -> Result<T> {
    let api = waiting(&script.url).idempotency_honored(true).build().unwrap();
    let stopper = api.clone();
    let api = api.on_event(move |event| {
        if is_time(event) {
            stopper.shutdown();
        }
    });
    let start = Instant::now();
    let result = call(&api);
    assert!(start.elapsed() <= AT_ONCE, "it took {:?}", start.elapsed());
    result
}

fn is_resending(event: &Event) -> bool {
    matches!(event, Event::Resending { .. })
}

fn is_polled(event: &Event) -> bool {
    matches!(event, Event::Polled { .. })
}

#[test]
fn a_sleep_before_a_resend_ends_and_what_was_not_taken_is_known_to_be_not_taken() {
    for answered in [busy(), gateway(429)] {
        let stage = Stage::asleep([answer(later(answered))]);
        stage.is_generate_shut_down(small(), false);
        assert_eq!(stage.script.connections(), 1);
    }
}

#[test]
fn a_sleep_before_a_resend_ends_and_an_unknown_outcome_stays_unknown() {
    let stage = Stage::asleep([answer(later(gateway(500)))]);
    stage.is_generate_shut_down(small(), true);
    assert_eq!(stage.script.connections(), 1);
}

#[test]
fn a_sleep_before_a_status_is_asked_again_ends() {
    let stage = Stage::asleep([answer(later(gateway(503)))]);
    let error = stage.is_shut_down(|api| api.status(ID));
    assert_eq!((error.agent_id(), stage.script.connections()), (Some(ID), 1));
}

#[test]
fn a_sleep_between_polls_ends_with_the_id_and_what_was_last_seen() {
    let mut stage = Stage::new(|_, _| vec![answer(processing())]);
    let ready = stage.ready.clone();
    stage.api = stage.api.on_event(move |event| {
        assert!(is_polled(event));
        ready.raise();
    });
    let error = stage.is_shut_down(|api| api.wait(ID, &Wait::new().interval(secs(60))));
    assert_eq!((error.agent_id(), error.last_seen().is_some(), error.outcome_unknown()), (Some(ID), true, false));
    assert_eq!(stage.script.connections(), 1);
}

#[test]
fn a_sleep_over_trouble_between_polls_ends_with_the_key_as_well() {
    let accepted = with_header(accepted(), "connection", "close");
    let stage = Stage::asleep(answers([accepted, processing(), later(gateway(503))]));
    let error = stage.is_shut_down(|api| api.generate_and_wait(&small(), &short(secs(3600))));
    assert_outcome(&error, ErrorKind::ShutDown, false);
    assert_eq!((error.agent_id(), error.last_seen().is_some()), (Some(ID), true));
    assert_eq!(stage.script.keys(), [error.idempotency_key().unwrap()]);
}

#[test]
fn a_wait_for_an_answer_ends_and_the_outcome_is_unknown() {
    for said in [vec![], b"HTTP/1.1 200 OK\r\n".to_vec(), most_of(&accepted()), most_of(&busy())] {
        let stage = Stage::new(|ready, _| vec![begin(said, ready)]);
        stage.is_generate_shut_down(small(), true);
        assert_eq!(stage.script.connections(), 1);
    }
}

#[test]
fn a_wait_for_the_answer_to_a_resend_ends_and_the_outcome_is_unknown() {
    for first in [busy(), gateway(500)] {
        let stage = Stage::new(|ready, _| vec![answer(with_header(first, "retry-after", "0")), begin("", ready)]);
        let error = stage.is_generate_shut_down(small(), true);
        assert_eq!(error.attempts(), 2);
    }
}

#[test]
fn an_upload_ends_and_the_request_is_known_to_be_not_taken() {
    for bytes in [1, 100_000] {
        let stage = Stage::new(|ready, end| {
            let ready = ready.clone();
            vec![end.after(move |c| {
                take_some(c, bytes);
                ready.raise();
            })]
        });
        stage.is_generate_shut_down(large(), false);
    }
}

#[test]
fn an_upload_that_waits_to_be_asked_for_ends() {
    let stage = Stage::new(|ready, end| {
        let ready = ready.clone();
        vec![end.after(move |c| {
            c.head();
            ready.raise();
        })]
    });
    stage.is_generate_shut_down(large(), false);
}

#[test]
fn a_status_ends() {
    for said in [vec![], b"HTTP/1.1 200 OK\r\n".to_vec(), most_of(&processing())] {
        let stage = Stage::new(|ready, _| vec![begin(said, ready)]);
        let error = stage.is_shut_down(|api| api.status(ID));
        assert_eq!((error.agent_id(), error.outcome_unknown()), (Some(ID), false));
    }
}

#[test]
fn a_poll_ends_with_the_id_the_key_and_what_was_last_seen() {
    for said in [vec![], most_of(&processing())] {
        let accepted = with_header(accepted(), "connection", "close");
        let stage = Stage::new(|ready, _| vec![answer(accepted), answer(processing()), begin(said, ready)]);
        let error = stage.is_shut_down(|api| api.generate_and_wait(&small(), &short(secs(3600))));
        assert_outcome(&error, ErrorKind::ShutDown, false);
        assert_eq!((error.agent_id(), error.last_seen().is_some()), (Some(ID), true));
        assert_eq!(stage.script.keys(), [error.idempotency_key().unwrap()]);
    }
}

#[test]
fn a_watch_ends_with_one_error() {
    let stage = Stage::new(|ready, _| vec![answer(processing()), begin("", ready)]);
    let error = stage.is_shut_down(|api| {
        let mut watch = api.watch(ID, &short(secs(3600)));
        assert!(watch.next().unwrap().is_ok());
        let error = watch.next().unwrap();
        assert!(watch.next().is_none());
        error
    });
    assert_eq!((error.agent_id(), error.last_seen().is_some()), (Some(ID), true));
}

#[test]
fn all_calls_under_way_end() {
    let end = Ending::default();
    let script = Script::new([end.after(|c| drop(c.request()))]);
    let api = waiting(&script.url).build().unwrap();
    let (done, results) = mpsc::channel();
    let calls: [fn(&Api) -> Option<Error>; 4] = [
        |api| api.generate(&small()).err(),
        |api| api.status(ID).err(),
        |api| api.wait(ID, &Wait::new()).err(),
        |api| api.generate_and_wait(&small(), &Wait::new()).err(),
    ];
    for call in calls {
        let (api, done) = (api.clone(), done.clone());
        thread::spawn(move || done.send(call(&api)));
    }
    let start = Instant::now();
    while script.heard().len() < calls.len() && start.elapsed() < secs(20) {
        thread::sleep(ms(1));
    }
    api.shutdown();
    let start = Instant::now();
    for _ in calls {
        let error = results.recv_timeout(secs(15)).expect("a call goes on").unwrap();
        assert_eq!(error.kind(), ErrorKind::ShutDown);
    }
    assert!(start.elapsed() <= AT_ONCE, "it took {:?}", start.elapsed());
}

#[test]
fn a_refusal_that_has_come_is_kept() {
    let [refusal, ..] = own(401, "UNAUTHORIZED");
    let stage = Stage::new(|ready, _| vec![begin(most_of(&refusal), ready)]);
    let error = stage.ends(|api| api.generate(&small())).unwrap_err();
    assert_outcome(&error, ErrorKind::Unauthorized, false);
}

#[test]
fn an_acceptance_that_has_come_is_kept() {
    let whole = accepted();
    let body = whole.split(|&b| b == b'\n').next_back().unwrap();
    let stage = Stage::new(|ready, _| vec![begin([b"HTTP/1.1 200 OK\r\n\r\n", body].concat(), ready)]);
    assert_eq!(stage.ends(|api| api.generate(&small())).unwrap().agent_id, ID);
}

/// A request that is handed over in several pieces, and not asked for first.
fn in_pieces() -> GenerateRequest {
    GenerateRequest::new().image(Media::bytes(vec![7; 300_000]))
}

#[test]
fn an_upload_can_be_ended_by_its_own_progress() {
    let script = Script::new([act(|c| drop(c.request()))]);
    let at_first = |event: &Event| matches!(event, Event::Uploaded { sent, total } if sent < total);
    let error = shut_down_when(&script, at_first, |api| api.generate(&in_pieces())).unwrap_err();
    assert_outcome(&error, ErrorKind::ShutDown, false);
}

#[test]
fn a_shutdown_at_the_end_of_the_upload_leaves_the_outcome_unknown() {
    let script = Script::new([answer(accepted())]);
    let at_last = |event: &Event| matches!(event, Event::Uploaded { sent, total } if sent == total);
    let error = shut_down_when(&script, at_last, |api| api.generate(&in_pieces())).unwrap_err();
    assert_outcome(&error, ErrorKind::ShutDown, true);
}

#[test]
fn a_resend_can_be_called_off_when_it_is_told() {
    for (answered, unknown) in [(busy(), false), (gateway(429), false), (gateway(502), true)] {
        let script = Script::new(answers([later(answered), accepted()]));
        let error = shut_down_when(&script, is_resending, |api| api.generate(&small())).unwrap_err();
        assert_eq!((error.kind(), script.connections()), (ErrorKind::ShutDown, 1), "{error:?}");
        assert_outcome(&error, ErrorKind::ShutDown, unknown);
        assert_eq!(script.keys(), [error.idempotency_key().unwrap()]);
    }
}

#[test]
fn a_resend_after_a_break_in_mid_upload_can_be_called_off_when_it_is_told() {
    let script = Script::new([act(|c| take_some(c, 100_000))]);
    let error = shut_down_when(&script, is_resending, |api| api.generate(&large())).unwrap_err();
    assert_outcome(&error, ErrorKind::ShutDown, false);
    assert_eq!(script.connections(), 1);
}

#[test]
fn a_wait_can_be_ended_by_a_poll() {
    let script = Script::new(answers([processing(), polled(value!({"status": "ready"}))]));
    let wait = Wait::new().interval(secs(60));
    let error = shut_down_when(&script, is_polled, |api| api.wait(ID, &wait)).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::ShutDown, Some(ID)));
    assert_eq!((error.last_seen().is_some(), script.connections()), (true, 1));
}

#[test]
fn a_call_that_has_its_answer_keeps_it() {
    let calls: [fn(&Api) -> Result<Agent>; 3] =
        [|api| api.status(ID), |api| api.wait(ID, &Wait::new()), |api| api.watch(ID, &Wait::new()).last().unwrap()];
    for call in calls {
        let script = Script::new([answer(polled(value!({"status": "ready"})))]);
        assert!(shut_down_when(&script, is_polled, call).unwrap().is_ready());
    }
}

#[test]
fn a_shutdown_is_permanent_for_every_clone_and_makes_no_connection() {
    let script = Script::new([answer(accepted())]);
    let api = waiting(&script.url).build().unwrap();
    let (before, hooked) = (api.clone(), api.on_event(|event| panic!("{event:?}")));
    let mut watch = before.watch(ID, &Wait::new());
    api.shutdown();
    api.shutdown();
    let later = api.clone();
    for api in [api, before, hooked, later] {
        let generates = [api.generate(&small()).err(), api.generate_and_wait(&small(), &Wait::new()).err()];
        for error in generates.map(Option::unwrap) {
            assert_outcome(&error, ErrorKind::ShutDown, false);
            assert_eq!((error.agent_id(), error.attempts()), (None, 0));
        }
        for error in [api.status(ID).unwrap_err(), api.wait(ID, &Wait::new()).unwrap_err()] {
            assert_eq!((error.kind(), error.agent_id()), (ErrorKind::ShutDown, Some(ID)));
            assert_eq!(error.attempts(), 0);
        }
    }
    assert_eq!(watch.next().unwrap().unwrap_err().kind(), ErrorKind::ShutDown);
    assert!(watch.next().is_none());
    assert_eq!(script.settled(), 0);
}

#[test]
fn a_shutdown_ends_connections_that_are_kept() {
    let (kept, gone) = (Signal::default(), Signal::default());
    let (of_server, over) = (kept.clone(), gone.clone());
    let script = Script::new([act(move |c| {
        c.request();
        c.send(json(200, value!({"success": true, "data": {"status": "ready"}})));
        of_server.raise();
        c.hold();
        over.raise();
    })]);
    let api = waiting(&script.url).build().unwrap();
    assert!(api.status(ID).unwrap().is_ready());
    assert!(kept.wait());
    let start = Instant::now();
    api.shutdown();
    assert!(gone.wait() && start.elapsed() <= AT_ONCE, "it took {:?}", start.elapsed());
}

#[test]
fn a_handle_built_apart_goes_on() {
    let script = Script::new([answer(polled(value!({"status": "ready"})))]);
    let [one, other] = [(); 2].map(|()| waiting(&script.url).build().unwrap());
    one.shutdown();
    assert_eq!(one.status(ID).unwrap_err().kind(), ErrorKind::ShutDown);
    assert!(other.status(ID).unwrap().is_ready());
}

#[test]
fn a_call_that_is_shut_down_makes_no_new_connection() {
    type Call = fn(&Api) -> Option<Error>;
    let calls: [(&str, Call); 3] = [
        ("status", |api| api.status(ID).err()),
        ("wait", |api| api.wait(ID, &Wait::new()).err()),
        ("generate that waits to be asked for", |api| api.generate(&large()).err()),
    ];
    for (name, call) in calls {
        let stage = Stage::new(|ready, end| {
            let ready = ready.clone();
            vec![end.after(move |c| {
                c.head();
                ready.raise();
            })]
        });
        stage.is_shut_down(move |api| call(api).map_or(Ok(()), Err));
        assert_eq!(stage.script.settled(), 1, "{name}");
    }
    let script = Script::new([act(|c| drop(c.request()))]);
    let uploaded = |event: &Event| matches!(event, Event::Uploaded { .. });
    shut_down_when(&script, uploaded, |api| api.generate(&in_pieces())).unwrap_err();
    assert_eq!(script.settled(), 1, "generate in mid-upload");
}
