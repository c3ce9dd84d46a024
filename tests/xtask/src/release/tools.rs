//! Programs of crates that make parts of a release, beside cargo-deb.

use crate::compiled_tool::CompiledTool;

pub(super) const MDBOOK: CompiledTool = CompiledTool { name: "mdbook", version: "0.5.4" };
pub(super) const GENERATE_RPM: CompiledTool =
    CompiledTool { name: "cargo-generate-rpm", version: "0.21.1" };
pub(super) const CYCLONEDX: CompiledTool =
    CompiledTool { name: "cargo-cyclonedx", version: "0.5.9" };

#[cfg(test)]
mod tests {
    use panoptes_needs::{Need, Without};

    use super::*;

    #[test]
    fn tools_of_a_release_have_rows() {
        for tool in [MDBOOK, GENERATE_RPM, CYCLONEDX] {
            let need = Need::of(tool.name).expect("the table has it");
            assert_eq!(need.without, Without::Compile, "{}", tool.name);
        }
    }
}
