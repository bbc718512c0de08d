//! Differences from runc that are meant, with their reasons: `docs/compatibility.md` lists them from here.

/// A check that runc passes, or fails otherwise, and ketch does not pass.
pub struct Known {
    /// The suite.
    pub suite: &'static str,
    /// The check's name.
    pub check: &'static str,
    /// Why ketch does otherwise.
    pub reason: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        suite: "runtime-tools",
        check: "linux_rootfs_propagation",
        reason: "on a machine whose root lacks a capability, runc refuses the container and ketch starts it with a warning, as the specification has it since 1.1; the program inside then misses the capability",
    },
    Known {
        suite: "runtime-tools",
        check: "process_capabilities",
        reason: "the same",
    },
    Known {
        suite: "runtime-tools",
        check: "pidfile",
        reason: "the test kills a container whose program is `true`: by then it has ended, unless the runtime is slow, and killing a stopped container must be an error",
    },
    Known {
        suite: "runtime-tools",
        check: "poststart",
        reason: "the test expects a shell to have printed something before the hooks run; the specification only wants it to have been executed, and with ketch that is certain",
    },
    Known {
        suite: "runtime-tools",
        check: "mounts",
        reason: "the test gives bind mounts options of file systems, `mode` and `size`, which runc and the kernel leave out in silence; ketch refuses them by name",
    },
    Known {
        suite: "runc",
        check: "debug: global --debug",
        reason: "the test looks for words of runc's own steps; ketch's log tells its own",
    },
    Known {
        suite: "runc",
        check: "debug: global --debug to --log",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "debug: global --debug to --log --log-format 'text'",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "debug: global --debug to --log --log-format 'json'",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "exec: runc --debug exec",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "exec: runc --debug --log exec",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "help: runc -h",
        reason: "the test looks for runc's name and the layout of its pages",
    },
    Known {
        suite: "runc",
        check: "help: runc command -h",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "help: runc foo -h",
        reason: "the same",
    },
    Known {
        suite: "runc",
        check: "version: runc version",
        reason: "the test looks for runc's name; ketch gives its own, and the specification's version in the same form",
    },
    Known {
        suite: "runc",
        check: "cgroups: runc exec (cgroup v1+hybrid joins correct cgroup)",
        reason: "on hybrid machines containers are in groups of version 1, where the controllers are; one in the hierarchy of version 2 would limit nothing",
    },
    Known {
        suite: "runc",
        check: "cgroups: runc run/create should warn about a non-empty cgroup",
        reason: "a group with others' processes is refused, see above: they would be killed with the container",
    },
    Known {
        suite: "runc",
        check: "exec: runc exec --cgroup sub-cgroups [v1]",
        reason: "on version 1 a container has groups of the controllers that its limits need; the test wants one of cpu without a limit",
    },
    Known {
        suite: "runc",
        check: "seccomp: runc run [seccomp] (startContainer hook)",
        reason: "the hook fails as it must; the test wants the words of runc 1.1, ketch has those of 1.2, which name the hook's kind",
    },
    Known {
        suite: "runc",
        check: "update: update devices [minimal transition rules]",
        reason: "the test's rule has an access `a`, which the specification does not know and runc leaves out in silence; ketch refuses it by name",
    },
    Known {
        suite: "crun",
        check: "test_hooks: test-hook-env-inherit",
        reason: "hooks without `env` have no environment, see above",
    },
];

/// The reason for a listed difference.
pub fn reason(suite: &str, check: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|known| known.suite == suite && known.check == check)
        .map(|known| known.reason)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::KNOWN;
    use crate::shell;

    const BEGIN: &str = "<!-- made from xtask/src/conformance: begin -->\n";
    const END: &str = "<!-- made from xtask/src/conformance: end -->\n";

    #[test]
    fn the_page_lists_the_known_differences() {
        let path = shell::workspace().join("docs/compatibility.md");
        let page = std::fs::read_to_string(&path).expect("docs/compatibility.md");
        let (before, rest) = page.split_once(BEGIN).expect("the begin mark");
        let (_, after) = rest.split_once(END).expect("the end mark");
        let mut table = String::from("| tests | check | why ketch differs |\n|---|---|---|\n");
        for known in KNOWN {
            let _ = writeln!(
                table,
                "| {} | `{}` | {} |",
                known.suite, known.check, known.reason
            );
        }
        let wanted = format!("{before}{BEGIN}{table}{END}{after}");
        if std::env::var_os("KETCH_WRITE_PAGES").is_some() {
            std::fs::write(&path, wanted).expect("write the page");
            return;
        }
        assert!(
            page == wanted,
            "docs/compatibility.md is behind: run KETCH_WRITE_PAGES=1 cargo test -p xtask known"
        );
    }
}
