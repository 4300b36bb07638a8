//! Client of blockhouse: for now the messages of its wire contract.
//!
//! The code in [`v1`] is generated from `proto/blockhouse/v1/blockhouse.proto` and committed, so that building needs no
//! protoc; `tests/generated.rs` generates it again and compares.

/// `blockhouse.v1` as generated: messages, the client stub, and with the feature `server` the server's.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, rustdoc::all)]
pub mod v1 {
    include!("generated/blockhouse.v1.rs");

    /// The encoded `FileDescriptorSet` of the contract and what it imports: what server reflection answers from.
    #[cfg(feature = "server")]
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/blockhouse.v1.bin");
}
