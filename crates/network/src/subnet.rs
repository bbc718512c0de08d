//! IPv4 subnets: parsing, membership, overlap.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 network address with its prefix length, written `172.17.0.0/16`. Host bits are always zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: u32,
    prefix: u8,
}

/// Why a text is not an IPv4 subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid subnet {text}: expected an IPv4 address and a prefix length, as in 172.20.0.0/16")]
pub struct SubnetError {
    /// What was given.
    pub text: String,
}

impl Subnet {
    /// The subnet of `prefix` bits that holds `address`. A prefix above 32 counts as 32.
    pub const fn holding(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Self {
            first: address.to_bits() & mask(prefix),
            prefix,
        }
    }

    /// Number of leading bits that all addresses share.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The lowest address: the network's own.
    pub const fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first)
    }

    /// The highest address: for broadcasts.
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first | !mask(self.prefix))
    }

    /// Whether `address` is one of it.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first
    }

    /// Whether all of `other` is within.
    pub const fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first())
    }

    /// Whether any address is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Whether a host may bear `address`: in the subnet, and neither its first nor its last unless it is that small.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address)
            && (self.prefix >= 31 || (address != self.first() && address != self.last()))
    }

    /// The `index`th subnet of `prefix` bits within.
    pub fn part(self, prefix: u8, index: u32) -> Option<Self> {
        if prefix < self.prefix || prefix > 32 {
            return None;
        }
        let offset = u64::from(index) << (32 - prefix);
        let first = u64::from(self.first) + offset;
        let first = u32::try_from(first)
            .ok()
            .filter(|first| self.contains(Ipv4Addr::from_bits(*first)))?;
        Some(Self { first, prefix })
    }
}

/// The bits that a prefix fixes.
const fn mask(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        1..=32 => u32::MAX << (32 - prefix),
        _ => u32::MAX,
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let error = || SubnetError {
            text: text.to_owned(),
        };
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let digits =
            !prefix.is_empty() && prefix.len() <= 2 && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u8 = prefix
            .parse()
            .ok()
            .filter(|prefix| digits && *prefix <= 32)
            .ok_or_else(error)?;
        Ok(Self::holding(address, prefix))
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;
    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn parsing_clears_host_bits_and_refuses_the_rest() {
        assert_eq!(subnet("172.17.5.9/16").to_string(), "172.17.0.0/16");
        for wrong in [
            "172.17.0.0",
            "172.17.0.0/33",
            "172.17.0/16",
            "fd00::/64",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3.4/016",
        ] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_exact() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.1.2.0/24")));
        assert!(subnet("10.1.2.0/24").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.1.2.0/24").overlaps(subnet("10.1.3.0/24")));
        assert!(subnet("0.0.0.0/0").overlaps(subnet("203.0.113.0/24")));
    }

    #[test]
    fn hosts_exclude_the_ends() {
        let net = subnet("192.168.1.0/30");
        let hosts: Vec<bool> = (0..4)
            .map(|n| net.is_host(Ipv4Addr::new(192, 168, 1, n)))
            .collect();
        assert_eq!(hosts, [false, true, true, false]);
        assert!(subnet("192.168.1.0/31").is_host(Ipv4Addr::new(192, 168, 1, 0)));
    }

    #[test]
    fn parts_stop_at_the_end() {
        let net = subnet("192.168.0.0/16");
        assert_eq!(net.part(20, 15).unwrap().to_string(), "192.168.240.0/20");
        assert_eq!(net.part(20, 16), None);
        assert_eq!(net.part(8, 0), None);
    }
}
