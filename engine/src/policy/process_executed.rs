//! Reports that a process runs another program (`process_executed`, an addition to guide §10.1).

use arrayvec::ArrayVec;
use panoptes_records::activities::Activity;
use panoptes_records::json::text::Text;
use panoptes_records::record::process_executed::{self, ProcessExecutedDetails};
use panoptes_records::record::value::Objects;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::changes::describe_process;
use super::describe;
use super::write::EventSubject;
use crate::state::process::Process;
use crate::state::{MappedFiles, ScanContext};

/// Number of mapped files that a record lists.
const FILES_LISTED: usize = 64;

impl Reporter<'_> {
    /// Writes the record of an exec; `before` is the path of the previous program.
    pub(super) fn executed(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        before: Option<&[u8]>,
        mapped: MappedFiles<'_>,
    ) {
        let activity = Activity::ProcessExecuted;
        let details = describe_process(cx, process);
        if !self.is_wanted(activity)
            || !self.admits_child(cx, activity, details.process_parent_process_id)
        {
            return;
        }
        let mut files = ArrayVec::<_, FILES_LISTED>::new();
        let mut count = 0;
        for file in mapped.iter() {
            count += 1;
            let _ = files.try_push(process_executed::MappedFileDetails {
                file_path: file.path.map(Text::new),
                memory_permissions: describe::permissions(file.flags),
            });
        }
        let list = Objects::cut_if(&files, count > files.len());
        let executed = ProcessExecutedDetails {
            process_previous_executable_path: before.map(Text::new),
            process_mapped_files: (count > 0).then_some(list),
            process_mapped_files_count: (count > 0).then_some(count as u64),
        };
        let parents = [Details::Process(&details)];
        let record = Record::new(activity, Details::ProcessExecuted(&executed));
        self.write(cx, EventSubject::of(cx, process), &record.with_parents(&parents));
    }
}
