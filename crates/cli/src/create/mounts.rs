//! Volumes, binds and tmpfs.

use ketch_engine::container::request::CreateRequest;
use ketch_spec::mount;

use super::Surroundings;
use crate::failure::Failure;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    volume: Vec<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount")]
    mount: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    tmpfs: Vec<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    volumes_from: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string")]
    volume_driver: Option<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
}

impl Flags {
    /// Puts the flags into the request.
    pub fn apply(
        self,
        request: &mut CreateRequest,
        around: &Surroundings<'_>,
    ) -> Result<(), Failure> {
        if let Some(driver) = self
            .volume_driver
            .filter(|driver| !matches!(driver.as_str(), "" | "local"))
        {
            return Err(Failure::request(format!(
                "--volume-driver {driver} is not supported"
            )));
        }
        let wrong = |error: mount::MountError| Failure::request(error.to_string());
        for text in &self.volume {
            request
                .mounts
                .push(mount::parse_volume(text, around.cwd).map_err(wrong)?);
        }
        for text in &self.mount {
            request
                .mounts
                .push(mount::parse_mount(text, around.cwd).map_err(|error| {
                    Failure::Flag(crate::failure::FlagError::Value {
                        value: text.clone(),
                        flag: "--mount".into(),
                        reason: error.to_string(),
                    })
                })?);
        }
        for text in &self.tmpfs {
            request
                .mounts
                .push(mount::parse_tmpfs(text).map_err(wrong)?);
        }
        for (index, mount) in request.mounts.iter().enumerate() {
            if request.mounts[..index]
                .iter()
                .any(|other| other.target == mount.target)
            {
                return Err(Failure::request(format!(
                    "Duplicate mount point: {}",
                    mount.target
                )));
            }
        }
        request.volumes_from = self.volumes_from;
        request.security.read_only = self.read_only;
        Ok(())
    }
}
