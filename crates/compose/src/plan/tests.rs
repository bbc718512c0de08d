use super::*;
use crate::load::{LoadOptions, load};
use crate::model::Project;

fn project(text: &str) -> Project {
    let options = LoadOptions {
        files: vec!["-".into()],
        standard_input: Some(text.into()),
        project_name: Some("p".into()),
        working_directory: "/nowhere".into(),
        ..LoadOptions::default()
    };
    load(&options).expect("a project")
}

const TWO: &str = "services:\n  web: {image: w, depends_on: {db: {condition: service_healthy}}}\n  db: {image: d, volumes: ['data:/d']}\nvolumes: {data: }\n";

fn lines(plan: &Plan) -> Vec<String> {
    plan.operations
        .iter()
        .map(|operation| format!("{} {:?}", operation.action, operation.after))
        .collect()
}

/// What is there after the project came up.
fn up(project: &Project) -> Observed {
    let containers = project.services.values().map(|service| ObservedContainer {
        id: format!("{:0>64}", service.name),
        name: format!("p-{}-1", service.name),
        service: service.name.clone(),
        number: 1,
        config_hash: crate::request::config_hash(project, service),
        image_id: "i".into(),
        running: true,
        depends_on: service.depends_on.keys().cloned().collect(),
        ..ObservedContainer::default()
    });
    Observed {
        containers: containers.collect(),
        networks: ["p_default".to_owned()].into(),
        own_networks: ["p_default".to_owned()].into(),
        volumes: ["p_data".to_owned()].into(),
        own_volumes: ["p_data".to_owned()].into(),
        images: [
            ("w".to_owned(), "i".to_owned()),
            ("d".to_owned(), "i".to_owned()),
        ]
        .into(),
    }
}

#[test]
fn a_first_up_makes_everything_in_order() {
    let plan = plan_up(&project(TWO), &Observed::default(), &UpOptions::default()).expect("a plan");
    assert_eq!(
        lines(&plan),
        [
            "create network default {}",
            "create volume data {}",
            "create container p-db-1 {0, 1}",
            "start container p-db-1 {2}",
            "wait until db is healthy {3}",
            "create container p-web-1 {0, 1}",
            "start container p-web-1 {4, 5}",
        ]
    );
}

#[test]
fn an_unchanged_project_has_an_empty_plan() {
    let project = project(TWO);
    let mut observed = up(&project);
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    assert!(
        plan.operations
            .iter()
            .all(|operation| matches!(operation.action, Action::Wait { .. })),
        "{plan}"
    );
    observed.containers[0].running = false;
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    assert!(
        lines(&plan).contains(&"start container p-db-1 {}".to_owned()),
        "{plan}"
    );
}

#[test]
fn a_changed_service_is_replaced_and_the_new_one_comes_first() {
    let project = project(TWO);
    let mut observed = up(&project);
    observed.containers[1].config_hash = "old".into();
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    let text = plan.to_string();
    let order: Vec<usize> = [
        "create container 0",
        "stop container p-web-1",
        "remove container p-web-1",
        "rename container",
        "start container p-web-1",
    ]
    .iter()
    .map(|part| {
        text.find(part)
            .unwrap_or_else(|| panic!("{part} in\n{text}"))
    })
    .collect();
    assert!(order.is_sorted(), "{text}");
    assert!(text.contains("its configuration has changed"), "{text}");
    observed.containers[1].config_hash =
        crate::request::config_hash(&project, &project.services["web"]);
    observed.images.insert("w".into(), "newer".into());
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    assert!(plan.to_string().contains("its image has changed"), "{plan}");
    let kept = plan_up(
        &project,
        &observed,
        &UpOptions {
            no_recreate: true,
            ..UpOptions::default()
        },
    )
    .expect("a plan");
    assert!(!kept.to_string().contains("create"), "{kept}");
}

#[test]
fn scale_and_orphans() {
    let project = project(TWO);
    let mut observed = up(&project);
    observed.containers.push(ObservedContainer {
        service: "gone".into(),
        name: "p-gone-1".into(),
        number: 1,
        ..ObservedContainer::default()
    });
    let options = UpOptions {
        scale: [("web".to_owned(), 2), ("db".to_owned(), 0)].into(),
        remove_orphans: true,
        ..UpOptions::default()
    };
    let text = plan_up(&project, &observed, &options)
        .expect("a plan")
        .to_string();
    for part in [
        "create container p-web-2",
        "stop container p-db-1",
        "remove container p-db-1",
        "remove container p-gone-1",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(observed.orphan_names(&project), ["p-gone-1"]);
}

#[test]
fn down_removes_dependents_first_and_volumes_only_when_asked() {
    let project = project(TWO);
    let observed = up(&project);
    let plan = plan_down(&project, &observed, &DownOptions::default());
    assert_eq!(
        lines(&plan),
        [
            "stop container p-web-1 {}",
            "remove container p-web-1 {0}",
            "stop container p-db-1 {1}",
            "remove container p-db-1 {2}",
            "remove network p_default {1, 3}",
        ]
    );
    let with_volumes = plan_down(
        &project,
        &observed,
        &DownOptions {
            volumes: true,
            ..DownOptions::default()
        },
    );
    assert!(
        with_volumes.to_string().contains("remove volume p_data"),
        "{with_volumes}"
    );
}

#[test]
fn what_is_external_must_be_there() {
    let project =
        project("services: {a: {image: x, networks: [out]}}\nnetworks: {out: {external: true}}\n");
    let error =
        plan_up(&project, &Observed::default(), &UpOptions::default()).expect_err("missing");
    assert!(
        error.to_string().contains("declared as external"),
        "{error}"
    );
}
