//! The decoder on the CPU backend, at every feature level that this machine has.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Distributions, FORMS, Session, distance, fixtures};
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{KvDtype, WeightFormat};
use millrace_backend_cpu::{CpuBackend, Level};
use millrace_model::DummyWeights;

/// As for the reference backend: float32 rounding in another order, here with vectorised exponentials (4.6e-5 and
/// 3.2e-6 are measured).
const MAX: f32 = 1e-4;
const MEAN: f32 = 1e-5;

#[test]
fn every_level_gives_the_logits_of_transformers_in_every_form() {
    for level in Level::supported() {
        for fixture in fixtures() {
            let backend = CpuBackend::with_level(level, 2).unwrap();
            let mut session = Session::new(backend, &fixture, WeightFormat::Native);
            let first = session.run(&FORMS[0]);
            let distance = distance(&fixture.golden, &first);
            println!("{level:?}, {}: {distance:?}", fixture.name);
            assert!(
                distance.max <= MAX && distance.mean <= MEAN,
                "{level:?}, {}: {distance:?}",
                fixture.name
            );
            assert_eq!(distance.argmax, 1.0, "{level:?}, {}", fixture.name);
            same_in_every_form(&mut session, &first, level, &fixture.name);
        }
    }
}

/// A row's bits don't depend on how the work was cut.
fn same_in_every_form(
    session: &mut Session<'_, CpuBackend>,
    first: &Distributions,
    level: Level,
    fixture: &str,
) {
    for form in &FORMS[1..] {
        assert!(session.run(form) == *first, "{level:?}, {fixture}: {} changes results", form.name);
    }
}

/// Keys and values in 16 and 8 bits, against the same roundings in plain arithmetic. Where bf16 meets bf16, queries
/// and softmax weights are rounded too, to eight bits (0.024 on average at most is measured; 8-bit weights are up to 0.2
/// away).
#[test]
fn narrow_caches_give_the_same_bits_in_every_form() {
    for level in Level::supported() {
        for fixture in fixtures().iter().step_by(2) {
            for dtype in [KvDtype::Bf16, KvDtype::Int8] {
                let reference = Session::new(ReferenceBackend::new(), fixture, WeightFormat::Native);
                let expected = reference.with_kv(dtype).run(&FORMS[1]);
                let cpu = CpuBackend::with_level(level, 2).unwrap();
                let mut session = Session::new(cpu, fixture, WeightFormat::Native).with_kv(dtype);
                let first = session.run(&FORMS[0]);
                let distance = distance(&expected, &first);
                println!("{level:?}, {}, {dtype:?}: {distance:?}", fixture.name);
                assert!(distance.mean <= 0.04, "{level:?}, {}, {dtype:?}: {distance:?}", fixture.name);
                same_in_every_form(&mut session, &first, level, &fixture.name);
            }
        }
    }
}

/// Against the reference with the same quantized weights: what is left is the rounding of activations to 8 bits.
#[test]
fn integer_weights_give_the_same_bits_in_every_form() {
    for level in Level::supported() {
        for fixture in fixtures() {
            for (bits, mean) in [(8, 0.2), (4, 0.4)] {
                let format = WeightFormat::Quantize { bits, group: 32 };
                let expected = Session::new(ReferenceBackend::new(), &fixture, format).run(&FORMS[1]);
                let new = || Session::new(CpuBackend::with_level(level, 2).unwrap(), &fixture, format);
                // Generated tokens, and those of prompts: some levels have other arithmetic for many rows.
                for mut session in [new(), new().with_prompts()] {
                    let first = session.run(&FORMS[0]);
                    let distance = distance(&expected, &first);
                    println!("{level:?}, {} at {bits} bits: {distance:?}", fixture.name);
                    assert!(
                        distance.mean <= mean,
                        "{level:?}, {} at {bits} bits: {distance:?}",
                        fixture.name
                    );
                    same_in_every_form(&mut session, &first, level, &fixture.name);
                }
            }
        }
    }
}

/// Some levels multiply bfloat16 by bfloat16: activations are rounded to 8 bits of mantissa (0.0027 at most is
/// measured; other weights are 0.13 away on average).
#[test]
fn bfloat16_weights_give_the_same_bits_in_every_form() {
    let load = WeightFormat::Native;
    for level in Level::supported() {
        for fixture in fixtures().iter().step_by(2) {
            let weights = DummyWeights::new(1);
            let expected =
                Session::with_weights(ReferenceBackend::new(), fixture, &weights, load).run(&FORMS[1]);
            let cpu = CpuBackend::with_level(level, 2).unwrap();
            let mut session = Session::with_weights(cpu, fixture, &weights, load);
            let first = session.run(&FORMS[0]);
            let distance = distance(&expected, &first);
            println!("{level:?}, {}: {distance:?}", fixture.name);
            assert!(
                distance.max <= 6e-3 && distance.mean <= 1e-3,
                "{level:?}, {}: {distance:?}",
                fixture.name
            );
            same_in_every_form(&mut session, &first, level, &fixture.name);
        }
    }
}
