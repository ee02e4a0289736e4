//! The configuration file, and `ptorrent config`.
//!
//! The file is read before the options are: what it says becomes options in front of those of the command line, so
//! that names, values and errors are those of `options.rs`. What the command line names, the file does not say.

mod line;

use super::args::{from_text, to_text};
use super::console::{self, Console};
use super::options::{self, Kind, Opt, of_download};
use super::text::cut;
use super::values::{shown, shown_safely};
use super::{Env, Error, failed};
use crate::api::Reason;
use crate::limits;
use crate::sys::atomic_file;
use getopts::{HasArg, Matches, Occur};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Options of which one excludes the other: that of the command line wins over that of the file.
const CONTRADICT: &[(&str, &str)] = &[("seed", "exit"), ("quiet", "verbose")];
/// The most that `verbose` may say.
const VERBOSE_MAX: usize = 3;

/// The arguments with what the file says, and all that `config` shows.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The arguments for [`options::parse`].
    pub(super) args: Vec<OsString>,
    /// The file in force, whether it is there or not.
    file: Option<PathBuf>,
    settings: Vec<Setting>,
}

/// An option that is not left to its default.
#[derive(Clone, Debug)]
struct Setting {
    long: &'static str,
    kind: Kind,
    /// As text of `args.rs`: `true` or `false` of a flag, a number of one that is counted. Each with its line in the
    /// file.
    values: Vec<(String, usize)>,
}

impl Setting {
    fn of(opt: &'static Opt) -> Setting {
        Setting { long: opt.1, kind: opt.2, values: Vec::new() }
    }

    /// The arguments that say the same.
    fn args(&self, home: Option<&Path>) -> Result<Vec<String>, String> {
        let mut args = Vec::new();
        for (value, _) in &self.values {
            let plain = format!("--{}", self.long);
            match self.kind {
                Kind::Flag => args.extend(flag(self.long, value)?.then_some(plain)),
                Kind::Count => args.extend(vec![plain; number(self.long, value)?]),
                Kind::Value(hint) | Kind::Values(hint) => {
                    let value = if is_path(hint) { at_home(value, home)? } else { value.clone() };
                    args.push(format!("{plain}={value}"));
                }
            }
        }
        Ok(args)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name} '{}': true or false is allowed", shown(&cut(value, 40)))),
    }
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    let number = value.parse().ok().filter(|n| *n <= VERBOSE_MAX && value.len() == 1);
    let shown = shown(&cut(value, 40));
    number.ok_or_else(|| format!("{name} '{shown}': a number from 0 to {VERBOSE_MAX} is allowed"))
}

/// Whether a value of this kind is a path.
fn is_path(hint: &str) -> bool {
    matches!(hint, "PATH" | "FILE")
}

/// A path with the `~` that no shell has taken.
fn at_home(path: &str, home: Option<&Path>) -> Result<String, String> {
    let Some(rest) = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Ok(path.into());
    };
    let home = home.ok_or_else(|| format!("'{}': there is no HOME", shown(path)))?;
    Ok(to_text(home.as_os_str()) + rest)
}

/// Reads the command line and, for a download or for `config`, the file.
pub(super) fn read(env: &Env<'_>) -> Result<Read, Error> {
    let texts: Vec<String> = env.args.iter().map(|arg| to_text(arg)).collect();
    let command = texts.first().is_some_and(|first| options::is_command(first));
    let config = texts.first().is_some_and(|first| first == "config");
    if command && !config {
        return Ok(Read { args: env.args.clone(), ..Read::default() });
    }
    let line = lenient(config).parse(&texts[usize::from(config)..]);
    let line = line.map_err(|fail| Error::Usage(options::wrong(&fail)))?;
    if line.opts_present(&["h", "help", "V", "version"].map(String::from)) {
        return Ok(Read { args: env.args.clone(), ..Read::default() });
    }
    let given = given(&line).map_err(Error::Usage)?;
    let saves = config && line.opt_present("save");
    let names = line.opt_strs("config");
    if names.len() > 1 {
        return Err(Error::Usage("--config is given more than once".into()));
    }
    let named = names.first().map(|text| PathBuf::from(from_text(text)));
    // An empty name is no file at all.
    let file = named.as_deref().or(env.config.as_deref()).filter(|path| !path.as_os_str().is_empty());
    let file = file.map(|path| env.dir.join(path));
    // A file that is named must be there, but one that is about to be written.
    let bytes = match &file {
        Some(path) => contents(path, named.is_some() && !saves)?,
        None => Vec::new(),
    };
    let name = file.as_deref().map(console::shown).unwrap_or_default();
    let home = env.home.as_deref();
    let said = entries(&bytes, &name, home)?;
    let settings = merged(said, &given);
    let mut args = arguments(&settings, home).map_err(Error::Usage)?;
    args.extend(saves.then(|| "--save".to_string()));
    args.push("--".into());
    args.extend(line.free);
    if config {
        args.insert(0, "config".into());
    }
    Ok(Read { args: args.iter().map(|text| from_text(text)).collect(), file, settings })
}

