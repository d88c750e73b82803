use std::io::Read;
use std::{env, fs, process};

use serde_json::json;

use super::*;
use crate::error::ErrorKind;

fn json(value: Value) -> Field {
    Field::Json(value)
}

fn url(text: &str) -> Field {
    Field::Media(Media::url(text))
}

fn base64(text: &str) -> Field {
    Field::Media(Media::base64(text))
}

fn bytes(content: &[u8]) -> Field {
    Field::Media(Media::bytes(content))
}

fn prints(fields: &[(&str, Field)]) -> BTreeMap<String, String> {
    let fields = || fields.iter().map(|(name, field)| (*name, field));
    fingerprints(fields(), &mut Body::new(fields()).unwrap()).unwrap()
}

/// What is said of one field.
fn print(field: Field) -> String {
    prints(&[("field", field)]).remove("field").unwrap()
}

/// No two of these are the same.
#[track_caller]
fn assert_differ(values: impl IntoIterator<Item = Value>) {
    let mut seen = BTreeMap::new();
    for value in values {
        if let Some(other) = seen.insert(print(json(value.clone())), value.clone()) {
            panic!("{value} is the same as {other}");
        }
    }
}

#[test]
fn the_published_vectors() {
    let rows = [
        ("", 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d),
        ("a", 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964),
        ("foobar", 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18),
    ];
    for (text, expected) in rows {
        let mut hash = Fnv1a::new();
        hash.write(text.as_bytes());
        assert_eq!(hash.0, expected, "{text}");
    }
}

/// Reckoned by another program. These are in the receipts of people: where one changes, their next run
/// is refused, or pays again. So none of them may ever change, whatever becomes of this crate.
#[test]
fn fingerprints_of_earlier_versions_stay() {
    let nested = json!({"list": [1, 2.5, "x", null, true, false, [], {}], "": {"a": -7}});
    let large: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
    let rows = [
        (json(json!("You are an art critic.")), "json 915ee2a760973236c863470d955843d3"),
        (json(json!("é\"\n")), "json 2713248f1091fa138b2a36adc1774ebe"),
        (json(json!(true)), "json d228cb697c1a8caf78912b704e4a9963"),
        (json(json!(false)), "json d228cb696e1a8caf78912b704e4a8829"),
        (json(json!(null)), "json d228cb69661a8caf78912b704e4a7e51"),
        (json(json!(0)), "json a9014b1d9a060f5ccd4c203327e2051c"),
        (json(json!(-1)), "json 515a3148a1d361356c7cc309623f0ccc"),
        (json(json!(u64::MAX)), "json dca0f50c15d365fe1ffad18c723f3c74"),
        (json(json!(1.5)), "json a278058889fef9bfc30a233302d23c32"),
        (json(json!([])), "json d0e0c573b626eb1111333903a54fbe6c"),
        (json(json!({})), "json 8b839e63024c715761ff9af6df0edd9e"),
        (json(nested), "json 1f60a519cc879f2584086adac157550d"),
        (url("https://example.com/artwork.jpg"), "url a45dacc4ee65fb980d206572bff3f7d1"),
        (base64("aGk="), "base64 697002706a757277b806e9767c2a4b11"),
        (bytes(b"hi"), "content 08809533c6ab1be95aa0733055ac561a"),
        (bytes(&large), "content 5602114bb0f9c2b991ab48a9dc8dd85c"),
    ];
    for (field, expected) in rows {
        assert_eq!(print(field.clone()), expected, "{field:?}");
    }
}

