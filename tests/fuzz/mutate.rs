//! Inputs that are nearly right: files of a corpus with a few things wrong.

use ptorrent::base::rng::Rng;

/// Numbers that are the edge of something.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "00",
    "-0",
    "-1",
    "20",
    "64",
    "255",
    "256",
    "65535",
    "65536",
    "16384",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999",
];
/// The longest input: small ones find more in the same time.
const MAX: usize = 8192;

/// Puts a file of the corpus into `out`, changed in one to four places.
pub(crate) fn mutate(corpus: &[Vec<u8>], out: &mut Vec<u8>, rng: &mut Rng) {
    out.clear();
    out.extend_from_slice(&corpus[rng.index(corpus.len())]);
    for _ in 0..=rng.below(4) {
        match rng.below(8) {
            0 => flip_bit(out, rng),
            1 => set_byte(out, rng),
            2 => change_number(out, rng),
            3 => splice(out, &corpus[rng.index(corpus.len())], rng),
            4 => duplicate(out, rng),
            5 => remove(out, rng),
            6 => out.truncate(rng.index(out.len() + 1)),
            _ => swap(out, rng),
        }
        out.truncate(MAX);
    }
}

fn flip_bit(out: &mut [u8], rng: &mut Rng) {
    let at = rng.index(out.len());
    if let Some(byte) = out.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

/// A byte becomes one that means something, in text or in binary.
fn set_byte(out: &mut [u8], rng: &mut Rng) {
    const BYTES: &[u8] = b"dlie0123456789:-./\\\0\x01\x7f\x80\xff\x1b%";
    let at = rng.index(out.len());
    if let Some(byte) = out.get_mut(at) {
        *byte = BYTES[rng.index(BYTES.len())];
    }
}

/// A run of digits becomes another number, or four bytes become a big-endian one.
fn change_number(out: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.index(out.len());
    let number = NUMBERS[rng.index(NUMBERS.len())];
    if let Some(start) = out[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) {
        let len = out[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        out.splice(start..start + len, number.bytes());
    } else if let (Some(bytes), Ok(number)) = (out.get_mut(at..at + 4), number.parse::<u64>()) {
        bytes.copy_from_slice(&(number as u32).to_be_bytes());
    }
}

fn range(len: usize, rng: &mut Rng) -> std::ops::Range<usize> {
    let start = rng.index(len + 1);
    let most = (len - start).min(if rng.below(4) == 0 { MAX } else { 24 });
    start..start + rng.index(most + 1)
}

fn splice(out: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let (to, from) = (range(out.len(), rng), range(other.len(), rng));
    out.splice(to, other[from].iter().copied());
}

fn duplicate(out: &mut Vec<u8>, rng: &mut Rng) {
    let range = range(out.len(), rng);
    let copies = 1 + if rng.below(8) == 0 { rng.index(64) } else { 0 };
    let copy = out[range.clone()].repeat(copies);
    out.splice(range.end..range.end, copy);
}

fn remove(out: &mut Vec<u8>, rng: &mut Rng) {
    let range = range(out.len(), rng);
    out.drain(range);
}

fn swap(out: &mut [u8], rng: &mut Rng) {
    if !out.is_empty() {
        let (a, b) = (rng.index(out.len()), rng.index(out.len()));
        out.swap(a, b);
    }
}
