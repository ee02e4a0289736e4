//! HTTP/1 as the embedded tracker needs it: the head of a request (parsed by httparse, RFC 9112), and replies. GET only,
//! no bodies, bounded throughout.

use crate::limits;
use crate::proto::http::USER_AGENT;

/// Why a request is not answered as it was meant: a status, after which the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not HTTP/1, or has a body.
    Bad,
    /// Another method than GET.
    Method,
    /// The first line is longer than [`limits::TRACKER_LINE_MAX`].
    TargetTooLong,
    /// The head is longer than [`limits::TRACKER_HEAD_MAX`], or has more lines than [`limits::HTTP_HEADERS_MAX`].
    HeadTooLong,
    /// Another version than HTTP/1.0 and 1.1.
    Version,
}

impl Fault {
    /// The status line's code and words.
    pub fn status(self) -> &'static str {
        match self {
            Fault::Bad => "400 Bad Request",
            Fault::Method => "405 Method Not Allowed",
            Fault::TargetTooLong => "414 URI Too Long",
            Fault::HeadTooLong => "431 Request Header Fields Too Large",
            Fault::Version => "505 HTTP Version Not Supported",
        }
    }
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// Path and query.
    pub target: &'a str,
    /// Whether the connection may carry another one after it.
    pub keep_alive: bool,
    /// Bytes that it takes.
    pub len: usize,
}

/// Reads the request at the start of `bytes`; None while it is not all there.
pub fn request(bytes: &[u8]) -> Result<Option<Request<'_>>, Fault> {
    let line = bytes.iter().take(limits::TRACKER_LINE_MAX + 1).take_while(|byte| **byte != b'\n').count();
    let too_long = line > limits::TRACKER_LINE_MAX;
    let most = if too_long { line } else { limits::TRACKER_HEAD_MAX };
    let within = &bytes[..bytes.len().min(most)];
    let mut headers = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(within) {
        Ok(_) if too_long => return Err(Fault::TargetTooLong),
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if within.len() < limits::TRACKER_HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Fault::HeadTooLong);
        }
        Err(httparse::Error::Version) => return Err(Fault::Version),
        Err(_) => return Err(Fault::Bad),
    };
    if request.method != Some("GET") {
        return Err(Fault::Method);
    }
    let (Some(target), Some(version)) = (request.path, request.version) else { return Err(Fault::Bad) };
    let mut keep_alive = version == 1;
    for header in request.headers.iter() {
        let named = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        if named("connection") {
            let mut words = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            if words.clone().any(|word| word.eq_ignore_ascii_case(b"close")) {
                keep_alive = false;
            } else if words.any(|word| word.eq_ignore_ascii_case(b"keep-alive")) {
                keep_alive = true;
            }
        } else if named("transfer-encoding") || named("content-length") && value != b"0" {
            // Where the next request begins would be a matter of opinion.
            return Err(Fault::Bad);
        }
    }
    Ok(Some(Request { target: path_of(target), keep_alive, len }))
}

/// Path and query of a target that may be a whole URL (RFC 9112, 3.2.2).
fn path_of(target: &str) -> &str {
    let Some((scheme, rest)) = target.split_once("://") else { return target };
    if !scheme.eq_ignore_ascii_case("http") {
        return target;
    }
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// Appends a reply with this status and body.
pub fn reply(out: &mut Vec<u8>, status: &str, keep_alive: bool, body: &[u8]) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: {USER_AGENT}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{allow}\
         Connection: {connection}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// Reads `data` as a request, and asserts that it says the same with more behind it, and nothing before it is whole.
#[doc(hidden)]
pub fn fuzz_request(data: &[u8]) {
    let Ok(Some(read)) = request(data) else { return };
    assert!(read.len <= data.len().min(limits::TRACKER_HEAD_MAX));
    assert!(read.target.len() < read.len && read.target.bytes().all(|byte| byte > b' '));
    assert_eq!(request(&data[..read.len]), Ok(Some(read)));
    assert_eq!(request(&data[..read.len - 1]), Ok(None));
    let mut more = data[..read.len].to_vec();
    more.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(request(&more), Ok(Some(read)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Request<'_>>, Fault> {
        fuzz_request(text.as_bytes());
        request(text.as_bytes())
    }

    #[test]
    fn a_request_is_read_once_it_is_there() {
        let text = "GET /announce?a=b HTTP/1.1\r\nHost: x\r\n\r\nGET";
        for cut in 0..text.len() - 3 {
            assert_eq!(request(&text.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        let whole = Request { target: "/announce?a=b", keep_alive: true, len: text.len() - 3 };
        assert_eq!(read(text), Ok(Some(whole)));
        assert_eq!(read("GET http://t:1/x?y HTTP/1.1\r\n\r\n").map(|r| r.unwrap().target), Ok("/x?y"));
        assert_eq!(read("GET HTTP://t HTTP/1.1\r\n\r\n").map(|r| r.unwrap().target), Ok("/"));
    }

    #[test]
    fn who_closes_is_agreed_on() {
        let of = |version: &str, lines: &str| {
            read(&format!("GET / HTTP/{version}\r\n{lines}\r\n")).unwrap().unwrap().keep_alive
        };
        assert!(of("1.1", "") && !of("1.0", ""));
        assert!(!of("1.1", "Connection: x, Close\r\n") && of("1.0", "connection: Keep-Alive\r\n"));
        assert!(!of("1.1", "Connection: keep-alive, close\r\n"));
    }

    #[test]
    fn what_is_no_get_without_a_body_is_refused() {
        for (text, fault) in [
            ("POST / HTTP/1.1\r\n\r\n", Fault::Method),
            ("HEAD / HTTP/1.1\r\n\r\n", Fault::Method),
            ("GET / HTTP/2.0\r\n\r\n", Fault::Version),
            ("SSH-2.0-OpenSSH\r\n", Fault::Bad),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Fault::Bad),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::Bad),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", Fault::Bad),
        ] {
            assert_eq!(read(text), Err(fault), "{text}");
        }
        assert!(read("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").is_ok());
        let long = format!("GET /{}", "x".repeat(limits::TRACKER_LINE_MAX));
        assert_eq!(read(&long), Err(Fault::TargetTooLong));
        assert_eq!(read(&format!("{long} HTTP/1.1\r\n\r\n")), Err(Fault::TargetTooLong));
        let line = format!("X: {}", "y".repeat(limits::TRACKER_HEAD_MAX));
        assert_eq!(read(&format!("GET / HTTP/1.1\r\n{line}")), Err(Fault::HeadTooLong));
        let lines = "X: y\r\n".repeat(limits::HTTP_HEADERS_MAX + 1);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\n{lines}\r\n")), Err(Fault::HeadTooLong));
    }

    #[test]
    fn a_reply_says_how_long_it_is() {
        let mut out = Vec::new();
        reply(&mut out, "200 OK", true, b"abc");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("keep-alive\r\n\r\nabc"), "{text}");
        assert!(text.contains("Content-Length: 3\r\n") && !text.contains("Allow"));
        let mut out = Vec::new();
        reply(&mut out, Fault::Method.status(), false, b"");
        assert!(String::from_utf8(out).unwrap().contains("\r\nAllow: GET\r\nConnection: close\r\n\r\n"));
    }
}
