//! New generations of a sequence: what was granted before is not handed out once the command has returned.

use std::process::Output;

use crate::support::Cluster;

/// That a command failed so, with a last line that says this, and without data.
#[track_caller]
fn assert_failed(output: &Output, code: i32, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(says), "{stderr}");
}

#[tokio::test]
async fn an_import_takes_over_what_a_table_holds_or_says_why_it_can_not() {
    let cluster = Cluster::new().postgres().start().await;
    cluster.succeed(&["sequence", "create", "tasks", "--max", "1000000", "--yes"]);
    cluster.ledger().psql(
        "CREATE SCHEMA app; CREATE TABLE app.\"Old Tasks\" (id bigint, \"Key\" numeric, note text, small integer);
         CREATE TABLE app.empty (id bigint); CREATE VIEW app.seen AS SELECT id FROM app.\"Old Tasks\";
         INSERT INTO app.\"Old Tasks\" VALUES (4711, 99999999999999999999, 'x', 3), (12, 0.5, 'y', -7);
         CREATE TABLE app.minus (id bigint); INSERT INTO app.minus VALUES (-3);
         CREATE TABLE app.beyond (id bigint); INSERT INTO app.beyond VALUES (1000001)",
    );
    let before = cluster.ledger().psql("SELECT * FROM blockhouse.sequences");
    let import = |table: &str, column: &str, more: &str| {
        cluster.command(&["sequence", "import", "tasks", "--table", table, "--column", column, more])
    };
    for (table, column, says) in [
        ("app.nothing", "id", "there is no table 'app.nothing'"),
        ("nowhere.tasks", "id", "there is no table 'nowhere.tasks'"),
        ("app.\"Old Tasks\"; DROP TABLE app.empty", "id", "nothing was changed"),
        ("app.\"Old Tasks\"", "nothing", "app.\"Old Tasks\" has no column 'nothing'"),
        ("app.\"Old Tasks\"", "ctid", "has no column 'ctid'"),
        ("app.\"Old Tasks\"", "note", "holds no whole numbers: it is of type text"),
        ("app.\"Old Tasks\"", "Key", "99999999999999999999, which can't be an ID"),
        ("pg_catalog.pg_authid", "oid", "holds no whole numbers"),
        ("app.beyond", "id", "'tasks' ends at 1000000"),
    ] {
        assert_failed(&import(table, column, "--yes"), 1, says);
    }
    for (table, says) in [("app.empty", "there are no IDs in 'id' of app.empty"), ("app.minus", "is -3")] {
        let nothing = import(table, "id", "--yes");
        let stderr = String::from_utf8_lossy(&nothing.stderr);
        assert!(nothing.status.success() && stderr.contains(says), "{stderr}");
        assert!(stderr.contains("nothing to import"), "{stderr}");
    }
    let dry = import("app.\"Old Tasks\"", "id", "--dry-run");
    let stderr = String::from_utf8_lossy(&dry.stderr);
    assert!(dry.status.success() && stderr.contains("4711") && stderr.contains("--dry-run"), "{stderr}");
    assert_eq!(cluster.ledger().psql("SELECT * FROM blockhouse.sequences"), before, "nothing was changed");

    for (generation, table) in (2..).zip(["app.\"Old Tasks\"", "app.seen"]) {
        let imported = import(table, "id", "--yes");
        let stdout = String::from_utf8_lossy(&imported.stdout);
        let line = format!("tasks is in generation {generation}: the next ID is 4712 or above\n");
        assert_eq!(stdout, line, "{}", String::from_utf8_lossy(&imported.stderr));
    }
}
