//! The ledgers that need no server do what every ledger does.

mod conformance;

mod memory {
    use std::rc::Rc;

    use blockhouse::ledger::memory::Memory;
    use blockhouse::ledger::{Admin, Expected};

    use super::conformance::{self, Bed, ENVIRONMENT};

    impl Bed for Memory {
        fn handle(&self, expected: Expected) -> Rc<dyn Admin> {
            Rc::new(self.expecting(expected))
        }
    }

    fn run(behaviour: impl AsyncFnOnce(&dyn Bed)) {
        super::block_on(async {
            let expected = Expected { environment: ENVIRONMENT.into(), id: None };
            behaviour(&Memory::new(expected, fastrand::Rng::with_seed(1))).await;
        });
    }

    conformance::behaviours!(run);
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
}
