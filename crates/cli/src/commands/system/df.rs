//! `ketch system df`.

use jiff::Timestamp;
use ketch_engine::{Engine, container, image, layer, volume};
use ketch_spec::size;

use super::df_verbose;
use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::format::{Listing, Row};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["system df"],
    usage: "[OPTIONS]",
    about: "Show disk usage",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: r"{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    raw: r"type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
};

/// One kind of object.
#[derive(Default)]
struct Usage {
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable_bytes: u64,
}

impl Usage {
    fn add(&mut self, bytes: u64, active: bool) {
        self.total += 1;
        self.bytes += bytes;
        if active {
            self.active += 1;
        } else {
            self.reclaimable_bytes += bytes;
        }
    }

    fn row(&self, kind: &str) -> Row {
        let percent = (self.reclaimable_bytes * 100).checked_div(self.bytes);
        let percent = percent
            .map(|percent| format!(" ({percent}%)"))
            .unwrap_or_default();
        let reclaimable = size::human_long(self.reclaimable_bytes);
        Row::new()
            .with("Type", kind)
            .with("TotalCount", self.total.to_string())
            .with("Active", self.active.to_string())
            .with("Size", size::human_long(self.bytes))
            .with("Reclaimable", format!("{reclaimable}{percent}"))
    }
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        if self.verbose {
            let text = df_verbose::render(engine, &self.format, Timestamp::now())?;
            output::print(&text)?;
            return Ok(Exit::SUCCESS);
        }
        let disk = image::disk_usage(engine)?;
        let rows = [
            images(engine, &disk)?.row("Images"),
            containers(engine)?.row("Containers"),
            volumes(engine)?.row("Local Volumes"),
            cache(engine, &disk)?,
        ];
        output::print(&LISTING.render(&rows, &self.format, false)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// Bytes on the disk, and of them what a prune of all of them frees.
fn images(engine: &Engine, disk: &image::DiskUsage) -> Result<Usage, Failure> {
    let all = image::list(engine, &image::ListFilter::default())?;
    Ok(Usage {
        total: all.len(),
        active: all.iter().filter(|one| one.containers > 0).count(),
        bytes: disk.image_bytes,
        reclaimable_bytes: disk.reclaimable_bytes,
    })
}

fn containers(engine: &Engine) -> Result<Usage, Failure> {
    let mut usage = Usage::default();
    for found in container::list(engine)? {
        let bytes = container::size(engine, &found.config.id)?.writable_bytes;
        usage.add(bytes, container::load::is_live(found.state.status));
    }
    Ok(usage)
}

fn volumes(engine: &Engine) -> Result<Usage, Failure> {
    let mut usage = Usage::default();
    for found in volume::list(engine)? {
        usage.add(volume::size_bytes(&found), !found.users.is_empty());
    }
    Ok(usage)
}

/// What only the cache needs; no build keeps it from going.
fn cache(engine: &Engine, disk: &image::DiskUsage) -> Result<Row, Failure> {
    let usage = Usage {
        total: layer::cache_list(engine)?.len(),
        bytes: disk.cache_bytes,
        ..Usage::default()
    };
    let bytes = size::human_long(disk.cache_bytes);
    Ok(usage.row("Build Cache").with("Reclaimable", bytes))
}
