//! Checks whether a program was run with the arguments that it is meant to be run with.
//!
//! Command lines have the kernel's format: each argument is terminated by NUL.

/// Maximum number of an interpreter's arguments that may precede the program's own name.
const INTERPRETER_ARGUMENTS_MAX: usize = 4;

/// Whether a command line equals one of these lists. The program's own name may have a path or not.
pub fn is_among<'a>(line: &[u8], mut lists: impl Iterator<Item = &'a [u8]>) -> bool {
    lists.any(|list| is_same(arguments(line), arguments(list)))
}

/// Whether the command line of a container's first process matches the image's entrypoint and
/// command. Three differences are accepted:
///
/// * a script's command line begins with its interpreter;
/// * an entrypoint that is a script ends by running the command, so that only the command is left;
/// * `sh -c TEXT` may have replaced itself by a command of the text.
pub fn is_entrypoint(line: &[u8], entrypoint: &[u8]) -> bool {
    let mut expected = arguments(entrypoint);
    if let Some(text) = text_of_shell(entrypoint) {
        let name = arguments(line).next().map(base_name).unwrap_or_default();
        let is_in_text = |name: &[u8]| text.windows(name.len().max(1)).any(|part| part == name);
        if !name.is_empty() && is_in_text(name) {
            return true;
        }
    }
    loop {
        let mut actual = arguments(line);
        for _ in 0..=INTERPRETER_ARGUMENTS_MAX {
            if is_same(actual.clone(), expected.clone()) {
                return true;
            }
            if actual.next().is_none() {
                break;
            }
        }
        if expected.next().is_none() {
            return false;
        }
    }
}

/// Splits a line into its arguments.
pub fn arguments(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let count = if line.is_empty() { 0 } else { usize::MAX };
    line.split(|&byte| byte == 0).take(count)
}

/// The part after the last slash.
pub fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn is_same<'a>(
    mut actual: impl Iterator<Item = &'a [u8]>,
    mut expected: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let names = (actual.next().map(base_name), expected.next().map(base_name));
    matches!(names, (Some(actual), Some(expected)) if actual == expected) && actual.eq(expected)
}

/// Returns `TEXT` of `sh -c TEXT`.
fn text_of_shell(entrypoint: &[u8]) -> Option<&[u8]> {
    let mut all = arguments(entrypoint);
    let shell = base_name(all.next()?);
    let is_shell = matches!(shell, b"sh" | b"bash" | b"dash" | b"ash" | b"zsh");
    (is_shell && all.next()? == b"-c").then(|| all.next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<u8> {
        text.split(' ')
            .flat_map(|word| [word.replace('_', " ").as_bytes(), b"\0"].concat())
            .collect()
    }

    #[test]
    fn an_entrypoint_matches_the_forms_it_takes_when_run() {
        for (actual, entrypoint, expected) in [
            ("/bin/serve --now", "/bin/serve --now", true),
            ("serve --now", "/bin/serve --now", true),
            ("/bin/serve", "/bin/serve --now", false),
            ("/bin/serve --now --more", "/bin/serve --now", false),
            ("/bin/sh /entry.sh serve --now", "/entry.sh serve --now", true),
            ("/bin/sh -e /entry.sh serve --now", "/entry.sh serve --now", true),
            ("serve --now", "/entry.sh serve --now", true),
            ("serve --later", "/entry.sh serve --now", false),
            ("nc -l", "/entry.sh serve --now", false),
            ("node app.js", "/bin/sh -c exec_node_app.js", true),
            ("nc -l", "/bin/sh -c exec_node_app.js", false),
            ("/bin/sh -c exec_node_app.js", "/bin/sh -c exec_node_app.js", true),
        ] {
            let (actual, entrypoint) = (line(actual), line(entrypoint));
            let text = String::from_utf8_lossy(&actual).into_owned();
            assert_eq!(is_entrypoint(&actual, &entrypoint), expected, "{text:?}");
        }
        assert!(!is_entrypoint(b"", &line("serve")));
        assert!(!is_entrypoint(&line("serve"), b""));
    }

    #[test]
    fn a_list_is_compared_whole() {
        let lists = [line("tar -x"), line("tar -t")];
        let among = |text: &str| is_among(&line(text), lists.iter().map(Vec::as_slice));
        assert!(among("tar -x"));
        assert!(among("/bin/tar -t"));
        assert!(!among("tar -c"));
        assert!(!among("tar"));
        assert!(!among("tar -x -t"));
        assert!(!is_among(b"", lists.iter().map(Vec::as_slice)));
    }

    #[test]
    fn empty_arguments_count() {
        assert_eq!(arguments(b"a\0\0b\0").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
        assert_eq!(arguments(b"").count(), 0);
        assert_eq!(arguments(b"a").count(), 1);
    }
}
