//! Connections from their start to their end, and the bytes in between.

use super::Reactor;
use super::conn::{Adopted, Conn, Found};
use super::crypt::Crypt;
use super::deferred::Deferred;
use super::landing::{HEAD, Landing};
use super::network::kind_of;
use super::outbox::Outbox;
use super::sockets::{Accepted, Key, Ready};
use crate::api::{Event, Intake, PeerId, Why};
use crate::base::buf::BLOCK;
use crate::limits;
use crate::proto::layout::Block;
use crate::proto::wire::Error;
use crate::sys::socket;
use std::cmp::Reverse;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

impl Reactor {
    /// Accepts what waits, a bounded number.
    pub(super) fn accept(&mut self, at: usize) {
        for _ in 0..limits::ACCEPTS_MAX {
            let Some(listener) = self.listeners.get_mut(at) else { return };
            match listener.accept() {
                Accepted::Conn(stream, from) => self.take_in(stream, from),
                Accepted::Gone => {}
                Accepted::Nothing => return,
                Accepted::Exhausted(error) => {
                    log::warn!("cannot accept connections for a while: {error}");
                    listener.rest = Some(self.now + limits::ACCEPT_REST);
                    self.heed_listener(at, false);
                    return;
                }
            }
        }
    }

    /// Asks the session about a connection that came in; one that it refuses is closed by being dropped.
    fn take_in(&mut self, stream: TcpStream, from: SocketAddr) {
        let id = self.session.accept(from, self.now);
        // What it closed to make room may have had the same slot.
        self.carry_out();
        if let Some(id) = id {
            let mut conn = Conn::new(id, from, stream, false);
            conn.crypt = Crypt::of_incoming(self.answers);
            self.watch(conn);
            self.carry_out();
        }
    }

    fn heed_listener(&self, at: usize, on: bool) {
        if let Some(listener) = self.listeners.get(at)
            && let Err(error) = self.poll.change(listener.as_fd(), Key::Listener(at), (on, false))
        {
            log::error!("cannot change what is reported of a listener: {error}");
        }
    }

    /// Listeners whose rest is over go on.
    pub(super) fn wake_listeners(&mut self) {
        for at in 0..self.listeners.len() {
            if self.listeners[at].rest.is_some_and(|until| until <= self.now) {
                self.listeners[at].rest = None;
                self.heed_listener(at, true);
            }
        }
    }

    /// Starts a connection.
    pub(super) fn connect(&mut self, id: PeerId, addr: SocketAddr) {
        match socket::connect(&self.route, addr) {
            Ok(stream) => self.watch(Conn::new(id, addr, stream, true)),
            Err(error) => {
                log::debug!("{id} cannot connect to {addr}: {error}");
                self.lost.push_back((id, Why::Unreachable(kind_of(&error))));
            }
        }
    }

    /// Puts a connection into the table and the poller.
    fn watch(&mut self, conn: Conn) {
        if let Err(error) = socket::limit_unacknowledged(&conn.stream, self.network.unacknowledged()) {
            log::debug!("{} has no time-out for what is not acknowledged: {error}", conn.id);
        }
        match self.poll.add(conn.stream.as_fd(), Key::Peer(conn.id), conn.interest) {
            Ok(()) => self.conns.insert(conn),
            Err(error) => {
                log::warn!("{} cannot be watched: {error}", conn.id);
                self.lost.push_back((conn.id, Why::Io(error.kind())));
            }
        }
    }

    /// Makes the poller report what the connection wants reported now.
    fn heed(&mut self, id: PeerId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let wants = conn.wants();
        if wants == conn.interest {
            return;
        }
        conn.interest = wants;
        if let Err(error) = self.poll.change(conn.stream.as_fd(), Key::Peer(id), wants) {
            self.lose(id, Why::Io(error.kind()));
        }
    }

    /// Forgets a connection: the socket closes, its buffers go home.
    pub(super) fn drop_peer(&mut self, id: PeerId, why: Why) {
        let Some(conn) = self.conns.remove(id) else { return };
        log::debug!("{id} {} closed: {why}", conn.addr);
        self.waiting -= usize::from(conn.waiting);
        self.unsent_small -= conn.outbox.small();
        self.poll.remove(conn.stream.as_fd());
        // A FIN waits behind unacknowledged data; a reset tells the other side at once that the connection is closed.
        if why == Why::Outage
            && let Err(error) = socket::reset_on_close(&conn.stream)
        {
            log::debug!("{id} cannot be reset: {error}");
        }
        conn.close(&mut self.pool);
    }

    /// Forgets a connection that ended by itself, and tells the session.
    pub(super) fn lose(&mut self, id: PeerId, why: Why) {
        self.drop_peer(id, why);
        self.tell(Event::Closed { peer: id, why });
    }

