//! An attached `up`: output of all services, and what happens when containers end or the user has had enough.
//!
//! One thread brings the project up, one waits for signals, one a container follows its output; what they have to tell
//! arrives in one channel, and all decisions are made where it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::Scope;

use jiff::Timestamp;
use ketch_compose::{
    Lifecycle, Project, UpOptions, attached_name, container_name, observe_containers,
    plan_lifecycle,
};
use ketch_engine::container::{self, LogOptions};
use ketch_sys::poll::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};

use crate::command::Outcome;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, report};

use super::follow::{Look, Printer};
use super::logs::follow_one;
use super::observed::{carry_out, options};
use super::progress::Progress;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// When the session ends by itself, and with which exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// When all containers have ended: 0.
    All,
    /// When one has ended: its own.
    First,
    /// When one has failed: its own.
    FirstFailure,
    /// When one has ended: that of this service.
    From(String),
}

/// What there is to know.
pub struct Session<'a> {
    /// Surroundings.
    pub context: &'a Context,
    /// The project.
    pub project: &'a Project,
    /// How it comes up.
    pub up: &'a UpOptions,
    /// Its selected services.
    pub services: Vec<String>,
    /// Those whose output is shown.
    pub shown: BTreeSet<String>,
    /// How it ends.
    pub ending: Ending,
    /// No colours.
    pub no_color: bool,
    /// No names in front of lines.
    pub no_log_prefix: bool,
    /// Times in front of lines.
    pub timestamps: bool,
}

/// What the threads tell.
enum Event {
    /// This container runs.
    Running(String),
    /// The project is up, or it failed.
    Up(Result<(), Failure>),
    /// A container has ended with this code.
    Exited { name: String, code: i32 },
    /// Its output cannot be shown.
    Unread(Failure),
    /// The user, or the system, wants us to end.
    Signal,
    /// All containers were stopped, or that failed.
    Stopped(Result<(), Failure>),
}

impl Session<'_> {
    /// Brings the project up and stays with it.
    ///
    /// # Errors
    /// Those of `bring_up`; our own streams.
    pub fn run(
        &self,
        progress: Progress<'_>,
        bring_up: impl FnOnce(&Progress<'_>) -> Result<(), Failure> + Send,
    ) -> Outcome {
        let (sender, receiver) = mpsc::channel();
        catch_signals(sender.clone())?;
        // the engine is opened here, once, for all threads
        self.context.engine()?;
        let names = self.names();
        let is_terminal = rustix::termios::isatty(std::io::stdout());
        let shown = |name: &&String| self.shown.contains(&names[*name]);
        let width = names.keys().filter(shown).map(|name| self.bare(name).len());
        let printer = Printer::new(Look {
            width: width.max().unwrap_or(0),
            prefix: !self.no_log_prefix,
            colours: !self.no_color && self.context.compose().colours(is_terminal)?,
            timestamps: self.timestamps,
        });
        let events = sender.clone();
        let listener = move |subject: &str, status: &str| {
            let name = subject.strip_prefix("Container ").map(ToOwned::to_owned);
            if let (Some(name), "Started" | "Running") = (name, status) {
                // a receiver that is gone wants to know nothing
                let _ = events.send(Event::Running(name));
            }
        };
        let progress = progress.listened(&listener);
        std::thread::scope(|scope| {
            let up = sender.clone();
            let told = &progress;
            scope.spawn(move || {
                let _ = up.send(Event::Up(bring_up(told)));
            });
            let mut run = Run {
                session: self,
                scope,
                sender,
                printer: &printer,
                progress: &progress,
                names: &names,
                since: Timestamp::now(),
                living: BTreeSet::new(),
                codes: Vec::new(),
                is_up: false,
                announced: false,
                signals: 0,
                aborted: false,
                stopping: 0,
                failure: None,
            };
            run.events(&receiver)
        })
    }

    /// Names of all containers that there will be, with their services.
    fn names(&self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for service in &self.services {
            let service = &self.project.services[service];
            let scale = self.up.scale.get(&service.name).copied();
            for number in 1..=scale.unwrap_or(service.scale) {
                let name = container_name(self.project, service, number);
                names.insert(name, service.name.clone());
            }
        }
        names
    }

    fn bare(&self, name: &str) -> String {
        attached_name(&self.project.name, name)
    }
}

struct Run<'scope, 'env> {
    session: &'env Session<'env>,
    scope: &'scope Scope<'scope, 'env>,
    sender: Sender<Event>,
    printer: &'env Printer,
    progress: &'env Progress<'env>,
    names: &'env BTreeMap<String, String>,
    since: Timestamp,
    /// Containers that are followed.
    living: BTreeSet<String>,
    /// Services and exit codes of those that have ended, in order.
    codes: Vec<(String, i32)>,
    is_up: bool,
    announced: bool,
    signals: u32,
    /// A container's end was to end all.
    aborted: bool,
    /// Stops under way.
    stopping: u32,
    failure: Option<Failure>,
}

impl<'scope, 'env> Run<'scope, 'env> {
    fn events(&mut self, receiver: &Receiver<Event>) -> Outcome {
        // every thread that lives has a sender: the channel does not end before we do
        while let Ok(event) = receiver.recv() {
            match event {
                Event::Running(name) => self.follow(name)?,
                Event::Up(result) => {
                    self.is_up = true;
                    if let Err(failure) = result
                        && self.signals == 0
                        && !self.aborted
                    {
                        self.failure = Some(failure);
                    }
                }
                Event::Exited { name, code } => self.exited(&name, code)?,
                Event::Unread(failure) if failure.is_broken_pipe() => {
                    self.failure.get_or_insert(failure);
                    self.stop(Lifecycle::Stop {
                        timeout_s: self.session.up.timeout_s,
                    });
                }
                Event::Unread(failure) => report::item(&failure, false),
                Event::Signal => self.signalled(),
                Event::Stopped(result) => {
                    self.stopping -= 1;
                    if let Err(failure) = result {
                        self.failure.get_or_insert(failure);
                    }
                }
            }
            let failed = self.failure.is_some() && self.is_up && self.stopping == 0;
            if failed || self.is_up && self.living.is_empty() && self.stopping == 0 {
                return self.finish();
            }
        }
        self.finish()
    }

