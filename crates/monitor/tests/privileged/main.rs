//! Tests of the monitor with real containers. They need root, and a static busybox at /bin/busybox.

mod networks;
mod runs;
mod support;
