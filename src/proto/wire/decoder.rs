//! Cuts the bytes of a connection into a handshake, messages and payload. It never holds payload: when the header of
//! a piece message is in, it says so and stands still; its owner decides where the payload goes, puts it there and
//! tells how much that was. One for each connection, in the reactor.

use super::message::id;
use super::{Error, Handshake, Message};
use crate::base::buf::BLOCK;
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::layout::Block;
use std::borrow::Cow;

/// What the decoder found next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// The info-hash of a handshake whose peer id has not come yet: some peers wait for our handshake before they send it.
    InfoHash(InfoHash),
    /// The handshake: the first step, or the second one after its info-hash.
    Handshake(Handshake),
    /// A message; never [`Message::Piece`].
    Message(Message<'a>),
    /// The header of a piece message. The payload is next, and waits for [`Decoder::decide`].
    Piece(Block),
}

/// What becomes of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not decided: nothing more is decoded.
    Wait,
    /// The owner reads it to where it belongs and reports with [`Decoder::advance`].
    Take,
    /// The decoder passes over it.
    Skip,
}

/// A payload that is not all in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload {
    /// The block it is said to be.
    pub block: Block,
    /// How many of its bytes have come.
    pub filled: u32,
    /// What becomes of it.
    pub fate: Fate,
}

impl Payload {
    /// How many of its bytes are still to come; never 0.
    pub fn left(&self) -> u32 {
        self.block.len - self.filled
    }
}

/// Where in the stream we are.
enum Phase {
    /// Whether the info-hash was a step already.
    Handshake(bool),
    Head,
    /// What follows the header of a message that is kept whole, of so many bytes, is next.
    Body(Kept, usize),
    Payload(Payload),
    /// So many bytes of an unknown message are passed over.
    Unknown(usize),
}

/// A message that is kept until it is whole.
#[derive(Clone, Copy)]
enum Kept {
    Bitfield,
    /// Of the extension with this id.
    Extended(u8),
}

impl Kept {
    fn message(self, body: Cow<'_, [u8]>) -> Message<'_> {
        match self {
            Kept::Bitfield => Message::Bitfield(body),
            Kept::Extended(id) => Message::Extended { id, body },
        }
    }
}

/// The decoder of one connection. At rest, and between messages, it holds no memory of the heap; at most twice the
/// bytes that came of a bitfield, or of a message of an extension.
pub struct Decoder {
    phase: Phase,
    /// The longest bitfield message, as its length prefix counts.
    bitfield_max: u32,
    /// The start of a handshake, or of a message, whose rest has not come.
    head: [u8; Handshake::LEN],
    held: usize,
    /// The start of what [`Phase::Body`] is about, while its rest has not come.
    body: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder at the start of a connection, before the handshake.
    pub fn new() -> Decoder {
        Decoder {
            phase: Phase::Handshake(false),
            bitfield_max: limits::MESSAGE_SMALL,
            head: [0; Handshake::LEN],
            held: 0,
            body: Vec::new(),
        }
    }

    /// Sets the longest bitfield message, as its length prefix counts (one byte more than the bits take), once the
    /// torrent is known. Until then it is [`limits::MESSAGE_SMALL`], and never above [`limits::MESSAGE_MAX`].
    pub fn set_max(&mut self, len: u32) {
        self.bitfield_max = len.min(limits::MESSAGE_MAX);
    }

    /// Takes the next step's bytes off the front of `input`; when that is empty there is no step. None: `input` is used
    /// up, or a payload is next that waits or is being taken (see [`Decoder::payload`]); its bytes are left in `input`.
    /// An error is final.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Step<'a>>, Error> {
        loop {
            match &mut self.phase {
                Phase::Handshake(_) => return self.handshake(input),
                Phase::Head => match self.head(input)? {
                    None => return Ok(None),
                    Some(Message::Bitfield(_) | Message::Extended { .. }) => {}
                    Some(Message::Piece(block)) => return Ok(Some(Step::Piece(block))),
                    Some(message) => return Ok(Some(Step::Message(message))),
                },
                Phase::Body(kept, len) => {
                    let (kept, len) = (*kept, *len);
                    return Ok(self.body(len, input).map(|body| Step::Message(kept.message(body))));
                }
                Phase::Payload(payload) => {
                    if payload.fate != Fate::Skip {
                        return Ok(None);
                    }
                    let n = input.len().min(payload.left() as usize);
                    *input = &input[n..];
                    if !self.advance(n as u32) {
                        return Ok(None);
                    }
                }
                Phase::Unknown(left) => {
                    let n = input.len().min(*left);
                    *input = &input[n..];
                    *left -= n;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.phase = Phase::Head;
                }
            }
        }
    }

