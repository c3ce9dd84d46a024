//! The machine that a guest runs on, as arguments of QEMU.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use crate::flavor::Architecture;
use crate::guest::{GuestSpec, Place};

/// The end of the guest's second interface in its network namespace.
pub const WIRE: &str = "wire0";

/// The serial port of the agent's channel in guests without the drivers of virtio.
const AGENT_PORT: &str = "/dev/ttyS1";

/// All arguments of QEMU for a guest whose sockets and console are in `folder`.
pub(crate) fn arguments(
    spec: &GuestSpec,
    place: &Place,
    folder: &Path,
    ram: &Path,
) -> Vec<OsString> {
    let (machine, cpu, console) = match spec.kernel.flavor().architecture {
        Architecture::Amd64 if spec.five_level => ("q35", "max", "ttyS0"),
        Architecture::Amd64 => ("q35", "max,la57=off", "ttyS0"),
        Architecture::Arm64 => ("virt", "max", "ttyAMA0"),
    };
    let cpu = spec.cpu.as_deref().unwrap_or(cpu);
    let machine = spec.machine.as_deref().unwrap_or(machine);
    let file = folder.display();
    let memory = if let Some(object) = &spec.memory_object {
        object.clone()
    } else if spec.private_memory {
        format!("memory-backend-ram,id=m0,size={}M", spec.memory_mib)
    } else {
        let (size, path) = (spec.memory_mib, ram.display());
        format!("memory-backend-file,id=m0,size={size}M,mem-path={path},share=on")
    };
    let pairs = [
        ("-accel", "tcg,thread=multi".to_owned()),
        ("-cpu", cpu.to_owned()),
        ("-smp", spec.cpus.to_string()),
        ("-m", format!("{}M", spec.memory_mib)),
        ("-machine", format!("{machine},memory-backend=m0")),
        ("-object", memory),
        ("-kernel", spec.kernel.image().display().to_string()),
        ("-initrd", place.initramfs.display().to_string()),
        ("-append", command_line(spec, console)),
        ("-display", "none".to_owned()),
        ("-vga", "none".to_owned()),
        ("-serial", format!("file:{file}/console")),
        ("-monitor", "none".to_owned()),
        ("-qmp", format!("unix:{file}/qmp,server=on,wait=off")),
        ("-qmp", format!("unix:{file}/qmp-guests,server=on,wait=off")),
        ("-netdev", "user,id=n0,restrict=on".to_owned()),
        ("-device", "virtio-net-pci,netdev=n0,romfile=".to_owned()),
        ("-chardev", format!("socket,id=agent,path={file}/agent,server=on,wait=off")),
        ("-device", "virtio-serial-pci".to_owned()),
        if spec.kernel.lacks_modules() {
            ("-serial", "chardev:agent".to_owned())
        } else {
            ("-device", "virtserialport,chardev=agent,name=panoptes.agent".to_owned())
        },
    ];
    let mut arguments: Vec<OsString> = vec!["-nodefaults".into(), "-no-user-config".into()];
    for (name, value) in pairs {
        arguments.push(name.into());
        arguments.push(value.into());
    }
    if spec.network {
        let tap = format!("tap,id=n1,ifname={WIRE},script=no,downscript=no");
        arguments.extend(["-netdev".into(), tap.into()]);
        arguments.extend(["-device".into(), "virtio-net-pci,netdev=n1,romfile=".into()]);
    }
    arguments.extend(drives(spec, place.root.as_deref()));
    arguments.extend(spec.qemu_arguments.iter().map(Into::into));
    arguments
}

/// The kernel's command line.
fn command_line(spec: &GuestSpec, console: &str) -> String {
    // panic=0: a guest that panics stops, with its console kept. no_timer_check: on a busy host an
    // emulated timer is late, and the kernel would consider it broken.
    let mut line = format!("console={console} panic=0 loglevel=5 no_timer_check");
    if spec.numa_nodes > 1 {
        let _ = write!(line, " numa=fake={}", spec.numa_nodes);
    }
    if spec.page_table_isolation {
        line.push_str(" pti=on");
    }
    if spec.kernel.lacks_modules() {
        // Init gets it as a variable of its environment.
        let _ = write!(line, " agent_port={AGENT_PORT}");
    }
    for argument in &spec.kernel_arguments {
        let _ = write!(line, " {argument}");
    }
    line
}

/// The arguments for the guest's disks.
fn drives(spec: &GuestSpec, root: Option<&Path>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(root) = root {
        // Guests' writes go into a file that is deleted with QEMU, so that guests can share the
        // image.
        let drive =
            format!("if=none,id=root,format=raw,cache=unsafe,snapshot=on,file={}", root.display());
        arguments.extend(["-drive".into(), drive.into()]);
        arguments.extend(["-device".into(), "virtio-blk-pci,drive=root".into()]);
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        let (image, lock) = (disk.image.display(), if disk.read_only { "on" } else { "off" });
        // cache=unsafe: a guest's writes need not survive a crash of the host.
        let drive =
            format!("if=none,id=d{index},format=raw,cache=unsafe,readonly={lock},file={image}");
        arguments.extend(["-drive".into(), drive.into()]);
        arguments.extend(["-device".into(), format!("virtio-blk-pci,drive=d{index}").into()]);
    }
    arguments
}
