//! The flags before the command, and the variables that stand in for them.

use std::path::PathBuf;

use crate::command::integer;
use crate::failure::Failure;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Include all resources, even those not used by services
    #[arg(long)]
    all_resources: bool,
    /// Control when to print ANSI control characters ("never"|"always"|"auto")
    #[arg(long, value_name = "string")]
    ansi: Option<String>,
    /// Show what would be done, and why, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Specify an alternate environment file
    #[arg(long, value_name = "stringArray")]
    env_file: Vec<PathBuf>,
    /// Compose configuration files
    #[arg(short, long, value_name = "stringArray")]
    file: Vec<PathBuf>,
    /// Control max parallelism, -1 for unlimited
    #[arg(long, value_name = "int", value_parser = integer)]
    parallel: Option<i64>,
    /// Specify a profile to enable
    #[arg(long, value_name = "stringArray")]
    profile: Vec<String>,
    /// Set type of progress output (auto, tty, plain, quiet)
    #[arg(long, value_name = "string")]
    progress: Option<String>,
    /// Specify an alternate working directory (default: the path of the first specified Compose file)
    #[arg(long, value_name = "string")]
    project_directory: Option<PathBuf>,
    /// Project name
    #[arg(short, long, value_name = "string")]
    project_name: Option<String>,
}

/// When control characters are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ansi {
    /// On terminals.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always.
    Always,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// In place on terminals, else line by line.
    #[default]
    Auto,
    /// In place.
    Tty,
    /// Line by line.
    Plain,
    /// Not at all.
    Quiet,
}

/// What holds for every command of `compose`.
#[derive(Debug, Clone, Default)]
pub struct Globals {
    /// `-f`.
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--env-file`.
    pub env_files: Vec<PathBuf>,
    /// `--profile`.
    pub profiles: Vec<String>,
    /// `--all-resources`.
    pub all_resources: bool,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--parallel`; 0 means as many as there is work.
    pub parallel: usize,
    /// `--ansi`.
    pub ansi: Option<Ansi>,
    /// `--progress`.
    pub progress: Option<Style>,
}

impl Flags {
    /// Reads them.
    ///
    /// # Errors
    /// A value that is none of the known ones.
    pub fn globals(self) -> Result<Globals, Failure> {
        let ansi = self.ansi.as_deref().map(ansi).transpose()?;
        let progress = self.progress.as_deref().map(style).transpose()?;
        Ok(Globals {
            files: self.file,
            project_name: self.project_name.filter(|name| !name.is_empty()),
            project_directory: self.project_directory,
            env_files: self.env_file,
            profiles: self.profile,
            all_resources: self.all_resources,
            dry_run: self.dry_run,
            parallel: limit(self.parallel.unwrap_or(0)),
            ansi,
            progress,
        })
    }
}

impl Globals {
    /// `--parallel`, else `COMPOSE_PARALLEL_LIMIT`, else ours.
    pub fn parallel(&self) -> usize {
        let variable = || limit(std::env::var("COMPOSE_PARALLEL_LIMIT").ok()?.parse().ok()?).into();
        let given = Some(self.parallel).filter(|limit| *limit > 0);
        let chosen: Option<usize> = given.or_else(variable);
        chosen
            .filter(|limit| *limit > 0)
            .unwrap_or(ketch_compose::MAX_PARALLEL)
    }

    /// Whether to colour what goes to a stream that is a terminal or not.
    ///
    /// # Errors
    /// A `COMPOSE_ANSI` that is none of the known ones.
    pub fn colours(&self, is_terminal: bool) -> Result<bool, Failure> {
        let chosen = match self.ansi {
            Some(chosen) => chosen,
            None => ansi(&variable("COMPOSE_ANSI"))?,
        };
        Ok(match chosen {
            Ansi::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
            Ansi::Never => false,
            Ansi::Always => true,
        })
    }

    /// `--progress`, else `COMPOSE_PROGRESS`.
    ///
    /// # Errors
    /// A `COMPOSE_PROGRESS` that is none of the known ones.
    pub fn style(&self) -> Result<Style, Failure> {
        match self.progress {
            Some(style) => Ok(style),
            None => style(&variable("COMPOSE_PROGRESS")),
        }
    }
}

/// Whether a variable says yes.
pub fn is_on(name: &str) -> bool {
    matches!(
        variable(name).to_lowercase().as_str(),
        "1" | "true" | "yes" | "on"
    )
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn limit(given: i64) -> usize {
    usize::try_from(given).unwrap_or(0)
}

fn ansi(text: &str) -> Result<Ansi, Failure> {
    match text {
        "" | "auto" => Ok(Ansi::Auto),
        "never" => Ok(Ansi::Never),
        "always" => Ok(Ansi::Always),
        other => Err(Failure::request(format!(
            "unsupported --ansi value {other:?}: use never, always or auto"
        ))),
    }
}

fn style(text: &str) -> Result<Style, Failure> {
    match text {
        "" | "auto" => Ok(Style::Auto),
        "tty" => Ok(Style::Tty),
        "plain" => Ok(Style::Plain),
        "quiet" => Ok(Style::Quiet),
        other => Err(Failure::request(format!(
            "unsupported --progress value {other:?}: use auto, tty, plain or quiet"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_choices() {
        assert_eq!(ansi("never").ok(), Some(Ansi::Never));
        assert!(ansi("red").is_err());
        assert_eq!(style("").ok(), Some(Style::Auto));
        assert!(style("json").is_err());
    }

    #[test]
    fn parallelism_has_a_default() {
        let globals = Globals::default();
        assert!(globals.parallel() > 0);
        let globals = Globals {
            parallel: 3,
            ..globals
        };
        assert_eq!(globals.parallel(), 3);
        assert_eq!(limit(-1), 0);
    }
}
