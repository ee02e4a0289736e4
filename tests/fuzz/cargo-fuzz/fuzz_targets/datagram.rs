#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::tracker::udp::fuzz_tracker_udp(data));
