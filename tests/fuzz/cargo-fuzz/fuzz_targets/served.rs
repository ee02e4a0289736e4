#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::tracker::http::fuzz_tracker_http(data));
