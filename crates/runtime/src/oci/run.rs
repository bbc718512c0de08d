//! `run`: create and start in one process, which may wait for the end.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::create::{CreateRequest, Made, Rest, Starter, Streams, make};
use super::delete::destroy;
use super::error::Result;
use super::start::poststart;
use crate::parent::Container;
use crate::process::Exit;

/// A container that runs as a child of the caller.
#[derive(Debug)]
pub struct Running {
    container: Container,
    console: Option<OwnedFd>,
    rest: Rest,
}

/// Makes a container and starts it.
///
/// # Errors
/// Those of [`super::create`] and [`super::start`]; nothing is left then, and poststop hooks have run.
pub fn run(request: CreateRequest<'_>, streams: Streams) -> Result<Running> {
    let Made {
        mut container,
        console,
        mut rest,
    } = make(request, streams, Starter::Maker)?;
    rest.warnings.extend_from_slice(container.warnings());
    if let Err(error) = container.start() {
        drop(container);
        rest.undo();
        return Err(error.into());
    }
    rest.warnings.extend(poststart(&rest.record));
    Ok(Running {
        container,
        console,
        rest,
    })
}

impl Running {
    /// What was asked for and is not to be had, and what hooks did wrong.
    pub fn warnings(&self) -> &[String] {
        &self.rest.warnings
    }

    /// The other end of its terminal, once, if the caller keeps it.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Readable when its first process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.container.pidfd()
    }

    /// Its first process' number.
    pub fn pid(&self) -> u32 {
        self.container.pid()
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// A number that is no signal.
    pub fn kill(&self, signal: i32) -> Result<()> {
        Ok(self.container.kill(signal)?)
    }

    /// Lets it live on without the caller.
    pub fn release(self) {
        self.container.release();
    }

    /// Waits for the end of its first process, and removes the container unless it is to be kept. Returns how it
    /// ended and what the poststop hooks did wrong.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(mut self, keep: bool) -> Result<(Exit, Vec<String>)> {
        let exit = self.container.wait()?;
        let warnings = if keep {
            Vec::new()
        } else {
            destroy(&self.rest.entry, &self.rest.record)?
        };
        Ok((exit, warnings))
    }
}
