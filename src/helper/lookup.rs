//! Host names to addresses: what is known and for how long, and the look-up itself, which may hang.

use crate::limits;
use crate::proto::tracker::url::Host;
use crate::sys::socket::{Family, Route};
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Instant;

/// Why a name has no address.
pub(super) struct NoName {
    /// In words, without the name.
    pub(super) why: String,
    /// The name does not exist, rather than that nobody could be asked.
    pub(super) lasting: bool,
}

/// What is known of a name.
pub(super) enum Found {
    Known(Vec<IpAddr>),
    Failed(String),
    /// Being looked up.
    Looking,
    /// To be looked up.
    Unknown,
}

enum Entry {
    Looking,
    Known { addrs: Vec<IpAddr>, until: Instant },
    Failed { why: String, until: Instant },
}

/// The names looked up lately, `limits::NAMES_MAX` at most.
#[derive(Default)]
pub(super) struct Names {
    entries: BTreeMap<String, Entry>,
    /// How often failures were forgotten.
    era: u32,
}

impl Names {
    pub(super) fn find(&self, name: &str, now: Instant) -> Found {
        match self.entries.get(name) {
            Some(Entry::Looking) => Found::Looking,
            Some(Entry::Known { addrs, until }) if *until > now => Found::Known(addrs.clone()),
            Some(Entry::Failed { why, until }) if *until > now => Found::Failed(why.clone()),
            _ => Found::Unknown,
        }
    }

    pub(super) fn is_looking(&self, host: &Host) -> bool {
        matches!(host, Host::Name(name) if matches!(self.entries.get(name), Some(Entry::Looking)))
    }

    /// A look-up of this name begins; what it gives is for [`Names::end`].
    pub(super) fn begin(&mut self, name: String) -> u32 {
        if self.entries.len() >= limits::NAMES_MAX && !self.entries.contains_key(&name) {
            let until = |entry: &Entry| match entry {
                Entry::Looking => None,
                Entry::Known { until, .. } | Entry::Failed { until, .. } => Some(*until),
            };
            let oldest = self.entries.iter().filter_map(|(name, e)| Some((until(e)?, name.clone()))).min();
            oldest.map(|(_, name)| self.entries.remove(&name));
        }
        self.entries.insert(name, Entry::Looking);
        self.era
    }

    /// The look-up is over. One that failed says nothing if our network has come back since it began.
    pub(super) fn end(&mut self, name: String, era: u32, found: Result<Vec<IpAddr>, NoName>, now: Instant) {
        if found.is_err() && era != self.era {
            return;
        }
        let entry = match found {
            Ok(addrs) => Entry::Known { addrs, until: now + limits::NAME_KEPT },
            Err(NoName { why, lasting }) => {
                let span = if lasting { limits::NO_NAME_KEPT } else { limits::NAME_RETRY };
                Entry::Failed { why: format!("cannot find {name}: {why}"), until: now + span }
            }
        };
        self.entries.insert(name, entry);
    }

    /// Names that were not found may be found now; look-ups under way, which wait for name servers that could not be
    /// reached, are made again beside.
    pub(super) fn forget_failures(&mut self) {
        self.era = self.era.wrapping_add(1);
        self.entries.retain(|_, entry| matches!(entry, Entry::Known { .. }));
    }
}

/// The addresses that our sockets may go to (`--bind`).
pub(super) fn usable(addrs: &[IpAddr], route: &Route) -> Result<Vec<IpAddr>, String> {
    let usable = |ip: &IpAddr| route.local(Family::of(*ip)).is_some();
    let addrs: Vec<IpAddr> = addrs.iter().copied().filter(usable).collect();
    if addrs.is_empty() {
        Err("it has no address of the family that --bind allows".into())
    } else {
        Ok(addrs)
    }
}

