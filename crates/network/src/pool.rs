//! Which subnet a network gets that names none: Docker's pools.

use std::net::Ipv4Addr;

use crate::Result;
use crate::error::Error;
use crate::link::Links;
use crate::subnet::Subnet;

/// A range and the prefix length of the subnets cut from it.
const POOLS: [(Subnet, u8); 5] = [
    (Subnet::holding(Ipv4Addr::new(172, 17, 0, 0), 16), 16),
    (Subnet::holding(Ipv4Addr::new(172, 18, 0, 0), 15), 16),
    (Subnet::holding(Ipv4Addr::new(172, 20, 0, 0), 14), 16),
    (Subnet::holding(Ipv4Addr::new(172, 24, 0, 0), 13), 16),
    (Subnet::holding(Ipv4Addr::new(192, 168, 0, 0), 16), 20),
];

/// The first predefined subnet that overlaps with none of `used`. The first pool is for the default network.
///
/// # Errors
/// [`Error::PoolsExhausted`].
pub fn choose_subnet(used: &[Subnet], default_network: bool) -> Result<Subnet> {
    let pools = if default_network {
        &POOLS[..]
    } else {
        &POOLS[1..]
    };
    pools
        .iter()
        .flat_map(|(pool, prefix)| (0..).map_while(|index| pool.part(*prefix, index)))
        .find(|subnet| !used.iter().any(|other| other.overlaps(*subnet)))
        .ok_or(Error::PoolsExhausted)
}

/// The subnets that the machine's addresses and routes use, without the default route.
///
/// # Errors
/// [`Error::Link`].
pub fn used_by_host() -> Result<Vec<Subnet>> {
    Links::open()?.subnets_in_use()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_used_in_order_and_end() {
        let mut used = Vec::new();
        assert_eq!(
            choose_subnet(&used, true).unwrap().to_string(),
            "172.17.0.0/16"
        );
        let mut chosen = Vec::new();
        while let Ok(subnet) = choose_subnet(&used, false) {
            used.push(subnet);
            chosen.push(subnet.to_string());
        }
        assert_eq!(chosen.len(), 14 + 16);
        assert_eq!(
            (chosen[0].as_str(), chosen[13].as_str()),
            ("172.18.0.0/16", "172.31.0.0/16")
        );
        assert_eq!(
            (chosen[14].as_str(), chosen[29].as_str()),
            ("192.168.0.0/20", "192.168.240.0/20")
        );
    }

    #[test]
    fn what_the_host_uses_is_left_out() {
        let used = [
            "172.16.0.0/14".parse().unwrap(),
            "192.168.3.0/24".parse().unwrap(),
        ];
        assert_eq!(
            choose_subnet(&used, true).unwrap().to_string(),
            "172.20.0.0/16"
        );
    }
}
