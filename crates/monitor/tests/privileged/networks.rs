//! Containers on networks: the links, ports and names that a monitor makes, and what is left of them.

use std::io::Read;
use std::net::TcpStream;

use crate::support::{Client, World, eventually};
use ketch_engine::container::config::EndpointConfig;
use ketch_engine::container::request::CreateRequest;
use ketch_engine::container::{self, ExecConfig, NetworkRequest, Status, StopOptions};
use ketch_engine::network;
use ketch_spec::Id;
use ketch_spec::port::{Port, PortMapping, Protocol};

const SERVER: &str = "while :; do echo served | nc -l -p 8080; done";

fn port(host: Option<u16>) -> PortMapping {
    let container = Port {
        number: 8080,
        protocol: Protocol::Tcp,
    };
    PortMapping {
        host_ip: None,
        host_port: host,
        host_port_end: None,
        container,
    }
}

fn inside(world: &World, id: &Id, script: &str) -> (i32, String) {
    let command = ["sh", "-c", script].map(String::from).into();
    let attached = container::exec(
        &world.engine,
        id.as_str(),
        ExecConfig {
            command,
            ..ExecConfig::default()
        },
    );
    let mut client = Client::new(attached.expect("exec").expect("a connection").stream);
    (client.finish().code, client.text())
}

fn on(networks: &[&str]) -> NetworkRequest {
    let endpoint = |name: &&str| EndpointConfig {
        network: (*name).to_owned(),
        ..EndpointConfig::default()
    };
    NetworkRequest::Networks(networks.iter().map(endpoint).collect())
}

fn links() -> Vec<String> {
    // This thread's namespace, not the process's.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("links");
    let names = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| name != "lo")
        .collect()
}

#[test]
fn privileged_a_published_port_is_reached_and_freed() {
    World::enter(|world| {
        let request = CreateRequest {
            network: NetworkRequest::Default,
            ports: vec![port(None)],
            ..world.shell(SERVER)
        };
        let id = world.run_detached(request.clone());
        let state = world.state(&id);
        let address = state.endpoints["bridge"].ipv4.expect("an address");
        let host_port = state.ports[0].host_port.expect("a port");
        let read = |address: (std::net::Ipv4Addr, u16)| {
            eventually("an answer", || {
                let mut text = String::new();
                TcpStream::connect(address)
                    .ok()?
                    .read_to_string(&mut text)
                    .ok()?;
                (text == "served\n").then_some(())
            });
        };
        read((address, 8080));
        read((std::net::Ipv4Addr::LOCALHOST, host_port));
        // A second one on the same port is refused by name, and leaves nothing.
        let taken = CreateRequest {
            ports: vec![port(Some(host_port))],
            ..request
        };
        let second = world.create(taken);
        let error = container::start(
            &world.engine,
            second.as_str(),
            container::StartOptions::default(),
        );
        let error = error.expect_err("the port is taken").to_string();
        assert!(
            error.contains(&host_port.to_string()) && error.contains("already"),
            "{error}"
        );
        container::stop(
            &world.engine,
            id.as_str(),
            StopOptions {
                signal: None,
                timeout_s: Some(0),
            },
        )
        .expect("stop");
        assert!(world.state(&id).endpoints.is_empty());
        container::start(
            &world.engine,
            second.as_str(),
            container::StartOptions::default(),
        )
        .expect("it is free now");
        container::stop(
            &world.engine,
            second.as_str(),
            StopOptions {
                signal: None,
                timeout_s: Some(0),
            },
        )
        .expect("stop");
        eventually("the links are gone", || links().is_empty().then_some(()));
    });
}

