//! The lines of a receipt and what is decided from them: no file pays twice, and a file that was
//! cut anywhere gives what its whole lines say.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lines::{Attempt, Call, FORMAT, Line, Lines, Step, decide, may_be_receipt, parse};
use serde_json::{Value, json};

/// What the lines need of the library, by the same names.
mod agent {
    pub use bithuman::Agent;
}

mod error {
    pub use bithuman::{Billing, Error};
}

#[path = "../../../src/retry.rs"]
#[allow(dead_code, reason = "only a part of it is used")]
mod retry;

mod generate {
    use std::ops::{Deref, DerefMut};

    use serde::{Deserialize, Serialize};
    use serde_json::json;

    pub const KEY_TOO_OLD: &str = "the key is too old";

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Generation(bithuman::Generation);

    impl Generation {
        pub fn named(agent_id: String, key: String) -> Self {
            let fields = json!({"agent_id": agent_id, "idempotency_key": key});
            serde_json::from_value(fields).unwrap()
        }
    }

    impl Deref for Generation {
        type Target = bithuman::Generation;

        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    impl DerefMut for Generation {
        fn deref_mut(&mut self) -> &mut Self::Target {
            &mut self.0
        }
    }
}

#[path = "../../../src/receipt/lines.rs"]
#[allow(dead_code, reason = "only a part of it is used")]
mod lines;

fuzz_target!(|input: (u16, u8, &[u8])| {
    let (cut, words, bytes) = input;
    check(bytes, cut.into(), words);
    check(&file(bytes), cut.into(), words);
});

fn check(file: &[u8], cut: usize, words: u8) {
    let Ok(whole) = parse(file) else {
        return;
    };
    assert!(file.is_empty() || may_be_receipt(file) || whole.last.is_some());
    check_repair(file, &whole);
    check_cut(file, cut % (file.len() + 1));
    for line in file.split(|byte| *byte == b'\n') {
        check_line(line);
    }
    check_decision(whole.last.as_ref(), words);
}

/// A repaired file says the same, takes another line, and has no line that cannot be read.
fn check_repair(file: &[u8], whole: &Lines) {
    let mut file = file[..whole.len as usize].to_vec();
    assert_eq!(parse(&file).unwrap(), *whole);
    for line in file.split(|byte| *byte == b'\n') {
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        let is_blank = line.trim_ascii().is_empty();
        assert!(is_blank || serde_json::from_slice::<Line>(line).is_ok());
    }
    if whole.last.is_some() && !whole.is_ended {
        file.push(b'\n');
    }
    let another = attempt("another");
    file.extend(Line::Sending(another.clone()).text(0).unwrap());
    let after = parse(&file).unwrap();
    assert_eq!((after.last, after.len), (Some(another), file.len() as u64));
    assert!(after.is_ended);
}

/// The line that is cut is there or not.
fn check_cut(file: &[u8], cut: usize) {
    let end = |at: usize| {
        let rest = file[at..].iter().position(|byte| *byte == b'\n');
        rest.map_or(file.len(), |length| at + length + 1)
    };
    let start = file[..cut].iter().rposition(|byte| *byte == b'\n');
    let start = start.map_or(0, |at| at + 1);
    let around = [start, end(cut)].map(|at| parse(&file[..at]).ok());
    if let Ok(part) = parse(&file[..cut]) {
        let is_same = |lines: &Option<Lines>| lines.as_ref().is_some_and(|it| it.last == part.last);
        assert!(around.iter().any(is_same), "cut at {cut}");
    }
}

/// What is written can be read, and is the same.
fn check_line(line: &[u8]) {
    let Ok(read) = serde_json::from_slice::<Line>(line) else {
        return;
    };
    let [long, short] = [usize::MAX, 0].map(|limit| read.text(limit).unwrap());
    assert!(serde_json::from_slice::<Line>(&short).is_ok());
    // serde_json does not read a fraction of many digits exactly.
    let plain: Value = serde_json::from_slice(line).unwrap();
    let is_exact = serde_json::from_str::<Value>(&plain.to_string()).unwrap() == plain;
    assert!(!is_exact || serde_json::from_slice::<Line>(&long).unwrap() == read);
}

fn check_decision(last: Option<&Attempt>, words: u8) {
    let has = |bit: u8| words & (1 << bit) != 0;
    let mut call = Call {
        wanted: attempt(if has(0) { "K" } else { "L" }),
        has_own_key: has(1),
        has_asked: has(2),
        honored: has(3),
        failed_before: has(4).then(|| "K".into()),
    };
    if has(2) && has(5) {
        call.wanted.date = Some("Sun, 06 Nov 1994 08:49:37 GMT".into());
    }
    let step = decide(last, &call);
    let Some(last) = last else {
        assert!(matches!(step, Step::Send | Step::AskTime));
        return;
    };
    let is_other = last.base_url != call.wanted.base_url || last.request != call.wanted.request;
    assert!(!is_other || matches!(step, Step::Refuse(_)));
    match step {
        // Another agent is paid for only where the last one failed, and the caller knows.
        Step::Send => assert!(last.has_failed() && call.failed_before == Some(last.key.clone())),
        Step::Retry(age) => {
            assert!(last.is_pending() && call.honored && call.has_asked);
            assert!(age < Duration::from_secs(23 * 60 * 60));
        }
        Step::Return(generation, end) => {
            assert_eq!(generation.idempotency_key, last.key);
            assert!(generation.replayed && end == last.end && !is_other);
        }
        Step::NotNow(_) | Step::Unknown(_) => assert!(last.is_pending()),
        Step::AskTime => assert!(call.honored && !call.has_asked),
        Step::Refuse(what) => assert!(what.contains("undo that")),
    }
}

/// The request of every line that [`file`] makes.
fn attempt(key: &str) -> Attempt {
    Attempt {
        format: FORMAT,
        base_url: "https://a.example".into(),
        key: key.into(),
        request: [("prompt".into(), "json 01".into())].into(),
        ..Attempt::default()
    }
}

/// A file of the lines that the bytes stand for. Between them is what bytes from 64 on stand for.
fn file(bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for byte in bytes {
        if *byte >= 64 {
            file.push(*byte & 0x7f);
            continue;
        }
        let (key, id) = (["K", "L"][usize::from(byte & 1)], format!("A{}", byte >> 5));
        let agent = |status: &str| json!({"key": key, "agent": {"agent_id": id, "status": status}});
        let mut sending = serde_json::to_value(attempt(key)).unwrap();
        let line = match byte >> 1 & 15 {
            0 => json!({"sending": sending}),
            // Sent a minute ago, a day ago and in the future, or so the service's clocks say.
            which @ 1..4 => {
                let times = [
                    "06 Nov 1994 08:48",
                    "05 Nov 1994 08:49",
                    "06 Nov 1994 08:51",
                ];
                sending["date"] = format!("Day, {}:37 GMT", times[usize::from(which) - 1]).into();
                json!({"sending": sending})
            }
            4 => json!({"named": {"key": key, "agent_id": id}}),
            5..8 => {
                json!({"accepted": {"agent_id": id, "idempotency_key": key, "replayed": false}})
            }
            8 => json!({"ended": agent("ready")}),
            9 | 10 => json!({"ended": agent("failed")}),
            11 => json!({"ended": agent("deleted")}),
            12 => json!({"ended": agent("generating")}),
            13 => json!({"sending": {"format": 2}}),
            14 => {
                sending["base_url"] = "https://b.example".into();
                json!({"sending": sending})
            }
            _ => {
                file.extend(b"\0\0\r\n");
                continue;
            }
        };
        file.extend(line.to_string().as_bytes());
        file.push(b'\n');
    }
    file
}
