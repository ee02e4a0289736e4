//! HTTP/1.1 as a client needs it: the bytes of a GET, the head of the answer (parsed by httparse), and the body as it
//! arrives, plain or chunked (RFC 9112). Bounded throughout; no compression.

use crate::limits;
use crate::proto::metainfo::text;
use crate::proto::tracker::shown;
use crate::proto::tracker::url::Url;

/// The request for a URL. Nothing of the URL can end a line early: see [`Url`].
pub fn get(url: &Url) -> Vec<u8> {
    request(url, "Connection: close\r\n")
}

/// The request for so many bytes of it (not 0), from byte `from` on; the connection stays for the next one.
pub fn get_range(url: &Url, from: u64, len: u64) -> Vec<u8> {
    request(url, &format!("Range: {}\r\n", range(from, len)))
}

/// The value of a `Range` header (RFC 9110, 14.2).
fn range(from: u64, len: u64) -> String {
    format!("bytes={from}-{}", from.saturating_add(len).saturating_sub(1))
}

fn request(url: &Url, fields: &str) -> Vec<u8> {
    let mut out = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept-Encoding: identity\r\n{fields}",
        url.target(),
        url.authority()
    );
    if let Some(user) = url.user() {
        out.push_str("Authorization: Basic ");
        out.push_str(&base64(user));
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// How we name ourselves to servers.
pub const USER_AGENT: &str = concat!("ptorrent/", env!("CARGO_PKG_VERSION"));

/// Whether bytes are compressed with gzip (RFC 1952), whatever a server calls them.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b")
}

/// What is wrong with an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The head is not HTTP/1.
    Head,
    /// The head is longer than [`limits::HTTP_HEAD_MAX`] or has more lines than [`limits::HTTP_HEADERS_MAX`].
    HeadTooLong,
    /// The body's length is not a number, or is given twice and differently.
    Length,
    /// The body is compressed, though we asked for it plain.
    Encoding(String),
    /// The body comes in a transfer coding other than `chunked`.
    Transfer(String),
    /// A chunk is not framed as it has to be.
    Chunk,
    /// The body is longer than the caller allows, which was so many bytes.
    TooLarge(u64),
    /// The connection ended before the body did.
    CutShort,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Head => f.write_str("the answer is not HTTP"),
            Error::HeadTooLong => f.write_str("the answer's head is too long"),
            Error::Length => f.write_str("the answer's Content-Length is invalid"),
            Error::Encoding(name) => {
                write!(f, "the answer is encoded as \"{name}\", which was not asked for")
            }
            Error::Transfer(name) => write!(f, "the answer has the unknown Transfer-Encoding \"{name}\""),
            Error::Chunk => f.write_str("the answer's chunks are malformed"),
            Error::TooLarge(max) => write!(f, "the answer is longer than {max} bytes"),
            Error::CutShort => f.write_str("the answer was cut short"),
        }
    }
}

impl std::error::Error for Error {}

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// The body says so itself.
    Chunked,
    /// The connection ends.
    Close,
}

/// The head of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// How the end of the body is known.
    pub framing: Framing,
    /// Where a redirect leads, as it is written.
    pub location: Option<String>,
    /// The content coding, where it is not `identity`; printable.
    pub encoding: Option<String>,
    /// Which part of the whole the body is, where that is said and makes sense.
    pub part: Option<Part>,
    /// When to come again, in seconds (RFC 9110, 10.2.3); dates are not read.
    pub retry_after: Option<u64>,
    /// Another request may follow on this connection.
    pub keep: bool,
    /// Where the body begins in the bytes given.
    pub body: usize,
}

/// A `Content-Range` (RFC 9110, 14.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first byte.
    pub from: u64,
    /// The last byte.
    pub to: u64,
    /// How long the whole is, if the server knows.
    pub whole: Option<u64>,
}

