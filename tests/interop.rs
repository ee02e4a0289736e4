//! ptorrent with real clients, through the real binary, on loopback: `make interop`.
//!
//! `scripts/setup-peers.sh` gets the clients. A test whose client is missing says so and is skipped; where CI is
//! set it fails. The tests of `among` need no ptorrent: when those fail, the fault is in the harness.

#![allow(
    clippy::disallowed_methods,
    reason = "tests wait in real time and look for installed programs; the rules guard the core"
)]

mod interop {
    mod among;
    mod clients;
    mod content;
    mod dht;
    mod download;
    mod encryption;
    mod lab;
    mod lsd;
    mod magnet;
    mod node;
    mod one_peer;
    mod pex;
    mod scrape;
    mod seed;
    mod tracker;
    mod udp;
    mod web;
}
