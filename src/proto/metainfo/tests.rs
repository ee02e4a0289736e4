use super::*;
use crate::base::buf::BLOCK;
use crate::base::rng::Rng;
use crate::base::testing::rounds;
use crate::limits::{FILES_MAX, NAME_MAX, NODES_MAX, PIECE_LENGTH_MAX, TRACKERS_MAX, URL_MAX, WEB_SEEDS_MAX};
use crate::proto::bencode::{DictEncoder, ListEncoder, encode};

/// A .torrent file of an info dictionary alone.
fn wrap(info: &[u8]) -> Vec<u8> {
    [b"d4:info", info, b"e"].concat()
}

/// A .torrent file of these `files`, with one piece when they have bytes.
fn many(pieces: usize, files: impl FnOnce(&mut ListEncoder<'_>)) -> Vec<u8> {
    wrap(&encode(|e| {
        e.dict(|info| {
            info.entry("files").list(files);
            info.entry("name").str("top");
            info.entry("piece length").int(i64::from(BLOCK));
            info.entry("pieces").bytes(&vec![7; pieces * 20]);
        });
    }))
}

/// An entry of a file of length 0 in the folders that `/` parts.
fn empty(list: &mut ListEncoder<'_>, path: &str) {
    list.item().dict(|file| {
        file.entry("length").int(0);
        file.entry("path").list(|list| path.split('/').for_each(|name| list.item().str(name)));
    });
}

/// Files of length 0 with these paths.
fn named(paths: &[&str]) -> Metainfo {
    let bytes = many(0, |list| paths.iter().for_each(|path| empty(list, path)));
    fuzz_metainfo(&bytes);
    Metainfo::parse(&bytes).unwrap()
}

fn paths(torrent: &Metainfo) -> Vec<String> {
    (0..torrent.files.len()).map(|file| torrent.paths.display(file)).collect()
}

/// A torrent of one file of 5 bytes, with more keys before and after `name`.
fn single(before: impl FnOnce(&mut DictEncoder<'_>), after: impl FnOnce(&mut DictEncoder<'_>)) -> Vec<u8> {
    wrap(&encode(|e| {
        e.dict(|info| {
            info.entry("length").int(5);
            before(info);
            info.entry("name").str("five");
            after(info);
            info.entry("piece length").int(16384);
            info.entry("pieces").bytes(b"01234567890123456789");
        });
    }))
}

fn plain() -> Vec<u8> {
    single(|_| (), |_| ())
}

#[test]
fn a_single_file_is_read() {
    let bytes = b"d8:announce18:http://t.example/a13:creation datei1600000000e4:infod6:lengthi5e6:md5sum\
        32:d41d8cd98f00b204e9800998ecf8427e4:name4:five12:piece lengthi16384e6:pieces20:012345678901234567897:privatei1eee";
    let torrent = Metainfo::parse(bytes).unwrap();
    // Computed by sha1sum over the bytes of the info dictionary.
    assert_eq!(torrent.info_hash.to_string(), "800a276c5ca5a24240cb8345c3d52777304f6cf4");
    assert_eq!((torrent.name.as_str(), torrent.single, torrent.private), ("five", true, true));
    assert_eq!((torrent.layout.total(), torrent.layout.pieces()), (5, 1));
    assert_eq!(torrent.hash(0), Some(b"01234567890123456789"));
    assert_eq!(torrent.trackers, [["http://t.example/a"]]);
    assert_eq!(torrent.creation_date, Some(1_600_000_000));
    assert_eq!(torrent.files[0].md5sum(), Some("d41d8cd98f00b204e9800998ecf8427e"));
    assert_eq!(paths(&torrent), ["five"]);
    assert!(torrent.renamed.is_empty());
}

#[test]
fn many_files_are_read_with_padding_links_and_attributes() {
    let bytes = many(2, |list| {
        list.item().dict(|file| {
            file.entry("attr").str("xh");
            file.entry("length").int(10);
            file.entry("path").list(|list| ["bin", "run"].iter().for_each(|name| list.item().str(name)));
        });
        list.item().dict(|file| {
            file.entry("attr").str("p");
            file.entry("length").int(i64::from(BLOCK) - 10);
        });
        list.item().dict(|file| {
            file.entry("attr").str("l");
            file.entry("path").list(|list| list.item().str("link"));
            file.entry("symlink path")
                .list(|list| ["..", "x\x1b"].iter().for_each(|name| list.item().str(name)));
        });
        list.item().dict(|file| {
            file.entry("length").int(1);
            file.entry("path").list(|list| list.item().str("_____padding_file_0_if you see this file"));
        });
        list.item().dict(|file| {
            file.entry("length").int(2);
            file.entry("path").list(|list| list.item().bytes(b"caf\xe9"));
            file.entry("path.utf-8").list(|list| list.item().str("café"));
        });
    });
    fuzz_metainfo(&bytes);
    let torrent = Metainfo::parse(&bytes).unwrap();
    let files = &torrent.files;
    assert_eq!(
        paths(&torrent),
        [
            "top/bin/run",
            "top/.pad/16374",
            "top/link",
            "top/_____padding_file_0_if you see this file",
            "top/café"
        ]
    );
    assert!(files[0].executable && files[0].hidden && !files[0].pad && !files[4].executable);
    assert_eq!(files.iter().map(|file| file.pad).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert_eq!(files.iter().map(File::is_stored).collect::<Vec<_>>(), [true, false, false, false, true]);
    assert_eq!(files[2].symlink(), Some("../x\u{fffd}"));
    assert_eq!(torrent.layout.file_offset(4), u64::from(BLOCK) + 1);
    assert!(!torrent.single && torrent.renamed.is_empty());
}

#[test]
fn a_link_that_has_bytes_is_a_file() {
    let bytes = many(1, |list| {
        list.item().dict(|file| {
            file.entry("attr").str("l");
            file.entry("length").int(3);
            file.entry("path").list(|list| list.item().str("link"));
        });
    });
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert!(torrent.files[0].is_stored() && torrent.files[0].len == 3);
}

#[test]
fn unsafe_names_are_changed_and_told() {
    let torrent = named(&["../../etc/passwd", "ok", "a/\x1b[2J", "/abs", "nul", "x//y"]);
    assert_eq!(
        paths(&torrent),
        ["top/__/__/etc/passwd", "top/ok", "top/a/_[2J", "top/_/abs", "top/_nul", "top/x/_/y"]
    );
    let told: Vec<(Option<usize>, &str)> =
        torrent.renamed.iter().map(|r| (r.file, r.from.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(0), "../../etc/passwd"),
            (Some(2), "a/\u{fffd}[2J"),
            (Some(3), "/abs"),
            (Some(4), "nul"),
            (Some(5), "x//y")
        ]
    );
}

#[test]
fn two_files_in_one_place_are_parted() {
    let torrent = named(&["a", "a", "A", "a. ", "a/b", "a/B", "x.txt", "X.TXT", "x.8.txt", "x.txt"]);
    assert_eq!(
        paths(&torrent),
        [
            "top/a.1",
            "top/a.2",
            "top/A.3",
            "top/a.4. ",
            "top/a/b",
            "top/a/B.6",
            "top/x.txt",
            "top/X.8_1.TXT",
            "top/x.8.txt",
            "top/x.10.txt"
        ]
    );
    assert_eq!(torrent.renamed.len(), 7);
    assert_eq!(torrent.renamed[0], Renamed { file: Some(0), from: "a".into() });
    assert_eq!(paths(&named(&["A/x", "a/x", "a/y"])), ["top/A/x", "top/a/x.2", "top/a/y"]);
}

#[test]
fn padding_and_links_take_no_place() {
    let bytes = many(0, |list| {
        for attr in ["p", "l", "p", ""] {
            list.item().dict(|file| {
                file.entry("attr").str(attr);
                file.entry("length").int(0);
                file.entry("path").list(|list| list.item().str("a"));
            });
        }
        empty(list, "A/b");
        list.item().raw(b"d4:attr1:p6:lengthi0e4:pathl1:c2:d/ee");
        empty(list, "c");
    });
    fuzz_metainfo(&bytes);
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(paths(&torrent), ["top/a", "top/a", "top/a", "top/a.4", "top/A/b", "top/c/d_", "top/c"]);
    assert_eq!(torrent.renamed, [Renamed { file: Some(3), from: "a".into() }]);
}

#[test]
fn a_million_clashing_names_take_a_moment() {
    let long = "x".repeat(NAME_MAX);
    for name in ["a", long.as_str()] {
        let count = if name.len() == 1 { FILES_MAX } else { 20_000 };
        let bytes = many(0, |list| (0..count).for_each(|_| empty(list, name)));
        let torrent = Metainfo::parse(&bytes).unwrap();
        assert_eq!(torrent.renamed.len(), count - 1);
    }
}

#[test]
fn the_torrents_own_name_is_safe_too() {
    let name = |key: &str, name: &[u8]| {
        let bytes = wrap(&encode(|e| {
            e.dict(|info| {
                info.entry("length").int(0);
                info.entry(key).bytes(name);
                info.entry("piece length").int(16384);
                info.entry("pieces").bytes(b"");
            });
        }));
        fuzz_metainfo(&bytes);
        Metainfo::parse(&bytes).unwrap()
    };
    let torrent = name("name", b"../x\xff");
    assert_eq!((torrent.name.as_str(), torrent.paths.name(0)), (".._x%FF", ".._x%FF"));
    assert_eq!(torrent.renamed, [Renamed { file: None, from: "../x%FF".into() }]);
    assert_eq!(name("name", b"..").name, "__");
    assert_eq!(name("name.utf-8", "é".as_bytes()).name, "é");
    let torrent = name("name", b"");
    assert_eq!(torrent.name, torrent.info_hash.to_string());
    let torrent = name("name.utf-8", b"\xff");
    assert_eq!(torrent.name, torrent.info_hash.to_string());
}

#[test]
fn the_hash_is_of_the_bytes_as_they_came() {
    let sorted = Metainfo::parse(&plain()).unwrap();
    let unsorted = b"d4:name4:five6:lengthi5e12:piece lengthi16384e6:pieces20:01234567890123456789e";
    let torrent = Metainfo::parse(&wrap(unsorted)).unwrap();
    assert_eq!((&*torrent.info, torrent.info_hash), (&unsorted[..], InfoHash::of(unsorted)));
    assert_ne!(torrent.info_hash, sorted.info_hash);
    assert_eq!(Metainfo::from_info(unsorted).unwrap().info_hash, torrent.info_hash);
}

#[test]
fn only_the_integer_one_is_private() {
    let private = |value: &[u8]| {
        let bytes = wrap(&encode(|e| {
            e.dict(|info| {
                info.entry("length").int(0);
                info.entry("piece length").int(16384);
                info.entry("pieces").bytes(b"");
                info.entry("private").raw(value);
            });
        }));
        Metainfo::parse(&bytes).unwrap().private
    };
    assert!(private(b"i1e"));
    assert!(!private(b"i0e") && !private(b"i2e") && !private(b"1:1") && !private(b"li1ee"));
}

/// What `read` takes from a torrent with these encoded entries before `info`.
fn with<T>(entries: &[u8], read: impl FnOnce(Metainfo) -> T) -> T {
    let bytes = [b"d", entries, &plain()[1..]].concat();
    fuzz_metainfo(&bytes);
    read(Metainfo::parse(&bytes).unwrap())
}

#[test]
fn trackers_come_in_tiers_without_junk() {
    let tiers = |entries: &[u8]| with(entries, |torrent| torrent.trackers);
    assert_eq!(tiers(b"8:announce7:udp://a"), [["udp://a"]]);
    assert_eq!(tiers(b"8:announce7:udp://a13:announce-listllel0:5:wordsee"), [["udp://a"]]);
    let list =
        b"8:announce7:udp://a13:announce-listll8:udp://b 7:udp://cel7:udp://bi1e8:x://\x1b[2Je7:udp://de";
    assert_eq!(tiers(list), [vec!["udp://b", "udp://c"], vec!["udp://d"], vec!["udp://a"]]);
    let other = b"8:announce7:udp://a13:announce-listll7:wss://bel7:udp://a7:udp://cee";
    assert_eq!(tiers(other), [vec!["wss://b"], vec!["udp://a", "udp://c"]]);
    let unknown = b"8:announce7:udp://a13:announce-listll7:wss://bee";
    assert_eq!(tiers(unknown), [["wss://b"], ["udp://a"]]);
    assert_eq!(tiers(b"8:announcei1e13:announce-listi1e"), Vec::<Vec<String>>::new());
    let url = |len: usize| format!("{len}:udp://{}", "a".repeat(len - 6));
    assert_eq!(tiers(format!("8:announce{}", url(URL_MAX)).as_bytes()).len(), 1);
    assert_eq!(tiers(format!("8:announce{}", url(URL_MAX + 1)).as_bytes()).len(), 0);
    let urls: String = (0..TRACKERS_MAX + 5).map(|n| format!("l10:udp://{n:04}e")).collect();
    assert_eq!(tiers(format!("13:announce-listl{urls}e").as_bytes()).len(), TRACKERS_MAX);
    let full = tiers(format!("8:announce7:udp://a13:announce-listl{urls}e").as_bytes());
    assert_eq!((full.len(), full.last().unwrap()[0].as_str()), (TRACKERS_MAX, "udp://a"));
}

#[test]
fn web_seeds_nodes_and_remarks_are_read_or_dropped() {
    let seeds = |entries: &[u8]| with(entries, |torrent| torrent.web_seeds);
    assert_eq!(seeds(b"8:url-list9:http://a/"), ["http://a/"]);
    assert_eq!(seeds(b"8:url-listl9:http://a/0:i1e9:http://a/9:http://b/e"), ["http://a/", "http://b/"]);
    let urls: String = (0..WEB_SEEDS_MAX + 5).map(|n| format!("10:udp://{n:04}")).collect();
    assert_eq!(seeds(format!("8:url-listl{urls}e").as_bytes()).len(), WEB_SEEDS_MAX);
    let unusable = |entries: &[u8]| {
        with(entries, |torrent| torrent.unusable.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        unusable(format!("8:url-listl{urls}e").as_bytes()),
        ["left out 5 web seeds, the first 'udp://1000': 1000 is the limit"]
    );
    assert_eq!(
        unusable(b"8:announce13:http://a b/\n\n8:url-list0:"),
        ["left out a tracker, 'http://a b/...': URL without a valid host"]
    );
    let seeds_17 = b"9:httpseedsl9:http://a/9:http://b/i1ee8:url-listl1:x9:http://c/e";
    assert_eq!(
        unusable(seeds_17),
        [
            "left out a web seed, 'x': URL is not http://, https:// or udp://",
            "left out 2 HTTP seeds, the first 'http://a/...': BEP 17 is not supported",
        ]
    );
    let nodes = |entries: &[u8]| with(entries, |torrent| torrent.nodes);
    let some = b"5:nodesll1:ai6881eel3:::1i1eel1:ai0eel1:ai65536eel0:i1eel3:a bi1eel1:aei1ee";
    assert_eq!(nodes(some), [("a".to_string(), 6881), ("::1".to_string(), 1)]);
    assert_eq!(nodes(format!("5:nodesl{}e", "l1:ai1ee".repeat(500)).as_bytes()).len(), NODES_MAX);
    with(b"7:comment6:a\nb\x1bcd10:created by1:\xe913:creation datei-5e8:encoding5:UTF-8", |torrent| {
        assert_eq!(torrent.comment.as_deref(), Some("a b\u{fffd}cd"));
        assert_eq!(torrent.created_by.as_deref(), Some("%E9"));
        assert_eq!(torrent.creation_date, Some(-5));
        assert_eq!(torrent.encoding.as_deref(), Some("UTF-8"));
    });
    with(b"7:commenti1e10:created byle13:creation date1:x8:encoding0:", |torrent| {
        assert!(torrent.comment.is_none() && torrent.created_by.is_none());
        assert!(torrent.creation_date.is_none() && torrent.encoding.is_none());
    });
}

fn error(bytes: &[u8]) -> String {
    Metainfo::parse(bytes).unwrap_err().to_string()
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    assert_eq!(error(b"<html>"), "not a valid torrent: byte 0: no value starts with '<'");
    assert_eq!(error(b"le"), "not a valid torrent: \"torrent\" at byte 0 is not a dictionary");
    assert_eq!(error(b"de"), "not a valid torrent: it has no \"info\"");
    assert_eq!(error(b"d4:infoi1ee"), "not a valid torrent: \"info\" at byte 7 is not a dictionary");
    assert_eq!(error(b"d4:infode4:infodee"), "not a valid torrent: byte 15: a dictionary has a key twice");
    let text = String::from_utf8(plain()).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from));
        error(text.replace(from, to).as_bytes())
    };
    assert_eq!(changed("6:lengthi5e", ""), "not a valid torrent: it has no \"length\"");
    assert_eq!(changed("i5e", "i-5e"), "not a valid torrent: \"length\" at byte 16 is not an integer from 0");
    assert_eq!(changed("12:piece lengthi16384e", ""), "not a valid torrent: it has no \"piece length\"");
    assert_eq!(
        changed("i16384e", "i0e"),
        "the torrent is too large: the piece length is 0 bytes; the limits are 1 and 134217728"
    );
    assert_eq!(
        changed("i5e", "i16385e"),
        "not a valid torrent: its sizes make 2 pieces of 20 bytes of hash, \"pieces\" has 20 bytes"
    );
    assert_eq!(
        changed("6:lengthi5e", "6:lengthi5e6:lengthi6e"),
        "not a valid torrent: byte 27: a dictionary has a key twice"
    );
    assert_eq!(changed("6:pieces20:01234567890123456789", ""), "not a valid torrent: it has no \"pieces\"");
}

