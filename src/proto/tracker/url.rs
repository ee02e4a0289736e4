//! URLs of trackers, from a .torrent file, the command line or a redirect. Users have secrets in them (passkeys in the
//! path or the query, passwords): what is shown by `Display` and `Debug` is scheme, host and port only.

use super::Scheme;
use super::escape::escape;
use crate::limits;
use crate::proto::metainfo::{percent_encode, text};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The host of a URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Host {
    /// A name to look up, in lower case.
    Name(String),
    /// An address as it stood there; an IPv4-mapped one is made IPv4.
    Ip(IpAddr),
}

/// A checked URL. All in it is printable ASCII without spaces, so that it cannot break out of a request's line: what wants
/// escaping is [escaped](super::escape).
#[derive(Clone)]
pub struct Url {
    scheme: Scheme,
    /// `user:password`, decoded.
    user: Option<Vec<u8>>,
    host: Host,
    port: u16,
    /// Path and query, from the first slash.
    target: String,
    /// The user named it, not a stranger; makes no difference to which URL it is.
    trusted: bool,
}

impl PartialEq for Url {
    fn eq(&self, other: &Url) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Url {}

/// Why a URL is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Longer than [`limits::URL_MAX`].
    TooLong,
    /// Not `http://`, `https://` or `udp://`.
    Scheme,
    /// The host is missing or cannot be one.
    Host,
    /// The host is written in letters beyond ASCII; names on the wire are not.
    HostNotAscii,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A `udp://` URL has no usual port.
    NoPort,
    /// A redirect from `https://` to `http://`: the passkey would go on in the clear, so it is not followed.
    Downgrade,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLong => write!(f, "URL longer than {} bytes", limits::URL_MAX),
            Error::Scheme => f.write_str("URL is not http://, https:// or udp://"),
            Error::Host => f.write_str("URL without a valid host"),
            Error::HostNotAscii => f.write_str("host name is not ASCII: write it in its xn-- form"),
            Error::Port => f.write_str("URL with an invalid port"),
            Error::NoPort => f.write_str("udp:// URL without a port"),
            Error::Downgrade => f.write_str("redirect from https:// to http:// not followed"),
        }
    }
}

impl std::error::Error for Error {}

