//! `ptorrent scrape`, and what it is made of, against trackers that answer as they like.

use super::*;
use crossbeam_channel::Receiver;
use ptorrent::api::TrackerFailure;
use ptorrent::helper::scrape::{Question, Said, scrape};
use ptorrent::helper::{Client, Roots};
use ptorrent::limits;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::tracker::udp::{self, Counts, Query};
use ptorrent::proto::tracker::url::Url;
use ptorrent::proto::tracker::{Failure, Tally};
use ptorrent::sys::socket::Route;
use std::net::UdpSocket;

const SECRET: &str = "0123456789abcdef";

/// What a UDP tracker sends for a datagram.
type Script = dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send;

/// A tracker over UDP that does as it likes; gives its URL.
fn datagrams(address: &str, mut script: Box<Script>) -> String {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut data = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut data) {
            for answer in script(&data[..len]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    url
}

/// Connection id 99, and for each torrent how many there were before it.
fn honest(data: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    match udp::query(data).unwrap() {
        (transaction, Query::Connect) => udp::put_connected(&mut out, transaction, 99),
        (transaction, Query::Scrape { connection: 99, torrents }) => {
            let counts = |n: u32| Counts { seeders: n + 1, completed: n + 2, leechers: n };
            udp::put_scraped(&mut out, transaction, (0..torrents.len() as u32).map(counts));
        }
        _ => return vec![],
    }
    vec![out]
}

fn ask(urls: &[&str], hashes: u8, timeout: Duration) -> Receiver<(usize, Said)> {
    let torrents: Vec<InfoHash> = (0..hashes).map(|n| InfoHash([n; 20])).collect();
    let question =
        |url: &&str| Question { url: Url::parse(url).unwrap().trust(), torrents: torrents.clone() };
    scrape(&Client::new(Route::default(), Roots::Usual), urls.iter().map(question).collect(), timeout)
        .unwrap()
}

fn one(url: &str, hashes: u8, timeout: Duration) -> Said {
    ask(&[url], hashes, timeout).recv_timeout(LONG).unwrap().1
}

fn failure(url: &str, timeout: Duration) -> String {
    one(url, 1, timeout).unwrap_err().to_string()
}

fn files(hashes: &[[u8; 20]], more: &str) -> Vec<u8> {
    let mut body = b"d5:filesd".to_vec();
    for hash in hashes {
        body.extend_from_slice(b"20:");
        body.extend_from_slice(hash);
        body.extend_from_slice(b"d8:completei5e10:downloadedi50e10:incompletei7ee");
    }
    body.extend_from_slice(format!("e{more}e").as_bytes());
    body
}

#[test]
fn a_udp_tracker_is_asked_in_parts_and_again_when_a_datagram_is_lost() {
    let mut first = true;
    let script = move |data: &[u8]| if std::mem::take(&mut first) { vec![] } else { honest(data) };
    let hashes = limits::UDP_SCRAPE_MAX as u8 + 3;
    let said = one(&datagrams("127.0.0.1", Box::new(script)), hashes, LONG).unwrap();
    assert_eq!(said.tallies.len(), hashes.into());
    let tally = |n: u32| Tally { seeders: Some(n + 1), leechers: Some(n), downloads: Some(n + 2) };
    assert_eq!(said.tallies[0], (InfoHash([0; 20]), tally(0)));
    assert_eq!(said.tallies[76], (InfoHash([76; 20]), tally(2)));
}

#[test]
fn a_udp_tracker_over_ipv6_is_asked_as_well() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return eprintln!("skipped: no IPv6 here");
    }
    assert_eq!(one(&datagrams("::1", Box::new(honest)), 2, LONG).unwrap().tallies.len(), 2);
}

