//! What comes out of a `Body`, byte for byte, and what it says about itself on the way.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, json};

use super::*;
use crate::error::ErrorKind;
use crate::retry;

/// The seed a failed test printed, to see the same cases again.
const SEED: Option<u64> = None;

/// The most one read encodes.
const ENCODED_CHUNK: usize = CHUNK / 3 * 4;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = SEED.unwrap_or_else(retry::random);
        println!("const SEED: Option<u64> = Some({seed:#x});");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// From one byte to some hundred KB, often near where a chunk ends.
    fn medium(&mut self) -> Vec<u8> {
        let len = match self.below(3) {
            0 => 1 + self.below(12),
            1 => CHUNK * (1 + self.below(4)) - 4 + self.below(9),
            _ => 1 + self.below(300_000),
        };
        self.bytes(len)
    }

    /// Any Unicode, often what JSON must escape.
    fn text(&mut self) -> String {
        let len = self.below(60);
        (0..len)
            .map(|_| match self.below(3) {
                0 => self.one_of(&['"', '\\', '/', '\n', '\r', '\t', '\0', '\u{8}', '\u{c}', '\u{1f}', '\u{7f}']),
                1 => self.one_of(&['a', ' ', 'é', 'ß', '\u{2028}', '漢', '\u{feff}', '\u{ffff}', '😀', '\u{10ffff}']),
                _ => char::from_u32(self.next() as u32 % 0x11_0000).unwrap_or('x'),
            })
            .collect()
    }
}

/// A file that is gone with this value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: &[u8]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bithuman-body-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        TempFile(path)
    }

    fn medium(&self) -> Field {
        Field::Media(Media::file(&self.0))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The fields of a request, and the same as serde_json is to see them: with media encoded whole.
#[derive(Default)]
struct Request {
    fields: BTreeMap<String, Field>,
    object: Map<String, Value>,
    files: Vec<TempFile>,
}

impl Request {
    fn random(random: &mut Random) -> Self {
        let mut request = Request::default();
        for _ in 0..random.below(6) {
            let name = random.text();
            match random.below(6) {
                0 => request.json(&name, json!(random.text())),
                1 => request.json(&name, json!({"list": [random.text(), random.next(), true, null]})),
                2 => request.bytes(&name, &random.medium()),
                3 => request.file(&name, &random.medium()),
                4 => request.base64(&name, &STANDARD.encode(random.medium())),
                _ => request.base64(&name, &format!("data:{}", random.text())),
            }
        }
        request
    }

    fn add(&mut self, name: &str, field: Field, value: impl Into<Value>) {
        self.fields.insert(name.into(), field);
        self.object.insert(name.into(), value.into());
    }

    fn json(&mut self, name: &str, value: Value) {
        self.add(name, Field::Json(value.clone()), value);
    }

    fn bytes(&mut self, name: &str, content: &[u8]) {
        self.add(name, Field::Media(Media::bytes(content)), STANDARD.encode(content));
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        let file = TempFile::new(content);
        self.add(name, file.medium(), STANDARD.encode(content));
        self.files.push(file);
    }

    fn base64(&mut self, name: &str, text: &str) {
        self.add(name, Field::Media(Media::base64(text)), text);
    }

    fn body(&self) -> Body {
        body(self.fields.iter().map(|(name, field)| (name.as_str(), field)))
    }

    fn expected(&self) -> Vec<u8> {
        serde_json::to_vec(&self.object).unwrap()
    }
}

fn body<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Field)>) -> Body {
    Body::new(fields).unwrap()
}

/// Reads on as ureq does until `end` bytes were given, or a few more; what the body says about
/// itself must be right at every step.
fn read(body: &mut Body, end: u64, mut size: impl FnMut() -> usize) -> io::Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), Vec::new());
    let (mut sent, len) = (body.sent(), body.len());
    while sent < end {
        buf.resize(size(), 0);
        let n = body.read(&mut buf)?;
        assert_ne!(n, 0, "an end before the declared one, after {sent} of {len}");
        all.extend(&buf[..n]);
        sent += n as u64;
        assert_eq!((body.sent(), body.handed_over()), (sent, sent == len), "of {len}");
    }
    Ok(all)
}

