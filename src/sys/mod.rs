//! The floor under the reactor, the disk workers and the helpers: what they share of the system.

pub mod atomic_file;
pub mod descriptors;
pub mod guard;
pub mod multicast;
pub mod netlink;
pub mod private;
pub mod socket;
pub mod sync;
pub mod terminal;
