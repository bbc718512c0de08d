//! The sockets in the container's namespace, and the rules there that lead port 53 to them.

use std::net::SocketAddrV4;
use std::os::fd::{BorrowedFd, OwnedFd};

use ketch_spec::port::Protocol;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::ADDRESS;
use crate::nft::{BaseChain, Batch, Firewall, Hook, PRIORITY_DNAT, Rule};
use crate::subnet::Subnet;
use crate::{Error, Result, netns};

/// The table in the container's namespace.
const TABLE: &str = "ketch_dns";
const DNS_PORT: u16 = 53;

/// Opens the sockets, for datagrams and for connections.
pub(super) fn open(netns: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    netns::within(netns, || {
        let call = |call| {
            move |errno: Errno| Error::Call {
                call,
                source: errno.into(),
            }
        };
        let (datagrams, datagram_port) =
            bind(SocketType::DGRAM).map_err(call("bind 127.0.0.11/udp"))?;
        let (connections, connection_port) =
            bind(SocketType::STREAM).map_err(call("bind 127.0.0.11/tcp"))?;
        rustix::net::listen(&connections, 8).map_err(call("listen"))?;
        let ports = [
            (Protocol::Udp, datagram_port),
            (Protocol::Tcp, connection_port),
        ];
        redirect(ports).map_err(|source| Error::Firewall {
            action: "lead port 53 to the name server",
            source,
        })?;
        Ok((datagrams, connections))
    })?
}

fn bind(kind: SocketType) -> Result<(OwnedFd, u16), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(ADDRESS, 0))?;
    let bound = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

fn redirect(ports: [(Protocol, u16); 2]) -> Result<(), ketch_sys::netlink::Error> {
    let mut firewall = Firewall::open_in_container()?;
    let mut batch = Batch::new(TABLE, None);
    if firewall.has_table(TABLE)? {
        batch.delete_table();
    }
    batch.create_table();
    let base = BaseChain {
        kind: "nat",
        hook: Hook::Output,
        priority: PRIORITY_DNAT,
    };
    batch.create_chain("output", Some(base));
    for (protocol, port) in ports {
        let to_us = Rule::new().destination_in(Subnet::holding(ADDRESS, 32));
        batch.add_rule(
            "output",
            to_us
                .destination_port_is(protocol, DNS_PORT)
                .translate_to(ADDRESS, port),
        );
    }
    firewall.commit(batch)
}
