//! What a peer says of its pieces before it is known how many there are, or while they are looked through: kept as it
//! came, within bounds, and heard once the torrent runs. So connections outlast the metadata.

use super::super::Session;
use super::super::download::Checked;
use crate::api::{PeerId, TorrentId, Why};
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::limits::{EARLY_BYTES_MAX, EARLY_HAVES_MAX, SUPER_REVEAL};
use crate::proto::wire::message::Message;

/// What one peer said.
#[derive(Debug, Default)]
pub(in super::super) struct Early {
    bits: Box<[u8]>,
    /// It has everything.
    all: bool,
    haves: Vec<u32>,
    /// There was no room for all of it.
    lost: bool,
}

impl Early {
    /// Bytes of it that count against [`EARLY_BYTES_MAX`].
    pub(in super::super) fn bytes(&self) -> usize {
        self.bits.len()
    }
}

/// What a peer tells.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Told<'a> {
    Bits(&'a [u8]),
    All,
    Nothing,
    Have(u32),
    /// It has a piece no more.
    Lost,
    /// What it would serve, which it will say by an unchoke as well.
    Hint,
}

impl Told<'_> {
    /// What a message says of pieces, if it is about them.
    pub(in super::super) fn of<'m>(message: &'m Message<'_>) -> Option<Told<'m>> {
        match message {
            Message::Bitfield(bits) => Some(Told::Bits(bits)),
            Message::HaveAll => Some(Told::All),
            Message::HaveNone => Some(Told::Nothing),
            Message::Have(piece) => Some(Told::Have(*piece)),
            Message::Suggest(_) | Message::AllowedFast(_) => Some(Told::Hint),
            _ => None,
        }
    }

    /// Where it is said of all pieces: of how many that it has, and of how many as far as is known.
    fn counts(&self) -> Option<(u32, u32)> {
        match self {
            Told::Bits(bits) => {
                let ones: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
                Some((ones, 8 * bits.len() as u32))
            }
            Told::All | Told::Nothing => Some((0, 0)),
            Told::Have(_) | Told::Lost | Told::Hint => None,
        }
    }
}

impl Session {
    /// Whether what this peer says of pieces cannot be understood yet.
    pub(in super::super) fn is_early(&mut self, peer: PeerId) -> bool {
        self.swarm(peer).is_some_and(|(t, _)| !t.running())
    }

    /// Keeps it until the torrent runs.
    pub(in super::super) fn keep_early(&mut self, peer: PeerId, told: Told<'_>) -> Checked {
        let kept = self.early;
        let Some((_, p)) = self.swarm(peer) else { return Ok(()) };
        let early = p.early.get_or_insert_default();
        let before = early.bits.len();
        if let Some((has, pieces)) = told.counts() {
            if !p.bitfields.allow(has, pieces) {
                return Err("bitfields over and over");
            }
            **early = Early::default();
        }
        match told {
            Told::Have(piece) if early.haves.len() < EARLY_HAVES_MAX => early.haves.push(piece),
            Told::Have(_) | Told::Lost => early.lost = true,
            Told::All => early.all = true,
            Told::Bits(bits) if kept - before + bits.len() > EARLY_BYTES_MAX => early.lost = true,
            Told::Bits(bits) => early.bits = bits.into(),
            Told::Nothing | Told::Hint => {}
        }
        self.early = kept - before + early.bits.len();
        Ok(())
    }

    /// What a peer said before is as if it said it now. One of whose words some are lost has to say them on a new
    /// connection.
    pub(super) fn hear_early(&mut self, peer: PeerId, pieces: u32, now: Time) -> Checked {
        let Some((_, p)) = self.swarm(peer) else { return Ok(()) };
        p.has = Bitfield::uniform(pieces, false);
        let Some(early) = p.early.take() else { return Ok(()) };
        self.early -= early.bits.len();
        if early.lost {
            self.close(peer, Why::Replaced, now);
            return Ok(());
        }
        if early.all {
            self.on_bitfield(peer, Bitfield::full(pieces).as_bytes(), now)?;
        } else if !early.bits.is_empty() {
            self.on_bitfield(peer, &early.bits, now)?;
        }
        early.haves.into_iter().try_for_each(|piece| self.on_have(peer, piece, now))
    }

    /// A peer that is connected hears which pieces are here. False: there are too many to tell one by one, or they are
    /// not to be told, and a new connection begins with a bitfield.
    pub(super) fn tell_haves(&mut self, id: TorrentId, peer: PeerId, now: Time) -> bool {
        let Some(t) = self.torrents.get(id) else { return false };
        let have = t.picker.have();
        if have.count() > SUPER_REVEAL || have.count() > 0 && t.spec.super_seed {
            return false;
        }
        let pieces: Vec<u32> = have.iter().collect();
        pieces.into_iter().for_each(|piece| self.send(peer, Message::Have(piece), now));
        true
    }
}
