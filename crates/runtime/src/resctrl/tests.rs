//! The rules of the specification, against a plain directory that has the files of a resctrl file system.

use std::fs;

use super::*;

/// Schemata as the kernel pads them.
const DEFAULT: &str = "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n";

fn fake() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("schemata", DEFAULT);
    write("tasks", "1\n");
    write("info/last_cmd_status", "ok\n");
    write(
        "info/L3_MON/mon_features",
        "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n",
    );
    fs::create_dir(root.path().join("mon_groups")).unwrap();
    root
}

fn class(root: &Path, name: &str, schemata: &str) {
    fs::create_dir_all(root.join(name).join("mon_groups")).unwrap();
    fs::write(root.join(name).join("schemata"), schemata).unwrap();
    fs::write(root.join(name).join("tasks"), "").unwrap();
}

fn wanted(clos_id: &str, l3: &str, bandwidth: &str) -> IntelRdt {
    IntelRdt {
        clos_id: clos_id.into(),
        l3_cache_schema: l3.into(),
        mem_bw_schema: bandwidth.into(),
        ..IntelRdt::default()
    }
}

fn plan(root: &tempfile::TempDir, wanted: &IntelRdt) -> Result<Plan> {
    Plan::new(root.path(), wanted, "id")
}

#[track_caller]
fn refused(root: &tempfile::TempDir, wanted: &IntelRdt, why: &str) {
    let error = plan(root, wanted).unwrap_err().to_string();
    assert!(error.contains(FIELD) && error.contains(why), "{error}");
}

#[test]
fn the_file_system_is_found_by_its_type() {
    let mountinfo = "22 1 0:20 / /sys rw - sysfs sysfs rw\n\
        30 22 0:30 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n\
        31 22 0:31 / /mnt/resctrl rw - tmpfs resctrl rw\n";
    assert_eq!(find_in(mountinfo), Some("/sys/fs/resctrl".into()));
    assert_eq!(
        find_in("30 22 0:30 / /a\\040b rw - resctrl r rw\n"),
        Some("/a b".into())
    );
    assert_eq!(find_in("22 1 0:20 / /sys rw - sysfs sysfs rw\n"), None);
}

#[test]
fn a_class_without_a_name_is_the_container_s_own_and_goes_with_it() {
    let root = fake();
    let plan = plan(&root, &wanted("", "L3:0=f;1=f", "MB:0=20;1=70")).unwrap();
    let claim = plan.claim().clone();
    assert!(!root.path().join("id").exists(), "a plan makes nothing");
    let group = plan.make().unwrap();
    let read = |name: &str| fs::read_to_string(root.path().join("id").join(name)).unwrap();
    assert_eq!(read("schemata"), "L3:0=f;1=f\nMB:0=20;1=70\n");
    // A number that no process has: the class is not in use then.
    group.enter(i32::MAX as u32).unwrap();
    assert_eq!(read("tasks"), i32::MAX.to_string());
    claim.remove().unwrap();
    assert!(!root.path().join("id").exists());
    claim.remove().unwrap();
}

#[test]
fn lines_for_bandwidth_are_those_of_their_own_field() {
    let lines = described(&wanted("", "L3:0=f\nMB:0=10", "MB:0=20")).unwrap();
    assert_eq!(lines, ["L3:0=f", "MB:0=20"]);
    let lines = described(&wanted("", "L3:0=f\nMB:0=10", "")).unwrap();
    assert_eq!(lines, ["L3:0=f", "MB:0=10"]);
}

#[test]
fn a_named_class_must_be_there_or_be_described() {
    let root = fake();
    refused(&root, &wanted("gold", "", ""), "there is no class");
    let made = plan(&root, &wanted("gold", "L3:0=f", "")).unwrap();
    assert!(made.claim().made);
    class(root.path(), "gold", "L3:0=00f;1=7ff\nMB:0=100\n");
    let shared = plan(&root, &wanted("gold", "", "")).unwrap();
    assert!(!shared.claim().made && shared.writes.is_empty());
    shared.claim().remove().unwrap();
    assert!(root.path().join("gold").exists(), "it is someone else's");
}

#[test]
fn a_class_that_is_there_must_be_as_described_and_is_not_written() {
    let root = fake();
    class(
        root.path(),
        "gold",
        "    L3:0=00F;1=7ff\n    MB:0= 20;1=100\n",
    );
    let same = plan(&root, &wanted("gold", "L3:1=7ff;0=f", "MB:0=20")).unwrap();
    assert!(same.writes.is_empty());
    refused(&root, &wanted("gold", "L3:0=ff", ""), "is not \"L3:0=ff\"");
    refused(&root, &wanted("gold", "L3:2=f", ""), "L3:2=f");
    refused(&root, &wanted("gold", "L2:0=f", ""), "L2:0=f");
}

