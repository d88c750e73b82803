//! The library against servers of our own, over real sockets on this machine.

mod answers;
mod errors;
mod examples;
mod package;
mod request;
mod secrecy;
mod seed;
mod settings;
mod stand_in;
mod support;
mod trouble;
mod upload;
mod waiting;
