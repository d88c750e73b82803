//! What a receipt promises: an agent is paid for once, nothing is lost, and no error says "not
//! billed" of what is billed.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, thread};

use bithuman::serde_json::{self, Value, json};
use bithuman::{
    Agent, Api, Billing, Error, ErrorKind, Event, GenerateRequest, Generation, Media, Wait,
};

use crate::shown::{Golden, assert_golden};

use crate::harness::{
    self, Act, FakeClock, ID, Reply, Request, SECRET, Server, TempDir, act, agent, alone_by, ms,
    real_api, secs, service_error, small, status, unless_it_hangs,
};

/// A service whose every response is set, and a folder for receipts.
pub struct Desk {
    pub dir: TempDir,
    pub server: Server,
    state: Arc<Mutex<State>>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    /// Given before the defaults. `None`: the connection closes without a response.
    posts: VecDeque<Option<Reply>>,
    polls: VecDeque<Reply>,
    preflight: Option<Option<Reply>>,
    /// The `Date` of every response: this many seconds into a day.
    date: Option<u64>,
    sent: Vec<String>,
    keys: Vec<String>,
    on_post: Option<Hook>,
    on_get: Option<Hook>,
}

/// As long as a key is sent again.
pub const KEY_LIFETIME: u64 = 23 * 60 * 60;

