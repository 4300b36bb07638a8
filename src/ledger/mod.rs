//! The ledger: the only place where ranges come into being (S1).
//!
//! [`Ledger`] is what a serving process needs, [`Admin`] what an operator's command needs. Three
//! engines implement both: [`postgres`], [`sqlite`] and [`memory`].

pub mod decide;
mod error;
mod lives;
pub mod memory;
pub mod postgres;
pub mod sqlite;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use secrecy::ExposeSecret;
use uuid::Uuid;

pub use self::error::LedgerError;
pub use self::lives::{Accept, Accepted, Condemned, Move, MoveRecord, Report, ReportRecord, Reported};
pub use crate::block::witness::ClusterSeen;
use crate::block::{Catalogue, Identity, Life, OnFailover, Span, Witness};
use crate::config::settings;

/// What a ledger call gives back, on the thread that made it.
pub type Answer<'a, T> = LocalBoxFuture<'a, Result<T, LedgerError>>;

/// A change that was made ready, and can't fail any more.
pub type Change<'a> = Box<dyn FnOnce() + 'a>;

/// A ledger as a serving process sees it.
///
/// Implementations connect when first used and again after a failure, bounded by their connect
/// time-out. They do not bound the call itself: the caller does, by dropping the future. **Dropping
/// a [`Ledger::grant`] in flight drops the connection and leaves the grant in doubt**; nothing
/// is retried inside.
pub trait Ledger {
    /// Identity, catalogue and counters, in one round trip.
    /// `known` is the life that the caller follows; the answer says whether the ledger descends from it.
    fn facts(&self, known: Option<Life>) -> Answer<'_, Facts>;

    /// One grant: one statement, one round trip, one transaction.
    fn grant<'a>(&'a self, request: &'a GrantRequest) -> Answer<'a, Grant>;

    /// Takes or renews the lead of a cluster for `ttl`, by the ledger's clock.
    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease>;

    /// Gives the lead up, if `holder` has it.
    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> Answer<'a, ()>;

    /// Adds to what the cluster has used in the ledger's present hour.
    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> Answer<'a, ()>;

    /// What the cluster used in each of the last 24 hours, the present one included.
    fn demand<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<HourOfDemand>>;

    /// Stops tier 3 of a sequence (S6, or an operator). The first reason stays.
    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> Answer<'a, ()>;

    /// Says what one cluster knows to a ledger that is closed, and opens it if that is provably safe (S3). The cluster has answered
    /// once its leader has, or anybody where nobody leads; what others know counts too.
    fn report<'a>(&'a self, report: &'a Report) -> Answer<'a, Reported> {
        let _ = report;
        Box::pin(async { Ok(Reported::Waits("this engine has one life, and is never closed".to_owned())) })
    }

    /// Closes the ledger if it is still in `life`: whoever saw that it went back in time names the life that is condemned, so that
    /// two servers behind one address can't close each other.
    fn condemn<'a>(&'a self, life: Life, known_epoch: i64, why: &'a str) -> Answer<'a, Condemned> {
        let _ = (life, known_epoch, why);
        Box::pin(async { Ok(Condemned::OnlyLife) })
    }

    /// Deletes grant records older than `keep`, at most `limit`, never a sequence's newest.
    /// Gives how many it deleted.
    fn prune(&self, keep: Duration, limit: u32) -> Answer<'_, u64>;

    /// Writes who of a cluster has which catalogue, in place of what was written before; of its leader only.
    fn confirm<'a>(&'a self, cluster: &'a str, holder: &'a str, seen: &'a [Witness]) -> Answer<'a, ()>;

    /// Makes another log-in ready: password and certificates, for the same ledger. It counts once the change is made, from the
    /// next connection on.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] where a certificate can't be used; nothing is changed.
    fn log_in_with<'a>(&'a self, _settings: &settings::Ledger) -> Result<Change<'a>, LedgerError> {
        Ok(Box::new(|| {}))
    }
}

