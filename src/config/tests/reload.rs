//! What a reload changes, and what needs a restart.

use secrecy::ExposeSecret;

use super::round_trip::{EXAMPLES, partner};
use super::*;

/// A process that goes by `running` and then reads `read`; both as `--set` takes them.
fn between(running: &[&str], read: &[&str]) -> Reload {
    Reload::between(&of_set(running).unwrap().settings, &of_set(read).unwrap().settings)
}

fn password(reload: &Reload) -> &str {
    reload.settings.ledger.password.as_ref().map_or("", |password| password.expose_secret())
}

#[test]
fn the_same_configuration_changes_nothing() {
    let same = ["ledger.url=postgres://app:old@db/ids", "redis.pods=redis://a,redis://b", "admin.token=t"];
    let reload = between(&same, &same);
    assert_eq!((reload.changed.as_slice(), reload.needs_restart.as_slice()), (&[][..], &[][..]));
}

#[test]
fn every_key_either_reloads_or_is_named_as_needing_a_restart() {
    for key in Keys::default().iter() {
        let (_, first, second) = EXAMPLES.iter().find(|(name, ..)| *name == key.name).unwrap();
        let set = |value| {
            let partner = partner(key.name).into_iter().map(str::to_owned);
            let set = partner.chain([format!("{}={value}", key.name)]).collect();
            load(Sources { set, ..Sources::default() }).unwrap().settings
        };
        let (running, read) = (set(first), set(second));
        let Reload { settings, changed, needs_restart } = Reload::between(&running, &read);
        // Its examples are of two engines.
        let reloads = key.reloads && key.name != "ledger.url";
        let expected = if reloads { (vec![key.name], vec![]) } else { (vec![], vec![key.name]) };
        assert_eq!((changed, needs_restart), expected);
        let again = Reload::between(&settings, if reloads { &read } else { &running });
        assert!(again.changed.is_empty() && again.needs_restart.is_empty(), "{}: {again:?}", key.name);
    }
}

#[test]
fn what_reloads_is_taken_and_the_rest_stays() {
    let reload = between(
        &["log.level=info", "admin.token=old", "grpc.listen=127.0.0.1:1", "redis.password=old"],
        &["log.level=debug", "admin.token=new", "grpc.listen=127.0.0.1:2", "redis.username=app"],
    );
    assert_eq!(reload.changed, ["admin.token", "redis.username", "redis.password", "log.level"]);
    assert_eq!(reload.needs_restart, ["grpc.listen"]);
    let settings = &reload.settings;
    assert_eq!(settings.log.level, slog::Level::Debug);
    assert_eq!(settings.admin.token.as_ref().unwrap().expose_secret(), "new");
    assert!(settings.redis.password.is_none());
    let listen = of_set(&["grpc.listen=127.0.0.1:1"]).unwrap().settings.grpc.listen;
    assert_eq!(settings.grpc.listen, listen);
}

#[test]
fn a_secret_in_a_file_is_compared_by_what_the_file_holds() {
    let files = Files::new();
    let path = files.put("token", "old\n");
    let set = format!("admin.token=file:{}", path.display());
    let running = of_set(&[&set]).unwrap().settings;
    files.put("token", "new\n");
    let reload = Reload::between(&running, &of_set(&[&set]).unwrap().settings);
    assert_eq!(reload.changed, ["admin.token"]);
}

#[test]
fn another_password_of_the_same_ledger_reloads() {
    let running = "ledger.url=postgres://app:old@db:1,b/ids?sslmode=require&password=old";
    for read in [
        "ledger.url=postgres://app:new@db:1,b/ids?sslmode=require&password=old",
        "ledger.url=postgres://app@db:1,b/ids?password=new&sslmode=require",
        "ledger.url=postgres://app:n:e@db:1,b/ids?sslmode=require",
    ] {
        let reload = between(&[running], &[read]);
        assert_eq!(
            (reload.changed.as_slice(), reload.needs_restart.len()),
            (&["ledger.url"][..], 0),
            "{read}"
        );
    }
}

#[test]
fn another_ledger_waits_for_a_restart_together_with_its_password() {
    let running = "ledger.url=postgres://app:old@db/ids?sslmode=require";
    for read in [
        "ledger.url=postgres://app2:old@db/ids?sslmode=require",
        "ledger.url=postgres://app:old@db2/ids?sslmode=require",
        "ledger.url=postgres://app:old@db/ids2?sslmode=require",
        "ledger.url=postgres://app:old@db/ids?sslmode=disable",
        "ledger.url=postgres://app:old@db/ids?sslmode=require&hostaddr=10.0.0.1",
        "ledger.url=postgres://db/ids?sslmode=require",
        "ledger.url=sqlite:/var/lib/ids",
    ] {
        let reload = between(&[running, "ledger.password=old"], &[read, "ledger.password=new"]);
        assert_eq!(
            (reload.changed.len(), reload.needs_restart.as_slice()),
            (0, &["ledger.url", "ledger.password"][..]),
            "{read}"
        );
        assert_eq!(password(&reload), "old");
    }
    let embedded = between(&["ledger.url=sqlite:/a:b@c"], &["ledger.url=sqlite:/a:d@c"]);
    assert_eq!(embedded.needs_restart, ["ledger.url"]);
}

#[test]
fn the_list_of_pods_waits_for_a_restart_and_their_log_in_does_not() {
    let reload = between(
        &["redis.pods=redis://:own@a", "redis.password=old"],
        &["redis.pods=redis://:new@a", "redis.password=new"],
    );
    assert_eq!((reload.changed, reload.needs_restart), (vec!["redis.password"], vec!["redis.pods"]));
}
