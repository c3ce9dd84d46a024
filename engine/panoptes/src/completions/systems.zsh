_panoptes_listing() {
    command panoptes systems --json 2>/dev/null
    [[ -r /etc/panoptes/panoptes.yaml ]] &&
        command panoptes check --json /etc/panoptes/panoptes.yaml 2>/dev/null
}

# The names of the systems. Other programs choose them: compadd quotes them.
_panoptes_systems() {
    local -a systems
    systems=("${(@f)$(_panoptes_listing |
        grep -oE '"(name|system|uuid)":"[^"\\]+"' |
        sed -E 's/^"uuid":"(.*)"$/uuid:\1/; s/^"[a-z]+":"(.*)"$/\1/' | sort -u)}")
    compadd -- $systems
    _files
}
