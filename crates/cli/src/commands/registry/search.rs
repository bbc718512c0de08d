//! `ketch search`.

use ketch_engine::registry::{self, Found};

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter, Filters};
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

/// Results where nobody asks for a number, and the most.
const LIMIT_DEFAULT: i64 = 25;
const LIMIT_MAX: i64 = 100;
/// Characters of a description in a table.
const DESCRIPTION_MAX: usize = 45;

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let limit = match self.limit {
            None | Some(0) => LIMIT_DEFAULT,
            Some(limit @ 1..=LIMIT_MAX) => limit,
            Some(limit) => {
                return Err(Failure::usage(format!(
                    "invalid limit: {limit} (must be between 1 and {LIMIT_MAX})"
                )));
            }
        };
        let filters = filter::collect(self.filter, &["is-automated", "is-official", "stars"])?;
        let wanted = Wanted::read(&filters)?;
        let limit = u32::try_from(limit).unwrap_or(1);
        let mut found = registry::search(&context.registries(), &operands[0], limit)?;
        found.retain(|one| wanted.takes(one));
        found.sort_by_key(|one| std::cmp::Reverse(one.star_count));
        let rows: Vec<Row> = found.iter().map(|one| row(one, !self.no_trunc)).collect();
        output::print(&LISTING.render(&rows, &self.format, false)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// What the filters ask for.
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Self, Failure> {
        let mut stars = 0;
        for text in filters.values("stars") {
            let count: i64 = text
                .parse()
                .map_err(|_| Failure::usage(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(count);
        }
        Ok(Self {
            official: filters.boolean("is-official")?,
            automated: filters.boolean("is-automated")?,
            stars,
        })
    }

    fn takes(&self, found: &Found) -> bool {
        self.official
            .is_none_or(|wanted| wanted == found.is_official)
            && self
                .automated
                .is_none_or(|wanted| wanted == found.is_automated)
            && found.star_count >= self.stars
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
