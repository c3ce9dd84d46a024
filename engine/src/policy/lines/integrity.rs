//! The lines of the checks of the kernel's code: a verdict for each, then what violates them.

use panoptes_records::record::scan::ScanLine;

use super::{LineCounts, LineWriter, ScanLineEmitter};
use crate::kernel_code::{Check, CodeNames, ConfirmedViolation, Owner, RoundFacts, Violation};
use crate::policy::integrity::describe_check;
use crate::policy::kernel_code::{describe, is_alert};

impl LineWriter {
    /// Passes a line for each check, and then one for each violation, to `sink`. Stops at the
    /// sink's first error. `violations` are those of the same round; `names` names the addresses of
    /// one.
    pub fn write_integrity<'v, E>(
        &mut self,
        round: &RoundFacts,
        violations: impl Iterator<Item = &'v ConfirmedViolation> + Clone,
        names: &mut dyn FnMut(&Violation) -> CodeNames,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<LineCounts, E> {
        let Self { out, string_length, redactor, .. } = self;
        let (redactor, counts) = (redactor.as_mut(), LineCounts::default());
        let lines =
            &mut ScanLineEmitter { out, string_length: *string_length, redactor, counts, sink };
        for &check in Check::ALL {
            let of_check = violations.clone().map(|confirmed| &confirmed.violation);
            let mut of_check = of_check.filter(|violation| violation.check == check);
            // The facts count what nobody owns.
            let is_further = |violation: &Violation, names: &CodeNames| {
                violation.owner != Owner::Nobody && is_alert(violation, names)
            };
            let mut further = 0;
            for violation in of_check.by_ref() {
                further += u64::from(is_further(violation, &names(violation)));
            }
            lines.write(&ScanLine::new(&describe_check(check, &round.of(check), further)))?;
        }
        for ConfirmedViolation { violation, .. } in violations {
            let names = names(violation);
            if is_alert(violation, &names) {
                lines.write(&ScanLine::new(&describe(violation, &names)))?;
            }
        }
        Ok(lines.counts)
    }
}
