//! Command lines as tools write them, and hostile ones.

use proptest::prelude::*;

use super::keys::{size, split_at_commas};
use super::*;

const MIB: u64 = 1 << 20;

fn parse(line: &str) -> Arguments {
    Arguments::parse(line.replace(' ', "\0").as_bytes())
}

#[test]
fn the_last_processor_holds() {
    let arguments = parse("qemu-system-x86_64 -cpu max -m 256M -cpu qemu32,+pae");
    assert_eq!(arguments.processor.as_deref(), Some("qemu32,+pae"));
    assert_eq!(parse("qemu-system-x86_64 -m 256M").processor, None);
}

#[test]
fn as_libvirt_starts_it() {
    let line = "/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S -object \
        {\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":\"/x\"} \
        -machine pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram \
        -accel kvm -m 2048 -object \
        {\"qom-type\":\"memory-backend-ram\",\"id\":\"pc.ram\",\"size\":2147483648} \
        -overcommit mem-lock=off -smp 2,sockets=2 \
        -uuid 4DEA22B3-1d52-d8f3-2516-782e98ab3fa0 -no-user-config";
    let arguments = parse(line);
    assert_eq!(arguments.name.as_deref(), Some("web"));
    assert_eq!(arguments.uuid.as_deref(), Some("4dea22b3-1d52-d8f3-2516-782e98ab3fa0"));
    assert_eq!(arguments.memory.machine, Machine::Q35);
    assert_eq!(arguments.memory.main, [2048 * MIB]);
    assert!(!arguments.memory.has_slots && arguments.encryption.is_none());
}

#[test]
fn as_proxmox_starts_it() {
    let line = "/usr/bin/kvm -id 101 -name web,debug-threads=on -no-shutdown \
        -smbios type=1,uuid=3b8e5d10-5b06-4c12-8c35-7e4bd3d5b1a2 -smp 4 -m 4096 \
        -machine type=pc+pve0";
    let arguments = parse(line);
    assert_eq!(arguments.name.as_deref(), Some("web"));
    assert_eq!(arguments.uuid.as_deref(), Some("3b8e5d10-5b06-4c12-8c35-7e4bd3d5b1a2"));
    assert_eq!(arguments.memory.machine, Machine::Pc);
    assert_eq!(arguments.memory.main, [4096 * MIB]);
    assert_eq!(parse("/usr/bin/kvm -id 101").name.as_deref(), Some("101"));
}

#[test]
fn memory_in_nodes_and_slots() {
    let arguments = parse(
        "qemu-system-x86_64 -m size=512M,slots=4,maxmem=2G -M q35,max-ram-below-4g=1G \
         -object memory-backend-ram,id=d1,size=256M \
         -device pc-dimm,id=dimm1,memdev=d1,addr=0x100000000 \
         -object memory-backend-memfd,id=n1,size=300M \
         -object memory-backend-ram,id=n0,size=212M \
         -numa node,memdev=n1,nodeid=1 -numa node,nodeid=0,memdev=n0",
    );
    let expected = ExpectedMemory {
        machine: Machine::Q35,
        main: vec![212 * MIB, 300 * MIB],
        plugged: vec![MemoryDevice::new(256 * MIB, Some(1 << 32))],
        order: vec![Use::Plugged(0), Use::Main(1), Use::Main(0)],
        has_slots: true,
        slots: 4,
        maximum_bytes: 2048 * MIB,
        low_bytes_max: Some(1 << 30),
        ..ExpectedMemory::default()
    };
    assert_eq!(arguments.memory, expected);
    assert_eq!(parse("qemu-system-aarch64 -M virt,gic-version=3").memory.machine, Machine::Virt);
}

#[test]
fn a_value_that_looks_like_an_option_is_a_value() {
    let arguments = parse("q -name web -append -name -initrd db -kernel -uuid -m 512");
    assert_eq!(arguments.name.as_deref(), Some("web"));
    assert_eq!(arguments.memory.main, [512 * MIB]);
}

#[test]
fn an_nvdimm_has_labels_and_may_be_read_only() {
    let line = "q -m 2048M,slots=10,maxmem=4G -device nvdimm,id=nv0,memdev=mem0,unarmed=on \
        -object memory-backend-file,id=mem0,mem-path=/i,size=268435456,readonly=on \
        -object {\"qom-type\":\"memory-backend-file\",\"id\":\"n\",\"size\":536870912,\
        \"align\":2097152} \
        -device {\"driver\":\"nvdimm\",\"label-size\":131072,\"memdev\":\"n\"}";
    let image = MemoryDevice { is_read_only: true, ..MemoryDevice::new(256 * MIB, None) };
    let labelled = MemoryDevice {
        label_bytes: 128 << 10,
        alignment: Some(2 << 20),
        ..MemoryDevice::new(512 * MIB, None)
    };
    assert_eq!(parse(line).memory.plugged, [image, labelled]);
}

