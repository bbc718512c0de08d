//! Docker's default profile for one container: its conditions decided, apart from how the engine does it.

use serde_json::{Value, json};

use crate::shell;

/// The filter that Docker's default profile gives with these capabilities on a kernel of today.
pub fn decide(architecture: &str, scmp: &str, capabilities: &[&str]) -> Result<Value, String> {
    let path = shell::workspace().join("crates/engine/src/container/seccomp/default.json");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let profile: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    let mut architectures = Vec::new();
    for entry in profile["archMap"].as_array().into_iter().flatten() {
        if entry["architecture"] == scmp {
            architectures.push(scmp.to_owned());
            architectures.extend(list(&entry["subArchitectures"]));
        }
    }
    let has = |name: &String| capabilities == ["ALL"] || capabilities.contains(&name.as_str());
    let is_here = |name: &String| name == architecture;
    let mut rules = Vec::new();
    for rule in profile["syscalls"].as_array().into_iter().flatten() {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let needed = list(&includes["arches"]);
        let applies = (needed.is_empty() || needed.iter().any(is_here))
            && list(&includes["caps"]).iter().all(has)
            && !list(&excludes["arches"]).iter().any(is_here)
            && !list(&excludes["caps"]).iter().any(has);
        if applies {
            let mut rule = rule.clone();
            if let Some(fields) = rule.as_object_mut() {
                fields.retain(|name, _| {
                    matches!(name.as_str(), "names" | "action" | "errnoRet" | "args")
                });
            }
            rules.push(rule);
        }
    }
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": architectures,
        "syscalls": rules,
    }))
}
