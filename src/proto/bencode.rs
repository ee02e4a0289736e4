//! Bencode (BEP 3): a decoder that borrows and a canonical encoder.
//!
//! Decoding checks the whole input once, without recursion and without allocating: a [`Value`] is a checked span of
//! the input, read on demand. Walking into a list or dictionary costs a pass over its span, and spans nest
//! `limits::BENCODE_DEPTH` deep at most, so all of a hostile input is read in time linear in its length. Take several
//! keys of one dictionary with [`Dict::fields`], in one pass.
//!
//! Keys out of order are accepted: real torrents have them. A key that comes twice is an error where it is asked for
//! with [`Dict::fields`]: programs differ in which of the two they believe, so that one info-hash would name two
//! different lists of files. Nothing is said of doubled keys that nobody reads.

use crate::limits::BENCODE_DEPTH;
use std::fmt;

/// What is wrong with the input, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    /// Offset in the input, in bytes, of what is wrong.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
}

/// What can be wrong with bencoded input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The input ends inside a value.
    End,
    /// No value starts with this byte.
    Byte(u8),
    /// A dictionary's key is not a string.
    Key,
    /// An integer or a length has a byte that is no digit, or no digit at all.
    Digit,
    /// An integer or a length with a leading zero, or `-0`.
    Zero,
    /// An integer that does not fit 64 bits.
    Range,
    /// A string that runs past the end of the input.
    Length,
    /// Lists and dictionaries nest too deep.
    Depth,
    /// Bytes after the value.
    Trailing,
    /// A dictionary has a key twice that is asked for.
    Duplicate,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: ", self.at)?;
        match self.kind {
            Kind::End => f.write_str("the input ends inside a value"),
            Kind::Byte(byte) => write!(f, "no value starts with '{}'", byte.escape_ascii()),
            Kind::Key => f.write_str("the key of a dictionary is not a string"),
            Kind::Digit => f.write_str("a digit is missing in a number"),
            Kind::Zero => f.write_str("a number has a leading zero or is -0"),
            Kind::Range => f.write_str("an integer does not fit 64 bits"),
            Kind::Length => f.write_str("a string runs past the end"),
            Kind::Depth => write!(f, "values nest deeper than {BENCODE_DEPTH}"),
            Kind::Trailing => f.write_str("bytes follow the value"),
            Kind::Duplicate => f.write_str("a dictionary has a key twice"),
        }
    }
}

impl std::error::Error for Error {}

/// Decodes one value that takes up all of `input`. The caller bounds the length of the input.
pub fn decode(input: &[u8]) -> Result<Value<'_>, Error> {
    let (value, used) = decode_prefix(input)?;
    if used < input.len() {
        return Err(Error { at: used, kind: Kind::Trailing });
    }
    Ok(value)
}

/// Decodes the value at the start of `input`, and tells how many bytes it takes: some messages carry payload after it
/// (BEP 9, `data`).
pub fn decode_prefix(input: &[u8]) -> Result<(Value<'_>, usize), Error> {
    let used = scan(input)?;
    Ok((Value { raw: &input[..used], at: 0 }, used))
}

