//! `ketch save`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ketch_engine::Engine;
use ketch_engine::image::{self, Format};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    arity: Arity::AtLeast(1),
    refused: &[Refused::value("platform")],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        match &self.output {
            Some(path) => to_file(context.engine()?, &operands, path)?,
            None if rustix::termios::isatty(io::stdout()) => {
                return Err(Failure::usage(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            None => {
                let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
                image::save(context.engine()?, &operands, &mut out, Format::Docker)?;
                out.flush().map_err(Failure::stdout)?;
            }
        }
        Ok(Exit::SUCCESS)
    }
}

/// Writes beside the file and renames: what is there is whole.
fn to_file(engine: &Engine, images: &[String], path: &Path) -> Result<(), Failure> {
    let failure = |action, source| Failure::File {
        action,
        path: path.to_owned(),
        source,
    };
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        // A pipe or a device is written as it is.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|source| failure("open", source))?;
        image::save(engine, images, &mut file, Format::Docker)?;
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".ketch-{}", std::process::id()));
    let aside = path.with_file_name(name);
    let file = std::fs::File::create(&aside).map_err(|source| failure("create", source))?;
    let mut out = io::BufWriter::with_capacity(1 << 16, file);
    let saved = image::save(engine, images, &mut out, Format::Docker)
        .map_err(Failure::from)
        .and_then(|()| out.flush().map_err(|source| failure("write", source)))
        .and_then(|()| std::fs::rename(&aside, path).map_err(|source| failure("rename", source)));
    if saved.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    saved
}
