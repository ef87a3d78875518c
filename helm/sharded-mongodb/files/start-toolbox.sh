#!/bin/bash
# Keeps the toolbox pod there for `kubectl exec`; ends at once when told to.
trap 'exit 0' TERM INT
sleep infinity &
wait
