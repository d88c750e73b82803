//! What comes out of a `Body`, byte for byte, and what it says about itself on the way.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;

/// The most one read encodes.
const ENCODED_CHUNK: usize = CHUNK / 3 * 4;

/// SplitMix64: the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From one byte to some hundred KB, often near where a chunk ends.
    fn content(&mut self) -> Vec<u8> {
        let len = match self.below(3) {
            0 => 1 + self.below(12),
            1 => CHUNK * (1 + self.below(4)) - 4 + self.below(9),
            _ => 1 + self.below(200_000),
        };
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Any Unicode, often what JSON must escape.
    fn text(&mut self) -> String {
        const OFTEN: &[u8] = b"\"\\/\n\r\t\0\x08\x0c\x1f\x7fa ";
        let any = |random: &mut Self| match random.below(2) {
            0 => char::from(OFTEN[random.below(OFTEN.len())]),
            _ => char::from_u32(random.next() as u32 % 0x11_0000).unwrap_or('\u{2028}'),
        };
        (0..self.below(60)).map(|_| any(self)).collect()
    }
}

/// A file that is gone with this value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: &[u8]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bithuman-body-{}-{count}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn body_of(media: Media) -> Body {
    Body::new([("image", &Field::Media(media))], false).unwrap()
}

/// What serde_json makes of an image that is encoded whole.
fn image(content: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&json!({"image": STANDARD.encode(content)})).unwrap()
}

/// Reads as ureq does until `end` bytes were given, or a few more, by up to `most` at once: whole
/// groups of base64 must fit. What the body says about itself must be right at every step.
fn read(body: &mut Body, end: u64, most: usize, random: &mut Random) -> io::Result<Vec<u8>> {
    let (mut all, mut sent, len) = (Vec::new(), body.sent, body.len());
    while sent < end {
        let mut buf = vec![0; 4 + random.below(most - 3)];
        let n = body.read(&mut buf)?;
        assert_ne!(n, 0, "an end after {sent} of {len}");
        all.extend(&buf[..n]);
        sent += n as u64;
        assert_eq!((body.sent, body.fully_sent()), (sent, sent == len));
    }
    Ok(all)
}

#[track_caller]
fn assert_whole(body: &mut Body, most: usize, random: &mut Random, expected: &[u8]) {
    assert_eq!(body.len(), expected.len() as u64);
    let got = read(body, body.len(), most, random).unwrap();
    assert_eq!(body.read(&mut [0; 9]).unwrap(), 0, "more than declared");
    assert!(body.failure.is_none());
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    // Not `assert_eq`: nobody wants to see a MB of bytes.
    assert!(got == expected, "by up to {most}: differs at {differs:?}");
}

#[test]
fn any_request_at_any_read_size_is_what_serde_json_makes_of_it() {
    let mut random = Random(1);
    for most in [4, 5, 6, 7, 9, 64, 1000, ENCODED_CHUNK, 100_000].repeat(6) {
        let (mut fields, mut object, mut files) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for _ in 0..random.below(6) {
            let (content, text) = (random.content(), random.text());
            let encoded = STANDARD.encode(&content);
            let (field, value) = match random.below(5) {
                0 => (Field::Json(json!({"a": [text]})), json!({"a": [text]})),
                1 => (Field::Media(Media::bytes(content)), json!(encoded)),
                2 => (Field::Media(Media::base64(&encoded)), json!(encoded)),
                3 => {
                    let text = format!("data:,x{text}");
                    (Field::Media(Media::base64(&text)), json!(text))
                }
                _ => {
                    files.push(TempFile::new(&content));
                    let media = Media::file(&files[files.len() - 1].0);
                    (Field::Media(media), json!(encoded))
                }
            };
            let name = random.text();
            fields.insert(name.clone(), field);
            object.insert(name, value);
        }
        let fields = fields.iter().map(|(name, field)| (&**name, field));
        let mut body = Body::new(fields, false).unwrap();
        assert!(!body.fully_sent());
        // Rewound at any point, the last time at the very end, it gives the same bytes.
        for point in [random.next() % body.len(), body.len()] {
            read(&mut body, point, most, &mut random).unwrap();
            body.rewind();
            assert_eq!((body.sent, body.fully_sent()), (0, false));
        }
        let expected = serde_json::to_vec(&object).unwrap();
        assert_whole(&mut body, most, &mut random, &expected);
    }
}