pub fn http_date(seconds: u64) -> String {
    let (day, rest) = (6 + seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("Sun, {day:02} Nov 1994 {hour:02}:{minute:02}:{second:02} GMT")
}

/// The service accepts a request, with a short response.
fn accepted() -> Reply {
    Reply::json(
        200,
        json!({"success": true, "agent_id": ID, "status": "processing"}),
    )
}

/// A server that gives each request this reply, or closes the connection.
pub fn serve(reply: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> Server {
    let act: Act = act(move |c| {
        while let Some(mut request) = c.any_head() {
            request.body = c.body(request.content_length());
            match reply(&request) {
                Some(bytes) => c.send(bytes),
                None => return,
            }
        }
    });
    Server::new([act])
}

impl Desk {
    fn new() -> Self {
        let state = Arc::new(Mutex::new(State {
            date: Some(0),
            ..State::default()
        }));
        let shared = state.clone();
        let server = serve(move |request| {
            let hook = {
                let mut state = shared.lock().unwrap();
                let key = request.header("idempotency-key");
                state.keys.extend(key.map(String::from));
                let name = match key {
                    Some(_) => "post",
                    None if request.is_preflight() => "get",
                    None => "poll",
                };
                state.sent.push(name.into());
                match name {
                    "post" => state.on_post.clone(),
                    "get" => state.on_get.clone(),
                    _ => None,
                }
            };
            if let Some(hook) = hook {
                hook();
            }
            let mut state = shared.lock().unwrap();
            let reply = match state.sent.last().map(String::as_str) {
                _ if request.is_preflight() => {
                    let unknown = || service_error(404, "AGENT_NOT_FOUND");
                    state.preflight.clone().unwrap_or_else(|| Some(unknown()))?
                }
                _ if request.method == "GET" => {
                    state.polls.pop_front().unwrap_or_else(|| status("ready"))
                }
                _ => state
                    .posts
                    .pop_front()
                    .unwrap_or_else(|| Some(accepted()))?,
            };
            let reply = match state.date {
                Some(seconds) => reply.header("date", http_date(seconds)),
                None => reply,
            };
            Some(reply.into())
        });
        Desk {
            dir: TempDir::new(),
            server,
            state,
        }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn path(&self) -> PathBuf {
        self.dir.path("agent.receipt")
    }

    /// A client that sends each request once.
    fn api(&self, honored: bool) -> Api {
        let builder = self.server.builder().max_retries(0);
        builder.honors_idempotency_keys(honored).build().unwrap()
    }

    fn once(&self, honored: bool) -> Result<Generation, Error> {
        self.api(honored).generate_once(self.path(), &small())
    }

    fn ensure(&self, honored: bool) -> Result<Agent, Error> {
        self.ensure_at(&self.path(), honored)
    }

    fn ensure_at(&self, path: &Path, honored: bool) -> Result<Agent, Error> {
        self.api(honored).ensure_agent(path, &small(), &Wait::new())
    }

    /// Locks the receipt as another process would.
    fn hold(&self) -> File {
        let options = File::options().append(true).create(true).clone();
        let file = options.open(self.path()).unwrap();
        file.lock().unwrap();
        file
    }

    /// Adds lines as another process would, which holds the receipt.
    fn append(&self, mut held: &File, lines: &[&str]) {
        let lines: String = lines.iter().map(|name| self.line(name)).collect();
        held.write_all(lines.as_bytes()).unwrap();
    }

    /// What was sent since this was last asked.
    fn sent(&self) -> String {
        std::mem::take(&mut self.state.lock().unwrap().sent).join(" ")
    }

    fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().keys.clone()
    }

    /// Writes a receipt with these lines, of which `line` knows the names.
    fn write(&self, lines: &str) {
        if !lines.is_empty() {
            let lines: Vec<String> = lines.split(", ").map(|name| self.line(name)).collect();
            fs::write(self.path(), lines.concat()).unwrap();
        }
    }

    /// `sending K`, `sending K timeless`, `named K`, `accepted K`, or `ready K` and other ends.
    fn line(&self, name: &str) -> String {
        let (name, key) = name.split_once(' ').unwrap();
        let (key, timeless) = key.split_once(' ').unwrap_or((key, ""));
        let line = match name {
            "sending" => {
                let mut line = json!({"sending": {
                    "format": 1, "base_url": self.server.url, "key": key,
                    "date": http_date(0), "request": *FINGERPRINTS,
                }});
                if !timeless.is_empty() {
                    line["sending"].as_object_mut().unwrap().remove("date");
                }
                line
            }
            "named" => json!({"named": {"key": key, "agent_id": ID}}),
            "accepted" => json!({"accepted": {
                "agent_id": ID, "idempotency_key": key, "replayed": false,
            }}),
            status => json!({"ended": {
                "key": key, "agent": {"agent_id": ID, "status": status, "name": "n"},
            }}),
        };
        format!("{line}\n")
    }

    /// The receipt's lines in the words of `line`, with the keys that this crate minted as `*`.
    fn read(&self) -> String {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let mut names = Vec::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (name, content) = line.as_object().unwrap().iter().next().unwrap();
            let word = content["agent"]["status"].as_str().unwrap_or(name);
            let key = content
                .get("key")
                .or(content.get("idempotency_key"))
                .unwrap();
            let key = key.as_str().unwrap();
            let key = if key.len() > 30 { "*" } else { key };
            names.push(format!("{word} {key}"));
        }
        names.join(", ")
    }
}

/// What a receipt says of the request `small()`.
static FINGERPRINTS: LazyLock<Value> = LazyLock::new(|| {
    let (dir, server) = (TempDir::new(), serve(|_| Some(accepted().into())));
    let path = dir.path("agent.receipt");
    server
        .builder()
        .build()
        .unwrap()
        .generate_once(&path, &small())
        .unwrap();
    let text = fs::read_to_string(path).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    line["sending"]["request"].clone()
});

/// A result in few words: `ready`, or the kind, the billing and whether an agent is named.
fn told<T>(result: &Result<T, Error>) -> String {
    let Err(error) = result else {
        return "ready".into();
    };
    let agent = error.agent_id().map_or("", |_| " agent");
    format!("{:?} {:?}{agent}", error.kind(), error.billing())
}

/// How the service of a row behaves.
fn behave(state: &mut State, name: &str) {
    let refused = || service_error(401, "UNAUTHORIZED");
    let (number, rest) = name.split_once(' ').unwrap_or((name, ""));
    let code: u16 = number.parse().unwrap_or_default();
    match (code, rest) {
        (_, "to the GET") => state.preflight = Some(Some(refused())),
        (_, "at the GET") => state.preflight = Some(None),
        (_, "to the poll") => state.polls = [refused()].into(),
        (200, _) => {
            let text = format!("[{{\"agent_id\": \"{ID}\"}}]");
            state.posts = [Some(Reply::new(200, text))].into();
        }
        (201, _) => {
            let reply = Reply::json(200, json!({"agent_id": "A\u{7}"}));
            state.posts = [Some(reply)].into();
        }
        (503, _) => state.posts = [Some(service_error(503, "SERVICE_UNAVAILABLE"))].into(),
        (300.., "with an id") => {
            let body = json!({"error": {"code": "X"}, "agent_id": ID});
            state.posts = [Some(Reply::json(code, body))].into();
        }
        (300.., _) => state.posts = [Some(service_error(code, "X"))].into(),
        _ if number == "breaks" => state.posts = [None].into(),
        _ if number == "young" => state.date = Some(KEY_LIFETIME - 1),
        _ if number == "old" => state.date = Some(KEY_LIFETIME),
        _ if number == "timeless" => state.date = None,
        _ if number == "-" => {}
        _ => state.polls = [status(number)].into(),
    }
}

/// The rules, from end to end: the receipt, whether keys are honored, the caller's key, the
/// service; what is sent, what is returned, the receipt after. `*` is a key that was minted.
const ROWS: &str = "
|yes|-|-|get post poll|ready|sending *, accepted *, ready *
|no|-|-|post poll|ready|sending *, accepted *, ready *
|no|K|-|post poll|ready|sending K, accepted K, ready K
# A refused request leaves no line.
|yes|-|422|get post|Rejected NotBilled|
|no|-|422|post|Rejected NotBilled|
|yes|-|401 to the GET|get|Unauthorized NotBilled|
|yes|-|503|get post|Service NotBilled|
|yes|-|breaks at the GET|get get post poll|ready|sending *, accepted *, ready *
|yes|-|422 with an id|get post|Rejected NotBilled agent|
# What may have been accepted stays.
|yes|-|breaks|get post|Network Unknown|sending *
|no|-|breaks|post|Network Unknown|sending *
|yes|-|500|get post|Service Unknown|sending *
|yes|-|500 with an id|get post|Service Unknown agent|sending *, named *
|no|-|200 in another shape|post|UnexpectedResponse Billed agent|sending *, accepted *
# How the wait ends.
|no|-|201 with an id that no URL can carry|post|InvalidInput Billed agent|sending *, accepted *
|no|-|failed|post poll|GenerationFailed Refunded agent|sending *, accepted *, failed *
|no|-|deleted|post poll|NotFound Billed agent|sending *, accepted *, deleted *
|no|-|401 to the poll|post poll|Unauthorized Billed agent|sending *, accepted *
# A key that is found. A refusal of it says nothing of the earlier call.
sending K|yes|-|-|get post poll|ready|sending K, accepted K, ready K
sending K|yes|K|-|get post poll|ready|sending K, accepted K, ready K
sending K|yes|-|young|get post poll|ready|sending K, accepted K, ready K
sending K|yes|-|old|get|Receipt Unknown|sending K
sending K|yes|-|timeless|get|UnexpectedResponse Unknown|sending K
sending K timeless|yes|-|-||Receipt Unknown|sending K
sending K|yes|-|401 to the GET|get|Unauthorized Unknown|sending K
sending K|yes|-|breaks at the GET|get get|Network Unknown|sending K
sending K|yes|-|422|get post|Rejected Unknown|sending K
sending K|no|-|-||Receipt Unknown|sending K
sending K|yes|L|-||Receipt Unknown|sending K
sending K, named K|no|-|-||Receipt Unknown agent|sending K, named K
sending K, named K|yes|-|-|get post poll|ready|sending K, named K, accepted K, ready K
sending K, named K|yes|-|422|get post|Rejected Unknown agent|sending K, named K
# An agent that is found.
sending K, accepted K|yes|-|-|poll|ready|sending K, accepted K, ready K
sending K, accepted K|yes|L|-||Receipt NotBilled|sending K, accepted K
sending K, accepted K, ready K|yes|-|-||ready|sending K, accepted K, ready K
sending K, accepted K, deleted K|yes|-|-||NotFound Billed agent|sending K, accepted K, deleted K
# After a failed generation.
sending K, accepted K, failed K|no|-|-|post poll|ready|sending K, accepted K, failed K, sending *, accepted *, ready *
sending K, accepted K, failed K|yes|L|-|get post poll|ready|sending K, accepted K, failed K, sending L, accepted L, ready L
sending K, accepted K, failed K|yes|K|-||GenerationFailed Refunded agent|sending K, accepted K, failed K
sending K, accepted K, failed K|yes|-|422|get post|Rejected NotBilled|sending K, accepted K, failed K
sending K, accepted K, failed K, sending L|yes|-|old|get|Receipt Unknown|sending K, accepted K, failed K, sending L
";

#[test]
fn what_is_sent_and_written_down() {
    let mut golden = Golden::default();
    for row in ROWS.lines().filter(|row| row.contains('|')) {
        let cells: Vec<&str> = row.split('|').collect();
        let [lines, honored, key, service, expected @ ..] = &cells[..] else {
            panic!("{row}");
        };
        let desk = Desk::new();
        desk.set(|state| behave(state, service));
        desk.write(lines);
        let request = match *key {
            "-" => small(),
            key => small().idempotency_key(key),
        };
        let api = desk.api(*honored == "yes");
        let result = api.ensure_agent(desk.path(), &request, &Wait::new());
        let found = [desk.sent(), told(&result), desk.read()];
        assert_eq!(found, expected, "{row}: {result:?}");
        if let Err(error) = result {
            // One line, which has the key but where that is another request's.
            let text = error.to_string();
            let is_others = text.contains("undo that");
            assert_eq!(error.idempotency_key().is_none(), is_others, "{text}");
            assert!(!text.contains('\n'), "{text}");
            golden.add(&cells[..4].join("|"), [error]);
        }
    }
    // The file has the paths of Unix.
    if cfg!(unix) {
        assert_golden("receipts.txt", golden.text.trim_start());
    }
}

#[test]
fn generate_once_returns_the_agent_of_the_receipt() {
    let failed = "sending K, accepted K, failed K";
    for (lines, more) in [
        ("", "sending *, accepted *"),
        ("sending K, accepted K", ""),
        ("sending K, accepted K, ready K", ""),
        (failed, ", sending *, accepted *"),
    ] {
        let desk = Desk::new();
        desk.write(lines);
        let api = desk.api(false);
        let generation = api.generate_once(desk.path(), &small()).unwrap();
        let found = (generation.agent_id.as_str(), generation.replayed);
        assert_eq!(found, (ID, more.is_empty()));
        let sent = if more.is_empty() { "" } else { "post" };
        assert_eq!(
            (&*desk.sent(), desk.read()),
            (sent, format!("{lines}{more}"))
        );
    }
    for (word, key, expected) in [
        ("failed", "K", "GenerationFailed Refunded agent"),
        ("deleted", "L", "Receipt NotBilled"),
        ("deleted", "K", "NotFound Billed agent"),
    ] {
        let desk = Desk::new();
        desk.write(&format!("sending K, accepted K, {word} K"));
        let request = small().idempotency_key(key);
        let result = desk.api(false).generate_once(desk.path(), &request);
        assert_eq!((&*told(&result), &*desk.sent()), (expected, ""));
        let text = result.unwrap_err().to_string();
        let is_named = text.starts_with("generate_once: ");
        assert!(is_named && text.contains("another"), "{text}");
    }
}

/// The receipt is on the disk before the request is sent, with neither the secret nor the prompt.
#[test]
fn the_key_is_written_down_first() {
    let desk = Desk::new();
    let (path, seen) = (desk.path(), Arc::new(Mutex::new(String::new())));
    let at_post = seen.clone();
    desk.set(|state| {
        state.on_post = Some(Arc::new(move || {
            *at_post.lock().unwrap() = fs::read_to_string(&path).unwrap();
        }));
    });
    let request = GenerateRequest::new()
        .prompt("a long prompt")
        .image(Media::bytes([1]));
    desk.api(true).generate_once(desk.path(), &request).unwrap();
    let line: Value = serde_json::from_str(seen.lock().unwrap().trim_end()).unwrap();
    let sending = &line["sending"];
    assert_eq!(sending["format"], 1);
    assert_eq!(sending["key"], desk.keys()[0]);
    assert_eq!(
        (&sending["date"], &sending["base_url"]),
        (&json!(http_date(0)), &json!(desk.server.url))
    );
    let names: Vec<_> = sending["request"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["image", "prompt"]);
    let text = fs::read_to_string(desk.path()).unwrap();
    assert!(
        !text.contains(SECRET) && !text.contains("long prompt"),
        "{text}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(desk.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// One line with the path, at once, with nothing sent and nothing changed.
#[test]
fn a_path_that_cannot_be_a_receipt_is_refused() {
    let desk = Desk::new();
    let path = |name: &str| desk.dir.path(name);
    fs::create_dir(path("folder")).unwrap();
    let newer = desk
        .line("sending K")
        .replace("\"format\":1", "\"format\":2");
    let others = desk.line("sending K") + &desk.line("accepted K");
    let texts = [
        ("foreign", "[package]\n".into()),
        ("long", others.clone() + &"\n".repeat(16 * 1024 * 1024)),
        ("newer", newer),
        ("others", others.replace("json ", "json 0")),
    ];
    for (name, text) in &texts {
        fs::write(path(name), text).unwrap();
    }
    let mut rows = vec![
        (path("folder"), "is a folder", "Receipt NotBilled"),
        (path("new/"), "ends in a separator", "Receipt NotBilled"),
        (
            path("no").join("x"),
            "its folder, or the target of a link, does not exist",
            "Receipt NotBilled",
        ),
        (
            path("others"),
            "is for agent A91XMB7113, created with another prompt",
            "Receipt NotBilled",
        ),
        (
            path("foreign"),
            "is not a receipt; nothing was sent",
            "Receipt NotBilled",
        ),
        (
            path("newer"),
            "has format 2, which a later version",
            "Receipt Unknown",
        ),
        (path("long"), "is too long", "Receipt Unknown"),
        ("".into(), "has an empty path", "Receipt NotBilled"),
    ];
    if cfg!(unix) {
        run("mkfifo", &[&path("fifo")]);
        rows.push((path("fifo"), "is not a regular file", "Receipt NotBilled"));
        rows.push((
            "/dev/null".into(),
            "is not a regular file",
            "Receipt NotBilled",
        ));
        rows.push((path("foreign/x"), "Not a directory", "Receipt NotBilled"));
    }
    let mut golden = Golden::default();
    for (path, what, expected) in rows {
        let (api, shown) = (desk.api(true), format!("the receipt {}", path.display()));
        let call = move || api.ensure_agent(path, &small(), &Wait::new());
        let result = unless_it_hangs(call);
        assert_eq!(told(&result), expected, "{result:?}");
        let error = result.unwrap_err();
        let text = error.to_string();
        golden.add(what, [error]);
        assert!(
            text.starts_with(&format!("ensure_agent: {}", shown.trim())),
            "{text}"
        );
        assert!(
            text.contains(what) && text.contains(';') && !text.contains('\n'),
            "{text}"
        );
    }
    if cfg!(unix) {
        assert_golden("receipt_files.txt", golden.text.trim_start());
    }
    for (name, text) in &texts {
        assert_eq!(fs::read_to_string(path(name)).unwrap(), *text);
    }
    assert_eq!(desk.sent(), "");
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// What is wrong with the request is found before the receipt is read, which may be of an agent.
#[test]
fn an_error_before_the_receipt_was_read_is_not_called_unbilled() {
    let bad = [
        small().image(Media::file("no such file")),
        small().idempotency_key(""),
        small().field("prompt", "p"),
    ];
    for (lines, billing) in [
        ("", "NotBilled"),
        ("sending K", "Unknown"),
        ("sending K, accepted K", "NotBilled"),
    ] {
        let desk = Desk::new();
        desk.write(lines);
        let (api, path, expected) = (
            desk.api(true),
            desk.path(),
            format!("InvalidInput {billing}"),
        );
        for request in &bad {
            let result = api.generate_once(&path, request);
            assert_eq!(told(&result), expected);
            // The key of this call was never sent.
            assert_eq!(result.unwrap_err().idempotency_key(), None);
        }
        let wait = Wait::new().interval(Duration::ZERO);
        assert_eq!(told(&api.ensure_agent(&path, &small(), &wait)), expected);
        assert_eq!((&*desk.sent(), &*desk.read()), ("", lines));
    }
}

/// No lock, no secret, no network; as an editor or git may have saved it.
#[test]
fn a_finished_receipt_needs_nothing() {
    let desk = Desk::new();
    desk.write("sending K, accepted K, ready K");
    let text = fs::read_to_string(desk.path()).unwrap();
    let api = Api::builder().base_url(&desk.server.url).build().unwrap();
    let now = Wait::new().timeout(Duration::ZERO);
    for text in [
        text.clone(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.trim_end().into(),
        format!("{text}\n\n"),
        format!("{text}\0\0\0"),
    ] {
        fs::write(desk.path(), &text).unwrap();
        let _held = desk.hold();
        let agent = api.ensure_agent(desk.path(), &small(), &now).unwrap();
        let generation = api.generate_once(desk.path(), &small()).unwrap();
        assert_eq!((&*agent.agent_id, &*generation.agent_id), (ID, ID));
        assert_eq!(fs::read_to_string(desk.path()).unwrap(), text);
    }
    // Another request is refused without a lock too.
    let _held = desk.hold();
    let error = api
        .generate_once(desk.path(), &small().model("m"))
        .unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
    api.shutdown();
    assert!(api.generate_once(desk.path(), &small()).unwrap().replayed);
    // A first request needs a secret.
    let api = Api::builder().base_url(&desk.server.url).build().unwrap();
    let result = api.generate_once(desk.dir.path("new"), &small());
    assert_eq!(told(&result), "InvalidInput NotBilled");
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("BITHUMAN_API_SECRET")
    );
    assert_eq!(desk.sent(), "");
}

/// A new line would join a torn one, and both would be lost: with the second the id.
#[test]
fn a_torn_end_is_cut_before_a_line_is_added() {
    let desk = Desk::new();
    for torn in [
        "{\"accep",
        "{\"accepted\":\n",
        "\0\0\0\n",
        "\0",
        " \r\n",
        "",
    ] {
        for start in ["sending K", "sending K, accepted K, failed K"] {
            desk.write(start);
            let text = fs::read_to_string(desk.path()).unwrap();
            let text = if torn.is_empty() {
                text.trim_end()
            } else {
                &text
            }
            .to_owned()
                + torn;
            for text in [text.clone(), text.replace('\n', "\r\n")] {
                fs::write(desk.path(), text).unwrap();
                desk.once(true).unwrap();
                let lines = desk.read();
                assert!(
                    lines.starts_with(start) && lines.contains("accepted"),
                    "{lines}"
                );
            }
        }
    }
}

/// A finished receipt that lost its tail is never paid for again, and never has another agent.
#[test]
fn a_receipt_cut_anywhere_is_not_paid_for_again() {
    let desk = Desk::new();
    desk.write("sending K, accepted K, ready K");
    let whole = fs::read(desk.path()).unwrap();
    for cut in 1..whole.len() {
        let tail: &[u8] = if cut % 2 == 0 { b"" } else { b"\0\0\0" };
        fs::write(desk.path(), [&whole[..cut], tail].concat()).unwrap();
        match desk.ensure(cut % 3 == 0) {
            Ok(agent) => assert_eq!(agent.agent_id, ID),
            Err(error) => assert_eq!(error.billing(), Billing::Unknown, "{error}"),
        }
    }
    let keys = desk.keys();
    assert!(keys.iter().all(|key| key == "K"), "{keys:?}");
}

/// Our own clock never says how old a key is: small hosts wake up at the hour they went down, or in
/// 1970.
#[test]
fn the_age_of_a_key_is_that_on_the_services_clock() {
    const HOUR: u64 = 3600;
    let today = 1_800_000_000;
    for (first, second, service, is_sent) in [
        // Our clock at either call, the hours between them by the service's, sent again.
        (today, today, 0, true),
        (today + 12 * HOUR, today, 1, true),
        (today, 0, 1, true),
        (0, today, 22, true),
        (today, today + 30 * HOUR, 22, true),
        (today, today, 23, false),
        (today, today, 30, false),
        (today + 24 * HOUR, today, 30, false),
        (0, 0, 99, false),
    ] {
        let desk = Desk::new();
        desk.set(|state| state.posts = [None].into());
        let call = |wall| {
            let clock = FakeClock::new();
            clock.set_wall(UNIX_EPOCH + secs(wall));
            let builder = real_api(&desk.server.url).clock(clock).max_retries(0);
            let api = builder.honors_idempotency_keys(true).build().unwrap();
            told(&api.generate_once(desk.path(), &small()))
        };
        assert_eq!(call(first), "Network Unknown");
        desk.set(|state| state.date = Some(service * HOUR));
        let expected = if is_sent { "ready" } else { "Receipt Unknown" };
        assert_eq!(call(second), expected, "{first} {second} {service}");
        let keys = desk.keys();
        assert!(keys.len() == 1 + usize::from(is_sent) && keys.iter().all(|key| *key == keys[0]));
    }
}

#[test]
fn a_date_that_is_missing_or_odd_or_a_caches_is_none() {
    let cached = Reply::new(200, "").header("date", http_date(60));
    for preflight in [
        Reply::new(404, ""),
        Reply::new(200, "").header("date", "yesterday"),
        cached.header("age", "0"),
    ] {
        let desk = Desk::new();
        desk.set(|state| {
            state.date = None;
            state.preflight = Some(Some(preflight));
            state.posts = [None].into();
        });
        // A key without a time; then one with a time, at a service without.
        assert!(!desk.once(true).unwrap_err().is_retryable());
        assert_eq!(told(&desk.once(true)), "Receipt Unknown");
        assert_eq!(desk.sent(), "get post");
        desk.write("sending K");
        let result = desk.once(true);
        assert_eq!(told(&result), "UnexpectedResponse Unknown");
        assert!(
            result.unwrap_err().is_retryable(),
            "it may have one the next time"
        );
        assert_eq!(desk.sent(), "get");
    }
}

/// The process is stopped, or the computer suspended, between the free request and the POST, or in
/// the delay before a retry.
#[test]
fn the_age_is_looked_at_again_before_each_post() {
    for (lines, sent) in [("sending K", "get"), ("", "get post")] {
        let desk = Desk::new();
        desk.write(lines);
        desk.set(|state| {
            state.posts = [None].into();
            state.date = Some(KEY_LIFETIME / 2);
        });
        let clock = FakeClock::real();
        let sleeper = clock.clone();
        // More than the key has left: one that is new, or one that was found.
        let hours = if lines.is_empty() { 24 } else { 13 };
        let suspend = move || sleeper.suspend(secs(hours * 3600));
        match lines {
            "" => clock.on_sleep(suspend),
            _ => desk.set(|state| state.on_get = Some(Arc::new(suspend))),
        }
        let builder = real_api(&desk.server.url).clock(clock);
        let api = builder.honors_idempotency_keys(true).build().unwrap();
        let error = api.generate_once(desk.path(), &small()).unwrap_err();
        assert_eq!(
            (error.billing(), error.is_retryable()),
            (Billing::Unknown, false)
        );
        assert_eq!(desk.sent(), sent, "{error}");
    }
}

/// An id in an error stays with the call, whatever the retry says. It is written down before the
/// delay, in which the process may be killed.
#[test]
fn an_agent_named_by_an_error_that_is_retried_is_not_lost() {
    for (second, lines) in [
        (json!({"error": "X"}), "sending *, named *"),
        (
            json!({"error": "X", "agent_id": "A-OTHER"}),
            "sending *, named *",
        ),
    ] {
        let desk = Arc::new(Desk::new());
        let named = Reply::json(500, json!({"error": "X", "agent_id": ID}));
        desk.set(|state| state.posts = [Some(named), Some(Reply::json(422, second))].into());
        let (clock, shared) = (FakeClock::new(), desk.clone());
        clock.on_sleep(move || assert_eq!(shared.read(), "sending *, named *"));
        let builder = real_api(&desk.server.url).clock(clock.clone());
        let api = builder.honors_idempotency_keys(true).build().unwrap();
        let result = api.generate_once(desk.path(), &small());
        assert_eq!(told(&result), "Rejected Unknown agent");
        assert_eq!(result.unwrap_err().agent_id(), Some(ID));
        assert_eq!((&*desk.sent(), &*desk.read()), ("get post post", lines));
        assert_eq!(clock.sleeps().len(), 1);
        assert_eq!(desk.once(false).unwrap_err().agent_id(), Some(ID));
    }
}

/// An agent that a refusal names is another one.
#[test]
fn the_agent_of_a_refusal_does_not_hide_the_one_that_may_be_billed() {
    let with = |status, id| {
        let body = json!({"error": {"code": "X"}, "agent_id": id});
        Some(Reply::json(status, body))
    };
    let desk = Desk::new();
    desk.set(|state| state.posts = [with(429, "A-OTHER"), with(500, ID)].into());
    let api = real_api(&desk.server.url)
        .clock(FakeClock::new())
        .build()
        .unwrap();
    let error = api.generate_once(desk.path(), &small()).unwrap_err();
    assert_eq!(
        (error.agent_id(), error.billing()),
        (Some(ID), Billing::Unknown)
    );
    assert_eq!(
        (&*desk.sent(), &*desk.read()),
        ("post post", "sending *, named *")
    );
    assert!(fs::read_to_string(desk.path()).unwrap().contains(ID));
}

#[test]
fn the_line_that_an_error_shows_completes_the_receipt() {
    for lines in ["sending K", "sending K, named K"] {
        let desk = Desk::new();
        desk.write(lines);
        let text = desk.ensure(false).unwrap_err().to_string();
        let (_, rest) = text.split_once("add ").unwrap();
        let (line, _) = rest.split_once("}}").unwrap();
        let line = format!("{line}}}}}");
        let line = line.replace("\"ID\"", &format!("\"{ID}\""));
        let mut file = File::options().append(true).open(desk.path()).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        assert_eq!(desk.ensure(false).unwrap().agent_id, ID);
        assert_eq!(desk.sent(), "poll");
    }
}

/// Others wait for the lock meanwhile.
#[test]
fn no_long_retry_after_is_waited_for_under_the_lock() {
    for (seconds, sent) in [("60", "post post poll"), ("61", "post")] {
        let desk = Desk::new();
        let busy = service_error(429, "RATE_LIMITED").header("retry-after", seconds);
        desk.set(|state| state.posts = [Some(busy)].into());
        let api = desk.server.builder().build().unwrap();
        let result = api.ensure_agent(desk.path(), &small(), &Wait::new());
        assert_eq!((&*desk.sent(), result.is_ok()), (sent, seconds == "60"));
    }
}

/// Another call may be sending: an error that waited for the lock in vain must not say otherwise.
#[test]
fn a_lock_is_waited_for_until_the_deadline_or_a_shutdown() {
    for lines in ["", "sending K"] {
        let desk = Desk::new();
        desk.write(lines);
        let _held = desk.hold();
        for timeout in [Duration::ZERO, secs(60)] {
            let (clock, wait) = (FakeClock::new(), Wait::new().timeout(timeout));
            let builder = real_api(&desk.server.url).clock(clock.clone());
            let api = builder.build().unwrap();
            let result = api.ensure_agent(desk.path(), &small(), &wait);
            assert_eq!(told(&result), "WaitTimedOut Unknown");
            assert!(result.unwrap_err().is_retryable());
            assert_eq!(clock.sleeps().iter().sum::<Duration>(), timeout);
        }
        // Without a deadline: as long as a generate request may take.
        let clock = FakeClock::new();
        let api = real_api(&desk.server.url)
            .clock(clock.clone())
            .build()
            .unwrap();
        assert_eq!(
            told(&api.generate_once(desk.path(), &small())),
            "WaitTimedOut Unknown"
        );
        let waited: Duration = clock.sleeps().iter().sum();
        assert!(waited > secs(3600) && waited < secs(3 * 3600), "{waited:?}");

        let api = real_api(&desk.server.url).build().unwrap();
        let (stopper, path) = (api.clone(), desk.path());
        let call = thread::spawn(move || api.generate_once(path, &small()));
        thread::sleep(ms(100));
        stopper.shutdown();
        let result = unless_it_hangs(move || call.join().unwrap());
        assert_eq!(told(&result), "ShutDown Unknown");
        assert_eq!((&*desk.sent(), &*desk.read()), ("", lines));
    }
}

/// Two live callers, and a service that takes its time and knows the key only then.
#[test]
fn twins_send_one_request() {
    for honored in [true, false] {
        let desk = Desk::new();
        desk.set(|state| state.on_post = Some(Arc::new(|| thread::sleep(ms(250)))));
        let builder = real_api(&desk.server.url).honors_idempotency_keys(honored);
        let (api, wait) = (builder.build().unwrap(), Wait::new().interval(ms(1)));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let agent = api.ensure_agent(desk.path(), &small(), &wait).unwrap();
                    assert_eq!(agent.agent_id, ID);
                });
            }
        });
        assert_eq!(desk.keys().len(), 1);
        assert_eq!(desk.read(), "sending *, accepted *, ready *");
    }
}

