//! The handshake of extensions (BEP 10): a dictionary in which a side names the extensions that it takes messages of,
//! and tells a few things of itself. It may be sent again when one of them changes.
//!
//! What is no dictionary is an error. A key whose value makes no sense is as one that is not there: it is a hint, and
//! clients differ in what they put in.

use super::{Extension, Ids};
use crate::limits::{CLIENT_NAME_MAX, EXTENDED_HANDSHAKE_MAX, METADATA_MAX};
use crate::proto::metainfo::{printable, text};
use crate::proto::{bencode, compact};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with a handshake of extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It is longer than [`EXTENDED_HANDSHAKE_MAX`]: so many bytes.
    TooLong(usize),
    /// It is not bencoded, or has a key twice.
    Bencode(bencode::Error),
    /// It is bencoded and no dictionary.
    NoDictionary,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLong(len) => write!(f, "{len} bytes"),
            Error::Bencode(error) => error.fmt(f),
            Error::NoDictionary => f.write_str("not a dictionary"),
        }
    }
}

impl std::error::Error for Error {}

/// A handshake of extensions. What is None was not said.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Handshake<'a> {
    /// The extensions that its sender takes messages of, and under which ids (`m`).
    pub ids: Ids,
    /// What the sender calls its program, as it came (`v`); see [`Handshake::client`].
    pub v: Option<&'a [u8]>,
    /// The sender prefers encrypted connections (`e`).
    pub e: Option<bool>,
    /// The port that the sender listens at (`p`); never 0.
    pub p: Option<u16>,
    /// The receiver's address, as the sender sees it.
    pub yourip: Option<IpAddr>,
    /// The sender's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The sender's IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// How many requests the sender keeps that it has not served; never 0.
    pub reqq: Option<u32>,
    /// The length of the info dictionary in bytes (BEP 9); never 0, and at most [`METADATA_MAX`].
    pub metadata_size: Option<u32>,
    /// The sender wants nothing more, though it may not have all (BEP 21).
    pub upload_only: Option<bool>,
}

