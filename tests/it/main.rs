//! The library against servers of our own, over real sockets on localhost.

#![cfg_attr(
    not(unix),
    allow(unused, reason = "some tests need Unix, with what they name")
)]

#[path = "../harness/mod.rs"]
mod harness;

mod bounded;
mod calls;
mod downloads;
mod downloads_asked;
mod downloads_crash;
mod examples;
mod generate_and_wait;
mod hostile;
mod layout;
mod mock_server;
mod never_bills_twice;
mod never_loses_an_id;
mod package;
mod proxies;
mod read;
mod receipts;
mod receipts_crash;
mod retrying_status;
mod secret;
mod sent;
mod settings;
mod shown;
mod uploads;
mod waiting;
