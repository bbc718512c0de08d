//! Rules: expressions in a row, each of which may end the rule.

use std::net::Ipv4Addr;

use ketch_sys::netlink::Request;

use super::LIST_ELEMENT;
use super::set::{number, padded};
use crate::subnet::Subnet;

/// `NFT_REG_1`, `NFT_REG_2`: 16 bytes each.
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// `NFT_REG32_00` and the next two: the four-byte quarters of register 1.
const QUARTER_0: u32 = 8;
const QUARTER_1: u32 = 9;
const QUARTER_2: u32 = 10;

const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_TRANSPORT: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `NF_CT_STATE_BIT` of established and of related.
const STATE_KNOWN: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 32;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;

/// Which of a packet's interfaces.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interface {
    In,
    Out,
}

/// How a rule ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(&'static str),
}

/// A rule, built from left to right.
#[derive(Debug, Default)]
pub(crate) struct Rule {
    expressions: Vec<Expression>,
}

/// One expression; field values are in host order.
#[derive(Debug)]
enum Expression {
    Meta {
        key: u32,
        register: u32,
    },
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        register: u32,
    },
    Mask {
        mask: [u8; 4],
    },
    Compare {
        equal: bool,
        value: Vec<u8>,
    },
    Lookup {
        set: &'static str,
        inverted: bool,
        map: bool,
    },
    Conntrack {
        key: u32,
    },
    FibType,
    Dnat,
    Address {
        address: Ipv4Addr,
        port: u16,
    },
    Masquerade,
    Verdict(Verdict),
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn and(mut self, expressions: impl IntoIterator<Item = Expression>) -> Self {
        self.expressions.extend(expressions);
        self
    }

    /// The interface's name is not this.
    pub(crate) fn interface_is_not(self, interface: Interface, name: &str) -> Self {
        let load = Expression::Meta {
            key: interface.key(),
            register: REGISTER_1,
        };
        self.and([
            load,
            Expression::Compare {
                equal: false,
                value: padded(name).to_vec(),
            },
        ])
    }

    /// The interface is in a set.
    pub(crate) fn interface_in(self, interface: Interface, set: &'static str) -> Self {
        let load = Expression::Meta {
            key: interface.key(),
            register: REGISTER_1,
        };
        self.and([
            load,
            Expression::Lookup {
                set,
                inverted: false,
                map: false,
            },
        ])
    }

    /// The interface is not in a set.
    pub(crate) fn interface_not_in(self, interface: Interface, set: &'static str) -> Self {
        let load = Expression::Meta {
            key: interface.key(),
            register: REGISTER_1,
        };
        self.and([
            load,
            Expression::Lookup {
                set,
                inverted: true,
                map: false,
            },
        ])
    }

    /// The pair of both interfaces is in a set.
    pub(crate) fn interfaces_in(self, set: &'static str) -> Self {
        self.and([
            Expression::Meta {
                key: META_IN_NAME,
                register: REGISTER_1,
            },
            Expression::Meta {
                key: META_OUT_NAME,
                register: REGISTER_2,
            },
            Expression::Lookup {
                set,
                inverted: false,
                map: false,
            },
        ])
    }

    /// The interface that the packet leaves by, with its source address, is in a set.
    pub(crate) fn way_back_in(self, set: &'static str) -> Self {
        self.and([
            Expression::Meta {
                key: META_OUT_NAME,
                register: REGISTER_1,
            },
            Expression::Payload {
                base: NETWORK_HEADER,
                offset: SOURCE_OFFSET,
                length: 4,
                register: REGISTER_2,
            },
            Expression::Lookup {
                set,
                inverted: false,
                map: false,
            },
        ])
    }

    /// The source address is in a subnet.
    pub(crate) fn source_in(self, subnet: Subnet) -> Self {
        self.address_in(SOURCE_OFFSET, subnet)
    }

    /// The destination address is in a subnet.
    pub(crate) fn destination_in(self, subnet: Subnet) -> Self {
        self.address_in(DESTINATION_OFFSET, subnet)
    }

    fn address_in(self, offset: u32, subnet: Subnet) -> Self {
        let mask = if subnet.prefix() == 0 {
            0
        } else {
            u32::MAX << (32 - subnet.prefix())
        };
        self.and([
            Expression::Payload {
                base: NETWORK_HEADER,
                offset,
                length: 4,
                register: REGISTER_1,
            },
            Expression::Mask {
                mask: mask.to_be_bytes(),
            },
            Expression::Compare {
                equal: true,
                value: subnet.first().octets().to_vec(),
            },
        ])
    }

    /// The destination is an address of this machine.
    pub(crate) fn destination_is_local(self) -> Self {
        // RTN_LOCAL
        self.and([
            Expression::FibType,
            Expression::Compare {
                equal: true,
                value: 2_u32.to_ne_bytes().to_vec(),
            },
        ])
    }

    /// The packet belongs to a connection that was let through.
    pub(crate) fn when_known(self) -> Self {
        self.conntrack_has(CT_STATE, STATE_KNOWN)
    }

    /// The packet's connection has had its destination translated.
    pub(crate) fn when_translated(self) -> Self {
        self.conntrack_has(CT_STATUS, STATUS_DNAT)
    }

    fn conntrack_has(self, key: u32, bits: u32) -> Self {
        self.and([
            Expression::Conntrack { key },
            Expression::Mask {
                mask: bits.to_ne_bytes(),
            },
            Expression::Compare {
                equal: false,
                value: vec![0; 4],
            },
        ])
    }

    /// The destination port of a protocol is this.
    pub(crate) fn destination_port_is(
        self,
        protocol: ketch_spec::port::Protocol,
        port: u16,
    ) -> Self {
        self.and([
            Expression::Meta {
                key: META_TRANSPORT,
                register: REGISTER_1,
            },
            Expression::Compare {
                equal: true,
                value: vec![number(protocol)],
            },
            Expression::Payload {
                base: TRANSPORT_HEADER,
                offset: 2,
                length: 2,
                register: REGISTER_1,
            },
            Expression::Compare {
                equal: true,
                value: port.to_be_bytes().to_vec(),
            },
        ])
    }

    /// Translates the destination by a map from protocol and port, with the address before them if `with_address`.
    pub(crate) fn translate_by(self, map: &'static str, with_address: bool) -> Self {
        let address = Expression::Payload {
            base: NETWORK_HEADER,
            offset: DESTINATION_OFFSET,
            length: 4,
            register: QUARTER_0,
        };
        let (protocol, port) = if with_address {
            (QUARTER_1, QUARTER_2)
        } else {
            (QUARTER_0, QUARTER_1)
        };
        self.and(with_address.then_some(address)).and([
            Expression::Meta {
                key: META_TRANSPORT,
                register: protocol,
            },
            Expression::Payload {
                base: TRANSPORT_HEADER,
                offset: 2,
                length: 2,
                register: port,
            },
            Expression::Lookup {
                set: map,
                inverted: false,
                map: true,
            },
            Expression::Dnat,
        ])
    }

    /// Translates the destination to a fixed address and port.
    pub(crate) fn translate_to(self, address: Ipv4Addr, port: u16) -> Self {
        self.and([Expression::Address { address, port }, Expression::Dnat])
    }

    /// Gives the packet the address of the interface it leaves by.
    pub(crate) fn masquerade(self) -> Self {
        self.and([Expression::Masquerade])
    }

    /// Ends the rule.
    pub(crate) fn verdict(self, verdict: Verdict) -> Self {
        self.and([Expression::Verdict(verdict)])
    }

    /// Writes the rule's list of expressions.
    pub(super) fn write(self, m: &mut Request) {
        for expression in self.expressions {
            expression.write(m);
        }
    }
}

