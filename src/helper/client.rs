//! What the helper threads make connections with: the route of the sockets, and the certificates that TLS trusts. Every
//! connection over HTTP and HTTPS is made here, over a socket of `sys/socket` to an address that was looked up before.

use super::failures::AddressFailures;
use super::http::late;
use super::stream::Stream;
#[cfg(feature = "https")]
use super::tls;
use super::{clock, left};
use crate::api::TrackerFailure;
use crate::limits;
use crate::proto::tracker::Scheme;
use crate::proto::tracker::guard::{Purpose, Refusal, permitted};
use crate::proto::tracker::url::Url;
use crate::sys::socket::{self, Route};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
#[cfg(feature = "https")]
use std::sync::OnceLock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The certificates that HTTPS trusts to vouch for a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Roots {
    /// Those of Mozilla's list, which is built in, and those of the system's store.
    #[default]
    Usual,
    /// These alone, as OpenSSL has it (`SSL_CERT_FILE` and `SSL_CERT_DIR`).
    Only {
        /// A file of certificates in PEM.
        file: Option<PathBuf>,
        /// A folder of such files.
        dir: Option<PathBuf>,
    },
}

/// What is asked for, and on whose word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// The URL, with what we have to say in its query.
    pub(super) url: &'a Url,
    /// The URL as it was named.
    pub(super) named: &'a Url,
    /// What for.
    pub(super) purpose: Purpose,
    /// The address of the server that redirected to it, if one did.
    pub(super) from: Option<IpAddr>,
}

/// Makes connections. A clone shares what it has read.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    route: Route,
    /// Addresses at which servers failed.
    failures: Mutex<AddressFailures>,
    #[cfg(feature = "https")]
    roots: Roots,
    /// Made at the first use: most runs need none.
    #[cfg(feature = "https")]
    tls: OnceLock<Result<tls::Config, String>>,
}

impl Client {
    /// Connections that go this way, to servers for which these vouch.
    pub fn new(route: Route, roots: Roots) -> Client {
        #[cfg(not(feature = "https"))]
        drop(roots);
        Client(Arc::new(Inner {
            route,
            failures: Mutex::default(),
            #[cfg(feature = "https")]
            roots,
            #[cfg(feature = "https")]
            tls: OnceLock::new(),
        }))
    }

    /// Which way sockets go.
    pub(super) fn route(&self) -> &Route {
        &self.0.route
    }

    fn failures(&self) -> MutexGuard<'_, AddressFailures> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a server in the order in which they are asked: those that failed come last.
    pub(super) fn sort(&self, addrs: &[IpAddr], port: u16) -> Vec<IpAddr> {
        self.failures().sort(addrs, port, clock())
    }

    /// True if this address failed the last time.
    pub(super) fn has_failed(&self, addr: SocketAddr) -> bool {
        self.failures().times(addr, clock()) > 0
    }

    /// The server at this address does what it should, or does not.
    pub(super) fn judge(&self, addr: SocketAddr, is_good: bool) {
        match is_good {
            true => self.failures().on_success(addr),
            false => self.failures().on_failure(addr, clock()),
        }
    }

    /// Connects to the first of the addresses that takes the connection, those that failed last, of those at which the URL
    /// [may be asked](permitted), with a TLS handshake where the URL says HTTPS. Gives that address too. An address that
    /// does not answer takes at most half of the time that is left, so that the next has its turn, and never so long that
    /// a few dead hosts hold all threads. `heed` is called before each.
    pub(super) fn connect<E: From<TrackerFailure>>(
        &self,
        ask: &Ask<'_>,
        addrs: &[IpAddr],
        deadline: Instant,
        mut heed: impl FnMut() -> Result<(), E>,
    ) -> Result<(Stream, IpAddr), E> {
        let port = ask.url.port();
        let addrs = self.sort(addrs, port);
        let addrs = permitted(ask.named, ask.purpose, &addrs, ask.from).map_err(refused)?;
        let mut last =
            if addrs.is_empty() { TrackerFailure::Network("its name has no address".into()) } else { late() };
        for (at, &ip) in addrs.iter().enumerate() {
            heed()?;
            let Some(left) = left(deadline) else { break };
            let limit = if at + 1 == addrs.len() { left } else { left / 2 }.min(limits::DIAL_MAX);
            match self.connect_to(ask.url, ip, limit) {
                Ok(stream) => return Ok((stream, ip)),
                Err(failure) => {
                    self.judge(SocketAddr::new(ip, port), false);
                    last = failure;
                }
            }
        }
        Err(last.into())
    }

    /// Connects to one address, within this span.
    fn connect_to(&self, url: &Url, ip: IpAddr, limit: Duration) -> Result<Stream, TrackerFailure> {
        let (until, to) = (clock() + limit, SocketAddr::new(ip, url.port()));
        let socket = socket::dial(self.route(), to, limit)
            .map_err(|error| TrackerFailure::Network(format!("cannot connect to {to}: {error}")))?;
        match url.scheme() {
            Scheme::Http => Ok(Stream::Plain(socket)),
            #[cfg(feature = "https")]
            Scheme::Https => {
                let config = self.0.tls.get_or_init(|| tls::Config::new(&self.0.roots));
                let config = config.as_ref().map_err(|why| TrackerFailure::Network(why.clone()))?;
                tls::shake(config, url.host(), socket, until).map(|tls| Stream::Tls(Box::new(tls)))
            }
            _ => {
                let _ = until;
                Err(TrackerFailure::Unsupported("this build of ptorrent cannot speak to it".into()))
            }
        }
    }
}

/// A URL that only the user may name does not get better; where a server redirects to does.
fn refused(why: Refusal) -> TrackerFailure {
    match why {
        Refusal::Inward(_) => TrackerFailure::Network(why.to_string()),
        Refusal::Stranger(..) | Refusal::Password(_) => TrackerFailure::Unsupported(why.to_string()),
    }
}

/// Whether this build can speak to a URL's server at all.
pub(super) fn supported(url: &Url) -> Result<(), TrackerFailure> {
    let no = |why: &str| Err(TrackerFailure::Unsupported(why.into()));
    match url.scheme() {
        Scheme::Http => Ok(()),
        Scheme::Udp => no("this is not a URL of HTTP"),
        Scheme::Https if cfg!(feature = "https") => Ok(()),
        Scheme::Https => no("this build of ptorrent has no HTTPS"),
    }
}
