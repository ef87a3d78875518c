#!/bin/bash
# preStop of a member: a primary hands over before it is told to stop, so the set does not wait for an election timeout.
# Gives up after STEP_DOWN_SECONDS (the whole set may be stopping); the server's own shutdown then does what it can.
set -u
here=$(dirname "$0")
deadline=$((SECONDS + STEP_DOWN_SECONDS))
"$here/probe.sh" primary || exit 0
echo "preStop: this member is primary, stepping down" > /proc/1/fd/1
HOME=/tmp timeout "$STEP_DOWN_SECONDS" mongosh --quiet --norc --nodb "$here/step-down.js" > /proc/1/fd/1 2>&1 || true
while ((SECONDS < deadline)) && "$here/probe.sh" primary; do sleep 0.1; done
exit 0
