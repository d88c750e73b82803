//! A connection that ends after any byte of the request or of the answer.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use bithuman::serde_json::json as value;
use bithuman::{Api, ErrorKind, Generation, Result};

use crate::fault::*;
use crate::script::*;
use crate::support::*;

/// Where the server ends a connection.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// After so many bytes of its answer.
    Answer(usize),
    /// After so many bytes of the request, with a reset if more have come.
    Request(usize),
    /// The same, but it goes on reading, so that there is no reset.
    RequestInPeace(usize),
}

/// A service that ends the first connections of a call early and takes what comes after.
struct Cutter {
    script: Script,
    plan: Arc<Mutex<Plan>>,
    honored: bool,
}

#[derive(Clone, Default)]
struct Plan {
    cut: Option<Cut>,
    /// How many connections to end early.
    times: usize,
    /// What is said, as far as it is, before the good answer.
    answer: Vec<u8>,
    /// Whether that answer is for a generate that was taken.
    takes: bool,
    /// Header and body of a whole request.
    request: (usize, usize),
    connections: usize,
    keys: BTreeSet<String>,
    /// The generates taken: those of one key are one where keys are honoured.
    billed: BTreeSet<String>,
}

impl Plan {
    fn cut(cut: Cut, times: usize) -> Self {
        Plan { cut: Some(cut), times, ..Plan::default() }
    }

    /// So many bytes of this answer, once.
    fn answer(answer: &[u8], k: usize) -> Self {
        Plan { answer: answer.into(), ..Plan::cut(Cut::Answer(k), 1) }
    }

    fn takes(self) -> Self {
        Plan { takes: true, ..self }
    }
}

impl Cutter {
    fn new(honored: bool) -> Self {
        let plan = Arc::<Mutex<Plan>>::default();
        let of_server = plan.clone();
        let script = Script::new([act(move |c| serve(c, &of_server, honored))]);
        let cutter = Cutter { script, plan, honored };
        cutter.api(0).generate(&small()).unwrap();
        cutter
    }

    fn api(&self, retries: u32) -> Api {
        api_to(&self.script.url).idempotency_honored(self.honored).retries(retries).build().unwrap()
    }

    /// Makes a generate whose first connections end early, and checks that no more than one is
    /// billed, and that all attempts have one key.
    fn generate(&self, api: &Api, plan: Plan) -> (Result<Generation>, Plan) {
        let request = self.plan.lock().unwrap().request;
        let named = format!("{:?}", plan.cut);
        *self.plan.lock().unwrap() = Plan { request, ..plan };
        let result = api.generate(&small());
        let plan = self.plan.lock().unwrap().clone();
        assert!(plan.billed.len() <= 1, "{named}: billed {:?}", plan.billed);
        let told = match &result {
            Ok(started) => &started.idempotency_key,
            Err(error) => error.idempotency_key().unwrap(),
        };
        assert!(plan.keys.iter().all(|key| key == told), "{named}: {:?} are not {told}", plan.keys);
        (result, plan)
    }
}

fn serve(c: &mut Connection, plan: &Mutex<Plan>, honored: bool) {
    let (cut, answer, takes, whole) = {
        let mut plan = plan.lock().unwrap();
        plan.connections += 1;
        let is_cut = plan.connections <= plan.times;
        (plan.cut.filter(|_| is_cut), plan.answer.clone(), plan.takes, plan.request.0 + plan.request.1)
    };
    let note = |heard: &Heard, taken: bool| {
        let key = heard.header("idempotency-key").unwrap();
        let mut plan = plan.lock().unwrap();
        plan.keys.insert(key.into());
        plan.request = (heard.head.len(), heard.body.len());
        if taken {
            let what = if honored { key.into() } else { format!("{key} of connection {}", plan.connections) };
            plan.billed.insert(what);
        }
    };
    match cut {
        None => {
            if let Some(heard) = c.request() {
                note(&heard, true);
                c.send(accepted());
            }
        }
        Some(Cut::Answer(k)) => {
            if let Some(heard) = c.request() {
                note(&heard, takes);
                c.send(&answer[..k]);
            }
        }
        Some(Cut::Request(k) | Cut::RequestInPeace(k)) => {
            let mut some = Vec::new();
            let _ = (&mut c.stream).take(k as u64).read_to_end(&mut some);
            if some.len() == whole {
                let text = String::from_utf8(some).unwrap();
                let (head, body) = text.split_at(text.find("\r\n\r\n").unwrap() + 4);
                note(&Heard { connection: c.number, head: head.into(), body: body.into() }, true);
            }
            if let Some(Cut::RequestInPeace(_)) = cut {
                let _ = c.stream.shutdown(Shutdown::Write);
                c.hold();
            }
        }
    }
}

