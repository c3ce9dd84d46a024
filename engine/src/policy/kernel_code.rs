//! The alerts of what violates the integrity of the kernel's code: hooks, code without an owner,
//! and text that was modified.
//!
//! What a listed module hooks is an alert only if the function shows what a machine has, and the
//! kernel has not verified the module's signature.

use core::fmt::{self, Display, Write as _};

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_records::activities::Activity;
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::kernel_code::{KernelCodeDetails, KernelCodeOwner, KernelListing};
use panoptes_records::record::value::{Hex, MemoryAddress};
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::evidence::AlertEvidence;
use super::techniques::{HIDDEN_MODULE, ROOTKIT};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::kernel_code::{
    Check, CodeNames, ConfirmedViolation, Owner, Violation, ViolationKind, is_sensitive,
    is_sensitive_table, listing_of,
};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes: three symbols with their addresses, a module, a label and
/// all bytes of code.
const REASON_BYTES_MAX: usize = 800;

const LOOK_AT_TARGET: &str = "Take a dump of the machine before it reboots, and look in it at the \
                              code at kernel_code_target.";
const LOOK_AT_PLACE: &str = "Take a dump of the machine before it reboots, and look in it at the \
                             code at kernel_code_address.";
const COMPARE: &str = "Take a dump of the machine before it reboots, and compare the bytes with \
                       those of the kernel's package.";
const ASK_FOR_MODULE: &str = "Find out who loaded the module: if it is meant to do this, add an \
                              exception with kernel_module_name, and otherwise take a dump of the \
                              machine before it reboots.";

/// Whether a violation is an alert.
pub(super) fn is_alert(violation: &Violation, names: &CodeNames) -> bool {
    match (violation.check.kind(), violation.owner) {
        (ViolationKind::Hook, Owner::Module(_)) => {
            !names.is_trusted && is_sensitive_hook(violation.check, names)
        }
        _ => true,
    }
}

/// Whether what is hooked shows what a machine has.
fn is_sensitive_hook(check: Check, names: &CodeNames) -> bool {
    let is_way_of_all_calls = matches!(
        check,
        Check::SystemCallTables | Check::SystemCallDispatch | Check::InterruptDescriptors
    );
    is_way_of_all_calls || is_sensitive(&names.function) || is_in_sensitive_table(names)
}

/// Whether the place is in a table of functions that show something, which is not the table of the
/// module itself.
fn is_in_sensitive_table(names: &CodeNames) -> bool {
    let is_its_own = !names.module.is_empty() && names.place.contains(names.module.as_str());
    !is_its_own && is_sensitive_table(&names.place)
}

/// What a hook may falsify.
fn listing(violation: &Violation, names: &CodeNames) -> Option<KernelListing> {
    match violation.check {
        check if check.kind() != ViolationKind::Hook => None,
        Check::SystemCallTables | Check::SystemCallDispatch | Check::InterruptDescriptors => {
            Some(listing_of(&names.function).unwrap_or(KernelListing::SystemCalls))
        }
        _ if is_in_sensitive_table(names) => listing_of(&names.place),
        _ => listing_of(&names.function),
    }
}

/// Describes a violation, without when it was seen first.
pub(super) fn describe<'a>(
    violation: &'a Violation,
    names: &'a CodeNames,
) -> KernelCodeDetails<'a> {
    let text = |text: &'a str| (!text.is_empty()).then(|| Text::from(text));
    let address = |at: KernelVa| (!at.is_null()).then_some(MemoryAddress(at.0));
    let bytes = |bytes: &'a [u8]| (!bytes.is_empty()).then_some(Hex(bytes));
    KernelCodeDetails {
        kernel_code_check: violation.check.name(),
        kernel_code_address: MemoryAddress(violation.place.0),
        kernel_code_symbol: text(&names.place),
        kernel_code_label: text(&violation.label),
        kernel_code_function: text(&names.function),
        kernel_code_function_address: address(violation.function),
        kernel_code_listing: listing(violation, names),
        kernel_code_target: address(violation.target),
        kernel_code_target_symbol: text(&names.target),
        kernel_code_owner: Some(match violation.owner {
            Owner::Kernel | Owner::Trampoline | Owner::System => KernelCodeOwner::Kernel,
            Owner::Module(_) => KernelCodeOwner::Module,
            Owner::Bpf => KernelCodeOwner::Bpf,
            Owner::Nobody => KernelCodeOwner::Nobody,
        }),
        kernel_module_name: text(&names.module),
        kernel_code_bytes_before: bytes(&violation.before),
        kernel_code_bytes_after: bytes(&violation.after),
        kernel_code_first_seen: None,
        kernel_code_advice: Some(advice(violation)),
    }
}

