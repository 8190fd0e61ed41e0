#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logseal_fuzz::base(data));
