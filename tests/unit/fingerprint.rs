use serde_json::json;

use super::*;

fn print(value: &Value) -> String {
    let mut fingerprint = Fingerprint::new();
    fingerprint.write_json(value);
    fingerprint.finish()
}

fn read(text: &str) -> String {
    print(&serde_json::from_str(text).unwrap())
}

#[test]
fn the_published_vectors_of_fnv_1a() {
    let rows = [
        ("", "6c62272e07bb014262b821756295c58d"),
        ("a", "d228cb696f1a8caf78912b704e4a8964"),
        ("foobar", "343e1662793c64bf6f0d3597ba446f18"),
    ];
    for (text, expected) in rows {
        // In one piece, and byte by byte.
        for size in [1, 9] {
            let mut fingerprint = Fingerprint::new();
            for piece in text.as_bytes().chunks(size) {
                fingerprint.write(piece);
            }
            assert_eq!(fingerprint.finish(), expected, "{text}");
        }
    }
}

/// Computed by another program. These are in people's receipts: where one changes, their next run
/// is refused, or pays again. So none of them may ever change.
#[test]
fn fingerprints_of_earlier_versions_stay() {
    let nested = json!({"list": [1, 2.5, "x", null, true, false, [], {}], "": {"a": -7}});
    let rows = [
        (
            json!("You are an art critic."),
            "915ee2a760973236c863470d955843d3",
        ),
        (json!("é\"\n"), "2713248f1091fa138b2a36adc1774ebe"),
        (json!(true), "d228cb697c1a8caf78912b704e4a9963"),
        (json!(false), "d228cb696e1a8caf78912b704e4a8829"),
        (json!(null), "d228cb69661a8caf78912b704e4a7e51"),
        (json!(0), "a9014b1d9a060f5ccd4c203327e2051c"),
        (json!(-1), "515a3148a1d361356c7cc309623f0ccc"),
        (json!(u64::MAX), "dca0f50c15d365fe1ffad18c723f3c74"),
        (json!(1.5), "a278058889fef9bfc30a233302d23c32"),
        (json!([]), "d0e0c573b626eb1111333903a54fbe6c"),
        (json!({}), "8b839e63024c715761ff9af6df0edd9e"),
        (nested, "1f60a519cc879f2584086adac157550d"),
    ];
    for (value, expected) in rows {
        assert_eq!(print(&value), expected, "{value}");
    }
}

#[test]
fn a_value_counts_and_not_how_it_is_written() {
    let expected = read(r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#);
    assert_eq!(read(r#"{"b": {"d": null, "c": [1, 2]}, "a": 1}"#), expected);
    assert_ne!(read(r#"{"a": 1, "b": {"c": [2, 1], "d": null}}"#), expected);
    assert_eq!(read("1.50"), read("15e-1"));
    assert_eq!(read("1"), print(&json!(1_u8)));
    assert_eq!(read(r#""\u0061""#), print(&json!("a")));
}

#[test]
fn how_the_lines_of_a_text_end_does_not_count() {
    let hash = |write: fn(&mut Fingerprint)| {
        let mut fingerprint = Fingerprint::new();
        write(&mut fingerprint);
        fingerprint.finish()
    };
    let expected = hash(|print| print.write(b"a\n\nb\rc\n"));
    assert_eq!(hash(|print| print.write_text("a\n\nb\rc\n")), expected);
    assert_eq!(
        hash(|print| print.write_text("a\r\n\r\nb\rc\r\n")),
        expected
    );
}

#[test]
fn values_that_could_run_together_differ() {
    let texts = r#"1 1.0 "1" -1 true [1] 18446744073709551615 "" ["ab","c"] ["a","bc"] ["abc"]
        ["abc",""] ["","abc"] "abc" [["abc"]] [["a"],"b"] [["a","b"]] ["a",["b"]] {"a":"b"}
        {"ab":""} {"":"ab"} {"a":{"b":null}} {"a":{},"b":null} {"a":null,"b":{}} {"a":null} {} []
        [{}] [[]] [[],[]] [null] [null,null] null "null" "n" "s" "\u0000" "\u0000\u0000" false"#;
    let mut seen: Vec<_> = texts.split_whitespace().map(read).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), texts.split_whitespace().count());
}
