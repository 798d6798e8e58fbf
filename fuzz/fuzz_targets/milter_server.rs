//! `milter_server` of the properties, for any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| waypost_fuzz_properties::milter_server(bytes));