/// A ledger as an operator's command sees it.
pub trait Admin: Ledger {
    /// Creates or upgrades the schema; idempotent. Refuses another environment's ledger.
    fn migrate(&self) -> Answer<'_, Migrated>;

    /// Adds a sequence.
    fn create<'a>(&'a self, new: &'a NewSequence) -> Answer<'a, Created>;

    /// Changes block size, buffer or gap, or moves the maximum; a lowered one raises the generation. Gives the row as it then is.
    fn set<'a>(&'a self, sequence: &'a str, change: &'a SequenceChange) -> Answer<'a, SequenceRow>;

    /// Sets what the ledger does after a failover, for all who use it.
    ///
    /// Refuses [`OnFailover::Jump`] where a sequence was granted more than its gap in the last hour: from the first moment on
    /// a report and the gap must cover everything granted.
    fn set_on_failover(&self, to: OnFailover) -> Answer<'_, ()>;

    /// Begins a new generation: the next grant lies above `above` and above everything granted before, and what was granted
    /// before is discarded wherever it is. The counter never moves down (S4). Gives the row as it then is.
    fn advance<'a>(&'a self, sequence: &'a str, above: i64) -> Answer<'a, SequenceRow>;

    /// The greatest number in a column of a table beside the ledger; `None` where there are no rows.
    fn greatest_in<'a>(&'a self, _table: &'a str, _column: &'a str) -> Answer<'a, Option<i64>> {
        Box::pin(async {
            Err(LedgerError::Invalid(
                "only a ledger on PostgreSQL has tables beside it: say --above N".to_owned(),
            ))
        })
    }

    /// Who has seen which catalogue: every cluster that is led, or that was granted something in the last hour.
    fn seen(&self) -> Answer<'_, Vec<ClusterSeen>>;

    /// Clears a halt. `false` if there was none.
    fn resume<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool>;

    /// Ends a sequence for good. `false` if it was retired before.
    fn retire<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool>;

    /// The grant that `id` came from.
    fn lookup<'a>(&'a self, sequence: &'a str, id: i64) -> Answer<'a, Option<GrantRecord>>;

    /// The move between two lives that skipped `id`, if one did.
    fn moved<'a>(&'a self, _sequence: &'a str, _id: i64) -> Answer<'a, Option<MoveRecord>> {
        Box::pin(async { Ok(None) })
    }

    /// Takes a closed ledger as it is for the one to go on with, after moving every sequence above all that anybody knows. Without
    /// `really` nothing is changed.
    fn accept<'a>(&'a self, accept: &'a Accept, really: bool) -> Answer<'a, Accepted> {
        let _ = (accept, really);
        Box::pin(async {
            Err(LedgerError::Invalid("this engine has one life, and no failover to accept; where its file is older than what was given out, move each sequence \
                 above it: `blockhouse sequence advance NAME --to N`"
                    .to_owned(),
            ))
        })
    }

    /// Schema, lives and leases, for `ledger show`.
    fn history(&self) -> Answer<'_, History>;
}

/// Why a grant is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Pods and reserve had nothing.
    Fallback,
    /// A real request sent straight to the ledger to keep that path warm.
    Exercise,
    /// Blocks for a pod.
    Hydrate,
}

impl Purpose {
    /// The value of the label `purpose`, and of the column.
    pub const fn name(self) -> &'static str {
        match self {
            Purpose::Fallback => "fallback",
            Purpose::Exercise => "exercise",
            Purpose::Hydrate => "hydrate",
        }
    }
}

