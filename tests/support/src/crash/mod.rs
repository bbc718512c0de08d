//! Ends of commands that nobody chose: a kill, or a power cut, just before the N-th thing that a command does to the
//! state on disk.
//!
//! [`Cutter`] follows a command and its children by ptrace(2) and counts. A kill leaves the kernel's caches; a power cut
//! ([`How::Power`], in a world made by [`World::on_disk`]) leaves what was on the disk: the file system is told to stop
//! (the shutdown ioctl of ext4, as its own tests do it), its caches are lost, everything is killed, and
//! [`World::power_on`] mounts the disk again, with an empty run root and another boot id.

mod machine;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::World;

pub(crate) use machine::Machine;

/// What `cutter.c` ends with when it has cut.
const CUT_STATUS: i32 = 99;

/// What happens at the chosen moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The command and all that came of it are killed.
    All,
    /// The command is killed; what it started goes on.
    Alone,
    /// The disk is as it is, and everything is killed. [`World::power_on`] has to follow.
    Power,
    /// The whole machine is reset, the test with it: for virtual ones.
    Machine,
}

/// The program that cuts.
#[derive(Debug, Clone)]
pub struct Cutter {
    program: PathBuf,
}

/// How a command ended under a [`Cutter`].
#[derive(Debug)]
pub struct Cut {
    /// Whether the moment came; without, the command went to its end before.
    pub happened: bool,
    /// What the command printed, and its status if it went to its end.
    pub output: Output,
    /// What it did to the state up to then, one line each: the system call and the path.
    pub steps: Vec<String>,
}

impl Cutter {
    /// Builds the program in the world's scratch directory, or takes the one that `KETCH_CUTTER` names.
    ///
    /// # Panics
    /// Where there is no C compiler.
    pub fn new(world: &World) -> Self {
        if let Some(program) = std::env::var_os("KETCH_CUTTER") {
            return Self {
                program: program.into(),
            };
        }
        let source = world.file("cutter.c", include_str!("cutter.c"));
        let program = world.path().join("cutter");
        let built = Command::new("cc")
            .args(["-Wall", "-O1", "-o"])
            .args([&program, &source])
            .status()
            .expect("cc");
        assert!(built.success(), "the cutter does not build");
        Self { program }
    }

    /// Runs `ketch` with the words of `line` and ends it just before its step `at`, counted from 1; 0 is never.
    pub fn run(&self, world: &World, line: &str, at: usize, how: How) -> Cut {
        let log = world.path().join("steps");
        let mut words: Vec<OsString> = vec![at.to_string().into()];
        words.push(how.word().into());
        words.extend([world.path().into(), log.clone().into()]);
        let inner = world.command(crate::world::words(line));
        let (program, arguments) = (self.program.as_os_str(), words);
        let output = followed(&inner, program, &arguments)
            .stdin(Stdio::null())
            .output()
            .expect("run the cutter");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let happened = output.status.code() == Some(CUT_STATUS);
        let mut steps = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("0 ") {
                // A machine without power has no control groups; ours still has.
                Some(group) if how == How::Power => remove_group(group),
                Some(_) => {}
                None => steps.extend(line.split_once(' ').map(|(_, step)| step.to_owned())),
            }
        }
        Cut {
            happened,
            output,
            steps,
        }
    }
}

impl How {
    fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Alone => "alone",
            Self::Power => "power",
            Self::Machine => "machine",
        }
    }
}

impl Cut {
    /// Everything, for failure messages.
    pub fn describe(&self) -> String {
        let tail = self.steps.len().saturating_sub(4);
        format!(
            "{}; {} steps, the last ones:\n  {}\nstdout: {}\nstderr: {}",
            self.output.status,
            self.steps.len(),
            self.steps[tail..].join("\n  "),
            String::from_utf8_lossy(&self.output.stdout),
            String::from_utf8_lossy(&self.output.stderr),
        )
    }
}

/// `command`, which enters a world and then executes the program under test, with the cutter in between.
fn followed(command: &Command, cutter: &std::ffi::OsStr, words: &[OsString]) -> Command {
    let tested = crate::program();
    let mut between = Command::new(command.get_program());
    for argument in command.get_args() {
        if argument == tested.as_os_str() {
            between.arg(cutter).args(words);
        }
        between.arg(argument);
    }
    between.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            between.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        between.current_dir(directory);
    }
    between
}

fn remove_group(step: &str) {
    let Some((_, path)) = step.split_once(' ') else {
        return;
    };
    // One that has others in it is made of parts that others use.
    if Path::new(path)
        .components()
        .any(|part| part.as_os_str() == "ketch")
    {
        let _ = std::fs::remove_dir(path);
    }
}