/// All options of a download any number of times, flags with or without a value.
fn lenient(config: bool) -> getopts::Options {
    let mut options = getopts::Options::new();
    for (short, long, kind, _) in of_download(config) {
        match kind {
            Kind::Flag | Kind::Count => {
                if !short.is_empty() {
                    options.opt(short, "", "", "", HasArg::No, Occur::Multi);
                }
                options.opt("", long, "", "", HasArg::Maybe, Occur::Multi);
            }
            Kind::Value(hint) | Kind::Values(hint) => {
                options.opt(short, long, "", hint, HasArg::Yes, Occur::Multi);
            }
        }
    }
    options
}

/// The options that may stand in the file.
fn settable() -> impl Iterator<Item = &'static Opt> {
    of_download(false).filter(|opt| !matches!(opt.1, "config" | "help" | "version"))
}

/// What the command line says.
fn given(line: &Matches) -> Result<Vec<Setting>, String> {
    let mut settings = Vec::new();
    for opt in settable() {
        let (short, long, kind, _) = opt;
        let mut setting = Setting::of(opt);
        let mut texts = line.opt_strs(long);
        match kind {
            Kind::Flag | Kind::Count => {
                let shorts = if short.is_empty() { 0 } else { line.opt_count(short) };
                let bare = shorts + line.opt_count(long) - texts.len();
                if let Kind::Count = kind {
                    let said: Result<Vec<usize>, String> =
                        texts.iter().map(|text| number(&format!("--{long}"), text)).collect();
                    let count = said?.iter().sum::<usize>() + bare;
                    let given = bare + texts.len() > 0;
                    texts = given.then(|| count.min(VERBOSE_MAX).to_string()).into_iter().collect();
                } else {
                    for text in &texts {
                        flag(&format!("--{long}"), text)?;
                    }
                    texts.extend(vec!["true".to_string(); bare]);
                    if texts.len() > 1 {
                        return Err(format!("--{long} is given more than once"));
                    }
                }
            }
            // The shell has dealt with a `~` that was meant; the file would do it again.
            Kind::Value(hint) | Kind::Values(hint) if is_path(hint) => {
                texts
                    .iter_mut()
                    .filter(|text| text.starts_with('~'))
                    .for_each(|text| text.insert_str(0, "./"));
            }
            Kind::Value(_) | Kind::Values(_) => {}
        }
        setting.values = texts.into_iter().map(|text| (text, 0)).collect();
        settings.extend(Some(setting).filter(|setting| !setting.values.is_empty()));
    }
    Ok(settings)
}

/// All of the file; nothing of one that is missing and need not be there.
fn contents(path: &Path, must: bool) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(limits::CONFIG_MAX + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > limits::CONFIG_MAX => {
            let most = limits::CONFIG_MAX >> 10;
            Err(Error::Usage(format!("{}: longer than {most} KiB, the limit", console::shown(path))))
        }
        Ok(_) => Ok(bytes),
        Err(e) if !must && matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(e) => Err(failed(format_args!("cannot read {}", console::shown(path)), &e)),
    }
}

/// What the file says. An error names file and line, and what is allowed there.
fn entries(bytes: &[u8], file: &str, home: Option<&Path>) -> Result<Vec<Setting>, Error> {
    let mut settings: Vec<Setting> = settable().map(Setting::of).collect();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (number, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let entered = line::read(text).and_then(|pair| match pair {
            Some((name, value)) => enter(&mut settings, &name, value, number, home),
            None => Ok(()),
        });
        entered.map_err(|why| Error::Usage(format!("{file}:{number}: {why}")))?;
    }
    settings.retain(|setting| !setting.values.is_empty());
    // Each line is good: what is wrong now are lines that contradict each other.
    let together = arguments(&settings, home).and_then(|args| check(&args));
    together.map_err(|why| Error::Usage(format!("{file}: {why}")))?;
    Ok(settings)
}