/// Asks for IDs of one sequence.
///
/// The grant is `min(left, max(need, min(want, left / 64)))` IDs where `left` is what the sequence has,
/// and is refused as exhausted where `left < least`. Where the ledger jumps after a failover it is also no more than what
/// the sequence's gap leaves of this hour, and refused as rate capped where that is less than `least`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRequest {
    /// Which sequence.
    pub sequence: Arc<str>,
    /// The generation that the caller knows; another one refuses.
    pub generation: i64,
    /// The life that the caller follows; another one refuses.
    pub life: Life,
    /// The fewest IDs that are of use, 1 or more.
    pub least: i64,
    /// What is needed now, at least `least`.
    pub need: i64,
    /// What would be welcome, at least `need`.
    pub want: i64,
    /// The greatest ID known to have been granted when the request was sent, 0 if none is: a lower
    /// counter commits nothing (S3).
    pub known_high_water: i64,
    /// Why.
    pub purpose: Purpose,
    /// Who: the instance.
    pub holder: Arc<str>,
    /// For which cluster.
    pub cluster: Arc<str>,
    /// For which pod's address, where it is a hydrate.
    pub pod: Option<Arc<str>>,
}

/// A committed grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The IDs.
    pub span: Span,
    /// The grant's number within its sequence, from 1.
    pub number: i64,
    /// The generation it belongs to.
    pub generation: i64,
    /// The life it was made in.
    pub life: Life,
    /// IDs that the sequence has left after it.
    pub left: i64,
}

/// A sequence's row: its facts and its counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceRow {
    /// Without the counter.
    pub facts: crate::block::SequenceFacts,
    /// The last granted ID; `facts.first - 1` before the first grant.
    pub granted: i64,
    /// How many grants were made.
    pub grants: i64,
}

/// Whether the ledger gives grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does.
    Open,
    /// Between two lives, and why.
    Closed(Arc<str>),
}

/// What a process must know, as read from the ledger.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Which ledger, in which life.
    pub identity: Identity,
    /// Open or closed.
    pub state: State,
    /// Whether the life the caller asked about led to this one (true where it asked about none).
    pub descends: bool,
    /// Sequences and stamp.
    pub catalogue: Catalogue,
    /// The last granted ID of each sequence.
    pub granted: Vec<(Arc<str>, i64)>,
    /// When that was read, by the ledger's clock (µs since 1970): every grant committed before is in it.
    pub read_at_us: i64,
}

/// Who leads a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whether the asker leads.
    pub held: bool,
    /// Who does.
    pub leader: Arc<str>,
}

/// Use of one sequence by one cluster in one hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourOfDemand {
    /// Which sequence.
    pub sequence: Arc<str>,
    /// 0 is the present hour of the ledger's clock, 23 the oldest.
    pub hours_ago: u8,
    /// IDs used.
    pub ids: i64,
}

/// What `migrate` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The ledger.
    pub identity: Identity,
    /// The schema before, 0 if there was none.
    pub from: i32,
    /// The schema now.
    pub to: i32,
}

/// A sequence to create. All bounds were checked by [`NewSequence::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSequence {
    /// `[a-z][a-z0-9_.-]{0,62}`.
    pub name: Arc<str>,
    /// The smallest ID, 1 or more.
    pub first: i64,
    /// The greatest ID.
    pub last: i64,
    /// IDs a block.
    pub block_size: i64,
    /// Supply to keep, where not the hydrator's.
    pub buffer: Option<Duration>,
    /// What a failover may skip; `None` for the default.
    pub failover_gap: Option<i64>,
    /// An existing sequence of that name is no error.
    pub if_not_exists: bool,
}

impl NewSequence {
    /// `min(10^9, (last - first) / 1024)`, and 0 for a space of under 4 M IDs.
    pub fn default_gap(first: i64, last: i64) -> i64 {
        let space = last - first;
        if space < 4_000_000 { 0 } else { (space / 1024).min(1_000_000_000) }
    }

