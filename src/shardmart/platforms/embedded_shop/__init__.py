"""The shop on the embedded platform: cache, service instances and load balancer as processes of this machine."""