/// The length of the value at the start of `input`, checked all through.
fn scan(input: &[u8]) -> Result<usize, Error> {
    const { assert!(BENCODE_DEPTH <= 64, "a bit a level") };
    let (mut at, mut depth) = (0, 0);
    // Bit `depth - 1` says whether the innermost open container is a dictionary.
    let mut dicts = 0u64;
    // A key has been read and its value is due.
    let mut due = false;
    loop {
        let Some(&byte) = input.get(at) else { return Err(Error { at, kind: Kind::End }) };
        let key_due = depth > 0 && dicts >> (depth - 1) & 1 == 1 && !due;
        match byte {
            b'e' if depth > 0 && !due => {
                depth -= 1;
                at += 1;
            }
            b'0'..=b'9' => {
                at = string(input, at)?.1;
                if key_due {
                    due = true;
                    continue;
                }
            }
            _ if key_due => return Err(Error { at, kind: Kind::Key }),
            b'i' => at = integer(input, at)?.1,
            b'l' | b'd' => {
                if depth == BENCODE_DEPTH {
                    return Err(Error { at, kind: Kind::Depth });
                }
                let bit = 1 << depth;
                dicts = if byte == b'd' { dicts | bit } else { dicts & !bit };
                depth += 1;
                at += 1;
                due = false;
                continue;
            }
            _ => return Err(Error { at, kind: Kind::Byte(byte) }),
        }
        due = false;
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// Where the string whose length starts at `at` begins and ends.
fn string(input: &[u8], at: usize) -> Result<(usize, usize), Error> {
    let (mut len, mut here) = (0usize, at);
    loop {
        match input.get(here) {
            Some(&digit @ b'0'..=b'9') => {
                if here == at + 1 && input[at] == b'0' {
                    return Err(Error { at, kind: Kind::Zero });
                }
                len = len.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
                here += 1;
            }
            Some(b':') => break,
            Some(_) => return Err(Error { at: here, kind: Kind::Digit }),
            None => return Err(Error { at: here, kind: Kind::End }),
        }
        if len > input.len() {
            return Err(Error { at, kind: Kind::Length });
        }
    }
    let start = here + 1;
    match start.checked_add(len) {
        Some(end) if end <= input.len() => Ok((start, end)),
        _ => Err(Error { at, kind: Kind::Length }),
    }
}

/// The integer whose `i` is at `at`, and where it ends.
fn integer(input: &[u8], at: usize) -> Result<(i64, usize), Error> {
    let minus = input.get(at + 1) == Some(&b'-');
    let first = at + 1 + usize::from(minus);
    let (mut value, mut here) = (0i64, first);
    loop {
        match input.get(here) {
            Some(&digit @ b'0'..=b'9') => {
                let leading = here == first + 1 && input[first] == b'0';
                if leading || minus && here == first && digit == b'0' {
                    return Err(Error { at, kind: Kind::Zero });
                }
                let digit = i64::from(digit - b'0');
                let digit = if minus { -digit } else { digit };
                value = value
                    .checked_mul(10)
                    .and_then(|value| value.checked_add(digit))
                    .ok_or(Error { at, kind: Kind::Range })?;
                here += 1;
            }
            Some(b'e') if here > first => return Ok((value, here + 1)),
            Some(_) => return Err(Error { at: here, kind: Kind::Digit }),
            None => return Err(Error { at: here, kind: Kind::End }),
        }
    }
}

/// One value: a checked span of the input. Copying it copies two numbers and a pointer.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Value<'a> {
    /// The bytes of the value as they stand in the input (the info-hash is taken over them).
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Where the value starts in the input, in bytes.
    pub fn at(self) -> usize {
        self.at
    }

    /// The bytes of a string.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        let (start, end) = string(self.raw, 0).ok()?;
        self.raw.get(start..end)
    }

    /// The text of a string that is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// An integer.
    pub fn as_int(self) -> Option<i64> {
        if self.raw.first() != Some(&b'i') {
            return None;
        }
        Some(integer(self.raw, 0).ok()?.0)
    }

    /// The elements of a list.
    pub fn as_list(self) -> Option<List<'a>> {
        Some(List { rest: self.body(b'l')?, at: self.at + 1 })
    }

    /// A dictionary.
    pub fn as_dict(self) -> Option<Dict<'a>> {
        Some(Dict { body: self.body(b'd')?, at: self.at + 1 })
    }

    /// The first value of that key, when this is a dictionary that has it. Costs a pass over the dictionary: to take
    /// several keys, see [`Dict::fields`].
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.as_dict()?.get(key)
    }

    fn body(self, open: u8) -> Option<&'a [u8]> {
        match self.raw {
            [first, body @ .., b'e'] if *first == open => Some(body),
            _ => None,
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw.escape_ascii())
    }
}

/// The elements of a list, in order.
#[derive(Clone)]
pub struct List<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        // The span was checked when it was decoded: the only error left is its end.
        let (raw, rest) = self.rest.split_at_checked(scan(self.rest).ok()?)?;
        let value = Value { raw, at: self.at };
        self.at += raw.len();
        self.rest = rest;
        Some(value)
    }
}

/// A dictionary.
#[derive(Clone, Copy)]
pub struct Dict<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Dict<'a> {
    /// Keys and values in the order of the input.
    pub fn iter(self) -> Entries<'a> {
        Entries(List { rest: self.body, at: self.at })
    }

    /// The first value of that key. Costs a pass over the dictionary.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// The values of several keys, in one pass: `let [name, length] = dict.fields(["name", "length"])?`. Fails when
    /// one of them is there twice.
    pub fn fields<const N: usize>(self, keys: [&str; N]) -> Result<[Option<Value<'a>>; N], Error> {
        let mut values = [None; N];
        for (key, value) in self.iter() {
            let Some(i) = keys.iter().position(|wanted| wanted.as_bytes() == key) else { continue };
            if values[i].replace(value).is_some() {
                return Err(Error { at: value.at, kind: Kind::Duplicate });
            }
        }
        Ok(values)
    }
}