    /// Says what is wrong with it, for people.
    pub fn check(&self) -> Result<(), String> {
        if !crate::block::catalogue::is_valid_name(&self.name) {
            return Err(format!(
                "'{}' can't be a sequence's name: it must match [a-z][a-z0-9_.-]{{0,62}}",
                self.name
            ));
        }
        if self.first < 1 {
            return Err(format!("the first ID must be 1 or more, not {}", self.first));
        }
        if self.last < self.first {
            return Err(format!("the maximum {} lies below the first ID {}", self.last, self.first));
        }
        if self.block_size < 1 {
            return Err(format!("the block size must be 1 or more, not {}", self.block_size));
        }
        if self.failover_gap.is_some_and(|gap| gap < 0) {
            return Err("the failover gap can't be negative".to_owned());
        }
        Ok(())
    }
}

/// What `create` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The row as it is.
    pub row: SequenceRow,
    /// `false` if it existed before (with `if_not_exists`).
    pub new: bool,
}

/// A change of a sequence; `None` leaves a column as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SequenceChange {
    /// Another greatest ID. One below the present raises the generation, and lies no lower than the counter.
    pub last: Option<i64>,
    /// IDs a block, for grants from now on.
    pub block_size: Option<i64>,
    /// `Some(None)` goes back to the hydrator's.
    pub buffer: Option<Option<Duration>>,
    /// What a failover may skip.
    pub failover_gap: Option<i64>,
}

/// One recorded grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// Within its sequence, from 1.
    pub number: i64,
    /// The IDs.
    pub span: Span,
    /// The generation it was made in.
    pub generation: i64,
    /// The life it was made in.
    pub epoch: i64,
    /// By the ledger's clock, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Why: `fallback`, `exercise` or `hydrate`.
    pub purpose: String,
    /// Who.
    pub holder: String,
    /// For which cluster.
    pub cluster: String,
    /// For which pod, where it is a hydrate.
    pub pod: Option<String>,
}

/// One life in the ledger's table of lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeRecord {
    /// Epoch and token.
    pub life: Life,
    /// Why it began.
    pub reason: String,
    /// By the ledger's clock, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// One cluster's lease as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Which cluster.
    pub cluster: String,
    /// Who leads, or led last.
    pub leader: String,
    /// Seconds until it ends by the ledger's clock; negative once it has.
    pub seconds_left: i64,
}

/// What `ledger show` prints.
#[derive(Debug, Clone)]
pub struct History {
    /// Which ledger, in which life.
    pub identity: Identity,
    /// Open or closed.
    pub state: State,
    /// Version of the schema, and the oldest release's schema that can still use it.
    pub schema: (i32, i32),
    /// What the engine says of itself: system identifier, timeline and so on, for people.
    pub engine: Vec<(String, String)>,
    /// What it does after a failover.
    pub on_failover: OnFailover,
    /// Every life, oldest first.
    pub lives: Vec<LifeRecord>,
    /// Every cluster's lease.
    pub leases: Vec<LeaseRecord>,
    /// What the clusters reported of the present closing, and who has yet to.
    pub reports: Vec<ReportRecord>,
    /// Every sequence.
    pub sequences: Vec<SequenceRow>,
}

/// What a process demands of the ledger it is pointed at (S5).
#[derive(Debug, Clone)]
pub struct Expected {
    /// `environment`: must equal the ledger's.
    pub environment: Arc<str>,
    /// `ledger.id`, where pinned.
    pub id: Option<Uuid>,
}

