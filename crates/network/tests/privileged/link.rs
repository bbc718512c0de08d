//! Links and addresses.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use ketch_network::{
    AttachOptions, Error, attach, detach, endpoint, endpoints, join, leave, sweep_retired,
};

use crate::world::{Network, container_id, inside, new_namespace, output, request, run};

/// All that a network has made on the host, as other programs see it.
fn host_objects() -> String {
    output("ip", &["-br", "link"]) + &output("nft", &["list", "ruleset"])
}

#[test]
fn privileged_containers_of_a_network_reach_each_other_and_the_host() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let (first, second) = (network.container(11), network.container(12));
        assert_eq!(first.address(), Ipv4Addr::new(10, 1, 0, 2));
        assert_eq!(second.address(), Ipv4Addr::new(10, 1, 0, 3));
        let _server = second.serve(80);
        assert_eq!(first.ask(second.address(), 80).as_deref(), Some("10.1.0.2"));
        let _host = crate::world::Server::start(81);
        assert_eq!(
            first.ask(Ipv4Addr::new(10, 1, 0, 1), 81).as_deref(),
            Some("10.1.0.2")
        );
        assert_eq!(
            crate::world::ask(second.address(), 80).as_deref(),
            Some("10.1.0.1")
        );
    });
}

#[test]
fn privileged_the_container_s_link_is_as_docker_makes_it() {
    run(|| {
        let network = Network::new(1, false, &[("com.docker.network.driver.mtu", "1400")]);
        let container = network.container(11);
        let (links, routes) = inside(&container.namespace, || {
            (
                output("ip", &["-o", "address"]) + &output("ip", &["-o", "link"]),
                output("ip", &["route"]),
            )
        });
        assert!(
            links.contains("inet 10.1.0.2/16 brd 10.1.255.255 scope global eth0"),
            "{links}"
        );
        assert!(links.contains("link/ether 02:42:0a:01:00:02"), "{links}");
        assert!(links.contains("mtu 1400"), "{links}");
        assert!(links.contains("127.0.0.1/8"), "{links}");
        assert!(!links.contains("inet6 fe80"), "{links}");
        assert!(routes.contains("default via 10.1.0.1 dev eth0"), "{routes}");
        let host = output("ip", &["-br", "address", "show", "kt-010101010101"]);
        assert!(
            host.contains("UP") && host.contains("10.1.0.1/16") && !host.contains("fe80"),
            "{host}"
        );
    });
}

#[test]
fn privileged_the_last_to_leave_takes_everything_along() {
    run(|| {
        let before = host_objects();
        let (one, two) = (Network::new(1, false, &[]), Network::new(2, true, &[]));
        let containers = [one.container(11), one.container(12), two.container(21)];
        one.leave(11);
        assert!(host_objects().contains("kt-010101010101"));
        one.leave(12);
        let rules = output("nft", &["list", "ruleset"]);
        assert!(
            !rules.contains("kt-010101010101") && rules.contains("kt-020202020202"),
            "{rules}"
        );
        two.leave(21);
        drop(containers);
        // The veth pairs go with their namespaces, which the kernel does behind our back.
        let gone = || host_objects() == before;
        crate::world::wait_until(gone, || format!("left:\n{}", host_objects()));
    });
}

#[test]
fn privileged_leaving_is_idempotent_and_repairs_half_made_endpoints() {
    run(|| {
        let network = Network::new(1, false, &[]);
        network.leave(11);
        let joined = join(&network.dir, &network.record, &request(11)).unwrap();
        assert_eq!(
            endpoint(&network.dir, &container_id(11)).unwrap(),
            Some(joined)
        );
        network.leave(11);
        network.leave(11);
        assert_eq!(endpoints(&network.dir).unwrap(), []);
        assert!(!host_objects().contains("kt"), "{}", host_objects());
    });
}

#[test]
fn privileged_a_place_is_given_up_before_the_same_container_gets_another() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let first = network.container(11);
        let again = network.container(11);
        assert_eq!(first.address(), again.address());
        assert_ne!(first.endpoint.host_link, again.endpoint.host_link);
        assert_eq!(endpoints(&network.dir).unwrap().len(), 1);
    });
}

#[test]
fn privileged_wanted_addresses_are_given_or_refused() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let mut wanted = request(11);
        wanted.ipv4 = Some(Ipv4Addr::new(10, 1, 9, 9));
        wanted.mac = Some("02:00:00:00:00:07".into());
        let record = join(&network.dir, &network.record, &wanted).unwrap();
        assert_eq!(
            (record.ipv4, record.mac.as_str()),
            (Ipv4Addr::new(10, 1, 9, 9), "02:00:00:00:00:07")
        );
        let mut other = request(12);
        for (address, inside) in [
            ([10, 1, 9, 9], true),
            ([10, 1, 0, 1], true),
            ([10, 2, 0, 5], false),
        ] {
            other.ipv4 = Some(address.into());
            let error = join(&network.dir, &network.record, &other).unwrap_err();
            match error {
                Error::AddressInUse { .. } => assert!(inside, "{address:?}"),
                Error::AddressOutside { .. } => assert!(!inside, "{address:?}"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(endpoints(&network.dir).unwrap().len(), 1);
    });
}

