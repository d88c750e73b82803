//! How long each phase of a request may take, and which connections it takes.

use super::*;

#[test]
fn a_get_waits_30_s_and_every_other_method_5_min_over_a_connection_just_used() {
    let transport = Transport::new(&Config::default()).unwrap();
    let limits = |method, body: Option<&mut Body>| {
        let path = "/v1/me";
        let request = Request {
            body,
            ..Request::new(method, path)
        };
        let limits = transport.limits(&request).unwrap();
        [limits.response, limits.max_idle, limits.upload].map(|time| time.as_secs())
    };
    assert_eq!(limits(Method::Get, None), [30, 15, 300]);
    for method in [Method::Post, Method::Delete] {
        assert_eq!(limits(method, None), [300, 1, 300]);
    }
    let mut body = Body::from_json(&"x".repeat(32 * 1024 * 10).into());
    assert_eq!(limits(Method::Post, Some(&mut body)), [300, 1, 310]);
}