/// The ledger that `settings.url` names, for the present thread; connects when first used.
///
/// # Errors
/// [`LedgerError::Invalid`] with what is wrong with the URL, for people, without its secrets; SQLite and memory ledgers are
/// [`LedgerError::Wrong`] where `expected.environment` is `production`.
pub fn open(
    settings: &settings::Ledger,
    expected: Expected,
    instance: &str,
    log: &slog::Logger,
) -> Result<Rc<dyn Admin>, LedgerError> {
    let url =
        settings.url.as_ref().ok_or_else(|| LedgerError::Invalid("ledger.url is not set".to_owned()))?;
    let url = url.expose_secret();
    let (scheme, rest) = url.split_once(':').ok_or_else(|| LedgerError::Invalid(FORMS.to_owned()))?;
    match scheme {
        "postgres" | "postgresql" => Ok(Rc::new(postgres::Postgres::new(settings, expected, instance, log)?)),
        "sqlite" | "memory" if &*expected.environment == "production" => Err(LedgerError::Wrong(format!(
            "ledger.url: a {scheme} ledger is refused in production: two hosts would each have their own and hand out \
             the same IDs"
        ))),
        "sqlite" => Ok(Rc::new(sqlite::Sqlite::new(rest, expected, settings.timeout, log.clone())?)),
        "memory" => Ok(Rc::new(memory::Memory::new(expected, fastrand::Rng::new()))),
        _ => Err(LedgerError::Invalid(unknown_scheme(scheme))),
    }
}

const FORMS: &str = "ledger.url must be postgres://USER@HOST:5432/DATABASE, sqlite:PATH or memory:";

/// Names the scheme only where it is near a known one: else it may be a user and what follows a password.
fn unknown_scheme(scheme: &str) -> String {
    let near = ["postgres", "postgresql", "sqlite", "memory"]
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&scheme.to_ascii_lowercase(), known), known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, known)) => format!("ledger.url begins with '{scheme}:': did you mean '{known}:'?"),
        None if matches!(scheme, "mysql" | "mariadb" | "redis" | "rediss" | "mongodb") => {
            format!("{FORMS}; {scheme} can't be a ledger")
        }
        None => FORMS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn refused(url: &str, environment: &str) -> String {
        let settings = settings::Ledger {
            url: Some(SecretString::from(url)),
            id: None,
            password: None,
            tls: settings::Tls::Prefer,
            ca: None,
            cert: None,
            key: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            connect_spread: Duration::ZERO,
            incarnation: true,
            keep_grants: Duration::from_secs(86_400),
        };
        let expected = Expected { environment: Arc::from(environment), id: None };
        let log = slog::Logger::root(slog::Discard, slog::o!());
        open(&settings, expected, "test", &log).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_url_that_cannot_be_a_ledger_says_what_would_be_and_no_secret() {
        for (url, says) in [
            ("postgers://app:hunter2@db/ids", "did you mean 'postgres:'?"),
            ("Postgres://app:hunter2@db/ids", "did you mean 'postgres:'?"),
            ("sqllite:/var/lib/ids", "did you mean 'sqlite:'?"),
            ("app:hunter2@db/ids", "must be postgres://"),
            ("hunter2", "must be postgres://"),
            ("mysql://app:hunter2@db/ids", "mysql can't be a ledger"),
            ("postgres://app:hunter2@db/ids?sslmod=require", "did you mean 'sslmode'?"),
            ("postgres://app:hunter2?hunter2@db/ids", "must be written %3F"),
            ("postgres://app:hunter2@db/ids?sslmode=yes", "sslmode must be"),
            ("postgres://app:hunter2@db:hunter2/ids", "port"),
            ("postgres://", "names no host"),
            ("postgres://app:hunter2@db/ids?sslmode=verify-full&sslrootcert=/nowhere.pem", "/nowhere.pem"),
            ("postgres://app:hunter2@db/ids?sslcert=/nowhere.pem", "go together"),
        ] {
            let answer = refused(url, "development");
            assert!(answer.contains(says), "{url}: {answer}");
            assert!(!answer.contains("hunter2"), "{url}: {answer}");
        }
        assert_eq!(refused("postgres://app:hunter2@[::1]:6000,db2/ids?sslmode=require", "production"), "");
    }

    #[test]
    fn production_takes_no_ledger_that_every_host_has_for_itself() {
        for url in ["sqlite:/var/lib/ids", "memory:"] {
            assert!(refused(url, "production").contains("refused in production"), "{url}");
        }
    }
}
