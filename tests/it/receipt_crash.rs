//! One receipt is billed once, whoever is killed when, and whoever else has it at the same time.
//!
//! RECEIPT_KILLS and RECEIPT_RACES say how many kills and races there are, RECEIPT_SEED when to kill.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bithuman::serde_json::{self, Value, json};
use bithuman::{Api, Clock, GenerateRequest, Wait};

use crate::fault::Signal;
use crate::mock_server::{ApiVersion, MockServer, SECRET};
use crate::script::*;
use crate::support::*;

const VERSIONS: [ApiVersion; 2] = [ApiVersion::V2025, ApiVersion::Current];

/// The prompts of an agent that gets ready, and of one that does not.
const GOOD: &str = "p";
const BAD: &str = "[fail]";

/// Between two polls, in real time.
const INTERVAL: Duration = Duration::from_millis(20);

/// Time that passes only in sleeps, which do this instead of sleeping.
struct Sleeping<F> {
    now: Mutex<Duration>,
    sleep: F,
}

impl<F: Fn(Duration) + Send + Sync> Sleeping<F> {
    fn new(sleep: F) -> Arc<Self> {
        Arc::new(Sleeping { now: Mutex::default(), sleep })
    }
}

impl<F: Fn(Duration) + Send + Sync> Clock for Sleeping<F> {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
        (self.sleep)(time);
    }
}

/// A clock that does not wait.
fn hasty() -> Arc<dyn Clock> {
    Sleeping::new(|_| ())
}

/// A clock that waits for this part of the time.
fn faster(times: u32) -> Arc<dyn Clock> {
    Sleeping::new(move |time| thread::sleep(time / times))
}

/// A folder that is gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("receipts-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks the service at this address what was asked of us. `None` if that broke off.
fn forward(c: &mut Connection, to: &str) -> Option<Vec<u8>> {
    let heard = c.request().filter(|heard| heard.body.len() == heard.content_length())?;
    let mut service = TcpStream::connect(to).unwrap();
    // So that the answer ends with the connection, here and there.
    service.write_all(heard.head.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes()).unwrap();
    service.write_all(&heard.body).unwrap();
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).unwrap();
    Some(answer)
}

fn forwarded(to: &str) -> Act {
    let to = to.to_owned();
    act(move |c| {
        if let Some(answer) = forward(c, &to) {
            c.send(answer);
        }
    })
}

/// A receipt, and the service its agent is from.
struct Job {
    version: ApiVersion,
    prompt: &'static str,
    folder: Folder,
    service: MockServer,
    /// Between us and the service.
    script: Script,
}

impl Job {
    fn new(version: ApiVersion, prompt: &'static str) -> Self {
        Job::with(version, prompt, |to| vec![forwarded(to)])
    }

    /// With these acts between us and the service at the address they get.
    fn with(version: ApiVersion, prompt: &'static str, acts: impl FnOnce(&str) -> Vec<Act>) -> Self {
        let service = MockServer::start(version);
        let script = Script::new(acts(service.base_url().trim_start_matches("http://")));
        Job { version, prompt, folder: Folder::new(), service, script }
    }

    fn receipt(&self) -> PathBuf {
        self.folder.0.join("agent.json")
    }

    /// Where an update of the receipt waits for its turn.
    fn claim(&self) -> PathBuf {
        self.folder.0.join("agent.json.new")
    }

    /// What the receipt says, if it is there. It is whole, or this fails.
    fn read(&self) -> Option<Value> {
        let text = match fs::read(self.receipt()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            text => text.unwrap(),
        };
        let receipt: Value = serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&text)));
        assert_eq!(receipt["format"], 1);
        assert!(!key(&receipt).is_empty());
        Some(receipt)
    }

    fn task(&self) -> Value {
        json!({
            "url": self.script.url,
            "receipt": self.receipt(),
            "prompt": self.prompt,
            "honored": self.version == ApiVersion::Current,
        })
    }

    fn call(&self, clock: Arc<dyn Clock>) -> Value {
        call(&self.task(), INTERVAL, clock)
    }

    /// The same in a process of its own, once it may go, on a clock so many times as fast.
    fn child(&self, times: u32) -> Child {
        let mut task = self.task();
        task["times"] = times.into();
        let mut command = this_test_alone("receipt_crash::a_child_of_these_tests");
        let command = command.env(CHILD, task.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Child { process, out }
    }

    /// The one ready agent, which is in the receipt, so that nobody has to ask for it.
    #[track_caller]
    fn assert_ready(&self) -> Value {
        let asked = self.script.connections();
        let told = self.call(hasty());
        assert_eq!(told["ready"], true, "{told}");
        assert_eq!((self.script.settled(), self.service.billed()), (asked, 1));
        told
    }
}

