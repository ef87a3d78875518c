#!/bin/bash
# preStop of a member. A mongod that gets SIGTERM as primary steps down and hands the election to the member that has
# everything, in some 40 ms; but it waits for the others no longer than member.quiesceSeconds. So a primary whose majority
# lags is told to stop only when the majority has caught up, or after STEP_DOWN_SECONDS (the whole set may be stopping).
# Nothing here logs in or starts mongosh, which took seconds on a busy node. See docs/decisions/025-step-down-by-signal.md.
set -u
here=$(dirname "$0")
deadline=$((SECONDS + STEP_DOWN_SECONDS))
"$here/probe.sh" primary || exit 0
until "$here/probe.sh" replicated; do
  if ((SECONDS >= deadline)); then
    echo "preStop: after $STEP_DOWN_SECONDS s the majority still lacks writes of this primary, which stops now" > /proc/1/fd/1
    exit 0
  fi
  sleep 0.1
done
echo "preStop: the majority has what this primary has, which hands over when it gets SIGTERM" > /proc/1/fd/1
