//! Configurations of `panoptes run`: any text is read, or refused with places in it.
#![cfg_attr(fuzzing, no_main)]

use std::path::Path;

use panoptes::config::{ConfigLocation, Mode, Overrides, Weight, read};
use panoptes_fuzz::fuzz_target;

// The command that reads the text, and the text.
fuzz_target!(|data: &[u8]| {
    let Some((&mode, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let modes = [Mode::Run, Mode::Watch, Mode::Scan, Mode::Test];
    let mode = modes[usize::from(mode) % modes.len()];
    let (_, problems) = read(&text, Path::new("/none"), mode, &Overrides::default());
    // A carriage return alone ends a line of YAML, and the end of the text is on one of its own.
    let lines = 2 + text.matches(['\n', '\r']).count();
    for problem in &problems {
        let message = &problem.message;
        assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
        if let Some(ConfigLocation::File { line, column }) = problem.place {
            assert!((1..=lines).contains(&line) && column > 0, "{line}:{column}: {message}");
        }
    }
    let has_errors = problems.iter().any(|problem| problem.weight == Weight::Error);
    assert!(!has_errors || problems.iter().all(|problem| problem.weight == Weight::Error));
});
