//! The fuzz targets' seeds, and random changes of them, hold what the targets check. Fuzzing itself
//! is `cargo fuzz run <target>`; this keeps its code and its seeds from rotting.
#![allow(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

mod hostile_cases;

use patchbay::fuzzing::{TARGETS, Target, http1, json};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder().join("seeds").join(target))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_is_complete() {
    for Target { name, .. } in TARGETS {
        let target = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains("patchbay::fuzzing::"), "{name}");
        let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not built");
        assert!(folder().join(format!("{name}.dict")).exists(), "{name} has no dictionary");
        assert!(seeds(name).len() >= 3, "{name} has too few seeds");
    }
    let targets = fs::read_dir(folder().join("fuzz_targets")).unwrap().count();
    assert_eq!(targets, TARGETS.len(), "a target that no test runs");
}

#[test]
fn seeds_hold() {
    for Target { name, run } in TARGETS {
        for seed in seeds(name) {
            println!("{name}: {:.60}", seed.escape_ascii().to_string());
            run(&seed);
        }
    }
    seeds("json").iter().for_each(|seed| beside_simd_json(seed));
}

/// Documents beside `simd-json`, as the fuzz target reads them.
fn beside_simd_json(bytes: &[u8]) {
    json::beside(bytes, |bytes| simd_json::serde::from_slice(bytes).ok());
}

#[test]
fn hostile_messages_are_judged_as_a_slow_reader_does() {
    for case in hostile_cases::requests() {
        println!("{}", case.name);
        http1::request(&[&[0], &case.bytes[..]].concat());
    }
    for case in hostile_cases::replies::replies() {
        println!("{}", case.name);
        http1::reply(&[&[0], &case.bytes[..]].concat());
    }
}

/// Puts bytes in, takes bytes out, and doubles a piece.
fn change(seed: &[u8], changes: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, how, byte) in changes {
        let at = at.index(bytes.len() + 1);
        match how % 5 {
            0 => bytes.insert(at, *byte),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + usize::from(how / 5)).min(bytes.len()))),
            3 => bytes.extend_from_within(at..),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = *byte),
        }
    }
    bytes
}

#[test]
fn changed_seeds_hold() {
    let change_of = (any::<prop::sample::Index>(), any::<u8>(), any::<u8>());
    let changes = prop::collection::vec(change_of, 0..6);
    let second = Target { name: "json", run: beside_simd_json };
    for Target { name, run } in TARGETS.iter().chain([&second]) {
        for seed in seeds(name) {
            let usual = ProptestConfig::default();
            let config =
                ProptestConfig { cases: usual.cases / 4, failure_persistence: None, ..usual };
            TestRunner::new(config)
                .run(&changes, |changes| {
                    run(&change(&seed, &changes));
                    Ok(())
                })
                .unwrap();
        }
    }
}
