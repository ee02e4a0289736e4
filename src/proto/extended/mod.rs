//! The extension protocol (BEP 10): which extensions we know, and under which ids peers send us theirs. What each of
//! them says is in a file of its own; the handshake in which both sides name them is in [`handshake`].

pub mod handshake;
pub mod metadata;
pub mod pex;

pub use handshake::Handshake;

use crate::limits::{METADATA_MESSAGE_MAX, PEX_MESSAGE_MAX};

/// The id of the handshake of extensions, in both directions.
pub const HANDSHAKE: u8 = 0;

/// An extension that we know. As a number it is the id under which peers send it to us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Extension {
    /// Peer exchange (BEP 11).
    Pex = 1,
    /// The info dictionary from peers (BEP 9).
    Metadata = 2,
    /// The sender lost a piece (BEP 54).
    DontHave = 3,
    /// Whether the sender wants nothing more (BEP 21).
    UploadOnly = 4,
}

impl Extension {
    /// All of them, in the order of their ids.
    pub const ALL: [Extension; 4] =
        [Extension::Pex, Extension::Metadata, Extension::DontHave, Extension::UploadOnly];

    /// Its name in a handshake.
    pub fn name(self) -> &'static str {
        match self {
            Extension::Pex => "ut_pex",
            Extension::Metadata => "ut_metadata",
            Extension::DontHave => "lt_donthave",
            Extension::UploadOnly => "upload_only",
        }
    }

    /// The id under which peers send it to us; never 0.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The one that peers send under this id.
    pub fn of(id: u8) -> Option<Extension> {
        Extension::ALL.into_iter().find(|extension| extension.id() == id)
    }

    /// The longest message of it that is read, in bytes after its id.
    pub fn max(self) -> usize {
        match self {
            Extension::Pex => PEX_MESSAGE_MAX,
            Extension::Metadata => METADATA_MESSAGE_MAX,
            Extension::DontHave => 4,
            Extension::UploadOnly => 1,
        }
    }

    /// Its place in [`Extension::ALL`].
    fn at(self) -> usize {
        usize::from(self.id()) - 1
    }
}

/// The ids under which one side takes messages of each extension: not named, 0 (not any more), or an id.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ids([Option<u8>; Extension::ALL.len()]);

impl Ids {
    /// The id that was named for it; Some(0) says that it is not taken any more.
    pub fn named(&self, extension: Extension) -> Option<u8> {
        self.0[extension.at()]
    }

    /// Names one.
    pub fn name(&mut self, extension: Extension, id: u8) {
        self.0[extension.at()] = Some(id);
    }

    /// The id to send it under; None where it is not taken.
    pub fn get(&self, extension: Extension) -> Option<u8> {
        self.named(extension).filter(|id| *id != 0)
    }

    /// Takes over what `newer` names; what it does not name stays as it was.
    pub fn update(&mut self, newer: &Ids) {
        for (id, newer) in self.0.iter_mut().zip(newer.0) {
            *id = newer.or(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_has_one_id_and_one_name() {
        for (at, extension) in Extension::ALL.into_iter().enumerate() {
            assert_eq!((extension.at(), extension.id()), (at, at as u8 + 1));
            assert_eq!(Extension::of(extension.id()), Some(extension));
            assert!(extension.max() + 2 <= crate::limits::EXTENDED_MAX as usize);
        }
        assert_eq!((Extension::of(0), Extension::of(5), Extension::of(255)), (None, None, None));
    }

    #[test]
    fn a_later_handshake_changes_what_it_names() {
        let mut ids = Ids::default();
        let mut first = Ids::default();
        first.name(Extension::Pex, 7);
        first.name(Extension::DontHave, 9);
        ids.update(&first);
        assert_eq!((ids.get(Extension::Pex), ids.get(Extension::Metadata)), (Some(7), None));
        let mut second = Ids::default();
        second.name(Extension::Pex, 0);
        second.name(Extension::Metadata, 255);
        ids.update(&second);
        let told = Extension::ALL.map(|extension| ids.get(extension));
        assert_eq!(told, [None, Some(255), Some(9), None]);
        ids.update(&first);
        assert_eq!(ids.get(Extension::Pex), Some(7), "and may be taken again");
    }
}
