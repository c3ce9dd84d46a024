//! What whole scans are measured on: one core, whose caches can be filled with other memory.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Larger than any last-level cache.
const FLUSH_BYTES: usize = 128 << 20;

/// The cores that this thread may use.
pub fn allowed_cores() -> Result<Vec<usize>, Box<dyn std::error::Error>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// Pins this thread to one core, and returns its number.
pub fn pin(core: Option<usize>) -> Result<usize, Box<dyn std::error::Error>> {
    let core = match core {
        Some(core) => core,
        None => *allowed_cores()?.last().ok_or("no core is allowed")?,
    };
    allow_only(&[core])?;
    Ok(core)
}

/// Lets this thread run only on these cores.
pub fn allow_only(cores: &[usize]) -> Result<(), Box<dyn std::error::Error>> {
    let mut only = CpuSet::new();
    for &core in cores {
        only.set(core);
    }
    Ok(sched_setaffinity(None, &only)?)
}

/// Memory that displaces all other in the processor's caches.
#[derive(Debug)]
pub struct Caches(Vec<u8>);

impl Default for Caches {
    fn default() -> Self {
        Self(vec![1; FLUSH_BYTES])
    }
}

impl Caches {
    /// Writes to each line of it.
    pub fn flush(&mut self) {
        for byte in self.0.iter_mut().step_by(64) {
            *byte = byte.wrapping_add(1);
        }
        std::hint::black_box(&self.0);
    }
}
