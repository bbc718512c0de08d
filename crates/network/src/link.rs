//! rtnetlink(7): links, addresses and routes.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use ketch_sys::netlink::{
    self, ACK, Attributes, CREATE, DUMP, EXCLUSIVE, Message, Protocol, Request, Socket,
};
use rustix::io::Errno;

use crate::subnet::Subnet;
use crate::{Error, Result, netns};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IF_OPER_UP: u8 = 6;
/// `RTMGRP_LINK`.
const GROUP_LINK: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

/// How long to wait for a link to become operational: a matter of milliseconds.
const SETTLING: Duration = Duration::from_secs(1);

/// Length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`; empty for a device of the machine.
    pub(crate) kind: String,
    pub(crate) alias: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) up: bool,
    /// Packets get through: what `up` becomes some time after the carrier is there.
    pub(crate) operational: bool,
}

/// The pair that connects a container.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) inner_name: &'a str,
    pub(crate) inner_mac: Mac,
    pub(crate) mtu: Option<u32>,
    pub(crate) netns: BorrowedFd<'a>,
}

/// A conversation about links with one network namespace.
#[derive(Debug)]
pub(crate) struct Links {
    socket: Socket,
}

impl Links {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self> {
        match Socket::open(Protocol::Route) {
            Ok(socket) => Ok(Self { socket }),
            Err(source) => Err(Error::Link {
                action: "speak rtnetlink".into(),
                source,
            }),
        }
    }

    /// In another network namespace.
    pub(crate) fn open_in(netns: BorrowedFd<'_>) -> Result<Self> {
        netns::within(netns, Self::open)?
    }

