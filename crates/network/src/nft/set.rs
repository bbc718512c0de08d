//! Sets, maps and their elements.

use std::net::Ipv4Addr;

use ketch_spec::port::Protocol;
use ketch_sys::netlink::{Message, Request};

use super::LIST_ELEMENT;
use crate::subnet::Subnet;

/// Length of an interface name in a register.
const NAME_BYTES: usize = 16;
/// A comment's place in the user data of an element, as the `nft` program writes it.
const COMMENT: u8 = 0;

/// The data types that the `nft` program prints by; the kernel only keeps them.
const TYPE_ADDRESS: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_INTERFACE: u32 = 41;

/// `NFT_SET_…`
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const CONCATENATION: u32 = 0x80;

/// The sets and maps we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetKind {
    /// Interface names.
    Interfaces,
    /// Pairs of interface names.
    InterfacePairs,
    /// Interface names with ranges of addresses.
    InterfaceSubnets,
    /// Protocol and port → address and port.
    Ports,
    /// Address, protocol and port → address and port.
    AddressPorts,
}

impl SetKind {
    pub(super) fn write(self, m: &mut Request) {
        let (key_types, fields): (&[u32], &[u32]) = match self {
            Self::Interfaces => (&[TYPE_INTERFACE], &[16]),
            Self::InterfacePairs => (&[TYPE_INTERFACE; 2], &[16; 2]),
            Self::InterfaceSubnets => (&[TYPE_INTERFACE, TYPE_ADDRESS], &[16, 4]),
            Self::Ports => (&[TYPE_PROTOCOL, TYPE_PORT], &[4; 2]),
            Self::AddressPorts => (&[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT], &[4; 3]),
        };
        let is_map = matches!(self, Self::Ports | Self::AddressPorts);
        let has_ranges = self == Self::InterfaceSubnets;
        m.be32(
            3,
            if is_map { MAP } else { 0 }
                | if has_ranges {
                    INTERVAL | CONCATENATION
                } else {
                    0
                },
        );
        m.be32(4, concatenated(key_types));
        m.be32(5, fields.iter().sum());
        if is_map {
            m.be32(6, concatenated(&[TYPE_ADDRESS, TYPE_PORT]));
            m.be32(7, 8);
        }
        if has_ranges {
            // NFTA_SET_DESC_CONCAT: how long each field is.
            m.nest(9, |m| {
                m.nest(2, |m| {
                    for length in fields {
                        m.nest(LIST_ELEMENT, |m| m.be32(1, *length));
                    }
                });
            });
        }
    }
}

fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| all << 6 | one)
}

/// The key of an element, as it stands in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn interface(name: &str) -> Self {
        Self(padded(name).to_vec())
    }

    pub(crate) fn interfaces(first: &str, second: &str) -> Self {
        Self([padded(first), padded(second)].concat())
    }

    fn interface_address(name: &str, address: Ipv4Addr) -> Self {
        Self([&padded(name)[..], &address.octets()].concat())
    }

    pub(crate) fn port(protocol: Protocol, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        Self(vec![number(protocol), 0, 0, 0, high, low, 0, 0])
    }

    pub(crate) fn address_port(address: Ipv4Addr, protocol: Protocol, port: u16) -> Self {
        let mut key = address.octets().to_vec();
        key.extend(Self::port(protocol, port).0);
        Self(key)
    }

    /// Whether it is about this port, on whatever address.
    pub(crate) fn is_port(&self, protocol: Protocol, port: u16) -> bool {
        self.0.ends_with(&Self::port(protocol, port).0) && matches!(self.0.len(), 8 | 12)
    }
}

/// An interface name in a register.
pub(super) fn padded(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(NAME_BYTES - 1)) {
        *to = from;
    }
    bytes
}

/// The IP protocol number.
pub(super) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// An element of a set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Key,
    /// The last key of a range that begins with `key`.
    end: Option<Key>,
    data: Option<[u8; 8]>,
    /// Whose it is; shown by the `nft` program.
    pub(crate) comment: Option<String>,
}

impl Element {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            end: None,
            data: None,
            comment: None,
        }
    }

    /// An interface with all addresses of a subnet.
    pub(crate) fn interface_subnet(name: &str, subnet: Subnet) -> Self {
        let end = Some(Key::interface_address(name, subnet.last()));
        Self {
            key: Key::interface_address(name, subnet.first()),
            end,
            data: None,
            comment: None,
        }
    }

    /// An element of a map to an address and a port; the comment has at most 127 bytes.
    pub(crate) fn to_port(key: Key, address: Ipv4Addr, port: u16, comment: &str) -> Self {
        let [a, b, c, d] = address.octets();
        let [high, low] = port.to_be_bytes();
        Self {
            key,
            end: None,
            data: Some([a, b, c, d, high, low, 0, 0]),
            comment: Some(comment.to_owned()),
        }
    }

    /// Where a published UDP port leads.
    pub(crate) fn udp_target(&self) -> Option<(Ipv4Addr, u16)> {
        let protocol = *self.key.0.get(self.key.0.len().checked_sub(8)?)?;
        let [a, b, c, d, high, low, ..] = self.data?;
        (protocol == number(Protocol::Udp))
            .then(|| (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
    }

    fn write(&self, m: &mut Request) {
        m.nest(LIST_ELEMENT, |m| {
            m.nest(1, |m| m.bytes(1, &self.key.0));
            if let Some(end) = &self.end {
                m.nest(10, |m| m.bytes(1, &end.0));
            }
            if let Some(data) = &self.data {
                m.nest(2, |m| m.bytes(1, data));
            }
            if let Some(comment) = &self.comment {
                let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
                let mut value = vec![COMMENT, length];
                value.extend(comment.bytes().take(usize::from(length) - 1));
                value.push(0);
                m.bytes(6, &value);
            }
        });
    }
}

/// The body of a message about elements.
pub(super) fn write_elements(m: &mut Request, table: &str, set: &str, elements: &[Element]) {
    m.text(1, table);
    m.text(2, set);
    m.nest(3, |m| {
        for element in elements {
            element.write(m);
        }
    });
}

/// The elements in a message of an answer.
pub(super) fn read_elements(message: &Message<'_>) -> Vec<Element> {
    let Some(list) = message.attributes(4).get(3) else {
        return Vec::new();
    };
    let elements = list
        .nested()
        .filter(|a| a.kind == LIST_ELEMENT)
        .filter_map(|element| {
            let element = element.nested();
            let key = element.get(1)?.nested().get(1)?.value.to_vec();
            let end = element
                .get(10)
                .and_then(|a| a.nested().get(1))
                .map(|a| Key(a.value.to_vec()));
            let data = element
                .get(2)
                .and_then(|a| a.nested().get(1))
                .and_then(|a| a.value.try_into().ok());
            let comment = element.get(6).and_then(|a| match a.value {
                [COMMENT, length, text @ ..] => {
                    let text = text.get(..usize::from(*length).checked_sub(1)?)?;
                    std::str::from_utf8(text).ok().map(str::to_owned)
                }
                _ => None,
            });
            Some(Element {
                key: Key(key),
                end,
                data,
                comment,
            })
        });
    elements.collect()
}
