//! Seeds for the fuzz targets that need no guest: small inputs that pass the first checks.
//!
//! Text seeds are in fuzz/seeds. Binary seeds are made here, so that a reader of the repository can
//! see what they contain: by hand, or by gcc and xz, which the tests of real kernels need anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::cpio::Archive;
use panoptes_rig::{Random, cache, output, output_bytes};

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../../profiles/tests/common/btf_writer.rs"]
mod btf_writer;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../../profiles/tests/common/kallsyms_writer.rs"]
mod kallsyms_writer;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../../decoders/tests/application/recorded.rs"]
mod recorded;

use btf_writer::{Writer, kind};

/// Makes all seeds again. Returns a folder with one folder per target.
pub(super) fn make(fuzz: &Path) -> Result<PathBuf, String> {
    let seeds = Seeds { into: fuzz.join("../target/fuzz-seeds") };
    cache::remove(&seeds.into)?;
    for target in super::targets(fuzz)? {
        cache::create(&seeds.into.join(target))?;
    }
    seeds.copy_texts(fuzz)?;
    seeds.tables()?;
    seeds.modules()?;
    seeds.objects(fuzz)?;
    seeds.archives()?;
    seeds.rpm_database(fuzz)?;
    seeds.image_names(fuzz)?;
    seeds.frames()?;
    seeds.captures()?;
    seeds.packet_filter()?;
    seeds.exports()?;
    seeds.mirrors()?;
    seeds.configurations(fuzz)?;
    seeds.clients()?;
    for (name, data) in recorded::all() {
        seeds.write("application", &name, &[&data])?;
        // Bytes of a stream and of a datagram, on the port of DNS or another one; and as frames.
        let length = (data.len() as u16).to_le_bytes();
        let crypto = [&[6, 0], &(data.len() as u16 | 0x4000).to_be_bytes()[..]].concat();
        let framed = (data.len() as u16 + 4).to_le_bytes();
        for kind in [0, 4, 7, 12] {
            let file = format!("{name}-{kind}");
            seeds.write("flow_application", &file, &[&[kind, 0, 0], &length, &data])?;
        }
        let parts = [&[1, 0, 0], &framed[..], &crypto, &data];
        seeds.write("flow_application", &format!("{name}-quic"), &parts)?;
    }
    seeds.changes()?;
    Ok(seeds.into)
}

struct Seeds {
    into: PathBuf,
}

impl Seeds {
    fn write(&self, target: &str, name: &str, parts: &[&[u8]]) -> Result<(), String> {
        Ok(cache::write(&self.into.join(target).join(name), &parts.concat())?)
    }

