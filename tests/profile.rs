//! The release profile belongs to the safety argument (ARCHITECTURE.md, "Panics and overflow"): a panic unwinds, so that what an actor held is
//! counted and its guard restarts it, and an overflow never wraps around into IDs that were granted before.

use std::panic::catch_unwind;

use toml::{Table, Value};

/// Reads the profile a binary is built with, where it says so itself and where it inherits.
fn setting<'a>(manifest: &'a Table, profile: &str, key: &str) -> Option<&'a Value> {
    let profile = manifest.get("profile")?.get(profile)?;
    match (profile.get(key), profile.get("inherits").and_then(Value::as_str)) {
        (Some(value), _) => Some(value),
        (None, Some(parent)) => setting(manifest, parent, key),
        (None, None) => None,
    }
}

/// Says which optimised profiles lack what the safety argument needs.
fn unsafe_profiles(manifest: &Table) -> Vec<String> {
    let wanted = [("panic", Value::from("unwind")), ("overflow-checks", Value::from(true))];
    let own = manifest.get("profile").and_then(Value::as_table).into_iter().flat_map(Table::keys);
    let optimised = own.map(String::as_str).filter(|name| !["dev", "test", "release"].contains(name));
    let mut lacking = Vec::new();
    for profile in optimised.chain(["release"]) {
        for (key, value) in &wanted {
            if setting(manifest, profile, key) != Some(value) {
                lacking.push(format!("[profile.{profile}] {key} must be {value}"));
            }
        }
    }
    lacking
}

fn parse(manifest: &str) -> Table {
    manifest.parse().expect("the manifest is TOML")
}

#[test]
fn every_optimised_profile_unwinds_and_checks_overflow() {
    assert_eq!(unsafe_profiles(&parse(include_str!("../Cargo.toml"))), Vec::<String>::new());
}

/// `src/failpoint.rs` refuses to compile without debug assertions, so that no release can have them by a flag either.
#[test]
fn no_build_has_failpoints_unless_it_asks_for_them() {
    let manifest = parse(include_str!("../Cargo.toml"));
    let features = manifest["features"].as_table().expect("a table");
    let holds =
        |of: &Value| of.as_array().is_some_and(|of| of.iter().any(|on| on.as_str() == Some("failpoints")));
    assert!(features.contains_key("failpoints"));
    assert!(
        !features.values().any(holds),
        "no other feature turns them on, and the default one least of all"
    );
    let profile = |name: &str| setting(&manifest, name, "debug-assertions").is_some();
    assert!(!profile("release"), "what is released is compiled without debug assertions");
}

#[test]
fn a_profile_without_either_is_noticed() {
    let both = "panic = \"unwind\"\noverflow-checks = true\n";
    assert_eq!(unsafe_profiles(&parse("")).len(), 2);
    assert_eq!(unsafe_profiles(&parse(&format!("[profile.release]\n{both}"))).len(), 0);
    assert_eq!(
        unsafe_profiles(&parse("[profile.release]\npanic = \"abort\"\noverflow-checks = true")).len(),
        1
    );
    assert_eq!(
        unsafe_profiles(&parse("[profile.release]\npanic = \"unwind\"\noverflow-checks = false")).len(),
        1
    );
    let inherited = format!("[profile.release]\n{both}[profile.fast]\ninherits = \"release\"\n");
    assert_eq!(unsafe_profiles(&parse(&inherited)).len(), 0);
    assert_eq!(unsafe_profiles(&parse(&format!("{inherited}panic = \"abort\"\n"))).len(), 1);
}

#[test]
fn the_build_under_test_unwinds_and_checks_overflow() {
    const { assert!(cfg!(panic = "unwind")) };
    let greatest = std::hint::black_box(i64::MAX);
    assert!(catch_unwind(move || std::hint::black_box(greatest + 1)).is_err());
}