impl<'a> Handshake<'a> {
    /// Reads a handshake. What follows the dictionary is passed over, as others do.
    pub fn decode(body: &'a [u8]) -> Result<Handshake<'a>, Error> {
        if body.len() > EXTENDED_HANDSHAKE_MAX {
            return Err(Error::TooLong(body.len()));
        }
        let (value, _) = bencode::decode_prefix(body).map_err(Error::Bencode)?;
        let keys = ["e", "m", "v", "p", "yourip", "ipv4", "ipv6", "reqq", "metadata_size", "upload_only"];
        let dict = value.as_dict().ok_or(Error::NoDictionary)?;
        let [e, m, v, p, yourip, ipv4, ipv6, reqq, size, upload_only] =
            dict.fields(keys).map_err(Error::Bencode)?;
        let int = |value: Option<bencode::Value<'a>>| value.and_then(bencode::Value::as_int);
        let bytes = |value: Option<bencode::Value<'a>>| value.and_then(bencode::Value::as_bytes);
        let in_range = |n: &u32| (1..=METADATA_MAX).contains(n);
        Ok(Handshake {
            ids: m.and_then(bencode::Value::as_dict).map(ids).transpose()?.unwrap_or_default(),
            v: bytes(v),
            e: int(e).map(|told| told != 0),
            p: int(p).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
            yourip: bytes(yourip).and_then(compact::ip),
            ipv4: bytes(ipv4).and_then(|b| b.try_into().ok()).map(|b: [u8; 4]| b.into()),
            ipv6: bytes(ipv6).and_then(|b| b.try_into().ok()).map(|b: [u8; 16]| b.into()),
            reqq: int(reqq).filter(|n| *n > 0).map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            metadata_size: int(size).and_then(|size| u32::try_from(size).ok()).filter(in_range),
            upload_only: int(upload_only).map(|told| told != 0),
        })
    }

    /// The handshake as it goes over the wire, after the id.
    pub fn encode(&self) -> Vec<u8> {
        bencode::encode(|e| {
            e.dict(|d| {
                if let Some(encrypts) = self.e {
                    d.entry("e").int(encrypts.into());
                }
                if let Some(ip) = self.ipv4 {
                    d.entry("ipv4").bytes(&ip.octets());
                }
                if let Some(ip) = self.ipv6 {
                    d.entry("ipv6").bytes(&ip.octets());
                }
                d.entry("m").dict(|m| {
                    let mut named: Vec<_> = Extension::ALL
                        .into_iter()
                        .filter_map(|extension| Some((extension.name(), self.ids.named(extension)?)))
                        .collect();
                    named.sort_unstable();
                    for (name, id) in named {
                        m.entry(name).int(id.into());
                    }
                });
                if let Some(size) = self.metadata_size {
                    d.entry("metadata_size").int(size.into());
                }
                if let Some(port) = self.p {
                    d.entry("p").int(port.into());
                }
                if let Some(reqq) = self.reqq {
                    d.entry("reqq").int(reqq.into());
                }
                if let Some(upload_only) = self.upload_only {
                    d.entry("upload_only").int(upload_only.into());
                }
                if let Some(v) = self.v {
                    d.entry("v").bytes(v);
                }
                match self.yourip {
                    Some(IpAddr::V4(ip)) => d.entry("yourip").bytes(&ip.octets()),
                    Some(IpAddr::V6(ip)) => d.entry("yourip").bytes(&ip.octets()),
                    None => {}
                }
            });
        })
    }

    /// What the sender calls its program, fit for a terminal; None where that is nothing.
    pub fn client(&self) -> Option<String> {
        let v = self.v?;
        let whole = printable(&text(&v[..v.len().min(4 * CLIENT_NAME_MAX)]));
        let name: String = whole.trim().chars().take(CLIENT_NAME_MAX).collect();
        (!name.is_empty()).then_some(name)
    }
}

/// The ids of the extensions that we know, of what may be a great many. One that is no number from 0 to 255 is not
/// named.
fn ids(m: bencode::Dict<'_>) -> Result<Ids, Error> {
    let values = m.fields(Extension::ALL.map(Extension::name)).map_err(Error::Bencode)?;
    let mut ids = Ids::default();
    for (extension, value) in Extension::ALL.into_iter().zip(values) {
        let id = value.and_then(bencode::Value::as_int).and_then(|id| u8::try_from(id).ok());
        if let Some(id) = id {
            ids.name(extension, id);
        }
    }
    Ok(ids)
}

/// Decodes `data` as a handshake, and asserts that what comes out is in bounds and survives the wire.
#[doc(hidden)]
pub fn fuzz_extended(data: &[u8]) {
    let Ok(handshake) = Handshake::decode(data) else { return };
    assert!(handshake.metadata_size.is_none_or(|size| (1..=METADATA_MAX).contains(&size)));
    assert!(handshake.reqq != Some(0) && handshake.p != Some(0));
    assert!(handshake.client().is_none_or(|name| (1..=CLIENT_NAME_MAX).contains(&name.chars().count())));
    let again = handshake.encode();
    assert!(bencode::decode(&again).is_ok());
    assert_eq!(Handshake::decode(&again), Ok(handshake));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BENCODE_DEPTH;

    fn full() -> Handshake<'static> {
        let mut ids = Ids::default();
        ids.name(Extension::Pex, 1);
        ids.name(Extension::Metadata, 3);
        ids.name(Extension::UploadOnly, 0);
        Handshake {
            ids,
            v: Some(b"ptorrent 0.1.0"),
            e: Some(true),
            p: Some(6881),
            yourip: Some([1, 2, 3, 4].into()),
            ipv4: Some([5, 6, 7, 8].into()),
            ipv6: Some(Ipv6Addr::LOCALHOST),
            reqq: Some(500),
            metadata_size: Some(31235),
            upload_only: Some(true),
        }
    }

    #[test]
    fn a_handshake_is_canonical_and_survives_the_wire() {
        let bytes = full().encode();
        let expected = b"d1:ei1e4:ipv44:\x05\x06\x07\x084:ipv616:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
            1:md11:upload_onlyi0e11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei31235e1:pi6881e\
            4:reqqi500e11:upload_onlyi1e1:v14:ptorrent 0.1.06:yourip4:\x01\x02\x03\x04e";
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(Handshake::decode(&bytes), Ok(full()));
        assert_eq!(Handshake::decode(&Handshake::default().encode()), Ok(Handshake::default()));
        assert_eq!(Handshake::default().encode(), b"d1:mdee");
        let v6 = Handshake { yourip: Some(Ipv6Addr::LOCALHOST.into()), ..Handshake::default() };
        assert_eq!(Handshake::decode(&v6.encode()), Ok(v6));
    }

