//! Owned objects of the DOCA library: they are destroyed on drop, and started contexts are stopped.
//!
//! Structs with these objects have their fields in the order in which they must be dropped.
#![allow(unsafe_code, reason = "calls into the DOCA library, whose objects are pointers")]

use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bindings::{self, doca_ctx, doca_error, doca_pe};
use super::error::DocaError;
use super::library::{Library, call};

/// Longest time that a context may take to start.
const START_MAX: Duration = Duration::from_secs(5);

/// An object of the library and the function that destroys it.
pub(super) struct Handle<T> {
    pub(super) library: Arc<Library>,
    pointer: NonNull<T>,
    destroy: Destroy<T>,
}

type Destroy<T> = unsafe extern "C" fn(*mut T) -> doca_error;

// SAFETY: DOCA Core's objects belong to no thread, but two threads may not use one at the same time
// (DOCA Core guide, "Thread safety"). A `Handle` cannot be copied or shared.
unsafe impl<T> Send for Handle<T> {}

impl<T> Handle<T> {
    /// Owns the object that `create` writes to the place that it gets.
    pub(super) fn new(
        library: &Arc<Library>,
        name: &'static str,
        destroy: Destroy<T>,
        create: impl FnOnce(*mut *mut T) -> Result<(), DocaError>,
    ) -> Result<Self, DocaError> {
        let mut pointer = ptr::null_mut();
        create(&raw mut pointer)?;
        // Success without an object would be a bug of the library: return an error.
        let pointer = NonNull::new(pointer).ok_or_else(|| unexpected(library, name))?;
        Ok(Self { library: library.clone(), pointer, destroy })
    }

    pub(super) fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:p}", self.pointer)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the object came from the function that `destroy` belongs to, and nothing uses it
        // any more. If `destroy` fails, the object leaks; nothing else can be done.
        unsafe { (self.destroy)(self.pointer.as_ptr()) };
    }
}

/// The error for a function that returned success but no object.
pub(super) fn unexpected(library: &Library, name: &'static str) -> DocaError {
    match library.check(name, bindings::DOCA_ERROR_UNEXPECTED) {
        Err(error) => error,
        Ok(()) => library.lacks(name),
    }
}

/// Owns an object of the library: the first function makes it, with the place for it as the last
/// argument, and the second one destroys it.
macro_rules! create {
    ($library:expr, $create:ident($($argument:expr),*), $destroy:ident) => {{
        let lacks = || $library.lacks(stringify!($create));
        $library.symbols.$destroy.ok_or_else(lacks).and_then(|destroy| {
            Handle::new($library, stringify!($create), destroy, |place| {
                call!($library, $create($($argument,)* place))
            })
        })
    }};
}
pub(super) use create;

/// A progress engine, which runs the callbacks of the contexts connected to it.
pub(super) fn progress_engine(library: &Arc<Library>) -> Result<Handle<doca_pe>, DocaError> {
    // SAFETY: the place for the engine is `Handle`'s own.
    create!(library, doca_pe_create(), doca_pe_destroy)
}

/// A context: the part of an object that is started and stopped.
#[derive(Debug)]
pub(super) struct Context {
    library: Arc<Library>,
    pointer: NonNull<doca_ctx>,
    engine: NonNull<doca_pe>,
}

// SAFETY: as for `Handle`.
unsafe impl Send for Context {}

impl Context {
    /// The context of an object; the object and the progress engine must outlive it.
    pub(super) fn new(
        library: &Arc<Library>,
        name: &'static str,
        context: *mut doca_ctx,
        engine: &Handle<doca_pe>,
    ) -> Result<Self, DocaError> {
        let pointer = NonNull::new(context).ok_or_else(|| unexpected(library, name))?;
        Ok(Self { library: library.clone(), pointer, engine: engine.pointer })
    }

    pub(super) fn get(&self) -> *mut doca_ctx {
        self.pointer.as_ptr()
    }

    /// Starts the context and waits until it runs.
    pub(super) fn start(&self) -> Result<(), DocaError> {
        self.begin_start()?;
        let begin = Instant::now();
        while !self.has_started(begin)? {
            if !self.progress() {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    /// Begins to start the context. It runs at once, or later: see [`Self::has_started`].
    pub(super) fn begin_start(&self) -> Result<(), DocaError> {
        // SAFETY: the context's object lives, and was configured.
        match call!(self.library, doca_ctx_start(self.get())) {
            Err(DocaError::Call { code: bindings::DOCA_ERROR_IN_PROGRESS, .. }) => Ok(()),
            done => done,
        }
    }

    /// Whether the context runs, after it began to start at `begin`. An error if it does not start,
    /// or takes too long.
    pub(super) fn has_started(&self, begin: Instant) -> Result<bool, DocaError> {
        let wrong = |code| self.library.check("doca_ctx_start", code).map(|()| false);
        match self.state() {
            Some(bindings::DOCA_CTX_STATE_RUNNING) => Ok(true),
            Some(bindings::DOCA_CTX_STATE_STARTING) if begin.elapsed() <= START_MAX => Ok(false),
            Some(bindings::DOCA_CTX_STATE_STARTING) => wrong(bindings::DOCA_ERROR_TIME_OUT),
            _ => wrong(bindings::DOCA_ERROR_BAD_STATE),
        }
    }

    /// Begins to stop the context; `true` once it has stopped. Until then the library owns its
    /// tasks.
    pub(super) fn stop(&self) -> bool {
        // A second request would have no effect but an error in the library's log.
        if self.state() != Some(bindings::DOCA_CTX_STATE_STOPPING) && !self.is_idle() {
            // SAFETY: the context's object lives.
            let _ = call!(self.library, doca_ctx_stop(self.get()));
        }
        self.is_idle()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state() == Some(bindings::DOCA_CTX_STATE_RUNNING)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state() == Some(bindings::DOCA_CTX_STATE_IDLE)
    }

    fn state(&self) -> Option<bindings::doca_ctx_states> {
        let mut state = bindings::DOCA_CTX_STATE_IDLE;
        // SAFETY: the context's object lives; the place for the state is a local variable.
        let result = call!(self.library, doca_ctx_get_state(self.get(), &raw mut state));
        result.ok().map(|()| state)
    }

    /// Lets the progress engine run one callback; returns whether there was one.
    #[inline]
    pub(super) fn progress(&self) -> bool {
        // SAFETY: the engine outlives this context. Callbacks access only what they document.
        self.library
            .symbols
            .doca_pe_progress
            .is_some_and(|progress| unsafe { progress(self.engine.as_ptr()) } != 0)
    }
}
