//! `POST /containers/create`: from Docker's body to the engine's request.

use ketch_engine::container::request::{CreateRequest, PullPolicy};
use ketch_engine::{Result, container, image};
use ketch_spec::signal;
use serde_json::json;

use super::body::{Body, invalid, refuse_set, unsupported};
use super::security::Resolve;
use super::{host, mounts, networks, security};
use crate::call::Call;
use crate::reply::Reply;
use crate::shared::Shared;

/// Makes the container. An image that is not here is the client's to pull.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let engine = &shared.engine;
    let resolve = |name: &str| container::resolve(engine, name);
    let mut request = request(call.json()?, &resolve)?;
    let given = |key: &str| call.query.get(key).map(str::to_owned);
    request.name = given("name");
    request.platform = given("platform");
    let created = container::create(engine, request, &image::Silent)?;
    Ok(Reply::created(
        json!({"Id": created.id, "Warnings": created.warnings}),
    ))
}

fn request(body: Body, resolve: Resolve<'_>) -> Result<CreateRequest> {
    refuse_set("", &body.other)?;
    let mut host = body.host_config.unwrap_or_default();
    refuse_set("HostConfig.", &host.other)?;
    match host.runtime.as_deref() {
        None | Some("" | "ketch" | "runc") => {}
        Some(runtime) => return Err(unsupported(&format!("runtime {runtime}"))),
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let endpoints = body
        .networking_config
        .and_then(|config| config.endpoints_config);
    let mode = host.network_mode.take().unwrap_or_default();
    let mut request = CreateRequest {
        image: body.image,
        pull: PullPolicy::Never,
        command: body.cmd.map(|words| words.into_list()).unwrap_or_default(),
        entrypoint: body.entrypoint.map(|words| words.into_list()),
        env: body.env.unwrap_or_default(),
        working_dir: given(body.working_dir),
        user: given(body.user),
        groups: host.group_add.take().unwrap_or_default(),
        tty: body.tty,
        open_stdin: body.open_stdin,
        stdin_once: body.stdin_once,
        hostname: given(body.hostname),
        domainname: given(body.domainname),
        labels: body.labels.unwrap_or_default(),
        mounts: mounts::mounts(body.volumes, &mut host)?,
        volumes_from: host.volumes_from.take().unwrap_or_default(),
        network: networks::networks(
            &mode,
            given(body.mac_address),
            endpoints.unwrap_or_default(),
        )?,
        resources: host::resources(&mut host)?,
        security: security::security(&mut host)?,
        namespaces: security::namespaces(&host, resolve)?,
        restart: host::restart(host.restart_policy.take())?,
        auto_remove: host.auto_remove,
        init: host.init.unwrap_or(false),
        stop_signal: given(body.stop_signal),
        stop_timeout_s: body.stop_timeout,
        health: body
            .healthcheck
            .filter(|check| *check != Default::default()),
        log: host::log(host.log_config.take()),
        ..CreateRequest::default()
    };
    networks::names_and_ports(body.exposed_ports, &mut host, &mut request)?;
    if let Some(text) = &request.stop_signal {
        signal::parse(text).map_err(|error| invalid(error.to_string()))?;
    }
    if request.auto_remove && request.restart != Default::default() {
        return Err(invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_engine::ErrorKind;
    use ketch_engine::container::config::{NamespaceMode, RestartPolicy};
    use ketch_engine::container::request::NetworkRequest;
    use ketch_spec::mount::MountSource;
    use serde_json::Value;

    fn convert(body: Value) -> Result<CreateRequest> {
        let id = "a".repeat(64).parse().expect("an id");
        request(serde_json::from_value(body).expect("a body"), &|_| {
            Ok(Clone::clone(&id))
        })
    }

    fn host(host: Value) -> Result<CreateRequest> {
        convert(json!({"Image": "busybox", "HostConfig": host}))
    }

    #[test]
    fn what_the_stock_client_sends_for_a_plain_run_is_taken() {
        let request = convert(json!({
            "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true,
            "AttachStderr": true, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": ["true"],
            "Image": "busybox", "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
            "HostConfig": {
                "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
                "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
                "ConsoleSize": [24, 80], "CapAdd": null, "BlkioWeight": 0, "BlkioWeightDevice": [],
                "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "MaskedPaths": null,
            },
            "NetworkingConfig": {"EndpointsConfig": {"default": {
                "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "NetworkID": "", "IPPrefixLen": 0,
            }}},
        }))
        .unwrap();
        assert_eq!(
            (request.image.as_str(), request.command),
            ("busybox", vec!["true".to_owned()])
        );
        assert_eq!(request.network, NetworkRequest::Default);
        assert_eq!(request.resources, Default::default());
        assert_eq!(request.entrypoint, None);
        assert_eq!(request.pull, PullPolicy::Never);
    }

    #[test]
    fn fields_that_are_set_and_not_supported_are_refused_by_name() {
        for (field, value) in [
            ("CgroupParent", json!("/x")),
            ("BlkioWeight", json!(10)),
            ("DeviceRequests", json!([{"Count": -1}])),
            ("Links", json!(["a:b"])),
            ("MemorySwappiness", json!(5)),
            ("MaskedPaths", json!(["/proc/x"])),
            ("StorageOpt", json!({"size": "1g"})),
        ] {
            let error = host(json!({ field: value })).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported);
            assert!(
                error.message.contains(&format!("HostConfig.{field}")),
                "{}",
                error.message
            );
        }
        let error = convert(json!({"Image": "x", "NetworkDisabled": true})).unwrap_err();
        assert_eq!(error.message, "NetworkDisabled is not supported");
        assert!(
            host(json!({"Runtime": "runsc"}))
                .unwrap_err()
                .message
                .contains("runsc")
        );
    }

    #[test]
    fn limits_and_policies_are_carried_over() {
        let request = host(json!({
            "Memory": 1048576, "MemorySwap": -1, "NanoCpus": 500000000, "PidsLimit": 7, "Init": true,
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "", "CgroupPermissions": ""}],
            "PidMode": "container:x", "IpcMode": "host", "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
            "MaskedPaths": [], "ReadonlyPaths": [],
        }))
        .unwrap();
        assert_eq!(request.resources.memory_bytes, Some(1 << 20));
        assert_eq!(request.resources.memory_swap_bytes, Some(-1));
        assert_eq!(request.resources.pids_limit, Some(7));
        assert_eq!(request.resources.devices[0].container, "/dev/null");
        assert_eq!(request.resources.devices[0].permissions, "rwm");
        assert_eq!(request.restart, RestartPolicy::OnFailure(3));
        assert!(
            request.init
                && request.security.no_new_privileges
                && request.security.system_paths_unconfined
        );
        assert!(matches!(
            request.namespaces.pid,
            NamespaceMode::Container(_)
        ));
        assert_eq!(request.namespaces.ipc, NamespaceMode::Host);
        assert!(host(json!({"Memory": -5})).is_err());
        assert!(host(json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}})).is_err());
    }

    #[test]
    fn ports_and_networks_are_carried_over() {
        let request = convert(json!({
            "Image": "x", "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"NetworkMode": "b", "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": ""}],
                "53/udp": [{"HostIp": "", "HostPort": "0"}], "99/tcp": null,
            }},
            "NetworkingConfig": {"EndpointsConfig": {"a": null, "b": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.1.2.3"}}}},
        }))
        .unwrap();
        let shown: Vec<String> = request.ports.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["53/udp", "127.0.0.1:8080:80/tcp", "[::1]::80/tcp"]);
        let NetworkRequest::Networks(endpoints) = request.network else {
            panic!("networks");
        };
        assert_eq!(
            (endpoints[0].network.as_str(), endpoints[1].network.as_str()),
            ("b", "a")
        );
        assert_eq!(endpoints[0].aliases, ["web"]);
        assert_eq!(
            host(json!({"NetworkMode": "host"})).unwrap().network,
            NetworkRequest::Host
        );
        let joined = host(json!({"NetworkMode": "container:web"}))
            .unwrap()
            .network;
        assert_eq!(joined, NetworkRequest::Container("web".into()));
        let both = json!({"Image": "x", "HostConfig": {"NetworkMode": "host"}, "NetworkingConfig": {"EndpointsConfig": {"n": {}}}});
        assert_eq!(convert(both).unwrap_err().kind, ErrorKind::Invalid);
    }

    #[test]
    fn mounts_of_all_kinds_are_carried_over() {
        let request = convert(json!({
            "Image": "x", "Volumes": {"/anonymous": {}, "/data": {}},
            "HostConfig": {
                "Binds": ["data:/data:ro", "/srv:/srv"], "Tmpfs": {"/tmp": "size=1m"},
                "Mounts": [
                    {"Type": "volume", "Source": "named", "Target": "/named", "VolumeOptions": {"NoCopy": true}},
                    {"Type": "bind", "Source": "/etc", "Target": "/host", "ReadOnly": true},
                ],
            },
        }))
        .unwrap();
        let targets: Vec<&str> = request
            .mounts
            .iter()
            .map(|mount| mount.target.as_str())
            .collect();
        assert_eq!(
            targets,
            ["/data", "/srv", "/named", "/host", "/tmp", "/anonymous"]
        );
        assert!(request.mounts[0].read_only);
        assert!(matches!(
            request.mounts[3].source,
            MountSource::Bind { create: false, .. }
        ));
        assert!(host(json!({"Mounts": [{"Type": "npipe", "Target": "/x"}]})).is_err());
        assert!(
            host(json!({"Mounts": [{"Type": "bind", "Source": "rel", "Target": "/x"}]})).is_err()
        );
        assert!(
            host(json!({"Binds": ["aa:/x", "bb:/x"]}))
                .unwrap_err()
                .message
                .contains("Duplicate")
        );
    }
}
