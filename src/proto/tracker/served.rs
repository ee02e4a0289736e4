//! The tracker's side of HTTP: the query of an announce or a scrape (BEP 3, 23, 48), and the bencoded answers.

use super::Event;
use super::udp::Counts;
use crate::limits;
use crate::proto::bencode::{Encoder, encode};
use crate::proto::compact;
use crate::proto::id::InfoHash;
use std::net::IpAddr;
use std::time::Duration;

/// An announce as a tracker reads it. Peer id, key and the address that is claimed are passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The port that the peer listens on, not 0.
    pub port: u16,
    /// Bytes still missing; what is not said counts as something.
    pub left: u64,
    /// Why it announces; an unknown word is taken as [`Event::None`].
    pub event: Event,
    /// How many peers it would like; None leaves it to the tracker.
    pub numwant: Option<u32>,
    /// Whether peers are to come as a compact list: unless `compact=0`.
    pub compact: bool,
}

/// The query of an announce, or what is wrong with it in words for its sender.
pub fn announce(query: &str) -> Result<Announce, &'static str> {
    let (mut info_hash, mut port) = (None, None);
    let (mut left, mut event, mut numwant, mut compact) = (1, Event::None, None, true);
    for (key, value) in fields(query) {
        match key {
            "info_hash" => info_hash = Some(hash(value)?),
            "port" => port = value.parse().ok().filter(|port| *port != 0),
            "left" => left = value.parse().unwrap_or(1),
            "compact" => compact = value != "0",
            "numwant" => numwant = value.parse().ok(),
            "event" => {
                event = match value {
                    "started" => Event::Started,
                    "stopped" => Event::Stopped,
                    "completed" => Event::Completed,
                    "paused" => Event::Paused,
                    _ => Event::None,
                }
            }
            _ => {}
        }
    }
    let info_hash = info_hash.ok_or("info_hash is missing")?;
    let port = port.ok_or("port is missing, or none from 1 to 65535")?;
    Ok(Announce { info_hash, port, left, event, numwant, compact })
}

/// The torrents of a scrape, sorted, each once, the first [`limits::UDP_SCRAPE_MAX`] that are named; or what is wrong
/// with the query. A scrape of everything is refused.
pub fn scrape(query: &str) -> Result<Vec<InfoHash>, &'static str> {
    let values = fields(query).filter(|(key, _)| *key == "info_hash").map(|(_, value)| hash(value));
    let mut torrents: Vec<InfoHash> = values.take(limits::UDP_SCRAPE_MAX).collect::<Result<_, _>>()?;
    torrents.sort_unstable();
    torrents.dedup();
    if torrents.is_empty() {
        Err("info_hash is missing: not everything is scraped at once")
    } else {
        Ok(torrents)
    }
}

fn fields(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|field| field.split_once('=').unwrap_or((field, "")))
}

/// 20 bytes, percent-encoded; a `+` is a space, as in forms.
fn hash(text: &str) -> Result<InfoHash, &'static str> {
    const WRONG: &str = "info_hash is not 20 bytes, percent-encoded";
    let (mut out, mut len, mut rest) = ([0; 20], 0, text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let place = out.get_mut(len).ok_or(WRONG)?;
        rest = after;
        *place = match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>().ok_or(WRONG)?;
                rest = after;
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(WRONG);
                (digit(digits[0])? << 4 | digit(digits[1])?) as u8
            }
            byte => byte,
        };
        len += 1;
    }
    if len == out.len() { Ok(InfoHash(out)) } else { Err(WRONG) }
}

/// What an announce is answered.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a> {
    /// When to announce again.
    pub interval: Duration,
    /// Not to announce before.
    pub min_interval: Duration,
    /// How the swarm stands.
    pub counts: Counts,
    /// IPv4 peers, 6 bytes each.
    pub v4: &'a [u8],
    /// IPv6 peers, 18 bytes each.
    pub v6: &'a [u8],
    /// Where the announce came from (BEP 24).
    pub ip: IpAddr,
}

/// The answer to an announce: compact lists, or dictionaries without ids where `compact` is false.
pub fn announced(said: &Announced<'_>, compact: bool) -> Vec<u8> {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    encode(|e| {
        e.dict(|d| {
            d.entry("complete").int(said.counts.seeders.into());
            match said.ip {
                IpAddr::V4(ip) => d.entry("external ip").bytes(&ip.octets()),
                IpAddr::V6(ip) => d.entry("external ip").bytes(&ip.octets()),
            }
            d.entry("incomplete").int(said.counts.leechers.into());
            d.entry("interval").int(seconds(said.interval));
            d.entry("min interval").int(seconds(said.min_interval));
            if !compact {
                return dictionaries(d.entry("peers"), said);
            }
            d.entry("peers").bytes(said.v4);
            // Who comes by IPv6 expects it, though it be empty.
            if !said.v6.is_empty() || said.ip.is_ipv6() {
                d.entry("peers6").bytes(said.v6);
            }
        });
    })
}

/// Peers as BEP 3 has them, of both families.
fn dictionaries(place: Encoder<'_>, said: &Announced<'_>) {
    place.list(|list| {
        for peer in compact::v4(said.v4).chain(compact::v6(said.v6)) {
            list.item().dict(|d| {
                d.entry("ip").str(&peer.ip().to_string());
                d.entry("port").int(peer.port().into());
            });
        }
    });
}

