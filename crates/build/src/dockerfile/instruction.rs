//! Instructions, understood. Values that may hold variables stay as words until a stage is planned.

use std::collections::BTreeMap;

use ketch_spec::image::HealthCheck;

use super::heredoc::Heredoc;
use super::node::Word;
use crate::error::Position;
use crate::request::StepNetwork;

/// A whole Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct Dockerfile {
    /// Backslash or backtick.
    pub escape: char,
    /// ARG before the first FROM.
    pub global_args: Vec<Declaration>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// Things that are allowed but probably not meant: line and text.
    pub warnings: Vec<(usize, String)>,
}

/// FROM and what follows it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// What it is built on, variables included.
    pub base: Word,
    /// `--platform=`.
    pub platform: Option<Word>,
    /// The instructions after FROM.
    pub commands: Vec<Command>,
    /// Where FROM stands.
    pub place: Place,
}

/// Where an instruction stands, and its text.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Where it begins.
    pub at: Position,
    /// First and last line.
    pub lines: (usize, usize),
    /// The logical line.
    pub text: String,
}

/// An instruction of a stage.
#[derive(Debug, Clone)]
pub struct Command {
    /// What it is.
    pub instruction: Instruction,
    /// Where it stands.
    pub place: Place,
}

/// What an instruction is.
#[derive(Debug, Clone)]
pub enum Instruction {
    /// ADD and COPY.
    Copy(Copy),
    /// ARG.
    Arg(Vec<Declaration>),
    /// CMD.
    Cmd(CommandLine),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV.
    Env(Vec<(Word, Word)>),
    /// EXPOSE.
    Expose(Vec<Word>),
    /// HEALTHCHECK.
    Healthcheck(HealthCheck),
    /// LABEL.
    Label(Vec<(Word, Word)>),
    /// MAINTAINER.
    Maintainer(String),
    /// ONBUILD: the trigger's text, heredocs included.
    Onbuild(String),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(Word),
    /// USER.
    User(Word),
    /// VOLUME.
    Volume(Vec<Word>),
    /// WORKDIR.
    Workdir(Word),
}

/// One name of an ARG.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The name.
    pub name: Word,
    /// The default, variables included.
    pub default: Option<Word>,
}

/// A command in shell or exec form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// One text in shell form, the arguments in exec form.
    pub words: Vec<String>,
    /// Whether SHELL goes before it.
    pub shell: bool,
}

/// RUN.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// Its heredocs.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// `--network`.
    pub network: Option<StepNetwork>,
}

/// `RUN --mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunMount {
    /// Which type.
    pub kind: MountKind,
    /// Fields by their chief name (`target`, `source`, `from`, `id`, `mode`, `uid`, `gid`, `size`, `sharing`, `env`),
    /// variables included.
    pub fields: BTreeMap<&'static str, String>,
    /// `ro` and `rw`, where given.
    pub read_only: Option<bool>,
    /// `required`.
    pub required: bool,
    /// Where it stands.
    pub at: Position,
}

/// The types of `RUN --mount`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file with a secret.
    Secret,
}

/// COPY and ADD.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// ADD.
    pub add: bool,
    /// The sources that are paths.
    pub sources: Vec<Word>,
    /// The sources that are heredocs.
    pub inline: Vec<Heredoc>,
    /// The destination.
    pub destination: Word,
    /// `--from`.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--exclude`.
    pub excludes: Vec<Word>,
    /// `--parents`.
    pub parents: bool,
    /// `--unpack`.
    pub unpack: Option<bool>,
}
