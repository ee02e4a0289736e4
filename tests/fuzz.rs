//! Every decoder and state machine on its corpus and on seeded mutations of it. A target asserts by itself that what it decodes is
//! consistent; here we watch that it never panics and that memory stays within a small multiple of its input.
//!
//! `SEED=n` gives other mutations, `ROUNDS=n` more of them, `TARGET=NAME` one target alone. `make fuzz` runs the same
//! targets under libFuzzer.

#[path = "fuzz/heap.rs"]
mod heap;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use ptorrent::base::rng::Rng;
use ptorrent::proto::{bencode, metainfo};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use targets::{DECODERS, MACHINES, Target};

/// How many mutations each target gets: all targets take a few seconds.
const ROUNDS: u64 = 50_000;
/// How many bytes on the heap a byte of input may cost at most, the checks of the target included. A file of a
/// torrent takes 24 bytes of input and some 240 of memory at the peak.
const HEAP_FACTOR: usize = 16;
/// Mutations of each state machine: an input takes far longer there than in a decoder.
const MACHINE_ROUNDS: u64 = 300;
/// Bytes on the heap that a state machine may take besides: it exists before its input does.
const MACHINE_HEAP_BASE: usize = 4 << 20;
/// Bytes on the heap that any input may cost: small tables and the texts of errors.
const HEAP_BASE: usize = 16 << 10;

#[test]
fn every_decoder_stands_its_corpus_and_mutations() {
    mutate_all(DECODERS, ROUNDS, HEAP_BASE);
}

#[test]
fn every_state_machine_stands_its_corpus_and_mutations() {
    mutate_all(MACHINES, MACHINE_ROUNDS, MACHINE_HEAP_BASE);
}

fn mutate_all(targets: &[(&str, Target)], rounds: u64, heap_base: usize) {
    let (seed, rounds) = (setting("SEED").unwrap_or(1), setting("ROUNDS").unwrap_or(rounds));
    let only = text_setting("TARGET");
    for (name, target) in targets.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name))
    {
        let corpus = corpus(name);
        let test = |input: &[u8]| run(name, *target, input, seed, heap_base);
        for input in &corpus {
            test(input);
        }
        let mut rng = Rng::new([0; 32]).fork(format!("{name} {seed}").as_bytes());
        let mut input = Vec::new();
        for _ in 0..rounds {
            mutate::mutate(&corpus, &mut input, &mut rng);
            test(&input);
        }
    }
}

/// Megabytes of what costs a naive decoder its stack or all memory.
#[test]
fn hostile_bulk_costs_no_memory() {
    let bulk = |unit: &[u8]| unit.repeat((32 << 20) / unit.len());
    let wrap = |open: &[u8], unit: &[u8], close: &[u8]| [open, &bulk(unit), close].concat();
    for input in [
        bulk(b"l"),
        wrap(b"d", b"1:ai1e1:bi1e", b"e"),
        wrap(b"l", b"le", b"e"),
        wrap(b"d4:infod5:filesl", b"le", b"e6:pieces0:ee"),
        wrap(b"d13:announce-listl", b"l4:x://e", b"ee"),
    ] {
        let peak = heap::peak(|| {
            let keys = bencode::decode(&input).ok().and_then(|value| Some(value.as_dict()?.fields(["c"])));
            assert!(keys.is_none_or(|keys| keys.is_ok()));
            assert!(metainfo::Metainfo::parse(&input).is_err());
        });
        assert!(peak < HEAP_BASE, "{peak} bytes for {}", input[..20].escape_ascii());
    }
}

/// The smallest entries and the longest name: what costs most memory for a byte of input.
#[test]
fn many_small_files_cost_little_memory() {
    let files = b"d6:lengthi0e4:pathl1:aee".repeat(100_000);
    let tail = [b"e4:name255:", &[b'n'; 255][..], b"12:piece lengthi1e6:pieces0:ee"].concat();
    let input = [b"d4:infod5:filesl", &files[..], &tail].concat();
    let peak = heap::peak(|| assert!(metainfo::Metainfo::parse(&input).is_ok()));
    assert!(peak < HEAP_FACTOR * input.len(), "{peak} bytes for {}", input.len());
}

fn run(name: &str, target: Target, input: &[u8], seed: u64, heap_base: usize) {
    let mut peak = 0;
    let result = catch_unwind(AssertUnwindSafe(|| peak = heap::peak(|| target(input))));
    let limit = heap_base + HEAP_FACTOR * input.len();
    let shown = input.escape_ascii();
    assert!(result.is_ok(), "{name} panics (SEED={seed}) on b\"{shown}\"");
    assert!(peak <= limit, "{name} takes {peak} bytes for {} (SEED={seed}): b\"{shown}\"", input.len());
}

/// The files of a target's corpus, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test sets these")]
fn text_setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn setting(name: &str) -> Option<u64> {
    text_setting(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