    /// The link of a name.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let mut request = Request::new();
        request.message(RTM_GETLINK, 0, |m| {
            m.raw(&link_header(AF_UNSPEC, 0, 0, 0));
            m.text(IFLA_IFNAME, name);
            m.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        });
        let mut found = None;
        let asked = self.socket.ask(request, |message| {
            found = read_link(&message);
            Ok(())
        });
        match asked {
            Ok(()) => Ok(found),
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
            Err(source) => Err(Error::Link {
                action: format!("look for link {name}"),
                source,
            }),
        }
    }

    /// All bridges.
    pub(crate) fn bridges(&mut self) -> Result<Vec<Link>> {
        let mut request = Request::new();
        request.message(RTM_GETLINK, DUMP, |m| {
            m.raw(&link_header(AF_UNSPEC, 0, 0, 0));
            // The kernel sends only links of this kind.
            m.nest(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
        });
        let mut found = Vec::new();
        let asked = self.socket.ask(request, |message| {
            found.extend(read_link(&message).filter(|link| link.kind == "bridge"));
            Ok(())
        });
        asked.map_err(|source| Error::Link {
            action: "list links".into(),
            source,
        })?;
        Ok(found)
    }

    /// Makes a bridge, without an alias and down; one of the same name is left as it is.
    pub(crate) fn make_bridge(&mut self, name: &str, mac: Mac, mtu: Option<u32>) -> Result<()> {
        let mut request = Request::new();
        request.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, |m| {
            m.raw(&link_header(AF_UNSPEC, 0, 0, 0));
            m.text(IFLA_IFNAME, name);
            m.bytes(IFLA_ADDRESS, &mac);
            if let Some(mtu) = mtu {
                m.u32(IFLA_MTU, mtu);
            }
            m.nest(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
        });
        self.socket
            .change_tolerating(&[Errno::EXIST], request)
            .map_err(|source| Error::Link {
                action: format!("create bridge {name}"),
                source,
            })
    }

    /// Brings a bridge up and gives it its alias.
    pub(crate) fn finish_bridge(&mut self, index: u32, alias: &str) -> Result<()> {
        let mut request = Request::new();
        // No link-local address: the network has no IPv6. Kernels without IPv6 refuse it, which is as good.
        request.message(RTM_SETLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, index, 0, 0));
            m.nest(IFLA_AF_SPEC, |m| {
                m.nest(u16::from(AF_INET6), |m| {
                    m.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)
                });
            });
        });
        let _ = self.socket.change(request);
        let mut request = Request::new();
        request.message(RTM_SETLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, index, IFF_UP, IFF_UP));
            m.text(IFLA_IFALIAS, alias);
            // Connections from 127.0.0.1 to published ports are sent out by this link (ip-sysctl: route_localnet).
            m.nest(IFLA_AF_SPEC, |m| {
                m.nest(u16::from(AF_INET), |m| {
                    m.nest(IFLA_INET_CONF, |m| m.u32(IPV4_DEVCONF_ROUTE_LOCALNET, 1));
                });
            });
        });
        let changed = self.socket.change(request);
        changed.map_err(|source| Error::Link {
            action: format!("bring up bridge {index}"),
            source,
        })
    }

    /// Makes a veth pair: one end on the bridge, the other born in the namespace and down.
    pub(crate) fn make_veth(&mut self, pair: &VethPair<'_>) -> Result<(), netlink::Error> {
        let mut request = Request::new();
        request.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, |m| {
            m.raw(&link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP));
            m.text(IFLA_IFNAME, pair.host_name);
            m.u32(IFLA_MASTER, pair.bridge);
            if let Some(mtu) = pair.mtu {
                m.u32(IFLA_MTU, mtu);
            }
            m.nest(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "veth");
                m.nest(IFLA_INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        // Up only later: at this moment it has no peer yet, and the kernel refuses.
                        m.raw(&link_header(AF_UNSPEC, 0, 0, 0));
                        m.text(IFLA_IFNAME, pair.inner_name);
                        m.bytes(IFLA_ADDRESS, &pair.inner_mac);
                        if let Some(mtu) = pair.mtu {
                            m.u32(IFLA_MTU, mtu);
                        }
                        m.u32(IFLA_NET_NS_FD, pair.netns.as_raw_fd().cast_unsigned());
                    });
                });
            });
        });
        self.socket.change(request)
    }

    /// Sets a bridge's port: with `hairpin`, frames may go back out by the port they came in by; isolated ports do not
    /// speak to each other.
    pub(crate) fn set_port(&mut self, index: u32, hairpin: bool, isolated: bool) -> Result<()> {
        let mut request = Request::new();
        request.message(RTM_SETLINK, ACK, |m| {
            m.raw(&link_header(AF_BRIDGE, index, 0, 0));
            m.nest(IFLA_PROTINFO, |m| {
                m.u8(IFLA_BRPORT_MODE, u8::from(hairpin));
                m.u8(IFLA_BRPORT_ISOLATED, u8::from(isolated));
            });
        });
        let changed = self.socket.change(request);
        changed.map_err(|source| Error::Link {
            action: format!("set bridge port {index}"),
            source,
        })
    }

    /// Brings a link up. With an address, gives it that address; with a gateway, makes it the default route.
    pub(crate) fn configure(
        &mut self,
        index: u32,
        address: Option<(Ipv4Addr, u8)>,
        gateway: Option<Ipv4Addr>,
    ) -> Result<()> {
        let mut request = Request::new();
        request.message(RTM_NEWLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, index, IFF_UP, IFF_UP))
        });
        if let Some((address, prefix)) = address {
            request.message(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, |m| {
                let [a, b, c, d] = index.to_ne_bytes();
                m.raw(&[AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, a, b, c, d]);
                m.bytes(IFA_LOCAL, &address.octets());
                m.bytes(IFA_ADDRESS, &address.octets());
                if prefix < 31 {
                    m.bytes(
                        IFA_BROADCAST,
                        &Subnet::holding(address, prefix).last().octets(),
                    );
                }
            });
        }
        if let Some(gateway) = gateway {
            request.message(RTM_NEWROUTE, ACK | CREATE | EXCLUSIVE, |m| {
                m.raw(&[
                    AF_INET,
                    0,
                    0,
                    0,
                    RT_TABLE_MAIN,
                    RTPROT_BOOT,
                    RT_SCOPE_UNIVERSE,
                    RTN_UNICAST,
                    0,
                    0,
                    0,
                    0,
                ]);
                m.bytes(RTA_GATEWAY, &gateway.octets());
                m.u32(RTA_OIF, index);
            });
        }
        // An address or a route that is there already is what was wanted.
        self.socket
            .change_tolerating(&[Errno::EXIST], request)
            .map_err(|source| Error::Link {
                action: format!("configure link {index}"),
                source,
            })
    }

    /// Waits until packets get through a link whose carrier is there. The kernel sees to that in a worker of its own;
    /// before, the first packets (those that ask for hardware addresses) would be lost, and be sent again only after a
    /// second. From Linux 6.8 on, asking is enough to have it done; before, it is heard of.
    pub(crate) fn settle(&mut self, name: &str) -> Result<()> {
        let is_settled = |links: &mut Self| {
            Ok::<_, Error>(links.find(name)?.is_none_or(|link| link.operational))
        };
        if is_settled(self)? {
            return Ok(());
        }
        let action = || format!("wait for link {name}");
        let mut events = Self::open()?.socket;
        events.subscribe(GROUP_LINK).map_err(|source| Error::Link {
            action: action(),
            source,
        })?;
        let deadline = Instant::now() + SETTLING;
        while !is_settled(self)? && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            events.wait(left).map_err(|source| Error::Link {
                action: action(),
                source,
            })?;
        }
        // A link that is still not there is no reason not to start: the network's user may never use it.
        Ok(())
    }

    /// Takes a link down; a link that is gone is down.
    pub(crate) fn take_down(&mut self, name: &str) -> Result<()> {
        let mut request = Request::new();
        request.message(RTM_SETLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, 0, 0, IFF_UP));
            m.text(IFLA_IFNAME, name);
        });
        self.socket
            .change_tolerating(&[Errno::NODEV], request)
            .map_err(|source| Error::Link {
                action: format!("take down link {name}"),
                source,
            })
    }

    /// Takes a link down and gives it another name: quick, unlike [`Links::delete`].
    pub(crate) fn retire(&mut self, index: u32, new_name: &str, new_alias: &str) -> Result<()> {
        let mut request = Request::new();
        // Down first: older kernels rename only links that are.
        request.message(RTM_SETLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, index, 0, IFF_UP))
        });
        request.message(RTM_SETLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, index, 0, 0));
            m.text(IFLA_IFNAME, new_name);
            m.text(IFLA_IFALIAS, new_alias);
        });
        self.socket
            .change_tolerating(&[Errno::NODEV], request)
            .map_err(|source| Error::Link {
                action: format!("retire link {index}"),
                source,
            })
    }

    /// Deletes a link. Waits for RCU grace periods: tens of milliseconds. A link that is gone is deleted.
    pub(crate) fn delete(&mut self, index: u32) -> Result<()> {
        let mut request = Request::new();
        request.message(RTM_DELLINK, ACK, |m| {
            m.raw(&link_header(AF_UNSPEC, index, 0, 0))
        });
        self.socket
            .change_tolerating(&[Errno::NODEV], request)
            .map_err(|source| Error::Link {
                action: format!("delete link {index}"),
                source,
            })
    }

    /// Subnets of all addresses and destinations of all routes but the default one.
    pub(crate) fn subnets_in_use(&mut self) -> Result<Vec<Subnet>> {
        let mut subnets = Vec::new();
        let mut request = Request::new();
        request.message(RTM_GETADDR, DUMP, |m| {
            m.raw(&[AF_INET, 0, 0, 0, 0, 0, 0, 0])
        });
        let asked = self.socket.ask(request, |message| {
            subnets.extend(read_subnet(&message, 8, IFA_ADDRESS));
            Ok(())
        });
        asked.map_err(|source| Error::Link {
            action: "list addresses".into(),
            source,
        })?;
        let mut request = Request::new();
        request.message(RTM_GETROUTE, DUMP, |m| {
            m.raw(&[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        });
        let asked = self.socket.ask(request, |message| {
            subnets.extend(read_subnet(&message, 12, RTA_DST).filter(|subnet| subnet.prefix() > 0));
            Ok(())
        });
        asked.map_err(|source| Error::Link {
            action: "list routes".into(),
            source,
        })?;
        subnets.retain(|subnet| !subnet.first().is_multicast() && !subnet.first().is_loopback());
        subnets.sort_unstable();
        subnets.dedup();
        Ok(subnets)
    }
}

/// `struct ifinfomsg`.
fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn read_link(message: &Message<'_>) -> Option<Link> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let number = |at: usize| {
        message
            .payload
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_ne_bytes)
    };
    let attributes = message.attributes(LINK_HEADER);
    let text = |attributes: Attributes<'_>, kind| {
        attributes
            .get(kind)
            .and_then(|a| a.text().map(str::to_owned))
    };
    Some(Link {
        index: number(4)?,
        up: number(8)? & IFF_UP != 0,
        operational: attributes
            .get(IFLA_OPERSTATE)
            .is_some_and(|a| a.value == [IF_OPER_UP]),
        name: text(attributes, IFLA_IFNAME)?,
        alias: text(attributes, IFLA_IFALIAS).unwrap_or_default(),
        mac: attributes
            .get(IFLA_ADDRESS)
            .and_then(|a| a.value.try_into().ok()),
        kind: attributes
            .get(IFLA_LINKINFO)
            .and_then(|a| text(a.nested(), IFLA_INFO_KIND))
            .unwrap_or_default(),
    })
}

/// The subnet that an address or route message is about: its second byte is the prefix length.
fn read_subnet(message: &Message<'_>, fixed_bytes: usize, kind: u16) -> Option<Subnet> {
    let prefix = *message.payload.get(1)?;
    let octets: [u8; 4] = message
        .attributes(fixed_bytes)
        .get(kind)?
        .value
        .try_into()
        .ok()?;
    Some(Subnet::holding(Ipv4Addr::from(octets), prefix))
}
