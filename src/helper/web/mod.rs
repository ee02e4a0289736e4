//! Web seeds (BEP 19): threads that fetch ranges of files over HTTP and HTTPS into the buffers that they are lent. Each
//! does what it is ordered in turn, over one connection that stays for the next range, and hands over block by block.
//! Between reads it looks whether it is to stop; nobody waits for it at the end of the program.

mod exchange;
mod whole_file;

use super::{Client, STACK, clock};
use crate::api::{WebFailure, WebGet, WebOrder, WebPart, WebSaid};
use crate::base::buf::Buf;
use crate::base::wake::Wake;
use crate::limits::{WEB_BUFS, WEB_FETCHES, WEB_GETS, WEB_KEPT};
use crate::proto::layout::Block;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use exchange::{Conn, useless};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// What all threads may have said that nobody has heard yet.
pub const SAID_MAX: usize = WEB_FETCHES * (ORDERS_MAX + 1);
/// What one thread may have been told that it has not heard yet: gets, buffers, a stop.
const ORDERS_MAX: usize = WEB_GETS + WEB_BUFS + 1;

/// The threads: none at first, each started at its first order.
pub struct Web {
    client: Client,
    said: Sender<(u8, WebSaid)>,
    wake: Arc<Wake>,
    threads: [Option<Sender<WebOrder>>; WEB_FETCHES],
}

impl Web {
    /// No thread yet. `said` must have room for [`SAID_MAX`]; `wake` rings after what is said.
    pub fn new(client: Client, said: Sender<(u8, WebSaid)>, wake: Arc<Wake>) -> Web {
        Web { client, said, wake, threads: [const { None }; WEB_FETCHES] }
    }

    /// Tells a thread something. Never blocks: an order that finds no room comes back.
    pub fn order(&mut self, slot: u8, order: WebOrder) -> Result<(), WebOrder> {
        let Some(place) = self.threads.get_mut(usize::from(slot)) else { return Err(order) };
        if place.is_none() {
            let (orders, heard) = bounded(ORDERS_MAX);
            let thread = Thread::new(slot, self.client.clone(), heard, self.said.clone(), self.wake.clone());
            let name = format!("ptorrent-web-{slot}");
            match thread::Builder::new().name(name).stack_size(STACK).spawn(move || thread.run()) {
                Ok(_) => *place = Some(orders),
                Err(error) => {
                    self.refuse(slot, order, &error);
                    return Ok(());
                }
            }
        }
        match place {
            Some(orders) => orders.try_send(order).map_err(TrySendError::into_inner),
            None => Err(order),
        }
    }

    /// There is no thread: what it would say.
    fn refuse(&self, slot: u8, order: WebOrder, error: &io::Error) {
        let said = match order {
            WebOrder::Get(_) => {
                WebSaid::Failed(WebFailure::Network(format!("cannot start a thread: {error}")))
            }
            WebOrder::Lend(buf) => WebSaid::Back(buf),
            WebOrder::Stop => WebSaid::Stopped,
        };
        // The net thread is the one that would take it, so this must not wait; there is room.
        let full = matches!(self.said.try_send((slot, said)), Err(TrySendError::Full(_)));
        debug_assert!(!full, "more said than the channel has room for");
        self.wake.ring();
    }
}

/// What comes next.
enum Item {
    Part(WebPart),
    /// The end of a get.
    End,
}

/// Why a thread does not go on with what it has in hand.
enum Halt {
    Failed(WebFailure),
    /// It was told to; all is dropped.
    Stopped,
    /// The program ends.
    Gone,
}

type Step<T> = Result<T, Halt>;

struct Thread {
    slot: u8,
    client: Client,
    orders: Receiver<WebOrder>,
    said: Sender<(u8, WebSaid)>,
    wake: Arc<Wake>,
    items: VecDeque<Item>,
    /// Blocks to come, and buffers for the first of them, of which the very first has some bytes.
    blocks: VecDeque<Block>,
    bufs: VecDeque<Buf>,
    filled: u32,
    conn: Option<Conn>,
    /// Of the last order: see [`WebGet`].
    skip_rate: Option<u64>,
    /// Until it is told to stop it drops what it hears.
    failed: bool,
    /// Since when the server owes us a head or a block.
    since: Instant,
}

/// What is read at a time where it cannot go into a buffer at once.
const PART: usize = 16 << 10;
impl Thread {
    fn new(
        slot: u8,
        client: Client,
        orders: Receiver<WebOrder>,
        said: Sender<(u8, WebSaid)>,
        wake: Arc<Wake>,
    ) -> Thread {
        Thread {
            slot,
            client,
            orders,
            said,
            wake,
            items: VecDeque::new(),
            blocks: VecDeque::new(),
            bufs: VecDeque::new(),
            filled: 0,
            conn: None,
            skip_rate: None,
            failed: false,
            since: clock(),
        }
    }

    fn run(mut self) {
        loop {
            match self.step() {
                Ok(()) | Err(Halt::Stopped) => {}
                Err(Halt::Failed(failure)) => {
                    let failure = self.blame(failure);
                    self.say(WebSaid::Failed(failure));
                    self.drop_all();
                    self.failed = true;
                }
                Err(Halt::Gone) => return,
            }
        }
    }

