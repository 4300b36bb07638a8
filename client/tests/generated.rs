//! The committed code is what the contract generates.
//!
//! After a change of the contract: `BLOCKHOUSE_REGENERATE=1 cargo test -p blockhouse-client`.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

const FILES: [&str; 2] = ["blockhouse.v1.rs", "blockhouse.v1.bin"];

#[test]
fn the_committed_code_is_generated_from_the_contract() {
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    let committed = committed();
    if std::env::var_os("BLOCKHOUSE_REGENERATE").is_some() {
        for file in FILES {
            fs::copy(fresh.path().join(file), committed.join(file)).unwrap();
        }
    }
    for file in FILES {
        let same = fs::read(fresh.path().join(file)).ok() == fs::read(committed.join(file)).ok();
        assert!(same, "{file} is stale: BLOCKHOUSE_REGENERATE=1 cargo test -p blockhouse-client");
    }
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated")
}

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("blockhouse/v1/blockhouse.proto").unwrap();
    let mut set = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .out_dir(into)
        .emit_rerun_if_changed(false)
        .server_mod_attribute("blockhouse.v1", "#[cfg(feature = \"server\")]")
        .compile_fds(set.clone())
        .unwrap();
    // Reflection has no use for comments and positions.
    for file in &mut set.file {
        file.source_code_info = None;
    }
    fs::write(into.join("blockhouse.v1.bin"), set.encode_to_vec()).unwrap();
}