    #[test]
    fn a_handshake_of_another_client_is_read() {
        let body = b"d1:md11:LT_metadatai1e11:lt_donthavei7e7:\xc2\xb5T_PEXi2e11:ut_metadatai2ee1:pi6881e\
            4:reqqi2000e12:complete_agoi-1e1:v13:\xc2\xb5Torrent 1.2e";
        let told = Handshake::decode(body).unwrap();
        assert_eq!(told.ids.get(Extension::Metadata), Some(2));
        assert_eq!(told.ids.get(Extension::DontHave), Some(7));
        assert_eq!(told.ids.named(Extension::Pex), None);
        assert_eq!((told.p, told.reqq, told.upload_only), (Some(6881), Some(2000), None));
        assert_eq!(told.client().as_deref(), Some("\u{b5}Torrent 1.2"));
        assert_eq!(Handshake::decode(b"degarbage"), Ok(Handshake::default()));
    }

    #[test]
    fn values_that_make_no_sense_are_as_not_there() {
        for body in [
            &b"d13:metadata_sizei2147483648ee"[..],
            b"d13:metadata_sizei4294967297ee",
            b"d13:metadata_sizei0ee",
            b"d13:metadata_sizei-5ee",
            b"d13:metadata_size3:abce",
            b"d1:mi5ee",
            b"d1:mle1:pi65536ee",
            b"d1:md6:ut_pexi256ee1:pi0ee",
            b"d1:md6:ut_pexi-1e11:ut_metadata1:2ee",
            b"d4:ipv43:abc4:ipv615:abcdefghijklmnoe",
            b"d4:reqqi0e6:yourip5:abcdee",
            b"d4:reqqi-1e11:upload_only1:1e1:vi1ee",
        ] {
            assert_eq!(Handshake::decode(body), Ok(Handshake::default()), "{}", body.escape_ascii());
        }
        let most = Handshake::decode(b"d13:metadata_sizei67108864e4:reqqi9000000000ee").unwrap();
        assert_eq!((most.metadata_size, most.reqq), (Some(METADATA_MAX), Some(u32::MAX)));
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        assert_eq!(Handshake::decode(b"le"), Err(Error::NoDictionary));
        assert_eq!(Handshake::decode(b"4:spam"), Err(Error::NoDictionary));
        assert!(matches!(Handshake::decode(b""), Err(Error::Bencode(_))));
        assert!(matches!(Handshake::decode(b"d1:m"), Err(Error::Bencode(_))));
        assert!(matches!(Handshake::decode(b"d1:pi1e1:pi2ee"), Err(Error::Bencode(_))));
        assert!(matches!(Handshake::decode(b"d1:md6:ut_pexi1e6:ut_pexi2eee"), Err(Error::Bencode(_))));
        let deep = [b"d1:m".repeat(BENCODE_DEPTH + 1), b"e".repeat(BENCODE_DEPTH + 1)].concat();
        assert!(matches!(Handshake::decode(&deep), Err(Error::Bencode(_))));
        let long = [&b"d1:v9000:"[..], &[b'x'; 9000], b"e"].concat();
        assert_eq!(Handshake::decode(&long), Err(Error::TooLong(9010)));
    }

    #[test]
    fn a_huge_m_costs_a_pass_over_it() {
        let mut body = b"d1:md".to_vec();
        for n in 0..600 {
            body.extend_from_slice(format!("6:ex{n:04}i{}e", n % 256).as_bytes());
        }
        body.extend_from_slice(b"6:ut_pexi9eee");
        assert_eq!(Handshake::decode(&body).map(|h| h.ids.get(Extension::Pex)), Ok(Some(9)));
    }

    #[test]
    fn a_name_is_made_fit_for_a_terminal() {
        let client = |v: &[u8]| Handshake { v: Some(v), ..Handshake::default() }.client();
        assert_eq!(client(b"a\x1b[31mb\n").as_deref().map(|name| name.contains(['\x1b', '\n'])), Some(false));
        assert_eq!(client(&[b'x'; 500]).map(|name| name.len()), Some(CLIENT_NAME_MAX));
        assert_eq!((client(b""), client(b"  ")), (None, None));
        assert!(client(b"\xff\xfe").is_some());
    }
}