impl Part {
    /// Reads `bytes FROM-TO/WHOLE`.
    pub fn parse(value: &[u8]) -> Option<Part> {
        let text = std::str::from_utf8(value).ok()?;
        let (unit, text) = text.split_at_checked(6)?;
        let (range, whole) = text.trim_start().split_once('/')?;
        let (from, to) = range.split_once('-')?;
        let number = |text: &str| decimal(text.as_bytes());
        let whole = if whole == "*" { None } else { Some(number(whole)?) };
        let part = Part { from: number(from)?, to: number(to)?, whole };
        let sound = part.from <= part.to && part.whole.is_none_or(|whole| part.to < whole);
        (unit.eq_ignore_ascii_case("bytes ") && sound).then_some(part)
    }
}

impl Head {
    /// An error if the body is compressed, for those who would have to read it.
    pub fn plain(&self) -> Result<(), Error> {
        self.encoding.as_ref().map_or(Ok(()), |name| Err(Error::Encoding(name.clone())))
    }

    /// Where to ask instead, if the answer says so (RFC 9110, 15.4). Not checked yet: see [`Url::join`].
    pub fn redirect(&self) -> Option<&str> {
        if matches!(self.status, 301 | 302 | 303 | 307 | 308) { self.location.as_deref() } else { None }
    }
}

/// Reads the head at the start of `bytes`; None while it is not all there. Interim answers (1xx) are passed over.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, Error> {
    let within = &bytes[..bytes.len().min(limits::HTTP_HEAD_MAX)];
    let mut at = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&within[at..]) {
            Ok(httparse::Status::Complete(len)) => {
                at += len;
                let status = answer.code.unwrap_or(0);
                if !(100..200).contains(&status) {
                    let lasting = answer.version == Some(1);
                    return fields(status, answer.headers, at, lasting).map(Some);
                }
            }
            Ok(httparse::Status::Partial) if within.len() < limits::HTTP_HEAD_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Error::HeadTooLong);
            }
            Err(_) => return Err(Error::Head),
        }
    }
}

/// What we need of the header lines; `keep`: connections last unless they are said not to.
fn fields(status: u16, headers: &[httparse::Header<'_>], body: usize, keep: bool) -> Result<Head, Error> {
    let mut head = Head {
        status,
        framing: Framing::Close,
        location: None,
        encoding: None,
        part: None,
        retry_after: None,
        keep,
        body,
    };
    for header in headers {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("location") {
            head.location = Some(text(value).into_owned());
        } else if header.name.eq_ignore_ascii_case("content-encoding") {
            if !value.is_empty() && !value.eq_ignore_ascii_case(b"identity") {
                head.encoding = Some(shown(value));
            }
        } else if header.name.eq_ignore_ascii_case("content-range") {
            head.part = Part::parse(value);
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            head.retry_after = decimal(value);
        } else if header.name.eq_ignore_ascii_case("connection") {
            let mut words = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
            head.keep &= !words.any(|word| word.eq_ignore_ascii_case(b"close"));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            match value {
                v if v.eq_ignore_ascii_case(b"chunked") => head.framing = Framing::Chunked,
                v if v.eq_ignore_ascii_case(b"identity") => {}
                v => return Err(Error::Transfer(shown(v))),
            }
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let length = Framing::Length(decimal(value).ok_or(Error::Length)?);
            match head.framing {
                Framing::Close => head.framing = length,
                Framing::Length(_) if head.framing != length => return Err(Error::Length),
                // A chunked body knows its own end better (RFC 9112, 6.3).
                Framing::Length(_) | Framing::Chunked => {}
            }
        }
    }
    if matches!(status, 204 | 304) {
        head.framing = Framing::Length(0);
    }
    head.keep &= head.framing != Framing::Close;
    Ok(head)
}

/// A number of digits only; `str::parse` would allow a sign.
fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Where in a body we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// So many bytes to go.
    Length(u64),
    UntilClose,
    /// In the line that opens a chunk: the size so far, the bytes of the line, whether its digits are over.
    Size {
        size: u64,
        line: usize,
        over: bool,
    },
    /// So many bytes of the chunk to go.
    Data(u64),
    /// After a chunk's data: whether its CR was there.
    DataEnd(bool),
    /// After the last chunk: the bytes of this line and of all.
    Trailer {
        line: usize,
        all: usize,
    },
    Done,
}

const CHUNK: Phase = Phase::Size { size: 0, line: 0, over: false };

