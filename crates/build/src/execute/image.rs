//! The image at the end: config, history, record.

use ketch_engine::image::{self, NewImage};
use ketch_spec::image::{History, ImageConfig, RootFs};
use ketch_spec::{Digest, Platform, Reference};

use super::{Execution, Outcome};
use crate::error::BuildError;
use crate::plan::{HistoryItem, StagePlan};

/// BuildKit's mark in every entry of the history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Makes the target's image and gives it its names.
///
/// # Errors
/// The engine's.
pub fn commit(
    execution: &Execution<'_>,
    outcome: &Outcome,
    platform: &Platform,
    tags: &[Reference],
) -> Result<Digest, BuildError> {
    let plan = execution.plan;
    let vertex = execution.progress.start("exporting to image");
    let Some(stage) = plan.stages.iter().find(|stage| stage.number == plan.target) else {
        unreachable!("the target is one of the stages it needs")
    };
    let root = outcome
        .roots
        .get(&stage.number)
        .cloned()
        .unwrap_or_default();
    vertex.note("exporting layers");
    let (history, created) = history(stage, outcome);
    let config = ImageConfig {
        created,
        author: stage.author.clone(),
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        config: Some(stage.config.clone()),
        rootfs: RootFs {
            diff_ids: root.layers.clone(),
            ..RootFs::default()
        },
        history,
        ..ImageConfig::default()
    };
    let new = NewImage {
        config,
        layers: root.blobs.clone(),
        tags: tags.to_vec(),
    };
    match image::commit(execution.engine, new) {
        Ok(id) => {
            vertex.note(&format!("writing image {id}"));
            for tag in tags {
                vertex.note(&format!("naming to {tag}"));
            }
            vertex.done();
            Ok(id)
        }
        Err(error) => {
            vertex.failed(&error.to_string());
            Err(error.into())
        }
    }
}

/// The history, and when the image was made. Entries that only change the config have the time of the layer before
/// them, so that the same build from the cache gives the same image.
fn history(stage: &StagePlan, outcome: &Outcome) -> (Vec<History>, Option<String>) {
    let mut time: Option<String> = None;
    let mut entries = Vec::new();
    for item in &stage.history {
        let mut entry = match item {
            HistoryItem::Base(entry) => {
                time = entry.created.clone().or(time);
                entries.push(entry.clone());
                continue;
            }
            HistoryItem::Config(text) => History {
                created_by: Some(text.clone()),
                empty_layer: true,
                ..History::default()
            },
            HistoryItem::Step { step, text } => {
                let result = outcome.steps.get(step);
                time = result.map(|result| result.created.to_string()).or(time);
                let empty_layer = result.is_none_or(|result| result.layer.is_none());
                History {
                    created_by: Some(text.clone()),
                    empty_layer,
                    ..History::default()
                }
            }
        };
        entry.comment = Some(COMMENT.to_owned());
        entry.created.clone_from(&time);
        entry.author.clone_from(&stage.author);
        entries.push(entry);
    }
    (entries, time)
}
