//! Names, as resolvers in containers ask for them.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ketch_network::dns::{EndpointNames, Server};
use ketch_network::{AttachOptions, attach, join};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::world::{Container, Network, container_id, inside, new_namespace, output, request, run};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs something while a container's name server works, as a monitor's loop would.
fn serving<T>(
    container: &Container,
    network: &Network,
    upstreams: &[IpAddr],
    work: impl FnOnce() -> T,
) -> T {
    let mut server = Server::open(container.namespace.as_fd(), upstreams).unwrap();
    let mut names = EndpointNames::new([(network.record.name.clone(), network.dir.clone())]);
    let stop = AtomicBool::new(false);
    let host = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::move_into_link_name_space(host.as_fd(), None).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let timeout = Timespec {
                    tv_sec: 0,
                    tv_nsec: 20_000_000,
                };
                poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&timeout)).unwrap();
                server.handle(&mut names).unwrap();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn query(number: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(number, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// The answer over UDP, asked in the present namespace.
fn ask(name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((ADDRESS, 53)).unwrap();
    socket.send(&query(77, name, kind)).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn read_stream(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn write_stream(stream: &mut TcpStream, message: &[u8]) {
    stream
        .write_all(&u16::try_from(message.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(message).unwrap();
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

/// What the host's resolver says: `198.51.100.9` for everything, and who asked.
fn resolver_answer(query: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    let name = query.queries[0].name().clone();
    answer.add_query(query.queries[0].clone());
    answer.add_answer(Record::from_rdata(
        name,
        5,
        RData::A(A(Ipv4Addr::new(198, 51, 100, 9))),
    ));
    answer.to_vec().unwrap()
}

#[test]
fn privileged_a_real_resolver_finds_containers_by_name() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let client = network.container(11);
        let mut wanted = request(12);
        wanted.aliases = vec!["Site".into()];
        join(&network.dir, &network.record, &wanted).unwrap();
        let look_up = |name: &str| {
            inside(&client.namespace, || {
                let found = Command::new("busybox")
                    .args(["nslookup", name, "127.0.0.11"])
                    .output()
                    .unwrap();
                String::from_utf8(found.stdout).unwrap()
            })
        };
        serving(&client, &network, &[], || {
            for name in ["c12", "C12", "site", "c12.net1", container_id(12).short()] {
                let found = look_up(name);
                assert!(found.contains("10.1.0.3"), "{name}: {found}");
            }
            assert!(look_up("c11").contains("10.1.0.2"));
            assert!(
                look_up("absent").contains("NXDOMAIN"),
                "{}",
                look_up("absent")
            );
            assert!(
                look_up("10.1.0.3").contains("c12.net1"),
                "{}",
                look_up("10.1.0.3")
            );
            network.leave(12);
            assert!(!look_up("c12").contains("10.1.0.3"));
        });
    });
}

#[test]
fn privileged_software_in_the_container_can_have_port_53() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let client = network.container(11);
        serving(&client, &network, &[], || {
            inside(&client.namespace, || {
                let _own = UdpSocket::bind("0.0.0.0:53").unwrap();
                let _own = TcpListener::bind("0.0.0.0:53").unwrap();
                assert_eq!(addresses(&ask("c11.", RecordType::A)), ["10.1.0.2"]);
            });
        });
    });
}

#[test]
fn privileged_a_name_of_several_containers_has_all_their_addresses_in_turn() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let client = network.container(11);
        for number in [12, 13] {
            let mut wanted = request(number);
            wanted.aliases = vec!["db".into()];
            join(&network.dir, &network.record, &wanted).unwrap();
        }
        serving(&client, &network, &[], || {
            inside(&client.namespace, || {
                let first = addresses(&ask("db.", RecordType::A));
                let second = addresses(&ask("db.", RecordType::A));
                assert_eq!(first.len(), 2);
                assert_ne!(first, second);
                let empty = ask("db.", RecordType::AAAA);
                assert_eq!(
                    (empty.metadata.response_code, empty.answers.len()),
                    (ResponseCode::NoError, 0)
                );
            });
        });
    });
}

#[test]
fn privileged_other_names_are_asked_of_the_host_s_resolvers() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let client = network.container(11);
        let resolver = UdpSocket::bind((RESOLVER, 53)).unwrap();
        resolver.set_read_timeout(Some(PATIENCE)).unwrap();
        // The first resolver refuses: nobody listens there.
        let upstreams = [
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
            IpAddr::V4(RESOLVER),
        ];
        serving(&client, &network, &upstreams, || {
            let answer = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut buffer = [0; 512];
                    let (length, asker) = resolver.recv_from(&mut buffer).unwrap();
                    let right = resolver_answer(&buffer[..length]);
                    // A forged answer with another number, and one to another question, are not taken.
                    let mut wrong = right.clone();
                    wrong[0] ^= 1;
                    wrong[right.len() - 1] = 66;
                    resolver.send_to(&wrong, asker).unwrap();
                    let other = query(
                        u16::from_be_bytes([buffer[0], buffer[1]]),
                        "other.test.",
                        RecordType::A,
                    );
                    resolver.send_to(&resolver_answer(&other), asker).unwrap();
                    resolver.send_to(&right, asker).unwrap();
                });
                inside(&client.namespace, || ask("debian.test.", RecordType::A))
            });
            assert_eq!(answer.metadata.id, 77);
            assert_eq!(addresses(&answer), ["198.51.100.9"]);
        });
    });
}

