use super::*;

#[test]
fn a_request_that_may_be_accepted_is_retried_only_with_a_young_key_that_is_honored() {
    let old = Duration::from_secs(23 * 60 * 60);
    let young = old - Duration::from_nanos(1);
    for (honored, age) in [(true, young), (false, young), (true, old), (false, old)] {
        assert_eq!(is_safe(true, honored, age), honored && age == young);
    }
    assert!(is_safe(false, true, young) && is_safe(false, false, young));
    assert!(!is_safe(true, true, Duration::MAX));
}

#[test]
fn a_delay_is_at_least_retry_after_and_never_passes_the_deadline_or_a_minute() {
    let secs = Duration::from_secs;
    // Retry-After, what remains, the delay.
    let table = [
        (Some(20), None, Some(20)),
        (Some(20), Some(21), Some(20)),
        (Some(20), Some(20), None),
        (Some(60), None, Some(60)),
        (Some(61), None, None),
        (Some(u64::MAX), None, None),
        (Some(600), Some(601), Some(600)),
        (None, Some(0), None),
    ];
    for (retry_after, remaining, expected) in table {
        let delay = delay(0, retry_after.map(secs), remaining.map(secs));
        assert_eq!(delay, expected.map(secs), "{retry_after:?} {remaining:?}");
    }
    for failures in [0, 3, 6, u32::MAX] {
        let limit = backoff(failures, u64::MAX);
        let mut delays = (0..200).map(|_| delay(failures, Some(limit / 2), None).unwrap());
        assert!(delays.all(|delay| (limit / 2..=limit).contains(&delay)));
    }
}

#[test]
fn backoff_is_anything_up_to_a_limit_that_doubles_from_half_a_second_to_30_s() {
    let limits = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    let failures = (0..8).chain([16, 17, u32::MAX]);
    for (failures, limit) in failures.zip(limits.into_iter().chain([30_000; 3])) {
        let limit = Duration::from_millis(limit);
        assert_eq!(backoff(failures, u64::MAX), limit);
        assert_eq!(backoff(failures, 0), Duration::ZERO);
        let half = backoff(failures, u64::MAX / 2);
        assert!(half.abs_diff(limit / 2) < Duration::from_millis(1));
    }
}

#[test]
fn retry_after_is_seconds_or_a_fraction_and_nothing_else() {
    for row in "20=20000,0=0, 1.5 =1500,007=7000,5.=5000,.25=250,1.0009=1000".split(',') {
        let (text, millis) = row.split_once('=').unwrap();
        let expected = Duration::from_millis(millis.parse().unwrap());
        assert_eq!(parse_retry_after(text), Some(expected), "{text}");
    }
    let longest = Duration::from_secs(u64::MAX);
    assert_eq!(parse_retry_after(&u64::MAX.to_string()), Some(longest));
    for text in
        "|.|-10|+10|nan|inf|1e3|1.2.3|1 5|0x10|٣|5s|1,5|Wed, 21 Oct 2026 07:28:00 GMT".split('|')
    {
        assert_eq!(parse_retry_after(text), None, "{text}");
    }
}

#[test]
fn a_minted_key_is_new_and_the_service_can_read_it() {
    let keys: Vec<_> = (0..100).map(|_| mint_key()).collect();
    for (n, key) in keys.iter().enumerate() {
        assert!(!keys[..n].contains(key));
        let digits = key.strip_prefix("bithuman-").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
