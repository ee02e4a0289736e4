//! Calls that may block for long, on threads of their own, so that a name server or tracker that hangs delays
//! nothing: the engine gives [`Pool::call`] the session's calls, and the replies go to the net thread's channel.
//!
//! A call for a named host first waits for the look-up of the name, which is shared with all that want the same, and
//! then for its turn with the host. Look-ups and announces have threads apart, and one thread is always left that
//! watches over the time of the calls that wait.

mod client;
mod failures;
mod http;
mod lookup;
pub mod powers;
pub mod scrape;
mod stream;
#[cfg(feature = "https")]
mod tls;
pub mod torrent;
pub mod web;

use crate::api::{Call, Reply, TorrentId, TrackerFailure};
use crate::base::wake::Wake;
use crate::limits;
use crate::proto::tracker::guard::Purpose;
use crate::proto::tracker::http::announce;
use crate::proto::tracker::url::{Host, Url};
use crate::proto::tracker::{Event, Failure, Response};
use crate::sys::socket::Route;
use client::Ask;
pub use client::{Client, Roots};
use crossbeam_channel::{Sender, TrySendError};
use http::Fetched;
use lookup::{Found, Names, NoName};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

type LookUp = dyn Fn(&str) -> Result<Vec<IpAddr>, NoName> + Send + Sync;

/// The helper threads: none at first, `limits::HELPERS_MAX` at most, fewer again when there is nothing to do.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    replies: Sender<Reply>,
    wake: Arc<Wake>,
    look_up: Box<LookUp>,
    state: Mutex<State>,
    bell: Condvar,
}

/// A call that waits.
struct Job {
    kind: Kind,
    deadline: Instant,
}

enum Kind {
    Announce {
        torrent: TorrentId,
        tracker: u32,
        /// Where to ask now; with the query.
        url: Url,
        /// The tracker's own URL and where we were sent since: what may hold a secret.
        trail: Vec<Url>,
        /// The address of the server that sent us there, if one did.
        from: Option<IpAddr>,
        /// It says `stopped`.
        farewell: bool,
    },
    Resolve {
        /// Whose; None: for all torrents.
        torrent: Option<TorrentId>,
        host: String,
        port: u16,
    },
}

/// What a host has shown; the better ones come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Trust {
    /// It answered the last time.
    Good,
    #[default]
    Unknown,
    /// It failed the last time.
    Failed,
}

/// What is known of a tracker's host and port.
#[derive(Default)]
struct HostState {
    calls: usize,
    trust: Trust,
    /// Until when it is not asked over the other address family as well, which failed.
    lame_until: Option<Instant>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    names: Names,
    hosts: BTreeMap<String, HostState>,
    /// Numbers of the threads that live.
    threads: Vec<bool>,
    idle: usize,
    look_ups: usize,
    asks: usize,
    /// Of `asks`, those to hosts that were not known to answer, and to those that failed the last time.
    chancy: usize,
    strained: usize,
    closed: bool,
}

/// What a thread does next.
enum Next {
    Reply(Reply),
    /// A name, and when its look-up began ([`Names::begin`]).
    Look(String, u32),
    Ask {
        job: Job,
        host: String,
        addrs: Vec<IpAddr>,
        trust: Trust,
        both: bool,
    },
    Sleep(Option<Instant>),
}

impl Pool {
    /// A pool without threads. `replies` must have room for `limits::CALLS_OUT`; `wake` rings after each reply.
    pub fn new(client: Client, replies: Sender<Reply>, wake: Arc<Wake>) -> Pool {
        Pool::with(client, replies, wake, Box::new(lookup::look_up))
    }

    fn with(client: Client, replies: Sender<Reply>, wake: Arc<Wake>, look_up: Box<LookUp>) -> Pool {
        let (state, bell) = (Mutex::default(), Condvar::new());
        Pool { shared: Arc::new(Shared { client, replies, wake, look_up, state, bell }) }
    }

