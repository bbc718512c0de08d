//! What reaches what.

use std::net::Ipv4Addr;

use crate::world::{Network, Server, inside, is_refused, output, outside, run};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

#[test]
fn privileged_containers_reach_the_outside_under_the_host_s_address() {
    run(|| {
        let beyond = outside();
        let _server = inside(&beyond, || Server::start(80));
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        assert_eq!(container.ask(OUTSIDE, 80), Some(HOST.to_string()));
    });
}

#[test]
fn privileged_the_outside_does_not_reach_unpublished_ports() {
    run(|| {
        let beyond = outside();
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        let _server = container.serve(80);
        // A neighbour on the link that routes to the container through the host.
        inside(&beyond, || {
            output("ip", &["route", "add", "10.1.0.0/16", "via", "203.0.113.1"]);
            assert!(is_refused(container.address(), 80));
        });
    });
}

#[test]
fn privileged_networks_do_not_reach_each_other() {
    run(|| {
        let (one, two) = (Network::new(1, false, &[]), Network::new(2, false, &[]));
        let (here, there) = (one.container(11), two.container(21));
        let (_here, _there) = (here.serve(80), there.serve(80));
        assert!(here.is_refused(there.address(), 80));
        assert!(there.is_refused(here.address(), 80));
    });
}

#[test]
fn privileged_internal_networks_reach_themselves_only() {
    run(|| {
        let beyond = outside();
        let _server = inside(&beyond, || Server::start(80));
        let (internal, open) = (Network::new(1, true, &[]), Network::new(2, false, &[]));
        let (container, neighbour) = (internal.container(11), internal.container(12));
        let other = open.container(21);
        let (_neighbour, _other) = (neighbour.serve(80), other.serve(80));
        assert!(container.ask(neighbour.address(), 80).is_some());
        inside(&container.namespace, || {
            assert!(!output("ip", &["route"]).contains("default"));
            // Even a container that gives itself a route gets nowhere.
            output("ip", &["route", "add", "default", "via", "10.1.0.1"]);
        });
        assert!(container.is_refused(OUTSIDE, 80));
        assert!(container.is_refused(other.address(), 80));
        assert!(other.is_refused(container.address(), 80));
    });
}

#[test]
fn privileged_the_host_s_loopback_is_hidden_from_containers() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        let _host = Server::start(81);
        inside(&container.namespace, || {
            output("ip", &["route", "add", "127.0.0.99/32", "via", "10.1.0.1"]);
            output("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"]);
            output("ip", &["address", "del", "127.0.0.1/8", "dev", "lo"]);
        });
        assert!(container.is_refused(Ipv4Addr::new(127, 0, 0, 99), 81));
    });
}

#[test]
fn privileged_rules_that_another_program_flushed_come_back_with_the_next_container() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let _first = network.container(11);
        output("nft", &["flush", "ruleset"]);
        let _second = network.container(12);
        let rules = output("nft", &["list", "table", "ip", "ketch"]);
        assert!(rules.contains("kt-010101010101"), "{rules}");
    });
}
