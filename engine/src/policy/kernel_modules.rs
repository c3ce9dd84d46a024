//! The records of kernel modules: those that come, go or change, and those that are hidden.
//!
//! Only root loads modules, and the kernel takes its time for each. But an attacker who writes to
//! the kernel's memory can make many appear in every scan. So the events of all modules together
//! are counted as those of a process are ([`super::kernel_events`]).

use core::fmt::Write as _;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::module::MODULE_NAME_BYTES;
use panoptes_records::activities::Activity;
use panoptes_records::json::text::Text;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::kernel_module::{KernelModuleAttribute, KernelModuleDetails};
use panoptes_records::record::{Details, Record};

use super::changes::describe_process;
use super::evidence::AlertEvidence;
use super::module_words::{ModuleWords, names_of};
use super::techniques::HIDDEN_MODULE;
use super::write::EventSubject;
use super::{Reporter, describe};
use crate::detect::Acceptance;
use crate::state::modules::{ModuleChange, ModuleFacts};
use crate::state::process::Process;
use crate::state::{Change, ScanContext};
use crate::time::RealTime;

/// Maximum length of the reason in bytes: each byte of the name is written as `\x00` at worst, and
/// every view is named once.
const REASON_BYTES_MAX: usize = 4 * MODULE_NAME_BYTES + 384;

/// Each change with the attribute that it is of.
const ATTRIBUTES: [(u16, KernelModuleAttribute); KernelModuleAttribute::ALL.len()] = [
    (ModuleChange::NAME, KernelModuleAttribute::Name),
    (ModuleChange::SIZE, KernelModuleAttribute::Size),
    (ModuleChange::ADDRESS, KernelModuleAttribute::Address),
    (ModuleChange::TAINTS, KernelModuleAttribute::Taints),
    (ModuleChange::SOURCE_VERSION, KernelModuleAttribute::SourceVersion),
    (ModuleChange::BUILD_ID, KernelModuleAttribute::BuildId),
    (ModuleChange::SIGNATURE, KernelModuleAttribute::Signature),
    (ModuleChange::STATE, KernelModuleAttribute::State),
];

impl Reporter<'_> {
    /// Reports a change of a module.
    pub(super) fn module(&mut self, cx: &ScanContext<'_>, change: &Change<'_>) {
        match *change {
            Change::ModuleLoaded { module, process } => {
                self.module_event(cx, Activity::KernelModuleLoaded, module, process);
            }
            Change::ModuleUnloaded { module, process } => {
                self.module_event(cx, Activity::KernelModuleUnloaded, module, process);
            }
            Change::ModuleChanged { module, before, what } => {
                self.module_changed(cx, module, before, what);
            }
            Change::ModuleHidden { module, missing, shown, scans, since_ns, is_accepted } => {
                let module = ModuleFacts { missing, views: shown, ..*module };
                let accepted = self.module_hidden(cx, &module, (scans, since_ns));
                is_accepted.set(accepted == Acceptance::Yes);
            }
            _ => {}
        }
    }

    /// Reports that a module was loaded or unloaded.
    fn module_event(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        module: &ModuleFacts,
        process: Option<&Process>,
    ) {
        if !self.is_wanted(activity) || !self.policy.kernel_events.admit(activity) {
            return;
        }
        let words = ModuleWords::of(module);
        let details = describe::kernel_module(module, &words);
        let described = process.map(|process| describe_process(cx, process));
        let parent = described.as_ref().map(Details::Process);
        let record = Record::new(activity, Details::KernelModule(&details));
        let of_process = process.map(|process| EventSubject::of(cx, process));
        self.write(cx, of_process.unwrap_or_default(), &record.with_parents(parent.as_slice()));
    }

    /// Reports that something of a module is not as it was, although nothing of it ever changes.
    fn module_changed(
        &mut self,
        cx: &ScanContext<'_>,
        module: &ModuleFacts,
        before: &ModuleFacts,
        what: ModuleChange,
    ) {
        let activity = Activity::KernelModuleChanged;
        if !self.is_wanted(activity) || !self.policy.kernel_events.admit(activity) {
            return;
        }
        let (words, old) = (ModuleWords::of(module), ModuleWords::of(before));
        let changed = ATTRIBUTES.iter().filter(|(bit, _)| what.has(*bit));
        let changed: ArrayVec<KernelModuleAttribute, { ATTRIBUTES.len() }> =
            changed.map(|(_, attribute)| *attribute).collect();
        let previous = |bit, text| what.has(bit).then_some(text);
        let details = KernelModuleDetails {
            kernel_module_changed: Some(&changed),
            kernel_module_previous_name: previous(ModuleChange::NAME, Text::new(before.name())),
            kernel_module_previous_taints: previous(
                ModuleChange::TAINTS,
                Text::new(old.taints.as_bytes()),
            ),
            kernel_module_previous_source_version: previous(
                ModuleChange::SOURCE_VERSION,
                Text::new(before.source_version.as_bytes()),
            ),
            ..describe::kernel_module(module, &words)
        };
        let record = Record::new(activity, Details::KernelModule(&details));
        self.write(cx, EventSubject::default(), &record);
    }

    /// Writes the alert of a module that views do not show which must show it.
    fn module_hidden(
        &mut self,
        cx: &ScanContext<'_>,
        module: &ModuleFacts,
        (scans, since_ns): (u32, RealTime),
    ) -> Acceptance {
        let words = ModuleWords::of(module);
        let details = describe::kernel_module(module, &words);
        let record = Record::new(Activity::KernelModuleHidden, Details::KernelModule(&details));
        let sentence = reason(module, scans);
        let (reason, techniques) = (sentence.as_str(), HIDDEN_MODULE);
        let (confidence, cause) = (Confidence::High, self.cause().of_module(module));
        let evidence = AlertEvidence { reason, techniques, confidence, since_ns, scans, cause };
        self.alert(cx, EventSubject::default(), &record, evidence)
    }
}

