//! Whom we serve. While we lack something, those who give us most (tit for tat, BEP 3), and one more that is tried
//! out; once nothing is missing, everybody in turn. [`decide`] is the rule, a function of what is known of those who
//! are interested; the session applies it each [`CHOKE_ROUND`] and when a slot falls free, as long as anybody is.

use super::Session;
use super::peer::Peer;
use super::timers::Key;
use crate::api::{PeerId, TorrentId};
use crate::base::rate::WINDOW;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{CHOKE_REST, CHOKE_ROUND, SLOT_IDLE, SLOT_TURN};
use crate::proto::wire::message::Message;
use std::cmp::Reverse;

/// How much likelier a peer that never had a slot is tried out (BEP 3).
const FRESH_WEIGHT: u32 = 3;

/// A torrent's upload slots.
#[derive(Default)]
pub(super) struct Choker {
    /// When the timer is set for; None: it is not.
    armed: Option<Time>,
    /// The next full round.
    round: Time,
    /// The next change of the peer that is tried out.
    rotate: Time,
    optimistic: Option<PeerId>,
    /// When it was decided last.
    decided: Time,
}

impl Choker {
    /// Whether its timer is set for this moment.
    pub(super) fn is_armed(&self, at: Time) -> bool {
        self.armed == Some(at)
    }
}

/// A peer's part in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// When it was unchoked last, or connected.
    since: Time,
    /// When it was choked last.
    served: Option<Time>,
    /// When it asked for a block last.
    pub(super) asked: Time,
}

impl Turn {
    pub(super) fn new(now: Time) -> Turn {
        Turn { since: now, served: None, asked: now }
    }
}

/// A peer that is interested.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    peer: PeerId,
    /// Bytes a second that count for it: what it gives us while we lack something, else what it takes.
    rate: u64,
    unchoked: bool,
    /// It holds its slot for as long as a turn is.
    turn_over: bool,
    /// It holds its slot and asks for nothing.
    idle: bool,
    /// It owes us blocks and sends none.
    snubbed: bool,
    /// It never had a slot.
    fresh: bool,
    /// Since when it waits for one.
    waits: Time,
}

/// What is to be decided.
#[derive(Clone, Copy, Debug)]
struct Rule {
    slots: usize,
    seeding: bool,
    /// The peer that is tried out.
    optimistic: Option<PeerId>,
    /// It is time for another one.
    rotate: bool,
    /// Between the rounds: only what is free is given.
    keep: bool,
    now: Time,
}

/// Who has a slot from now on; the last of them may be the one that is tried out.
#[derive(Debug, Default, PartialEq)]
struct Choice {
    unchoke: Vec<PeerId>,
    optimistic: Option<PeerId>,
}

/// What comes first: a class, then the rate, then who waits longest.
type Rank = (u8, Reverse<u64>, Time);

fn rank(rule: &Rule, c: &Candidate) -> Rank {
    let by_time = |class| (class, Reverse(0), c.waits);
    match c {
        _ if rule.keep && c.unchoked && !c.idle => by_time(0),
        _ if !rule.seeding && !c.snubbed && c.rate > 0 => (1, Reverse(c.rate), c.waits),
        _ if c.unchoked && c.idle => by_time(5),
        _ if c.unchoked && !c.turn_over => by_time(2),
        _ if !c.unchoked => by_time(3),
        _ => (4, Reverse(c.rate), c.waits),
    }
}

/// The rule of choking.
fn decide(rule: &Rule, candidates: &[Candidate], rng: &mut Rng) -> Choice {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by_key(|c| rank(rule, c));
    if rule.seeding {
        let unchoke = order.iter().take(rule.slots).map(|c| c.peer).collect();
        return Choice { unchoke, optimistic: None };
    }
    // Of one slot, the peer that is tried out has the first round of its turn.
    let regular = if rule.slots == 1 { usize::from(!rule.rotate) } else { rule.slots.saturating_sub(1) };
    let tried = |c: &&&Candidate| rule.keep && rule.slots > 1 && rule.optimistic == Some(c.peer);
    // Who snubs us is tried out now and then and no more.
    let served = order.iter().filter(|c| (!c.snubbed || rule.keep && c.unchoked) && !tried(c));
    let mut unchoke: Vec<PeerId> = served.take(regular).map(|c| c.peer).collect();
    let rest: Vec<&Candidate> = order.into_iter().filter(|c| !unchoke.contains(&c.peer)).collect();
    let stays = |c: &&&Candidate| rule.optimistic == Some(c.peer) && !rule.rotate && !c.idle;
    let current = rest.iter().find(stays).map(|c| c.peer);
    let optimistic = current.or_else(|| try_out(rule, &rest, rng));
    if unchoke.len() < rule.slots {
        unchoke.extend(optimistic);
    }
    Choice { unchoke, optimistic }
}

