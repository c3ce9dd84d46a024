//! Names of what a violation has as addresses.
//!
//! How a name is found is not known here: the caller has the kernel's symbols.

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;

use super::owners::Owner;
use super::violations::Violation;
use crate::walk::ModuleScan;

/// Maximum length of the name of an address in bytes.
const SYMBOL_BYTES_MAX: usize = 80;
/// Maximum length of the name of a module in bytes (`MODULE_NAME_LEN`, include/linux/module.h).
const MODULE_BYTES_MAX: usize = 56;

/// The name of an address: `x64_sys_call+0x12`.
pub type SymbolText = ArrayString<SYMBOL_BYTES_MAX>;

/// Names of the addresses of a violation; empty where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodeNames {
    /// The place that violates the check.
    pub place: SymbolText,
    /// The function that is hooked.
    pub function: SymbolText,
    /// Where the place leads.
    pub target: SymbolText,
    /// The module that owns the code.
    pub module: ArrayString<MODULE_BYTES_MAX>,
    /// Whether the kernel has verified the signature of that module (`sig_ok`).
    pub is_trusted: bool,
}

impl CodeNames {
    /// Names the addresses of a violation. `symbol` returns the name of an address, with an offset.
    pub fn of(
        violation: &Violation,
        modules: &ModuleScan,
        symbol: &mut dyn FnMut(KernelVa) -> Option<SymbolText>,
    ) -> Self {
        let mut name = |at: KernelVa| {
            let found = if at.is_null() { None } else { symbol(at) };
            found.unwrap_or_default()
        };
        let mut names = Self {
            place: name(violation.place),
            function: name(violation.function),
            target: name(violation.target),
            ..Self::default()
        };
        let Owner::Module(owner) = violation.owner else { return names };
        if let Some(row) = modules.rows.iter().find(|row| row.address == owner) {
            for &byte in row.module.name() {
                let letter = if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
                // A name is shorter than the room for it.
                let _ = names.module.try_push(letter);
            }
            names.is_trusted = row.module.is_signed == Some(true);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::module::Module;

    use super::*;
    use crate::kernel_code::Check;
    use crate::walk::ModuleRow;

    #[test]
    fn a_violation_has_the_names_of_its_addresses_and_of_its_owner() {
        let mut modules = ModuleScan::default();
        let mut module = Module { is_signed: Some(true), ..Module::default() };
        module.name[..4].copy_from_slice(b"nf\x1bs");
        let row = ModuleRow { address: KernelVa(7), module, ..ModuleRow::default() };
        modules.rows.push(row);
        let mut violation = Violation::new(Check::Kprobes, KernelVa(1), KernelVa(2));
        let mut symbol = |at: KernelVa| {
            assert!(!at.is_null());
            (at.0 == 1).then(|| SymbolText::from("here+0x1").unwrap())
        };
        let names = CodeNames::of(&violation, &modules, &mut symbol);
        assert_eq!((names.place.as_str(), names.target.as_str()), ("here+0x1", ""));
        assert!(names.module.is_empty() && !names.is_trusted);
        violation.owner = Owner::Module(KernelVa(7));
        let names = CodeNames::of(&violation, &modules, &mut symbol);
        assert_eq!((names.module.as_str(), names.is_trusted), ("nf?s", true));
        violation.owner = Owner::Module(KernelVa(8));
        assert!(!CodeNames::of(&violation, &modules, &mut symbol).is_trusted);
    }
}
