//! What stands to the account of each network in a torrent's table of addresses, so that a network with many addresses
//! waits behind the others.

use crate::limits::{HALF_OPEN_OTHERS, NETWORK_BANS, NETWORK_SHARE};
use crate::proto::network::Network;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The rank of a network with many bans: behind all others.
pub(super) const LAST: u32 = u32::MAX;
/// So many candidates of a network come on equal terms with those of others, its share of the calls under way; the next
/// ones come after.
const ROUND: u32 = HALF_OPEN_OTHERS as u32;

#[derive(Debug, Default, PartialEq)]
struct Account {
    /// Its candidates.
    all: usize,
    /// Of these, those that may be called at once, are called, or are connected.
    at_hand: u32,
    /// Its banned addresses.
    bans: u32,
}

/// The accounts; those with nothing in them are forgotten, so there are no more than candidates and bans.
#[derive(Debug, Default)]
pub(super) struct Networks {
    accounts: BTreeMap<Network, Account>,
}

impl Networks {
    fn change(&mut self, addr: SocketAddr, change: impl FnOnce(&mut Account)) {
        let network = Network::of(addr);
        let account = self.accounts.entry(network).or_default();
        change(account);
        if *account == Account::default() {
            self.accounts.remove(&network);
        }
    }

    pub(super) fn add(&mut self, addr: SocketAddr) {
        self.change(addr, |account| account.all += 1);
    }

    pub(super) fn remove(&mut self, addr: SocketAddr) {
        self.change(addr, |account| account.all = account.all.saturating_sub(1));
    }

    pub(super) fn at_hand(&mut self, addr: SocketAddr) {
        self.change(addr, |account| account.at_hand += 1);
    }

    pub(super) fn not_at_hand(&mut self, addr: SocketAddr) {
        self.change(addr, |account| account.at_hand = account.at_hand.saturating_sub(1));
    }

    /// Tells whether its network has many bans from now on.
    pub(super) fn ban(&mut self, addr: SocketAddr) -> bool {
        self.change(addr, |account| account.bans += 1);
        self.bans(Network::of(addr)) == NETWORK_BANS
    }

    pub(super) fn end_ban(&mut self, addr: SocketAddr) {
        self.change(addr, |account| account.bans = account.bans.saturating_sub(1));
    }

    pub(super) fn bans(&self, network: Network) -> u32 {
        self.accounts.get(&network).map_or(0, |account| account.bans)
    }

    /// Behind how many rounds of the others the next candidate of its network comes.
    pub(super) fn rank(&self, addr: SocketAddr) -> u32 {
        match self.accounts.get(&Network::of(addr)) {
            Some(account) if account.bans >= NETWORK_BANS => LAST,
            Some(account) => account.at_hand / ROUND,
            None => 0,
        }
    }

    /// Whether its network has its share of so many candidates, or none because of its bans.
    pub(super) fn has_share(&self, addr: SocketAddr, of: usize) -> bool {
        let account = self.accounts.get(&Network::of(addr));
        account.is_some_and(|a| a.bans >= NETWORK_BANS || a.all * NETWORK_SHARE >= of)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Candidates, and those at hand.
    #[cfg(test)]
    pub(super) fn sums(&self) -> (usize, usize) {
        let accounts = self.accounts.values();
        accounts.fold((0, 0), |(all, near), a| (all + a.all, near + a.at_hand as usize))
    }
}