    /// Takes a call; exactly one reply follows, within the call's time-out or soon after. Never blocks.
    pub fn call(&self, call: Call) {
        let now = clock();
        let job = match call {
            Call::Announce { torrent, tracker, url, request, timeout } => {
                let (full, trail) = (announce(&url, &request), vec![url]);
                let farewell = request.event == Event::Stopped;
                Job {
                    kind: Kind::Announce { torrent, tracker, url: full, trail, from: None, farewell },
                    deadline: now + timeout.min(limits::CALL_MAX),
                }
            }
            Call::Resolve { torrent, host, port } => Job::resolve(Some(torrent), host, port, now),
            Call::LookUp { host, port } => Job::resolve(None, host, port, now),
        };
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        self.shared.muster(&mut state);
        drop(state);
    }
}

impl Pool {
    /// Our network was away and is back: what failed meanwhile is tried again.
    pub fn forget_failures(&self) {
        let mut state = self.shared.lock();
        state.names.forget_failures();
        self.shared.muster(&mut state);
        for host in state.hosts.values_mut() {
            host.lame_until = None;
            if host.trust == Trust::Failed {
                host.trust = Trust::Unknown;
            }
        }
    }
}

impl Drop for Pool {
    /// Sends idle threads home. The others end with their call; nobody waits for them, for one may hang in a look-up.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.shared.bell.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that someone is there for the calls that wait. Who takes one passes this on.
    fn muster(self: &Arc<Shared>, state: &mut State) {
        if state.queue.is_empty() {
            return;
        }
        if state.idle > 0 {
            self.bell.notify_one();
            return;
        }
        let free = state.threads.iter().position(|taken| !taken);
        let number = free.unwrap_or(state.threads.len());
        if number >= limits::HELPERS_MAX {
            return;
        }
        let shared = self.clone();
        let name = format!("ptorrent-trk-{number}");
        match thread::Builder::new().name(name).stack_size(STACK).spawn(move || shared.work(number)) {
            Ok(_) if free.is_some() => state.threads[number] = true,
            Ok(_) => state.threads.push(true),
            // Others will come to it; where there is none, the calls fail.
            Err(error) if state.threads.iter().all(|taken| !taken) => {
                let why = format!("cannot start a thread: {error}");
                // The net thread may be the one that is here, so this must not wait for room.
                while !self.replies.is_full()
                    && let Some(job) = state.queue.pop_front()
                {
                    self.reply(job.failed(TrackerFailure::Network(why.clone())));
                }
            }
            Err(_) => {}
        }
    }

    fn reply(&self, reply: Reply) {
        if let Err(TrySendError::Full(reply)) = self.replies.try_send(reply) {
            debug_assert!(false, "more calls out than the channel of replies has room for");
            self.wake.ring();
            let _ = self.replies.send(reply);
        }
        self.wake.ring();
    }

    /// The life of a helper thread.
    fn work(self: &Arc<Shared>, number: usize) {
        let mut idle_since = clock();
        let mut state = self.lock();
        loop {
            let now = clock();
            match state.next(now, self.client.route()) {
                Next::Sleep(until) => {
                    let tired = now.saturating_duration_since(idle_since) >= limits::HELPER_IDLE;
                    if state.closed || tired && (state.queue.is_empty() || state.idle > 0) {
                        state.threads[number] = false;
                        return;
                    }
                    let rest = idle_since + limits::HELPER_IDLE;
                    let until = if tired { until } else { Some(until.map_or(rest, |at| at.min(rest))) };
                    let span = until.map_or(limits::HELPER_IDLE, |at| at.saturating_duration_since(now));
                    state.idle += 1;
                    let woken = self.bell.wait_timeout(state, span).unwrap_or_else(PoisonError::into_inner);
                    state = woken.0;
                    state.idle -= 1;
                    continue;
                }
                Next::Reply(reply) => {
                    self.muster(&mut state);
                    drop(state);
                    self.reply(reply);
                    state = self.lock();
                }
                Next::Look(host, era) => {
                    self.muster(&mut state);
                    drop(state);
                    let found = (self.look_up)(&host);
                    state = self.lock();
                    state.look_ups -= 1;
                    state.names.end(host, era, found, clock());
                }
                Next::Ask { job, host, addrs, trust, both } => {
                    self.muster(&mut state);
                    drop(state);
                    let asked = self.ask(&job, &addrs, both);
                    state = self.lock();
                    state.asked(&host, trust, &asked, clock());
                    state = self.conclude(state, job, asked);
                }
            }
            idle_since = clock();
        }
    }

