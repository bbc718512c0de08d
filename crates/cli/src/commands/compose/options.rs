//! The flags that `up`, `create`, `run` and `scale` share, and how a project comes up.

use std::collections::BTreeMap;

use ketch_compose::{
    ExecuteOptions, ImageOptions, Observed, Plan, Project, PullMode, UpOptions, observe,
    observe_images, plan_images, plan_up, selection,
};

use crate::context::Context;
use crate::failure::Failure;

use super::globals::is_on;
use super::observed::{carry_out, unplannable};
use super::progress::Progress;
use super::project;

/// Flags about images and recreation.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Build images before starting containers
    #[arg(long)]
    pub build: bool,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long)]
    pub force_recreate: bool,
    /// Don't build an image, even if it's policy
    #[arg(long)]
    pub no_build: bool,
    /// If containers already exist, don't recreate them
    #[arg(long)]
    pub no_recreate: bool,
    /// Pull image before running ("always"|"missing"|"never"|"build"|"policy")
    #[arg(long, value_name = "string", default_value = "policy", value_parser = pull_mode)]
    pub pull: PullMode,
    /// Suppress the build output
    #[arg(long)]
    pub quiet_build: bool,
    /// Pull without printing progress information
    #[arg(long)]
    pub quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub remove_orphans: bool,
    /// Scale SERVICE to NUM instances. Overrides the "scale" setting in the Compose file if present
    #[arg(long, value_name = "SERVICE=NUM", value_parser = scale)]
    pub scale: Vec<(String, u32)>,
    /// Assume "yes" as answer to all prompts and run non-interactively
    #[arg(short, long)]
    pub yes: bool,
}

impl Flags {
    /// What they say about images.
    ///
    /// # Errors
    /// Flags that contradict each other.
    pub fn images(&self) -> Result<ImageOptions, Failure> {
        if self.build && self.no_build {
            return Err(Failure::usage("--build and --no-build are incompatible"));
        }
        Ok(ImageOptions {
            build: self.build,
            no_build: self.no_build,
            pull: self.pull,
        })
    }

    /// What they say about containers.
    ///
    /// # Errors
    /// Flags that contradict each other; a scale for what is no service.
    pub fn up(&self, project: &Project, services: Vec<String>) -> Result<UpOptions, Failure> {
        if self.force_recreate && self.no_recreate {
            let message = "--force-recreate and --no-recreate are incompatible";
            return Err(Failure::usage(message));
        }
        // nothing here asks anything
        let _ = self.yes;
        let scale: BTreeMap<String, u32> = self.scale.iter().cloned().collect();
        let names: Vec<String> = scale.keys().cloned().collect();
        super::containers::check_services(project, &names)?;
        Ok(UpOptions {
            services,
            force_recreate: self.force_recreate,
            no_recreate: self.no_recreate,
            remove_orphans: self.remove_orphans || is_on("COMPOSE_REMOVE_ORPHANS"),
            scale,
            ..UpOptions::default()
        })
    }
}

/// Value parser of `--pull`.
pub fn pull_mode(text: &str) -> Result<PullMode, String> {
    match text {
        "policy" | "" => Ok(PullMode::Policy),
        "always" => Ok(PullMode::Always),
        "missing" | "if_not_present" => Ok(PullMode::Missing),
        "never" => Ok(PullMode::Never),
        "build" => Ok(PullMode::Build),
        other => Err(format!("unsupported pull policy {other:?}")),
    }
}

/// Value parser of `SERVICE=NUM`.
pub fn scale(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("invalid scale specifier: {text}");
    let (service, number) = text.split_once('=').ok_or_else(wrong)?;
    Ok((service.to_owned(), number.parse().map_err(|_| wrong())?))
}

/// Brings a project up: images, then networks, volumes and containers. A dry run prints both plans.
///
/// # Errors
/// What cannot be planned; the first failure.
pub fn bring_up(
    context: &Context,
    project: &Project,
    up: &UpOptions,
    images: &ImageOptions,
    options: &ExecuteOptions,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    let services = selection(project, &up.services, up.no_deps).map_err(unplannable)?;
    let mut observed = observe(context.engine()?, project, &services)?;
    if !up.remove_orphans && !is_on("COMPOSE_IGNORE_ORPHANS") {
        warn_of_orphans(project, &observed);
    }
    ensure_images(
        context,
        project,
        &services,
        &mut observed,
        images,
        options,
        progress,
    )?;
    let plan = plan_up(project, &observed, up).map_err(unplannable)?;
    let told = |name: &&String| up.only_prepare.as_ref() != Some(*name);
    let told: Vec<String> = services.iter().filter(told).cloned().collect();
    tell_unchanged(&observed, &told, &plan, progress);
    carry_out(context, project, &plan, options, progress)
}

/// Makes sure that the images of services are here.
///
/// # Errors
/// As [`bring_up`].
pub fn ensure_images(
    context: &Context,
    project: &Project,
    services: &[String],
    observed: &mut Observed,
    images: &ImageOptions,
    options: &ExecuteOptions,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    let plan = plan_images(project, services, observed, images).map_err(unplannable)?;
    if plan.is_empty() {
        return Ok(());
    }
    carry_out(context, project, &plan, options, progress)?;
    if !context.compose().dry_run {
        observe_images(context.engine()?, project, services, observed)?;
    }
    Ok(())
}

fn warn_of_orphans(project: &Project, observed: &Observed) {
    let names = observed.orphan_names(project);
    if !names.is_empty() {
        project::warn(&format!(
            "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose \
             file, you can run this command with the --remove-orphans flag to clean it up.",
            names.join(" ")
        ));
    }
}

/// Containers that the plan leaves alone run on.
fn tell_unchanged(observed: &Observed, services: &[String], plan: &Plan, progress: &Progress<'_>) {
    use ketch_compose::ComposeObserver;
    for container in &observed.containers {
        let selected = services.contains(&container.service) && !container.one_off;
        if selected && container.running && !plan.touches(&container.id) {
            progress.event(&format!("Container {}", container.name), "Running");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_and_pull_modes() {
        assert_eq!(scale("web=3"), Ok(("web".into(), 3)));
        assert!(scale("web").is_err() && scale("web=-1").is_err());
        assert_eq!(pull_mode("always"), Ok(PullMode::Always));
        assert!(pull_mode("sometimes").is_err());
    }
}