/// What to do, in one sentence.
const fn advice(violation: &Violation) -> &'static str {
    match (violation.check.kind(), violation.owner) {
        (ViolationKind::Hook, Owner::Module(_)) => ASK_FOR_MODULE,
        (ViolationKind::Hook, _) => LOOK_AT_TARGET,
        (ViolationKind::CodeWithoutOwner, _) => LOOK_AT_PLACE,
        (ViolationKind::TextModified, _) => COMPARE,
    }
}

impl Reporter<'_> {
    /// Writes the alert of a violation, unless it is none.
    pub fn kernel_code(
        &mut self,
        cx: &ScanContext<'_>,
        confirmed: &ConfirmedViolation,
        names: &CodeNames,
    ) -> Acceptance {
        let ConfirmedViolation { ref violation, first_seen, rounds, .. } = *confirmed;
        if !is_alert(violation, names) {
            return Acceptance::Yes;
        }
        let since_ns = cx.now.real_of(first_seen);
        let details = KernelCodeDetails {
            kernel_code_first_seen: Some(Timestamp::from_ns(since_ns.ns())),
            ..describe(violation, names)
        };
        let activity = match violation.check.kind() {
            ViolationKind::Hook => Activity::KernelHookDetected,
            ViolationKind::CodeWithoutOwner => Activity::KernelCodeWithoutOwner,
            ViolationKind::TextModified => Activity::KernelTextModified,
        };
        let is_of_module = matches!(violation.owner, Owner::Module(_));
        // A listed module may be meant to do this.
        let (techniques, confidence) = if is_of_module {
            (HIDDEN_MODULE, Confidence::Medium)
        } else {
            (ROOTKIT, Confidence::High)
        };
        let sentence = reason(violation, names, rounds);
        let (reason, cause) = (sentence.as_str(), self.cause().of_code(violation, names));
        let evidence =
            AlertEvidence { reason, techniques, confidence, since_ns, scans: rounds, cause };
        let record = Record::new(activity, Details::KernelCode(&details));
        self.alert(cx, EventSubject::module(&names.module), &record, evidence)
    }
}

/// Why a violation is an alert. Text that does not fit is cut off.
fn reason(violation: &Violation, names: &CodeNames, rounds: u32) -> ArrayString<REASON_BYTES_MAX> {
    let mut out = ArrayString::new();
    // The whole sentence fits: see the test of the longest one.
    let _ = write_reason(&mut out, violation, names);
    // A command checks once.
    if rounds > 1 {
        let _ = write!(out, ", in {rounds} successive rounds");
    }
    if let Some(listing) = listing(violation, names) {
        let _ = write!(out, "; what the machine shows of {} may be wrong", words_of(listing));
    }
    out
}

