//! `ketch compose images`.

use jiff::Timestamp;
use ketch_engine::container::status;
use ketch_engine::image;
use ketch_spec::{Platform, Reference, size};
use serde_json::json;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::format::{Listing, Row};
use crate::{output, text};

use super::containers::{self, Member, Scope};
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose images"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "List images used by the created containers",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format the output. Values: [table | json]
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("ContainerName", "CONTAINER"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Platform", "PLATFORM"),
        ("ID", "IMAGE ID"),
        ("Size", "SIZE"),
        ("Created", "CREATED"),
    ],
    table: r"{{.ContainerName}}\t{{.Repository}}\t{{.Tag}}\t{{.Platform}}\t{{.ID}}\t{{.Size}}\t{{.Created}}",
    quiet: "{{.ID}}",
    raw: r"{{.ID}}\n",
};

/// The image of a container.
struct Used {
    container: String,
    repository: String,
    tag: String,
    platform: String,
    id: String,
    size_bytes: u64,
    created: Option<Timestamp>,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        let scope = Scope {
            stopped: true,
            ..Scope::default()
        };
        let members = containers::members(context, &project, &services, scope)?;
        let used: Result<Vec<Used>, Failure> = members
            .iter()
            .filter_map(|member| used(context, member).transpose())
            .collect();
        let mut used = used?;
        used.sort_by(|a, b| a.container.cmp(&b.container));
        if self.quiet {
            let mut ids: Vec<String> = used.into_iter().map(|used| used.id).collect();
            ids.sort();
            ids.dedup();
            for id in ids {
                output::print_line(id.strip_prefix("sha256:").unwrap_or(&id))?;
            }
            return Ok(Exit::SUCCESS);
        }
        if self.format == "json" {
            let all: Vec<_> = used.iter().map(Used::json).collect();
            output::print_line(&json!(all).to_string())?;
            return Ok(Exit::SUCCESS);
        }
        let now = Timestamp::now();
        let rows: Vec<Row> = used.iter().map(|used| used.row(now)).collect();
        output::print(&LISTING.render(&rows, &self.format, false)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// What a container runs; None if the image is not here any more.
fn used(context: &Context, member: &Member) -> Result<Option<Used>, Failure> {
    let config = &member.container.config;
    let Some(id) = &config.image.id else {
        return Ok(None);
    };
    let image = match image::resolve(context.engine()?, &id.to_string()) {
        Ok(image) => image,
        Err(error) if error.kind == ketch_engine::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let named = config.image.reference.parse::<Reference>().ok();
    let variant = image.config.variant.as_deref();
    let platform = Platform::new(&image.config.os, &image.config.architecture, variant);
    Ok(Some(Used {
        container: config.name.clone(),
        repository: named
            .as_ref()
            .map_or_else(|| "<none>".into(), Reference::familiar_name),
        tag: named.map_or_else(
            || "<none>".into(),
            |named| named.tag.unwrap_or_else(|| "latest".into()),
        ),
        platform: platform.to_string(),
        id: id.to_string(),
        size_bytes: image.size_bytes,
        created: image.created(),
    }))
}

impl Used {
    fn json(&self) -> serde_json::Value {
        json!({
            "ID": self.id, "ContainerName": self.container, "Repository": self.repository, "Tag": self.tag,
            "Platform": self.platform, "Size": self.size_bytes, "Created": self.created.map(text::rfc3339),
        })
    }

    fn row(&self, now: Timestamp) -> Row {
        let created = |created| format!("{} ago", status::age(created, now));
        Row::new()
            .with("ContainerName", self.container.as_str())
            .with("Repository", self.repository.as_str())
            .with("Tag", self.tag.as_str())
            .with("Platform", self.platform.as_str())
            .with("ID", text::short_id(&self.id))
            .with("Size", size::human(self.size_bytes))
            .with(
                "Created",
                self.created.map_or_else(|| "N/A".into(), created),
            )
    }
}