impl Url {
    /// Reads a URL as browsers do: blanks and control characters around it, line ends, tabs and the fragment are dropped;
    /// what wants escaping in path and query is percent-encoded; all else stays as written.
    pub fn parse(text: &str) -> Result<Url, Error> {
        let text = escaped(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(Error::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "udp" => Scheme::Udp,
            _ => return Err(Error::Scheme),
        };
        Url::after_scheme(scheme, rest)
    }

    /// Reads what follows `scheme://`.
    fn after_scheme(scheme: Scheme, rest: &str) -> Result<Url, Error> {
        let ends: &[char] = if scheme == Scheme::Udp { &['/', '?', '#'] } else { &['/', '\\', '?', '#'] };
        let (authority, target) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(credentials(user)), place),
            None => (None, authority),
        };
        let target = if scheme == Scheme::Udp { target.to_string() } else { with_slashes(target) };
        let (host, port) = host_and_port(place)?;
        let port = match port {
            "" => default_port(scheme).ok_or(Error::NoPort)?,
            port if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().map_err(|_| Error::Port)?,
            _ => return Err(Error::Port),
        };
        if port == 0 {
            return Err(Error::Port);
        }
        Ok(Url { scheme, user, host, port, target: clean_target(&target)?, trusted: false })
    }

    /// The same URL, named by the user: it may lead anywhere (see [`guard`](super::guard)).
    pub fn trust(self) -> Url {
        Url { trusted: true, ..self }
    }

    /// Whether the user named it, or an address inside a network that such a URL led to.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    fn parts(&self) -> (Scheme, &Host, u16, &str, Option<&[u8]>) {
        (self.scheme, &self.host, self.port, &self.target, self.user.as_deref())
    }

    /// How to speak to the host.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whom to speak to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's usual one where none is written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query as they go into a request; may hold secrets.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path without the query.
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether there is a query, an empty one too.
    pub fn has_query(&self) -> bool {
        self.target.contains('?')
    }

    /// `user:password` for HTTP's basic authentication; secret.
    pub fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// Host and port as the `Host` header has them: IPv6 in brackets, a usual port left out.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(IpAddr::V4(ip)) => ip.to_string(),
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if default_port(self.scheme) == Some(self.port) { host } else { format!("{host}:{}", self.port) }
    }

    /// The whole URL with its secrets, for who speaks to the host; never for a log or an error.
    pub fn reveal(&self) -> String {
        let user = match &self.user {
            Some(user) => {
                let (name, password) =
                    user.split_at(user.iter().position(|b| *b == b':').unwrap_or(user.len()));
                format!("{}:{}@", percent_encode(name), percent_encode(password.get(1..).unwrap_or_default()))
            }
            None => String::new(),
        };
        format!("{}://{user}{}{}", name(self.scheme), self.authority(), self.target)
    }

    /// The same URL with `query` appended: after `?`, or after `&` where there is a query already.
    pub fn with_query(&self, query: &str) -> Url {
        let mut url = self.clone();
        match url.target.find('?') {
            None => url.target.push('?'),
            Some(at) if at + 1 == url.target.len() || url.target.ends_with('&') => {}
            Some(_) => url.target.push('&'),
        }
        push_printable(&mut url.target, query);
        url
    }

    /// The URL of a file below this one (BEP 19): the names go behind the path, percent-encoded, with one slash between
    /// any two. None: it would be longer than any such URL has to be.
    pub fn below<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<Url> {
        let mut target = self.target.strip_suffix('/').unwrap_or(&self.target).to_string();
        for name in names {
            target.push('/');
            target.push_str(&percent_encode(name.as_bytes()));
        }
        (target.len() <= limits::WEB_URL_MAX).then(|| Url { target, ..self.clone() })
    }

    /// The URL that this one is [below](Url::below), by those names.
    pub fn above<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<Url> {
        let tail: String = names.map(|name| format!("/{}", percent_encode(name.as_bytes()))).collect();
        let target = self.target.strip_suffix(&tail)?;
        Some(Url { target: format!("{target}/"), ..self.clone() })
    }

    /// Whether it names a folder rather than a file: its path ends in a slash.
    pub fn is_folder(&self) -> bool {
        self.target.ends_with('/')
    }

    /// Where this tracker tells how swarms stand (BEP 48): the word `announce` after the last slash becomes `scrape`.
    /// None: there is no such word, so it does not tell. Over UDP it is the same URL.
    pub fn scrape(&self) -> Option<Url> {
        if self.scheme == Scheme::Udp {
            return Some(self.clone());
        }
        let (folder, rest) = self.target.split_at(self.target.rfind('/')? + 1);
        let rest = rest.strip_prefix("announce")?;
        Some(Url { target: format!("{folder}scrape{rest}"), ..self.clone() })
    }

    /// Where a redirect leads: a whole URL, `//host/path`, `/path`, `?query` or a path beside ours. Never to `udp://`,
    /// and never from `https://` to `http://`. It is trusted as this one is: see
    /// [`guard`](super::guard) for where it may lead. User and password go along only to the same scheme, host and port.
    pub fn join(&self, location: &str) -> Result<Url, Error> {
        let location = with_slashes(&escaped(location)?);
        let location = location.as_str();
        let mut to = if let Some(rest) = location.strip_prefix("//") {
            Url::after_scheme(self.scheme, rest)?
        } else if has_scheme(location) {
            Url::parse(location)?
        } else {
            let target = clean_target(&self.beside(location))?;
            Url { target, ..self.clone() }
        };
        match (self.scheme, to.scheme) {
            (_, Scheme::Udp) => return Err(Error::Scheme),
            (Scheme::Https, Scheme::Http) => return Err(Error::Downgrade),
            _ => {}
        }
        if to.user.is_none() && (to.scheme, &to.host, to.port) == (self.scheme, &self.host, self.port) {
            to.user.clone_from(&self.user);
        }
        to.trusted = self.trusted;
        Ok(to)
    }

    /// The target that a relative reference names, seen from ours; dots of its path resolved (RFC 3986, 5.2).
    fn beside(&self, reference: &str) -> String {
        let reference = reference.split('#').next().unwrap_or_default();
        let path = self.path();
        let (their_path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        if their_path.is_empty() {
            return if query.is_empty() { self.target.clone() } else { format!("{path}{query}") };
        }
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let whole =
            if their_path.starts_with('/') { their_path.into() } else { format!("{folder}{their_path}") };
        let mut kept: Vec<&str> = Vec::new();
        for segment in whole.split('/').skip(1) {
            match segment {
                "." => {}
                ".." => {
                    kept.pop();
                }
                other => kept.push(other),
            }
        }
        let slash = if whole.ends_with("/.") || whole.ends_with("/..") { "/" } else { "" };
        let slash = if kept.is_empty() { "" } else { slash };
        format!("/{}{slash}{query}", kept.join("/"))
    }

    /// `text` with every part of this URL that may be a secret blotted out: trackers repeat passkeys in their errors.
    pub fn hide_in(&self, text: &str) -> String {
        const SHORTEST: usize = 8; // Shorter than any passkey; shorter words stand in innocent texts.
        let user = self.user.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let parts = self.target.split(['/', '?', '&', '=']).chain(user.split(':'));
        let secret = |part: &&str| part.len() >= SHORTEST && !part.starts_with("announce");
        parts.filter(secret).fold(text.to_string(), |text, part| text.replace(part, "…"))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.target == "/" { "/" } else { "/…" };
        write!(f, "{}://{}{path}", name(self.scheme), self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Appends `text`, with all that is not printable ASCII, or would begin a fragment, percent-encoded.
fn push_printable(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'#' {
            out.push(char::from(byte));
        } else {
            out.push_str(&percent_encode(&[byte]));
        }
    }
}

/// A URL of a .torrent or a magnet link as it is kept and shown, escaped. Its scheme may be one that only other programs
/// know. Bytes that are not UTF-8 are percent-encoded as they are.
pub fn kept(url: &[u8]) -> Result<String, Error> {
    if url.len() > limits::URL_MAX {
        return Err(Error::TooLong);
    }
    let url = escaped(&text(url))?;
    let (scheme, rest) = url.split_once("://").ok_or(Error::Scheme)?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return Err(Error::Scheme);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    // A blank or a control character, which no host has.
    if authority.rsplit('@').next().is_some_and(|host| host.contains('%')) {
        return Err(Error::Host);
    }
    Ok(url)
}

/// A text that may be a URL, with no more of it than scheme and host: the rest may be a passkey.
pub fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_string() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split('\\').next().unwrap_or(host);
    let cut = if host == rest { "" } else { "/..." };
    format!("{scheme}://{host}{cut}")
}

/// A text that may be a URL, escaped.
fn escaped(text: &str) -> Result<String, Error> {
    if text.len() > limits::URL_MAX {
        return Err(Error::TooLong);
    }
    let text = escape(text);
    if text.len() > limits::URL_MAX { Err(Error::TooLong) } else { Ok(text) }
}

/// A URL of HTTP, or a reference to one, with slashes in place of the backslashes of its path.
fn with_slashes(text: &str) -> String {
    let (path, query) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    path.replace('\\', "/") + query
}

/// Whether a reference begins with a scheme and a colon, and so is not relative (RFC 3986, 4.2).
fn has_scheme(reference: &str) -> bool {
    let first = reference.split(['/', '?', '#']).next().unwrap_or_default();
    first.contains(':')
}

fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Udp => "udp",
    }
}

