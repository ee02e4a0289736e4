//! The values of options. Each reader answers with what is allowed when the text is something else.

use super::args::from_text;
use crate::api::{DiskIo, Encryption, Prealloc};
use crate::limits;
use crate::proto::metainfo::printable;
use crate::proto::tracker::Scheme;
use crate::proto::tracker::url::{self, Url, without_secrets};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the user typed, fit for a terminal.
pub(crate) fn shown(text: &str) -> String {
    printable(&from_text(text).to_string_lossy()).to_string()
}

/// The same, of a URL no more than scheme and host: the rest may be a passkey.
pub(crate) fn shown_safely(text: &str) -> String {
    shown(&without_secrets(text))
}

/// A number in a range, of digits only: no sign, no blank.
fn number<T: std::str::FromStr + PartialOrd>(text: &str, allowed: &RangeInclusive<T>) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|n| digits && allowed.contains(n))
}

/// `--max-conn` and `--max-upload`.
pub(crate) fn connections(text: &str) -> Result<usize, String> {
    let allowed = 1..=limits::CONNECTIONS_MAX;
    number(text, &allowed).ok_or_else(|| format!("a number from 1 to {} is allowed", limits::CONNECTIONS_MAX))
}

/// `--port`.
pub(crate) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let read = || -> Option<RangeInclusive<u16>> {
        let Some((first, last)) = text.split_once('-') else {
            let port = number(text, &(0..=u16::MAX))?;
            return Some(port..=port);
        };
        let ports = number(first, &(1..=u16::MAX))?..=number(last, &(1..=u16::MAX))?;
        (!ports.is_empty()).then_some(ports)
    };
    read().ok_or_else(|| "a port from 0 to 65535, or a rising range such as 6881-6889, is allowed".into())
}

/// `tracker --port`.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    number(text, &(0..=u16::MAX)).ok_or_else(|| "a port from 0 to 65535 is allowed".into())
}

/// `tracker --interval`.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let allowed = limits::TRACKER_INTERVAL_MIN.as_secs()..=limits::TRACKER_INTERVAL_MAX.as_secs();
    number(text, &allowed)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("seconds from {} to {} are allowed", allowed.start(), allowed.end()))
}

/// `--bind`. An IPv4 address in IPv6 clothes is the IPv4 address.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = bare.parse().map_err(|_| "an IPv4 or IPv6 address is allowed".to_string())?;
    Ok(address.to_canonical())
}

/// `--bind-device`. A name of the system has 15 bytes at most (IFNAMSIZ).
pub(crate) fn device(text: &str) -> Result<String, String> {
    let fine =
        (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if fine { Ok(text.into()) } else { Err("the name of a network device, such as eth0, is allowed".into()) }
}

/// `--prealloc`.
pub(crate) fn prealloc(text: &str) -> Result<Prealloc, String> {
    match text {
        "full" => Ok(Prealloc::Full),
        "sparse" => Ok(Prealloc::Sparse),
        _ => Err("full or sparse is allowed".into()),
    }
}

/// `--disk-io`.
pub(crate) fn disk_io(text: &str) -> Result<DiskIo, String> {
    match text {
        "auto" => Ok(DiskIo::Auto),
        "mmap" => Ok(DiskIo::Mmap),
        "pwrite" => Ok(DiskIo::Pwrite),
        _ => Err("auto, mmap or pwrite is allowed".into()),
    }
}

/// `--encryption`.
pub(crate) fn encryption(text: &str) -> Result<Encryption, String> {
    match text {
        "disabled" => Ok(Encryption::Disabled),
        "enabled" => Ok(Encryption::Enabled),
        "required" => Ok(Encryption::Required),
        _ => Err("disabled, enabled or required is allowed".into()),
    }
}

/// `--peer`: a name or an address, and a port; IPv6 in brackets.
pub(crate) fn peer(text: &str) -> Result<(String, u16), String> {
    let read = || -> Option<(String, u16)> {
        let (host, port) = text.rsplit_once(':')?;
        let port = number(port, &(1..=u16::MAX))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|v6| v6.parse::<Ipv6Addr>().is_ok())?,
            None => host,
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let fine = host.parse::<Ipv6Addr>().is_ok() && text.starts_with('[') || host.bytes().all(named);
        (fine && (1..=253).contains(&host.len())).then(|| (host.into(), port))
    };
    read().ok_or_else(|| "HOST:PORT is allowed, an IPv6 address in brackets: [::1]:6881".into())
}

/// `--tracker`.
pub(crate) fn tracker(text: &str) -> Result<Url, String> {
    Url::parse(text).map(Url::trust).map_err(|error| error.to_string())
}

