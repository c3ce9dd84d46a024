//! A replacement for NVIDIA DOCA: a shared library that presents files as the memory of a
//! BlueField's host.
//!
//! Built from `tests/doca_standin/standin.c`, which lists its settings, each time anew and in a
//! folder of its own, so that every test has a library with its own state.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::Result;

/// A library in a folder; both are deleted on drop.
#[derive(Debug)]
pub struct Standin {
    folder: Scratch,
}

impl Standin {
    /// Builds the library with `settings`.
    pub fn new(settings: &str) -> Result<Self> {
        Self::with_options(settings, &[])
    }

    /// Builds it with further options for the compiler.
    pub fn with_options(settings: &str, options: &[&str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("panoptes-doca-standin-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let standin = Self { folder: Scratch::new(folder)? };
        cache::write(&standin.folder.join("standin.conf"), settings.as_bytes())?;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../doca_standin/standin.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]);
        compiler.args(["-Wno-format-truncation", "-shared", "-fPIC"]).args(options);
        compiler.arg("-o").arg(standin.library()).arg(source);
        command::output(&mut compiler)?;
        Ok(standin)
    }

    pub fn library(&self) -> PathBuf {
        self.folder.join("libdoca_standin.so")
    }

    /// The folder, for other files of a test.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
