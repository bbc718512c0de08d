//! Networks as the kernel sees them: bridges, veth pairs, addresses, firewall rules, published ports and name answers.
//!
//! This crate knows network and endpoint *records*; it knows nothing of images or of the state of containers. A
//! container's way in and out:
//!
//! 1. [`join`]: under the network's lock, claim an address (an endpoint record appears) and make sure that the bridge
//!    and the firewall table are there;
//! 2. [`attach`]: a veth pair whose far end is made directly inside the container's network namespace;
//! 3. [`publish`]: host ports, each held by a bound socket of the caller ([`Published`]) and one element of a map;
//! 4. [`dns::Server`]: answers on 127.0.0.11 inside the namespace, for user networks;
//! 5. [`unpublish`] and [`leave`] undo all of it, in any state it may be in. The veth pair goes with the namespace.
//!    The last endpoint takes the bridge and the firewall table along.
//!
//! Everything is spoken over netlink; no program is executed. All functions that touch the kernel act on the network
//! namespace of the calling thread (the host's, in the monitor).

mod attach;
mod bridge;
mod claim;
mod conntrack;
pub mod dns;
mod error;
mod firewall;
mod link;
mod lock;
mod netns;
mod nft;
mod pool;
mod publish;
mod record;
mod subnet;

pub use attach::{AttachOptions, attach, detach, loopback_up};
pub use bridge::{
    IdleBridge, RetiredBridge, join, leave, leave_idle, remove_bridge, sweep_retired,
};
pub use claim::{endpoint, endpoints, rename_endpoint};
pub use error::{Error, Result};
pub use pool::{choose_subnet, used_by_host};
pub use publish::{PublishRequest, Published, publish, unpublish};
pub use record::{
    DEFAULT_BRIDGE, EndpointRecord, EndpointRequest, NetworkOptions, NetworkRecord, SubnetRecord,
    VERSION,
};
pub use subnet::{Subnet, SubnetError};
