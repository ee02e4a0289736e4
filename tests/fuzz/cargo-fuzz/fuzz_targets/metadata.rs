#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::extended::metadata::fuzz_metadata(data));
