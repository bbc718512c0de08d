//! The firewall table `ip ketch` of the host: one for all networks, there while any of them has a bridge.
//!
//! The rules are the same for ever; networks and published ports are elements of sets and maps, so that each change
//! is one element and the way of a packet is as long with a thousand containers as with one:
//!
//! | name | elements |
//! |---|---|
//! | `bridges` | our bridges |
//! | `same` | each bridge paired with itself |
//! | `neighbours` | each bridge with the addresses of its subnet |
//! | `internal` | bridges of internal networks |
//! | `outward` | bridges whose traffic to the outside bears the host's address |
//! | `published`, `published_at` | host port, or host address and port → container; the comment is the container's id |
//!
//! What the rules say: networks do not reach each other, except by published ports; from outside, published ports and
//! nothing else; internal networks reach nothing. A port published on loopback is not reachable from outside, though
//! the kernel would route it (`route_localnet`).

use std::net::Ipv4Addr;

use ketch_sys::netlink;
use rustix::io::Errno;

use crate::nft::{
    BaseChain, Batch, Element, Firewall, Hook, Interface, Key, PRIORITY_DNAT, PRIORITY_FILTER,
    PRIORITY_RAW, PRIORITY_SNAT, Rule, SetKind, Verdict,
};
use crate::subnet::Subnet;

/// Name of the table.
pub(crate) const TABLE: &str = "ketch";
/// Map of ports published on all host addresses.
pub(crate) const PUBLISHED: &str = "published";
/// Map of ports published on one host address.
pub(crate) const PUBLISHED_AT: &str = "published_at";

const BRIDGES: &str = "bridges";
const SAME: &str = "same";
const NEIGHBOURS: &str = "neighbours";
const INTERNAL: &str = "internal";
const OUTWARD: &str = "outward";

const LOOPBACK: Subnet = Subnet::holding(Ipv4Addr::LOCALHOST, 8);

/// How often a change is tried while others change the table at the same time.
const ATTEMPTS: usize = 32;

/// What the table has to know of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkRules<'a> {
    pub(crate) bridge: &'a str,
    pub(crate) subnet: Subnet,
    pub(crate) internal: bool,
    pub(crate) masquerade: bool,
}

impl NetworkRules<'_> {
    fn elements(&self) -> Vec<(&'static str, Element)> {
        let bridge = || Element::new(Key::interface(self.bridge));
        let mut elements = vec![
            (BRIDGES, bridge()),
            (
                SAME,
                Element::new(Key::interfaces(self.bridge, self.bridge)),
            ),
            (
                NEIGHBOURS,
                Element::interface_subnet(self.bridge, self.subnet),
            ),
        ];
        if self.internal {
            elements.push((INTERNAL, bridge()));
        } else if self.masquerade {
            elements.push((OUTWARD, bridge()));
        }
        elements
    }
}

