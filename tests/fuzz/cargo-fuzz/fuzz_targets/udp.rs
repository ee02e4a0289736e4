#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::tracker::udp::fuzz_udp(data));
