//! ptorrent: a BitTorrent client for the command line of small machines.
//!
//! The protocol is a value, the machine is a shell: `session` is a plain state machine into which events and the
//! time go and out of which actions come; `reactor`, `disk` and `helper` are the threads that carry them out.
//! An import goes down in this diagram, over any distance; never up, never sideways (`tests/tidy.rs` checks):
//!
//! ```text
//!           cli
//!            |
//!          engine
//!     /      |       \           outer half: threads, sockets, files, clock, entropy
//! reactor   disk   helper        siblings; they meet only in channels
//!    |   \   |   /   |
//!    |      sys      |           sockets and system calls that more than one of them needs
//! session, tracker   |           inner half: deterministic, single-threaded, simulated whole
//!    |       |       |
//!   dht      |       |           speaks of datagrams and info-hashes only
//!     \      |      /
//!    api -> proto -> base, limits  (the tracker needs no api)
//! ```
//!
//! Nothing that the outside says ends the process: a count that turns out wrong is asserted where tests run and survived
//! elsewhere, so code outside tests neither panics nor unwraps.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]

pub mod api;
pub mod base;
pub mod cli;
pub mod dht;
pub mod disk;
pub mod engine;
pub mod helper;
pub mod limits;
pub mod proto;
pub mod reactor;
pub mod session;
pub mod sys;
pub mod tracker;