/// Makes sure that the table is there and knows the network.
pub(crate) fn admit(
    firewall: &mut Firewall,
    network: NetworkRules<'_>,
) -> Result<(), netlink::Error> {
    let mut last = netlink::Error::Malformed;
    for _ in 0..ATTEMPTS {
        if firewall.has_element(TABLE, BRIDGES, &Key::interface(network.bridge))? {
            return Ok(());
        }
        // Asked first, because undoing a refused transaction waits for an RCU grace period.
        let mut batch = Batch::new(TABLE, None);
        if !firewall.has_table(TABLE)? {
            write_table(&mut batch);
        }
        for (set, element) in network.elements() {
            batch.add_elements(set, &[element], false);
        }
        match firewall.commit(batch) {
            Ok(()) => return Ok(()),
            // Another network has made or removed the table in between.
            Err(error) if matches!(error.errno(), Some(Errno::EXIST | Errno::NOENT)) => {
                last = error
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Forgets a network; the last one takes the table along. Idempotent.
pub(crate) fn dismiss(
    firewall: &mut Firewall,
    network: NetworkRules<'_>,
) -> Result<(), netlink::Error> {
    let own = Key::interface(network.bridge);
    let mut last = netlink::Error::Malformed;
    for _ in 0..ATTEMPTS {
        let generation = firewall.generation()?;
        if !firewall.has_table(TABLE)? {
            return Ok(());
        }
        let bridges = firewall.elements(TABLE, BRIDGES)?;
        let mut batch = Batch::new(TABLE, Some(generation));
        if bridges.iter().all(|element| element.key == own) {
            batch.delete_table();
        } else if bridges.iter().any(|element| element.key == own) {
            for (set, element) in network.elements() {
                batch.delete_elements(set, &[element]);
            }
        } else {
            return Ok(());
        }
        match firewall.commit(batch) {
            Ok(()) => return Ok(()),
            // ERESTART: the generation is another by now.
            Err(error) if is_stale(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether a transaction was refused because someone else's came in between.
pub(crate) fn is_stale(error: &netlink::Error) -> bool {
    // ERESTART (85) has no name in user space: it never leaves the kernel but here.
    error
        .errno()
        .is_some_and(|errno| errno == Errno::NOENT || errno.raw_os_error() == 85)
}

/// Chains, sets and rules, in a table that is new.
fn write_table(batch: &mut Batch) {
    batch.create_table();
    for (name, kind) in [
        (BRIDGES, SetKind::Interfaces),
        (SAME, SetKind::InterfacePairs),
        (NEIGHBOURS, SetKind::InterfaceSubnets),
        (INTERNAL, SetKind::Interfaces),
        (OUTWARD, SetKind::Interfaces),
        (PUBLISHED, SetKind::Ports),
        (PUBLISHED_AT, SetKind::AddressPorts),
    ] {
        batch.create_set(name, kind);
    }
    write_translation(batch);
    write_filter(batch);
}

fn write_translation(batch: &mut Batch) {
    let nat = |hook, priority| {
        Some(BaseChain {
            kind: "nat",
            hook,
            priority,
        })
    };
    batch.create_chain("publish", None);
    batch.create_chain("prerouting", nat(Hook::Prerouting, PRIORITY_DNAT));
    batch.create_chain("output", nat(Hook::Output, PRIORITY_DNAT));
    batch.create_chain("postrouting", nat(Hook::Postrouting, PRIORITY_SNAT));

    batch.add_rule("publish", Rule::new().translate_by(PUBLISHED_AT, true));
    batch.add_rule("publish", Rule::new().translate_by(PUBLISHED, false));

    // Ports published on 127.0.0.1 are for this machine: a neighbour can send packets to that address too.
    let foreign = Rule::new()
        .destination_in(LOOPBACK)
        .interface_is_not(Interface::In, "lo");
    batch.add_rule("prerouting", foreign.verdict(Verdict::Return));
    let publish = || {
        Rule::new()
            .destination_is_local()
            .verdict(Verdict::Jump("publish"))
    };
    batch.add_rule("prerouting", publish());
    batch.add_rule("output", publish());

    // A container cannot answer to 127.0.0.1.
    let loopback = Rule::new()
        .source_in(LOOPBACK)
        .interface_in(Interface::Out, BRIDGES);
    batch.add_rule("postrouting", loopback.masquerade());
    // A container that reaches itself or a neighbour by a published port gets answers by the same way back. Not asked
    // of the interface it came by: where br_netfilter is on, such a packet has none here.
    batch.add_rule(
        "postrouting",
        Rule::new()
            .when_translated()
            .way_back_in(NEIGHBOURS)
            .masquerade(),
    );
    let outward = Rule::new()
        .interface_in(Interface::In, OUTWARD)
        .interface_not_in(Interface::Out, BRIDGES);
    batch.add_rule("postrouting", outward.masquerade());
}

fn write_filter(batch: &mut Batch) {
    let filter = |hook, priority| {
        Some(BaseChain {
            kind: "filter",
            hook,
            priority,
        })
    };
    batch.create_chain("guard", filter(Hook::Prerouting, PRIORITY_RAW));
    batch.create_chain("inbound", None);
    batch.create_chain("forward", filter(Hook::Forward, PRIORITY_FILTER));

    // With route_localnet on the bridges, containers could speak to what listens on the host's loopback only, or
    // pretend to be it. Answers to 127.0.0.1 are not yet translated back here.
    let to_loopback = Rule::new()
        .destination_in(LOOPBACK)
        .interface_in(Interface::In, BRIDGES);
    batch.add_rule("guard", to_loopback.verdict(Verdict::Drop));
    let from_loopback = Rule::new()
        .source_in(LOOPBACK)
        .interface_in(Interface::In, BRIDGES);
    batch.add_rule("guard", from_loopback.verdict(Verdict::Drop));

    batch.add_rule("forward", Rule::new().when_known().verdict(Verdict::Accept));
    // Within a network (seen here where br_netfilter is on, and for published ports).
    batch.add_rule(
        "forward",
        Rule::new().interfaces_in(SAME).verdict(Verdict::Accept),
    );
    batch.add_rule(
        "forward",
        Rule::new()
            .interface_in(Interface::In, INTERNAL)
            .verdict(Verdict::Drop),
    );
    batch.add_rule(
        "forward",
        Rule::new()
            .interface_in(Interface::Out, INTERNAL)
            .verdict(Verdict::Drop),
    );
    let inbound = Rule::new()
        .interface_in(Interface::Out, BRIDGES)
        .verdict(Verdict::Jump("inbound"));
    batch.add_rule("forward", inbound);
    batch.add_rule(
        "inbound",
        Rule::new().when_translated().verdict(Verdict::Accept),
    );
    batch.add_rule("inbound", Rule::new().verdict(Verdict::Drop));
}
