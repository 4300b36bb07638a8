//! The configuration files that come with blockhouse, and the commands that explain them.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};

use blockhouse::cli::config::{ConfigCommand, Format, run};
use blockhouse::config::{self, Loaded, Sources, reference};
use secrecy::ExposeSecret;

const URL: &str = "postgres://blockhouse:hunter2@db/ids";
const ID: &str = "0d9f0c0a-7b1e-4c3c-9a55-d0f1f6a0b6a7";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// A shipped file, and what its head says that a site adds.
fn sources(name: &str, variables: &[(&str, &str)]) -> Sources {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sources { files: vec![file(name)], variables, ..Sources::default() }
}

fn load(name: &str) -> Loaded {
    config::load(sources(name, &site())).unwrap()
}

fn site() -> [(&'static str, &'static str); 2] {
    [("BLOCKHOUSE__LEDGER__URL", URL), ("BLOCKHOUSE__LEDGER__ID", ID)]
}

/// Exit code, stdout and stderr.
fn command(command: ConfigCommand, sources: Sources) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(&command, sources, &mut out, &mut err).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn check(sources: Sources) -> (u8, String, String) {
    command(ConfigCommand::Check(Format::default()), sources)
}

#[test]
fn the_default_file_is_the_reference_byte_for_byte() {
    let shipped = std::fs::read_to_string(file("default.toml")).unwrap();
    let made = reference::toml();
    let differs = shipped.lines().zip(made.lines()).find(|(shipped, made)| shipped != made);
    let how = "write it anew: cargo run -- config reference > config/default.toml";
    assert_eq!(differs, None, "{how}");
    assert_eq!(shipped.len(), made.len(), "{how}");
    assert_eq!(
        command(ConfigCommand::Reference(Format::default()), Sources::default()),
        (0, made, String::new())
    );
}

#[test]
fn the_default_file_sets_every_key_to_its_default() {
    let by_file = config::load(sources("default.toml", &[])).unwrap();
    let built_in = config::load(Sources::default()).unwrap();
    assert_eq!(format!("{:?}", by_file.settings), format!("{:?}", built_in.settings));
    for (key, origin) in &by_file.origins {
        assert_eq!(*origin == "default", *key == "instance", "{key} came from {origin}");
    }
}

#[test]
fn every_file_is_ready_to_serve_once_its_site_is_known() {
    for name in ["development.toml", "beta.toml", "canary.toml", "production.toml"] {
        assert_eq!(check(sources(name, &site())), (0, "ok\n".to_owned(), String::new()), "{name}");
    }
    assert_eq!(check(sources("development.toml", &[])).0, 0);
}

#[test]
fn every_file_sets_something_for_every_role() {
    for name in ["development.toml", "beta.toml", "canary.toml", "production.toml"] {
        let loaded = load(name);
        for role in ["hydrator.buffer", "exercise.ratio"] {
            assert!(loaded.origins[role].contains(name), "{name} says nothing of {role}");
        }
    }
}

#[test]
fn production_fails_its_check_until_ledger_and_id_are_set() {
    for name in ["canary.toml", "production.toml"] {
        let (code, out, err) = check(sources(name, &[]));
        assert_eq!((code, out.as_str()), (78, ""));
        assert_eq!(
            err,
            "ledger.url: is required: there is no default ledger; for example BLOCKHOUSE__LEDGER__URL=postgres://USER@HOST/DATABASE\n\
             ledger.id: is required where environment = \"production\", so that no other ledger is taken for this one; \
             'blockhouse ledger migrate' and 'ledger show' print it\n\
             error: the configuration has 2 errors; 'blockhouse config reference' lists every key\n"
        );
    }
}

#[test]
fn nothing_but_the_label_tells_canary_from_production() {
    let values = |name| {
        let shown = load(name).shown().into_iter();
        shown.map(|shown| (shown.key, shown.value)).collect::<Vec<_>>()
    };
    let pairs = values("canary.toml").into_iter().zip(values("production.toml"));
    let differing: Vec<_> = pairs.filter(|(canary, production)| canary != production).collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert_eq!(differing[0].0, ("stage", Some("canary".into())));
    assert_eq!(load("production.toml").settings.ledger.tls, config::settings::Tls::VerifyFull);
}

