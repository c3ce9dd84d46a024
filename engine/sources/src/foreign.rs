//! [`Foreign`]: formats that hold no memory that can be read here, each with the way to convert it.
//!
//! A mark is a sequence of bytes at a fixed place. A *strong* mark identifies a format. A *weak*
//! one may be in raw memory too: it explains only why a file has no kernel or no whole pages.
//!
//! The marks are those of each format's own documents or programs; file(1) has most of them.

use std::path::Path;

/// A format that is refused by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// A noun phrase ("a disk image (qcow2)").
    pub name: &'static str,
    /// What to do instead; `{}` stands for the path of the file.
    pub advice: &'static str,
}

impl Foreign {
    /// The advice for a file, with its path as a shell's word.
    pub fn advice_for(self, path: &Path) -> String {
        with_path(self.advice, path)
    }
}

/// A text with the path of a file, as a shell's word, for `{}`.
pub(super) fn with_path(text: &str, path: &Path) -> String {
    text.replace("{}", &shell_word(path))
}

/// A path as one word of a shell.
fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if !path.is_empty() && !path.starts_with('-') && path.chars().all(is_plain) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Bytes at an offset of the file.
#[derive(Debug)]
struct ForeignMagic {
    at: usize,
    bytes: &'static [u8],
    foreign: Foreign,
}

const fn mark(
    at: usize,
    bytes: &'static [u8],
    name: &'static str,
    advice: &'static str,
) -> ForeignMagic {
    ForeignMagic { at, bytes, foreign: Foreign { name, advice } }
}

const DUMP_INSIDE: &str = "dump the memory inside the guest, with LiME or AVML";
const DISK: &str = "a disk is no memory; dump the running guest: \
                    virsh dump --memory-only GUEST memory.elf";
const VMWARE_DISK: &str = "a disk is no memory; suspend the machine, or make a snapshot with its \
                           memory; then give its .vmem, .vmss or .vmsn file";
const VIRTUALBOX: &str = "resume the machine; then: \
                          VBoxManage debugvm GUEST dumpvmcore --filename=memory.elf";
const WINDOWS: &str = "Panoptes reads Linux alone; for Windows: vol -f {} windows.info";
const PROCESS: &str = "it is one process or no Linux; give the memory of the whole machine";
const KERNEL: &str = "it is a kernel or a program; give the memory of the machine, and this file \
                      as --set default.os_symbol_path={}";
const KERNEL_PACKED: &str = "it boots a machine; give the memory of the machine";
const ARCHIVE_7Z: &str = "unpack it: 7z x {}";
const CAPTURE: &str = "it holds packets; see `panoptes flow`";
const PACKAGE: &str = "it is a package of programs; give the memory of the machine";
const FILE_SYSTEM: &str = "it is a file system; give the memory dump that may be in it";
const CRASH: &str = "only crash(8) reads it; make a new dump with `makedumpfile -c` or AVML";
const EWF: &str = "export it (ewf-tools): ewfexport -f raw -t memory {}";
const ENCASE: &str = "export the memory from it as a raw file, with the program that made it";
const PBS: &str = "restore it first: proxmox-backup-client restore SNAPSHOT ARCHIVE memory.raw";
const PBS_FILE: &str = "it is a part of a backup; restore the archive that has the memory: \
                        proxmox-backup-client restore SNAPSHOT ARCHIVE memory.raw";
const PXAR: &str = "unpack it: pxar extract {} folder";
const OTHER_SYSTEM: &str = "Panoptes reads Linux alone, on x86-64 and arm64";
const HIBERNATED: &str = "resume the machine, then dump it: avml memory.lime";
const GPG: &str = "decrypt it: gpg -o memory.dump -d {}";
const AGE: &str = "decrypt it: age -d -o memory.dump {}";
const LIVE_AVML: &str = "dump the running machine with AVML: avml memory.lime";

