//! `ketch build`.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ketch_build::{
    BuildError, BuildRequest, Context as BuildContext, DockerfileSource, NamedContext, Secret,
    Silent, StepNetwork,
};
use ketch_spec::{Platform, Reference};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::create::{bytes, label};
use crate::failure::{Exit, Failure};
use crate::output;

use super::build_progress::Plain;
use super::pull::check_trust;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image build", "build", "builder build"],
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    arity: Arity::Exactly(1),
    refused: &[
        Refused::value("allow"),
        Refused::value("annotation"),
        Refused::value("attest"),
        Refused::value("builder"),
        Refused::value("cache-from"),
        Refused::value("cache-to"),
        Refused::value("call"),
        Refused::value("cgroup-parent"),
        Refused::boolean("check"),
        Refused::value("cpu-period"),
        Refused::value("cpu-quota"),
        Refused::value("cpu-shares").short('c'),
        Refused::value("cpuset-cpus"),
        Refused::value("cpuset-mems"),
        Refused::value("isolation"),
        Refused::value("memory").short('m'),
        Refused::value("memory-swap"),
        Refused::value("metadata-file"),
        Refused::value("no-cache-filter"),
        Refused::value("output").short('o'),
        Refused::value("provenance"),
        Refused::boolean("push"),
        Refused::value("sbom"),
        Refused::value("security-opt"),
        Refused::boolean("squash"),
        Refused::value("ssh"),
        Refused::value("ulimit"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "list", value_parser = crate::create::extra_host)]
    add_host: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "stringArray", value_parser = crate::create::pair)]
    build_context: Vec<(String, String)>,
    /// Set build-time variables
    #[arg(long, value_name = "list")]
    build_arg: Vec<String>,
    /// Compress the build context (it is read where it is: nothing to do)
    #[arg(long, hide = true)]
    compress: bool,
    /// Skip image verification
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, hide = true)]
    disable_content_trust: bool,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "string")]
    file: Option<String>,
    /// Always remove intermediate containers (they always are)
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Remove intermediate containers after a successful build (they always are)
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, hide = true)]
    rm: bool,
    /// Write the image ID to a file
    #[arg(long, value_name = "string")]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "list", value_parser = label)]
    label: Vec<(String, String)>,
    /// Load the single-platform build result as an image (it always is)
    #[arg(long, hide = true)]
    load: bool,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "string", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Set target platform for build
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Set type of progress output ("auto", "plain", "quiet")
    #[arg(long, value_name = "string")]
    progress: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pull: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "stringArray")]
    secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    shm_size: Option<u64>,
    /// Image identifier (format: "[registry/]repository[:tag]")
    #[arg(short, long, value_name = "list", value_parser = tag)]
    tag: Vec<Reference>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    target: Option<String>,
}

fn tag(text: &str) -> Result<Reference, String> {
    let reference = text
        .parse::<Reference>()
        .map_err(|error| error.to_string())?;
    if reference.digest.is_some() {
        return Err("invalid reference format: a name with a digest cannot be a tag".into());
    }
    Ok(reference.with_default_tag())
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        check_trust(self.disable_content_trust)?;
        let _ = (self.compress, self.force_rm, self.rm, self.load);
        let quiet = match self
            .progress
            .clone()
            .or_else(|| std::env::var("BUILDKIT_PROGRESS").ok())
            .as_deref()
        {
            _ if self.quiet => true,
            None | Some("" | "auto" | "plain") => false,
            Some("quiet") => true,
            Some(other) => {
                return Err(Failure::request(format!(
                    "--progress {other} is not supported"
                )));
            }
        };
        let iidfile = self.iidfile.clone();
        let request = self.request(context, &operands[0])?;
        let engine = context.engine()?;
        let built = if quiet {
            ketch_build::build(engine, request, &Silent)
        } else {
            ketch_build::build(engine, request, &Plain::new())
        };
        let built = built.map_err(failed)?;
        if let Some(path) = iidfile {
            std::fs::write(&path, built.image_id.to_string()).map_err(|source| Failure::File {
                action: "write",
                path,
                source,
            })?;
        }
        if quiet {
            output::print_line(&built.image_id.to_string())?;
        }
        Ok(Exit::SUCCESS)
    }
}

/// A build's report is its own text, with the frame of the Dockerfile.
fn failed(error: BuildError) -> Failure {
    Failure::Build {
        report: error.to_string(),
    }
}

impl Args {
    fn request(self, context: &Context, source: &str) -> Result<BuildRequest, Failure> {
        let (build_context, dockerfile) = sources(source, self.file.as_deref())?;
        let network = match self.network.as_str() {
            "" | "default" | "bridge" => StepNetwork::Default,
            "none" => StepNetwork::None,
            "host" => StepNetwork::Host,
            other => {
                return Err(Failure::request(format!(
                    "--network {other} is not supported by build"
                )));
            }
        };
        let platform = self
            .platform
            .filter(|text| !text.is_empty())
            .map(|text| text.parse::<Platform>())
            .transpose();
        Ok(BuildRequest {
            context: build_context,
            dockerfile,
            tags: self.tag,
            args: build_args(self.build_arg, &context.config()?.proxy_variables()),
            target: self.target.filter(|target| !target.is_empty()),
            no_cache: self.no_cache,
            pull: self.pull,
            labels: self.label.into_iter().collect(),
            network,
            platform: platform.map_err(|error| Failure::request(error.to_string()))?,
            extra_hosts: self.add_host,
            shm_size_bytes: self.shm_size,
            named_contexts: self
                .build_context
                .into_iter()
                .map(named_context)
                .collect::<Result<_, _>>()?,
            secrets: self
                .secret
                .iter()
                .map(|text| secret(text))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// `NAME=value`, or `NAME` with the value of our environment; one that is unset there is left out.
fn build_args(given: Vec<String>, proxies: &[String]) -> BTreeMap<String, String> {
    let split = |text: &str| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text)
            .ok()
            .map(|value| (text.to_owned(), value)),
    };
    proxies
        .iter()
        .chain(&given)
        .filter_map(|text| split(text))
        .collect()
}

/// `NAME=PATH` or `NAME=docker-image://REFERENCE`.
fn named_context((name, source): (String, String)) -> Result<(String, NamedContext), Failure> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        return Ok((name, NamedContext::Image(image.to_owned())));
    }
    if source.contains("://") || source.starts_with("target:") {
        return Err(Failure::request(format!(
            "--build-context {name}={source} is not supported"
        )));
    }
    Ok((name, NamedContext::Directory(PathBuf::from(source))))
}

