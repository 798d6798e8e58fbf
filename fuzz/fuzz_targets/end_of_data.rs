//! `end_of_data` of the properties, for any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| waypost_fuzz_properties::end_of_data(bytes));
