#!/bin/bash
# The payload of every case. It writes down what it does: time, event, job, element, process, detail.
element=${SLURM_ARRAY_TASK_ID:--} job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
say() { echo "$EPOCHREALTIME $1 $job $element $$ ${2:--}" >> payloads; }
say start
number=$(grep -c " start [0-9]* $element " payloads)

# Of two payloads at the same time, at least the one that began later sees the other one.
declare -A others=()
while read -r _ event other its_element pid _; do
    [ "$its_element" = "$element" ] && [ "$pid" != $$ ] || continue
    case $event in
        start) others[$pid]=$other ;;
        end) unset "others[$pid]" ;;
    esac
done < payloads
for pid in "${!others[@]}"; do
    if grep -qzE "^SLURM_(ARRAY_)?JOB_ID=${others[$pid]}$" "/proc/$pid/environ" 2> /dev/null; then
        say beside "${others[$pid]}"
    fi
done

read -ra ends <<< "${ENDS[$element]-}"
unfinished=${ends[number - 1]-} made=0 step=0
case $KIND in
    chain) run=. ;;
    array_chain) run=run-$element ;;
    *) run= ;;
esac
if [ -n "$run" ]; then
    mkdir -p "$run/ckpt"
    step=$(ls "$run/ckpt" | wc -l)
    trap 'stopped=1' USR1
fi

# A stop without a checkpoint is a failure: with exit code 0 it would say that no time was lacking.
end_at_signal() { say end signal; exit $((made == 0)); }

end_as() {
    case $1 in
        signal)
            while [ -z "$stopped" ]; do sleep 60 & wait $!; done
            end_at_signal
            ;;
        limit) trap '' USR1; while :; do sleep 60; done ;;
        memory) exec python3 -c 'import time; held = bytearray(90 << 20); time.sleep(600)' ;;
        # The parent of a script is what stands for the daemon of its node.
        node) say end node; kill -9 $PPID; exit ;;
        exit) say end exit; exit 1 ;;
        idle) say end idle; exit ;;
    esac
}

while [ $step -lt $STEPS ]; do
    [ -z "$stopped" ] || end_at_signal
    if [ -n "$unfinished" ] && [ $made -ge "${unfinished#*:}" ]; then end_as "${unfinished%:*}"; fi
    made=$((made + 1)) step=$((step + 1))
    say step $step
    sleep 0.2
    if [ -n "$run" ]; then
        : > "$run/ckpt/$(printf %03d $step)"
        say checkpoint $step
    fi
done
[ -z "$run" ] || : > "$run/work.done"
say finished
say end finished
