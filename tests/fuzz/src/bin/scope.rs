#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringspoa_fuzz::serve::scope(data));