#[test]
fn privileged_an_address_without_a_record_is_free_again() {
    run(|| {
        let network = Network::new(1, false, &[]);
        join(&network.dir, &network.record, &request(11)).unwrap();
        // What a crash between the two leaves.
        std::fs::remove_file(
            network
                .dir
                .join("endpoints")
                .join(format!("{}.json", container_id(11))),
        )
        .unwrap();
        let record = join(&network.dir, &network.record, &request(12)).unwrap();
        assert_eq!(record.ipv4, Ipv4Addr::new(10, 1, 0, 2));
    });
}

#[test]
fn privileged_many_containers_join_and_leave_at_once() {
    run(|| {
        let before = host_objects();
        let network = Network::new(1, false, &[]);
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            for number in 100..132 {
                let (network, namespace) = (&network, &namespace);
                scope.spawn(move || {
                    rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
                    for _ in 0..3 {
                        let container = network.container(number);
                        assert!(container.address() > Ipv4Addr::new(10, 1, 0, 1));
                        network.leave(number);
                    }
                });
            }
        });
        assert_eq!(endpoints(&network.dir).unwrap(), []);
        let gone = || host_objects() == before;
        crate::world::wait_until(gone, || format!("left:\n{}", host_objects()));
    });
}

#[test]
fn privileged_disconnecting_removes_the_link_from_a_living_namespace() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        detach(&container.endpoint).unwrap();
        detach(&container.endpoint).unwrap();
        let links = inside(&container.namespace, || output("ip", &["-br", "link"]));
        assert!(!links.contains("eth0"), "{links}");
        network.leave(11);
    });
}

#[test]
fn privileged_a_second_network_leaves_the_default_route_alone() {
    run(|| {
        let (one, two) = (Network::new(1, false, &[]), Network::new(2, false, &[]));
        let container = one.container(11);
        let endpoint = join(&two.dir, &two.record, &request(11)).unwrap();
        let options = AttachOptions {
            interface: "eth1",
            default_route: false,
        };
        attach(&two.record, &endpoint, container.namespace.as_fd(), options).unwrap();
        let routes = inside(&container.namespace, || output("ip", &["route"]));
        assert_eq!(routes.matches("default").count(), 1, "{routes}");
        let neighbour = two.container(22);
        let _server = neighbour.serve(80);
        assert_eq!(
            container.ask(neighbour.address(), 80).as_deref(),
            Some("10.2.0.2")
        );
    });
}

#[test]
fn privileged_a_bridge_of_someone_else_is_left_alone() {
    run(|| {
        let network = Network::new(1, false, &[]);
        output(
            "ip",
            &["link", "add", &network.record.bridge, "type", "bridge"],
        );
        let error = join(&network.dir, &network.record, &request(11)).unwrap_err();
        assert!(matches!(error, Error::BridgeTaken { .. }), "{error}");
        assert!(output("ip", &["-br", "link"]).contains(&network.record.bridge));
        assert_eq!(endpoints(&network.dir).unwrap(), []);
    });
}

#[test]
fn privileged_retired_bridges_of_a_killed_process_are_swept() {
    run(|| {
        let network = Network::new(1, false, &[]);
        join(&network.dir, &network.record, &request(11)).unwrap();
        let retired = leave(&network.dir, &network.record, &container_id(11))
            .unwrap()
            .unwrap();
        assert!(output("ip", &["-br", "link"]).contains("ktx"));
        // The process is killed here; the next start does not wait for it.
        drop(retired);
        join(&network.dir, &network.record, &request(12)).unwrap();
        sweep_retired().unwrap();
        let links = output("ip", &["-br", "link"]);
        assert!(
            !links.contains("ktx") && links.contains(&network.record.bridge),
            "{links}"
        );
    });
}

#[test]
fn privileged_containers_without_inter_container_traffic_reach_the_host_only() {
    run(|| {
        let network = Network::new(
            1,
            false,
            &[("com.docker.network.bridge.enable_icc", "false")],
        );
        let (first, second) = (network.container(11), network.container(12));
        let _server = second.serve(80);
        assert!(first.is_refused(second.address(), 80));
        assert!(crate::world::ask(second.address(), 80).is_some());
    });
}

#[test]
fn privileged_a_namespace_of_its_own_gets_loopback() {
    run(|| {
        let namespace = new_namespace();
        ketch_network::loopback_up(namespace.as_fd()).unwrap();
        ketch_network::loopback_up(namespace.as_fd()).unwrap();
        let links = inside(&namespace, || output("ip", &["-br", "address"]));
        assert!(links.contains("127.0.0.1/8"), "{links}");
    });
}

#[test]
fn privileged_the_first_packet_of_a_container_gets_through() {
    run(|| {
        let network = Network::new(1, false, &[]);
        for number in 11..31 {
            let container = network.container(number);
            // A dump tells the state without bringing it about, as a question for one link would.
            let links = output("ip", &["-br", "link"]);
            for name in [
                container.endpoint.host_link.as_str(),
                &network.record.bridge,
            ] {
                let line = links.lines().find(|line| line.starts_with(name)).unwrap();
                assert_eq!(line.split_ascii_whitespace().nth(1), Some("UP"), "{line}");
            }
            network.leave(number);
        }
    });
}