#[test]
fn version_2_alone_is_not_supported_and_beside_version_1_is_passed_over() {
    let tree = "9:file treed1:ad0:d6:lengthi5eeee12:meta versioni2e";
    let text = String::from_utf8(plain()).unwrap();
    let hybrid = text.replace("4:name", &format!("{tree}4:name"));
    assert_eq!(Metainfo::parse(hybrid.as_bytes()).unwrap().layout.total(), 5);
    let alone = hybrid.replace("6:pieces20:01234567890123456789", "");
    assert_eq!(error(alone.as_bytes()), "version 2 torrents (BEP 52) are not supported");
    assert_eq!(
        error(alone.replace("versioni2e", "versioni3e").as_bytes()),
        "version 3 torrents are not supported"
    );
}

#[test]
fn limits_are_said_with_what_the_torrent_has() {
    let text = String::from_utf8(plain()).unwrap();
    let length = |len: u64| Metainfo::parse(text.replace("i16384e", &format!("i{len}e")).as_bytes());
    assert!(length(PIECE_LENGTH_MAX.into()).is_ok());
    for over in [u64::from(PIECE_LENGTH_MAX) + 1, 1 << 40] {
        assert_eq!(length(over).unwrap_err(), Error::Layout(layout::Error::PieceLength(over)));
    }
    let total = text.replace("i5e", &format!("i{}e", i64::MAX));
    assert_eq!(Metainfo::parse(total.as_bytes()).unwrap_err(), Error::Layout(layout::Error::Total));
    let files = many(0, |list| (0..=FILES_MAX).for_each(|_| empty(list, "a")));
    assert_eq!(Metainfo::parse(&files).unwrap_err(), Error::Layout(layout::Error::Files));
    let path = |path: String| Metainfo::parse(&many(0, |list| empty(list, &path)));
    assert!(path("a/".repeat(PATH_DEPTH - 2) + "a").is_ok());
    assert_eq!(path("a/".repeat(PATH_DEPTH - 1) + "a").unwrap_err(), Error::Depth { file: 1 });
    let names = |last: usize| format!("{}/", "x".repeat(203)).repeat(10) + &"x".repeat(last);
    assert!(path(names(PATH_MAX - 4 - 2040)).is_ok());
    assert_eq!(path(names(PATH_MAX - 4 - 2039)).unwrap_err(), Error::Path { file: 1, len: PATH_MAX + 1 });
    assert_eq!(Metainfo::parse(&many(0, |_| ())).unwrap_err(), Error::Missing("files"));
    assert_eq!(
        Metainfo::parse(&many(0, |list| list.item().raw(b"d6:lengthi0e4:pathlee"))).unwrap_err(),
        Error::Missing("path")
    );
    let huge = vec![b'l'; TORRENT_FILE_MAX as usize + 1];
    assert_eq!(Metainfo::parse(&huge).unwrap_err(), Error::Size(huge.len()));
}

