_panoptes_listing() {
    command panoptes systems --json 2>/dev/null
    [[ -r /etc/panoptes/panoptes.yaml ]] &&
        command panoptes check --json /etc/panoptes/panoptes.yaml 2>/dev/null
}

# The names of the systems, one a line. Other programs choose them: nothing may expand them.
_panoptes_systems() {
    local text pattern='"(name|system|uuid)":"([^"\\]+)"(.*)' seen=$'\n' name
    while IFS= read -r text || [[ -n $text ]]; do
        while [[ $text =~ $pattern ]]; do
            name=${BASH_REMATCH[2]}
            [[ ${BASH_REMATCH[1]} == uuid ]] && name=uuid:$name
            text=${BASH_REMATCH[3]}
            [[ $seen == *$'\n'"$name"$'\n'* ]] && continue
            seen+=$name$'\n'
            printf '%s\n' "$name"
        done
    done < <(_panoptes_listing)
}

_panoptes_with_systems() {
    _panoptes "$@"
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:space:]]}
    # Bash breaks words at colons, and replaces only what follows the last one.
    local colon=""
    [[ $COMP_WORDBREAKS == *:* ]] && colon=${word%"${word##*:}"}
    line=${line%"$word"}
    local words before name
    read -ra words <<< "$line"
    before=${words[${#words[@]} - 1]}
    if [[ $before == --limits ]]; then
        COMPREPLY=()
        for name in small medium default; do
            [[ $name == "$word"* ]] && COMPREPLY+=("$name")
        done
        return 0
    fi
    case "${COMP_WORDS[1]} $before" in
        "flow --system") ;;
        scan\ -* | watch\ -*) return 0 ;;
        scan\ * | watch\ *) [[ $word == -* ]] && return 0 ;;
        *) return 0 ;;
    esac
    # Without this, options follow the colon.
    [[ -n $colon ]] && COMPREPLY=()
    while IFS= read -r name; do
        if [[ -n $name && $name == "$word"* ]]; then
            printf -v name %q "${name#"$colon"}"
            COMPREPLY+=("$name")
        fi
    done < <(_panoptes_systems)
    # Files have names, too.
    if [[ ${#COMPREPLY[@]} -gt 0 && -n $word && -z $colon ]]; then
        while IFS= read -r name; do
            [[ -d $name ]] && name+=/
            printf -v name %q "$name"
            COMPREPLY+=("$name")
        done < <(compgen -f -- "$word")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -F _panoptes_with_systems -o bashdefault -o default panoptes
