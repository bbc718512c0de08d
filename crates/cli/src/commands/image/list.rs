//! `ketch images`.

use jiff::Timestamp;
use ketch_engine::image::{self, ImageSummary, ListFilter};
use ketch_spec::{Reference, duration, size};

use super::tree;
use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter};
use crate::format::{self, Listing, Row};
use crate::{output, prompt, text};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    arity: Arity::AtMost(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Show all images (there are no intermediate ones to hide)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree (EXPERIMENTAL)
    #[arg(long)]
    tree: bool,
}

/// The fields of a row, with their headers.
pub const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];
const TABLE: &str = r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    r"{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = r"repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const NONE: &str = "<none>";

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let _ = self.all;
        if self.tree {
            self.check_tree()?;
        }
        let keys = [
            "dangling",
            "label",
            "label!",
            "before",
            "since",
            "reference",
            "until",
        ];
        let filters = filter::collect(self.filter, &keys)?;
        let mut references = filters.values("reference").to_vec();
        references.extend(operands);
        let filter = ListFilter {
            references,
            dangling: filters.boolean("dangling")?,
            labels: filters.values("label").to_vec(),
            without_labels: filters.values("label!").to_vec(),
            before: filters.values("before").last().cloned(),
            since: filters.values("since").last().cloned(),
            until: prompt::until(&filters)?,
        };
        let engine = context.engine()?;
        let images = image::list(engine, &filter)?;
        if self.tree {
            output::print(&tree::render(engine, &images)?)?;
            return Ok(Exit::SUCCESS);
        }
        let now = Timestamp::now();
        let rows: Vec<Row> = images
            .iter()
            .flat_map(|summary| rows(summary, now, !self.no_trunc, self.digests))
            .collect();
        let listing = Listing {
            headers: HEADERS,
            table: if self.digests {
                TABLE_WITH_DIGESTS
            } else {
                TABLE
            },
            quiet: "{{.ID}}",
            raw: RAW,
        };
        let configured = context.config()?.images_format.as_deref();
        let (format, quiet) = format::choose(self.format.as_deref(), configured, self.quiet);
        output::print(&listing.render(&rows, &format, quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}

impl Args {
    /// What a tree does not go together with, in Docker's words.
    fn check_tree(&self) -> Result<(), Failure> {
        let given = [
            ("--quiet", self.quiet),
            ("--no-trunc", self.no_trunc),
            ("--show-digest", self.digests),
            ("--format", self.format.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::usage(format!(
                "{flag} is not yet supported with --tree"
            ))),
            None => Ok(()),
        }
    }
}

/// One row a name; with `digests`, one a name and digest.
pub fn rows(summary: &ImageSummary, now: Timestamp, truncate: bool, digests: bool) -> Vec<Row> {
    let image = &summary.image;
    let digest_of = |name: &str| {
        let found = image
            .repo_digests
            .iter()
            .find(|reference| reference.familiar_name() == name);
        found
            .and_then(|reference| reference.digest.as_ref())
            .map(ToString::to_string)
    };
    let mut names: Vec<(String, String, String)> = image
        .references
        .iter()
        .map(|reference| {
            let repository = reference.familiar_name();
            let digest = digest_of(&repository).unwrap_or_else(|| NONE.into());
            (
                repository,
                reference.tag.clone().unwrap_or_else(|| NONE.into()),
                digest,
            )
        })
        .collect();
    let is_named = |reference: &Reference| {
        image
            .references
            .iter()
            .any(|named| named.familiar_name() == reference.familiar_name())
    };
    for reference in image
        .repo_digests
        .iter()
        .filter(|reference| !is_named(reference))
    {
        let digest = reference
            .digest
            .as_ref()
            .map_or_else(|| NONE.into(), ToString::to_string);
        // Without the DIGEST column an image that only has digests is one row.
        if digests || names.is_empty() {
            names.push((reference.familiar_name(), NONE.into(), digest));
        }
    }
    if names.is_empty() {
        names.push((NONE.into(), NONE.into(), NONE.into()));
    }
    names
        .into_iter()
        .map(|(repository, tag, digest)| row(summary, now, truncate, &repository, &tag, &digest))
        .collect()
}

fn row(
    summary: &ImageSummary,
    now: Timestamp,
    truncate: bool,
    repository: &str,
    tag: &str,
    digest: &str,
) -> Row {
    let image = &summary.image;
    let id = image.id.to_string();
    let created = image.created();
    let since = created.map_or_else(
        || "N/A".to_owned(),
        |created| {
            format!(
                "{} ago",
                duration::age(now.as_second().saturating_sub(created.as_second()).max(0))
            )
        },
    );
    Row::new()
        .with(
            "ID",
            if truncate {
                text::short_id(&id)
            } else {
                id.as_str()
            },
        )
        .with("Repository", repository)
        .with("Tag", tag)
        .with("Digest", digest)
        .with("CreatedSince", since)
        .with(
            "CreatedAt",
            created.map_or_else(|| "N/A".to_owned(), text::go_time),
        )
        .with("Size", size::human(image.size_bytes))
        .with("Containers", summary.containers.to_string())
        .with("VirtualSize", size::human_long(image.size_bytes))
        .with("SharedSize", size::human_long(summary.shared_bytes))
        .with(
            "UniqueSize",
            size::human_long(image.size_bytes.saturating_sub(summary.shared_bytes)),
        )
}
