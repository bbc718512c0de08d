//! `run`.

use ketch_runtime::oci::{self, Id, Streams};

use super::create::Flags;
use super::failure::Failure;
use super::foreground::{self, Child};
use super::{Context, Outcome};

/// Create a container, run its program, and remove it at its end
#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    flags: Flags,
    /// Return when the program runs
    #[arg(short, long)]
    detach: bool,
    /// Do not remove the container at its end
    #[arg(long)]
    keep: bool,
    /// Do not become the parent of the container's orphans
    #[arg(long)]
    no_subreaper: bool,
    /// Id of the new container
    id: String,
}

impl Run {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let id = Id::new(&self.id)?;
        let prepared = self.flags.prepare()?;
        let request = self.flags.request(&prepared, context, &id);
        let streams = match self.detach {
            true => Streams::LetGo,
            false => Streams::Kept,
        };
        if !self.detach && !self.no_subreaper {
            foreground::become_subreaper()?;
        }
        let failed = |error| Failure::Verb {
            prefix: "runc run failed",
            error,
            status: 1,
        };
        let mut running = oci::run(request, streams).map_err(failed)?;
        running
            .warnings()
            .iter()
            .for_each(|warning| context.log.warn(warning));
        if self.detach {
            running.release();
            return Ok(0);
        }
        let console = running.take_console();
        foreground::wait(
            Child {
                pid: running.pid(),
                pidfd: running.pidfd(),
                kill: &|signal| running.kill(signal),
            },
            console,
        )?;
        let (exit, warnings) = running.finish(self.keep).map_err(failed)?;
        warnings
            .iter()
            .for_each(|warning| context.log.warn(warning));
        Ok(exit.code() as u8)
    }
}