    /// Asks over one address family and, if `both`, over the other one too (BEP 7): what that fails at does no harm.
    fn ask(&self, job: &Job, addrs: &[IpAddr], both: bool) -> Asked {
        let Kind::Announce { url, trail, from, .. } = &job.kind else { return Asked::nothing() };
        let named = trail.last().unwrap_or(url);
        let ask = Ask { url, named, purpose: Purpose::Announce, from: *from };
        let get = |addrs: &[IpAddr], deadline| {
            http::fetch(&self.client, &ask, addrs, deadline, limits::HTTP_BODY_MAX, http::is_tracker)
        };
        let addrs = &self.client.sort(addrs, url.port());
        let (used, first) = get(addrs, job.deadline);
        let mut asked = Asked { used, result: answered(first), lame: None };
        let (Some(used), Ok(Got::Answer(answer)), true) = (used, &mut asked.result, both) else {
            return asked;
        };
        let of_other = |ip: &&IpAddr| ip.is_ipv4() != used.is_ipv4();
        let failed = addrs.iter().take_while(|ip| **ip != used).any(|ip| of_other(&ip));
        let others: Vec<IpAddr> = addrs.iter().filter(of_other).copied().collect();
        if failed {
            asked.lame = Some(true);
        } else if !others.is_empty() {
            let (_, second) = get(&others, job.deadline.min(clock() + limits::FAMILY_GRACE));
            let second = answered(second);
            asked.lame = Some(!matches!(second, Ok(Got::Answer(_))));
            if let Ok(Got::Answer(more)) = second {
                answer.merge(*more);
            }
        }
        asked
    }

    /// Replies with what was fetched, or has the job wait again where it was redirected.
    fn conclude<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut job: Job,
        asked: Asked,
    ) -> MutexGuard<'a, State> {
        let result = match (asked.result, &mut job.kind) {
            (Ok(Got::Redirect(to)), Kind::Announce { url, trail, from, .. }) => {
                if trail.len() <= limits::HTTP_REDIRECTS_MAX {
                    trail.push(to.clone());
                    (*url, *from) = (to, asked.used);
                    state.queue.push_front(job);
                    return state;
                }
                Err(TrackerFailure::Network("redirected too often".into()))
            }
            (Ok(Got::Redirect(_)), Kind::Resolve { .. }) => return state,
            (Ok(Got::Answer(response)), _) => Ok(*response),
            (Err(failure), _) => Err(failure),
        };
        drop(state);
        self.reply(job.answered(result));
        self.lock()
    }
}

/// What a tracker gave us.
enum Got {
    Answer(Box<Response>),
    Redirect(Url),
}

/// What came of asking a host.
struct Asked {
    /// The address that took the connection.
    used: Option<IpAddr>,
    result: Result<Got, TrackerFailure>,
    /// Whether the other address family was asked in vain, if it was.
    lame: Option<bool>,
}

impl Asked {
    fn nothing() -> Asked {
        Asked { used: None, result: Err(TrackerFailure::Network(String::new())), lame: None }
    }
}

fn answered(fetched: Result<Fetched, TrackerFailure>) -> Result<Got, TrackerFailure> {
    match fetched? {
        Fetched::Redirect(to) => Ok(Got::Redirect(to)),
        Fetched::Magnet(_) => Err(http::no_tracker()),
        Fetched::Answer { status, body } => Ok(Got::Answer(Box::new(http::answer(status, &body)?))),
    }
}

impl Job {
    fn resolve(torrent: Option<TorrentId>, host: String, port: u16, now: Instant) -> Job {
        Job { kind: Kind::Resolve { torrent, host, port }, deadline: now + limits::RESOLVE_TIMEOUT }
    }

    fn host(&self) -> Host {
        match &self.kind {
            Kind::Announce { url, .. } => url.host().clone(),
            Kind::Resolve { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => Host::Ip(ip.to_canonical()),
                Err(_) => Host::Name(host.to_ascii_lowercase()),
            },
        }
    }

