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

mod about;
mod contestant;
mod crowd;
mod json;
mod limits;
mod machine;
mod options;
mod place;
mod report;
mod result;
mod rows;
mod shared;
mod sink;
mod warm;

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use about::About;
use contestant::Contestant;
use limits::Limits;
use options::Options;
use place::Place;
use result::{Entry, Looked, Outcome, Results, median};
use rows::{Kind, Lab, Race, Row};
use shared::calls::Counter;
use shared::content;
use shared::guard::{self, at};
use shared::program::{self, Args, Common, Program};
use warm::Warm;

/// Who takes longer is run once a row: everybody else would wait for it.
const SLOW: f64 = 20.0;

fn main() -> ExitCode {
    program::main(Options::new())
}

impl Program for Options {
    const NAME: &'static str = "bench";
    const HELP: &'static str = options::HELP;

    fn common(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }

    fn take(&mut self, option: &str, args: &mut Args) -> Result<bool, String> {
        self.take(option, args)
    }

    fn check(&mut self) -> Result<(), String> {
        self.check()
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        let places = places(self);
        let mut who = contestant::all(&self.common.ptorrent, self.against.as_deref());
        who.retain(|each| self.wants(each.name));
        for missing in who.iter().filter(|each| !each.is_there()) {
            println!("left out: {} is not there (scripts/setup-peers.sh)", missing.name);
        }
        who.retain(Contestant::is_there);
        let counter = if self.calls { Counter::find() } else { None };
        let about = About::gather(&who, &places, counter);
        print!("{}", about.text());
        println!("making what is transferred");
        // The small files take some 200 MiB.
        let all = Arc::new(content::random(self.bytes()));
        let lab = Lab::new(&all, self.bytes())?;
        let mut warm = Warm::default();
        let limits = Limits::measure(&lab.plain, &lab.many, &places, &mut warm)?;
        print!("{}", report::limits(&limits));
        let mut bench = Bench { options: self, who, lab, limits, counter, warm };
        let mut results = Results::default();
        bench.all_rows(&places, &mut results);
        results.took = begun.elapsed().as_secs_f64();
        // After a signal as well: what there is so far.
        print!("\n{}{}", about.text(), report::all(&bench.limits, &results, counter)?);
        let json = json::json(self, &about, &bench.limits, &results);
        fs::write(&self.json, json).map_err(at(&self.json))?;
        println!("also in {}; all of it took {:.0} s", self.json.display(), results.took);
        Ok(())
    }
}

/// Folders on the file systems that are asked for.
fn places(options: &Options) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for parent in [Path::new("/dev/shm"), &options.common.dir] {
        let name = place::file_system(parent);
        if !options.wants_place(name) || places.iter().any(|other| other.name == name) {
            continue;
        }
        match Place::make(parent) {
            Ok(place) => places.push(place),
            Err(error) => println!("left out: {name}: {error}"),
        }
    }
    places
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
    /// All rows, until a signal comes. A row that cannot be measured takes none of the others with it.
    fn all_rows(&mut self, places: &[Place], results: &mut Results) {
        let rows = self.options.rows();
        for (number, row) in (1..).zip(&rows) {
            let of = rows.len();
            let title = |place: &Place| println!("\nrow {number} of {of}, {}, {}", row.name, place.name);
            match row.kind {
                Kind::Race(race) => {
                    for place in places {
                        if guard::is_stopped() {
                            return;
                        }
                        title(place);
                        match self.race(row, race, place) {
                            Ok(outcome) => {
                                print!("{}", report::outcome(&outcome).unwrap_or_default());
                                results.outcomes.push(outcome);
                            }
                            Err(error) => results.leave_out(row, place.name, &*error),
                        }
                    }
                }
                Kind::Look(look) => {
                    let Some(place) = places.first().filter(|_| !guard::is_stopped()) else { return };
                    title(place);
                    let begun = Instant::now();
                    match look.run(self.options, &self.lab, place, self.counter) {
                        Ok(figures) => {
                            let took = begun.elapsed().as_secs_f64();
                            let looked = Looked { row, place: place.name, figures, took };
                            print!("{}", report::looked(&looked));
                            results.looked.push(looked);
                        }
                        Err(error) => results.leave_out(row, place.name, &*error),
                    }
                }
            }
        }
        results.complete = !guard::is_stopped();
    }

    /// All rounds of a row on one file system; as many as there were, when a signal comes.
    fn race(&mut self, row: &'static Row, race: Race, place: &Place) -> Result<Outcome, Box<dyn Error>> {
        let begun = Instant::now();
        race.prepare(&self.lab, place)?;
        let who: Vec<usize> = (0..self.who.len()).filter(|who| race.is_for(&self.who[*who])).collect();
        self.warm.hold(race.memory(&self.lab));
        let mut outcome = Outcome {
            row,
            place: place.name,
            bytes: race.bytes(&self.lab),
            limit: race.limit(&self.limits, place),
            files: race.files(&self.lab),
            entries: who.iter().map(|who| Entry::new(self.who[*who].name)).collect(),
            took: 0.0,
        };
        let mut checks = Vec::new();
        for round in 1..=self.options.common.rounds {
            // Its limit is measured among the clients: it is what they are compared with.
            if matches!(race, Race::Check) {
                checks.push(machine::check(
                    &place.full().join(self.lab.plain.name),
                    self.lab.plain.piece_length,
                )?);
            }
            for turn in 0..who.len() {
                let number = (turn + round - 1) % who.len();
                self.turn(race, place, round, who[number], &mut outcome.entries[number]);
            }
        }
        if !checks.is_empty() {
            outcome.limit.wall = median(checks.iter().map(|cost| cost.wall).collect());
            outcome.limit.cpu = median(checks.iter().map(|cost| cost.cpu).collect());
        }
        if let Some(counter) = self.counter.filter(|_| race.is_counted()) {
            // The quick form has no time for the others.
            let most = if self.options.quick { 1 } else { who.len() };
            for (who, entry) in who.iter().map(|who| &self.who[*who]).zip(&mut outcome.entries).take(most) {
                if entry.failed.is_none() && !guard::is_stopped() {
                    progress(format_args!("counting the system calls of {}: ", who.name));
                    match race.run(&self.lab, who, place, Some(counter)) {
                        Ok(sample) => entry.calls = sample.calls,
                        Err(error) => print!("{error}; "),
                    }
                    println!("{}", entry.calls.map_or("not counted".into(), |calls| calls.to_string()));
                }
            }
        }
        self.warm.let_go();
        race.clean_up(place)?;
        outcome.took = begun.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// One run of one client, unless it has shown that it cannot, or not in a reasonable time.
    fn turn(&mut self, race: Race, place: &Place, round: usize, number: usize, entry: &mut Entry) {
        let who = &self.who[number];
        let slow = entry.samples.iter().any(|(_, sample)| sample.wall > SLOW);
        if slow || entry.failed.is_some() || guard::is_stopped() {
            return;
        }
        progress(format_args!("round {round}, {}, {}: ", place.name, who.name));
        self.warm.let_go();
        let result = race.run(&self.lab, who, place, None);
        self.warm.hold(race.memory(&self.lab));
        match result {
            Ok(sample) => {
                println!("{sample}");
                entry.samples.push((round, sample));
            }
            // The signal has ended the client, too.
            Err(_) if guard::is_stopped() => println!("stopped"),
            Err(error) => {
                println!("left out: {error}");
                entry.failed = Some(error.to_string());
            }
        }
    }
}

/// Says what is being done, before it is.
fn progress(what: std::fmt::Arguments<'_>) {
    print!("{what}");
    let _ = std::io::stdout().flush();
}
