//! How swarms stand, asked of many trackers at once (BEP 48, BEP 15): for a command that waits for it, so each tracker
//! has a thread of its own, and all end by one deadline. A thread that hangs in a name look-up is left to itself.

use super::client::{Ask, Client, supported};
use super::http::{self, Fetched, late};
use super::{STACK, addresses, clock, hide, left};
use crate::api::TrackerFailure;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::tracker::guard::Purpose;
use crate::proto::tracker::http::{Error, scrape as question, scraped};
use crate::proto::tracker::udp::{self, Answer, Counts};
use crate::proto::tracker::url::Url;
use crate::proto::tracker::{Failure, Scheme, Scraped, Tally};
use crate::sys::socket::{self, Family, Route};
use crossbeam_channel::{Receiver, bounded};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// A tracker, and the torrents that it is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// The tracker.
    pub url: Url,
    /// The torrents.
    pub torrents: Vec<InfoHash>,
}

/// What a tracker said; no secret is in its words.
pub type Said = Result<Scraped, TrackerFailure>;

/// Asks all of them side by side. Each answer comes with the number of its question, within `timeout`; the channel
/// closes after the last, but who waits longer than that waits for a look-up that hangs. Fails only when no thread can
/// be had.
pub fn scrape(
    client: &Client,
    questions: Vec<Question>,
    timeout: Duration,
) -> io::Result<Receiver<(usize, Said)>> {
    let deadline = clock() + timeout;
    let count = questions.len();
    let (jobs, todo) = bounded(count);
    let (answers, said) = bounded(count);
    questions.into_iter().enumerate().for_each(|job| _ = jobs.try_send(job));
    for number in 0..count.min(limits::SCRAPE_THREADS) {
        let (todo, answers, client) = (todo.clone(), answers.clone(), client.clone());
        let work = move || {
            for (number, question) in todo.try_iter() {
                let mut trail = vec![question.url.clone()];
                let said = ask(&client, &question, &mut trail, deadline);
                let _ = answers.try_send((number, said.map_err(|failure| hide(&trail, failure))));
            }
        };
        let thread = thread::Builder::new().name(format!("ptorrent-scr-{number}")).stack_size(STACK);
        match thread.spawn(work) {
            Ok(_) => {}
            Err(error) if number == 0 => return Err(error),
            // The others come to it in turn.
            Err(_) => break,
        }
    }
    Ok(said)
}

/// Asks in parts of as many torrents as one question may have. `trail` is where we were sent: what may hold a secret.
fn ask(client: &Client, question: &Question, trail: &mut Vec<Url>, deadline: Instant) -> Said {
    let mut all = Scraped::default();
    let over_udp = question.url.scheme() == Scheme::Udp;
    let part = if over_udp { limits::UDP_SCRAPE_MAX } else { limits::HTTP_SCRAPE_MAX };
    for torrents in question.torrents.chunks(part) {
        let some = if over_udp {
            over_datagrams(client.route(), &question.url, torrents, deadline)?
        } else {
            over_http(client, &question.url, torrents, trail, deadline)?
        };
        all.tallies.extend(some.tallies);
        all.min_interval = all.min_interval.max(some.min_interval);
    }
    Ok(all)
}

fn over_http(
    client: &Client,
    tracker: &Url,
    torrents: &[InfoHash],
    trail: &mut Vec<Url>,
    deadline: Instant,
) -> Said {
    let no_scrape = || TrackerFailure::Unsupported("its URL has no scrape (BEP 48)".into());
    let mut url = question(tracker, torrents).ok_or_else(no_scrape)?;
    let (mut named, mut from) = (tracker.scrape().ok_or_else(no_scrape)?, None);
    for _ in 0..=limits::HTTP_REDIRECTS_MAX {
        supported(&url)?;
        let addrs = addresses(client.route(), url.host())?;
        let ask = Ask { url: &url, named: &named, purpose: Purpose::Scrape, from };
        let (used, fetched) =
            http::fetch(client, &ask, &addrs, deadline, limits::HTTP_BODY_MAX, http::is_served);
        match fetched? {
            Fetched::Answer { status, body } => return http_answer(status, &body, torrents),
            Fetched::Redirect(to) => {
                trail.push(to.clone());
                (named, url, from) = (to.clone(), to, used);
            }
            Fetched::Magnet(_) => return Err(http::no_tracker()),
        }
    }
    Err(TrackerFailure::Network("redirected too often".into()))
}