/// Makes the agent of a task, and tells what came of it in a form that a child can tell it in.
fn call(task: &Value, interval: Duration, clock: Arc<dyn Clock>) -> Value {
    let text = |name: &str| task[name].as_str().unwrap();
    let api = Api::builder().secret(SECRET).base_url(text("url")).clock(clock);
    let api = api.idempotency_honored(task["honored"] == true).build().unwrap();
    let request = GenerateRequest::new().prompt(text("prompt"));
    match api.ensure_agent(text("receipt"), &request, &Wait::new().interval(interval)) {
        Ok(agent) => json!({"agent_id": agent.agent_id, "ready": agent.is_ready()}),
        Err(error) => json!({
            "agent_id": error.agent_id(),
            "kind": format!("{:?}", error.kind()),
            "outcome_unknown": error.outcome_unknown(),
            "text": error.to_string(),
        }),
    }
}

fn key(receipt: &Value) -> &str {
    receipt["idempotency_key"].as_str().unwrap()
}

/// The variable with a child's task.
const CHILD: &str = "RECEIPT_CHILD";

/// What a child says when it only waits to be let go.
const UP: &str = "the child is up";

struct Child {
    process: process::Child,
    out: BufReader<ChildStdout>,
}

impl Child {
    fn wait_until_up(&mut self) {
        let mut line = String::new();
        while !line.contains(UP) {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the child ended early");
        }
    }

