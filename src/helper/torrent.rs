//! A .torrent, or a magnet link in its place, from a URL: one bounded download that a command waits for, with redirects
//! followed as for trackers. It runs in a thread of its own, which is abandoned if it hangs in a name look-up.

use super::client::{Ask, Client, supported};
use super::http::{self, Fetched};
use super::{STACK, addresses, clock, hide};
use crate::api::TrackerFailure;
use crate::limits;
use crate::proto::tracker::guard::Purpose;
use crate::proto::tracker::url::Url;
use crossbeam_channel::{Receiver, bounded};
use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// What a URL leads to.
#[derive(Debug)]
pub enum Downloaded {
    /// The bytes of a .torrent, as far as the server says.
    Torrent(Vec<u8>),
    /// A magnet link, which is not checked yet.
    Magnet {
        /// The link.
        link: String,
        /// The address of the server that redirected to it, on whose word it is.
        from: IpAddr,
    },
}

/// What came of it; no secret is in the words.
pub type Got = Result<Downloaded, TrackerFailure>;

/// Gets the bytes behind a URL, `limits::TORRENT_FILE_MAX` at most, within `timeout` unless a look-up hangs. Fails only
/// when no thread can be had.
pub fn download(client: Client, url: Url, timeout: Duration) -> io::Result<Receiver<Got>> {
    let (answer, got) = bounded(1);
    let deadline = clock() + timeout;
    let work = move || {
        let mut trail = vec![url];
        let result = get(&client, &mut trail, deadline).map_err(|failure| hide(&trail, failure));
        let _ = answer.try_send(result);
    };
    thread::Builder::new().name("ptorrent-get".into()).stack_size(STACK).spawn(work)?;
    Ok(got)
}

/// `trail` is where to begin, and where we were sent: what may hold a secret.
fn get(client: &Client, trail: &mut Vec<Url>, deadline: Instant) -> Got {
    let mut from = None;
    while let Some(url) = trail.last().filter(|_| trail.len() <= limits::HTTP_REDIRECTS_MAX + 1) {
        supported(url)?;
        let addrs = addresses(client.route(), url.host())?;
        let max = usize::try_from(limits::TORRENT_FILE_MAX).unwrap_or(usize::MAX);
        let ask = Ask { url, named: url, purpose: Purpose::Torrent, from };
        let (used, fetched) = http::fetch(client, &ask, &addrs, deadline, max, http::is_served);
        from = used;
        match fetched? {
            Fetched::Answer { status: 200..300, body } => return Ok(Downloaded::Torrent(body)),
            Fetched::Answer { status, .. } => {
                return Err(TrackerFailure::Network(format!("HTTP status {status}")));
            }
            Fetched::Redirect(to) => trail.push(to),
            Fetched::Magnet(link) => {
                // There was a server, since it answered.
                let from = used.ok_or_else(http::late)?;
                return Ok(Downloaded::Magnet { link, from });
            }
        }
    }
    Err(TrackerFailure::Network("redirected too often".into()))
}