fn enter(
    settings: &mut [Setting],
    name: &str,
    value: String,
    line: usize,
    home: Option<&Path>,
) -> Result<(), String> {
    let Some(setting) = settings.iter_mut().find(|setting| setting.long == name) else {
        let name = cut(&shown_safely(name), 40);
        return Err(format!(
            "unknown name '{name}'; the long options of a download are allowed, without dashes"
        ));
    };
    let repeats = matches!(setting.kind, Kind::Values(_));
    if let Some((_, before)) = setting.values.first().filter(|_| !repeats) {
        return Err(format!("'{name}' stands in line {before} already; once is allowed"));
    }
    let alone = Setting { values: vec![(value.clone(), line)], ..setting.clone() };
    check(&alone.args(home)?)?;
    setting.values.push((value, line));
    Ok(())
}

/// Whether these options can be; the answer is in the words of the file.
fn check(args: &[String]) -> Result<(), String> {
    let args = args.iter().map(|arg| from_text(arg));
    match options::parse(&[OsString::from("config")].into_iter().chain(args).collect::<Vec<_>>()) {
        Err(Error::Usage(why)) => Err(why.trim_start_matches('-').into()),
        _ => Ok(()),
    }
}

/// What holds of the two, in the order of the options.
fn merged(said: Vec<Setting>, given: &[Setting]) -> Vec<Setting> {
    let on =
        |name: &str| given.iter().any(|s| s.long == name && !matches!(s.values[0].0.as_str(), "false" | "0"));
    let excluded =
        |name: &str| CONTRADICT.iter().any(|(a, b)| (*a == name && on(b)) || (*b == name && on(a)));
    let said = said.into_iter().filter(|s| !excluded(s.long) && given.iter().all(|g| g.long != s.long));
    let mut all: Vec<Setting> = said.chain(given.iter().cloned()).collect();
    all.sort_by_key(|setting| settable().position(|opt| opt.1 == setting.long));
    all
}

fn arguments(settings: &[Setting], home: Option<&Path>) -> Result<Vec<String>, String> {
    let mut args = Vec::new();
    for setting in settings {
        args.extend(setting.args(home)?);
    }
    Ok(args)
}

/// What a default is, where its description says so: `(default: 50)`. None: it is no value, but words or a place.
fn default_of(about: &str) -> Option<&str> {
    let (_, rest) = about.split_once("(default: ")?;
    let value = rest.split([',', ')']).next()?;
    (!value.contains(' ') && !value.starts_with('$')).then_some(value)
}

/// The file that says all this: every option, those that are left to their defaults as comments.
fn text(settings: &[Setting]) -> String {
    let mut text = String::from(
        "# Configuration of ptorrent: NAME = VALUE, the names being the long options of a download.\n\
         # The command line wins. What stands here as a comment is the default.\n",
    );
    for (_, long, kind, about) in settable() {
        let (values, default) = match kind {
            Kind::Flag => ("true or false".to_string(), "false"),
            Kind::Count => (format!("0 to {VERBOSE_MAX}"), "0"),
            Kind::Value(hint) => ((*hint).to_string(), default_of(about).unwrap_or(hint)),
            Kind::Values(hint) => (format!("{hint}, in any number of lines"), *hint),
        };
        text.push_str(&format!("\n# {about}\n# {values}\n"));
        match settings.iter().find(|setting| setting.long == *long) {
            Some(setting) => {
                let lines =
                    setting.values.iter().map(|(value, _)| format!("{long} = {}\n", line::quoted(value)));
                text.extend(lines);
            }
            None => text.push_str(&format!("#{long} = {default}\n")),
        }
    }
    text
}

/// `ptorrent config`: prints what is in force, or saves it.
pub(super) fn run(read: &Read, save: bool, console: &mut Console<'_>) -> Result<u8, Error> {
    let text = text(&read.settings);
    if !save {
        return console.print(&text).map(|()| 0);
    }
    let Some(path) = &read.file else {
        return Err(Error::Usage("there is no HOME: name the file with --config".into()));
    };
    write(path, text.as_bytes())?;
    console.print(&format!("saved {}\n", console::shown(path)))?;
    Ok(0)
}