/// Why a module is hidden: the views that do not show it, and those that do.
fn reason(module: &ModuleFacts, scans: u32) -> ArrayString<REASON_BYTES_MAX> {
    let mut reason = ArrayString::new();
    let ModuleFacts { text, text_bytes, .. } = *module;
    // The whole sentence fits: see the test of all views.
    let _ = write!(
        reason,
        "the module {} ({text_bytes} bytes of code at {text}) is not in {}, but in {}",
        module.name().escape_ascii(),
        names_of(module.missing, " or "),
        names_of(module.views, " and ")
    );
    // A copy of memory shows it once.
    if scans > 1 {
        let _ = write!(reason, ", in {scans} scans in a row");
    }
    reason
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;
    use panoptes_decoders::kernel::module::{Module, ModulePart};

    use super::*;
    use crate::walk::{ModuleRow, ModuleViews, module_view};

    const ALL: ModuleViews = ModuleViews(module_view::LIST | module_view::TREE | module_view::KSET);

    /// A live module in these views, all of which were read.
    fn module(name: &[u8], views: u16) -> ModuleFacts {
        let taints = 1 << 12 | 1 << 13 | 1 << 9;
        let mut module = Module { taints, ..Module::default() };
        module.name[..name.len()].copy_from_slice(name);
        module.parts[0] = ModulePart { base: KernelVa(0xffff_ffff_c000_0000), size: 16_384 };
        let row = ModuleRow { module, views: ModuleViews(views), ..ModuleRow::default() };
        ModuleFacts::read(&row, ALL)
    }

    #[test]
    fn the_reason_names_all_views() {
        let hidden = module(b"dummy\n", module_view::TREE);
        assert_eq!(
            reason(&hidden, 2).as_str(),
            "the module dummy\\n (16384 bytes of code at 0xffffffffc0000000) is not in the \
             kernel's list of modules or /sys/module, but in the tree of the addresses of modules, \
             in 2 scans in a row"
        );
        assert!(reason(&hidden, 1).ends_with("addresses of modules"));
    }

    #[test]
    fn the_longest_reason_fits() {
        let hidden = module(&[0xff; MODULE_NAME_BYTES - 1], module_view::TREE);
        let (text, text_bytes) = (KernelVa(u64::MAX), u32::MAX);
        let hidden = ModuleFacts { text, text_bytes, views: ALL, missing: ALL, ..hidden };
        let sentence = reason(&hidden, u32::MAX);
        assert!(sentence.ends_with(", in 4294967295 scans in a row"), "{sentence}");
    }
}
