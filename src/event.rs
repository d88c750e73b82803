//! What a call is doing, for progress bars and logs.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::agent::Agent;

/// What a call is doing, for [`Api::on_event`](crate::Api::on_event).
///
/// Events may be added: keep a `_` arm.
///
/// ```
/// use bithuman::Event;
///
/// fn show(event: &Event) {
///     match event {
///         Event::Uploading { sent, total } => eprintln!("{sent} of {total} bytes"),
///         Event::Accepted { agent_id, .. } => eprintln!("the agent is {agent_id}"),
///         Event::Polled { agent } => eprintln!("{}", agent.status),
///         Event::Retrying { delay, reason, .. } => {
///             eprintln!("{reason}; next attempt in {} s", delay.as_secs());
///         }
///         Event::Downloading { received, .. } => eprintln!("{received} bytes received"),
///         _ => {}
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Part of the body of a request went to the connection.
    ///
    /// The request creates an agent, or is an [`upload`](crate::Api::upload). Reported for every
    /// hundredth of the body, at least ten times a second while it moves, and at its end. A retry
    /// starts from zero.
    Uploading {
        /// The bytes handed to the connection so far.
        sent: u64,
        /// The length of the body in bytes.
        total: u64,
    },
    /// The service accepted a generate request.
    Accepted {
        /// The agent's identifier.
        agent_id: String,
        /// The `Idempotency-Key` of the request.
        idempotency_key: String,
        /// Whether the service repeated an earlier response, so that nothing was billed now.
        replayed: bool,
        /// Every other field the service sent, such as `warnings`, as in
        /// [`Generation::extra`](crate::Generation::extra).
        extra: Map<String, Value>,
    },
    /// The service reported the state of an agent.
    Polled {
        /// The agent.
        agent: Box<Agent>,
    },
    /// A request failed with a transient error, and is retried after the delay.
    Retrying {
        /// How many attempts have failed so far.
        attempts: u32,
        /// The time until the retry.
        delay: Duration,
        /// The error, on one line.
        reason: String,
    },
    /// Part of a model file was received.
    ///
    /// Reported at most ten times a second, and at the end. It never goes backwards: a download
    /// that has to start over is silent until it has more than before.
    Downloading {
        /// The bytes of the file that are there, those of earlier calls included.
        received: u64,
        /// The length of the file in bytes, if the storage says it.
        total: Option<u64>,
    },
}

/// The caller's function.
pub(crate) type Hook = Arc<dyn Fn(&Event) + Send + Sync>;
