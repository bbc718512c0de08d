use std::collections::BTreeMap;

use ketch_network::{EndpointRequest, NetworkRecord};
use serde_json::json;

use super::*;
use crate::container::config::{EndpointConfig, NetworkMode};
use crate::container::state::Status;
use crate::container::{load, test_support::put};
use crate::lock::OwnerLock;
use crate::test_support::engine;

fn named(name: &str) -> NetworkRequest {
    NetworkRequest {
        name: name.into(),
        ..Default::default()
    }
}

fn with_subnet(name: &str, subnet: &str) -> NetworkRequest {
    NetworkRequest {
        subnets: vec![subnet.into()],
        ..named(name)
    }
}

fn refusal<T>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.err().expect("a refusal");
    (error.kind, error.message)
}

/// A container on disk that is in the network `bridge` when it runs.
fn container(engine: &Engine, name: &str, status: Status) -> Id {
    let mut config = put(engine, name, status);
    config.network.endpoints = vec![EndpointConfig {
        network: DEFAULT.into(),
        ..Default::default()
    }];
    load::write_config(engine, &config).unwrap();
    config.id
}

fn networks_of(engine: &Engine, id: &Id) -> Vec<String> {
    let (config, _) = load::load_record(engine, id).unwrap();
    config
        .network
        .endpoints
        .into_iter()
        .map(|endpoint| endpoint.network)
        .collect()
}

/// An endpoint record of a running container, as [`ketch_network::join`] leaves it, without anything in the kernel.
fn endpoint(engine: &Engine, network: &NetworkRecord, container: &Id) {
    let request = EndpointRequest {
        container: container.clone(),
        name: "web".into(),
        aliases: Vec::new(),
        ipv4: None,
        mac: None,
    };
    let record = json!({
        "version": 1, "network_id": network.id, "container": request.container, "endpoint_id": network.id,
        "name": request.name, "ipv4": "10.77.0.2", "prefix": 24, "mac": "02:42:0a:4d:00:02", "host_link": "kt0",
    });
    let dir = engine.paths().network_dir(&network.id).join("endpoints");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{container}.json")), record.to_string()).unwrap();
}

#[test]
fn three_networks_exist_from_the_start() {
    let (_dir, engine) = engine();
    let names: Vec<String> = list(&engine)
        .unwrap()
        .into_iter()
        .map(|network| network.name)
        .collect();
    assert_eq!(names, ["bridge", "host", "none"]);
    let bridge = resolve(&engine, "bridge").unwrap();
    assert_eq!(bridge.id, resolve(&engine, "default").unwrap().id);
    assert_eq!(bridge.bridge, "ketch0");
    assert_eq!(resolve(&engine, "none").unwrap().driver, "null");
    for name in PREDEFINED {
        let words = format!("{name} is a pre-defined network and cannot be removed");
        assert_eq!(
            refusal(remove(&engine, name)),
            (ErrorKind::Forbidden, words)
        );
    }
}

#[test]
fn a_network_is_found_by_name_id_and_prefix_until_it_is_removed() {
    let (_dir, engine) = engine();
    let made = create(&engine, with_subnet("mine", "10.77.0.0/24")).unwrap();
    assert_eq!(made.subnets[0].gateway.to_string(), "10.77.0.1");
    for wanted in ["mine", made.id.as_str(), made.id.short()] {
        assert_eq!(resolve(&engine, wanted).unwrap(), made, "{wanted}");
    }
    remove(&engine, made.id.short()).unwrap();
    assert_eq!(
        refusal(resolve(&engine, "mine")),
        (ErrorKind::NotFound, "network mine not found".into())
    );
    assert_eq!(refusal(remove(&engine, "mine")).0, ErrorKind::NotFound);
    let again = create(&engine, named("mine")).unwrap();
    assert_ne!(again.id, made.id);
    let left: Vec<_> = std::fs::read_dir(engine.paths().networks_dir())
        .unwrap()
        .flatten()
        .collect();
    assert!(
        !left
            .iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(REMOVING))
    );
}

#[test]
fn names_and_subnets_are_taken_once() {
    let (_dir, engine) = engine();
    create(&engine, with_subnet("mine", "10.77.0.0/24")).unwrap();
    let words = "network with name mine already exists".to_owned();
    assert_eq!(
        refusal(create(&engine, named("mine"))),
        (ErrorKind::Conflict, words)
    );
    let words =
        "invalid pool request: Pool overlaps with other one on this address space".to_owned();
    for subnet in ["10.77.0.0/24", "10.77.0.0/16", "10.77.0.128/25"] {
        assert_eq!(
            refusal(create(&engine, with_subnet("other", subnet))),
            (ErrorKind::Forbidden, words.clone())
        );
    }
    let (one, two) = (
        create(&engine, named("one")).unwrap(),
        create(&engine, named("two")).unwrap(),
    );
    assert!(!one.subnets[0].subnet.overlaps(two.subnets[0].subnet));
}

