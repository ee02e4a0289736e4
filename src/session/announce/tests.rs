//! One torrent's announces, in virtual time.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn urls(names: &[&str]) -> Vec<Url> {
    names
        .iter()
        .map(|name| Url::parse(&format!("http://{name}/announce?passkey=0123456789")).unwrap())
        .collect()
}

fn facts(left: u64) -> Facts {
    Facts {
        info_hash: InfoHash([1; 20]),
        peer_id: [2; 20],
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left,
        is_partial_seed: false,
        peers_wanted: 1000,
        dry: false,
    }
}

fn fine(secs: u64) -> Result<Response, TrackerFailure> {
    Ok(Response { interval: Duration::from_secs(secs), ..Response::default() })
}

fn dead() -> Result<Response, TrackerFailure> {
    Err(TrackerFailure::Network("cannot connect".into()))
}

/// One torrent, and what was said to whom when.
struct World {
    announcer: Announcer,
    names: Vec<String>,
    now: Time,
    facts: Facts,
    said: Vec<(String, Event, Time, Request)>,
    news: Vec<News>,
}

impl World {
    fn new(tiers: &[&[&str]]) -> World {
        let trackers: Vec<Vec<Url>> = tiers.iter().map(|names| urls(names)).collect();
        World::of(Announcer::new(&trackers, 77, &mut Rng::new([3; 32]), Time::ZERO), tiers)
    }

    /// One tier whose trackers are tried in this order.
    fn in_order(names: &[&str]) -> World {
        let drawn = |seed| Announcer::new(&[urls(names)], 77, &mut Rng::new([seed; 32]), Time::ZERO);
        let mut all = (0..=255).map(drawn);
        World::of(all.find(|announcer| announcer.tiers[0].order().is_sorted()).unwrap(), &[names])
    }

    fn of(announcer: Announcer, tiers: &[&[&str]]) -> World {
        let names = tiers.concat().iter().map(|name| name.to_string()).collect();
        World { announcer, names, now: Time::ZERO, facts: facts(100), said: vec![], news: vec![] }
    }