    /// Whether a message starts next.
    pub fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.held == 0
    }

    /// The payload that comes next in the stream, if one does.
    pub fn payload(&self) -> Option<Payload> {
        match self.phase {
            Phase::Payload(payload) => Some(payload),
            _ => None,
        }
    }

    /// Decides what becomes of the payload that is next; the decision may change while it lasts.
    pub fn decide(&mut self, fate: Fate) {
        if let Phase::Payload(payload) = &mut self.phase {
            payload.fate = fate;
        }
    }

    /// The owner has put the next `n` bytes of the stream where the payload belongs. True when that completes it. More
    /// than [`Payload::left`] is the caller's bug.
    pub fn advance(&mut self, n: u32) -> bool {
        let Phase::Payload(payload) = &mut self.phase else { return false };
        debug_assert!(n <= payload.left());
        payload.filled += n.min(payload.left());
        let whole = payload.left() == 0;
        if whole {
            self.phase = Phase::Head;
        }
        whole
    }

    fn handshake<'a>(&mut self, input: &mut &[u8]) -> Result<Option<Step<'a>>, Error> {
        let whole = self.hold(Handshake::LEN, input);
        Handshake::check(&self.head[..self.held])?;
        if whole {
            self.held = 0;
            self.phase = Phase::Head;
            return Ok(Some(Step::Handshake(Handshake::decode(&self.head)?)));
        }
        let is_new = matches!(self.phase, Phase::Handshake(false));
        let info_hash = Handshake::info_hash(&self.head[..self.held]).filter(|_| is_new);
        if info_hash.is_some() {
            self.phase = Phase::Handshake(true);
        }
        Ok(info_hash.map(Step::InfoHash))
    }

    /// The next header, and with it the phase that follows. Where it lies whole in `input` it is read in place.
    fn head(&mut self, input: &mut &[u8]) -> Result<Option<Message<'static>>, Error> {
        if self.held == 0 {
            let need = head_len(input, self.bitfield_max)?;
            if let Some((head, rest)) = input.split_at_checked(need) {
                *input = rest;
                return Ok(Some(self.begin(head)));
            }
        }
        loop {
            let need = head_len(&self.head[..self.held], self.bitfield_max)?;
            if need == self.held {
                self.held = 0;
                let head = self.head;
                return Ok(Some(self.begin(&head[..need])));
            }
            if !self.hold(need, input) {
                return Ok(None);
            }
        }
    }

    /// Reads a whole header and enters the phase that follows it. Of what is kept the body is still to come.
    fn begin(&mut self, head: &[u8]) -> Message<'static> {
        let message = message(head);
        match message {
            Message::Bitfield(_) => {
                self.phase = Phase::Body(Kept::Bitfield, (number(head, 0) - 1) as usize);
            }
            Message::Extended { id, .. } => {
                self.phase = Phase::Body(Kept::Extended(id), (number(head, 0) - 2) as usize);
            }
            Message::Piece(block) => {
                self.phase = Phase::Payload(Payload { block, filled: 0, fate: Fate::Wait });
            }
            Message::Other { len, .. } => self.phase = Phase::Unknown(len as usize),
            _ => {}
        }
        message
    }

    /// The body of a message that is kept: borrowed where it lies whole in `input`, else collected.
    fn body<'a>(&mut self, len: usize, input: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if self.body.is_empty()
            && let Some((body, rest)) = input.split_at_checked(len)
        {
            *input = rest;
            self.phase = Phase::Head;
            return Some(Cow::Borrowed(body));
        }
        // Grows with what came, not with what was announced: an announcement costs a peer nothing.
        let (body, rest) = input.split_at(input.len().min(len - self.body.len()));
        self.body.extend_from_slice(body);
        *input = rest;
        if self.body.len() < len {
            return None;
        }
        self.phase = Phase::Head;
        Some(Cow::Owned(std::mem::take(&mut self.body)))
    }

    /// Moves bytes from `input` until `upto` are held; tells whether they are.
    fn hold(&mut self, upto: usize, input: &mut &[u8]) -> bool {
        let (bytes, rest) = input.split_at(input.len().min(upto - self.held));
        self.head[self.held..self.held + bytes.len()].copy_from_slice(bytes);
        self.held += bytes.len();
        *input = rest;
        self.held == upto
    }
}

