# fish completion of sandboxerd. Made by test/unit/packaging/completions.test.ts: vitest -u writes it anew.

complete -c sandboxerd -f
complete -c sandboxerd -l config -r -F -d 'read PATH; it must exist'
complete -c sandboxerd -l set -x -d 'set one key over the file'
complete -c sandboxerd -l check-config -d 'check the configuration and whether this machine fits it, then exit'
complete -c sandboxerd -l print-default-config -d 'print the embedded defaults as a configuration file, then exit'
complete -c sandboxerd -l prepare-downgrade -x -d 'bring the database down to schema version N, for an older sandboxerd that is to be installed, then exit; no sandboxerd may run (pods may)'
complete -c sandboxerd -l version -d 'print the version, then exit'
complete -c sandboxerd -l help -d 'print this, then exit'
