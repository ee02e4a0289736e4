//! Two engines in one process, over real sockets and files: what one seeds, the other downloads; and both end when told.

use ptorrent::api::{Command, Encryption, Report, Spec, State};
use ptorrent::engine::{Engine, Options, Roots};
use ptorrent::proto::metainfo::Metainfo;
use ptorrent::proto::metainfo::build::{Content, Plan, build};
use ptorrent::sys::socket::Route;
use sha1::{Digest, Sha1};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PIECE: usize = 256 << 10;

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ptorrent-engine-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options() -> Options {
    Options {
        route: Route { v4: Some(Ipv4Addr::LOCALHOST), ..Route::default() },
        roots: Roots::Usual,
        ports: 0..=0,
        max_conn: 50,
        max_upload: 4,
        max_download_rate: 0,
        max_upload_rate: 0,
        max_metadata_size: ptorrent::limits::METADATA_MAX_DEFAULT,
        encryption: Encryption::Disabled,
        torrents: 1,
        lanes: None,
        lsd: false,
        pex: false,
        signals: None,
    }
}

fn content(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn torrent(data: &[u8]) -> Vec<u8> {
    let hashes: Vec<u8> = data.chunks(PIECE).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    build(&Plan::bare("data", Content::Single(data.len() as u64), PIECE as u32, &hashes))
}

fn spec(torrent: &[u8], dir: &Path, peer: Option<SocketAddr>) -> Arc<Spec> {
    Arc::new(Spec {
        meta: Metainfo::parse(torrent).unwrap(),
        dir: dir.to_path_buf(),
        wanted: vec![true],
        seed_only: peer.is_none(),
        overwrite: false,
        prealloc: Default::default(),
        disk_io: Default::default(),
        sequential: false,
        super_seed: false,
        seed_ratio: None,
        seed_time: None,
        trackers: vec![],
        web_seeds: vec![],
        peers: peer.map(|addr| (addr.ip().to_string(), addr.port())).into_iter().collect(),
        state_dir: None,
    })
}

fn until(engine: &Engine, mut reached: impl FnMut(&Report) -> bool) -> Report {
    loop {
        let report = engine.reports().recv().expect("the engine ended early");
        assert!(!matches!(report, Report::Error { .. }), "{report:?}");
        if reached(&report) {
            return report;
        }
    }
}

fn quit(engine: Engine) {
    assert!(engine.command(Command::Quit));
    until(&engine, |report| matches!(report, Report::Finished { unreached: 0 }));
    engine.join().unwrap();
}

fn exchange(name: &str, len: usize) {
    let (from, to) = (Folder::new(&format!("{name}-from")), Folder::new(&format!("{name}-to")));
    let data = content(len);
    std::fs::write(from.0.join("data"), &data).unwrap();
    let torrent = torrent(&data);
    let seeder = Engine::start(options()).unwrap();
    let Report::Listening { addr } = until(&seeder, |r| matches!(r, Report::Listening { .. })) else {
        panic!()
    };
    assert_eq!(addr.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    assert!(seeder.command(Command::Add { number: 0, spec: spec(&torrent, &from.0, None) }));
    until(&seeder, |r| matches!(r, Report::State { state: State::Seeding, .. }));
    let leecher = Engine::start(options()).unwrap();
    assert!(leecher.command(Command::Add { number: 7, spec: spec(&torrent, &to.0, Some(addr)) }));
    until(&leecher, |r| matches!(r, Report::Complete { number: 7 }));
    quit(leecher);
    quit(seeder);
    assert!(std::fs::read(to.0.join("data")).unwrap() == data, "the file differs");
}

#[test]
fn what_one_engine_seeds_the_other_downloads() {
    exchange("small", 5_000_000);
}

#[test]
fn an_engine_that_has_nothing_to_do_ends_when_told_and_one_that_cannot_listen_says_why() {
    let engine = Engine::start(options()).unwrap();
    let Report::Listening { addr } = until(&engine, |r| matches!(r, Report::Listening { .. })) else {
        panic!()
    };
    let second = Engine::start(Options { ports: addr.port()..=addr.port(), ..options() });
    let error = second.err().unwrap().to_string();
    let start = format!("cannot listen on 127.0.0.1 (--bind), port {} (--port): ", addr.port());
    assert!(error.starts_with(&start), "{error}");
    quit(engine);
}
