//! `ketch manifest annotate|create|inspect|push|rm`.

use base64::prelude::{BASE64_STANDARD, Engine};
use ketch_engine::registry::RegistryAccess;
use ketch_engine::registry::manifest::{Annotation, Entry, Inspected, Lists, push};
use ketch_spec::Reference;
use ketch_spec::image::media_type;
use serde::Serialize;
use serde_json::{Value, json};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// `manifest annotate`.
pub const ANNOTATE: Command = Command {
    names: &["manifest annotate"],
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    about: "Add additional information to a local image manifest",
    arity: Arity::Exactly(2),
    ..Command::of::<Annotate>()
};
/// `manifest create`.
pub const CREATE: Command = Command {
    names: &["manifest create"],
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    about: "Create a local manifest list for annotating and pushing to a registry",
    arity: Arity::AtLeast(2),
    ..Command::of::<Create>()
};
/// `manifest inspect`.
pub const INSPECT: Command = Command {
    names: &["manifest inspect"],
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    about: "Display an image manifest, or manifest list",
    arity: Arity::Between(1, 2),
    ..Command::of::<Inspect>()
};
/// `manifest push`.
pub const PUSH: Command = Command {
    names: &["manifest push"],
    usage: "[OPTIONS] MANIFEST_LIST",
    about: "Push a manifest list to a repository",
    arity: Arity::Exactly(1),
    ..Command::of::<Push>()
};
/// `manifest rm`.
pub const RM: Command = Command {
    names: &["manifest rm"],
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    about: "Delete one or more manifest lists from local storage",
    arity: Arity::AtLeast(1),
    ..Command::of::<Remove>()
};

#[derive(clap::Args)]
struct Annotate {
    /// Set architecture
    #[arg(long, value_name = "string")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "string")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "string")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "string")]
    variant: Option<String>,
}

impl Verb for Annotate {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let (list, image) = (name(&operands[0])?, name(&operands[1])?);
        let annotation = Annotation {
            os: self.os,
            architecture: self.arch,
            variant: self.variant,
            os_version: self.os_version,
            os_features: self.os_features,
        };
        lists(context, &list, false)?.annotate(&list, &image, &annotation)?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(clap::Args)]
struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
}

impl Verb for Create {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let list = name(&operands[0])?;
        let images: Vec<Reference> = operands[1..]
            .iter()
            .map(|operand| name(operand))
            .collect::<Result<_, _>>()?;
        lists(context, &list, self.insecure)?.create(&list, &images, self.amend)?;
        output::print_line(&format!("Created manifest list {list}"))?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(clap::Args)]
struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
}

impl Verb for Inspect {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let first = name(&operands[0])?;
        let lists = lists(context, &first, self.insecure)?;
        let found = match operands.get(1) {
            Some(image) => lists.inspect_in(&first, &name(image)?)?,
            None => lists.inspect(&first, self.verbose)?,
        };
        let text = match found {
            Inspected::Manifest(entry) if self.verbose => indented(&verbose(&entry), "\t")?,
            Inspected::Manifest(entry) => indented(&parsed(&entry.raw)?, "\t")?,
            Inspected::List { entries, .. } if self.verbose => {
                let all = entries.iter().map(verbose).collect();
                indented(&Value::Array(all), "\t")?
            }
            Inspected::List { document, .. } => indented(&parsed(&document)?, "   ")?,
        };
        output::print_line(&text)?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(clap::Args)]
struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
}

impl Verb for Push {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let list = name(&operands[0])?;
        let pushed = push(&lists(context, &list, self.insecure)?, &list, self.purge)?;
        for image in &pushed.images {
            if let Some(digest) = &image.digest {
                output::print_line(&format!("Pushed ref {image} with digest: {digest}"))?;
            }
        }
        output::print_line(&pushed.digest.to_string())?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(clap::Args)]
struct Remove {}

impl Verb for Remove {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let names: Vec<Reference> = operands
            .iter()
            .map(|operand| name(operand))
            .collect::<Result<_, _>>()?;
        lists(context, &names[0], false)?.remove(&names)?;
        Ok(Exit::SUCCESS)
    }
}

fn name(operand: &str) -> Result<Reference, Failure> {
    operand
        .parse()
        .map_err(|error: ketch_spec::reference::ReferenceError| Failure::usage(error.to_string()))
}

/// Lists are the client's, beside its config.json.
fn lists(context: &Context, first: &Reference, insecure: bool) -> Result<Lists, Failure> {
    let Some(directory) = &context.options().config else {
        return Err(Failure::usage(
            "there is no place for manifest lists: set HOME or DOCKER_CONFIG, or give --config",
        ));
    };
    let mut access: RegistryAccess = context.registries();
    if insecure {
        access.insecure.push(first.host.clone());
    }
    Ok(Lists::new(access, directory.join("manifests")))
}

fn parsed(document: &str) -> Result<Value, Failure> {
    serde_json::from_str(document).map_err(|error| Failure::usage(error.to_string()))
}

/// What Docker shows of a manifest with `-v`.
fn verbose(entry: &Entry) -> Value {
    let document = serde_json::from_str(&entry.raw).unwrap_or(Value::Null);
    let field = if entry.descriptor.media_type == media_type::DOCKER_MANIFEST {
        "SchemaV2Manifest"
    } else {
        "OCIManifest"
    };
    json!({
        "Ref": entry.reference.to_string(),
        "Descriptor": entry.descriptor,
        "Raw": BASE64_STANDARD.encode(&entry.raw),
        field: document,
    })
}

fn indented(value: &Value, indent: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
