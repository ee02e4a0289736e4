//! ptorrent against the clients that users have, on the same work in one run: `make bench`.
//!
//! One file in 256 KiB pieces from one fast seeder on loopback, to a disk and to memory. Every round runs every
//! client once, so that what else the machine does meets all alike; ratios are taken within a round. Each run is
//! timed from the start of the process to all data complete, and every byte is compared. A client that is not
//! installed is left out.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and starts threads; the rules guard the core"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

#[allow(dead_code, reason = "the interop tests use the rest")]
#[path = "../interop/clients.rs"]
mod clients;
mod machine;
#[path = "../interop/one_peer.rs"]
mod one_peer;
mod options;
mod report;
mod run;
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod seeder;
mod usage;

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use sha1::{Digest, Sha1};

use machine::Warm;
use options::Options;
use report::{Limits, Place};
use run::{Bench, Contestant};

const PIECE_LENGTH: usize = 256 << 10;
const NAME: &str = "bench.bin";
const TRACKER: &str = "127.0.0.1:0";
const SEEDER: &str = "127.66.0.1:0";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("bench: {message}\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let contestants: Vec<Contestant> = run::all(&options.ptorrent)
        .into_iter()
        .filter(|each| options.wants(each.name) && each.is_there())
        .collect();
    let data = Arc::new(random(options.size));
    let pieces = hash(&data);
    let info = info(data.len(), &pieces);
    let info_hash = Sha1::digest(&info).into();
    let seeder = seeder::Seeder::start(SEEDER.parse()?, info_hash, PIECE_LENGTH, Arc::clone(&data))?;
    let announce = one_peer::start(TRACKER.parse()?, &[seeder.listen])?;

    // Only what the clients write matters: their torrents and their settings lie beside it.
    let mut places = Vec::new();
    for (name, parent) in [("disk", options.dir.clone()), ("memory", PathBuf::from("/dev/shm"))] {
        let dir = parent.join("ptorrent-bench");
        // A run that was interrupted may have left some.
        let _ = fs::remove_dir_all(&dir);
        if let Err(error) = fs::create_dir_all(&dir) {
            println!("left out: {name}, {}: {error}", dir.display());
            continue;
        }
        fs::write(dir.join("plain.torrent"), torrent(None, &info))?;
        fs::write(dir.join("tracker.torrent"), torrent(Some(&announce), &info))?;
        places.push(Place::new(name, dir));
    }

    let mut warm = Warm::new(3 * options.size + (1 << 30));
    warm.hold();
    let limits = limits(&data, &places, &mut warm)?;
    let bench = Bench { data, seeder };
    for round in 1..=options.rounds {
        for place in &mut places {
            for contestant in &contestants {
                if place.failed(contestant.name) {
                    continue;
                }
                warm.let_go();
                let result = bench.run(contestant, &place.dir);
                warm.hold();
                match &result {
                    Ok(sample) => println!("round {round}, {}: {}: {sample}", place.name, contestant.name),
                    Err(error) => println!("left out: {}, {}: {error}", contestant.name, place.name),
                }
                place.add(contestant.name, result.ok());
            }
        }
    }
    // Ptorrent is the first of them.
    let base = contestants.iter().find(|each| places.iter().all(|place| place.has(each.name)));
    let base = base.map_or("", |each| each.name);
    print!("{}", report::table(options, &limits, &places, base));
    fs::write(&options.json, report::json(options, &limits, &places))?;
    println!("also in {}", options.json.display());
    for place in &places {
        fs::remove_dir_all(&place.dir)?;
    }
    Ok(())
}

fn limits(data: &[u8], places: &[Place], warm: &mut Warm) -> io::Result<Limits> {
    let mut rows = vec![("loopback copy".to_string(), machine::loopback(data)?)];
    rows.push(("SHA-1, one core".to_string(), machine::sha1(data)?));
    for place in places {
        warm.let_go();
        rows.push((format!("pwrite, {}", place.name), machine::store(data, &place.dir)?));
        warm.hold();
    }
    Ok(rows)
}

/// Content without repetition.
fn random(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    let mut state: u64 = 1;
    for word in data.chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes()[..word.len()]);
    }
    data
}

/// The hashes of all pieces, on two cores.
fn hash(data: &[u8]) -> Vec<u8> {
    let half = data.len() / 2 / PIECE_LENGTH * PIECE_LENGTH;
    let hash = |part: &[u8]| part.chunks(PIECE_LENGTH).flat_map(Sha1::digest).collect::<Vec<u8>>();
    thread::scope(|scope| {
        let first = scope.spawn(|| hash(&data[..half]));
        let second = hash(&data[half..]);
        [first.join().unwrap(), second].concat()
    })
}

fn info(length: usize, pieces: &[u8]) -> Vec<u8> {
    let head = format!("d6:lengthi{length}e4:name{}:{NAME}12:piece lengthi{PIECE_LENGTH}e", NAME.len());
    [head.as_bytes(), format!("6:pieces{}:", pieces.len()).as_bytes(), pieces, b"e"].concat()
}

fn torrent(announce: Option<&str>, info: &[u8]) -> Vec<u8> {
    let announce = announce.map_or(String::new(), |url| format!("8:announce{}:{url}", url.len()));
    [b"d", announce.as_bytes(), b"4:info", info, b"e"].concat()
}