/// `create -a`: a tier, its URLs parted by commas.
pub(crate) fn tier(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|url| tracker(url).and_then(|_| escaped(url))).collect()
}

/// `create -w`.
pub(crate) fn web_seed(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() != Scheme::Udp => escaped(text),
        Ok(_) => Err("an http:// or https:// URL is allowed".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A valid URL as it goes into a .torrent.
fn escaped(text: &str) -> Result<String, String> {
    url::kept(text.as_bytes()).map_err(|error| error.to_string())
}

/// `create -l`: bytes, or with `K` or `M`, a power of two (BEP 52 demands it, BEP 3 recommends it).
pub(crate) fn piece_length(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    number(digits, &(1..=u64::from(u32::MAX)))
        .and_then(|n: u64| u32::try_from(n << unit).ok())
        .filter(|n| n.is_power_of_two() && (16 << 10..=64 << 20).contains(n))
        .ok_or_else(|| "a power of two from 16K to 64M is allowed".into())
}

/// `--max-download-rate` and `--max-upload-rate`: bytes, or with `K`, `M` or `G` 1024s of them.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    bytes(text, limits::RATE_MAX).ok_or_else(|| {
        format!("bytes a second, as 500K, 2M or 0, up to {}G are allowed", limits::RATE_MAX >> 30)
    })
}

/// `--max-metadata-size`: bytes, or with `K` or `M` 1024s of them.
pub(crate) fn metadata_size(text: &str) -> Result<u32, String> {
    let most = u64::from(limits::METADATA_MAX);
    let size = bytes(text, most).filter(|size| *size > 0).and_then(|size| u32::try_from(size).ok());
    size.ok_or_else(|| format!("bytes, as 500K or 20M, from 1 to {}M are allowed", most >> 20))
}

/// Bytes up to `most`, or with `K`, `M` or `G` 1024s of them.
fn bytes(text: &str, most: u64) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits, &(0..=most >> unit)).map(|n| n << unit)
}

/// `--seed-ratio`, in thousandths; None: never.
pub(crate) fn ratio(text: &str) -> Result<Option<u64>, String> {
    let read = || {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let places = u32::try_from(part.len()).ok().filter(|places| (1..=3).contains(places))?;
        let whole = number(whole, &(0..=1_000_000u64))?;
        let part = number(part, &(0..=999u64))?;
        Some(Some(whole * 1000 + part * 10u64.pow(3 - places)))
    };
    if text == "none" {
        Ok(None)
    } else {
        read().ok_or_else(|| "a number such as 1.5, or none, is allowed".into())
    }
}

/// `--seed-time`; None: never.
pub(crate) fn minutes(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" {
        return Ok(None);
    }
    let minutes = number(text, &(0..=u64::from(u32::MAX)));
    minutes
        .map(|n| Some(Duration::from_secs(60 * n)))
        .ok_or_else(|| "a whole number of minutes, or none, is allowed".into())
}

/// `create -n`: one safe file name.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = from_text(text).into_string();
    match plain {
        Ok(name) if safe_name(&name) => Ok(name),
        _ => Err(format!("a file name of UTF-8 text, at most {} bytes, is allowed", limits::NAME_MAX)),
    }
}

/// Whether every client can use this as a file name.
pub(crate) fn safe_name(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == '\\' || c.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= limits::NAME_MAX && !name.contains(bad)
}

/// `create -c`.
pub(crate) fn comment(text: &str) -> Result<String, String> {
    from_text(text).into_string().map_err(|_| "UTF-8 text is allowed".into())
}

/// `--select`: numbers and ranges, parted by commas.
pub(crate) fn select(text: &str) -> Result<Vec<RangeInclusive<usize>>, String> {
    text.split(',').map(part).collect()
}