/// The largest secret that is read.
const MAX_SECRET_BYTES: u64 = 500 * 1024;

/// `id=NAME[,src=FILE|env=VARIABLE]`; without a source, the variable NAME or else the file NAME.
fn secret(text: &str) -> Result<(String, Secret), Failure> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file")) => {}
            Some(("type", "env")) => variable = variable.or_else(|| id.clone()),
            _ => {
                return Err(Failure::request(format!(
                    "invalid field {field:?} of --secret"
                )));
            }
        }
    }
    let id = id.ok_or_else(|| Failure::request("--secret needs an id"))?;
    let outer = variable.as_deref().or(if file.is_none() {
        Some(id.as_str())
    } else {
        None
    });
    if let Some(value) = outer.and_then(|name| std::env::var(name).ok()) {
        return Ok((id, Secret(value.into_bytes())));
    }
    if let Some(name) = variable {
        return Err(Failure::request(format!(
            "secret {id}: {name} is not set in the environment"
        )));
    }
    let path = PathBuf::from(file.unwrap_or_else(|| id.clone()));
    let failure = |source| Failure::File {
        action: "open",
        path: path.clone(),
        source,
    };
    let mut content = Vec::new();
    std::fs::File::open(&path)
        .map_err(failure)?
        .take(MAX_SECRET_BYTES)
        .read_to_end(&mut content)
        .map_err(failure)?;
    Ok((id, Secret(content)))
}

/// Where the context and the Dockerfile come from. Only one of them can be standard input.
fn sources(source: &str, file: Option<&str>) -> Result<(BuildContext, DockerfileSource), Failure> {
    let stdin_text = || -> Result<String, Failure> {
        let mut text = String::new();
        io::stdin()
            .lock()
            .take(MAX_DOCKERFILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|source| Failure::Stream {
                stream: "standard input",
                source,
            })?;
        Ok(text)
    };
    let is_url = |text: &str| {
        ["http://", "https://", "git://", "git@"]
            .iter()
            .any(|start| text.starts_with(start))
    };
    match (source, file) {
        ("-", Some("-")) => Err(Failure::request(
            "invalid argument: can't use stdin for both build context and dockerfile",
        )),
        ("-", file) => archive_or_dockerfile(file),
        (url, _) if is_url(url) => Err(Failure::request(format!(
            "building from {url} is not supported: clone it first"
        ))),
        (directory, Some("-")) => Ok((
            directory_context(directory)?,
            DockerfileSource::Text(stdin_text()?),
        )),
        (directory, Some(file)) if !file.is_empty() => Ok((
            directory_context(directory)?,
            DockerfileSource::Path(PathBuf::from(file)),
        )),
        (directory, _) => Ok((directory_context(directory)?, DockerfileSource::Default)),
    }
}

/// The longest Dockerfile on standard input.
const MAX_DOCKERFILE_BYTES: u64 = 1 << 20;

/// `-`: an archive, or a Dockerfile without a context. Its first bytes tell which.
fn archive_or_dockerfile(file: Option<&str>) -> Result<(BuildContext, DockerfileSource), Failure> {
    let stream = |source| Failure::Stream {
        stream: "standard input",
        source,
    };
    let mut start = Vec::new();
    io::stdin()
        .lock()
        .take(512)
        .read_to_end(&mut start)
        .map_err(stream)?;
    let is_archive = start.starts_with(&[0x1f, 0x8b])
        || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || start.get(257..262) == Some(b"ustar");
    if is_archive {
        let dockerfile = match file {
            Some(file) if !file.is_empty() => DockerfileSource::Path(PathBuf::from(file)),
            _ => DockerfileSource::Default,
        };
        let reader = io::Cursor::new(start).chain(io::stdin());
        return Ok((BuildContext::Archive(Box::new(reader)), dockerfile));
    }
    io::stdin()
        .lock()
        .take(MAX_DOCKERFILE_BYTES)
        .read_to_end(&mut start)
        .map_err(stream)?;
    let text = String::from_utf8(start)
        .map_err(|_| Failure::request("the Dockerfile on standard input is not valid UTF-8"))?;
    Ok((BuildContext::Empty, DockerfileSource::Text(text)))
}

fn directory_context(text: &str) -> Result<BuildContext, Failure> {
    let path = Path::new(text);
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(BuildContext::Directory(path.to_owned())),
        Ok(_) => Err(Failure::usage(format!(
            "unable to prepare context: path {text:?} is not a directory"
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::usage(format!(
            "unable to prepare context: path {text:?} not found"
        ))),
        Err(error) => Err(Failure::usage(format!(
            "unable to prepare context: {text}: {error}"
        ))),
    }
}
