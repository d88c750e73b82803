use serde_json::json;

use super::*;

const SENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// The request of every receipt here.
fn attempt(key: &str) -> Attempt {
    let fields = [("image", "content 02"), ("prompt", "json 01")];
    Attempt {
        format: FORMAT,
        base_url: "https://a.example".into(),
        key: key.into(),
        request: fields
            .map(|(name, print)| (name.into(), print.into()))
            .into(),
        ..Attempt::default()
    }
}

/// The line of a word and a key: `sending`, `timeless`, `named`, `accepted`, or an end.
fn line(word: &str, key: &str) -> String {
    let agent_id = format!("A-{key}");
    let line = match word {
        "sending" => Line::Sending(Attempt {
            date: Some(SENT.into()),
            ..attempt(key)
        }),
        "timeless" => Line::Sending(attempt(key)),
        "named" => Line::Named {
            key: key.into(),
            agent_id,
        },
        "accepted" => Line::Accepted(Generation::named(agent_id, key.into())),
        status => Line::Ended {
            key: key.into(),
            agent: serde_json::from_value(json!({"agent_id": agent_id, "status": status})).unwrap(),
        },
    };
    String::from_utf8(line.text(1000).unwrap()).unwrap()
}

fn lines(words: &str) -> String {
    let lines = words.split(", ").filter_map(|line| line.split_once(' '));
    lines.map(|(word, key)| line(word, key)).collect()
}

/// A call in words: `honored`, `asked` and the seconds since `SENT` or no time, `own` and `told`
/// with a key.
fn call(words: &str) -> Call {
    let mut call = Call {
        wanted: attempt("minted"),
        ..Call::default()
    };
    for word in words.split(", ") {
        let (word, value) = word.split_once(' ').unwrap_or((word, ""));
        match word {
            "honored" => call.honored = true,
            "asked" => {
                (call.honored, call.has_asked) = (true, true);
                call.wanted.date = (value != "none").then(|| date(value));
            }
            "own" => {
                call.wanted.key = value.into();
                call.has_own_key = true;
            }
            "told" => call.failed_before = Some(value.into()),
            _ => {}
        }
    }
    call
}

fn date(seconds: &str) -> String {
    let Ok(seconds) = seconds.parse::<i64>() else {
        return seconds.into();
    };
    let time = 6 * 86_400 + 8 * 3600 + 49 * 60 + 37 + seconds;
    let (day, hour, minute) = (time / 86_400, time / 3600 % 24, time / 60 % 60);
    format!(
        "Sun, {day:02} Nov 1994 {hour:02}:{minute:02}:{:02} GMT",
        time % 60
    )
}

fn decided(file: &str, call: &Call) -> String {
    match decide(parse(file.as_bytes()).unwrap().last.as_ref(), call) {
        Step::Send => "send".into(),
        Step::AskTime => "ask".into(),
        Step::Retry(age) => format!("retry {}", age.as_secs()),
        Step::NotNow(why) => format!("not now: {why}"),
        Step::Unknown(why) => format!("unknown: {why}"),
        Step::Refuse(what) => what,
        Step::Return(generation, end) => {
            assert!(generation.replayed);
            let end = end.map_or(String::new(), |end| format!(" {}", end.status));
            format!("{}{end}", generation.agent_id)
        }
    }
}

/// The receipt, the call, the decision.
const ROWS: &str = "
|-|send
|honored|ask
|asked none|send
|asked 0|send
|own K|send
sending K|-|unknown: the server may not honor keys
sending K|own K|unknown: the server may not honor keys
sending K|honored|ask
sending K|asked 0|retry 0
sending K|asked 82799|retry 82799
sending K|asked 82800|unknown: the key is older than 23 h
sending K|asked 999999|unknown: the key is older than 23 h
sending K|asked -60|retry 0
sending K|asked -61|not now: has a later time than the service's clock
sending K|asked none|not now: needs a response with a usable Date
sending K|asked today|not now: needs a response with a usable Date
timeless K|honored|unknown: the receipt has no time
timeless K|asked 0|unknown: the receipt has no time
sending K, named K|asked 5|retry 5
sending K, accepted K|-|A-K
sending K, accepted K|asked 999999|A-K
sending K, accepted K|own K|A-K
# Only lines with the key of the last attempt count, and only an end that is one.
sending K, accepted L|honored|ask
sending K, accepted K, generating K|-|A-K
# An end names the agent too.
sending K, ready K|honored|A-K ready
sending K, failed K|told K|send
sending K, accepted K, ready K|honored|A-K ready
sending K, accepted K, deleted K|told K|A-K deleted
# A failure is reported before another attempt is paid for, which needs another key.
sending K, accepted K, failed K|-|A-K failed
sending K, accepted K, failed K|told K|send
sending K, accepted K, failed K|told K, honored|ask
sending K, accepted K, failed K|told K, own L|send
sending K, accepted K, failed K|told K, own K|A-K failed
sending K, accepted K, failed K, sending L|told K, honored|ask
sending K, accepted K, failed K, sending L, accepted L, failed L|told K|A-L failed
sending K, accepted K, failed K, sending L, accepted L, failed L|told L|send
# Two processes poll A-K; one records its failure, a third pays for A-L, then the slow one records
# A-K's failure. If the last line counted, the next call would pay again.
sending K, accepted K, failed K, sending L, accepted L, failed K|told K|A-L
";

