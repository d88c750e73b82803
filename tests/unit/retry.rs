use super::*;

#[test]
fn taken_table() {
    use Taken::{No, Unknown, Yes};
    // Statuses, and what it means that the service refuses itself, or that something else is said.
    let rows = [
        (vec![None, Some(101), Some(600)], Unknown, Unknown),
        (vec![Some(200), Some(201), Some(204), Some(299)], No, Unknown),
        ((300..=407).chain(409..=499).map(Some).collect(), No, No),
        (vec![Some(408), Some(500), Some(502), Some(504), Some(599)], Unknown, Unknown),
        (vec![Some(503)], No, Unknown),
    ];
    for (statuses, refused, otherwise) in rows {
        for status in statuses {
            assert_eq!(taken(true, status, false, true), refused, "{status:?}");
            assert_eq!(taken(true, status, false, false), otherwise, "{status:?}");
            assert_eq!(taken(false, status, false, false), No, "{status:?}");
        }
    }
    for handed_over in [true, false] {
        assert_eq!(taken(handed_over, Some(200), true, false), Yes);
    }
}

#[test]
fn backoff_doubles_to_its_limit() {
    for (failures, limit) in [(0, 500), (1, 1_000), (2, 2_000), (5, 16_000), (6, 30_000), (u32::MAX, 30_000)] {
        assert_eq!(backoff(failures, u64::MAX), Duration::from_millis(limit));
        assert_eq!(backoff(failures, 0), Duration::ZERO);
    }
    assert_ne!(random(), random());
}

#[test]
fn retry_after_forms() {
    for (text, seconds) in [("20", 20.0), (" 1.5 ", 1.5), ("0", 0.0)] {
        assert_eq!(parse_retry_after(text), Some(Duration::from_secs_f64(seconds)));
    }
    let huge = "9".repeat(35);
    for text in ["-10", "", "nan", "inf", "1e3", ".", "1.2.3", &huge, "Wed, 21 Oct 2026 07:28:00 GMT"] {
        assert_eq!(parse_retry_after(text), None, "{text}");
    }
}