#[test]
fn privileged_without_resolvers_other_names_are_denied_at_once() {
    run(|| {
        let network = Network::new(1, true, &[]);
        let client = network.container(11);
        serving(&client, &network, &[], || {
            inside(&client.namespace, || {
                assert_eq!(
                    ask("absent.", RecordType::A).metadata.response_code,
                    ResponseCode::NXDomain
                );
                assert_eq!(
                    ask("debian.test.", RecordType::A).metadata.response_code,
                    ResponseCode::ServFail
                );
            });
        });
        let silent = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];
        serving(&client, &network, &silent, || {
            let answer = inside(&client.namespace, || ask("debian.test.", RecordType::A));
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::ServFail,
                "nobody listens there"
            );
        });
    });
}

#[test]
fn privileged_questions_over_tcp_are_answered_and_passed_on() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let client = network.container(11);
        let resolver = TcpListener::bind((RESOLVER, 53)).unwrap();
        serving(&client, &network, &[IpAddr::V4(RESOLVER)], || {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = resolver.accept().unwrap();
                    let asked = read_stream(&mut stream);
                    write_stream(&mut stream, &resolver_answer(&asked));
                });
                let mut stream = inside(&client.namespace, || {
                    TcpStream::connect((ADDRESS, 53)).unwrap()
                });
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // Two questions at once, on one connection.
                let mut both = Vec::new();
                for (number, name) in [(1, "c11."), (2, "debian.test.")] {
                    let question = query(number, name, RecordType::A);
                    both.extend(u16::try_from(question.len()).unwrap().to_be_bytes());
                    both.extend(question);
                }
                stream.write_all(&both).unwrap();
                let own = Message::from_vec(&read_stream(&mut stream)).unwrap();
                assert_eq!(
                    (own.metadata.id, addresses(&own)),
                    (1, vec!["10.1.0.2".to_owned()])
                );
                let passed = Message::from_vec(&read_stream(&mut stream)).unwrap();
                assert_eq!(
                    (passed.metadata.id, addresses(&passed)),
                    (2, vec!["198.51.100.9".to_owned()])
                );
            });
        });
    });
}

#[test]
fn privileged_garbage_does_no_harm() {
    run(|| {
        let network = Network::new(1, false, &[]);
        let client = network.container(11);
        serving(&client, &network, &[], || {
            inside(&client.namespace, || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect((ADDRESS, 53)).unwrap();
                for length in 0..600_usize {
                    let garbage: Vec<u8> = (0..length)
                        .map(|at| (at * 37 + length * 11) as u8)
                        .collect();
                    socket.send(&garbage).unwrap();
                }
                let mut streams: Vec<TcpStream> = Vec::new();
                for _ in 0..40 {
                    let mut stream = TcpStream::connect((ADDRESS, 53)).unwrap();
                    stream.write_all(&[0, 200, 1, 2, 3]).unwrap();
                    streams.push(stream);
                }
                assert_eq!(addresses(&ask("c11.", RecordType::A)), ["10.1.0.2"]);
            });
        });
    });
}

#[test]
fn privileged_a_server_can_be_opened_again_and_for_a_second_network() {
    run(|| {
        let (one, two) = (Network::new(1, false, &[]), Network::new(2, false, &[]));
        let client = one.container(11);
        let endpoint = join(&two.dir, &two.record, &request(11)).unwrap();
        let options = AttachOptions {
            interface: "eth1",
            default_route: false,
        };
        attach(&two.record, &endpoint, client.namespace.as_fd(), options).unwrap();
        drop(Server::open(client.namespace.as_fd(), &[]).unwrap());
        serving(&client, &two, &[], || {
            let rules = inside(&client.namespace, || output("nft", &["list", "ruleset"]));
            assert_eq!(rules.matches("127.0.0.11").count(), 4, "{rules}");
            assert_eq!(
                inside(&client.namespace, || addresses(&ask("c11.", RecordType::A))),
                ["10.2.0.2"]
            );
        });
        assert!(
            Server::open(new_namespace().as_fd(), &[]).is_ok(),
            "loopback may still be down"
        );
    });
}
