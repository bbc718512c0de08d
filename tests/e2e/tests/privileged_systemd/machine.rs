//! The machine that the cases are for.

use std::time::Duration;

use ketch_test_support::below_systemd;

/// Emulated, a container takes seconds.
const LIMIT: Duration = Duration::from_secs(2400);
/// Which cases run inside; none: all.
const CASES: &str = "KETCH_SYSTEMD_CASES";

#[test]
#[ignore = "starts a systemd, with version 2 of cgroups alone: a part of `cargo xtask test --lab`"]
fn privileged_everything_inside_passes() {
    let program = std::env::current_exe().expect("our own path");
    let cases = match std::env::var(CASES) {
        Ok(cases) if !cases.is_empty() => cases,
        _ => "inside::".to_owned(),
    };
    let said = below_systemd(
        &format!(
            "getent passwd 1000 > /dev/null || useradd --uid 1000 --no-create-home ketch-test-user; \
             systemctl start dbus.socket dbus.service && \
             {} --ignored --nocapture --test-threads 1 {cases} && echo all is well",
            program.display()
        ),
        LIMIT,
    );
    assert!(said.ends_with("all is well\n"), "it says the reason above");
}
