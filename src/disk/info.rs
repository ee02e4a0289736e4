//! An info dictionary that came from peers: is it the right one, and what does it say?

use super::due;
use crate::api::{BadInfo, Spec};
use crate::proto::id::InfoHash;
use crate::proto::metainfo::Metainfo;
use sha1::{Digest, Sha1};

/// Hashes the pieces of an info dictionary; of the right one gives what it says. The state folder then has a copy, so
/// that the next start needs no peers.
pub(super) fn digest(spec: &Spec, pieces: Vec<Box<[u8]>>) -> Result<Box<Metainfo>, BadInfo> {
    let mut sha = Sha1::new();
    pieces.iter().for_each(|piece| sha.update(piece));
    if InfoHash(sha.finalize().into()) != spec.meta.info_hash {
        return Err(BadInfo::Hash);
    }
    let mut info = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    // Each is given back as soon as it is copied.
    pieces.into_iter().for_each(|piece| info.extend_from_slice(&piece));
    let mut meta = Metainfo::from_info(&info).map_err(|error| BadInfo::Refused(error.to_string()))?;
    drop(info);
    if let Some(state) = &spec.state_dir
        && let Err(error) = due::keep(&mut meta, state)
    {
        log::info!("{} stays in memory: {}: {error}", meta.name, state.display());
    }
    Ok(Box::new(meta))
}