/// How long the header at the start of `bytes` is, as far as `bytes` tells: when that is more than there is, more may
/// follow. The length prefix is held against its type here, before anything is kept for it.
fn head_len(bytes: &[u8], bitfield_max: u32) -> Result<usize, Error> {
    const PIECE_MAX: u32 = 9 + BLOCK;
    if bytes.len() < 4 {
        return Ok(4);
    }
    let len = number(bytes, 0);
    if len == 0 {
        return Ok(4);
    }
    if len > limits::MESSAGE_MAX {
        return Err(Error::TooLong(len));
    }
    let Some(&id) = bytes.get(4) else { return Ok(5) };
    match (id, len) {
        (id::CHOKE..=id::NOT_INTERESTED, 1) => Ok(5),
        (id::HAVE, 5) => Ok(9),
        (id::BITFIELD, len) if len <= bitfield_max => Ok(5),
        (id::REQUEST | id::CANCEL, 13) => Ok(17),
        (id::PIECE, 10..=PIECE_MAX) => Ok(13),
        (id::PORT, 3) => Ok(7),
        (id::SUGGEST | id::ALLOWED_FAST, 5) => Ok(9),
        (id::HAVE_ALL | id::HAVE_NONE, 1) => Ok(5),
        (id::REJECT, 13) => Ok(17),
        (id::EXTENDED, 2..=limits::EXTENDED_MAX) => Ok(6),
        (..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST | id::EXTENDED, _) => Err(Error::Length { id, len }),
        (_, len) if len <= limits::MESSAGE_SMALL => Ok(5),
        _ => Err(Error::Length { id, len }),
    }
}

/// The message of a header that is as long as [`head_len`] says; of what is kept, without its body.
fn message(head: &[u8]) -> Message<'static> {
    let len = number(head, 0);
    let block = Block { piece: number(head, 5), begin: number(head, 9), len: number(head, 13) };
    match head.get(4).copied() {
        None => Message::KeepAlive,
        Some(id::CHOKE) => Message::Choke,
        Some(id::UNCHOKE) => Message::Unchoke,
        Some(id::INTERESTED) => Message::Interested,
        Some(id::NOT_INTERESTED) => Message::NotInterested,
        Some(id::HAVE) => Message::Have(number(head, 5)),
        Some(id::BITFIELD) => Message::Bitfield(Cow::Borrowed(&[])),
        Some(id::REQUEST) => Message::Request(block),
        Some(id::PIECE) => Message::Piece(Block { len: len - 9, ..block }),
        Some(id::CANCEL) => Message::Cancel(block),
        Some(id::PORT) => {
            Message::Port(head.get(5..7).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b)))
        }
        Some(id::SUGGEST) => Message::Suggest(number(head, 5)),
        Some(id::HAVE_ALL) => Message::HaveAll,
        Some(id::HAVE_NONE) => Message::HaveNone,
        Some(id::REJECT) => Message::Reject(block),
        Some(id::ALLOWED_FAST) => Message::AllowedFast(number(head, 5)),
        Some(id::EXTENDED) => {
            Message::Extended { id: head.get(5).copied().unwrap_or(0), body: Cow::Borrowed(&[]) }
        }
        Some(id) => Message::Other { id, len: len - 1 },
    }
}

/// The number at `at`; 0 past the end, where the type has no such field.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}

/// Decodes `data` whole and in splits drawn from it, and asserts that both say the same and stay in bounds.
#[doc(hidden)]
pub fn fuzz_wire(data: &[u8]) {
    let (plan, stream) = data.split_at(data.len().min(4));
    let seed = plan.iter().fold(1u64, |seed, b| (seed << 8) | u64::from(*b));
    for handshake in [true, false] {
        let whole = run(stream, handshake, || usize::MAX);
        let mut state = seed;
        let odd = run(stream, handshake, || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % 40 + 1
        });
        assert_eq!(whole, odd);
        assert_eq!(whole, run(stream, handshake, || 1));
    }
}

