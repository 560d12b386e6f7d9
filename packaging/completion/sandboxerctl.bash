# bash completion of sandboxerctl. Made by test/unit/packaging/completions.test.ts: vitest -u writes it anew.

_sandboxerctl() {
  local at=$COMP_CWORD offered=''
  local current=${COMP_WORDS[at]}
  case ${COMP_WORDS[at - 1]} in
    --config | --socket | --auth-file | -o | --output)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      compopt -o filenames
      return
      ;;
    --set | -n | --namespace | --interval | --user | --pods | --concurrency | --handler | --image | --timeout) return ;;
  esac
  local after='' skip='' word
  for word in "${COMP_WORDS[@]:1:at-1}"; do
    if [[ -n $skip ]]; then
      skip=''
      continue
    fi
    case $word in
      --config | --set | --socket | -n | --namespace | --interval | --auth-file | --user | --pods | --concurrency | --handler | --image | -o | --output | --timeout) skip=1 ;;
      -*) ;;
      *)
        case "${after:+$after }$word" in
          'status' | 'pods' | 'inspect' | 'events' | 'doctor' | 'top' | 'ledger' | 'ledger forget' | 'checkpoint show' | 'checkpoint verify' | 'sandboxers' | 'pull' | 'bench' | 'support-bundle' | 'config check' | 'config print' | 'log-level' | 'reload' | 'checkpoint' | 'config')
            after="${after:+$after }$word"
            ;;
        esac
        ;;
    esac
  done
  case $after in
    '') offered='status pods inspect events doctor top ledger checkpoint sandboxers pull bench support-bundle config log-level reload --config --set --socket --json --help --version' ;;
    'status') offered='--config --set --socket --json --help' ;;
    'pods') offered='--steps --namespace --offline --config --set --socket --json --help' ;;
    'inspect') offered='--offline --config --set --socket --json --help' ;;
    'events') offered='--follow --config --set --socket --json --help' ;;
    'doctor') offered='--fix --config --set --socket --json --help' ;;
    'top') offered='--once --interval --config --set --socket --json --help' ;;
    'ledger') offered='forget --owed --offline --config --set --socket --json --help' ;;
    'ledger forget') offered='--yes --config --set --socket --json --help' ;;
    'checkpoint show') offered='--config --set --socket --json --help' ;;
    'checkpoint verify') offered='--config --set --socket --json --help' ;;
    'sandboxers') offered='--config --set --socket --json --help' ;;
    'pull') offered='--auth-file --user --config --set --socket --json --help' ;;
    'bench') offered='--pods --concurrency --handler --image --pod-network --clean --config --set --socket --json --help' ;;
    'support-bundle') offered='--output --timeout --config --set --socket --json --help' ;;
    'config check') offered='--config --set --socket --json --help' ;;
    'config print') offered='--defaults --config --set --socket --json --help' ;;
    'log-level') offered='--config --set --socket --json --help' ;;
    'reload') offered='--config --set --socket --json --help' ;;
    'checkpoint') offered='show verify --help' ;;
    'config') offered='check print --help' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$current")
}
complete -F _sandboxerctl sandboxerctl
