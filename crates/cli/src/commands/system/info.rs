//! `ketch info`.

use std::fmt::Write;

use ketch_engine::container::{self, Status, apparmor};
use ketch_engine::image;
use serde_json::{Value, json};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::format::inspect;
use crate::{VERSION, output};

/// The command.
pub const COMMAND: Command = Command {
    names: &["system info", "info"],
    usage: "[OPTIONS]",
    about: "Display system-wide information",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let value = document(context)?;
        match self.format.as_str() {
            "" => {
                output::print(&text(&value))?;
                if let Some(warning) = apparmor::warning() {
                    output::warn(warning);
                }
            }
            "json" => output::print_line(&value.to_string())?,
            template => output::print_line(&inspect::execute(template, &value)?)?,
        }
        Ok(Exit::SUCCESS)
    }
}

fn document(context: &Context) -> Result<Value, Failure> {
    let engine = context.engine()?;
    let all = container::list(engine)?;
    let count = |wanted: &[Status]| {
        all.iter()
            .filter(|one| wanted.contains(&one.state.status))
            .count()
    };
    let images = image::list(engine, &image::ListFilter::default())?.len();
    let system = rustix::system::uname();
    let name = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let cgroup = if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "2"
    } else {
        "1"
    };
    Ok(json!({
        "Containers": all.len(),
        "ContainersRunning": count(&[Status::Running, Status::Restarting]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited, Status::Dead]),
        "Images": images,
        "Driver": "overlay",
        "DriverStatus": [["Layer Form", engine.layer_form()?.name()]],
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup,
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Log": ["json-file", "none"]},
        "SecurityOptions": apparmor::security_options(),
        "Warnings": apparmor::warning().as_slice(),
        "KernelVersion": name(system.release()),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": name(system.machine()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": rustix::system::sysinfo().totalram * u64::from(rustix::system::sysinfo().mem_unit),
        "Name": name(system.nodename()),
        "DockerRootDir": context.options().data_root,
        "ServerVersion": VERSION,
        "ClientInfo": {"Version": VERSION, "Context": "default"},
    }))
}

/// `PRETTY_NAME` of os-release.
fn operating_system() -> String {
    let content = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = content
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(
        || "Linux".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

fn text(value: &Value) -> String {
    let field = |name: &str| match &value[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut out = format!("Client:\n Version:    {VERSION}\n Context:    default\n\nServer:\n");
    line(&mut out, 1, "Containers", field("Containers"));
    line(&mut out, 2, "Running", field("ContainersRunning"));
    line(&mut out, 2, "Paused", field("ContainersPaused"));
    line(&mut out, 2, "Stopped", field("ContainersStopped"));
    line(&mut out, 1, "Images", field("Images"));
    line(&mut out, 1, "Server Version", field("ServerVersion"));
    line(&mut out, 1, "Storage Driver", field("Driver"));
    for pair in value["DriverStatus"].as_array().into_iter().flatten() {
        line(
            &mut out,
            2,
            pair[0].as_str().unwrap_or_default(),
            pair[1].as_str().unwrap_or_default().to_owned(),
        );
    }
    line(&mut out, 1, "Logging Driver", field("LoggingDriver"));
    line(&mut out, 1, "Cgroup Driver", field("CgroupDriver"));
    line(&mut out, 1, "Cgroup Version", field("CgroupVersion"));
    security_options(&mut out, value);
    line(&mut out, 1, "Kernel Version", field("KernelVersion"));
    line(&mut out, 1, "Operating System", field("OperatingSystem"));
    line(&mut out, 1, "OSType", field("OSType"));
    line(&mut out, 1, "Architecture", field("Architecture"));
    line(&mut out, 1, "CPUs", field("NCPU"));
    let memory = value["MemTotal"].as_u64().unwrap_or(0);
    line(
        &mut out,
        1,
        "Total Memory",
        ketch_spec::size::human_binary(memory),
    );
    line(&mut out, 1, "Name", field("Name"));
    line(&mut out, 1, "Docker Root Dir", field("DockerRootDir"));
    out
}

fn line(out: &mut String, indent: usize, name: &str, value: String) {
    let _ = writeln!(out, "{:indent$}{name}: {value}", "");
}

/// As Docker writes them: `name=seccomp,profile=builtin` is a name with its properties below.
fn security_options(out: &mut String, value: &Value) {
    let _ = writeln!(out, " Security Options:");
    for option in value["SecurityOptions"].as_array().into_iter().flatten() {
        for word in option.as_str().unwrap_or_default().split(',') {
            let _ = match word.split_once('=') {
                Some(("name", name)) => writeln!(out, "  {name}"),
                Some(("profile", profile)) => writeln!(out, "   Profile: {profile}"),
                _ => writeln!(out, "   {word}"),
            };
        }
    }
}
