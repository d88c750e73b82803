use std::sync::atomic::AtomicBool;

use super::*;
use crate::clock::SystemClock;

const REQUEST: &str = "https://a/v1/agent/A1";

/// Of 100 bytes, 40 are synced.
fn note() -> Note {
    Note {
        request: REQUEST.into(),
        model: Some("essence-2".into()),
        etag: Some("\"a\"".into()),
        total: Some(100),
        synced: 40,
        boot: Some("b1".into()),
    }
}

#[test]
fn a_part_counts_as_far_as_its_note_and_the_boot_say() {
    type Change = fn(&mut Note);
    let rows: [(Change, u64, u64); 15] = [
        (|_| {}, 60, 60),
        (|_| {}, 40, 40),
        (|_| {}, 39, 0),
        (|_| {}, 100, 100),
        (|_| {}, 101, 0),
        (|note| note.synced = 0, 60, 60),
        // A power cut may have lost what was not synced.
        (|note| note.boot = Some("b2".into()), 60, 40),
        (|note| note.boot = Some("b2".into()), 39, 0),
        (|note| note.boot = None, 60, 40),
        (|note| note.request += "2", 60, 0),
        (|note| note.etag = None, 60, 0),
        (|note| note.etag = None, 100, 100),
        (|note| (note.etag, note.boot) = (None, None), 100, 0),
        (|note| note.total = None, 160, 160),
        (|note| (note.etag, note.total) = (None, None), 60, 0),
    ];
    for (number, (change, len, usable)) in rows.into_iter().enumerate() {
        let mut changed = note();
        change(&mut changed);
        assert_eq!(changed.usable(&note(), len), usable, "row {number}");
    }
    // Where a boot has no id, there is nothing to compare.
    let unknown = Note {
        boot: None,
        ..note()
    };
    assert_eq!(unknown.usable(&unknown, 60), 40);
}

/// A path in a folder that is removed with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("bithuman-part-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Place(folder)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|it| name(it).into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn path(&self) -> PathBuf {
        self.0.join("a.imx.part")
    }

    fn lock(&self) -> Result<Part> {
        let (clock, stopped) = (SystemClock::new(), AtomicBool::new(false));
        let wait = LockWait {
            clock: &clock,
            stopped: &stopped,
            until: Duration::ZERO,
        };
        Part::lock(&self.0.join("a.imx"), REQUEST.into(), &wait)
    }

    fn open(&self) -> Part {
        self.lock().unwrap()
    }

    fn note(&self) -> PathBuf {
        self.0.join("a.imx.part.json")
    }

    /// Opens the part, and begins another file.
    fn begin(&self, etag: Option<&str>, total: u64) -> Part {
        let mut part = self.open();
        let note = Note {
            etag: etag.map(String::from),
            total: Some(total),
            ..part.note.clone()
        };
        part.begin(0, note).unwrap();
        part
    }

    /// Writes 60 bytes of 100, the first 40 of them synced, and drops the part.
    fn leave_a_part(&self) {
        let mut part = self.begin(Some("\"a\""), 100);
        part.write(&[1; 40]).unwrap();
        part.sync().unwrap();
        part.write(&[2; 20]).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn what_a_power_cut_may_have_lost_is_cut_before_anything_is_written() {
    let place = Place::new("boot");
    place.leave_a_part();
    let Some(boot) = boot_id() else { return };
    assert_eq!(place.open().offset, 60);
    let path = place.note();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(boot.trim(), "an earlier one")).unwrap();
    let mut part = place.open();
    assert_eq!((part.offset, &part.note.boot), (40, &Some(boot)));
    let note = part.note.clone();
    part.begin(40, note).unwrap();
    part.write(b"x").unwrap();
    drop(part);
    assert_eq!(place.open().offset, 41);
    assert_eq!(
        fs::read(place.path()).unwrap(),
        [&[1; 40][..], b"x"].concat()
    );
}

#[test]
fn what_is_written_is_synced_every_16_mib() {
    let place = Place::new("synced");
    let mut part = place.begin(Some("\"a\""), 100 << 20);
    let block = vec![1; 1 << 20];
    for (blocks, synced) in [(15, 0), (1, 16), (15, 16), (1, 32)] {
        for _ in 0..blocks {
            part.write(&block).unwrap();
        }
        assert_eq!(part.note.synced, synced << 20);
    }
}

#[test]
fn without_an_id_of_the_boot_the_end_of_a_call_syncs() {
    let place = Place::new("no-boot");
    let mut part = place.begin(Some("\"a\""), 100);
    part.note.boot = None;
    part.write(&[1; 40]).unwrap();
    drop(part);
    let text = fs::read_to_string(place.0.join("a.imx.part.json")).unwrap();
    assert!(text.contains("\"synced\":40,\"boot\":null"), "{text}");
}

#[test]
fn a_torn_note_is_none() {
    let place = Place::new("torn");
    place.leave_a_part();
    let path = place.note();
    let good = fs::read(&path).unwrap();
    for torn in [&good[..good.len() / 2], b"\0\0\0\0"] {
        fs::write(&path, torn).unwrap();
        assert_eq!(place.open().offset, 0);
    }
    // A longer one may have been there before.
    fs::write(&path, [&*good, b"rest of another\n"].concat()).unwrap();
    assert!(place.open().offset >= 40);
}

#[test]
fn the_bytes_of_another_model_or_file_are_not_kept() {
    let place = Place::new("other");
    place.leave_a_part();
    let part = place.open();
    assert!(part.range(&None).is_some());
    assert_eq!(part.range(&Some("other".into())), None);
    drop(part);
    place.begin(Some("\"b\""), 100).write(&[3; 10]).unwrap();
    let part = place.open();
    assert_eq!(
        (part.note.etag.as_deref(), part.note.synced),
        (Some("\"b\""), 0)
    );
    assert!(part.offset <= 10);
}

