//! `cargo xtask guest`: boots a guest for a developer to explore.
//!
//! Prints where its memory, monitor and console are, then passes each line of standard input to the
//! agent inside until EOF. `pause` and `resume` stop and start the guest.

use std::io::BufRead as _;
use std::path::PathBuf;

use clap::Args;
use panoptes_rig::{Disk, Flavor, Guest, GuestSpec, Kernel, Userland, setup};

/// Boots a guest, prints where its memory is, and passes each line of stdin to the agent until EOF
/// (tests/agent/agent.c lists its commands)
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent options of a machine, not states")]
pub(crate) struct Options {
    /// Kernel of the guest
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = Flavor::from_name)]
    kernel: Flavor,
    /// Size of its memory
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u64,
    /// Page tables of five levels
    #[arg(long)]
    five_level: bool,
    /// Separate page tables of the kernel
    #[arg(long)]
    pti: bool,
    /// Number of NUMA nodes
    #[arg(long, value_name = "NODES", default_value_t = 1)]
    numa: u32,
    /// QEMU's name of the processor
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// A Debian 12 root
    #[arg(long)]
    debian: bool,
    /// The same with many more programs
    #[arg(long)]
    equipped: bool,
    /// Its memory file
    #[arg(long, value_name = "PATH")]
    ram_file: Option<PathBuf>,
    /// A disk; may be repeated
    #[arg(long, value_name = "IMAGE")]
    disk: Vec<PathBuf>,
    /// The modules for a filesystem (ext4); may be repeated
    #[arg(long, value_name = "FILESYSTEM")]
    modules: Vec<String>,
    /// A file that the guest has, as NAME=PATH; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = name_with_path)]
    file: Vec<(String, PathBuf)>,
    /// A command that runs before those of stdin; may be repeated
    #[arg(long, value_name = "COMMAND")]
    load: Vec<String>,
}

/// `NAME=PATH`
fn name_with_path(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').ok_or("it has no `=`")?;
    Ok((parts.0.to_owned(), parts.1.into()))
}

pub(crate) fn run(options: Options) -> Result<(), String> {
    setup::ensure()?;
    let mut modules = options.modules;
    if !options.disk.is_empty() {
        modules.insert(0, "disk".to_owned());
    }
    let disk = |image| Disk { image, read_only: false };
    let spec = GuestSpec {
        disks: options.disk.into_iter().map(disk).collect(),
        modules,
        memory_mib: options.memory,
        five_level: options.five_level,
        page_table_isolation: options.pti,
        numa_nodes: options.numa,
        cpu: options.cpu,
        ram_file: options.ram_file,
        userland: match (options.equipped, options.debian) {
            (true, _) => Userland::Equipped,
            (false, true) => Userland::Debian,
            (false, false) => Userland::Busybox,
        },
        files: options.file,
        ..GuestSpec::new(Kernel::obtain(options.kernel)?)
    };
    let mut guest = Guest::boot(&spec)?;
    println!("kernel  {}", spec.kernel.release());
    println!("booted  in {:.1} s", guest.boot_time().as_secs_f64());
    println!("ram     {}", guest.ram_path().display());
    println!("qmp     {}", guest.qmp_path().display());
    println!("console {}", guest.console_path().display());
    println!("pid     {}", guest.qemu_pid());
    for command in &options.load {
        obey(&mut guest, command)?;
    }
    println!("commands of the agent, or pause, resume, reset; end with EOF");
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| format!("cannot read standard input: {e}"))?;
        if let Err(message) = obey(&mut guest, line.trim()) {
            eprintln!("{message}");
        }
    }
    Ok(guest.quit()?)
}

fn obey(guest: &mut Guest, command: &str) -> Result<(), String> {
    match command {
        "" => return Ok(()),
        "pause" => guest.pause(),
        "resume" => guest.resume(),
        "reset" => guest.system_reset(),
        other => guest.agent_lines(other, |line| println!("{line}")),
    }?;
    println!("ok");
    Ok(())
}
