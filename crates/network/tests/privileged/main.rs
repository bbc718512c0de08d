//! Networks in the kernel: bridges, rules, published ports and names, each test in network namespaces of its own.

mod dns;
mod firewall;
mod link;
mod publish;
mod world;
