//! What every command gets: the name it was called by, the global options, and the engine, opened on first use.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use ketch_engine::registry::{AuthText, Proxies, RegistryAccess};
use ketch_engine::{Engine, EngineOptions, Forms};

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
    /// `KETCH_LAYER_FORM`: how new layers are kept, `auto`, `directory` or `erofs`.
    pub layer_form: Option<OsString>,
    /// Where settings of registries are, and the proxies; credentials are those of `config`.
    pub registries: RegistryAccess,
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
            layer_form: variable("KETCH_LAYER_FORM").filter(|value| !value.is_empty()),
            registries: registry_access(&variable),
        }
    }
}

/// `KETCH_REGISTRIES`, else the user's file and the machine's; Docker's directories of certificates; the proxies that
/// other programs use; `DOCKER_AUTH_CONFIG`.
fn registry_access(variable: &impl Fn(&str) -> Option<OsString>) -> RegistryAccess {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let user = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")));
    let places = |below: &str, machine: &str| -> Vec<PathBuf> {
        let own = user.iter().map(|directory| directory.join(below));
        own.chain([machine.into()]).collect()
    };
    let files = match set("KETCH_REGISTRIES") {
        Some(file) => vec![file.into()],
        None => places("ketch/registries.toml", "/etc/ketch/registries.toml"),
    };
    // Upper case first, as in Go's programs.
    let proxy = |upper: &str| {
        let value = set(upper).or_else(|| set(&upper.to_lowercase()))?;
        Some(value.to_string_lossy().into_owned())
    };
    let except = proxy("NO_PROXY").unwrap_or_default();
    let auths = "DOCKER_AUTH_CONFIG";
    RegistryAccess {
        environment: set(auths).map(|text| AuthText {
            origin: auths,
            text: text.to_string_lossy().into_owned(),
        }),
        files,
        certificates: places("docker/certs.d", "/etc/docker/certs.d"),
        proxies: Proxies {
            http: proxy("HTTP_PROXY"),
            https: proxy("HTTPS_PROXY"),
            except: except
                .split([',', ' '])
                .filter(|entry| !entry.is_empty())
                .map(Into::into)
                .collect(),
        },
        ..RegistryAccess::default()
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
        let registry_config = self.config_file();
        let engine = Engine::open(EngineOptions {
            data_root: self.options.data_root.clone(),
            run_root: self.options.run_root.clone(),
            executable,
            registry_config,
            layer_forms: self.layer_forms()?,
        })?
        .with_registries(self.registries());
        Ok(self.engine.get_or_init(|| engine))
    }

    /// How registries are reached: all that `login` and others need that need no engine.
    pub fn registries(&self) -> RegistryAccess {
        RegistryAccess {
            credentials: self.config_file(),
            ..self.options.registries.clone()
        }
    }

    fn config_file(&self) -> Option<PathBuf> {
        let directory = self.options.config.as_ref()?;
        Some(directory.join("config.json"))
    }

    /// Read when it counts: commands that need no engine do not fail of it.
    fn layer_forms(&self) -> Result<Forms, Failure> {
        let Some(form) = &self.options.layer_form else {
            return Ok(Forms::Auto);
        };
        let parsed = form.to_string_lossy().parse();
        parsed.map_err(|error| Failure::Usage {
            message: format!("KETCH_LAYER_FORM: {error}"),
        })
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

    #[test]
    fn proxies_and_places_of_registries_come_from_the_environment() {
        let options = GlobalOptions::from_environment(|name| match name {
            "HOME" => Some("/home/u".into()),
            "https_proxy" => Some("http://p:1".into()),
            "HTTP_PROXY" => Some("".into()),
            "NO_PROXY" => Some("a.example, 10.0.0.0/8,".into()),
            _ => None,
        });
        let access = options.registries;
        assert_eq!(access.proxies.https.as_deref(), Some("http://p:1"));
        assert_eq!(access.proxies.http, None);
        assert_eq!(access.proxies.except, ["a.example", "10.0.0.0/8"]);
        let files = [
            "/home/u/.config/ketch/registries.toml",
            "/etc/ketch/registries.toml",
        ];
        assert_eq!(access.files, files.map(PathBuf::from));
        let own = GlobalOptions::from_environment(|name| {
            (name == "KETCH_REGISTRIES").then(|| "/x.toml".into())
        });
        assert_eq!(own.registries.files, [PathBuf::from("/x.toml")]);
        assert_eq!(
            own.registries.certificates,
            [PathBuf::from("/etc/docker/certs.d")]
        );
    }
}
