//! Ends an operation at one point after the other, and looks what is left each time.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ketch_test_support::{Cutter, How, World, eventually};

use crate::operations::Operation;

/// Points of an operation where it is ended in the short form.
const SHORT: usize = 10;

/// How much of a difference is shown.
const SHOWN: usize = 40;

/// Ends the operations at their points.
pub fn sweep(world: &mut World, operations: &[Operation], how: How) {
    let cutter = Cutter::new(world);
    for operation in operations {
        let clean = rehearse(world, &cutter, operation);
        let points = points(&clean.steps);
        println!(
            "{}, {how:?}: {} of {} points",
            operation.name,
            points.len(),
            clean.steps.len()
        );
        for (turn, &at) in points.iter().enumerate() {
            let trial = Trial {
                world,
                cutter: &cutter,
                operation,
                how,
                at,
                clean: &clean.left,
            };
            trial.run(turn % 2 == 1);
        }
    }
}

/// What happens when nothing goes wrong.
pub struct Clean {
    /// What it does to the disk.
    pub steps: Vec<String>,
    /// What is on disk when all is taken back.
    pub left: BTreeSet<String>,
}

/// Does it once, without an accident.
pub fn rehearse(world: &World, cutter: &Cutter, operation: &Operation) -> Clean {
    prepare(world, operation);
    let cut = cutter.run(world, operation.line, 0, How::All);
    assert!(
        cut.output.status.success(),
        "{}: {}",
        operation.name,
        cut.describe()
    );
    for line in operation.undo {
        let _ = world.run(line);
    }
    eventually("all have ended", || {
        world.monitors().is_empty().then_some(())
    });
    world.run("image prune -f").ok();
    Clean {
        steps: cut.steps,
        left: listing(world),
    }
}

/// Makes it possible.
pub fn prepare(world: &World, operation: &Operation) {
    for line in operation.prepare {
        world.run(line).ok();
    }
}

/// How many points of an operation, or `all`.
const POINTS: &str = "KETCH_CRASH_POINTS";

/// Whether nothing is to be left out.
pub fn is_long() -> bool {
    std::env::var(POINTS).is_ok_and(|text| text == "all")
}

/// Where to end it: everywhere, or evenly spread over what changes names and over the writes.
fn points(steps: &[String]) -> BTreeSet<usize> {
    let all = 1..=steps.len();
    if is_long() {
        return all.collect();
    }
    let wanted = std::env::var(POINTS).map_or(SHORT, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{POINTS} is a number or all: {text}"))
    });
    let is_write =
        |at: &usize| steps[at - 1].starts_with("write ") || steps[at - 1].starts_with("pwrite64 ");
    let names: Vec<usize> = all.clone().filter(|at| !is_write(at)).collect();
    let writes: Vec<usize> = all.filter(is_write).collect();
    let some = |from: &[usize], count: usize| -> Vec<usize> {
        let count = count.min(from.len());
        (0..count)
            .map(|k| from[(2 * k + 1) * from.len() / (2 * count)])
            .collect()
    };
    let mut points = some(&names, wanted - wanted / 4);
    points.extend(some(&writes, wanted / 4));
    points.into_iter().collect()
}

/// One end of an operation.
struct Trial<'a> {
    world: &'a mut World,
    cutter: &'a Cutter,
    operation: &'a Operation,
    how: How,
    at: usize,
    clean: &'a BTreeSet<String>,
}

impl Trial<'_> {
    /// Ends it; with `again` it is done once more then, without it everything is given up.
    fn run(self, again: bool) {
        prepare(self.world, self.operation);
        let cut = self
            .cutter
            .run(self.world, self.operation.line, self.at, self.how);
        // Threads do things in another order each time, and sometimes fewer.
        assert!(
            cut.happened || cut.output.status.success(),
            "{}: {}",
            self.operation.name,
            cut.describe()
        );
        if self.how == How::Power && cut.happened {
            self.world.power_on();
        }
        let what = format!(
            "{}, {:?} before step {}: {}",
            self.operation.name,
            self.how,
            self.at,
            cut.describe()
        );
        look(self.world, &what);
        if again {
            let repeated = self.world.run(self.operation.line);
            assert!(
                repeated.code() == Some(0) || !self.operation.repeats,
                "{what}\nagain: {}",
                repeated.describe()
            );
            look(self.world, &what);
        }
        take_back(self.world, self.operation, self.clean, &what);
    }
}

