//! What is fuzzed: everything that reads bytes which others made. Each target is a plain function of bytes that panics
//! where something is wrong: a crash, an answer that contradicts another one, a file outside of where it belongs.
//!
//! `cargo xtask fuzz` runs them under libFuzzer, with coverage from stable Rust; `corpus/<target>/` is what that found
//! worth keeping, and is run through the targets by an ordinary test.

mod archives;
mod builds;
mod bytes;
mod compressed;
mod documents;
mod entries;
mod erofs;
mod filters;
mod grammars;
mod images;
mod registries;
mod specifications;
mod trees;

/// One fuzzed thing.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its directory in the corpus.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
    /// The longest input in bytes that is worth trying.
    pub max_bytes: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), max_bytes: usize) -> Target {
    Target {
        name,
        run,
        max_bytes,
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("archive", archives::archive, 32 << 10),
    target("entries", entries::entries, 2 << 10),
    target("compressed", compressed::compressed, 8 << 10),
    target("layer", compressed::layer, 16 << 10),
    target("load", images::load, 32 << 10),
    target("manifest", documents::manifest, 8 << 10),
    target("config", documents::config, 8 << 10),
    target("reference", grammars::reference, 512),
    target("words", grammars::words, 512),
    target("specification", specifications::specification, 8 << 10),
    target("seccomp", filters::filter, 1 << 10),
    target("answer", registries::answer, 4 << 10),
    target("settings", registries::settings, 4 << 10),
    target("dockerfile", builds::dockerfile, 4 << 10),
    target("dockerignore", builds::ignore, 512),
    target("compose", builds::compose, 4 << 10),
];
