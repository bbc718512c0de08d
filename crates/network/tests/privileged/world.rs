//! A host of a test's own: a network namespace, with containers' namespaces beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ketch_network::{
    AttachOptions, EndpointRecord, EndpointRequest, NetworkRecord, SubnetRecord, attach, join,
    leave,
};
use ketch_spec::Id;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// How long a connection that must succeed may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection that must not succeed is given.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Runs a test in a thread that has a network namespace, with loopback up.
pub fn run(test: impl FnOnce() + Send + 'static) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let thread = std::thread::spawn(|| {
        unshare();
        ketch_network::loopback_up(own_namespace().as_fd()).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[expect(
    deprecated,
    reason = "the sound variant is unsafe, and only the file table makes the difference"
)]
fn unshare() {
    rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
}

fn own_namespace() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// A namespace beside the present one.
pub fn new_namespace() -> File {
    let own = own_namespace();
    unshare();
    let new = own_namespace();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    new
}

/// Does something in a namespace.
pub fn inside<T>(namespace: &File, work: impl FnOnce() -> T) -> T {
    let own = own_namespace();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let result = work();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    result
}

/// A network with a directory of its own.
pub struct Network {
    pub record: NetworkRecord,
    pub dir: PathBuf,
    _root: tempfile::TempDir,
}

impl Network {
    pub fn new(number: u8, internal: bool, options: &[(&str, &str)]) -> Self {
        let id = Id::from_bytes([number; 32]);
        let root = tempfile::tempdir().unwrap();
        let record = NetworkRecord {
            version: 1,
            name: format!("net{number}"),
            driver: "bridge".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            subnets: vec![SubnetRecord {
                subnet: format!("10.{number}.0.0/16").parse().unwrap(),
                gateway: Ipv4Addr::new(10, number, 0, 1),
                ip_range: None,
                auxiliary: BTreeMap::new(),
            }],
            internal,
            attachable: false,
            labels: BTreeMap::new(),
            options: options
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
            bridge: format!("kt-{}", id.short()),
            id,
            other: serde_json::Map::new(),
        };
        Self {
            record,
            dir: root.path().to_path_buf(),
            _root: root,
        }
    }

    /// A container in the network.
    pub fn container(&self, number: u8) -> Container {
        let namespace = new_namespace();
        let endpoint = join(&self.dir, &self.record, &request(number)).unwrap();
        let options = AttachOptions {
            interface: "eth0",
            default_route: true,
        };
        attach(&self.record, &endpoint, namespace.as_fd(), options).unwrap();
        Container {
            namespace,
            endpoint,
        }
    }

    /// The end of a container's stay.
    pub fn leave(&self, number: u8) {
        if let Some(retired) = leave(&self.dir, &self.record, &container_id(number)).unwrap() {
            retired.delete().unwrap();
        }
    }
}

pub fn container_id(number: u8) -> Id {
    Id::from_bytes([number; 32])
}

pub fn request(number: u8) -> EndpointRequest {
    let name = format!("c{number}");
    EndpointRequest {
        container: container_id(number),
        name,
        aliases: Vec::new(),
        ipv4: None,
        mac: None,
    }
}

/// A namespace with an address in a network.
pub struct Container {
    pub namespace: File,
    pub endpoint: EndpointRecord,
}

impl Container {
    pub fn address(&self) -> Ipv4Addr {
        self.endpoint.ipv4
    }

    /// A server in the container that answers each connection with the client's address, until it is dropped.
    pub fn serve(&self, port: u16) -> Server {
        inside(&self.namespace, || Server::start(port))
    }

    /// Whom the server at an address takes the container for; None where it cannot be reached.
    pub fn ask(&self, address: Ipv4Addr, port: u16) -> Option<String> {
        inside(&self.namespace, || ask(address, port))
    }

    pub fn is_refused(&self, address: Ipv4Addr, port: u16) -> bool {
        inside(&self.namespace, || is_refused(address, port))
    }
}

/// A TCP server in a namespace.
pub struct Server {
    address: SocketAddrV4,
    namespace: File,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let peer = connection.peer_addr().unwrap().ip().to_string();
                let mut word = [0; 4];
                let asked = connection.read_exact(&mut word).is_ok();
                if asked && &word == b"stop" {
                    break;
                }
                let _ = connection.write_all(peer.as_bytes());
            }
        });
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Self {
            address,
            namespace: own_namespace(),
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        inside(&self.namespace, || {
            if let Ok(mut connection) = TcpStream::connect(self.address) {
                let _ = connection.write_all(b"stop");
            }
        });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whom a server takes us for.
pub fn ask(address: Ipv4Addr, port: u16) -> Option<String> {
    let mut connection =
        TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), PATIENCE).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(b"who?").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Whether packets to an address get lost, or are refused.
pub fn is_refused(address: Ipv4Addr, port: u16) -> bool {
    match TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), IMPATIENCE) {
        Ok(_) => false,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::TimedOut
                | ErrorKind::ConnectionRefused
                | ErrorKind::NetworkUnreachable
                | ErrorKind::HostUnreachable
        ),
    }
}

/// The output of a program that looks at the present namespace.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace beyond the host: `203.0.113.2`, reached from the host's `203.0.113.1`, with no route to containers.
pub fn outside() -> File {
    let namespace = new_namespace();
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    output(
        "ip",
        &[
            "link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", &path,
        ],
    );
    output("ip", &["address", "add", "203.0.113.1/24", "dev", "up0"]);
    output("ip", &["link", "set", "up0", "up"]);
    inside(&namespace, || {
        output("ip", &["address", "add", "203.0.113.2/24", "dev", "up1"]);
        output("ip", &["link", "set", "up1", "up"]);
        output("ip", &["link", "set", "lo", "up"]);
    });
    namespace
}

/// Waits for something that the kernel does in its own time.
pub fn wait_until(done: impl Fn() -> bool, otherwise: impl FnOnce() -> String) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "{}", otherwise());
        std::thread::yield_now();
    }
}
