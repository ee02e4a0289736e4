#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::wire::decoder::fuzz_wire(data));
