//! Plans on what is there, and their execution.

use ketch_compose::{
    BuildOptions, ExecuteOptions, Lifecycle, Observed, Plan, PlanError, Project, execute,
    observe_containers, plan_lifecycle,
};

use crate::command::Outcome;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

use super::containers::check_services;
use super::progress::Progress;

/// A plan that cannot be made.
pub fn unplannable(error: PlanError) -> Failure {
    Failure::usage(error.to_string())
}

/// How plans are carried out, as the flags say.
pub fn options(context: &Context) -> ExecuteOptions {
    ExecuteOptions {
        parallel: context.compose().parallel(),
        build: BuildOptions::default(),
        ..ExecuteOptions::default()
    }
}

/// Carries a plan out, or prints it if this is a dry run.
///
/// # Errors
/// The first failure.
pub fn carry_out(
    context: &Context,
    project: &Project,
    plan: &Plan,
    options: &ExecuteOptions,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    if context.compose().dry_run {
        return output::print(&plan.to_string());
    }
    if plan.is_empty() {
        return Ok(());
    }
    execute(context.engine()?, project, plan, options, progress)?;
    Ok(())
}

/// A change of state of the containers of services.
///
/// # Errors
/// A name that is no service; the first failure.
pub fn change(
    context: &Context,
    project: &Project,
    services: &[String],
    what: Lifecycle,
) -> Result<Observed, Failure> {
    check_services(project, services)?;
    let observed = observe_containers(context.engine()?, &project.name)?;
    let plan = plan_lifecycle(project, &observed, services, what);
    let progress = Progress::new(context)?;
    carry_out(context, project, &plan, &options(context), &progress)?;
    Ok(observed)
}

/// As [`change`], for a command that does nothing else.
pub fn only_change(context: &Context, services: &[String], what: Lifecycle) -> Outcome {
    let project = super::project::load_or_name(context, services)?;
    change(context, &project, services, what)?;
    Ok(Exit::SUCCESS)
}
