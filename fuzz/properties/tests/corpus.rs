//! Plays `fuzz/corpus` through the properties, so that what was found once stays found.

use std::path::Path;

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (target, property) in waypost_fuzz_properties::ALL {
        let mut files: Vec<_> = std::fs::read_dir(corpus.join(target))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "fuzz/corpus/{target} is empty");
        for file in &files {
            let bytes = std::fs::read(file).unwrap();
            let held = std::panic::catch_unwind(|| property(&bytes));
            assert!(held.is_ok(), "{target} does not hold for {}", file.display());
        }
        println!("{target}: {} inputs", files.len());
    }
}

/// Cheap inputs that no corpus keeps: short ones of octets that mean something.
#[test]
fn short_inputs_hold() {
    for (target, property) in waypost_fuzz_properties::ALL {
        property(b"");
        for octet in 0..=u8::MAX {
            property(&[octet]);
            for next in *b"\0\r\n.[(: a@\x80\xff" {
                let held =
                    std::panic::catch_unwind(|| property(&[octet, next, next, b'\r', b'\n']));
                assert!(held.is_ok(), "{target} does not hold for {octet} {next}");
            }
        }
    }
}

/// Each corpus file, cut short and with octets turned: a fuzzer's first thousand runs, in CI.
#[test]
fn neighbours_of_the_corpus_hold() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (target, property) in waypost_fuzz_properties::ALL {
        let mut state = 1_u32;
        let mut next = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(state >> 8).unwrap() % below.max(1)
        };
        for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for _ in 0..40 {
                let mut near = bytes.clone();
                for _ in 0..=next(3) {
                    let (at, other) = (next(near.len()), next(near.len()));
                    match next(4) {
                        0 => near.truncate(at),
                        1 if !near.is_empty() => near.swap(at, other),
                        2 => near.insert(at, *b"\r\n.\0[(\x80\xff".get(next(8)).unwrap()),
                        _ => near.extend_from_within(at.min(other)..at.max(other)),
                    }
                }
                let held = std::panic::catch_unwind(|| property(&near));
                assert!(held.is_ok(), "{target} does not hold for {}", near.escape_ascii());
            }
        }
    }
}
