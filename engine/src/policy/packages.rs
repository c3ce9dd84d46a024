//! Records of what package managers wrote.

use arrayvec::ArrayVec;
use panoptes_records::activities::Activity;
use panoptes_records::record::package::{PackageDetails, PackageFile};
use panoptes_records::record::value::Objects;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::file_content::packages::{FILES_MAX, PackageFiles};
use crate::state::ScanContext;

impl Reporter<'_> {
    /// Reports the files that a package manager's processes wrote.
    pub(super) fn package_files(
        &mut self,
        cx: &ScanContext<'_>,
        found: &PackageFiles<'_>,
    ) -> Acceptance {
        let activity = Activity::PackageFilesChanged;
        if !self.is_wanted(activity) {
            return Acceptance::Yes;
        }
        let names = found.files.iter().map(|&id| found.strings.get(id));
        let files: ArrayVec<PackageFile<'_>, FILES_MAX> =
            names.map(|name| PackageFile { file_path: name.into() }).collect();
        let details = PackageDetails {
            package_program: found.process.executable.map(Into::into),
            package_file_count: found.count,
            package_files: Objects::new(&files),
        };
        let process = describe::process(&found.process, cx.snapshot.machine.tsc_khz);
        let parents = [Details::Process(&process)];
        let record = Record::new(activity, Details::Package(&details)).with_parents(&parents);
        self.try_write(cx, EventSubject::process(&found.process), &record)
    }
}
