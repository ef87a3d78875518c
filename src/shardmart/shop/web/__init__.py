"""HTTP: what every service has at its door, and the endpoints of each."""
