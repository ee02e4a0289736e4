//! The list of `--only`: which torrents a private tracker serves.

use crate::limits;
use crate::proto::id::InfoHash;

/// What is wrong with a list, and in which line, counted from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Reads a list: an info-hash of 40 hex digits a line. Blank lines do not count, nor what follows a `#`.
///
/// # Errors
/// The first line that is something else, and a list longer than [`limits::TRACKER_ONLY_MAX`].
pub fn parse(text: &[u8]) -> Result<Vec<InfoHash>, Error> {
    let mut list = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let error = |what| Error { line: at + 1, what };
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        let hash = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        let hash = hash.ok_or_else(|| error("a line is an info-hash of 40 hexadecimal digits"))?;
        if list.len() >= limits::TRACKER_ONLY_MAX {
            return Err(error("there are too many info-hashes"));
        }
        list.push(hash);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_a_wrong_line_is_named() {
        let hash = "00ff17a3b4c5d6e7f80912233445566778899aab";
        let text = format!("# mine\n\n  {hash}\t# one\r\n{}\n#{hash}\n{hash}", hash.to_uppercase());
        assert_eq!(parse(text.as_bytes()).unwrap(), vec![hash.parse().unwrap(); 3]);
        assert_eq!((parse(b""), parse(b"#\n\n")), (Ok(vec![]), Ok(vec![])));
        for (text, line) in [
            (format!("{hash}\n{}", &hash[1..]), 2),
            (format!("\n\n{hash}0"), 3),
            (format!("{hash} {hash}"), 1),
            ("\u{fc}".into(), 1),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().line, line, "{text}");
        }
        assert_eq!(parse(&[0xff, b'\n']).unwrap_err().line, 1);
        let many = format!("{hash}\n").repeat(limits::TRACKER_ONLY_MAX + 1);
        assert_eq!(parse(many.as_bytes()).unwrap_err().line, limits::TRACKER_ONLY_MAX + 1);
    }
}
