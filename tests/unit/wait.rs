use super::*;

#[test]
fn next_poll_table() {
    // wanted, at least, left, sleep; in milliseconds
    let rows = [
        (0, 0, 7_000, Some(0)),
        (0, 0, 0, None),
        (5_000, 0, 7_000, Some(5_000)),
        (5_000, 0, 5_000, Some(4_000)),
        (5_000, 0, 2_000, Some(1_000)),
        (5_000, 0, 1_000, None),
        (5_000, 0, 200, None),
        (100, 0, 200, Some(100)),
        (20_000, 20_000, 21_000, Some(20_000)),
        (20_000, 20_000, 20_000, None),
        (30_000, 10_000, 20_000, Some(19_000)),
    ];
    for (wanted, at_least, left, sleep) in rows {
        let ms = Duration::from_millis;
        let pause = Pause { wanted: ms(wanted), at_least: ms(at_least) };
        assert_eq!(next_poll(&pause, ms(left)), sleep.map(ms), "{wanted} {at_least} {left}");
    }
}
