//! [`Transfer`]: copies from the host's memory into the arena, many at a time.
//!
//! Buffers, tasks and their places in the arena are made once. The library owns a task from its
//! submission until one of the two callbacks runs for it. Until then neither the task nor its place
//! in the arena is touched. A task that does not complete in time is *astray*: its place is not
//! reused until it completes, or until the context has stopped, which returns all tasks.
//!
//! After [`Transfer::new`] nothing here takes a lock, and nothing allocates unless the context has
//! to be restarted. (The library itself may do either; its inventory and tasks are pools of fixed
//! size.)
#![allow(unsafe_code, reason = "calls into the DOCA library, whose objects are pointers")]

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::bindings::{
    self, doca_buf, doca_buf_inventory, doca_data, doca_dev, doca_dma, doca_dma_task_memcpy,
    doca_error, doca_mmap, doca_pe, doca_task,
};
use super::buffers::Arena;
use super::error::DocaError;
use super::handle::{Context, Handle, create, unexpected};
use super::leftover::FunctionName;
use super::library::{Library, call, symbol};
use super::plan::CopyJob;
use super::window::Window;

/// Time that a context has to stop and return its tasks. Then it gets [`STOP_PAUSE`].
const STOP_MAX: Duration = Duration::from_millis(500);
/// Pause between two attempts to stop a context of a device that does not answer.
const STOP_PAUSE: Duration = Duration::from_secs(2);
const STOP_PAUSE_LEAST: Duration = Duration::from_millis(1);
/// The part of it for which the thread that drops a source waits. A device that answers returns its
/// tasks within microseconds.
const STOP_HERE: Duration = Duration::from_millis(5);
/// Steps of a restart that are tried at once.
const RESTART_STEPS: u32 = 16;
/// Largest number of callbacks that run before their results are processed.
const CALLBACKS_MAX: u32 = 4096;

/// Result of submitting a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CopySubmission {
    /// The job is pending.
    Yes,
    /// The device has no room now.
    Later,
    /// The library refuses the job.
    Refused,
}

/// A completed job.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyCompletion {
    pub(super) job: CopyJob,
    /// Whether all its bytes are in the arena, at `offset`.
    pub(super) whole: bool,
    /// Whether the device reported success, but for fewer bytes.
    pub(super) short: bool,
    /// Whether the job was given up before.
    pub(super) astray: bool,
    pub(super) offset: usize,
    slot: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CopySlotState {
    Free,
    Busy,
    Astray,
}

/// A task, its buffers, and its place in the arena.
#[derive(Debug)]
struct CopySlot {
    task: *mut doca_dma_task_memcpy,
    /// The same task, in the type that can be submitted and freed.
    generic: *mut doca_task,
    /// Buffer over this slot's place in the arena.
    destination: *mut doca_buf,
    /// Buffer over the memory that is being read; null if none is.
    source: *mut doca_buf,
    job: CopyJob,
    state: CopySlotState,
}

/// How far a restart of the context is. Each step returns at once, whatever the device does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Restart {
    No,
    Stopping,
    /// Since when.
    Starting(Instant),
}

/// The DMA engine's side of a source.
#[derive(Debug)]
pub(super) struct Transfer {
    parts: ManuallyDrop<TransferParts>,
    function: FunctionName,
    free: Vec<u32>,
    /// Number of bytes of the arena for each slot.
    slot_bytes: usize,
    busy: usize,
    restart: Restart,
    /// Whether it counts as left behind by its function.
    is_left: bool,
}

/// The fields are in the order in which they must be dropped.
#[derive(Debug)]
struct TransferParts {
    slots: Vec<CopySlot>,
    completions: Arc<Completions>,
    context: Context,
    dma: Handle<doca_dma>,
    inventory: Handle<doca_buf_inventory>,
    arena_map: Handle<doca_mmap>,
    window: Window,
    arena: Arena,
    _engine: Handle<doca_pe>,
    device: Handle<doca_dev>,
    library: Arc<Library>,
}

