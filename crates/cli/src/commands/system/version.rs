//! `ketch version`.

use serde_json::{Value, json};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::format::inspect;
use crate::{VERSION, output};

/// The command.
pub const COMMAND: Command = Command {
    names: &["version"],
    usage: "[OPTIONS]",
    about: "Show the ketch version information",
    ..Command::of::<Args>()
};

/// The version of Docker's Engine API whose documents `inspect` prints.
const API_VERSION: &str = "1.51";

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
}

/// `ketch version 0.1.0`, of `--version`.
pub fn version_line() -> String {
    format!("ketch version {VERSION}")
}

impl Verb for Args {
    fn run(self, _: &Context, _: Vec<String>) -> Outcome {
        let value = document();
        match self.format.as_str() {
            "" => output::print(&text(&value))?,
            "json" => output::print_line(&value.to_string())?,
            template => output::print_line(&inspect::execute(template, &value)?)?,
        }
        Ok(Exit::SUCCESS)
    }
}

/// Client and server are one program; both keys are there for the templates of scripts.
fn document() -> Value {
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy().into_owned();
    let arch = ketch_spec::Platform::host().architecture;
    json!({
        "Client": {
            "Version": VERSION, "ApiVersion": API_VERSION, "DefaultAPIVersion": API_VERSION, "Os": "linux",
            "Arch": arch, "Context": "default",
        },
        "Server": {
            "Platform": {"Name": "ketch"}, "Version": VERSION, "ApiVersion": API_VERSION, "MinAPIVersion": "1.24",
            "Os": "linux", "Arch": arch, "KernelVersion": kernel,
        },
    })
}

fn text(value: &Value) -> String {
    let (client, server) = (&value["Client"], &value["Server"]);
    let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "Client:\n Version:           {}\n API version:       {}\n OS/Arch:           {}/{}\n\nServer: (no daemon: the same program)\n Engine:\n  Version:          {}\n  API version:      {} (minimum version {})\n  OS/Arch:          {}/{}\n  Kernel Version:   {}\n",
        field(&client["Version"]),
        field(&client["ApiVersion"]),
        field(&client["Os"]),
        field(&client["Arch"]),
        field(&server["Version"]),
        field(&server["ApiVersion"]),
        field(&server["MinAPIVersion"]),
        field(&server["Os"]),
        field(&server["Arch"]),
        field(&server["KernelVersion"]),
    )
}