/// A call that waits for the lock finds a failure there that its caller was not told.
#[test]
fn a_second_failure_is_told_and_not_paid_for() {
    for before in ["", "sending K, accepted K, failed K"] {
        let desk = Desk::new();
        desk.write(before);
        let held = desk.hold();
        let api = real_api(&desk.server.url).build().unwrap();
        thread::scope(|scope| {
            let call = scope.spawn(|| api.ensure_agent(desk.path(), &small(), &Wait::new()));
            thread::sleep(ms(150));
            desk.append(&held, &["sending L", "accepted L", "failed L"]);
            // Wine reports that nothing is locked any more.
            let _ = held.unlock();
            let result = call.join().unwrap();
            assert_eq!(told(&result), "GenerationFailed Refunded agent");
            let error = result.unwrap_err();
            assert_eq!(error.idempotency_key(), Some("L"));
            assert!(
                error.to_string().contains("the same call again pays"),
                "{error}"
            );
        });
        assert_eq!(desk.sent(), "");
        desk.ensure(false).unwrap();
        assert_eq!(desk.sent(), "post poll");
    }
}

/// Two processes poll A1, one records its failure, a third pays for A2: then the slow one must not
/// record A1's failure, or the next call pays again.
#[test]
fn a_late_end_is_not_written() {
    let others = ["failed K", "sending L", "accepted L"];
    for number in 0..=3 {
        let desk = Arc::new(Desk::new());
        desk.write("sending K, accepted K");
        desk.set(|state| state.polls = [status("failed")].into());
        let shared = desk.clone();
        let api = desk.api(false).on_event(move |event| {
            if let Event::Polled { .. } = event {
                shared.append(&shared.hold(), &others[..number]);
            }
        });
        let error = api
            .ensure_agent(desk.path(), &small(), &Wait::new())
            .unwrap_err();
        let after = others[..number.max(1)].join(", ");
        assert_eq!(desk.read(), format!("sending K, accepted K, {after}"));
        let pays = error.to_string().contains("the same call again pays");
        assert_eq!(
            (error.kind(), pays),
            (ErrorKind::GenerationFailed, number < 2),
            "{error}"
        );
    }
}

