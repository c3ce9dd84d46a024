//! `panoptes completions`: the scripts that shells read.
//!
//! The parser of the command line generates them. What only the machine knows is added here: the
//! names of its systems, which `panoptes systems` lists.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Arguments;

/// Names of systems in Bash. Names are claims of processes, so no shell may expand them.
const BASH: &str = include_str!("systems.bash");
const ZSH: &str = include_str!("systems.zsh");
const FISH: &str = include_str!("systems.fish");

/// The line of the script for zsh before which everything has to be defined.
const ZSH_START: &str = "if [ \"$funcstack[1]\" = \"_panoptes\" ]; then";
/// How the script for zsh begins arguments of which the last one may be repeated: no option is
/// completed behind the first of those.
const ZSH_LAST: &str = "'*::systems -- ";
/// The same, with options.
const ZSH_REPEATED: &str = "'*:systems -- ";
/// What the script for zsh offers for an argument of any form.
const ZSH_ANY: &str = ":_default'";

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "panoptes", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => format!("{script}\n{BASH}"),
        Shell::Zsh => of_zsh(&script),
        Shell::Fish => format!("{script}\n{FISH}"),
        _ => script.into_owned(),
    }
}

fn of_zsh(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines() {
        if line == ZSH_START {
            text.push_str(ZSH);
            text.push('\n');
        }
        let names = if line.contains("system -- System") || line.contains("systems -- System") {
            ":_panoptes_systems'"
        } else if line.contains("--limits=") {
            ":(small medium default)'"
        } else {
            ZSH_ANY
        };
        text.push_str(&line.replace(ZSH_ANY, names).replace(ZSH_LAST, ZSH_REPEATED));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use panoptes_bounded as bounded;

    use super::*;

    #[test]
    fn every_shell_is_offered_the_systems_of_the_machine() {
        for (shell, part) in [
            (Shell::Bash, "complete -F _panoptes_with_systems "),
            (Shell::Fish, "-a '(__panoptes_systems)'"),
        ] {
            assert!(script(shell).contains(part), "{shell}");
        }
        let zsh = script(Shell::Zsh);
        let defined = zsh.find("\n_panoptes_systems() {").unwrap();
        assert!(defined < zsh.find(ZSH_START).unwrap());
        assert_eq!(zsh.matches(":_panoptes_systems' ").count(), 2, "{zsh}");
        assert!(zsh.contains(":(small medium default)' "), "{zsh}");
        // Options follow the first system, too.
        assert!(zsh.contains("\n'*:systems -- ") && !zsh.contains("'*::systems"), "{zsh}");
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = script(shell);
            assert!(script.contains("check --json /etc/panoptes/panoptes.yaml"), "{shell}");
            assert!(script.contains("uuid:"), "{shell}");
        }
        assert!(script(Shell::Fish).contains("subcommand completions\" -f -a \"bash "));
    }

    /// What Bash offers for a line, with a program that lists three guests.
    fn offered(line: &str, before: &str, word: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        std::fs::write(&file, script(Shell::Bash)).unwrap();
        let listing = r#"{"systems":[{"name":"web-1","system":"qemu:7","uuid":"4dea"},
                          {"name":"we $(touch pwned)","system":"qemu:9","uuid":null}]}"#;
        let code = format!(
            "panoptes() {{ :; }}\n\
             . {}\n\
             _panoptes_listing() {{ printf '%s\\n' \"$LISTING\"; }}\n\
             COMP_LINE=$LINE COMP_POINT=${{#LINE}}\n\
             read -ra COMP_WORDS <<< \"$LINE\"\n\
             [[ $LINE == *' ' ]] && COMP_WORDS+=('')\n\
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _panoptes_with_systems panoptes \"$WORD\" \"$BEFORE\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let output = bounded::output(
            std::process::Command::new("bash")
                .args(["--norc", "-c", &code])
                .current_dir(folder.path())
                .env("LISTING", listing)
                .env("LINE", line)
                .env("WORD", word)
                .env("BEFORE", before),
        )
        .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!folder.path().join("pwned").exists(), "a name was executed");
        // Bash sorts what it offers.
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    #[test]
    fn bash_offers_names_of_guests_and_executes_none() {
        let hostile = r"we\ \$\(touch\ pwned\)";
        assert_eq!(offered("panoptes scan w", "scan", "w"), [hostile, "web-1"]);
        assert_eq!(offered("panoptes scan web", "scan", "web"), ["web-1"]);
        assert_eq!(offered("panoptes scan qemu:", "qemu", ""), ["7", "9"]);
        assert_eq!(offered("panoptes scan uuid:4", ":", "4"), ["4dea"]);
        assert_eq!(offered("panoptes watch --limits s", "--limits", "s"), ["small"]);
        let all = offered("panoptes watch ", "watch", "");
        assert!(["web-1", "qemu:7", "uuid:4dea"].iter().all(|one| all.contains(&(*one).into())));
        assert!(!offered("panoptes check w", "check", "w").contains(&"web-1".to_owned()));
    }
}
