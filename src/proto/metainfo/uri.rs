//! The magnet link of a torrent (BEP 9).

use super::Metainfo;
use crate::proto::magnet::Magnet;

/// The bytes with all but letters, digits and `-._~` as `%XX` (RFC 3986, unreserved characters).
pub fn percent_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

impl Metainfo {
    /// The magnet link: info-hash, name, trackers in the order of their tiers, and web seeds.
    pub fn magnet_uri(&self) -> String {
        let magnet = Magnet {
            name: Some(self.name.clone()),
            trackers: self.trackers.iter().flatten().cloned().collect(),
            web_seeds: self.web_seeds.clone(),
            ..Magnet::bare(self.info_hash)
        };
        magnet.to_string()
    }
}
