//! The announce over HTTP (BEP 3): its query, and the bencoded answer (BEP 7 for IPv6, 23 for compact lists, 24 for
//! our own address); the scrape likewise (BEP 48). HTTP itself is `proto/http.rs`.

use super::url::Url;
use super::{Event, Failure, Request, Response, Retry, Scraped, Tally, interval, shown};
use crate::limits;
use crate::proto::bencode::{self, Value};
use crate::proto::compact;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::{is_foul, percent_encode};
use std::net::{IpAddr, SocketAddr};

/// Why there is no [`Response`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The tracker refuses, in its words.
    Failure(Failure),
    /// The answer is not bencoded.
    Bencode(bencode::Error),
    /// The answer is not a dictionary.
    NotDict,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Failure(failure) => write!(f, "the tracker says: {failure}"),
            Error::Bencode(error) => write!(f, "the tracker's answer is malformed: {error}"),
            Error::NotDict => f.write_str("the tracker's answer is not a dictionary"),
        }
    }
}

impl std::error::Error for Error {}

/// The URL of an announce: the tracker's, with the request appended to its query.
pub fn announce(tracker: &Url, request: &Request) -> Url {
    let Request { port, uploaded, downloaded, left, key, numwant, .. } = request;
    // `no_peer_id` spares 20 bytes a peer where the tracker cannot do `compact`: we learn ids in handshakes.
    let mut query = format!(
        "info_hash={}&peer_id={}&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}\
         &compact=1&no_peer_id=1&numwant={numwant}&key={key:08X}",
        percent_encode(&request.info_hash.0),
        percent_encode(&request.peer_id),
    );
    query.push_str(match request.event {
        Event::None => "",
        Event::Started => "&event=started",
        Event::Stopped => "&event=stopped",
        Event::Completed => "&event=completed",
        Event::Paused => "&event=paused",
    });
    if let Some(id) = &request.tracker_id {
        query.push_str("&trackerid=");
        query.push_str(&percent_encode(id));
    }
    tracker.with_query(&query)
}

/// Reads the body of an answer. Keys that are missing or of the wrong type are taken as not said, and what follows the
/// dictionary is ignored (some trackers end it with a new line): peers are what matters. Of a doubled key the last
/// counts.
pub fn answer(body: &[u8]) -> Result<Response, Error> {
    let (value, _) = bencode::decode_prefix(body).map_err(Error::Bencode)?;
    let dict = value.as_dict().ok_or(Error::NotDict)?;
    let (mut seconds, mut min_seconds, mut v4, mut v6) = (None, None, vec![], vec![]);
    let mut response = Response::default();
    let (mut failure, mut retry_in) = (None, None);
    for (key, value) in dict.iter() {
        match key {
            b"failure reason" => failure = Some(Failure::new(value.as_bytes().unwrap_or_default())),
            b"retry in" => retry_in = retry(value),
            b"interval" => seconds = value.as_int(),
            b"min interval" => min_seconds = value.as_int().filter(|s| *s > 0),
            b"peers" => v4 = peers(value, compact::v4),
            b"peers6" => v6 = peers(value, compact::v6),
            b"complete" => response.complete = count(value),
            b"incomplete" => response.incomplete = count(value),
            b"external ip" => response.external_ip = value.as_bytes().and_then(compact::ip),
            b"warning message" => response.warning = value.as_bytes().map(shown),
            b"tracker id" => {
                let short = |id: &&[u8]| id.len() <= limits::TRACKER_ID_MAX;
                response.tracker_id = value.as_bytes().filter(short).map(<[u8]>::to_vec);
            }
            _ => {}
        }
    }
    if let Some(failure) = failure {
        let least = seconds.filter(|s| *s > 0).max(min_seconds);
        let retry = retry_in.or(least.map(|s| Retry::After(interval(Some(s))))).unwrap_or(Retry::Unsaid);
        return Err(Error::Failure(Failure { retry, ..failure }));
    }
    response.interval = interval(seconds);
    response.min_interval = min_seconds.map(|s| interval(Some(s)));
    response.peers = v4;
    response.peers.append(&mut v6);
    response.peers.truncate(limits::ANNOUNCE_PEERS_MAX);
    Ok(response)
}

