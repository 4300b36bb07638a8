//! Names the revision that the binary is built from, for `--version`, `/api/v1/status` and `blockhouse_build_info`.
//!
//! `BLOCKHOUSE_REVISION` wins, for builds from an archive; then git is asked; without either it is `unknown`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BLOCKHOUSE_REVISION");
    // The log of HEAD changes with every commit and checkout, and lies elsewhere in a linked worktree.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo:rerun-if-changed={log}");
    }
    let revision = std::env::var("BLOCKHOUSE_REVISION")
        .ok()
        .filter(|given| !given.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=BLOCKHOUSE_REVISION={revision}");
}

/// What git prints; `None` without git, or outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
