//! The decoder on the reference backend against the logits that transformers computes in float32.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{FORMS, Session, distance, fixtures};
use millrace_backend::WeightFormat;
use millrace_backend::recording::Recorder;
use millrace_backend::reference::ReferenceBackend;

/// Float32 rounding in another order; transformers itself is up to 3.3e-5 away from its own float64 results.
const MAX: f32 = 1e-4;
const MEAN: f32 = 1e-5;

#[test]
fn reference_gives_the_logits_of_transformers_in_every_form() {
    for fixture in fixtures() {
        let mut session = Session::new(ReferenceBackend::new(), &fixture, WeightFormat::Native);
        let first = session.run(&FORMS[0]);
        let distance = distance(&fixture.golden, &first);
        println!("{}: {distance:?}", fixture.name);
        assert!(distance.max <= MAX && distance.mean <= MEAN, "{}: {distance:?}", fixture.name);
        assert_eq!(distance.argmax, 1.0, "{}", fixture.name);
        for form in &FORMS[1..] {
            // Not "close": a row's bits don't depend on how the work was cut.
            assert!(session.run(form) == first, "{}: {} changes the results", fixture.name, form.name);
        }
    }
}

/// A device runs a step after the host has gone on; nothing in the decoder may notice.
#[test]
fn late_execution_changes_nothing() {
    for fixture in fixtures() {
        let mut direct = Session::new(ReferenceBackend::new(), &fixture, WeightFormat::Native);
        let mut late = Session::new(Recorder::new(ReferenceBackend::new()), &fixture, WeightFormat::Native);
        assert!(late.run(&FORMS[2]) == direct.run(&FORMS[2]), "{}", fixture.name);
        assert!(late.backend.recorded() > 0);
    }
}

/// 8-bit integers in groups of 32 are off by up to 1/254 of their group's largest value. These models are narrow (32
/// to 64) and their logits wide (standard deviation about 3), so little of that averages out: at most 0.13 on
/// average is measured. A wrong scale or a swapped row gives several units.
#[test]
fn quantized_weights_stay_close() {
    let format = WeightFormat::Quantize { bits: 8, group: 32 };
    for fixture in fixtures() {
        let found = Session::new(ReferenceBackend::new(), &fixture, format).run(&FORMS[1]);
        let distance = distance(&fixture.golden, &found);
        println!("{} at 8 bits: {distance:?}", fixture.name);
        assert!(distance.max <= 2.5 && distance.mean <= 0.2, "{}: {distance:?}", fixture.name);
        assert!(distance.mean > MEAN, "{}: the weights were not quantized", fixture.name);
    }
}