/// The forms in which the service may say that it took a generate, with the length from which on it
/// is to be believed.
fn acceptances() -> [(Vec<u8>, usize); 4] {
    let plain = accepted();
    let (head, body) = plain.split_at(head_of(&plain));
    let interim = [b"HTTP/1.1 100 Continue\r\n\r\n", head, body].concat();
    let to_the_end = [b"HTTP/1.1 200 OK\r\n\r\n", body].concat();
    let (one, two) = body.split_at(30);
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in [one, two, b""] {
        chunked.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    // Nothing of the object is missing, though the chunks have not ended.
    let known = chunked.len() - b"\r\n0\r\n\r\n".len();
    let whole = |answer: Vec<u8>| {
        let all = answer.len();
        (answer, all)
    };
    [whole(plain.clone()), whole(interim), whole(to_the_end), (chunked, known)]
}

/// The length of an answer's head.
fn head_of(answer: &[u8]) -> usize {
    answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4
}

#[test]
fn an_acceptance_cut_anywhere_is_billed_once_where_keys_are_honored() {
    unless_it_hangs(|| {
        let cutter = Cutter::new(true);
        let api = cutter.api(3);
        for (answer, known) in acceptances() {
            for k in 0..=answer.len() {
                let (result, plan) = cutter.generate(&api, Plan::answer(&answer, k).takes());
                assert_eq!(result.unwrap().agent_id, ID);
                assert_eq!(plan.billed.len(), 1);
                assert_eq!(plan.connections, if k >= known { 1 } else { 2 }, "{k} of {}", answer.len());
            }
        }
    });
}

#[test]
fn an_acceptance_cut_anywhere_is_unknown_until_it_is_whole_where_keys_are_not_honored() {
    unless_it_hangs(|| {
        let cutter = Cutter::new(false);
        let api = cutter.api(3);
        for (answer, known) in acceptances() {
            for k in 0..=answer.len() {
                let (result, plan) = cutter.generate(&api, Plan::answer(&answer, k).takes());
                match result {
                    Ok(started) => assert_eq!((started.agent_id.as_str(), k >= known), (ID, true)),
                    Err(error) => {
                        assert_outcome(&error, error.kind(), true);
                        assert!(k < known, "{k} of {}: {error:?}", answer.len());
                    }
                }
                assert_eq!((plan.billed.len(), plan.connections), (1, 1), "{k}");
            }
        }
    });
}

#[test]
fn a_refusal_cut_anywhere_is_unknown_until_its_head_is_whole() {
    unless_it_hangs(|| {
        let cutter = Cutter::new(false);
        let api = cutter.api(3);
        let [refusal, ..] = own(401, "UNAUTHORIZED");
        for k in 0..=refusal.len() {
            let (result, plan) = cutter.generate(&api, Plan::answer(&refusal, k));
            let told = k >= head_of(&refusal);
            let kind = if told { ErrorKind::Unauthorized } else { ErrorKind::Network };
            assert_outcome(&result.unwrap_err(), kind, !told);
            assert_eq!((plan.billed.len(), plan.connections), (0, 1), "{k}");
        }
    });
}

/// Cuts an answer that asks to come again anywhere, and checks that it is believed from so many bytes
/// on.
fn is_resent_from(answer: Vec<u8>, sure: usize) {
    unless_it_hangs(move || {
        for honored in [true, false] {
            let cutter = Cutter::new(honored);
            let api = cutter.api(3);
            for k in 0..=answer.len() {
                let (result, plan) = cutter.generate(&api, Plan::answer(&answer, k));
                let resent = honored || k >= sure;
                match result {
                    Ok(started) => assert_eq!((started.agent_id.as_str(), resent), (ID, true), "{k}"),
                    Err(error) => {
                        assert_outcome(&error, error.kind(), true);
                        assert!(!resent, "{k}: {error:?}");
                    }
                }
                assert_eq!(plan.connections, 1 + usize::from(resent), "{k}");
            }
        }
    });
}

#[test]
fn the_services_own_503_cut_anywhere_is_taken_for_a_gateways_until_it_is_whole() {
    for own in own(503, "NO_AVAILABLE_WORKERS") {
        let whole = own.len();
        is_resent_from(own, whole);
    }
}

#[test]
fn a_429_cut_anywhere_is_resent_everywhere_once_its_head_is_whole() {
    let [answer, ..] = own(429, "RATE_LIMITED");
    let head = head_of(&answer);
    is_resent_from(answer, head);
}

/// Cuts the request of every length, both ways.
fn request_cuts(cutter: &Cutter) -> impl Iterator<Item = Cut> + use<> {
    let (head, body) = cutter.plan.lock().unwrap().request;
    (0..=head + body).flat_map(|k| [Cut::Request(k), Cut::RequestInPeace(k)])
}

#[test]
fn a_request_cut_anywhere_is_billed_once_where_keys_are_honored() {
    unless_it_hangs(|| {
        let cutter = Cutter::new(true);
        let api = cutter.api(3);
        for cut in request_cuts(&cutter) {
            let (result, plan) = cutter.generate(&api, Plan::cut(cut, 1));
            assert_eq!(result.unwrap().agent_id, ID, "{cut:?}");
            assert_eq!((plan.billed.len(), plan.connections), (1, 2), "{cut:?}");
        }
    });
}

#[test]
fn a_request_cut_anywhere_after_it_was_handed_over_is_unknown_where_keys_are_not_honored() {
    unless_it_hangs(|| {
        let cutter = Cutter::new(false);
        let api = cutter.api(3);
        let (head, body) = cutter.plan.lock().unwrap().request;
        for cut in request_cuts(&cutter) {
            let (result, plan) = cutter.generate(&api, Plan::cut(cut, 1));
            assert_outcome(&result.unwrap_err(), ErrorKind::Network, true);
            let (Cut::Request(k) | Cut::RequestInPeace(k) | Cut::Answer(k)) = cut;
            assert_eq!((plan.billed.len(), plan.connections), (usize::from(k == head + body), 1), "{cut:?}");
        }
    });
}

#[test]
fn a_request_cut_anywhere_on_every_attempt_is_sent_so_often_with_one_key() {
    unless_it_hangs(|| {
        let cutter = Cutter::new(true);
        let api = cutter.api(2);
        for cut in request_cuts(&cutter) {
            let (result, plan) = cutter.generate(&api, Plan::cut(cut, usize::MAX));
            let error = result.unwrap_err();
            assert_outcome(&error, ErrorKind::Network, true);
            assert_eq!((error.attempts(), plan.connections), (3, 3), "{cut:?}");
        }
    });
}

#[test]
fn a_large_request_cut_before_it_was_handed_over_is_known_to_be_not_taken() {
    unless_it_hangs(|| {
        for honored in [true, false] {
            for k in [0, 1, 100, 200] {
                let trial = Trial::new([act(move |c| {
                    let _ = (&mut c.stream).take(k).read_to_end(&mut Vec::new());
                })]);
                let api = trial.noting(trial.builder().idempotency_honored(honored).retries(1));
                let error = api.generate(&large()).unwrap_err();
                assert_outcome(&error, ErrorKind::Network, false);
                assert_eq!(error.attempts(), 2, "{k}");
            }
            for k in [0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 1024 * 1024] {
                let trial = Trial::new([act(move |c| take_some(c, k))]);
                let api = trial.noting(trial.builder().idempotency_honored(honored).retries(1));
                let error = api.generate(&large()).unwrap_err();
                assert_outcome(&error, ErrorKind::Network, false);
                assert_eq!((error.attempts(), error.idempotency_key()), (2, Some(&*trial.key())), "{k}");
            }
        }
    });
}

#[test]
fn the_answer_to_a_status_cut_anywhere_is_asked_for_again() {
    unless_it_hangs(|| {
        let whole = polled(value!({"status": "generating", "progress": 0.5}));
        let plan = Arc::new(Mutex::new((0, 0)));
        let (of_server, answer) = (plan.clone(), whole.clone());
        let script = Script::new([act(move |c| {
            c.request();
            let (cut, connections) = {
                let mut plan = of_server.lock().unwrap();
                plan.1 += 1;
                *plan
            };
            // The idle race allows a connection that breaks one repeat that is not counted.
            c.send(if connections <= 3 { &answer[..cut] } else { &answer });
        })]);
        let api = api_to(&script.url).retries(3).build().unwrap();
        for cut in 0..=whole.len() {
            *plan.lock().unwrap() = (cut, 0);
            assert_eq!(api.status(ID).unwrap().progress, Some(0.5), "{cut}");
            let connections = plan.lock().unwrap().1;
            assert!(connections == if cut < whole.len() { 4 } else { 1 }, "{cut}: {connections} connections");
        }
    });
}
