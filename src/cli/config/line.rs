//! One line of the configuration file: `name = value`.
//!
//! Blanks around name and value do not count, nor does a carriage return at the end. A value stands as it is, `#` and
//! backslashes included; one in double quotes may hold `\"`, `\\`, `\n` and `\xHH`, so that every value can be written.

use crate::cli::args::{from_text, to_text};
use crate::cli::text::cut;
use crate::cli::values::shown_safely;
use crate::proto::metainfo::printable;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Name and value of a line, as text of `args.rs`; None: a comment or nothing. An error says what is allowed.
pub(super) fn read(line: &[u8]) -> Result<Option<(String, String)>, String> {
    if line.contains(&0) {
        return Err("a NUL byte; text is allowed".into());
    }
    let line = trim(line);
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let text = |bytes: &[u8]| to_text(OsStr::from_bytes(bytes));
    let Some(at) = line.iter().position(|byte| *byte == b'=') else {
        let start = cut(&shown_safely(&text(line)), 40);
        return Err(format!("'{start}' has no value; NAME = VALUE is allowed"));
    };
    let value = unquoted(trim(&line[at + 1..]))?;
    Ok(Some((text(trim(&line[..at])), text(&value))))
}

fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

fn unquoted(value: &[u8]) -> Result<Vec<u8>, String> {
    let Some(mut rest) = value.strip_prefix(b"\"") else { return Ok(value.to_vec()) };
    let mut out = Vec::new();
    loop {
        rest = match rest {
            [b'"'] => return Ok(out),
            [] | [b'"', ..] => {
                return Err(
                    r#"a value that starts with a quote must end with the next one; \" is a quote inside"#
                        .into(),
                );
            }
            [b'\\', escape, after @ ..] => {
                let (byte, after) = escaped(*escape, after).ok_or_else(|| {
                    r#"after a backslash in quotes, ", \, n and xHH are allowed"#.to_string()
                })?;
                out.push(byte);
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}

/// What a backslash and this byte stand for, and what comes after.
fn escaped(escape: u8, after: &[u8]) -> Option<(u8, &[u8])> {
    match (escape, after) {
        (b'"' | b'\\', _) => Some((escape, after)),
        (b'n', _) => Some((b'\n', after)),
        (b'x', [high, low, after @ ..]) => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
            (byte != 0).then_some((byte, after))
        }
        _ => None,
    }
}

/// A value as a line can hold it: [`read`] gives it back. It is fit for a terminal.
pub(super) fn quoted(value: &str) -> String {
    let bytes = from_text(value).into_vec();
    let plain = String::from_utf8(bytes.clone()).is_ok_and(|text| printable(&text) == text);
    if plain && !bytes.is_empty() && !bytes.starts_with(b"\"") && trim(&bytes).len() == bytes.len() {
        return OsString::from_vec(bytes).to_string_lossy().into_owned();
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                c if printable(c.encode_utf8(&mut [0; 4])) != c.to_string() => {
                    out.push_str(&hex(c.encode_utf8(&mut [0; 4]).as_bytes()));
                }
                c => out.push(c),
            }
        }
        out.push_str(&hex(chunk.invalid()));
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn blanks_and_comments_do_not_count() {
        let pair = |name: &str, value: &str| Ok(Some((name.to_string(), value.to_string())));
        assert_eq!(read(b"dir = /a b # c\r"), pair("dir", "/a b # c"));
        assert_eq!(read(b"\t dir=x=y"), pair("dir", "x=y"));
        assert_eq!(read(b"dir ="), pair("dir", ""));
        assert_eq!(read(br#"dir = " a\"\\\n\x1b" "#), pair("dir", " a\"\\\n\x1b"));
        assert_eq!(read(br"dir = C:\n"), pair("dir", r"C:\n"));
        for nothing in [&b""[..], b" \t\r", b"#dir = x", b"  # x"] {
            assert_eq!(read(nothing), Ok(None));
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for wrong in
            [&b"dir"[..], b"a=\0", b"a=\"", b"a=\"x", b"a=\"x\"y", b"a=\"\\", b"a=\"\\t\"", br#"a="\x0"#]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(read(br#"a="\x00""#).is_err());
        let long = read(&[b'x'; 100_000]).unwrap_err();
        assert!(long.len() < 100, "{long}");
    }

    #[test]
    fn every_value_can_be_written() {
        let mut rng = Rng::new([3; 32]);
        let mut values =
            vec![Vec::new(), b"\xff".to_vec(), "日本 é\u{10ff80}\u{202e}".into(), b" \"a\\".to_vec()];
        values.extend((0..2000).map(|_| {
            let letters = b"ab \t\r\n\"\\#=~x\x1b\x7f\xc3\xa9\xff";
            (0..rng.below(8)).map(|_| letters[rng.index(letters.len())]).collect()
        }));
        for bytes in values {
            let value = to_text(OsStr::from_bytes(&bytes));
            let line = format!("name = {}", quoted(&value));
            assert!(printable(&line) == line, "{line:?}");
            assert_eq!(read(line.as_bytes()), Ok(Some(("name".into(), value))), "{line:?}");
        }
    }
}