/// Feeds a stream in parts as long as `split` says, takes payloads with an odd piece number and skips the others.
/// Returns the steps, each encoded again, among them the payload taken; and how it ended.
fn run(mut stream: &[u8], handshake: bool, mut split: impl FnMut() -> usize) -> (Vec<u8>, Option<Error>) {
    let mut decoder = Decoder::new();
    if !handshake {
        decoder.phase = Phase::Head;
    }
    let mut log = Vec::new();
    while !stream.is_empty() {
        let (mut input, rest) = stream.split_at(stream.len().min(split()));
        stream = rest;
        while !input.is_empty() {
            match decoder.next(&mut input) {
                Err(error) => return (log, Some(error)),
                // Only where the handshake comes in two parts.
                Ok(Some(Step::InfoHash(_))) => assert!(log.is_empty()),
                Ok(Some(Step::Handshake(handshake))) => log.extend_from_slice(&handshake.encode()),
                Ok(Some(Step::Message(message))) => message.encode(&mut log),
                Ok(Some(Step::Piece(block))) => {
                    assert!((1..=BLOCK).contains(&block.len));
                    Message::Piece(block).encode(&mut log);
                    decoder.decide(if block.piece % 2 == 1 { Fate::Take } else { Fate::Skip });
                }
                Ok(None) => {
                    if let Some(payload) = decoder.payload() {
                        let n = input.len().min(payload.left() as usize);
                        log.extend_from_slice(&input[..n]);
                        input = &input[n..];
                        decoder.advance(n as u32);
                    }
                }
            }
            let kept = decoder.body.capacity();
            assert!(kept <= limits::MESSAGE_MAX as usize && kept <= 8.max(2 * decoder.body.len()));
        }
    }
    (log, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn hand() -> Handshake {
        Handshake { reserved: [0; 8], info_hash: InfoHash([7; 20]), peer_id: [8; 20] }
    }

    fn ready() -> Decoder {
        let mut decoder = Decoder::new();
        let bytes = hand().encode();
        assert_eq!(decoder.next(&mut &bytes[..]), Ok(Some(Step::Handshake(hand()))));
        decoder
    }

    #[test]
    fn the_info_hash_is_a_step_when_the_peer_id_has_not_come() {
        let bytes = hand().encode();
        for cut in [48, 50, 67] {
            let mut decoder = Decoder::new();
            assert_eq!(decoder.next(&mut &bytes[..47]), Ok(None));
            assert_eq!(decoder.next(&mut &bytes[47..cut]), Ok(Some(Step::InfoHash(hand().info_hash))));
            assert_eq!(decoder.next(&mut &bytes[cut..cut]), Ok(None), "once");
            assert_eq!(decoder.next(&mut &bytes[cut..]), Ok(Some(Step::Handshake(hand()))));
            assert!(decoder.is_between());
        }
    }

    /// A stream with every message in it, and random ones after; and the log of it that [`run`] has to give.
    fn stream(rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
        let (mut bytes, mut log) = (hand().encode().to_vec(), hand().encode().to_vec());
        for i in 0..300 {
            let block = Block { piece: rng.u32(), begin: rng.u32(), len: rng.below(300) + 1 };
            let message = match if i < 18 { i } else { rng.below(18) } {
                0 => Message::KeepAlive,
                1 => Message::Choke,
                2 => Message::Unchoke,
                3 => Message::Interested,
                4 => Message::NotInterested,
                5 => Message::Have(rng.u32()),
                6 => Message::Bitfield(Cow::Owned((0..rng.below(200)).map(|b| b as u8).collect())),
                7 => Message::Request(block),
                8 => Message::Piece(block),
                9 => Message::Cancel(block),
                10 => Message::Port(rng.u32() as u16),
                11 => Message::Suggest(rng.u32()),
                12 => Message::HaveAll,
                13 => Message::HaveNone,
                14 => Message::Reject(block),
                15 => Message::AllowedFast(rng.u32()),
                16 => {
                    let body = (0..rng.below(200)).map(|b| b as u8).collect();
                    Message::Extended { id: rng.u32() as u8, body: Cow::Owned(body) }
                }
                _ => Message::Other { id: 21 + rng.below(235) as u8, len: rng.below(100) },
            };
            message.encode(&mut bytes);
            message.encode(&mut log);
            let (len, taken) = match message {
                Message::Piece(block) => (block.len, block.piece % 2 == 1),
                Message::Other { len, .. } => (len, false),
                _ => (0, false),
            };
            let mut body = vec![0; len as usize];
            rng.fill(&mut body);
            bytes.extend_from_slice(&body);
            if taken {
                log.extend_from_slice(&body);
            }
        }
        (bytes, log)
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn any_split_yields_the_same_steps() {
        for seed in 0..20 {
            let mut rng = Rng::new([seed; 32]);
            let (bytes, log) = stream(&mut rng);
            let expected = (log, None);
            assert_eq!(run(&bytes, true, || usize::MAX), expected);
            assert_eq!(run(&bytes, true, || 1), expected);
            for most in [2, 5, 18, 100, 3000] {
                assert_eq!(run(&bytes, true, || rng.index(most) + 1), expected);
            }
        }
        let (bytes, ..) = stream(&mut Rng::new([99; 32]));
        let bytes = &bytes[..1500];
        let whole = run(bytes, true, || usize::MAX);
        for at in 1..bytes.len() {
            let mut first = true;
            let split = || if std::mem::take(&mut first) { at } else { usize::MAX };
            assert_eq!(run(bytes, true, split), whole, "split at {at}");
        }
    }

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        let block = Block { piece: 1, begin: 2, len: 3 };
        for message in [
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(9),
            Message::Bitfield(Cow::Borrowed(&[1, 2])),
            Message::Bitfield(Cow::Borrowed(&[])),
            Message::Request(block),
            Message::Cancel(block),
            Message::Port(6881),
            Message::Suggest(7),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(block),
            Message::AllowedFast(8),
            Message::Extended { id: 0, body: Cow::Borrowed(b"de") },
            Message::Extended { id: 255, body: Cow::Borrowed(&[]) },
            Message::Other { id: 10, len: 0 },
            Message::Other { id: 21, len: 0 },
        ] {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let mut input = &bytes[..];
            assert_eq!(ready().next(&mut input), Ok(Some(Step::Message(message))));
            assert!(input.is_empty());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn lengths_are_held_against_their_type() {
        let fate = |len: u32, id: u8| {
            let mut bytes = len.to_be_bytes().to_vec();
            bytes.push(id);
            let mut decoder = ready();
            let all = decoder.next(&mut &bytes[..]).err();
            let mut decoder = ready();
            let single = bytes.iter().find_map(|b| decoder.next(&mut &[*b][..]).err());
            assert_eq!(all, single);
            assert_eq!(decoder.body.capacity(), 0);
            all
        };
        for id in 0..=255 {
            let (least, most) = match id {
                0..=3 => (1, 1),
                4 => (5, 5),
                5 => (1, limits::MESSAGE_SMALL),
                6 | 8 => (13, 13),
                7 => (10, 9 + BLOCK),
                9 => (3, 3),
                13 | 17 => (5, 5),
                14 | 15 => (1, 1),
                16 => (13, 13),
                20 => (2, limits::EXTENDED_MAX),
                _ => (1, limits::MESSAGE_SMALL),
            };
            assert_eq!((fate(least, id), fate(most, id)), (None, None));
            assert_eq!(fate(most + 1, id), Some(Error::Length { id, len: most + 1 }));
            if least > 1 {
                assert_eq!(fate(least - 1, id), Some(Error::Length { id, len: least - 1 }));
            }
            for len in [limits::MESSAGE_MAX + 1, 1 << 31, u32::MAX] {
                assert_eq!(fate(len, id), Some(Error::TooLong(len)));
            }
        }
    }

    #[test]
    fn the_bound_of_a_bitfield_follows_the_torrent() {
        let long = [&(limits::MESSAGE_SMALL + 1).to_be_bytes()[..], &[5]].concat();
        let mut decoder = ready();
        decoder.set_max(u32::MAX);
        assert_eq!(decoder.next(&mut &long[..]), Ok(None));
        let mut decoder = ready();
        decoder.set_max(3);
        assert_eq!(
            decoder.next(&mut &[0, 0, 0, 3, 5, 1, 2][..]),
            Ok(Some(Step::Message(Message::Bitfield(Cow::Borrowed(&[1, 2])))))
        );
        let error = Err(Error::Length { id: 5, len: 4 });
        assert_eq!(decoder.next(&mut &[0, 0, 0, 4, 5, 1, 2, 3][..]), error);
    }

    #[test]
    fn a_bitfield_is_borrowed_where_it_lies_whole_and_memory_follows_what_came() {
        let bytes = [&[0, 0, 0x10, 1, 5][..], &[9; 0x1000]].concat();
        let mut decoder = ready();
        let Ok(Some(Step::Message(Message::Bitfield(Cow::Borrowed(bits))))) = decoder.next(&mut &bytes[..])
        else {
            panic!("not borrowed")
        };
        assert!(std::ptr::eq(bits, &bytes[5..]));
        assert_eq!(decoder.next(&mut &bytes[..105]), Ok(None));
        assert!((100..=200).contains(&decoder.body.capacity()));
        let step = decoder.next(&mut &bytes[105..]);
        assert_eq!(step, Ok(Some(Step::Message(Message::Bitfield(Cow::Owned(vec![9; 0x1000]))))));
        assert_eq!(decoder.body.capacity(), 0);
    }

    #[test]
    fn an_extended_message_is_borrowed_where_it_lies_whole_and_memory_follows_what_came() {
        let len = limits::EXTENDED_MAX - 2;
        let bytes = [&(len + 2).to_be_bytes()[..], &[20, 2], &vec![9; len as usize]].concat();
        let mut decoder = ready();
        let Ok(Some(Step::Message(Message::Extended { id: 2, body: Cow::Borrowed(body) }))) =
            decoder.next(&mut &bytes[..])
        else {
            panic!("not borrowed")
        };
        assert!(std::ptr::eq(body, &bytes[6..]));
        assert_eq!(decoder.next(&mut &bytes[..106]), Ok(None));
        assert!((100..=200).contains(&decoder.body.capacity()));
        let step = decoder.next(&mut &bytes[106..]);
        let body = Cow::Owned(vec![9; len as usize]);
        assert_eq!(step, Ok(Some(Step::Message(Message::Extended { id: 2, body }))));
        assert_eq!(decoder.body.capacity(), 0);
    }

    #[test]
    fn a_payload_stands_still_until_decided_and_a_decision_may_change() {
        let bytes = [&[0, 0, 0, 14, 7, 0, 0, 0, 1, 0, 0, 0, 0][..], b"hello", &[0, 0, 0, 1, 1]].concat();
        let block = Block { piece: 1, begin: 0, len: 5 };
        let mut decoder = ready();
        let mut input = &bytes[..];
        assert_eq!(decoder.next(&mut input), Ok(Some(Step::Piece(block))));
        for fate in [Fate::Wait, Fate::Take] {
            decoder.decide(fate);
            assert_eq!(decoder.next(&mut input), Ok(None));
            assert_eq!(decoder.payload(), Some(Payload { block, filled: 0, fate }));
        }
        assert_eq!(&input[..5], b"hello");
        assert!(!decoder.advance(2));
        assert_eq!(decoder.payload().map(|p| p.left()), Some(3));
        decoder.decide(Fate::Skip);
        let mut input = &input[2..];
        assert_eq!(decoder.next(&mut input), Ok(Some(Step::Message(Message::Unchoke))));
        assert_eq!((decoder.payload(), input.len()), (None, 0));
        decoder.decide(Fate::Take);
        assert!(!decoder.advance(1));
    }

    #[test]
    fn another_protocol_is_refused_at_once() {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut &b"\x13Bit"[..]), Ok(None));
        assert_eq!(decoder.next(&mut &b"x"[..]), Err(Error::NotBitTorrent));
        assert_eq!(Decoder::new().next(&mut &b"GET / HTTP/1.1\r\n"[..]), Err(Error::NotBitTorrent));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn the_decoder_survives_what_a_mutated_stream_says() {
        let mut rng = Rng::new([5; 32]);
        for _ in 0..300 {
            let (mut bytes, ..) = stream(&mut rng);
            let at = rng.index(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            fuzz_wire(&bytes[rng.index(200)..]);
        }
    }
}