/// Saved machines and memory of other systems.
const MACHINES: &[ForeignMagic] = &[
    mark(
        0,
        b"LibvirtQemudPart",
        "an unfinished save image of libvirt",
        "libvirt did not finish it; save the guest again: virsh save GUEST FILE",
    ),
    mark(
        0,
        b"QEVM\0\0\0\x02",
        "a QEMU stream of the obsolete version 2",
        "load it with a QEMU of its time (`-incoming 'exec:cat {}' -S`); then, in the monitor: \
         dump-guest-memory memory.elf",
    ),
    mark(
        0,
        b"QEVM",
        "a QEMU stream of an unknown version",
        "load it with the QEMU that wrote it (`-incoming 'exec:cat {}' -S`); then, in the \
         monitor: dump-guest-memory memory.elf",
    ),
    mark(
        0,
        b"VMA\0",
        "a backup of Proxmox (VMA)",
        "unpack it; the file `vmstate…` in the folder, if there is one, has the memory: \
         vma extract {} folder",
    ),
    mark(0, b"\x2f\x7f\x41\xed\x91\xfd\x0f\xcd", "an index of Proxmox Backup (.fidx)", PBS),
    mark(0, b"\x1c\x91\x4e\xa5\x19\xba\xb3\xcd", "an index of Proxmox Backup (.didx)", PBS),
    mark(0, b"\x42\xab\x38\x07\xbe\x83\x70\xa1", "a file of Proxmox Backup (.blob)", PBS_FILE),
    mark(0, b"\x31\xb9\x58\x42\x6f\xb6\xa3\x7f", "a file of Proxmox Backup (.blob)", PBS_FILE),
    mark(0, b"\x7b\x67\x85\xbe\x22\x2d\x4c\xf0", "a file of Proxmox Backup (.blob)", PBS_FILE),
    mark(0, b"\xe6\x59\x1b\xbf\x0b\xbf\xd8\x0b", "a file of Proxmox Backup (.blob)", PBS_FILE),
    mark(0, b"\x0d\xa4\x16\xdf\x75\x6c\x0f\x73", "an archive of Proxmox (pxar)", PXAR),
    mark(0, b"\xef\xac\x88\xe5\x74\x64\x95\xd5", "an archive of Proxmox (pxar)", PXAR),
    mark(0, b"\xff\xce\x1c\x1c\x0a\x85\xda\x11", "an archive of Proxmox (pxar)", PXAR),
    mark(0, b"\x7fVirtualBox SavedState V", "a saved state of VirtualBox (.sav)", VIRTUALBOX),
    mark(0, b"\x14\x20\x28\x01", "a saved state of Hyper-V (.vmrs, .vsv)", DUMP_INSIDE),
    mark(
        0,
        b"LinuxGuestRecord",
        "a save of Xen's old xm",
        "restore it; then: xl dump-core DOMAIN memory.core",
    ),
    mark(
        0,
        b"\xed\xeb\x0f\xf0",
        "a core of Xen before its ELF form",
        "make a new one: xl dump-core DOMAIN memory.core",
    ),
    mark(
        0,
        b"\xee\xeb\x0f\xf0",
        "a core of Xen before its ELF form",
        "make a new one: xl dump-core DOMAIN memory.core",
    ),
    mark(
        0,
        b"\0\0\x64\x86\x84\x19\x10\x07",
        "the state of a Firecracker snapshot",
        "give the memory file (`mem_file_path`) of the same snapshot",
    ),
    mark(
        0,
        b"\0\0\xaa\xaa\x84\x19\x10\x07",
        "the state of a Firecracker snapshot",
        "give the memory file (`mem_file_path`) of the same snapshot",
    ),
    mark(0, b"MRVN", "the NVRAM of a VMware machine", "give the .vmem, .vmss or .vmsn beside it"),
    mark(
        0,
        b".encoding = ",
        "the configuration of a VMware machine",
        "give the .vmem, .vmss or .vmsn beside it",
    ),
    mark(0, b"PAGEDU64", "a crash dump of Windows", WINDOWS),
    mark(0, b"PAGEDUMP", "a crash dump of 32-bit Windows", WINDOWS),
    mark(0, b"MDMP", "a minidump of a Windows process", PROCESS),
    mark(0, b"hibr", "a hibernation file of Windows", WINDOWS),
    mark(0, b"HIBR", "a hibernation file of Windows", WINDOWS),
    mark(0, b"RSTR", "a hibernation file of Windows", WINDOWS),
    mark(0, b"wake", "a hibernation file of Windows", WINDOWS),
    mark(0, b"WAKE", "a hibernation file of Windows", WINDOWS),
    mark(4086, b"S1SUSPEND", "swap space with a hibernated Linux", HIBERNATED),
    mark(4086, b"S2SUSPEND", "swap space with a hibernated Linux", HIBERNATED),
    mark(4086, b"ULSUSPEND", "swap space with a hibernated Linux", HIBERNATED),
    mark(4086, b"LINHIB0001", "swap space with a hibernated Linux", HIBERNATED),
    mark(
        0,
        b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c",
        "swap space with a hibernated Linux (TuxOnIce)",
        HIBERNATED,
    ),
    mark(4086, b"SWAPSPACE2", "swap space of Linux", LIVE_AVML),
    mark(4086, b"SWAP-SPACE", "swap space of Linux", LIVE_AVML),
    // With pages of 16 and 64 KiB.
    mark(16_374, b"SWAPSPACE2", "swap space of Linux", LIVE_AVML),
    mark(65_526, b"SWAPSPACE2", "swap space of Linux", LIVE_AVML),
    mark(0, b"LiME", "a LiME dump of a big-endian machine", OTHER_SYSTEM),
    mark(0, b"minidump FreeBSD", "a crash dump of FreeBSD", OTHER_SYSTEM),
    mark(0, b"FreeBSD Kernel Dump", "a crash dump of FreeBSD", OTHER_SYSTEM),
    mark(0, b"\xed\xc8\xfe\xde", "a crash dump of illumos or Solaris", OTHER_SYSTEM),
    mark(0, b"\x19\x43\x56\x54", "a checkpoint of processes (CRIU)", PROCESS),
    mark(0, b"\x40\x59\x10\x55", "a checkpoint of processes (CRIU)", PROCESS),
    mark(0, b"gVisorSF", "a checkpoint of a container (gVisor)", PROCESS),
    mark(0, b"JAVA PROFILE 1.0", "a heap dump of Java", PROCESS),
    mark(
        0,
        b"\xff\xff\xff\xff\xff\xff\xff\xffXENF",
        "a migration stream of Xen without the header of xl",
        "make a core instead: xl dump-core DOMAIN memory.core",
    ),
    mark(0, b"ZDMP", "a compressed dump of Magnet DumpIt", "unpack it: z2dmp {} memory.dmp"),
    mark(
        0,
        b"HPAK",
        "a dump of HBGary (HPAK)",
        "extract its memory with Volatility 2: vol.py -f {} hpakextract",
    ),
    mark(0, b"\xed\x23\x8f\x61\x73\x01\x19\xa8", "an LKCD dump", CRASH),
    mark(0, b"\xcd\x23\x8f\x61\x73\x01\x19\xa8", "an LKCD dump", CRASH),
    mark(
        0,
        b"sadump\0\0",
        "a dump of Fujitsu's sadump",
        "convert it with the kernel's vmlinux: makedumpfile -c -x vmlinux {} memory.kdump",
    ),
    mark(
        0,
        b"sadump_p",
        "a dump of Fujitsu's sadump",
        "convert it with the kernel's vmlinux: makedumpfile -c -x vmlinux {} memory.kdump",
    ),
    mark(
        0,
        b"\xa8\x19\x01\x73\x61\x8f\x23\xfd",
        "a dump of an s390 machine",
        "Panoptes reads x86-64 and arm64 alone; `zgetdump -f elf {}` makes a core for crash(8)",
    ),
    mark(0, b"\xcf\xfa\xed\xfe", "a core or program of macOS (Mach-O)", PROCESS),
    mark(0, b"\xce\xfa\xed\xfe", "a core or program of macOS (Mach-O)", PROCESS),
    mark(0, b"\xca\xfe\xba\xbe", "a program of macOS or of Java", PROCESS),
    mark(0x202, b"HdrS", "a kernel (bzImage)", KERNEL),
    mark(0x24, b"\x18\x28\x6f\x01", "a kernel of 32-bit ARM (zImage)", OTHER_SYSTEM),
    mark(0, b"\x27\x05\x19\x56", "a kernel for U-Boot (uImage)", KERNEL_PACKED),
    mark(0, b"ANDROID!", "a boot image of Android", KERNEL_PACKED),
    mark(0, b"VNDRBOOT", "a boot image of Android", KERNEL_PACKED),
    mark(0, b"\xd0\x0d\xfe\xed", "a device tree or a FIT image", KERNEL_PACKED),
    mark(0x38, b"ARM\x64", "a kernel of arm64 (Image)", KERNEL),
    mark(0, b"MZ", "a program of Windows or EFI", PROCESS),
];