#[test]
fn a_udp_tracker_that_lies_is_not_believed() {
    // What is not an answer to us, before what is.
    let noisy = |data: &[u8]| {
        let good = honest(data).remove(0);
        let mut forged = good.clone();
        forged[7] ^= 1;
        *forged.last_mut().unwrap() ^= 1;
        let mut other = good.clone();
        other[3] = 9;
        vec![vec![], good[..7].to_vec(), forged, other, vec![0xff; 4000], good]
    };
    let said = one(&datagrams("127.0.0.1", Box::new(noisy)), 2, LONG).unwrap();
    assert_eq!(said.tallies[1].1, Tally { seeders: Some(2), leechers: Some(1), downloads: Some(3) });
    // Fewer entries than asked for, and more.
    for (entries, due) in [(1, 1), (70, 3)] {
        let odd = move |data: &[u8]| match udp::query(data).unwrap() {
            (transaction, Query::Scrape { .. }) => {
                let mut out = Vec::new();
                udp::put_scraped(&mut out, transaction, vec![Counts::default(); entries].into_iter());
                out.extend_from_slice(b"tail");
                vec![out]
            }
            _ => honest(data),
        };
        assert_eq!(one(&datagrams("127.0.0.1", Box::new(odd)), 3, LONG).unwrap().tallies.len(), due);
    }
    let refuse = |data: &[u8]| match udp::query(data).unwrap() {
        (transaction, Query::Scrape { .. }) => {
            let mut out = Vec::new();
            udp::put_refused(&mut out, transaction, "not \x1b you");
            vec![out]
        }
        _ => honest(data),
    };
    let said = one(&datagrams("127.0.0.1", Box::new(refuse)), 3, LONG);
    assert_eq!(said, Err(TrackerFailure::Refused(Failure::new(b"not \x1b you"))));
}

#[test]
fn who_is_silent_or_gone_fails_in_time() {
    let soon = Duration::from_millis(300);
    assert_eq!(failure(&datagrams("127.0.0.1", Box::new(|_| vec![])), soon), "no answer in time");
    assert_eq!(failure(&tracker(|_| None).0, soon), "no answer in time");
    let gone = closed();
    assert!(failure(&gone, LONG).contains("refused"));
    assert!(failure(&gone.replace("http", "udp"), LONG).contains("refused"));
}

#[test]
fn an_http_tracker_that_breaks_the_rules_fails_with_a_reason_and_no_secret() {
    let of = |body: &'static str| {
        let url = says(body).0.replace("/announce", &format!("/{SECRET}/announce?k={SECRET}"));
        failure(&url, LONG)
    };
    assert_eq!(of("d14:failure reason19:no 0123456789abcdefe"), "the tracker says: no …");
    assert!(of("<html>").contains("not valid") && of("le").contains("not valid"));
    let none = says(GOOD).0.replace("announce", "ann");
    assert!(failure(&none, LONG).contains("no scrape"));
    // Round and round.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.find(String::is_empty);
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: /{SECRET}/again\r\nContent-Length: 0\r\n\r\n");
            (&stream).write_all(head.as_bytes()).ok();
        }
    });
    assert_eq!(failure(&format!("http://127.0.0.1:{port}/{SECRET}/announce"), LONG), "redirected too often");
    // Thousands of torrents that were not asked for.
    let many: Vec<[u8; 20]> = (0..10_000u32)
        .map(|n| [n.to_be_bytes(), [9; 4]].concat().repeat(3))
        .map(|b| b[..20].try_into().unwrap())
        .chain([[0; 20]])
        .collect();
    let (url, _) = tracker(move |_| Some(files(&many, "")));
    assert_eq!(one(&url, 2, LONG).unwrap().tallies.len(), 1);
}