fn read_whole(body: &mut Body, size: impl FnMut() -> usize) -> Vec<u8> {
    let all = read(body, body.len(), size).unwrap();
    assert_eq!(body.read(&mut [0; 9]).unwrap(), 0, "more than declared");
    assert_eq!(body.broken(), None);
    all
}

/// Not `assert_eq`: nobody wants to see a MB of bytes.
fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    let differ = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(got == expected, "{what}: {} bytes instead of {}, differ at {differ:?}", got.len(), expected.len());
}

#[test]
fn any_request_at_any_read_size_is_what_serde_json_makes_of_it() {
    let mut random = Random::new();
    for case in 0..100 {
        let request = Request::random(&mut random);
        let expected = request.expected();
        let mut body = request.body();
        let most = random.one_of(&[1, 2, 3, 4, 5, 7, 64, 1000, ENCODED_CHUNK, 100_000]);
        let what = format!("case {case}, read by up to {most}");

        assert_eq!(body.len(), expected.len() as u64, "{what}");
        assert!(!body.handed_over());
        let got = read_whole(&mut body, || 1 + random.below(most));
        assert_same(&got, &expected, &what);
    }
}

#[test]
fn every_residue_and_every_small_read_size() {
    let mut random = Random::new();
    for len in 1..=48 {
        let mut request = Request::default();
        let content = random.bytes(len);
        request.bytes("bytes", &content);
        request.file("file", &content);
        let expected = request.expected();
        for size in 1..=13 {
            let got = read_whole(&mut request.body(), || size);
            assert_same(&got, &expected, &format!("{len} bytes by {size}"));
        }
    }
}

#[test]
fn rewound_at_any_point_it_gives_the_same_bytes() {
    let mut random = Random::new();
    for case in 0..40 {
        let request = Request::random(&mut random);
        let expected = request.expected();
        let mut body = request.body();
        let most = random.one_of(&[1, 3, 5, 1000, 50_000]);
        for again in 0..3 {
            // The last time from the very end.
            let point = if again == 2 { body.len() } else { random.next() % (body.len() + 1) };
            read(&mut body, point, || 1 + random.below(most)).unwrap();
            body.rewind();
            assert_eq!((body.sent(), body.handed_over()), (0, false));
        }
        let got = read_whole(&mut body, || 1 + random.below(most));
        assert_same(&got, &expected, &format!("case {case}, by up to {most}"));
    }
}

