# The names of the systems. Other programs choose them: fish quotes them.
function __panoptes_systems
    command panoptes systems --json 2>/dev/null |
        string match --regex --all --groups-only '"(?:name|system|uuid)":"([^"\\\\]+)"' | sort -u
end

complete -c panoptes -n "__fish_panoptes_using_subcommand scan" -a '(__panoptes_systems)'
complete -c panoptes -n "__fish_panoptes_using_subcommand watch" -a '(__panoptes_systems)'
complete -c panoptes -n "__fish_panoptes_using_subcommand scan" -l limits -x -a "small medium default"
complete -c panoptes -n "__fish_panoptes_using_subcommand watch" -l limits -x -a "small medium default"
