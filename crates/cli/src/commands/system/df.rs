//! `ketch system df`.

use ketch_engine::{Engine, container, image, volume};
use ketch_spec::size;

use crate::command::{Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::format::{Listing, Row};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["system df"],
    usage: "[OPTIONS]",
    about: "Show disk usage",
    refused: &[Refused::boolean("verbose").short('v')],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
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
        Row::new()
            .with("Type", kind)
            .with("TotalCount", self.total.to_string())
            .with("Active", self.active.to_string())
            .with("Size", size::human(self.bytes))
            .with(
                "Reclaimable",
                format!("{}{percent}", size::human(self.reclaimable_bytes)),
            )
    }
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        let rows = [
            images(engine)?.row("Images"),
            containers(engine)?.row("Containers"),
            volumes(engine)?.row("Local Volumes"),
        ];
        output::print(&LISTING.render(&rows, &self.format, false)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// A layer that several images have is counted once.
fn images(engine: &Engine) -> Result<Usage, Failure> {
    let mut usage = Usage::default();
    let mut seen = std::collections::BTreeSet::new();
    let all = image::list(engine, &image::ListFilter::default())?;
    for summary in &all {
        let new: Vec<_> = summary
            .image
            .layers
            .iter()
            .filter(|layer| seen.insert((*layer).clone()))
            .collect();
        let whole = summary.image.size_bytes;
        let own = whole.saturating_sub(summary.shared_bytes);
        usage.add(
            if new.len() == summary.image.layers.len() {
                whole
            } else {
                own
            },
            summary.containers > 0,
        );
    }
    Ok(usage)
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
        usage.add(
            ketch_engine::volume::size_bytes(&found),
            !found.users.is_empty(),
        );
    }
    Ok(usage)
}
