//! The handshake of one connection, either side of it: bytes in, steps out. It computes no powers itself.

use super::dh::GENERATOR;
use super::{Error, Key, Method, Methods, Power, Rc4, hash};
use crate::base::rng::Rng;
use crate::limits::MSE_PADDING_MAX;
use crate::proto::id::InfoHash;
use std::collections::VecDeque;

/// What has to be done next.
#[derive(Debug)]
pub enum Step {
    /// Compute this, and tell [`Shake::powered`].
    Power(Power),
    /// Find the torrent whose [`request_name`](super::request_name) this is, and tell [`Shake::found`].
    Find([u8; 20]),
    /// It is over: the rest of the input is payload.
    Done(Box<Agreed>),
}

/// What the two agreed on.
pub struct Agreed {
    /// How the payload goes.
    pub method: Method,
    /// What is to be sent before it.
    pub say: Vec<u8>,
    /// So many bytes that come next are encrypted whatever the method: the initial payload.
    pub initial: u16,
    /// Decrypts what comes.
    pub reads: Rc4,
    /// Encrypts what goes.
    pub writes: Rc4,
}

impl std::fmt::Debug for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agreed({:?}, {} bytes follow)", self.method, self.initial)
    }
}

/// The bytes that must be zeros once decrypted (the spec's VC).
const CHECK: [u8; 8] = [0; 8];

enum Role {
    /// We dialled, for this torrent; the first payload goes along.
    Dials {
        torrent: InfoHash,
        initial: Vec<u8>,
    },
    Answers,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Our key is to be computed.
    Begin,
    /// It is being computed.
    Ours,
    /// The other side's key is coming in.
    Theirs,
    /// The secret is to be computed.
    Share,
    /// It is being computed.
    Shared,
    /// Padding comes, and what ends it: so many bytes have come.
    Marker(usize),
    /// The torrent's name is coming in.
    Name,
    /// It is being looked for.
    Finding,
    /// The methods are coming in, and the length of more padding.
    Offer,
    /// So many bytes of padding are coming in.
    Padding(u16),
    /// The length of the initial payload is coming in.
    Initial,
    Done,
}

/// A handshake that is under way: less than a KiB, and up to [`MSE_PADDING_MAX`] bytes that came early.
pub struct Shake {
    role: Role,
    methods: Methods,
    rng: Rng,
    secret: [u8; 20],
    phase: Phase,
    /// The start of what is coming in, or the last bytes of padding.
    held: Vec<u8>,
    /// What came while a power was being computed.
    early: VecDeque<u8>,
    ours: Key,
    theirs: Key,
    shared: Key,
    /// What ends the first padding.
    marker: Vec<u8>,
    /// For what goes, for what comes.
    ciphers: Option<(Rc4, Rc4)>,
    method: Method,
}

impl Shake {
    /// The side that dialled, which offers `methods`; `initial` is the first payload, our handshake. All chance is `rng`.
    pub fn dial(torrent: InfoHash, initial: Vec<u8>, methods: Methods, rng: Rng) -> Shake {
        Shake::new(Role::Dials { torrent, initial }, Phase::Begin, methods, rng)
    }

    /// The side that was called.
    pub fn answer(methods: Methods, rng: Rng) -> Shake {
        Shake::new(Role::Answers, Phase::Theirs, methods, rng)
    }

    fn new(role: Role, phase: Phase, methods: Methods, mut rng: Rng) -> Shake {
        let mut secret = [0; 20];
        rng.fill(&mut secret);
        Shake {
            role,
            methods,
            rng,
            secret,
            phase,
            held: Vec::new(),
            early: VecDeque::new(),
            ours: [0; 96],
            theirs: [0; 96],
            shared: [0; 96],
            marker: Vec::new(),
            ciphers: None,
            method: Method::Rc4,
        }
    }