#[test]
fn base64_of_the_callers_goes_as_it_is() {
    let rows = [
        ("aGk=", r#"{"image":"aGk="}"#),
        ("data:image/png;base64,aGk=", r#"{"image":"data:image/png;base64,aGk="}"#),
        ("aG\nk=", r#"{"image":"aG\nk="}"#),
        (r#"a"b"#, r#"{"image":"a\"b"}"#),
        (r"a\b", r#"{"image":"a\\b"}"#),
        ("\u{7f}é", "{\"image\":\"\u{7f}é\"}"),
    ];
    for (text, expected) in rows {
        let field = Field::Media(Media::base64(text));
        for size in [1, 2, 100] {
            let got = read_whole(&mut body([("image", &field)]), || size);
            assert_eq!(String::from_utf8(got).unwrap(), expected);
        }
    }
}

#[test]
fn without_a_field_it_is_an_empty_object() {
    assert_eq!(read_whole(&mut body([]), || 1), b"{}");
}

#[test]
fn an_empty_medium_is_refused() {
    let file = TempFile::new(b"");
    let rows = [
        (Field::Media(Media::bytes([])), "image: the medium is empty".to_owned()),
        (Field::Media(Media::base64("")), "image: the base64 text is empty".to_owned()),
        (file.medium(), format!("image: the file is empty: {}", file.0.display())),
    ];
    for (field, what) in rows {
        let error = Body::new([("image", &field)]).err().unwrap();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, format!("Api: {what}")));
    }
}

#[test]
fn lengths_beyond_32_bits_are_declared_exactly() {
    let file = TempFile::new(b"");
    let len = 6 * 1024 * 1024 * 1024 + 1;
    File::create(&file.0).unwrap().set_len(len).unwrap();
    let field = file.medium();
    let mut body = body([("video", &field)]);
    assert_eq!(body.len(), r#"{"video":""}"#.len() as u64 + len.div_ceil(3) * 4);
    assert!(read(&mut body, 12, || 12).unwrap().starts_with(br#"{"video":"AA"#));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_before_its_last_byte_is_given() {
    const SECOND: Duration = Duration::from_secs(1);
    type Change = fn(&mut File, u64, SystemTime) -> SystemTime;
    // Each returns the time to set, so that no file system's granularity matters.
    let changes: [(&str, Change); 6] = [
        ("a byte shorter", |file, len, time| resize(file, len - 1, time)),
        ("emptied", |file, _, time| resize(file, 0, time)),
        ("a byte longer", |file, len, time| resize(file, len + 1, time)),
        ("much longer", |file, len, time| resize(file, len * 3, time)),
        ("overwritten", |file, _, time| overwrite(file, time + SECOND)),
        ("overwritten, and older", |file, _, time| overwrite(file, time - SECOND)),
    ];
    let mut random = Random::new();
    for case in 0..21 {
        for (name, change) in changes {
            // Of a small file before its first byte; of a big one somewhere before its last chunk.
            let (len, point) = match case % 3 {
                0 => (1 + random.below(CHUNK), 0),
                _ => (CHUNK * 3 + random.below(CHUNK), random.below(ENCODED_CHUNK)),
            };
            let most = random.one_of(&[1, 3, 4, 1000, ENCODED_CHUNK]);
            let what = format!("{name}: {len} bytes by up to {most}, changed after {point}");
            let file = TempFile::new(&vec![0x5a; len]);
            let (image, prompt) = (file.medium(), Field::Json(json!("the end")));
            let mut body = body([("image", &image), ("prompt", &prompt)]);
            let end_of_image = (r#"{"image":""#.len() + len.div_ceil(3) * 4) as u64;

            read(&mut body, point as u64, || 1 + random.below(most)).unwrap();
            let before = fs::metadata(&file.0).unwrap().modified().unwrap();
            let mut handle = OpenOptions::new().write(true).open(&file.0).unwrap();
            let after = change(&mut handle, len as u64, before);
            handle.set_modified(after).unwrap();
            let end = body.len();
            let error = read(&mut body, end, || 1 + random.below(most)).expect_err(&what);

            let expected = format!("the file changed while it was read: {}", file.0.display());
            assert_eq!((&*error.to_string(), body.broken()), (&*expected, Some(&*expected)), "{what}");
            assert!(body.sent() < end_of_image, "{what}: {} of {end_of_image} given", body.sent());
            assert!(!body.handed_over(), "{what}");
            body.rewind();
            assert_eq!(body.broken(), None, "{what}: a new attempt is not judged by the one before");
        }
    }
}

fn resize(file: &mut File, len: u64, time: SystemTime) -> SystemTime {
    file.set_len(len).unwrap();
    time
}

fn overwrite(file: &mut File, time: SystemTime) -> SystemTime {
    file.write_all(b"!").unwrap();
    time
}

#[test]
fn a_file_replaced_or_removed_under_its_name_is_sent_as_it_was_opened() {
    let mut random = Random::new();
    for remove in [false, true] {
        let mut request = Request::default();
        request.file("image", &random.bytes(5 * CHUNK));
        let mut body = request.body();
        let point = random.below(4 * ENCODED_CHUNK) as u64;
        read(&mut body, point, || 1000).unwrap();

        let path = &request.files[0].0;
        match remove {
            true => fs::remove_file(path).unwrap(),
            false => fs::rename(&TempFile::new(b"another").0, path).unwrap(),
        }
        body.rewind();
        assert_same(&read_whole(&mut body, || 1000), &request.expected(), "after the name is gone");
    }
}
