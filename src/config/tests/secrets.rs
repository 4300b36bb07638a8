//! Where secrets come from, and that they show nowhere.

use secrecy::ExposeSecret;

use super::*;

#[test]
fn a_url_with_a_slip_says_what_was_meant_and_keeps_its_password() {
    let ledger = "ledger.url: must be \"postgres://…\", \"sqlite:PATH\" or \"memory:\", not";
    let pod = "redis.pods: must be \"redis://[USER:PASSWORD@]HOST[:PORT]\", or \"memory:N\" alone with N from 1 to 64, not";
    for (set, error) in [
        (
            "ledger.url=postgress://u:hunter2@db/ids",
            format!("{ledger} postgress://u:***@db/ids; did you mean postgres://…?"),
        ),
        ("ledger.url=sqlite:///a", format!("{ledger} sqlite:///a; did you mean sqlite:PATH?")),
        ("ledger.url=host=db password=hunter2", format!("{ledger} ***")),
        ("redis.pods=redi://u:hunter2@a", format!("{pod} redi://u:***@a; did you mean redis://…?")),
        ("redis.pods=redis://a:x", format!("{pod} redis://***")),
        ("redis.pods=redis://u:hunter2@a/3", format!("{pod} redis://u:***@a/3")),
        (
            "redis.pods=rediss://u:hunter2@a",
            "redis.pods: rediss://u:***@a: TLS to the pods is reserved: comes in a later release; did you mean redis://…?"
                .to_owned(),
        ),
        ("redis.pods=memory:65", format!("{pod} memory:65")),
        ("redis.pods=hunter2", format!("{pod} ***")),
    ] {
        assert_eq!(of_set(&[set]).unwrap_err(), format!("--set: {error}"), "{set}");
    }
}

#[test]
fn secrets_come_from_files_and_credentials_and_show_nowhere() {
    let files = Files::new();
    let token = files.put("token", "hunter2-token\n");
    files.put("url", "postgres://u:hunter2-url@db/ids\n");
    let sources = Sources {
        variables: vec![("CREDENTIALS_DIRECTORY".into(), files.path().into())],
        set: vec![
            format!("admin.token=file:{}", token.display()),
            "ledger.url=credential:url".into(),
            "redis.password=0123-hunter2".into(),
            "redis.pods=redis://u:hunter2@a".into(),
        ],
        ..Sources::default()
    };
    let loaded = load(sources).unwrap();
    assert_eq!(loaded.settings.admin.token.as_ref().unwrap().expose_secret(), "hunter2-token");
    assert_eq!(
        loaded.settings.ledger.url.as_ref().unwrap().expose_secret(),
        "postgres://u:hunter2-url@db/ids"
    );
    assert_eq!(loaded.settings.redis.password.as_ref().unwrap().expose_secret(), "0123-hunter2");
    assert_eq!(origin(&loaded, "admin.token"), format!("--set (file:{})", token.display()));
    assert_eq!(shown(&loaded, "ledger.url"), r#""postgres://u:***@db/ids""#);
    let everything = format!("{loaded:?}{:?}", loaded.shown());
    assert!(!everything.contains("hunter2"), "{everything}");
}

#[test]
fn a_secret_that_cannot_be_had_or_used_is_an_error_without_it() {
    let files = Files::new();
    let path = files.put("url", "mysql://u:hunter2@db\n").display().to_string();
    assert_eq!(
        of_set(&[&format!("ledger.url=file:{path}")]).unwrap_err(),
        format!(
            "--set (file:{path}): ledger.url: must be \"postgres://…\", \"sqlite:PATH\" or \"memory:\", not mysql://u:***@db"
        )
    );
    assert_eq!(
        of_set(&["admin.token=credential:token"]).unwrap_err(),
        "--set (credential:token): admin.token: needs LoadCredential= of systemd: CREDENTIALS_DIRECTORY is not set"
    );
    // One that a later source replaces is never looked for.
    of_set(&["admin.token=file:/nowhere", "admin.token=here"]).unwrap();
}

#[test]
fn no_error_shows_a_secret_in_the_wrong_place() {
    for text in [
        "ledger.password = 'hunter2",
        "ledger.password = ['hunter2']",
        "[ledger.password]\nis = 'hunter2'",
        "ledger.pasword = 'hunter2'",
        "redis.pods = 'redis://:hunter2@a'",
        "redis.pods = ['redis://:hunter2@a:b']",
        "admin.token = hunter2",
    ] {
        let error = of_file(text).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
    for set in ["ledger.url:postgres://u:hunter2@db", "ledger.password hunter2"] {
        let error = of_set(&[set]).unwrap_err();
        assert!(!error.contains("hunter2") && error.ends_with(": must be KEY=VALUE"), "{error}");
    }
}
