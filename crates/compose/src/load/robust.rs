//! Loading never panics and never takes long, whatever the text.

use proptest::prelude::*;

use super::{LoadOptions, load};

/// Loads a text; what comes of it does not matter.
fn try_load(text: String) {
    let options = LoadOptions {
        files: vec!["-".into()],
        standard_input: Some(text),
        project_name: Some("p".into()),
        working_directory: "/nowhere".into(),
        ..LoadOptions::default()
    };
    if let Ok(project) = load(&options) {
        let yaml = project.to_yaml();
        let again = LoadOptions {
            standard_input: Some(yaml.clone()),
            ..options
        };
        let again =
            load(&again).unwrap_or_else(|error| panic!("{error} in what we printed:\n{yaml}"));
        assert_eq!(again.to_yaml(), yaml);
        let none = crate::plan::Observed::default();
        if let Ok(plan) = crate::plan_up(&project, &none, &crate::UpOptions::default()) {
            for operation in &plan.operations {
                assert!(
                    operation
                        .after
                        .iter()
                        .all(|place| *place < plan.operations.len())
                );
            }
        }
        for service in project.services.values() {
            let _ = crate::request::create_request(&project, service, 1, &|_| None);
        }
    }
}

/// Values as compose files have them, and others.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("1.5".to_owned()),
        Just("'8080:80/udp'".to_owned()),
        Just("'1-65535:1-65535'".to_owned()),
        Just("'./a:/b:ro'".to_owned()),
        Just("'${A:-b}'".to_owned()),
        Just("'1h30m'".to_owned()),
        Just("'service:a'".to_owned()),
        Just("!reset null".to_owned()),
        Just("!override [x]".to_owned()),
        "'[a-zA-Z0-9 :/=.$-]{0,8}'",
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            "[a-z]{1,3}",
            Just("source".to_owned()),
            Just("target".to_owned()),
            Just("type".to_owned()),
            Just("condition".to_owned()),
            Just("test".to_owned()),
            Just("resources".to_owned()),
            Just("limits".to_owned()),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|map| {
                let entries = map.iter().map(|(key, item)| format!("{key}: {item}"));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }),
        ]
    })
}

fn service_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "build",
        "cap_add",
        "command",
        "configs",
        "container_name",
        "cpus",
        "depends_on",
        "deploy",
        "devices",
        "dns",
        "entrypoint",
        "env_file",
        "environment",
        "expose",
        "extends",
        "extra_hosts",
        "healthcheck",
        "image",
        "init",
        "ipc",
        "label_file",
        "labels",
        "links",
        "logging",
        "mem_limit",
        "network_mode",
        "networks",
        "pid",
        "platform",
        "ports",
        "profiles",
        "pull_policy",
        "restart",
        "scale",
        "secrets",
        "security_opt",
        "shm_size",
        "stop_grace_period",
        "sysctls",
        "tmpfs",
        "ulimits",
        "user",
        "volumes",
        "volumes_from",
    ])
}

proptest! {
    #[test]
    fn any_text(text in "\\PC{0,200}") {
        try_load(text);
    }

    #[test]
    fn any_yaml_like_text(text in "([a-z]{0,3}[:\\-?&*!|>{}\\[\\]#'\" \n]{1,3}){0,30}") {
        try_load(format!("services:\n  a:\n{text}"));
    }

    #[test]
    fn any_service(keys in prop::collection::btree_map(service_key(), value(), 0..6)) {
        let entries: String = keys.iter().map(|(key, value)| format!("    {key}: {value}\n")).collect();
        let image = if keys.contains_key("image") { "" } else { "    image: busybox\n" };
        try_load(format!("services:\n  a:\n{image}{entries}"));
    }

    #[test]
    fn any_section(
        section in prop::sample::select(vec!["networks", "volumes", "secrets", "configs", "include", "services"]),
        content in value(),
    ) {
        try_load(format!("services: {{b: {{image: busybox}}}}\n{section}: {content}\n"));
    }

    #[test]
    fn any_environment_file(text in "([A-Z]{0,2}[=:$'\"\\\\#{} \n-]{1,2}){0,30}") {
        let _ = crate::dotenv::parse("e", &text, &std::collections::BTreeMap::new());
    }
}
