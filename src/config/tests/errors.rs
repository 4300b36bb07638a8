//! What is said of what is wrong.

use super::*;

#[test]
fn a_byte_order_mark_and_carriage_returns_do_not_move_places() {
    let error = of_file("\u{feff}stage = 5\r\n[redis]\r\ntimeout = 5\r\n").unwrap_err();
    assert_eq!(
        error,
        "a.toml:1:9: stage: must be 1 to 63 letters, digits, '_', '.' or '-', not 5\n\
         a.toml:3:11: redis.timeout: must be a duration above 0 such as \"250ms\", \"5m\" or \"24h\", not 5"
    );
    assert_eq!(&*of_file("\u{feff}stage = 'x'\r\n").unwrap().settings.stage, "x");
}

#[test]
fn every_error_names_place_key_what_is_allowed_and_what_was_meant() {
    for (text, error) in [
        ("redis.timout = '1s'", "a.toml:1:7: redis.timout: unknown key; did you mean redis.timeout?"),
        ("[redsi]\ntimeout = '1s'", "a.toml:1:2: redsi: unknown key; did you mean redis?"),
        ("redis.max_wait = '1s'", "a.toml:1:7: redis.max_wait: unknown key; did you mean fallback.max_wait?"),
        ("colour = 'red'", "a.toml:1:1: colour: unknown key"),
        ("\"\\u001b[2J\" = 1", "a.toml:1:1: \\u{1b}[2J: unknown key"),
        ("'redis.timeout' = '1s'", "a.toml:1:1: redis.timeout: unknown key; did you mean redis.timeout?"),
        ("redis = 5", "a.toml:1:9: redis: is a table: write [redis] and its keys below it"),
        (
            "[redis.timeout]\nms = 5",
            "a.toml:1:1: redis.timeout: must be a duration above 0 such as \"250ms\", \"5m\" or \"24h\", not a table",
        ),
        (
            "drain.delay = '5 min'",
            "a.toml:1:15: drain.delay: must be a duration such as \"250ms\", \"5m\" or \"24h\", not \"5 min\"; did you mean \"5m\"?",
        ),
        ("grpc.workers = 1e3", "a.toml:1:16: grpc.workers: must be a whole number from 0 to 1024, not 1000"),
        (
            "hydrator.min_ids = 99999999999999999999",
            "a.toml:1:20: hydrator.min_ids: must be a whole number, 1 or more, not so great a number",
        ),
        ("exercise.ratio = 1.5", "a.toml:1:18: exercise.ratio: must be a number from 0 to 1, not 1.5"),
        ("exercise.ratio = nan", "a.toml:1:18: exercise.ratio: must be a number from 0 to 1, not NaN"),
        (
            "ledger.tls = 'verify-ful'",
            "a.toml:1:14: ledger.tls: must be \"disable\", \"prefer\", \"require\" or \"verify-full\", not \"verify-ful\"; did you mean \"verify-full\"?",
        ),
        (
            "stage = 2026-01-01",
            "a.toml:1:9: stage: must be 1 to 63 letters, digits, '_', '.' or '-', not a date or time",
        ),
        (
            "grpc.listen = ['unix:/a', 'localhost:7420']",
            "a.toml:1:27: grpc.listen: must be \"IP:PORT\" such as \"127.0.0.1:7420\" or \"[::]:7420\", \"unix:PATH\" or \"systemd:NAME\", not \"localhost:7420\"; did you mean \"127.0.0.1:7420\"?",
        ),
        (
            "grpc.listen = []",
            "a.toml:1:15: grpc.listen: must be a list (at least one) of \"IP:PORT\" such as \"127.0.0.1:7420\" or \"[::]:7420\", \"unix:PATH\" or \"systemd:NAME\", not an empty list",
        ),
        (
            "redis.discover = 'dns:pods'",
            "a.toml:1:18: redis.discover: must be \"dns:HOST:PORT\" or \"srv:NAME\", not \"dns:pods\"",
        ),
        (
            "ledger.id = 'mine'",
            "a.toml:1:13: ledger.id: must be the UUID that 'blockhouse ledger show' prints, not \"mine\"",
        ),
        ("[access]\nmode = 'enforce'", "a.toml:2:1: access.mode: reserved: comes in a later release"),
        ("grpc.tls.cert = 'a.pem'", "a.toml:1:10: grpc.tls.cert: reserved: comes in a later release"),
        ("stage = 'a'\nstage = 'b'", "a.toml:2:1: not TOML: duplicate key"),
        ("stage = ", "a.toml:1:9: not TOML: string values must be quoted, expected literal string"),
    ] {
        assert_eq!(of_file(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn all_errors_of_all_sources_are_named_at_once() {
    let files = Files::new();
    let (one, two) = (files.put("1.toml", "x = 1\nstage = 5"), files.put("2.toml", "= broken"));
    let sources = Sources {
        files: vec![one, two, files.path().join("3.toml")],
        variables: vec![("BLOCKHOUSE__Y".into(), "1".into())],
        set: vec!["z".into(), "w=1".into()],
        ..Sources::default()
    };
    let Errors(problems) = load(sources).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.place.rsplit('/').next().unwrap()).collect();
    let expected =
        ["1.toml:1:1", "1.toml:2:9", "2.toml:1:1", "3.toml", "environment BLOCKHOUSE__Y", "--set", "--set"];
    assert_eq!(places, expected);
    assert!(problems[3].what.contains("can't read it: No such file"), "{}", problems[3]);
}

#[test]
fn a_bad_value_is_an_error_even_where_a_later_source_wins() {
    let files = Files::new();
    let path = files.put("a.toml", "grpc.workers = -1");
    let set = vec!["grpc.workers=1".to_owned()];
    assert!(load(Sources { files: vec![path], set, ..Sources::default() }).is_err());
}

#[test]
fn variables_that_are_ours_are_checked_and_those_of_kubernetes_are_left_alone() {
    for (name, error) in [
        (
            "BLOCKHOUSE__REDIS__TIMOUT",
            "environment BLOCKHOUSE__REDIS__TIMOUT: redis.timout: unknown key; did you mean BLOCKHOUSE__REDIS__TIMEOUT?",
        ),
        (
            "BLOCKHOUSE__redis__timeout",
            "environment BLOCKHOUSE__redis__timeout: redis.timeout: unknown key; did you mean BLOCKHOUSE__REDIS__TIMEOUT?",
        ),
        (
            "BLOCKHOUSE_REDIS__TIMEOUT",
            "environment BLOCKHOUSE_REDIS__TIMEOUT: unknown variable; did you mean BLOCKHOUSE__REDIS__TIMEOUT?",
        ),
        (
            "BLOCKHOUSE_REDIS_TIMEOUT",
            "environment BLOCKHOUSE_REDIS_TIMEOUT: unknown variable; did you mean BLOCKHOUSE__REDIS__TIMEOUT?",
        ),
        (
            "BLOCKHOUSE__REDIS_TIMEOUT",
            "environment BLOCKHOUSE__REDIS_TIMEOUT: redis_timeout: unknown key; did you mean BLOCKHOUSE__REDIS__TIMEOUT?",
        ),
        (
            "BLOCKHOUSE__QUOTA__MODE",
            "environment BLOCKHOUSE__QUOTA__MODE: quota.mode: reserved: comes in a later release",
        ),
        (
            "BLOCKHOUSE_UNKNOWN_KEYS",
            "environment BLOCKHOUSE_UNKNOWN_KEYS: must be \"error\" or \"warn\", not \"1s\"",
        ),
    ] {
        assert_eq!(of_variables(&[(name, "1s")]).unwrap_err(), error);
    }
    let others = [
        "BLOCKHOUSE_SERVER",
        "BLOCKHOUSE_ADMIN",
        "BLOCKHOUSE_ADMIN_TOKEN_FILE",
        "BLOCKHOUSE_SERVICE_HOST",
        "BLOCKHOUSE_SERVICE_PORT_GRPC",
        "BLOCKHOUSE_PORT_7420_TCP_ADDR",
        "BLOCKHOUSE_REDIS_PORT",
        "BLOCKHOUSES__X",
    ];
    of_variables(&others.map(|name| (name, "1s"))).unwrap();
}

#[cfg(unix)]
#[test]
fn bytes_that_are_no_text_are_an_error_and_no_panic() {
    use std::os::unix::ffi::OsStringExt;
    let variables = vec![("BLOCKHOUSE__STAGE".into(), std::ffi::OsString::from_vec(vec![0xff]))];
    let error = load(Sources { variables, ..Sources::default() }).unwrap_err().to_string();
    assert_eq!(error, "environment BLOCKHOUSE__STAGE: stage: is not UTF-8");
    assert_eq!(of_file(b"stage = 'x'\n# \xff\n").unwrap_err(), "a.toml:2: is not UTF-8");
    assert_eq!(of_file("#".repeat(300_000)).unwrap_err(), "a.toml: holds more than 262144 bytes");
}

#[test]
fn a_reserved_key_that_says_off_says_what_is_so() {
    of_file("[access]\n[quota]\nenabled = false\n[grpc.tls]\n").unwrap();
    of_set(&["access.mode=off"]).unwrap();
    assert_eq!(
        of_set(&["quota.enabled=true"]).unwrap_err(),
        "--set: quota.enabled: reserved: comes in a later release"
    );
}

#[test]
fn keys_that_do_not_go_together_are_named_with_the_place() {
    for (text, error) in [
        (
            "drain.delay = '25s'",
            "a.toml:1:15: drain.delay: must be below drain.timeout, which bounds the whole stop, delay included",
        ),
        ("hydrator.max_ids = 5", "hydrator.min_ids: 1000000 is above hydrator.max_ids = 5"),
        (
            "fallback.min_ids = 5\nfallback.max_ids = 4",
            "a.toml:1:20: fallback.min_ids: 5 is above fallback.max_ids = 4",
        ),
        (
            "grpc.workers = 9\ngrpc.max_in_flight = 8",
            "a.toml:2:22: grpc.max_in_flight: 8 leaves some of grpc.workers = 9 without any",
        ),
        (
            "redis.pods = ['redis://a']\nredis.discover = 'srv:pods'",
            "a.toml:2:18: redis.discover: either redis.discover or redis.pods, not both (\"\" or [] takes one back)",
        ),
        ("redis.pods = ['redis://a', 'memory:1']", "a.toml:1:14: redis.pods: memory:N must stand alone"),
        (
            "redis.pods = ['redis://u:hunter2@a', 'redis://u:hunter2@a']",
            "a.toml:1:14: redis.pods: redis://u:***@a stands there twice",
        ),
        ("ledger.cert = 'a'", "a.toml:1:15: ledger.cert: needs ledger.key"),
        ("ledger.key = 'a'", "a.toml:1:14: ledger.key: needs ledger.cert"),
        (
            "environment = 'production'\nledger.url = 'sqlite:a'",
            "a.toml:2:14: ledger.url: sqlite:a is refused in production: two hosts would hand out the same IDs",
        ),
        (
            "environment = 'production'\nledger.url = 'memory:'",
            "a.toml:2:14: ledger.url: memory: is refused in production: two hosts would hand out the same IDs",
        ),
    ] {
        assert_eq!(of_file(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn serving_needs_a_ledger_and_in_production_its_id() {
    let missing =
        |set: &[&str]| {
            of_set(set).unwrap().settings.require_for_serve().map_err(|Errors(problems)| {
                problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
            })
        };
    assert_eq!(missing(&[]), Err(vec!["ledger.url".to_owned()]));
    assert_eq!(missing(&["ledger.url=memory:"]), Ok(()));
    let production = ["environment=production", "ledger.url=postgres://db/ids"];
    assert_eq!(missing(&production), Err(vec!["ledger.id".to_owned()]));
    assert!(of_set(&production).unwrap().settings.require_ledger().is_ok());
    let id = "ledger.id=0d9f0c0a-7b1e-4c3c-9a55-d0f1f6a0b6a7";
    assert_eq!(missing(&[production[0], production[1], id]), Ok(()));
}
