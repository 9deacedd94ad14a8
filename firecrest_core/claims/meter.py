"""The meter: lines of shell that write down what a job uses, in a file beside its claim.

A process in the background, the *meter*, writes ``usage.json`` after a second and then at growing intervals. At the
script's end, a trap on EXIT writes it once more. So the numbers are exact where the trap runs. Where it does not run,
because the script has a trap on EXIT of its own, ends in ``exec`` or is killed, the last numbers stay.

- The trap is set in bash, dash and zsh alone. With one, ksh93 and mksh end otherwise at SIGTERM than without: ksh93
  exits with 15 in the place of dying of the signal, and mksh waits for the command that it runs.
- The meter is no child of the script's shell, so that ``wait`` and ``jobs`` do not see it. It ends when the
  script's shell has.
- A new file is written under another name first. That name is in ``.firecrest`` itself and not beside the claim: a
  file that vanishes while the claims are listed would break the listing. No directory is made for it.
- CPU time and memory are those of the job's cgroup on this node, with all its steps. Without a cgroup of its own, the
  CPU time is that of the script and of the children for which it has waited.
- A GPU's utilization is known while it runs alone, so the meter reads it; ``nvidia-smi`` may take long. AMD's driver
  tells it in files, which ``rocm-smi`` reads as well.
- The energy is that of Cray's ``pm_counters``. RAPL's counters are readable for root alone since Linux 5.10.

Facts: tried with bash 5.2, dash 0.5, zsh 5.9, ksh93u+m 1.0 and mksh 59; Slurm's ``cgroup/v1`` and ``cgroup/v2``
plugins; ``proc(5)``. The kernel's USER_HZ is 100 wherever Slurm runs.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.spec.script import interpreter
from firecrest_core.spec.shell import posix_shell, quote
from firecrest_core.usage import USAGE_FILE

_WITH_TRAP = ("sh", "bash", "dash", "ash", "zsh")

# Arguments: `meter` or `end`, the process id of the script's shell, the name of the job's cgroup, the file, and the
# name under which it is written first. The first line of the file holds what only the meter knows. Values are written
# as they are found, in the units of their names, because a shell may calculate with 32 bits.
_PROGRAM = """\
PATH=$PATH:/usr/bin:/bin; set -C; what=$1; shell=$2; unit=$3; file=$4; new=$5.$$; born=; gpus=
add() { case $2 in ""|*[!0-9.]*) ;; *) all="$all,\\"$1\\":$2" ;; esac; }
take() { if [ -r "$2" ] && read -r value other < "$2"; then add "$1" "$value"; fi; }
write() {
    read -r stat < /proc/$shell/stat && read -r uptime other < /proc/uptime || return 1
    all=; set -- ${stat##*) }
    case $1 in Z|X) return 1 ;; esac
    [ "${born:=${20}}" = "${20}" ] || return 1
    add uptime $uptime; add born_ticks $born; add children_ticks $((${12} + ${13} + ${14} + ${15}))
    add cpus "${SLURM_CPUS_ON_NODE:-${NCPUS-}}"; add nodes "${SLURM_JOB_NUM_NODES-}"
    add memory_per_node_mib "${SLURM_MEM_PER_NODE-}"; add memory_per_cpu_mib "${SLURM_MEM_PER_CPU-}"
    while IFS=: read -r number names path; do
        case $path/ in */"$unit"/*) top=${path%%/"$unit"*}/$unit ;; *) continue ;; esac
        case ,$names, in
        ,,) while read -r name value; do
                if [ "$name" = usage_usec ]; then add cpu_us "$value"; fi
            done < /sys/fs/cgroup$top/cpu.stat
            take memory_peak /sys/fs/cgroup$top/memory.peak
            take memory_limit /sys/fs/cgroup$top/memory.max ;;
        *,cpuacct,*) take cpu_ns /sys/fs/cgroup/cpuacct$top/cpuacct.usage ;;
        *,memory,*) take memory_peak /sys/fs/cgroup/memory$top/memory.max_usage_in_bytes
            take memory_limit /sys/fs/cgroup/memory$top/memory.limit_in_bytes ;;
        esac
    done < /proc/$shell/cgroup
    take energy_j /sys/cray/pm_counters/energy
    if printf "%s\\n%s}\\n" "$first" "$all" > "$new"; then mv -f "$new" "$file" || rm -f "$new"; fi
}
gpu_rows() {
    case ${SLURM_GPUS_ON_NODE-}${CUDA_VISIBLE_DEVICES-} in ""|NoDevFiles) return ;; esac
    if command -v nvidia-smi > /dev/null; then
        nvidia-smi ${CUDA_VISIBLE_DEVICES:+-i "$CUDA_VISIBLE_DEVICES"} --format=csv,noheader,nounits \\
            --query-gpu=utilization.gpu,memory.used,memory.total
        return
    fi
    set -- /sys/class/drm/card*/device/gpu_busy_percent
    [ $# = "${SLURM_GPUS_ON_NODE-}" ] || return
    for card; do
        read -r busy < "$card"; card=${card%/*}
        read -r used < "$card/mem_info_vram_used"; read -r total < "$card/mem_info_vram_total"
        echo "$busy, $((used / 1048576)), $((total / 1048576))"
    done
}
add_gpus() {
    set -- "$1" $(gpu_rows | {
        count=0 busy=0 used=0 total=0
        while IFS=", " read -r one two three; do
            case $one$two$three in ""|*[!0-9]*) continue ;; esac
            count=$((count + 1)) busy=$((busy + one)) used=$((used + two)) total=$((total + three))
        done
        echo $count $busy $used $total
    })
    if [ "${2:-0}" = 0 ]; then return; fi
    gpu_time=$((${gpu_time:-0} + $1)) gpu_busy=$((${gpu_busy:-0} + $3 * $1))
    if [ $4 -gt ${gpu_used:=0} ]; then gpu_used=$4; fi
    gpus="\\"gpus\\":$2,\\"gpu_time\\":$gpu_time,\\"gpu_busy_percent\\":$gpu_busy"
    gpus="$gpus,\\"gpu_memory_peak_mib\\":$gpu_used,\\"gpu_memory_mib\\":$5"
}
if [ "$what" = end ]; then
    first=; if [ -r "$file" ]; then read -r first < "$file"; fi
    case $first in "{\\"version\\":1"*) ;; *) first="{\\"version\\":1" ;; esac
    write; exit
fi
{
    trap : HUP INT QUIT TERM USR1 USR2
    all=; take energy_j_before /sys/cray/pm_counters/energy; before=$all; passed=0
    while :; do
        pause=$((1 + passed / 5)); if [ $pause -gt 300 ]; then pause=300; fi
        sleep $pause; passed=$((passed + pause))
        add_gpus $pause
        first="{\\"version\\":1$before${gpus:+,$gpus}"
        write || exit
    done
} &
"""


@dataclass(frozen=True, slots=True)
class Meter:
    """What measures one job.

    :param lines: lines of POSIX shell that start it, and set the trap where the script's shell bears one
    :param at_end: the command that writes the file at the script's end, for whoever sets a trap on EXIT instead
    """

    lines: tuple[str, ...]
    at_end: str

    @classmethod
    def of_claim(cls, key: ClaimKey, spec: JobSpec, scheduler: Scheduler) -> Meter:
        """Return the meter of a job.

        :param key: the key of its claim
        :param spec: the job, with a script
        :param scheduler: ``slurm`` or ``pbs``
        """
        unit = '"job_${SLURM_JOB_ID-}"' if scheduler == "slurm" else '"${PBS_JOBID-}"'
        file = quote(posixpath.join(key.directory(spec.working_dir), USAGE_FILE))
        new = quote(posixpath.join(spec.working_dir, ".firecrest", f".usage-{key.identity}"))
        at_end = "(firecrest_usage end) < /dev/null > /dev/null 2>&1 || :"
        shell = posix_shell(interpreter(spec.text))
        # The script need not wait until the meter has forked. ksh93 alone would wait for it in `wait`.
        begun = "" if shell == "ksh" else " &"
        lines = [
            f"# What the job uses is written to {USAGE_FILE} beside its claim.",
            f'firecrest_usage() {{ exec /bin/sh -c {quote(_PROGRAM)} sh "$1" "$$" {unit} {file} {new}; }}',
            f"(firecrest_usage meter{begun}) < /dev/null > /dev/null 2>&1 || :",
        ]
        if shell in _WITH_TRAP:
            lines.append(f"trap {quote(at_end)} EXIT")
        return cls(tuple(lines), at_end)
