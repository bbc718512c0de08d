//! `create`, and the flags that it shares with `run`.

use std::path::PathBuf;

use ketch_runtime::oci::{self, CreateRequest, Id};

use super::failure::Failure;
use super::{Context, Outcome, absolute};

/// Create a container; its program waits for `start`
#[derive(clap::Args)]
pub struct Create {
    #[command(flatten)]
    flags: Flags,
    /// Id of the new container
    id: String,
}

/// Flags of everything that makes a container.
#[derive(clap::Args)]
pub struct Flags {
    /// Directory with config.json
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    bundle: PathBuf,
    /// Socket that the terminal's other end is sent to
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// Socket that the first process' pidfd is sent to
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<PathBuf>,
    /// File that the first process' number is written to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Enter the root without pivot_root, for a root on an initramfs
    #[arg(long)]
    no_pivot: bool,
    /// Keep the session keyring of the caller
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass so many descriptors to the program besides the standard streams and those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

/// Absolute paths and numbers of a request.
pub struct Prepared {
    bundle: PathBuf,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    listen_fds: u32,
}

impl Flags {
    /// Makes paths absolute and reads the environment.
    pub fn prepare(&self) -> Result<Prepared, Failure> {
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        Ok(Prepared {
            bundle: absolute(&self.bundle)?,
            console_socket: path(&self.console_socket)?,
            pidfd_socket: path(&self.pidfd_socket)?,
            pid_file: path(&self.pid_file)?,
            listen_fds: listen_fds(),
        })
    }

    /// The request.
    pub fn request<'a>(
        &self,
        prepared: &'a Prepared,
        context: &'a Context,
        id: &'a Id,
    ) -> CreateRequest<'a> {
        CreateRequest {
            root: &context.root,
            id,
            bundle: &prepared.bundle,
            console_socket: prepared.console_socket.as_deref(),
            pidfd_socket: prepared.pidfd_socket.as_deref(),
            pid_file: prepared.pid_file.as_deref(),
            systemd: context.globals.systemd_cgroup,
            rootless: context.globals.ignores_cgroups(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds.saturating_add(prepared.listen_fds),
            listen_fds: prepared.listen_fds,
            resctrl: None,
        }
    }
}

/// How many sockets systemd or a caller like it handed over, sd_listen_fds(3).
pub fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

impl Create {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let id = Id::new(&self.id)?;
        let prepared = self.flags.prepare()?;
        let request = self.flags.request(&prepared, context, &id);
        let warnings = oci::create(request).map_err(|error| Failure::Verb {
            prefix: "runc create failed",
            error,
            status: 1,
        })?;
        warnings
            .iter()
            .for_each(|warning| context.log.warn(warning));
        Ok(0)
    }
}
