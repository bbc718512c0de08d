//! The plan: what to run and to copy, in which order, and what config the image gets. A value: making it runs nothing,
//! and executing it decides nothing.

mod graph;
mod history;
mod instructions;
mod mounts;
mod scope;
mod stage;

pub use graph::{Graph, Origin};
pub use history::quote;
pub use instructions::PIPES;
pub use stage::{full_name, plan};

use std::path::PathBuf;

use ketch_spec::image::{History, RunConfig};

use crate::copy::ModeChange;
use crate::dockerfile::{MountKind, Place};
use crate::request::StepNetwork;

/// What a build does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The needed stages, those that others need first. Their numbers are those of the Dockerfile.
    pub stages: Vec<StagePlan>,
    /// All steps; stages and history refer to them by index.
    pub steps: Vec<Step>,
    /// Number of the target stage.
    pub target: usize,
    /// Line and text.
    pub warnings: Vec<(usize, String)>,
}

/// What a stage does.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// Its number in the Dockerfile.
    pub number: usize,
    /// What it is built on.
    pub base: Origin,
    /// `[1/4] FROM docker.io/library/busybox:latest`; None on another stage or scratch.
    pub title: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<usize>,
    /// The config its image has.
    pub config: RunConfig,
    /// MAINTAINER.
    pub author: Option<String>,
    /// Its history, the base's included.
    pub history: Vec<HistoryItem>,
}

/// An entry of an image's history.
#[derive(Debug, Clone)]
pub enum HistoryItem {
    /// Of the base image, as it stands there.
    Base(History),
    /// An instruction that changes the config only.
    Config(String),
    /// A step; its layer, if it makes one.
    Step {
        /// Its index.
        step: usize,
        /// The text.
        text: String,
    },
}

/// Something to run or to copy.
#[derive(Debug, Clone)]
pub struct Step {
    /// `[build 3/5] COPY . .`.
    pub title: String,
    /// Where its instruction stands.
    pub place: Place,
    /// What it does.
    pub operation: Operation,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Operation {
    /// RUN.
    Run(RunStep),
    /// COPY and ADD.
    Copy(CopyStep),
    /// WORKDIR.
    Workdir {
        /// Absolute, cleaned.
        path: String,
        /// Who gets what is made.
        user: String,
    },
}

/// A program to run.
#[derive(Debug, Clone, Default)]
pub struct RunStep {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// More of the same that is not in the key: proxies.
    pub quiet_env: Vec<String>,
    /// Where.
    pub working_dir: String,
    /// As whom.
    pub user: String,
    /// On which network.
    pub network: StepNetwork,
    /// Mounts.
    pub mounts: Vec<MountStep>,
    /// A heredoc with `#!`: its name under `/dev/pipes/` and content.
    pub script: Option<(String, String)>,
}

/// A mount of RUN.
#[derive(Debug, Clone)]
pub struct MountStep {
    /// Which type.
    pub kind: MountKind,
    /// Absolute, cleaned.
    pub target: String,
    /// Where files come from, for bind and cache.
    pub from: Origin,
    /// Path there.
    pub source: String,
    /// Of a cache or secret.
    pub id: String,
    /// Read-only.
    pub read_only: bool,
    /// Of a secret.
    pub required: bool,
    /// Of a secret: the variable it goes into instead of a file.
    pub env: Option<String>,
    /// Of a cache.
    pub sharing: Sharing,
    /// Of a cache's root or a secret.
    pub mode: Option<u32>,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Of a tmpfs, in bytes.
    pub size_bytes: Option<u64>,
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    #[default]
    Shared,
    /// Each its own.
    Private,
    /// One after another.
    Locked,
}

/// Files to copy.
#[derive(Debug, Clone)]
pub struct CopyStep {
    /// Where from.
    pub from: Origin,
    /// Sources, variables expanded.
    pub sources: Vec<String>,
    /// Heredocs: name and content.
    pub inline: Vec<(String, String)>,
    /// Absolute, cleaned.
    pub destination: PathBuf,
    /// Whether the destination is a directory, whatever is there.
    pub is_directory: bool,
    /// `--chown`, names unresolved.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<ModeChange>,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// ADD of local archives: unpack them.
    pub unpack: bool,
}

#[cfg(test)]
mod tests;
