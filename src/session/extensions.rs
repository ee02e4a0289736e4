//! The extension protocol (BEP 10): what each side of a connection takes, and which function hears of what comes. An
//! extension is named in [`Extension`], offered by [`Session::offers`], and gets its arm in [`Session::dispatch`].

use super::Session;
use super::download::Checked;
use super::known::Source;
use super::metadata::Told;
use crate::api::{PeerId, TorrentId, Why};
use crate::base::time::Time;
use crate::limits::{EXTENDED_HANDSHAKES_MAX, PEER_PORT_MIN, REQUESTS_IN_TOLD};
use crate::proto::extended::{Extension, HANDSHAKE, Handshake, Ids};
use crate::proto::wire::message::Message;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// What we call our program.
const PROGRAM: &str = concat!("ptorrent ", env!("CARGO_PKG_VERSION"));

/// What the other side of a connection told in its handshakes of extensions.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// It speaks the extension protocol at all.
    pub(super) on: bool,
    /// The ids under which it takes what we send.
    ids: Ids,
    /// How many handshakes came.
    handshakes: u32,
    /// What it calls its program.
    pub(super) client: Option<Box<str>>,
    /// How many requests it keeps.
    pub(super) reqq: Option<u32>,
    /// The length of the info dictionary, as it says (BEP 9).
    pub(super) metadata_size: Option<u32>,
    /// It wants nothing more (BEP 21).
    pub(super) upload_only: bool,
    /// The port that it listens at, never a privileged one.
    pub(super) port: Option<u16>,
    /// It prefers encryption.
    pub(super) encrypts: bool,
}

impl Spoken {
    /// Takes over what another handshake says; what it does not say stays as it was.
    fn update(&mut self, told: &Handshake<'_>) {
        self.ids.update(&told.ids);
        if let Some(name) = told.client() {
            self.client = Some(name.into());
        }
        self.reqq = told.reqq.or(self.reqq);
        self.metadata_size = told.metadata_size.or(self.metadata_size);
        self.upload_only = told.upload_only.unwrap_or(self.upload_only);
        self.port = told.p.filter(|port| *port >= PEER_PORT_MIN).or(self.port);
        self.encrypts = told.e.unwrap_or(self.encrypts);
    }

    /// Whether it takes messages of this extension.
    pub(super) fn takes(&self, extension: Extension) -> bool {
        self.on && self.ids.get(extension).is_some()
    }
}

impl Session {
    /// Whether peers of this torrent may send us messages of this extension; what comes of others is passed over.
    pub(super) fn offers(&self, torrent: TorrentId, extension: Extension) -> bool {
        let Some(t) = self.torrents.get(torrent) else { return false };
        match extension {
            Extension::UploadOnly | Extension::Metadata | Extension::DontHave => true,
            Extension::Pex => self.config.pex && !t.spec.meta.private,
        }
    }

    /// Both sides of a new connection speak the extension protocol: ours goes out, right after the bitfield.
    pub(super) fn begin_extensions(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        p.spoken.on = true;
        self.tell_extensions(peer, now);
    }

