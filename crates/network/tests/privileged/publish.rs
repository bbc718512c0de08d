//! Published ports.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use ketch_network::{Error, PublishRequest, Published, publish, unpublish};
use ketch_spec::port::{Port, PortMapping, Protocol};

use crate::world::{Container, Network, ask, inside, is_refused, output, outside, run};

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn mapping(host_port: Option<u16>, number: u16, protocol: Protocol) -> PortMapping {
    PortMapping {
        host_ip: None,
        host_port,
        host_port_end: None,
        container: Port { number, protocol },
    }
}

fn open(container: &Container, mappings: &[PortMapping]) -> Result<Published, Error> {
    publish(&PublishRequest {
        container: &container.endpoint.container,
        name: &container.endpoint.name,
        endpoint_id: &container.endpoint.endpoint_id,
        address: container.address(),
        host_binding: None,
        mappings,
    })
}

#[test]
fn privileged_a_published_port_is_reached_from_everywhere() {
    run(reach_from_everywhere);
}

#[test]
fn privileged_a_published_port_is_reached_from_everywhere_with_br_netfilter_switched() {
    run(|| {
        // Where the module is there, the other of its two states.
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if let Ok(value) = std::fs::read_to_string(path) {
            std::fs::write(path, if value.trim() == "1" { "0" } else { "1" }).unwrap();
        }
        reach_from_everywhere();
    });
}

fn reach_from_everywhere() {
    let beyond = outside();
    let (one, two) = (Network::new(1, false, &[]), Network::new(2, false, &[]));
    let (server, neighbour, stranger) = (one.container(11), one.container(12), two.container(21));
    let _server = server.serve(80);
    let _published = open(&server, &[mapping(Some(8080), 80, Protocol::Tcp)]).unwrap();
    let from_outside = inside(&beyond, || ask(HOST, 8080));
    assert_eq!(
        from_outside.as_deref(),
        Some("203.0.113.2"),
        "the client's address is kept"
    );
    assert!(ask(HOST, 8080).is_some(), "from the host by its address");
    assert_eq!(
        ask(Ipv4Addr::LOCALHOST, 8080).as_deref(),
        Some("10.1.0.1"),
        "from the host by loopback"
    );
    assert!(
        ask(Ipv4Addr::new(127, 0, 0, 5), 8080).is_some(),
        "by any loopback address"
    );
    assert_eq!(
        neighbour.ask(HOST, 8080).as_deref(),
        Some("10.1.0.1"),
        "from a neighbour"
    );
    assert_eq!(
        server.ask(HOST, 8080).as_deref(),
        Some("10.1.0.1"),
        "from the container itself"
    );
    assert!(
        server.ask(Ipv4Addr::new(10, 1, 0, 1), 8080).is_some(),
        "by the gateway"
    );
    assert_eq!(
        stranger.ask(HOST, 8080).as_deref(),
        Some("10.2.0.2"),
        "from another network"
    );
    unpublish(&server.endpoint.container).unwrap();
    unpublish(&server.endpoint.container).unwrap();
    let rules = output("nft", &["list", "table", "ip", "ketch"]);
    assert!(!rules.contains("8080"), "{rules}");
}

#[test]
fn privileged_a_port_published_on_loopback_is_not_reached_from_outside() {
    run(|| {
        let beyond = outside();
        let network = Network::new(1, false, &[]);
        let server = network.container(11);
        let _server = server.serve(80);
        let local = PortMapping {
            host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ..mapping(Some(8080), 80, Protocol::Tcp)
        };
        let _published = open(&server, &[local]).unwrap();
        assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
        assert!(is_refused(HOST, 8080));
        inside(&beyond, || {
            assert!(is_refused(HOST, 8080));
            // A neighbour can put 127.0.0.1 on the wire, and the kernel would let the translated packet through.
            output("ip", &["address", "del", "127.0.0.1/8", "dev", "lo"]);
            output("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"]);
            output(
                "ip",
                &["route", "add", "127.0.0.1/32", "via", "203.0.113.1"],
            );
            assert!(is_refused(Ipv4Addr::LOCALHOST, 8080));
        });
    });
}