/// A program may end itself when it hears of the agent.
#[test]
fn the_agent_is_written_down_before_it_is_reported() {
    let desk = Arc::new(Desk::new());
    let (shared, heard) = (desk.clone(), Arc::new(Mutex::new(String::new())));
    let read = heard.clone();
    let api = desk.api(true).on_event(move |event| {
        if let Event::Accepted { .. } = event {
            *read.lock().unwrap() = shared.read();
            // Nobody waits for this function.
            let file = fs::File::open(shared.path()).unwrap();
            file.try_lock().unwrap();
        }
    });
    api.generate_once(desk.path(), &small()).unwrap();
    assert_eq!(*heard.lock().unwrap(), "sending *, accepted *");
}

#[test]
fn another_programs_file_is_refused_at_once_though_it_is_locked() {
    let desk = Desk::new();
    fs::write(desk.path(), "[package]\n").unwrap();
    let _held = desk.hold();
    let result = desk.ensure(true);
    assert_eq!(told(&result), "Receipt NotBilled", "{result:?}");
    assert!(desk.api(true).generate_once(desk.path(), &small()).is_err());
    // Nor does bad input make it a receipt.
    let error = desk
        .api(true)
        .generate_once(desk.path(), &small().image(Media::file("missing.jpg")))
        .unwrap_err();
    assert_eq!(error.billing(), Billing::NotBilled, "{error}");
    assert_eq!(desk.sent(), "");
}

