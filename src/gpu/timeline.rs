//! When submissions ran on the device, by its own clock and without waiting for any: what a profile, which waits for each, cannot say.

use std::sync::{Mutex, PoisonError};

use super::device::Gpu;
use crate::{Error, Result};

/// Submissions that a timeline holds: a query set takes 4096 timestamps.
const MOST: u32 = 2048;

/// When a submission's kernels ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Seconds from the first kernel of all to its first.
    pub begin: f64,
    /// Seconds from the first kernel of all to the end of its last.
    pub end: f64,
}

/// The timestamps of submissions, while somebody looks.
#[derive(Default)]
pub(super) struct Timeline(Mutex<Option<Marks>>);

struct Marks {
    set: wgpu::QuerySet,
    used: u32,
    /// Submissions past [`MOST`].
    missed: u32,
}

impl Timeline {
    /// Where the next submission's two timestamps belong, if somebody looks: the set, and the number of the first.
    pub fn next(&self) -> Option<(wgpu::QuerySet, u32)> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = marks.as_mut()?;
        if marks.used == MOST {
            marks.missed += 1;
            return None;
        }
        marks.used += 1;
        Some((marks.set.clone(), 2 * (marks.used - 1)))
    }
}

impl Gpu {
    /// Notes from now on when each submission of a plan begins and ends. Plans that are paced for a host, or profiled, are not noted.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a device without timestamps; [`Error::Invalid`] where it already does.
    pub fn begin_timeline(&self) -> Result<()> {
        let has = self.inner.link.with(|device, _| device.features().contains(wgpu::Features::TIMESTAMP_QUERY));
        if !has {
            let reason = "no timestamp queries, so that nobody can say when submissions ran".into();
            return Err(Error::Unsupported { device: self.name().into(), reason });
        }
        let mut marks = self.inner.timeline.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.is_some() {
            return Err(Error::invalid("a timeline has begun already"));
        }
        let wanted =
            wgpu::QuerySetDescriptor { label: Some("timeline"), ty: wgpu::QueryType::Timestamp, count: 2 * MOST };
        let set = self.inner.link.with(|device, _| device.create_query_set(&wanted));
        *marks = Some(Marks { set, used: 0, missed: 0 });
        Ok(())
    }

    /// Waits for everything submitted, and gives when each submission since [`Gpu::begin_timeline`] ran, in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] where none has begun, or more was submitted than a timeline holds; a lost device.
    pub fn end_timeline(&self) -> Result<Vec<Span>> {
        let marks = self.inner.timeline.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Marks { set, used, missed } = marks.ok_or_else(|| Error::invalid("no timeline has begun"))?;
        if missed > 0 {
            let all = used + missed;
            return Err(Error::invalid(format!(
                "{all} submissions, and a timeline holds {MOST}: look at less at a time"
            )));
        }
        if used == 0 {
            return Ok(Vec::new());
        }
        let (count, size) = (2 * used, u64::from(used) * 16);
        let buffer = |usage| {
            let wanted = wgpu::BufferDescriptor { label: Some("timeline"), size, usage, mapped_at_creation: false };
            self.inner.link.with(|device, _| device.create_buffer(&wanted))
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let submission = self.inner.link.submit(|encoder| {
            encoder.resolve_query_set(&set, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
        });
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.map(&staging, &submission)?);
        let period = f64::from(self.inner.link.with(|_, queue| queue.get_timestamp_period())) * 1e-9;
        let first = ticks.iter().copied().min().unwrap_or(0);
        let seconds = |ticks: u64| (ticks - first) as f64 * period;
        Ok(ticks.chunks_exact(2).map(|pair| Span { begin: seconds(pair[0]), end: seconds(pair[1]) }).collect())
    }
}
