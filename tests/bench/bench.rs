//! ptorrent against the clients that users have, on the same work in one run: `make bench`.
//!
//! Every round runs every client once, each time another one first, so that what else the machine does meets all
//! alike; ratios are taken within a round. What is written is compared, byte for byte. What the machine itself can do
//! is measured in the same run, and each row says how far from that it is. A client that is not installed is left out.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and starts threads; the rules guard the core"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod calls;
#[allow(dead_code, reason = "the interop tests use the rest")]
#[path = "../interop/clients.rs"]
mod clients;
mod content;
mod contestant;
mod crowd;
mod guard;
mod json;
mod limits;
mod machine;
#[path = "../interop/one_peer.rs"]
mod one_peer;
mod options;
mod place;
mod process;
mod report;
mod result;
mod rows;
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod seeder;
mod sink;
mod usage;
mod warm;
mod wire;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use calls::Counter;
use contestant::Contestant;
use limits::Limits;
use options::Options;
use place::Place;
use result::{Entry, Looked, Outcome, Results, median};
use rows::{Kind, Lab, Race, Row};
use warm::Warm;

/// Who takes longer is run once a row: everybody else would wait for it.
const SLOW: f64 = 20.0;

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
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    guard::watch()?;
    raise_descriptors();
    let places = places(options);
    let result = compare(options, &places);
    for place in &places {
        guard::remove(&place.dir)?;
    }
    result
}

/// A thousand connections are more than the usual limit leaves.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Folders on the file systems that are asked for.
fn places(options: &Options) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for parent in [Path::new("/dev/shm"), &options.dir] {
        let place = Place::new(parent);
        if !options.wants_place(place.name) || places.iter().any(|other| other.name == place.name) {
            continue;
        }
        match guard::make(&place.dir) {
            Ok(()) => places.push(place),
            Err(error) => println!("left out: {}, {}: {error}", place.name, place.dir.display()),
        }
    }
    places
}

fn compare(options: &Options, places: &[Place]) -> Result<(), Box<dyn Error>> {
    let mut who = contestant::all(&options.ptorrent, options.against.as_deref());
    who.retain(|each| options.wants(each.name));
    for missing in who.iter().filter(|each| !each.is_there()) {
        println!("left out: {} is not there (scripts/setup-peers.sh)", missing.name);
    }
    who.retain(Contestant::is_there);
    let counter = if options.calls { Counter::find() } else { None };
    // The small files take some 200 MiB.
    let all = Arc::new(content::random(options.size));
    let lab = Lab::new(&all, options.size)?;
    let mut warm = Warm::default();
    println!("measuring the machine");
    let limits = Limits::measure(&lab.plain, &lab.many, places, &mut warm)?;
    print!("{}", report::limits(&limits));
    let mut bench = Bench { options, who, lab, limits, counter, warm };
    let mut results = Results::default();
    for row in options.rows() {
        match row.kind {
            Kind::Race(race) => {
                for place in places {
                    let outcome = bench.race(row, race, place)?;
                    print!("{}", report::outcome(&outcome)?);
                    results.outcomes.push(outcome);
                }
            }
            Kind::Look(look) => {
                let Some(place) = places.first() else { continue };
                let figures = look.run(options, &bench.lab, place, counter)?;
                let looked = Looked { row, place: place.name, figures };
                print!("{}", report::looked(&looked));
                results.looked.push(looked);
            }
        }
    }
    print!("\n{}", report::limits(&bench.limits));
    for outcome in &results.outcomes {
        print!("{}", report::outcome(outcome)?);
    }
    results.looked.iter().for_each(|looked| print!("{}", report::looked(looked)));
    print!("{}", report::summary(&results));
    print!("{}", report::legend(counter));
    fs::write(&options.json, json::json(options, &bench.limits, &results, counter))?;
    println!("also in {}", options.json.display());
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    who: Vec<Contestant>,
    lab: Lab,
    limits: Limits,
    counter: Option<Counter>,
    warm: Warm,
}

impl Bench<'_> {
    /// All rounds of a row on one file system.
    fn race(&mut self, row: &'static Row, race: Race, place: &Place) -> Result<Outcome, Box<dyn Error>> {
        race.prepare(&self.lab, place)?;
        self.warm.hold(race.memory(&self.lab));
        let mut outcome = Outcome {
            row,
            place: place.name,
            bytes: race.bytes(&self.lab),
            limit: race.limit(&self.limits, place),
            entries: self.who.iter().map(|who| Entry::new(who.name)).collect(),
        };
        let mut checks = Vec::new();
        for round in 1..=self.options.rounds {
            // Its limit is measured among the clients: it is what they are compared with.
            if matches!(race, Race::Check) {
                checks.push(machine::check(
                    &place.full().join(self.lab.plain.name),
                    self.lab.plain.piece_length,
                )?);
            }
            for turn in 0..self.who.len() {
                let number = (turn + round - 1) % self.who.len();
                self.turn(race, place, round, number, &mut outcome.entries[number]);
            }
        }
        if !checks.is_empty() {
            outcome.limit.wall = median(checks.iter().map(|cost| cost.wall).collect());
            outcome.limit.cpu = median(checks.iter().map(|cost| cost.cpu).collect());
        }
        if let Some(counter) = self.counter.filter(|_| race.is_counted()) {
            for (who, entry) in self.who.iter().zip(&mut outcome.entries) {
                if entry.failed.is_none() {
                    println!("{}, {}: {}: counting its system calls", row.name, place.name, who.name);
                    entry.calls = race.run(&self.lab, who, place, Some(counter))?.calls;
                }
            }
        }
        self.warm.let_go();
        race.clean_up(place)?;
        Ok(outcome)
    }

    /// One run of one client, unless it has shown that it cannot, or not in a reasonable time.
    fn turn(&mut self, race: Race, place: &Place, round: usize, number: usize, entry: &mut Entry) {
        let who = &self.who[number];
        let slow = entry.samples.iter().any(|(_, sample)| sample.wall > SLOW);
        if slow || entry.failed.is_some() {
            return;
        }
        self.warm.let_go();
        let result = race.run(&self.lab, who, place, None);
        self.warm.hold(race.memory(&self.lab));
        print!("round {round}, {}: {}: ", place.name, who.name);
        match result {
            Ok(sample) => {
                println!("{sample}");
                entry.samples.push((round, sample));
            }
            Err(error) => {
                println!("left out: {error}");
                entry.failed = Some(error.to_string());
            }
        }
    }
}