#[test]
fn a_refusal_names_the_agent_that_only_an_error_named() {
    let desk = Desk::new();
    desk.write("sending K, named K");
    let other = desk
        .api(true)
        .generate_once(desk.path(), &small().prompt("other"));
    let error = other.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("may have created agent {ID}")),
        "{error}"
    );
    assert_eq!(error.billing(), Billing::Unknown);
}

#[test]
fn an_end_that_cannot_be_written_is_no_error() {
    for (word, expected) in [
        ("ready", "ready"),
        ("failed", "GenerationFailed Refunded agent"),
    ] {
        let desk = Arc::new(Desk::new());
        desk.write("sending K, accepted K");
        desk.set(|state| state.polls = [status(word)].into());
        let (shared, held) = (desk.clone(), Mutex::new(None));
        let api = desk.api(false).on_event(move |event| {
            if let Event::Polled { .. } = event {
                *held.lock().unwrap() = Some(shared.hold());
            }
        });
        let result = api.ensure_agent(desk.path(), &small(), &Wait::new());
        assert_eq!(
            (&*told(&result), &*desk.read()),
            (expected, "sending K, accepted K")
        );
    }
    // A receipt that was deleted meanwhile does not come back.
    let desk = Arc::new(Desk::new());
    desk.write("sending K, accepted K");
    let shared = desk.clone();
    let api = desk.api(false).on_event(move |event| {
        if let Event::Polled { .. } = event {
            fs::remove_file(shared.path()).unwrap();
        }
    });
    api.ensure_agent(desk.path(), &small(), &Wait::new())
        .unwrap();
    assert!(!desk.path().exists());
}

