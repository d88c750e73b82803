use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Map, json};

use super::*;
use crate::clock::Clock;

/// The time of the call, and the hours a key is good for, in seconds.
const NOW: u64 = 1_800_000_000;
const LIFE: i64 = 23 * 60 * 60;

const NOT_HONORED: &str = "the service is not known to honour idempotency keys";
const SET_BACK: &str = "the clock of this machine was set back";

/// What would be written by a call for a prompt and an image, with a key it has just minted.
fn wanted() -> Receipt {
    let request = [("image", "content 02"), ("prompt", "json 01")];
    Receipt {
        format: 1,
        base_url: "https://a.example".into(),
        idempotency_key: "minted".into(),
        first_sent_unix: NOW,
        calls: 1,
        request: request.map(|(name, print)| (name.into(), print.into())).into(),
        generation: None,
        agent: None,
    }
}

/// What an earlier call has written so many seconds ago, in which nothing has come of it.
fn pending(age: i64) -> Receipt {
    Receipt { idempotency_key: "first".into(), first_sent_unix: NOW.checked_add_signed(-age).unwrap(), ..wanted() }
}

fn generation() -> Generation {
    let fields = json!({
        "agent_id": "A", "status": "processing", "message": "m", "idempotency_key": "first", "replayed": false, "other": 1
    });
    serde_json::from_value(fields).unwrap()
}

fn agent(status: &str) -> Agent {
    serde_json::from_value(json!({"agent_id": "A", "status": status, "progress": 0.5, "name": "n"})).unwrap()
}

fn generated(age: i64) -> Receipt {
    Receipt { generation: Some(generation()), ..pending(age) }
}

fn seen(age: i64, status: &str) -> Receipt {
    Receipt { agent: Some(agent(status)), ..generated(age) }
}

/// The calls that can follow: with a minted key, and with the key of the receipt chosen by the caller.
fn calls() -> [(Receipt, bool); 2] {
    [(wanted(), false), (Receipt { idempotency_key: "first".into(), ..wanted() }, true)]
}

#[test]
fn a_key_without_an_agent_is_waited_for_then_sent_again_or_unknown() {
    let secs = Duration::from_secs;
    let patience = Some(secs(10));
    let rows = [
        // The age of the key, how long to wait for another, what to do where keys are honoured or not.
        (0, patience, Step::Wait, Step::Wait),
        (9, patience, Step::Wait, Step::Wait),
        (10, patience, Step::Resend(secs(10)), Step::Unknown(NOT_HONORED)),
        (11, patience, Step::Resend(secs(11)), Step::Unknown(NOT_HONORED)),
        (0, None, Step::Resend(secs(0)), Step::Unknown(NOT_HONORED)),
        (9, None, Step::Resend(secs(9)), Step::Unknown(NOT_HONORED)),
        (99, Some(secs(100)), Step::Wait, Step::Wait),
        (LIFE - 1, patience, Step::Resend(secs(LIFE as u64 - 1)), Step::Unknown(NOT_HONORED)),
        (LIFE, patience, Step::Unknown(TOO_OLD), Step::Unknown(NOT_HONORED)),
        (LIFE + 1, None, Step::Unknown(TOO_OLD), Step::Unknown(NOT_HONORED)),
        (NOW as i64, None, Step::Unknown(TOO_OLD), Step::Unknown(NOT_HONORED)),
        (-1, patience, Step::Wait, Step::Wait),
        (-1, None, Step::Unknown(SET_BACK), Step::Unknown(SET_BACK)),
        (-LIFE * 1000, None, Step::Unknown(SET_BACK), Step::Unknown(SET_BACK)),
    ];
    for (age, patience, honored, not_honored) in &rows {
        for (wanted, own_key) in calls() {
            let step = |honors| pending(*age).step(&wanted, own_key, honors, *patience);
            assert_eq!((&step(true), &step(false)), (honored, not_honored), "{age} {patience:?} {own_key}");
        }
    }
}

