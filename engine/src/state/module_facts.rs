//! Known facts of a kernel module, and those that have changed.

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::{MODULE_NAME_BYTES, ModuleStage};
use panoptes_decoders::layout::c_string;
use panoptes_decoders::maybe::MaybeU32;

use crate::walk::{ModuleBuildId, ModuleRow, ModuleViews};

/// Known facts of a kernel module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ModuleFacts {
    /// `struct module *`
    pub address: KernelVa,
    /// Name, NUL-padded.
    pub name: [u8; MODULE_NAME_BYTES],
    pub stage: ModuleStage,
    /// Size in bytes, as `/proc/modules` has it: with what is freed after its start.
    pub bytes: u64,
    /// The same without that, so that it does not change.
    pub core_bytes: u64,
    /// Address and size of its code.
    pub text: KernelVa,
    pub text_bytes: u32,
    /// Bits of `TAINT_*`.
    pub taints: u64,
    pub references: MaybeU32,
    /// Empty if it has none, or if that is unknown.
    pub source_version: ArrayString<40>,
    /// Empty if it has none, or if that is unknown.
    pub build_id: ModuleBuildId,
    /// Whether it has a valid signature, if the kernel notes that.
    pub is_signed: Option<bool>,
    /// The views that show it.
    pub views: ModuleViews,
    /// Complete views that must show it but do not.
    pub missing: ModuleViews,
}

impl ModuleFacts {
    /// The facts of a module in a read that has followed these views to their ends.
    pub fn read(row: &ModuleRow, complete: ModuleViews) -> Self {
        let module = &row.module;
        let text = module.text();
        Self {
            address: row.address,
            name: module.name,
            stage: module.stage,
            bytes: module.total_bytes,
            core_bytes: module.core_bytes(),
            text: text.base,
            text_bytes: text.size,
            taints: module.taints,
            references: module.references,
            source_version: row.source_version,
            build_id: row.build_id,
            is_signed: module.is_signed,
            views: row.views,
            missing: row.missing(complete),
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }

    /// What differs from earlier facts of the same module, as far as both are known.
    pub(super) fn changes_since(&self, before: &Self) -> ModuleChange {
        let (id, id_before) = (self.build_id.bytes(), before.build_id.bytes());
        let has_other_id = !id.is_empty() && !id_before.is_empty() && id != id_before;
        let (version, version_before) = (&*self.source_version, &*before.source_version);
        let are_known = !version.is_empty() && !version_before.is_empty();
        let has_other_version = are_known && version != version_before;
        let signature = self.is_signed.zip(before.is_signed);
        let differences = [
            (ModuleChange::NAME, self.name != before.name),
            (ModuleChange::SIZE, self.core_bytes != before.core_bytes),
            (ModuleChange::ADDRESS, self.text != before.text),
            (ModuleChange::TAINTS, self.taints != before.taints),
            (ModuleChange::SOURCE_VERSION, has_other_version),
            (ModuleChange::BUILD_ID, has_other_id),
            (ModuleChange::SIGNATURE, signature.is_some_and(|(now, before)| now != before)),
        ];
        let bits = differences.iter().filter(|(_, differs)| *differs).map(|(bit, _)| bit);
        ModuleChange(bits.fold(0, |all, bit| all | bit))
    }

    /// Keeps what this read does not know and an earlier one did.
    pub(super) fn keep_known(&mut self, before: &Self) {
        if self.source_version.is_empty() {
            self.source_version = before.source_version;
        }
        if self.build_id.bytes().is_empty() {
            self.build_id = before.build_id;
        }
        self.is_signed = self.is_signed.or(before.is_signed);
    }
}

/// What has changed of a module: a set of bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleChange(pub u16);

impl ModuleChange {
    pub const NAME: u16 = 1;
    /// The size of what stays in memory.
    pub const SIZE: u16 = 1 << 1;
    /// The address of its code.
    pub const ADDRESS: u16 = 1 << 2;
    pub const TAINTS: u16 = 1 << 3;
    pub const SOURCE_VERSION: u16 = 1 << 4;
    pub const BUILD_ID: u16 = 1 << 5;
    pub const SIGNATURE: u16 = 1 << 6;
    /// It lives, but its state says that it is not set up yet.
    pub const STATE: u16 = 1 << 7;

    /// Whether nothing has changed.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of these has changed.
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}