// SAFETY: the pointers in the slots are to objects of the library, which belong to no thread (see
// `Handle`), and are used through `&mut self` only.
unsafe impl Send for TransferParts {}

/// Results that the callbacks record. `doca_pe_progress` runs them on the thread that calls it, but
/// the library holds the pointer to this struct, so no `&mut` to it exists.
#[derive(Debug)]
struct Completions {
    as_task: unsafe extern "C" fn(*mut doca_dma_task_memcpy) -> *mut doca_task,
    get_status: unsafe extern "C" fn(*const doca_task) -> doca_error,
    /// For each slot the result of its task.
    codes: Box<[AtomicU32]>,
    /// The indices of completed slots; the first `count` are valid.
    finished: Box<[AtomicU32]>,
    count: AtomicUsize,
}

impl Completions {
    fn new(library: &Library, count: u32) -> Result<Self, DocaError> {
        Ok(Self {
            as_task: symbol!(library, doca_dma_task_memcpy_as_task)?,
            get_status: symbol!(library, doca_task_get_status)?,
            codes: (0..count).map(|_| AtomicU32::new(0)).collect(),
            finished: (0..count).map(|_| AtomicU32::new(0)).collect(),
            count: AtomicUsize::new(0),
        })
    }

    fn note(&self, slot: u64, code: doca_error) {
        let Some(place) = usize::try_from(slot).ok().and_then(|slot| self.codes.get(slot)) else {
            return;
        };
        place.store(code, Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        if let Some(place) = self.finished.get(count) {
            place.store(slot as u32, Ordering::Relaxed);
            self.count.store(count + 1, Ordering::Relaxed);
        }
    }
}

/// The library calls this for a task that succeeded.
unsafe extern "C" fn on_success(
    _task: *mut doca_dma_task_memcpy,
    task_data: doca_data,
    context_data: doca_data,
) {
    // SAFETY: the context's data is the pointer from `Transfer::new`, whose target lives as long as
    // the context.
    let completions = unsafe { &*context_data.ptr.cast::<Completions>() };
    // SAFETY: the task's data is a number.
    completions.note(unsafe { task_data.u64_ }, bindings::DOCA_SUCCESS);
}

/// The library calls this for a task that failed.
unsafe extern "C" fn on_failure(
    task: *mut doca_dma_task_memcpy,
    task_data: doca_data,
    context_data: doca_data,
) {
    // SAFETY: as above.
    let completions = unsafe { &*context_data.ptr.cast::<Completions>() };
    // SAFETY: the task is the one that failed; the library does not own it any more.
    let code = unsafe { (completions.get_status)((completions.as_task)(task)) };
    // A failure with the code of success is still a failure.
    let code = if code == bindings::DOCA_SUCCESS { bindings::DOCA_ERROR_UNKNOWN } else { code };
    // SAFETY: the task's data is a number.
    completions.note(unsafe { task_data.u64_ }, code);
}

/// A started inventory for this many buffers.
fn inventory(
    library: &Arc<Library>,
    elements: u64,
) -> Result<Handle<doca_buf_inventory>, DocaError> {
    // SAFETY: the place is `Handle`'s own.
    let inventory =
        create!(library, doca_buf_inventory_create(elements), doca_buf_inventory_destroy)?;
    // SAFETY: the inventory is new.
    call!(library, doca_buf_inventory_start(inventory.get()))?;
    Ok(inventory)
}

impl Transfer {
    /// Prepares `slots_max` copies of `copy_bytes` at a time, or as many as the device supports.
    pub(super) fn new(
        library: Arc<Library>,
        function: FunctionName,
        device: Handle<doca_dev>,
        engine: Handle<doca_pe>,
        window: Window,
        slots_max: u32,
        copy_bytes: u64,
    ) -> Result<Self, DocaError> {
        // SAFETY: the device is open and is dropped after this.
        let dma = create!(&library, doca_dma_create(device.get()), doca_dma_destroy)?;
        let mut tasks_max = 0;
        // SAFETY: the DMA instance lives; the place is a local variable.
        call!(library, doca_dma_cap_get_max_num_tasks(dma.get(), &raw mut tasks_max))?;
        let count = slots_max.clamp(1, tasks_max.max(1));
        let arena_bytes = count as usize * copy_bytes as usize;
        let arena = Arena::new(arena_bytes).ok_or(DocaError::Buffers { bytes: arena_bytes })?;
        let arena_map = own_map(&library, &device, &arena)?;
        // A pending task holds two buffers.
        let inventory = inventory(&library, u64::from(count) * 2)?;
        let completions = Arc::new(Completions::new(&library, count)?);
        // SAFETY: the DMA instance lives and was not started; the callbacks have the required type.
        call!(
            library,
            doca_dma_task_memcpy_set_conf(dma.get(), Some(on_success), Some(on_failure), count)
        )?;
        let as_context = symbol!(library, doca_dma_as_ctx)?;
        // SAFETY: the DMA instance lives.
        let context = unsafe { as_context(dma.get()) };
        let context = Context::new(&library, "doca_dma_as_ctx", context, &engine)?;
        let data = doca_data { ptr: Arc::as_ptr(&completions).cast_mut().cast() };
        // SAFETY: the context was not started; the target of its data outlives it.
        call!(library, doca_ctx_set_user_data(context.get(), data))?;
        // SAFETY: the engine outlives the context, which was connected to no other.
        call!(library, doca_pe_connect_ctx(engine.get(), context.get()))?;
        let slot = |_| CopySlot {
            task: ptr::null_mut(),
            generic: ptr::null_mut(),
            destination: ptr::null_mut(),
            source: ptr::null_mut(),
            job: CopyJob::default(),
            state: CopySlotState::Free,
        };
        let parts = TransferParts {
            slots: (0..count).map(slot).collect(),
            completions,
            context,
            dma,
            inventory,
            arena_map,
            window,
            arena,
            _engine: engine,
            device,
            library,
        };
        let mut transfer = Self {
            parts: ManuallyDrop::new(parts),
            function,
            free: Vec::with_capacity(count as usize),
            slot_bytes: copy_bytes as usize,
            busy: 0,
            restart: Restart::No,
            is_left: false,
        };
        transfer.parts.make_destinations(transfer.slot_bytes)?;
        transfer.start()?;
        Ok(transfer)
    }