#[test]
fn what_follows_from_a_file() {
    for row in ROWS.lines().filter(|row| row.contains('|')) {
        let cells: Vec<&str> = row.split('|').collect();
        assert_eq!(
            decided(&lines(cells[0]), &call(cells[1])),
            cells[2],
            "{row}"
        );
    }
}

#[test]
fn another_request_is_refused_and_the_difference_named() {
    type Change = fn(&mut Call);
    let set = |call: &mut Call, name: &str| {
        call.wanted.request.insert(name.into(), "json 02".into());
    };
    let rows: [(Change, &str); 6] = [
        (|call| drop(call.wanted.request.remove("image")), "image"),
        (|call| call.wanted.request.clear(), "image, prompt"),
        (
            |call| call.wanted.base_url.clear(),
            "base URL (https://a.example, now )",
        ),
        (|call| call.has_own_key = true, "idempotency key"),
        (|_| (), "model"),
        (
            |call| call.wanted.base_url.clear(),
            "base URL (https://a.example, now ), model",
        ),
    ];
    for (change, others) in rows {
        for words in [
            "sending K",
            "sending K, named L",
            "sending K, named K",
            "sending K, accepted K",
            "sending K, accepted K, ready K",
        ] {
            let mut call = call("honored");
            change(&mut call);
            if others.contains("model") {
                set(&mut call, "model");
            }
            let what = decided(&lines(words), &call);
            let of = match words {
                "sending K" | "sending K, named L" => {
                    "is for a request, maybe billed, with another"
                }
                "sending K, named K" => {
                    "is for a request that may have created agent A-K, with another"
                }
                _ => "is for agent A-K, created with another",
            };
            assert!(what.starts_with(&format!("{of} {others};")), "{what}");
        }
    }
    // A failed attempt is followed by one with the same request.
    let mut call = call("told K");
    set(&mut call, "prompt");
    let what = decided(&lines("sending K, accepted K, failed K"), &call);
    assert!(what.contains("created with another prompt;"), "{what}");
}

#[test]
fn the_agent_that_an_error_names_is_written_down_unless_the_request_was_refused() {
    let rows = [
        (Billing::Billed, "{\"accepted\""),
        (Billing::Unknown, "{\"named\""),
        (Billing::NotBilled, ""),
    ];
    for (billing, expected) in rows {
        let error = Error::invalid("x").billing_is(billing);
        assert_eq!(Line::named_by(&error, "K"), None);
        let line = Line::named_by(&error.agent("A1"), "K");
        let text = line.map_or(String::new(), |line| {
            String::from_utf8(line.text(0).unwrap()).unwrap()
        });
        assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty());
    }
}