    fn go(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) -> Value {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        assert!(self.process.wait().unwrap().success(), "{out}");
        let told = out.lines().find(|line| line.starts_with('{'));
        serde_json::from_str(told.unwrap_or_else(|| panic!("{out}"))).unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// No test by itself: what the others run in processes of their own.
#[test]
fn a_child_of_these_tests() {
    let Ok(task) = env::var(CHILD) else { return };
    let task: Value = serde_json::from_str(&task).unwrap();
    println!("{UP}");
    io::stdin().read_line(&mut String::new()).unwrap();
    let times = task["times"].as_u64().unwrap() as u32;
    println!("\n{}", call(&task, INTERVAL * times, faster(times)));
}

/// How many there are to be.
fn count(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// When to kill a child.
#[derive(Debug)]
enum Moment {
    /// So long after its start.
    After(Duration),
    /// When the service has answered so often, the last time in vain.
    Answered(usize),
    /// When it is about to replace the receipt.
    Claimed,
    Never,
}

/// Who kills.
struct Killer {
    random: u64,
    kills: usize,
    /// How many kills hit no receipt yet, one without an agent, one with an agent, and one that tells its end.
    hits: [usize; 4],
}

impl Killer {
    fn new(kills: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = env::var("RECEIPT_SEED").map_or(now.as_nanos() as u64, |seed| seed.parse().unwrap());
        println!("RECEIPT_SEED={seed}");
        Killer { random: seed | 1, kills, hits: [0; 4] }
    }

    /// Less than this, by xorshift.
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn moment(&mut self, how_far: usize) -> Moment {
        match self.random(5) {
            _ if self.kills == 0 => Moment::Never,
            // The first one hits between the receipt and its agent, however fast the machine is.
            _ if self.hits == [0; 4] => Moment::Answered(1),
            // It takes a child only some milliseconds to begin and to write the receipt.
            0 | 1 if how_far == 0 => Moment::After(Duration::from_micros(self.random(20_000))),
            0 | 1 => Moment::After(ms(self.random(200))),
            2 | 3 => Moment::Answered(1 + self.random(8) as usize),
            _ => Moment::Claimed,
        }
    }

    /// Restarts one child after the other, until one tells of a ready agent, or of anything once
    /// there are no kills left.
    fn run(&mut self, prompt: &'static str) -> (Job, Value) {
        let (answered, in_vain_from) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
        let (counted, kept) = (answered.clone(), in_vain_from.clone());
        let job = Job::with(ApiVersion::Current, prompt, |to| {
            let to = to.to_owned();
            vec![act(move |c| {
                let Some(answer) = forward(c, &to) else { return };
                match counted.fetch_add(1, Ordering::SeqCst) + 1 >= kept.load(Ordering::SeqCst) {
                    true => c.hold(),
                    false => c.send(answer),
                }
            })]
        });
        let mut keys = BTreeSet::new();
        let mut before = None;
        loop {
            let moment = self.moment(stage(&before));
            let was_claimed = job.claim().exists();
            let answers = match moment {
                Moment::Answered(answers) => answered.load(Ordering::SeqCst) + answers,
                Moment::Claimed if was_claimed => answered.load(Ordering::SeqCst) + 1,
                _ => usize::MAX,
            };
            in_vain_from.store(answers, Ordering::SeqCst);
            let mut child = job.child(100);
            child.go();
            let start = Instant::now();
            let ended = loop {
                if let Some(status) = child.process.try_wait().unwrap() {
                    break Some(status);
                }
                let has_come = match moment {
                    _ if answered.load(Ordering::SeqCst) >= answers => true,
                    Moment::After(time) => start.elapsed() >= time,
                    Moment::Claimed => !was_claimed && job.claim().exists(),
                    _ => false,
                };
                assert!(start.elapsed() < secs(60), "{moment:?}: it hangs");
                if has_come {
                    child.process.kill().unwrap();
                    // It may have ended just before.
                    break Some(child.process.wait().unwrap()).filter(|status| status.success());
                }
                match moment {
                    Moment::Claimed => thread::yield_now(),
                    _ => thread::sleep(ms(1)),
                }
            };
            let now = job.read();
            let how_far = stage(&now);
            keys.extend(now.as_ref().map(|now| key(now).to_owned()));
            let is_next = match &before {
                // One child makes at most one key: the next one comes only after the last one has failed.
                Some(before) if has_failed(before) => how_far > 0,
                Some(before) => {
                    let stays = now.as_ref().is_some_and(|now| key(now) == key(before));
                    stays && how_far >= stage(&Some(before.clone()))
                }
                None => true,
            };
            assert!(is_next, "{moment:?} made {now:?} of {before:?}");
            let unheard_of = job.script.keys().into_iter().find(|key| !keys.contains(key));
            assert_eq!(unheard_of, None, "{moment:?}: a key was sent before it was in the receipt");
            before = now;
            if ended.is_none() {
                self.hits[how_far] += 1;
                self.kills -= 1;
                continue;
            }
            let told = child.end();
            if told["ready"] == true || self.kills == 0 {
                return (job, told);
            }
            assert_eq!(told["kind"], "GenerationFailed", "{moment:?}: {told}");
        }
    }
}

/// How far a receipt is.
fn stage(receipt: &Option<Value>) -> usize {
    match receipt {
        None => 0,
        Some(receipt) if !receipt["agent"].is_null() => 3,
        Some(receipt) if !receipt["generation"].is_null() => 2,
        Some(_) => 1,
    }
}

fn has_failed(receipt: &Value) -> bool {
    receipt["agent"]["status"] == "failed"
}

#[test]
fn a_child_killed_again_and_again_is_billed_once() {
    let mut killer = Killer::new(count("RECEIPT_KILLS", 20));
    let mut jobs = 0;
    while killer.kills > 0 {
        let (job, told) = killer.run(GOOD);
        assert_eq!(told["ready"], true, "{told}");
        assert_eq!(job.assert_ready(), told);
        assert_eq!(job.script.keys().len(), 1);
        jobs += 1;
    }
    println!("{jobs} jobs; kills by how far the receipt was: {:?}", killer.hits);
    assert!(killer.hits[1] > 0);
}

#[test]
fn a_child_killed_while_its_generations_fail_is_billed_once_for_each_failure() {
    let (job, told) = Killer::new(5).run(BAD);
    assert_eq!(told["kind"], "GenerationFailed", "{told}");
    assert_eq!(job.service.billed(), job.script.keys().len());
    assert!(has_failed(&job.read().unwrap()));
}

#[test]
fn a_kill_between_the_request_and_its_answer() {
    for (version, is_taken) in
        [ApiVersion::V2025, ApiVersion::Current].into_iter().flat_map(|f| [(f, true), (f, false)])
    {
        let sent = Signal::default();
        let arrived = sent.clone();
        let job = Job::with(version, GOOD, |to| {
            let first = to.to_owned();
            let first = act(move |c| {
                let answer = if is_taken { forward(c, &first) } else { None };
                arrived.raise();
                drop(answer);
                c.hold();
            });
            vec![first, forwarded(to)]
        });
        let mut child = job.child(1);
        child.go();
        assert!(sent.wait());
        child.process.kill().unwrap();
        child.process.wait().unwrap();
        assert_eq!(stage(&job.read()), 1);
        let asked = job.script.connections();

        let told = job.call(hasty());
        if version == ApiVersion::Current {
            assert_eq!(job.assert_ready(), told);
            continue;
        }
        for _ in 0..2 {
            assert_unknown(&job, &job.call(hasty()));
        }
        assert_unknown(&job, &told);
        assert_eq!((job.script.settled(), job.service.billed()), (asked, usize::from(is_taken)));
        assert_eq!(stage(&job.read()), 1);

        // The second way out.
        fs::remove_file(job.receipt()).unwrap();
        assert_eq!(job.call(hasty())["ready"], true);
    }
}

/// The error of a crash after which nothing can be done.
#[track_caller]
fn assert_unknown(job: &Job, told: &Value) {
    assert_eq!((&told["kind"], &told["outcome_unknown"]), (&json!("Receipt"), &json!(true)), "{told}");
    let text = told["text"].as_str().unwrap();
    let path = job.receipt();
    for part in [path.to_str().unwrap(), "look for the agent in the account", "delete the receipt and pay again"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// What those tell who had one receipt at the same time.
#[track_caller]
fn assert_one_agent(job: &Job, told: &[Value]) {
    let agent = job.assert_ready();
    assert!(told.contains(&agent), "{told:?}");
    for told in told.iter().filter(|told| **told != agent) {
        assert_eq!(job.version, ApiVersion::V2025, "{told}");
        assert_unknown(job, told);
    }
    assert_eq!(job.script.keys().len(), 1);
    assert_eq!(fs::read_dir(&job.folder.0).unwrap().count(), 1, "not only the receipt is there");
}

#[test]
fn two_processes_at_once_are_billed_once() {
    for _ in 0..count("RECEIPT_RACES", 5) {
        thread::scope(|scope| {
            for version in VERSIONS {
                scope.spawn(move || {
                    let job = Job::new(version, GOOD);
                    let mut children = [job.child(1), job.child(1)];
                    children.iter_mut().for_each(Child::wait_until_up);
                    children.iter_mut().for_each(Child::go);
                    assert_one_agent(&job, &children.map(Child::end));
                });
            }
        });
    }
}

/// Calls on as many threads as there are clocks, which begin together.
fn together(job: &Job, interval: Duration, clocks: Vec<Arc<dyn Clock>>) -> Vec<Value> {
    let start = Barrier::new(clocks.len());
    let call = |clock: Arc<dyn Clock>| {
        start.wait();
        call(&job.task(), interval, clock)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = clocks.into_iter().map(|clock| scope.spawn(|| call(clock))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn threads_at_once_are_billed_once() {
    thread::scope(|scope| {
        for (version, threads) in VERSIONS.into_iter().flat_map(|version| [(version, 2), (version, 8)]) {
            scope.spawn(move || {
                let job = Job::new(version, GOOD);
                let clocks = (0..threads).map(|_| faster(1)).collect();
                assert_one_agent(&job, &together(&job, INTERVAL, clocks));
            });
        }
    });
}

#[test]
fn who_is_too_slow_for_the_other_is_billed_once() {
    for version in VERSIONS {
        let (sent, may_end) = (Signal::default(), Signal::default());
        let (arrived, end) = (sent.clone(), may_end.clone());
        let job = Job::with(version, GOOD, |to| {
            let first = to.to_owned();
            let slow = act(move |c| {
                let answer = forward(c, &first).unwrap();
                arrived.raise();
                end.wait();
                c.send(answer);
            });
            vec![slow, forwarded(to)]
        });
        let (slow, other) = thread::scope(|scope| {
            let slow = scope.spawn(|| job.call(hasty()));
            assert!(sent.wait());
            let clock = Sleeping::new(|_| ());
            let other = job.call(clock.clone());
            assert!(clock.now() >= secs(10), "after {:?}", clock.now());
            may_end.raise();
            (slow.join().unwrap(), other)
        });
        assert_eq!(other["ready"] == true, version == ApiVersion::Current, "{other}");
        assert_eq!(slow["ready"], true, "{slow}");
        assert_one_agent(&job, &[slow, other]);
    }
}

/// One of those who wait for each other, or for their end.
struct Guest {
    missing: Arc<(Mutex<usize>, Condvar)>,
    has_arrived: AtomicBool,
}

impl Guest {
    fn all(number: usize) -> Vec<Guest> {
        let missing = Arc::new((Mutex::new(number), Condvar::new()));
        (0..number).map(|_| Guest { missing: missing.clone(), has_arrived: AtomicBool::new(false) }).collect()
    }

    fn arrive(&self) {
        if !self.has_arrived.swap(true, Ordering::SeqCst) {
            *self.missing.0.lock().unwrap() -= 1;
            self.missing.1.notify_all();
        }
    }

    fn meet(&self) {
        self.arrive();
        let (missing, changed) = &*self.missing;
        drop(changed.wait_while(missing.lock().unwrap(), |missing| *missing > 0).unwrap());
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.arrive();
    }
}

#[test]
fn those_who_begin_anew_at_once_pay_for_one_more() {
    // Nobody polls twice before both have polled: who looks only after the new generation has failed
    // too is a later call, and pays.
    let interval = secs(5);
    let clock = |guest: Guest| -> Arc<dyn Clock> {
        Sleeping::new(move |time| if time < interval { thread::sleep(time) } else { guest.meet() })
    };
    thread::scope(|scope| {
        for version in VERSIONS.into_iter().flat_map(|version| [version; 3]) {
            scope.spawn(move || {
                let job = Job::new(version, BAD);
                let first = job.call(hasty());
                assert_eq!((&first["kind"], job.service.billed()), (&json!("GenerationFailed"), 1), "{first}");
                let told = together(&job, interval, Guest::all(2).into_iter().map(clock).collect());
                assert_eq!((job.service.billed(), job.script.keys().len()), (2, 2), "{told:?}");
                for told in &told {
                    assert_eq!(told["kind"], "GenerationFailed", "{told}");
                    assert_ne!(told["agent_id"], first["agent_id"]);
                }
            });
        }
    });
}

#[test]
fn who_loses_the_race_to_begin_anew_does_not_pay_when_the_winner_has_failed_too() {
    for version in VERSIONS {
        let job = Job::new(version, BAD);
        job.call(hasty());
        fs::write(job.claim(), "").unwrap();
        let won = Arc::new(Mutex::new(None));
        let (result, task, claim) = (won.clone(), job.task(), job.claim());
        // Who finds the claim taken sleeps so long that another call comes to its end.
        let lost = job.call(Sleeping::new(move |_| {
            let mut won = result.lock().unwrap();
            if won.is_none() {
                fs::remove_file(&claim).unwrap();
                *won = Some(call(&task, INTERVAL, hasty()));
            }
        }));
        assert_eq!((job.service.billed(), won.lock().unwrap().as_ref()), (2, Some(&lost)));
    }
}

#[test]
fn files_left_behind_by_a_crash_are_waited_for_at_most() {
    // What the receipt of a whole call lacks; or there is none.
    type Row = (&'static str, &'static [ApiVersion], Option<&'static [&'static str]>);
    let rows: [Row; 4] = [
        (GOOD, &VERSIONS, None),
        (GOOD, &[ApiVersion::Current], Some(&["agent", "generation"])),
        (GOOD, &VERSIONS, Some(&["agent"])),
        (BAD, &VERSIONS, Some(&[])),
    ];
    for (prompt, version, lacks) in
        rows.into_iter().flat_map(|(p, forms, lacks)| forms.iter().map(move |f| (p, *f, lacks)))
    {
        let left = "{\"format\": 1";
        let job = Job::new(version, prompt);
        if let Some(lacks) = lacks {
            job.call(hasty());
            let mut receipt = job.read().unwrap();
            receipt.as_object_mut().unwrap().retain(|name, _| !lacks.contains(&name.as_str()));
            fs::write(job.receipt(), receipt.to_string()).unwrap();
        }
        let aside = job.folder.0.join("agent.json.0123456789abcdef");
        fs::write(job.claim(), left).unwrap();
        fs::write(&aside, left).unwrap();

        let waited = Arc::new(Mutex::new(Duration::ZERO));
        let (total, claim) = (waited.clone(), job.claim());
        let told = job.call(Sleeping::new(move |time| {
            if fs::read(&claim).is_ok_and(|now| now == left.as_bytes()) {
                let mut total = total.lock().unwrap();
                *total += time;
                // Its owner may yet live; and where there is a key, so may that of the receipt.
                assert!(*total <= secs(20), "it blocks");
            }
        }));
        let waited = *waited.lock().unwrap();
        assert!(waited >= secs(10), "{waited:?} with {lacks:?}");
        match prompt {
            GOOD => assert_eq!(job.assert_ready(), told),
            _ => assert_eq!((&told["kind"], job.service.billed()), (&json!("GenerationFailed"), 2), "{told}"),
        }
        assert_eq!(stage(&job.read()), 3);
        assert!(!job.claim().exists());
        assert_eq!(fs::read_to_string(&aside).unwrap(), left);
    }
}
