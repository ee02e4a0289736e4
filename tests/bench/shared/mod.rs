//! What all benchmarks are made of.

#![allow(dead_code, reason = "none of them uses all of it")]

pub(crate) mod calls;
#[path = "../../interop/clients.rs"]
pub(crate) mod clients;
pub(crate) mod content;
pub(crate) mod guard;
#[path = "../../interop/one_peer.rs"]
pub(crate) mod one_peer;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod seeder;
pub(crate) mod usage;
pub(crate) mod wire;
