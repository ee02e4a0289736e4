//! How the bytes of a connection pass: as they are, through an encrypted handshake, or by RC4. What was read is
//! decrypted where it lies; what is to be sent is encrypted where it lies once it has its place in the stream.

use super::Reactor;
use super::conn::Conn;
use super::traffic::fault;
use crate::api::{Event, PeerId, Why};
use crate::base::rng::Rng;
use crate::limits::MSE_POWERS_OUT;
use crate::proto::mse::{Agreed, Error, Key, Method, Methods, Power, Rc4, Shake, Step};
use crate::proto::wire::Handshake;
use crate::proto::wire::handshake::PREFIX;

/// The state of a connection's encryption.
pub(super) enum Crypt {
    /// There is none.
    Plain,
    /// It came in: so many of its first bytes are those of a handshake in the clear, which may be chance.
    Detect(u8),
    /// We dialled: the handshake that comes next is to go encrypted.
    Wanted(Methods),
    /// The encrypted handshake is under way.
    Shaking(Box<Shake>),
    /// It is over.
    Open(Box<Ciphers>),
}

/// The two directions after an encrypted handshake.
pub(super) struct Ciphers {
    reads: Option<Rc4>,
    /// So many bytes are still to be decrypted; None: all.
    left: Option<u16>,
    writes: Option<Rc4>,
}

impl Crypt {
    /// Of a connection that came in.
    pub(super) fn of_incoming(methods: Option<Methods>) -> Crypt {
        if methods.is_some() { Crypt::Detect(0) } else { Crypt::Plain }
    }

    /// Whether what comes is not yet for the decoder.
    pub(super) fn is_shaking(&self) -> bool {
        matches!(self, Crypt::Detect(_) | Crypt::Shaking(_))
    }

    /// What encrypts what is sent, if that is encrypted.
    pub(super) fn writes(&mut self) -> Option<&mut Rc4> {
        if let Crypt::Open(ciphers) = self { ciphers.writes.as_mut() } else { None }
    }

    /// Decrypts what comes next, in place.
    pub(super) fn decrypt(&mut self, data: &mut [u8]) {
        let Crypt::Open(ciphers) = self else { return };
        let Some(reads) = &mut ciphers.reads else { return };
        let Some(left) = &mut ciphers.left else { return reads.apply(data) };
        let n = data.len().min(usize::from(*left));
        reads.apply(&mut data[..n]);
        *left -= n as u16;
        if *left == 0 {
            ciphers.reads = None;
            if ciphers.writes.is_none() {
                *self = Crypt::Plain;
            }
        }
    }

    fn open(agreed: Agreed) -> Crypt {
        let Agreed { method, initial, reads, writes, .. } = agreed;
        match (method, initial) {
            (Method::Rc4, _) => {
                Crypt::Open(Box::new(Ciphers { reads: Some(reads), left: None, writes: Some(writes) }))
            }
            (Method::Plain, 0) => Crypt::Plain,
            (Method::Plain, n) => {
                Crypt::Open(Box::new(Ciphers { reads: Some(reads), left: Some(n), writes: None }))
            }
        }
    }
}