/// Containers of evidence and disks.
const DISKS: &[ForeignMagic] = &[
    mark(0, b"EVF\x09\x0d\x0a\xff\0", "an EnCase image (E01)", EWF),
    mark(0, b"LVF\x09\x0d\x0a\xff\0", "an EnCase container of files (L01)", ENCASE),
    mark(0, b"EVF2\x0d\x0a\x81\0", "an EnCase image (Ex01)", ENCASE),
    mark(0, b"LVF2\x0d\x0a\x81\0", "an EnCase container of files (Lx01)", ENCASE),
    mark(0, b"LEF2\x0d\x0a\x81\0", "an EnCase container of files (Lx01)", ENCASE),
    mark(0, b"AFF10\x0d\x0a\0", "an AFF image", "convert it (afflib-tools): affconvert -r {}"),
    mark(0, b"ADSEGMENTEDFILE", "an AccessData image (AD1)", ENCASE),
    mark(0, b"ADCRYPT\0", "an encrypted AccessData image", ENCASE),
    mark(0, b"QFI\xfb\0\0\0\x01", "a disk image (qcow)", DISK),
    mark(
        0,
        b"QFI\xfb",
        "a disk image (qcow2)",
        "a disk is no memory; if `savevm` put a snapshot into it, start the guest with \
         `-loadvm NAME -S`; then, in the monitor: dump-guest-memory memory.elf",
    ),
    mark(0, b"QED\0", "a disk image (QED)", DISK),
    mark(0, b"KDMV", "a disk image (VMDK)", VMWARE_DISK),
    mark(0, b"COWD", "a disk image (VMDK)", VMWARE_DISK),
    mark(0, b"# Disk DescriptorFile", "the description of a disk (VMDK)", VMWARE_DISK),
    mark(0, b"\xbe\xba\xfe\xca\0\0\0\0", "a disk image (VMDK seSparse)", VMWARE_DISK),
    mark(0, b"vhdxfile", "a disk image (VHDX)", DUMP_INSIDE),
    mark(0, b"conectix", "a disk image (VHD)", DUMP_INSIDE),
    mark(0x40, b"\x7f\x10\xda\xbe", "a disk image (VDI)", VIRTUALBOX),
    mark(0, b"<<< Oracle VM VirtualBox", "a disk image (VDI)", VIRTUALBOX),
    mark(0, b"WithoutFreeSpace", "a disk image (Parallels)", DUMP_INSIDE),
    mark(0, b"WithouFreSpacExt", "a disk image (Parallels)", DUMP_INSIDE),
    mark(0, b"Bochs Virtual HD Image", "a disk image (Bochs)", DISK),
    mark(512, b"EFI PART", "a disk with partitions (GPT)", DISK),
    mark(512, b"LABELONE", "a disk of LVM", DISK),
    mark(0, b"LUKS\xba\xbe", "an encrypted disk (LUKS)", DISK),
    mark(3, b"-FVE-FS-", "an encrypted disk (BitLocker)", DISK),
    mark(0, b"encrcdsa", "an encrypted disk image of macOS (DMG)", DISK),
    mark(0, b"sprs", "a disk image of macOS (sparse)", DISK),
    mark(0, b"\x3a\xff\x26\xed", "a disk image of Android (sparse)", DISK),
    mark(0, b"#!/bin/sh\n#V2.0 Format", "a compressed disk (cloop)", DISK),
    // The version of the superblock decides where it is.
    mark(0, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "a disk of a RAID (md)", DISK),
    mark(4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "a disk of a RAID (md)", DISK),
    mark(0, b"UBI#", "a flash volume (UBI)", DISK),
    // The first name in the label's list.
    mark(0x4014, b"\0\0\0\x07version", "a disk of ZFS", DISK),
    mark(32, b"NXSB", "a file system (APFS)", FILE_SYSTEM),
    mark(1024, b"H+\0\x04", "a file system (HFS+)", FILE_SYSTEM),
    mark(1024, b"HX\0\x05", "a file system (HFSX)", FILE_SYSTEM),
    mark(1024, b"\x10\x20\xf5\xf2", "a file system (F2FS)", FILE_SYSTEM),
    mark(1024, b"\xe2\xe1\xf5\xe0", "a file system (EROFS)", FILE_SYSTEM),
    mark(3, b"EXFAT   ", "a file system (exFAT)", FILE_SYSTEM),
    mark(82, b"FAT32   ", "a file system (FAT)", FILE_SYSTEM),
    mark(54, b"FAT16   ", "a file system (FAT)", FILE_SYSTEM),
    mark(54, b"FAT12   ", "a file system (FAT)", FILE_SYSTEM),
    mark(0x1_0034, b"ReIsEr", "a file system (ReiserFS)", FILE_SYSTEM),
    mark(0x8000, b"JFS1", "a file system (JFS)", FILE_SYSTEM),
    mark(0, b"-rom1fs-", "a file system (romfs)", FILE_SYSTEM),
    mark(0x255c, b"\x54\x19\x01\0", "a file system (UFS)", FILE_SYSTEM),
    mark(0x1_055c, b"\x19\x01\x54\x19", "a file system (UFS)", FILE_SYSTEM),
    mark(0x8001, b"BEA01", "a file system (UDF)", FILE_SYSTEM),
    mark(0, b"sqsh", "a file system (squashfs)", FILE_SYSTEM),
    mark(0, b"hsqs", "a file system (squashfs)", FILE_SYSTEM),
    mark(0, b"XFSB", "a file system (XFS)", FILE_SYSTEM),
    mark(3, b"NTFS    ", "a file system (NTFS)", FILE_SYSTEM),
    mark(0x8001, b"CD001", "an ISO image", FILE_SYSTEM),
    mark(0x1_0040, b"_BHRfS_M", "a file system (btrfs)", FILE_SYSTEM),
];

