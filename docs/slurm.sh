#!/bin/bash
# A grid on the nodes of a Slurm job:  sbatch docs/slurm.sh grids/residual_vs_plain.yaml [more words of bench run]
# Submit it where the grid and this package's `ray` and `python` are found on every node (an active venv).
#SBATCH --job-name=ablation-bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the end, to this script alone: trials are checkpointed, and the job goes back into the queue.
# On pre-emption Slurm tells this script, where it is set so (SlurmctldParameters=preempt_send_user_signal), or Ray's
# nodes alone, which then tell this script.
#SBATCH --signal=B:TERM@120

set -u
: "${1:?usage: sbatch docs/slurm.sh GRID}"
for program in ray python; do
    command -v "$program" > /dev/null && continue
    echo "$program: not found; submit the job from the environment that has it" >&2
    exit 2
done
driver='' told=0 passed=0
# Passes on to the driver what this script was told, once: each node tells, and a second signal would end it at once.
pass_on() { ((told && !passed)) && [[ $driver ]] && passed=1 && kill -TERM "$driver"; }
trap 'told=1; pass_on' TERM
storage=${STORAGE:-$SLURM_SUBMIT_DIR/checkpoints} # a folder that all nodes share, or s3://...
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) # where this script runs
ip=$(hostname --ip-address | cut -d ' ' -f 1)
address=$ip:$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node do not meet
cores=$SLURM_CPUS_PER_TASK
# shellcheck disable=SC2016  # expanded there
node=(bash -c 'trap "scancel --batch --signal=TERM $SLURM_JOB_ID" TERM; "$@" & wait; wait' node)

srun --cpus-per-task="$cores" --nodes=1 --ntasks=1 --nodelist="$first" \
    "${node[@]}" ray start --head --node-ip-address="$ip" --port="${address##*:}" --num-cpus="$cores" --block &
for _ in {1..60}; do
    ray status --address="$address" > /dev/null 2>&1 || ((told)) && break
    sleep 1
done
if ((SLURM_NNODES > 1)); then
    srun --cpus-per-task="$cores" --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$first" \
        "${node[@]}" ray start --address="$address" --num-cpus="$cores" --block &
fi

code=143
if ((!told)); then
    python -m bench run "$@" --executor ray --address "$address" --storage "$storage" &
    driver=$!
    pass_on
    wait "$driver"
    code=$?
    while kill -0 "$driver" 2> /dev/null; do # a signal ends `wait`, not the driver
        wait "$driver"
        code=$?
    done
fi
trap - TERM
kill $(jobs -p) 2> /dev/null
# A job that somebody cancelled is told likewise, and stays so.
((told && code != 0)) && [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) = RUNNING ]] &&
    scontrol requeue "$SLURM_JOB_ID"
exit "$code"
