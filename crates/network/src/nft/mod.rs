//! nf_tables over netlink: one batch is one transaction.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`; nf_tables has them in network order.

mod kept;
mod rule;
mod set;

use ketch_sys::netlink::{self, ACK, APPEND, CREATE, EXCLUSIVE, Protocol, Request, Socket};
use rustix::io::Errno;

pub(crate) use rule::{Interface, Rule, Verdict};
pub(crate) use set::{Element, Key, SetKind};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENERATION: u16 = 1;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
const GET_GENERATION: u16 = 16;

/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
const LIST_ELEMENT: u16 = 1;

/// `NF_INET_…`: where a base chain sees packets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain that the kernel calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BaseChain {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// `NF_IP_PRI_…`
pub(crate) const PRIORITY_RAW: i32 = -300;
pub(crate) const PRIORITY_DNAT: i32 = -100;
pub(crate) const PRIORITY_FILTER: i32 = 0;
pub(crate) const PRIORITY_SNAT: i32 = 100;

/// A transaction on one table of family `ip`.
#[derive(Debug)]
pub(crate) struct Batch {
    request: Request,
    table: &'static str,
    sets: u32,
}

impl Batch {
    /// An empty transaction. With a generation it is refused (`ERESTART`) if the rules have changed since.
    pub(crate) fn new(table: &'static str, generation: Option<u32>) -> Self {
        let mut request = Request::new();
        request.message(BATCH_BEGIN, 0, |m| {
            m.raw(&header(0, SUBSYSTEM));
            if let Some(generation) = generation {
                m.be32(BATCH_GENERATION, generation);
            }
        });
        Self {
            request,
            table,
            sets: 0,
        }
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Request)) {
        self.request
            .message(SUBSYSTEM << 8 | kind, flags | ACK, |m| {
                m.raw(&header(IPV4, 0));
                body(m);
            });
    }

    /// Makes the table; a table of that name makes the transaction fail with `EEXIST`.
    pub(crate) fn create_table(&mut self) {
        let table = self.table;
        self.message(NEW_TABLE, CREATE | EXCLUSIVE, |m| m.text(1, table));
    }

    /// Deletes the table with all that is in it.
    pub(crate) fn delete_table(&mut self) {
        let table = self.table;
        self.message(DELETE_TABLE, 0, |m| m.text(1, table));
    }

    /// Makes a chain.
    pub(crate) fn create_chain(&mut self, name: &str, base: Option<BaseChain>) {
        let table = self.table;
        self.message(NEW_CHAIN, CREATE, |m| {
            m.text(1, table);
            m.text(3, name);
            if let Some(base) = base {
                m.nest(4, |m| {
                    m.be32(1, base.hook as u32);
                    m.be32(2, base.priority.cast_unsigned());
                });
                m.text(7, base.kind);
            }
        });
    }

    /// Adds a rule at the end of a chain.
    pub(crate) fn add_rule(&mut self, chain: &str, rule: Rule) {
        let table = self.table;
        self.message(NEW_RULE, CREATE | APPEND, |m| {
            m.text(1, table);
            m.text(2, chain);
            m.nest(4, |m| rule.write(m));
        });
    }

    /// Makes a set or a map.
    pub(crate) fn create_set(&mut self, name: &str, kind: SetKind) {
        let table = self.table;
        self.sets += 1;
        let id = self.sets;
        self.message(NEW_SET, CREATE, |m| {
            m.text(1, table);
            m.text(2, name);
            m.be32(10, id);
            kind.write(m);
        });
    }

    /// Adds elements. With `exclusive`, an element that is there makes the transaction fail with `EEXIST`.
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element], exclusive: bool) {
        self.elements(
            NEW_ELEMENT,
            if exclusive {
                CREATE | EXCLUSIVE
            } else {
                CREATE
            },
            set,
            elements,
        );
    }

    /// Removes elements; one that is not there makes the transaction fail with `ENOENT`.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELETE_ELEMENT, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        let table = self.table;
        // The list is one attribute: 65,535 bytes at most.
        for chunk in elements.chunks(256) {
            self.message(kind, flags, |m| set::write_elements(m, table, set, chunk));
        }
    }
}