/// Compressed files, archives and other data.
const PACKED: &[ForeignMagic] = &[
    mark(0, b"\x1f\x8b\x08", "compressed with gzip", "unpack it: gzip -dc {} > memory.dump"),
    mark(0, b"BZh", "compressed with bzip2", "unpack it: bzip2 -dc {} > memory.dump"),
    mark(0, b"\xfd7zXZ\0", "compressed with xz", "unpack it: xz -dc {} > memory.dump"),
    mark(0, b"LZIP\x01", "compressed with lzip", "unpack it: lzip -dc {} > memory.dump"),
    mark(0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it: zstd -dc {} > memory.dump"),
    mark(0, b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it: lz4 -dc {} > memory.dump"),
    mark(0, b"\x02\x21\x4c\x18", "compressed with lz4", "unpack it: lz4 -dc {} > memory.dump"),
    mark(
        0,
        b"\x89LZO\0\x0d\x0a\x1a\x0a",
        "compressed with lzop",
        "unpack it: lzop -dc {} > memory.dump",
    ),
    mark(
        0,
        b"\xff\x06\0\0sNaPpY",
        "compressed with snappy (framed)",
        "unpack it: snzip -dc {} > memory.dump",
    ),
    mark(0, b"PK\x03\x04", "a zip archive", "unpack it: unzip {}"),
    mark(0, b"PK\x06\x06", "an empty zip archive", "there is nothing in it"),
    mark(0, b"PK\x05\x06", "an empty zip archive", "there is nothing in it"),
    mark(0, b"PK\x07\x08", "a part of a split zip archive", ARCHIVE_7Z),
    mark(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", ARCHIVE_7Z),
    mark(0, b"Rar!\x1a\x07", "a rar archive", ARCHIVE_7Z),
    mark(0, b"MSCF\0\0\0\0", "a cabinet archive of Windows", ARCHIVE_7Z),
    mark(0, b"MSWIM\0\0\0", "an archive of Windows (WIM)", ARCHIVE_7Z),
    mark(0, b"xar!", "a xar archive", ARCHIVE_7Z),
    mark(2, b"-lh0-", "an LHA archive", ARCHIVE_7Z),
    mark(2, b"-lh5-", "an LHA archive", ARCHIVE_7Z),
    mark(2, b"-lh6-", "an LHA archive", ARCHIVE_7Z),
    mark(2, b"-lh7-", "an LHA archive", ARCHIVE_7Z),
    mark(7, b"**ACE**", "an ACE archive", "unpack it: unace x {}"),
    mark(0, b"7kSt", "a zpaq archive", "unpack it: zpaq x {}"),
    mark(0, b"LRZI", "compressed with lrzip", "unpack it: lrzip -d -o memory.dump {}"),
    mark(0, b"btrfs-stream\0", "a stream of btrfs", "unpack it: btrfs receive -f {} folder"),
    mark(
        0,
        b"Salted__",
        "encrypted with openssl",
        "decrypt it with the options that encrypted it: \
         openssl enc -d -aes-256-cbc -pbkdf2 -in {} -out memory.dump",
    ),
    mark(0, b"age-encryption.org/v1", "encrypted with age", AGE),
    mark(0, b"-----BEGIN AGE ENCRYPTED FILE", "encrypted with age", AGE),
    mark(0, b"-----BEGIN PGP MESSAGE", "encrypted with PGP", GPG),
    mark(257, b"ustar", "a tar archive", "unpack it: tar -xf {}"),
    mark(0, b"070701", "a cpio archive", "unpack it: cpio -idF {}"),
    mark(0, b"070702", "a cpio archive", "unpack it: cpio -idF {}"),
    mark(0, b"070707", "a cpio archive", "unpack it: cpio -idF {}"),
    mark(0, b"!<arch>\n", "an ar archive or a Debian package", PACKAGE),
    mark(0, b"\xed\xab\xee\xdb", "an RPM package", PACKAGE),
    mark(0, b"\xd4\xc3\xb2\xa1", "a packet capture", CAPTURE),
    mark(0, b"\xa1\xb2\xc3\xd4", "a packet capture", CAPTURE),
    mark(0, b"\x4d\x3c\xb2\xa1", "a packet capture", CAPTURE),
    mark(0, b"\x0a\x0d\x0d\x0a", "a packet capture", CAPTURE),
    mark(0, b"version https://git-lfs", "a pointer of Git LFS", "fetch the file: git lfs pull"),
    mark(0, b"SQLite format 3\0", "a database", "give the memory of the machine"),
    mark(0, b"%PDF-", "a PDF", "give the memory of the machine"),
];

/// Marks of 1 to 4 bytes that raw memory may well have.
const WEAK: &[ForeignMagic] = &[
    mark(1080, b"\x53\xef", "a file system (ext2, ext3 or ext4)", FILE_SYSTEM),
    mark(510, b"\x55\xaa", "a disk with partitions (MBR)", DISK),
    mark(
        0,
        b"\x38\x8d",
        "compressed with zlib, as LiME's compress=1 does",
        "unpack it: pigz -dc < {} > memory.lime",
    ),
    mark(0, b"\x78\x01", "compressed with zlib", "unpack it: pigz -dcz < {} > memory.dump"),
    mark(0, b"\x78\x5e", "compressed with zlib", "unpack it: pigz -dcz < {} > memory.dump"),
    mark(0, b"\x78\x9c", "compressed with zlib", "unpack it: pigz -dcz < {} > memory.dump"),
    mark(0, b"\x78\xda", "compressed with zlib", "unpack it: pigz -dcz < {} > memory.dump"),
    mark(0, b"\x5d\0\0", "compressed with lzma", "unpack it: xz -dc {} > memory.dump"),
    mark(0, b"\x1f\x9d", "compressed with compress", "unpack it: gzip -dc {} > memory.dump"),
    mark(0, b"\x60\xea", "an ARJ archive", ARCHIVE_7Z),
    mark(0, b"\x8c\x0d\x04", "encrypted with PGP", GPG),
    mark(0, b"\xc7\x71", "a cpio archive", "unpack it: cpio -idF {}"),
    mark(0, b"\x45\x3d\xcd\x28", "a file system (cramfs)", FILE_SYSTEM),
];

/// Marks in the last 512 bytes of a file.
const AT_END: &[ForeignMagic] = &[
    mark(0, b"conectix", "a disk image (VHD)", DUMP_INSIDE),
    mark(0, b"koly", "a disk image of macOS (DMG)", DISK),
];

/// Names that say what a file without a mark is.
const ENDINGS: &[(&str, Foreign)] = &[
    (
        ".guest",
        Foreign {
            name: "the description of an ESXi debug dump",
            advice: "give debug.vmem, unpacked",
        },
    ),
    (".vsv", Foreign { name: "a saved state of Hyper-V", advice: DUMP_INSIDE }),
    (
        ".vmsd",
        Foreign {
            name: "the list of a VMware machine's snapshots",
            advice: "give the .vmem, .vmss or .vmsn beside it",
        },
    ),
];

const SKIPPABLE: Foreign =
    Foreign { name: "compressed with zstd or lz4", advice: "unpack it: zstd -dc {} > memory.dump" };

const TAR: Foreign = Foreign { name: "a tar archive", advice: "unpack it: tar -xf {}" };

const AFF4: Foreign = Foreign {
    name: "an AFF4 image",
    advice: "export the memory from it (c-aff4): aff4imager -e '*' -D folder {}",
};

/// Number of bytes at the start of a file that all marks are in.
pub(super) const MARKS_BYTES: usize = 0x1_055c + 4;

/// Size in bytes of the last part of a file, which [`at_end`] needs.
pub(super) const END_BYTES: usize = 512;

/// The format of a file whose first bytes have a strong mark. `bytes` is the length of the file, if
/// it is known.
pub(super) fn of(head: &[u8], bytes: Option<u64>) -> Option<Foreign> {
    // A program of Windows and a file compressed with bzip2 have short marks; more must fit.
    let fits = |found: &Foreign| match found.name {
        "compressed with bzip2" => head.get(4..10) == Some(b"1AY&SY"),
        "a program of Windows or EFI" => has_pe_header(head),
        "a kernel of arm64 (Image)" => bytes.is_none_or(|bytes| is_image_of_arm64(head, bytes)),
        _ => true,
    };
    // An AFF4 container is a zip archive whose first member has its name.
    let has = |word: &[u8]| head.windows(word.len()).take(256).any(|window| window == word);
    if head.starts_with(b"PK\x03\x04") && (has(b"container.description") || has(b"aff4")) {
        return Some(AFF4);
    }
    // Frames that hold no data, 16 marks of them.
    if head.get(1..4) == Some(b"\x2a\x4d\x18") && head[0] & 0xf0 == 0x50 {
        return Some(SKIPPABLE);
    }
    let strong = [MACHINES, DISKS, PACKED];
    let marked = strong.iter().find_map(|marks| find(marks, head).filter(fits));
    marked.or_else(|| has_tar_checksum(head).then_some(TAR))
}

/// What a file with these first bytes may be that is neither memory nor has a strong mark.
pub(super) fn by_weak_mark(head: &[u8]) -> Option<Foreign> {
    find(WEAK, head)
}

/// The format of a file whose last [`END_BYTES`] have a mark.
pub(super) fn at_end(tail: &[u8]) -> Option<Foreign> {
    find(AT_END, tail)
}

/// What a file's name says that its bytes do not.
pub(super) fn by_name(path: &Path) -> Option<Foreign> {
    let name = path.file_name()?.to_str()?;
    ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, foreign)| *foreign)
}

fn find(marks: &[ForeignMagic], bytes: &[u8]) -> Option<Foreign> {
    let has = |mark: &&ForeignMagic| {
        bytes.get(mark.at..).is_some_and(|rest| rest.starts_with(mark.bytes))
    };
    marks.iter().find(has).map(|mark| mark.foreign)
}

/// Whether the header of a program of Windows is where its first page says.
fn has_pe_header(head: &[u8]) -> bool {
    let at = head.get(0x3c..0x40).and_then(|bytes| bytes.try_into().ok());
    let at = at.map_or(usize::MAX, |bytes| u32::from_le_bytes(bytes) as usize);
    head.get(at..).is_some_and(|rest| rest.starts_with(b"PE\0\0"))
}

/// Whether a file is no longer than the kernel whose header it has (Documentation/arch/arm64/
/// booting.rst, `image_size`): memory may begin with a kernel too.
fn is_image_of_arm64(head: &[u8], bytes: u64) -> bool {
    let size = head.get(16..24).and_then(|bytes| bytes.try_into().ok());
    let size = size.map_or(0, u64::from_le_bytes);
    // Kernels before 3.17 do not tell it.
    size == 0 || bytes <= size
}

/// Whether the first block is a header of tar with a name and the right checksum: the sum of all
/// bytes, those of the checksum itself counted as blanks.
fn has_tar_checksum(head: &[u8]) -> bool {
    const FIELD: std::ops::Range<usize> = 148..156;
    let Some(block) = head.get(..512) else { return false };
    let digits = std::str::from_utf8(&block[FIELD]).unwrap_or_default();
    let digits = digits.trim_matches([' ', '\0']);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let field: u32 = block[FIELD].iter().map(|byte| u32::from(*byte)).sum();
    let blanks = 8 * u32::from(b' ');
    block[0] != 0 && u32::from_str_radix(digits, 8) == Ok(sum - field + blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_leads_to_its_own_format() {
        for marks in [MACHINES, DISKS, PACKED] {
            for mark in marks {
                let mut head = vec![0; MARKS_BYTES + 64];
                head[mark.at..mark.at + mark.bytes.len()].copy_from_slice(mark.bytes);
                match mark.foreign.name {
                    "compressed with bzip2" => head[3..10].copy_from_slice(b"91AY&SY"),
                    "a program of Windows or EFI" => {
                        head[0x3c] = 0x80;
                        head[0x80..0x84].copy_from_slice(b"PE\0\0");
                    }
                    _ => {}
                }
                assert_eq!(of(&head, None), Some(mark.foreign));
                assert!(mark.at + mark.bytes.len() <= MARKS_BYTES, "{}", mark.foreign.name);
            }
        }
        assert_eq!(of(&vec![0; MARKS_BYTES], None), None);
        assert_eq!(of(b"PK\x03\x04\x14\0\0\0container.description", None), Some(AFF4));
        assert_eq!(of(b"MZ", None), None);
    }

    #[test]
    fn a_tar_archive_without_a_mark_has_its_checksum() {
        // The only bytes besides the checksum: the name and one digit of the size.
        let mut head = vec![0; MARKS_BYTES];
        head[0] = b'a';
        head[124] = b'1';
        head[148..156].copy_from_slice(b"000622\0 ");
        assert_eq!(of(&head, None), Some(TAR));
        head[0] = b'b';
        assert_eq!(of(&head, None), None);
    }

    #[test]
    fn every_frame_without_data_is_one_of_zstd_or_lz4() {
        for first in 0x50..=0x5f {
            assert_eq!(of(&[first, 0x2a, 0x4d, 0x18], None), Some(SKIPPABLE));
        }
        assert_eq!(of(&[0x60, 0x2a, 0x4d, 0x18], None), None);
    }

    #[test]
    fn memory_that_begins_with_a_kernel_is_no_kernel() {
        let mut head = vec![0; 4096];
        head[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert!(of(&head, Some(1 << 30)).is_some());
        head[16..24].copy_from_slice(&(32_u64 << 20).to_le_bytes());
        assert!(of(&head, Some(20 << 20)).is_some());
        assert_eq!(of(&head, Some(1 << 30)), None);
    }

    #[test]
    fn each_way_to_convert_is_one_line_with_at_most_one_path() {
        let all = [MACHINES, DISKS, PACKED, WEAK, AT_END].into_iter().flatten();
        for foreign in all.map(|mark| mark.foreign).chain(ENDINGS.iter().map(|one| one.1)) {
            let advice = foreign.advice_for(Path::new("/a b/it's"));
            assert!(!advice.contains('\n') && !advice.contains("{}"), "{advice}");
            assert!(foreign.advice.matches("{}").count() <= 1, "{advice}");
            assert!(!foreign.advice.ends_with('.') && !foreign.name.is_empty(), "{advice}");
        }
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let word = |path| shell_word(Path::new(path));
        assert_eq!(word("/var/dump-1.lime"), "/var/dump-1.lime");
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("-x"), "'-x'");
        assert_eq!(word("$(x)"), "'$(x)'");
    }

    #[test]
    fn weak_marks_are_not_strong_ones() {
        for mark in WEAK {
            let mut head = vec![0; MARKS_BYTES];
            head[mark.at..mark.at + mark.bytes.len()].copy_from_slice(mark.bytes);
            assert_eq!(of(&head, None), None, "{}", mark.foreign.name);
            assert_eq!(by_weak_mark(&head), Some(mark.foreign));
        }
    }
}