/// What a wait for a model ends with is no end of the agent: it must not make a later call pay.
#[test]
fn a_model_that_is_waited_for_does_not_end_the_receipt() {
    let with = |word: &str, state: &str| {
        let states = json!({"essence-2": {"state": state}});
        agent(json!({"status": word, "model_status": states}))
    };
    let accepted = "sending K, accepted K";
    for (before, reply, expected, after) in [
        ("", with("ready", "ready"), "ready", ", ready K"),
        ("", with("completed", "ready"), "ready", ""),
        ("", with("failed", "ready"), "ready", ""),
        (
            "",
            with("completed", "failed"),
            "GenerationFailed Billed agent",
            "",
        ),
        (
            "",
            with("failed", "failed"),
            "GenerationFailed Refunded agent",
            ", failed K",
        ),
        (
            "",
            with("failed", "pending"),
            "WaitTimedOut Billed agent",
            "",
        ),
        // An agent that was ready without the model is asked for again.
        (", ready K", with("ready", "ready"), "ready", ", ready K"),
        (
            ", ready K",
            with("ready", "failed"),
            "GenerationFailed Billed agent",
            ", ready K",
        ),
    ] {
        let desk = Desk::new();
        desk.write(&format!("{accepted}{before}"));
        if !before.is_empty() {
            let text = fs::read_to_string(desk.path()).unwrap();
            let other = r#""name":"n","supported_models":[]"#;
            fs::write(desk.path(), text.replace(r#""name":"n""#, other)).unwrap();
        }
        desk.set(|state| state.polls = [reply.clone(), reply].into());
        let wait = Wait::new().model("essence-2");
        let wait = wait.interval(secs(60)).timeout(secs(60));
        let result = desk.api(false).ensure_agent(desk.path(), &small(), &wait);
        assert_eq!(
            (&*told(&result), &*desk.sent().replace(" poll", "")),
            (expected, "poll"),
            "{result:?}"
        );
        assert_eq!(desk.read(), format!("{accepted}{after}"));
        if let Err(error) = result {
            let says_it = error.to_string().contains("pays for another");
            assert_eq!(says_it, after == ", failed K", "{error}");
        }
    }
}

#[test]
fn only_after_the_agent_is_created_a_poll_waits_for_the_interval() {
    for (before, sleeps) in [("", vec![secs(5)]), ("sending K, accepted K", Vec::new())] {
        let desk = Desk::new();
        desk.write(before);
        desk.ensure(false).unwrap();
        assert_eq!(desk.server.clock.sleeps(), sleeps);
    }
}

#[test]
fn a_field_of_4_kib_is_kept_and_a_longer_one_is_not() {
    let desk = Desk::new();
    let long = json!({"agent_id": ID, "a": "x".repeat(4094), "b": "x".repeat(4095)});
    desk.set(|state| state.posts = [Some(Reply::json(200, long))].into());
    assert_eq!(desk.once(true).unwrap().extra.len(), 2);
    let names: Vec<_> = desk.once(true).unwrap().extra.into_iter().collect();
    assert_eq!(names, [("a".into(), "x".repeat(4094).into())]);
}

/// Git may check a prompt out with other line ends.
#[test]
fn line_ends_do_not_make_another_request() {
    let desk = Desk::new();
    let call = |text: &str| {
        let request = GenerateRequest::new()
            .prompt(text)
            .audio(Media::base64(text));
        let request = request.field("more", json!({"notes": text}));
        desk.api(false).generate_once(desk.path(), &request)
    };
    call("a\r\nb\r\n").unwrap();
    call("a\nb\n").unwrap();
    assert_eq!(desk.sent(), "post");
    let error = call("a\nb").unwrap_err().to_string();
    assert!(error.contains("another audio, more, prompt"), "{error}");
}

#[test]
fn receipts_with_similar_names_are_apart() {
    let desk = Desk::new();
    for name in ["x", "x.new", "x.lock", ".x"] {
        desk.ensure_at(&desk.dir.path(name), false).unwrap();
    }
    assert_eq!((desk.keys().len(), desk.dir.names().len()), (4, 4));
}

#[cfg(unix)]
#[test]
fn mode_and_links_stay() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let (desk, elsewhere) = (Desk::new(), TempDir::new());
    let (link, target) = (desk.path(), elsewhere.path("target"));
    symlink(&target, &link).unwrap();
    desk.ensure(false).unwrap();
    let metadata = || fs::metadata(&target).unwrap();
    let inode = metadata().ino();
    assert_eq!(metadata().mode() & 0o777, 0o600);
    fs::set_permissions(&target, fs::Permissions::from_mode(0o664)).unwrap();
    desk.write("sending K, accepted K");
    desk.ensure_at(&target, false).unwrap();
    desk.ensure(false).unwrap();
    assert_eq!(
        (metadata().ino(), metadata().mode() & 0o777),
        (inode, 0o664)
    );
    assert_eq!((link.is_symlink(), &*desk.sent()), (true, "post poll poll"));

    // With two hard links an editor's save would make two receipts of one.
    fs::write(&target, "").unwrap();
    fs::hard_link(&target, elsewhere.path("second")).unwrap();
    let error = desk.ensure(false).unwrap_err().to_string();
    assert!(
        error.contains("has hard links; remove all but one"),
        "{error}"
    );
    assert_eq!((&*desk.sent(), metadata().len()), ("", 0));
}

/// What is paid for and cannot be written down is named.
#[cfg(unix)]
#[test]
fn a_receipt_that_is_gone_when_the_agent_is_accepted_loses_no_id() {
    for is_replaced in [false, true] {
        let desk = Desk::new();
        let path = desk.path();
        desk.set(|state| {
            state.on_post = Some(Arc::new(move || {
                fs::remove_file(&path).unwrap();
                if is_replaced {
                    fs::write(&path, "").unwrap();
                }
            }));
        });
        let result = desk.ensure(true);
        assert_eq!(told(&result), "Receipt Billed agent");
        let error = result.unwrap_err();
        assert_eq!(
            (error.agent_id(), error.idempotency_key()),
            (Some(ID), Some(&*desk.keys()[0]))
        );
        assert!(error.to_string().contains("call wait"), "{error}");
    }
}

/// A waiter would hold the lock of a file that is gone.
#[cfg(unix)]
#[test]
fn a_file_that_was_replaced_before_it_was_locked_is_opened_again() {
    let desk = Desk::new();
    fs::write(desk.path(), "").unwrap();
    let held = desk.hold();
    let api = real_api(&desk.server.url).build().unwrap();
    thread::scope(|scope| {
        let call = scope.spawn(|| api.generate_once(desk.path(), &small()));
        thread::sleep(ms(150));
        let new = desk.dir.path("new");
        fs::write(&new, desk.line("sending K") + &desk.line("accepted K")).unwrap();
        fs::rename(&new, desk.path()).unwrap();
        held.unlock().unwrap();
        assert!(call.join().unwrap().unwrap().replayed);
    });
    assert_eq!(
        (&*desk.sent(), &*desk.read()),
        ("", "sending K, accepted K")
    );
}

/// Whether a program can be run before another: mounts need root.
#[cfg(target_os = "linux")]
pub fn can(words: &[&str]) -> bool {
    let output = Command::new(words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    // In the other process it has been run.
    let is_run = env::var_os("DIR").is_some();
    let can = is_run || output.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: {words:?} is missing, or not allowed here");
    }
    can
}

/// Runs `child` of a test of this file as [`alone_after`] does.
#[cfg(target_os = "linux")]
fn after(words: &[&str], setup: &str, name: &str, child: impl FnOnce(&Path)) -> Option<TempDir> {
    alone_after(words, setup, &format!("receipts::{name}"), child)
}

/// Runs `child` in a process of its own, in a shell after this command, with a folder. `words` go
/// before the shell; skipped where that cannot be.
#[cfg(target_os = "linux")]
pub fn alone_after(
    words: &[&str],
    setup: &str,
    name: &str,
    child: impl FnOnce(&Path),
) -> Option<TempDir> {
    if !can(words) {
        return None;
    }
    // In the other process it is there already.
    let dir = env::var_os("DIR").is_none().then(TempDir::new);
    let path = match &dir {
        Some(dir) => dir.0.clone(),
        None => env::var_os("DIR").unwrap().into(),
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.args(["sh", "-ec", &format!("{setup} \"$0\" \"$@\"")]);
    command.arg(env::current_exe().unwrap());
    let variables = [("DIR", path.to_str().unwrap())];
    alone_by(command, name, &variables, || child(&path));
    dir
}

#[cfg(target_os = "linux")]
const MOUNTS: &[&str] = &["unshare", "-m"];

#[cfg(target_os = "linux")]
#[test]
fn two_paths_of_one_file_by_a_bind_mount_are_one_receipt() {
    let name = "two_paths_of_one_file_by_a_bind_mount_are_one_receipt";
    let setup = "cd $DIR; touch a b; mount --bind a b; exec";
    after(MOUNTS, setup, name, |dir| {
        let desk = Desk::new();
        for name in ["a", "b", "a"] {
            desk.ensure_at(&dir.join(name), true).unwrap();
        }
        assert_eq!(desk.sent(), "get post poll");
    });
}

/// Only what is finished can be read there.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_file_or_folder_is_an_error_before_anything_is_sent() {
    let name = "a_read_only_file_or_folder_is_an_error_before_anything_is_sent";
    after(MOUNTS, "mount -t tmpfs tmpfs $DIR; exec", name, |dir| {
        let desk = Desk::new();
        let finished = ["sending K", "accepted K", "ready K"].map(|name| desk.line(name));
        fs::write(dir.join("finished"), finished.concat()).unwrap();
        fs::write(dir.join("pending"), &finished[0]).unwrap();
        run("mount", &[Path::new("-oremount,ro"), dir]);
        desk.ensure_at(&dir.join("finished"), true).unwrap();
        for (name, expected) in [("pending", "Receipt Unknown"), ("new", "Receipt NotBilled")] {
            let result = desk.ensure_at(&dir.join(name), true);
            assert_eq!(told(&result), expected);
            let text = result.unwrap_err().to_string();
            assert!(text.contains("cannot be read and written"), "{text}");
        }
        assert_eq!(desk.sent(), "");
    });
}

/// A disk of 8 KiB, full at the first line or at *accepted*: nothing is sent, or the ids alone are
/// written, and the next call continues.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing_and_pays_once() {
    let name = "a_full_disk_loses_nothing_and_pays_once";
    after(
        MOUNTS,
        "mount -t tmpfs -o size=8k tmpfs $DIR; exec",
        name,
        |dir| {
            let (path, filler) = (dir.join("receipt"), dir.join("filler"));
            for (pages, expected) in [(2, "Receipt NotBilled"), (1, "ready")] {
                let desk = Desk::new();
                let long = json!({"agent_id": ID, "message": "m".repeat(4000)});
                desk.set(|state| state.posts = [Some(Reply::json(200, long))].into());
                fs::write(&filler, vec![0; 4096 * pages]).unwrap();
                let result = desk.ensure_at(&path, true);
                assert_eq!(told(&result), expected);
                if result.is_err() {
                    assert_eq!(
                        (fs::metadata(&path).unwrap().len(), &*desk.sent()),
                        (0, "get")
                    );
                }
                fs::remove_file(&filler).unwrap();
                assert_eq!(desk.ensure_at(&path, true).unwrap().agent_id, ID);
                assert_eq!(desk.keys().len(), 1);
                fs::remove_file(&path).unwrap();
            }
        },
    );
}

