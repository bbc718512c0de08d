use super::*;
use crate::container::state::{EndpointState, ExitRecord};
use crate::container::test_support::put;
use crate::lock::OwnerLock;
use crate::test_support::engine;

#[test]
fn a_container_that_never_ran() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Created);
    let value = inspect(&engine, "web").unwrap();
    assert_eq!(value["Id"], config.id.as_str());
    assert_eq!(value["Name"], "/web");
    assert_eq!(value["State"]["Status"], "created");
    assert_eq!(
        (&value["State"]["Running"], &value["State"]["Pid"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(value["State"]["StartedAt"], NEVER);
    assert_eq!(value["HostConfig"]["NetworkMode"], "bridge");
    assert_eq!(value["HostConfig"]["MaskedPaths"][0], "/proc/asound");
    assert_eq!(value["Config"]["Hostname"], config.id.short());
    assert_eq!(value["NetworkSettings"]["Ports"], json!({}));
}

#[test]
fn a_running_container_shows_its_networks_and_ports() {
    let (_dir, engine) = engine();
    let mut config = put(&engine, "web", Status::Created);
    config
        .network
        .endpoints
        .push(super::super::config::EndpointConfig {
            network: "bridge".into(),
            ..Default::default()
        });
    config.network.exposed = ketch_spec::port::parse_expose("443").unwrap();
    config.process.command = vec!["sleep".into(), "1".into()];
    load::write_config(&engine, &config).unwrap();
    let endpoint = EndpointState {
        network_id: config.id.to_string(),
        ipv4: Some([172, 17, 0, 2].into()),
        ipv4_prefix: 16,
        gateway: Some([172, 17, 0, 1].into()),
        mac: "02:42:ac:11:00:02".into(),
        ..EndpointState::default()
    };
    let state = ContainerState {
        status: Status::Running,
        pid: 42,
        ports: ketch_spec::port::parse_publish("8080:80").unwrap(),
        endpoints: [("bridge".to_owned(), endpoint)].into(),
        ..ContainerState::created()
    };
    load::write_state(&engine, &config, &state).unwrap();
    let _lock = OwnerLock::take(&engine.paths().owner_lock(&config.id))
        .unwrap()
        .unwrap();
    let value = inspect(&engine, "web").unwrap();
    assert_eq!(
        (&value["Path"], &value["Args"]),
        (&json!("sleep"), &json!(["1"]))
    );
    let settings = &value["NetworkSettings"];
    assert_eq!(
        settings["Ports"]["80/tcp"],
        json!([{"HostIp": "0.0.0.0", "HostPort": "8080"}])
    );
    assert_eq!(settings["Ports"]["443/tcp"], Value::Null);
    assert_eq!(settings["IPAddress"], "172.17.0.2");
    assert_eq!(settings["Networks"]["bridge"]["IPPrefixLen"], 16);
}

#[test]
fn the_last_exit_is_shown() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Created);
    let mut state = ContainerState::created();
    let at = "2026-01-02T03:04:05.123456789Z".parse().unwrap();
    state.exited(ExitRecord {
        code: 137,
        signal: Some(9),
        out_of_memory: true,
        at,
        error: "lost".into(),
    });
    load::write_state(&engine, &config, &state).unwrap();
    let value = inspect(&engine, config.id.short()).unwrap();
    let state = &value["State"];
    assert_eq!(
        (&state["ExitCode"], &state["OOMKilled"]),
        (&json!(137), &json!(true))
    );
    assert_eq!(
        (&state["FinishedAt"], &state["Error"]),
        (&json!("2026-01-02T03:04:05.123456789Z"), &json!("lost"))
    );
}