    /// Copies fuzz/seeds, and one of the built-in profiles.
    fn copy_texts(&self, fuzz: &Path) -> Result<(), String> {
        for folder in cache::list(&fuzz.join("seeds"))?.iter().filter(|path| path.is_dir()) {
            let target = folder.file_name().unwrap_or_default().to_string_lossy();
            for path in cache::list(folder)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.write(&target, &name, &[&cache::read(&path)?])?;
            }
        }
        let tables = cache::list(&fuzz.join("../profiles/tables"))?;
        let table = tables.first().ok_or("there is no built-in profile")?;
        self.write("profile_file", "built-in", &[&cache::read(table)?])
    }

    /// Tables of types and of symbols, and names.
    fn tables(&self) -> Result<(), String> {
        let btf = btf();
        self.write("btf", "whole", &[&[0], &btf])?;
        self.write("btf", "module", &[&[2], &btf, &btf])?;
        // After a header that the target makes: the length of the types, then types and names.
        let types = u32::from_le_bytes(btf[12..16].try_into().expect("four bytes")) as usize;
        let length = (types as u16).to_le_bytes();
        self.write("btf", "made", &[&[1], &length, &btf[24..]])?;

        let names = ["Ainit_task", "Tinit_uts_ns", "T_stext", "Dkallsyms_names", "T_etext"];
        let tables = kallsyms_writer::compress(&names);
        let (count, length) = (names.len() as u32, tables.token_table.len() as u16);
        let index = &tables.token_index[..];
        let head = [&count.to_le_bytes()[..], &length.to_le_bytes()].concat();
        self.write("kallsyms", "names", &[&head, index, &tables.token_table, &tables.names])?;
        self.write("kallsyms", "image", &[&[0; 4], &kallsyms_image(count, &tables)])?;

        // Bytes from 0x80 on stand for the target's own parts of names.
        let lists: [&[u8]; 4] =
            [b"/\x90/\x91\x92/\x93\x80", b"/\x81\x80\x83", b"/\x87a\\x2d\x8e", b"/\x88a\x82/\x84"];
        for (index, list) in lists.iter().enumerate() {
            self.write("container", &index.to_string(), &[list])?;
        }
        Ok(())
    }

    /// A `struct module` in both layouts, and a note.
    fn modules(&self) -> Result<(), String> {
        let mut module = [0; 896];
        module[24..28].copy_from_slice(b"loop");
        // Its first address and its sizes.
        module[320..328].copy_from_slice(&0xffff_ffff_c012_0000_u64.to_le_bytes());
        for (index, size) in [0x5000_u32, 0x1000, 0x3000, 0x3800].iter().enumerate() {
            module[328 + 4 * index..][..4].copy_from_slice(&size.to_le_bytes());
        }
        self.write("kernel_module", "old", &[&[0], &module])?;
        self.write("kernel_module", "new", &[&[1], &module])?;
        let note = [&[4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", &[0xab; 20]].concat();
        self.write("kernel_module", "note", &[&[0], &note])
    }

    /// ELF files.
    fn objects(&self, fuzz: &Path) -> Result<(), String> {
        let btf_path = self.into.join("btf.bin");
        cache::write(&btf_path, &btf())?;
        let compile = |options: &[&str]| -> Result<Vec<u8>, String> {
            let out = self.into.join("object");
            let mut gcc = Command::new("gcc");
            gcc.args(["-nostdlib", "-Wl,-z,noseparate-code,--build-id,--hash-style=both"]);
            gcc.args(options).arg("-o").args([&out, &fuzz.join("seeds/object.c")]);
            output(&mut gcc)?;
            Ok(cache::read(&out)?)
        };
        let library = compile(&["-shared", "-fPIC", "-O1", "-s"])?;
        self.write("symbols", "library", &[&library])?;
        self.write("program_headers", "library", &[&[0], &library])?;
        self.write("program_headers", "headers", &[&[1], &library[64..]])?;
        // Each decoder of this target reads from the beginning.
        self.write("bash", "library", &[&library])?;
        self.write("bash", "headers", &[&library[64..]])?;
        self.write("bash", "timestamp", &[b"#1700000000\0"])?;
        self.write("bash", "words", &[&[0, 0x50, 0, 0, 0, 0x7f, 0, 0, 64, 0, 0, 0].repeat(8)])?;
        self.write("bash", "code", &[b"\xf3\x0f\x1e\xfa\x48\x8b\x05\0\x10\0\0\xc3", &[0; 16]])?;
        self.write("bash", "options", &[b"braceexpand:history:ignorespace\0"])?;

        let program = ["-static", "-O1", "-Wl,-e,_stext"];
        let dwarf = compile(&[&program[..], &["-gdwarf-5"]].concat())?;
        let define = format!("-DBTF=\"{}\"", btf_path.display());
        let btf = compile(&[&program[..], &[define.as_str()]].concat())?;
        self.write("kernel_file", "dwarf", &[&[1], &dwarf])?;
        self.write("kernel_file", "btf", &[&[0], &btf])?;
        let mut image = [0; 128];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        image[64..100].copy_from_slice(b"Linux version 6.1.0-50-arm64 (debian");
        self.write("kernel_file", "image", &[&[0], &image])?;
        self.write("kernel_file", "packed", &[&[0], &xz(&self.into, &image)?])
    }

    /// Packages and container images.
    fn archives(&self) -> Result<(), String> {
        let files = tar(&[
            ("./boot/vmlinux-6.1", b"the kernel"),
            ("./usr/bin/app", b"text"),
            ("./usr/bin/.wh.gone", b""),
        ]);
        let control = tar(&[
            ("./control", b"Package: app\nVersion: 1.2-3\nArchitecture: all\n"),
            ("./md5sums", b"1cb251ec0d568de6a929b520c4aed8d1  usr/bin/app\n"),
        ]);
        let deb = |suffix: &str, control: &[u8], data: &[u8]| {
            let (control_name, data_name) =
                (format!("control.tar{suffix}"), format!("data.tar{suffix}"));
            ar(&[("debian-binary", b"2.0\n"), (&control_name, control), (&data_name, data)])
        };
        let plain = deb("", &control, &files);
        let packed = deb(".xz", &xz(&self.into, &control)?, &xz(&self.into, &files)?);
        for target in ["debian_package", "package", "image"] {
            self.write(target, "plain.deb", &[&plain])?;
            self.write(target, "packed.deb", &[&packed])?;
        }
        self.write("package", "kernel.rpm", &[&rpm("boot/vmlinux-6.1", b"the kernel")])?;

        self.write("image_layers", "one", &[&[0], &files])?;
        self.write("image_layers", "two", &[&[1], &files, &control])?;
        self.write("image_layers", "packed", &[&[0], &xz(&self.into, &files)?])?;
        let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l/layer.tar"]}]"#;
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/app"],
            "Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let layer = tar(&[("usr/bin/app", b"text")]);
        let image =
            tar(&[("manifest.json", manifest), ("c.json", config), ("l/layer.tar", &layer)]);
        self.write("image", "saved.tar", &[&image])?;
        let mut initramfs = Archive::default();
        initramfs.file("init", 0o755, b"text");
        self.write("image", "initramfs.cpio", &[&initramfs.finish()])
    }

    /// A database that rpm made, with its log and without.
    fn rpm_database(&self, fuzz: &Path) -> Result<(), String> {
        let read = |name: &str| {
            let path = fuzz.join("../engine/sbom/tests/rpm").join(name);
            output_bytes(Command::new("xz").arg("-dc").arg(path))
        };
        let (database, log) = (read("rpmdb.sqlite.xz")?, read("rpmdb.sqlite-wal.xz")?);
        let length = (log.len() as u32).to_le_bytes();
        self.write("rpm_database", "with-log", &[&length, &log, &database])?;
        self.write("rpm_database", "alone", &[&[0; 4], &database])?;
        self.write("rpm_database", "berkeley", &[&[0; 4], &read("Packages.xz")?])
    }

    /// The database of a store that containerd made.
    fn image_names(&self, fuzz: &Path) -> Result<(), String> {
        let store = fuzz.join("../engine/sbom/tests/containerd/store.tar.xz");
        let mut command = Command::new("tar");
        command.arg("-xJOf").arg(store).arg("io.containerd.metadata.v1.bolt/meta.db");
        self.write("image_names", "meta.db", &[&output_bytes(&mut command)?])
    }

    /// A handshake over Ethernet, as frames of the target `flow`.
    fn frames(&self) -> Result<(), String> {
        let segment = |is_answer: bool, flags: u8| {
            let mut frame = vec![0, 1, 54, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
            frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
            let (hosts, ports) = ([[10, 0, 0, 1], [10, 0, 0, 2]], [[0x9c, 0x40], [0, 80]]);
            let (from, to) = (usize::from(is_answer), usize::from(!is_answer));
            frame.extend([hosts[from], hosts[to]].concat());
            frame.extend([ports[from], ports[to]].concat());
            frame.extend([0, 0, 0, 9, 0, 0, 0, 10, 0x50, flags, 0xff, 0, 0, 0, 0, 0]);
            frame
        };
        let frames = [segment(false, 2), segment(true, 0x12), segment(false, 0x10)];
        self.write("flow", "handshake", &[&frames.concat()])
    }

    /// Captures, behind a byte that says how they are read.
    fn captures(&self) -> Result<(), String> {
        let words = |words: &[u32], swap: bool| -> Vec<u8> {
            let bytes = |word: &u32| if swap { word.to_be_bytes() } else { word.to_le_bytes() };
            words.iter().flat_map(bytes).collect()
        };
        for (order, is_big) in [("little", false), ("big", true)] {
            // Header, and two packets of eight bytes.
            let record = [1_700_000_000, 5, 8, 60, 7, 7];
            let pcap = [
                &[0xa1b2_c3d4, if is_big { 0x0002_0004 } else { 0x0004_0002 }, 0, 0, 65_535, 1],
                &record[..],
                &record,
            ];
            let pcap = words(&pcap.concat(), is_big);
            self.write("capture", &format!("{order}.pcap"), &[&[0], &pcap])?;
            self.write("capture", &format!("{order}.pcap.xz"), &[&[8], &xz(&self.into, &pcap)?])?;
            let version = if is_big { 0x0001_0000 } else { 1 };
            let pcapng = [
                &[0x0a0d_0d0a, 28, 0x1a2b_3c4d, version, u32::MAX, u32::MAX, 28][..],
                &[1, 20, if is_big { 0x0001_0000 } else { 1 }, 0, 20],
                &[6, 36, 0, 0x0006_0000, 5, 4, 60, 7, 36],
                &[3, 20, 60, 7, 20],
            ];
            let pcapng = words(&pcapng.concat(), is_big);
            self.write("capture", &format!("{order}.pcapng"), &[&[14], &pcapng])?;
        }
        let snoop = words(&[2, 4, 60, 4, 28, 0, 1_700_000_000, 5, 7], true);
        self.write("capture", "snoop", &[&[0], b"snoop\0\0\0", &snoop])?;
        let stamp = words(&[0, 1_700_000_000], false);
        let erf = [&stamp[..], &[0x82, 4, 0, 32, 0, 0, 0, 9], &[3; 8], &[0, 0, 9, 9, 9, 9, 9, 0]];
        self.write("capture", "erf", &[&[0], &erf.concat(), &erf.concat()])?;
        self.write("capture", "tsh", &[&[1], &words(&[1, 5, 0x4500_0028, 7, 7, 7], true), &[6; 20]])
    }

    /// A filter of `tcpdump -ddd 'ip and not icmp'`, and a loop without an end, before packets.
    fn packet_filter(&self) -> Result<(), String> {
        let program = |instructions: &[(u8, u8, u8, u32)]| {
            let mut bytes = vec![instructions.len() as u8];
            for &(code, jump_true, jump_false, constant) in instructions {
                bytes.extend([code & 7, code & 0xf8, jump_true, jump_false]);
                bytes.extend(constant.to_le_bytes());
            }
            bytes
        };
        let no_icmp = program(&[
            (0x28, 0, 0, 12),
            (0x15, 0, 3, 0x800),
            (0x30, 0, 0, 23),
            (0x15, 1, 0, 1),
            (0x06, 0, 0, 262_144),
            (0x06, 0, 0, 0),
        ]);
        let packet = [&[2; 12][..], &[8, 0, 0x45], &[0; 8], &[6], &[0; 30]].concat();
        self.write("packet_filter", "no-icmp", &[&no_icmp, &packet])?;
        let endless = program(&[(0x50, 0, 0, 9), (0x05, 0, 0, u32::MAX - 1), (0x16, 0, 0, 0)]);
        self.write("packet_filter", "loop", &[&endless, &packet])
    }

    /// Datagrams with flows, behind the number of their exporter and their length.
    fn exports(&self) -> Result<(), String> {
        let datagram = |shorts: &[u16]| {
            let bytes: Vec<u8> = shorts.iter().flat_map(|short| short.to_be_bytes()).collect();
            [&[1], &(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
        };
        let [second, at] = [0x6553, 0xf100];
        // A template and a record: an address, packets, bytes, and times of 32 bits.
        let fields = [256, 5, 8, 4, 2, 4, 1, 4, 22, 4, 21, 4];
        let flow = [256, 24, 0x0a00, 1, 0, 5, 0, 500, 0, 1, 0, 2];
        let header = [9, 2, 0, 9000, second, at, 0, 1, 0, 1, 0, 28];
        self.write("netflow", "v9", &[&datagram(&[&header[..], &fields, &flow].concat())])?;
        let header = [10, 68, second, at, 0, 1, 0, 1, 2, 28];
        self.write("netflow", "ipfix", &[&datagram(&[&header[..], &fields, &flow].concat())])?;
        let header = [5, 1, 0, 9000, second, at, 0, 0, 0, 1, 0, 0];
        self.write("netflow", "v5", &[&datagram(&[&header[..], &[6; 24]].concat())])?;
        // One sample of a packet, whose record has eight bytes of it.
        let header = [0, 5, 0, 1, 0x0a00, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        let sample = [0, 1, 0, 64, 0, 1, 0, 0, 0, 100, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1];
        let record = [0, 1, 0, 24, 0, 1, 0, 64, 0, 4, 0, 8, 7, 7, 7, 7];
        self.write("netflow", "sflow", &[&datagram(&[&header[..], &sample, &record].concat())])
    }

    /// A datagram of each kind with an Ethernet frame, behind the kind's number and two lengths.
    fn mirrors(&self) -> Result<(), String> {
        let packet = [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let udp = [0x14, 0xe9, 0, 53, 0, 8, 0, 0];
        let frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &packet, &udp].concat();
        let kinds: [(u8, &str, &[u8]); 5] = [
            (0, "vxlan", &[8, 0, 0, 0, 0, 0, 7, 0]),
            (1, "geneve", &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4]),
            (2, "erspan", &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0]),
            (
                2,
                "erspan3",
                &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (3, "tzsp", &[1, 0, 0, 1, 10, 1, 0xc0, 1]),
        ];
        for (kind, name, header) in kinds {
            let length = (header.len() + frame.len()) as u8;
            self.write("mirror", name, &[&[kind, 0, length], header, &frame])?;
        }
        Ok(())
    }

    /// The sections of the example of `panoptes run`, and that of `panoptes flow` with all of its
    /// variables.
    fn configurations(&self, fuzz: &Path) -> Result<(), String> {
        let text = |path: &str| -> Result<String, String> {
            let bytes = cache::read(&fuzz.join("..").join(path))?;
            String::from_utf8(bytes).map_err(|e| format!("{path}: {e}"))
        };
        let example = text("engine/panoptes/panoptes.yaml")?;
        let mut sections = vec![String::new()];
        for line in example.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let is_key = line.starts_with(|letter: char| letter.is_ascii_lowercase());
            match sections.last_mut().filter(|_| !is_key) {
                Some(section) => section.extend([line, "\n"]),
                None => sections.push(format!("{line}\n")),
            }
        }
        for (number, section) in sections.iter().enumerate() {
            self.write("configuration", &format!("{number}.yaml"), &[&[0], section.as_bytes()])?;
        }
        let variables = text("packaging/flow/argus.conf")?.replace("#ARGUS_", "ARGUS_");
        self.write("argus_conf", "variables", &[variables.as_bytes()])?;
        for (number, line) in variables.lines().enumerate() {
            if line.starts_with("ARGUS_") {
                self.write("argus_conf", &number.to_string(), &[line.as_bytes()])?;
            }
        }
        Ok(())
    }

    /// Conversations of clients: segments behind the time before each, and their lengths.
    fn clients(&self) -> Result<(), String> {
        let long = "port 1 or ".repeat(20);
        let conversations: [(&str, &[&str]); 8] = [
            ("plain", &["START: "]),
            ("filter", &["FILTER: tcp and port 80", "START: "]),
            ("together", &["FILTER: man or (udp)\0START: ", "DONE: "]),
            ("pieces", &["FIL", "TER: tcp", "STA", "RT: "]),
            ("mistake", &["FILTER: tcp and (", "START: "]),
            ("several", &["MODEL: a", "PROJECT: b", "FILE: c", "FILTER: ip", "START: ", "START: "]),
            ("long", &["FILTER: ", &long, "\0START: "]),
            ("again", &["FILTER: tcp\0FILTER: udp\0\0FILTER: \0START: START: "]),
        ];
        for (name, segments) in conversations {
            let bytes: Vec<u8> = segments
                .iter()
                .flat_map(|text| [&[1, text.len() as u8], text.as_bytes()].concat())
                .collect();
            self.write("clients", name, &[&bytes])?;
        }
        Ok(())
    }

    /// Lists of changes to what a target builds itself.
    fn changes(&self) -> Result<(), String> {
        let mut random = Random(1);
        for number in 0..16_u8 {
            let name = number.to_string();
            self.write("discovery", &name, &[&[number], &random.bytes(7 * 4)])?;
            self.write("page_cache", &name, &[&[number], &random.bytes(8 * 4)])?;
            self.write("kernel_code", &name, &[&[number], &random.bytes(8 * 16)])?;
            self.write("walk", &name, &[&random.bytes(8 * 8)])?;
            // Words that are kernel addresses, as pointers of every structure.
            let words = [[number, 16, 0, 0, 0x80, 0x88, 0xff, 0xff]; 32];
            self.write("ebpf", &name, &[&[number], &words.concat()])?;
            self.write("ebpf", &format!("{name}-code"), &[&[number], &random.bytes(64)])?;
            // The two bytes after the dump's number: nothing is cut off.
            self.write("dump", &name, &[&[number, 0, 0], &random.bytes(6 * 2)])?;
        }
        Ok(())
    }
}

/// Types of each kind, with the paths that the target looks up.
fn btf() -> Vec<u8> {
    let mut types = Writer::new();
    let long = types.int("long", 8);
    let byte = types.int("char", 1);
    let own = types.pointer(5);
    let comm = types.array(byte, 16);
    let list = types.structure(
        kind::STRUCT,
        false,
        "list_head",
        16,
        &[("next", own, 0), ("prev", own, 64)],
    );
    let either =
        types.structure(kind::UNION, false, "", 8, &[("compound_head", long, 0), ("x", byte, 0)]);
    types.structure(kind::STRUCT, false, "page", 16, &[("flags", long, 0), ("", either, 64)]);
    let tagged = types.modifier(kind::TYPE_TAG, "rcu", long);
    let constant = types.modifier(kind::CONST, "", tagged);
    let defined = types.modifier(kind::TYPEDEF, "word", constant);
    let members = [("tasks", list, 0), ("comm", comm, 128), ("flags", defined, 5 << 24 | 256)];
    types.structure(kind::STRUCT, true, "task_struct", 48, &members);
    let names = ["PIDTYPE_PID", "PIDTYPE_TGID"].map(|name| types.name(name));
    types.add("pid_type", kind::ENUM << 24 | 2, 4, &[names[0], 0, names[1], 1]);
    types.finish()
}

/// The tables as in a kernel's image.
fn kallsyms_image(count: u32, tables: &kallsyms_writer::Tables) -> Vec<u8> {
    let parts: [&[u8]; 6] = [
        &count.to_le_bytes(),
        &tables.names,
        &[0; 4],
        &tables.token_table,
        &tables.token_index,
        &[0; 256],
    ];
    let mut image = vec![0; 8];
    for part in parts {
        image.extend(part);
        image.resize(image.len().next_multiple_of(8), 0);
    }
    image
}

/// An archive in the ustar format.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let size = format!("{:011o}", content.len());
        let fields: [(usize, &[u8]); 6] = [
            (100, b"0000755"),
            (124, size.as_bytes()),
            (136, b"00000000000"),
            (148, b"        "),
            (156, b"0"),
            (257, b"ustar\x0000"),
        ];
        for (at, field) in fields {
            header[at..at + field.len()].copy_from_slice(field);
        }
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// An archive in the format of `.deb` files.
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 0, content.len());
        archive.extend(header.bytes());
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(2), b'\n');
    }
    archive
}

/// An RPM package: a lead, two empty headers, and a cpio archive of one file.
fn rpm(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"\xed\xab\xee\xdb".to_vec();
    bytes.resize(96, 0);
    for _ in 0..2 {
        bytes.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0]);
        bytes.extend([0; 8]);
    }
    let mut archive = Archive::default();
    archive.file(name, 0o644, content);
    bytes.extend(archive.finish());
    bytes
}

/// Packs bytes with xz.
fn xz(folder: &Path, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let path = folder.join("packed");
    cache::write(&path, bytes)?;
    let mut xz = Command::new("xz");
    Ok(output_bytes(xz.args(["-0", "--stdout", "--check=crc32"]).arg(&path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_whole() {
        let archive = tar(&[("a", b"text"), ("b", b"")]);
        assert_eq!(archive.len(), 512 * 3 + 1024);
        assert_eq!(&archive[512..516], b"text");
        let package = ar(&[("a", b"odd"), ("b", b"even")]);
        assert_eq!(package.len(), 8 + 60 + 4 + 60 + 4);
    }
}
