//! Arguments that are not UTF-8: getopts takes none, a path may be one.
//!
//! A byte that is not UTF-8 becomes one of the 128 private characters at U+10FF80 on its way through getopts and the
//! byte again where a path comes out. Those characters themselves count as such bytes, so every argument comes back
//! as it was.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const FIRST: u32 = 0x0010_FF00;

fn stand_in(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn original(c: char) -> Option<u8> {
    u32::from(c).checked_sub(FIRST).and_then(|n| u8::try_from(n).ok()).filter(|byte| *byte >= 0x80)
}

/// The argument as text that getopts takes.
pub(crate) fn to_text(arg: &OsStr) -> String {
    let mut text = String::new();
    for chunk in arg.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if original(c).is_some() {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(stand_in));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(stand_in));
    }
    text
}

/// The argument, or the value of an option, as it was given.
pub(crate) fn from_text(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match original(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_comes_back_as_it_was() {
        for bytes in [
            &b"plain"[..],
            b"a\xff\xfeb",
            "é\u{10ff80}\u{10ffff}\u{10ff7f}".as_bytes(),
            b"\xf4\x8f\xbe\xff\x80",
            &(0..=255).collect::<Vec<u8>>(),
        ] {
            let arg = OsString::from_vec(bytes.to_vec());
            assert_eq!(from_text(&to_text(&arg)), arg);
        }
        assert_eq!(to_text(OsStr::new("é")), "é");
    }
}