fn default_port(scheme: Scheme) -> Option<u16> {
    match scheme {
        Scheme::Http => Some(80),
        Scheme::Https => Some(443),
        Scheme::Udp => None,
    }
}

/// The host, and the port as it is written, or nothing.
fn host_and_port(place: &str) -> Result<(Host, &str), Error> {
    if let Some(rest) = place.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or(Error::Host)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| Error::Host)?;
        let port = if rest.is_empty() { "" } else { rest.strip_prefix(':').ok_or(Error::Host)? };
        return Ok((Host::Ip(ip.to_canonical()), port));
    }
    let (host, port) = place.split_once(':').unwrap_or((place, ""));
    if !host.is_ascii() {
        return Err(Error::HostNotAscii);
    }
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    // 253: the longest name of the DNS (RFC 1035), as text.
    if host.is_empty() || host.len() > 253 || host.starts_with('.') || !host.bytes().all(letters) {
        return Err(Error::Host);
    }
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => Host::Ip(ip),
        Err(_) => Host::Name(host.to_ascii_lowercase()),
    };
    Ok((host, port))
}

/// Path and query from what follows the authority.
fn clean_target(text: &str) -> Result<String, Error> {
    let text = text.split('#').next().unwrap_or_default();
    let mut target = String::with_capacity(text.len() + 1);
    if !text.starts_with('/') {
        target.push('/');
    }
    target.push_str(text);
    if target.len() > limits::URL_MAX { Err(Error::TooLong) } else { Ok(target) }
}