/// The value of `retry in` (BEP 31): minutes, as a number or, as some trackers write it, in digits; or `never`. What is
/// neither, and what is not positive, says nothing.
fn retry(value: Value<'_>) -> Option<Retry> {
    let text = value.as_str();
    if text == Some("never") {
        return Some(Retry::Never);
    }
    let minutes = value.as_int().or_else(|| text?.parse().ok())?;
    (minutes > 0).then(|| Retry::After(interval(Some(minutes.saturating_mul(60)))))
}

/// The peers of a list of dictionaries (BEP 3) or of a compact one, at most [`limits::ANNOUNCE_PEERS_MAX`].
fn peers<'a, I: Iterator<Item = SocketAddr>>(
    value: Value<'a>,
    compact: impl Fn(&'a [u8]) -> I,
) -> Vec<SocketAddr> {
    let max = limits::ANNOUNCE_PEERS_MAX;
    match (value.as_bytes(), value.as_list()) {
        (Some(bytes), _) => compact(bytes).take(max).collect(),
        (None, Some(list)) => list.filter_map(peer).take(max).collect(),
        (None, None) => vec![],
    }
}

/// One peer of a list of dictionaries. A host name instead of an address is passed over: a tracker could have us look
/// up anything.
fn peer(value: Value<'_>) -> Option<SocketAddr> {
    let (mut ip, mut port) = (None, None);
    for (key, value) in value.as_dict()?.iter() {
        match key {
            b"ip" => ip = value.as_str().and_then(|text| text.parse::<IpAddr>().ok()),
            b"port" => port = value.as_int().and_then(|port| u16::try_from(port).ok()),
            _ => {}
        }
    }
    Some(compact::canonical((ip?, port?).into())).filter(|addr| compact::is_callable(*addr))
}

/// The URL of a scrape for the first [`limits::HTTP_SCRAPE_MAX`] of these torrents; None where the tracker's URL says
/// that there is none (BEP 48).
pub fn scrape(tracker: &Url, torrents: &[InfoHash]) -> Option<Url> {
    let hashes = torrents.iter().take(limits::HTTP_SCRAPE_MAX);
    let query: Vec<String> = hashes.map(|hash| format!("info_hash={}", percent_encode(&hash.0))).collect();
    Some(tracker.scrape()?.with_query(&query.join("&")))
}

/// Reads the body of an answer to a scrape. Torrents that were not asked for are passed over: some trackers tell of
/// all that they have.
pub fn scraped(body: &[u8], torrents: &[InfoHash]) -> Result<Scraped, Error> {
    let (value, _) = bencode::decode_prefix(body).map_err(Error::Bencode)?;
    let dict = value.as_dict().ok_or(Error::NotDict)?;
    let mut scraped = Scraped::default();
    for (key, value) in dict.iter() {
        match key {
            b"failure reason" => {
                return Err(Error::Failure(Failure::new(value.as_bytes().unwrap_or_default())));
            }
            b"files" => {
                for (key, value) in value.as_dict().iter().flat_map(|files| files.iter()) {
                    if let Some(hash) = torrents.iter().find(|hash| stands_for(key, hash))
                        && scraped.tallies.iter().all(|(of, _)| of != hash)
                    {
                        scraped.tallies.push((*hash, tally(value)));
                    }
                }
            }
            b"flags" => {
                let flags = value.as_dict();
                let seconds = flags.iter().flat_map(|flags| flags.iter());
                let seconds = seconds.filter(|(key, _)| *key == b"min_request_interval").last();
                scraped.min_interval = seconds
                    .and_then(|(_, value)| value.as_int())
                    .filter(|s| *s > 0)
                    .map(|s| interval(Some(s)));
            }
            _ => {}
        }
    }
    Ok(scraped)
}

/// Whether a key of `files` means this torrent. Some trackers (bittorrent-tracker 11) take the hash for a text: each of
/// its bytes is the character of that number then, in UTF-8.
fn stands_for(key: &[u8], hash: &InfoHash) -> bool {
    let numbers = |text: &str| text.chars().map(u32::from).eq(hash.0.iter().map(|byte| u32::from(*byte)));
    key == hash.0 || str::from_utf8(key).is_ok_and(numbers)
}

fn tally(value: Value<'_>) -> Tally {
    let mut tally = Tally::default();
    for (key, value) in value.as_dict().iter().flat_map(|file| file.iter()) {
        match key {
            b"complete" => tally.seeders = count(value),
            b"incomplete" => tally.leechers = count(value),
            b"downloaded" => tally.downloads = count(value),
            _ => {}
        }
    }
    tally
}

