//! Whether a guest's processor can run a kernel that Panoptes reads, by QEMU's arguments.
//!
//! Not for: what kernel runs. A processor of 64 bits may run one of 32 bits: the search for the
//! kernel names that one.

/// QEMU's targets besides i386, x86_64 and aarch64 that run Linux (configs/targets).
const OTHER_TARGETS: [&str; 22] = [
    "alpha",
    "arm",
    "hppa",
    "loongarch64",
    "m68k",
    "microblaze",
    "microblazeel",
    "mips",
    "mips64",
    "mips64el",
    "mipsel",
    "or1k",
    "ppc",
    "ppc64",
    "riscv32",
    "riscv64",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc64",
    "xtensa",
];

/// QEMU's models of x86 processors without 64-bit mode (target/i386/cpu.c: no `CPUID_EXT2_LM`).
const X86_32: [&str; 9] =
    ["486", "athlon", "coreduo", "kvm32", "n270", "pentium", "pentium2", "pentium3", "qemu32"];

/// QEMU's models of Arm application processors without 64-bit mode (target/arm/tcg/cpu32.c).
const ARM_32: [&str; 4] = ["cortex-a15", "cortex-a7", "cortex-a8", "cortex-a9"];

/// The beginnings of the other models of that file. No model of 64 bits begins so.
const ARM_32_BEGINNINGS: [&str; 8] =
    ["arm10", "arm11", "arm9", "cortex-m", "cortex-r5", "pxa", "sa11", "ti925"];

/// Why no supported kernel can run in a guest; `None` if one can, or if that is not known.
///
/// `program` is the name of QEMU's program, `model` the value of its option `-cpu`.
pub(super) fn obstacle(program: &str, model: Option<&str>) -> Option<String> {
    const SUPPORTED: &str = "only amd64 and arm64 are supported";
    let target = program.rsplit_once("-system-").map(|(_, target)| target);
    // A program that was replaced has more words; one of a distribution, such as
    // `qemu-system-x86_64-microvm`, has a suffix.
    let target = target.and_then(|target| target.split([' ', '-']).next());
    if target == Some("i386") {
        return Some(format!("its processor has 32 bits: {SUPPORTED}"));
    }
    if let Some(other) = target.filter(|target| OTHER_TARGETS.contains(target)) {
        return Some(format!("its processor is of {other}: {SUPPORTED}"));
    }
    let model = model?;
    let (name, properties) = model.split_once(',').unwrap_or((model, ""));
    // A version of a model: `qemu32-v1`.
    let base = name.rsplit_once("-v").map_or(name, |(base, _)| base);
    let is_x86 = target != Some("aarch64") && X86_32.contains(&base);
    let is_arm = target == Some("aarch64")
        && (ARM_32.contains(&name)
            || ARM_32_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)));
    // Properties of a model of 64 bits (`x86_cpu_properties`, `aarch64_add_properties`).
    let is_off = properties
        .split(',')
        .any(|property| matches!(property, "lm=off" | "lm=no" | "-lm" | "aarch64=off"));
    let name = crate::config::printable(name);
    (is_x86 || is_arm || is_off).then(|| format!("its processor ({name}) has 32 bits: {SUPPORTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(program: &str, model: &str) -> bool {
        obstacle(program, Some(model).filter(|model| !model.is_empty())).is_some()
    }

    #[test]
    fn guests_with_a_processor_of_32_bits_are_known() {
        for (program, model) in [
            ("qemu-system-i386", ""),
            ("qemu-system-i386", "qemu64"),
            ("qemu-system-x86_64", "qemu32,+pae"),
            ("qemu-system-x86_64", "pentium3-v1"),
            ("qemu-system-x86_64 (deleted)", "kvm32"),
            ("kvm", "n270"),
            ("qemu-system-x86_64", "max,-lm"),
            ("qemu-system-aarch64", "cortex-a15"),
            ("qemu-system-aarch64", "cortex-a7,pmu=off"),
            ("qemu-system-aarch64", "cortex-r5f"),
            ("qemu-system-aarch64", "arm926"),
            ("qemu-system-aarch64", "host,aarch64=off"),
            ("qemu-system-arm", "cortex-a7"),
        ] {
            assert!(is_known(program, model), "{program} {model}");
        }
    }

    #[test]
    fn guests_of_other_architectures_are_named() {
        let text = obstacle("qemu-system-riscv64", None);
        let expected = "its processor is of riscv64: only amd64 and arm64 are supported";
        assert_eq!(text.as_deref(), Some(expected));
        assert!(is_known("/usr/bin/qemu-system-ppc64", "power9"));
    }

    #[test]
    fn guests_that_can_run_a_supported_kernel_have_no_obstacle() {
        for (program, model) in [
            ("qemu-system-x86_64", ""),
            ("qemu-system-x86_64", "max"),
            ("qemu-system-x86_64", "qemu64"),
            ("qemu-system-x86_64", "Skylake-Server-v4,+lm"),
            ("qemu-kvm", "host"),
            ("qemu-system-x86_64-microvm", "host"),
            ("qemu-system-mine", "host"),
            ("kvm", "host,migratable=on"),
            ("qemu-system-aarch64", "cortex-a72"),
            ("qemu-system-aarch64", "cortex-a57"),
            ("qemu-system-aarch64", "cortex-a710"),
            ("qemu-system-aarch64", "cortex-a76"),
            ("qemu-system-aarch64", "cortex-a78ae"),
            ("qemu-system-aarch64", "neoverse-n1"),
        ] {
            assert!(!is_known(program, model), "{program} {model}");
        }
    }
}