/// `user:password` from the part before the `@`, its percent-encoding undone; a missing password is empty.
fn credentials(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1);
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16)).map(|d| d as u8);
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    if !text.contains(':') {
        out.push(b':');
    }
    out
}

/// Reads `data` as a URL and as a redirect, and asserts that what comes out is fit for a request and reads back as
/// itself.
#[doc(hidden)]
pub fn fuzz_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\n').unwrap_or((&text, "../x?y"));
    let Ok(url) = Url::parse(first) else { return };
    for url in [Some(url.with_query("a=b")), url.join(second).ok(), Some(url)].into_iter().flatten() {
        let whole = url.reveal();
        assert!(whole.bytes().all(|b| b.is_ascii_graphic()) && url.target.starts_with('/'));
        assert!(whole.len() <= 8 * limits::URL_MAX);
        if whole.len() <= limits::URL_MAX {
            assert_eq!(Url::parse(&whole).map(|again| again.reveal()), Ok(whole));
        }
        assert_eq!(url.to_string(), format!("{url:?}"));
        let plain = Url { user: None, target: "/".into(), ..url.clone() };
        assert!(url.to_string().trim_end_matches('…') == plain.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_parts_are_told_apart() {
        let u = url("  HTTP://Tracker.Example:6969/a/announce?x=1#top \n");
        assert_eq!((u.scheme(), u.port(), u.target()), (Scheme::Http, 6969, "/a/announce?x=1"));
        assert_eq!(u.host(), &Host::Name("tracker.example".into()));
        assert_eq!((url("https://a").port(), url("http://a?q").target().to_string()), (443, "/?q".into()));
        assert_eq!(url("http://a:").port(), 80);
        assert_eq!(url("udp://1.2.3.4:80").host(), &Host::Ip([1, 2, 3, 4].into()));
        let u = url("http://[2001:DB8::1]:6969/x");
        assert_eq!(
            (u.authority(), u.reveal()),
            ("[2001:db8::1]:6969".into(), "http://[2001:db8::1]:6969/x".into())
        );
        assert_eq!(url("http://[::1]:80/").authority(), "[::1]");
        assert_eq!(url("http://[::ffff:1.2.3.4]/").host(), &Host::Ip([1, 2, 3, 4].into()));
        assert_eq!(url("http://a/\u{fc}").target(), "/%C3%BC");
    }

    #[test]
    fn users_are_decoded_and_written_again() {
        let u = url("http://us%40er:p%3Aw:@host:81/x");
        assert_eq!((u.user(), u.port()), (Some(&b"us@er:p:w:"[..]), 81));
        assert_eq!(u.reveal(), "http://us%40er:p%3Aw%3A@host:81/x");
        assert_eq!(url("http://me@host/").user(), Some(&b"me:"[..]));
        assert_eq!(url("http://a@b@host/").user(), Some(&b"a@b:"[..]));
        assert_eq!(url("http://%zz%4@host/").user(), Some(&b"%zz%4:"[..]));
    }

    #[test]
    fn what_is_no_url_is_refused_with_a_reason() {
        let long = format!("http://a/{}", "x".repeat(limits::URL_MAX));
        let wide = format!("http://a/{}", "\u{fc}".repeat(limits::URL_MAX / 3));
        let name = format!("http://{}/", "a".repeat(254));
        for (text, error) in [
            (long.as_str(), Error::TooLong),
            (&wide, Error::TooLong),
            (&name, Error::Host),
            ("http://a b/", Error::Host),
            ("http://a\0b/", Error::Host),
            ("http://a\u{202e}/", Error::Host),
            ("", Error::Scheme),
            ("a.example/announce", Error::Scheme),
            ("ftp://a/", Error::Scheme),
            ("wss://a/", Error::Scheme),
            ("http://", Error::Host),
            ("http:///x", Error::Host),
            ("http://:80/", Error::Host),
            ("http://@/", Error::Host),
            ("http://a%41/", Error::Host),
            ("udp://a\\b:1/", Error::Host),
            ("http://[::1/", Error::Host),
            ("http://[::1]x/", Error::Host),
            ("http://[1.2.3.4]/", Error::Host),
            ("http://[fe80::1%25eth0]/", Error::Host),
            ("http://::1/", Error::Host),
            ("http://m\u{fc}ller.example/", Error::HostNotAscii),
            ("http://a:0/", Error::Port),
            ("http://a:+8/", Error::Port),
            ("http://a:65536/", Error::Port),
            ("http://a:8:8/", Error::Port),
            ("udp://a/announce", Error::NoPort),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_wants_escaping_is_escaped() {
        for (text, target) in [
            ("http://a/b c/d", "/b%20c/d"),
            ("http://a/b%20c 100%", "/b%20c%20100%"),
            ("http://a/x?k=a b&l='", "/x?k=a%20b&l=%27"),
            ("http://a/\r\nX: y", "/X:%20y"),
            ("http://a/x HTTP/1.1\r\nX: y\r\n\r\n", "/x%20HTTP/1.1X:%20y"),
            ("http://a/\u{85}\0x", "/%C2%85%00x"),
            ("http://a\0", "/"),
            ("http://a\\b\\c?d\\", "/b/c?d\\"),
        ] {
            assert_eq!(url(text).target(), target, "{text:?}");
        }
        // The host ends at a backslash, as in browsers, so that no other one hides behind it.
        assert_eq!(url("http://a\\@b/").host(), &Host::Name("a".into()));
        assert_eq!(url("http://u r:p\r\n%0D%0Aw@a/").user(), Some(&b"u r:p\r\nw"[..]));
        assert_eq!(url("http://a/b c"), url("http://a/b%20c"));
    }

    #[test]
    fn urls_of_torrents_are_kept_escaped() {
        assert_eq!(kept(b" http://a/b c\xff\n").as_deref(), Ok("http://a/b%20c%FF"));
        assert_eq!(kept(b"wss://a/b c").as_deref(), Ok("wss://a/b%20c"));
        assert_eq!(kept(b"http://a b/"), Err(Error::Host));
        assert_eq!(kept(b"x://\x1b[2J/"), Err(Error::Host));
        assert_eq!((kept(b"a/b"), kept(b"\x1b://a")), (Err(Error::Scheme), Err(Error::Scheme)));
        assert_eq!(kept(&[b' '; limits::URL_MAX + 1]), Err(Error::TooLong));
        assert_eq!(kept(format!("http://a/{}", " ".repeat(1000) + "x").as_bytes()), Err(Error::TooLong));
    }

    #[test]
    fn a_query_is_appended_to_what_is_there() {
        let of = |text: &str| url(text).with_query("k=v #").target().to_string();
        assert_eq!(of("http://a/x"), "/x?k=v%20%23");
        assert_eq!(of("http://a/x?"), "/x?k=v%20%23");
        assert_eq!(of("http://a/x?p=1"), "/x?p=1&k=v%20%23");
        assert_eq!(of("http://a/x?p=1&"), "/x?p=1&k=v%20%23");
    }

    #[test]
    fn where_to_scrape_is_told_by_the_last_part_of_the_path() {
        // The examples of BEP 48, and some more.
        for (from, to) in [
            ("http://example.com/announce", Some("http://example.com/scrape")),
            ("http://example.com/x/announce", Some("http://example.com/x/scrape")),
            ("http://example.com/announce.php", Some("http://example.com/scrape.php")),
            ("http://example.com/a", None),
            ("http://example.com/announce?x2%0644", Some("http://example.com/scrape?x2%0644")),
            ("http://example.com/announce?x=2/4", None),
            ("http://example.com/x%064announce", None),
            ("https://u:p@h:81/announce/announce?k=v", Some("https://u:p@h:81/announce/scrape?k=v")),
            ("http://example.com/announce/", None),
            ("http://example.com", None),
            ("udp://h:1/x", Some("udp://h:1/x")),
        ] {
            assert_eq!(url(from).scrape().map(|url| url.reveal()).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn redirects_are_resolved() {
        let base = url("http://u:p@a:81/d/e/f?q");
        for (location, whole) in [
            ("http://b/x?y", "http://b/x?y"),
            ("https://a:81/x", "https://a:81/x"),
            ("//b/x", "http://b/x"),
            ("/x?y#z", "http://u:p@a:81/x?y"),
            ("g", "http://u:p@a:81/d/e/g"),
            ("./g/", "http://u:p@a:81/d/e/g/"),
            ("../g?y=/../", "http://u:p@a:81/d/g?y=/../"),
            ("../../../../g", "http://u:p@a:81/g"),
            ("..", "http://u:p@a:81/d/"),
            ("../..", "http://u:p@a:81/"),
            ("?y", "http://u:p@a:81/d/e/f?y"),
            ("#z", "http://u:p@a:81/d/e/f?q"),
            ("http://a:81/x", "http://u:p@a:81/x"),
            ("/a\r\nb c\u{fc}", "http://u:p@a:81/ab%20c%C3%BC"),
            ("\\\\b\\x", "http://b/x"),
            ("..\\g h", "http://u:p@a:81/d/g%20h"),
            ("http://v:w@a:81/x", "http://v:w@a:81/x"),
        ] {
            assert_eq!(base.join(location).unwrap().reveal(), whole, "{location}");
        }
        assert_eq!(base.join("udp://b:1/"), Err(Error::Scheme));
        assert_eq!(base.join("javascript:x"), Err(Error::Scheme));
        assert_eq!(url("https://a/").join("http://a/"), Err(Error::Downgrade));
        assert_eq!(url("https://a/").join("//b/").map(|u| u.scheme()), Ok(Scheme::Https));
    }

    #[test]
    fn secrets_are_not_shown() {
        let u = url("http://user:hunter22@tracker.example:6969/0123456789abcdef/announce?key=fedcba987654");
        assert_eq!(u.to_string(), "http://tracker.example:6969/…");
        assert_eq!(format!("{u:?}"), u.to_string());
        assert_eq!(url("udp://a:1").to_string(), "udp://a:1/");
        let words = "no announce for 0123456789abcdef, fedcba987654 or hunter22";
        assert_eq!(u.hide_in(words), "no announce for …, … or …");
    }
}
