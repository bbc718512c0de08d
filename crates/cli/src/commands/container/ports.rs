//! The PORTS column: published ports with runs of neighbours joined, and exposed ones bare.

use std::net::IpAddr;

use ketch_spec::port::{Port, PortMapping};

/// A port as Docker's engine lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Port of the container.
    pub container: Port,
    /// Where it is published; None for one that is only exposed.
    pub host: Option<(IpAddr, u16)>,
}

/// All ports of a running container. A mapping without an address is on all of them.
pub fn listed(published: &[PortMapping], exposed: &[Port]) -> Vec<Listed> {
    let any = IpAddr::from([0, 0, 0, 0]);
    let mut all: Vec<Listed> = published
        .iter()
        .map(|mapping| Listed {
            container: mapping.container,
            host: mapping
                .host_port
                .map(|port| (mapping.host_ip.unwrap_or(any), port)),
        })
        .collect();
    let bare = exposed
        .iter()
        .filter(|port| !published.iter().any(|mapping| mapping.container == **port));
    all.extend(bare.map(|port| Listed {
        container: *port,
        host: None,
    }));
    all
}

/// A run of neighbouring ports with the same address and protocol.
struct Run {
    key: String,
    address: Option<IpAddr>,
    protocol: String,
    first: u16,
    last: u16,
}

impl Run {
    fn text(&self) -> String {
        let range = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        match self.address {
            Some(address) => format!("{}->{range}/{}", joined(address, &range), self.protocol),
            None => format!("{range}/{}", self.protocol),
        }
    }
}

/// `0.0.0.0:8080->80/tcp, 9000-9002/tcp`.
pub fn text(mut ports: Vec<Listed>) -> String {
    let order = |port: &Listed| {
        let host = port
            .host
            .map(|(address, public)| (address.to_string(), public));
        (
            port.container.number,
            host.clone().map(|host| host.0).unwrap_or_default(),
            host.map_or(0, |host| host.1),
        )
    };
    ports.sort_by_key(|port| (order(port), port.container.protocol));
    let mut runs: Vec<Run> = Vec::new();
    let (mut done, mut mapped) = (Vec::new(), Vec::new());
    for port in ports {
        let (number, protocol) = (port.container.number, port.container.protocol.to_string());
        let address = match port.host {
            Some((address, public)) if public != number => {
                mapped.push(format!(
                    "{}->{number}/{protocol}",
                    joined(address, &public.to_string())
                ));
                continue;
            }
            Some((address, _)) => Some(address),
            None => None,
        };
        let key = format!(
            "{}/{protocol}",
            address
                .map(|address| address.to_string())
                .unwrap_or_default()
        );
        match runs.iter_mut().find(|run| run.key == key) {
            Some(run) if run.last.checked_add(1) == Some(number) => run.last = number,
            Some(run) => {
                done.push(run.text());
                (run.first, run.last) = (number, number);
            }
            None => runs.push(Run {
                key,
                address,
                protocol,
                first: number,
                last: number,
            }),
        }
    }
    done.extend(runs.iter().map(Run::text));
    done.extend(mapped);
    done.join(", ")
}

/// `0.0.0.0:80`, `[::]:80`.
fn joined(address: IpAddr, port: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(publish: &[&str], expose: &[&str]) -> String {
        let published: Vec<PortMapping> = publish
            .iter()
            .flat_map(|text| ketch_spec::port::parse_publish(text).unwrap())
            .collect();
        let exposed: Vec<Port> = expose
            .iter()
            .flat_map(|text| ketch_spec::port::parse_expose(text).unwrap())
            .collect();
        text(listed(&published, &exposed))
    }

    #[test]
    fn published_ports_show_their_host_side() {
        assert_eq!(shown(&["8080:80"], &[]), "0.0.0.0:8080->80/tcp");
        assert_eq!(shown(&["127.0.0.1:53:53/udp"], &[]), "127.0.0.1:53->53/udp");
        assert_eq!(shown(&["[::1]:81:80"], &[]), "[::1]:81->80/tcp");
    }

    #[test]
    fn neighbours_are_joined_and_exposed_ports_come_first() {
        assert_eq!(shown(&[], &["80-82", "90"]), "80-82/tcp, 90/tcp");
        assert_eq!(shown(&["80-81:80-81"], &[]), "0.0.0.0:80-81->80-81/tcp");
        assert_eq!(
            shown(&["8080:80"], &["80", "443"]),
            "443/tcp, 0.0.0.0:8080->80/tcp"
        );
    }
}
