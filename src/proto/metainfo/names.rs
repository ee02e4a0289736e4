//! The one place where foreign text becomes a file name, or text for a terminal.
//!
//! What a name keeps: every character but those of [`is_foul`] and the separators, which become `_`; trailing dots and
//! spaces, and what Windows forbids (`:`, `?`, ...), since Linux file systems take them and other clients keep them.
//! What it loses besides: `.`, `..` and names of only dots and spaces get `_` for each; the names of Windows devices
//! (`con`, `NUL.txt`) get `_` in front, because FAT disks and Samba shares are read by Windows too; a name over
//! `limits::NAME_MAX` is cut before its extension. Two names may become one this way: `places.rs` then parts them.

use crate::limits::NAME_MAX;
use std::borrow::Cow;

/// The longest extension that cutting a name keeps, in bytes with its dot.
const EXTENSION_MAX: usize = 32;

/// Whether a character must reach neither a terminal nor a file name: controls, line and paragraph separators,
/// the marks that turn the direction of text round (so that `txt.exe` reads `exe.txt`), and invisible ones.
pub fn is_foul(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Any foreign text made fit for one line of a terminal: tabs and line ends become spaces, foul characters U+FFFD.
pub fn printable(text: &str) -> String {
    let fit = |c| match c {
        '\t' | '\n' | '\r' => ' ',
        c if is_foul(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(fit).collect()
}

/// Text of bytes that may not be UTF-8: each byte that is not becomes `%` and two hex digits. What encoding the bytes
/// were in is not guessed.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(text)
}

/// The safe file name for a foreign one: one component, of 1 to `limits::NAME_MAX` bytes. A safe name stays as it is.
pub fn safe(name: &str) -> String {
    let fit = |c| if c == '/' || c == '\\' || is_foul(c) { '_' } else { c };
    let mut name: String = name.chars().map(fit).collect();
    cut(&mut name);
    if name.is_empty() {
        name.push('_');
    } else if name.bytes().all(|byte| byte == b'.' || byte == b' ') {
        name = "_".repeat(name.len());
    }
    if is_device(&name) {
        name.insert(0, '_');
        cut(&mut name);
    }
    name
}

/// Whether Windows takes the name for a device: what is before the first dot counts, in any case.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    let Some((device, number)) = stem.split_at_checked(3) else { return false };
    let is_one_of = |devices: &[&str]| devices.iter().any(|one| one.eq_ignore_ascii_case(device));
    match number.as_bytes() {
        [] => is_one_of(&["CON", "PRN", "AUX", "NUL"]),
        [b'1'..=b'9'] => is_one_of(&["COM", "LPT"]),
        _ => false,
    }
}

/// Whether a name keeps to all that [`safe`] promises, said in other words for tests and fuzzing.
pub(super) fn is_safe(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.chars().any(|c| c != '.' && c != ' ')
        && !name.chars().any(|c| matches!(c, '/' | '\\' | '\0') || is_foul(c))
        && !is_device(name)
}

/// The name split before the dot of its extension, when it has one worth keeping.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_MAX => name.split_at(dot),
        _ => (name, ""),
    }
}