#[test]
fn the_callers_own_base64_and_urls_are_sent_unchanged() {
    let texts = "aGk=|data:image/png;base64,aGk=|a\nk=|a\"b\\|\u{7f}é|https://h/\"é";
    for text in texts.split('|') {
        let expected = serde_json::to_vec(&json!({"image": text})).unwrap();
        assert_whole(
            &mut body_of(Media::base64(text)),
            9,
            &mut Random(1),
            &expected,
        );
        if text.starts_with("https") {
            assert_whole(&mut body_of(Media::url(text)), 9, &mut Random(1), &expected);
        }
    }
}

#[test]
fn media_that_cannot_be_sent_are_refused_by_their_field() {
    let (empty, folder) = (TempFile::new(b""), env::temp_dir());
    let local = "the service cannot fetch a media URL on localhost; use Media::file";
    let directory = format!("a directory, not a file: {}", folder.display());
    let no_content = format!("the file is empty: {}", empty.0.display());
    let mut table = vec![
        (Media::bytes([]), "the media file is empty"),
        (Media::base64("\n"), "the base64 text is empty"),
        (Media::base64("data:,"), "the base64 text is empty"),
        (Media::url("http://localhost/"), local),
        (Media::file(&empty.0), &no_content),
        (Media::file(&folder), &directory),
        (Media::file("no/such.jpg"), "no such file: no/such.jpg"),
    ];
    let device = "not a regular file: /dev/null";
    table.extend(cfg!(unix).then(|| (Media::file("/dev/null"), device)));
    for (media, what) in table {
        let field = Field::Media(media);
        let error = Body::new([("image", &field)], false).err().unwrap();
        assert_eq!(error.to_string(), format!(": image: {what}"));
        // A service on localhost can fetch what is there.
        let is_fetched = Body::new([("image", &field)], true).is_ok();
        assert_eq!(is_fetched, what == local);
    }
}

