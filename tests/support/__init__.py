"""What tests of several packages share: real clusters on this machine, and Ansible modules called in-process."""
