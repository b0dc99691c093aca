#!/bin/bash
# Starts MLflow on the head of a cluster, or starts it again; with the argument `stop`, ends it. Its database is
# ~/mlflow.db, and its artifacts are in $MLFLOW_ARTIFACTS_DESTINATION. It listens on the head alone, and lives on when
# the login ends that started it.
set -euo pipefail
address=127.0.0.1 port=5000
# Held by a running server, whose process group stands in it. So no other process is taken for it after a reboot.
lock=~/.mlflow.lock

answers() { (: </dev/tcp/$address/$port) 2>/dev/null; }
runs() { ! flock -n "$lock" true; }
refuse() {
    echo "error: $(hostname): MLflow $*" >&2
    exit 1
}

if runs; then
    kill -- "-$(cat "$lock")"
    flock -w 20 "$lock" true || kill -KILL -- "-$(cat "$lock")"
fi
[ "${1:-}" != stop ] || exit 0

! answers || refuse "cannot start: another program has port $port"
# Its job runners are for evaluations of language models.
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid -f flock -n "$lock" bash -c 'echo $PPID >"$0"; exec "$@"' "$lock" \
    ~/venv/bin/mlflow server --host $address --port $port --workers 1 --backend-store-uri "sqlite:///$HOME/mlflow.db" \
    >>~/mlflow.log 2>&1 </dev/null
for _ in $(seq 120); do
    sleep 1
    ! answers || exit 0
    runs || refuse "ended at its start: $(tail -n 1 ~/mlflow.log)"
done
refuse "does not answer on port $port; see ~/mlflow.log"
