//! Magnet links (BEP 9, BEP 53): the name of a torrent and where to find it, read and written.

use super::id::{InfoHash, from_base32, from_hex};
use super::metainfo::{is_foul, percent_encode, printable, safe, text};
use super::scope::scope;
use super::tracker::unusable::{Reason, Role, UnusableUrls};
use super::tracker::url;
use crate::limits::{FILES_MAX, MAGNET_MAX, MAGNET_PEERS_MAX, TRACKERS_MAX, WEB_SEEDS_MAX};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

/// The longest host name of the DNS, in bytes.
const HOST_MAX: usize = 253;

/// What browsers drop from URLs wherever it is.
const LINE_ENDS: [char; 3] = ['\t', '\n', '\r'];

/// What a magnet link says. Every text in it is safe to print.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Magnet {
    /// The torrent (`xt=urn:btih:`); the first one where there are several.
    pub info_hash: InfoHash,
    /// What the torrent is called (`dn`), as a safe name; it is known for sure only from the metadata.
    pub name: Option<String>,
    /// Announce URLs (`tr`), each once, in their order.
    pub trackers: Vec<String>,
    /// Web seeds (`ws`).
    pub web_seeds: Vec<String>,
    /// Hosts and ports of peers (`x.pe`).
    pub peers: Vec<(String, u16)>,
    /// Files to get (`so`, BEP 53), counted from 0; None: all.
    pub select: Option<Vec<RangeInclusive<usize>>>,
    /// Trackers, web seeds and peers that were left out.
    pub unusable: UnusableUrls,
}