/// What is at the path of the part and of the note, and which of them is refused.
#[test]
fn what_no_download_has_written_is_refused_and_stays() {
    let rows: [(Option<&str>, Option<&str>, Option<&str>); 8] = [
        (None, None, None),
        (None, Some(""), None),
        (Some(""), None, None),
        (Some("x"), Some("{\"request\":\"https"), None),
        (
            Some("x"),
            None,
            Some("a.imx.part: is not the part of a download; delete it"),
        ),
        (
            Some("x"),
            Some(""),
            Some("a.imx.part: is not the part of a download; delete it"),
        ),
        (
            None,
            Some("{}"),
            Some("a.imx.part.json: is not the note of a download; delete it"),
        ),
        (
            Some("x"),
            Some("[]"),
            Some("a.imx.part.json: is not the note of a download; delete it"),
        ),
    ];
    for (number, (part, note, says)) in rows.into_iter().enumerate() {
        let place = Place::new(&format!("foreign-{number}"));
        for (path, text) in [(place.path(), part), (place.note(), note)] {
            if let Some(text) = text {
                fs::write(path, text).unwrap();
            }
        }
        match (place.lock(), says) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => {
                assert_eq!(error.kind(), ErrorKind::File);
                assert!(error.to_string().contains(says), "{error}");
                assert_eq!(fs::read_to_string(place.path()).ok().as_deref(), part);
                let there = fs::read_to_string(place.note()).ok();
                assert_eq!(there.as_deref(), note.filter(|text| !text.is_empty()));
                // Nor does another call take it for its own.
                assert!(place.lock().is_err());
            }
            (result, _) => panic!("row {number}: {:?}", result.err()),
        }
    }
}

#[cfg(unix)]
#[test]
fn a_part_or_note_with_another_name_is_refused() {
    for name in ["a.imx.part", "a.imx.part.json"] {
        let place = Place::new(&format!("linked-{name}"));
        fs::write(place.0.join("other"), "precious").unwrap();
        fs::hard_link(place.0.join("other"), place.0.join(name)).unwrap();
        let error = place.lock().err().unwrap().to_string();
        assert!(
            error.contains(&format!("{name}: is not a regular file, or has hard")),
            "{error}"
        );
        assert_eq!(fs::read(place.0.join("other")).unwrap(), b"precious");
    }
}

#[test]
fn the_note_is_named_where_it_is_locked() {
    let place = Place::new("locked");
    let _part = place.open();
    let error = place.lock().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WaitTimedOut);
    let says = "a.imx.part.json: is in use by another process; its call may still succeed; call";
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_file_that_another_program_changed_is_not_put_in_place() {
    for len in [99, 101] {
        let place = Place::new(&format!("changed-{len}"));
        let mut part = place.begin(None, 100);
        part.write(&[1; 100]).unwrap();
        open_file(&part.path).unwrap().set_len(len).unwrap();
        assert!(part.finish(&SystemClock::new()).is_err());
        assert!(!place.names().contains(&"a.imx".into()));
    }
}

/// One of the same length, too. Nor does the next call put it there.
#[cfg(unix)]
#[test]
fn a_part_or_note_that_was_replaced_is_noticed() {
    for (name, is_whole) in [
        ("a.imx.part", true),
        ("a.imx.part", false),
        ("a.imx.part.json", true),
    ] {
        let place = Place::new(&format!("replaced-{name}-{is_whole}"));
        let mut part = place.begin(Some("\"a\""), 32 << 20);
        part.write(&[1; 1 << 20]).unwrap();
        let path = place.0.join(name);
        fs::write(place.0.join("other"), vec![9; 32 << 20]).unwrap();
        fs::rename(place.0.join("other"), &path).unwrap();
        let result = match is_whole {
            true => part.finish(&SystemClock::new()),
            // At the next sync.
            false => part
                .write(&vec![1; 15 << 20])
                .and_then(|()| Err(part.finish(&SystemClock::new()).unwrap_err())),
        };
        let says = format!("{name} was deleted or replaced");
        assert!(result.unwrap_err().to_string().ends_with(&says));
        assert!(place.lock().is_err());
        assert!(!place.0.join("a.imx").exists());
        assert_eq!(fs::read(path).unwrap(), vec![9; 32 << 20]);
    }
}

#[cfg(unix)]
#[test]
fn the_file_gets_the_mode_of_the_one_that_it_replaces() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o600, 0o640, 0o755] {
        let place = Place::new(&format!("mode-{mode}"));
        let target = place.0.join("a.imx");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        let mut part = place.begin(None, 3);
        part.write(b"new").unwrap();
        part.finish(&SystemClock::new()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&target).unwrap().permissions().mode() & 0o777,
            mode
        );
    }
}

#[test]
fn without_locks_the_part_has_a_name_of_its_own_and_is_not_kept() {
    let place = Place::new("unlocked");
    let unlocked = || {
        let mut part = place.open();
        part.path = unshared(&part.target);
        part.lock.take().unwrap().remove();
        let note = Note {
            total: Some(5),
            ..part.note.clone()
        };
        part.begin(0, note).unwrap();
        part.write(b"abcde").unwrap();
        part
    };
    let (one, other) = (unlocked(), unlocked());
    assert_ne!(one.path, other.path);
    assert_eq!(place.names().len(), 2);
    drop(one);
    other.finish(&SystemClock::new()).unwrap();
    assert_eq!(place.names(), ["a.imx"]);
}
