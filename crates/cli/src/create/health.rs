//! The health check.

use ketch_spec::image::HealthCheck;

use crate::command::integer;
use crate::failure::Failure;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "duration", value_parser = nanoseconds)]
    health_interval: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "duration", value_parser = nanoseconds)]
    health_timeout: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)
    #[arg(long, value_name = "duration", value_parser = nanoseconds)]
    health_start_period: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "duration", value_parser = nanoseconds)]
    health_start_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int", value_parser = integer)]
    health_retries: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

impl Flags {
    /// The check asked for; None leaves the image's alone.
    pub fn check(self) -> Result<Option<HealthCheck>, Failure> {
        let command = self.health_cmd.filter(|command| !command.is_empty());
        let numbers = [
            self.health_interval,
            self.health_timeout,
            self.health_start_period,
            self.health_start_interval,
            self.health_retries,
        ];
        let given = command.is_some()
            || numbers
                .iter()
                .any(|number| number.is_some_and(|number| number != 0));
        if self.no_healthcheck {
            if given {
                return Err(Failure::request(
                    "--no-healthcheck conflicts with --health-* options",
                ));
            }
            return Ok(Some(HealthCheck {
                test: vec!["NONE".into()],
                ..HealthCheck::default()
            }));
        }
        if !given {
            return Ok(None);
        }
        let names = [
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ];
        for (name, number) in names.into_iter().zip(numbers) {
            if number.is_some_and(|number| number < 0) {
                return Err(Failure::request(format!(
                    "--health-{name} cannot be negative"
                )));
            }
        }
        let [interval, timeout, start_period, start_interval, retries] =
            numbers.map(Option::unwrap_or_default);
        let test = command
            .map(|command| vec!["CMD-SHELL".into(), command])
            .unwrap_or_default();
        Ok(Some(HealthCheck {
            test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        }))
    }
}

fn nanoseconds(text: &str) -> Result<i64, String> {
    let duration = ketch_spec::duration::parse(text).map_err(|error| error.to_string())?;
    i64::try_from(duration.as_nanos()).map_err(|_| format!("time: invalid duration {text:?}"))
}
