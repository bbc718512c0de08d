//! Names and values while a stage is read: ENV over ARG, global ARGs, platform ARGs, `--build-arg`.

use std::collections::{BTreeMap, BTreeSet};

use ketch_spec::Platform;

use crate::dockerfile::{Declaration, Word};
use crate::expand::{ExpandError, Style, Variables, expand};

/// Build arguments that RUN gets undeclared, and that stay out of keys and history.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Build arguments that steer BuildKit itself, and that no Dockerfile has to declare.
const CONTROL_ARGS: [&str; 2] = ["BUILDKIT_", "SOURCE_DATE_EPOCH"];

/// What is known before the first stage.
#[derive(Debug, Clone, Default)]
pub struct Global {
    /// `--build-arg`.
    pub given: BTreeMap<String, String>,
    /// TARGETPLATFORM and so on.
    pub automatic: BTreeMap<String, String>,
    /// The global ARGs with their values.
    pub declared: BTreeMap<String, String>,
    /// The escape character.
    pub escape: char,
}

impl Global {
    /// The automatic arguments of a build for `platform` on this machine.
    pub fn new(
        given: BTreeMap<String, String>,
        platform: &Platform,
        target_stage: &str,
        escape: char,
    ) -> Self {
        let mut automatic = BTreeMap::new();
        for (prefix, platform) in [("TARGET", platform), ("BUILD", &Platform::host())] {
            let mut set =
                |name: &str, value: String| automatic.insert(format!("{prefix}{name}"), value);
            set("PLATFORM", platform.to_string());
            set("OS", platform.os.clone());
            set("ARCH", platform.architecture.clone());
            set("VARIANT", platform.variant.clone().unwrap_or_default());
        }
        automatic.insert("TARGETSTAGE".into(), target_stage.to_owned());
        Self {
            given,
            automatic,
            declared: BTreeMap::new(),
            escape,
        }
    }

    /// Evaluates a global ARG.
    pub fn declare(&mut self, declaration: &Declaration) -> Result<(), (Word, ExpandError)> {
        let name = &declaration.name.text;
        let default = match &declaration.default {
            Some(word) => Some(self.expand(word)?),
            None => self.automatic.get(name).cloned(),
        };
        if let Some(value) = self.given.get(name).cloned().or(default) {
            self.declared.insert(name.clone(), value);
        }
        Ok(())
    }

    /// Expands a word of FROM.
    pub fn expand(&self, word: &Word) -> Result<String, (Word, ExpandError)> {
        expand(&word.text, self, Style::instruction(self.escape))
            .map(|expanded| expanded.text)
            .map_err(|error| (word.clone(), error))
    }

    /// The `--build-arg`s that nothing in `declared` asked for.
    pub fn unused<'a>(&'a self, declared: &BTreeSet<String>) -> Vec<&'a str> {
        let known = |name: &str| {
            declared.contains(name)
                || PROXY_ARGS.contains(&name)
                || CONTROL_ARGS.iter().any(|prefix| name.starts_with(prefix))
        };
        self.given
            .keys()
            .map(String::as_str)
            .filter(|name| !known(name))
            .collect()
    }
}

impl Variables for Global {
    fn get(&self, name: &str) -> Option<&str> {
        self.declared
            .get(name)
            .or_else(|| self.automatic.get(name))
            .map(String::as_str)
    }
}

/// The names of a stage.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// ENV, in the order of first setting.
    env: Vec<(String, String)>,
    /// ARG in the order of declaration; a name without a value is declared all the same.
    args: Vec<(String, Option<String>)>,
}

impl Scope {
    /// The names of a stage on an image with this environment.
    pub fn new(env: &[String]) -> Self {
        let split = |entry: &String| {
            entry
                .split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        Self {
            env: env.iter().filter_map(split).collect(),
            args: Vec::new(),
        }
    }

    /// Sets a variable of the environment.
    pub fn set_env(&mut self, name: String, value: String) {
        match self.env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.env.push((name, value)),
        }
    }

    /// Declares an ARG; returns its value.
    pub fn declare(
        &mut self,
        global: &Global,
        declaration: &Declaration,
    ) -> Result<Option<String>, (Word, ExpandError)> {
        let name = &declaration.name.text;
        let default = match &declaration.default {
            Some(word) => Some(
                expand(&word.text, self, Style::instruction(global.escape))
                    .map_err(|error| (word.clone(), error))?
                    .text,
            ),
            None => global.get(name).map(str::to_owned),
        };
        let value = global.given.get(name).cloned().or(default);
        self.args.retain(|(known, _)| known != name);
        self.args.push((name.clone(), value.clone()));
        Ok(value)
    }

    /// The environment as an image config has it.
    pub fn image_env(&self) -> Vec<String> {
        self.env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// The environment of RUN: ENV, then the ARGs that no ENV hides.
    pub fn run_env(&self) -> Vec<String> {
        let mut env = self.image_env();
        for (name, value) in &self.args {
            if let Some(value) = value
                && !self.env.iter().any(|(known, _)| known == name)
            {
                env.push(format!("{name}={value}"));
            }
        }
        env
    }

    /// The declared ARGs with the values RUN sees, as BuildKit's history has them.
    pub fn history_args(&self) -> Vec<String> {
        self.args
            .iter()
            .map(|(name, _)| format!("{name}={}", self.get(name).unwrap_or_default()))
            .collect()
    }

    /// Whether an ARG of this name is declared.
    pub fn is_declared(&self, name: &str) -> bool {
        self.args.iter().any(|(known, _)| known == name)
    }
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        let env = self
            .env
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str());
        env.or_else(|| {
            self.args
                .iter()
                .find(|(known, _)| known == name)
                .and_then(|(_, value)| value.as_deref())
        })
    }
}