/// The longest start of `text` with at most `max` bytes.
fn start(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Cuts a name to `limits::NAME_MAX` bytes, between characters, the extension kept.
fn cut(name: &mut String) {
    if name.len() > NAME_MAX {
        let (stem, extension) = split_extension(name);
        *name = format!("{}{extension}", start(stem, NAME_MAX - extension.len()));
    }
}

/// Another name for file `number` of the torrent, when its own is taken: `name.7.txt` for `name.txt`. Each `attempt`
/// gives another one.
pub(super) fn numbered(name: &str, number: usize, attempt: u32) -> String {
    let (stem, extension) = split_extension(name);
    let mark = if attempt == 0 { format!(".{number}") } else { format!(".{number}_{attempt}") };
    let stem = start(stem, NAME_MAX - extension.len() - mark.len());
    safe(&format!("{stem}{mark}{extension}"))
}

/// What two names have in common that may be one file on a disk that ignores case (FAT, exFAT), or dots and spaces at
/// the end. Different Unicode forms of one text are different, as they are for Linux.
pub(super) fn fold(name: &str) -> String {
    let name = name.trim_end_matches(['.', ' ']);
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::base::testing::rounds;

    #[test]
    fn harmless_names_stay() {
        for name in [
            "a",
            ".bashrc",
            "a: b? *",
            "日本語.txt",
            "S.H.I.E.L.D.",
            "👩\u{200d}🚀",
            "console",
            "com0",
            "..a",
            "%41",
        ] {
            assert_eq!(safe(name), name);
        }
    }

    #[test]
    fn harmful_names_are_changed() {
        for (name, safe_name) in [
            ("", "_"),
            (".", "_"),
            ("..", "__"),
            (". .", "___"),
            ("/etc/passwd", "_etc_passwd"),
            ("..\\..\\x", ".._.._x"),
            ("a\0b\x1b[2J\u{9b}", "a_b_[2J_"),
            ("\u{202e}txt.exe", "_txt.exe"),
            ("a\u{2028}b\u{feff}", "a_b_"),
            ("NUL", "_NUL"),
            ("con.txt", "_con.txt"),
            ("Aux .c", "_Aux .c"),
            ("lPt9.a.b", "_lPt9.a.b"),
        ] {
            assert_eq!(safe(name), safe_name, "{name:?}");
        }
    }

    #[test]
    fn overlong_names_keep_their_extension() {
        let name = safe(&("é".repeat(200) + ".mkv"));
        assert_eq!(name, "é".repeat(125) + ".mkv");
        assert_eq!(safe(&"x".repeat(300)), "x".repeat(255));
        assert_eq!(safe(&format!("x.{}", "y".repeat(300))), format!("x.{}", "y".repeat(253)));
        assert_eq!(safe(&(".".repeat(300) + &"a".repeat(40))), "_".repeat(255));
        assert_eq!(safe(&format!("con{}x", " ".repeat(300))), format!("_con{}", " ".repeat(251)));
    }

    #[test]
    fn bytes_that_are_not_utf8_become_text() {
        assert_eq!(text(b"caf\xe9 \xff\xc3"), "caf%E9 %FF%C3");
        assert_eq!(text("né".as_bytes()), "né");
    }

    #[test]
    fn text_for_a_terminal_is_one_clean_line() {
        assert_eq!(printable("a\tb\r\nc\x1b[31m\u{9b}\u{202e}é"), "a b  c\u{fffd}[31m\u{fffd}\u{fffd}é");
    }

    #[test]
    fn a_taken_name_is_numbered_before_its_extension() {
        assert_eq!(numbered("a.tar.gz", 7, 0), "a.tar.7.gz");
        assert_eq!(numbered("a", 7, 2), "a.7_2");
        assert_eq!(numbered(".bashrc", 1, 0), ".bashrc.1");
        let long = numbered(&("x".repeat(251) + ".mkv"), 1_000_000, 12);
        assert_eq!(long, "x".repeat(240) + ".1000000_12.mkv");
    }

    #[test]
    fn names_that_a_disk_may_take_for_one_fold_to_one() {
        for (a, b) in [("A", "a"), ("a. .", "a"), ("ÀÉ", "àé"), ("Straße", "STRASSE"), ("ſ", "S")] {
            assert_eq!(fold(a), fold(b));
        }
        assert_ne!(fold("a.b"), fold("ab"));
    }

    #[test]
    fn any_text_becomes_a_safe_name_that_stays() {
        let mut rng = Rng::new([5; 32]);
        let parts = ["con", "aux", ".", "..", " ", "/", "\0", "\u{202e}", "é", "x", "\u{10ffff}", "1", "\\"];
        for _ in 0..rounds(20_000) {
            let mut name = String::new();
            for _ in 0..rng.below(5) {
                name += &parts[rng.index(parts.len())].repeat(1 + rng.index(3) * rng.index(200));
            }
            let once = safe(&name);
            assert!(is_safe(&once), "{once:?}");
            assert_eq!(safe(&once), once);
            let other = numbered(&once, rng.index(1 << 20), rng.below(3));
            assert!(is_safe(&other), "{other:?}");
        }
    }
}
