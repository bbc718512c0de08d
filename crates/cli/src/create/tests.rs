//! Flags to requests.

use ketch_engine::container::config::{
    Device, EndpointConfig, NamespaceMode, RestartPolicy, Seccomp, Ulimit,
};
use ketch_engine::container::request::{CreateRequest, NetworkRequest, PullPolicy};
use ketch_spec::Id;

use super::{CreateFlags, Surroundings};
use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};

#[derive(clap::Args)]
struct Probe {
    #[command(flatten)]
    flags: CreateFlags,
}

impl Verb for Probe {
    fn run(self, _: &Context, _: Vec<String>) -> Outcome {
        Ok(Exit::SUCCESS)
    }
}

fn read(words: &[&str]) -> Result<CreateRequest, String> {
    use clap::FromArgMatches;
    let command = Command {
        interspersed: false,
        short_help: false,
        ..Command::of::<Probe>()
    };
    let words: Vec<std::ffi::OsString> = words.iter().map(std::ffi::OsString::from).collect();
    let matches = command
        .matches(&words)
        .map_err(|failure| failure.to_string())?;
    let operands = matches
        .get_many::<String>("operands")
        .map(|all| all.cloned().collect())
        .unwrap_or_default();
    let probe = Probe::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let around = Surroundings {
        cwd: "/here",
        variable: &|name| (name == "FROM_OUTSIDE").then(|| "outer".to_owned()),
        resolve: &|name| match name {
            "other" => Ok(Id::from_bytes([7; 32])),
            _ => Err(Failure::usage(format!("No such container: {name}"))),
        },
        proxies: &[],
    };
    probe
        .flags
        .request(operands, &around)
        .map_err(|failure| failure.to_string())
}

