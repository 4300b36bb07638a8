//! Why a request got no IDs: one value that the wire, the metric and the log all read.

use std::borrow::Cow;
use std::time::Duration;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The documented reasons, as programs see them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name on the wire, in the metric and in the log.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// `count` is 0 or above the limit.
    CountInvalid = "COUNT_INVALID",
    /// The name is missing or malformed.
    SequenceNameInvalid = "SEQUENCE_NAME_INVALID",
    /// No such sequence.
    SequenceUnknown = "SEQUENCE_UNKNOWN",
    /// Nowhere are `count` IDs left.
    SequenceExhausted = "SEQUENCE_EXHAUSTED",
    /// Tier 3 is stopped for this sequence and the nearer tiers are empty.
    SequenceHalted = "SEQUENCE_HALTED",
    /// The sequence was retired.
    SequenceRetired = "SEQUENCE_RETIRED",
    /// The slot is taken and the line before it is full, or too slow.
    LedgerBusy = "LEDGER_BUSY",
    /// The ledger failed or does not answer.
    LedgerUnreachable = "LEDGER_UNREACHABLE",
    /// The ledger is between two lives.
    LedgerClosed = "LEDGER_CLOSED",
    /// The hourly cap is spent.
    SequenceRateCapped = "SEQUENCE_RATE_CAPPED",
    /// Admission is full.
    Overloaded = "OVERLOADED",
    /// The process doesn't know its ledger or its sequences yet, or a part of it is being restarted.
    Starting = "STARTING",
    /// The process is stopping.
    Draining = "DRAINING",
    /// The caller's deadline or the server's limit passed.
    Deadline = "DEADLINE",
    /// A quota is spent.
    Quota = "QUOTA",
    /// Not allowed.
    AccessDenied = "ACCESS_DENIED",
    /// No credentials.
    CredentialsMissing = "CREDENTIALS_MISSING",
    /// Bad credentials.
    CredentialsInvalid = "CREDENTIALS_INVALID",
}

/// A typed refusal. Cheap to clone: one ledger answer may refuse a thousand callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people: what happened, where, what to do.
    pub message: Cow<'static, str>,
    /// How long to wait before the next try, before jitter; `None` where trying again is no use.
    pub retry_after: Option<Duration>,
    /// Field, value and limit, where they apply.
    pub metadata: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal that trying again doesn't mend.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { reason, message: message.into(), retry_after: None, metadata: Vec::new() }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Refusal {
        self.retry_after = Some(wait);
        self
    }

    /// Whether one who wants less may get something where this one got nothing.
    pub fn leaves_some(&self) -> bool {
        let allowed = self.metadata.iter().find(|(key, _)| *key == "allowed");
        match self.reason {
            Reason::SequenceExhausted => true,
            Reason::SequenceRateCapped => allowed.is_some_and(|(_, ids)| ids != "0"),
            _ => false,
        }
    }

    /// Adds one fact for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Refusal {
        self.metadata.push((key, value.to_string()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_all_that_it_was_told() {
        let refusal =
            Refusal::new(Reason::LedgerBusy, "the line is full").with("waiting", 7).with("limit", "9");
        assert_eq!(
            (refusal.reason.name(), refusal.to_string().as_str()),
            ("LEDGER_BUSY", "the line is full")
        );
        assert_eq!(refusal.metadata, [("waiting", "7".to_owned()), ("limit", "9".to_owned())]);
        assert_eq!(refusal.retry_after, None);
        let wait = Duration::from_secs(2);
        assert_eq!(refusal.clone().retry_after(wait), Refusal { retry_after: Some(wait), ..refusal });
    }

    #[test]
    fn who_wants_less_may_get_something_where_something_is_left() {
        let refused = |reason| Refusal::new(reason, "");
        assert!(refused(Reason::SequenceExhausted).leaves_some());
        assert!(refused(Reason::SequenceRateCapped).with("cap", 0).with("allowed", 5).leaves_some());
        assert!(!refused(Reason::SequenceRateCapped).with("cap", 5).with("allowed", 0).leaves_some());
        assert!(!refused(Reason::SequenceRateCapped).leaves_some());
        assert!(!refused(Reason::LedgerBusy).with("allowed", 5).leaves_some());
    }
}
