//! `ketch system prune`.

use std::time::SystemTime;

use ketch_engine::{Engine, container, image, layer, network, volume};
use ketch_spec::Digest;

use crate::command::{Command, Outcome, Verb};
use crate::commands;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter, Filters};
use crate::{output, prompt};

/// The command.
pub const COMMAND: Command = Command {
    names: &["system prune"],
    usage: "[OPTIONS]",
    about: "Remove unused data",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["until", "label", "label!"])?;
        if self.volumes && filters.has("until") {
            return Err(Failure::usage(
                "ERROR: The \"until\" filter is not supported with \"--volumes\"",
            ));
        }
        if !self.force && !prompt::confirm(&warning(self.all, self.volumes))? {
            return Ok(Exit::SUCCESS);
        }
        let engine = context.engine()?;
        let until = prompt::until(&filters)?;
        let containers = container::prune(engine, &filters, until)?;
        output::print(&commands::container::prune_report(&containers))?;
        let networks = network::prune(engine, &commands::network::prune::options(&filters)?)?;
        output::print(&commands::network::prune::report(&networks))?;
        let mut bytes = containers.bytes;
        if self.volumes {
            let volumes =
                volume::prune(engine, &commands::volume::prune::options(&filters, false))?;
            output::print(&commands::volume::prune::report(&volumes))?;
            bytes += volumes.bytes;
        }
        let images = image::prune(
            engine,
            &commands::image::prune::options(&filters, self.all)?,
        )?;
        output::print(&commands::image::prune::report(&images))?;
        let cache = cache(engine, &filters, self.all)?;
        output::print(&cache.report())?;
        bytes += images.freed_bytes + cache.bytes;
        output::print_line(&prompt::reclaimed(bytes))?;
        Ok(Exit::SUCCESS)
    }
}

/// What went of the build cache.
#[derive(Default)]
struct Cache {
    keys: Vec<Digest>,
    bytes: u64,
}

impl Cache {
    fn report(&self) -> String {
        if self.keys.is_empty() {
            return String::new();
        }
        let lines: String = self
            .keys
            .iter()
            .map(|key| format!("{}\n", key.hex()))
            .collect();
        format!("Deleted build cache objects:\n{lines}\n")
    }
}

/// Forgets what builds remember: all of it, or what is not a part of an image. It has no labels: a filter by them leaves
/// it alone.
fn cache(engine: &Engine, filters: &Filters, all: bool) -> Result<Cache, Failure> {
    if filters.has("label") || filters.has("label!") {
        return Ok(Cache::default());
    }
    let until = prompt::until(filters)?;
    let images = image::list(engine, &image::ListFilter::default())?;
    let in_image = |record: &layer::CacheRecord| {
        record.layer.as_ref().is_some_and(|layer| {
            images
                .iter()
                .any(|one| one.image.layers.contains(&layer.digest))
        })
    };
    let (keys, freed) = layer::cache_prune_if(engine, |record, used| {
        let used = used
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let used = i64::try_from(used.as_secs()).unwrap_or(i64::MAX);
        let is_old = until.is_none_or(|until| used < until.as_second());
        is_old && (all || !in_image(record))
    })?;
    Ok(Cache {
        keys,
        bytes: freed.bytes,
    })
}

fn warning(all: bool, volumes: bool) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    text.push_str(if all {
        "  - all build cache\n"
    } else {
        "  - unused build cache\n"
    });
    text
}
