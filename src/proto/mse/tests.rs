//! The handshake against a mate that is written here by the book, arithmetic included.

use super::*;
use crate::base::rng::Rng;
use crate::limits::MSE_PADDING_MAX;

const TORRENT: InfoHash = InfoHash([0x5a; 20]);
const INITIAL: [u8; 68] = [0x13; 68];
const P: &[u8; 192] =
    b"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404d\
    def9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563";

/// A number of 768 bits, the least part first.
type Number = [u64; 12];

fn number(key: &Key) -> Number {
    std::array::from_fn(|n| u64::from_be_bytes(*key[96 - 8 * n - 8..].first_chunk().unwrap()))
}

fn key(number: &Number) -> Key {
    let mut key = [0; 96];
    number.iter().rev().zip(key.as_chunks_mut::<8>().0).for_each(|(part, out)| *out = part.to_be_bytes());
    key
}

fn prime() -> Number {
    let mut bytes = [0; 96];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(std::str::from_utf8(&P[2 * n..2 * n + 2]).unwrap(), 16).unwrap();
    }
    number(&bytes)
}

fn subtract(a: &Number, b: &Number) -> (Number, bool) {
    let (mut out, mut borrow) = ([0; 12], false);
    for n in 0..12 {
        let (x, first) = a[n].overflowing_sub(b[n]);
        let (x, second) = x.overflowing_sub(u64::from(borrow));
        (out[n], borrow) = (x, first || second);
    }
    (out, borrow)
}

/// Adds `a * part` to a number that has room for it.
fn add_product(to: &mut [u64], a: &Number, part: u64) {
    let mut carry = 0u128;
    for (n, out) in to.iter_mut().enumerate() {
        let product = a.get(n).map_or(0, |a| u128::from(*a) * u128::from(part));
        // At most 2^128 - 1 in all.
        let sum = product + u128::from(*out) + carry;
        (*out, carry) = (sum as u64, sum >> 64);
    }
    assert_eq!(carry, 0);
}

fn multiply(a: &Number, b: &Number, p: &Number) -> Number {
    // 2^768 modulo p.
    let fold = subtract(&[0; 12], p).0;
    let mut out = [0; 12];
    for part in b.iter().rev() {
        let mut wide = [0; 14];
        wide[1..13].copy_from_slice(&out);
        add_product(&mut wide, a, *part);
        while wide[12..] != [0, 0] {
            let over = [wide[12], wide[13]];
            wide[12..].fill(0);
            add_product(&mut wide, &fold, over[0]);
            add_product(&mut wide[1..], &fold, over[1]);
        }
        out.copy_from_slice(&wide[..12]);
    }
    match subtract(&out, p) {
        (_, true) => out,
        (less, false) => less,
    }
}

/// `base ^ secret mod p`, the slow way.
fn power(base: &Key, secret: &[u8; 20]) -> Key {
    let p = prime();
    let base = number(base);
    let base = match subtract(&base, &p) {
        (_, true) => base,
        (less, false) => less,
    };
    let mut out = [0; 12];
    out[0] = 1;
    for bit in secret.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)) {
        out = multiply(&out, &out, &p);
        if bit == 1 {
            out = multiply(&out, &base, &p);
        }
    }
    key(&out)
}

fn sha(parts: &[&[u8]]) -> [u8; 20] {
    use sha1::{Digest, Sha1};
    Sha1::digest(parts.concat()).into()
}

/// The other side, by the book. It sends padding as long as it is told.
struct Mate {
    secret: [u8; 20],
    ours: Key,
    shared: Key,
    padding: [usize; 2],
    rng: Rng,
}

impl Mate {
    fn new(mut rng: Rng, padding: [usize; 2]) -> Mate {
        let mut secret = [0; 20];
        rng.fill(&mut secret);
        let ours = Power { base: dh::GENERATOR, secret }.raise();
        Mate { secret, ours, shared: [0; 96], padding, rng }
    }

    fn pad(&mut self, at: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.padding[at]];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn hello(&mut self) -> Vec<u8> {
        let padding = self.pad(0);
        [&self.ours[..], &padding].concat()
    }

