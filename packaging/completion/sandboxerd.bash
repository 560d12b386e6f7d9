# bash completion of sandboxerd. Made by test/unit/packaging/completions.test.ts: vitest -u writes it anew.

_sandboxerd() {
  local at=$COMP_CWORD offered=''
  local current=${COMP_WORDS[at]}
  case ${COMP_WORDS[at - 1]} in
    --config)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      compopt -o filenames
      return
      ;;
    --set | --prepare-downgrade) return ;;
  esac
  local after=''
  case $after in
    '') offered='--config --set --check-config --print-default-config --prepare-downgrade --version --help' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$current")
}
complete -F _sandboxerd sandboxerd
