#!/bin/bash
# Starts a search, or resumes it if it was started before, so that a job may be repeated:
#
#     scripts/search_or_resume.sh FOLDER NAME OPTION...
set -euo pipefail
program=$(dirname "$0")/../search.py storage=$1 name=$2
shift 2
if [ -e "$storage/$name/search.sqlite" ]; then
    exec python "$program" --resume "$storage/$name"
fi
exec python "$program" --name "$name" --storage-path "$storage" "$@"
