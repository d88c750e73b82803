//! Tests of src/wait.rs.

use super::*;

#[test]
fn the_sleep_before_a_poll_ends_a_second_before_the_deadline() {
    // wanted, at least, remaining -> sleep; in milliseconds
    let rows = [
        // The first poll takes place at once, if there is any time.
        (0, 0, 7_000, Some(0)),
        (0, 0, 1, Some(0)),
        (0, 0, 0, None),
        (5_000, 0, 7_000, Some(5_000)),
        (5_000, 0, 5_001, Some(5_000)),
        // The last poll takes place earlier than wanted.
        (5_000, 0, 5_000, Some(4_000)),
        (5_000, 0, 2_000, Some(1_000)),
        (5_000, 0, 1_001, Some(1)),
        (5_000, 0, 1_000, None),
        (5_000, 0, 200, None),
        (100, 0, 200, Some(100)),
        (u64::MAX, 0, u64::MAX, Some(u64::MAX - 1_000)),
        // But not earlier than the service asks for.
        (20_000, 20_000, 21_000, Some(20_000)),
        (20_000, 20_000, 20_000, None),
        (30_000, 10_000, 20_000, Some(19_000)),
        (30_000, 19_000, 20_000, Some(19_000)),
        (30_000, 19_001, 20_000, None),
    ];
    for (wanted, at_least, remaining, sleep) in rows {
        let ms = Duration::from_millis;
        let pause = Pause {
            wanted: ms(wanted),
            at_least: ms(at_least),
        };
        let found = next_poll(&pause, ms(remaining));
        assert_eq!(found, sleep.map(ms), "{wanted} {at_least} {remaining}");
    }
}
