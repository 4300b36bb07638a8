//! The ledger's identity and its lives (S3, S5).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One incarnation of the ledger: our own number for it, and a random token that tells apart two
/// lines of history that count alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Raised by every close; 1 or more.
    pub epoch: i64,
    /// Fresh with every epoch.
    pub token: Uuid,
}

/// Which ledger this is, and in which life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Written once by `ledger migrate`.
    pub ledger: Uuid,
    /// Which data the ledger numbers.
    pub environment: String,
    /// The life it is in.
    #[serde(flatten)]
    pub life: Life,
}
