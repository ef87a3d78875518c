"""The machine that a server runs on: its processes, its files, its certificates, its binaries."""