#[test]
fn lengths_beyond_32_bits_are_declared_exactly() {
    let file = TempFile::new(b"");
    let len = 6 * 1024 * 1024 * 1024 + 1;
    File::create(&file.0).unwrap().set_len(len).unwrap();
    let body = body_of(Media::file(&file.0));
    assert_eq!(body.len(), image(b"").len() as u64 + len.div_ceil(3) * 4);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_before_its_last_byte_is_given() {
    let mut random = Random(1);
    // By how much the length and the time of the last change are off.
    let changes = [(-1, 0), (-9999, 0), (1, 0), (9999, 0), (0, 1), (0, -1)];
    for (case, (resized, seconds)) in changes.repeat(6).into_iter().enumerate() {
        // A small file before its first byte; a big one somewhere before its last chunk.
        let (len, point) = match case % 12 < 6 {
            true => (10_000 + random.below(CHUNK - 10_000), 0),
            false => (CHUNK * 3 + random.below(CHUNK), random.below(ENCODED_CHUNK)),
        };
        let most = [4, 5, 1000, ENCODED_CHUNK][random.below(4)];
        let what = format!("{len} {resized}, {seconds} s, by up to {most}, after {point}");
        let file = TempFile::new(&vec![0x5a; len]);
        let mut body = body_of(Media::file(&file.0));
        read(&mut body, point as u64, most, &mut random).unwrap();

        let handle = OpenOptions::new().write(true).open(&file.0).unwrap();
        let time = handle.metadata().unwrap().modified().unwrap();
        handle.set_len((len as i64 + resized) as u64).unwrap();
        // Set, so that no file system's granularity matters.
        let second = Duration::from_secs(1);
        let time = [time - second, time, time + second][(seconds + 1) as usize];
        handle.set_modified(time).unwrap();
        let end = body.len();
        read(&mut body, end, most, &mut random).expect_err(&what);

        let path = file.0.display();
        let expected = format!("the file changed while it was read: {path}");
        let failure = body.failure.as_ref().unwrap();
        assert_eq!(failure.what(), expected, "{what}");
        assert!(body.sent + 2 < body.len(), "{what}: all was given");
        // A retry is a new attempt.
        body.rewind();
        assert!(body.failure.is_none(), "{what}");
    }
}

/// On Windows a name may stay taken until the file is closed.
#[cfg(unix)]
#[test]
fn a_file_removed_or_replaced_under_its_name_is_sent_as_it_was_opened() {
    let mut random = Random(1);
    let content = [1; 5 * CHUNK];
    let file = TempFile::new(&content);
    let mut body = body_of(Media::file(&file.0));
    read(&mut body, 9999, 1000, &mut random).unwrap();
    fs::remove_file(&file.0).unwrap();
    fs::write(&file.0, b"another").unwrap();
    body.rewind();
    assert_whole(&mut body, 1000, &mut random, &image(&content));
}

#[test]
fn contents_are_visited_and_sent_piece_by_piece_in_constant_memory() {
    let mut random = Random(1);
    let content = [1; 3 * CHUNK + 1];
    let file = TempFile::new(&content);
    for media in [Media::bytes(content), Media::file(&file.0)] {
        let mut body = body_of(media);
        for _ in 0..2 {
            let mut visited: Vec<u8> = Vec::new();
            let encoder = body.contents().next().unwrap();
            encoder.visit(|piece| visited.extend(piece)).unwrap();
            assert!(visited == content.as_slice());
        }
        let _ = body.read(&mut vec![0; 9 * CHUNK]).unwrap();
        for part in body.contents() {
            if let Part::File(file) = part {
                assert!(file.chunk.capacity() <= CHUNK);
            }
        }
        body.rewind();
        assert_whole(&mut body, 1000, &mut random, &image(&content));
    }
    assert_eq!(body_of(Media::base64("aGk=")).contents().count(), 0);
}

/// It shows the milliseconds set.
#[derive(Default)]
struct TestClock(AtomicUsize);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed) as u64)
    }

    fn sleep(&self, time: Duration) {
        self.0
            .fetch_add(time.as_millis() as usize, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_given_once_the_deadline_has_come() {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::default());
    let mut random = Random(1);
    let mut body = body_of(Media::bytes([7; 1000]));
    body.set_deadline(&clock, Some(Duration::from_secs(10)));
    clock.sleep(Duration::from_millis(9_999));
    read(&mut body, 40, 10, &mut random).unwrap();
    clock.sleep(Duration::from_millis(1));
    let sent = body.sent;
    assert!(body.read(&mut [0; 10]).is_err());
    let failure = body.failure.as_ref().unwrap();
    assert_eq!(failure.kind(), ErrorKind::WaitTimedOut);
    assert_eq!((body.sent, body.fully_sent()), (sent, false));
    body.rewind();
    assert!(body.failure.is_none());
    body.set_deadline(&clock, None);
    assert_whole(&mut body, 10, &mut random, &image(&[7; 1000]));
}

#[test]
fn progress_is_reported_each_hundredth_or_tenth_of_a_second_and_at_the_end() {
    let prompt = Field::Json(json!("x".repeat(2_387)));
    // The milliseconds between reads of 8 bytes, and the bytes between reports.
    for (millis, step) in [(0, 24), (30, 24), (50, 16), (100, 8)] {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = seen.clone();
        let hook: Hook = Arc::new(move |event: &Event| list.lock().unwrap().push(event.clone()));
        let mut body = Body::new([("prompt", &prompt)], false).unwrap();
        body.report_to(&hook, &clock);
        let total = body.len();
        // A retry starts from zero.
        for _ in 0..2 {
            while !body.fully_sent() {
                clock.sleep(Duration::from_millis(millis));
                assert!(body.read(&mut [0; 8]).unwrap() > 0);
            }
            assert_eq!(body.read(&mut [0; 8]).unwrap(), 0);
            body.rewind();
            let seen: Vec<_> = seen.lock().unwrap().drain(..).collect();
            let event = |sent| Event::Uploading { sent, total };
            let expected: Vec<_> = (step..total).step_by(step as usize).map(event).collect();
            assert_eq!(seen[..expected.len()], expected, "{millis}");
            assert_eq!(seen.last(), Some(&event(total)), "{millis}");
        }
    }
}