    /// The reply of an announce, with nothing secret in its words.
    fn answered(self, result: Result<Response, TrackerFailure>) -> Reply {
        let Kind::Announce { torrent, tracker, trail, .. } = &self.kind else {
            return self.failed(TrackerFailure::Network(String::new()));
        };
        let result = match result {
            Ok(mut response) => {
                response.warning = response.warning.map(|text| hide_in(trail, &text));
                Ok(response)
            }
            Err(failure) => Err(hide(trail, failure)),
        };
        Reply::Announced { torrent: *torrent, tracker: *tracker, result }
    }

    fn failed(self, failure: TrackerFailure) -> Reply {
        match self.kind {
            Kind::Announce { .. } => self.answered(Err(failure)),
            Kind::Resolve { torrent, host, port } => resolved(torrent, host, port, Err(failure.to_string())),
        }
    }
}

/// A failure without what may be a secret of these URLs.
fn hide(trail: &[Url], failure: TrackerFailure) -> TrackerFailure {
    match failure {
        TrackerFailure::Network(text) => TrackerFailure::Network(hide_in(trail, &text)),
        TrackerFailure::Refused(Failure { words, retry }) => {
            TrackerFailure::Refused(Failure { words: hide_in(trail, &words), retry })
        }
        TrackerFailure::Answer(text) => TrackerFailure::Answer(hide_in(trail, &text)),
        TrackerFailure::Compressed(coding) => TrackerFailure::Compressed(hide_in(trail, &coding)),
        TrackerFailure::Unsupported(text) => TrackerFailure::Unsupported(hide_in(trail, &text)),
    }
}

fn hide_in(trail: &[Url], text: &str) -> String {
    trail.iter().fold(text.to_string(), |text, url| url.hide_in(&text))
}

impl State {
    /// What is to be done now, first come first served, but hosts that failed after the others.
    fn next(&mut self, now: Instant, route: &Route) -> Next {
        if let Some(at) = self.queue.iter().position(|job| job.deadline <= now) {
            let Some(job) = self.queue.remove(at) else { return Next::Sleep(None) };
            let what =
                if self.names.is_looking(&job.host()) { "its name was not found" } else { "no answer" };
            return Next::Reply(job.failed(TrackerFailure::Network(format!("{what} in time"))));
        }
        for trust in [Trust::Good, Trust::Unknown, Trust::Failed] {
            for at in 0..self.queue.len() {
                if let Some(next) = self.start(at, trust, now, route) {
                    return next;
                }
            }
        }
        Next::Sleep(self.queue.iter().map(|job| job.deadline).min())
    }

    /// What can be done for the job at this place of the queue.
    fn start(&mut self, at: usize, trust: Trust, now: Instant, route: &Route) -> Option<Next> {
        let job = self.queue.get(at)?;
        if let Kind::Announce { url, .. } = &job.kind
            && let Err(failure) = client::supported(url)
        {
            return Some(Next::Reply(self.queue.remove(at)?.failed(failure)));
        }
        let found = match job.host() {
            Host::Ip(ip) => Found::Known(vec![ip]),
            Host::Name(name) => match self.names.find(&name, now) {
                Found::Unknown if self.look_ups < limits::LOOK_UPS_MAX => {
                    let era = self.names.begin(name.clone());
                    self.look_ups += 1;
                    return Some(Next::Look(name, era));
                }
                found => found,
            },
        };
        let addrs = match found {
            Found::Known(addrs) => lookup::usable(&addrs, route),
            Found::Failed(why) => Err(why),
            Found::Looking | Found::Unknown => return None,
        };
        match (addrs, &job.kind) {
            (Err(why), _) => Some(Next::Reply(self.queue.remove(at)?.failed(TrackerFailure::Network(why)))),
            (Ok(addrs), Kind::Resolve { .. }) => self.resolved(at, &addrs),
            (Ok(addrs), Kind::Announce { url, .. }) => {
                let host = format!("{:?} {}", url.host(), url.port());
                self.start_ask(at, trust, host, addrs, now)
            }
        }
    }

