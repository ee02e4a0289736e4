//! What a run was made on and with: the machine, and who took part in which version.

use std::fs;

use crate::contestant::Contestant;
use crate::machine::cores;
use crate::place::Place;
use crate::shared::calls::Counter;
use crate::shared::program::descriptors;
use crate::shared::usage::field;

pub(crate) struct About {
    /// Names and values.
    pub(crate) machine: Vec<(&'static str, String)>,
    /// Names and versions.
    pub(crate) clients: Vec<(&'static str, String)>,
}

impl About {
    pub(crate) fn gather(who: &[Contestant], places: &[Place], counter: Option<Counter>) -> About {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
        let processors = read("/proc/cpuinfo");
        let of = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let sha = of("flags").split(' ').any(|flag| flag == "sha_ni")
            || of("Features").split(' ').any(|flag| flag == "sha1");
        let memory = field(&read("/proc/meminfo"), "MemTotal:") >> 10;
        let systems: Vec<&str> = places.iter().map(|place| place.name).collect();
        let machine = vec![
            ("processor", of("model name").to_string()),
            ("cores", cores().to_string()),
            ("instructions for SHA-1", if sha { "yes" } else { "no" }.to_string()),
            ("memory", format!("{memory} MiB")),
            ("kernel", read("/proc/sys/kernel/osrelease")),
            ("congestion control", read("/proc/sys/net/ipv4/tcp_congestion_control")),
            ("file systems", systems.join(", ")),
            ("open files", descriptors().to_string()),
            ("load before", read("/proc/loadavg").split(' ').next().unwrap_or_default().to_string()),
            ("system calls counted by", counter.map_or("nobody", Counter::name).to_string()),
        ];
        About { machine, clients: who.iter().map(|who| (who.name, who.version())).collect() }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::from("The machine:");
        for (name, value) in &self.machine {
            text += &format!(" {name}: {value};");
        }
        text += "\nThe clients:";
        for (name, version) in &self.clients {
            text += &format!(" {name}: {version};");
        }
        text + "\n"
    }
}
