//! What every command gets: the name it was called by, the global options, and the engine, opened on first use.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use ketch_engine::{Engine, EngineOptions};

use crate::client_config::ClientConfig;
use crate::commands::compose::Globals;
use crate::failure::Failure;

/// Options before the command.
#[derive(Debug, Clone, Default)]
pub struct GlobalOptions {
    /// `--data-root`, else `KETCH_DATA_ROOT`, else `/var/lib/ketch`.
    pub data_root: PathBuf,
    /// `--run-root`, else `KETCH_RUN_ROOT`, else `/run/ketch`.
    pub run_root: PathBuf,
    /// `--config`, else `DOCKER_CONFIG`, else `~/.docker`; None without a home.
    pub config: Option<PathBuf>,
    /// `-D`.
    pub debug: bool,
}

impl GlobalOptions {
    /// The defaults as `variable` (the environment) sets them.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            data_root: path("KETCH_DATA_ROOT").unwrap_or_else(|| "/var/lib/ketch".into()),
            run_root: path("KETCH_RUN_ROOT").unwrap_or_else(|| "/run/ketch".into()),
            config: path("DOCKER_CONFIG").or_else(|| path("HOME").map(|home| home.join(".docker"))),
            debug: false,
        }
    }
}

/// The surroundings of one command.
pub struct Context {
    invocation: String,
    options: GlobalOptions,
    engine: OnceLock<Engine>,
    config: OnceLock<ClientConfig>,
    compose: Globals,
}

impl Context {
    /// A context for a command called as `invocation`: `ketch container ls`.
    pub fn new(invocation: String, options: GlobalOptions) -> Self {
        Self {
            invocation,
            options,
            engine: OnceLock::new(),
            config: OnceLock::new(),
            compose: Globals::default(),
        }
    }

    /// The same surroundings with what stood between `compose` and its command.
    pub fn with_compose(mut self, globals: Globals) -> Self {
        self.compose = globals;
        self
    }

    /// What stood between `compose` and its command.
    pub fn compose(&self) -> &Globals {
        &self.compose
    }

    /// The command's name as called, with the program's.
    pub fn invocation(&self) -> &str {
        &self.invocation
    }

    /// The global options.
    pub fn options(&self) -> &GlobalOptions {
        &self.options
    }

    /// The engine.
    ///
    /// # Errors
    /// The state cannot be opened, or our own path cannot be read.
    pub fn engine(&self) -> Result<&Engine, Failure> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let own = "/proc/self/exe";
        let executable = std::fs::read_link(own).map_err(|source| Failure::File {
            action: "readlink",
            path: own.into(),
            source,
        })?;
        let registry_config = self
            .options
            .config
            .as_ref()
            .map(|directory| directory.join("config.json"));
        let engine = Engine::open(EngineOptions {
            data_root: self.options.data_root.clone(),
            run_root: self.options.run_root.clone(),
            executable,
            registry_config,
        })?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// The client's own settings; missing means all defaults.
    ///
    /// # Errors
    /// A `config.json` that is there but not readable as one.
    pub fn config(&self) -> Result<&ClientConfig, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = match &self.options.config {
            Some(directory) => ClientConfig::read(&directory.join("config.json"))?,
            None => ClientConfig::default(),
        };
        Ok(self.config.get_or_init(|| config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_come_from_the_environment_unless_empty() {
        let options = GlobalOptions::from_environment(|name| match name {
            "KETCH_DATA_ROOT" => Some("/data".into()),
            "KETCH_RUN_ROOT" => Some("".into()),
            "HOME" => Some("/home/u".into()),
            _ => None,
        });
        assert_eq!(options.data_root, PathBuf::from("/data"));
        assert_eq!(options.run_root, PathBuf::from("/run/ketch"));
        assert_eq!(options.config, Some(PathBuf::from("/home/u/.docker")));
    }
}
