#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::resume::fuzz_resume(data));