/// Takes a body out of the bytes of a connection, in whatever parts they come.
pub struct Body {
    phase: Phase,
    /// The most bytes that may still come out.
    room: u64,
    max: u64,
}

impl Body {
    /// The body of a head with this framing, of at most `max` bytes. Bytes come out as the server has them, in whatever
    /// content coding: see [`Head::plain`].
    pub fn new(framing: Framing, max: u64) -> Result<Body, Error> {
        let phase = match framing {
            Framing::Length(len) if len > max => return Err(Error::TooLarge(max)),
            Framing::Length(0) => Phase::Done,
            Framing::Length(len) => Phase::Length(len),
            Framing::Chunked => CHUNK,
            Framing::Close => Phase::UntilClose,
        };
        Ok(Body { phase, room: max, max })
    }

    /// Appends to `out` what `input` holds of the body. True once the body is whole; what follows it is ignored.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        self.take(input, out).map(|_| self.phase == Phase::Done)
    }

    /// The same; tells how many bytes of `input` are the body's. It [is done](Body::is_done) where some are left.
    pub fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<usize, Error> {
        let len = input.len();
        while let Some((&byte, after)) = input.split_first() {
            match self.phase {
                Phase::Done => break,
                Phase::Length(left) => {
                    let left = left - self.copy(left, &mut input, out)?;
                    self.phase = if left == 0 { Phase::Done } else { Phase::Length(left) };
                }
                Phase::UntilClose => {
                    self.copy(u64::MAX, &mut input, out)?;
                }
                Phase::Data(left) => {
                    let left = left - self.copy(left, &mut input, out)?;
                    self.phase = if left == 0 { Phase::DataEnd(false) } else { Phase::Data(left) };
                }
                Phase::Size { .. } | Phase::DataEnd(_) | Phase::Trailer { .. } => {
                    self.phase = self.after(byte)?;
                    input = after;
                }
            }
        }
        Ok(len - input.len())
    }

    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The connection has ended: an error, if the body had not.
    pub fn end(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Done | Phase::UntilClose => Ok(()),
            _ => Err(Error::CutShort),
        }
    }

    /// Moves up to `left` bytes to `out`; tells how many.
    fn copy(&mut self, left: u64, input: &mut &[u8], out: &mut Vec<u8>) -> Result<u64, Error> {
        let n = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (bytes, rest) = input.split_at(n);
        self.room = self.room.checked_sub(n as u64).ok_or(Error::TooLarge(self.max))?;
        out.extend_from_slice(bytes);
        *input = rest;
        Ok(n as u64)
    }

    /// The phase after one byte between the data of chunks.
    fn after(&self, byte: u8) -> Result<Phase, Error> {
        match (self.phase, byte) {
            (Phase::Size { line: 0, .. }, b'\n' | b'\r' | b';' | b' ') => Err(Error::Chunk),
            (Phase::Size { size: 0, .. }, b'\n') => Ok(Phase::Trailer { line: 0, all: 0 }),
            (Phase::Size { size, .. }, b'\n') if size > self.room => Err(Error::TooLarge(self.max)),
            (Phase::Size { size, .. }, b'\n') => Ok(Phase::Data(size)),
            (Phase::Size { line, .. }, _) if line >= limits::HTTP_CHUNK_LINE_MAX => Err(Error::Chunk),
            (Phase::Size { size, line, over: true }, _) => {
                Ok(Phase::Size { size, line: line + 1, over: true })
            }
            (Phase::Size { size, line, .. }, b'\r' | b';' | b' ' | b'\t') => {
                Ok(Phase::Size { size, line: line + 1, over: true })
            }
            (Phase::Size { size, line, .. }, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Error::Chunk)?;
                let size = size.checked_mul(16).ok_or(Error::TooLarge(self.max))? + u64::from(digit);
                Ok(Phase::Size { size, line: line + 1, over: false })
            }
            (Phase::DataEnd(false), b'\r') => Ok(Phase::DataEnd(true)),
            (Phase::DataEnd(_), b'\n') => Ok(CHUNK),
            (Phase::DataEnd(_), _) => Err(Error::Chunk),
            (Phase::Trailer { all, .. }, _) if all >= limits::HTTP_HEAD_MAX => Err(Error::HeadTooLong),
            (Phase::Trailer { line: 0, .. }, b'\n') => Ok(Phase::Done),
            (Phase::Trailer { all, .. }, b'\n') => Ok(Phase::Trailer { line: 0, all: all + 1 }),
            (Phase::Trailer { line, all }, b'\r') => Ok(Phase::Trailer { line, all: all + 1 }),
            (Phase::Trailer { line, all }, _) => Ok(Phase::Trailer { line: line + 1, all: all + 1 }),
            (phase, _) => Ok(phase),
        }
    }
}