fn http_answer(status: u16, body: &[u8], torrents: &[InfoHash]) -> Said {
    http::refuse_gzip(body)?;
    match scraped(body, torrents) {
        Err(Error::Failure(failure)) => Err(TrackerFailure::Refused(failure)),
        _ if !(200..300).contains(&status) => Err(TrackerFailure::Answer(format!("HTTP status {status}"))),
        Ok(scraped) => Ok(scraped),
        Err(Error::Bencode(error)) => Err(TrackerFailure::Answer(error.to_string())),
        Err(Error::NotDict) => Err(TrackerFailure::Answer("it is not a dictionary".into())),
    }
}

/// The first address that answers. One that does not takes half of the time that is left at most.
fn over_datagrams(route: &Route, tracker: &Url, torrents: &[InfoHash], deadline: Instant) -> Said {
    let addrs = addresses(route, tracker.host())?;
    let mut last = late();
    for (at, ip) in addrs.iter().enumerate() {
        let Some(left) = left(deadline) else { break };
        let until = if at + 1 == addrs.len() { deadline } else { clock() + left / 2 };
        match exchange(route, SocketAddr::new(*ip, tracker.port()), torrents, until) {
            Err(failure @ TrackerFailure::Network(_)) => last = failure,
            said => return said,
        }
    }
    Err(last)
}

/// Connects, then scrapes (BEP 15).
fn exchange(route: &Route, to: SocketAddr, torrents: &[InfoHash], deadline: Instant) -> Said {
    let failed = |error: io::Error| TrackerFailure::Network(format!("cannot reach {to}: {error}"));
    let socket = socket::datagram(route, Family::of(to.ip()), 0).map_err(failed)?;
    socket.set_nonblocking(false).map_err(failed)?;
    // From now on the kernel drops what others send.
    socket.connect(to).map_err(failed)?;
    let say = |query: &dyn Fn(&mut Vec<u8>, u32), take: &mut dyn FnMut(Answer<'_>) -> bool| {
        converse(&socket, query, take, deadline, &failed)
    };
    let mut id = None;
    say(&udp::connect, &mut |answer| {
        if let Answer::Connected { connection } = answer {
            id = Some(connection);
        }
        matches!(answer, Answer::Connected { .. })
    })?;
    let id = id.ok_or_else(late)?;
    let mut counts: Vec<Counts> = Vec::new();
    say(&|out, transaction| udp::scrape(out, id, transaction, torrents), &mut |answer| {
        if let Answer::Scraped(scraped) = answer {
            counts = scraped.entries().take(torrents.len()).collect();
        }
        matches!(answer, Answer::Scraped(_))
    })?;
    let tally = |counts: &Counts| Tally {
        seeders: Some(counts.seeders),
        leechers: Some(counts.leechers),
        downloads: Some(counts.completed),
    };
    let tallies = torrents.iter().copied().zip(counts.iter().map(tally)).collect();
    Ok(Scraped { tallies, min_interval: None })
}

/// Sends a query, again and again with longer waits, until `take` has what it wants of an answer.
fn converse(
    socket: &UdpSocket,
    query: &dyn Fn(&mut Vec<u8>, u32),
    take: &mut dyn FnMut(Answer<'_>) -> bool,
    deadline: Instant,
    failed: &dyn Fn(io::Error) -> TrackerFailure,
) -> Result<(), TrackerFailure> {
    let transaction = chance().map_err(failed)?;
    let (mut out, mut wait) = (Vec::new(), limits::SCRAPE_RESEND);
    query(&mut out, transaction);
    let mut data = vec![0; DATAGRAM];
    while left(deadline).is_some() {
        socket.send(&out).map_err(failed)?;
        let until = deadline.min(clock() + wait);
        wait *= 2;
        while let Some(left) = left(until) {
            socket.set_read_timeout(Some(left)).map_err(failed)?;
            let len = match socket.recv(&mut data) {
                Ok(len) => len,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            match udp::answer(&data[..len]) {
                Ok((of, Answer::Refused(words))) if of == transaction => {
                    return Err(TrackerFailure::Refused(Failure::new(words)));
                }
                Ok((of, answer)) if of == transaction && take(answer) => return Ok(()),
                _ => {}
            }
        }
    }
    Err(late())
}

/// More than the answer for [`limits::UDP_SCRAPE_MAX`] torrents.
const DATAGRAM: usize = 2048;

/// A number that nobody can guess.
fn chance() -> io::Result<u32> {
    let mut bytes = [0; 4];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(u32::from_ne_bytes(bytes))
}