#[test]
fn what_is_printed_is_a_file_with_origins_and_without_secrets() {
    let (code, out, err) =
        command(ConfigCommand::Print(Format::default()), sources("production.toml", &site()));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!out.contains("hunter2"), "{out}");
    let line = |key: &str| {
        let line = out.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("ledger.url"),
        r#"ledger.url = "postgres://blockhouse:***@db/ids" # environment BLOCKHOUSE__LEDGER__URL"#
    );
    assert_eq!(line("redis.timeout"), r#"redis.timeout = "50ms" # default"#);
    assert_eq!(line("# admin.token"), "# admin.token is not set");
    let path = file("production.toml");
    assert!(line("stage").starts_with(&format!("stage = \"stable\" # {}:", path.display())));

    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed.toml");
    std::fs::write(&printed, out.as_bytes()).unwrap();
    let again = config::load(Sources { files: vec![printed], ..Sources::default() }).unwrap();
    let values = |loaded: &Loaded| loaded.shown().into_iter().map(|shown| shown.value).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&load("production.toml")));
}

#[test]
fn what_is_printed_for_programs_lists_every_key() {
    let (code, out, _) =
        command(ConfigCommand::Print(Format { json: true }), sources("production.toml", &site()));
    assert_eq!(code, 0);
    assert!(!out.contains("hunter2"));
    let printed: serde_json::Value = serde_json::from_str(&out).unwrap();
    let (_, out, _) = command(ConfigCommand::Reference(Format { json: true }), Sources::default());
    let reference: serde_json::Value = serde_json::from_str(&out).unwrap();
    let keys = |list: &serde_json::Value| {
        let list = list.as_array().unwrap().iter();
        list.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&printed), keys(&reference));
    let pods = printed.as_array().unwrap().iter().find(|entry| entry["key"] == "redis.pods").unwrap();
    assert_eq!(pods["value"], serde_json::json!([]));
    let count = reference.as_array().unwrap().iter().find(|entry| entry["key"] == "grpc.max_count").unwrap();
    assert_eq!(count["default"], 1_000_000);
    assert_eq!(count["variable"], "BLOCKHOUSE__GRPC__MAX_COUNT");
}

#[test]
fn a_check_names_every_error_for_people_and_for_programs() {
    let broken =
        || Sources { set: vec!["redis.timout=1s".into(), "grpc.workers=many".into()], ..Sources::default() };
    let (code, out, err) = check(broken());
    assert_eq!((code, out.as_str()), (78, ""));
    assert_eq!(
        err,
        "--set: redis.timout: unknown key; did you mean redis.timeout?\n\
         --set: grpc.workers: must be a whole number from 0 to 1024, not \"many\"\n\
         error: the configuration has 2 errors; 'blockhouse config reference' lists every key\n"
    );
    let (code, out, _) = command(ConfigCommand::Check(Format { json: true }), broken());
    let verdict: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 78);
    assert_eq!(verdict["ok"], false);
    assert_eq!(verdict["errors"][0]["hint"], "did you mean redis.timeout?");
    assert_eq!(verdict["warnings"], serde_json::json!([]));
}

#[test]
fn an_older_binary_on_a_newer_file_warns_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.toml");
    std::fs::write(&path, "shape = \"round\"\n[ledger]\nurl = \"memory:\"\n[redis]\nhedge = \"1ms\"\n")
        .unwrap();
    let newer = |unknown: &str| Sources {
        files: vec![path.clone()],
        variables: vec![
            ("BLOCKHOUSE_UNKNOWN_KEYS".into(), unknown.into()),
            ("BLOCKHOUSE__GRPC__ZEAL".into(), "9".into()),
        ],
        ..Sources::default()
    };
    assert_eq!(check(newer("error")).0, 78);
    let (code, out, err) = check(newer("warn"));
    let place = path.display();
    assert_eq!((code, out.as_str()), (0, "ok\n"));
    assert_eq!(
        err,
        format!(
            "warning: {place}:1:1: shape: unknown key; ignored\n\
             warning: {place}:5:1: redis.hedge: unknown key; ignored\n\
             warning: environment BLOCKHOUSE__GRPC__ZEAL: grpc.zeal: unknown key; ignored\n"
        )
    );
    let loaded = config::load(newer("warn")).unwrap();
    assert_eq!(loaded.unknown_keys, 3);
    assert_eq!(loaded.settings.ledger.url.unwrap().expose_secret(), "memory:");
}
