//! Receipts under kills, races, stopped processes, and random sequences of everything that goes
//! wrong.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs, thread};

use bithuman::serde_json::{self, Value, json};
use bithuman::{Api, Billing, Wait};

use crate::harness::{
    FakeClock, ID, Reply, Request, Server, TempDir, ms, real_api, secs, service_error, small,
    status, this_test_alone,
};
use crate::mock_server::{self, ApiVersion, MockServer};
use crate::receipts::{http_date, serve};

/// The variable with a child's task.
const TASK: &str = "RECEIPT_TASK";

/// A process that makes the agent of a receipt, once it may go.
struct Child {
    process: process::Child,
    out: BufReader<process::ChildStdout>,
}

impl Child {
    /// Returns when it is up and waits for `go`.
    fn new(url: &str, receipt: &Path, honored: bool) -> Self {
        let task = json!({"url": url, "receipt": receipt, "honored": honored});
        let mut command = this_test_alone("receipts_crash::a_child_of_these_tests");
        let command = command.env(TASK, task.to_string()).stdin(Stdio::piped());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("up") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended early");
        }
        Child { process, out }
    }

    fn go(&mut self) {
        self.process
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\n")
            .unwrap();
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// What it said at its end.
    fn end(mut self) -> Value {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let said = out.lines().find(|line| line.starts_with('{'));
        serde_json::from_str(said.unwrap_or_else(|| panic!("{out}"))).unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// No test by itself: what the others run in processes of their own.
#[test]
fn a_child_of_these_tests() {
    let Ok(task) = env::var(TASK) else { return };
    let task: Value = serde_json::from_str(&task).unwrap();
    println!("\nup");
    io::stdin().read_line(&mut String::new()).unwrap();
    let text = |name: &str| task[name].as_str().unwrap();
    let api = Api::builder()
        .secret(mock_server::SECRET)
        .base_url(text("url"));
    let api = api.honors_idempotency_keys(task["honored"] == true);
    let wait = Wait::new().interval(ms(1)).timeout(secs(60));
    let result = api
        .build()
        .unwrap()
        .ensure_agent(text("receipt"), &small(), &wait);
    let said = match result {
        Ok(agent) => json!({"ready": agent.agent_id}),
        Err(error) => {
            json!({"billing": format!("{:?}", error.billing()), "text": error.to_string()})
        }
    };
    println!("\n{said}");
}

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    /// From `RECEIPT_SEED`, or the time; printed, to see the same again.
    fn new() -> Self {
        let time = UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = count("RECEIPT_SEED", time as usize | 1);
        println!("RECEIPT_SEED={seed}");
        Random(seed as u64)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

fn count(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// Kills at random moments end with one billed agent where keys are honored, and elsewhere with at
/// most one, with the outcome said.
#[test]
fn a_killed_process_is_billed_once() {
    let mut random = Random::new();
    let mut kills = count("RECEIPT_KILLS", 20);
    while kills > 0 {
        for version in [ApiVersion::Current, ApiVersion::V2025] {
            let honored = version == ApiVersion::Current;
            let (service, dir) = (MockServer::start(version), TempDir::new());
            let receipt = dir.path("receipt");
            let child = || Child::new(&service.base_url(), &receipt, honored);
            for _ in 0..5.min(kills) {
                let mut child = child();
                child.go();
                thread::sleep(Duration::from_micros(random.below(25_000)));
                child.kill();
                kills -= 1;
            }
            let mut last = child();
            last.go();
            let said = last.end();
            assert!(service.billed() <= 1, "{said}");
            if said["ready"].is_null() {
                assert!(!honored && said["billing"] == "Unknown", "{said}");
            } else {
                assert_eq!(service.billed(), 1);
            }
            assert_eq!(dir.names(), ["receipt"]);
        }
    }
}

#[test]
fn processes_at_once_are_billed_once() {
    for (number, version) in [(2, ApiVersion::V2025), (8, ApiVersion::Current)] {
        let (service, dir) = (MockServer::start(version), TempDir::new());
        let honored = version == ApiVersion::Current;
        let child = |_| Child::new(&service.base_url(), &dir.path("receipt"), honored);
        let mut children: Vec<Child> = (0..number).map(child).collect();
        children.iter_mut().for_each(Child::go);
        let said: Vec<Value> = children.into_iter().map(Child::end).collect();
        let first = &said[0]["ready"];
        let all_same = said.iter().all(|said| said["ready"] == *first);
        assert!(first.is_string() && all_same, "{said:?}");
        assert_eq!((service.billed(), dir.names()), (1, vec!["receipt".into()]));
    }
}

/// Who takes over from a process that is only stopped sends a second request.
#[cfg(unix)]
#[test]
fn a_stopped_process_keeps_its_lock() {
    for honored in [true, false] {
        let (arrived, arrival) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let script = Mutex::new((arrived, released));
        let server = serve(move |request| {
            if request.method == "GET" {
                return Some(status("ready").into());
            }
            let script = script.lock().unwrap();
            script.0.send(()).unwrap();
            script.1.recv().unwrap();
            Some(Reply::json(200, json!({"agent_id": ID})).into())
        });
        let dir = TempDir::new();
        let child = || Child::new(&server.url, &dir.path("receipt"), honored);
        let (mut stopped, mut waiting) = (child(), child());
        stopped.go();
        arrival.recv().unwrap();
        stopped.signal("-STOP");
        release.send(()).unwrap();
        waiting.go();
        thread::sleep(ms(200));
        assert_eq!(server.keys().len(), 1);
        stopped.signal("-CONT");
        for child in [stopped, waiting] {
            assert_eq!(child.end()["ready"], ID);
        }
        let posts = server
            .requests()
            .iter()
            .filter(|r| r.method == "POST")
            .count();
        assert_eq!(posts, 1);
    }
}

/// The service of the model test, with a clock of its own.
struct Model {
    random: Random,
    honored: bool,
    /// In seconds.
    now: u64,
    /// When each key was accepted, and as which agent.
    keys: HashMap<String, (u64, usize)>,
    billed: usize,
    /// Everything works from here on.
    is_good: bool,
    receipt: PathBuf,
    /// The receipt as it was when the last POST arrived.
    at_post: Option<Vec<u8>>,
}

impl Model {
    fn reply(&mut self, request: &Request) -> Option<Vec<u8>> {
        let reply = match request.header("idempotency-key") {
            Some(key) => self.generate(key)?,
            None if self.is_good || !self.random.one_in(4) => {
                let id = request.target.rsplit('/').next().unwrap();
                let data = json!({"data": {"agent_id": id, "status": "ready"}});
                Reply::json(if request.is_preflight() { 404 } else { 200 }, data)
            }
            None => match self.random.below(3) {
                0 => return None,
                1 => service_error(401, "UNAUTHORIZED"),
                _ => return Some(Reply::new(404, "").into()),
            },
        };
        Some(reply.header("date", http_date(self.now)).into())
    }

    fn generate(&mut self, key: &str) -> Option<Reply> {
        self.at_post = Some(fs::read(&self.receipt).unwrap());
        let what = if self.is_good {
            0
        } else {
            self.random.below(10)
        };
        match what {
            6 => return Some(service_error(422, "X")),
            7 => return Some(service_error(503, "SERVICE_UNAVAILABLE")),
            8 => return Some(service_error(500, "X")),
            9 => return None,
            _ => {}
        }
        let known = self.keys.get(key).filter(|_| self.honored);
        let number = match known {
            Some((time, number)) if self.now - time < 24 * 3600 => *number,
            _ => {
                self.billed += 1;
                self.keys.insert(key.into(), (self.now, self.billed));
                self.billed
            }
        };
        let id = format!("A{number}");
        match what {
            3 => None,
            4 => Some(service_error(500, "X")),
            5 => Some(Reply::json(502, json!({"agent_id": id}))),
            _ => Some(Reply::json(200, json!({"agent_id": id}))),
        }
    }
}

/// Random calls, kills, lost tails, responses and clocks: never two agents are billed, and no error
/// says "not billed" when one is.
#[test]
fn a_model_of_everything_that_goes_wrong() {
    let mut random = Random::new();
    let dir = TempDir::new();
    let model = Arc::new(Mutex::new(None::<Model>));
    let shared = model.clone();
    let server = serve(move |request| shared.lock().unwrap().as_mut().unwrap().reply(request));
    let (total, mut ready) = (count("RECEIPT_MODEL", 200), 0);
    for number in 0..total {
        let seed = random.below(u64::MAX);
        let receipt = dir.path(&number.to_string());
        *model.lock().unwrap() = Some(Model {
            random: Random(seed | 1),
            honored: seed & 2 == 0,
            now: 0,
            keys: HashMap::new(),
            billed: 0,
            is_good: false,
            receipt: receipt.clone(),
            at_post: None,
        });
        ready += usize::from(sequence(&mut random, &server, &model, &receipt));
    }
    assert!(
        ready * 4 > total,
        "only {ready} of {total} came to an agent"
    );
}

/// Returns whether there was an agent in the end.
fn sequence(
    random: &mut Random,
    server: &Server,
    model: &Mutex<Option<Model>>,
    receipt: &Path,
) -> bool {
    let with = |change: &mut dyn FnMut(&mut Model)| change(model.lock().unwrap().as_mut().unwrap());
    let (mut honored, mut billed, mut is_ready) = (false, 0, false);
    with(&mut |model| honored = model.honored);
    let mut story = vec![format!("honored: {honored}")];
    for step in 0..6 {
        let clock = FakeClock::new();
        clock.set_wall(UNIX_EPOCH + secs(random.below(2_000_000_000)));
        let api = real_api(&server.url)
            .clock(clock)
            .max_retries(random.below(3) as u32);
        let api = api.honors_idempotency_keys(honored).build().unwrap();
        with(&mut |model| model.is_good = step == 5);
        let result = match random.one_in(3) {
            true => api
                .generate_once(receipt, &small())
                .map(|generation| generation.agent_id),
            false => {
                let wait = Wait::new().timeout(secs(60));
                api.ensure_agent(receipt, &small(), &wait)
                    .map(|agent| agent.agent_id)
            }
        };
        let mut at_post = None;
        with(&mut |model| (billed, at_post) = (model.billed, model.at_post.take()));
        let after = fs::read(receipt).unwrap_or_default();
        // Killed when the POST was sent, or while what became of it was written down.
        let killed = at_post.filter(|_| step < 5 && random.one_in(2));
        if let Some(before) = &killed {
            let torn = after.get(before.len()..).unwrap_or_default();
            let torn = &torn[..random.below(torn.len() as u64 + 1) as usize];
            fs::write(receipt, [before, torn].concat()).unwrap();
        } else if after.len() > 1 && random.one_in(8) {
            let cut = 1 + random.below(after.len() as u64 - 1) as usize;
            let tail: &[u8] = if random.one_in(2) { b"" } else { b"\0\0\0\n" };
            fs::write(receipt, [&after[..cut], tail].concat()).unwrap();
            story.push(format!("cut at {cut} of {}", after.len()));
        }
        story.push(format!(
            "{result:?}, killed: {}, billed: {billed}",
            killed.is_some()
        ));
        assert!(billed <= 1, "{story:#?}");
        is_ready = result.is_ok();
        match result {
            Ok(id) => assert!(id == "A1" && billed == 1, "{story:#?}"),
            Err(error) => {
                let is_false = error.billing() == Billing::NotBilled && billed > 0;
                assert!(killed.is_some() || !is_false, "{story:#?}");
            }
        }
        let hours = random.below(16) * u64::from(random.one_in(2));
        with(&mut |model| model.now += hours * 3600);
    }
    is_ready
}