#[test]
fn privileged_names_resolve_in_a_user_network_and_follow_connect_and_rename() {
    World::enter(|world| {
        for name in ["one", "two"] {
            let request = network::NetworkRequest {
                name: name.into(),
                ..network::NetworkRequest::default()
            };
            network::create(&world.engine, request).expect("network");
        }
        let server = CreateRequest {
            name: Some("web".into()),
            network: on(&["one"]),
            ..world.shell(SERVER)
        };
        let server = world.run_detached(server);
        let client = world.run_detached(CreateRequest {
            network: on(&["two"]),
            ..world.shell("sleep 1000")
        });
        let ask = |name: &str| inside(world, &client, &format!("nc -w 2 {name} 8080 </dev/null"));
        assert_ne!(ask("web").0, 0, "other networks are other worlds");
        network::connect(
            &world.engine,
            "one",
            client.as_str(),
            EndpointConfig::default(),
        )
        .expect("connect");
        eventually("an answer", || {
            (ask("web") == (0, "served\n".into())).then_some(())
        });
        assert!(world.state(&client).endpoints.contains_key("one"));
        container::rename(&world.engine, server.as_str(), "shop").expect("rename");
        eventually("an answer to the new name", || {
            (ask("shop") == (0, "served\n".into())).then_some(())
        });
        assert_ne!(ask("web").0, 0);
        network::disconnect(&world.engine, "one", client.as_str(), false).expect("disconnect");
        assert_ne!(ask("shop").0, 0);
        let (_, interfaces) = inside(world, &client, "ls /sys/class/net");
        assert_eq!(
            interfaces.split_whitespace().collect::<Vec<_>>(),
            ["eth0", "lo"]
        );
    });
}

#[test]
fn privileged_a_monitor_killed_on_the_way_up_leaves_nothing_that_the_next_command_does_not_undo() {
    World::enter(|world| {
        let request = CreateRequest {
            network: NetworkRequest::Default,
            ports: vec![port(Some(18_080))],
            ..world.shell("sleep 1000")
        };
        let id = world.create(request);
        let cgroup = format!("/sys/fs/cgroup/pids/ketch/{id}");
        let paths = world.engine.paths();
        let endpoint = || {
            let bridge = network::resolve(&world.engine, "bridge").expect("bridge");
            paths
                .network_dir(&bridge.id)
                .join(format!("endpoints/{id}.json"))
        };
        let unified = format!("/sys/fs/cgroup/ketch/{id}");
        let has_cgroup = || {
            [&cgroup, &unified]
                .iter()
                .any(|path| std::path::Path::new(path).exists())
        };
        let moments: [(&str, &dyn Fn() -> bool); 5] = [
            ("at once", &|| true),
            ("with a control socket", &|| {
                paths.control_socket(&id).exists()
            }),
            ("with an address", &|| endpoint().exists()),
            ("with a cgroup", &has_cgroup),
            ("running", &|| world.state(&id).status == Status::Running),
        ];
        for (moment, reached) in moments {
            std::thread::scope(|scope| {
                let starting = scope.spawn(|| {
                    container::start(
                        &world.engine,
                        id.as_str(),
                        container::StartOptions::default(),
                    )
                });
                let monitor = eventually("a monitor", || world.monitors().first().copied());
                eventually(moment, || reached().then_some(()));
                let pid = rustix::process::Pid::from_raw(i32::try_from(monitor).expect("pid"))
                    .expect("pid");
                // It may be through already, but it does not end by itself.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
                let _ = starting.join().expect("thread");
            });
            eventually("the monitor is gone", || {
                world.monitors().is_empty().then_some(())
            });
            // Its child may hold the owner lock for a moment longer; a command that comes then finds a verb at work.
            eventually(&format!("nothing is left, killed {moment}"), || {
                let down = world.state(&id).status != Status::Running;
                (down && !endpoint().exists() && !has_cgroup() && !paths.run_dir(&id).exists())
                    .then_some(())
            });
            eventually("the links are gone", || links().is_empty().then_some(()));
        }
        container::start(
            &world.engine,
            id.as_str(),
            container::StartOptions::default(),
        )
        .expect("it starts");
        container::stop(
            &world.engine,
            id.as_str(),
            StopOptions {
                signal: None,
                timeout_s: Some(0),
            },
        )
        .expect("stop");
    });
}
