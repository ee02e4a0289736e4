//! The floor under `reactor`, `disk` and `helper`: what they share of the system.

pub mod socket;