/// Why a text is not a magnet link that this program can use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// It does not begin with `magnet:?`.
    Scheme,
    /// Longer than [`MAGNET_MAX`].
    TooLong,
    /// It names no torrent.
    NoTopic,
    /// It names a torrent of version 2 only (BEP 52).
    Version2,
    /// Its info-hash is neither 40 hex digits nor 32 of base32.
    Hash,
    /// `so` is not a list of file numbers; it, to be printed.
    Select(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Scheme => f.write_str("not a magnet link: it does not begin with 'magnet:?'"),
            Error::TooLong => write!(f, "the magnet link is longer than {MAGNET_MAX} bytes, the limit"),
            Error::NoTopic => f.write_str("the magnet link names no torrent: it has no xt=urn:btih:"),
            Error::Version2 => f.write_str(
                "the magnet link is of a version 2 torrent only (xt=urn:btmh:); those are not supported",
            ),
            Error::Hash => f.write_str(
                "the info-hash of the magnet link (after urn:btih:) is neither 40 hexadecimal digits nor 32 of base32",
            ),
            Error::Select(list) => {
                write!(f, "the magnet link's list of files is not one: so={list} (like 0,2,4-6 it should be)")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Magnet {
    /// The link that says nothing but which torrent it is.
    pub fn bare(info_hash: InfoHash) -> Magnet {
        let (trackers, web_seeds, peers) = (Vec::new(), Vec::new(), Vec::new());
        let unusable = UnusableUrls::default();
        Magnet { info_hash, name: None, trackers, web_seeds, peers, select: None, unusable }
    }

    /// Decodes a link without its tabs and line ends, as browsers do. Optional parameters that are invalid are ignored,
    /// except `so`, because without it every file would be downloaded.
    pub fn parse(link: &str) -> Result<Magnet, Error> {
        let link: Cow<'_, str> = match link.trim() {
            link if link.contains(LINE_ENDS) => Cow::Owned(link.replace(LINE_ENDS, "")),
            link => Cow::Borrowed(link),
        };
        if link.len() > MAGNET_MAX {
            return Err(Error::TooLong);
        }
        let query = after_scheme(&link).ok_or(Error::Scheme)?;
        let mut topics = Topics::default();
        let mut magnet = Magnet::bare(InfoHash([0; 20]));
        for part in query.split('&') {
            // Copied from a page's source, `&` may be `&amp;`.
            let part = part.strip_prefix("amp;").unwrap_or(part);
            let Some((key, value)) = part.split_once('=') else { continue };
            match unnumbered(key).to_ascii_lowercase().as_str() {
                "xt" => topics.add(&decoded(value, false)),
                "dn" if magnet.name.is_none() => magnet.name = name(&decoded(value, true)),
                "tr" => magnet.add_url(Role::Tracker, &decoded(value, false)),
                "ws" => magnet.add_url(Role::WebSeed, &decoded(value, false)),
                "x.pe" => magnet.add_peer(&decoded(value, false)),
                "so" => {
                    let list = decoded(value, false);
                    let ranges = files(&list);
                    let wrong = || Error::Select(printable(&text(list.get(..64).unwrap_or(&list))));
                    magnet.select.get_or_insert_default().extend(ranges.ok_or_else(wrong)?);
                }
                _ => {}
            }
        }
        magnet.info_hash = topics.best()?;
        Ok(magnet)
    }

    /// The link as a server at `from` redirected to it: peers that it gives by name, or that are further inward than the server
    /// itself, are left out. Only the user may have us call those.
    pub fn from_redirect(mut self, from: IpAddr) -> Magnet {
        for (host, port) in std::mem::take(&mut self.peers) {
            match host.parse::<IpAddr>() {
                Ok(ip) if scope(ip) <= scope(from) => self.peers.push((host, port)),
                _ => self.unusable.add(Role::Peer, Reason::Inward, host.as_bytes()),
            }
        }
        self
    }

    /// Adds a URL, unless it is there.
    fn add_url(&mut self, role: Role, value: &[u8]) {
        let (urls, max) = match role {
            Role::WebSeed => (&mut self.web_seeds, WEB_SEEDS_MAX),
            _ => (&mut self.trackers, TRACKERS_MAX),
        };
        let reason = match url::kept(value) {
            _ if value.trim_ascii().is_empty() => return,
            Ok(url) if urls.contains(&url) => return,
            Ok(url) if urls.len() < max => return urls.push(url),
            Ok(_) => Reason::TooMany(max),
            Err(error) => Reason::Url(error),
        };
        self.unusable.add(role, reason, value);
    }

    fn add_peer(&mut self, value: &[u8]) {
        let reason = match std::str::from_utf8(value.trim_ascii()).ok().and_then(peer) {
            Some(peer) if self.peers.contains(&peer) => return,
            Some(peer) if self.peers.len() < MAGNET_PEERS_MAX => return self.peers.push(peer),
            Some(_) => Reason::TooMany(MAGNET_PEERS_MAX),
            None => Reason::NotPeer,
        };
        self.unusable.add(Role::Peer, reason, value);
    }
}

impl fmt::Display for Magnet {
    /// The link, in canonical form: hex, then name, trackers, web seeds, peers and files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xt=urn:btih:{}", self.info_hash)?;
        if let Some(name) = &self.name {
            write!(f, "&dn={}", percent_encode(name.as_bytes()))?;
        }
        for (key, urls) in [("tr", &self.trackers), ("ws", &self.web_seeds)] {
            for url in urls {
                write!(f, "&{key}={}", percent_encode(url.as_bytes()))?;
            }
        }
        for (host, port) in &self.peers {
            let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "&x.pe={open}{host}{close}:{port}")?;
        }
        for (at, range) in self.select.iter().flatten().enumerate() {
            f.write_str(if at == 0 { "&so=" } else { "," })?;
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// The names of torrents that a link has.
#[derive(Default)]
struct Topics {
    first: Option<InfoHash>,
    version2: bool,
    wrong: bool,
}

impl Topics {
    fn add(&mut self, urn: &[u8]) {
        let Ok(urn) = std::str::from_utf8(urn) else { return };
        // Pages and mails put blanks around it, and browsers a slash behind what they take for a host.
        let urn = urn.trim().trim_end_matches(|c: char| c == '/' || c.is_whitespace());
        let of = |scheme: &str| {
            let (start, rest) = urn.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        if let Some(hash) = of("urn:btih:") {
            match from_hex(hash).or_else(|| from_base32(hash)) {
                Some(hash) => self.first = self.first.or(Some(InfoHash(hash))),
                None => self.wrong = true,
            }
        }
        self.version2 |= of("urn:btmh:").is_some();
    }

    fn best(&self) -> Result<InfoHash, Error> {
        match self.first {
            Some(hash) => Ok(hash),
            None if self.wrong => Err(Error::Hash),
            None if self.version2 => Err(Error::Version2),
            None => Err(Error::NoTopic),
        }
    }
}

/// Whether a text is meant to be a magnet link.
pub fn is_magnet(link: &str) -> bool {
    link.trim_start().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}

fn after_scheme(link: &str) -> Option<&str> {
    let rest = link.get(7..).filter(|_| is_magnet(link))?;
    // Browsers and desktops write it like a URL with a host: `magnet://?`, `magnet:///?`.
    rest.trim_start_matches('/').strip_prefix('?')
}

/// A key without the number that it may have where it comes more than once: `tr.2`.
fn unnumbered(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((stem, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            stem
        }
        _ => key,
    }
}

/// The bytes of a value: `%XX` decoded, and in text for people `+` as the blank that forms make of it.
fn decoded(value: &str, plus: bool) -> Cow<'_, [u8]> {
    let bytes = value.as_bytes();
    if !(bytes.contains(&b'%') || plus && bytes.contains(&b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = value.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(from_hex::<1>);
        match escaped {
            Some([byte]) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if plus && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

fn name(value: &[u8]) -> Option<String> {
    let text = text(value);
    let text = text.trim();
    // Cut where it is too long, it may end with a space.
    (!text.is_empty()).then(|| safe(safe(text).trim_end()))
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn peer(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').filter(|text| text.parse::<Ipv6Addr>().is_ok())?,
        None => {
            let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            Some(host).filter(|host| (1..=HOST_MAX).contains(&host.len()) && host.bytes().all(fit))?
        }
    };
    Some((host.to_string(), port))
}

/// `0,2,4-6`: file numbers from 0 (BEP 53).
fn files(list: &[u8]) -> Option<Vec<RangeInclusive<usize>>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &usize| digits && *number < FILES_MAX)
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(first..=last)
    };
    std::str::from_utf8(list).ok()?.split(',').map(range).collect()
}

/// Fuzz entry: reads `data` as a magnet link and asserts that what comes out is safe, and the same when it is written
/// and read again.
#[doc(hidden)]
pub fn fuzz_magnet(data: &[u8]) {
    let link = String::from_utf8_lossy(data);
    let magnet = match Magnet::parse(&link) {
        Ok(magnet) => Magnet { unusable: UnusableUrls::default(), ..magnet },
        Err(error) => return assert!(!error.to_string().chars().any(is_foul)),
    };
    let urls = || magnet.trackers.iter().chain(&magnet.web_seeds);
    assert!(urls().flat_map(|url| url.chars()).all(|c| !is_foul(c) && !c.is_whitespace()));
    assert!(magnet.name.as_ref().is_none_or(|name| safe(name) == *name));
    assert!(magnet.peers.iter().all(|(host, port)| *port != 0 && host.is_ascii()));
    let written = magnet.to_string();
    assert!(written.bytes().all(|byte| byte.is_ascii_graphic()));
    if written.len() <= MAGNET_MAX {
        assert_eq!(Magnet::parse(&written).as_ref(), Ok(&magnet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    const BASE32: &str = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";

    fn hash() -> InfoHash {
        HEX.parse().unwrap()
    }

    #[test]
    fn a_whole_link_is_read() {
        let link = format!(
            "magnet:?xt=urn:btih:{HEX}&dn=Some+thing%20%28x%29&tr=http%3A%2F%2Fa%2Fannounce%3Fk%3D1&tr.1=udp://b:1\
             &tr=udp://b:1&ws=https://c/%25x/&x.pe=1.2.3.4:5&x.pe=%5B::1%5D:6&x.pe=host.example:7&so=0,2,4-6&xl=9&kt=a"
        );
        let magnet = Magnet::parse(&link).unwrap();
        assert_eq!((magnet.info_hash, magnet.name.as_deref()), (hash(), Some("Some thing (x)")));
        assert_eq!(magnet.trackers, ["http://a/announce?k=1", "udp://b:1"]);
        assert_eq!(magnet.web_seeds, ["https://c/%x/"]);
        let peers =
            [("1.2.3.4", 5), ("::1", 6), ("host.example", 7)].map(|(host, port)| (host.to_string(), port));
        assert_eq!(magnet.peers, peers);
        assert_eq!(magnet.select, Some(vec![0..=0, 2..=2, 4..=6]));
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn the_torrent_is_named_in_hex_or_base32_in_any_case() {
        for name in [HEX, &HEX.to_uppercase(), BASE32, &BASE32.to_lowercase()] {
            for link in [
                format!("magnet:?xt=urn:btih:{name}"),
                format!(" MAGNET:?dn=&amp;XT=URN:BTIH:{name}\n"),
                format!("magnet:?xt=urn%3Abtih%3A{name}"),
                format!("magnet:?xt.1=urn:sha1:x&xt.2=urn:btih:{name}&xt.3=urn:btih:{}", "0".repeat(40)),
                format!("magnet:?xt=urn:btmh:1220{}&xt=urn:btih:{name}", "ab".repeat(32)),
            ] {
                assert_eq!(Magnet::parse(&link), Ok(Magnet::bare(hash())), "{link}");
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let of = |link: &str| Magnet::parse(link).unwrap_err();
        assert_eq!((of(""), of("magnet:"), of("magnet:xt=x"), of("http://x")), {
            (Error::Scheme, Error::Scheme, Error::Scheme, Error::Scheme)
        });
        assert_eq!((of("magnet:?"), of("magnet:?dn=x&xt=urn:sha1:x")), (Error::NoTopic, Error::NoTopic));
        assert_eq!(of(&format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32))), Error::Version2);
        for wrong in [&HEX[1..], &format!("{HEX}0"), &BASE32[1..], &BASE32.replace('Y', "1"), ""] {
            assert_eq!(of(&format!("magnet:?xt=urn:btih:{wrong}")), Error::Hash, "{wrong}");
        }
        for list in ["", "1,", "x", "3-2", "-1", "1-", "0x1", "1048576", "0-99999999999999999999", "+1"] {
            let link = format!("magnet:?xt=urn:btih:{HEX}&so={list}");
            assert_eq!(of(&link), Error::Select(list.into()), "{list}");
        }
        assert_eq!(of(&format!("magnet:?xt=urn:btih:{HEX}&dn={}", "x".repeat(MAGNET_MAX))), Error::TooLong);
    }

    #[test]
    fn names_are_safe_and_senseless_parts_are_left_out() {
        let of = |rest: &str| Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}&{rest}")).unwrap();
        assert_eq!(of("dn=..%2F..%2Fetc%00").name.as_deref(), Some(".._.._etc_"));
        assert_eq!(of("dn=%FFx%E2%80%AE").name.as_deref(), Some("%FFx_"));
        assert_eq!(of("dn=a%2").name.as_deref(), Some("a%2"));
        let long = of(&format!("dn={}", "some+word=".repeat(60)));
        assert_eq!(Magnet::parse(&long.to_string()), Ok(long));
        let long = of(&format!("dn={}", "a+".repeat(600)));
        assert_eq!(Magnet::parse(&long.to_string()), Ok(long));
        let bare = Magnet::bare(hash());
        for junk in ["dn=%20", "&&=&x", "sox=1", "tr=", "tr=%20"] {
            assert_eq!(of(junk), bare, "{junk}");
        }
        for junk in [
            "tr=x",
            "tr=http://a%20b",
            "tr=%FF://x",
            "ws=%1B://",
            "x.pe=1.2.3.4",
            "x.pe=a:0",
            "x.pe=::1:6",
            "x.pe=[a]:1",
            "x.pe=a%20b:1",
            "x.pe=[1:2",
        ] {
            let magnet = of(junk);
            assert_eq!(magnet.unusable.iter().count(), 1, "{junk}");
            assert_eq!(Magnet { unusable: UnusableUrls::default(), ..magnet }, bare, "{junk}");
        }
        let many: String =
            (0..=WEB_SEEDS_MAX).map(|n| format!("&tr=x://{n}&ws=x://{n}&x.pe=a:{}", n + 1)).collect();
        let many = of(&many);
        assert_eq!((many.trackers.len(), many.web_seeds.len(), many.peers.len()), {
            (TRACKERS_MAX, WEB_SEEDS_MAX, MAGNET_PEERS_MAX)
        });
        assert_eq!(many.unusable.iter().count(), 3);
    }

    #[test]
    fn urls_of_a_link_are_escaped() {
        let link =
            format!("magnet:?xt=urn:btih:{HEX}&tr=http://a/b c&tr=http://a/b%20c&ws=http://a/%C3%BC%FF/");
        let magnet = Magnet::parse(&link).unwrap();
        assert_eq!(magnet.trackers, ["http://a/b%20c"]);
        assert_eq!(magnet.web_seeds, ["http://a/%C3%BC%FF/"]);
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn links_are_taken_as_browsers_and_mails_write_them() {
        for start in ["magnet:?", "magnet://?", "magnet:///?", "magnet:/?", "Magnet:////?"] {
            for end in ["", " ", "%20", "/", "%2F", " / ", "%20/", "/&", " &dn=", "\n", "%09"] {
                for hash in [HEX, BASE32] {
                    let link = format!("{start}xt=urn:btih:{hash}{end}");
                    assert_eq!(Magnet::parse(&link), Ok(Magnet::bare(self::hash())), "{link:?}");
                }
            }
        }
        let (first, rest) = HEX.split_at(20);
        let wrapped = format!("magnet:?xt=urn:\r\nbtih:{first}\n\t{rest}");
        assert_eq!(Magnet::parse(&wrapped), Ok(Magnet::bare(hash())));
        for wrong in [format!("magnet://x?xt=urn:btih:{HEX}"), format!("magnet:///xt=urn:btih:{HEX}")] {
            assert_eq!(Magnet::parse(&wrong), Err(Error::Scheme), "{wrong}");
        }
        for wrong in [format!("{HEX}/x"), format!("{first} {rest}"), format!("/{HEX}")] {
            assert_eq!(Magnet::parse(&format!("magnet:?xt=urn:btih:{wrong}")), Err(Error::Hash), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_names_no_peer_further_inward_than_its_server() {
        let peers =
            "9.8.7.6:1 [2001:db8::1]:2 192.168.1.1:3 [fd00::1]:4 127.0.0.1:5 [::1]:6 0.0.0.0:7 router:8";
        let link = peers.split(' ').map(|peer| format!("&x.pe={peer}")).collect::<String>();
        let magnet = Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}{link}")).unwrap();
        let ports = |from: &str| {
            let magnet = magnet.clone().from_redirect(from.parse().unwrap());
            let said: Vec<String> = magnet.unusable.iter().map(ToString::to_string).collect();
            (magnet.peers.iter().map(|(_, port)| *port).collect::<Vec<_>>(), said.concat())
        };
        let (public, said) = ports("5.6.7.8");
        assert_eq!(public, [1, 2]);
        assert_eq!(said, "left out 6 peers, the first '192.168.1.1': a redirect may not lead there");
        assert_eq!(ports("192.168.1.9").0, [1, 2, 3, 4]);
        assert_eq!(ports("::1").0, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let kept = |text: String| url::kept(text.as_bytes()).unwrap();
        let mut rng = Rng::new([5; 32]);
        let mut word = |most: u32| {
            let some = ['a', 'é', '&', '=', '%', '+', '日', '.', '#', '"', '?'];
            (0..1 + rng.below(most)).map(|_| some[rng.index(some.len())]).collect::<String>()
        };
        for n in 0..500u16 {
            let magnet = Magnet {
                info_hash: InfoHash([n as u8; 20]),
                name: Some(safe(&format!("x{}", word(300)))),
                trackers: (0..n % 4).map(|i| kept(format!("x://{i}/{}", word(40)))).collect(),
                web_seeds: (0..n % 3).map(|i| kept(format!("y://{i}?{}", word(40)))).collect(),
                peers: (0..n % 5).map(|i| ("::1".to_string(), 1 + i)).collect(),
                select: (n % 2 == 0).then(|| vec![usize::from(n)..=usize::from(n) * 2]),
                unusable: UnusableUrls::default(),
            };
            assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }
    }
}
