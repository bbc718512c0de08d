//! `ketch create`, and what `run` shares with it.

use std::path::Path;

use ketch_engine::Engine;
use ketch_engine::container::{self, CreateRequest, Created, PullPolicy};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::create::{CreateFlags, Surroundings};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::pull_progress::Implicit;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container create", "create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    arity: Arity::AtLeast(1),
    interspersed: false,
    short_help: false,
    refused: REFUSED,
    ..Command::of::<Args>()
};

/// Docker's flags of `run` and `create` that are not here.
pub const REFUSED: &[Refused] = &[
    Refused::value("annotation"),
    Refused::value("blkio-weight"),
    Refused::value("blkio-weight-device"),
    Refused::value("cgroup-parent"),
    Refused::value("cpu-count"),
    Refused::value("cpu-percent"),
    Refused::value("cpu-rt-period"),
    Refused::value("cpu-rt-runtime"),
    Refused::value("device-cgroup-rule"),
    Refused::value("device-read-bps"),
    Refused::value("device-read-iops"),
    Refused::value("device-write-bps"),
    Refused::value("device-write-iops"),
    Refused::value("gpus"),
    Refused::value("io-maxbandwidth"),
    Refused::value("io-maxiops"),
    Refused::value("isolation"),
    Refused::value("kernel-memory"),
    Refused::value("link"),
    Refused::value("link-local-ip"),
    Refused::value("memory-swappiness"),
    Refused::value("runtime"),
    Refused::value("storage-opt"),
    Refused::boolean("use-api-socket"),
];

#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    create: CreateFlags,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let (quiet, cidfile) = (self.create.quiet, self.create.cidfile.clone());
        let cidfile = cidfile.as_deref().map(CidFile::claim).transpose()?;
        let request = request(context, self.create, operands)?;
        let created = create(context.engine()?, request, quiet)?;
        if let Some(file) = cidfile {
            file.write(&created)?;
        }
        output::print_line(created.id.as_str())?;
        Ok(Exit::SUCCESS)
    }
}

/// The engine's request for the flags and operands.
pub fn request(
    context: &Context,
    flags: CreateFlags,
    operands: Vec<String>,
) -> Result<CreateRequest, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|source| Failure::File {
            action: "getcwd",
            path: ".".into(),
            source,
        })?
        .to_string_lossy()
        .into_owned();
    flags.request(
        operands,
        &Surroundings {
            cwd: &cwd,
            variable: &|name| std::env::var(name).ok(),
            resolve: &|name| Ok(container::resolve(context.engine()?, name)?),
            proxies: &context.config()?.proxy_variables(),
        },
    )
}

/// Creates the container, pulling its image if need be, and tells the warnings.
pub fn create(
    engine: &Engine,
    request: CreateRequest,
    quiet: bool,
) -> Result<Created, ketch_engine::Error> {
    let announce = request.pull == PullPolicy::Missing;
    let progress = Implicit::new(&request.image, quiet, announce);
    let created = container::create(engine, request, &progress)?;
    for warning in &created.warnings {
        output::warn(&format!("WARNING: {warning}"));
    }
    Ok(created)
}

/// `--cidfile`: must not be there before, and goes again if no container comes to be.
pub struct CidFile<'a> {
    path: &'a Path,
    written: bool,
}

impl<'a> CidFile<'a> {
    /// Checks and makes the file.
    pub fn claim(path: &'a Path) -> Result<Self, Failure> {
        match std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
        {
            Ok(_) => Ok(Self {
                path,
                written: false,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::request(format!(
                    "container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                )))
            }
            Err(error) => Err(Failure::request(format!(
                "failed to create the container ID file {}: {error}",
                path.display()
            ))),
        }
    }

    /// Writes the id.
    pub fn write(mut self, created: &Created) -> Result<(), Failure> {
        std::fs::write(self.path, created.id.as_str()).map_err(|source| Failure::File {
            action: "write",
            path: self.path.to_owned(),
            source,
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