fn count(value: Value<'_>) -> Option<u32> {
    value.as_int().and_then(|n| u32::try_from(n).ok())
}

/// Reads `data` as an answer and asserts that what comes out is in bounds.
#[doc(hidden)]
pub fn fuzz_announce(data: &[u8]) {
    let in_bounds = |t| (limits::ANNOUNCE_INTERVAL_MIN..=limits::ANNOUNCE_INTERVAL_MAX).contains(&t);
    let fit = |text: &str| text.len() <= limits::TRACKER_TEXT_MAX && !text.chars().any(is_foul);
    match answer(data) {
        Ok(response) => {
            assert!(in_bounds(response.interval) && response.min_interval.is_none_or(in_bounds));
            assert!(
                response.peers.len() <= limits::ANNOUNCE_PEERS_MAX && response.peers.len() <= data.len() / 6
            );
            let fine = |addr: &SocketAddr| compact::is_callable(*addr) && compact::canonical(*addr) == *addr;
            assert!(response.peers.iter().all(fine));
            assert!(response.tracker_id.is_none_or(|id| id.len() <= limits::TRACKER_ID_MAX));
            assert!(response.warning.is_none_or(|text| fit(&text)));
        }
        Err(Error::Failure(Failure { words, retry })) => {
            assert!(fit(&words) && !matches!(retry, Retry::After(wait) if !in_bounds(wait)));
        }
        Err(error) => assert!(fit(&error.to_string())),
    }
}