fn write_reason(
    out: &mut impl fmt::Write,
    violation: &Violation,
    names: &CodeNames,
) -> fmt::Result {
    let Violation { check, place, .. } = *violation;
    let (at, from) = (located(place, &names.place), origin(violation));
    match check.kind() {
        ViolationKind::Hook => {
            if violation.function.is_null() {
                write!(out, "the place {at} ({from})")?;
            } else {
                let function = located(violation.function, &names.function);
                write!(out, "the function {function} is hooked ({from}): the place {at}")?;
            }
            write_target(out, violation, names)
        }
        ViolationKind::CodeWithoutOwner => {
            write!(out, "memory at {at} ({from}) ")?;
            match check {
                Check::WritableExecutablePages => {
                    out.write_str("is writable and executable at once")?;
                }
                Check::DirectMap => out.write_str("is executable in the direct map")?,
                _ => return out.write_str("is executable, and nobody owns it"),
            }
            match violation.owner {
                Owner::Module(_) => write!(out, ", in the module {}", names.module),
                _ => Ok(()),
            }
        }
        ViolationKind::TextModified => {
            let what = if check == Check::ReadOnlyData { "read-only data" } else { "code" };
            write!(out, "{what} at {at} ({from}) is not what it was")?;
            if !violation.after.is_empty() {
                let (before, after) = (bytes(&violation.before), bytes(&violation.after));
                write!(out, ": {before} before, {after} now")?;
            }
            if violation.target.is_null() { Ok(()) } else { write_target(out, violation, names) }
        }
    }
}

/// Where a place leads, and who owns that.
fn write_target(
    out: &mut impl fmt::Write,
    violation: &Violation,
    names: &CodeNames,
) -> fmt::Result {
    let target = located(violation.target, &names.target);
    let is_changed = violation.check.kind() == ViolationKind::TextModified;
    write!(out, "{} leads to {target}, ", if is_changed { "; it" } else { "" })?;
    match violation.owner {
        Owner::Nobody => out.write_str("code that nobody owns"),
        Owner::Module(_) if names.is_trusted => write!(out, "code of the module {}", names.module),
        Owner::Module(_) => write!(
            out,
            "code of the module {}, whose signature the kernel has not verified",
            names.module
        ),
        Owner::Bpf => out.write_str("code of a BPF program"),
        Owner::Kernel | Owner::Trampoline | Owner::System => {
            out.write_str("code of the kernel that it should not lead to")
        }
    }
}

/// What a listing has, in words.
const fn words_of(listing: KernelListing) -> &'static str {
    match listing {
        KernelListing::SystemCalls => "anything",
        KernelListing::Files => "files and of /proc",
        KernelListing::Processes => "processes",
        KernelListing::Sockets => "sockets and packets",
        KernelListing::Modules => "modules and hooks",
        KernelListing::Logs => "its logs",
        KernelListing::Bpf => "BPF programs",
    }
}

/// An address with its symbol, if it has one.
fn located(at: KernelVa, symbol: &str) -> impl Display {
    fmt::from_fn(move |f| match symbol {
        "" => write!(f, "{at}"),
        symbol => write!(f, "{symbol} ({at})"),
    })
}

/// The check, and what it says of the place.
fn origin(violation: &Violation) -> impl Display {
    fmt::from_fn(|f| {
        f.write_str(violation.check.name())?;
        match violation.label.as_str() {
            "" => Ok(()),
            label => write!(f, ", {label}"),
        }
    })
}

