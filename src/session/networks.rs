//! How many connections each network has.

use crate::proto::network::Network;
use std::collections::BTreeMap;

/// Connections by network. It has no more entries than there are connections.
#[derive(Debug, Default)]
pub(super) struct Networks {
    counts: BTreeMap<Network, usize>,
}

impl Networks {
    pub(super) fn add(&mut self, network: Network) {
        *self.counts.entry(network).or_default() += 1;
    }

    pub(super) fn remove(&mut self, network: Network) {
        if let Some(count) = self.counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
    }

    pub(super) fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }
}
