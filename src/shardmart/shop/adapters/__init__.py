"""What fills the ports: MongoDB, Redis, HTTP and SMTP, and memory."""
