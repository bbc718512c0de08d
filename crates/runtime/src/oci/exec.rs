//! `exec`: another process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_spec::runtime::{Process as ProcessSpec, Spec};

use super::console;
use super::create::Streams;
use super::error::{Error, Result};
use super::own_user;
use super::record::Record;
use super::state::status;
use super::store::{Entry, Id, Root};
use crate::cgroup::{Cgroup, SubGroup};
use crate::exec::ExecOptions;
use crate::hooks::Status;
use crate::notify::NotifyAgent;
use crate::plan::Lifetime;
use crate::process::{Exit, Process};
use crate::resctrl::Claim;
use crate::seccomp;
use crate::stdio::{Stdio, WindowSize};

/// What `exec` runs.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The program, from [`ExecutedIn::base`] or a file.
    pub process: ProcessSpec,
    /// A listening socket that the other end of the terminal is sent to.
    pub console_socket: Option<&'a Path>,
    /// A listening socket that the process' pidfd is sent to.
    pub pidfd_socket: Option<&'a Path>,
    /// Written with the process' number.
    pub pid_file: Option<&'a Path>,
    /// Cgroups below the container's that the process enters instead, `[CONTROLLER[,CONTROLLER...]:]PATH`.
    pub cgroups: &'a [String],
    /// Whether a paused container will do; the program runs when it goes on.
    pub ignore_paused: bool,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
}

/// A container that something is executed in.
#[derive(Debug)]
pub struct ExecutedIn {
    entry: Entry,
    record: Record,
    config: Spec,
}

/// A process that runs as a child of the caller.
#[derive(Debug)]
pub struct Executed {
    process: Process,
    console: Option<OwnedFd>,
}

impl ExecutedIn {
    /// The container `id`.
    ///
    /// # Errors
    /// One that is not there.
    pub fn open(root: &Root, id: &Id) -> Result<Self> {
        let entry = root.entry(id)?;
        let record = entry.committed()?;
        let asked = entry.asked()?;
        let config = asked.ok_or_else(|| Error::NotFound(id.to_string()))?.config;
        Ok(Self {
            entry,
            record,
            config,
        })
    }

    /// The container's own process: what another one is like where nothing else was asked for.
    pub fn base(&self) -> ProcessSpec {
        self.config.process.clone().unwrap_or_default()
    }

    /// Runs a process in it.
    ///
    /// # Errors
    /// A container that does not run; why the program cannot be executed.
    pub fn exec(self, request: ExecRequest<'_>, streams: Streams) -> Result<Executed> {
        let process = &request.process;
        console::check(process.terminal, request.console_socket.is_some(), streams)?;
        match status(&self.entry, &self.record)? {
            Status::Stopped => return Err(Error::CannotExec(Status::Stopped)),
            Status::Paused if !request.ignore_paused => {
                return Err(Error::CannotExec(Status::Paused));
            }
            _ => {}
        }
        let Some(target) = self.record.init.open()? else {
            return Err(Error::CannotExec(Status::Stopped));
        };
        own_user::enter_of(target.as_fd(), &self.config)?;
        let filter = self
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.seccomp.as_ref());
        let filter = filter
            .map(seccomp::compile)
            .transpose()
            .map_err(crate::Error::from)?;
        let cgroup = self.cgroup(request.cgroups)?;
        let stdio = if process.terminal {
            Stdio::Terminal {
                size: process.console_size.map(|size| WindowSize {
                    rows: size.height.min(u16::MAX.into()) as u16,
                    columns: size.width.min(u16::MAX.into()) as u16,
                }),
            }
        } else {
            Stdio::Inherit
        };
        let class = self.record.resctrl.as_ref().map(Claim::group);
        let mut executed = crate::exec(ExecOptions {
            resctrl: class.as_ref(),
            target: target.as_fd(),
            process,
            cgroup: cgroup.as_ref(),
            stdio,
            preserve_fds: request.preserve_fds,
            seccomp: filter.as_ref(),
            agent: NotifyAgent::new(&self.config, &self.record.id, &self.record.bundle),
            lifetime: Lifetime::Own,
        })?;
        let console = match (executed.take_console(), request.console_socket) {
            (Some(master), Some(socket)) => {
                console::send_terminal(socket, &master)?;
                None
            }
            (console, _) => console,
        };
        if let Some(socket) = request.pidfd_socket {
            console::send_pidfd(socket, executed.pidfd())?;
        }
        if let Some(path) = request.pid_file {
            console::write_pid_file(path, executed.pid())?;
        }
        Ok(Executed {
            process: executed,
            console,
        })
    }

    fn cgroup(&self, below: &[String]) -> Result<Option<Cgroup>> {
        if below.is_empty() {
            return self.record.cgroup.open_if_any();
        }
        let places: Result<Vec<SubGroup>, _> =
            below.iter().map(|text| SubGroup::parse(text)).collect();
        Ok(Some(self.record.cgroup.open()?.below(&places?)?))
    }
}

impl Executed {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What was asked for and is not to be had.
    pub fn warnings(&self) -> &[String] {
        self.process.warnings()
    }

    /// Readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// The other end of its terminal, once, if nobody else has it.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// A number that is no signal.
    pub fn kill(&self, signal: i32) -> Result<()> {
        Ok(self.process.kill(signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(mut self) -> Result<Exit> {
        Ok(self.process.wait()?)
    }

    /// Lets it live on without the caller.
    pub fn release(self) {
        self.process.release();
    }
}
