//! `package_details` (not in the guide).

use crate::json::text::Text;

use super::macros::details;
use super::value::Objects;

details! {
    /// What a package manager's processes wrote.
    pub struct PackageDetails<'a> "package_details" {
        /// Path of the package manager's executable.
        package_program: Option<Text<'a>>,
        /// How many files that matter were changed, with those that are not listed.
        package_file_count: u64,
        /// The files, in the order in which they were closed; the first ones if there are many.
        package_files: Objects<'a, PackageFile<'a>>,
    }
}

details! {
    pub struct PackageFile<'a> "package_file" {
        /// The path under which it was written; package managers rename files later.
        file_path: Text<'a>,
    }
}