// system/vl.c, `qemu_create_cli_devices`: those in JSON are made last.
#[test]
fn devices_in_json_follow_all_others() {
    let line = "q -m 512 -object memory-backend-ram,id=a,size=128M \
        -object memory-backend-ram,id=b,size=256M \
        -device {\"driver\":\"pc-dimm\",\"memdev\":\"a\"} -device pc-dimm,memdev=b";
    let memory = parse(line).memory;
    let sizes: Vec<u64> = memory.plugged.iter().map(|device| device.bytes / MIB).collect();
    assert_eq!(sizes, [256, 128]);
    assert_eq!(memory.order, [Use::Plugged(1), Use::Plugged(0), Use::Main(0)]);
}

#[test]
fn names_are_merged_and_the_last_uuid_holds() {
    let name = |line: &str| parse(line).name;
    assert_eq!(name("q -name web -name debug-threads=on").as_deref(), Some("web"));
    assert_eq!(name("q -name web -name process=x,guest=db").as_deref(), Some("db"));
    assert_eq!(name("q -name foo=1").as_deref(), None);
    assert_eq!(name("q -name guest=foo=1,,bar=2,debug-threads=on").as_deref(), Some("foo=1,bar=2"));
    let [one, two] = ["1", "2"].map(|last| format!("4dea22b3-1d52-d8f3-2516-782e98ab3fa{last}"));
    let both = format!("q -uuid {one} -smbios type=1,uuid={two}");
    assert_eq!(parse(&both).uuid, Some(two.clone()));
    let both = format!("q -smbios type=1,uuid={two} -uuid {one} -smbios type=1,serial=7");
    assert_eq!(parse(&both).uuid, Some(one));
}

#[test]
fn devices_of_virtio_are_memory() {
    let memory = parse(
        "qemu-system-x86_64 -M q35 -m 512M,maxmem=4G -object memory-backend-ram,id=v,size=1G \
         -device virtio-mem-pci,id=vm0,memdev=v,requested-size=256M,addr=0x7,memaddr=0x140000000",
    )
    .memory;
    assert_eq!(memory.plugged, [MemoryDevice::new(1 << 30, Some(0x1_4000_0000))]);
    assert!(memory.has_slots);
}

#[test]
fn encryption_is_detected() {
    let check = |line: &str, expected| assert_eq!(parse(line).encryption, expected, "{line}");
    check("q -object sev-guest,id=s,cbitpos=47 -machine q35,memory-encryption=s", Some("AMD SEV"));
    check(
        "q -machine q35,confidential-guest-support=t \
         -object {\"qom-type\":\"tdx-guest\",\"id\":\"t\"}",
        Some("Intel TDX"),
    );
    check("q -object sev-snp-guest,id=s", Some("AMD SEV-SNP"));
    check("q -machine q35,confidential-guest-support=x", Some("confidential guest support"));
    check("q -name sev-guest -machine q35", None);
}

#[test]
fn commas_and_sizes_are_qemus() {
    assert_eq!(split_at_commas("a=b,,c,d"), ["a=b,c", "d"]);
    assert_eq!(size("512", MIB), Some(512 * MIB));
    assert_eq!(size("1.5G", 1), Some(1536 * MIB));
    assert_eq!(size("0x1000", MIB), Some(4096));
    for wrong in ["", "M", "-1", "1.2.3G", "99999999999999999T", "1Q", "18446744073709551616"] {
        assert_eq!(size(wrong, 1), None, "{wrong}");
    }
}

#[test]
fn a_hostile_name_is_made_harmless() {
    let arguments = Arguments::parse(b"q\0-name\0guest=a\x1b[2J\nb\xff,debug-threads=on\0");
    let name = arguments.name.unwrap();
    assert!(!name.chars().any(char::is_control), "{name:?}");
    let long = format!("q\0-name\0{}\0", "ä".repeat(9000));
    assert!(Arguments::parse(long.as_bytes()).name.unwrap().len() <= GUEST_NAME_BYTES_MAX);
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Arguments::parse(&bytes);
    }

    #[test]
    fn no_options_make_reading_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "-m", "-object", "-numa", "-device", "-machine", "-name", "-smbios", "memdev=a",
                "node,memdev=a,nodeid=9", "memory-backend-ram,id=a,size=1.99999T", "{\"a\":",
                "pc-dimm,memdev=a,addr=0xffffffffffffffff", ",,,", "=", "size=0x",
                "{\"size\":-1}",
            ]),
            0..20,
        )
    ) {
        let _ = Arguments::parse(words.join("\0").as_bytes());
    }
}