    fn hear_key(&mut self, hello: &[u8]) {
        assert!((96..=96 + MSE_PADDING_MAX).contains(&hello.len()));
        self.shared = power(hello[..96].first_chunk().unwrap(), &self.secret);
    }

    fn cipher(&self, label: &[u8]) -> Rc4 {
        Rc4::stream(&sha(&[label, &self.shared, &TORRENT.0]))
    }

    /// As A: what follows the keys. Gives the ciphers for what goes and what comes.
    fn request(&mut self, torrent: InfoHash, provide: u32, initial: &[u8]) -> (Vec<u8>, Rc4, Rc4) {
        let (req2, req3) = (sha(&[b"req2", &torrent.0]), sha(&[b"req3", &self.shared]));
        let mut say = sha(&[b"req1", &self.shared]).to_vec();
        say.extend((0..20).map(|n| req2[n] ^ req3[n]));
        let padding = self.pad(1);
        let lens = [(padding.len() as u16).to_be_bytes(), (initial.len() as u16).to_be_bytes()];
        say.extend([&[0; 8], &provide.to_be_bytes()[..], &lens[0], &padding, &lens[1], initial].concat());
        let (mut goes, comes) = (self.cipher(b"keyA"), self.cipher(b"keyB"));
        goes.apply(&mut say[40..]);
        (say, goes, comes)
    }

    /// As B: reads what A says after its hello (`pad` bytes of padding in front), and answers.
    fn answer(&mut self, said: &[u8], select: u32) -> (Vec<u8>, u32, Vec<u8>, Rc4, Rc4) {
        let marker = sha(&[b"req1", &self.shared]);
        let at = said.windows(20).position(|window| window == marker).unwrap();
        assert!(at <= MSE_PADDING_MAX);
        let (req2, req3) = (sha(&[b"req2", &TORRENT.0]), sha(&[b"req3", &self.shared]));
        assert!((0..20).all(|n| said[at + 20 + n] == req2[n] ^ req3[n]));
        let mut rest = said[at + 40..].to_vec();
        let (mut goes, mut comes) = (self.cipher(b"keyB"), self.cipher(b"keyA"));
        comes.apply(&mut rest);
        assert_eq!(rest[..8], [0; 8]);
        let provide = u32::from_be_bytes(*rest[8..].first_chunk().unwrap());
        let padding = usize::from(u16::from_be_bytes([rest[12], rest[13]]));
        assert!(padding <= MSE_PADDING_MAX);
        let initial = &rest[14 + padding..];
        assert_eq!(usize::from(u16::from_be_bytes([initial[0], initial[1]])), initial.len() - 2);
        let pad = self.pad(1);
        let mut say = [&[0; 8], &select.to_be_bytes()[..], &(pad.len() as u16).to_be_bytes(), &pad].concat();
        goes.apply(&mut say);
        (say, provide, initial[2..].to_vec(), goes, comes)
    }
}

/// Our side: what it says, and what came of it.
struct Ours {
    shake: Shake,
    secret: [u8; 20],
    said: Vec<u8>,
    agreed: Option<Box<Agreed>>,
    rest: Vec<u8>,
}

impl Ours {
    fn new(shake: Shake) -> Ours {
        Ours { shake, secret: [0; 20], said: Vec::new(), agreed: None, rest: Vec::new() }
    }