/// Bytes of code in hex.
fn bytes(bytes: &[u8]) -> impl Display {
    fmt::from_fn(|f| bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_code::SymbolText;

    const PLACE: KernelVa = KernelVa(0xffff_8880_1234_5018);
    const TARGET: KernelVa = KernelVa(0xffff_ffff_c0a1_b000);
    const FUNCTION: KernelVa = KernelVa(0xffff_ffff_8123_4560);

    fn violation(check: Check, owner: Owner) -> Violation {
        Violation { owner, ..Violation::new(check, PLACE, TARGET) }
    }

    fn symbol(text: &str) -> SymbolText {
        SymbolText::from(text).unwrap()
    }

    fn of_function(function: &str) -> CodeNames {
        CodeNames { function: symbol(function), ..CodeNames::default() }
    }

    #[test]
    fn a_listed_module_may_hook_what_shows_nothing() {
        let module = Owner::Module(KernelVa(7));
        let hook = violation(Check::FtraceHandlers, module);
        assert!(is_alert(&hook, &of_function("__x64_sys_getdents64")));
        assert!(!is_alert(&hook, &of_function("ip_rcv")));
        assert!(!is_alert(&hook, &CodeNames::default()));
        let trusted = CodeNames { is_trusted: true, ..of_function("__x64_sys_getdents64") };
        assert!(!is_alert(&hook, &trusted));
        let in_table = CodeNames { place: symbol("tcp4_seq_ops+0x18"), ..CodeNames::default() };
        assert!(is_alert(&hook, &in_table));
        // A table of its own is no hook.
        let name = ArrayString::from("af_packet").unwrap();
        let place = symbol("packet_seq_ops+0x18 [af_packet]");
        assert!(!is_alert(&hook, &CodeNames { place, module: name, ..CodeNames::default() }));
        // No module has anything to do there.
        let call = violation(Check::SystemCallDispatch, module);
        assert!(is_alert(&call, &CodeNames::default()));
    }

    #[test]
    fn what_nobody_owns_is_an_alert_whatever_it_is() {
        let trusted = CodeNames { is_trusted: true, ..CodeNames::default() };
        for &check in Check::ALL {
            assert!(is_alert(&violation(check, Owner::Nobody), &trusted), "{check:?}");
        }
        let modified = violation(Check::KernelText, Owner::Module(KernelVa(7)));
        assert!(is_alert(&modified, &trusted));
    }

    #[test]
    fn the_reason_of_a_hook_has_all_its_addresses() {
        let mut hook = violation(Check::FtraceHandlers, Owner::Nobody);
        hook.label.push_str("a filter");
        hook.function = FUNCTION;
        let names = of_function("__x64_sys_kill");
        assert_eq!(
            reason(&hook, &names, 2).as_str(),
            "the function __x64_sys_kill (0xffffffff81234560) is hooked (ftrace_handlers, a \
             filter): the place 0xffff888012345018 leads to 0xffffffffc0a1b000, code that nobody \
             owns, in 2 successive rounds; what the machine shows of processes may be wrong"
        );
        let pointer = violation(Check::ProcFiles, Owner::Bpf);
        let names = CodeNames { place: symbol("tcp4_seq_ops+0x18"), ..CodeNames::default() };
        assert_eq!(
            reason(&pointer, &names, 1).as_str(),
            "the place tcp4_seq_ops+0x18 (0xffff888012345018) (proc_files) leads to \
             0xffffffffc0a1b000, code of a BPF program; what the machine shows of sockets and \
             packets may be wrong"
        );
    }

    #[test]
    fn the_reason_of_code_says_what_is_wrong_with_it() {
        let names = CodeNames { place: symbol("x64_sys_call+0x12"), ..CodeNames::default() };
        let mut changed = violation(Check::KernelText, Owner::Nobody);
        changed.before.extend([0xe8, 0x01]);
        changed.after.extend([0xe8, 0x02]);
        assert_eq!(
            reason(&changed, &names, 1).as_str(),
            "code at x64_sys_call+0x12 (0xffff888012345018) (kernel_text) is not what it was: e801 \
             before, e802 now; it leads to 0xffffffffc0a1b000, code that nobody owns"
        );
        let page = violation(Check::ExecutablePages, Owner::Nobody);
        assert_eq!(
            reason(&page, &CodeNames::default(), 2).as_str(),
            "memory at 0xffff888012345018 (executable_pages) is executable, and nobody owns it, \
             in 2 successive rounds"
        );
    }

    #[test]
    fn the_longest_reason_fits() {
        let long = |length| "x".repeat(length);
        let [place, target] = [(); 2].map(|()| symbol(&long(80)));
        let function = symbol(&format!("tcp4_seq_{}", long(71)));
        let module = ArrayString::from(&long(56)).unwrap();
        let names = CodeNames { place, function, target, module, is_trusted: false };
        for &check in Check::ALL {
            let mut violation = violation(check, Owner::Module(KernelVa(7)));
            violation.label.push_str(&long(48));
            violation.function = FUNCTION;
            violation.before.extend([0xff; 16]);
            violation.after.extend([0xff; 16]);
            let sentence = reason(&violation, &names, u32::MAX);
            let end = if check.kind() == ViolationKind::Hook { " may be wrong" } else { " rounds" };
            assert!(sentence.ends_with(end), "{sentence}");
        }
    }
}