/// Keys and values of a dictionary, in the order of the input.
#[derive(Clone)]
pub struct Entries<'a>(List<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let key = self.0.next()?.as_bytes()?;
        Some((key, self.0.next()?))
    }
}

/// Encodes one value: `encode(|e| e.dict(|d| d.entry("a").int(1)))`.
pub fn encode(write: impl FnOnce(Encoder<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(Encoder::new(&mut out));
    out
}

/// The place of one value in the output. Each method writes the value and uses the place up.
#[must_use = "a value is due here"]
pub struct Encoder<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Encoder<'o> {
    /// Appends a value to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Encoder<'o> {
        Encoder { out }
    }

    /// An integer.
    pub fn int(self, value: i64) {
        self.out.extend_from_slice(format!("i{value}e").as_bytes());
    }

    /// A string of bytes.
    pub fn bytes(self, value: &[u8]) {
        self.out.extend_from_slice(format!("{}:", value.len()).as_bytes());
        self.out.extend_from_slice(value);
    }

    /// A string of text.
    pub fn str(self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A value that is encoded already, as it is.
    pub fn raw(self, value: &[u8]) {
        debug_assert!(decode(value).is_ok(), "not one encoded value");
        self.out.extend_from_slice(value);
    }

    /// A list, whose elements `write` puts in.
    pub fn list(self, write: impl FnOnce(&mut ListEncoder<'_>)) {
        self.out.push(b'l');
        write(&mut ListEncoder { out: self.out });
        self.out.push(b'e');
    }

    /// A dictionary, whose entries `write` puts in, sorted by key.
    pub fn dict(self, write: impl FnOnce(&mut DictEncoder<'_>)) {
        self.out.push(b'd');
        write(&mut DictEncoder { out: self.out, last: None });
        self.out.push(b'e');
    }
}

/// An open list of the output.
pub struct ListEncoder<'o> {
    out: &'o mut Vec<u8>,
}

impl ListEncoder<'_> {
    /// The next element.
    pub fn item(&mut self) -> Encoder<'_> {
        Encoder { out: self.out }
    }
}

/// An open dictionary of the output.
pub struct DictEncoder<'o> {
    out: &'o mut Vec<u8>,
    /// Where the key before this one stands in the output.
    last: Option<(usize, usize)>,
}

impl DictEncoder<'_> {
    /// The value of the next key. Keys come in ascending order of their bytes, each once (asserted in debug builds).
    pub fn entry(&mut self, key: impl AsRef<[u8]>) -> Encoder<'_> {
        let key = key.as_ref();
        debug_assert!(self.last.is_none_or(|(from, to)| &self.out[from..to] < key), "keys out of order");
        Encoder { out: self.out }.bytes(key);
        self.last = Some((self.out.len() - key.len(), self.out.len()));
        Encoder { out: self.out }
    }
}

/// Fuzz entry: decodes `data` and asserts that spans lie inside it and that encoding gives the same bytes again.
#[doc(hidden)]
pub fn fuzz_bencode(data: &[u8]) {
    match decode_prefix(data) {
        Err(error) => {
            assert!(error.at <= data.len(), "{error}");
            assert!(decode(data).is_err());
        }
        Ok((value, used)) => {
            assert_eq!(value.raw(), &data[..used]);
            assert_eq!(decode(data).is_ok(), used == data.len());
            let mut out = Vec::with_capacity(used);
            encode_again(value, data, &mut out);
            assert!(out == data[..used], "encoded again, it differs");
        }
    }
}