    /// Changes the regions. No copy may be pending.
    pub(super) fn set_regions(&mut self, regions: &[Range<u64>]) -> Result<(), DocaError> {
        let parts = &mut *self.parts;
        if parts.slots.iter().any(|slot| slot.state != CopySlotState::Free) {
            return parts.library.check("doca_mmap_destroy", bindings::DOCA_ERROR_IN_USE);
        }
        parts.window.set(&parts.library, &parts.device, regions)
    }

    /// Largest number of pending copies.
    pub(super) fn slots(&self) -> usize {
        self.parts.slots.len()
    }

    /// Number of pending copies, without those astray.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// Whether a job can be submitted now.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether the context runs: a fatal error stops it.
    pub(super) fn is_running(&self) -> bool {
        self.parts.context.is_running()
    }

    /// Whether tasks are astray.
    pub(super) fn has_lost_any(&self) -> bool {
        self.parts.slots.iter().any(|slot| slot.state == CopySlotState::Astray)
    }

    /// Starts the context and makes the tasks.
    fn start(&mut self) -> Result<(), DocaError> {
        self.parts.context.start()?;
        self.finish_start()
    }

    /// Makes the tasks of a context that runs.
    fn finish_start(&mut self) -> Result<(), DocaError> {
        self.parts.make_tasks()?;
        self.free.clear();
        self.free.extend((0..self.parts.slots.len() as u32).rev());
        self.busy = 0;
        Ok(())
    }

    /// Whether a restart is under way.
    pub(super) fn is_restarting(&self) -> bool {
        self.restart != Restart::No
    }

