function __panoptes_listing
    command panoptes systems --json 2>/dev/null
    test -r /etc/panoptes/panoptes.yaml
    and command panoptes check --json /etc/panoptes/panoptes.yaml 2>/dev/null
end

# The names of the systems. Other programs choose them: fish quotes them.
function __panoptes_systems
    __panoptes_listing | string replace --all '"uuid":"' '"uuid":"uuid:' |
        string match --regex --all --groups-only '"(?:name|system|uuid)":"([^"\\\\]+)"' | sort -u
end

complete -c panoptes -n "__fish_panoptes_using_subcommand scan" -a '(__panoptes_systems)'
complete -c panoptes -n "__fish_panoptes_using_subcommand watch" -a '(__panoptes_systems)'
complete -c panoptes -n "__fish_panoptes_using_subcommand scan" -l limits -x -a "small medium default"
complete -c panoptes -n "__fish_panoptes_using_subcommand watch" -l limits -x -a "small medium default"
complete -c panoptes -n "__fish_panoptes_using_subcommand completions" -f -a "bash elvish fish powershell zsh"
