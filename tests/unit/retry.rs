use super::*;

#[test]
fn what_is_known_of_a_generate_that_failed() {
    // Statuses; whether the outcome is unknown if the service itself refuses, and if something else
    // is said.
    let rows: [(Vec<Option<u16>>, bool, bool); 5] = [
        (vec![None, Some(101), Some(600)], true, true),
        (vec![Some(200), Some(201), Some(204), Some(299)], false, true),
        ((300..=407).chain(409..=499).map(Some).collect(), false, false),
        (vec![Some(408), Some(500), Some(502), Some(504), Some(599)], true, true),
        (vec![Some(503)], false, true),
    ];
    for (statuses, refused, otherwise) in rows {
        for status in statuses {
            assert_eq!(outcome_unknown(true, status, true), refused, "{status:?}");
            assert_eq!(outcome_unknown(true, status, false), otherwise, "{status:?}");
            assert!(!outcome_unknown(false, status, false), "{status:?}");
        }
    }
}

#[test]
fn only_what_cannot_be_a_second_one_is_resent() {
    let (young, old) = (KEY_LIFE - Duration::from_nanos(1), KEY_LIFE);
    for (honored, age) in [(true, young), (true, old), (false, young), (false, old)] {
        assert_eq!(may_resend(false, honored, age), age == young);
        assert_eq!(may_resend(true, honored, age), honored && age == young);
    }
}

#[test]
fn a_delay_past_the_deadline_is_not_begun() {
    let secs = Duration::from_secs;
    for (retry_after, left, expected) in [
        (Some(20), None, Some(secs(20))),
        (Some(20), Some(21), Some(secs(20))),
        (Some(20), Some(20), None),
        (Some(59), None, Some(secs(59))),
        (Some(60), None, Some(secs(60))),
        (Some(61), None, None),
        (None, Some(0), None),
    ] {
        assert_eq!(delay(0, retry_after.map(secs), left.map(secs)), expected, "{retry_after:?} {left:?}");
    }
    assert!(delay(3, None, None).is_some_and(|delay| delay <= secs(4)));
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
    for (text, seconds) in [("20", 20.0), (" 1.5 ", 1.5), ("0", 0.0), ("5.", 5.0), (".25", 0.25), ("1.0009", 1.0)] {
        assert_eq!(parse_retry_after(text), Some(Duration::from_secs_f64(seconds)));
    }
    let huge = "9".repeat(35);
    for text in ["-10", "", "nan", "inf", "1e3", ".", "1.2.3", &huge, "Wed, 21 Oct 2026 07:28:00 GMT"] {
        assert_eq!(parse_retry_after(text), None, "{text}");
    }
}