/// Takes back what of it has happened; only what a clean run leaves may be there then.
pub fn take_back(world: &World, operation: &Operation, clean: &BTreeSet<String>, what: &str) {
    let extra = ok(world, "ps -aq", what);
    for id in extra.split_whitespace() {
        ok(world, &format!("rm -f {id}"), what);
    }
    for line in operation.undo {
        let _ = world.run(line);
    }
    // A container's monitor ends a moment after its client.
    eventually("all have ended", || {
        world.monitors().is_empty().then_some(())
    });
    grow_old(&world.seen(&world.data_root()).join("ingest/blobs"));
    ok(world, "image prune -f", what);
    let left = listing(world);
    let more: Vec<&String> = left.difference(clean).take(SHOWN).collect();
    let less: Vec<&String> = clean.difference(&left).take(SHOWN).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "{what}\nleft: {more:#?}\nlost: {less:#?}"
    );
}

/// What a command prints that must succeed.
#[track_caller]
pub fn ok(world: &World, line: &str, what: &str) -> String {
    let ran = world.run(line);
    assert_eq!(ran.code(), Some(0), "{what}\n{}", ran.describe());
    ran.stdout()
}

/// Every image that is shown runs and is what its digests say; what was there before is there.
pub fn look(world: &World, what: &str) {
    let shown = ok(
        world,
        "images -a --no-trunc --format {{.Repository}}:{{.Tag}}={{.ID}}",
        what,
    );
    for name in ["busybox:latest=", "keep:1="] {
        assert!(shown.contains(name), "{what}\n{name} is lost:\n{shown}");
    }
    let images: BTreeSet<&str> = shown
        .lines()
        .filter_map(|line| Some(line.rsplit_once('=')?.1))
        .collect();
    for id in images {
        let run =
            format!("run --rm --network none {id} sh -c 'test ! -e /sums || sha256sum -c /sums'");
        ok(world, &run, what);
    }
    ok(world, "image verify -q", what);
    ok(world, "system df", what);
}

/// A partial download is kept for a day: makes it older.
fn grow_old(partial: &Path) {
    for entry in fs::read_dir(partial).into_iter().flatten().flatten() {
        let file = fs::File::options()
            .append(true)
            .open(entry.path())
            .expect("open a partial download");
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60))
            .expect("set its time");
    }
}

/// Every file of the state, with its size where that tells something.
pub fn listing(world: &World) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let data = world.seen(&world.data_root());
    walk(&data, "", &mut found);
    walk(&world.seen(&world.run_root()), "run", &mut found);
    found
}

fn walk(directory: &Path, name: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        // What has happened is told by events; which boot it was does not matter; a context's sums are only written down
        // once its files are old enough.
        if name.starts_with("/events/")
            || name.starts_with("/build/stamps")
            || name == "/lost+found"
        {
            continue;
        }
        let name = if name.starts_with("/ingest/settling/") && name.matches('/').count() == 3 {
            "/ingest/settling/boot".to_owned()
        } else {
            name
        };
        // What is mounted is not ours; that it is, its directory tells.
        let is_mounted = fs::metadata(directory).is_ok_and(|own| own.dev() != metadata.dev());
        let is_object = name.starts_with("/layers/") || name.starts_with("/images/blobs/");
        if metadata.is_dir() {
            found.insert(format!("{name}/"));
            if !is_mounted {
                walk(&entry.path(), &name, found);
            }
        } else if is_object {
            found.insert(format!("{name} {} {}", metadata.len(), metadata.nlink()));
        } else {
            found.insert(name);
        }
    }
}
