//! Which source wins.

use std::path::PathBuf;

use super::*;

#[test]
fn no_configuration_gives_the_contracts_defaults() {
    let loaded = load(Sources { host: "box.example".into(), pid: 42, ..Sources::default() }).unwrap();
    assert!(loaded.origins.values().all(|origin| origin == DEFAULT));
    assert_eq!((loaded.unknown_keys, loaded.warnings.len()), (0, 0));
    for (key, value) in [
        ("environment", r#""development""#),
        ("instance", r#""box.example-42""#),
        ("grpc.max_in_flight", "16384"),
        ("ledger.url", "not set"),
        ("redis.pods", "[]"),
        ("hydrator.max_ids", "10000000000"),
        ("exercise.ratio", "0.0001"),
        ("drain.timeout", r#""25s""#),
    ] {
        assert_eq!(shown(&loaded, key), value, "{key}");
    }
    let odd = load(Sources { host: "my box ü".into(), pid: 1, ..Sources::default() }).unwrap();
    assert_eq!(&*odd.settings.instance, "my-box---1");
}

#[test]
fn later_sources_win_key_by_key() {
    let files = Files::new();
    let base = files.put(
        "base.toml",
        "[redis]\ntimeout = '1ms'\nconnect_timeout = '1ms'\nretry_after = '1ms'\ndiscover_interval = '1ms'\n",
    );
    let site = files.put(
        "site.toml",
        "redis.connect_timeout = '2ms'\nredis.retry_after = '2ms'\nredis.discover_interval = '2ms'\n",
    );
    let sources = Sources {
        files: vec![base.clone(), site.clone()],
        variables: vec![
            ("BLOCKHOUSE__REDIS__RETRY_AFTER".into(), "3ms".into()),
            ("BLOCKHOUSE__REDIS__DISCOVER_INTERVAL".into(), "3ms".into()),
            ("BLOCKHOUSE__LOG__LEVEL".into(), "error".into()),
        ],
        set: vec![
            "redis.discover_interval=4ms".into(),
            "redis.discover_interval=5ms".into(),
            "log.level=debug".into(),
        ],
        flags: vec![Assigned { by: "--log-level", key: "log.level", value: "trace".into() }],
        defaults: vec![
            Assigned { by: "blockhouse dev", key: "redis.timeout", value: "9ms".into() },
            Assigned { by: "blockhouse dev", key: "hydrator.buffer", value: "9m".into() },
        ],
        ..Sources::default()
    };
    let loaded = load(sources).unwrap();
    for (key, value, from) in [
        ("hydrator.buffer", r#""9m""#, "blockhouse dev".to_owned()),
        ("redis.timeout", r#""1ms""#, format!("{}:2:11", base.display())),
        ("redis.connect_timeout", r#""2ms""#, format!("{}:1:25", site.display())),
        ("redis.retry_after", r#""3ms""#, "environment BLOCKHOUSE__REDIS__RETRY_AFTER".to_owned()),
        ("redis.discover_interval", r#""5ms""#, "--set".to_owned()),
        ("log.level", r#""trace""#, "--log-level".to_owned()),
        ("redis.prefix", r#""blockhouse""#, DEFAULT.to_owned()),
    ] {
        assert_eq!((shown(&loaded, key), origin(&loaded, key)), (value.to_owned(), from.as_str()), "{key}");
    }
}

#[test]
fn a_list_replaces_a_list_and_an_empty_text_takes_a_key_back() {
    let files = Files::new();
    let path = files.put("a.toml", "redis.pods = ['redis://a', 'redis://b']\nledger.ca = 'ca.pem'\n");
    let sources = |set: &[&str]| Sources {
        files: vec![path.clone()],
        set: set.iter().map(|&assignment| assignment.to_owned()).collect(),
        ..Sources::default()
    };
    let loaded = load(sources(&["redis.pods=redis://c", "ledger.ca="])).unwrap();
    assert_eq!(shown(&loaded, "redis.pods"), r#"["redis://c"]"#);
    assert_eq!(loaded.settings.ledger.ca, None);
    let loaded = load(sources(&["redis.pods=", "redis.discover=srv:pods"])).unwrap();
    assert!(loaded.settings.redis.pods.is_empty());
}

#[test]
fn a_folder_is_its_toml_files_by_name() {
    let files = Files::new();
    files.put("20-site.toml", "cluster = 'second'\n");
    files.put("10-base.toml", "cluster = 'first'\nstage = 'first'\n");
    files.put(".30-hidden.toml", "cluster = 'hidden'\n");
    files.put("40-old.toml.bak", "not toml\n");
    std::fs::create_dir(files.path().join("50-folder.toml")).unwrap();
    let loaded = load(Sources { files: vec![files.path()], ..Sources::default() }).unwrap();
    assert_eq!(&*loaded.settings.cluster, "second");
    assert_eq!(&*loaded.settings.stage, "first");
    assert!(origin(&loaded, "cluster").ends_with("20-site.toml:1:11"));
}

#[test]
fn files_come_from_the_flag_else_the_variable_else_the_machines_folder() {
    let files = Files::new();
    let folder = files.path().join("etc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.toml"), "stage = 'machine'").unwrap();
    let (one, two) = (files.put("1.toml", "stage = 'one'"), files.put("2.toml", "stage = 'two'"));
    let list = std::env::join_paths([&one, &two]).unwrap();
    let stage = |files: Vec<PathBuf>, variable: std::ffi::OsString, folder: PathBuf| {
        let variables = vec![("BLOCKHOUSE_CONFIG".into(), variable)];
        let sources = Sources { files, variables, folder: Some(folder), ..Sources::default() };
        load(sources).unwrap().settings.stage.to_string()
    };
    assert_eq!(stage(vec![one.clone()], list.clone(), folder.clone()), "one");
    assert_eq!(stage(vec![], list, folder.clone()), "two");
    assert_eq!(stage(vec![], "".into(), folder.clone()), "machine");
    assert_eq!(stage(vec![], "".into(), folder.join("nowhere")), "stable");
}
