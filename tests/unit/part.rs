use std::sync::atomic::AtomicBool;

use super::*;
use crate::clock::SystemClock;

fn wanted() -> Note {
    Note {
        base_url: "https://a".into(),
        agent_id: "A1".into(),
        ..Note::default()
    }
}

/// 60 of 100 bytes are there, 40 of them synced.
fn note() -> Note {
    Note {
        model: Some("essence-2".into()),
        etag: Some("\"a\"".into()),
        total: Some(100),
        synced: 40,
        written: 60,
        ..wanted()
    }
}

#[test]
fn only_a_fitting_note_makes_a_part_good() {
    type Change = fn(&mut Note);
    let rows: [(Change, u64, bool); 12] = [
        (|_| {}, 60, true),
        // What was not synced may be gone, or there may be more.
        (|_| {}, 40, true),
        (|_| {}, 90, true),
        (|_| {}, 39, false),
        (|note| note.base_url = "https://b".into(), 60, false),
        (|note| note.agent_id = "A2".into(), 60, false),
        (
            |note| note.asked_model = Some("essence-2".into()),
            60,
            false,
        ),
        (|note| note.etag = None, 60, false),
        (|note| note.total = None, 60, true),
        (|note| (note.synced, note.written) = (0, 0), 60, false),
        (|note| (note.synced, note.etag) = (100, None), 100, true),
        (|note| (note.synced, note.etag) = (100, None), 99, false),
    ];
    for (number, (change, len, fits)) in rows.into_iter().enumerate() {
        let mut note = note();
        change(&mut note);
        assert_eq!(note.fits(&wanted(), len), fits, "row {number}: {note:?}");
    }
}

#[test]
fn a_checksum_finds_lost_and_misplaced_bytes() {
    let sum = |pieces: &[&[u8]]| {
        let mut sum = Checksum::default();
        pieces.iter().for_each(|piece| sum.add(piece));
        sum
    };
    assert_eq!(sum(&[b"abc", b"def"]), sum(&[b"abcdef"]));
    for other in ["abcde", "abcdef\0", "defabc", "abcde\0", "bacdef", ""] {
        assert_ne!(sum(&[b"abcdef"]), sum(&[other.as_bytes()]), "{other:?}");
    }
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

    fn open(&self) -> Part {
        let (clock, stopped) = (SystemClock::new(), AtomicBool::new(false));
        let wait = LockWait {
            clock: &clock,
            stopped: &stopped,
            until: Duration::ZERO,
        };
        Part::open(&self.0.join("a.imx"), wanted(), &wait).unwrap_or_else(|it| panic!("{it:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Writes 60 bytes of 100, the first 40 of them synced, and drops the part.
fn leave_a_part(place: &Place) {
    let mut part = place.open();
    part.start_over(Some("\"a\"".into()), Some(100)).unwrap();
    part.write(&[1; 40]).unwrap();
    part.sync().unwrap();
    part.write(&[2; 20]).unwrap();
    part.save().unwrap();
}

#[test]
fn what_was_not_synced_counts_unless_the_power_failed() {
    type Change = fn(&File);
    let rows: [(Change, u64); 5] = [
        (|_| {}, 60),
        (|file| file.set_len(59).unwrap(), 40),
        (|file| file.set_len(80).unwrap(), 60),
        (
            |mut file| {
                file.seek(SeekFrom::Start(50)).unwrap();
                file.write_all(&[0; 10]).unwrap();
            },
            40,
        ),
        (|file| file.set_len(30).unwrap(), 0),
    ];
    for (number, (change, offset)) in rows.into_iter().enumerate() {
        let place = Place::new(&format!("unsynced-{number}"));
        leave_a_part(&place);
        let path = place.0.join("a.imx.part");
        change(&OpenOptions::new().write(true).open(&path).unwrap());
        let mut part = place.open();
        assert_eq!(part.offset, offset, "row {number}");
        if offset > 0 {
            assert_eq!(fs::metadata(&path).unwrap().len(), offset, "row {number}");
            part.write(b"x").unwrap();
            part.save().unwrap();
            drop(part);
            assert_eq!(place.open().offset, offset + 1, "row {number}");
        }
    }
}

#[test]
fn a_torn_note_is_none() {
    let place = Place::new("torn");
    leave_a_part(&place);
    let path = place.0.join("a.imx.part.json");
    let good = fs::read(&path).unwrap();
    for torn in [&good[..good.len() / 2], b"\0\0\0\0", b"{}", b"[]\n", b""] {
        fs::write(&path, torn).unwrap();
        assert_eq!(place.open().offset, 0);
    }
    // A longer one may have been there before.
    fs::write(&path, [&*good, b"rest of another\n"].concat()).unwrap();
    assert_eq!(place.open().offset, 60);
}

#[test]
fn the_bytes_of_another_model_are_not_kept() {
    let place = Place::new("model");
    leave_a_part(&place);
    let mut part = place.open();
    part.set_model(Some("other".into()));
    assert_eq!((part.offset, part.range()), (0, None));
    part.save().unwrap();
    drop(part);
    assert_eq!(place.open().offset, 0);
}

#[test]
fn what_was_synced_of_another_file_does_not_count() {
    let place = Place::new("other");
    leave_a_part(&place);
    let mut part = place.open();
    part.start_over(Some("\"b\"".into()), Some(100)).unwrap();
    part.write(&[3; 10]).unwrap();
    part.save().unwrap();
    drop(part);
    assert_eq!(place.open().range(), Some((10, "\"b\"")));
}

#[test]
fn a_file_that_another_program_changed_is_not_put_in_place() {
    for len in [99, 101] {
        let place = Place::new(&format!("changed-{len}"));
        let mut part = place.open();
        part.start_over(None, Some(100)).unwrap();
        part.write(&[1; 100]).unwrap();
        let file = OpenOptions::new().write(true).open(&part.path).unwrap();
        file.set_len(len).unwrap();
        assert!(part.finish(&SystemClock::new()).is_err());
        assert!(!place.names().contains(&"a.imx".into()));
    }
}

#[test]
fn without_locks_the_part_has_a_name_of_its_own_and_is_not_kept() {
    let place = Place::new("unlocked");
    let open = || {
        let mut part = place.open();
        part.lock.take().unwrap().remove();
        part.is_shared = false;
        part.path = unshared(&part.target);
        part.start_over(Some("\"a\"".into()), Some(5)).unwrap();
        part.write(b"abcde").unwrap();
        part
    };
    let (one, other) = (open(), open());
    assert_ne!(one.path, other.path);
    assert_eq!(place.names().len(), 2);
    drop(one);
    other.finish(&SystemClock::new()).unwrap();
    assert_eq!(place.names(), ["a.imx"]);
}