/// RFC 4648 base64, padded.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * i) & 63]);
            out.push(if i > chunk.len() { '=' } else { letter });
        }
    }
    out
}

/// Reads `data` as an answer, whole and byte by byte, and asserts that both say the same and stay in bounds.
#[doc(hidden)]
pub fn fuzz_http(data: &[u8]) {
    const MAX: u64 = 1000;
    let Ok(Some(head)) = head(data) else { return };
    assert!(head.body <= data.len().min(limits::HTTP_HEAD_MAX));
    let read = |step: usize| -> Result<(Vec<u8>, bool), Error> {
        let (mut body, mut out) = (Body::new(head.framing, MAX)?, Vec::new());
        for part in data[head.body..].chunks(step) {
            let more = body.feed(part, &mut out)?;
            assert!(out.len() as u64 <= MAX && more == (body.phase == Phase::Done));
        }
        body.end().map(|()| (out, body.phase == Phase::Done))
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(7));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> (Head, Result<Vec<u8>, Error>) {
        fuzz_http(text.as_bytes());
        let head = head(text.as_bytes()).unwrap().unwrap();
        let body = head.plain().and_then(|()| Body::new(head.framing, 20)).and_then(|mut body| {
            let mut out = Vec::new();
            body.feed(&text.as_bytes()[head.body..], &mut out)?;
            body.end().map(|()| out)
        });
        (head, body)
    }

    fn chunked(body: &str) -> Result<Vec<u8>, Error> {
        answer(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n{body}")).1
    }

    #[test]
    fn a_request_is_as_servers_want_it() {
        let text = String::from_utf8(get(&Url::parse("http://u:pw@t.example:6969/a?b").unwrap())).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text,
            format!(
                "GET /a?b HTTP/1.1\r\nHost: t.example:6969\r\nUser-Agent: ptorrent/{version}\r\n\
                 Accept-Encoding: identity\r\nConnection: close\r\nAuthorization: Basic dTpwdw==\r\n\r\n"
            )
        );
        let plain = get(&Url::parse("http://[::1]/").unwrap());
        assert!(plain.starts_with(b"GET / HTTP/1.1\r\nHost: [::1]\r\n") && plain.ends_with(b"close\r\n\r\n"));
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }

    #[test]
    fn a_head_is_read_once_it_is_there() {
        let text = b"HTTP/1.1 302 Found\r\nLOCATION:  /x \r\nContent-length: 3\r\n\r\nabc";
        let end = text.len() - 3;
        for cut in 0..end {
            assert_eq!(head(&text[..cut]), Ok(None), "{cut}");
        }
        let head = head(text).unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.body), (302, Framing::Length(3), end));
        assert_eq!((head.redirect(), head.encoding.as_deref()), (Some("/x"), None));
        let (head, body) = answer("HTTP/1.0 200 OK\nLocation: /x\n\nabc");
        assert_eq!((head.framing, head.redirect(), body), (Framing::Close, None, Ok(b"abc".to_vec())));
        let text = "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 Gone\r\n\r\n";
        let (head, _) = answer(text);
        assert_eq!((head.status, head.framing, head.body), (204, Framing::Length(0), text.len()));
    }

    #[test]
    fn a_head_is_bounded() {
        let line = "X: ".to_string() + &"y".repeat(limits::HTTP_HEAD_MAX) + "\r\n";
        assert_eq!(head(format!("HTTP/1.1 200 OK\r\n{line}\r\n").as_bytes()), Err(Error::HeadTooLong));
        let lines = "X: y\r\n".repeat(limits::HTTP_HEADERS_MAX + 1);
        assert_eq!(head(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes()), Err(Error::HeadTooLong));
        assert_eq!(head("HTTP/1.1 100 Go\r\n\r\n".repeat(1000).as_bytes()), Err(Error::HeadTooLong));
        assert_eq!(head(b"SSH-2.0-OpenSSH\r\n"), Err(Error::Head));
    }

    #[test]
    fn a_length_is_believed_only_when_it_is_one() {
        let of = |fields: &str| {
            head(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).map(|h| h.unwrap().framing)
        };
        for wrong in ["+3", "-1", "3, 3", "0x3", "18446744073709551616", ""] {
            assert_eq!(of(&format!("Content-Length: {wrong}")), Err(Error::Length), "{wrong:?}");
        }
        assert_eq!(of("Content-Length: 3\r\nContent-Length: 4"), Err(Error::Length));
        assert_eq!(of("Content-Length: 3\r\nContent-Length: 3"), Ok(Framing::Length(3)));
        assert_eq!(of("Content-Length: 3\r\nTransfer-Encoding: chunked"), Ok(Framing::Chunked));
        assert_eq!(of("Transfer-Encoding: chunked\r\nContent-Length: 3"), Ok(Framing::Chunked));
        assert_eq!(of("Transfer-Encoding: gzip, chunked"), Err(Error::Transfer("gzip, chunked".into())));
    }

    #[test]
    fn compression_is_refused_by_name() {
        let (head, body) = answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx");
        assert_eq!((head.encoding.as_deref(), &body), (Some("gzip"), &Err(Error::Encoding("gzip".into()))));
        assert!(body.unwrap_err().to_string().contains("\"gzip\""));
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\nx").1, Ok(b"x".to_vec()));
    }

    #[test]
    fn a_plain_body_ends_where_it_says() {
        let of = |len: u32, body: &str| {
            answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}")).1
        };
        assert_eq!(of(3, "abcdef"), Ok(b"abc".to_vec()));
        assert_eq!(of(0, "abc"), Ok(vec![]));
        assert_eq!(of(4, "abc"), Err(Error::CutShort));
        assert_eq!(of(21, ""), Err(Error::TooLarge(20)));
        assert_eq!(answer(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(21))).1, Err(Error::TooLarge(20)));
        assert_eq!(answer(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(20))).1.map(|b| b.len()), Ok(20));
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(
            chunked("3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nrest"),
            Ok(b"abc0123456789".to_vec())
        );
        assert_eq!(chunked("3\nabc\n0\n\n"), Ok(b"abc".to_vec()));
        assert_eq!(chunked("0\r\n\r\n"), Ok(vec![]));
        assert_eq!(chunked("0003 \r\nabc\r\n00\r\n\r\n"), Ok(b"abc".to_vec()));
    }

    #[test]
    fn malformed_and_endless_chunks_are_refused() {
        for wrong in ["\r\n", ";x\r\n", "-1\r\n", "g\r\n", "0x3\r\n", "3\r\nabcd", "3\r\nabc\r\r\n"] {
            assert_eq!(chunked(wrong), Err(Error::Chunk), "{wrong:?}");
        }
        for short in ["", "3", "3\r\nab", "3\r\nabc", "3\r\nabc\r\n0\r\n", "3\r\nabc\r\n0\r\nx: y\r\n"] {
            assert_eq!(chunked(short), Err(Error::CutShort), "{short:?}");
        }
        for large in ["15\r\n", "ffffffffffffffff\r\n", "1ffffffffffffffff\r\n", "a\r\n0123456789\r\nb\r\n"] {
            assert_eq!(chunked(large), Err(Error::TooLarge(20)), "{large:?}");
        }
        assert_eq!(chunked(&format!("1;{}", "x".repeat(limits::HTTP_CHUNK_LINE_MAX))), Err(Error::Chunk));
        assert_eq!(chunked(&"0".repeat(limits::HTTP_CHUNK_LINE_MAX + 1)), Err(Error::Chunk));
        let trailer = format!("0\r\n{}", "x: y\r\n".repeat(limits::HTTP_HEAD_MAX / 6 + 1));
        assert_eq!(chunked(&trailer), Err(Error::HeadTooLong));
    }
}
