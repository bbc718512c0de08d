//! Ports: `[ip:][hostPort]:containerPort[/proto]` with ranges, as `-p` and EXPOSE write them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Transport protocols that can be published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a container, written `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Number, not 0.
    pub number: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// Address of the host; None means all.
    pub host_ip: Option<IpAddr>,
    /// Port of the host; None means one that the kernel chooses.
    pub host_port: Option<u16>,
    /// For a host range with one container port: the last port of the range.
    #[serde(default)]
    pub host_port_end: Option<u16>,
    /// Port in the container.
    pub container: Port,
}