/// Asks the system, in the order in which it would try them (RFC 6724). Blocks for as long as it likes.
pub(super) fn look_up(name: &str) -> Result<Vec<IpAddr>, NoName> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addrs: Vec<IpAddr> = Vec::new();
            for addr in found.map(|addr| addr.ip().to_canonical()) {
                if !addrs.contains(&addr) && addrs.len() < limits::ADDRESSES_MAX {
                    addrs.push(addr);
                }
            }
            if addrs.is_empty() {
                return Err(NoName { why: "it has no address".into(), lasting: true });
            }
            Ok(addrs)
        }
        Err(error) => {
            let text = error.to_string();
            let why =
                text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_string();
            Err(NoName { lasting: is_lasting(&why), why })
        }
    }
}

/// Whether the words of getaddrinfo mean that there is no such name (glibc, musl, BSD); std keeps no code.
fn is_lasting(why: &str) -> bool {
    ["not known", "does not resolve", "No address associated", "nor servname"].iter().any(|w| why.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::clock;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(1);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn no(lasting: bool) -> Result<Vec<IpAddr>, NoName> {
        Err(NoName { why: "no".into(), lasting })
    }

    #[test]
    fn names_are_believed_for_minutes_and_failures_for_less_when_they_may_pass() {
        let (mut names, now) = (Names::default(), clock());
        for (name, found) in [("a", Ok(vec![HERE])), ("b", no(true)), ("c", no(false))] {
            let era = names.begin(name.into());
            assert!(matches!(names.find(name, now), Found::Looking));
            names.end(name.into(), era, found, now);
        }
        let unknown = |names: &Names, name, span| matches!(names.find(name, now + span), Found::Unknown);
        for (name, span) in [("a", limits::NAME_KEPT), ("b", limits::NO_NAME_KEPT), ("c", limits::NAME_RETRY)]
        {
            assert!(!unknown(&names, name, span - SOON) && unknown(&names, name, span), "{name}");
        }
        assert!(matches!(names.find("b", now), Found::Failed(why) if why == "cannot find b: no"));
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_no_look_up_under_way() {
        let (mut names, now) = (Names::default(), clock());
        names.begin("busy".into());
        for n in 0..2 * limits::NAMES_MAX {
            let era = names.begin(n.to_string());
            names.end(n.to_string(), era, no(n % 2 == 0), now);
        }
        assert_eq!(names.entries.len(), limits::NAMES_MAX);
        assert!(matches!(names.find("busy", now), Found::Looking));
    }

    #[test]
    fn failures_are_forgotten_and_a_look_up_from_before_says_nothing() {
        let (mut names, now) = (Names::default(), clock());
        let old = names.begin("slow".into());
        let era = names.begin("gone".into());
        names.end("gone".into(), era, no(true), now);
        names.end("fine".into(), era, Ok(vec![HERE]), now);
        names.forget_failures();
        let unknown = |names: &Names, name| matches!(names.find(name, now), Found::Unknown);
        assert!(unknown(&names, "slow") && unknown(&names, "gone"));
        assert!(matches!(names.find("fine", now), Found::Known(_)));
        names.end("slow".into(), old, no(false), now);
        assert!(unknown(&names, "slow"), "it waited for name servers that could not be reached");
        names.end("slow".into(), old, Ok(vec![HERE]), now);
        assert!(matches!(names.find("slow", now), Found::Known(_)));
    }

    #[test]
    fn a_literal_is_its_own_address_and_a_bad_name_fails() {
        assert_eq!(look_up("127.0.0.1").ok(), Some(vec![HERE]));
        assert!(look_up("\0").is_err());
        let lasting = ["Name or service not known", "Name does not resolve"];
        assert!(lasting.iter().all(|why| is_lasting(why)));
        assert!(!is_lasting("Temporary failure in name resolution") && !is_lasting("Try again"));
    }

    #[test]
    fn a_family_that_bind_excludes_is_left_out() {
        let route = Route { v6: Some("::1".parse().unwrap()), ..Route::default() };
        assert!(usable(&[HERE], &route).is_err());
        let both = [HERE, "::1".parse().unwrap()];
        assert_eq!(usable(&both, &route).unwrap(), both[1..]);
        assert_eq!(usable(&both, &Route::default()).unwrap(), both);
    }
}
