//! Our queries that wait for an answer, by transaction ids that nobody guesses.

use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{DHT_CALLS_MAX, DHT_SLOW, DHT_TIMEOUT};
use crate::proto::id::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Why we asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// To see whether it is there.
    Ping,
    /// To look after it, and for nodes near it.
    Upkeep,
    /// For this search.
    Search(u32),
    /// To be kept as a peer.
    Announce,
}

/// One query.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) addr: SocketAddr,
    /// Who shall answer, if we know that.
    pub(super) id: Option<NodeId>,
    pub(super) purpose: Purpose,
    pub(super) sent: Time,
    slow: bool,
}

/// What became of a query that was not answered.
pub(super) enum Late {
    /// Nothing yet, and that for long.
    Slow(Call),
    /// It is given up.
    Lost(Call),
}

#[derive(Default)]
pub(super) struct Calls {
    open: BTreeMap<u32, Call>,
    due: BTreeSet<(Time, u32)>,
}

impl Calls {
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= DHT_CALLS_MAX
    }

    /// Whether a query to this address is open.
    pub(super) fn is_asking(&self, addr: SocketAddr) -> bool {
        self.open.values().any(|call| call.addr == addr)
    }

    /// Opens a query; its transaction id.
    pub(super) fn open(
        &mut self,
        (addr, id): (SocketAddr, Option<NodeId>),
        purpose: Purpose,
        rng: &mut Rng,
        now: Time,
    ) -> [u8; 4] {
        let mut tid = rng.u32();
        while self.open.contains_key(&tid) {
            tid = rng.u32();
        }
        self.open.insert(tid, Call { addr, id, purpose, sent: now, slow: false });
        self.due.insert((now + DHT_SLOW, tid));
        tid.to_be_bytes()
    }

    /// The query that is answered by this transaction from this address, which is closed.
    pub(super) fn close(&mut self, tid: &[u8], from: SocketAddr) -> Option<Call> {
        let tid = u32::from_be_bytes(tid.try_into().ok()?);
        let call = self.open.get(&tid).filter(|call| call.addr == from)?;
        let due = call.sent + if call.slow { DHT_TIMEOUT } else { DHT_SLOW };
        self.due.remove(&(due, tid));
        self.open.remove(&tid)
    }

    /// The next one that is late.
    pub(super) fn late(&mut self, now: Time) -> Option<Late> {
        let &(due, tid) = self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, tid));
        let call = self.open.get_mut(&tid)?;
        if call.slow {
            return self.open.remove(&tid).map(Late::Lost);
        }
        call.slow = true;
        self.due.insert((call.sent + DHT_TIMEOUT, tid));
        Some(Late::Slow(call.clone()))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_its_transaction_and_address() {
        let (mut calls, mut rng) = (Calls::default(), Rng::new([1; 32]));
        let (a, b) = (SocketAddr::from(([1, 2, 3, 4], 5)), SocketAddr::from(([1, 2, 3, 4], 6)));
        let tid = calls.open((a, None), Purpose::Ping, &mut rng, Time::ZERO);
        assert!(calls.close(&tid, b).is_none() && calls.close(b"", a).is_none());
        assert!(calls.close(&(u32::from_be_bytes(tid) ^ 1).to_be_bytes(), a).is_none());
        assert!(calls.is_asking(a) && !calls.is_asking(b));
        assert_eq!(calls.close(&tid, a).map(|call| call.purpose), Some(Purpose::Ping));
        assert!(calls.close(&tid, a).is_none() && calls.deadline().is_none());
    }

    #[test]
    fn a_query_is_slow_and_then_lost() {
        let (mut calls, mut rng) = (Calls::default(), Rng::new([2; 32]));
        let a = SocketAddr::from(([1, 2, 3, 4], 5));
        calls.open((a, None), Purpose::Ping, &mut rng, Time::ZERO);
        assert!(calls.late(Time::ZERO).is_none());
        assert_eq!(calls.deadline(), Some(Time::ZERO + DHT_SLOW));
        assert!(matches!(calls.late(Time::ZERO + DHT_SLOW), Some(Late::Slow(_))));
        assert!(calls.late(Time::ZERO + DHT_SLOW).is_none());
        assert!(matches!(calls.late(Time::ZERO + DHT_TIMEOUT), Some(Late::Lost(_))));
        assert!(calls.late(Time::NEVER).is_none() && calls.open.is_empty());
        // One that comes late is still an answer.
        let tid = calls.open((a, None), Purpose::Ping, &mut rng, Time::ZERO);
        calls.late(Time::ZERO + DHT_SLOW);
        assert!(calls.close(&tid, a).is_some() && calls.deadline().is_none());
    }
}
