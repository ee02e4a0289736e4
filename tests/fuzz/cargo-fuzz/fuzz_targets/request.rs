#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::http_server::fuzz_request(data));
