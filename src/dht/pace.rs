//! How much is sent, and answered: whole-number token buckets.

use super::ident::network;
use crate::base::time::Time;
use crate::limits::{DHT_SENDER_BURST, DHT_SENDER_RATE, DHT_SENDERS};
use std::net::IpAddr;
use std::time::Duration;

/// So much a second, and so much at once after a pause.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    /// Per second.
    rate: u64,
    burst: u64,
    /// What may be taken, in millionths; below nothing is what was [owed](Allowance::owe).
    credit: i64,
    at: Time,
}

impl Allowance {
    /// A full one.
    pub(super) fn new(rate: u64, burst: u64, now: Time) -> Allowance {
        Allowance { rate, burst, credit: Allowance::full(burst), at: now }
    }

    fn full(n: u64) -> i64 {
        i64::try_from(n.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
    }

    fn gain(&mut self, now: Time) {
        let gain = self.rate.saturating_mul(now.0.saturating_sub(self.at.0));
        let gain = i64::try_from(gain).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(gain).min(Allowance::full(self.burst));
        self.at = self.at.max(now);
    }

    /// Takes `n`, if so much is there.
    pub(super) fn take(&mut self, n: u64, now: Time) -> bool {
        let there = self.has(n, now);
        if there {
            self.credit -= Allowance::full(n);
        }
        there
    }

    /// Whether so much is there.
    pub(super) fn has(&mut self, n: u64, now: Time) -> bool {
        self.gain(now);
        self.credit >= Allowance::full(n)
    }

    /// Takes `n` that cannot wait; what is not there is made up for before the next [`Allowance::take`].
    pub(super) fn owe(&mut self, n: u64, now: Time) {
        self.gain(now);
        self.credit = self.credit.saturating_sub(Allowance::full(n));
    }

    /// When one can be taken.
    pub(super) fn ready_at(&self) -> Time {
        let lack = u64::try_from(1_000_000i64.saturating_sub(self.credit)).unwrap_or(0);
        self.at + Duration::from_micros(lack.div_ceil(self.rate.max(1)))
    }
}

/// The networks that ask us most, each with its allowance: who floods us is left without answers and costs the others
/// nothing. Those that are not in here ask little.
#[derive(Default)]
pub(super) struct Senders {
    slots: Vec<(IpAddr, Allowance)>,
}

impl Senders {
    /// Whether a query from here shall be answered.
    pub(super) fn allow(&mut self, ip: IpAddr, now: Time) -> bool {
        let net = network(ip);
        if let Some((_, allowance)) = self.slots.iter_mut().find(|(known, _)| *known == net) {
            return allowance.take(1, now);
        }
        let mut allowance = Allowance::new(DHT_SENDER_RATE, DHT_SENDER_BURST, now);
        let allowed = allowance.take(1, now);
        if self.slots.len() < DHT_SENDERS {
            self.slots.push((net, allowance));
        } else if let Some(slot) = self.slots.iter_mut().max_by_key(|(_, a)| (a.credit, now.since(a.at))) {
            // Whoever asked least makes room: a flood does not go unseen for it.
            *slot = (net, allowance);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_fills_up_and_not_over() {
        let mut allowance = Allowance::new(10, 3, Time::ZERO);
        assert_eq!((0..5).filter(|_| allowance.take(1, Time::ZERO)).count(), 3);
        assert_eq!(allowance.ready_at(), Time(100_000));
        assert!(!allowance.take(1, Time(99_999)) && allowance.take(1, Time(100_000)));
        assert_eq!((0..9).filter(|_| allowance.take(1, Time(9_000_000))).count(), 3);
    }

    #[test]
    fn what_is_owed_is_made_up_for() {
        let mut allowance = Allowance::new(10, 3, Time::ZERO);
        allowance.owe(5, Time::ZERO);
        assert!(!allowance.has(1, Time(299_999)) && allowance.ready_at() == Time(300_000));
        assert!(allowance.take(1, Time(300_000)) && !allowance.take(1, Time(300_000)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn a_flood_is_cut_off_and_the_others_are_answered() {
        let mut senders = Senders::default();
        let flood: IpAddr = "6.6.6.6".parse().unwrap();
        let mut answered = 0;
        for n in 0..50_000u64 {
            let now = Time(n * 20);
            answered += u64::from(senders.allow(flood, now));
            let other = IpAddr::from([9, (n >> 8) as u8, n as u8, 1]);
            assert!(senders.allow(other, now) || n > 65_535);
        }
        assert!(answered <= DHT_SENDER_BURST + DHT_SENDER_RATE + 1, "{answered}");
        assert!(senders.allow(flood, Time(1_000_000 + 100_000)), "soon after it is answered again");
        assert!(senders.slots.len() <= DHT_SENDERS);
    }
}