    /// Sends our handshake of extensions, the first one or one that tells of a change.
    pub(super) fn tell_extensions(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get(peer).filter(|p| p.spoken.on) else { return };
        let Some((torrent, t)) = p.torrent.and_then(|id| Some((id, self.torrents.get(id)?))) else { return };
        let mut ids = Ids::default();
        for extension in Extension::ALL.into_iter().filter(|extension| self.offers(torrent, *extension)) {
            ids.name(extension, extension.id());
        }
        // It sees one of our addresses itself.
        let theirs = p.addr.ip().to_canonical();
        let ours: Vec<IpAddr> = self.own.known().filter(|ip| ip.is_ipv4() != theirs.is_ipv4()).collect();
        let told = Handshake {
            ids,
            v: Some(PROGRAM.as_bytes()),
            p: Some(self.config.port).filter(|port| *port != 0),
            yourip: Some(theirs),
            reqq: Some(REQUESTS_IN_TOLD),
            ipv4: ours.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }),
            ipv6: ours.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }),
            metadata_size: Some(t.spec.meta.info_len).filter(|len| *len != 0),
            // A super-seed does not say that it has all.
            upload_only: Some(t.upload_only() && p.offer.is_none()),
            ..Handshake::default()
        };
        let body = Cow::Owned(told.encode());
        self.send(peer, Message::Extended { id: HANDSHAKE, body }, now);
    }

    /// Sends a message of an extension, where the other side takes those. Tells whether it does.
    pub(super) fn send_extended(&mut self, peer: PeerId, to: Extension, body: Vec<u8>, now: Time) -> bool {
        let Some(id) = self.peers.get(peer).and_then(|p| p.spoken.ids.get(to)) else { return false };
        self.send(peer, Message::Extended { id, body: Cow::Owned(body) }, now);
        true
    }

    /// Should we want nothing more of this torrent, or something again (BEP 21), all that can hear of it do.
    pub(super) fn tell_upload_only(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let told = u8::from(t.upload_only());
        if std::mem::replace(&mut t.upload_only_told, told != 0) == (told != 0) {
            return;
        }
        for peer in t.peers.clone() {
            if self.peers.get(peer).is_some_and(|p| p.offer.is_some()) {
                continue;
            }
            if !self.send_extended(peer, Extension::UploadOnly, vec![told], now) {
                self.tell_extensions(peer, now);
            }
        }
    }

    /// A message of the extension protocol came, with the id that we gave.
    pub(super) fn on_extended(&mut self, peer: PeerId, id: u8, body: &[u8], now: Time) -> Checked {
        let Some((_, p)) = self.swarm(peer) else { return Ok(()) };
        let Some(torrent) = p.torrent else { return Ok(()) };
        if !p.spoken.on {
            return Err("a message of extensions, which were not agreed on");
        }
        if id == HANDSHAKE {
            self.on_extended_handshake(peer, body, now)?;
            self.on_metadata_offer(peer, now);
            return Ok(());
        }
        match Extension::of(id).filter(|extension| self.offers(torrent, *extension)) {
            Some(extension) if body.len() > extension.max() => {
                Err("a message of an extension that is too long")
            }
            Some(Extension::DontHave) if self.is_early(peer) => self.keep_early(peer, Told::Lost),
            Some(extension) => self.dispatch(peer, extension, body, now),
            None => Ok(()),
        }
    }

    fn dispatch(&mut self, peer: PeerId, extension: Extension, body: &[u8], now: Time) -> Checked {
        match extension {
            Extension::UploadOnly => self.on_upload_only(peer, body, now),
            Extension::Pex => self.on_pex(peer, body, now),
            Extension::Metadata => self.on_metadata(peer, body, now),
            Extension::DontHave => self.on_dont_have(peer, body, now),
        }
    }

    fn on_extended_handshake(&mut self, peer: PeerId, body: &[u8], now: Time) -> Checked {
        let Some((_, p)) = self.swarm(peer) else { return Ok(()) };
        p.spoken.handshakes += 1;
        if p.spoken.handshakes > EXTENDED_HANDSHAKES_MAX {
            return Err("handshakes of extensions over and over");
        }
        let told = match Handshake::decode(body) {
            Ok(told) => told,
            Err(error) => {
                // Nothing hangs on it: it is as if none had come.
                log::debug!("{peer} {} sent a bad handshake of extensions: {error}", p.addr);
                return Ok(());
            }
        };
        p.spoken.update(&told);
        p.depth = p.depth.min(p.depth_max());
        let by = p.addr.ip();
        if let Some(ip) = told.yourip {
            self.on_your_ip(by, ip, now);
        }
        self.learn_home(peer, now);
        self.begin_pex(peer, now);
        self.close_useless(peer, now);
        Ok(())
    }

    /// Who called us tells where it listens: it may be called there another time.
    fn learn_home(&mut self, peer: PeerId, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        let Some(port) = p.spoken.port.filter(|_| !p.outgoing && p.listens.is_none()) else { return };
        let home = SocketAddr::new(p.addr.ip(), port);
        // Peers of a private torrent come from its trackers alone (BEP 27).
        if !t.spec.meta.private {
            t.known.add(home, Source::Pex, now);
        }
        if t.known.has(home) {
            t.known.on_connected(home);
            p.listens = Some(home);
        }
    }

    fn on_upload_only(&mut self, peer: PeerId, body: &[u8], now: Time) -> Checked {
        let [told] = body else { return Err("upload_only of the wrong length") };
        if let Some((_, p)) = self.swarm(peer) {
            p.spoken.upload_only = *told != 0;
            self.close_useless(peer, now);
        }
        Ok(())
    }

    /// Two that want nothing more have no use for each other (BEP 21).
    fn close_useless(&mut self, peer: PeerId, now: Time) {
        if self.swarm(peer).is_some_and(|(t, p)| t.has_no_use_for(p)) {
            self.close(peer, Why::BothSeeds, now);
        }
    }
}