#[test]
fn what_is_known_is_returned_however_old_it_is() {
    let receipts = |age| [generated(age), seen(age, "processing"), seen(age, "ready"), seen(age, "who knows")];
    for receipt in [0, LIFE + 1, -LIFE].into_iter().flat_map(receipts) {
        for (wanted, own_key) in calls() {
            for (honored, patience) in [(false, None), (true, None), (false, Some(Duration::MAX))] {
                let step = receipt.step(&wanted, own_key, honored, patience);
                assert_eq!(step, Step::Return(generation()), "{receipt:?}");
            }
        }
    }
}

#[test]
fn a_failed_generation_is_begun_anew_unless_it_would_be_with_the_same_key() {
    let failed = seen(0, "failed");
    let [(minted, _), (same, _)] = calls();
    for (honored, patience) in [(false, None), (true, Some(Duration::MAX))] {
        assert_eq!(failed.step(&minted, false, honored, patience), Step::Anew(generation()));
        assert_eq!(
            failed.step(&minted, true, honored, patience),
            Step::Anew(generation()),
            "another key of the caller's"
        );
        let Step::Refuse(what) = failed.step(&same, true, honored, patience) else { panic!("not refused") };
        assert!(what.contains("failed: choose another key"), "{what}");
    }
}

#[test]
fn what_differs_is_told_and_nothing_is_done() {
    type Change = fn(&mut Receipt);
    let rows: [(Change, &str); 7] = [
        (|r| r.base_url = "https://b.example".into(), "base URL (https://a.example)"),
        (|r| drop(r.request.insert("model".into(), "json 03".into())), "model"),
        (|r| drop(r.request.remove("prompt")), "prompt"),
        (|r| drop(r.request.insert("prompt".into(), "json 02".into())), "prompt"),
        (|r| drop(r.request.insert("prompt".into(), "url 01".into())), "prompt"),
        (|r| r.request.clear(), "image, prompt"),
        (
            |r| {
                r.base_url = "https://b.example".into();
                r.request = [("model".into(), "json 03".into())].into();
            },
            "base URL (https://a.example), image, model, prompt",
        ),
    ];
    let found = [pending(0), pending(99), generated(0), seen(0, "ready"), seen(0, "failed")];
    for (change, differing) in rows {
        for (mut wanted, own_key) in calls() {
            change(&mut wanted);
            for found in &found {
                for (honored, patience) in [(true, None), (false, Some(Duration::MAX))] {
                    let Step::Refuse(what) = found.step(&wanted, own_key, honored, patience) else {
                        panic!("{differing} is not refused");
                    };
                    assert!(
                        what.starts_with(&format!("is the receipt of a request with another {differing}: ")),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[test]
fn another_key_of_the_callers_is_another_request_and_a_minted_one_is_not() {
    for found in [pending(0), pending(99), generated(0), seen(0, "processing"), seen(0, "ready")] {
        let Step::Refuse(what) = found.step(&wanted(), true, true, None) else { panic!("not refused") };
        assert!(what.contains("another idempotency key: "), "{what}");
        assert!(!matches!(found.step(&wanted(), false, true, None), Step::Refuse(_)));
    }
}

#[test]
fn a_receipt_reads_back_as_it_was_written() {
    for receipt in [pending(0), generated(9), seen(9, "ready"), seen(9, "failed"), seen(9, "who knows")] {
        let text = serde_json::to_vec_pretty(&receipt).unwrap();
        assert_eq!(Receipt::parse(&text), Ok(receipt));
    }
}

fn full() -> Map<String, Value> {
    serde_json::to_value(seen(0, "ready")).unwrap().as_object().unwrap().clone()
}

#[track_caller]
fn assert_damaged(text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let what = Receipt::parse(text).expect_err(&String::from_utf8_lossy(text));
    assert!(what.starts_with("is damaged, or no receipt: "), "{}: {what}", String::from_utf8_lossy(text));
}

#[test]
fn a_receipt_cut_anywhere_is_damaged() {
    let text = serde_json::to_vec_pretty(&full()).unwrap();
    assert!(Receipt::parse(&text).is_ok());
    for end in 0..text.len() {
        assert_damaged(&text[..end]);
    }
}

#[test]
fn a_field_of_another_type_or_none_is_damage() {
    let values = [json!(null), json!(true), json!(1), json!(-1), json!(1.5), json!("x"), json!([]), json!({})];
    for name in full().keys() {
        for value in &values {
            let mut receipt = full();
            let is_good = receipt[name].is_string() && value.is_string()
                || receipt[name].is_number() && *value == json!(1)
                || name == "request" && *value == json!({})
                || ["generation", "agent"].contains(&&**name) && value.is_null();
            receipt.insert(name.clone(), value.clone());
            let text = Value::from(receipt).to_string();
            match is_good {
                true => assert!(Receipt::parse(text.as_bytes()).is_ok(), "{text}"),
                false => assert_damaged(text),
            }
        }
        let mut receipt = full();
        receipt.remove(name);
        let text = Value::from(receipt).to_string();
        match ["generation", "agent"].contains(&&**name) {
            true => assert!(Receipt::parse(text.as_bytes()).is_ok(), "{text}"),
            false => assert_damaged(text),
        }
    }
}

#[test]
fn what_a_receipt_holds_is_checked_too() {
    let rows = [
        ("idempotency_key", json!("")),
        ("idempotency_key", json!("a\nb")),
        ("idempotency_key", json!("k".repeat(256))),
        ("request", json!({"prompt": 1})),
        ("request", json!({"prompt": null})),
        ("generation", json!({"idempotency_key": "k"})),
        ("generation", json!({"agent_id": "A"})),
        ("generation", json!({"agent_id": "", "idempotency_key": "k"})),
        ("generation", json!({"agent_id": 1, "idempotency_key": "k"})),
        ("agent", json!({"agent_id": "A"})),
        ("agent", json!({"status": "ready"})),
        ("agent", json!({"agent_id": "A", "status": 1})),
        ("a field of nobody's", json!(null)),
    ];
    for (name, value) in rows {
        let mut receipt = full();
        receipt.insert(name.into(), value);
        assert_damaged(Value::from(receipt).to_string());
    }
}

#[test]
fn a_later_format_is_told_from_damage() {
    for format in [json!(2), json!(3), json!(u64::MAX)] {
        // Whatever else a later version may write.
        for mut receipt in [full(), Map::new(), Map::from_iter([("key".into(), json!([]))])] {
            receipt.insert("format".into(), format.clone());
            let what = Receipt::parse(Value::from(receipt).to_string().as_bytes()).unwrap_err();
            assert!(what.starts_with(&format!("is of format {format}, which a later version of")), "{what}");
        }
    }
    for format in [json!(0), json!(-1), json!(-2), json!(2.5), json!("2"), json!(null), json!([2]), json!(true)] {
        let mut receipt = full();
        receipt.insert("format".into(), format);
        assert_damaged(Value::from(receipt).to_string());
    }
}

#[test]
fn anything_else_is_no_receipt() {
    let twice = format!("{0}{0}", Value::from(full()));
    let rows: [&[u8]; 12] = [
        b"",
        b" \n",
        b"\0\0\0",
        b"\xff\xfe{}",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b"\"1\"",
        b"[{\"format\": 1}]",
        b"{\"name\": \"agent\", \"version\": 1}",
        twice.as_bytes(),
    ];
    for text in rows {
        assert_damaged(text);
    }
    let mut latin = Value::from(full()).to_string().into_bytes();
    let at = latin.windows(5).position(|five| five == b"first").unwrap();
    latin[at] = 0xe9;
    assert_damaged(latin);
}

/// Time that passes when somebody sleeps, in which something else may happen.
struct Meanwhile {
    now: Mutex<Duration>,
    happens: fn(&Path),
    path: PathBuf,
}

impl Clock for Meanwhile {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
        (self.happens)(&self.path);
    }
}

/// Runs this with a store in a folder of its own, which is removed, on a file system with these links.
/// While somebody sleeps, that happens.
fn in_store(link: fn(&Path, &Path) -> io::Result<()>, meanwhile: fn(&Path), test: impl FnOnce(&Store)) {
    let folder = std::env::temp_dir().join(format!("bithuman-receipt-{}-{:x}", process::id(), retry::random()));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("agent.json");
    let clock = Arc::new(Meanwhile { now: Mutex::default(), happens: meanwhile, path: path.clone() });
    // Nobody listens there, and nothing is sent.
    let api = Api::builder().secret("s").base_url("http://127.0.0.1:9").clock(clock).build().unwrap();
    test(&Store { link, ..Store::new(&api, &path) });
    fs::remove_dir_all(folder).unwrap();
}

/// As a file system without links says it.
fn no_link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(1))
}

fn names(store: &Store) -> Vec<String> {
    let entries = fs::read_dir(store.path.parent().unwrap()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_file_is_written_where_none_is_or_not_at_all() {
    in_store(
        no_link,
        |_| (),
        |store| {
            write_new(&store.path, b"one").unwrap();
            let exists = write_new(&store.path, b"two").unwrap_err();
            assert_eq!(exists.kind(), io::ErrorKind::AlreadyExists);
            assert!(write_new(&store.beside("gone/agent.json"), b"two").is_err());
            assert!(write_new(&store.path.join("agent.json"), b"two").is_err());
            assert_eq!((fs::read_to_string(&store.path).unwrap().as_str(), names(store).len()), ("one", 1));
        },
    );
}

/// In a process of its own, which can write a few KiB and no more.
#[test]
#[cfg(unix)]
fn a_file_that_is_only_half_written_is_taken_away() {
    const PATH: &str = "TEST_PATH";
    if let Some(path) = std::env::var_os(PATH) {
        let error = write_new(Path::new(&path), &[7; 100_000]).unwrap_err();
        assert_eq!((error.kind(), Path::new(&path).exists()), (io::ErrorKind::FileTooLarge, false));
        process::exit(7);
    }
    in_store(
        no_link,
        |_| (),
        |store| {
            let mut command = process::Command::new("sh");
            command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
            command.args(["receipt::tests::a_file_that_is_only_half_written_is_taken_away", "--exact"]);
            let output = command.env(PATH, &store.path).output().unwrap();
            assert_eq!((output.status.code(), names(store).len()), (Some(7), 0), "{output:?}");
        },
    );
}

#[test]
fn only_one_receipt_is_placed_and_nothing_else_is_left_with_or_without_links() {
    for link in [no_link, |from: &Path, to: &Path| fs::hard_link(from, to)] {
        in_store(
            link,
            |_| (),
            |store| {
                assert!(store.place(&pending(0), &store.path).unwrap());
                assert!(!store.place(&pending(9), &store.path).unwrap());
                assert_eq!(
                    (store.read(&store.path).unwrap(), names(store)),
                    (Some(pending(0)), vec!["agent.json".into()])
                );
            },
        );
    }
}

#[test]
fn a_receipt_changes_only_from_what_it_was_known_to_be_with_or_without_links() {
    for link in [no_link, |from: &Path, to: &Path| fs::hard_link(from, to)] {
        in_store(
            link,
            |_| (),
            |store| {
                let (first, second, third) = (pending(0), generated(0), seen(0, "ready"));
                assert!(!store.swap(&first, Some(&second)).unwrap(), "there was none");
                assert!(store.place(&first, &store.path).unwrap());
                for (was, next, swapped, now) in [
                    (&second, Some(&third), false, Some(&first)),
                    (&third, None, false, Some(&first)),
                    (&wanted(), Some(&second), false, Some(&first)),
                    (&first, Some(&second), true, Some(&second)),
                    (&first, None, false, Some(&second)),
                    (&second, Some(&third), true, Some(&third)),
                    (&second, Some(&second), false, Some(&third)),
                    (&third, None, true, None),
                    (&third, None, false, None),
                ] {
                    assert_eq!(store.swap(was, next).unwrap(), swapped);
                    assert_eq!(store.read(&store.path).unwrap().as_ref(), now);
                    assert_eq!(names(store).len(), usize::from(now.is_some()));
                }
            },
        );
    }
}

#[test]
fn what_a_crash_left_of_a_change_is_waited_for_and_then_taken_away() {
    in_store(
        no_link,
        |_| (),
        |store| {
            assert!(store.place(&pending(0), &store.path).unwrap());
            fs::write(store.beside("new"), "half of a rec").unwrap();
            assert!(store.swap(&pending(0), Some(&generated(0))).unwrap());
            assert_eq!((store.read(&store.path).unwrap(), names(store).len()), (Some(generated(0)), 1));
            let waited = store.api.shared.clock.now();
            assert!(waited >= PATIENCE && waited <= PATIENCE + LOOK, "{waited:?}");
        },
    );
}

#[test]
fn a_change_of_somebody_who_is_still_at_it_is_never_taken_away() {
    /// Others change the receipt in turn, for as long as two crashes are waited for.
    fn another(path: &Path) {
        static LOOKS: AtomicU32 = AtomicU32::new(0);
        let claim = path.with_file_name("agent.json.new");
        fs::remove_file(&claim).unwrap();
        let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
        if looks < 2 * (PATIENCE.as_millis() / LOOK.as_millis()) as u32 {
            fs::write(&claim, "another").unwrap();
            // A clock of the disk that is too coarse to tell them apart would be no fault of theirs.
            let modified = SystemTime::UNIX_EPOCH + LOOK * looks;
            File::options().write(true).open(&claim).unwrap().set_modified(modified).unwrap();
        }
    }
    in_store(no_link, another, |store| {
        assert!(store.place(&pending(0), &store.path).unwrap());
        fs::write(store.beside("new"), "the first").unwrap();
        assert!(store.swap(&pending(0), Some(&generated(0))).unwrap());
        assert!(store.api.shared.clock.now() > 2 * PATIENCE);
    });
}

#[test]
fn who_has_lost_its_claim_has_changed_nothing() {
    /// Somebody takes this one for crashed.
    fn is_removed(from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)?;
        if to.extension().is_some_and(|ending| ending == "new") { fs::remove_file(to) } else { Ok(()) }
    }
    in_store(
        is_removed,
        |_| (),
        |store| {
            assert!(store.place(&pending(0), &store.path).unwrap());
            assert!(!store.swap(&pending(0), Some(&generated(0))).unwrap());
            assert_eq!(store.read(&store.path).unwrap(), Some(pending(0)));
        },
    );
}

#[test]
fn who_moves_the_change_of_another_does_not_take_it_for_its_own() {
    /// Somebody takes this one for crashed, and is at it now.
    fn is_taken(from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)?;
        if to.extension().is_some_and(|ending| ending == "new") {
            fs::remove_file(to)?;
            let another = Receipt { idempotency_key: "another".into(), ..pending(0) };
            fs::write(to, serde_json::to_vec(&another).unwrap())?;
        }
        Ok(())
    }
    in_store(
        is_taken,
        |_| (),
        |store| {
            let failed = seen(0, "failed");
            assert!(store.place(&failed, &store.path).unwrap());
            let own = Receipt { idempotency_key: "own".into(), ..pending(0) };
            assert!(!store.swap(&failed, Some(&own)).unwrap());
            assert_eq!(store.read(&store.path).unwrap().unwrap().idempotency_key, "another");
        },
    );
}
