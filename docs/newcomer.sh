#!/usr/bin/env bash
# The first hour of a newcomer, as a script: every command as it stands in the documentation or as the
# command before has printed it. docs/newcomer.md is what it said.
#
#     bash docs/newcomer.sh REPOSITORY FOLDER
#
# REPOSITORY is what `git clone` takes, FOLDER one that is to be made. Python 3.11-3.13, git, make
# and curl are needed, two free ports (5000 and 5001), and MovieLens, which is fetched, or found in
# the folder that PIPELINE_DATA_DIR names.
set -euo pipefail

repository=$1
folder=$2
started=$SECONDS
said=$(mktemp)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; rm -f "$said" "$said.server"' EXIT

chapter() { printf '\n## %s (after %d s)\n\n' "$1" $((SECONDS - started)); }

show() { # a command as it is typed
    local word line='$'
    for word in "$@"; do
        case $word in
        *[[:space:]{]*) line+=" '$word'" ;;
        *) line+=" $word" ;;
        esac
    done
    printf '%s\n' "$line"
}

run() { # shows a command, runs it, and keeps what it said
    show "$@"
    "$@" 2>&1 | tee "$said"
}

answers() { # waits for a server, two minutes at most
    for _ in $(seq 240); do
        if curl --silent --fail --output /dev/null "$1"; then return; fi
        sleep 0.5
    done
    echo "nothing answers at $1"
    exit 1
}

serve() { # what answers at an address, in the background
    local address=$1
    shift
    show "$@" '&'
    "$@" >"$said.server" 2>&1 &
    servers+=($!)
    answers "$address"
    echo "answers: $address"
}

run_id() { sed -n 's/^Run: //p' "$said" | tail -1; } # as the last command has printed it

chapter "Clone and demo"
printf '$ git clone %s ncf-pipeline && cd ncf-pipeline\n' REPOSITORY
git clone --quiet "$repository" "$folder"
cd "$folder"
run make demo
ncf=$(sed -n 's/^train ncf: run //p' "$said")
printf '$ source .venv/bin/activate\n'
source .venv/bin/activate

chapter "Look at it"
serve http://127.0.0.1:5000/health python -m pipeline ui

chapter "Change one parameter"
run python -m pipeline train --model ncf --embedding_dim 16
changed=$(run_id)
run python -m pipeline evaluate --run_id "$changed"

chapter "Compare two runs"
run python -m pipeline compare --run_ids "$ncf,$changed" --report

chapter "Tune ten trials"
run python -m pipeline tune --model ease --n_trials 10

chapter "Register"
run python -m pipeline evaluate --run_id "$ncf" --register films

chapter "Serve, and ask for a user"
serve http://127.0.0.1:5001/ping mlflow models serve -m models:/films@champion --env-manager local --port 5001
run curl --silent http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \
    -d '{"dataframe_records": [{"user": 4169}, {"items": [1, 260]}], "params": {"k": 3}}'
echo

chapter "The same on a CSV of one's own"
cat >make_ratings.py <<'PYTHON'
import csv, random

draw = random.Random(1)
with open("ratings.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["user", "item", "rating", "timestamp"])
    for user in range(600):
        taste = draw.randrange(5)  # people like one of five kinds, and other things now and then
        seen = set()
        for _ in range(draw.randrange(40, 120)):
            kind = taste if draw.random() < 0.7 else draw.randrange(5)
            item = 60 * kind + int(60 * draw.random() ** 2)
            if item not in seen:
                seen.add(item)
                stars = 4 + (draw.random() < 0.5) if kind == taste else draw.randrange(1, 5)
                rows.writerow([user, item, stars, 1_600_000_000 + draw.randrange(10_000_000)])
PYTHON
run python make_ratings.py
run python -m pipeline train --model svd --dataset ratings.csv
svd=$(run_id)
run python -m pipeline evaluate --run_id "$svd"
run python -m pipeline train --model ncf --dataset ratings.csv
ncf=$(run_id)
run python -m pipeline evaluate --run_id "$ncf"
run python -m pipeline compare --run_ids "$svd,$ncf" --report
run python -m pipeline tune --model svd --n_trials 10 --dataset ratings.csv
run python -m pipeline evaluate --run_id "$svd" --register shop
run python -m pipeline recommend --model models:/shop@champion --k 5 --output lists.csv
run head -4 lists.csv

chapter "Done"
