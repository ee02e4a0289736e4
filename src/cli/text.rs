//! Text for people: how wide it is on a terminal, sizes, rates, spans of time, dates.

use std::time::Duration;

/// The columns that a character takes on a terminal: 0 for marks that combine, 2 for the wide scripts of East Asia
/// and emoji (Unicode TR 11, in coarse ranges), else 1.
pub(crate) fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x064b..=0x065f
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff => 0,
        0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f | 0xe0100..=0xe01ef => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xa960..=0xa97f | 0xac00..=0xd7a3 => 2,
        0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The columns that a line takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text, or as much of it as fits `max` columns with a `~` for what was cut.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_string();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += columns(c);
        if used + 1 > max {
            break;
        }
        out.push(c);
    }
    if max > 0 {
        out.push('~');
    }
    out
}

/// The text in exactly `columns`: cut, or filled with blanks.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&text))));
    text
}

/// A number of bytes in units of 1024: `17 B`, `1.5 KiB`, `12.0 MiB`, `340 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 999.95 would print with one digit more than fits beside the others.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// Bytes a second.
pub(crate) fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// A percentage, cut and not rounded: 100.0 is said only of what is whole.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let tenths = if whole == 0 { 1000 } else { u128::from(part.min(whole)) * 1000 / u128::from(whole) };
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A span of time as `m:ss`, `h:mm:ss` or `3d04h`.
pub(crate) fn span(time: Duration) -> String {
    let s = time.as_secs();
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// How long `left` bytes take at this rate; None when that is not known or beyond any patience.
pub(crate) fn time_left(left: u64, rate: u64) -> Option<Duration> {
    let seconds = left.checked_div(rate)?;
    (seconds < 100 * 86_400).then(|| Duration::from_secs(seconds))
}

/// A moment in seconds since 1970 as `YYYY-MM-DD hh:mm:ss` (UTC); a bare number when the year is not of four digits.
pub(crate) fn date(seconds: i64) -> String {
    const YEAR_10000: i64 = 253_402_300_800;
    if !(0..YEAR_10000).contains(&seconds) {
        return format!("{seconds} s since 1970");
    }
    let (days, s) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days-to-civil: years that begin in March, in eras of 400.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: impl Into<u64>, what: &str) -> String {
    let n = n.into();
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_counts_columns_and_not_characters() {
        assert_eq!((width("abc"), width("日本"), width("e\u{301}")), (3, 4, 1));
        assert_eq!((cut("日本語", 6).as_str(), cut("日本語", 5).as_str()), ("日本語", "日本~"));
        assert_eq!(
            (cut("日本語", 4).as_str(), cut("abc", 0).as_str(), cut("abc", 1).as_str()),
            ("日~", "", "~")
        );
        assert_eq!((fit("日本語", 4).as_str(), fit("ab", 4).as_str()), ("日~ ", "ab  "));
    }

    #[test]
    fn sizes_stay_short() {
        let all = [0, 1023, 1024, 1536, 102_400, 1_048_000, 1 << 20, (1 << 30) + (1 << 29), u64::MAX];
        let all: Vec<String> = all.into_iter().map(size).collect();
        assert_eq!(
            all,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "1.0 MiB", "1.0 MiB", "1.5 GiB", "16.0 EiB"]
        );
    }

    #[test]
    fn only_what_is_whole_is_100_percent() {
        assert_eq!(percent(999_999, 1_000_000), "99.9%");
        assert_eq!(
            (percent(5, 5), percent(0, 0), percent(0, 7)),
            ("100.0%".into(), "100.0%".into(), "0.0%".into())
        );
        assert_eq!(percent(u64::MAX - 1, u64::MAX), "99.9%");
    }

    #[test]
    fn times_and_dates() {
        let of = |s| span(Duration::from_secs(s));
        assert_eq!((of(61), of(3661), of(90_000)), ("1:01".into(), "1:01:01".into(), "1d01h".into()));
        assert_eq!(
            (time_left(100, 0), time_left(100, 10), time_left(u64::MAX, 1)),
            (None, Some(Duration::from_secs(10)), None)
        );
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(253_402_300_799), "9999-12-31 23:59:59");
        assert_eq!(
            (date(-1), date(i64::MAX)),
            ("-1 s since 1970".into(), format!("{} s since 1970", i64::MAX))
        );
        assert_eq!((count(1u32, "file"), count(0u32, "file")), ("1 file".into(), "0 files".into()));
    }
}