fn part(text: &str) -> Result<RangeInclusive<usize>, String> {
    let allowed = 1..=limits::FILES_MAX;
    let range = match text.split_once('-') {
        Some((first, last)) => number(first, &allowed).zip(number(last, &allowed)),
        None => number(text, &allowed).map(|n| (n, n)),
    };
    match range {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err(format!("'{}' is no file number and no rising range; 1,3-5 is allowed", shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_numbers() {
        assert_eq!((ports("0"), ports("1-65535"), ports("7-7")), (Ok(0..=0), Ok(1..=65535), Ok(7..=7)));
        for wrong in ["", "-", "-1", "+5", " 5", "65536", "0-5", "9-8", "1-", "1-2-3"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
        assert_eq!((port("0"), port("65535")), (Ok(0), Ok(65535)));
        assert!(port("65536").is_err() && port("1-2").is_err() && port("").is_err());
        assert_eq!(interval("60"), Ok(Duration::from_secs(60)));
        assert!(interval("59").is_err() && interval("86401").is_err() && interval("1m").is_err());
        assert_eq!(connections("20000"), Ok(20_000));
        assert!(connections("0").is_err() && connections("20001").is_err() && connections("1e3").is_err());
    }

    #[test]
    fn peers_and_addresses() {
        assert_eq!(peer("a-b.example:1"), Ok(("a-b.example".into(), 1)));
        assert_eq!(peer("[fe80::1]:65535"), Ok(("fe80::1".into(), 65535)));
        for wrong in
            ["", "x", "x:0", "x:65536", ":5", "::1:5", "[::1]", "[1.2.3.4]:5", "[::1:5", "a b:5", "[]:5"]
        {
            assert!(peer(wrong).is_err(), "{wrong}");
        }
        assert_eq!(address("::ffff:127.0.0.1"), Ok(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(address("[::1]"), Ok(Ipv6Addr::LOCALHOST.into()));
        assert!(address("localhost").is_err() && address("1.2.3.4:5").is_err());
        assert!(device("eth0").is_ok() && device("").is_err() && device("a/b").is_err());
        assert!(device("0123456789abcdef").is_err());
    }

    #[test]
    fn a_passkey_is_not_said_back() {
        assert_eq!(shown_safely("http://me:word@x:99999/key?a"), "http://x:99999/...");
        assert_eq!(shown_safely("http://x?key"), "http://x/...");
        assert_eq!(shown_safely("http://x\\key"), "http://x/...");
        assert_eq!((shown_safely("http://x").as_str(), shown_safely("a/b").as_str()), ("http://x", "a/b"));
    }

    #[test]
    fn file_lists() {
        assert_eq!(select("1,3-5"), Ok(vec![1..=1, 3..=5]));
        assert_eq!(select("7"), Ok(vec![7..=7]));
        for (wrong, bad) in
            [("", "''"), ("1,,2", "''"), ("1,x", "'x'"), ("5-3", "'5-3'"), ("0", "'0'"), ("1-", "'1-'")]
        {
            assert!(select(wrong).is_err_and(|why| why.starts_with(bad)), "{wrong}");
        }
    }

    #[test]
    fn rates_ratios_and_times() {
        assert_eq!(
            (rate("0"), rate("64K"), rate("3m"), rate("1G")),
            (Ok(0), Ok(65536), Ok(3 << 20), Ok(1 << 30))
        );
        assert_eq!((rate("1024G"), rate("999")), (Ok(1 << 40), Ok(999)));
        for wrong in ["", "K", "-1", "1.5M", "1025G", "99999999999G", "5 K", "1T", "1é"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!((metadata_size("1"), metadata_size("64M")), (Ok(1), Ok(64 << 20)));
        for wrong in ["", "0", "0K", "65M", "1G", "-1"] {
            assert!(metadata_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!((ratio("1"), ratio("1.5"), ratio("0.025"), ratio("0")), {
            (Ok(Some(1000)), Ok(Some(1500)), Ok(Some(25)), Ok(Some(0)))
        });
        assert_eq!(
            (ratio("none"), minutes("none"), minutes("0")),
            (Ok(None), Ok(None), Ok(Some(Duration::ZERO)))
        );
        assert_eq!(minutes("90"), Ok(Some(Duration::from_secs(5400))));
        for wrong in ["", ".", "1.", ".5", "-1", "1.2345", "1e3", "None", "inf", "1000001"] {
            assert!(ratio(wrong).is_err(), "{wrong}");
        }
        assert!(minutes("1.5").is_err() && minutes("").is_err() && minutes("4294967296").is_err());
    }

    #[test]
    fn values_of_create() {
        assert_eq!((piece_length("16K"), piece_length("64M"), piece_length("65536")), {
            (Ok(16 << 10), Ok(64 << 20), Ok(65536))
        });
        for wrong in ["", "K", "8K", "128M", "48K", "0", "-1", "18446744073709551615", "4294967295M"] {
            assert!(piece_length(wrong).is_err(), "{wrong}");
        }
        assert!(
            safe_name("a b")
                && !safe_name("..")
                && !safe_name("a/b")
                && !safe_name("a\x1b")
                && !safe_name("")
        );
        assert!(
            web_seed("http://x/y").is_ok() && web_seed("ftp://x").is_err() && web_seed("http://a b").is_err()
        );
        assert_eq!(web_seed("HTTP://x/a b\u{fc}").as_deref(), Ok("HTTP://x/a%20b%C3%BC"));
        assert!(web_seed("udp://x:1/").is_err());
        assert_eq!(tier("http://x/a b, udp://y:1"), Ok(vec!["http://x/a%20b".into(), "udp://y:1".into()]));
    }
}
