//! Benches of the Waypost crates; see the files in `benches/`.
