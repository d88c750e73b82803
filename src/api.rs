//! The client, and what its calls share.

use std::{fmt, sync::Arc, time::Duration};

use crate::clock::{Clock, Stopwatch};
use crate::error::{Error, Result};
use crate::event::{Event, Hook};
use crate::{builder::ApiBuilder, file::LockWait, http::Transport, retry};

/// The client.
///
/// A clone is cheap and shares the connections. Every call blocks the calling thread. Threads can
/// share one `Api` or have a clone each.
///
/// ```no_run
/// use bithuman::{Api, GenerateRequest, Wait};
///
/// let api = Api::from_env()?;
/// let request = GenerateRequest::new()
///     .prompt("You are a friendly assistant.")
///     .model("essence-2");
/// let agent = api.generate_and_wait(&request, &Wait::new())?;
/// # Ok::<(), bithuman::Error>(())
/// ```
#[derive(Clone)]
pub struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hook: Option<Hook>,
}

/// What all clones of a client share.
pub(crate) struct Shared {
    pub transport: Transport,
    pub clock: Arc<dyn Clock>,
    pub honors_keys: bool,
    max_retries: u32,
}

impl Api {
    /// Returns a client with this secret, and every other setting at its default.
    ///
    /// The service is at [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the secret is empty or cannot be one.
    ///
    /// ```no_run
    /// let api = bithuman::Api::new("the-api-secret")?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn new(secret: impl Into<String>) -> Result<Self> {
        Api::builder().secret(secret).build()
    }

    /// Returns a client with the settings of the environment.
    ///
    /// The secret is in `BITHUMAN_API_SECRET`; without one, the first request fails. The base URL is
    /// in `BITHUMAN_API_BASE`, or else in `BITHUMAN_API_URL`, or else
    /// [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a variable cannot be used.
    ///
    /// ```no_run
    /// let api = bithuman::Api::from_env()?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn from_env() -> Result<Self> {
        Api::builder().from_env().build()
    }

    /// Returns every setting at its default, to be changed before [`build`](ApiBuilder::build).
    ///
    /// ```no_run
    /// use bithuman::{Api, CURRENT_BASE_URL};
    ///
    /// let api = Api::builder()
    ///     .secret("the-api-secret")
    ///     .base_url(CURRENT_BASE_URL)
    ///     .build()?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn builder() -> ApiBuilder {
        ApiBuilder::default()
    }

    /// Returns a clone that shares the connections and reports to `f` what its calls are doing.
    ///
    /// `f` runs on the thread of the call, which waits for it, and may call
    /// [`shutdown`](Api::shutdown). It replaces a function set before.
    ///
    /// ```no_run
    /// use bithuman::{Api, Event};
    ///
    /// let api = Api::from_env()?.on_event(|event| {
    ///     if let Event::Uploading { sent, total } = event {
    ///         eprintln!("{}%", sent * 100 / total);
    ///     }
    /// });
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    #[must_use]
    pub fn on_event(&self, f: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Api {
            shared: self.shared.clone(),
            hook: Some(Arc::new(f)),
        }
    }

    /// Ends every call of this client and its clones, for good.
    ///
    /// Those in flight and those to come return [`ShutDown`](crate::ErrorKind::ShutDown). A sleep
    /// or a request in flight ends within 100 ms. A DNS lookup and a connection being made end with
    /// their own time: see [Threads](crate::_docs::waiting#threads). On Windows a request in flight
    /// can last until its own timeout. The error has what is known by then: the agent id, the
    /// idempotency key, and whether anything was [billed](Error::billing).
    ///
    /// ```no_run
    /// use bithuman::{Api, Wait};
    ///
    /// let api = Api::from_env()?;
    /// let waiting = {
    ///     let api = api.clone();
    ///     std::thread::spawn(move || api.wait("A91XMB7113", &Wait::new()))
    /// };
    /// api.shutdown();
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn shutdown(&self) {
        self.shared.transport.shutdown();
        self.shared.clock.wake();
    }

    pub(crate) fn report(&self, event: impl FnOnce() -> Event) {
        if let Some(hook) = &self.hook {
            hook(&event());
        }
    }

    /// Makes an attempt, and retries it after each error that may be gone the next time.
    pub(crate) fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempts = 0;
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            attempts += error.attempts();
            let error = error.after(attempts);
            if !error.is_retryable() {
                return Err(error);
            }
            if !self.sleep_before_retry(attempts, &error, None) {
                return Err(error.and_advice("try again later"));
            }
        }
    }

    /// Sleeps before a retry, unless there were enough of them or the delay would be too long.
    pub(crate) fn sleep_before_retry(
        &self,
        attempts: u32,
        error: &Error,
        deadline: Option<Duration>,
    ) -> bool {
        let clock = &self.shared.clock;
        let remaining = deadline.map(|deadline| deadline.saturating_sub(clock.now()));
        let delay = retry::delay(attempts.saturating_sub(1), error.retry_after(), remaining);
        let Some(delay) = delay.filter(|_| attempts <= self.shared.max_retries) else {
            return false;
        };
        self.pause(attempts, delay, error);
        true
    }

    /// Reports the retry of what failed, and sleeps before it.
    pub(crate) fn pause(&self, attempts: u32, delay: Duration, error: &Error) {
        self.report(|| Event::Retrying {
            attempts,
            delay,
            reason: error.to_string(),
        });
        self.shared.clock.sleep(delay);
    }

    /// A wait for the lock of a file, until a time on the clock.
    pub(crate) fn lock_wait(&self, until: Duration) -> LockWait<'_> {
        LockWait {
            clock: &*self.shared.clock,
            stopped: self.shared.transport.stopped(),
            until,
        }
    }

    /// Starts to measure the age of something, the time in which the computer is suspended
    /// included.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start(&self.shared.clock)
    }

    /// The longest that a generate request may take, with its retries and what precedes it. The
    /// DNS lookup and a proxy are not counted: the operating system bounds those.
    pub(crate) fn longest_generate(&self, body_len: u64) -> Duration {
        let attempt = self.shared.transport.longest_post(body_len) + retry::LONGEST_DELAY;
        attempt.saturating_mul(self.shared.max_retries.saturating_add(2))
    }
}

impl ApiBuilder {
    /// Checks the settings, and returns the client. Nothing is sent.
    ///
    /// A missing secret, and a proxy that cannot be used, are errors of the first request.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), with the name of the setter or variable,
    /// for a secret or base URL that cannot be meant, a timeout of zero, a user agent that no
    /// header can carry, PEM without a certificate, and https without a
    /// [TLS feature](crate::_docs::features).
    pub fn build(self) -> Result<Api> {
        let transport = self.transport()?;
        let honors_keys = self.config.honors_idempotency_keys;
        let shared = Shared {
            honors_keys: honors_keys.unwrap_or(transport.base().is_current_api()),
            transport,
            clock: self.config.clock,
            max_retries: self.config.max_retries,
        };
        Ok(Api {
            shared: Arc::new(shared),
            hook: None,
        })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("base_url", &self.shared.transport.base().url)
            .finish_non_exhaustive()
    }
}