    /// Takes the bytes, in parts as `split` says.
    fn take(&mut self, mut bytes: &[u8], mut split: impl FnMut() -> usize) -> Result<(), Error> {
        loop {
            let (mut input, rest) = bytes.split_at(bytes.len().min(split()));
            bytes = rest;
            while let Some(step) = self.shake.next(&mut input)? {
                match step {
                    Step::Power(power) => {
                        self.secret = power.secret;
                        self.said.extend(self.shake.powered(&power.raise()));
                    }
                    Step::Find(name) => {
                        let known = name == request_name(TORRENT);
                        self.shake.found(known.then_some(TORRENT))?;
                    }
                    Step::Done(agreed) => {
                        self.said.extend_from_slice(&agreed.say);
                        self.agreed = Some(agreed);
                    }
                }
            }
            self.rest.extend_from_slice(input);
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }
}

fn whole() -> usize {
    usize::MAX
}

/// What one says the other hears, both ways, once it is over.
fn assert_talk(ours: &mut Agreed, mut goes: Rc4, mut comes: Rc4) {
    for (one, other) in [(&mut goes, &mut ours.reads), (&mut ours.writes, &mut comes)] {
        let mut text = *b"what is said";
        one.apply(&mut text);
        assert_ne!(&text, b"what is said");
        other.apply(&mut text);
        assert_eq!(&text, b"what is said");
    }
}

/// A handshake that our side begins.
fn dial(shake: Shake, mut mate: Mate, select: u32, mut split: impl FnMut() -> usize) -> Result<Ours, Error> {
    let mut ours = Ours::new(shake);
    ours.take(&[], whole).unwrap();
    let hello = ours.said();
    mate.hear_key(&hello);
    ours.take(&mate.hello(), &mut split)?;
    let (say, provide, initial, goes, comes) = mate.answer(&[&hello[96..], &ours.said()].concat(), select);
    assert_eq!((provide & select, &initial[..]), (select, &INITIAL[..]));
    ours.take(&[&say[..], b"payload"].concat(), &mut split)?;
    assert_eq!(ours.rest, b"payload");
    assert_talk(ours.agreed.as_mut().unwrap(), goes, comes);
    Ok(ours)
}

/// A handshake that the mate begins.
fn answer(
    shake: Shake,
    mut mate: Mate,
    provide: u32,
    mut split: impl FnMut() -> usize,
) -> Result<Ours, Error> {
    let mut ours = Ours::new(shake);
    let hello = mate.hello();
    // Padding may come with the key, or later.
    let (first, second) = hello.split_at(96 + (hello.len() - 96) / 2);
    ours.take(first, &mut split)?;
    let said = ours.said();
    mate.hear_key(&said);
    let (request, goes, mut comes) = mate.request(TORRENT, provide, &INITIAL);
    ours.take(&[second, &request].concat(), &mut split)?;
    let mut say = ours.said();
    let agreed = ours.agreed.as_mut().unwrap();
    assert_eq!(usize::from(agreed.initial), INITIAL.len());
    agreed.reads.apply(&mut ours.rest);
    assert_eq!(ours.rest, INITIAL);
    comes.apply(&mut say);
    let expected = if agreed.method == Method::Plain { 1u32 } else { 2 };
    assert_eq!((&say[..8], &say[8..12]), (&[0; 8][..], &expected.to_be_bytes()[..]));
    assert_eq!(say.len() - 14, usize::from(u16::from_be_bytes([say[12], say[13]])));
    assert_talk(agreed, goes, comes);
    Ok(ours)
}

fn seed(n: u32) -> Rng {
    Rng::new([0; 32]).fork(&n.to_be_bytes())
}

fn dialler(n: u32, methods: Methods) -> Shake {
    Shake::dial(TORRENT, INITIAL.to_vec(), methods, seed(n))
}

#[test]
fn powers_are_those_of_the_reference() {
    let mut rng = seed(1);
    let (mut base, mut secret) = ([0; 96], [0; 20]);
    for n in 0..40 {
        rng.fill(&mut base);
        rng.fill(&mut secret);
        match n {
            0 => base = [0xff; 96],
            1 => base = [0; 96],
            2 => base = key(&prime()),
            3 => base = dh::GENERATOR,
            4 => secret = [0; 20],
            5 => secret = [0xff; 20],
            _ => {}
        }
        assert_eq!(Power { base, secret }.raise(), power(&base, &secret), "{n}");
    }
}

#[test]
fn three_hundred_handshakes_in_a_row() {
    let mut rng = seed(2);
    let mut zeros = [0; 3];
    for n in 0..300 {
        let mut lens = || [rng.index(MSE_PADDING_MAX + 1), rng.index(MSE_PADDING_MAX + 1)];
        let mut mate = Mate::new(seed(1000 + n), lens());
        // Every tenth has zeros in front of the secret, of our key or of the mate's, which a reader could leave out.
        let mut ours = n;
        let secret = |n| {
            let mut secret = [0; 20];
            seed(n).fill(&mut secret);
            secret
        };
        let public = |n| Power { base: dh::GENERATOR, secret: secret(n) }.raise();
        match n % 30 {
            0 => {
                while (Power { base: public(ours), secret: mate.secret }).raise()[0] != 0 {
                    mate = Mate::new(seed(mate.rng.u32()), mate.padding);
                }
                zeros[0] += 1;
            }
            10 => {
                while public(ours)[0] != 0 {
                    ours += 1000;
                }
                zeros[1] += 1;
            }
            20 => {
                while mate.ours[0] != 0 {
                    mate = Mate::new(seed(mate.rng.u32()), mate.padding);
                }
                zeros[2] += 1;
            }
            _ => {}
        }
        let methods = [Methods::ANY, Methods::RC4][n as usize % 2];
        // Whether we dial changes with every tenth, so that each kind of zeros meets both.
        if n / 30 % 2 == n % 2 {
            let done = dial(dialler(ours, methods), mate, 2, whole).unwrap();
            assert_eq!((done.agreed.unwrap().method, done.secret), (Method::Rc4, secret(ours)));
        } else {
            let done = answer(Shake::answer(methods, seed(ours)), mate, 3, whole).unwrap();
            let due = if methods == Methods::ANY { Method::Plain } else { Method::Rc4 };
            assert_eq!((done.agreed.unwrap().method, done.secret), (due, secret(ours)));
        }
    }
    assert_eq!(zeros, [10; 3]);
}

#[test]
fn any_split_and_any_padding_will_do() {
    let mut rng = seed(3);
    for n in 0..24u32 {
        let most = [1, 2, 30, 700][n as usize % 4];
        let padding = [[0, 0], [512, 512], [0, 512], [512, 0], [1, 511], [511, 1]][n as usize / 4];
        let mut split = || 1 + rng.index(most);
        let mate = || Mate::new(seed(n), padding);
        dial(dialler(n, Methods::ANY), mate(), 1 + n % 2, &mut split).unwrap();
        answer(Shake::answer(Methods::ANY, seed(n)), mate(), 1 + n % 3, &mut split).unwrap();
    }
}

#[test]
fn our_padding_reaches_both_limits() {
    let lens: Vec<usize> = (0..6000).map(|n| dialler(n, Methods::ANY).padding().len()).collect();
    assert_eq!((lens.iter().min(), lens.iter().max()), (Some(&0), Some(&MSE_PADDING_MAX)));
}

#[test]
fn what_was_not_offered_is_not_taken() {
    let mate = || Mate::new(seed(4), [7, 7]);
    for (methods, select) in [(Methods::RC4, 1), (Methods::ANY, 3), (Methods::ANY, 0), (Methods::ANY, 4)] {
        let mut ours = Ours::new(dialler(4, methods));
        ours.take(&[], whole).unwrap();
        let (hello, mut mate) = (ours.said(), mate());
        mate.hear_key(&hello);
        ours.take(&mate.hello(), whole).unwrap();
        let say = mate.answer(&[&hello[96..], &ours.said()].concat(), select).0;
        assert_eq!(ours.take(&say, whole).unwrap_err(), Error::NotOffered(select));
    }
    for (methods, provide) in [(Methods::RC4, 1), (Methods::ANY, 0), (Methods::ANY, 4)] {
        let result = answer(Shake::answer(methods, seed(4)), mate(), provide, whole);
        assert_eq!(result.err(), Some(Error::NoMethod(provide)));
    }
}

/// Feeds what a hostile mate says after its key; gives the end.
fn request_with(change: impl FnOnce(&mut Mate, &mut Vec<u8>)) -> Error {
    let mut ours = Ours::new(Shake::answer(Methods::ANY, seed(5)));
    let mut mate = Mate::new(seed(6), [0, 30]);
    ours.take(&mate.hello(), whole).unwrap();
    mate.hear_key(&ours.said());
    let mut say = mate.request(TORRENT, 3, &INITIAL).0;
    change(&mut mate, &mut say);
    ours.take(&say, || 1).unwrap_err()
}

#[test]
#[cfg_attr(miri, ignore = "takes Miri minutes")]
fn lies_end_it() {
    let flip = |at: usize| move |_: &mut Mate, say: &mut Vec<u8>| say[at] ^= 0x80;
    assert_eq!(request_with(flip(40)), Error::Check, "a wrong constant");
    assert_eq!(request_with(flip(47)), Error::Check, "a wrong constant");
    assert_eq!(request_with(flip(25)), Error::UnknownTorrent, "a wrong name");
    assert_eq!(request_with(flip(52)), Error::Padding(0x8000 + 30), "too long a padding");
    let other = |mate: &mut Mate, say: &mut Vec<u8>| *say = mate.request(InfoHash([1; 20]), 3, &[]).0;
    assert_eq!(request_with(other), Error::UnknownTorrent);
    let endless = |mate: &mut Mate, say: &mut Vec<u8>| {
        *say = vec![0; 1 << 20];
        mate.rng.fill(say);
    };
    assert_eq!(request_with(endless), Error::NoMarker);
    // One byte of padding more than there may be.
    let late = |_: &mut Mate, say: &mut Vec<u8>| drop(say.splice(0..0, [0; MSE_PADDING_MAX + 1]));
    assert_eq!(request_with(late), Error::NoMarker);
}

#[test]
fn garbage_ends_it_within_the_longest_padding() {
    let mut rng = seed(7);
    for dials in [false, true] {
        let mut ours =
            Ours::new(if dials { dialler(7, Methods::ANY) } else { Shake::answer(Methods::ANY, seed(7)) });
        ours.take(&[], whole).unwrap();
        let marker = if dials { 8 } else { 20 };
        for came in 1.. {
            let byte = rng.u32() as u8;
            if let Err(error) = ours.take(&[byte], whole) {
                assert_eq!((error, came), (Error::NoMarker, 96 + MSE_PADDING_MAX + marker));
                break;
            }
        }
    }
}

#[test]
fn what_comes_before_its_turn_is_bounded() {
    let first = |shake: &mut Shake, n| shake.next(&mut &vec![1; n][..]);
    let mut shake = Shake::answer(Methods::ANY, seed(8));
    assert!(matches!(first(&mut shake, 96 + MSE_PADDING_MAX), Ok(Some(Step::Power(_)))));
    let mut shake = Shake::answer(Methods::ANY, seed(8));
    assert!(matches!(first(&mut shake, 96), Ok(Some(Step::Power(_)))));
    assert!(matches!(first(&mut shake, MSE_PADDING_MAX), Ok(None)));
    assert_eq!(first(&mut shake, 1).unwrap_err(), Error::Early);
    // Nobody speaks before we have said our key.
    let mut shake = dialler(8, Methods::ANY);
    assert!(matches!(shake.next(&mut &[][..]), Ok(Some(Step::Power(_)))));
    assert_eq!(first(&mut shake, 1).unwrap_err(), Error::Early);
    // A key whose powers anybody knows lets a peer say it all at once: that is no way to talk either.
    let mut mate = Mate::new(seed(9), [0, 0]);
    mate.shared[95] = 1;
    let say = mate.request(TORRENT, 3, &[]).0;
    let mut one = [0; 96];
    one[95] = 1;
    let mut shake = Shake::answer(Methods::ANY, seed(9));
    let Ok(Some(Step::Power(power))) = shake.next(&mut &one[..]) else { panic!("no power") };
    let mut early = [&say[..], b"more"].concat();
    early.truncate(MSE_PADDING_MAX);
    assert!(matches!(shake.next(&mut &early[..]), Ok(None)));
    assert!(shake.powered(&power.raise()).is_empty(), "our key is said before we can go on");
    let Ok(Some(Step::Power(power))) = shake.next(&mut &[][..]) else { panic!("no power") };
    assert_eq!(power.raise(), one);
    shake.powered(&one);
    assert!(matches!(shake.next(&mut &[][..]), Ok(Some(Step::Find(_)))));
    shake.found(Some(TORRENT)).unwrap();
    assert_eq!(shake.next(&mut &[][..]).unwrap_err(), Error::Early);
}
