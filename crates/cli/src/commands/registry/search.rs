//! `ketch search`.

use ketch_engine::registry::{self, Found, SearchFilter};

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::Exit;
use crate::filter::{self, Filter};
use crate::format::{Listing, Row};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["search"],
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images",
    arity: Arity::Exactly(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Max number of search results
    #[arg(long, value_name = "int", value_parser = integer)]
    limit: Option<i64>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    table: r"{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
    raw: r"name: {{.Name}}\n",
};

/// Characters of a description in a table.
const DESCRIPTION_MAX: usize = 45;

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["is-automated", "is-official", "stars"])?;
        let wanted = SearchFilter {
            official: filters.boolean("is-official")?,
            automated: filters.boolean("is-automated")?,
            stars: SearchFilter::fewest_stars(filters.values("stars"))?,
        };
        let limit = registry::search_limit(self.limit)?;
        let found = registry::search(&context.registries(), &operands[0], limit, &wanted)?;
        let rows: Vec<Row> = found.iter().map(|one| row(one, !self.no_trunc)).collect();
        output::print(&LISTING.render(&rows, &self.format, false)?)?;
        Ok(Exit::SUCCESS)
    }
}

fn row(found: &Found, truncate: bool) -> Row {
    let flag = |set: bool| if set { "[OK]" } else { "" };
    let clean = harmless(&found.description);
    let description = if truncate {
        crate::text::ellipsis(&clean, DESCRIPTION_MAX)
    } else {
        clean
    };
    Row::new()
        .with("Name", harmless(&found.name))
        .with("Description", description)
        .with("StarCount", found.star_count.to_string())
        .with("IsOfficial", flag(found.is_official))
        .with("IsAutomated", flag(found.is_automated))
}

/// A server's words on one line, without what a terminal would obey.
fn harmless(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    line.chars().filter(|c| !c.is_control()).collect()
}
