"""Programs that run elsewhere: in the toolbox pod, and on a Kubernetes node."""
