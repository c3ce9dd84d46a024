//! The lines of the checks of the kernel's code: a verdict for each, then what violates them.

use panoptes_records::record::scan::ScanLine;

use super::{LineCounts, LineWriter, ScanLineEmitter};
use crate::kernel_code::{
    Check, CodeNames, ConfirmedViolation, Owner, RoundFacts, VIOLATIONS_MAX, Violation,
    ViolationKind,
};
use crate::policy::integrity::{CheckViolations, describe_check};
use crate::policy::kernel_code::{describe, is_alert};

impl LineWriter {
    /// Passes a line for each check, and then one for each violation, to `sink`. Stops at the
    /// sink's first error. `violations` are those that enough rounds have seen; `names` names the
    /// addresses of one.
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
        // What finds no room among those that are tracked is not confirmed by any.
        let is_full = violations.clone().count() >= VIOLATIONS_MAX;
        for &check in Check::ALL {
            let of_check = violations.clone().map(|confirmed| &confirmed.violation);
            let mut seen = CheckViolations { further: 0, is_confirmed: is_full };
            for violation in of_check.filter(|violation| violation.check == check) {
                if is_alert(violation, &names(violation)) {
                    seen.is_confirmed = true;
                    // The facts count what nobody owns, and modified code.
                    let is_counted = violation.owner == Owner::Nobody
                        || check.kind() == ViolationKind::TextModified;
                    seen.further += u64::from(!is_counted);
                }
            }
            lines.write(&ScanLine::new(&describe_check(check, &round.of(check), seen)))?;
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
