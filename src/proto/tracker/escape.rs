//! Percent-encoding of URLs as browsers do it (WHATWG URL Standard, 1.3 and 4.4). URLs in .torrent files, magnet links and
//! redirects often hold blanks and letters beyond ASCII, which other clients escape before they use them.

use crate::proto::metainfo::is_foul;

/// A URL, or a reference to one, as it can be used and printed: without control characters and blanks at its ends, tabs
/// and line ends, and with all else that wants escaping percent-encoded. `%` stays as it is, so the result of a second
/// call is that of the first. In the host nothing but characters unfit for a terminal is encoded, so that an invalid host
/// stays invalid. The result may be three times as long as `text`.
pub(super) fn escape(text: &str) -> String {
    let text = text.trim_matches(|c: char| c <= ' ');
    let text: String = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let (authority, rest) = text.split_at(authority_end(&text));
    let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let mut out = String::with_capacity(text.len());
    for c in authority.chars() {
        let unfit = c.is_whitespace() || is_foul(c);
        if unfit { encode(c.encode_utf8(&mut [0; 4]).bytes(), &mut out, |_| true) } else { out.push(c) }
    }
    encode(path.bytes(), &mut out, |byte| is_query_special(byte) || b"^`{}".contains(&byte));
    encode(query.bytes(), &mut out, |byte| is_query_special(byte) || byte == b'\'');
    out
}

/// Where the path begins: after `scheme://authority`; at 0 in a reference without these.
fn authority_end(text: &str) -> usize {
    const ENDS: [char; 4] = ['/', '\\', '?', '#'];
    let start = match text.find("://") {
        Some(at) if !text[..at].contains(ENDS) => at + 3,
        _ if text.starts_with("//") => 2,
        _ => return 0,
    };
    text[start..].find(ENDS).map_or(text.len(), |at| start + at)
}

/// The query percent-encode set of the standard.
fn is_query_special(byte: u8) -> bool {
    byte <= b' ' || byte >= 0x7f || b"\"<>".contains(&byte)
}

fn encode(bytes: impl Iterator<Item = u8>, out: &mut String, is_special: impl Fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if is_special(byte) {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            out.push(char::from(byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_escaped_as_browsers_do() {
        for (text, due) in [
            ("http://a/b c", "http://a/b%20c"),
            ("http://a/b%20c", "http://a/b%20c"),
            ("http://a/100% sure%zz%", "http://a/100%%20sure%zz%"),
            ("http://a/\u{fc}/\u{2603}?\u{fc}", "http://a/%C3%BC/%E2%98%83?%C3%BC"),
            ("http://a/\"<>^`{}|'[]+&;", "http://a/%22%3C%3E%5E%60%7B%7D|'[]+&;"),
            ("http://a/?\"<>^`{}|'[]+&; x", "http://a/?%22%3C%3E^`{}|%27[]+&;%20x"),
            (" \u{1}http://a/x\0 \n", "http://a/x"),
            ("ht\ntp://a\t/b\r\nc", "http://a/bc"),
            ("http://a/\0\x1b\x7f\u{85}", "http://a/%00%1B%7F%C2%85"),
            ("http://u ser@ho st/", "http://u%20ser@ho%20st/"),
            ("http://m\u{fc}ller/\u{fc}", "http://m\u{fc}ller/%C3%BC"),
            ("http://a\u{202e}/", "http://a%E2%80%AE/"),
            ("http://a?b c", "http://a?b%20c"),
            ("/b c?d e", "/b%20c?d%20e"),
            ("x?u=http://a/b c", "x?u=http://a/b%20c"),
            ("//\u{fc}/\u{fc}", "//\u{fc}/%C3%BC"),
            ("", ""),
        ] {
            assert_eq!(escape(text), due, "{text:?}");
            assert_eq!(escape(due), due, "{text:?}");
        }
    }
}
