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

#[test]
fn a_wait_for_a_model_ends_by_that_model_whatever_the_agents_own_word_is() {
    use End::{Deleted, Failed, ModelFailed, Ready};
    // The agent's own word; supported_models; the state of essence-2; the ends of a wait for the
    // agent and for that model.
    let rows = [
        ("completed", "null", "", None, None),
        ("ready", "null", "", Some(Ready), Some(Ready)),
        ("failed", "null", "", Some(Failed), Some(Failed)),
        ("deleted", "null", "ready", Some(Deleted), Some(Deleted)),
        ("completed", "null", "ready", None, Some(Ready)),
        ("failed", "null", " READY", Some(Failed), Some(Ready)),
        ("ready", "null", "pending", Some(Ready), None),
        ("failed", "null", "pending", Some(Failed), None),
        ("ready", "null", "a new word", Some(Ready), None),
        ("ready", "null", "failed", Some(Ready), Some(ModelFailed)),
        ("failed", "null", "failed", Some(Failed), Some(Failed)),
        ("ready", "[\"essence-2\"]", "pending", Some(Ready), None),
        ("success", "[\"essence-2\"]", "", None, Some(Ready)),
        ("ready", "[\"essence-1\"]", "", Some(Ready), None),
        ("ready", "[]", "", Some(Ready), None),
        ("failed", "[]", "", Some(Failed), Some(Failed)),
    ];
    for (word, supported, state, of_agent, of_model) in rows {
        let status = match state {
            "" => "null".to_owned(),
            state => format!(r#"{{"essence-2": {{"state": "{state}"}}}}"#),
        };
        let json = format!(
            r#"{{"agent_id": "A1", "status": "{word}", "supported_models": {supported},
                "model_status": {status}}}"#
        );
        let agent: Agent = serde_json::from_str(&json).unwrap();
        assert_eq!(Wait::new().end(&agent), of_agent, "{json}");
        let wait = Wait::new().model("essence-2");
        assert_eq!(wait.end(&agent), of_model, "{json}");
        // A model that is listed nowhere, while another one is.
        let other = Wait::new().model("expression-2").end(&agent);
        if !state.is_empty() && word != "deleted" {
            assert_eq!(other, of_agent.filter(|end| *end == Failed), "{json}");
        }
    }
}
