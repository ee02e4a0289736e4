#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::magnet::fuzz_magnet(data));