impl Reactor {
    /// A connection that we dialled is to begin with an encrypted handshake.
    pub(super) fn encrypt(&mut self, id: PeerId, methods: Methods) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.crypt = Crypt::Wanted(methods);
        }
    }

    /// Says our handshake, as the first thing in the clear or along with the encrypted one.
    pub(super) fn say_handshake(&mut self, id: PeerId, handshake: &Handshake) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Crypt::Wanted(methods) = conn.crypt else {
            return self.say(id, |outbox| outbox.push(&handshake.encode()));
        };
        let (initial, rng) = (handshake.encode().to_vec(), Rng::new(self.rng.seed()));
        conn.crypt = Crypt::Shaking(Box::new(Shake::dial(handshake.info_hash, initial, methods, rng)));
        if let Err(why) = self.step(id, &mut &[][..]) {
            self.drop_peer(id, why);
            self.lost.push_back((id, why));
        }
    }

    /// Takes the first bytes of a connection, until its encryption is clear. False: the connection is gone, or has to
    /// wait and keeps the rest.
    pub(super) fn greet(&mut self, id: PeerId, input: &mut [u8]) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let mut at = 0;
        if let Crypt::Detect(matched) = conn.crypt {
            let known = usize::from(matched);
            at = PREFIX[known..].iter().zip(&*input).take_while(|(a, b)| a == b).count();
            conn.crypt = Crypt::Detect((known + at) as u8);
            if known + at == PREFIX.len() {
                conn.crypt = Crypt::Plain;
                return self.digest(id, PREFIX) && self.digest(id, &input[at..]);
            }
            if at == input.len() {
                return true;
            }
            let Some(methods) = self.answers else { return false };
            let mut shake = Shake::answer(methods, Rng::new(self.rng.seed()));
            // Too few to be more than the start of its key.
            let early = shake.next(&mut &PREFIX[..known + at]);
            debug_assert!(matches!(early, Ok(None)));
            conn.crypt = Crypt::Shaking(Box::new(shake));
        }
        let mut rest = &input[at..];
        let agreed = match self.step(id, &mut rest) {
            Ok(None) => return true,
            Ok(Some(agreed)) => agreed,
            Err(why) => {
                self.lose(id, why);
                return false;
            }
        };
        let at = input.len() - rest.len();
        self.open(id, *agreed);
        let Some(conn) = self.conns.get_mut(id) else { return false };
        conn.crypt.decrypt(&mut input[at..]);
        self.digest(id, &input[at..])
    }

    /// A power that was asked for is computed.
    pub(super) fn on_power(&mut self, id: PeerId, power: &Key) {
        self.powers_out -= 1;
        let Some(Conn { crypt: Crypt::Shaking(shake), .. }) = self.conns.get_mut(id) else { return };
        let say = shake.powered(power);
        self.say(id, |outbox| outbox.push(&say));
        // What came early is padding: there is an end after it only where somebody cheats.
        match self.step(id, &mut &[][..]) {
            Ok(None) => {}
            Ok(Some(_)) => self.lose(id, Why::Protocol("a handshake before its turn")),
            Err(why) => self.lose(id, why),
        }
    }

    /// Does what the handshake asks for, until it needs more bytes or is over.
    fn step(&mut self, id: PeerId, input: &mut &[u8]) -> Result<Option<Box<Agreed>>, Why> {
        loop {
            let Some(Conn { crypt: Crypt::Shaking(shake), .. }) = self.conns.get_mut(id) else {
                return Ok(None);
            };
            match shake.next(input).map_err(wrong)? {
                None => return Ok(None),
                Some(Step::Done(agreed)) => return Ok(Some(agreed)),
                Some(Step::Find(name)) => {
                    shake.found(self.session.requested(&name)).map_err(wrong)?;
                }
                Some(Step::Power(power)) => self.raise(id, power)?,
            }
        }
    }

    fn raise(&mut self, id: PeerId, power: Power) -> Result<(), Why> {
        if self.powers_out == MSE_POWERS_OUT {
            return Err(Why::Busy);
        }
        self.powers_out += 1;
        (self.links.raise)(id, power);
        Ok(())
    }

    /// The encrypted handshake of a connection is over.
    fn open(&mut self, id: PeerId, mut agreed: Agreed) {
        let method = agreed.method;
        let say = std::mem::take(&mut agreed.say);
        self.say(id, |outbox| outbox.push(&say));
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.crypt = Crypt::open(agreed);
        log::debug!("{id} {} encrypted, payload: {method:?}", conn.addr);
        self.tell(Event::Encrypted { peer: id, method });
    }
}

/// Why a connection with such a handshake is closed.
fn wrong(error: Error) -> Why {
    log::debug!("an encrypted handshake failed: {error}");
    match error {
        Error::UnknownTorrent => Why::UnknownTorrent,
        Error::NoMarker => Why::Protocol(fault(crate::proto::wire::Error::NotBitTorrent)),
        _ => Why::Protocol("a wrong encrypted handshake"),
    }
}
