#!/bin/bash
# One search on a Slurm cluster: Ray on all nodes of the job, the search on the first of them. See docs/cluster.md.
#
#     sbatch {{ file }}     # submit it again if a job ends before the search: it goes on where it was
#     tail -F {{ job }}-JOB.log     # the search; what Ray says is in {{ job }}-JOB.ray.log
#     scancel --batch --signal=TERM JOB     # ends the search in order
#
# `python search.py launch slurm --help` shows the options that write this file. You may also edit it.

#SBATCH --job-name={{ job }}
#SBATCH --nodes={{ nodes }}
#SBATCH --ntasks-per-node=1
# Whole nodes: `ray symmetric-run` does not start beside another Ray, and at its end it stops all Rays of the user.
#SBATCH --exclusive
#SBATCH --mem=0
{% if cpus %}
#SBATCH --mincpus={{ cpus }}
{% endif %}
{% if gpus %}
#SBATCH --gres={{ gpus }}
{% endif %}
{% if partition %}
#SBATCH --partition={{ partition }}
{% endif %}
{% if account %}
#SBATCH --account={{ account }}
{% endif %}
#SBATCH --time={{ time }}
# Four minutes before the limit this script is told, and ends the search so that it can be resumed.
#SBATCH --signal=B:TERM@240
# A search survives the loss of a node. If the first one is lost, the job is queued again, and resumes it.
#SBATCH --no-kill
#SBATCH --requeue
# One job of this name at a time, so that it may be submitted several times at once.
#SBATCH --dependency=singleton
#SBATCH --chdir={{ folder | shell }}
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

set -euo pipefail
{% for command in setup %}
{{ command }}
{% endfor %}
venv={{ venv | shell }}
{% if checkout %}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install -q -c {{ checkout | shell }}/constraints.txt -e {{ checkout | shell }}
    "$venv/bin/python" -m pip install -q --no-deps --require-hashes -r {{ checkout | shell }}/bundled-encoders.txt
fi
{% endif %}
export PATH="$venv/bin:$PATH"

storage={{ storage | shell }}
name={{ search | shell }}
if [ -e "$storage/$name/search.sqlite" ]; then
    options=(--resume "$storage/$name")
else
    options=(
        --name "$name"
{% for option in options %}
        {{ option }}
{% endfor %}
    )
fi
# Defaults of the search. Its options have the last word.
export PARETOFUSE_OPTIONS={{ defaults | shell }}
# The search alone writes to MLflow, so each search has a database of its own: SQLite on a network folder stands one
# writer, but not several on different nodes. To use a server, set the variable when you submit the job.
export MLFLOW_TRACKING_URI="${MLFLOW_TRACKING_URI:-sqlite:///$storage/$name.mlflow.db}"

# The first node's address on its way to the last one, and a port that is free there.
last=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n 1)
head=$(python - "$last" <<'END'
import socket, sys

with socket.socket(type=socket.SOCK_DGRAM) as way, socket.socket() as free:
    way.connect((sys.argv[1], 1))  # sends nothing
    free.bind((way.getsockname()[0], 0))
    print("%s:%d" % free.getsockname())
END
)

# Others may be logged in on these nodes. Whoever reaches Ray's ports must show the job's token, which only you can read.
log=$PWD/$SLURM_JOB_NAME-$SLURM_JOB_ID
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$log.token"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")

# Short, because the paths of Ray's sockets are limited to 107 bytes.
export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
export RAY_USAGE_STATS_ENABLED=0
# Seconds until all nodes must have joined: programs start slowly from a network folder.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

on_each_node='
mkdir -m 700 "$RAY_TMPDIR"
trap "rm -rf \"$RAY_TMPDIR\"" EXIT
ray symmetric-run "$@"
'
on_the_first='
echo $$ >"$RAY_TMPDIR/search.pid"
exec "$@" >>"$0" 2>&1
'
# Worker ports 0: whichever are free.
srun --no-kill --label --output="$log.ray.log" bash -c "$on_each_node" node \
    --address "$head" --min-nodes "$SLURM_JOB_NUM_NODES" --min-worker-port=0 --max-worker-port=0 -- \
    bash -c "$on_the_first" "$log.log" env RAY_ADDRESS="$head" {{ program }} "${options[@]}" &
step=$!

end() {
    echo "The job ends; sbatch goes on with the search."
    kill -TERM "$(cat "$RAY_TMPDIR/search.pid")" || kill "$step"
}
trap end TERM
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # a signal ended the waiting, not the step
    code=0
    wait "$step" || code=$?
done
exit "$code"
