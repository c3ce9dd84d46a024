//! `cargo xtask guest`: boots a guest for a developer to explore.
//!
//! Prints where its memory, monitor and console are, then passes each line of standard input to the
//! agent inside until EOF. `pause` and `resume` stop and start the guest.

use std::io::BufRead as _;

use panoptes_rig::{Disk, Flavor, Guest, GuestSpec, Kernel, Userland, setup};

pub(crate) const USAGE: &str = "\
  guest [--kernel 6.1] [--memory MIB] [--five-level] [--pti] [--numa NODES] [--cpu MODEL]
        [--debian] [--equipped] [--ram-file PATH] [--disk IMAGE]… [--modules ext4]…
        [--load 'COMMAND']…
        boots a guest, prints where its memory is, runs the --load commands, then passes each line
        of stdin to the agent until EOF (tests/agent/agent.c lists its commands); --debian: with a
        Debian 12 root; --equipped: and many more programs; --disk: with disks; --modules: with the
        modules for their filesystems
";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let text = |e: panoptes_rig::Error| e.to_string();
    let mut flavor = Flavor::V6_1;
    let mut memory_mib = 512;
    let mut five_level = false;
    let mut page_table_isolation = false;
    let mut userland = Userland::Busybox;
    let mut numa_nodes = 1;
    let mut cpu = None;
    let mut ram_file = None;
    let (mut disks, mut modules) = (Vec::new(), Vec::new());
    let mut commands = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().cloned().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--kernel" => flavor = Flavor::from_name(&value()?).map_err(text)?,
            "--memory" => memory_mib = value()?.parse().map_err(|e| format!("--memory: {e}"))?,
            "--numa" => numa_nodes = value()?.parse().map_err(|e| format!("--numa: {e}"))?,
            "--cpu" => cpu = Some(value()?),
            "--ram-file" => ram_file = Some(value()?.into()),
            "--disk" => disks.push(Disk { image: value()?.into(), read_only: false }),
            "--modules" => modules.push(value()?),
            "--load" => commands.push(value()?),
            "--five-level" => five_level = true,
            "--debian" => userland = Userland::Debian,
            "--equipped" => userland = Userland::Equipped,
            "--pti" => page_table_isolation = true,
            other => return Err(format!("guest has no option {other:?}; see `cargo xtask help`")),
        }
    }
    setup::ensure().map_err(text)?;
    if !disks.is_empty() {
        modules.insert(0, "disk".to_owned());
    }
    let spec = GuestSpec {
        disks,
        modules,
        memory_mib,
        five_level,
        page_table_isolation,
        numa_nodes,
        cpu,
        ram_file,
        userland,
        ..GuestSpec::new(Kernel::obtain(flavor).map_err(text)?)
    };
    let mut guest = Guest::boot(&spec).map_err(text)?;
    println!("kernel  {}", spec.kernel.release());
    println!("booted  in {:.1} s", guest.boot_time().as_secs_f64());
    println!("ram     {}", guest.ram_path().display());
    println!("qmp     {}", guest.qmp_path().display());
    println!("console {}", guest.console_path().display());
    println!("pid     {}", guest.qemu_pid());
    for command in &commands {
        obey(&mut guest, command)?;
    }
    println!("commands of the agent, or pause, resume, reset; end with EOF");
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| format!("cannot read standard input: {e}"))?;
        if let Err(message) = obey(&mut guest, line.trim()) {
            eprintln!("{message}");
        }
    }
    guest.quit().map_err(text)
}

fn obey(guest: &mut Guest, command: &str) -> Result<(), String> {
    let done = match command {
        "" => return Ok(()),
        "pause" => guest.pause(),
        "resume" => guest.resume(),
        "reset" => guest.system_reset(),
        other => guest.agent_lines(other, |line| println!("{line}")),
    };
    done.map_err(|e| e.to_string())?;
    println!("ok");
    Ok(())
}
