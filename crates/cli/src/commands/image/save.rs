//! `ketch save`.

use std::path::PathBuf;

use ketch_engine::image::{self, Format, SaveOptions};

use crate::archive_progress::{ArchiveProgress, Work};
use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output_file, platforms};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    details: "Formats: 'docker-archive' is what 'docker save' writes, which is also an OCI image layout;\n'oci-archive' is a tar archive of an OCI image layout only; 'oci-dir' is such a layout in\na directory (-o names it), to which images are added if it is there.",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format: 'docker-archive', 'oci-archive' or 'oci-dir'
    #[arg(long, value_name = "string", default_value = "docker-archive")]
    format: String,
    /// Write to a file or, with '--format oci-dir', a directory, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only the given platforms ('os[/arch[/variant]]')
    #[arg(long, value_name = "strings")]
    platform: Vec<String>,
    /// Suppress the progress
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let platforms = platforms::several(&self.platform)?;
        let format = match self.format.as_str() {
            "docker-archive" => Some(Format::Docker),
            "oci-archive" => Some(Format::Oci),
            "oci-dir" => None,
            other => {
                return Err(Failure::usage(format!(
                    "unknown format {other:?}: must be one of \"docker-archive\", \"oci-archive\", \"oci-dir\""
                )));
            }
        };
        let progress = ArchiveProgress::new(Work::Save, self.quiet);
        let saved = match (format, self.output) {
            (None, None) => Err(Failure::usage("--format oci-dir needs a directory: use -o")),
            (None, Some(path)) => {
                let engine = context.engine()?;
                image::save_directory(engine, &operands, &path, &platforms, &progress)
                    .map_err(Failure::from)
            }
            (Some(format), output) => {
                let options = SaveOptions { format, platforms };
                let write = |out: &mut dyn std::io::Write| {
                    image::save(context.engine()?, &operands, out, &options, &progress)
                        .map_err(Failure::from)
                };
                match output {
                    Some(path) => output_file::write(&path, "failed to save image", write),
                    None => output_file::write_stdout("save", write),
                }
            }
        };
        progress.finish();
        saved.map(|()| Exit::SUCCESS)
    }
}
