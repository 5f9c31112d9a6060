//! Every decoder against what the fuzzer has kept, mutations of that, and bytes by chance: the
//! checks of `fuzz/` for a stable compiler, in seconds.
//!
//! `scripts/fuzz` looks further. What it finds is kept in `fuzz/corpus/` and replayed here.

mod corpus;
mod mutation;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "the library of another crate, too")]
mod checks;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::de::DeserializeOwned;
use worker_proto::codec;
use worker_proto::frame::{FromMaster, ToMaster};

/// A test for each decoder, and their names.
macro_rules! decoders {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                every_way(stringify!($name), checks::$name);
            }
        )*

        const DECODERS: &[&str] = &[$(stringify!($name)),*];
    };
}

decoders! {
    address,
    ancillary,
    config_file,
    connections,
    control_request,
    environment,
    flags,
    from_master,
    listener_spec,
    proxy_header,
    relay,
    scoreboard,
    to_master,
}

#[test]
fn every_target_of_the_fuzzer_is_tried_here_and_has_seeds() {
    let _alone = alone();
    let here: BTreeSet<String> = DECODERS.iter().map(ToString::to_string).collect();
    assert_eq!(corpus::targets(), here);
    assert_eq!(corpus::names(), here);
}

#[test]
fn every_variant_of_a_frame_has_a_seed() {
    let _alone = alone();
    has_every_variant::<ToMaster>("to_master");
    has_every_variant::<FromMaster>("from_master");
}

fn has_every_variant<F: DeserializeOwned>(decoder: &str) {
    let is_unknown = |tag| match codec::decode::<F>(&[tag]) {
        Ok(_) => false,
        Err(err) => err.to_string().contains("expected variant index"),
    };
    assert!(is_unknown(MOST_VARIANTS), "the codec words it like this");
    let variants: BTreeSet<u8> = (0..).take_while(|tag| !is_unknown(*tag)).collect();
    let kept = corpus::kept(decoder).into_iter();
    let frames = kept.filter(|(_, data)| codec::decode::<F>(data).is_ok());
    let seeds: BTreeSet<u8> = frames.map(|(_, data)| data[0]).collect();
    assert_eq!(seeds, variants, "fuzz/corpus/{decoder}");
}

/// What is kept, then mutations of it and bytes by chance.
fn every_way(decoder: &str, check: fn(&[u8])) {
    let _alone = alone();
    let kept = corpus::kept(decoder);
    for (name, data) in &kept {
        println!("{name}");
        check(data);
    }
    let seeds: Vec<Vec<u8>> = kept.into_iter().map(|(_, data)| data).collect();
    let data = prop_oneof![
        3 => mutation::mutated(seeds),
        1 => vec(any::<u8>(), 0..300),
    ];
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        // What was found belongs into the corpus.
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&data, |data| {
        check(&data);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{decoder}: {failure}");
    }
}

/// Descriptors are counted: no other test may open one meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A second or two for the slowest decoder, without optimisation.
const CASES: u32 = 2_000;

/// The largest number of one byte.
const MOST_VARIANTS: u8 = 250;
