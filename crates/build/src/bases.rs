//! The images that stages are built on and copy from: here already, or pulled.

use std::collections::BTreeMap;

use ketch_engine::image::{Image, pull, resolve_for};
use ketch_engine::{Engine, Error as EngineError, ErrorKind};
use ketch_spec::{Platform, Reference};

use crate::dockerfile::Place;
use crate::error::{BuildError, FailedStep, Source};
use crate::plan::full_name;
use crate::progress::{Progress, Vertex};

/// Finds every image; what is missing is pulled, and with `always` everything is asked for.
///
/// # Errors
/// An image that is nowhere, with the line that names it.
pub fn load(
    engine: &Engine,
    wanted: &BTreeMap<String, Place>,
    platform: &Platform,
    always: bool,
    progress: &Progress<'_>,
    source: &Source,
) -> Result<BTreeMap<String, Image>, BuildError> {
    let mut found = BTreeMap::new();
    for (name, place) in wanted {
        let vertex = progress.start(&format!("[internal] load metadata for {}", full_name(name)));
        match one(engine, name, platform, always, &vertex) {
            Ok(image) => {
                vertex.done();
                found.insert(name.clone(), image);
            }
            Err(error) => {
                let message = format!(
                    "{name}: failed to resolve source metadata for {}: {error}",
                    full_name(name)
                );
                vertex.failed(&message);
                return Err(BuildError::Step {
                    failed: Box::new(FailedStep {
                        dockerfile: source.clone(),
                        lines: place.lines,
                        at: place.at,
                        text: place.text.clone(),
                        kind: error.kind,
                        message,
                        hints: error.hints,
                    }),
                });
            }
        }
    }
    Ok(found)
}

fn one(
    engine: &Engine,
    name: &str,
    platform: &Platform,
    always: bool,
    vertex: &Vertex<'_>,
) -> Result<Image, EngineError> {
    let reference = name.parse::<Reference>();
    let here = resolve_for(engine, name, Some(platform));
    match (here, reference) {
        (Ok(image), Ok(_)) if !always => Ok(image),
        // An id names what is here and nothing else.
        (here, Err(_)) => here,
        (Err(error), Ok(_)) if error.kind != ErrorKind::NotFound => Err(error),
        (_, Ok(reference)) => {
            pull(engine, &reference, Some(platform), vertex)?;
            resolve_for(engine, name, Some(platform))
        }
    }
}
