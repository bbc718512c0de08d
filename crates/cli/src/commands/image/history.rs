//! `ketch history`.

use jiff::Timestamp;
use ketch_engine::image::{self, HistoryEntry};
use ketch_spec::{duration, size};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::format::{self, Listing, Row};
use crate::{output, platforms, text};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image history", "history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    arity: Arity::Exactly(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform ('os[/arch[/variant]]')
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
}

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
const HUMAN: &str = r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT: &str = r"{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let platform = platforms::one(self.platform.as_deref())?;
        let entries = image::history(context.engine()?, &operands[0], platform.as_ref())?;
        let now = Timestamp::now();
        let rows: Vec<Row> = entries
            .iter()
            .map(|entry| row(entry, now, self.human, !self.no_trunc))
            .collect();
        let table = if self.human { HUMAN } else { EXACT };
        let listing = Listing {
            headers: HEADERS,
            table,
            quiet: "{{.ID}}",
            raw: table,
        };
        let (format, quiet) = format::choose(Some(&self.format), None, self.quiet);
        output::print(&listing.render(&rows, &format, quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}

fn row(entry: &HistoryEntry, now: Timestamp, human: bool, truncate: bool) -> Row {
    let id = entry.id.as_ref().map_or_else(
        || "<missing>".to_owned(),
        |id| {
            let id = id.to_string();
            if truncate {
                text::short_id(&id).to_owned()
            } else {
                id
            }
        },
    );
    let created_by = entry.created_by.replace('\t', " ");
    let since = entry.created.map_or_else(
        || "N/A".to_owned(),
        |created| {
            format!(
                "{} ago",
                duration::age(now.as_second().saturating_sub(created.as_second()).max(0))
            )
        },
    );
    let at = entry.created.map(text::rfc3339).unwrap_or_default();
    Row::new()
        .with("ID", id)
        .with("CreatedSince", if human { since } else { at.clone() })
        .with("CreatedAt", at)
        .with(
            "CreatedBy",
            if truncate {
                text::ellipsis(&created_by, 45)
            } else {
                created_by
            },
        )
        .with(
            "Size",
            if human {
                size::human(entry.size_bytes)
            } else {
                entry.size_bytes.to_string()
            },
        )
        .with("Comment", entry.comment.as_str())
}
