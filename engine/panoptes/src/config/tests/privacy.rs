//! `output.redact` and `user_memory`.

use super::*;

fn warnings(text: &str) -> Vec<String> {
    let problems = read_file(text).1;
    assert!(problems.iter().all(|problem| problem.weight == Weight::Warning), "{problems:?}");
    Report { problems, ..Report::default() }.lines().map(|(_, line)| line).collect()
}

#[test]
fn patterns_are_refused_with_their_place_and_the_reason() {
    let text = "output:\n\
                \x20 redact:\n\
                \x20 - '--password[= ]([^ ]+)'\n\
                \x20 - 'a(b'\n\
                \x20 - 'a*'\n\
                \x20 - '(a+)(a+)'\n";
    check(
        text,
        &[
            "4:5: `output.redact`: `a(b` is not a regular expression: unclosed group",
            "5:5: `output.redact`: `a*` can match no text at all, so it would match everywhere; \
             write + in place of *",
            "6:5: `output.redact`: `(a+)(a+)` has a group with an ambiguous beginning or end; \
             what follows a repetition must differ from what is repeated, as in \
             --password=([^ ]+)",
        ],
    );
    let many = "a, ".repeat(65);
    check(
        &format!("output: {{redact: [{many}]}}"),
        &["1:18: `output.redact` has 65 patterns; at most 64 are possible"],
    );
    let output = good("output: {redact: ['key=(.+)', b]}").output;
    assert_eq!(output.redact.len(), 2);
    assert!(output.redactor().is_some() && OutputSettings::default().redactor().is_none());
}

#[test]
fn a_system_decides_what_is_read_of_the_memory_of_its_processes() {
    let text = "default: {user_memory: {shell_history: false}}\n\
                systems: {a: {system: /a}, b: {system: /b, user_memory: {shell_history: true, \
                command_lines: false}}}";
    let configuration = good(text);
    let [a, b] = &configuration.systems[..] else { panic!("two systems") };
    let of = |settings: &SystemSettings| {
        let UserMemory { command_lines, shell_history } = settings.user_memory;
        let is_reported = settings.events.is_enabled(Activity::ShellCommandExecuted);
        (command_lines, shell_history, is_reported)
    };
    assert_eq!(of(&configuration.default), (true, false, false));
    assert_eq!(of(&a.settings), (true, false, false));
    assert_eq!(of(&b.settings), (false, true, true));
}

#[test]
fn what_needs_memory_that_is_not_read_is_warned_of() {
    let off = "user_memory: {shell_history: false, command_lines: false}";
    assert_eq!(warnings(&format!("default: {{{off}}}")), Vec::<String>::new());
    let text = format!("default: {{{off}, events: {{shell_history_cleared: true}}}}");
    assert_eq!(
        warnings(&text),
        ["1:24: `default.events.shell_history_cleared` is true, but is never reported: \
          `default.user_memory.shell_history` is false"]
    );
    let wanted = "default: {events: {binary_executed_not_as_intended: true}}";
    assert_eq!(
        warnings(&format!("{wanted}\nsystems: {{a: {{system: /a, {off}}}}}")),
        ["2:40: `systems.a.events.binary_executed_not_as_intended` is true, but is never \
             reported: `systems.a.user_memory.command_lines` is false"]
    );
    let exception = "exceptions: [{activity: process_hidden, process_executable_path: /a/b, \
                     command_line: 'b *', reason: known}]";
    assert_eq!(warnings(exception), Vec::<String>::new());
    assert_eq!(
        warnings(&format!("default: {{{off}}}\n{exception}")),
        ["2:86: `exceptions[0].command_line` silences nothing where `user_memory.command_lines` \
          is false: arguments are not read there"]
    );
}