/// Reads `data` as an answer to a scrape and asserts that what comes out is in bounds.
#[doc(hidden)]
pub fn fuzz_scrape(data: &[u8]) {
    let asked = [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])];
    match scraped(data, &asked) {
        Ok(scraped) => {
            assert!(scraped.tallies.len() <= asked.len());
            assert!(scraped.tallies.iter().all(|(hash, _)| asked.contains(hash)));
            let in_bounds = |t| (limits::ANNOUNCE_INTERVAL_MIN..=limits::ANNOUNCE_INTERVAL_MAX).contains(&t);
            assert!(scraped.min_interval.is_none_or(in_bounds));
        }
        Err(error) => assert!(!error.to_string().chars().any(is_foul)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bencode::encode;
    use std::time::Duration;

    fn request() -> Request {
        let mut hash = *b"\x00\x12%&+ aZ9-._~\x7f\x80\xff/?#=";
        hash[19] = b'\n';
        Request {
            info_hash: InfoHash(hash),
            peer_id: *b"-pT0100-\r\n\0\xff89abcdef",
            port: 6881,
            uploaded: u64::MAX,
            downloaded: 2,
            left: 3,
            event: Event::None,
            numwant: 80,
            key: 0xab,
            tracker_id: None,
        }
    }

    fn read(body: &[u8]) -> Response {
        fuzz_announce(body);
        answer(body).unwrap()
    }

    #[test]
    fn a_query_carries_any_bytes() {
        let tracker = Url::parse("http://t/announce?passkey=x").unwrap();
        assert_eq!(
            announce(&tracker, &request()).target(),
            "/announce?passkey=x&info_hash=%00%12%25%26%2B%20aZ9-._~%7F%80%FF%2F%3F%23%0A\
             &peer_id=-pT0100-%0D%0A%00%FF89abcdef&port=6881&uploaded=18446744073709551615&downloaded=2&left=3\
             &compact=1&no_peer_id=1&numwant=80&key=000000AB"
        );
        let of = |event, tracker_id: Option<&[u8]>| {
            let request = Request { event, tracker_id: tracker_id.map(<[u8]>::to_vec), ..request() };
            announce(&tracker, &request).target().split_once("000000AB").unwrap().1.to_string()
        };
        assert_eq!(of(Event::Started, None), "&event=started");
        assert_eq!(of(Event::Stopped, Some(b"a&b\0")), "&event=stopped&trackerid=a%26b%00");
        assert_eq!(of(Event::Completed, Some(b"")), "&event=completed&trackerid=");
        assert_eq!(of(Event::Paused, None), "&event=paused");
    }

    #[test]
    fn every_key_of_an_answer_is_read() {
        let body = encode(|e| {
            e.dict(|d| {
                d.entry("complete").int(5);
                d.entry("external ip").bytes(&[9, 8, 7, 6]);
                d.entry("incomplete").int(6);
                d.entry("interval").int(1800);
                d.entry("min interval").int(300);
                d.entry("peers").bytes(&[10, 0, 0, 1, 0, 80, 0, 0, 0, 0, 0, 80]);
                d.entry("peers6").bytes(&[0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 81]);
                d.entry("tracker id").bytes(b"\xffid");
                d.entry("warning message").str("old \x1b client");
            });
        });
        let expected = Response {
            interval: Duration::from_secs(1800),
            min_interval: Some(Duration::from_secs(300)),
            peers: vec!["10.0.0.1:80".parse().unwrap(), "[2001::1]:81".parse().unwrap()],
            complete: Some(5),
            incomplete: Some(6),
            tracker_id: Some(b"\xffid".to_vec()),
            warning: Some("old \u{fffd} client".into()),
            external_ip: Some([9, 8, 7, 6].into()),
        };
        assert_eq!(read(&body), expected);
        assert_eq!(read(&[&body[..], b"\r\n"].concat()), expected);
    }

    #[test]
    fn peers_may_come_as_dictionaries() {
        let body = b"d8:intervali900e5:peersl\
            d2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti80ee\
            d2:ip16:::ffff:10.9.8.7b4:porti81ee\
            d2:ip14:::ffff:1.2.3.44:porti81ee\
            d2:ip7:2001::14:porti82ee\
            d2:ip12:host.example4:porti83ee\
            d2:ip8:10.0.0.24:porti0ee\
            d2:ip8:10.0.0.24:porti65536ee\
            d2:ip8:10.0.0.24:porti-1ee\
            d2:ip8:10.0.0.2ei7e4:texte\
            e";
        let peers: Vec<String> = read(body).peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["10.0.0.1:80", "1.2.3.4:81", "[2001::1]:82"]);
    }

    #[test]
    fn a_failure_is_told_in_the_trackers_words() {
        let failure = |body: &[u8]| match answer(body) {
            Err(Error::Failure(failure)) => failure.words,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure(b"d14:failure reason12:unregistered8:intervali60ee"), "unregistered");
        assert_eq!(failure(b"d8:intervali60e14:failure reason4:\x1b[2Je"), "\u{fffd}[2J");
        assert_eq!(failure(b"d14:failure reason0:e"), "no reason given");
        assert_eq!(failure(b"d14:failure reasoni1ee"), "no reason given");
    }

    #[test]
    fn a_failure_says_when_to_ask_again() {
        let retry = |rest: &str| match answer(format!("d14:failure reason4:busy{rest}e").as_bytes()) {
            Err(Error::Failure(failure)) => failure.retry,
            other => panic!("{other:?}"),
        };
        let after = |minutes: u64| Retry::After(Duration::from_secs(60 * minutes));
        assert_eq!(retry("8:retry ini5e"), after(5));
        assert_eq!(retry("8:retry in2:15"), after(15));
        assert_eq!(retry("8:retry in5:never"), Retry::Never);
        assert_eq!(retry("8:intervali900e8:retry ini5e"), after(5));
        assert_eq!(retry("8:intervali900e12:min intervali1800e"), after(30));
        assert_eq!(retry("8:intervali900e"), after(15));
        assert_eq!(retry("12:min intervali600e8:retry in4:soon"), after(10));
        for nothing in
            ["", "8:intervali0e", "8:retry ini-1e", "8:retry ini0e", "8:retry in0:", "8:retry inle"]
        {
            assert_eq!(retry(nothing), Retry::Unsaid, "{nothing}");
        }
        let most = Retry::After(limits::ANNOUNCE_INTERVAL_MAX);
        assert_eq!(retry(&format!("8:retry ini{}e", i64::MAX)), most);
        assert_eq!(retry("8:intervali1e"), Retry::After(limits::ANNOUNCE_INTERVAL_MIN));
    }

    #[test]
    fn nonsense_does_no_harm() {
        let empty = read(b"de");
        assert_eq!((empty.interval.as_secs(), empty.peers.len()), (1800, 0));
        let odd = read(b"d8:completei-1e10:incompletei4294967296e8:intervali-5e12:min intervali0e5:peersi5e11:external ip3:abce");
        assert_eq!((odd.complete, odd.incomplete, odd.min_interval), (None, None, None));
        assert_eq!((odd.interval.as_secs(), odd.external_ip), (1800, None));
        assert_eq!(answer(b"le"), Err(Error::NotDict));
        for wrong in [&b""[..], b"<html>", b"d8:intervali9223372036854775808ee"] {
            assert!(matches!(answer(wrong), Err(Error::Bencode(_))));
            fuzz_announce(wrong);
        }
    }

    #[test]
    fn an_answer_is_bounded() {
        let many = [1u8, 2, 3, 4, 0, 9].repeat(5000);
        let six = [[1u8; 18]; 5000].concat();
        let body = encode(|e| {
            e.dict(|d| {
                d.entry("peers").bytes(&many);
                d.entry("peers6").bytes(&six);
                d.entry("tracker id").bytes(&vec![b'x'; limits::TRACKER_ID_MAX + 1]);
                d.entry("warning message").bytes(&[b'x'; 5000]);
            });
        });
        let response = read(&body);
        assert_eq!((response.peers.len(), response.tracker_id), (limits::ANNOUNCE_PEERS_MAX, None));
        assert_eq!(response.warning.map(|w| w.len()), Some(limits::TRACKER_TEXT_MAX));
    }

    #[test]
    fn a_scrape_asks_for_several_torrents() {
        let tracker = Url::parse("http://t/announce?passkey=x").unwrap();
        let hashes = [InfoHash([b'a'; 20]), InfoHash([0; 20])];
        let target = scrape(&tracker, &hashes).unwrap().target().to_string();
        let due = format!("/scrape?passkey=x&info_hash={}&info_hash={}", "a".repeat(20), "%00".repeat(20));
        assert_eq!(target, due);
        let many = vec![InfoHash([0xff; 20]); 3 * limits::HTTP_SCRAPE_MAX];
        let target = scrape(&tracker, &many).unwrap().target().to_string();
        assert_eq!(target.matches("info_hash=").count(), limits::HTTP_SCRAPE_MAX);
        assert_eq!(scrape(&Url::parse("http://t/a").unwrap(), &hashes), None);
    }

    #[test]
    fn a_scrape_is_read_and_only_what_was_asked_for_is_kept() {
        let (a, b) = (InfoHash([b'a'; 20]), InfoHash([b'b'; 20]));
        let body = encode(|e| {
            e.dict(|d| {
                d.entry("files").dict(|d| {
                    d.entry([b'a'; 20]).dict(|d| {
                        d.entry("complete").int(5);
                        d.entry("downloaded").int(50);
                        d.entry("incomplete").int(10);
                        d.entry("name").str("x");
                    });
                    d.entry([b'c'; 20]).dict(|_| {});
                    d.entry("short").dict(|_| {});
                });
                d.entry("flags").dict(|d| d.entry("min_request_interval").int(900));
            });
        });
        let full = Tally { seeders: Some(5), leechers: Some(10), downloads: Some(50) };
        let due = Scraped { tallies: vec![(a, full)], min_interval: Some(Duration::from_secs(900)) };
        assert_eq!(scraped(&body, &[b, a]), Ok(due));
        let odd = |body: &[u8]| {
            fuzz_scrape(body);
            scraped(body, &[a, b])
        };
        // A hash taken for a text, as bittorrent-tracker does.
        let text = "\u{ff}".repeat(20);
        let body = format!("d5:filesd{}:{text}d8:completei3eeee", text.len());
        let tallies = scraped(body.as_bytes(), &[a, InfoHash([0xff; 20])]).unwrap().tallies;
        assert_eq!(tallies, [(InfoHash([0xff; 20]), Tally { seeders: Some(3), ..Tally::default() })]);
        let hostile = format!(
            "d5:filesd20:{0}d8:completei-1e10:downloadedi4294967296e10:incompletele20:{0}dee5:flagsd20:min_request_intervali-1eee",
            "a".repeat(20)
        );
        assert!(odd(hostile.as_bytes()).is_err(), "not bencoded: a list that holds no value's end");
        let hostile = format!(
            "d5:filesd20:{0}d8:completei-1e10:downloadedi4294967296e10:incompletelee20:{0}d8:completei7eee5:flagsd20:min_request_intervali-1eee",
            "a".repeat(20)
        );
        let got = odd(hostile.as_bytes()).unwrap();
        assert_eq!((got.tallies, got.min_interval), (vec![(a, Tally::default())], None));
        assert_eq!(odd(b"d14:failure reason2:noe"), Err(Error::Failure(Failure::new(b"no"))));
        assert_eq!(odd(b"d5:filesi5e5:flagsi5ee"), Ok(Scraped::default()));
        assert_eq!(odd(b"le"), Err(Error::NotDict));
        assert!(matches!(odd(b"<html>"), Err(Error::Bencode(_))));
    }
}
