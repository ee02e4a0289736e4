//! The embedded tracker as an engine of its own: one thread, and the channels to it.

use super::{Error, cannot, chance, joined, start};
use crate::base::wake::Wake;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::reactor::serve::{ServeSetup, Server};
use crate::reactor::{Listener, Poll, Signals, listen};
use crate::sys::descriptors;
use crate::sys::socket::Route;
use crate::tracker::{News, Order, Tracker};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How the tracker runs.
pub struct TrackerOptions {
    /// Where it listens.
    pub route: Route,
    /// At which port, for HTTP and UDP; 0 is one of the kernel's choice.
    pub port: u16,
    /// How often peers are to announce.
    pub interval: Duration,
    /// Serve these torrents only.
    pub only: Option<Vec<InfoHash>>,
    /// Signals, where they are to be heard.
    pub signals: Option<Signals>,
}

/// A running tracker.
pub struct TrackerEngine {
    addrs: Vec<SocketAddr>,
    orders: Sender<Order>,
    news: Receiver<News>,
    wake: Arc<Wake>,
    net: JoinHandle<io::Result<()>>,
}

impl TrackerEngine {
    /// Listens, then starts the thread. An error names what the user can mend.
    pub fn start(options: TrackerOptions) -> Result<TrackerEngine, Error> {
        let spare = descriptors::raise().saturating_sub(limits::DESCRIPTORS_OWN);
        let connections = spare.clamp(limits::CONNECTIONS_MIN, limits::TRACKER_CONNECTIONS);
        let listeners = listen(&options.route, options.port..=options.port).map_err(Error::Listen)?;
        let addrs: io::Result<Vec<SocketAddr>> = listeners.iter().map(Listener::addr).collect();
        let addrs = addrs.map_err(cannot("read a listener's address"))?;
        let poll = Poll::new().map_err(cannot("make a poller"))?;
        let wake = poll.wake();
        let mut tracker = Tracker::new(options.interval, chance()?);
        if let Some(only) = options.only {
            tracker.set_only(only);
        }
        let (orders, orders_rx) = bounded(limits::COMMANDS_MAX);
        let (news_tx, news) = bounded(limits::REPORTS_MAX);
        let bell = wake.clone();
        let setup = ServeSetup {
            tracker,
            connections,
            poll,
            wake: bell,
            route: options.route,
            listeners,
            monitor: super::monitor(),
            signals: options.signals,
            orders: orders_rx,
            news: news_tx,
        };
        let server = Server::new(setup).map_err(cannot("watch a socket"))?;
        let net = start("ptorrent-net".to_owned(), move || server.run())?;
        Ok(TrackerEngine { addrs, orders, news, wake, net })
    }

    /// Where it listens, HTTP and UDP alike.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Tells it something. False: it has ended.
    pub fn order(&self, order: Order) -> bool {
        let sent = self.orders.send(order).is_ok();
        self.wake.ring();
        sent
    }

    /// What it tells. [`News::Ended`] is the last; after it the channel closes.
    pub fn news(&self) -> &Receiver<News> {
        &self.news
    }

    /// Waits for the end, that of a signal or [`Order::Quit`].
    pub fn join(self) -> Result<(), Error> {
        drop(self.news);
        joined(self.net).map_err(cannot("wait for sockets"))
    }
}