#[test]
fn many_creators_at_once_get_different_subnets_and_one_gets_the_name() {
    let (_dir, engine) = engine();
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let engine = &engine;
                scope.spawn(move || {
                    create(engine, named(&format!("n{number}"))).unwrap();
                    usize::from(create(engine, named("same")).is_ok())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(made, 1);
    let networks = list(&engine).unwrap();
    for (at, network) in networks.iter().enumerate() {
        for other in &networks[at + 1..] {
            let pair = (network.subnets.first(), other.subnets.first());
            assert!(
                !matches!(pair, (Some(a), Some(b)) if a.subnet.overlaps(b.subnet)),
                "{pair:?}"
            );
        }
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let (_dir, engine) = engine();
    let cases: [(NetworkRequest, ErrorKind, &str); 9] = [
        (named("bridge"), ErrorKind::Forbidden, "predefined bridge"),
        (named("a b"), ErrorKind::Invalid, "a b"),
        (
            NetworkRequest {
                driver: "overlay".into(),
                ..named("ab")
            },
            ErrorKind::Unsupported,
            "overlay",
        ),
        (
            NetworkRequest {
                driver: "weave".into(),
                ..named("ab")
            },
            ErrorKind::NotFound,
            "weave",
        ),
        (
            NetworkRequest {
                ipv6: true,
                ..named("ab")
            },
            ErrorKind::Unsupported,
            "IPv6",
        ),
        (
            with_subnet("ab", "fd00::/64"),
            ErrorKind::Unsupported,
            "fd00::/64",
        ),
        (
            with_subnet("ab", "10.77.0.9/24"),
            ErrorKind::Invalid,
            "10.77.0.0/24",
        ),
        (
            NetworkRequest {
                gateways: vec!["10.9.0.1".into()],
                ..with_subnet("ab", "10.77.0.0/24")
            },
            ErrorKind::Invalid,
            "10.9.0.1",
        ),
        (
            NetworkRequest {
                options: BTreeMap::from([("parent".into(), "eth0".into())]),
                ..named("ab")
            },
            ErrorKind::Unsupported,
            "parent",
        ),
    ];
    for (request, kind, word) in cases {
        let (found, message) = refusal(create(&engine, request));
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn inspection_is_docker_s() {
    let (_dir, engine) = engine();
    let request = NetworkRequest {
        ip_ranges: vec!["10.77.0.128/25".into()],
        gateways: vec!["10.77.0.254".into()],
        internal: true,
        labels: BTreeMap::from([("a".into(), "b".into())]),
        ..with_subnet("mine", "10.77.0.0/24")
    };
    let network = create(&engine, request).unwrap();
    let web = container(&engine, "web", Status::Exited);
    endpoint(&engine, &network, &web);
    let value = inspect(&engine, "mine").unwrap();
    let config = json!([{ "Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25", "Gateway": "10.77.0.254" }]);
    assert_eq!(value["IPAM"]["Config"], config);
    assert_eq!(
        (&value["Internal"], &value["Labels"]["a"], &value["Scope"]),
        (&json!(true), &json!("b"), &json!("local"))
    );
    let user = &value["Containers"][web.as_str()];
    assert_eq!(
        (&user["Name"], &user["IPv4Address"]),
        (&json!("web"), &json!("10.77.0.2/24"))
    );
    assert_eq!(
        inspect(&engine, "host").unwrap()["IPAM"]["Config"],
        json!(null)
    );
}

#[test]
fn a_network_in_use_stays() {
    let (_dir, engine) = engine();
    let network = create(&engine, with_subnet("mine", "10.77.0.0/24")).unwrap();
    let web = container(&engine, "web", Status::Running);
    let monitor = OwnerLock::take(&engine.paths().owner_lock(&web))
        .unwrap()
        .expect("the lock");
    endpoint(&engine, &network, &web);
    let (kind, message) = refusal(remove(&engine, "mine"));
    assert_eq!(kind, ErrorKind::Forbidden);
    let words = format!(
        "error while removing network: network mine id {} has active endpoints (name:\"web\" id:\"{}\")",
        network.id,
        network.id.short()
    );
    assert_eq!(message, words);
    assert!(prune(&engine, &PruneOptions::default()).unwrap().is_empty());
    assert!(resolve(&engine, "mine").is_ok());
    // The container has gone and left its place.
    std::fs::remove_dir_all(engine.paths().container_dir(&web)).unwrap();
    drop(monitor);
    remove(&engine, "mine").unwrap();
}

#[test]
fn pruning_takes_networks_that_no_container_refers_to() {
    let (_dir, engine) = engine();
    for name in ["used", "kept", "gone"] {
        create(&engine, named(name)).unwrap();
    }
    let labels = BTreeMap::from([("keep".into(), "1".into())]);
    create(
        &engine,
        NetworkRequest {
            labels,
            ..named("labelled")
        },
    )
    .unwrap();
    let web = container(&engine, "web", Status::Exited);
    connect(&engine, "used", web.as_str(), EndpointConfig::default()).unwrap();
    let options = PruneOptions {
        without_labels: vec!["keep".into()],
        ..Default::default()
    };
    assert_eq!(prune(&engine, &options).unwrap(), ["gone", "kept"]);
    let names: Vec<String> = list(&engine)
        .unwrap()
        .into_iter()
        .map(|network| network.name)
        .collect();
    assert_eq!(names, ["bridge", "host", "labelled", "none", "used"]);
}

#[test]
fn a_stopped_container_is_connected_and_disconnected_in_its_config() {
    let (_dir, engine) = engine();
    let network = create(&engine, with_subnet("mine", "10.77.0.0/24")).unwrap();
    let web = container(&engine, "web", Status::Exited);
    let wanted = EndpointConfig {
        ipv4: Some([10, 77, 0, 9].into()),
        aliases: vec!["site".into()],
        ..Default::default()
    };
    connect(&engine, network.id.short(), "web", wanted).unwrap();
    assert_eq!(networks_of(&engine, &web), ["bridge", "mine"]);
    let words = "endpoint with name web already exists in network mine".to_owned();
    assert_eq!(
        refusal(connect(&engine, "mine", "web", EndpointConfig::default())),
        (ErrorKind::Forbidden, words)
    );
    disconnect(&engine, "mine", "web", false).unwrap();
    assert_eq!(networks_of(&engine, &web), ["bridge"]);
    let words = format!("container {web} is not connected to network mine");
    assert_eq!(
        refusal(disconnect(&engine, "mine", "web", false)),
        (ErrorKind::Forbidden, words)
    );
}

#[test]
fn connections_that_cannot_be_are_refused() {
    let (_dir, engine) = engine();
    create(&engine, with_subnet("mine", "10.77.0.0/24")).unwrap();
    let mut config = put(&engine, "shared", Status::Created);
    config.network.mode = NetworkMode::Host;
    load::write_config(&engine, &config).unwrap();
    container(&engine, "web", Status::Created);
    let outside = EndpointConfig {
        ipv4: Some([10, 78, 0, 9].into()),
        ..Default::default()
    };
    for (result, kind) in [
        (
            connect(&engine, "mine", "shared", EndpointConfig::default()),
            ErrorKind::Forbidden,
        ),
        (
            connect(&engine, "host", "web", EndpointConfig::default()),
            ErrorKind::Forbidden,
        ),
        (connect(&engine, "mine", "web", outside), ErrorKind::Invalid),
        (
            connect(&engine, "absent", "web", EndpointConfig::default()),
            ErrorKind::NotFound,
        ),
        (
            connect(&engine, "mine", "absent", EndpointConfig::default()),
            ErrorKind::NotFound,
        ),
        (
            disconnect(&engine, "host", "shared", false),
            ErrorKind::Forbidden,
        ),
        (
            disconnect(&engine, "mine", "absent", true),
            ErrorKind::NotFound,
        ),
    ] {
        assert_eq!(refusal(result).0, kind);
    }
}

#[test]
fn what_killed_commands_left_is_swept() {
    let (_dir, engine) = engine();
    let network = create(&engine, named("mine")).unwrap();
    let half = engine.paths().network_aside(&format!("{CREATING}0123"));
    std::fs::create_dir(&half).unwrap();
    // `remove` was killed after its commit point.
    let aside = engine
        .paths()
        .network_aside(&format!("{REMOVING}{}", network.id));
    std::fs::rename(engine.paths().network_dir(&network.id), &aside).unwrap();
    let names: Vec<String> = list(&engine)
        .unwrap()
        .into_iter()
        .map(|network| network.name)
        .collect();
    assert_eq!(names, PREDEFINED);
    assert!(!half.exists() && !aside.exists());
    assert_eq!(
        names::lookup(&engine, names::NETWORK, "mine").unwrap(),
        None
    );
}