fn ok(words: &[&str]) -> CreateRequest {
    read(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

#[test]
fn everything_after_the_image_is_the_command() {
    let request = ok(&[
        "-it",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "echo -n --rm",
        "--",
        "-x",
    ]);
    assert_eq!(request.image, "busybox");
    assert_eq!(request.command, ["sh", "-c", "echo -n --rm", "--", "-x"]);
    assert!(request.tty && request.open_stdin && !request.auto_remove);
    assert_eq!(request.name.as_deref(), Some("web"));
    assert_eq!(request.pull, PullPolicy::Missing);
}

#[test]
fn short_h_is_the_host_name() {
    let request = ok(&[
        "-h", "box", "-e", "A=1", "-eB=2", "-w/srv", "-u", "1:2", "x",
    ]);
    assert_eq!(request.hostname.as_deref(), Some("box"));
    assert_eq!(request.env, ["A=1", "B=2"]);
    assert_eq!(request.working_dir.as_deref(), Some("/srv"));
    assert_eq!(request.user.as_deref(), Some("1:2"));
}

#[test]
fn bare_variables_come_from_outside_or_stay_bare() {
    assert_eq!(
        ok(&["-e", "FROM_OUTSIDE", "-e", "UNSET", "-e", "EMPTY=", "x"]).env,
        ["FROM_OUTSIDE=outer", "UNSET", "EMPTY="]
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# comment\nA=1\nFROM_OUTSIDE\nUNSET\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(
        ok(&["-e", "B=2", "--env-file", path, "x"]).env,
        ["A=1", "FROM_OUTSIDE=outer", "B=2"]
    );
    assert!(
        read(&["--env-file", "/nowhere/env", "x"])
            .unwrap_err()
            .starts_with("open /nowhere/env: ")
    );
}

#[test]
fn entrypoint_keeps_the_empty_string() {
    assert_eq!(
        ok(&["--entrypoint", "", "x"]).entrypoint,
        Some(vec![String::new()])
    );
    assert_eq!(
        ok(&["--entrypoint", "sh", "x"]).entrypoint,
        Some(vec!["sh".into()])
    );
    assert_eq!(ok(&["x"]).entrypoint, None);
}

#[test]
fn limits() {
    let resources = ok(&[
        "-m",
        "64m",
        "--memory-swap=-1",
        "--cpus",
        "1.5",
        "-c",
        "512",
        "--pids-limit",
        "100",
        "--shm-size",
        "1g",
        "--ulimit",
        "nofile=1024:2048",
        "--ulimit",
        "core=0",
        "--device",
        "/dev/null:/dev/x:r",
        "--sysctl",
        "net.core.somaxconn=1024",
        "--oom-score-adj",
        "-500",
        "--cpuset-cpus",
        "0-1",
        "x",
    ])
    .resources;
    assert_eq!(resources.memory_bytes, Some(64 << 20));
    assert_eq!(resources.memory_swap_bytes, Some(-1));
    assert_eq!(resources.nano_cpus, Some(1_500_000_000));
    assert_eq!(resources.cpu_shares, Some(512));
    assert_eq!(resources.pids_limit, Some(100));
    assert_eq!(resources.shm_size_bytes, Some(1 << 30));
    assert_eq!(resources.oom_score_adj, Some(-500));
    assert_eq!(
        resources.ulimits[0],
        Ulimit {
            name: "nofile".into(),
            soft: 1024,
            hard: 2048
        }
    );
    assert_eq!(
        resources.ulimits[1],
        Ulimit {
            name: "core".into(),
            soft: 0,
            hard: 0
        }
    );
    let device = Device {
        host: "/dev/null".into(),
        container: "/dev/x".into(),
        permissions: "r".into(),
    };
    assert_eq!(resources.devices, [device]);
    assert_eq!(resources.sysctls["net.core.somaxconn"], "1024");
}

#[test]
fn networks() {
    let network = |words: &[&str]| ok(words).network;
    assert_eq!(network(&["x"]), NetworkRequest::Default);
    assert_eq!(network(&["--net", "bridge", "x"]), NetworkRequest::Default);
    assert_eq!(network(&["--network=host", "x"]), NetworkRequest::Host);
    assert_eq!(network(&["--network", "none", "x"]), NetworkRequest::None);
    assert_eq!(
        network(&["--network", "container:other", "x"]),
        NetworkRequest::Container("other".into())
    );
    let endpoint = |name: &str| EndpointConfig {
        network: name.into(),
        ..EndpointConfig::default()
    };
    assert_eq!(
        network(&["--network", "a", "--network", "b", "x"]),
        NetworkRequest::Networks(vec![endpoint("a"), endpoint("b")])
    );
    let long = EndpointConfig {
        aliases: vec!["db".into(), "store".into()],
        ipv4: Some("10.1.2.3".parse().unwrap()),
        ..endpoint("a")
    };
    assert_eq!(
        network(&["--network", "name=a,alias=db,alias=store,ip=10.1.2.3", "x"]),
        NetworkRequest::Networks(vec![long])
    );
    let fixed = EndpointConfig {
        ipv4: Some("10.1.2.3".parse().unwrap()),
        ..endpoint("a")
    };
    assert_eq!(
        network(&["--network", "a", "--ip", "10.1.2.3", "x"]),
        NetworkRequest::Networks(vec![fixed])
    );
    assert_eq!(
        ok(&["--net", "a", "--net-alias", "q", "x"]).network_aliases,
        ["q"]
    );
    let hosts = ok(&[
        "--add-host",
        "a:1.2.3.4",
        "--add-host",
        "b=host-gateway",
        "--add-host",
        "c:::1",
        "x",
    ])
    .extra_hosts;
    assert_eq!(hosts, ["a:1.2.3.4", "b:host-gateway", "c:::1"]);
}

#[test]
fn ports_and_mounts() {
    let request = ok(&[
        "-p8080:80",
        "-p",
        "127.0.0.1:53:53/udp",
        "--expose",
        "7000-7001",
        "-P",
        "-v",
        "data:/var/lib",
        "-v",
        "./x:/x:ro",
        "--tmpfs",
        "/run",
        "x",
    ]);
    assert_eq!(request.ports.len(), 2);
    assert_eq!(request.ports[0].host_port, Some(8080));
    assert_eq!(request.exposed.len(), 2);
    assert!(request.publish_all);
    assert_eq!(request.mounts.len(), 3);
    assert!(request.mounts[1].read_only);
    assert_eq!(
        read(&["-v", "aa:/x", "-v", "bb:/x", "y"]).unwrap_err(),
        "Duplicate mount point: /x"
    );
}

#[test]
fn security_and_namespaces() {
    let request = ok(&[
        "--privileged",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop=ALL",
        "--read-only",
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        "seccomp=unconfined",
        "--pid",
        "host",
        "--ipc",
        "container:other",
        "x",
    ]);
    assert!(
        request.security.privileged
            && request.security.read_only
            && request.security.no_new_privileges
    );
    assert_eq!(request.security.cap_add, ["NET_ADMIN"]);
    assert_eq!(request.security.cap_drop, ["ALL"]);
    assert_eq!(request.security.seccomp, Seccomp::Unconfined);
    assert_eq!(request.namespaces.pid, NamespaceMode::Host);
    assert_eq!(
        request.namespaces.ipc,
        NamespaceMode::Container(Id::from_bytes([7; 32]))
    );
}

#[test]
fn restart_policies() {
    let policy = |text: &str| read(&["--restart", text, "x"]).map(|request| request.restart);
    assert_eq!(policy("always").unwrap(), RestartPolicy::Always);
    assert_eq!(
        policy("unless-stopped").unwrap(),
        RestartPolicy::UnlessStopped
    );
    assert_eq!(policy("on-failure:3").unwrap(), RestartPolicy::OnFailure(3));
    assert_eq!(policy("on-failure").unwrap(), RestartPolicy::OnFailure(0));
    assert!(
        policy("always:3")
            .unwrap_err()
            .contains("can only be used with 'on-failure'")
    );
    assert!(
        policy("sometimes")
            .unwrap_err()
            .contains("unknown policy 'sometimes'")
    );
}

#[test]
fn health() {
    let check = ok(&[
        "--health-cmd",
        "true",
        "--health-interval",
        "2s",
        "--health-retries=5",
        "x",
    ])
    .health
    .unwrap();
    assert_eq!(check.test, ["CMD-SHELL", "true"]);
    assert_eq!((check.interval, check.retries), (2_000_000_000, 5));
    assert_eq!(
        ok(&["--no-healthcheck", "x"]).health.unwrap().test,
        ["NONE"]
    );
    assert!(ok(&["x"]).health.is_none());
}

#[test]
fn wrong_values_are_told_in_docker_words() {
    let wrong = |words: &[&str], text: &str| {
        assert_eq!(
            read(words).map(|request| request.image).unwrap_err(),
            text,
            "{words:?}"
        );
    };
    wrong(
        &["-m", "abc", "x"],
        "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'",
    );
    wrong(
        &["--cpus", "abc", "x"],
        "invalid argument \"abc\" for \"--cpus\" flag: failed to parse abc as a rational number",
    );
    wrong(
        &["-e", "=x", "y"],
        "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x",
    );
    wrong(
        &["-l", "=x", "y"],
        "invalid argument \"=x\" for \"-l, --label\" flag: invalid label '=x': empty name",
    );
    wrong(
        &["--ulimit", "x", "y"],
        "invalid argument \"x\" for \"--ulimit\" flag: invalid ulimit argument: x",
    );
    wrong(
        &["--add-host", "x", "y"],
        "invalid argument \"x\" for \"--add-host\" flag: bad format for add-host: \"x\"",
    );
    wrong(
        &["--dns", "x", "y"],
        "invalid argument \"x\" for \"--dns\" flag: IP address is not correctly formatted: x",
    );
    wrong(
        &["--sysctl", "x", "y"],
        "invalid argument \"x\" for \"--sysctl\" flag: sysctl 'x' is not allowed",
    );
    wrong(
        &["--network", "a,b=c", "y"],
        "invalid argument \"a,b=c\" for \"--network\" flag: invalid field a",
    );
    wrong(
        &["--mount", "type=bind,src=/a", "y"],
        "invalid argument \"type=bind,src=/a\" for \"--mount\" flag: target is required",
    );
    wrong(&["-p", "abc", "y"], "invalid containerPort: abc");
    wrong(
        &["--pull", "foo", "y"],
        "invalid pull option: 'foo': must be one of \"always\", \"missing\" or \"never\"",
    );
    wrong(
        &["--mac-address", "zz", "y"],
        "zz is not a valid mac address",
    );
    wrong(&["--pid", "x", "y"], "--pid: invalid PID mode");
    wrong(&["--userns", "x", "y"], "--userns: invalid USER mode");
    wrong(
        &["--security-opt", "foo", "y"],
        "Invalid --security-opt: \"foo\"",
    );
    wrong(
        &["--rm", "--restart", "always", "y"],
        "conflicting options: cannot specify both --restart and --rm",
    );
    wrong(
        &["--health-cmd", "x", "--no-healthcheck", "y"],
        "--no-healthcheck conflicts with --health-* options",
    );
    wrong(
        &["--network", "host", "--network-alias", "a", "y"],
        "network-scoped aliases are only supported for user-defined networks",
    );
    wrong(&["--memory"], "flag needs an argument: --memory");
    wrong(&["-u"], "flag needs an argument: 'u' in -u");
    wrong(&["--nosuch", "x"], "unknown flag: --nosuch");
    wrong(&["-z", "x"], "unknown shorthand flag: 'z' in -z");
}