    /// Continues a restart of the context, after it stopped or to get tasks astray back; begins
    /// one if none is under way. Returns whether the context runs again. Never waits: call it again
    /// until then. An error ends the restart. Allocates, in the library.
    pub(super) fn restart(&mut self) -> Result<bool, DocaError> {
        for _ in 0..RESTART_STEPS {
            let stepped = self.restart_step();
            if stepped.is_err() {
                self.restart = Restart::No;
            }
            if stepped? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn restart_step(&mut self) -> Result<bool, DocaError> {
        match self.restart {
            Restart::No => self.restart = Restart::Stopping,
            Restart::Stopping => {
                if self.halt_step() {
                    self.parts.context.begin_start()?;
                    self.restart = Restart::Starting(Instant::now());
                }
            }
            Restart::Starting(begin) => {
                self.poll();
                if self.parts.context.has_started(begin)? {
                    self.finish_start()?;
                    self.restart = Restart::No;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Stops the context; `true` once it is idle and every task was returned and freed, `false` if
    /// that takes longer than `most`.
    fn halt(&mut self, most: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if self.halt_step() {
                return true;
            }
            if begin.elapsed() > most {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Does what can be done now to stop the context; returns whether it has stopped.
    fn halt_step(&mut self) -> bool {
        self.free.clear();
        self.parts.context.stop();
        self.poll();
        while self.take().is_some() {}
        let away = self.parts.slots.iter().any(|slot| slot.state != CopySlotState::Free);
        if !away {
            // A context becomes idle only once all tasks are freed, including those not pending.
            self.parts.free_tasks();
        }
        self.parts.context.stop();
        !away && self.parts.context.is_idle()
    }

    /// Submits a job to the device; [`CopySubmission::Later`] if there is no room.
    pub(super) fn submit(&mut self, job: CopyJob) -> CopySubmission {
        let Some(&index) = self.free.last() else { return CopySubmission::Later };
        let parts = &mut *self.parts;
        let library = &*parts.library;
        let slot = &mut parts.slots[index as usize];
        let Some(map) = parts.window.map(job.region as usize) else {
            return CopySubmission::Refused;
        };
        let source = buffer(library, &parts.inventory, map, job.address, job.length.into());
        let Ok(source) = source else { return CopySubmission::Refused };
        // SAFETY: the destination belongs to this slot, and no pending task uses it.
        let reset = call!(library, doca_buf_reset_data_len(slot.destination));
        if reset.is_err() {
            // The length of an earlier copy would pass as that of this one, and its bytes too.
            give_back(library, source);
            return CopySubmission::Refused;
        }
        let symbols = &library.symbols;
        let (Some(set_source), Some(submit)) =
            (symbols.doca_dma_task_memcpy_set_src, symbols.doca_task_submit)
        else {
            return CopySubmission::Refused;
        };
        // SAFETY: the task belongs to this slot and is not pending.
        unsafe { set_source(slot.task, source) };
        // SAFETY: the task has both its buffers, each within one map, and is not changed until it
        // completes.
        let code = unsafe { submit(slot.generic) };
        if code != bindings::DOCA_SUCCESS {
            give_back(library, source);
            let full = matches!(code, bindings::DOCA_ERROR_AGAIN | bindings::DOCA_ERROR_FULL);
            return if full { CopySubmission::Later } else { CopySubmission::Refused };
        }
        slot.source = source;
        slot.job = job;
        slot.state = CopySlotState::Busy;
        self.free.pop();
        self.busy += 1;
        CopySubmission::Yes
    }

    /// Runs the callbacks of completed tasks; [`Transfer::take`] returns their results.
    pub(super) fn poll(&mut self) {
        for _ in 0..CALLBACKS_MAX {
            let room =
                self.parts.completions.count.load(Ordering::Relaxed) < self.parts.slots.len();
            if !room || !self.parts.context.progress() {
                break;
            }
        }
    }

    /// The next completed job, or `None`. Its bytes stay valid until [`Transfer::release`].
    pub(super) fn take(&mut self) -> Option<CopyCompletion> {
        let parts = &mut *self.parts;
        loop {
            let count = parts.completions.count.load(Ordering::Relaxed);
            let index = parts.completions.finished[count.checked_sub(1)?].load(Ordering::Relaxed);
            parts.completions.count.store(count - 1, Ordering::Relaxed);
            let code = parts.completions.codes[index as usize].load(Ordering::Relaxed);
            let slot = &mut parts.slots[index as usize];
            if slot.state == CopySlotState::Free {
                continue; // it completed twice
            }
            let astray = slot.state == CopySlotState::Astray;
            give_back(&parts.library, slot.source);
            slot.source = ptr::null_mut();
            slot.state = CopySlotState::Free;
            if !astray {
                self.busy -= 1;
            }
            let mut got = 0;
            if code == bindings::DOCA_SUCCESS {
                // SAFETY: the destination belongs to this slot, and no task uses it any more.
                let _ = call!(parts.library, doca_buf_get_data_len(slot.destination, &raw mut got));
            }
            let whole = code == bindings::DOCA_SUCCESS && got >= u64::from(slot.job.length);
            let finished = CopyCompletion {
                job: slot.job,
                whole,
                short: code == bindings::DOCA_SUCCESS && !whole,
                astray,
                offset: index as usize * self.slot_bytes,
                slot: index,
            };
            return Some(finished);
        }
    }

    /// Copies bytes of a finished job, from `offset` in them.
    #[inline]
    pub(super) fn copy(&self, finished: &CopyCompletion, offset: usize, target: &mut [u8]) {
        debug_assert!(finished.whole && offset + target.len() <= finished.job.length as usize);
        self.parts.arena.copy(finished.offset + offset, target);
    }

    /// Frees the slot of a finished job.
    pub(super) fn release(&mut self, finished: &CopyCompletion) {
        self.free.push(finished.slot);
    }

    /// Gives up waiting: calls `forget` with each pending job.
    pub(super) fn give_up(&mut self, mut forget: impl FnMut(CopyJob)) {
        for slot in self.parts.slots.iter_mut().filter(|slot| slot.state == CopySlotState::Busy) {
            slot.state = CopySlotState::Astray;
            forget(slot.job);
        }
        self.busy = 0;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let most = if self.is_left { STOP_MAX } else { STOP_HERE };
        if self.halt(most) {
            // SAFETY: `parts` is dropped or taken nowhere else, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.parts) };
            if self.is_left {
                self.function.collect();
            }
        } else if !self.is_left {
            // Other systems wait for this thread, so another one waits for the device. The
            // library's pointers stay valid: they lead to the heap.
            // SAFETY: as above.
            let parts = unsafe { ManuallyDrop::take(&mut self.parts) };
            self.function.leave();
            let mut rest = Self {
                parts: ManuallyDrop::new(parts),
                function: self.function.clone(),
                free: Vec::new(),
                slot_bytes: self.slot_bytes,
                busy: self.busy,
                restart: Restart::No,
                is_left: true,
            };
            let wait = move || {
                let mut pause = STOP_PAUSE_LEAST;
                while !rest.halt_step() {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(STOP_PAUSE);
                }
            };
            // Without a thread, `rest` is dropped here.
            let _ = std::thread::Builder::new().name("dma".to_owned()).spawn(wait);
        }
        // Otherwise a task is still pending, and the device may write to the arena: leak
        // everything.
    }
}

impl TransferParts {
    fn make_destinations(&mut self, slot_bytes: usize) -> Result<(), DocaError> {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let place = self.arena.start().wrapping_add(index * slot_bytes);
            let (map, bytes) = (self.arena_map.get(), slot_bytes as u64);
            slot.destination = buffer(&self.library, &self.inventory, map, place as u64, bytes)?;
        }
        Ok(())
    }

    fn make_tasks(&mut self) -> Result<(), DocaError> {
        let library = &*self.library;
        let (map, address) = self.window.first().ok_or(DocaError::Regions)?;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !slot.task.is_null() {
                continue;
            }
            // A task is created with two buffers; its source is replaced for each job.
            let source = buffer(library, &self.inventory, map, address, 8)?;
            let data = doca_data { u64_: index as u64 };
            let mut task = ptr::null_mut();
            let (dma, place) = (self.dma.get(), &raw mut task);
            // SAFETY: the context runs, both buffers live, the place is a local variable.
            let made = call!(
                library,
                doca_dma_task_memcpy_alloc_init(dma, source, slot.destination, data, place)
            );
            give_back(library, source);
            made?;
            if task.is_null() {
                return Err(unexpected(library, "doca_dma_task_memcpy_alloc_init"));
            }
            slot.task = task;
            // SAFETY: the task lives.
            slot.generic = unsafe { (self.completions.as_task)(slot.task) };
        }
        Ok(())
    }

    /// Frees the tasks, none of which may be pending.
    fn free_tasks(&mut self) {
        let Some(free) = self.library.symbols.doca_task_free else { return };
        for slot in self.slots.iter_mut().filter(|slot| !slot.task.is_null()) {
            debug_assert_eq!(slot.state, CopySlotState::Free);
            // SAFETY: the task is not pending and is not used afterwards.
            unsafe { free(slot.generic) };
            slot.task = ptr::null_mut();
            slot.generic = ptr::null_mut();
        }
    }
}

impl Drop for TransferParts {
    fn drop(&mut self) {
        for slot in self.slots.iter().filter(|slot| !slot.destination.is_null()) {
            give_back(&self.library, slot.destination);
        }
    }
}

/// A map over the arena that the device can write to.
fn own_map(
    library: &Arc<Library>,
    device: &Handle<doca_dev>,
    arena: &Arena,
) -> Result<Handle<doca_mmap>, DocaError> {
    // SAFETY: the place is `Handle`'s own.
    let map = create!(library, doca_mmap_create(), doca_mmap_destroy)?;
    let (start, bytes) = (arena.start().cast(), arena.bytes() as u64);
    let access = bindings::DOCA_ACCESS_FLAG_LOCAL_READ_WRITE;
    // SAFETY: the map is new, the device open; the arena outlives the map.
    call!(library, doca_mmap_add_dev(map.get(), device.get()))?;
    // SAFETY: as above.
    call!(library, doca_mmap_set_permissions(map.get(), access))?;
    // SAFETY: as above.
    call!(library, doca_mmap_set_memrange(map.get(), start, bytes))?;
    // SAFETY: as above.
    call!(library, doca_mmap_start(map.get()))?;
    Ok(map)
}

/// A buffer of the inventory over `bytes` at `address` of a map. All of it is data if it is a
/// source. A destination has no data until something is copied to it.
fn buffer(
    library: &Library,
    inventory: &Handle<doca_buf_inventory>,
    map: *mut doca_mmap,
    address: u64,
    bytes: u64,
) -> Result<*mut doca_buf, DocaError> {
    let mut buffer = ptr::null_mut();
    let at = ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: inventory and map are started. The library checks that the map holds the range;
    // nothing here follows the address. The place is a local variable.
    call!(
        library,
        doca_buf_inventory_buf_get_by_args(
            inventory.get(),
            map,
            at,
            bytes,
            at,
            bytes,
            &raw mut buffer
        )
    )?;
    if buffer.is_null() {
        return Err(unexpected(library, "doca_buf_inventory_buf_get_by_args"));
    }
    Ok(buffer)
}

/// Returns a buffer to its inventory.
fn give_back(library: &Library, buffer: *mut doca_buf) {
    if !buffer.is_null() {
        // SAFETY: the caller has the only reference to the buffer, and no task uses it. A null
        // pointer means that the count is not returned.
        let _ = call!(library, doca_buf_dec_refcount(buffer, ptr::null_mut()));
    }
}
