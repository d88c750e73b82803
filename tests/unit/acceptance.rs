//! DESIGN.md "Was the generate request accepted?", as one table.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::*;

type Codes = &'static [&'static str];

/// With these and a 503 the service says that nothing was changed.
const UNCHANGED: Codes = &[
    "NO_AVAILABLE_WORKERS",
    "MODEL_NOT_YET_AVAILABLE",
    "SERVICE_UNAVAILABLE",
];

/// With these the service does not know what became of a request.
const OPEN: Codes = &["INTERNAL_ERROR", "UPSTREAM_ERROR", "UPSTREAM_TIMEOUT"];

/// The service's other codes, a gateway's, lower case, one never seen, and none.
const OTHER: Codes = &[
    "UNAUTHORIZED",
    "AGENT_NOT_FOUND",
    "service_unavailable",
    "SERVICE_UNAVAILABLE ",
    "ETIMEDOUT",
    "ECONNRESET",
    "NEVER_SEEN",
    "",
];

#[test]
fn every_way_an_attempt_can_end_has_its_billing() {
    use Billing::{Billed, NotBilled as No, Unknown};
    const ALL: &[Codes] = &[UNCHANGED, OPEN, OTHER];
    const BOTH: &[bool] = &[false, true];
    let mut seen = BTreeSet::new();
    // The statuses (0: no response), whether `"success"` is false, the codes, and the billing
    // where the body names no agent, the one that the request named, and a new one.
    let mut check = |statuses: RangeInclusive<u16>, falses: &[bool], codes: &[Codes], expected| {
        let product = |status| falses.iter().map(move |is_false| (status, *is_false));
        for (status, success_is_false) in statuses.flat_map(product) {
            for code in codes.concat() {
                assert!(seen.insert((status, success_is_false, code)), "twice");
                check_row(status, success_is_false, code, expected);
            }
        }
    };
    check(0..=199, BOTH, ALL, [Unknown; 3]);
    check(200..=299, &[false], ALL, [Unknown, Billed, Billed]);
    check(200..=299, &[true], &[OPEN], [Unknown; 3]);
    check(200..=299, &[true], &[UNCHANGED], [No, No, Unknown]);
    check(200..=299, &[true], &[OTHER], [No, No, Unknown]);
    check(300..=407, BOTH, ALL, [No; 3]);
    check(408..=408, BOTH, ALL, [Unknown; 3]);
    check(409..=499, BOTH, ALL, [No; 3]);
    check(500..=502, BOTH, ALL, [Unknown; 3]);
    check(503..=503, BOTH, &[UNCHANGED], [No; 3]);
    check(503..=503, BOTH, &[OPEN, OTHER], [Unknown; 3]);
    check(504..=999, BOTH, ALL, [Unknown; 3]);
    assert_eq!(seen.len(), 1000 * 2 * 14, "rows are missing");
}

fn check_row(status: u16, success_is_false: bool, code: &str, expected: [Billing; 3]) {
    for (agent, billing) in expected.into_iter().enumerate() {
        let mut attempt = Outcome {
            fully_sent: true,
            status: Some(status).filter(|status| *status > 0),
            success_is_false,
            code: Some(code).filter(|code| !code.is_empty()),
            names_agent: agent > 0,
            names_new_agent: agent == 2,
        };
        assert_eq!(acceptance(attempt), billing, "{attempt:?}");
        attempt.fully_sent = false;
        assert_eq!(acceptance(attempt), Billing::NotBilled, "{attempt:?}");
    }
}
