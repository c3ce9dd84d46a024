//! Profile files: a file that is read and written again is the same.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::ProfileFile;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = ProfileFile::parse(data) else { return };
    let again = ProfileFile::parse(&file.to_bytes()).expect("what was written can be read");
    assert_eq!(file, again);
    assert_eq!(file.symbols().count(), again.symbols().count());
    assert!(file.members().iter().eq(again.members().iter()));
});