    fn step(&mut self) -> Step<()> {
        match self.items.front() {
            None => self.idle(),
            Some(Item::End) => {
                self.items.pop_front();
                self.say(WebSaid::Done);
                Ok(())
            }
            Some(Item::Part(WebPart::Zeros(len))) => {
                self.zeros(*len)?;
                self.items.pop_front();
                Ok(())
            }
            Some(Item::Part(WebPart::Range { .. })) => {
                self.range()?;
                self.items.pop_front();
                Ok(())
            }
        }
    }

    /// Sleeps until there is something to do. A connection without use is closed after a while.
    fn idle(&mut self) -> Step<()> {
        let order = match &self.conn {
            Some(_) => match self.orders.recv_timeout(WEB_KEPT) {
                Err(RecvTimeoutError::Timeout) => {
                    self.conn = None;
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Halt::Gone),
                Ok(order) => order,
            },
            None => self.orders.recv().map_err(|_| Halt::Gone)?,
        };
        self.take(order)
    }

    fn take(&mut self, order: WebOrder) -> Step<()> {
        match order {
            WebOrder::Get(get) if !self.failed => self.add(*get),
            WebOrder::Get(_) => {}
            WebOrder::Lend(buf) if self.failed => self.say(WebSaid::Back(buf)),
            WebOrder::Lend(buf) => self.bufs.push_back(buf),
            WebOrder::Stop => {
                self.drop_all();
                self.failed = false;
                self.say(WebSaid::Stopped);
                return Err(Halt::Stopped);
            }
        }
        Ok(())
    }

    fn add(&mut self, get: WebGet) {
        let due: u64 = get.blocks.iter().map(|block| u64::from(block.len)).sum();
        let len = |part: &WebPart| match part {
            WebPart::Range { len, .. } | WebPart::Zeros(len) => *len,
        };
        debug_assert_eq!(due, get.parts.iter().map(len).sum::<u64>(), "parts make the blocks");
        self.skip_rate = get.skip_rate;
        self.blocks.extend(get.blocks);
        self.items.extend(get.parts.into_iter().map(Item::Part));
        self.items.push_back(Item::End);
    }

    /// Hears what was said meanwhile.
    fn heed(&mut self) -> Step<()> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.take(order)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Halt::Gone),
            }
        }
    }

    /// Waits for a buffer; that time is not the server's.
    fn want_buf(&mut self) -> Step<()> {
        while self.bufs.is_empty() {
            let order = self.orders.recv().map_err(|_| Halt::Gone)?;
            self.take(order)?;
            self.since = clock();
        }
        Ok(())
    }

    fn drop_all(&mut self) {
        // A connection in the middle of an answer is of no more use; one at rest is.
        if !self.items.is_empty() {
            self.conn = None;
        }
        self.items.clear();
        self.blocks.clear();
        self.filled = 0;
        while let Some(buf) = self.bufs.pop_front() {
            self.say(WebSaid::Back(buf));
        }
    }

    fn say(&self, said: WebSaid) {
        self.whisper(said);
        self.wake.ring();
    }

    /// Says something for which the bell is rung later.
    fn whisper(&self, said: WebSaid) {
        if let Err(TrySendError::Full(said)) = self.said.try_send((self.slot, said)) {
            debug_assert!(false, "more said than the channel has room for");
            self.wake.ring();
            let _ = self.said.send(said);
        }
    }

    /// So many bytes are in the buffers: what is whole goes out.
    fn advance(&mut self, mut len: u64) {
        let mut whole = false;
        while len > 0
            && let Some(block) = self.blocks.front().copied()
        {
            let room = block.len - self.filled;
            if len < u64::from(room) {
                self.filled += len as u32;
                break;
            }
            len -= u64::from(room);
            self.filled = 0;
            self.blocks.pop_front();
            if let Some(buf) = self.bufs.pop_front() {
                self.whisper(WebSaid::Block(block, buf));
                whole = true;
            }
        }
        if whole {
            self.since = clock();
            self.wake.ring();
        }
    }

    /// The room of the first buffer that is left.
    fn room(&mut self) -> &mut [u8] {
        let (from, to) = (self.filled as usize, self.blocks.front().map_or(0, |block| block.len as usize));
        match self.bufs.front_mut() {
            Some(buf) => buf.space().get_mut(from..to).unwrap_or_default(),
            None => &mut [],
        }
    }

    /// Puts bytes that are here already into the buffers.
    fn put(&mut self, mut bytes: &[u8]) -> Step<()> {
        while !bytes.is_empty() {
            self.want_buf()?;
            let room = self.room();
            let len = room.len().min(bytes.len());
            if len == 0 {
                return useless("the answer is longer than it said");
            }
            room[..len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            self.advance(len as u64);
        }
        Ok(())
    }

    fn zeros(&mut self, mut len: u64) -> Step<()> {
        const ZEROS: [u8; PART] = [0; PART];
        while len > 0 {
            self.heed()?;
            let step = len.min(PART as u64);
            self.put(&ZEROS[..step as usize])?;
            len -= step;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