/// Chooses whom to try out. By chance; but who has waited for longer than a turn of each of them would have taken
/// comes first, so that nobody waits for ever.
fn try_out(rule: &Rule, rest: &[&Candidate], rng: &mut Rng) -> Option<PeerId> {
    let eager: Vec<&Candidate> = rest.iter().copied().filter(|c| !c.idle).collect();
    let pool = if eager.is_empty() { rest } else { &eager[..] };
    let longest = pool.iter().filter(|c| !c.unchoked).min_by_key(|c| c.waits);
    let cycle = SLOT_TURN * u32::try_from(pool.len()).unwrap_or(u32::MAX);
    if let Some(c) = longest.filter(|c| rule.now.since(c.waits) > cycle) {
        return Some(c.peer);
    }
    let weight = |c: &Candidate| if c.fresh { FRESH_WEIGHT } else { 1 };
    let sum: u32 = pool.iter().map(|c| weight(c)).sum();
    let mut at = if sum > 0 { rng.below(sum) } else { return None };
    let hit = |c: &&&Candidate| {
        let within = at < weight(c);
        at = at.saturating_sub(weight(c));
        within
    };
    pool.iter().find(hit).map(|c| c.peer)
}

fn candidate(peer: PeerId, p: &Peer, seeding: bool, now: Time) -> Candidate {
    let rate = if seeding { &p.up } else { &p.down };
    let busy = !p.queue.is_empty() || p.reading + p.sending > 0;
    Candidate {
        peer,
        rate: rate.per_second(WINDOW, now),
        unchoked: !p.am_choking,
        turn_over: now.since(p.turn.since) >= SLOT_TURN,
        idle: !p.am_choking && !busy && now.since(p.turn.asked.max(p.turn.since)) >= SLOT_IDLE,
        snubbed: p.snubbed,
        fresh: p.am_choking && p.turn.served.is_none(),
        waits: p.turn.served.unwrap_or(p.since),
    }
}

impl Session {
    /// A slot may be free, or somebody waits for one: it is looked at before this event is over, unless it just was:
    /// a peer that changes its mind for ever must not make us look at all the others each time.
    pub(super) fn slot_free(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        let rest = t.choker.decided + CHOKE_REST;
        self.arm_choker(torrent, now.max(rest));
    }

    fn arm_choker(&mut self, torrent: TorrentId, at: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let mut armed = t.choker.armed.unwrap_or(Time::NEVER);
        self.timers.arm(&mut armed, at, Key::Choke(torrent));
        t.choker.armed = Some(armed);
    }

    pub(super) fn on_choke_timer(&mut self, torrent: TorrentId, at: Time, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        if !t.choker.is_armed(at) {
            return;
        }
        t.choker.armed = None;
        if !t.welcomes() {
            return;
        }
        #[cfg(test)]
        {
            self.choices += 1;
        }
        let seeding = !t.downloading();
        let peers = || t.peers.iter().filter_map(|peer| self.peers.get(*peer).map(|p| (*peer, p)));
        let candidates: Vec<Candidate> =
            peers().filter(|(_, p)| p.interested).map(|(peer, p)| candidate(peer, p, seeding, now)).collect();
        if candidates.is_empty() {
            return;
        }
        t.choker.decided = now;
        let keep = now < t.choker.round;
        let rotate = !keep && now >= t.choker.rotate;
        let (slots, optimistic) = (self.config.max_upload, t.choker.optimistic);
        let rule = Rule { slots, seeding, optimistic, rotate, keep, now };
        let choice = decide(&rule, &candidates, &mut self.rng);
        let held: Vec<PeerId> = peers().filter(|(_, p)| !p.am_choking).map(|(peer, _)| peer).collect();
        if !keep {
            t.choker.round = now + CHOKE_ROUND;
        }
        if rotate || choice.optimistic != optimistic {
            t.choker.rotate = now + SLOT_TURN;
        }
        t.choker.optimistic = choice.optimistic;
        let next = t.choker.round;
        let mut room = slots.saturating_sub(choice.unchoke.len());
        for peer in held.into_iter().filter(|peer| !choice.unchoke.contains(peer)) {
            // Who is not interested just now asks for nothing, and may be back in a moment.
            if keep && room > 0 && self.peers.get(peer).is_some_and(|p| !p.interested) {
                room -= 1;
            } else {
                self.choke(peer, now);
            }
        }
        for peer in choice.unchoke {
            self.unchoke(peer, now);
        }
        self.arm_choker(torrent, next);
    }

