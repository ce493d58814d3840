# SPDX-License-Identifier: MIT
# bash completion for jitbroker-run(1): its options, then the program's own completion

_jitbroker_run()
{
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} i

    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --socket | --log | --profile) i=$((i + 1)) ;;
        --)
            i=$((i + 1))
            break
            ;;
        -*) ;;
        *) break ;;
        esac
    done
    if [ "$i" -lt "$COMP_CWORD" ]; then
        if declare -F _command_offset >/dev/null; then
            _command_offset "$i"
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
    fi
    case $previous in
    --socket | --log)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    --profile)
        mapfile -t COMPREPLY < <(compgen -W "none standard strict" -- "$cur")
        ;;
    *)
        if [[ $cur == -* && $previous != -- ]]; then
            mapfile -t COMPREPLY < <(compgen -W \
                "--socket --private-broker --profile --no-rwx --stats --log --help --version" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -c -- "$cur")
        fi
        ;;
    esac
}

complete -F _jitbroker_run jitbroker-run
