# Completion of metactl for fish. What can be completed is known by `metactl complete`.
complete -c metactl -f -a '(metactl complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
