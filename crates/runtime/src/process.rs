//! A child: starting it, hearing of it, and its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use ketch_sys::clone::Child;
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, Signal, pidfd_getfd};

use crate::channel::{Channel, Message};
use crate::error::{Called, During, Error, Result};
use crate::notify::{self, NotifyAgent};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// As a shell tells it: the status, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// From a status of waitpid(2).
    pub(crate) fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

/// A process of a container that is a child of the caller. When it is dropped before its end was waited for, it is
/// killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    channel: Channel,
    console: Option<OwnedFd>,
    prepared: bool,
    wants_hooks: bool,
    status: Option<i32>,
    /// Whether it lives on when this value is dropped.
    released: bool,
    /// Who takes the listener of the filter, and the container's status that it is told.
    agent: Option<(NotifyAgent, &'static str)>,
    warnings: Vec<String>,
}

impl Process {
    pub(crate) fn new(child: Child, channel: Channel) -> Self {
        Self {
            agent: None,
            warnings: Vec::new(),
            child,
            channel,
            console: None,
            prepared: false,
            wants_hooks: false,
            status: None,
            released: false,
        }
    }

    /// One that is somebody else's child, spoken to over `channel`; it lives on when the value is dropped.
    pub(crate) fn of_another(child: Child, channel: Channel) -> Self {
        let mut process = Self::new(child, channel);
        process.released = true;
        process
    }

    /// Its number in the caller's pid namespace.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Its pidfd: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// The master of its terminal, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    pub(crate) fn set_agent(&mut self, agent: Option<NotifyAgent>, status: &'static str) {
        self.agent = agent.map(|agent| (agent, status));
    }

    pub(crate) fn set_warnings(&mut self, warnings: Vec<String>) {
        self.warnings = warnings;
    }

    /// What was asked for and is not to be had, one line each: capabilities.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    pub(crate) fn send(&mut self, message: &Message) -> Result<()> {
        match self.channel.send(message) {
            // It has ended: why is in what it said before, or in how it ended.
            Err(error) if error.errno == Errno::PIPE => self.hear_end(),
            other => other.during("speak to the container's first process"),
        }
    }

    /// Reads what it has said up to its end, which must come.
    pub(crate) fn hear_end(&mut self) -> Result<()> {
        while let Some(message) = self.receive()? {
            self.take(message)?;
        }
        Err(self.lost())
    }

    fn receive(&self) -> Result<Option<Message>> {
        self.channel
            .receive()
            .during("hear of the container's first process")
    }

    /// Takes note of a message; an error is the child's own.
    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Console(master) => self.console = Some(master),
            Message::Prepared => self.prepared = true,
            Message::Failed(report) => {
                let _ = self.wait();
                return Err(Error::Child(report));
            }
            Message::Listener(listener) => self.tell_agent(listener)?,
            Message::WantsHooks => self.wants_hooks = true,
            // Executing is for whoever starts it; the others are never the child's.
            Message::Executing
            | Message::Go
            | Message::Mapped
            | Message::Placed
            | Message::Told
            | Message::Detach
            | Message::HooksDone => {}
        }
        Ok(())
    }

    /// A copy of the descriptor that has this number in the process.
    fn fetch(&self, number: RawFd) -> Result<OwnedFd> {
        pidfd_getfd(&self.child.pidfd, number, PidfdGetfdFlags::empty())
            .called("pidfd_getfd")
            .during("take the system call listener")
    }

    /// Without the agent the program must not run.
    fn tell_agent(&mut self, listener: RawFd) -> Result<()> {
        let told = match &self.agent {
            Some((agent, status)) => self
                .fetch(listener)
                .and_then(|listener| agent.tell(self.child.pid, status, listener)),
            None => Err(notify::without_agent()),
        };
        if told.is_err() {
            let _ = self.kill(Signal::KILL.as_raw());
            let _ = self.wait();
            return told;
        }
        self.send(&Message::Told)
    }

    fn lost(&mut self) -> Error {
        let _ = self.wait();
        Error::ChildLost {
            status: self.status,
        }
    }

    pub(crate) fn wait_prepared(&mut self) -> Result<()> {
        if self.wait_for_hooks()? {
            let field = "hooks";
            return Err(Error::invalid(field, "nobody runs them"));
        }
        Ok(())
    }

    /// Waits until the child is prepared (false) or wants the hooks of the runtime's namespaces to be run (true).
    pub(crate) fn wait_for_hooks(&mut self) -> Result<bool> {
        while !self.prepared {
            match self.receive()? {
                Some(message) => self.take(message)?,
                None => return Err(self.lost()),
            }
            if std::mem::take(&mut self.wants_hooks) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets it live on by itself: it is not killed when this value is dropped. For one that was told not to end with
    /// its parent.
    pub fn release(mut self) {
        self.released = true;
    }

    /// Says go, and waits until execve has closed the child's end of the channel.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.send(&Message::Go)?;
        let mut executing = false;
        while let Some(message) = self.receive()? {
            executing |= matches!(message, Message::Executing);
            self.take(message)?;
        }
        if executing { Ok(()) } else { Err(self.lost()) }
    }

    /// Sends it a signal. One that has ended is no error.
    ///
    /// # Errors
    /// A number that is no signal; what pidfd_send_signal(2) says.
    pub fn kill(&self, signal: i32) -> Result<()> {
        match ketch_sys::process::send_signal(&self.child.pidfd, signal) {
            Err(error) if error.errno == Errno::SRCH => Ok(()),
            other => other.during("signal the process"),
        }
    }

    /// Reaps it if it has ended. Never blocks.
    ///
    /// # Errors
    /// `ECHILD` if someone else has reaped it.
    pub fn try_wait(&mut self) -> Result<Option<Exit>> {
        self.reap(false)
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if someone else has reaped it.
    pub fn wait(&mut self) -> Result<Exit> {
        match self.reap(true)? {
            Some(exit) => Ok(exit),
            None => {
                Err(ketch_sys::Error::new("waitpid", Errno::CHILD)).during("wait for the process")
            }
        }
    }

    fn reap(&mut self, block: bool) -> Result<Option<Exit>> {
        if self.status.is_none() {
            self.status = ketch_sys::process::wait_child(self.child.pid, block)
                .during("wait for the process")?;
        }
        Ok(self.status.map(Exit::from_wait_status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() && !self.released {
            // If it is gone or someone else's already there is nothing left to do.
            let _ = self.kill(Signal::KILL.as_raw());
            let _ = self.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        assert_eq!(Exit::from_wait_status(3 << 8), Exit::Code(3));
        assert_eq!(Exit::from_wait_status(9), Exit::Signal(9));
        assert_eq!(Exit::from_wait_status(0x80 | 11), Exit::Signal(11));
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Code(3).code(), 3);
    }
}