/// What an editor, git or a power cut does to a file.
#[test]
fn a_file_is_read_as_it_was_meant() {
    let (first, second) = (lines("sending K"), lines("accepted K"));
    let whole = first.clone() + &second;
    let (len, first_len) = (whole.len() as u64, first.len() as u64);
    let is_accepted = |text: &str| {
        parse(text.as_bytes()).map(|parsed| {
            let last = parsed.last.unwrap();
            (last.accepted.is_some(), parsed.len, parsed.is_ended)
        })
    };
    let rows = [
        (whole.clone(), (true, len, true)),
        (whole.trim_end().into(), (true, len - 1, false)),
        (whole.replace('\n', "\r\n"), (true, len + 2, true)),
        (format!("\u{feff}{whole}"), (true, len + 3, true)),
        (format!("\n {whole}\n\n"), (true, len + 2, true)),
        (format!("{whole}{{\"ended\""), (true, len, true)),
        (format!("{whole}\0\0\0\0"), (true, len, true)),
        (format!("{whole}\0\0\0\0\n"), (true, len, true)),
        (
            format!("{first}{{\"accepted\":\n\0"),
            (false, first_len, true),
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(is_accepted(&text), Ok(expected), "{text:?}");
    }
    // What an editor makes of an empty file.
    for empty in ["", "\n", " \r\n", "\u{feff}", "\u{feff}\n"] {
        assert_eq!(parse(empty.as_bytes()).map(|lines| lines.last), Ok(None));
        assert!(may_be_receipt(empty.as_bytes()));
    }
    let conflict = format!("<<<<<<< ours\n{first}");
    let marked = format!("\u{feff}\n{whole}");
    for start in [
        "{",
        &first[..5],
        &first,
        &marked,
        &conflict,
        "\0\0",
        " {\"s\0\0\n\0",
    ] {
        assert!(may_be_receipt(start.as_bytes()), "{start}");
    }
    for other in ["[package]", "{\"send\":1}", "{}", "\0\0\0\u{18}ftyp", "x"] {
        assert!(!may_be_receipt(other.as_bytes()), "{other}");
    }
    let newer = first.replace("\"format\":1", "\"format\":2");
    let rows = [
        ("\0\0\0".into(), DAMAGED),
        (first[..first.len() - 2].into(), DAMAGED),
        ("{\"format\": 1}".into(), DAMAGED),
        ("[package]\nname = \"x\"\n".into(), DAMAGED),
        (format!("{whole}{{\"accepted\":3}}\n"), DAMAGED),
        (format!("{whole}{{\"another\":{{}}}}\n"), DAMAGED),
        (second.clone(), DAMAGED),
        (format!("<<<<<<< ours\n{first}"), DAMAGED),
        (format!("{first}<<<<<<< ours\n{second}"), DAMAGED),
        (newer.clone(), "has format 2"),
        (format!("{whole}{newer}"), "has format 2"),
    ];
    for (text, expected) in rows {
        let what = parse(text.as_bytes()).unwrap_err();
        assert!(what.starts_with(expected), "{text:?}: {what}");
    }
}

/// A cut can only lose lines, and never make others.
#[test]
fn a_file_cut_anywhere_is_never_another_attempt() {
    let first = lines("sending K");
    let whole = lines("sending K, accepted K, ready K");
    for cut in 1..whole.len() {
        for tail in ["", "\0\0\0", "\n"] {
            let text = format!("{}{tail}", &whole[..cut]);
            match parse(text.as_bytes()) {
                Err(_) => assert!(cut < first.len(), "{text}"),
                Ok(parsed) => {
                    let step = decide(parsed.last.as_ref(), &call("told K"));
                    let is_safe = match &step {
                        Step::Unknown(_) => parsed.last.unwrap().is_pending(),
                        Step::Return(..) => !parsed.last.unwrap().is_pending(),
                        _ => false,
                    };
                    assert!(is_safe && parsed.len > 0, "{step:?}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_line_is_short_and_can_be_read_back() {
    let long = "x".repeat(2000);
    let mut deep = json!(1);
    for _ in 0..126 {
        deep = json!([deep]);
    }
    let record = json!({
        "agent_id": long, "status": "success", "progress": 1.0, "idempotency_key": "K",
        "replayed": true, "message": long, "deep": deep, "name": "n", "system_prompt": long,
    });
    let accepted = Line::Accepted(serde_json::from_value(record.clone()).unwrap());
    let agent = serde_json::from_value(record).unwrap();
    let ended = Line::Ended {
        key: "K".into(),
        agent,
    };
    for line in [accepted, ended] {
        assert_eq!(line.text(4000), None, "too deep to be read back");
        for (most, is_named) in [(100, true), (0, false)] {
            let text = String::from_utf8(line.text(most).unwrap()).unwrap();
            assert!(
                text.len() < 2300 && text.matches(&long).count() == 1,
                "{text}"
            );
            assert_eq!(text.contains("\"name\""), is_named);
            assert_eq!(text.matches('\n').count(), 1);
            match serde_json::from_str(&text).unwrap() {
                Line::Accepted(generation) => assert_eq!(generation.agent_id, long),
                Line::Ended { agent, .. } => assert!(agent.is_ready()),
                _ => panic!("{text}"),
            }
        }
    }
}

#[test]
fn a_date_is_read_by_the_calendar() {
    let rows = [
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
        (" Tue, 29 Feb 2000 23:59:60 GMT ", Some(951_868_800)),
        ("Wed, 01 Mar 2000 00:00:00 GMT", Some(951_868_800)),
        ("Fri, 31 Dec 2100 23:59:59 GMT", Some(4_133_980_799)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun Nov  6 08:49:37 1994", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49 GMT", None),
        ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 nov 1994 08:49:37 GMT", None),
        ("Sun, +6 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1969 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
        ("0", None),
        ("", None),
    ];
    for (text, expected) in rows {
        assert_eq!(
            retry::parse_date(text),
            expected.map(Duration::from_secs),
            "{text}"
        );
    }
}
