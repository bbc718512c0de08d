//! `ketch api serve`.

use std::os::unix::net::UnixListener;

use ketch_api::{Endpoint, Options};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["api serve"],
    usage: "[OPTIONS]",
    about: "Serve Docker's Engine API on a unix socket",
    details: "The server keeps no state: containers live without it, and it may be stopped and started at any time.\nAs a systemd service with a socket unit it takes the socket that it is handed.",
    short_help: false,
    ..Command::of::<Args>()
};

/// The first descriptor that a service manager hands over, sd_listen_fds(3).
const FIRST_INHERITED: i32 = 3;

#[derive(clap::Args)]
struct Args {
    /// Socket to serve on, 'unix:///path' or 'fd://' (default: 'api.sock' in the run root)
    #[arg(short = 'H', long, value_name = "string")]
    host: Option<Endpoint>,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let inherited = inherited()?;
        let options = match (self.host, inherited) {
            (None | Some(Endpoint::Inherited), Some(listener)) => Options::Inherited(listener),
            (Some(Endpoint::Inherited), None) => {
                return Err(Failure::request(
                    "no socket was handed over: fd:// is for a service with a socket unit",
                ));
            }
            (Some(Endpoint::Unix(path)), _) => Options::Path(path),
            (None, None) => Options::Path(context.options().run_root.join("api.sock")),
        };
        let told = match &options {
            Options::Path(path) => format!("API listen on {}", path.display()),
            Options::Inherited(_) => "API listen on the socket handed over".to_owned(),
        };
        let engine = context.engine()?.clone();
        ketch_api::serve(engine, options, || output::warn(&told))
            .map_err(|error| Failure::Engine(error.into()))?;
        Ok(Exit::SUCCESS)
    }
}

/// The socket that a service manager handed to this very process.
fn inherited() -> Result<Option<UnixListener>, Failure> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => Ok(None),
        // Nothing of ours is open yet: the engine is opened after this.
        Some(1) => ketch_sys::inherit::take(FIRST_INHERITED)
            .map(|descriptor| Some(descriptor.into()))
            .map_err(|error| {
                Failure::request(format!("cannot take the socket handed over: {error}"))
            }),
        Some(more) => Err(Failure::request(format!(
            "{more} sockets were handed over: one is supported"
        ))),
    }
}