    fn resolved(&mut self, at: usize, addrs: &[IpAddr]) -> Option<Next> {
        let job = self.queue.remove(at)?;
        let Kind::Resolve { torrent, host, port } = job.kind else { return None };
        let result = Ok(addrs.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
        Some(Next::Reply(resolved(torrent, host, port, result)))
    }

    /// One call at a time to a host that did not answer the last time, or was never asked, and few threads for those;
    /// to a good one some more when we take our leave.
    fn start_ask(
        &mut self,
        at: usize,
        trust: Trust,
        host: String,
        addrs: Vec<IpAddr>,
        now: Instant,
    ) -> Option<Next> {
        let unknown = HostState::default();
        let known = self.hosts.get(&host).unwrap_or(&unknown);
        let farewell = matches!(self.queue.get(at)?.kind, Kind::Announce { farewell: true, .. });
        let most = match known.trust {
            Trust::Good if farewell => limits::ASKS_MAX,
            Trust::Good => limits::CALLS_PER_HOST,
            Trust::Unknown | Trust::Failed => 1,
        };
        let room = match trust {
            Trust::Good => true,
            Trust::Unknown => self.chancy < limits::CHANCY_MAX,
            Trust::Failed => self.chancy < limits::CHANCY_MAX && self.strained < limits::STRAINED_MAX,
        };
        if known.trust != trust || known.calls >= most || self.asks >= limits::ASKS_MAX || !room {
            return None;
        }
        let both = known.lame_until.is_none_or(|until| until <= now);
        let job = self.queue.remove(at)?;
        self.hosts.entry(host.clone()).or_default().calls += 1;
        self.asks += 1;
        self.chancy += usize::from(trust != Trust::Good);
        self.strained += usize::from(trust == Trust::Failed);
        Some(Next::Ask { job, host, addrs, trust, both })
    }

    /// A call to a host is over; `trust` is what was thought of it when it began.
    fn asked(&mut self, host: &str, trust: Trust, asked: &Asked, now: Instant) {
        self.asks -= 1;
        self.chancy -= usize::from(trust != Trust::Good);
        self.strained -= usize::from(trust == Trust::Failed);
        if let Some(known) = self.hosts.get_mut(host) {
            known.calls -= 1;
            let failed = matches!(asked.result, Err(TrackerFailure::Network(_)));
            known.trust = if failed { Trust::Failed } else { Trust::Good };
            match asked.lame {
                Some(lame) => known.lame_until = lame.then_some(now + limits::FAMILY_RETRY),
                None => known.lame_until = known.lame_until.filter(|until| *until > now),
            }
        }
        if self.hosts.len() > limits::HOSTS_MAX {
            let idle = self.hosts.iter().find(|(_, known)| known.calls == 0).map(|(name, _)| name.clone());
            idle.map(|name| self.hosts.remove(&name));
        }
    }
}

fn resolved(
    torrent: Option<TorrentId>,
    host: String,
    port: u16,
    result: Result<Vec<SocketAddr>, String>,
) -> Reply {
    match torrent {
        Some(torrent) => Reply::Resolved { torrent, host, port, result },
        None => Reply::LookedUp { host, port, result },
    }
}

/// The addresses of a host that can be reached at all, by a look-up that may hang.
fn addresses(route: &Route, host: &Host) -> Result<Vec<IpAddr>, TrackerFailure> {
    let found = match host {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => lookup::look_up(name)
            .map_err(|no| TrackerFailure::Network(format!("cannot find {name}: {}", no.why)))?,
    };
    lookup::usable(&found, route).map_err(TrackerFailure::Network)
}

/// Enough for a look-up and TLS.
const STACK: usize = 512 << 10;

#[expect(clippy::disallowed_methods, reason = "calls of this thread end by the clock")]
fn clock() -> Instant {
    Instant::now()
}

/// What is left until `deadline`; None when it has passed.
fn left(deadline: Instant) -> Option<Duration> {
    deadline.checked_duration_since(clock()).filter(|span| !span.is_zero())
}

#[cfg(test)]
mod tests;