#[test]
fn the_command_asks_each_tracker_once_for_all_torrents_and_prints_a_table() {
    let folder = Folder::new("scrape-table");
    let hashes = Arc::new(Mutex::new(Vec::<[u8; 20]>::new()));
    let known = hashes.clone();
    let (http, asked) =
        tracker(move |_| Some(files(&known.lock().unwrap(), "5:flagsd20:min_request_intervali600ee")));
    let place = http.split('/').nth(2).unwrap().to_string();
    let private = http.replace("http://", &format!("http://user:{SECRET}@"));
    let udp = datagrams("127.0.0.1", Box::new(honest));
    let gone = closed();
    let one = create(&folder, "one", &[&http, &udp]);
    let two = create(&folder, "three", &[&gone, &http]);
    for torrent in [&one, &two] {
        let shown = String::from_utf8(run(&folder, &["show", "--json", torrent]).stdout).unwrap();
        let hex = shown.split_once(r#""info_hash":""#).unwrap().1;
        let hash = std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
        hashes.lock().unwrap().push(hash);
    }
    let output = run(&folder, &["scrape", &one, &two, &one]);
    let text = String::from_utf8(output.stdout).unwrap();
    let host = |url: &str| url.split('/').nth(2).unwrap().to_string();
    let head = "   seeders  leechers downloads  tracker\n";
    let from_http = format!("{:>10}{:>10}{:>10}  http://{}/…\n", 5, 7, 50, place);
    let from_udp = format!("{:>10}{:>10}{:>10}  udp://{}/…\n", 1, 0, 2, host(&udp));
    let start = format!("one\n{head}{from_http}{from_udp}three\n{head}");
    assert!(text.starts_with(&start) && text.ends_with(&from_http), "{text}");
    assert!(text.contains(&format!("http://{}/…: cannot connect", host(&gone))), "{text}");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let targets = asked.all();
    assert_eq!((targets.len(), targets[0].matches("info_hash=").count()), (1, 2));
    assert!(targets[0].starts_with("/scrape?info_hash="), "{targets:?}");

    let output = run(&folder, &["scrape", "--json", "-b", "127.0.0.1", &one]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let due = r#","seeders":5,"leechers":7,"downloads":50,"min_request_interval":600}"#;
    assert!(lines.len() == 2 && lines[0].ends_with(due), "{text}");
    assert!(
        lines[0].starts_with(r#"{"event":"scrape","info_hash":""#) && lines[0].contains(r#""name":"one""#)
    );
    assert!(lines[1].ends_with(r#","seeders":1,"leechers":0,"downloads":2}"#), "{text}");
    assert!(output.status.success());

    // A password goes to no private address that the .torrent names, and is in no output.
    let output = run(&folder, &["scrape", &create(&folder, "private", &[&private])]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(text.contains("with a password") && !text.contains(SECRET), "{text}");
    assert_eq!((output.status.code(), asked.all().len()), (Some(1), 2), "{text}");
}

#[test]
fn the_command_fails_with_the_reason_when_nobody_tells() {
    let folder = Folder::new("scrape-none");
    let (refuses, _) = says(NO);
    let (silent, _) = tracker(|_| Some(files(&[], "")));
    let alone = create(&folder, "alone", &[]);
    let one = create(&folder, "one", &[&refuses]);
    let two = create(&folder, "three", &[&silent, &closed()]);
    let output = run(&folder, &["scrape", "--json", &alone, &one, &two]);
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(out.matches(r#""error":""#).count(), 3, "{out}");
    assert!(out.contains(r#""error":"the tracker says: not me""#), "{out}");
    assert!(err.contains("ptorrent: alone: it has no tracker\n"), "{err}");
    assert!(err.contains("/…: the tracker says: not me\n"), "{err}");
    assert!(err.contains("none of 2 trackers told, the first, http://127.0.0.1:"), "{err}");
    for (args, words) in [
        (&["scrape"][..], "no TORRENT is given"),
        (&["scrape", ""], "an empty TORRENT"),
        (&["scrape", "-b", "127.0.0.1", "-b", "127.0.0.2", "x"], "twice for one family"),
    ] {
        let output = run(&folder, args);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{output:?}");
    }
}