#[test]
fn the_order_of_an_objects_fields_does_not_count() {
    let read = |text: &str| print(json(serde_json::from_str(text).unwrap()));
    let expected = read(r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#);
    assert_eq!(read(r#"{"b": {"d": null, "c": [1, 2]}, "a": 1}"#), expected);
    assert_ne!(read(r#"{"a": 1, "b": {"c": [2, 1], "d": null}}"#), expected);
}

#[test]
fn a_number_counts_as_what_it_is_and_not_as_it_is_written() {
    let read = |text: &str| print(json(serde_json::from_str(text).unwrap()));
    assert_eq!(read("1.50"), read("15e-1"));
    assert_eq!(read("1"), print(json(json!(1_u8))));
    assert_eq!(read("1"), print(json(json!(1_i64))));
    assert_differ([json!(1), json!(1.0), json!("1"), json!(-1), json!(true), json!([1]), json!(u64::MAX), json!("")]);
}

#[test]
fn values_that_could_run_together_differ() {
    assert_differ([
        json!(["ab", "c"]),
        json!(["a", "bc"]),
        json!(["abc"]),
        json!(["abc", ""]),
        json!(["", "abc"]),
        json!("abc"),
        json!([["abc"]]),
        json!([["a"], "b"]),
        json!([["a", "b"]]),
        json!(["a", ["b"]]),
        json!({"a": "b"}),
        json!({"ab": ""}),
        json!({"": "ab"}),
        json!({"a": {"b": null}}),
        json!({"a": {}, "b": null}),
        json!({"a": null, "b": {}}),
        json!({"a": null}),
        json!({}),
        json!([]),
        json!([{}]),
        json!([[]]),
        json!([[], []]),
        json!([null]),
        json!([null, null]),
        json!(null),
        json!("null"),
        json!("n"),
        json!(""),
        json!("s"),
        json!("\0"),
        json!("\0\0"),
    ]);
}

#[test]
fn the_same_text_of_another_kind_is_another() {
    let text = "https://example.com/a";
    let all = [print(json(json!(text))), print(url(text)), print(base64(text)), print(bytes(text.as_bytes()))];
    for (n, one) in all.iter().enumerate() {
        assert!(!all[..n].contains(one), "{all:?}");
    }
}

#[test]
fn a_field_is_told_by_its_name() {
    let (a, b) = (bytes(b"a"), bytes(b"b"));
    let image = prints(&[("image", a.clone()), ("audio", b.clone())]);
    assert_eq!(image.keys().collect::<Vec<_>>(), ["audio", "image"]);
    assert_eq!(image, prints(&[("audio", b.clone()), ("image", a.clone())]));
    assert_ne!(image, prints(&[("image", b), ("audio", a)]));
    assert!(prints(&[]).is_empty());
}

/// Where a file is read in pieces, and the other media around it must not be mistaken for it.
#[test]
fn a_file_and_bytes_of_the_same_content_are_the_same() {
    let path = env::temp_dir().join(format!("bithuman-fingerprint-{}", process::id()));
    for len in [1, 2, 49_151, 49_152, 49_153, 150_000] {
        let content: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let fields =
            |image| [("audio", bytes(b"a")), ("image", image), ("prompt", base64("aGk=")), ("video", bytes(b"v"))];
        let of_bytes = prints(&fields(bytes(&content)));
        assert_eq!(prints(&fields(Field::Media(Media::file(&path)))), of_bytes, "{len}");
        assert_eq!(of_bytes["image"], print(bytes(&content)), "{len}");
        assert_eq!(of_bytes["video"], print(bytes(b"v")), "{len}");

        let mut other = content.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_ne!(print(bytes(&other)), of_bytes["image"], "{len}");
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_is_sent_whole_after_it_was_read_and_refused_if_it_changes_before() {
    let path = env::temp_dir().join(format!("bithuman-fingerprint-change-{}", process::id()));
    fs::write(&path, vec![7; 150_000]).unwrap();
    let image = Field::Media(Media::file(&path));
    let fields = || [("image", &image)].into_iter();
    let whole = |body: &mut Body| {
        let mut all = vec![0; body.len() as usize];
        body.read_exact(&mut all).unwrap();
        all
    };
    let mut body = Body::new(fields()).unwrap();
    let before = whole(&mut body);
    body.rewind();
    fingerprints(fields(), &mut body).unwrap();
    assert!(whole(&mut body) == before);

    let mut body = Body::new(fields()).unwrap();
    fs::write(&path, "shorter").unwrap();
    let error = fingerprints(fields(), &mut body).unwrap_err();
    fs::remove_file(&path).unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}
