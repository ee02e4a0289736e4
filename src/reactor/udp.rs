//! Datagrams, in and out: one socket for each address family, at the port of the listeners. What they mean is the
//! session's business; here they are read in bounded batches, so that a flood does not keep the peers waiting.

use super::Reactor;
use super::network::kind_of;
use super::sockets::Listener;
use crate::api::Event;
use crate::limits;
use crate::proto::compact::canonical;
use crate::sys::socket::Family;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

impl Reactor {
    /// Reads the datagrams that wait at a socket, `most` at most. What is left is reported again.
    pub(super) fn receive(&mut self, at: usize, most: usize) {
        let mut scratch = std::mem::take(&mut self.landing.scratch);
        let mut count = 0;
        while count < most
            && let Some(listener) = self.listeners.get(at)
        {
            match listener.datagrams.recv_from(&mut scratch[..limits::DATAGRAM_MAX]) {
                Ok((len, from)) => {
                    count += 1;
                    self.tell(Event::Datagram { from: canonical(from), data: &scratch[..len] });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What the network said about some datagram of ours; it does not tell which. The wait for its answer
                // will end by itself.
                Err(_) => count += 1,
            }
        }
        self.landing.scratch = scratch;
    }

    /// Sends a datagram, or loses it. Only what another one would fare no better with is told.
    pub(super) fn send_datagram(&mut self, to: SocketAddr, data: &[u8]) {
        let same = |listener: &&Listener| listener.family == Family::of(to.ip());
        let result = match self.listeners.iter().find(same) {
            Some(listener) => listener.datagrams.send_to(data, to),
            None => Err(ErrorKind::AddrNotAvailable.into()),
        };
        if let Err(error) = result {
            log::debug!("cannot send a datagram to {to}: {error}");
            if !may_pass(&error) {
                self.unsent.push_back((to, kind_of(&error)));
            }
        }
    }
}

/// Whether a failure is one of the moment: no room in a queue, or news about an earlier datagram.
fn may_pass(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
        || matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
        )
}
