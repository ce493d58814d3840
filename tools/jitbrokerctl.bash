# SPDX-License-Identifier: MIT
# bash completion for jitbrokerctl(1)

_jitbrokerctl_sessions()
{
    "$1" "${@:2}" sessions 2>/dev/null | sed -n 's/^\([0-9][0-9]*\) .*/\1/p'
}

_jitbrokerctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local verbs="status sessions spans map disasm dump top metrics revoke reload upgrade log-level doctor policy"
    local verb="" words="" arguments=0 i
    local -a admin=()

    COMPREPLY=()
    case $previous in
    --admin | --socket | --output | --config)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --uid | --gid | --unit | --label | --interval)
        return
        ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --admin)
            admin=(--admin "${COMP_WORDS[++i]}")
            ;;
        --socket | --output | --config | --uid | --gid | --unit | --label | --interval)
            i=$((i + 1))
            ;;
        -*) ;;
        *)
            if [ -z "$verb" ]; then
                verb=${COMP_WORDS[i]}
            else
                arguments=$((arguments + 1))
            fi
            ;;
        esac
    done

    if [[ $cur == -* ]]; then
        case $verb in
        "") words="--json --admin --socket --help --version" ;;
        map) words="--admin --json --svg" ;;
        dump) words="--admin --json --output" ;;
        top) words="--admin --json --interval --once" ;;
        revoke) words="--admin --json --yes" ;;
        doctor) words="--admin --socket --json" ;;
        policy) words="--uid --gid --unit --label --config --json" ;;
        *) words="--admin --json" ;;
        esac
    elif [ -z "$verb" ]; then
        words=$verbs
    elif [ "$arguments" -eq 0 ]; then
        case $verb in
        spans | map | disasm | dump | revoke) words=$(_jitbrokerctl_sessions "${COMP_WORDS[0]}" "${admin[@]}") ;;
        log-level) words="error warning notice info debug" ;;
        policy) words="explain" ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _jitbrokerctl jitbrokerctl
