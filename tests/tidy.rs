//! Who may import whom, and what the inner half must not touch: the diagram of `src/lib.rs`, checked on the text of
//! every file.

use std::fs;
use std::path::{Path, PathBuf};

/// Each part of the program and the parts below it. What is not here may not be imported, up or sideways.
const BELOW: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["engine", "sys", "session", "tracker", "api", "proto", "base", "limits"]),
    ("engine", &["reactor", "disk", "helper", "sys", "session", "tracker", "api", "proto", "base", "limits"]),
    ("reactor", &["sys", "session", "tracker", "api", "proto", "base", "limits"]),
    ("disk", &["sys", "api", "proto", "base", "limits"]),
    ("helper", &["sys", "api", "proto", "base", "limits"]),
    ("sys", &["base", "limits"]),
    ("tracker", &["proto", "base", "limits"]),
    ("session", &["dht", "api", "proto", "base", "limits"]),
    ("dht", &["api", "proto", "base", "limits"]),
    ("api", &["proto", "base", "limits"]),
    ("proto", &["base", "limits"]),
    ("limits", &["base"]),
    ("base", &["limits"]),
];

/// The parts that are deterministic: no file, socket, thread, clock or environment.
const INNER: &[&str] = &["base", "limits", "proto", "session", "tracker", "dht", "api"];

/// What they must not name, by a word that stands for it.
const FOREIGN: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
    "rustix",
    "libc",
    "polling",
    "crossbeam_channel",
];

/// The part that a file belongs to: the first component of its path in `src`.
fn part_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The code of a file: no comments (a doc link may name anything) and no strings (raw ones with one `#`).
fn code(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if c == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skip..];
    }
    out
}

/// Where the string that `text` starts with ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The parts that a source names by `crate::part` (also in a group: `use crate::{a, b::c}`), by `ptorrent::part` in
/// the binary, or by a `super::` that leaves its part.
fn named(source: &str) -> Vec<String> {
    let code: String = code(source).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = Vec::new();
    for (root, at) in ["crate::", "ptorrent::"]
        .iter()
        .flat_map(|root| code.match_indices(root).map(move |(at, _)| (root, at)))
    {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            None => parts.push(word(rest)),
            Some(group) => parts.extend(heads(group)),
        }
    }
    parts
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first words of the members of a `{...}` group, whatever nests in them.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.iter().map(|member| word(member.trim())).filter(|head| !head.is_empty()).collect()
}

/// Whether a row of `super::` leads out of a file's part: two do from `disk/piece.rs`, three from its `mod tests`.
fn leaves_by_super(path: &str, source: &str) -> bool {
    let depth = path.trim_end_matches("/mod.rs").matches('/').count() + 1;
    let code = code(source);
    let (main, tests) = code.split_once("mod tests").unwrap_or((&code, ""));
    main.contains(&"super::".repeat(depth)) || tests.contains(&"super::".repeat(depth + 1))
}

/// What is wrong with one file.
fn faults(path: &str, source: &str) -> Vec<String> {
    let part = part_of(path);
    if part == "lib" {
        return Vec::new();
    }
    let Some((_, below)) = BELOW.iter().find(|(name, _)| *name == part) else {
        return vec![format!("{path}: '{part}' has no place in the diagram")];
    };
    let mut faults = Vec::new();
    for name in named(source) {
        let is_part = BELOW.iter().any(|(other, _)| *other == name);
        if is_part && name != part && !below.contains(&name.as_str()) {
            faults.push(format!("{path}: {part} imports {name}"));
        }
    }
    if leaves_by_super(path, source) {
        faults.push(format!("{path}: a row of super:: leads out of {part}"));
    }
    if INNER.contains(&part) {
        let code = code(source);
        let used = FOREIGN.iter().filter(|word| mentions(&code, word));
        faults.extend(used.map(|word| format!("{path}: {part} must not use {word}")));
        faults.extend(grouped_std(&code).map(|word| format!("{path}: {part} must not use std::{word}")));
    }
    faults
}

