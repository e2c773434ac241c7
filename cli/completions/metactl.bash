# Completion of metactl for bash. What can be completed is known by `metactl complete`; here it only has
# to be handed over, and cut where bash breaks words (at `:` and `=`).
_metactl() {
    local line=${COMP_LINE:0:COMP_POINT} words current broken
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]} - 1]}
    mapfile -t COMPREPLY < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
    # What stands before the last break is on the line already.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then broken=${current%"${current##*:}"}; fi
    if [[ $current == *=* && $COMP_WORDBREAKS == *=* ]]; then broken=${current%"${current##*[:=]}"}; fi
    COMPREPLY=("${COMPREPLY[@]#"$broken"}")
    # More is to come behind these.
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=/] ]]; then compopt -o nospace; fi
}
complete -F _metactl metactl