impl Interface {
    fn key(self) -> u32 {
        match self {
            Self::In => META_IN_NAME,
            Self::Out => META_OUT_NAME,
        }
    }
}

impl Expression {
    fn write(&self, m: &mut Request) {
        match self {
            Self::Meta { key, register } => named(m, "meta", |m| {
                m.be32(1, *register);
                m.be32(2, *key);
            }),
            Self::Payload {
                base,
                offset,
                length,
                register,
            } => named(m, "payload", |m| {
                m.be32(1, *register);
                m.be32(2, *base);
                m.be32(3, *offset);
                m.be32(4, *length);
            }),
            Self::Mask { mask } => named(m, "bitwise", |m| {
                m.be32(1, REGISTER_1);
                m.be32(2, REGISTER_1);
                m.be32(3, 4);
                m.nest(4, |m| m.bytes(1, mask));
                m.nest(5, |m| m.bytes(1, &[0; 4]));
            }),
            Self::Compare { equal, value } => named(m, "cmp", |m| {
                m.be32(1, REGISTER_1);
                m.be32(2, u32::from(!equal));
                m.nest(3, |m| m.bytes(1, value));
            }),
            Self::Lookup { set, inverted, map } => named(m, "lookup", |m| {
                m.text(1, set);
                m.be32(2, REGISTER_1);
                if *map {
                    m.be32(3, REGISTER_1);
                }
                m.be32(5, u32::from(*inverted));
            }),
            Self::Conntrack { key } => named(m, "ct", |m| {
                m.be32(1, REGISTER_1);
                m.be32(2, *key);
            }),
            // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR
            Self::FibType => named(m, "fib", |m| {
                m.be32(1, REGISTER_1);
                m.be32(2, 3);
                m.be32(3, 2);
            }),
            Self::Dnat => named(m, "nat", |m| {
                m.be32(1, 1);
                m.be32(2, u32::from(super::IPV4));
                m.be32(3, QUARTER_0);
                m.be32(5, QUARTER_1);
            }),
            Self::Address { address, port } => {
                immediate(m, QUARTER_0, &address.octets());
                immediate(m, QUARTER_1, &port.to_be_bytes());
            }
            Self::Masquerade => named(m, "masq", |_| {}),
            Self::Verdict(verdict) => verdict.write(m),
        }
    }
}

impl Verdict {
    fn write(self, m: &mut Request) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Return => (-5_i32, None),
            Self::Jump(chain) => (-3, Some(chain)),
        };
        named(m, "immediate", |m| {
            m.be32(1, 0);
            m.nest(2, |m| {
                m.nest(2, |m| {
                    m.be32(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        m.text(2, chain);
                    }
                });
            });
        });
    }
}

fn immediate(m: &mut Request, register: u32, value: &[u8]) {
    named(m, "immediate", |m| {
        m.be32(1, register);
        m.nest(2, |m| m.bytes(1, value));
    });
}

/// An expression in a rule's list.
fn named(m: &mut Request, name: &str, data: impl FnOnce(&mut Request)) {
    m.nest(LIST_ELEMENT, |m| {
        m.text(1, name);
        m.nest(2, data);
    });
}
