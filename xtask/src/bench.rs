//! Measurements. Whoever is measured takes turns within one run, so that a busy moment hits each alike; read the ratios.

use crate::Outcome;

mod engines;
pub mod images;
pub mod runtime;

/// Runs one suite, or the cases of the engines' suite whose name contains one of `words`, or all of them.
pub fn run(words: &[&str]) -> Outcome {
    match words {
        ["runtime"] => runtime::run(),
        ["images", engines @ ..] => images::run(engines),
        cases => engines::run(cases),
    }
}

/// The middle sample; sorts them, so that the first is the least.
fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
