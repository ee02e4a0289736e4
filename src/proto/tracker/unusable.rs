//! What a .torrent or a magnet link names and ptorrent cannot use, counted by reason: the user is told once, with one
//! example that holds no secret.

use super::url::{self, without_secrets};
use crate::limits;
use crate::proto::metainfo::{is_foul, text};
use std::fmt;

/// What a URL or an address in a torrent or a link stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The announce URL of a tracker.
    Tracker,
    /// The URL of a web seed.
    WebSeed,
    /// The URL of an HTTP seed (BEP 17).
    HttpSeed,
    /// Host and port of a peer.
    Peer,
}

/// Why a URL or an address cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is not a URL that we can use.
    Url(url::Error),
    /// A web seed is not at `http://` or `https://`.
    NotHttp,
    /// HTTP seeds are another protocol than web seeds.
    Bep17,
    /// It is not a host and a port.
    NotPeer,
    /// A redirect to a magnet link names a peer by name, or one further inward than its server.
    Inward,
    /// There are more than this many.
    TooMany(usize),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Url(error) => error.fmt(f),
            Reason::NotHttp => f.write_str("URL is not http:// or https://"),
            Reason::Bep17 => f.write_str("BEP 17 is not supported"),
            Reason::NotPeer => f.write_str("not HOST:PORT"),
            Reason::Inward => f.write_str("a redirect may not lead there"),
            Reason::TooMany(max) => write!(f, "{max} is the limit"),
        }
    }
}

/// All of one role that cannot be used for one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unusable {
    role: Role,
    reason: Reason,
    count: usize,
    /// The first of them, fit to print.
    first: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, many) = match self.role {
            Role::Tracker => ("a tracker", "trackers"),
            Role::WebSeed => ("a web seed", "web seeds"),
            Role::HttpSeed => ("an HTTP seed", "HTTP seeds"),
            Role::Peer => ("a peer", "peers"),
        };
        match self.count {
            1 => write!(f, "left out {one}, '{}': {}", self.first, self.reason),
            count => write!(f, "left out {count} {many}, the first '{}': {}", self.first, self.reason),
        }
    }
}

/// Everything that cannot be used: one entry for each role and reason, so their number is bounded.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct UnusableUrls(Vec<Unusable>);

impl UnusableUrls {
    /// Counts one more.
    pub fn add(&mut self, role: Role, reason: Reason, url: &[u8]) {
        match self.0.iter_mut().find(|known| (known.role, known.reason) == (role, reason)) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => self.0.push(Unusable { role, reason, count: 1, first: example(url) }),
        }
    }

    /// The entries, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Unusable> {
        self.0.iter()
    }
}

/// A URL as it is shown: no more than scheme and host, of the length of a line.
fn example(url: &[u8]) -> String {
    const LONGEST: usize = 100;
    let text = text(&url[..url.len().min(limits::URL_MAX)]).into_owned();
    let fit = |c: char| if is_foul(c) { char::REPLACEMENT_CHARACTER } else { c };
    let shown = without_secrets(&text);
    let mut shown = shown.chars().map(fit);
    let mut out: String = shown.by_ref().take(LONGEST).collect();
    if shown.next().is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_counted_by_reason() {
        let mut all = UnusableUrls::default();
        all.add(Role::Tracker, Reason::Url(url::Error::Host), b"http://u:p@a b/passkey");
        all.add(Role::Tracker, Reason::Url(url::Error::Host), b"http://c d/passkey");
        all.add(Role::WebSeed, Reason::Url(url::Error::Host), b"http://\xff\x1b/");
        all.add(Role::WebSeed, Reason::TooMany(7), "x".repeat(5000).as_bytes());
        let said: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "left out 2 trackers, the first 'http://a b/...': URL without a valid host");
        assert_eq!(said[1], "left out a web seed, 'http://%FF\u{fffd}/...': URL without a valid host");
        assert!(said[2].ends_with("x…': 7 is the limit") && said[2].len() < 200, "{}", said[2]);
    }
}
