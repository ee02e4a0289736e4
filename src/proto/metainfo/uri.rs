//! The magnet link of a torrent (BEP 9).

use super::Metainfo;

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
        let mut uri =
            format!("magnet:?xt=urn:btih:{}&dn={}", self.info_hash, percent_encode(self.name.as_bytes()));
        let trackers = self.trackers.iter().flatten().map(|url| ("tr", url));
        for (key, url) in trackers.chain(self.web_seeds.iter().map(|url| ("ws", url))) {
            uri += &format!("&{key}={}", percent_encode(url.as_bytes()));
        }
        uri
    }
}