#[test]
fn privileged_a_port_in_use_is_an_error_that_names_it() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let (first, second) = (network.container(11), network.container(12));
        let wanted = [mapping(Some(8080), 80, Protocol::Tcp)];
        let published = open(&first, &wanted).unwrap();
        let error = open(&second, &wanted).unwrap_err().to_string();
        let endpoint = format!("endpoint c12 ({})", second.endpoint.endpoint_id);
        let prefix = format!("driver failed programming external connectivity on {endpoint}: ");
        assert_eq!(
            error,
            format!("{prefix}Bind for 0.0.0.0:8080 failed: port is already allocated")
        );
        assert!(
            std::net::TcpListener::bind("0.0.0.0:8080").is_err(),
            "programs of the host cannot have it either"
        );
        drop(published);
        unpublish(&first.endpoint.container).unwrap();
        let _program = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
        let error = open(&second, &wanted).unwrap_err().to_string();
        let words =
            "failed to bind host port for 0.0.0.0:8080:10.1.0.3:80/tcp: address already in use";
        assert_eq!(error, format!("{prefix}{words}"));
    });
}

#[test]
fn privileged_a_failed_publication_publishes_nothing() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        let _program = std::net::TcpListener::bind("0.0.0.0:8081").unwrap();
        let wanted = [
            mapping(Some(8080), 80, Protocol::Tcp),
            mapping(Some(8081), 81, Protocol::Tcp),
        ];
        open(&container, &wanted).unwrap_err();
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_ok());
        assert!(!output("nft", &["list", "table", "ip", "ketch"]).contains("8080"));
    });
}

#[test]
fn privileged_host_ports_are_chosen_and_ranges_searched() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        let _server = container.serve(80);
        let _program = std::net::TcpListener::bind("0.0.0.0:9000").unwrap();
        let range = PortMapping {
            host_port_end: Some(9003),
            ..mapping(Some(9000), 80, Protocol::Tcp)
        };
        let published = open(&container, &[mapping(None, 80, Protocol::Tcp), range]).unwrap();
        let ports: Vec<u16> = published
            .mappings
            .iter()
            .filter_map(|mapping| mapping.host_port)
            .collect();
        assert!(ports[0] >= 1024);
        assert_eq!(ports[1], 9001);
        for port in ports {
            assert!(ask(Ipv4Addr::LOCALHOST, port).is_some(), "{port}");
        }
    });
}

#[test]
fn privileged_what_a_killed_process_has_published_is_replaced() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let (first, second) = (network.container(11), network.container(12));
        let (_first, _second) = (first.serve(80), second.serve(80));
        let wanted = [mapping(Some(8080), 80, Protocol::Tcp)];
        // The sockets go with the process, the rule stays.
        drop(open(&first, &wanted).unwrap());
        let _published = open(&second, &wanted).unwrap();
        unpublish(&first.endpoint.container).unwrap();
        assert!(
            ask(Ipv4Addr::LOCALHOST, 8080).is_some(),
            "the second container's rule is its own"
        );
    });
}

#[test]
fn privileged_udp_flows_follow_the_port_to_its_new_owner() {
    run(|| {
        let beyond = outside();
        let network = Network::new(1, false, &[]);
        let wanted = [mapping(Some(5353), 53, Protocol::Udp)];
        let client = inside(&beyond, || UdpSocket::bind("203.0.113.2:4000").unwrap());
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client.connect((HOST, 5353)).unwrap();
        for number in [11, 12] {
            let container = network.container(number);
            let server = inside(&container.namespace, || {
                UdpSocket::bind("0.0.0.0:53").unwrap()
            });
            server
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let _published = open(&container, &wanted).unwrap();
            client.send(b"hello").unwrap();
            let mut word = [0; 8];
            let (length, peer) = server.recv_from(&mut word).unwrap();
            assert_eq!(
                (&word[..length], peer.to_string().as_str()),
                (&b"hello"[..], "203.0.113.2:4000")
            );
            server.send_to(b"there", peer).unwrap();
            assert_eq!(client.recv(&mut word).unwrap(), 5);
            unpublish(&container.endpoint.container).unwrap();
        }
    });
}

#[test]
fn privileged_addresses_that_cannot_be_published_on_are_refused_by_name() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let container = network.container(11);
        let on = |address: &str| {
            let host_ip = Some(address.parse().unwrap());
            open(
                &container,
                &[PortMapping {
                    host_ip,
                    ..mapping(Some(8080), 80, Protocol::Tcp)
                }],
            )
            .unwrap_err()
        };
        assert!(matches!(on("::1"), Error::PublishOnIpv6 { .. }));
        let words = on("198.51.100.1").to_string();
        assert!(
            words.ends_with("198.51.100.1:8080:10.1.0.2:80/tcp: cannot assign requested address"),
            "{words}"
        );
    });
}
