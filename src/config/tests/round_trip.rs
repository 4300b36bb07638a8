//! Every key: read, shown, read again.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Two values of every key, as they are shown; secrets as they are written.
pub(super) const EXAMPLES: &[(&str, &str, &str)] = &[
    ("environment", r#""beta""#, r#""staging""#),
    ("stage", r#""canary""#, r#""b""#),
    ("cluster", r#""eu-1""#, r#""eu-2""#),
    ("instance", r#""host:1""#, r#""host:2""#),
    ("grpc.listen", r#"["[::]:7420", "unix:/run/b.sock"]"#, r#"["systemd:grpc"]"#),
    ("grpc.workers", "2", "1024"),
    ("grpc.max_in_flight", "2048", "4096"),
    ("grpc.max_count", "1", "4294967295"),
    ("grpc.request_timeout", r#""1s""#, r#""2s""#),
    ("grpc.max_connections", "1", "2"),
    ("grpc.max_streams", "1", "2"),
    ("grpc.max_stream_in_flight", "1", "2"),
    ("grpc.max_connection_age", r#""1m""#, r#""2h""#),
    ("grpc.keepalive", r#""1s""#, r#""2s""#),
    ("admin.listen", r#""unix:/run/admin.sock""#, r#""0.0.0.0:1""#),
    ("admin.token", r#""0123""#, r#""4567""#),
    ("ledger.url", r#""postgres://u:p@db/ids""#, r#""sqlite:/var/ids.sqlite""#),
    ("ledger.id", r#""0d9f0c0a-7b1e-4c3c-9a55-d0f1f6a0b6a7""#, r#""1d9f0c0a-7b1e-4c3c-9a55-d0f1f6a0b6a7""#),
    ("ledger.password", r#""p a s s""#, r#""p""#),
    ("ledger.tls", r#""verify-full""#, r#""require""#),
    ("ledger.ca", r#""/etc/ca.pem""#, r#""ca.pem""#),
    ("ledger.cert", r#""/etc/cert.pem""#, r#""cert.pem""#),
    ("ledger.key", r#""/etc/key.pem""#, r#""key.pem""#),
    ("ledger.timeout", r#""1s""#, r#""2s""#),
    ("ledger.connect_timeout", r#""1s""#, r#""2s""#),
    ("ledger.connect_spread", r#""0s""#, r#""2s""#),
    ("ledger.incarnation", r#""none""#, r#""postgres""#),
    ("ledger.keep_grants", r#""30d""#, r#""36500d""#),
    ("redis.pods", r#"["redis://a:1", "redis://u:p@b"]"#, r#"["memory:3"]"#),
    ("redis.discover", r#""dns:pods.local:6379""#, r#""srv:_redis._tcp.pods.local""#),
    ("redis.discover_interval", r#""1s""#, r#""2s""#),
    ("redis.username", r#""app""#, r#""default""#),
    ("redis.password", r#""0123""#, r#""4567""#),
    ("redis.timeout", r#""1ms""#, r#""2ms""#),
    ("redis.connect_timeout", r#""1ms""#, r#""2ms""#),
    ("redis.retry_after", r#""1ms""#, r#""2ms""#),
    ("redis.prefix", r#""ids""#, r#""ids-2""#),
    ("hydrator.buffer", r#""1h""#, r#""2d""#),
    ("hydrator.interval", r#""1s""#, r#""2s""#),
    ("hydrator.min_ids", "1", "2"),
    ("hydrator.max_ids", "9223372036854775807", "20000000000"),
    ("fallback.cover", r#""1m""#, r#""2m""#),
    ("fallback.min_ids", "1", "2"),
    ("fallback.max_ids", "10000", "20000"),
    ("fallback.max_waiters", "0", "1"),
    ("fallback.max_wait", r#""0s""#, r#""1s""#),
    ("exercise.ratio", "1.0", "0.5"),
    ("exercise.max_per_minute", "0.0", "60.5"),
    ("drain.delay", r#""0s""#, r#""1s""#),
    ("drain.timeout", r#""10s""#, r#""20s""#),
    ("chaos.enabled", "true", "false"),
    ("chaos.dry_run", "false", "true"),
    ("chaos.every", r#""0s""#, r#""1h""#),
    ("chaos.terminate_every", r#""0s""#, r#""1h""#),
    ("chaos.quiet", r#"["mon-fri 22:00-06:00", "sun"]"#, r#"["12:00-13:00"]"#),
    ("chaos.faults", r#"["pod_gone", "slot_held"]"#, r#"["actor_panic"]"#),
    ("chaos.duration", r#""1s""#, r#""2s""#),
    ("chaos.max_duration", r#""1h""#, r#""30m""#),
    ("chaos.pod_latency", r#""1s""#, r#""2s""#),
    ("chaos.ledger_latency", r#""2s""#, r#""3s""#),
    ("chaos.pause", r#""1s""#, r#""2s""#),
    ("chaos.per_day", "0", "1"),
    ("chaos.min_pods", "3", "4"),
    ("chaos.min_peers", "3", "4"),
    ("chaos.max_errors", "0.5", "1.0"),
    ("log.level", r#""debug""#, r#""warning""#),
    ("log.format", r#""json""#, r#""terminal""#),
    ("log.slow", r#""0s""#, r#""1s""#),
];

/// What goes with keys that may not stand alone.
pub(super) fn partner(key: &str) -> Vec<&'static str> {
    match key {
        "ledger.cert" => vec!["ledger.key=k"],
        "ledger.key" => vec!["ledger.cert=c"],
        _ => vec![],
    }
}

#[test]
fn every_key_has_two_examples_here() {
    let keys = Keys::default();
    let names: Vec<_> = keys.iter().map(|key| key.name).collect();
    assert_eq!(EXAMPLES.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), names);
}

#[test]
fn every_key_reads_from_file_variable_and_set_and_shows_what_was_read() {
    for key in Keys::default().iter() {
        let (_, first, second) = EXAMPLES.iter().find(|(name, ..)| *name == key.name).unwrap();
        for value in [first, second] {
            let files = Files::new();
            let set =
                |more: Vec<String>| partner(key.name).into_iter().map(str::to_owned).chain(more).collect();
            let by_file = Sources {
                files: vec![files.put("a.toml", format!("{} = {value}", key.name))],
                set: set(vec![]),
                ..Sources::default()
            };
            let by_variable = Sources {
                variables: vec![(key.variable().into(), value.into())],
                set: set(vec![]),
                ..Sources::default()
            };
            let by_set = Sources { set: set(vec![format!("{}={value}", key.name)]), ..Sources::default() };
            for sources in [by_file, by_variable, by_set] {
                let loaded = load(sources).unwrap_or_else(|errors| panic!("{errors}"));
                let expected: toml::Value = value.parse().unwrap();
                let hidden = loaded.shown().into_iter().find(|shown| shown.key == key.name).unwrap();
                if matches!(key.name, "ledger.url" | "redis.pods") {
                    assert_eq!(hidden.value.unwrap().to_string().replace("***", "p"), expected.to_string());
                } else if key.secret {
                    assert_eq!(hidden.value, Some("***".into()));
                } else {
                    assert_eq!(hidden.value, Some(expected), "{}", key.name);
                }
            }
        }
    }
}

#[test]
fn every_field_of_the_settings_belongs_to_a_key() {
    let all = |pick: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
        let mut settings = Settings::blank();
        for key in Keys::default().iter() {
            let example = EXAMPLES.iter().find(|(name, ..)| *name == key.name).unwrap();
            key.read(&from_text(key.shape(), pick(example), "x"), &mut settings).unwrap();
        }
        // Debug hides what a secret is, not whether there is one: the blank settings have none.
        format!("{settings:#?}").lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (first, second) = (all(|example| example.1), all(|example| example.2));
    let blank = format!("{:#?}", Settings::blank());
    let untouched = |line: &&str| {
        let leaf = line.contains(": ") && line.ends_with(',');
        leaf && first.contains(*line) && second.contains(*line)
    };
    let untouched: Vec<_> = blank.lines().filter(untouched).collect();
    assert_eq!(untouched, [""; 0]);
}

proptest! {
    #[test]
    fn no_file_breaks_it(text in ".{0,80}") {
        let _ = of_file(text);
    }

    #[test]
    fn no_value_breaks_a_key(key in 0..EXAMPLES.len(), value in ".{0,20}") {
        let _ = of_set(&[&format!("{}={value}", EXAMPLES[key].0)]);
    }

    #[test]
    fn any_duration_reads_back(ms in 1..=duration::LONGEST.as_millis() as u64) {
        let text = duration::show(std::time::Duration::from_millis(ms));
        let loaded = of_set(&[&format!("redis.timeout={text}")]).unwrap();
        prop_assert_eq!(loaded.settings.redis.timeout.as_millis(), u128::from(ms));
    }

    #[test]
    fn a_list_of_pods_reads_the_same_as_toml_and_with_commas(hosts in prop::collection::btree_set("[a-z]{1,8}", 0..5)) {
        let pods: Vec<_> = hosts.iter().map(|host| format!("redis://{host}")).collect();
        let commas = of_set(&[&format!("redis.pods={}", pods.join(","))]).unwrap();
        let toml = of_set(&[&format!("redis.pods={pods:?}")]).unwrap();
        prop_assert_eq!(shown(&commas, "redis.pods"), shown(&toml, "redis.pods"));
        prop_assert_eq!(commas.settings.redis.pods.len(), pods.len());
    }
}
