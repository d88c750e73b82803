use std::sync::Arc;
use std::time::Duration;

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
///         Event::Uploaded { sent, total } => eprintln!("{sent} of {total} bytes"),
///         Event::Resending { delay, reason, .. } => eprintln!("{reason}; again in {delay:?}"),
///         Event::Polled { agent } => eprintln!("{}", agent.status),
///         _ => {}
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// So many bytes of the request's body are on their way: reported for every hundredth of it,
    /// at least ten times a second while it moves, and at the end. Sent anew, it begins anew.
    Uploaded {
        /// The bytes handed to the connection so far.
        sent: u64,
        /// The length of the body.
        total: u64,
    },
    /// A request failed in a way that may pass, and is sent again after the delay.
    Resending {
        /// How many times it was sent so far.
        attempts: u32,
        /// The time until it is sent again.
        delay: Duration,
        /// The error, on one line.
        reason: String,
    },
    /// The service told how an agent is.
    Polled {
        /// The agent.
        agent: Box<Agent>,
    },
}

/// The caller's function.
pub(crate) type Hook = Arc<dyn Fn(&Event) + Send + Sync>;
