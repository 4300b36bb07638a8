//! Writes whole families from what a collector reads at a scrape.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::histogram::Distribution;

/// Labels of one sample: names and values.
pub(super) type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

/// Writes a counter. `name` stands without its `_total`.
pub(super) fn counters<'a, const N: usize, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
) -> fmt::Result {
    family(encoder, name, help, MetricType::Counter, samples, |mut sample, value| {
        sample.encode_counter::<NoLabelSet, V, u64>(&value, None)
    })
}

/// Writes a gauge.
pub(super) fn gauges<'a, const N: usize, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
) -> fmt::Result {
    family(encoder, name, help, MetricType::Gauge, samples, |mut sample, value| sample.encode_gauge(&value))
}

/// Writes a histogram.
pub(super) fn histograms<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, Distribution)>,
) -> fmt::Result {
    family(encoder, name, help, MetricType::Histogram, samples, |mut sample, value| {
        sample.encode_histogram::<NoLabelSet>(value.sum_seconds(), value.count(), &value.buckets(), None)
    })
}

/// Writes a family's head and samples; one without samples leaves no trace.
fn family<'a, const N: usize, V>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
    write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
) -> fmt::Result {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut head = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in samples {
        // Without labels a family has one sample, and no braces.
        if N == 0 {
            return write(head, value);
        }
        write(head.encode_family(&labels)?, value)?;
    }
    Ok(())
}

/// The data behind a lock, also after a panic elsewhere: a count that is off by one beats none.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