/// Whether the code names it as a word of its own.
fn mentions(code: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        !inside(code[..at].chars().next_back()) && !inside(code[at + word.len()..].chars().next())
    })
}

/// Modules that are banned and stand in `use std::{...}`.
fn grouped_std(code: &str) -> impl Iterator<Item = String> {
    let groups: Vec<String> =
        code.match_indices("std::{").flat_map(|(at, found)| heads(&code[at + found.len()..])).collect();
    groups.into_iter().filter(|head| ["fs", "thread", "env", "process"].contains(&head.as_str()))
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn imports_go_down_and_the_inner_half_stays_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "the sources are not where they should be");
    let mut all = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        all.extend(faults(&path, &fs::read_to_string(&file).unwrap()));
    }
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

#[test]
fn an_import_that_goes_up_or_sideways_is_a_fault() {
    for (path, source) in [
        ("proto/id.rs", "use crate::api::Event;"),
        ("session/mod.rs", "use crate::reactor::Turn;"),
        ("reactor/conn.rs", "use crate::disk::Storage;"),
        ("disk/piece.rs", "fn f() { crate::session::x() }"),
        ("helper/http.rs", "use crate::{base::time, reactor::x};"),
        ("sys/socket.rs", "use crate::proto::id::InfoHash;"),
        ("cli/show.rs", "use crate::disk::storage;"),
        ("cli/show.rs", "use crate::{\n    api,\n    helper::{a, b},\n};"),
        ("base/bits.rs", "pub use crate :: x; use crate::proto::layout;"),
        ("main.rs", "use ptorrent::engine::Engine;"),
        ("novel/mod.rs", ""),
        ("disk/piece.rs", "use super::super::session::x;"),
        ("session/mod.rs", "use super::reactor::x;"),
        ("session/mod.rs", "mod tests { use super::super::reactor::x; }"),
    ] {
        assert_eq!(faults(path, source).len(), 1, "{path}: {source}: {:?}", faults(path, source));
    }
}

#[test]
fn what_touches_the_outside_is_a_fault_in_the_inner_half() {
    for line in [
        "use std::fs::File;",
        "use std::{fmt, fs};",
        "use std::{io::{self, Read}, thread};",
        "std::thread::sleep(x);",
        "use std::net::{SocketAddr, TcpStream};",
        "fn f(s: std::net::UdpSocket) {}",
        "let l = TcpListener::bind(x);",
        "use std::net::ToSocketAddrs;",
        "use std::time::{Duration, Instant};",
        "SystemTime::now()",
        "std::env::var(x)",
        "std::process::exit(1)",
        "rustix::fs::fsync(x)",
        "use crossbeam_channel::bounded;",
    ] {
        for path in ["base/rate.rs", "limits.rs", "proto/wire/mod.rs", "session/peer.rs", "api.rs"] {
            assert_eq!(faults(path, line).len(), 1, "{path}: {line}: {:?}", faults(path, line));
        }
        assert_eq!(faults("disk/mod.rs", line), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn what_only_looks_like_a_fault_is_none() {
    for (path, source) in [
        (
            "proto/id.rs",
            "//! See [`api`](crate::api::Event) and std::fs.\n/* crate::cli */ let s = \"crate::cli \\\" \";",
        ),
        ("proto/id.rs", "let c = '\"'; let d = '\\\"'; use crate::base::bits; // crate::api \""),
        (
            "api.rs",
            "use crate::handle; use crate::proto::layout::Block; let instant = 1; struct InstantReply;",
        ),
        ("engine.rs", "use crate::{reactor, disk, helper, sys, session, api, proto, base, limits};"),
        ("session/peer.rs", "use super::timers::Timers; mod tests { use super::super::x; }"),
        ("session/mod.rs", "use self::x; mod tests { use super::*; }"),
        ("limits.rs", "use crate::base::buf::BLOCK;"),
        ("proto/id.rs", "let s = r#\"{\"a: crate::api\"#; use crate::base::bits;"),
        ("base/arena.rs", "$crate::disk::x"),
    ] {
        assert_eq!(faults(path, source), Vec::<String>::new(), "{source}");
    }
}
