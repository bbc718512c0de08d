//! The three files that every container gets from us: hosts, hostname and resolv.conf.
//!
//! They are written in place, not replaced: a running container has the file itself mounted, and must see the change.
//! A write that a crash tears is made again at the next start.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::config::{ContainerConfig, NetworkMode};
use super::spec::hostname;
use crate::{Engine, Error, ErrorKind, Result};

/// How much of the host's files is read, in bytes.
const MAX_HOST_FILE_BYTES: u64 = 1 << 20;
/// Where names are answered in user networks.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Docker's resolvers where the host has only local ones.
const FALLBACK_RESOLVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// Where systemd-resolved keeps the real resolvers when /etc/resolv.conf names only its stub.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// What the files depend on beyond the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The container's own addresses, for its host name.
    pub own: Vec<Ipv4Addr>,
    /// What `host-gateway` in `--add-host` means.
    pub host_gateway: Option<Ipv4Addr>,
    /// It is in a network that answers names at [`RESOLVER`].
    pub user_network: bool,
}

/// Writes the three files. Nothing to do for a container that shares another's network: it sees that one's.
///
/// # Errors
/// `Invalid` for an `--add-host` entry that is none; input and output.
pub fn write(engine: &Engine, config: &ContainerConfig, addresses: &Addresses) -> Result<()> {
    if matches!(config.network.mode, NetworkMode::Container(_)) {
        return Ok(());
    }
    let paths = engine.paths();
    let host_hosts = match config.network.mode {
        NetworkMode::Host => read_host("/etc/hosts"),
        _ => String::new(),
    };
    put(
        &paths.hosts(&config.id),
        &hosts(config, addresses, &host_hosts)?,
    )?;
    put(
        &paths.hostname(&config.id),
        &format!("{}\n", full_hostname(config)),
    )?;
    put(
        &paths.resolv_conf(&config.id),
        &resolv_conf(config, addresses, &host_resolv_conf(&config.network.mode)),
    )
}

/// The resolvers that names outside of user networks are asked of: the container's `--dns`, else the host's.
pub fn upstream_resolvers(config: &ContainerConfig) -> Vec<IpAddr> {
    let own: Vec<IpAddr> = config
        .network
        .dns
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    if !own.is_empty() {
        return own;
    }
    // The answers are fetched from the host's network namespace, where its local resolvers work.
    parse(&read_host("/etc/resolv.conf"))
        .servers
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn full_hostname(config: &ContainerConfig) -> String {
    let name = hostname(config);
    if config.domainname.is_empty() {
        name
    } else {
        format!("{name}.{}", config.domainname)
    }
}

fn hosts(config: &ContainerConfig, addresses: &Addresses, host_hosts: &str) -> Result<String> {
    let mut text = if config.network.mode == NetworkMode::Host {
        host_hosts.to_owned()
    } else {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned()
    };
    for entry in &config.network.extra_hosts {
        let (name, address) = parse_extra_host(entry)?;
        match address {
            ExtraHost::Address(address) => text.push_str(&format!("{address}\t{name}\n")),
            ExtraHost::Gateway => match addresses.host_gateway {
                Some(gateway) => text.push_str(&format!("{gateway}\t{name}\n")),
                None => {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        "unable to derive the IP value for host-gateway",
                    ));
                }
            },
        }
    }
    let name = hostname(config);
    for address in &addresses.own {
        let names = if config.domainname.is_empty() {
            name.clone()
        } else {
            format!("{} {name}", full_hostname(config))
        };
        text.push_str(&format!("{address}\t{names}\n"));
    }
    Ok(text)
}

/// What the right side of `--add-host` is.
enum ExtraHost {
    Address(IpAddr),
    Gateway,
}

/// Checks one `--add-host`.
///
/// # Errors
/// `Invalid` in Docker's words.
pub(super) fn check_extra_host(entry: &str) -> Result<()> {
    parse_extra_host(entry).map(|_| ())
}

fn parse_extra_host(entry: &str) -> Result<(&str, ExtraHost)> {
    let bad = |what: String| Error::new(ErrorKind::Invalid, what);
    // `name=address` is Docker's newer form; in the older one the address may have colons of its own.
    let Some((name, address)) = entry.split_once('=').or_else(|| entry.split_once(':')) else {
        return Err(bad(format!("bad format for add-host: {entry:?}")));
    };
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad(format!("bad format for add-host: {entry:?}")));
    }
    if address == "host-gateway" {
        return Ok((name, ExtraHost::Gateway));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    match bare.parse() {
        Ok(address) => Ok((name, ExtraHost::Address(address))),
        Err(_) => Err(bad(format!("invalid IP address in add-host: {address:?}"))),
    }
}

