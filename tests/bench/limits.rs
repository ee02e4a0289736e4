//! From the machine's limits to those of each row: what a perfect client would take for the same work.

use std::error::Error;
use std::fs;
use std::time::Duration;

use crate::machine::{self, Cost, cores};
use crate::place::Place;
use crate::result::median;
use crate::shared::content::Content;
use crate::shared::guard;
use crate::warm::Warm;

/// How often each is measured; the median counts.
const TIMES: usize = 3;

/// A limit, for one GiB; the wall time of sending and receiving is of both together.
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    /// Which file system; none: it has to do with none.
    pub(crate) place: Option<&'static str>,
    pub(crate) cost: Cost,
}

pub(crate) struct Limits(pub(crate) Vec<Limit>);

pub(crate) const SEND: &str = "send from memory";
pub(crate) const RECEIVE: &str = "receive";
pub(crate) const SHA1: &str = "SHA-1, one core";
pub(crate) const CHECK: &str = "pread and SHA-1, all cores";
pub(crate) const PWRITE: &str = "store, pwrite";
pub(crate) const MAPPED: &str = "store, populated mapping";
pub(crate) const FILES: &str = "store, small files";
pub(crate) const READ_SEND: &str = "pread and send";
pub(crate) const SENDFILE: &str = "sendfile";

impl Limits {
    /// Measures all of them, one after the other and then again.
    pub(crate) fn measure(
        one: &Content,
        many: &Content,
        places: &[Place],
        warm: &mut Warm,
    ) -> Result<Limits, Box<dyn Error>> {
        let data = one.data();
        let mut samples: Vec<(&'static str, Option<&'static str>, Cost)> = Vec::new();
        for time in 1..=TIMES {
            guard::pause(Duration::ZERO)?;
            println!("measuring what the machine can do, {time} of {TIMES}");
            let (send, receive) = machine::loopback(data)?;
            samples.extend([(SEND, None, send), (RECEIVE, None, receive)]);
            samples.push((SHA1, None, machine::sha1(data)?));
            for place in places {
                let (dir, name) = (&place.dir, Some(place.name));
                warm.hold(data.len() + (256 << 20));
                warm.let_go();
                samples.push((PWRITE, name, machine::pwrite(data, dir)?));
                samples.push((MAPPED, name, machine::mapped(data, dir)?));
                samples.push((FILES, name, machine::files(many, dir)?));
                let path = dir.join("store");
                fs::write(&path, data)?;
                samples.push((CHECK, name, machine::check(&path, one.piece_length)?));
                samples.push((READ_SEND, name, machine::read_and_send(&path)?));
                samples.push((SENDFILE, name, machine::sendfile(&path)?));
                fs::remove_file(&path)?;
            }
        }
        let mut limits: Vec<Limit> = Vec::new();
        for (name, place, _) in &samples {
            if limits.iter().all(|limit| (limit.name, limit.place) != (*name, *place)) {
                let same = || samples.iter().filter(|sample| (sample.0, sample.1) == (*name, *place));
                let cost = Cost {
                    wall: median(same().map(|sample| sample.2.wall).collect()),
                    cpu: median(same().map(|sample| sample.2.cpu).collect()),
                };
                limits.push(Limit { name, place: *place, cost });
            }
        }
        Ok(Limits(limits))
    }

    fn get(&self, name: &str, place: &Place) -> Cost {
        let of = |limit: &&Limit| limit.name == name && limit.place.is_none_or(|of| of == place.name);
        self.0.iter().find(of).map_or_else(Cost::default, |limit| limit.cost)
    }

    /// The least that a GiB costs its seed.
    fn send(&self, place: &Place) -> f64 {
        self.get(READ_SEND, place).cpu.min(self.get(SENDFILE, place).cpu)
    }

    fn store(&self, place: &Place, small: bool) -> f64 {
        match small {
            true => self.get(FILES, place).cpu,
            false => self.get(PWRITE, place).cpu.min(self.get(MAPPED, place).cpu),
        }
    }

    /// A download: received, hashed and stored, beside a bare seeder on the same cores.
    pub(crate) fn leech(&self, place: &Place, small: bool) -> Cost {
        let cpu = self.get(RECEIVE, place).cpu + self.get(SHA1, place).cpu + self.store(place, small);
        let sender = self.get(SEND, place).cpu;
        Cost { wall: ((cpu + sender) / cores() as f64).max(sender), cpu }
    }

    /// An upload, beside bare sinks.
    pub(crate) fn seed(&self, place: &Place) -> Cost {
        let (send, receive) = (self.send(place), self.get(RECEIVE, place).cpu);
        Cost { wall: ((send + receive) / cores() as f64).max(send), cpu: send }
    }

    /// A check of what is there.
    pub(crate) fn check(&self, place: &Place) -> Cost {
        self.get(CHECK, place)
    }

    /// A swarm on one machine: each GiB that arrives anywhere is sent, received, hashed and stored here.
    pub(crate) fn swarm(&self, place: &Place) -> Cost {
        let cpu = self.leech(place, false).cpu + self.send(place);
        Cost { wall: cpu / cores() as f64, cpu }
    }
}