    fn finish(&mut self) -> Outcome {
        if let Some(failure) = self.failure.take() {
            if !self.living.is_empty() {
                // their followers would wait for containers that go on: the failure is told, and this is the end
                let debug = self.session.context.options().debug;
                let exit = failure.exit();
                report::item(&failure, debug);
                std::process::exit(i32::from(exit.0));
            }
            return Err(failure);
        }
        if self.signals > 0 {
            return Ok(Exit(130));
        }
        Ok(match &self.session.ending {
            Ending::All => Exit::SUCCESS,
            Ending::First => self.first(|_| true),
            Ending::FirstFailure => self.first(|code| code != 0),
            Ending::From(wanted) => {
                let code = self.codes.iter().find(|(service, _)| service == wanted);
                Exit::from_code(code.map_or(0, |(_, code)| *code))
            }
        })
    }

    fn first(&self, wanted: impl Fn(i32) -> bool) -> Exit {
        let found = self.codes.iter().find(|(_, code)| wanted(*code));
        Exit::from_code(found.map_or(0, |(_, code)| *code))
    }

    /// Shows the output of a container, and tells its end.
    fn follow(&mut self, name: String) -> Result<(), Failure> {
        let Some(service) = self.names.get(&name) else {
            return Ok(());
        };
        if !self.announced {
            self.announced = true;
            self.progress.settle();
            let shown = self
                .names
                .iter()
                .filter(|(_, own)| self.session.shown.contains(*own));
            let shown: Vec<String> = shown.map(|(name, _)| self.session.bare(name)).collect();
            self.printer
                .note(&format!("Attaching to {}", shown.join(", ")))?;
        }
        if !self.living.insert(name.clone()) {
            return Ok(());
        }
        let index = self.names.keys().position(|own| *own == name).unwrap_or(0);
        let is_shown = self.session.shown.contains(service);
        let options = LogOptions {
            follow: true,
            since: Some(self.since),
            ..LogOptions::default()
        };
        let (engine, printer) = (self.session.context.engine()?, self.printer);
        let (sender, bare) = (self.sender.clone(), self.session.bare(&name));
        self.scope.spawn(move || {
            if is_shown
                && let Err(failure) =
                    follow_one(engine, &name, options, printer.source(&bare, index))
            {
                let _ = sender.send(Event::Unread(failure));
            }
            let ended = container::wait(engine, &name, container::WaitCondition::NotRunning);
            let code = ended.map_or(0, |exit| exit.code);
            let _ = sender.send(Event::Exited { name, code });
        });
        Ok(())
    }

    fn exited(&mut self, name: &str, code: i32) -> Result<(), Failure> {
        self.living.remove(name);
        let service = self.names.get(name).cloned().unwrap_or_default();
        if self.session.shown.contains(&service) && !self.printer.is_gone() {
            let bare = self.session.bare(name);
            self.printer
                .note(&format!("{bare} exited with code {code}"))?;
        }
        self.codes.push((service, code));
        let ends = match self.session.ending {
            Ending::All => false,
            Ending::First | Ending::From(_) => true,
            Ending::FirstFailure => code != 0,
        };
        if ends && !self.aborted && self.signals == 0 {
            self.aborted = true;
            output::warn("Aborting on container exit...");
            self.progress.cancel();
            self.stop(Lifecycle::Stop {
                timeout_s: self.session.up.timeout_s,
            });
        }
        Ok(())
    }

    /// The first time stops, the second kills.
    fn signalled(&mut self) {
        self.signals += 1;
        self.progress.cancel();
        self.progress.settle();
        match self.signals {
            1 => {
                output::warn("Gracefully Stopping... press Ctrl+C again to force");
                self.stop(Lifecycle::Stop {
                    timeout_s: self.session.up.timeout_s,
                });
            }
            2 => self.stop(Lifecycle::Kill { signal: SIGKILL }),
            _ => {}
        }
    }

    fn stop(&mut self, what: Lifecycle) {
        self.stopping += 1;
        let (session, sender) = (self.session, self.sender.clone());
        self.scope.spawn(move || {
            let _ = sender.send(Event::Stopped(session.change(what)));
        });
    }
}

impl Session<'_> {
    fn change(&self, what: Lifecycle) -> Result<(), Failure> {
        let observed = observe_containers(self.context.engine()?, &self.project.name)?;
        let plan = plan_lifecycle(self.project, &observed, &self.services, what);
        let progress = Progress::new(self.context)?;
        let options = options(self.context);
        carry_out(self.context, self.project, &plan, &options, &progress)
    }
}

/// Has signals told, from a thread that ends with the program. They are blocked in this thread, and so in all that it
/// starts.
fn catch_signals(sender: Sender<Event>) -> Result<(), Failure> {
    let failed = |error: ketch_sys::Error| Failure::usage(format!("cannot catch signals: {error}"));
    let signals = SignalFd::new(&[SIGINT, SIGTERM]).map_err(failed)?;
    std::thread::spawn(move || {
        loop {
            match signals.read() {
                Ok(Some(_)) if sender.send(Event::Signal).is_err() => return,
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) => return,
            }
            let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
        }
    });
    Ok(())
}
