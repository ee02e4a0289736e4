//! Where a URL may lead. A .torrent, a magnet link and a redirect are words of strangers, who could have us ask the
//! router or a service of this machine for what they cannot ask themselves. So each request is judged by the address
//! that is about to be dialled, after the look-up, whatever its name was before.

use super::url::Url;
use crate::proto::scope::{Scope, scope};
use std::fmt;
use std::net::IpAddr;

/// What a URL is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Peers.
    Announce,
    /// How swarms stand (BEP 48).
    Scrape,
    /// A part of a file (BEP 19).
    WebSeed,
    /// A .torrent.
    Torrent,
}

/// Why a URL is not asked at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A server further out redirects to there.
    Inward(IpAddr),
    /// Nobody but the user may have such a URL asked there.
    Stranger(IpAddr, Purpose),
    /// Nobody but the user may have a password told there.
    Password(IpAddr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Inward(ip) => {
                write!(f, "a server further out redirects to {ip}, which is not asked")
            }
            Refusal::Stranger(ip, Purpose::Announce) => {
                write!(f, "it leads to {ip} by another path than /announce, which only --tracker may")
            }
            Refusal::Stranger(ip, Purpose::Scrape) => {
                write!(f, "it leads to {ip} by another path than /announce")
            }
            Refusal::Stranger(ip, Purpose::WebSeed) => {
                write!(f, "it leads to {ip} with a query, which is not asked there")
            }
            Refusal::Stranger(ip, Purpose::Torrent) => write!(f, "it leads to {ip}, which is not asked"),
            Refusal::Password(ip) => {
                write!(f, "it leads to {ip} with a password, which only a URL that you name may")
            }
        }
    }
}

/// Whether a URL may be asked at this address, one of its host; `from`: the address of the server that redirected to it,
/// if one did. What the user names is free, but nobody redirects further inward than he is himself: from the public
/// network to a private one, or from either to this machine. Announces of a stranger inside go to the path
/// `/announce` only, with no query but ours and by no redirect, web seeds have no query, and nobody is told a password.
pub fn check(url: &Url, purpose: Purpose, ip: IpAddr, from: Option<IpAddr>) -> Result<(), Refusal> {
    let to = scope(ip);
    if from.is_some_and(|from| scope(from) < to) {
        return Err(Refusal::Inward(ip));
    }
    let plain = match purpose {
        // A redirect would bring a query of its own, or none, so that nothing is announced.
        Purpose::Announce => url.target() == "/announce" && from.is_none(),
        Purpose::Scrape => url.target() == "/scrape" && from.is_none(),
        Purpose::WebSeed => !url.has_query(),
        Purpose::Torrent => false,
    };
    if to == Scope::Global || url.is_trusted() {
        Ok(())
    } else if !plain {
        Err(Refusal::Stranger(ip, purpose))
    } else if url.user().is_some() {
        Err(Refusal::Password(ip))
    } else {
        Ok(())
    }
}

/// Those of the addresses at which a URL may be asked; an error where there is none.
pub fn permitted(
    url: &Url,
    purpose: Purpose,
    addrs: &[IpAddr],
    from: Option<IpAddr>,
) -> Result<Vec<IpAddr>, Refusal> {
    let mut refused = None;
    let mut may = |ip: &IpAddr| match check(url, purpose, *ip, from) {
        Ok(()) => true,
        Err(why) => {
            refused.get_or_insert(why);
            false
        }
    };
    let kept: Vec<IpAddr> = addrs.iter().copied().filter(|ip| may(ip)).collect();
    match refused {
        Some(why) if kept.is_empty() => Err(why),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "9.8.7.6";
    const LAN: &str = "192.168.1.1";
    const HERE: &str = "127.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn free(url: &str, purpose: Purpose, at: &str, from: Option<&str>) -> bool {
        check(&Url::parse(url).unwrap(), purpose, ip(at), from.map(ip)).is_ok()
    }

    #[test]
    fn strangers_reach_only_what_looks_like_a_tracker_inside() {
        for inside in [LAN, HERE, "::1", "fd00::1", "0.0.0.0", "169.254.169.254"] {
            let announce = |url: &str| free(url, Purpose::Announce, inside, None);
            assert!(announce("http://x/announce") && announce("https://x:81/announce"), "{inside}");
            for other in [
                "/",
                "/announce.cgi",
                "/announce?now=yes",
                "/announce?",
                "/reboot.cgi?now=yes",
                "/a/announce",
            ] {
                assert!(!announce(&format!("http://x{other}")), "{other} at {inside}");
            }
            assert!(free("http://x/scrape", Purpose::Scrape, inside, None));
            assert!(!free("http://x/scrape.cgi", Purpose::Scrape, inside, None));
            assert!(free("http://x/file", Purpose::WebSeed, inside, None));
            assert!(!free("http://x/reboot.cgi?now=yes", Purpose::WebSeed, inside, None));
            assert!(!free("http://x/a.torrent", Purpose::Torrent, inside, None));
        }
        for purpose in [Purpose::Announce, Purpose::Scrape, Purpose::WebSeed, Purpose::Torrent] {
            assert!(free("http://x/y?z", purpose, PUBLIC, None));
        }
    }

    #[test]
    fn what_the_user_names_is_free_and_redirects_lead_no_further_in() {
        let url = Url::parse("http://x/y?z").unwrap().trust();
        let next = url.join("/reboot.cgi").unwrap();
        assert!(next.is_trusted() && !Url::parse("http://x/").unwrap().join("/y").unwrap().is_trusted());
        for purpose in [Purpose::Announce, Purpose::Scrape, Purpose::WebSeed, Purpose::Torrent] {
            assert_eq!(check(&url, purpose, ip(HERE), None), Ok(()));
            assert_eq!(check(&next, purpose, ip(LAN), Some(ip(LAN))), Ok(()));
            for (from, to) in [(PUBLIC, LAN), (PUBLIC, HERE), (LAN, HERE)] {
                assert_eq!(check(&next, purpose, ip(to), Some(ip(from))), Err(Refusal::Inward(ip(to))));
                assert!(!free("http://x/announce", Purpose::Announce, to, Some(from)));
            }
        }
        assert!(!free("http://x/announce?info_hash=1", Purpose::Announce, LAN, Some(LAN)));
        assert!(free("http://x/file", Purpose::WebSeed, LAN, Some(LAN)));
        let told = Url::parse("http://user:password@x/announce").unwrap();
        assert_eq!(check(&told, Purpose::Announce, ip(LAN), None), Err(Refusal::Password(ip(LAN))));
        assert_eq!(check(&told, Purpose::Announce, ip(PUBLIC), None), Ok(()));
        assert_eq!(check(&told.trust(), Purpose::Announce, ip(LAN), None), Ok(()));
    }

    #[test]
    fn of_several_addresses_those_inside_are_left_out() {
        let url = Url::parse("http://rebinding.example/x").unwrap();
        let of = |addrs: &[&str]| {
            let addrs: Vec<IpAddr> = addrs.iter().map(|text| ip(text)).collect();
            permitted(&url, Purpose::Announce, &addrs, None)
        };
        assert_eq!(of(&[HERE, PUBLIC, LAN]), Ok(vec![ip(PUBLIC)]));
        assert_eq!(of(&[HERE, LAN]), Err(Refusal::Stranger(ip(HERE), Purpose::Announce)));
        assert_eq!(of(&[]), Ok(vec![]));
    }
}
