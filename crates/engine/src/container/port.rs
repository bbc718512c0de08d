//! `port`: where the container's ports are published.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ketch_spec::port::Port;

use super::load;
use crate::{Engine, Result};

/// Published ports with the host addresses they are published on, sorted. None for a container that does not run.
///
/// # Errors
/// `NotFound`.
pub fn port(engine: &Engine, wanted: &str) -> Result<Vec<(Port, SocketAddr)>> {
    let id = load::resolve(engine, wanted)?;
    let (_, state) = load::load(engine, &id)?;
    let mut all: Vec<(Port, SocketAddr)> = state
        .ports
        .iter()
        .filter_map(|mapping| {
            let address = mapping.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            Some((
                mapping.container,
                SocketAddr::new(address, mapping.host_port?),
            ))
        })
        .collect();
    all.sort();
    all.dedup();
    Ok(all)
}