/// The answer to a scrape of `files`, sorted by hash.
pub fn scraped(files: impl Iterator<Item = (InfoHash, Counts)>) -> Vec<u8> {
    encode(|e| {
        e.dict(|d| {
            d.entry("files").dict(|d| {
                for (hash, counts) in files {
                    d.entry(hash.0).dict(|d| {
                        d.entry("complete").int(counts.seeders.into());
                        d.entry("downloaded").int(counts.completed.into());
                        d.entry("incomplete").int(counts.leechers.into());
                    });
                }
            });
        });
    })
}

/// A refusal, in words.
pub fn refused(words: &str) -> Vec<u8> {
    encode(|e| e.dict(|d| d.entry("failure reason").str(words)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tracker::url::Url;
    use crate::proto::tracker::{Request, http};

    #[test]
    fn what_clients_ask_is_read() {
        let request = Request {
            info_hash: InfoHash(*b"\0\x12%&+ aZ9-._~\x7f\x80\xff/?#="),
            peer_id: [b'x'; 20],
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: u64::MAX,
            event: Event::Completed,
            numwant: 0,
            key: 7,
            tracker_id: None,
        };
        let url = http::announce(&Url::parse("http://t/announce").unwrap(), &request);
        let (_, query) = url.target().split_once('?').unwrap();
        let due = Announce {
            info_hash: request.info_hash,
            port: 6881,
            left: u64::MAX,
            event: Event::Completed,
            numwant: Some(0),
            compact: true,
        };
        assert_eq!(announce(query), Ok(due));
        let hash = "info_hash=aaaaaaaaaaaaaaaaaaa+";
        let of = |rest: &str| announce(&format!("{hash}&port=1{rest}")).unwrap();
        assert_eq!(of("").info_hash, InfoHash(*b"aaaaaaaaaaaaaaaaaaa "));
        assert_eq!((of("").left, of("&left=0").left, of("&left=-1").left), (1, 0, 1));
        assert_eq!((of("&numwant=-1").numwant, of("&numwant=4294967296").numwant), (None, None));
        assert!(of("&compact=1").compact && !of("&compact=0&no_peer_id=1").compact);
        assert_eq!(of("&event=paused&ip=1.2.3.4&trackerid=x").event, Event::Paused);
        assert_eq!(of("&&=&left").left, 1);
    }

    #[test]
    fn what_is_no_announce_is_refused_in_words() {
        for (query, words) in [
            ("", "info_hash is missing"),
            ("info_hash=abc&port=1", "info_hash is not 20"),
            ("info_hash=aaaaaaaaaaaaaaaaaaaaa&port=1", "info_hash is not 20"),
            ("info_hash=aaaaaaaaaaaaaaaaaaa%4&port=1", "info_hash is not 20"),
            ("info_hash=aaaaaaaaaaaaaaaaaaa%4g&port=1", "info_hash is not 20"),
            ("info_hash=aaaaaaaaaaaaaaaaaaaa", "port is missing"),
            ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=0", "port is missing"),
            ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=65536", "port is missing"),
        ] {
            assert!(announce(query).unwrap_err().starts_with(words), "{query}");
        }
        assert!(scrape("").is_err() && scrape("x=y").is_err() && scrape("info_hash=a").is_err());
    }

    #[test]
    fn scrapes_are_bounded_and_sorted() {
        let (a, b) = ("info_hash=aaaaaaaaaaaaaaaaaaaa", "info_hash=bbbbbbbbbbbbbbbbbbbb");
        assert_eq!(scrape(&format!("{b}&{a}&{b}")).unwrap(), [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])]);
        let many: Vec<String> = (0..200).map(|n| format!("info_hash={n:020}")).collect();
        assert_eq!(scrape(&many.join("&")).unwrap().len(), limits::UDP_SCRAPE_MAX);
        let counts = Counts { seeders: 1, completed: 2, leechers: 3 };
        let text = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e10:incompletei3eeee";
        assert_eq!(scraped([(InfoHash([b'a'; 20]), counts)].into_iter()), text);
        assert_eq!(refused("no"), b"d14:failure reason2:noe");
    }

    #[test]
    fn answers_are_what_our_own_client_reads() {
        let said = Announced {
            interval: Duration::from_secs(1800),
            min_interval: Duration::from_secs(60),
            counts: Counts { seeders: 5, completed: 7, leechers: 6 },
            v4: &[10, 0, 0, 1, 0, 80],
            v6: &[0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 81],
            ip: [9, 8, 7, 6].into(),
        };
        for compact in [true, false] {
            let response = http::answer(&announced(&said, compact)).unwrap();
            assert_eq!(
                (response.interval.as_secs(), response.complete, response.incomplete),
                (1800, Some(5), Some(6))
            );
            let peers: Vec<String> = response.peers.iter().map(ToString::to_string).collect();
            assert_eq!(peers, ["10.0.0.1:80", "[2001::1]:81"]);
            assert_eq!(
                (response.external_ip, response.min_interval),
                (Some(said.ip), Some(said.min_interval))
            );
        }
        let none = Announced { v4: &[], v6: &[], ..said };
        assert!(announced(&none, true).ends_with(b"5:peers0:e"));
        assert!(
            announced(&Announced { ip: "::1".parse().unwrap(), ..none }, true)
                .ends_with(b"5:peers0:6:peers60:e")
        );
        assert!(announced(&none, false).ends_with(b"5:peerslee"));
    }
}