/// The parts of a resolv.conf.
#[derive(Debug, Default, PartialEq)]
struct Resolv {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Resolv {
    let mut found = Resolv::default();
    for line in text.lines() {
        let mut words = line
            .split(['#', ';'])
            .next()
            .unwrap_or_default()
            .split_whitespace();
        match words.next() {
            Some("nameserver") => found.servers.extend(words.next().map(str::to_owned)),
            // As resolv.conf(5): the last such line counts.
            Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
            Some("options") => found.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    found
}

fn resolv_conf(config: &ContainerConfig, addresses: &Addresses, host: &str) -> String {
    let network = &config.network;
    let mut conf = parse(host);
    let untouched =
        network.dns.is_empty() && network.dns_search.is_empty() && network.dns_options.is_empty();
    if network.mode == NetworkMode::Host && untouched {
        return host.to_owned();
    }
    if !network.dns_search.is_empty() {
        // `--dns-search=.` means none.
        conf.search = network
            .dns_search
            .iter()
            .filter(|domain| *domain != ".")
            .cloned()
            .collect();
    }
    if !network.dns_options.is_empty() {
        conf.options.clone_from(&network.dns_options);
    }
    if !network.dns.is_empty() {
        conf.servers.clone_from(&network.dns);
    } else if network.mode != NetworkMode::Host {
        conf.servers.retain(|server| !is_local(server));
        if conf.servers.is_empty() {
            conf.servers = FALLBACK_RESOLVERS.map(str::to_owned).into();
        }
    }
    if addresses.user_network {
        conf.servers = vec![RESOLVER.to_string()];
        if !conf
            .options
            .iter()
            .any(|option| option.starts_with("ndots:"))
        {
            conf.options.push("ndots:0".to_owned());
        }
    }
    let mut text = "# Made by ketch for this container.\n".to_owned();
    for server in &conf.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !conf.search.is_empty() {
        text.push_str(&format!("search {}\n", conf.search.join(" ")));
    }
    if !conf.options.is_empty() {
        text.push_str(&format!("options {}\n", conf.options.join(" ")));
    }
    text
}

/// Whether a resolver is reached from the host only.
fn is_local(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or_default();
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        // Link-local ones need a link that the container does not have; IPv6 needs IPv6, which it has not either.
        Ok(IpAddr::V6(_)) => true,
        Err(_) => true,
    }
}

fn host_resolv_conf(mode: &NetworkMode) -> String {
    let text = read_host("/etc/resolv.conf");
    let stub_only = parse(&text).servers == ["127.0.0.53"];
    if stub_only && *mode != NetworkMode::Host {
        let real = read_host(RESOLVED);
        if !real.is_empty() {
            return real;
        }
    }
    text
}

/// A file of the host; one that is not there or not text is empty.
fn read_host(path: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(file) = fs::File::open(path)
        && file
            .take(MAX_HOST_FILE_BYTES)
            .read_to_string(&mut text)
            .is_ok()
    {
        return text;
    }
    String::new()
}

fn put(path: &Path, text: &str) -> Result<()> {
    let failed = |call: &str, error: &std::io::Error| {
        Error::caused(
            ErrorKind::Internal,
            format!("{call} {}", path.display()),
            error,
        )
    };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|error| failed("open", &error))?;
    file.write_all(text.as_bytes())
        .map_err(|error| failed("write", &error))?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(|error| failed("chmod", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_support::config;

    const HOST: &str = "# comment\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.example b.example\n\
                        options timeout:1\n";

    #[test]
    fn the_default_network_has_the_hosts_resolvers_but_local_ones() {
        let text = resolv_conf(&config(), &Addresses::default(), HOST);
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "nameserver 10.0.0.1",
                "search a.example b.example",
                "options timeout:1"
            ]
        );
        let text = resolv_conf(&config(), &Addresses::default(), "nameserver 127.0.0.1\n");
        assert!(
            text.contains("nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
            "{text}"
        );
    }

    #[test]
    fn a_user_network_asks_us() {
        let addresses = Addresses {
            user_network: true,
            ..Addresses::default()
        };
        let text = resolv_conf(&config(), &addresses, HOST);
        assert!(
            text.contains("nameserver 127.0.0.11\n") && !text.contains("10.0.0.1"),
            "{text}"
        );
        assert!(text.contains("options timeout:1 ndots:0\n"), "{text}");
    }

    #[test]
    fn the_users_choice_comes_first() {
        let mut config = config();
        config.network.dns = vec!["127.0.0.1".into()];
        config.network.dns_search = vec![".".into()];
        config.network.dns_options = vec!["ndots:3".into()];
        let text = resolv_conf(&config, &Addresses::default(), HOST);
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            ["nameserver 127.0.0.1", "options ndots:3"]
        );
        assert_eq!(upstream_resolvers(&config), [IpAddr::from([127, 0, 0, 1])]);
        config.network = Default::default();
        config.network.mode = NetworkMode::Host;
        assert_eq!(resolv_conf(&config, &Addresses::default(), HOST), HOST);
    }

    #[test]
    fn hosts_has_extra_and_own_names() {
        let mut config = config();
        config.hostname = "web".into();
        config.domainname = "example".into();
        config.network.extra_hosts = vec![
            "db:10.1.1.1".into(),
            "six=[2001:db8::1]".into(),
            "up:host-gateway".into(),
        ];
        let addresses = Addresses {
            own: vec![[172, 17, 0, 2].into()],
            host_gateway: Some([172, 17, 0, 1].into()),
            user_network: false,
        };
        let text = hosts(&config, &addresses, "").unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with(
                "10.1.1.1\tdb\n2001:db8::1\tsix\n172.17.0.1\tup\n172.17.0.2\tweb.example web\n"
            ),
            "{text}"
        );
        assert!(hosts(&config, &Addresses::default(), "").is_err());
        assert_eq!(
            check_extra_host("x").unwrap_err().message,
            "bad format for add-host: \"x\""
        );
        assert_eq!(
            check_extra_host("x:y").unwrap_err().message,
            "invalid IP address in add-host: \"y\""
        );
    }
}