    /// One burst of a connection that the poller reported.
    pub(super) fn serve_peer(&mut self, id: PeerId, ready: Ready, burst: usize) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.connecting {
            return self.finish_connect(id);
        }
        if ready.writable && conn.blocked {
            conn.blocked = false;
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(id);
            }
        }
        if !ready.readable {
            return;
        }
        if conn.waiting {
            // Reading is off, so this is a reset: nothing can be read after it, and it would be reported for ever.
            let why = match conn.stream.take_error() {
                Ok(Some(error)) | Err(error) => Why::Io(error.kind()),
                Ok(None) => Why::Eof,
            };
            return self.lose(id, why);
        }
        self.read(id, burst);
    }

    fn finish_connect(&mut self, id: PeerId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match conn.stream.take_error() {
            Ok(None) => {
                conn.connecting = false;
                log::debug!("{id} connected to {}", conn.addr);
                self.heed(id);
                self.tell(Event::Connected { peer: id });
            }
            Ok(Some(error)) | Err(error) => self.lose(id, Why::Unreachable(kind_of(&error))),
        }
    }

    /// Reads until the socket is empty, the burst is used up or the connection has to wait.
    fn read(&mut self, id: PeerId, burst: usize) {
        let mut landing = std::mem::take(&mut self.landing);
        let mut left = burst;
        while left >= BLOCK as usize {
            let Some(conn) = self.conns.get_mut(id) else { break };
            // Who reads far ahead keeps much if it has to wait: so no more blocks than there is room for, and small
            // steps where there is none or many wait.
            let blocks = match conn.is_streaming() && self.waiting < limits::STASHES {
                true => Some(self.session.room_ahead(id).min(left / BLOCK as usize)),
                false => None,
            };
            let small = self.waiting > 0 || blocks == Some(0);
            let ahead = if small { limits::SCRATCH_SMALL } else { limits::SCRATCH };
            landing.expect_blocks(blocks.unwrap_or(0));
            let shaking = conn.crypt.is_shaking();
            let got = match conn.read(&mut landing, ahead.min(left)) {
                Ok(got) => got,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    break;
                }
                Err(error) => {
                    self.lose(id, Why::Io(kind_of(&error)));
                    break;
                }
            };
            if got.bytes == 0 {
                self.lose(id, Why::Eof);
                break;
            }
            self.came += got.bytes;
            left = left.saturating_sub(got.bytes);
            if let Some((block, buf)) = got.block {
                self.tell(Event::Block { peer: id, block, buf });
            }
            let goes_on = if got.spread {
                self.sort(id, &mut landing, got.beyond)
            } else if shaking {
                self.greet(id, &mut landing.scratch[..got.beyond])
            } else {
                self.digest(id, &landing.scratch[..got.beyond])
            };
            if !goes_on || got.short {
                break;
            }
        }
        self.landing = landing;
    }

    /// Tells the session all that is in `landing`, headers and blocks by turns, or not, `count` bytes. False: the
    /// connection is gone, or has to wait and keeps the rest.
    fn sort(&mut self, id: PeerId, landing: &mut Landing, count: usize) -> bool {
        let (mut left, mut goes_on) = (count, true);
        let mut next = |most: usize| {
            let n = left.min(most);
            left -= n;
            n
        };
        for (head, buf) in landing.places() {
            let (in_head, in_buf) = (next(HEAD), next(BLOCK as usize));
            goes_on = self.digest_or_keep(id, &head[..in_head], goes_on);
            let adopted = match self.conns.get_mut(id) {
                Some(conn) if goes_on && in_buf > 0 => conn.adopt(buf, in_buf),
                _ => Adopted::Nothing,
            };
            match adopted {
                Adopted::Whole(block, buf) => self.tell(Event::Block { peer: id, block, buf }),
                Adopted::Part => {}
                Adopted::Nothing => goes_on = self.digest_or_keep(id, buf.filled(in_buf as u32), goes_on),
            }
        }
        goes_on && self.conns.get_mut(id).is_some()
    }

    /// As [`Reactor::digest`], of one that may have to wait already.
    fn digest_or_keep(&mut self, id: PeerId, input: &[u8], goes_on: bool) -> bool {
        if goes_on && !input.is_empty() {
            return self.digest(id, input);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.keep(input);
        }
        goes_on
    }

    /// Tells the session all that is in `input`. False: the connection is gone, or has to wait and keeps the rest.
    pub(super) fn digest(&mut self, id: PeerId, mut input: &[u8]) -> bool {
        loop {
            let Some(conn) = self.conns.get_mut(id) else { return false };
            match conn.next(&mut input) {
                Ok(Some(Found::Piece(block))) => {
                    if !self.admit(id, block, input) {
                        return false;
                    }
                }
                Ok(Some(Found::Block(block, buf))) => self.tell(Event::Block { peer: id, block, buf }),
                Ok(Some(Found::Message(message))) => self.tell(Event::Message { peer: id, message }),
                Ok(Some(Found::InfoHash(info_hash))) => self.tell(Event::InfoHash { peer: id, info_hash }),
                Ok(Some(Found::Handshake(handshake))) => self.tell(Event::Handshake { peer: id, handshake }),
                Ok(None) => return true,
                Err(error) => {
                    log::debug!("{id} sent nonsense: {error}");
                    self.lose(id, Why::Protocol(fault(error)));
                    return false;
                }
            }
        }
    }

    /// Asks the session where the payload that is next goes. False: the connection is gone, or has to wait and keeps
    /// `rest`.
    fn admit(&mut self, id: PeerId, block: Block, rest: &[u8]) -> bool {
        let admitted = self.conns.get_mut(id).is_some_and(|conn| std::mem::take(&mut conn.admitted));
        let intake = if admitted { Intake::Take } else { self.session.intake(id, block, self.now) };
        let mut waits = intake == Intake::Wait;
        match (self.conns.get_mut(id), intake) {
            (None, _) | (_, Intake::Wait) => {}
            (Some(conn), Intake::Skip) => conn.skip(),
            (Some(conn), Intake::Take) => match self.pool.take() {
                Some(buf) => conn.take(buf),
                None => {
                    (conn.admitted, waits) = (true, true);
                    self.act_with_buffers(Deferred::Block(id));
                }
            },
        }
        if waits {
            self.hold(id, rest);
        }
        self.carry_out();
        !waits && self.conns.get_mut(id).is_some()
    }

    /// Has a connection wait with the block whose header was read; `rest` was read after that.
    fn hold(&mut self, id: PeerId, rest: &[u8]) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.wait(rest);
            self.waiting += 1;
            self.heed(id);
        }
    }

    /// Those that waited and may go on ask again, and first use up what they kept. A later wish to go on comes next turn.
    pub(super) fn go_on(&mut self) {
        for id in std::mem::take(&mut self.resumed) {
            let Some((block, stash)) = self.conns.get_mut(id).and_then(Conn::go_on) else { continue };
            self.waiting -= 1;
            if self.admit(id, block, &stash) {
                self.digest(id, &stash);
            }
            self.heed(id);
        }
    }

    /// Puts something into an outbox.
    pub(super) fn say(&mut self, id: PeerId, push: impl FnOnce(&mut Outbox)) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.outbox.is_empty() {
            conn.moved = self.now;
        }
        let (from, before) = (conn.outbox.end(), conn.outbox.small());
        push(&mut conn.outbox);
        if let Some(cipher) = conn.crypt.writes() {
            conn.outbox.encrypt(from, cipher);
        }
        let small = conn.outbox.small();
        let left = limits::OUTBOXES_MAX.saturating_sub(self.unsent_small);
        self.unsent_small += small - before;
        let most = limits::OUTBOX_MAX.min(left / limits::OUTBOXES_PART);
        // What was empty takes one message of any length: who has read all is not closed for what others leave.
        if small > most && (before > 0 || small > limits::MESSAGE_MAX as usize + 4) {
            self.drop_peer(id, Why::Stalled);
            self.lost.push_back((id, Why::Stalled));
        } else if !conn.dirty && !conn.blocked {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    /// One write for each connection with something to say. What that makes others say waits for the next turn.
    pub(super) fn flush(&mut self) {
        let mut line = std::mem::take(&mut self.dirty);
        for id in line.drain(..) {
            self.write(id);
        }
        // The memory serves the next turn, unless somebody is in line again.
        if self.dirty.is_empty() {
            self.dirty = line;
        }
    }

    fn write(&mut self, id: PeerId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.dirty = false;
        if conn.connecting || conn.blocked {
            return;
        }
        let before = conn.outbox.small();
        let written = conn.outbox.write(&mut &conn.stream, &mut self.pool, limits::BURST);
        self.unsent_small -= before - conn.outbox.small();
        let sent = match written {
            Ok(sent) => sent,
            Err(error) => return self.lose(id, Why::Io(kind_of(&error))),
        };
        if sent.bytes > 0 {
            conn.moved = self.now;
        }
        conn.blocked = !conn.outbox.is_empty();
        if conn.blocked && !conn.watched {
            conn.watched = true;
            self.stalls.push(Reverse((conn.moved + limits::STALL, id)));
        }
        self.heed(id);
        if sent.blocks > 0 {
            self.tell(Event::Sent { peer: id, blocks: sent.blocks, bytes: sent.payload });
        }
    }

    /// Closes connections whose outbox has not moved for too long.
    pub(super) fn end_stalls(&mut self) {
        while let Some(Reverse((at, id))) = self.stalls.peek().copied()
            && at <= self.now
        {
            self.stalls.pop();
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let until = conn.moved + limits::STALL;
            if conn.outbox.is_empty() {
                conn.watched = false;
            } else if until > self.now {
                self.stalls.push(Reverse((until, id)));
            } else {
                self.lose(id, Why::Stalled);
            }
        }
    }
}

/// What a peer did wrong, for the one who remembers it.
pub(super) fn fault(error: Error) -> &'static str {
    match error {
        Error::NotBitTorrent => "not a BitTorrent handshake",
        Error::Length { .. } => "a message of the wrong length",
        Error::TooLong(_) => "a message that is too long",
    }
}