/// Puts a file there in one step, for its owner only: URLs of trackers may be secrets.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // Where the name is a link, the file behind it is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let cannot = |e: io::Error| failed(format_args!("cannot write {}", console::shown(&path)), &e);
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::Failed(Reason::Io, format!("{} is not a regular file", console::shown(&path))));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    atomic_file::replace(&path, bytes).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::cli::options::{Task, parse};

    /// What is in force with this file and this command line.
    fn read_with(file: &str, args: &[&str]) -> Result<Vec<String>, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let line = lenient(false).parse(args).unwrap();
        let home = Some(Path::new("/home/me"));
        let said = entries(file.as_bytes(), "FILE", home).map_err(|error| match error {
            Error::Usage(why) => why,
            other => panic!("{other:?}"),
        })?;
        arguments(&merged(said, &given(&line)?), home)
    }

    #[track_caller]
    fn gives(file: &str, args: &[&str], due: &[&str]) {
        assert_eq!(read_with(file, args).unwrap(), due, "{file} {args:?}");
    }

    #[test]
    fn the_command_line_wins_option_by_option() {
        let file = "port = 7000\nexit = true\n# x\n\npeer = a:1\npeer=b:2\nverbose = 2\n";
        let all = ["--exit", "--port=7000", "--peer=a:1", "--peer=b:2", "--verbose", "--verbose"];
        gives(file, &[], &all);
        gives(
            file,
            &["--peer", "c:3", "-p0", "--exit=false", "-v"],
            &["--port=0", "--peer=c:3", "--verbose"],
        );
        gives(file, &["-s", "-q"], &["--seed", "--port=7000", "--peer=a:1", "--peer=b:2", "--quiet"]);
        gives("exit = false\nquiet = false", &["-x", "--verbose=0"], &["--exit"]);
        gives("seed = true", &["--exit=false"], &["--seed"]);
    }

    #[test]
    fn only_the_file_has_a_home() {
        gives("dir = ~/x", &[], &["--dir=/home/me/x"]);
        gives("dir = ~me/x", &["--state-dir", "~/x"], &["--dir=~me/x", "--state-dir=./~/x"]);
        let said = entries(b"dir = ~", "FILE", None);
        assert!(matches!(said, Err(Error::Usage(why)) if why == "FILE:1: '~': there is no HOME"));
    }

    #[test]
    fn errors_name_file_line_and_what_is_allowed() {
        for (file, due) in [
            ("\nprot = 1", "FILE:2: unknown name 'prot'; the long options of a download are allowed"),
            ("--port = 1", "FILE:1: unknown name '--port'"),
            ("p = 1", "FILE:1: unknown name 'p'"),
            ("help = true", "FILE:1: unknown name 'help'"),
            ("config = x", "FILE:1: unknown name 'config'"),
            ("= 1", "FILE:1: unknown name ''"),
            ("exit", "FILE:1: 'exit' has no value; NAME = VALUE is allowed"),
            ("port = 9-8", "FILE:1: port '9-8': a port from 0 to 65535, or a rising range"),
            ("port = 0-9", "FILE:1: port '0-9': a port from 0"),
            ("exit = yes", "FILE:1: exit 'yes': true or false is allowed"),
            ("verbose = 4", "FILE:1: verbose '4': a number from 0 to 3 is allowed"),
            ("verbose = +1", "FILE:1: verbose '+1'"),
            ("no-dht = 1", "FILE:1: no-dht '1': true or false"),
            ("tracker = gopher://x/secret", "FILE:1: tracker 'gopher://x/...'"),
            ("http://x/secret", "FILE:1: 'http://x/...' has no value"),
            ("port = 1\n\nport = 2", "FILE:3: 'port' stands in line 1 already; once is allowed"),
            ("bind = ::1\nbind = ::2", "FILE: bind is given twice for one family"),
            ("seed = true\nexit = true", "FILE: seed and --exit contradict each other"),
            ("dir = \"x", "FILE:1: a value that starts with a quote"),
            ("dir = \0", "FILE:1: a NUL byte"),
        ] {
            let why = read_with(file, &[]).unwrap_err();
            assert!(why.starts_with(due), "{file}: {why}");
        }
        assert!(read_with("", &["-x", "--exit"]).unwrap_err().contains("--exit is given more than once"));
        // What stands on the command line is named as it is written there.
        let said = |arg| read_with("", &[arg]).unwrap_err();
        assert!(said("--json=maybe").starts_with("--json 'maybe': true or false is allowed"));
        assert!(said("--verbose=9").starts_with("--verbose '9': a number from 0 to 3 is allowed"));
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_of_others_are_let_through() {
        gives("\u{feff}port = 1\r\n\tdir=x \r\n", &[], &["--dir=x", "--port=1"]);
    }

    #[test]
    fn no_bytes_are_too_hostile() {
        let mut rng = Rng::new([9; 32]);
        let words = [
            &b"port"[..],
            b"=",
            b" ",
            b"\n",
            b"\"",
            b"\\x",
            b"\xff",
            b"\0",
            b"~/",
            b"#",
            b"tracker",
            b"true",
        ];
        for _ in 0..300 {
            let bytes: Vec<u8> =
                (0..rng.below(20)).flat_map(|_| words[rng.index(words.len())].to_vec()).collect();
            // Whatever it says, it says it in one line.
            if let Err(Error::Usage(why)) = entries(&bytes, "FILE", None) {
                assert!(why.starts_with("FILE:") && !why.contains(char::is_control), "{why:?}");
            }
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let mut rng = Rng::new([7; 32]);
        for _ in 0..200 {
            let mut settings: Vec<Setting> = settable().map(Setting::of).collect();
            for setting in &mut settings {
                let samples: &[&str] = match (setting.kind, setting.long) {
                    (Kind::Flag, _) => &["true", "false"],
                    (Kind::Count, _) => &["0", "3"],
                    (_, "port") => &["0", "7-9"],
                    (_, "bind") => &["::1", "127.0.0.1"],
                    (_, "peer" | "dht-bootstrap") => &["a:1", "[::1]:5", "b:2"],
                    (_, "tracker") => &["http://x/a?b#c", "udp://y:1"],
                    (_, "select") => &["1,3-5"],
                    (_, "seed-ratio" | "seed-time") => &["none", "7"],
                    (_, "prealloc") => &["full", "sparse"],
                    (_, "disk-io") => &["mmap", "auto"],
                    (_, "encryption") => &["disabled", "required"],
                    (_, "max-download-rate" | "max-upload-rate" | "max-conn" | "max-upload") => &["5"],
                    (_, "max-metadata-size") => &["20M"],
                    (_, "bind-device") => &["eth0"],
                    _ => &[" a ", "~/x", "./~", "a # b", "\"q\"", "\n\x1b", "\u{10ff80}", "日本", "=", "#"],
                };
                let most = if let Kind::Values(_) = setting.kind { samples.len() } else { 1 };
                let count = rng.below(most as u32 + 1) as usize;
                let first = rng.index(samples.len());
                let chosen = samples.iter().cycle().skip(first).take(count);
                setting.values = chosen.map(|value| (value.to_string(), 0)).collect();
            }
            settings.retain(|setting| !setting.values.is_empty());
            // Of two that exclude each other, one.
            for (one, other) in CONTRADICT {
                if settings.iter().any(|setting| setting.long == *one) {
                    settings.retain(|setting| setting.long != *other);
                }
            }
            let home = Some(Path::new("/home/me"));
            let printed = text(&settings);
            let again = entries(printed.as_bytes(), "FILE", home).unwrap();
            assert_eq!(arguments(&again, home), arguments(&settings, home), "{printed}");
            assert_eq!(text(&again), printed);
        }
    }

    #[test]
    fn what_is_printed_as_a_default_is_the_default() {
        let options = |args: &[String]| {
            let args = args.iter().map(OsString::from).chain(["t".into()]);
            match parse(&args.collect::<Vec<_>>()) {
                Ok((common, Task::Download(options))) => format!("{common:?} {options:?}"),
                other => panic!("{other:?}"),
            }
        };
        let mut defaults = 0;
        for (_, long, kind, about) in settable() {
            if let (Kind::Value(_), Some(value)) = (kind, default_of(about)) {
                assert_eq!(options(&[format!("--{long}={value}")]), options(&[]), "{long}");
                defaults += 1;
            }
        }
        assert!(defaults > 8, "{defaults}");
        let printed = text(&[]);
        assert!(
            printed.contains("\n#port = 6881-6889\n") && printed.contains("\n#exit = false\n"),
            "{printed}"
        );
        assert!(printed.lines().all(|line| line.is_empty() || line.starts_with('#')), "{printed}");
        // Without their marks, the lines are options.
        let plain = printed.lines().filter_map(|line| line.strip_prefix('#'));
        let names: Vec<_> = plain.filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(names.len(), settable().count());
    }
}
