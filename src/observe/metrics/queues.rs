//! How many messages wait, by the name of the actors they wait for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{gauges, locked};

/// One actor's waiting messages, on a cache line of its own: both ends of a mailbox may count, on any thread.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<Line>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicI64);

impl Queue {
    /// Messages came in, or were taken out.
    pub fn add(&self, change: i64) {
        self.0.0.fetch_add(change, Ordering::Relaxed);
    }

    /// Messages that wait now.
    pub fn len(&self) -> i64 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Every actor's queue; those of one name are summed.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<BTreeMap<Arc<str>, Vec<Queue>>>);

impl Queues {
    /// A queue more under that name. Made once for each actor, which keeps it when it is restarted.
    pub(super) fn open(&self, actor: &str) -> Queue {
        let queue = Queue::default();
        locked(&self.0).entry(Arc::from(actor)).or_default().push(queue.clone());
        queue
    }
}

impl Collector for Queues {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let queues = locked(&self.0);
        gauges(
            &mut encoder,
            "blockhouse_actor_queued_messages",
            "Messages that wait for an actor.",
            queues.iter().map(|(actor, of_name)| {
                ([("actor", actor.as_ref())], of_name.iter().map(Queue::len).sum::<i64>())
            }),
        )
    }
}
