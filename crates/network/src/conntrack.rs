//! Connection tracking: UDP flows that must be forgotten when a port gets another owner.
//!
//! A flow keeps the translation it had at its first packet for as long as packets come, so a client that never
//! pauses would never reach the new container.

use std::net::Ipv4Addr;

use ketch_sys::netlink::{self, ACK, Attributes, DUMP, Protocol, Request, Socket};
use rustix::io::Errno;

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const UDP: u8 = 17;
/// `struct nfgenmsg` of family IPv4.
const HEADER: [u8; 4] = [2, 0, 0, 0];

/// A tracked UDP flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    /// The port that the client sends to.
    pub(crate) destination_port: u16,
    /// Where answers come from: the container, where the destination was translated.
    pub(crate) answer_from: Ipv4Addr,
    pub(crate) answer_port: u16,
}

/// Forgets UDP flows, if there can be any to forget.
pub(crate) fn forget_udp(
    unwanted: impl Fn(&Flow) -> bool,
    any: bool,
) -> Result<(), netlink::Error> {
    if !any {
        return Ok(());
    }
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut request = Request::new();
    request.message(SUBSYSTEM << 8 | GET, DUMP, |m| m.raw(&HEADER));
    let mut tuples: Vec<Vec<u8>> = Vec::new();
    let asked = socket.ask(request, |message| {
        let attributes = message.attributes(HEADER.len());
        if let (Some(original), Some(flow)) = (attributes.get(ORIGINAL), read_flow(attributes))
            && unwanted(&flow)
        {
            tuples.push(original.value.to_vec());
        }
        Ok(())
    });
    match asked {
        // A kernel without this interface has no way to forget.
        Err(error) if error.errno() == Some(Errno::INVAL) => return Ok(()),
        other => other?,
    }
    for tuple in tuples {
        let mut request = Request::new();
        request.message(SUBSYSTEM << 8 | DELETE, ACK, |m| {
            m.raw(&HEADER);
            m.nest(ORIGINAL, |m| m.raw(&tuple));
        });
        socket.change_tolerating(&[Errno::NOENT], request)?;
    }
    Ok(())
}

fn read_flow(attributes: Attributes<'_>) -> Option<Flow> {
    let port = |attributes: Attributes<'_>, kind| {
        attributes
            .get(kind)?
            .value
            .try_into()
            .ok()
            .map(u16::from_be_bytes)
    };
    let original = attributes
        .get(ORIGINAL)?
        .nested()
        .get(TUPLE_PROTOCOL)?
        .nested();
    if original.get(1)?.value != [UDP] {
        return None;
    }
    let reply = attributes.get(REPLY)?.nested();
    let source: [u8; 4] = reply
        .get(TUPLE_IP)?
        .nested()
        .get(1)?
        .value
        .try_into()
        .ok()?;
    Some(Flow {
        destination_port: port(original, 3)?,
        answer_from: source.into(),
        answer_port: port(reply.get(TUPLE_PROTOCOL)?.nested(), 2)?,
    })
}