#[test]
fn what_build_makes_parse_reads() {
    let files = [(vec!["a".to_string(), "é.txt".to_string()], 20_000), (vec!["b".to_string()], 0)];
    let trackers =
        [vec!["http://a/x?y=1&z".to_string(), "udp://b:1".to_string()], vec![], vec!["udp://c:1".into()]];
    let seeds = ["http://w/".to_string()];
    let plan = Plan {
        name: "näme",
        content: Content::Many(&files),
        piece_length: 16384,
        hashes: &[9; 40],
        private: true,
        trackers: &trackers,
        web_seeds: &seeds,
        comment: Some("hello"),
        created_by: Some("test 1"),
        creation_date: Some(12),
    };
    let bytes = build(&plan);
    fuzz_metainfo(&bytes);
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(paths(&torrent), ["näme/a/é.txt", "näme/b"]);
    assert_eq!((torrent.layout.total(), torrent.private, &torrent.hashes[..]), (20_000, true, &[9; 40][..]));
    assert_eq!(torrent.trackers, [&trackers[0][..], &trackers[2][..]]);
    assert_eq!(torrent.web_seeds, seeds);
    assert_eq!((torrent.comment.as_deref(), torrent.created_by.as_deref()), (Some("hello"), Some("test 1")));
    assert_eq!(torrent.creation_date, Some(12));
    assert_eq!(
        torrent.magnet_uri(),
        format!(
            "magnet:?xt=urn:btih:{}&dn=n%C3%A4me&tr=http%3A%2F%2Fa%2Fx%3Fy%3D1%26z&tr=udp%3A%2F%2Fb%3A1\
             &tr=udp%3A%2F%2Fc%3A1&ws=http%3A%2F%2Fw%2F",
            torrent.info_hash
        )
    );
    let one = Plan {
        trackers: &trackers[2..],
        ..Plan::bare(plan.name, Content::Single(1), plan.piece_length, &[1; 20])
    };
    let bytes = build(&one);
    assert_eq!(&bytes[..33], b"d8:announce9:udp://c:14:infod6:le");
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert!(torrent.single && !torrent.private && torrent.trackers == [["udp://c:1"]]);
}

#[test]
fn piece_lengths_fit_the_size() {
    assert_eq!(
        (piece_length_for(0), piece_length_for(1), piece_length_for(2000 << 14)),
        (1 << 14, 1 << 14, 1 << 14)
    );
    assert_eq!((piece_length_for((2000 << 14) + 1), piece_length_for(u64::MAX)), (1 << 15, 1 << 24));
    for bits in 25..34 {
        let total = 3u64 << bits;
        let pieces = total.div_ceil(piece_length_for(total).into());
        assert!((1000..=2000).contains(&pieces), "{total} {pieces}");
    }
    assert_eq!(piece_length_for(1 << 34), 1 << 24);
}

#[test]
fn any_bytes_never_panic() {
    let mut rng = Rng::new([6; 32]);
    let seeds =
        [plain(), many(0, |list| ["a", "a", "a/b", "../c"].iter().for_each(|path| empty(list, path)))];
    for _ in 0..rounds(20_000) {
        let mut bytes = seeds[rng.index(2)].clone();
        for _ in 0..=rng.below(3) {
            let at = rng.index(bytes.len());
            bytes[at] = b"dlie0123456789:-a\xff"[rng.index(18)];
        }
        fuzz_metainfo(&bytes);
    }
}
