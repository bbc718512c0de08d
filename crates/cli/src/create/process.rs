//! Program, environment, names, labels, restart and logging.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ketch_engine::container::config::{LogConfig, RestartPolicy};
use ketch_engine::container::request::CreateRequest;
use ketch_spec::env::{self, Variable};

use super::{Surroundings, label, pair};
use crate::command::integer;
use crate::failure::Failure;

/// The longest file that `--env-file` and `--label-file` read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<Variable>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    domainname: Option<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list", value_parser = label)]
    label: Vec<(String, String)>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    label_file: Vec<PathBuf>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string", default_value = "no")]
    restart: String,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub rm: bool,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", value_parser = integer)]
    stop_timeout: Option<i64>,
    /// Logging driver for the container
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list", value_parser = pair)]
    log_opt: Vec<(String, String)>,
}

/// Value parser of `-e`.
pub fn variable(text: &str) -> Result<Variable, String> {
    env::parse_variable(text).map_err(|error| error.to_string())
}

impl Flags {
    /// Puts the flags into the request.
    pub fn apply(
        self,
        request: &mut CreateRequest,
        around: &Surroundings<'_>,
    ) -> Result<(), Failure> {
        request.entrypoint = self.entrypoint.map(|entrypoint| vec![entrypoint]);
        request.env = around.proxies.to_vec();
        request
            .env
            .extend(environment(&self.env_file, self.env, around.variable)?);
        request.working_dir = self.workdir.filter(|dir| !dir.is_empty());
        request.user = self.user.filter(|user| !user.is_empty());
        request.groups = self.group_add;
        request.tty = self.tty;
        request.open_stdin = self.interactive;
        request.hostname = self.hostname.filter(|name| !name.is_empty());
        request.domainname = self.domainname.filter(|name| !name.is_empty());
        request.labels = labels(&self.label_file, self.label)?;
        request.restart = restart_policy(&self.restart)?;
        request.auto_remove = self.rm;
        if self.rm && request.restart != RestartPolicy::No {
            return Err(Failure::request(
                "conflicting options: cannot specify both --restart and --rm",
            ));
        }
        request.init = self.init;
        request.stop_signal = self.stop_signal.filter(|signal| !signal.is_empty());
        if let Some(signal) = &request.stop_signal {
            ketch_spec::signal::parse(signal)
                .map_err(|error| Failure::request(error.to_string()))?;
        }
        request.stop_timeout_s = self.stop_timeout;
        let driver = self.log_driver.filter(|driver| !driver.is_empty());
        let options: BTreeMap<String, String> = self.log_opt.into_iter().collect();
        if driver.as_deref() == Some("none") && !options.is_empty() {
            return Err(Failure::request("invalid logging opts for driver none"));
        }
        request.log = LogConfig {
            driver: driver.unwrap_or_else(|| LogConfig::default().driver),
            options,
        };
        Ok(())
    }
}

/// The variables of files, then those of `-e`; a bare name is copied from our environment, or stays bare where it is
/// unset there, which removes the image's.
///
/// # Errors
/// A file that cannot be read, or a line that is no variable.
pub fn environment(
    files: &[PathBuf],
    given: Vec<Variable>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for path in files {
        let variables = env::parse_file(&read(path)?).map_err(|error| {
            Failure::request(format!("invalid env file ({}): {error}", path.display()))
        })?;
        // A bare name of a file is left out where it is unset, as Docker does.
        all.extend(
            variables
                .into_iter()
                .filter_map(|variable| match variable.value {
                    Some(value) => Some(format!("{}={value}", variable.name)),
                    None => {
                        lookup(&variable.name).map(|value| format!("{}={value}", variable.name))
                    }
                }),
        );
    }
    all.extend(given.into_iter().map(|Variable { name, value }| {
        match value.or_else(|| lookup(&name)) {
            Some(value) => format!("{name}={value}"),
            None => name,
        }
    }));
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let failure = |source: std::io::Error| {
        let reason = match source.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => source.to_string(),
        };
        Failure::request(format!("open {}: {reason}", path.display()))
    };
    let mut content = Vec::new();
    std::fs::File::open(path)
        .map_err(failure)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut content)
        .map_err(failure)?;
    Ok(content)
}

fn labels(
    files: &[PathBuf],
    given: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for path in files {
        let content = String::from_utf8_lossy(&read(path)?).into_owned();
        for line in content
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (key, value) = label(line).map_err(|reason| {
                Failure::request(format!("invalid label file ({}): {reason}", path.display()))
            })?;
            all.insert(key, value);
        }
    }
    all.extend(given);
    Ok(all)
}

/// Reads `--restart`.
///
/// # Errors
/// [`Failure::Request`].
pub fn restart_policy(text: &str) -> Result<RestartPolicy, Failure> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let policy = match (name, count) {
        ("" | "no", None) => RestartPolicy::No,
        ("always", None) => RestartPolicy::Always,
        ("unless-stopped", None) => RestartPolicy::UnlessStopped,
        ("on-failure", None) => RestartPolicy::OnFailure(0),
        ("on-failure", Some(count)) => RestartPolicy::OnFailure(count.parse().map_err(|_| {
            Failure::request(
                "invalid restart policy format: maximum retry count must be an integer",
            )
        })?),
        ("no" | "always" | "unless-stopped", Some(_)) => {
            return Err(Failure::request(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ));
        }
        (other, _) => {
            return Err(Failure::request(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    Ok(policy)
}