/// A conversation with nf_tables in one network namespace.
#[derive(Debug)]
pub(crate) struct Firewall {
    /// None only while it is dropped.
    socket: Option<Socket>,
    /// Of whose rules the socket is kept when this is dropped.
    namespace: Option<kept::Namespace>,
}

impl Firewall {
    /// In the calling thread's network namespace, which is the host's.
    pub(crate) fn open() -> Result<Self, netlink::Error> {
        let (namespace, socket) = kept::take()?;
        Ok(Self {
            socket: Some(socket),
            namespace,
        })
    }

    /// In the calling thread's network namespace, which may end: an open socket would not let it.
    pub(crate) fn open_in_container() -> Result<Self, netlink::Error> {
        Ok(Self {
            socket: Some(Socket::open(Protocol::Netfilter)?),
            namespace: None,
        })
    }

    fn socket(&mut self) -> Result<&mut Socket, netlink::Error> {
        self.socket.as_mut().ok_or(netlink::Error::Malformed)
    }

    /// Performs a transaction: all of it or nothing.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> Result<(), netlink::Error> {
        batch
            .request
            .message(BATCH_END, 0, |m| m.raw(&header(0, SUBSYSTEM)));
        self.socket()?.change(batch.request)
    }

    /// Whether a table is there.
    pub(crate) fn has_table(&mut self, table: &str) -> Result<bool, netlink::Error> {
        let mut request = Request::new();
        request.message(SUBSYSTEM << 8 | GET_TABLE, 0, |m| {
            m.raw(&header(IPV4, 0));
            m.text(1, table);
        });
        let mut found = false;
        let asked = self.socket()?.ask(request, |_| {
            found = true;
            Ok(())
        });
        absent_is_fine(asked).map(|()| found)
    }

    /// The number of the present set of rules, which every change increments.
    pub(crate) fn generation(&mut self) -> Result<u32, netlink::Error> {
        let mut request = Request::new();
        request.message(SUBSYSTEM << 8 | GET_GENERATION, 0, |m| {
            m.raw(&header(IPV4, 0))
        });
        let mut generation = None;
        self.socket()?.ask(request, |message| {
            generation = message.attributes(4).get(1).and_then(|a| a.be32());
            Ok(())
        })?;
        generation.ok_or(netlink::Error::Malformed)
    }

    /// Whether a set has an element of this key. A table or set that is missing has none.
    pub(crate) fn has_element(
        &mut self,
        table: &str,
        set: &str,
        key: &Key,
    ) -> Result<bool, netlink::Error> {
        let mut request = Request::new();
        let element = [Element::new(key.clone())];
        request.message(SUBSYSTEM << 8 | GET_ELEMENT, 0, |m| {
            m.raw(&header(IPV4, 0));
            set::write_elements(m, table, set, &element);
        });
        let mut found = false;
        let asked = self.socket()?.ask(request, |_| {
            found = true;
            Ok(())
        });
        absent_is_fine(asked).map(|()| found)
    }

    /// All elements of a set. A table or set that is missing has none.
    pub(crate) fn elements(
        &mut self,
        table: &str,
        set: &str,
    ) -> Result<Vec<Element>, netlink::Error> {
        let mut request = Request::new();
        request.message(SUBSYSTEM << 8 | GET_ELEMENT, netlink::DUMP, |m| {
            m.raw(&header(IPV4, 0));
            m.text(1, table);
            m.text(2, set);
        });
        let mut found = Vec::new();
        let asked = self.socket()?.ask(request, |message| {
            found.extend(set::read_elements(&message));
            Ok(())
        });
        absent_is_fine(asked).map(|()| found)
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        if let (Some(namespace), Some(socket)) = (self.namespace, self.socket.take()) {
            kept::put(namespace, socket);
        }
    }
}

fn absent_is_fine(result: Result<(), netlink::Error>) -> Result<(), netlink::Error> {
    match result {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