/// The file may have half a KiB, or 1 by another shell: there is room for *sending*, but not for
/// *accepted*.
#[cfg(target_os = "linux")]
#[test]
fn an_agent_that_cannot_be_written_down_is_in_the_error() {
    let name = "an_agent_that_cannot_be_written_down_is_in_the_error";
    // Ignored, the signal leaves it to the write to fail.
    after(&["env"], "trap '' XFSZ; ulimit -f 1; exec", name, |_| {
        let (id, request) = ("A".repeat(999), small().idempotency_key("K"));
        for honored in [true, false] {
            let desk = Desk::new();
            let long = Some(Reply::json(200, json!({"agent_id": id})));
            desk.set(|state| state.posts = [long.clone(), long].into());
            let api = desk.api(honored);
            let call = || api.ensure_agent(desk.path(), &request, &Wait::new());
            let error = call().unwrap_err();
            let found = (error.agent_id(), error.billing(), error.idempotency_key());
            assert_eq!(found, (Some(&*id), Billing::Billed, Some("K")), "{error}");
            assert_eq!(desk.read(), "sending K");
            // The same key again, or none.
            assert_ne!(call().unwrap_err().billing(), Billing::NotBilled);
            assert!(desk.keys().iter().all(|key| key == "K"));
        }
    });
}