/// Writes what the accessors say of `value`, keys in the order of the input. Recursion is as deep as values nest.
fn encode_again(value: Value<'_>, data: &[u8], out: &mut Vec<u8>) {
    assert_eq!(&data[value.at()..][..value.raw().len()], value.raw());
    if let Some(int) = value.as_int() {
        Encoder::new(out).int(int);
    } else if let Some(bytes) = value.as_bytes() {
        Encoder::new(out).bytes(bytes);
    } else if let Some(list) = value.as_list() {
        out.push(b'l');
        list.for_each(|item| encode_again(item, data, out));
        out.push(b'e');
    } else if let Some(dict) = value.as_dict() {
        out.push(b'd');
        for (key, value) in dict.iter() {
            Encoder::new(out).bytes(key);
            encode_again(value, data, out);
        }
        out.push(b'e');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::base::testing::rounds;
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, Debug)]
    enum Tree {
        Int(i64),
        Bytes(Vec<u8>),
        List(Vec<Tree>),
        Dict(BTreeMap<Vec<u8>, Tree>),
    }

    fn random(rng: &mut Rng, depth: u32) -> Tree {
        match rng.below(if depth == 0 { 2 } else { 4 }) {
            0 => Tree::Int(rng.u64() as i64 >> rng.below(64)),
            1 => Tree::Bytes(bytes(rng)),
            2 => Tree::List((0..rng.below(5)).map(|_| random(rng, depth - 1)).collect()),
            _ => Tree::Dict((0..rng.below(5)).map(|_| (bytes(rng), random(rng, depth - 1))).collect()),
        }
    }

    fn bytes(rng: &mut Rng) -> Vec<u8> {
        let mut bytes = vec![0; rng.index(12)];
        rng.fill(&mut bytes);
        bytes
    }

    fn write(tree: &Tree, e: Encoder<'_>) {
        match tree {
            Tree::Int(int) => e.int(*int),
            Tree::Bytes(bytes) => e.bytes(bytes),
            Tree::List(list) => e.list(|l| list.iter().for_each(|item| write(item, l.item()))),
            Tree::Dict(dict) => e.dict(|d| dict.iter().for_each(|(key, value)| write(value, d.entry(key)))),
        }
    }

    fn read(value: Value<'_>) -> Tree {
        if let Some(int) = value.as_int() {
            Tree::Int(int)
        } else if let Some(bytes) = value.as_bytes() {
            Tree::Bytes(bytes.to_vec())
        } else if let Some(list) = value.as_list() {
            Tree::List(list.map(read).collect())
        } else {
            Tree::Dict(value.as_dict().unwrap().iter().map(|(k, v)| (k.to_vec(), read(v))).collect())
        }
    }

    #[test]
    fn encode_then_decode_is_the_identity() {
        let mut rng = Rng::new([1; 32]);
        for _ in 0..rounds(3000) {
            let tree = random(&mut rng, 5);
            let encoded = encode(|e| write(&tree, e));
            assert_eq!(read(decode(&encoded).unwrap()), tree);
            fuzz_bencode(&encoded);
            // Cut short anywhere, it is an error at or before the cut.
            let cut = rng.index(encoded.len());
            assert!(decode(&encoded[..cut]).unwrap_err().at <= cut);
        }
    }

    #[test]
    fn any_bytes_never_panic() {
        let mut rng = Rng::new([2; 32]);
        for _ in 0..rounds(20_000) {
            let len = rng.index(40);
            let data: Vec<u8> = (0..len).map(|_| b"dlie0123456789:-ae"[rng.index(18)]).collect();
            fuzz_bencode(&data);
        }
    }

    fn fails(input: &str, at: usize, kind: Kind) {
        assert_eq!(decode(input.as_bytes()).unwrap_err(), Error { at, kind }, "{input}");
    }

    #[test]
    fn errors_name_the_byte_and_the_reason() {
        fails("", 0, Kind::End);
        fails("x", 0, Kind::Byte(b'x'));
        fails("e", 0, Kind::Byte(b'e'));
        fails("-1:a", 0, Kind::Byte(b'-'));
        fails("ie", 1, Kind::Digit);
        fails("i-e", 2, Kind::Digit);
        fails("i 1e", 1, Kind::Digit);
        fails("i+1e", 1, Kind::Digit);
        fails("i1-e", 2, Kind::Digit);
        fails("i1", 2, Kind::End);
        fails("li03ee", 1, Kind::Zero);
        fails("i00e", 0, Kind::Zero);
        fails("i-0e", 0, Kind::Zero);
        fails("i-01e", 0, Kind::Zero);
        fails("i9223372036854775808e", 0, Kind::Range);
        fails("i-9223372036854775809e", 0, Kind::Range);
        fails("00:", 0, Kind::Zero);
        fails("01:a", 0, Kind::Zero);
        fails("2:a", 0, Kind::Length);
        fails("l1:a99999999999999999999999999:e", 4, Kind::Length);
        fails("1a", 1, Kind::Digit);
        fails("1", 1, Kind::End);
        fails("l", 1, Kind::End);
        fails("di1ei1ee", 1, Kind::Key);
        fails("d1:ae", 4, Kind::Byte(b'e'));
        fails("d1:ai1eli1eee", 7, Kind::Key);
        fails("i1ei2e", 3, Kind::Trailing);
        assert_eq!(decode(b"i1ex").unwrap_err().to_string(), "byte 3: bytes follow the value");
    }

    #[test]
    fn the_ends_of_the_ranges_are_in() {
        assert_eq!(decode(b"i9223372036854775807e").unwrap().as_int(), Some(i64::MAX));
        assert_eq!(decode(b"i-9223372036854775808e").unwrap().as_int(), Some(i64::MIN));
        assert_eq!(decode(b"i0e").unwrap().as_int(), Some(0));
        assert_eq!(decode(b"0:").unwrap().as_bytes(), Some(&b""[..]));
        assert_eq!(decode(b"le").unwrap().as_list().unwrap().count(), 0);
        assert_eq!(decode(b"de").unwrap().as_dict().unwrap().iter().count(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn depth_is_bounded_and_nothing_recurses() {
        let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        assert!(decode(&nested(BENCODE_DEPTH)).is_ok());
        let error = decode(&nested(BENCODE_DEPTH + 1)).unwrap_err();
        assert_eq!(error, Error { at: BENCODE_DEPTH, kind: Kind::Depth });
        assert_eq!(decode(&vec![b'l'; 10 << 20]).unwrap_err().kind, Kind::Depth);
        let wide = [&b"d"[..], &b"1:ai1e".repeat(1 << 20), b"e"].concat();
        assert_eq!(decode(&wide).unwrap().get(b"b").map(Value::raw), None);
        let dicts = [b"d1:a".repeat(BENCODE_DEPTH), b"le".to_vec(), vec![b'e'; BENCODE_DEPTH]].concat();
        assert_eq!(decode(&dicts).unwrap_err().kind, Kind::Depth);
    }

    #[test]
    fn values_know_their_type_place_and_span() {
        let value = decode(b"d1:bl2:\xff\xfei-7ee1:a4:text1:cde1:ai9ee").unwrap();
        let list = value.get(b"b").unwrap();
        assert_eq!((list.raw(), list.at()), (&b"l2:\xff\xfei-7ee"[..], 4));
        let items: Vec<Value<'_>> = list.as_list().unwrap().collect();
        assert_eq!((items[0].as_bytes(), items[0].as_str()), (Some(&b"\xff\xfe"[..]), None));
        assert_eq!((items[1].as_int(), items[1].at(), items[1].as_bytes()), (Some(-7), 9, None));
        assert!(items[0].as_int().is_none() && items[0].as_list().is_none() && list.as_dict().is_none());
        assert_eq!(value.get(b"a").unwrap().as_str(), Some("text"));
        assert!(value.get(b"c").unwrap().as_dict().is_some() && list.get(b"a").is_none());
    }

    #[test]
    fn a_doubled_key_is_an_error_only_where_it_is_asked_for() {
        let dict = decode(b"d1:bi1e1:ai2e1:bi3ee").unwrap().as_dict().unwrap();
        let [a, c] = dict.fields(["a", "c"]).unwrap();
        assert_eq!((a.and_then(Value::as_int), c.and_then(Value::as_int)), (Some(2), None));
        assert_eq!(dict.fields(["b"]).unwrap_err(), Error { at: 16, kind: Kind::Duplicate });
        assert_eq!(dict.get(b"b").and_then(Value::as_int), Some(1));
    }

    #[test]
    fn a_tail_is_told_apart() {
        let (value, used) = decode_prefix(b"d1:ai1eetail").unwrap();
        assert_eq!((value.raw(), used), (&b"d1:ai1ee"[..], 8));
    }

    #[test]
    fn the_encoder_writes_the_canonical_form() {
        let out = encode(|e| {
            e.dict(|d| {
                d.entry("a").int(-1);
                d.entry("b").list(|l| {
                    l.item().str("x");
                    l.item().raw(b"i5e");
                });
                d.entry(b"c\xff").bytes(b"\x00");
            });
        });
        assert_eq!(out, b"d1:ai-1e1:bl1:xi5ee2:c\xff1:\x00e");
    }

    #[test]
    #[should_panic(expected = "keys out of order")]
    fn keys_out_of_order_are_a_bug() {
        encode(|e| {
            e.dict(|d| {
                d.entry("b").int(1);
                d.entry("a").int(1);
            });
        });
    }
}
