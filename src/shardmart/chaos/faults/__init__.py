"""What a fault is, and what each kind does to processes, pods, packets, disks and the database."""