/// With each number of descriptors: none for the lock, the folder or the connection.
#[cfg(target_os = "linux")]
#[test]
fn without_a_descriptor_nothing_is_lost() {
    // The service is in this process: the other one has no descriptors for it.
    let desk = env::var_os("DIR").is_none().then(Desk::new);
    let url = desk.as_ref().map_or("", |desk| &desk.server.url);
    let setup = format!("export URL={url}; ulimit -n 64; exec");
    after(
        &["env"],
        &setup,
        "without_a_descriptor_nothing_is_lost",
        |dir| {
            let builder = harness::api(&env::var("URL").unwrap());
            let api = builder.honors_idempotency_keys(true).build().unwrap();
            let call = || api.ensure_agent(dir.join("receipt"), &small(), &Wait::new());
            let mut failures = 0;
            for free in 0..6 {
                let mut taken = Vec::new();
                while let Ok(file) = File::open("/dev/null") {
                    taken.push(file);
                }
                taken.truncate(taken.len() - free);
                let result = call();
                drop(taken);
                failures += usize::from(result.is_err());
                assert!(
                    ["ready", "Receipt NotBilled"].contains(&&*told(&result)),
                    "{result:?}"
                );
            }
            assert!((2..6).contains(&failures), "{failures}");
            call().unwrap();
        },
    );
    // A failure whose request was accepted would not have been called unbilled.
    assert_eq!(desk.unwrap().keys().len(), 1);
}

/// What the system was asked for, in words: `cut`, `unlock`, `rename`, and `sync` of a file or folder.
#[cfg(target_os = "linux")]
pub fn traced(log: &Path) -> Vec<String> {
    let mut calls = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let path = line.split(['<', '>']).nth(1).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        if line.contains("fsync(") {
            calls.push(format!("sync {name}"));
        } else if line.contains("ftruncate(") {
            calls.push("cut".into());
        } else if line.contains("rename(") || line.contains("renameat") {
            calls.push("rename".into());
        } else if line.contains("LOCK_UN") {
            calls.push("unlock".into());
        } else if line.contains("\"POST ") {
            calls.push("post".into());
        }
    }
    calls
}

/// A power cut forgets what is not synced: the key, and then the request is paid for twice; the
/// name of the file, whoever made it; the cut, and then a refused key is sent again. A child of
/// this process between its fork and exec keeps a lock that is only dropped.
#[cfg(target_os = "linux")]
#[test]
fn everything_is_synced_and_unlocked_in_its_order() {
    let name = "everything_is_synced_and_unlocked_in_its_order";
    let setup = "exec strace -f -y -e trace=fsync,ftruncate,flock,sendto -o $DIR/log";
    if !can(&["strace", "-o", "/dev/null"]) {
        return;
    }
    let sent = "sync agent.receipt, sync real, post, sync agent.receipt, unlock";
    let ended = "sync agent.receipt, unlock";
    let refused = "sync agent.receipt, sync real, post, cut, sync agent.receipt, unlock";
    let rows = [
        ("", "", "-", format!("{sent}, {ended}")),
        ("sending K", "", "-", format!("{sent}, {ended}")),
        (
            "sending K",
            "{",
            "-",
            format!("cut, sync agent.receipt, {sent}, {ended}"),
        ),
        ("", "", "422", refused.into()),
        ("sending K, accepted K", "", "-", format!("unlock, {ended}")),
    ];
    let dir = after(&["env"], setup, name, |dir| {
        fs::create_dir(dir.join("real")).unwrap();
        LazyLock::force(&FINGERPRINTS);
        for (lines, torn, service, _) in &rows {
            let desk = Desk::new();
            let real = dir.join("real/agent.receipt");
            fs::write(&real, "").unwrap();
            std::os::unix::fs::symlink(&real, desk.path()).unwrap();
            desk.set(|state| behave(state, service));
            desk.write(lines);
            File::options()
                .append(true)
                .open(&real)
                .unwrap()
                .write_all(torn.as_bytes())
                .unwrap();
            let _ = desk.ensure(true);
        }
    });
    let Some(dir) = dir else { return };
    let expected: Vec<_> = rows.iter().map(|(.., calls)| calls.as_str()).collect();
    // What made the fingerprints comes first.
    let calls = traced(&dir.path("log")).join(", ");
    assert!(calls.ends_with(&expected.join(", ")), "{calls}");
}

/// A file system without locks, a signal, and a disk that fails: at *sending*, and at *accepted*.
#[cfg(target_os = "linux")]
#[test]
fn a_lock_or_a_sync_that_fails_pays_nothing_twice_and_loses_nothing() {
    let name = "a_lock_or_a_sync_that_fails_pays_nothing_twice_and_loses_nothing";
    if !can(&["strace", "-o", "/dev/null"]) {
        return;
    }
    for (fault, expected) in [
        (
            "flock:error=ENOLCK",
            "Receipt NotBilled|cannot be locked: No locks available",
        ),
        (
            "flock:error=EOPNOTSUPP",
            "Receipt NotBilled|there are no locks here",
        ),
        ("flock:error=EINTR:when=1", "ready|post"),
        (
            "fsync:error=EIO:when=1",
            "Receipt NotBilled|cannot be written: Input/output error",
        ),
        (
            "fsync:error=EIO:when=3",
            "Receipt Billed agent|cannot record the agent",
        ),
    ] {
        let setup = format!(
            "export EXPECTED='{expected}'; exec strace -f -qq -o $DIR/log -e inject={fault}"
        );
        after(&["env"], &setup, name, |dir| {
            let desk = Desk::new();
            let result = desk.api(false).generate_once(dir.join("receipt"), &small());
            let expected = env::var("EXPECTED").unwrap();
            let (told_as, what) = expected.split_once('|').unwrap();
            assert_eq!(told(&result), told_as);
            let text = result.map_or_else(|error| error.to_string(), |_| desk.sent());
            assert!(text.contains(what), "{text}");
            let is_sent = told_as != "Receipt NotBilled";
            assert_eq!(desk.keys().len(), usize::from(is_sent));
        });
    }
}
