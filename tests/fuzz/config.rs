//! Configuration: files, `--set` and variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use blockhouse::config::{Errors, Loaded, Sources, load};

use crate::{Verdict, fuzz, kind, must};

/// A text that must show nowhere once it stands where a secret does.
const SECRET: &str = "HUNTER2";

const WORDS: &[&str] = &[
    "=",
    "[redis]",
    "redis.pods",
    "\"redis://:p@a:1\"",
    "memory:3",
    "[[grpc]]",
    "grpc.listen",
    "\"unix:/x\"",
    "\"5s\"",
    "ledger.url",
    "\"postgres://u:p@db/ids\"",
    "'''",
    "\\u0000",
    "1979-05-27",
    "{a=1}",
    "chaos.enabled=true",
    "file:/dev/null",
    "credential:x",
];

/// Secrets stand on their own in files that a target makes.
const SECRETS: &[&str] = &["admin.token", "ledger.url", "ledger.password", "redis.pods", "redis.password"];

/// What is taken shows every key, and reads back as itself; what is refused says where.
fn judge(loaded: &Result<Loaded, Errors>, place: &str) -> Verdict {
    match loaded {
        Ok(loaded) => {
            let set: Vec<_> =
                written(loaded).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            let again = load(Sources { set: set.clone(), ..Sources::default() });
            let again = again.map_err(|errors| format!("what was taken is refused: {errors} ({set:?})"))?;
            let (first, second) = (written(loaded), written(&again));
            must(first == second, || format!("reads back as something else: {first:?}, {second:?}"))?;
            let own = loaded.origins.values().filter(|origin| origin.starts_with(place)).count();
            Ok(format!("taken, {own} keys"))
        }
        Err(Errors(problems)) => {
            must(!problems.is_empty(), || "refused without a word".to_owned())?;
            for problem in problems {
                let says = problem.place.len() + problem.key.len() > 0;
                must(says && !problem.what.is_empty(), || format!("says not where: {problem:?}"))?;
                let shown = problem.to_string();
                must(!shown.contains(char::is_control), || format!("moves the cursor: {shown:?}"))?;
            }
            Ok(kind(&problems[0].what))
        }
    }
}

/// Every key that is set and no secret, as TOML.
fn written(loaded: &Loaded) -> BTreeMap<&'static str, String> {
    let shown = loaded.shown().into_iter().filter(|shown| !shown.secret);
    shown.filter_map(|shown| Some((shown.key, shown.value?.to_string()))).collect()
}

#[test]
fn config_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fuzz("config_file", WORDS, 250, |input| {
        std::fs::write(&path, input).unwrap();
        let loaded = load(Sources { files: vec![path.clone()], ..Sources::default() });
        judge(&loaded, &path.display().to_string())
    });
}

#[test]
fn config_set() {
    fuzz("config_set", WORDS, 250, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        judge(&load(Sources { set: vec![text], ..Sources::default() }), "--set")
    });
}

#[test]
fn config_variable() {
    fuzz("config_variable", &["__", "BLOCKHOUSE__", "REDIS", "=", "_FILE"], 250, |input| {
        let split = input.iter().position(|byte| *byte == b'=').unwrap_or(input.len());
        let (name, value) = (input[..split].to_vec(), input.get(split + 1..).unwrap_or_default().to_vec());
        let variable = (OsString::from_vec(name), OsString::from_vec(value));
        judge(&load(Sources { variables: vec![variable], ..Sources::default() }), "environment")
    });
}

/// A URL's password never shows, however wrong the rest of it is: the input is scheme and user, `|`, and what follows the password.
#[test]
fn secrets() {
    let words = &["@", "://", ":", "redis", "postgres", "?", "password=", "[", "\"", ",", "|"];
    fuzz("secrets", words, 100, |input| {
        let text = String::from_utf8_lossy(input);
        let (login, after) = text.split_once('|').unwrap_or(("redis://", &text));
        let (scheme, user) = login.split_once("://").unwrap_or(("redis", login));
        // Behind any of these would stand a path or a file, and no password.
        if user.contains(['/', '?', '#']) || scheme.starts_with("sqlite") || scheme.starts_with("memory") {
            return Ok("no password".to_owned());
        }
        let mut outcome = String::new();
        for key in SECRETS {
            let set = format!("{key}={scheme}://{user}:{SECRET}{after}");
            let loaded = load(Sources { set: vec![set], ..Sources::default() });
            let shown = match &loaded {
                Ok(loaded) => format!("{:?}", loaded.shown()),
                Err(errors) => errors.to_string(),
            };
            must(!shown.contains(SECRET), || format!("{key} shows its secret: {shown}"))?;
            outcome.push(if loaded.is_ok() { 'y' } else { 'n' });
        }
        Ok(outcome)
    });
}
