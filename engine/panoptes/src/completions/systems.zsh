# The names of the systems. Other programs choose them: compadd quotes them.
_panoptes_systems() {
    local -a systems
    systems=("${(@f)$(command panoptes systems --json 2>/dev/null |
        grep -oE '"(name|system|uuid)":"[^"\\]+"' |
        sed -E 's/^"uuid":"(.*)"$/uuid:\1/; s/^"[a-z]+":"(.*)"$/\1/' | sort -u)}")
    compadd -- $systems
    _files
}