    /// A choke drops what was asked, and says so where the fast extension is spoken (BEP 6); what is being read still
    /// goes.
    pub(super) fn choke(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        p.am_choking = true;
        p.turn.served = Some(now);
        self.send(peer, Message::Choke, now);
        self.reject_queue(peer, now);
    }

    fn unchoke(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer).filter(|p| p.am_choking) else { return };
        p.am_choking = false;
        p.turn.since = now;
        self.send(peer, Message::Unchoke, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Handle;

    const NOW: Time = Time(1_000_000_000);

    fn id(n: u32) -> PeerId {
        PeerId::from_bits(n)
    }

    fn waiting(n: u32) -> Candidate {
        Candidate {
            peer: id(n),
            rate: 0,
            unchoked: false,
            turn_over: false,
            idle: false,
            snubbed: false,
            fresh: false,
            waits: Time(NOW.0 - 20_000_000 + u64::from(n)),
        }
    }

    fn giving(n: u32, rate: u64) -> Candidate {
        Candidate { rate, ..waiting(n) }
    }

    fn holding(n: u32) -> Candidate {
        Candidate { unchoked: true, ..waiting(n) }
    }

    fn rule(slots: usize) -> Rule {
        Rule { slots, seeding: false, optimistic: None, rotate: true, keep: false, now: NOW }
    }

    fn run(rule: Rule, candidates: &[Candidate]) -> Choice {
        decide(&rule, candidates, &mut Rng::new([7; 32]))
    }

    fn ids(list: impl IntoIterator<Item = u32>) -> Vec<PeerId> {
        list.into_iter().map(id).collect()
    }

    #[test]
    fn those_who_give_most_are_served_and_one_more_is_tried_out() {
        let mut all: Vec<Candidate> = (1..=9).map(|n| giving(n, u64::from(n) * 100)).collect();
        let choice = run(rule(4), &all);
        assert_eq!(choice.unchoke[..3], ids([9, 8, 7]));
        assert_eq!((choice.unchoke.len(), choice.optimistic), (4, choice.unchoke.last().copied()));
        assert!(!ids([9, 8, 7]).contains(&choice.unchoke[3]));
        // Until its time is over the one that is tried out stays.
        let stay = Rule { optimistic: Some(id(2)), rotate: false, ..rule(4) };
        assert_eq!(run(stay, &all).unchoke, ids([9, 8, 7, 2]));
        // It gives most now: it has earned its place, and another is tried out.
        all[1].rate = 5000;
        let choice = run(stay, &all);
        assert_eq!(choice.unchoke[..3], ids([2, 9, 8]));
        assert!(choice.optimistic.is_some_and(|o| o != id(2)));
    }

    #[test]
    fn everybody_has_a_slot_while_there_are_enough() {
        for slots in 1..5 {
            for n in 1..=slots as u32 {
                let all: Vec<Candidate> = (0..n).map(waiting).collect();
                for seeding in [false, true] {
                    let choice = run(Rule { seeding, ..rule(slots) }, &all);
                    assert_eq!(choice.unchoke.len(), n as usize, "{n} of {slots}");
                }
            }
        }
        assert_eq!(run(rule(0), &[waiting(1)]).unchoke, []);
    }

    #[test]
    fn who_snubs_us_is_served_only_when_tried_out() {
        let mut all: Vec<Candidate> = (1..=3).map(|n| giving(n, 100)).collect();
        all[0].snubbed = true;
        let choice = run(rule(3), &all);
        assert_eq!((choice.unchoke, choice.optimistic), (ids([2, 3, 1]), Some(id(1))));
        let only = [Candidate { snubbed: true, ..giving(1, 9) }, Candidate { snubbed: true, ..giving(2, 9) }];
        assert_eq!(run(rule(4), &only).unchoke.len(), 1);
    }

    #[test]
    fn one_slot_goes_to_the_best_and_now_and_then_to_another() {
        let all = [giving(1, 900), waiting(2)];
        assert_eq!(run(Rule { rotate: false, optimistic: Some(id(2)), ..rule(1) }, &all).unchoke, ids([1]));
        let tried: Vec<PeerId> =
            (0..20).flat_map(|seed| decide(&rule(1), &all, &mut Rng::new([seed; 32])).unchoke).collect();
        assert!(tried.contains(&id(2)) && tried.len() == 20);
    }

    #[test]
    fn between_rounds_only_what_is_free_is_given() {
        let keep = Rule { keep: true, rotate: false, optimistic: Some(id(4)), ..rule(4) };
        let mut all = vec![holding(1), holding(2), holding(3), holding(4), giving(5, 9000)];
        let sorted = |choice: Choice| {
            let mut list = choice.unchoke;
            list.sort();
            list
        };
        assert_eq!(sorted(run(keep, &all)), ids([1, 2, 3, 4]));
        assert_eq!(run(keep, &all).optimistic, Some(id(4)));
        all.remove(1);
        assert_eq!(sorted(run(keep, &all)), ids([1, 3, 4, 5]));
        let seeding = Rule { seeding: true, optimistic: None, ..keep };
        assert_eq!(sorted(run(seeding, &all)), ids([1, 3, 4, 5]));
        // The one that was tried out is gone: so is its slot free.
        all.retain(|c| c.peer != id(4));
        all.push(waiting(6));
        assert_eq!(sorted(run(keep, &all)), ids([1, 3, 5, 6]));
    }

    #[test]
    fn new_peers_are_tried_three_times_as_likely() {
        let all: Vec<Candidate> = (0..4).map(|n| Candidate { fresh: n == 0, ..waiting(n) }).collect();
        let rest: Vec<&Candidate> = all.iter().collect();
        let mut rng = Rng::new([1; 32]);
        let tries = 6000;
        let hits = (0..tries).filter(|_| try_out(&rule(4), &rest, &mut rng) == Some(id(0))).count();
        assert!((2800..3200).contains(&hits), "3 of 6 chances: {hits} of {tries}");
    }

    #[test]
    fn nobody_waits_for_ever_to_be_tried_out() {
        let mut all: Vec<Candidate> = (0..10).map(waiting).collect();
        all[6].waits = NOW - (SLOT_TURN * 10 + SLOT_TURN);
        for seed in 0..20 {
            let choice = decide(&rule(1), &all, &mut Rng::new([seed; 32]));
            assert_eq!(choice.unchoke, ids([6]));
        }
    }

    #[test]
    fn a_seed_serves_in_turn_and_takes_slots_that_are_held_idle() {
        let seed = Rule { seeding: true, ..rule(3) };
        let over = |n, rate| Candidate { turn_over: true, rate, ..holding(n) };
        let idle = |n| Candidate { idle: true, ..holding(n) };
        // Turns that are not over go on; then who waits longest.
        assert_eq!(run(seed, &[over(1, 900), holding(2), waiting(4), waiting(3)]).unchoke, ids([2, 3, 4]));
        // Of those whose turn is over, the fastest stay when few wait.
        assert_eq!(run(seed, &[over(1, 10), over(2, 30), over(3, 20), waiting(4)]).unchoke, ids([4, 2, 3]));
        // An idle slot goes to anybody else, between the rounds too.
        assert_eq!(run(seed, &[idle(1), holding(2), holding(3), waiting(4)]).unchoke, ids([2, 3, 4]));
        let keep = Rule { keep: true, ..seed };
        assert_eq!(run(keep, &[idle(1), holding(2), holding(3), waiting(4)]).unchoke, ids([2, 3, 4]));
        assert_eq!(run(seed, &[idle(1), holding(2)]).unchoke, ids([2, 1]));
    }
}