#[test]
fn schemata_are_written_last_and_to_a_class_that_is_there_too() {
    let root = fake();
    let mut both = wanted("", "L3:0=f", "");
    both.schemata = vec!["L2:0=1".into(), "MB:0=10".into()];
    assert_eq!(
        plan(&root, &both).unwrap().writes,
        ["L3:0=f\n", "L2:0=1\nMB:0=10\n"]
    );
    class(root.path(), "gold", DEFAULT);
    both.clos_id = "gold".into();
    both.l3_cache_schema.clear();
    assert_eq!(plan(&root, &both).unwrap().writes, ["L2:0=1\nMB:0=10\n"]);
}

#[test]
fn the_class_of_all_others_can_be_named() {
    let root = fake();
    let plan = plan(&root, &wanted("/", "", "")).unwrap();
    assert_eq!(plan.claim().class, root.path());
    plan.claim().remove().unwrap();
    assert!(root.path().exists());
}

#[test]
fn names_and_lines_that_are_none_are_refused() {
    let root = fake();
    for name in ["..", "info", "mon_groups", "a/b", "../a", "a\nb"] {
        refused(&root, &wanted(name, "L3:0=f", ""), "no name of a class");
    }
    refused(&root, &wanted("", "nonsense", ""), "RESOURCE:DOMAIN=VALUE");
    refused(&root, &wanted("", "", "L3:0=f"), "begins with MB:");
    refused(&root, &wanted("", "", "MB:0=1\nL3:0=f"), "begins with MB:");
    class(root.path(), "id", DEFAULT);
    refused(&root, &wanted("", "", ""), "is there already");
}

#[test]
fn monitors_are_made_where_the_processor_counts_and_go_with_the_container() {
    let root = fake();
    class(root.path(), "gold", DEFAULT);
    let mut counted = wanted("gold", "", "");
    counted.enable_cmt = true;
    let made = plan(&root, &counted).unwrap();
    let claim = made.claim().clone();
    made.make().unwrap().enter(i32::MAX as u32).unwrap();
    let monitor = root.path().join("gold/mon_groups/id");
    assert_eq!(
        fs::read_to_string(monitor.join("tasks")).unwrap(),
        i32::MAX.to_string()
    );
    claim.remove().unwrap();
    assert!(!monitor.exists() && root.path().join("gold").exists());
    fs::write(
        root.path().join("info/L3_MON/mon_features"),
        "llc_occupancy\n",
    )
    .unwrap();
    counted.enable_mbm = true;
    refused(&root, &counted, "enableMBM");
}

#[test]
fn a_class_that_cannot_be_described_is_not_left() {
    let root = fake();
    // The directory of the monitors is not there, as where the kernel has none.
    let mut counted = wanted("", "L3:0=f", "");
    counted.enable_monitoring = true;
    fs::write(
        root.path().join("info/last_cmd_status"),
        "unknown resource\n",
    )
    .unwrap();
    let error = plan(&root, &counted)
        .unwrap()
        .make()
        .unwrap_err()
        .to_string();
    assert!(error.contains("make the monitor"), "{error}");
    assert!(!root.path().join("id").exists());
}

#[test]
fn what_the_kernel_says_of_a_line_is_told() {
    let root = fake();
    fs::write(root.path().join("info/last_cmd_status"), "Missing ':'\n").unwrap();
    class(root.path(), "gold", DEFAULT);
    fs::remove_file(root.path().join("gold/schemata")).unwrap();
    fs::create_dir(root.path().join("gold/schemata")).unwrap();
    let mut wrong = wanted("gold", "", "");
    wrong.schemata = vec!["L9:0=1".into()];
    let error = plan(&root, &wrong).unwrap().make().unwrap_err().to_string();
    assert!(
        error.contains("L9:0=1") && error.contains("Missing ':'"),
        "{error}"
    );
}

#[test]
fn a_class_that_others_have_entered_stays() {
    let root = fake();
    let plan = plan(&root, &wanted("gold", "L3:0=f", "")).unwrap();
    let claim = plan.claim().clone();
    plan.make().unwrap().enter(std::process::id()).unwrap();
    claim.remove().unwrap();
    assert!(root.path().join("gold").exists());
}
