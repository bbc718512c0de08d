//! Which hosts a setting means: lists of insecure hosts, and what a proxy is not used for.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::options::Proxies;
use crate::url::{Url, is_loopback};

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    address: IpAddr,
    bits: u8,
}

impl Block {
    /// Reads `address/bits`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        (bits <= width).then_some(Self { address, bits })
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                block.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                block.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// Host and port of `host[:port]`, without the brackets of an IPv6 address.
pub(crate) fn split_authority(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (
            host,
            after.strip_prefix(':').and_then(|port| port.parse().ok()),
        );
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    }
}

/// Whether a list of hosts and blocks names `host[:port]`.
pub(crate) fn is_listed(list: &[String], authority: &str) -> bool {
    let address: Option<IpAddr> = split_authority(authority).0.parse().ok();
    list.iter().any(|entry| {
        let in_block = || {
            address.is_some_and(|address| Block::parse(entry).is_some_and(|b| b.contains(address)))
        };
        entry.eq_ignore_ascii_case(authority) || in_block()
    })
}

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    Http,
    Https,
}

/// The proxies, read.
pub(crate) struct Ways {
    http: Option<ureq::Proxy>,
    https: Option<ureq::Proxy>,
    except: Vec<String>,
}

impl Ways {
    pub fn new(proxies: &Proxies) -> Result<Self> {
        let read = |url: &Option<String>| url.as_deref().map(proxy).transpose();
        Ok(Self {
            http: read(&proxies.http)?,
            https: read(&proxies.https)?,
            except: proxies.except.clone(),
        })
    }

    /// The proxy that a URL is reached by; loopback is always near.
    pub fn choose(&self, url: &Url) -> Option<Via> {
        let via = if url.secure { Via::Https } else { Via::Http };
        self.get(via)?;
        let (host, port) = split_authority(&url.authority);
        let port = port.unwrap_or(if url.secure { 443 } else { 80 });
        let direct = is_loopback(&url.authority)
            || self.except.iter().any(|entry| is_except(entry, host, port));
        (!direct).then_some(via)
    }

    pub fn get(&self, via: Via) -> Option<&ureq::Proxy> {
        match via {
            Via::Http => self.http.as_ref(),
            Via::Https => self.https.as_ref(),
        }
    }
}

/// One entry of `NO_PROXY`, in the meaning that Go gives it.
fn is_except(entry: &str, host: &str, port: u16) -> bool {
    let entry = entry.trim();
    if entry == "*" {
        return true;
    }
    let address: Option<IpAddr> = host.parse().ok();
    if let Some(block) = Block::parse(entry) {
        return address.is_some_and(|address| block.contains(address));
    }
    if let Ok(only) = entry.parse::<IpAddr>() {
        return address == Some(only);
    }
    let (name, wanted) = split_authority(entry);
    if name.is_empty() || wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(only) = name.parse::<IpAddr>() {
        return address == Some(only);
    }
    let name = name.to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let name = name.strip_prefix('*').unwrap_or(&name);
    match name.strip_prefix('.') {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => {
            host == name
                || host
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

fn proxy(url: &str) -> Result<ureq::Proxy> {
    let wrong = || Error::Proxy {
        url: url.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    // As curl and Go read it: a proxy without a scheme speaks HTTP.
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    if !(full.starts_with("http://") || full.starts_with("https://")) {
        return Err(wrong());
    }
    let read = ureq::Proxy::new(&full).map_err(|_| wrong())?;
    if read.host().is_empty() {
        return Err(wrong());
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_their_addresses() {
        let holds = |block: &str, address: &str| {
            Block::parse(block)
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "fe80::1") && holds("1.2.3.4/32", "1.2.3.4"));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/", "::/129"] {
            assert_eq!(Block::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_name_hosts_and_blocks() {
        let list = ["r.example:5000".to_owned(), "10.0.0.0/8".into()];
        assert!(is_listed(&list, "R.example:5000") && is_listed(&list, "10.1.2.3:5000"));
        assert!(!is_listed(&list, "r.example") && !is_listed(&list, "11.0.0.1"));
    }

    #[test]
    fn exceptions_are_those_of_go() {
        let direct = |entry: &str, host: &str| is_except(entry, host, 443);
        assert!(direct("*", "any.example"));
        assert!(direct("example.com", "example.com") && direct("example.com", "a.example.com"));
        assert!(!direct("example.com", "notexample.com"));
        assert!(direct(".example.com", "a.example.com") && !direct(".example.com", "example.com"));
        assert!(direct("*.example.com", "a.example.com"));
        assert!(
            direct("example.com:443", "example.com") && !direct("example.com:80", "example.com")
        );
        assert!(direct("10.0.0.0/8", "10.1.1.1") && !direct("10.0.0.0/8", "ten.example"));
        assert!(direct("192.168.1.1", "192.168.1.1") && direct("fd00::1", "fd00::1"));
        assert!(!direct("", "a") && !direct(" ", "a"));
    }

    #[test]
    fn proxies_are_chosen_by_scheme() {
        let ways = Ways::new(&Proxies {
            https: Some("p.example:3128".into()),
            http: None,
            except: vec!["near.example".into()],
        })
        .unwrap();
        let via = |url: &str| ways.choose(&Url::parse(url).unwrap());
        assert_eq!(via("https://far.example/"), Some(Via::Https));
        assert_eq!(via("http://far.example/"), None);
        assert_eq!(via("https://near.example/"), None);
        assert_eq!(via("https://localhost:5000/"), None);
        for wrong in ["ftp://x", "http://", "http://[", "socks5://x:1"] {
            let proxies = Proxies {
                http: Some(wrong.into()),
                ..Proxies::default()
            };
            assert!(Ways::new(&proxies).is_err(), "{wrong}");
        }
    }
}