    /// Runs until `until`; `answer` is the trackers.
    fn run(
        &mut self,
        until: Time,
        mut answer: impl FnMut(&str, &Request, Time) -> Result<Response, TrackerFailure>,
    ) {
        loop {
            while let Some(announce) = self.announcer.poll(self.now, &self.facts) {
                let name = self.names[announce.tracker as usize].clone();
                assert!(announce.url.to_string().contains(&name));
                let event = announce.request.event;
                self.said.push((name.clone(), event, self.now, announce.request.clone()));
                let result = answer(&name, &announce.request, self.now);
                self.now += Duration::from_millis(100);
                let outcome = self.announcer.on_reply(announce.tracker, result, self.now).unwrap();
                self.news.extend(outcome.news);
            }
            match self.announcer.deadline() {
                Some(at) if at <= until => {
                    assert!(at > self.now || self.announcer.poll(self.now, &self.facts).is_none());
                    self.now = self.now.max(at);
                }
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    fn events(&self) -> Vec<(&str, Event)> {
        self.said.iter().map(|(name, event, ..)| (name.as_str(), *event)).collect()
    }

    fn leave(&mut self, answer: impl FnMut(&str, &Request, Time) -> Result<Response, TrackerFailure>) {
        self.announcer.stop();
        self.run(self.now, answer);
        assert!(self.announcer.stopping_done());
    }
}

fn after(secs: u64) -> Time {
    Time::ZERO + Duration::from_secs(secs)
}

#[test]
fn a_plain_life_is_started_intervals_completed_stopped() {
    let mut world = World::new(&[&["a"]]);
    world.run(after(3700), |_, _, _| fine(1800));
    world.facts.left = 0;
    world.announcer.on_complete(world.now);
    world.announcer.on_complete(world.now);
    world.run(after(3700), |_, _, _| fine(1800));
    world.announcer.on_complete(world.now);
    world.run(after(5600), |_, _, _| fine(1800));
    world.leave(|_, _, _| fine(1800));
    let events: Vec<Event> = world.said.iter().map(|s| s.1).collect();
    let (none, started, completed) = (Event::None, Event::Started, Event::Completed);
    assert_eq!(events, [started, none, none, completed, none, Event::Stopped]);
    assert!(world.said.iter().all(|s| s.3.key == 77));
    let wants: Vec<u32> = world.said.iter().map(|s| s.3.numwant).collect();
    assert_eq!((wants[0], wants[5]), (limits::NUMWANT_MAX, 0));
    assert_eq!((world.announcer.unreached(), world.announcer.deadline()), (0, None));
}

#[test]
fn who_was_complete_at_the_start_does_not_say_completed() {
    let mut world = World::new(&[&["a"]]);
    world.facts.left = 0;
    world.run(after(10), |_, _, _| fine(1800));
    world.announcer.on_complete(world.now);
    world.run(after(4000), |_, _, _| fine(1800));
    assert!(world.said.iter().all(|s| s.1 != Event::Completed));
}

#[test]
fn a_lost_piece_that_comes_again_is_not_announced_as_completed() {
    let mut world = World::new(&[&["a"]]);
    world.facts.left = 0;
    world.run(after(10), |_, _, _| fine(1800));
    world.facts.left = 500;
    world.run(after(4000), |_, _, _| fine(1800));
    world.facts.left = 0;
    world.announcer.on_complete(world.now);
    world.run(after(8000), |_, _, _| fine(1800));
    assert!(world.said.iter().all(|s| s.1 != Event::Completed));
}

#[test]
fn a_partial_seed_says_so_in_each_announce_that_has_no_other_event() {
    let mut world = World::new(&[&["a"]]);
    world.facts.is_partial_seed = true;
    world.run(after(4000), |_, _, _| fine(1800));
    world.leave(|_, _, _| fine(1800));
    let events: Vec<Event> = world.said.iter().map(|s| s.1).collect();
    assert_eq!(events, [Event::Started, Event::Paused, Event::Paused, Event::Stopped]);
}

#[test]
fn the_end_of_a_download_is_told_even_at_once_before_leaving() {
    for failures in 0..2 {
        let mut world = World::new(&[&["a"]]);
        let first = world.announcer.poll(world.now, &world.facts).unwrap();
        world.announcer.on_complete(world.now);
        world.announcer.stop();
        assert!(world.announcer.poll(world.now, &world.facts).is_none());
        assert!(!world.announcer.stopping_done());
        let result = if failures == 0 { fine(1800) } else { dead() };
        world.announcer.on_reply(first.tracker, result, world.now);
        world.leave(|_, r, _| {
            assert_eq!(r.numwant, 0);
            fine(1800)
        });
        let expected: &[_] =
            if failures == 0 { &[("a", Event::Completed), ("a", Event::Stopped)] } else { &[] };
        assert_eq!(world.events(), expected);
    }
}

#[test]
fn completed_is_not_lost_when_a_tracker_fails() {
    let mut world = World::in_order(&["a", "b"]);
    world.run(after(10), |_, _, _| fine(1800));
    world.facts.left = 0;
    world.announcer.on_complete(world.now);
    let mut down = 0;
    world.run(after(1000), |name, _, _| {
        down += 1;
        if name == "a" || down < 6 { dead() } else { fine(1800) }
    });
    let done: Vec<_> = world.said.iter().filter(|s| s.1 == Event::Completed).map(|s| s.0.as_str()).collect();
    assert_eq!(done.last(), Some(&"b"), "{:?}", world.events());
    world.run(after(9000), |_, _, _| fine(1800));
    assert_eq!(world.said.iter().filter(|s| s.1 == Event::Completed && s.0 == "b").count(), 1);
}

#[test]
fn within_a_tier_the_first_tracker_that_answers_is_announced_to() {
    let mut world = World::new(&[&["a", "b", "c"], &["d"]]);
    world.run(after(10), |name, _, _| if name == "d" { fine(1800) } else { dead() });
    let order: Vec<String> = world.said.iter().map(|s| s.0.clone()).collect();
    assert_eq!((order.len(), order[3].as_str()), (4, "d"));
    let mut first = order[..3].to_vec();
    first.sort();
    assert_eq!(first, ["a", "b", "c"]);
    // The tracker of the tier that answers then stays first.
    let alive = order[2].clone();
    world.run(after(4000), |name, _, _| if name == alive || name == "d" { fine(1800) } else { dead() });
    world.said.clear();
    world.run(after(8000), |_, _, _| fine(1800));
    assert!(world.said.iter().all(|s| s.0 == alive || s.0 == "d") && world.said.len() == 4);
    assert_eq!(world.announcer.unreached(), 2);
    world.said.clear();
    world.leave(|name, _, _| if name == "d" { dead() } else { fine(1800) });
    assert_eq!((world.said.len(), world.announcer.unreached()), (2, 1));
}

#[test]
fn each_tier_is_announced_to_by_itself_with_all_events() {
    let mut world = World::new(&[&["a"], &["b"], &["c"]]);
    let answer = |name: &str, _: &Request, _: Time| match name {
        "a" => fine(1800),
        "b" => fine(900),
        _ => dead(),
    };
    world.run(after(3500), answer);
    world.facts.left = 0;
    world.announcer.on_complete(world.now);
    world.run(after(3550), answer);
    world.leave(answer);
    let of = |name: &str| -> Vec<Event> { world.said.iter().filter(|s| s.0 == name).map(|s| s.1).collect() };
    let (started, none) = (Event::Started, Event::None);
    assert_eq!(of("a"), [started, none, Event::Completed, Event::Stopped]);
    assert_eq!(of("b"), [started, none, none, none, Event::Completed, Event::Stopped]);
    assert!(of("c").len() >= 5 && of("c").iter().all(|event| *event == started));
    assert!(world.said.iter().take(3).all(|s| s.2 < after(1)), "all are asked at once");
}

#[test]
fn a_dry_swarm_has_every_tier_asked_sooner() {
    let mut world = World::new(&[&["a"], &["b"]]);
    world.facts.dry = true;
    world.run(after(200), |_, _, _| fine(1800));
    let count = |name| world.said.iter().filter(|s| s.0 == name).count();
    assert!(count("a") >= 2 && count("a") == count("b"), "{:?}", world.events());
}

#[test]
fn a_failure_is_told_only_when_no_other_tracker_answers() {
    let mut world = World::new(&[&["a"], &["b"]]);
    let told = |world: &World| {
        let alone = |news: &&News| matches!(news, News::Failed { alone: true, .. });
        world.news.iter().filter(alone).count()
    };
    world.run(after(3000), |name, _, _| if name == "a" { dead() } else { fine(600) });
    assert!(world.news.len() > 3 && told(&world) == 0 && world.announcer.status().is_none());
    world.run(after(20_000), |_, _, _| dead());
    assert_eq!(told(&world), 2, "each once");
    assert!(world.announcer.status().is_some());
}

#[test]
fn the_tiers_that_are_asked_at_a_time_are_bounded() {
    let names: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    let tiers: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &tier[..]).collect();
    let mut world = World::new(&tiers);
    let mut out = Vec::new();
    while let Some((_, tracker, _)) = ask(&mut world) {
        out.push(tracker);
    }
    assert_eq!((out.len(), world.announcer.deadline()), (limits::ANNOUNCE_TIERS_OUT, None));
    // One that answers makes room, and so does one that is slow.
    world.announcer.on_reply(out[0], fine(1800), world.now).unwrap();
    world.announcer.on_slow(out[1], world.now);
    assert!(world.announcer.deadline().is_some());
    assert!(ask(&mut world).is_some() && ask(&mut world).is_some() && ask(&mut world).is_none());
}

#[test]
fn a_url_that_comes_twice_is_one_tracker_and_too_many_are_left_out() {
    let many: Vec<String> = (0..2 * limits::TRACKERS_MAX).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let tiers = [urls(&["a", "a"]), urls(&["a"]), urls(&many)];
    let announcer = Announcer::new(&tiers, 0, &mut Rng::new([1; 32]), Time::ZERO);
    assert_eq!(announcer.trackers.len(), limits::TRACKERS_MAX);
    let none = Announcer::new(&[], 0, &mut Rng::new([1; 32]), Time::ZERO);
    assert_eq!((none.deadline(), none.status()), (None, None));
}

#[test]
fn failures_back_off_to_half_an_hour_and_success_resets() {
    let mut world = World::new(&[&["a"]]);
    world.run(after(5 * 3600), |_, _, _| dead());
    let gaps: Vec<u64> = world.said.windows(2).map(|w| w[1].2.since(w[0].2).as_secs()).collect();
    assert!(gaps[0] >= 60 && gaps.windows(2).take(4).all(|w| w[1] > w[0] * 3 / 2), "{gaps:?}");
    let max = limits::ANNOUNCE_RETRY_MAX.as_secs();
    assert!(gaps[6..].iter().all(|&gap| gap >= max && gap <= max * 5 / 4 + 1), "{gaps:?}");
    assert!(world.said.iter().all(|s| s.1 == Event::Started));
    assert_eq!(world.news.len(), 1);
    world.run(after(6 * 3600), |_, _, _| fine(600));
    world.said.clear();
    world.run(after(6 * 3600 + 750), |_, _, _| dead());
    assert!(world.said[1].2.since(world.said[0].2) <= limits::ANNOUNCE_RETRY * 3 / 2);
    assert_eq!(world.news.len(), 2);
}

#[test]
fn a_hostile_interval_neither_hammers_nor_loses_us() {
    for secs in [0, 1, 59, 60, 86_400, u64::MAX] {
        let mut world = World::new(&[&["a"]]);
        world.facts.dry = true;
        world.run(after(86_400), |_, _, _| {
            let hostile = Duration::from_secs(secs);
            Ok(Response { interval: hostile, min_interval: Some(hostile), ..Response::default() })
        });
        assert!(world.said.windows(2).all(|w| w[1].2.since(w[0].2) >= MINUTE), "{secs}");
        assert!(world.said.len() >= 4, "{secs}: {}", world.said.len());
    }
}

#[test]
fn the_min_interval_holds_even_when_dry() {
    let mut world = World::new(&[&["a"]]);
    world.facts.dry = true;
    let min = Duration::from_secs(900);
    world.run(after(7200), |_, _, _| {
        Ok(Response { interval: MINUTE * 30, min_interval: Some(min), ..Response::default() })
    });
    assert!(world.said.len() > 5 && world.said.windows(2).all(|w| w[1].2.since(w[0].2) >= min));
    let mut world = World::new(&[&["a"]]);
    world.run(after(7200), |_, _, _| {
        Ok(Response { interval: MINUTE, min_interval: Some(min), ..Response::default() })
    });
    assert!(world.said.windows(2).all(|w| w[1].2.since(w[0].2) >= min));
}

#[test]
fn a_dry_swarm_is_asked_sooner_but_ever_more_rarely() {
    let mut world = World::new(&[&["a"]]);
    world.run(after(300), |_, _, _| fine(1800));
    assert_eq!(world.said.len(), 1);
    world.facts.dry = true;
    world.run(after(1799), |_, _, _| fine(1800));
    assert!((3..=5).contains(&world.said.len()), "{:?}", world.events());
    assert_eq!(world.said[1].2, after(300));
    world.facts.dry = false;
    let before = world.said.len();
    world.run(world.now + MINUTE * 15, |_, _, _| fine(1800));
    assert!(world.said.len() <= before + 1);
}

#[test]
fn the_tracker_id_goes_back_and_stays() {
    let mut world = World::new(&[&["a"]]);
    let mut first = true;
    world.run(after(7200), |_, _, _| {
        let tracker_id = std::mem::take(&mut first).then(|| b"\xffid".to_vec());
        Ok(Response { tracker_id, interval: MINUTE * 30, ..Response::default() })
    });
    let ids: Vec<_> = world.said.iter().map(|s| s.3.tracker_id.clone()).collect();
    assert_eq!(ids[0], None);
    assert!(ids.len() > 3 && ids[1..].iter().all(|id| id.as_deref() == Some(b"\xffid")));
}

#[test]
fn a_tracker_that_we_cannot_speak_to_is_passed_over_quietly() {
    let unsupported = || Err(TrackerFailure::Unsupported("no UDP yet".into()));
    let mut world = World::new(&[&["u"], &["a"]]);
    world.run(after(7200), |name, _, _| if name == "u" { unsupported() } else { fine(1800) });
    assert_eq!(world.said.iter().filter(|s| s.0 == "u").count(), 1);
    assert_eq!((world.news.len(), world.announcer.status()), (0, None));
    let mut world = World::new(&[&["u", "v"]]);
    world.run(after(7200), |_, _, _| unsupported());
    assert_eq!((world.said.len(), world.news.len(), world.announcer.deadline()), (2, 1, None));
    assert!(matches!(&world.news[0], News::Failed { alone: true, .. }));
    assert!(world.announcer.status().unwrap().contains("no UDP yet"));
}

#[test]
fn what_the_tracker_says_is_shown_and_told_once_a_change() {
    let mut world = World::new(&[&["a"]]);
    let refused = |words: &str| Err(TrackerFailure::Refused(Failure::new(words.as_bytes())));
    world.run(after(3600), |_, _, _| refused("unregistered torrent"));
    assert_eq!(world.announcer.status().unwrap(), "the tracker says: unregistered torrent");
    world.run(after(7200), |_, _, _| refused("try later"));
    assert_eq!(world.news.len(), 2);
    let warn = |_: &str, _: &Request, _: Time| {
        let warning = Some("old client".to_string());
        Ok(Response { warning, interval: MINUTE, ..Response::default() })
    };
    world.run(after(14_400), warn);
    assert_eq!(world.news.len(), 3);
    assert!(matches!(&world.news[2], News::Warning { words, .. } if words == "old client"));
    assert_eq!(world.announcer.status().unwrap(), "the tracker says: old client");
    world.run(after(20_000), |_, _, _| fine(1800));
    assert_eq!(world.announcer.status(), None);
    assert!(world.news.iter().all(|news| !format!("{news:?}").contains("0123456789")));
}

#[test]
fn a_tracker_that_refuses_is_asked_again_when_it_says() {
    let refused = |retry| Err(TrackerFailure::Refused(Failure { words: "busy".into(), retry }));
    for minutes in [1, 10, 120] {
        let wait = MINUTE * minutes;
        let mut world = World::new(&[&["a"]]);
        world.run(after(36_000), |_, _, _| refused(Retry::After(wait)));
        let gaps: Vec<Duration> = world.said.windows(2).map(|w| w[1].2.since(w[0].2)).collect();
        let longest = wait + limits::ANNOUNCE_RETRY_MAX / 4 + MINUTE;
        assert!(gaps.len() > 3 && gaps.iter().all(|gap| (wait..longest).contains(gap)), "{gaps:?}");
    }
    let mut world = World::new(&[&["a"], &["b"]]);
    world.run(after(36_000), |name, _, _| if name == "a" { refused(Retry::Never) } else { fine(1800) });
    assert_eq!(world.said.iter().filter(|s| s.0 == "a").count(), 1);
    world.run(after(40_000), |_, _, _| refused(Retry::Never));
    assert_eq!(world.announcer.deadline(), None);
}

#[test]
fn an_answer_that_nobody_asked_for_is_dropped() {
    let mut world = World::new(&[&["a"]]);
    assert!(world.announcer.on_reply(0, fine(1), Time::ZERO).is_none());
    assert!(world.announcer.on_reply(9, fine(1), Time::ZERO).is_none());
    assert_eq!(world.announcer.unreached(), 0);
}

#[test]
fn any_luck_keeps_the_rules() {
    for seed in 0..50 {
        let mut rng = Rng::new([seed; 32]);
        let mut world = World::new(&[&["a", "b"], &["c", "d", "e"], &["f"]]);
        let (mut knows, mut completed) = (std::collections::BTreeSet::new(), [0; 3]);
        let tier_of = |name: &str| ["ab", "cde", "f"].iter().position(|tier| tier.contains(name)).unwrap();
        let mut luck = |name: &str, request: &Request, _: Time| {
            assert!(request.event != Event::Started || !knows.contains(name), "started twice");
            assert!(request.event == Event::Started || knows.contains(name), "{:?} first", request.event);
            let result = match rng.below(4) {
                0 => dead(),
                1 => Err(TrackerFailure::Answer("junk".into())),
                _ => fine(rng.u64() >> rng.below(64)),
            };
            if result.is_ok() {
                completed[tier_of(name)] += u32::from(request.event == Event::Completed);
                knows.insert(name.to_string());
            }
            result
        };
        for step in 1..40 {
            world.facts.dry = step % 3 == 0;
            world.run(after(step * 1000), &mut luck);
            if step == 20 {
                world.facts.left = 0;
                world.announcer.on_complete(world.now);
            }
        }
        world.leave(&mut luck);
        assert_eq!(completed, [1; 3]);
        for name in &world.names {
            let at: Vec<Time> =
                world.said.iter().filter(|s| s.0 == *name && s.1 == Event::None).map(|s| s.2).collect();
            assert!(at.windows(2).all(|w| w[1].since(w[0]) >= MINUTE));
            let stops = world.said.iter().filter(|s| s.0 == *name && s.1 == Event::Stopped).count();
            assert_eq!(stops, usize::from(knows.contains(name)));
        }
    }
}

/// Polls once and says who is asked.
fn ask(world: &mut World) -> Option<(String, u32, Event)> {
    let due = world.announcer.poll(world.now, &world.facts)?;
    Some((world.names[due.tracker as usize].clone(), due.tracker, due.request.event))
}

#[test]
fn a_slow_tracker_is_passed_over_and_its_late_answer_counts() {
    let mut world = World::in_order(&["a", "b", "c"]);
    let (_, a, _) = ask(&mut world).unwrap();
    assert!(ask(&mut world).is_none() && world.announcer.deadline().is_none());
    world.now = after(10);
    world.announcer.on_slow(a, world.now);
    world.announcer.on_slow(99, world.now);
    assert_eq!(world.announcer.status().unwrap(), "tracker http://a/…: no answer yet");
    let (name, b, event) = ask(&mut world).unwrap();
    assert_eq!((name.as_str(), event), ("b", Event::Started));
    world.announcer.on_reply(b, fine(1800), world.now).unwrap();
    assert_eq!((ask(&mut world), world.announcer.status()), (None, None));
    // Each has one call out at most: at the next interval it is b again.
    world.now = after(1900);
    let (name, b, event) = ask(&mut world).unwrap();
    assert_eq!((name.as_str(), event), ("b", Event::None));
    world.announcer.on_reply(b, fine(1800), world.now).unwrap();
    world.now = after(2000);
    let peer = "10.0.0.1:80".parse().unwrap();
    let late = Response { interval: MINUTE * 15, peers: vec![peer], ..Response::default() };
    assert_eq!(world.announcer.on_reply(a, Ok(late), world.now).unwrap().peers, [peer]);
    assert_eq!(world.announcer.deadline(), Some(after(2900)));
    world.now = after(2900);
    assert_eq!(ask(&mut world).map(|(name, _, event)| (name, event)), Some(("a".into(), Event::None)));
    assert_eq!(world.announcer.unreached(), 2);
}

#[test]
fn a_min_interval_holds_when_the_others_have_failed() {
    let mut world = World::in_order(&["a", "b"]);
    let (_, a, _) = ask(&mut world).unwrap();
    world.announcer.on_slow(a, world.now);
    let (_, b, _) = ask(&mut world).unwrap();
    let mut rarely = fine(60);
    if let Ok(response) = &mut rarely {
        response.min_interval = Some(60 * MINUTE);
    }
    world.announcer.on_reply(b, rarely, world.now);
    world.announcer.on_reply(a, fine(60), world.now);
    world.now += MINUTE;
    assert_eq!(ask(&mut world), Some(("a".into(), a, Event::None)));
    world.announcer.on_reply(a, dead(), world.now);
    assert_eq!(ask(&mut world), None);
}

#[test]
fn when_all_are_slow_their_answers_are_waited_for() {
    let mut world = World::new(&[&["a", "b"]]);
    for _ in 0..2 {
        let (_, tracker, _) = ask(&mut world).unwrap();
        world.announcer.on_slow(tracker, world.now);
    }
    assert!(ask(&mut world).is_none() && world.announcer.deadline().is_none());
    world.announcer.on_reply(0, dead(), world.now).unwrap();
    assert!(ask(&mut world).is_none());
    let retry = world.announcer.deadline().unwrap();
    assert!(retry >= after(60) && retry <= after(76));
    world.now = after(30);
    world.announcer.on_reply(1, fine(1800), world.now).unwrap();
    assert_eq!(world.announcer.deadline(), Some(after(1830)));
}

#[test]
fn a_late_failure_does_not_disturb_who_has_an_answer() {
    let mut world = World::in_order(&["a", "b"]);
    let (_, a, _) = ask(&mut world).unwrap();
    world.announcer.on_slow(a, world.now);
    let (_, b, _) = ask(&mut world).unwrap();
    world.announcer.on_reply(b, fine(1800), world.now).unwrap();
    let outcome = world.announcer.on_reply(a, dead(), after(600)).unwrap();
    assert!(matches!(outcome.news, Some(News::Failed { alone: false, .. })));
    assert_eq!(world.announcer.deadline(), Some(after(1800)));
}

#[test]
fn completed_is_said_once_though_a_tracker_is_slow_and_again_when_it_was_lost() {
    for lost in [false, true] {
        let mut world = World::in_order(&["a", "b"]);
        // Both know us, and b is the one that followed the download.
        world.run(after(10), |_, _, _| fine(60));
        world.run(after(200), |name, _, _| if name == "a" { dead() } else { fine(60) });
        assert_eq!(world.announcer.unreached(), 2);
        world.facts.left = 0;
        world.announcer.on_complete(world.now);
        let (_, b, event) = ask(&mut world).unwrap();
        assert_eq!(event, Event::Completed);
        world.announcer.on_slow(b, world.now);
        // The other one is asked for peers only, and not more often than each minute.
        world.said.clear();
        world.run(world.now + MINUTE * 10, |_, _, _| fine(60));
        assert!(world.said.iter().all(|s| s.1 == Event::None) && world.said.len() <= 11);
        let result = if lost { dead() } else { fine(60) };
        world.announcer.on_reply(b, result, world.now).unwrap();
        world.said.clear();
        world.run(world.now + MINUTE * 10, |_, _, _| fine(60));
        let again = world.said.iter().filter(|s| s.1 == Event::Completed).count();
        assert_eq!(again, usize::from(lost));
    }
}

#[test]
fn the_same_host_by_another_protocol_comes_next_within_a_tier() {
    let parse = |text: &str| Url::parse(text).unwrap();
    let trackers = [
        vec![parse("http://x/1"), parse("udp://h:80"), parse("http://y/"), parse("http://h/announce")],
        vec![parse("https://x/2")],
    ];
    for seed in 0..40 {
        let mut announcer = Announcer::new(&trackers, 0, &mut Rng::new([seed; 32]), Time::ZERO);
        let mut order = Vec::new();
        while let Some(due) = announcer.poll(Time::ZERO, &facts(1)) {
            order.push(due.tracker);
            if seed % 2 == 0 {
                announcer.on_slow(due.tracker, Time::ZERO);
            } else {
                announcer.on_reply(due.tracker, dead(), Time::ZERO).unwrap();
            }
        }
        let place = |tracker| order.iter().position(|at| *at == tracker).unwrap();
        assert_eq!(place(1).abs_diff(place(3)), 1, "{order:?}");
        assert_eq!((order.len(), order[4]), (5, 4), "tiers keep their order");
    }
}

#[test]
fn a_host_that_rests_is_left_alone_until_then_and_not_blamed_twice() {
    let mut world = World::new(&[&["a"], &["b"]]);
    let (_, a, _) = ask(&mut world).unwrap();
    let why = TrackerFailure::Network("cannot connect".into());
    let outcome = world.announcer.on_rest(a, after(500), why.clone(), world.now).unwrap();
    assert!(matches!(outcome.news, Some(News::Failed { alone: false, .. })));
    assert!(world.announcer.on_rest(a, after(500), why, world.now).is_none());
    world.run(after(300), |_, _, _| fine(60));
    assert!(world.said.iter().all(|s| s.0 == "b"));
    world.said.clear();
    world.run(after(700), |_, _, _| dead());
    let asked = world.said.iter().find(|s| s.0 == "a").unwrap();
    assert!(asked.2 >= after(500) && asked.2 <= after(500 + 75), "{:?}", asked.2);
}

#[test]
fn who_is_slow_does_not_hold_up_the_end() {
    let mut world = World::new(&[&["a"], &["b"]]);
    let (_, a, _) = ask(&mut world).unwrap();
    world.announcer.on_slow(a, world.now);
    world.run(after(5), |_, _, _| fine(1800));
    world.leave(|_, _, _| fine(1800));
    assert_eq!(world.events(), [("b", Event::Started), ("b", Event::Stopped)]);
    // It has heard us after all: it is told as well.
    world.announcer.on_reply(a, fine(1800), world.now).unwrap();
    assert!(!world.announcer.stopping_done());
    world.leave(|_, _, _| fine(1800));
    assert_eq!((world.said[2].0.as_str(), world.said[2].1), ("a", Event::Stopped));
}

#[test]
fn trackers_that_are_found_later_come_last_and_mix_up_nothing() {
    let mut world = World::new(&[&["a"]]);
    let first = world.announcer.poll(Time::ZERO, &world.facts).unwrap();
    let more = [urls(&["a", "b"]), urls(&["c", "c"])];
    assert_eq!(world.announcer.add(&more, Time::ZERO), 2);
    assert_eq!(world.announcer.add(&more, Time::ZERO), 0, "they are there");
    // The first is waited for, and its answer is its own.
    assert!(world.announcer.on_reply(first.tracker + 1, fine(1800), Time::ZERO).is_none());
    assert!(world.announcer.on_reply(first.tracker, fine(1800), Time::ZERO).is_some());
    world.names.extend(["b".to_owned(), "c".to_owned()]);
    let end = after(1801);
    world.run(end, |name, _, _| if name == "b" { fine(3600) } else { dead() });
    let said: Vec<_> = world.said.iter().map(|(name, event, ..)| (name.as_str(), *event)).collect();
    assert_eq!(said[..2], [("b", Event::Started), ("c", Event::Started)]);
    assert!(said[2..].contains(&("a", Event::None)) && !said[2..].iter().any(|(name, _)| *name == "b"));
    let count = said.len();
    // They are told of the end like the others.
    world.announcer.stop();
    world.run(end, |_, _, _| fine(1800));
    let mut told: Vec<_> =
        world.said[count..].iter().map(|(name, event, ..)| (name.as_str(), *event)).collect();
    told.sort_unstable_by_key(|(name, _)| *name);
    assert_eq!(told, [("a", Event::Stopped), ("b", Event::Stopped)]);
}

#[test]
fn a_tracker_that_is_found_later_is_asked_at_once() {
    let mut world = World::new(&[&["a"]]);
    world.run(Time::ZERO, |_, _, _| fine(1800));
    assert_eq!(world.announcer.add(&[urls(&["b"])], Time::ZERO), 1);
    world.names.push("b".to_owned());
    world.run(Time::ZERO, |_, _, _| fine(1800));
    assert_eq!(world.said.last().map(|(name, ..)| name.as_str()), Some("b"));
    // One that comes after the end of the download does not hear of it.
    world.facts.left = 0;
    world.announcer.on_complete(world.now);
    assert_eq!(world.announcer.add(&[urls(&["c"])], world.now), 1);
    world.names.push("c".to_owned());
    world.run(after(60), |_, _, _| fine(1800));
    let (started, completed) = (Event::Started, Event::Completed);
    assert_eq!(world.events()[2..], [("a", completed), ("b", completed), ("c", started)]);
    let many: Vec<Vec<Url>> = (0..300).map(|n| urls(&[&format!("h{n}")])).collect();
    assert_eq!(world.announcer.add(&many, Time::ZERO), limits::TRACKERS_MAX - 3);
}

#[test]
fn an_announce_that_waited_says_what_holds_when_it_goes_out() {
    let mut world = World::new(&[&["a"]]);
    world.run(after(10), |_, _, _| fine(1800));
    let due = (0..4000).find_map(|secs| world.announcer.poll(after(secs), &world.facts));
    let mut request = due.expect("an announce is due").request;
    assert_eq!(request.event, Event::None);
    Facts { is_partial_seed: true, ..facts(7) }.update(&mut request);
    assert_eq!((request.event, request.left), (Event::Paused, 7));
    facts(0).update(&mut request);
    assert_eq!((request.event, request.left), (Event::None, 0));
    let mut started = Request { event: Event::Started, ..request };
    Facts { is_partial_seed: true, ..facts(7) }.update(&mut started);
    assert_eq!(started.event, Event::Started);
}
