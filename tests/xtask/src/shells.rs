//! `cargo xtask shells`: tests the records of shell history with every common bash.

use panoptes_rig::Flavor;
use panoptes_rig::scenarios::shells;

use crate::scenarios;

pub(crate) const USAGE: &str = "\
  shells [--kernel NAME] [--log-folder DIR] [--source DIR]… [NAME]…
        runs the scenarios of shell history (H01 …) in a guest (6.1) with bashes of Debian's
        releases, dynamic and static, one built with musl, and one with the system's readline; and
        compares Panoptes' records with bash's own history; --source: a folder with bash's source
        (any release), built in each of these ways, too; NAME: the beginning of a row's id (H03) or
        of a build's name (debian-5.3); other roots in the cache folder (shells/NAME/bin/bash) are
        tested as well
";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut flavor = Flavor::V6_1;
    let (mut names, mut sources, mut log_folder) = (Vec::new(), Vec::new(), None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().cloned().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--kernel" => flavor = Flavor::from_name(&value()?).map_err(|e| e.to_string())?,
            "--log-folder" => log_folder = Some(value()?.into()),
            "--source" => sources.push(value()?.into()),
            option if option.starts_with('-') => {
                return Err(format!("shells has no option {option:?}; see `cargo xtask help`"));
            }
            name => names.push(name.to_owned()),
        }
    }
    let mut choice = shells::choice(flavor, &names, &sources).map_err(|e| e.to_string())?;
    choice.log_folder = log_folder;
    scenarios::play(choice, &[flavor], false)
}