    /// Takes the bytes of the next step off the front of `input`. None: all of it is used, or the answer to the last
    /// step is awaited. An error is final. To be asked once at the start and after each answer, also without input.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Step>, Error> {
        loop {
            match self.phase {
                Phase::Begin => {
                    self.phase = Phase::Ours;
                    return Ok(Some(self.power(GENERATOR)));
                }
                Phase::Share => {
                    self.phase = Phase::Shared;
                    return Ok(Some(self.power(self.theirs)));
                }
                Phase::Ours | Phase::Shared => return self.hold(input).map(|()| None),
                Phase::Finding | Phase::Done => return Ok(None),
                _ => {}
            }
            let Some(byte) = self.early.pop_front().or_else(|| take(input)) else { return Ok(None) };
            if let Some(step) = self.on_byte(byte)? {
                return Ok(Some(step));
            }
        }
    }

    fn power(&self, base: Key) -> Step {
        Step::Power(Power { base, secret: self.secret })
    }

    /// Keeps what comes while a power is being computed: nothing but padding can.
    fn hold(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        let first = self.phase == Phase::Ours && matches!(self.role, Role::Dials { .. });
        if input.len() + self.early.len() > if first { 0 } else { MSE_PADDING_MAX } {
            return Err(Error::Early);
        }
        self.early.extend(std::mem::take(input));
        Ok(())
    }

    /// The power of the last step; gives what is to be sent now.
    pub fn powered(&mut self, power: &Key) -> Vec<u8> {
        match (self.phase, &self.role) {
            (Phase::Ours, Role::Dials { .. }) => {
                self.phase = Phase::Theirs;
                self.hello(power)
            }
            (Phase::Ours, Role::Answers) => {
                // Said once the secret is there: who has it may go on at once, with more than we want to keep.
                self.ours = *power;
                self.phase = Phase::Share;
                Vec::new()
            }
            (Phase::Shared, Role::Answers) => {
                self.shared = *power;
                self.marker = hash(&[b"req1", power]).to_vec();
                self.phase = Phase::Marker(0);
                let ours = self.ours;
                self.hello(&ours)
            }
            (Phase::Shared, Role::Dials { torrent, .. }) => {
                self.shared = *power;
                let torrent = *torrent;
                self.request(torrent)
            }
            _ => {
                debug_assert!(false, "no power was asked for");
                Vec::new()
            }
        }
    }

    /// Our key, and padding.
    fn hello(&mut self, key: &Key) -> Vec<u8> {
        let mut say = key.to_vec();
        say.extend(self.padding());
        say
    }

    /// What the dialling side says once it knows the secret.
    fn request(&mut self, torrent: InfoHash) -> Vec<u8> {
        let initial = match &mut self.role {
            Role::Dials { initial, .. } => std::mem::take(initial),
            Role::Answers => Vec::new(),
        };
        let name = xor(super::request_name(torrent), hash(&[b"req3", &self.shared]));
        let mut say = [hash(&[b"req1", &self.shared]), name].concat();
        let clear = say.len();
        let padding = self.padding();
        say.extend_from_slice(&CHECK);
        say.extend_from_slice(&self.methods.bits.to_be_bytes());
        say.extend_from_slice(&(padding.len() as u16).to_be_bytes());
        say.extend(padding);
        // A handshake: far below what the length can say.
        say.extend_from_slice(&(initial.len() as u16).to_be_bytes());
        say.extend(initial);
        let (mut writes, mut reads) = (self.cipher(b"keyA", torrent), self.cipher(b"keyB", torrent));
        writes.apply(&mut say[clear..]);
        let mut marker = CHECK;
        reads.apply(&mut marker);
        self.marker = marker.to_vec();
        self.ciphers = Some((writes, reads));
        self.phase = Phase::Marker(0);
        say
    }

    /// The torrent of the last step, if we have it.
    pub fn found(&mut self, torrent: Option<InfoHash>) -> Result<(), Error> {
        let torrent = torrent.ok_or(Error::UnknownTorrent)?;
        self.ciphers = Some((self.cipher(b"keyB", torrent), self.cipher(b"keyA", torrent)));
        self.phase = Phase::Offer;
        Ok(())
    }

    fn cipher(&self, label: &[u8], torrent: InfoHash) -> Rc4 {
        Rc4::stream(&hash(&[label, &self.shared, &torrent.0]))
    }

    pub(super) fn padding(&mut self) -> Vec<u8> {
        let mut padding = vec![0; self.rng.index(MSE_PADDING_MAX + 1)];
        self.rng.fill(&mut padding);
        padding
    }

    fn on_byte(&mut self, mut byte: u8) -> Result<Option<Step>, Error> {
        if let (Phase::Offer | Phase::Padding(_) | Phase::Initial, Some((_, reads))) =
            (self.phase, &mut self.ciphers)
        {
            reads.apply(std::slice::from_mut(&mut byte));
        }
        let phase = self.phase;
        match phase {
            Phase::Marker(came) => self.search(byte, came)?,
            Phase::Padding(left) => return self.pass(left - 1),
            Phase::Theirs if self.collect(byte, 96) => {
                self.theirs.copy_from_slice(&self.held);
                self.held.clear();
                let dials = matches!(self.role, Role::Dials { .. });
                self.phase = if dials { Phase::Share } else { Phase::Begin };
            }
            Phase::Name if self.collect(byte, 20) => {
                let mut name = [0; 20];
                name.copy_from_slice(&self.held);
                self.held.clear();
                self.phase = Phase::Finding;
                return Ok(Some(Step::Find(xor(name, hash(&[b"req3", &self.shared])))));
            }
            Phase::Offer => return self.on_offer(byte),
            Phase::Initial if self.collect(byte, 2) => {
                let initial = number(&self.held) as u16;
                return self.agree(initial).map(Some);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Adds a byte; tells whether so many are there.
    fn collect(&mut self, byte: u8, upto: usize) -> bool {
        self.held.push(byte);
        self.held.len() == upto
    }

    /// Looks for the end of the padding, `came` bytes of which have been looked at.
    fn search(&mut self, byte: u8, came: usize) -> Result<(), Error> {
        self.held.push(byte);
        if self.held.len() > self.marker.len() {
            self.held.remove(0);
        }
        if self.held == self.marker {
            self.held.clear();
            let dials = matches!(self.role, Role::Dials { .. });
            self.phase = if dials { Phase::Offer } else { Phase::Name };
        } else if came + 1 >= MSE_PADDING_MAX + self.marker.len() {
            return Err(Error::NoMarker);
        } else {
            self.phase = Phase::Marker(came + 1);
        }
        Ok(())
    }

    /// What the other side offers, or what it selects of our offer.
    fn on_offer(&mut self, byte: u8) -> Result<Option<Step>, Error> {
        let answers = matches!(self.role, Role::Answers);
        // The dialling side has found the check as the marker.
        let start = if answers { CHECK.len() } else { 0 };
        if !self.collect(byte, start + 6) {
            return Ok(None);
        }
        let (check, rest) = self.held.split_at(start);
        let (bits, padding) = (number(&rest[..4]), number(&rest[4..]) as u16);
        if check != &CHECK[..start] {
            return Err(Error::Check);
        }
        self.method = if answers {
            self.methods.choose(bits).ok_or(Error::NoMethod(bits))?
        } else {
            self.methods.chosen(bits).ok_or(Error::NotOffered(bits))?
        };
        if usize::from(padding) > MSE_PADDING_MAX {
            return Err(Error::Padding(padding));
        }
        self.held.clear();
        self.pass(padding)
    }

    /// So much padding is left.
    fn pass(&mut self, left: u16) -> Result<Option<Step>, Error> {
        self.phase = Phase::Padding(left);
        match (left, &self.role) {
            (1.., _) => Ok(None),
            (0, Role::Dials { .. }) => self.agree(0).map(Some),
            (0, Role::Answers) => {
                self.phase = Phase::Initial;
                Ok(None)
            }
        }
    }

    fn agree(&mut self, initial: u16) -> Result<Step, Error> {
        self.phase = Phase::Done;
        // Who knew the secret before it was agreed on did not wait for its turn.
        let (Some((mut writes, reads)), true) = (self.ciphers.take(), self.early.is_empty()) else {
            return Err(Error::Early);
        };
        let (method, mut say) = (self.method, Vec::new());
        if matches!(self.role, Role::Answers) {
            let padding = self.padding();
            let bits = if method == Method::Plain { Methods::PLAIN.bits } else { Methods::RC4.bits };
            say.extend_from_slice(&CHECK);
            say.extend_from_slice(&bits.to_be_bytes());
            say.extend_from_slice(&(padding.len() as u16).to_be_bytes());
            say.extend(padding);
            writes.apply(&mut say);
        }
        Ok(Step::Done(Box::new(Agreed { method, say, initial, reads, writes })))
    }
}

fn take(input: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = input.split_first()?;
    *input = rest;
    Some(*byte)
}

fn xor(a: [u8; 20], b: [u8; 20]) -> [u8; 20] {
    std::array::from_fn(|n| a[n] ^ b[n])
}

/// A number of up to four bytes, big endian.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

/// Feeds `data` to either side, whole, in odd parts and byte by byte, with powers that are easy to know, and asserts that
/// the outcome is the same and that little is kept.
#[doc(hidden)]
pub fn fuzz_mse(data: &[u8]) {
    let Some((plan, data)) = data.split_first() else { return };
    let whole = run(data, *plan, usize::MAX);
    assert_eq!(whole, run(data, *plan, 1));
    assert_eq!(whole, run(data, *plan, usize::from(plan >> 3) + 2));
}

/// The torrent of [`fuzz_mse`].
const FUZZED: InfoHash = InfoHash([9; 20]);

/// One side under test.
struct Fuzzed {
    shake: Shake,
    said: Vec<u8>,
    power: Option<Power>,
}

impl Fuzzed {
    fn end(&self, how: impl std::fmt::Display) -> String {
        format!("{how} {:?}", hash(&[&self.said]))
    }

    /// Takes the input; gives the outcome once there is one.
    fn feed(&mut self, mut input: &[u8], left: usize) -> Option<String> {
        loop {
            let step = self.shake.next(&mut input);
            assert!(self.shake.early.len() <= MSE_PADDING_MAX && self.shake.held.len() <= 96);
            match step {
                Err(error) => return Some(self.end(error)),
                Ok(None) => return None,
                Ok(Some(Step::Power(power))) => self.power = Some(power),
                Ok(Some(Step::Find(name))) => {
                    let torrent = (name == super::request_name(FUZZED)).then_some(FUZZED);
                    if let Err(error) = self.shake.found(torrent) {
                        return Some(self.end(error));
                    }
                }
                Ok(Some(Step::Done(agreed))) => {
                    self.said.extend_from_slice(&agreed.say);
                    return Some(self.end(format_args!("{agreed:?} {}", input.len() + left)));
                }
            }
        }
    }
}

fn run(mut data: &[u8], plan: u8, part: usize) -> String {
    let methods = [Methods::ANY, Methods::RC4, Methods::PLAIN, Methods::ANY][usize::from(plan >> 1) & 3];
    let rng = Rng::new([plan; 32]);
    let shake = match plan & 1 {
        0 => Shake::answer(methods, rng),
        _ => Shake::dial(FUZZED, vec![7; 68], methods, rng),
    };
    let mut side = Fuzzed { shake, said: Vec::new(), power: None };
    // Powers come at fixed places of the stream, or the splits would make a difference.
    let (mut taken, mut due) = (0, true);
    loop {
        let next = [96, 196].into_iter().find(|at| *at > taken).unwrap_or(usize::MAX);
        let (input, rest) =
            if due { (&[][..], data) } else { data.split_at(data.len().min(part).min(next - taken)) };
        (taken, data) = (taken + input.len(), rest);
        if let Some(end) = side.feed(input, data.len()) {
            return end;
        }
        due = [0, 96, 196].contains(&taken) && !due || data.is_empty();
        match side.power.take_if(|_| due || taken == 0) {
            // The base stands for the power.
            Some(power) => side.said.extend(side.shake.powered(&power.base)),
            None if data.is_empty() => return side.end(format_args!("{:?}", side.shake.phase)),
            None => due = false,
        }
    }
}
