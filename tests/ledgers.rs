//! The ledgers that need no server do what every ledger does.

#![allow(clippy::unwrap_used)]

mod conformance;
#[path = "memory/histories.rs"]
mod histories;

mod memory {
    use std::rc::Rc;

    use blockhouse::ledger::memory::Memory;
    use blockhouse::ledger::{Admin, Expected};

    use super::conformance::lives::Lived;
    use super::conformance::{self, Bed, ENVIRONMENT};

    impl Bed for Memory {
        fn handle(&self, expected: Expected) -> Rc<dyn Admin> {
            Rc::new(self.expecting(expected))
        }
    }

    impl Lived for Memory {
        fn restart(&self) {
            Memory::restart(self);
        }

        fn restore_dump(&self) {
            Memory::restore_dump(self, &self.copy());
        }

        fn age_by(&self, hours: u32) {
            self.step_clock(i64::from(hours) * 3_600_000_000);
        }
    }

    fn ledger() -> Memory {
        let expected = Expected { environment: ENVIRONMENT.into(), id: None };
        Memory::new(expected, fastrand::Rng::with_seed(1))
    }

    fn run(behaviour: impl AsyncFnOnce(&dyn Bed)) {
        super::block_on(async { behaviour(&ledger()).await });
    }

    fn run_lived(behaviour: impl AsyncFnOnce(&dyn Lived)) {
        super::block_on(async { behaviour(&ledger()).await });
    }

    conformance::behaviours!(run);
    conformance::behaviours!(of lives: run_lived);
}

mod sqlite {
    use std::rc::Rc;
    use std::time::Duration;

    use blockhouse::ledger::sqlite::Sqlite;
    use blockhouse::ledger::{Admin, Expected};
    use tempfile::TempDir;

    use super::conformance::{self, Bed, ENVIRONMENT};

    /// A folder with one ledger file; each handle has its own connection, as in another process.
    struct Folder(TempDir);

    impl Bed for Folder {
        fn handle(&self, expected: Expected) -> Rc<dyn Admin> {
            let path = self.0.path().join("ledger.sqlite");
            let log = slog::Logger::root(slog::Discard, slog::o!());
            Rc::new(Sqlite::new(path.to_str().unwrap(), expected, Duration::from_secs(5), log).unwrap())
        }
    }

    fn run(behaviour: impl AsyncFnOnce(&dyn Bed)) {
        super::block_on(async {
            let folder = Folder(tempfile::tempdir().unwrap());
            folder.handle(Expected { environment: ENVIRONMENT.into(), id: None }).migrate().await.unwrap();
            behaviour(&folder).await;
        });
    }

    conformance::behaviours!(run);
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
}
