//! `spec`.

use std::io::Write;
use std::path::PathBuf;

use super::Outcome;
use super::failure::Failure;

/// Write a config.json to begin with
#[derive(clap::Args)]
pub struct Spec {
    /// Directory to write it to
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    bundle: PathBuf,
    /// For a container of the calling user
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    /// Does it.
    pub fn run(self) -> Outcome {
        let ids = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let spec = ketch_runtime::oci::default_spec(self.rootless.then_some(ids));
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&spec, &mut serializer).map_err(Failure::Json)?;
        text.push(b'\n');
        let path = self.bundle.join("config.json");
        std::fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(&text))
            .map_err(|source| Failure::Path { path, source })?;
        Ok(0)
    }
}
