//! `ketch info`.

use std::fmt::Write;

use ketch_engine::container::{self, Status};
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
            "" => output::print(&text(&value))?,
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
        "SecurityOptions": ["name=seccomp,profile=builtin"],
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
    let mut line = |indent: usize, name: &str, value: String| {
        let _ = writeln!(out, "{:indent$}{name}: {value}", "");
    };
    line(1, "Containers", field("Containers"));
    line(2, "Running", field("ContainersRunning"));
    line(2, "Paused", field("ContainersPaused"));
    line(2, "Stopped", field("ContainersStopped"));
    line(1, "Images", field("Images"));
    line(1, "Server Version", field("ServerVersion"));
    line(1, "Storage Driver", field("Driver"));
    for pair in value["DriverStatus"].as_array().into_iter().flatten() {
        line(
            2,
            pair[0].as_str().unwrap_or_default(),
            pair[1].as_str().unwrap_or_default().to_owned(),
        );
    }
    line(1, "Logging Driver", field("LoggingDriver"));
    line(1, "Cgroup Driver", field("CgroupDriver"));
    line(1, "Cgroup Version", field("CgroupVersion"));
    line(1, "Kernel Version", field("KernelVersion"));
    line(1, "Operating System", field("OperatingSystem"));
    line(1, "OSType", field("OSType"));
    line(1, "Architecture", field("Architecture"));
    line(1, "CPUs", field("NCPU"));
    let memory = value["MemTotal"].as_u64().unwrap_or(0);
    line(1, "Total Memory", ketch_spec::size::human_binary(memory));
    line(1, "Name", field("Name"));
    line(1, "Docker Root Dir", field("DockerRootDir"));
    out
}
