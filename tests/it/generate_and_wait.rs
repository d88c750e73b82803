//! Creating an agent and waiting for it: one deadline over both, and what the errors know.

use bithuman::ErrorKind::*;
use bithuman::{Billing, Wait};

use crate::harness::Service;
use crate::harness::*;

#[test]
fn generate_and_wait_polls_after_one_interval() {
    for (wait, interval) in [(Wait::new(), 5), (Wait::new().interval(secs(90)), 90)] {
        let service = Service::new([accepted(), processing(), ready()]);
        let agent = service.api().generate_and_wait(&small(), &wait).unwrap();
        assert!(agent.is_ready());
        assert_eq!(service.clock.sleeps(), [secs(interval); 2]);
        let targets: Vec<_> = service.requests().into_iter().map(|r| r.target).collect();
        let poll = format!("/v1/agent/status/{ID}");
        assert_eq!(targets, ["/v1/agent/generate", &poll, &poll]);
    }
}

#[test]
fn generate_and_wait_has_one_deadline_over_both() {
    let wait = Wait::new().timeout(secs(60));
    let not_ready = "not ready within 1 min (last seen: processing); generation continues";
    let too_late = "not ready within 1 min (no good response)";
    let busy = || service_error(503, "NO_AVAILABLE_WORKERS").header("retry-after", "40");
    // What the generate request says, how long it takes, sleeps, requests, line
    let slow = |milliseconds| accepted().takes(ms(milliseconds));
    let rows: [(Vec<Reply>, &[u64], usize, &str); 4] = [
        (vec![slow(50_000)], &[5, 4], 3, not_ready),
        (vec![slow(57_000)], &[2], 2, not_ready),
        (vec![slow(59_500)], &[], 1, too_late),
        (vec![busy(), slow(10_000)], &[40, 5, 4], 4, not_ready),
    ];
    for (replies, sleeps, requests, line) in rows {
        let service = Service::new(replies.into_iter().chain([processing()]));
        let builder = service.builder().honors_idempotency_keys(true);
        let api = builder.max_retries(1).build().unwrap();
        let error = api.generate_and_wait(&small(), &wait).unwrap_err();
        assert_eq!(error.kind(), WaitTimedOut, "{error:?}");
        assert!(error.to_string().contains(line), "{error}");
        let sleeps: Vec<_> = sleeps.iter().copied().map(secs).collect();
        assert_eq!(service.clock.sleeps(), sleeps, "{error}");
        assert_eq!(service.requests().len(), requests, "{error}");
        assert_eq!(error.agent_id(), Some(ID));
        assert_eq!(error.billing(), Billing::Billed);
        let sent = &service.requests()[0];
        assert_eq!(error.idempotency_key(), sent.header("idempotency-key"));
        // Another call would create another agent.
        assert!(!error.is_retryable(), "{error:?}");
    }
    let service = Service::new([Reply::new(400, "")]);
    let error = service
        .api()
        .generate_and_wait(&small(), &wait)
        .unwrap_err();
    assert_eq!(error.kind(), Rejected);
    assert_eq!(error.billing(), Billing::NotBilled);
    assert_eq!(service.requests().len(), 1);
    let service = Service::new([]);
    let none = Wait::new().timeout(secs(0));
    let api = service.api();
    let error = api.generate_and_wait(&small(), &none).unwrap_err();
    assert_eq!(error.kind(), WaitTimedOut);
    assert_eq!(error.billing(), Billing::NotBilled);
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn the_end_of_generate_and_wait_is_that_of_wait_with_the_key() {
    let key = "k-1";
    let late = Reply::new(429, "").header("retry-after", "1000");
    for (reply, kind, billing) in [
        (status("failed"), GenerationFailed, Billing::Refunded),
        (status("deleted"), NotFound, Billing::Billed),
        (Reply::new(401, ""), Unauthorized, Billing::Billed),
        (late, RateLimited, Billing::Billed),
    ] {
        for honored in [true, false] {
            let service = Service::new([accepted(), reply.clone()]);
            let builder = service.builder().honors_idempotency_keys(honored);
            let api = builder.build().unwrap();
            let request = small().idempotency_key(key);
            let error = api.generate_and_wait(&request, &Wait::new()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(error.billing(), billing, "{error:?}");
            assert_eq!(error.idempotency_key(), Some(key));
            assert!(error.to_string().starts_with("wait: agent "), "{error}");
            // The same call finds the same agent where keys are honored.
            let is_retryable = honored && kind == RateLimited;
            assert_eq!(error.is_retryable(), is_retryable, "{error:?}");
        }
    }
}
